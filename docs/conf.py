"""The documentation site: the repository's own Markdown, and the library's docstrings. `make docs` builds it."""

import re
from pathlib import Path

from sphinx.application import Sphinx

import sae

# Before autodoc, which imports as type checkers do: pydantic cannot make its classes then.
import sae.data.entries

project = "image-sae-bench"
author = "The contributors to image-sae-bench"
release = sae.__version__
extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
]
# The source is the whole repository, so that links between its files are links here too.
root_doc = "README"
include_patterns = ["*.md", "docs/**.md", "config/*.md"]
exclude_patterns = ["docs/_*", "docs/results/*/extensions"]
myst_heading_anchors = 3
autodoc_member_order = "bysource"
# Written out, types such as ArrayLike fill the page; the docstrings say shapes, and a link leads to the source.
autodoc_typehints = "none"
default_role = "code"
autodoc_default_options = {"members": True}
napoleon_use_ivar = True
html_theme = "furo"
html_title = f"SAEs on vision embeddings {release}"
templates_path = ["_templates"]
html_copy_source = False
html_show_copyright = False
# Tables of reference results: their README leads to them, the sidebar does not.
_TABLES = re.compile(r"docs/.+/(?!README$)[^/]+$")
_SIDEBAR = Path(__file__).with_name("_sidebar.md")
_PICTURE = re.compile(r"^!\[.*\]\(.*\)$", re.M)


def _add(app: Sphinx, name: str, source: list[str]) -> None:
    if name == root_doc:
        source[0] += _SIDEBAR.read_text()
        # Where the demo's site lies beside these pages: `sphinx -A demo=PLACE`.
        demo = app.config.html_context.get("demo")
        if demo:
            link = f'<p><a href="{demo}">The results of make demo, live</a>: methods, latents, their pictures.</p>'
            source[0] = _PICTURE.sub(rf"\g<0>\n\n{link}", source[0], count=1)
    elif _TABLES.match(name):
        source[0] = f"---\norphan: true\n---\n\n{source[0]}"


def setup(app: Sphinx) -> None:
    """What Sphinx calls."""
    app.connect("source-read", _add)

"""What every page loads is small and plain.

It has no way to read a name as HTML, or to ask for what is elsewhere.
"""

import re

import pytest
from report.site import sample

FOLDER = sample.SITE / "assets"
SCRIPTS = sorted(FOLDER.glob("*.js"))
ASSETS = [*SCRIPTS, *sorted(FOLDER.glob("*.css"))]
FORBIDDEN = (
    r"innerHTML|outerHTML|insertAdjacent|document\.write|\beval\b"
    r"|\bfetch\(|XMLHttpRequest|\bimport\b|Worker"
)
WIDEST = 88  # columns

# Functions that have a name, at the left margin or within another one; methods.
FUNCTION = re.compile(
    r"^ *(async )?function \w+\("
    r"|^(SITE\.|const )\w+ = (async )?(\([^)]*\)|\w+) =>"
    r"|^(SITE\.|const )\w+ = (async )?\([^)]*$"
    r"|^  (get )?(?!if|for|while|switch|catch)\w+\([^()]*\) \{$"
)


def test_size():
    assert sum(path.stat().st_size for path in ASSETS) <= 220_000


@pytest.mark.parametrize(
    "path", [*ASSETS, sample.SITE / "index.html"], ids=lambda path: path.name
)
def test_nothing_from_elsewhere(path):
    text = path.read_text(encoding="utf-8")
    assert re.findall(FORBIDDEN, text) == []
    # The name of SVG, and the test of whether a homepage is a web address.
    text = text.replace("http://www.w3.org/2000/svg", "")
    assert re.findall(r"(?:https?:)?//[a-z][\w.]+\.[a-z]+[^\"]*", text) == []


def scripts_that_the_readme_adds():
    """Return {name: text} of the files of its examples."""
    text = (FOLDER / "README.md").read_text(encoding="utf-8")
    examples = re.findall(r"This file,\s`(\S+\.js)`.*?```js\n(.*?)```", text, re.DOTALL)
    assert len(examples) == text.count("```js\n") == 2
    return dict(examples)


def script_texts():
    """Return {name: text} of the scripts, and of the examples of how to add one."""
    texts = {path.name: path.read_text(encoding="utf-8") for path in SCRIPTS}
    return {**texts, **scripts_that_the_readme_adds()}


@pytest.mark.parametrize("name", script_texts())
def test_a_script_is_one_function_whose_parts_say_what_they_do(name):
    lines = script_texts()[name].splitlines()
    assert [line for line in lines if len(line) > WIDEST] == []
    assert lines[0] == '"use strict";' and lines[2].startswith("/**")
    begins = "const SITE = (() => {" if name == SCRIPTS[0].name else "(() => {"
    assert begins in lines and lines[-1] == "})();"

    functions = [place for place, line in enumerate(lines) if FUNCTION.match(line)]
    without_comment = [
        lines[place]
        for place in functions
        if not lines[place - 1].rstrip().endswith("*/")
    ]
    assert functions and without_comment == []


def names_in(lists):
    """Return the names in texts such as `h, bdi`."""
    return {name for names in lists for name in re.findall(r"\w+", names)}


def test_what_scripts_read_of_the_site_and_of_each_other_is_there():
    texts = script_texts()
    text = re.sub(r"/\*.*?\*/", "", "".join(texts.values()), flags=re.DOTALL)
    first = texts[SCRIPTS[0].name]
    defined = {
        *re.findall(r"SITE\.(\w+) = ", text),
        *names_in(re.findall(r"Object\.assign\(SITE, {(.*?)}", text, re.DOTALL)),
        *names_in(re.findall(r"\nreturn {(.*?)}", first, re.DOTALL)),
    }
    names_read = {
        *re.findall(r"SITE\.(\w+)", text),
        *names_in(re.findall(r"const {([^}]*)} = SITE;", text)),
    }
    assert names_read <= defined and len(defined) > 50

    slots = set(re.findall(r'sectionsOf\("(.+?)"', text))
    assert set(re.findall(r'addSection\("(.+?)"', text)) == slots


def test_the_shell_alone_says_the_answer(tmp_path):
    sample.shell(tmp_path, "<b>", "what & why", ["One </p> sentence."])
    page = (tmp_path / "index.html").read_text(encoding="utf-8")
    assert "what &amp; why" in page
    assert "One &lt;/p&gt; sentence." in page
    assert ">&lt;b&gt;</b>" in page
    loaded = re.findall(r'(?:src|href)="(assets/[^"]+)"', page)
    assert sorted(loaded) == sorted(f"assets/{path.name}" for path in ASSETS)
    assert all((tmp_path / name).exists() for name in loaded)

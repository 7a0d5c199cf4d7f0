"""The documentation says what there is; `make docs` builds it, and fails at a broken
link.
"""

import json
import re
import shutil
import subprocess

import pytest
from conftest import ROOT

from sae.steps import STEPS

DIRECTIVE = re.compile(r"^\.\. auto(module|function|class|exception):: (\S+)$", re.M)


def test_the_api_has_every_step_and_every_name_that_the_documentation_imports():
    pages = sorted((ROOT / "docs").glob("api_*.md"))
    shown = {
        name: kind
        for page in pages
        for kind, name in DIRECTIVE.findall(page.read_text())
    }
    wanted = {step.function.replace(":", ".") for step in STEPS.values()} | {
        "sae.load",
        "sae.score",
    }
    for page in ("README.md", "docs/extending.md", "docs/other_saes.md"):
        for module, names in re.findall(
            r"^from (sae[\w.]*) import (.+)$", (ROOT / page).read_text(), re.M
        ):
            wanted |= {
                f"{module}.{name.split(' as ')[0].strip()}" for name in names.split(",")
            }

    def there(name):
        # A module that is imported whole has some names there; a whole module has all
        # of its own.
        whole = shown.get(name.rpartition(".")[0]) == "module"
        return whole or any(f"{found}.".startswith(f"{name}.") for found in shown)

    assert [name for name in sorted(wanted) if not there(name)] == []


def blocks(page):
    """{path: text} of the files that a page shows, and its lines of shell in order."""
    text = (ROOT / page).read_text()
    files = dict(re.findall(r"<!-- file: (\S+) -->\n```\w+\n(.*?)```", text, re.S))
    return files, [
        line
        for block in re.findall(r"```sh\n(.*?)```", text, re.S)
        for line in block.splitlines()
    ]


@pytest.mark.slow
def test_the_tutorial_ends_in_rows_of_the_board(make_checkout, fetched):
    checkout = make_checkout()
    for name in ("Makefile", "config.yaml"):  # Not the tiny config.
        shutil.copy(ROOT / name, checkout.folder)
    (checkout.folder / "results").mkdir()
    artifacts = fetched("efficientnet_lite0", "efficientnet_lite2", "dinov2_vit_s14")
    (checkout.folder / "results/artifacts").symlink_to(artifacts)
    files, lines = blocks("docs/tutorial.md")
    for name, text in files.items():
        (checkout.folder / name).write_text(text)
    said = ""
    for line in ("python pictures.py", *lines):
        # The environment is the one that runs the tests.
        command = line.replace("make ", "make -o setup ")
        run = {
            "cwd": checkout.folder,
            "env": checkout.environment,
            "shell": True,
            "text": True,
        }
        done = subprocess.run(
            command, **run, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )
        assert done.returncode == 0, done.stdout
        said += done.stdout
    promised = re.search(
        r"It trains (\d+) SAEs", (ROOT / "docs/tutorial.md").read_text()
    )
    assert f"SAEs: {promised[1]} in 3 cells" in said
    assert "Reg. 1 raises mean MS" in said
    assert re.search(r"^\| reg1 +\| MS .*\n(.*\n)*\| reg2 +\| detection ", said, re.M)


def test_the_notebook_runs(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("matplotlib.pyplot.show", lambda: None)
    cells = json.loads((ROOT / "docs/library.ipynb").read_text())["cells"]
    names = {}
    for cell in cells:
        if cell["cell_type"] == "code":
            exec("".join(cell["source"]), names)
    assert (
        names["scores"]["r2"] > 0.7 and "purity_binary_null" in capsys.readouterr().out
    )
    assert len(names["figure"].axes) == 32
    names["plt"].close("all")

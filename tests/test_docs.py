"""The documentation says what there is.

`make docs` builds it, and fails at a broken link.
"""

import json
import re
import shutil
import subprocess

import numpy as np
import pandas as pd
import pytest
from conftest import ROOT
from PIL import Image, ImageDraw

from docs import links, notebook
from sae.scoring.choice import ENDPOINTS
from sae.steps import STEPS

DIRECTIVE = re.compile(r"^\.\. auto(module|function|class|exception):: (\S+)$", re.M)


def test_the_api_has_every_step_and_every_name_that_the_documentation_imports():
    pages = sorted((ROOT / "docs").glob("api_*.md"))
    kind_by_name = {
        name: kind
        for page in pages
        for kind, name in DIRECTIVE.findall(page.read_text())
    }
    needed_names = {step.function.replace(":", ".") for step in STEPS.values()}
    needed_names.update(["sae.load", "sae.score"])
    for page in ("README.md", "docs/extending.md", "docs/other_saes.md"):
        for module, names in re.findall(
            r"^from (sae[\w.]*) import (.+)$", (ROOT / page).read_text(), re.M
        ):
            for name in names.split(","):
                needed_names.add(f"{module}.{name.split(' as ')[0].strip()}")

    def is_shown(name):
        # A module that is shown whole has all of its names. Of a module that is
        # imported whole some names must be shown.
        if kind_by_name.get(name.rpartition(".")[0]) == "module":
            return True
        return any(f"{shown}.".startswith(f"{name}.") for shown in kind_by_name)

    assert [name for name in sorted(needed_names) if not is_shown(name)] == []


def read_files_and_shell(page):
    """Return {path: text} of the files that a page shows, and its lines of shell."""
    text = (ROOT / page).read_text()
    files = dict(re.findall(r"<!-- file: (\S+) -->\n```\w+\n(.*?)```", text, re.S))
    return files, [
        line
        for block in re.findall(r"```sh\n(.*?)```", text, re.S)
        for line in block.splitlines()
    ]


@pytest.mark.slow
def test_the_tutorial_ends_in_rows_of_the_leaderboard(make_checkout, fetched):
    checkout = make_checkout()
    for name in ("Makefile", "config.yaml"):  # Not the tiny config.
        shutil.copy(ROOT / name, checkout.folder)
    (checkout.folder / "results").mkdir()
    artifacts = fetched("efficientnet_lite0", "efficientnet_lite2", "dinov2_vit_s14")
    (checkout.folder / "results/artifacts").symlink_to(artifacts)
    files, lines = read_files_and_shell("docs/tutorial.md")
    for name, text in files.items():
        (checkout.folder / name).write_text(text)
    printed = ""
    for line in ("python pictures.py", *lines):
        # The environment is the one that runs the tests.
        command = line.replace("make ", "make -o setup ")
        process = subprocess.run(
            command,
            cwd=checkout.folder,
            env=checkout.environment,
            shell=True,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        assert process.returncode == 0, process.stdout
        printed += process.stdout
    promised = re.search(
        r"It trains (\d+) SAEs", (ROOT / "docs/tutorial.md").read_text()
    )
    assert f"SAEs: {promised[1]} in 2 cells" in printed
    assert "the paper's claims, by its own rule" in printed
    # Whatever the effects, which differ between processors.
    rows_of_leaderboard = r"^\| reg1 +\| mean .*\n(.*\n)*\| reg2 +\| mean "
    assert re.search(rows_of_leaderboard, printed, re.M)


@pytest.mark.slow
def test_the_readme_finds_effects_on_a_few_photographs_of_ones_own(
    make_checkout, fetched
):
    checkout = make_checkout()
    shutil.copy(ROOT / "config.yaml", checkout.folder)
    (checkout.folder / "results").mkdir()
    artifacts = fetched("efficientnet_lite0", "efficientnet_lite2", "dinov2_vit_s14")
    (checkout.folder / "results/artifacts").symlink_to(artifacts)
    for number in range(950):
        _photograph(number, checkout.folder / "birds")
    readme = (ROOT / "README.md").read_text()
    snippet = re.search(r"\*\*Your images\*\*.*?```yaml\n(.*?)```", readme, re.S)[1]
    assert "/data/birds" in snippet
    file = checkout.folder / "mine.yaml"
    file.write_text(snippet.replace("/data/birds", "birds"))

    checkout.snakemake("mine", "--configfile", "config.yaml", file.name)
    effects = pd.read_parquet(
        checkout.folder / "results/mine/tables/comparison.parquet"
    )
    compared = effects[effects["effect"].notna()].groupby("method")["score"].unique()
    for method in ("reg1", "reg2"):
        assert {*ENDPOINTS} <= {*compared[method]}


def _photograph(number, folder):
    """Write something like a photograph: ground, sky, grain, and a shape of its class."""
    random = np.random.default_rng(number)
    kind = number % 5
    width, height = random.integers(120, 260, 2)
    slope = np.linspace(0, 1, height)[:, None, None]
    sky, ground = random.integers(120, 255, 3), random.integers(20, 160, 3)
    grain = random.normal(0, 12, (height, width, 3))
    pixels = sky * (1 - slope) + ground * slope + grain
    image = Image.fromarray(pixels.clip(0, 255).astype(np.uint8))
    draw = ImageDraw.Draw(image)
    for _ in range(random.integers(1, 4)):
        x, y, size = random.integers(20, 100, 3).tolist()
        colour = tuple(random.integers(0, 255, 3).tolist())
        draw.regular_polygon((x, y, size / 2), 3 + kind, fill=colour)
    place = folder / str(kind) / f"{number}.jpg"
    place.parent.mkdir(parents=True, exist_ok=True)
    image.save(place)


# -- the notebook


def test_the_notebook_has_its_outputs_and_nothing_of_a_machine():
    text = notebook.NOTEBOOK.read_text()
    assert len(text) < 300_000
    cells = notebook.code_cells(json.loads(text))
    assert [cell["execution_count"] for cell in cells] == [
        number for number, _ in enumerate(cells, 1)
    ]
    outputs = [output for cell in cells for output in cell["outputs"]]
    printed = "".join("".join(output["text"]) for output in outputs if "text" in output)
    assert "tuned Top-k" in printed
    assert not re.search(r"/(home|root|tmp|work|Users)/", text)
    assert len([output for output in outputs if "data" in output]) == 2


@pytest.mark.slow
def test_the_notebook_prints_what_is_stored(make_checkout, fetched, monkeypatch):
    checkout = make_checkout()
    shutil.copy(ROOT / "config.yaml", checkout.folder)  # Not the tiny config.
    for name in ("results", "docs"):
        (checkout.folder / name).mkdir()
    artifacts = fetched(
        "efficientnet_lite0",
        "dinov2_vit_s14",
        "emoji_google",
        "emoji_twitter",
        "cldr_annotations",
    )
    (checkout.folder / "results/artifacts").symlink_to(artifacts)
    stored = json.loads(notebook.NOTEBOOK.read_text())
    first_cell = "".join(stored["cells"][0]["source"])
    command = re.search(r"```sh\n(.*?)```", first_cell, re.S)[1]
    process = checkout.run("bash", "-c", command)
    assert process.returncode == 0, process.stdout + process.stderr

    monkeypatch.chdir(checkout.folder / "docs")
    cells = notebook.code_cells(stored)
    for cell, outputs in zip(cells, notebook.run(cells), strict=True):
        kinds = [output["output_type"] for output in cell["outputs"]]
        assert [output["output_type"] for output in outputs] == kinds
        if "sae.score(" in "".join(cell["source"]):
            # Processors differ in their last digits, and training makes more of it.
            expected = _numbers_by_name(cell["outputs"])
            assert _numbers_by_name(outputs) == pytest.approx(expected, abs=0.03)


def _numbers_by_name(outputs):
    words = [line.split() for output in outputs for line in output["text"]]
    return {name: float(number) for name, number in words}


def test_a_link_that_leads_nowhere_is_named(tmp_path):
    (tmp_path / "demo").mkdir()
    (tmp_path / "demo/index.html").write_text("<a href='../a%20b.html#here'>x</a>")
    (tmp_path / "a b.html").write_text(
        """<h1 id="here">x</h1><img src="none.png">
        <a href="#here"></a> <a href="#there"></a> <a href="demo/"></a>
        <a href="demo/#/latents/a/b"></a> <a href="demo/#latents"></a>
        <a href="https://localhost/none"></a> <a href="../outside.html"></a>"""
    )
    (tmp_path.parent / "outside.html").touch()
    assert links.dead_links(tmp_path) == [
        f"a b.html: {link}"
        for link in ("#there", "../outside.html", "demo/#latents", "none.png")
    ]

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

from sae.scoring.front import ENDPOINTS
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
    assert f"SAEs: {promised[1]} in 3 cells" in printed
    assert "the paper's claims, by its own rule" in printed
    rows_of_leaderboard = r"^\| reg1 +\| MS .*\n(.*\n)*\| reg2 +\| detection "
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
    for number in range(300):
        _photograph(number, checkout.folder / "birds")
    readme = (ROOT / "README.md").read_text()
    snippet = re.search(r"\*\*Your images\*\*.*?```yaml\n(.*?)```", readme, re.S)[1]
    assert "/data/birds" in snippet
    file = checkout.folder / "mine.yaml"
    file.write_text(snippet.replace("/data/birds", "birds"))

    checkout.snakemake("mine", "--configfile", "config.yaml", file.name)
    effects = pd.read_parquet(
        checkout.folder / "results/mine/tables/front_means.parquet"
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


def test_the_notebook_runs(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("matplotlib.pyplot.show", lambda: None)
    cells = json.loads((ROOT / "docs/library.ipynb").read_text())["cells"]
    names = {}
    for cell in cells:
        if cell["cell_type"] == "code":
            exec("".join(cell["source"]), names)
    assert names["scores"]["r2"] > 0.7
    assert "purity_binary_null" in capsys.readouterr().out
    assert len(names["figure"].axes) == 32
    names["plt"].close("all")

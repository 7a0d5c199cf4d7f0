"""bench/reference.py: the tables that are committed are what their rows give."""

import filecmp
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
from sae_workflow.settings import Cell
from support.errors import refused_naming

from bench import reference
from sae.comparison import leaderboard
from sae.core import files
from sae.scoring.rows import CELL

ROOT = Path(__file__).parents[2]
# A run of which some cells are still to come has rows, and no tables.
KEPT_FOLDERS = sorted(path.parent for path in (ROOT / "docs/results").glob("*/tables"))
assert KEPT_FOLDERS


@pytest.mark.slow
@pytest.mark.parametrize("kept_folder", KEPT_FOLDERS, ids=lambda folder: folder.name)
def test_every_table_follows_from_the_rows(kept_folder, tmp_path):
    copy = tmp_path / kept_folder.name
    copy.mkdir()
    for file in kept_folder.glob("*.parquet"):
        shutil.copy(file, copy)
    shutil.copy(kept_folder / "made_by.json", copy)
    command = [sys.executable, "bench/reference.py", "rebuild", copy]
    config = kept_folder / "config.yaml"  # Of a submission.
    if config.exists():
        command += ["--config", config]
    subprocess.run(command, cwd=ROOT, check=True)
    names = sorted(
        f.relative_to(copy).as_posix()
        for f in copy.rglob("*")
        if f.suffix in (".csv", ".md")
    )
    assert len(names) > 10
    assert filecmp.cmpfiles(kept_folder, copy, names, shallow=False)[0] == names
    assert {f.name for f in (kept_folder / "tables").iterdir()} == {
        f.name for f in (copy / "tables").iterdir()
    }


def test_cells_that_ran_apart_are_kept_side_by_side(tmp_path):
    """Keep two thirds of the study one after the other, and refuse the last third.

    The last third was made in another way. Each third has a column of its own.
    """
    study = ROOT / "docs/results/study"
    into = tmp_path / "kept"
    rows = {name: files.read_parquet(study / name) for name in reference.ROWS}
    rows["latents.parquet"]["selected"] = True
    # A run has its curves in double precision.
    rows_of_run = {
        **rows,
        "curves.parquet": rows["curves.parquet"].astype({"y": "float64"}),
    }
    for k in (64, 16, 32):  # not in the order of the config
        run_folder = tmp_path / str(k)
        run_folder.mkdir()
        for name, table in rows_of_run.items():
            files.write_parquet(run_folder / name, table[table["k"] == k])
        made_by = files.read_json(study / reference.MADE_BY)
        made_by["columns"] = {"r2": "reconstruction", f"own_of_{k}": "purity"}
        if k == 32:
            made_by["recipe"] = {}
        files.write_json(run_folder / reference.MADE_BY, made_by)
    for k in (64, 16, 16):
        reference.keep(tmp_path / str(k), into, [])
    for name, table in rows.items():
        expected = (
            table[table["k"] != 32]
            .reset_index(drop=True)
            .drop(columns="selected" if "latents" in name else [])
        )
        pd.testing.assert_frame_equal(files.read_parquet(into / name), expected)
    assert files.read_json(into / reference.MADE_BY)["columns"].keys() == {
        "r2",
        "own_of_16",
        "own_of_64",
    }
    with pytest.raises(SystemExit, match="rows of other recipe: delete it"):
        reference.keep(tmp_path / "32", into, [])
    files.write_parquet(
        tmp_path / "16/metrics.parquet", rows["metrics.parquet"].assign(k=17)
    )
    with refused_naming(
        "emoji_vendors", "the config's experiment lacks", "--config", error=SystemExit
    ):
        reference.keep(tmp_path / "16", into, [])
    (tmp_path / "paper/figures").mkdir(parents=True)
    with refused_naming("paper/figures", "name", error=SystemExit):
        reference.keep(tmp_path / "64", tmp_path / "paper", [])


def test_of_many_cells_a_page_shows_the_fronts_of_one(tmp_path):
    cell = Cell("emoji_vendors", "dinov2_vit_s14", 32)
    cell_counts = {}
    for name in ("study", "photographs_all"):
        folder = ROOT / "docs/results" / name
        reference.copy_drawn_rows(folder, cell, tmp_path / name)
        drawn = leaderboard.read(tmp_path / name).metrics
        cell_counts[name] = drawn.groupby(CELL).ngroups
    assert cell_counts == {"study": 1, "photographs_all": 4}
    of_study = files.read_parquet(tmp_path / "study/metrics.parquet")
    assert [*of_study[CELL].iloc[0]] == ["emoji_vendors", "dinov2_vit_s14", 32]


@pytest.mark.parametrize("page", ["results.md", "results/photographs/README.md"])
def test_a_page_states_the_numbers_of_its_tables(page):
    text = (ROOT / "docs" / page).read_text(encoding="utf-8")
    rows = pd.read_csv(ROOT / "docs/results/photographs/tables/front_means.csv")
    stated = ["detection_auc", "ms", "detection_auc_all", "measured"]
    rows = rows[rows["score"].isin(stated) & (rows["width"] == 0.01)]
    assert len(rows) == 2 * len(stated)
    for row in rows.to_dict("records"):
        sign = "+" if row["effect"] > 0 else ""
        effect, low, high = (
            write_short(row[name]) for name in ("effect", "low", "high")
        )
        numbers = f"{sign}{effect} [{low}, {high}]"
        assert numbers in text
        outcome = row.get("outcome")
        if isinstance(outcome, str):
            assert re.search(rf"{re.escape(numbers)} \**{outcome}", text), numbers


def test_the_answer_counts_the_cells_of_its_tables():
    page = " ".join((ROOT / "docs/results.md").read_text().split())
    assert "above 0 in all 16 cells, and MS by .013 to .015" in page
    photographs = pd.read_csv(ROOT / "docs/results/photographs/tables/front_means.csv")
    photographs = photographs[photographs["width"] == 0.01].set_index("score")
    assert [*photographs.loc["detection_auc", "up"]] == [16, 16]
    assert [*photographs.loc["ms", "effect"].round(3)] == [0.015, 0.013]


def write_short(value):
    """Write a number as pages do: three digits without the leading 0."""
    text = f"{abs(value):.3f}".removeprefix("0")
    return f"-{text}" if value < 0 and text != ".000" else text

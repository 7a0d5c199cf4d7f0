"""bench/reference.py: the tables that are committed are what their rows give."""

import filecmp
import shutil
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
from support.errors import refused_naming

from bench import reference
from sae.comparison.published import signed
from sae.comparison.verdicts import of_mean
from sae.core import files

ROOT = Path(__file__).parents[2]
PHOTOGRAPHS = ROOT / "docs/results/photographs"
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
    """Keep two datasets one after the other, and refuse a third.

    The third was made in another way. Each has a column of its own.
    """
    first, second, third = "caltech101", "aid_6k", "cifar10_6k"
    into = tmp_path / "kept"
    rows = {name: files.read_parquet(PHOTOGRAPHS / name) for name in reference.ROWS}
    latents = rows["latents.parquet"].assign(copy_of=-1, selected=True)
    # One that could not be measured stays: it fires.
    latents.loc[latents.index % 7 == 3, "detection"] = float("nan")
    rows["latents.parquet"] = latents
    # A run has its curves in double precision.
    rows_of_run = {
        **rows,
        "curves.parquet": rows["curves.parquet"].astype({"y": "float64"}),
    }
    for dataset in (second, first, third):  # Not in the order of the config.
        run_folder = tmp_path / dataset
        run_folder.mkdir()
        for name, table in rows_of_run.items():
            files.write_parquet(run_folder / name, table[table["dataset"] == dataset])
        made_by = files.read_json(PHOTOGRAPHS / reference.MADE_BY)
        made_by["columns"] = {"r2": "reconstruction", f"own_of_{dataset}": "purity"}
        if dataset == third:
            made_by["recipe"] = {}
        files.write_json(run_folder / reference.MADE_BY, made_by)
    for dataset in (second, first, first):
        reference.keep(tmp_path / dataset, into, [])
    for name, table in rows.items():
        # The first one is the first of the config.
        expected = pd.concat(
            table[table["dataset"] == kept] for kept in (first, second)
        )
        expected = expected.reset_index(drop=True)
        kept = files.read_parquet(into / name)
        assert "latents" not in name or "selected" not in kept
        pd.testing.assert_frame_equal(kept, expected[[*kept]])
        assert {*expected} - {*kept} <= {"selected"}
    assert files.read_json(into / reference.MADE_BY)["columns"].keys() == {
        "r2",
        f"own_of_{first}",
        f"own_of_{second}",
    }
    with pytest.raises(SystemExit, match="rows of other recipe: delete it"):
        reference.keep(tmp_path / third, into, [])
    of_second = tmp_path / second / "metrics.parquet"
    files.write_parquet(of_second, files.read_parquet(of_second).assign(k=17))
    with refused_naming(
        second, "the config's experiment lacks", "--config", error=SystemExit
    ):
        reference.keep(tmp_path / second, into, [])
    (tmp_path / "paper/figures").mkdir(parents=True)
    with refused_naming("paper/figures", "name", error=SystemExit):
        reference.keep(tmp_path / first, tmp_path / "paper", [])


@pytest.mark.parametrize("method", ["reg1", "reg2"])
@pytest.mark.parametrize("page", ["results.md", "results/photographs/README.md"])
def test_a_page_states_the_numbers_of_its_tables(page, method):
    text = (ROOT / "docs" / page).read_text(encoding="utf-8").replace("*", "")
    means = pd.read_csv(PHOTOGRAPHS / "tables/comparison.csv")
    means = of_mean(means[means["method"] == method]).set_index("score")
    for score in ("detection_per_latent", "ms"):
        row = means.loc[score]
        low, high = (f"{row[end]:.3f}" for end in ("low", "high"))
        numbers = f"{signed(row['effect'])} [{low}, {high}] {row['verdict']}"
        assert numbers in text
    for score in ("detection_measured_auc", "coverage"):
        assert signed(means.loc[score, "effect"]) in text
    if "photographs" in page:
        row = means.loc["detection_per_latent"]
        assert f"| {row['up']} of {row['cells']} |" in text

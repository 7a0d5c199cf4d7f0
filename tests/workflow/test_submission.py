"""Submissions: what `make submit` writes, and what `make again` accepts and refuses."""

import copy
import re
import shutil
import subprocess

import pytest
import yaml
from conftest import ROOT
from sae_workflow import again, settings, submission
from support.errors import refused_naming

from bench import leaderboard
from sae.comparison.scores import SCORES, across_groups
from sae.core import files
from sae.scoring.rows import CELL, KEY, read_metrics

MACHINE = "a processor, 1 thread a job, device cpu"


@pytest.mark.parametrize("experiment", ["demo", "fair", "photographs", "rivals"])
def test_a_submitted_config_means_the_same_over_another_config(experiment):
    config, raw, _ = settings.read_files(ROOT / "config.yaml")
    cells = settings.cells(config, experiment)
    plans = [settings.bank_plan(config, experiment, cell) for cell in cells]
    made_by = settings.made_by(config, experiment)
    used = submission.used_config(config, raw, experiment)

    # Later the project's own has other recipes and methods, and not this experiment.
    later = copy.deepcopy(raw)
    later["experiments"] = {"smoke": raw["experiments"]["smoke"]}
    for name in ("small", "study"):
        later["training"][name]["lr"] = 0.7
    later["methods"]["reg1"]["penalty"] = "l1_l2_ratio"
    later["datasets"]["fashion_mnist"]["split_seed"] = 9
    later["claims"]["confidence"] = 0.8
    for section, entries in yaml.safe_load(yaml.safe_dump(used)).items():
        later[section] = {**later[section], **entries}
    config = settings.load(later)

    assert settings.cells(config, experiment) == cells
    assert [settings.bank_plan(config, experiment, cell) for cell in cells] == plans
    assert settings.made_by(config, experiment) == made_by


@pytest.fixture
def submitted(tmp_path, monkeypatch):
    """Return the folder of a submission: the rows of `fair`, and a penalty."""
    monkeypatch.setattr(leaderboard, "RESULTS", tmp_path)
    monkeypatch.setattr(leaderboard, "SETTINGS", {})
    folder = tmp_path / "mine"
    shutil.copytree(ROOT / "docs/results/fair", folder)
    penalty = folder / "extensions/penalties/mine.py"
    penalty.parent.mkdir(parents=True)
    penalty.write_text("raise SystemExit('this was run')\n")
    (folder / "config.yaml").write_text("extensions: docs/results/mine/extensions\n")
    names = ["metrics.parquet", "config.yaml", "extensions/penalties/mine.py"]
    config = settings.read_config(ROOT / "config.yaml")
    record = {
        "experiment": "mine",
        "design": "a design",
        "names": settings.printed_names(config, "fair"),
        "training_images": {},
        "commit": "0123456789",
        "machine": MACHINE,
        "versions": {},
        "sha256": {name: files.sha256(folder / name) for name in names},
    }
    files.write_json(folder / "submission.json", record)
    return folder


def record_made_again(folder):
    found = {
        "submission": files.sha256(folder / "submission.json"),
        "cell": {"dataset": "emoji", "backbone": "lite", "k": 32},
        "largest_difference": {"detection_auc": 0.0021},
        "commit": "abcdef0123",
        "machine": MACHINE,
    }
    files.write_json(folder / "made_again.json", found)


def marks_of(page):
    """Return what the table says of who made rows, each once."""
    rows = page[page.index("| setting") : page.index("Prices:")].splitlines()[2:]
    return {row.rstrip("| ").split("|")[-1].strip() for row in rows if row}


def test_the_leaderboard_says_whether_rows_were_made_again(submitted):
    page = leaderboard.page()
    assert "## Submissions" in page
    assert marks_of(page) == {"as submitted"}
    record_made_again(submitted)
    page = leaderboard.page()
    assert marks_of(page) == {"made again"}
    words = " ".join(page.split())
    assert "emoji / lite / 32" in words and "by .0021 at" in words

    # What was made again was another submission.
    record = files.read_json(submitted / "submission.json")
    files.write_json(submitted / "submission.json", {**record, "design": "another"})
    assert marks_of(leaderboard.page()) == {"as submitted"}


def test_altered_and_added_files_of_a_submission_are_refused(submitted):
    metrics = submitted / "metrics.parquet"
    rows = files.read_parquet(metrics)
    rows.loc[0, "r2"] += 0.1
    files.write_parquet(metrics, rows)  # With a seal that fits.
    with refused_naming(str(metrics), "submission.json", "make submit"):
        leaderboard.page()
    shutil.copy(ROOT / "docs/results/fair/metrics.parquet", metrics)
    added = submitted / "extensions/helper.py"
    added.write_text("")
    with refused_naming(str(added), "submission.json"):
        submission.read(submitted)
    added.unlink()
    assert submission.read(submitted)["experiment"] == "mine"


def test_code_of_others_does_not_run_before_somebody_read_it(submitted, monkeypatch):
    monkeypatch.setattr(submission, "KEPT", submitted.parent)
    with refused_naming("extensions/penalties/mine.py", "READ=1"):
        again.main("mine")


@pytest.fixture
def cell():
    """Return the rows of a cell of `fair`."""
    rows = read_metrics(ROOT / "docs/results/fair/metrics.parquet")
    is_of_cell = rows[CELL] == ["fashion_mnist_13k", "dinov2_vit_s14", 32]
    return rows[is_of_cell.all(axis=1)]


TUNED = ("topk", "reg1", "reg2")


def test_a_cell_is_made_again_if_no_sae_differs_by_more_than_seeds(cell):
    comparison = again.compare(cell, cell, TUNED)
    assert again.refusals(comparison) == []
    assert {row["difference"] for row in comparison["largest"].values()} == {0}

    place = cell.index[cell["detection_auc"].notna()][5]
    key = " / ".join(map(str, cell.loc[place, KEY]))
    for change, is_refused in ((0.029, False), (0.031, True), (float("nan"), True)):
        forged = cell.copy()
        forged.loc[place, "detection_auc"] += change
        problems = again.refusals(again.compare(forged, cell, TUNED))
        assert len(problems) == is_refused
        assert all(key in line for line in problems)


def test_the_mean_of_a_method_may_differ_by_less_than_one_sae(cell):
    for method, change, is_refused in (
        ("reg1", 0.012, True),
        ("reg1", -0.012, True),
        ("reg1", 0.008, False),
        ("untrained", 0.012, False),  # One SAE has no mean.
    ):
        forged = cell.copy()
        forged.loc[forged["method"] == method, "detection_auc"] += change
        problems = again.refusals(again.compare(forged, cell, TUNED))
        assert len(problems) == is_refused
        assert all(method in line for line in problems)


def test_a_cell_of_other_saes_is_not_made_again(cell):
    trials = cell["trial"].unique()
    few = cell[cell["trial"].isin(trials[: len(trials) // 4])]
    (line,) = again.refusals(again.compare(cell, few, TUNED))
    assert f"{len(few)} of {len(cell)}" in line
    assert again.refusals(again.compare(cell, cell[:0], TUNED))


def test_the_smallest_cell_is_made_again_if_none_is_named():
    config = settings.read_config(ROOT / "config.yaml")
    images = {"emoji_vendors_split1": 10303, "fashion_mnist_13k": 13000}
    cell = again.choose_cell(config, "fair", images)
    assert (cell.dataset, cell.k) == ("emoji_vendors_split1", 16)
    words = ("fashion_mnist_13k", "dinov2_vit_s14", "32")
    cell = again.choose_cell(config, "fair", images, words)
    assert cell == settings.Cell("fashion_mnist_13k", "dinov2_vit_s14", 32)
    with refused_naming("dinov2_vit_s14 33", "fashion_mnist_13k dinov2_vit_s14 32"):
        again.choose_cell(config, "fair", images, (*words[:2], "33"))


def test_what_is_submitted_is_the_code_of_a_commit(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with refused_naming("no git checkout"):
        submission.clean_commit()
    (tmp_path / "sae").mkdir()
    for file in ("sae/loop.py", "mine.yaml"):
        (tmp_path / file).write_text("lr = 1\n")
    who = ["-c", "user.name=a", "-c", "user.email=a@b"]
    for words in (["init", "-q"], ["add", "."], [*who, "commit", "-qm", "first"]):
        subprocess.run(["git", *words], check=True)
    assert re.fullmatch("[0-9a-f]{40}", submission.clean_commit())
    (tmp_path / "mine.yaml").write_text("")  # It is in the config that is submitted.
    assert submission.clean_commit()
    (tmp_path / "sae/another.py").write_text("")
    with refused_naming("sae/another.py", "extensions"):
        submission.clean_commit()
    (tmp_path / "sae/another.py").unlink()
    (tmp_path / "sae/loop.py").write_text("lr = 2\n")
    with refused_naming("sae/loop.py"):
        submission.clean_commit()


def test_rows_of_another_config_or_code_are_seen(tmp_path):
    config = settings.read_config(ROOT / "config.yaml")
    made_by = settings.made_by(config, "photographs")
    # As a run leaves it, with what was found out besides.
    files.write_json(tmp_path / "made_by.json", {**made_by, "columns": {}, "cells": {}})
    assert submission.differing_parts(config, "photographs", tmp_path) == []
    recipe = config.training["small"]
    config.training["small"] = recipe.model_copy(update={"m": 7})
    differing = submission.differing_parts(config, "photographs", tmp_path)
    assert differing == ["recipe"]


@pytest.mark.parametrize("experiment", ["decisive", "fair", "photographs", "rivals"])
def test_seeds_of_kept_results_differ_by_no_more_than_is_tolerated(experiment):
    rows = read_metrics(ROOT / "docs/results" / experiment / "metrics.parquet")
    rows = across_groups(rows)
    fresh = rows[(rows["split"] == "test") & rows["seed"].isin([3, 4, 5])]
    for score, tolerance in again.TOLERANCE.items():
        values = SCORES[score].of(fresh)
        of_trial = values.groupby([fresh[name] for name in [*CELL, "method", "trial"]])
        ranges = of_trial.max() - of_trial.min()
        assert len(ranges) > 150
        assert ranges.max() <= tolerance

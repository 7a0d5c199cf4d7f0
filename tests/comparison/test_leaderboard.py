"""Methods of several experiments on one leaderboard; what does not fit is left out."""

import pytest
from conftest import ROOT
from report.compared import choices_of, compared_rows
from support.errors import assert_names, refused_naming

from sae.comparison import leaderboard, verdicts
from sae.core import files
from sae.core.errors import UserError
from sae.report import leaderboard as leaderboard_page

# Of the backbones a, b and c.
DETECTION = {"topk": 0.5, "reg1": (0.52, 0.53, 0.54), "mine": (0.53, 0.52, 0.52)}
DATASETS = "defghi"


def write_results(folder, name, methods, **changed):
    """Write a results folder of some methods in 18 cells, and return it.

    Args:
        name: Of the experiment. Its SAEs score more, the longer it is.
        changed: Fields of made_by.json.
    """
    scores = {"purity_binary": 0.5, "purity_binary_null": 0.1, "ms_mean_alive": 0.5}
    metrics = compared_rows(
        {method: {**scores, "detection": DETECTION[method]} for method in methods},
        DATASETS,
    )
    metrics["detection"] += len(name) / 1000
    metrics.to_csv(folder / "metrics.csv", index=False)
    files.write_parquet(folder / "selection.parquet", choices_of(metrics))

    relations = {
        method: {"against": None if method == "topk" else "topk"} for method in methods
    }
    made_by = {
        "experiment": name,
        "versions": {"training loop": "1", f"objective {methods[-1]}": "1"},
        "protocols": {"tuned": {"fresh": [0]}},
        "methods": {"methods": relations},
        "columns": {"purity_binary": "purity", "ms_mean_alive": "ms"},
        "recipe": {"m": 100},
        "metrics": {"purity": {"version": "1"}, "ms": {"version": "1"}},
        "cells": {
            f"{dataset} / {backbone}": {"dataset": "1", "backbone": backbone}
            for dataset in DATASETS
            for backbone in "abc"
        },
    }
    files.write_json(folder / leaderboard.MADE_BY, {**made_by, **changed})
    return folder


@pytest.fixture
def two_folders(tmp_path):
    """Return a function that writes two results folders, the second one changed."""

    def write(**changed):
        for name in ("own", "stored"):
            (tmp_path / name).mkdir(exist_ok=True)
        first = write_results(tmp_path / "own", "own", ["topk", "mine"])
        methods = ["topk", "reg1", "mine"]
        second = write_results(tmp_path / "stored", "stored", methods, **changed)
        return [first, second]

    return write


@pytest.fixture
def leaderboard_of(two_folders):
    """Return a function that joins two folders, of which the second is changed."""

    def join(**changed):
        return leaderboard.joined(
            [leaderboard.read(folder) for folder in two_folders(**changed)]
        )

    return join


def reg1_detection(means):
    """Return the mean of families of reg1's effect on detection."""
    return means.set_index(["method", "score", "family"]).loc[
        ("reg1", "detection", "mean")
    ]


def test_my_methods_stand_beside_the_stored_ones(two_folders, tmp_path, capsys):
    folders = two_folders()
    first, stored = (leaderboard.read(folder) for folder in folders)
    means, omissions = leaderboard.joined([first, stored])
    assert omissions == []
    assert [*means["method"].unique()] == ["mine", "reg1", "stored/mine"]

    # Each beside the baseline of its own experiment: (.02 + .03 + .04) / 3.
    effect = reg1_detection(means)["effect"]
    assert effect == pytest.approx(0.03)
    # Its p is that of the experiment alone.
    alone = verdicts.means(stored.effects(), {}, stored.made_by.intervals)
    assert reg1_detection(alone)["p"] == reg1_detection(means)["p"]

    leaderboard_page.write(folders, out=tmp_path / "out")
    printed = capsys.readouterr().out
    assert "stored/mine" in printed
    page = tmp_path / "out/leaderboard.md"
    assert printed == page.read_text() + "\n"
    page.write_text("mine")
    with refused_naming(str(page)):
        leaderboard_page.write(folders, out=tmp_path / "out")
    assert page.read_text() == "mine" and not capsys.readouterr().out


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        (
            {"versions": {"training loop": "2"}},
            "versions: {'training loop': '2'}, not {'training loop': '1'}",
        ),
        ({"recipe": {"m": 200}}, "recipe: {'m': 200}, not {'m': 100}"),
        (
            {"by_dataset": {"d": {"m": 50}, "not there": {"m": 9}}},
            "recipe of a dataset: {'d': {'m': 50}}, not {}",
        ),
        (
            {"protocols": {"tuned": {"fresh": [1]}}},
            "protocol tuned: {'fresh': [1]}, not {'fresh': [0]}",
        ),
        # What chooses was measured otherwise.
        (
            {"columns": {"detection": "ms"}, "metrics": {"ms": {"version": "2"}}},
            "metric ms: {'version': '2'}, not",
        ),
    ],
)
def test_an_experiment_that_was_made_otherwise_is_left_out(
    leaderboard_of, changed, reason
):
    means, (omission,) = leaderboard_of(**changed)
    assert [*means["method"].unique()] == ["mine"]
    assert omission.startswith(f"stored: left out, of other {reason}")


def test_a_dataset_of_other_embeddings_is_left_out(leaderboard_of):
    cells = {"d / a": {"dataset": "1", "backbone": "other"}}
    means, omissions = leaderboard_of(cells=cells)
    assert omissions[0].startswith("stored: d left out: d / a is {")
    row = reg1_detection(means)
    assert row["datasets"] == 5 and row["cells"] == 15


def test_scores_of_another_metric_are_left_out(leaderboard_of):
    versions = {"purity": {"version": "2"}, "ms": {"version": "1"}}
    means, omissions = leaderboard_of(metrics=versions)
    scores = set(means.loc[means["method"] == "reg1", "score"])
    assert "purity" not in scores and "ms" in scores
    [line] = omissions
    assert_names(line, "stored:", "purity", "it is of version 2, not 1")


def test_an_omission_names_the_options_that_differ():
    ours = {"version": "1", "options": {"C": [0.1, 1.0], "tol": 0.01, "seed": 0}}
    theirs = {"version": "1", "options": {"C": [1.0], "tol": 0.01, "max": 5}}
    assert leaderboard._differing_options(theirs, ours) == (
        "C is [1.0], not [0.1, 1.0]; max is 5, not None; seed is None, not 0"
    )


def test_the_first_folder_may_have_fewer_cells_and_protocols(two_folders):
    both = {"tuned": {"fresh": [0]}, "paper": {}}
    first, stored = (leaderboard.read(it) for it in two_folders(protocols=both))
    fewer = first.metrics[first.metrics["backbone"] != "c"]
    rows, omissions = leaderboard._comparable_rows(
        stored, first._replace(metrics=fewer)
    )
    assert set(rows.metrics["backbone"]) == set(rows.selection["backbone"]) == {*"ab"}
    assert omissions == ["stored: cells left out, which own does not have: 6"]


def test_a_folder_without_results_is_refused(tmp_path):
    with pytest.raises(UserError, match=r"made_by\.json"):
        leaderboard.read(tmp_path)


def test_rows_of_version_1_are_refused():
    with refused_naming("photographs/metrics.parquet", "version 1", "tables"):
        leaderboard.read(ROOT / "docs/results/photographs")


def test_families_and_pictures_are_read_of_the_records(two_folders):
    first, stored = (leaderboard.read(folder) for folder in two_folders())
    # Without a record each backbone is a family, and each dataset of its own pictures.
    means, _ = leaderboard.joined([first, stored])
    assert [*means["family"].unique()] == ["a", "b", "c", "mean"]
    assert reg1_detection(means)["datasets"] == 6

    families = {"a": "one", "b": "one", "c": "two"}
    known = {"families": families, "pictures": {"d": "same", "e": "same"}}
    made_by = first.made_by.model_copy(update=known)
    means, _ = leaderboard.joined([first._replace(made_by=made_by), stored])
    assert [*means["family"].unique()] == ["one", "two", "mean"]
    row = reg1_detection(means)
    # ((.02 + .03) / 2 + .04) / 2
    assert row["effect"] == pytest.approx(0.0325)
    assert row["datasets"] == 5 and row["reason"] == "fewer than six datasets"


def test_a_leaderboard_of_no_folder_is_refused():
    with pytest.raises(UserError, match="name at least one folder"):
        leaderboard_page.write([])

"""Methods of several experiments on one leaderboard; what does not fit is left out."""

import numpy as np
import pandas as pd
import pytest
from support.errors import assert_names, refused_naming

from sae.comparison import fronts, intervals, leaderboard, outcomes
from sae.core import files
from sae.core.errors import UserError
from sae.report import leaderboard as leaderboard_page

# {method: {trial: (R^2, MS)}}
TRIALS = {
    "topk": {"a": (0.7, 0.4), "b": (0.68, 0.44)},
    "reg1": {"p": (0.695, 0.46)},
    "mine": {"q": (0.70, 0.47)},
}
BACKBONES = ("x", "y", "z")


def write_results(folder, name, methods, **changed):
    """Write a results folder of some methods in three cells, and return it.

    Args:
        name: Of the experiment.
        changed: Fields of made_by.json.
    """
    rng = np.random.default_rng(len(name))
    rows = []
    for backbone in BACKBONES:
        for method in methods:
            shift = 0.002 * rng.normal()
            for trial, (r2, ms) in TRIALS[method].items():
                row = {
                    "dataset": "d",
                    "backbone": backbone,
                    "k": 8,
                    "method": method,
                    "trial": trial,
                    "seed": 0,
                    "protocol": "paper",
                    "mask": None,
                    "status": "ok",
                    "r2": r2,
                    "ms_mean_alive": ms + shift,
                    "detection_auc": ms + shift,
                    "l0": 8.0,
                    "dead_train": 0,
                    "m": 100,
                    "purity_binary": 0.5,
                    "purity_binary_null": 0.1,
                }
                rows += [row | {"split": split} for split in ("val", "test")]
    pd.DataFrame(rows).to_csv(folder / "metrics.csv", index=False)

    relations = {
        method: {"against": None if method == "topk" else "topk"} for method in methods
    }
    made_by = {
        "experiment": name,
        "versions": {"training loop": "1", f"objective {methods[-1]}": "1"},
        "protocols": {"paper": {}},
        "fronts": {},
        "methods": {"methods": relations},
        "columns": {"purity_binary": "purity", "ms_mean_alive": "ms"},
        "recipe": {"m": 100},
        "metrics": {"purity": {"version": "1"}, "ms": {"version": "1"}},
        "cells": {
            f"d / {backbone}": {"dataset": "1", "backbone": backbone}
            for backbone in BACKBONES
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
    """Return the row of reg1's effect on detection at the first width."""
    query = "method == 'reg1' and score == 'detection_auc' and width == 0.01"
    return means.query(query).iloc[0]


def test_my_methods_stand_beside_the_stored_ones(two_folders, tmp_path, capsys):
    folders = two_folders()
    means, omissions = leaderboard.joined(
        [leaderboard.read(folder) for folder in folders]
    )
    assert omissions == []
    assert [*means["method"].unique()] == ["mine", "reg1", "stored/mine"]

    # The effect is that of the experiment alone, corrected for what it stands beside.
    stored = leaderboard.read(folders[1])
    methods = stored.made_by.methods.tuned
    effects = outcomes.readings_of(stored.metrics, methods, fronts.FrontRule())
    alone = reg1_detection(outcomes.means(effects, {}, intervals.IntervalRule()))
    on_leaderboard = reg1_detection(means)
    assert (
        on_leaderboard["effect"] == alone["effect"]
        and on_leaderboard["p"] == alone["p"]
    )
    assert on_leaderboard["p_holm"] > alone["p_holm"]

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
        # What feasibility rests on was measured otherwise.
        (
            {"columns": {"dead_train": "ms"}, "metrics": {"ms": {"version": "2"}}},
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
    cells = {
        f"d / {backbone}": {
            "dataset": "1",
            "backbone": "other" if backbone == "x" else backbone,
        }
        for backbone in BACKBONES
    }
    means, omissions = leaderboard_of(cells=cells)
    assert "reg1" not in set(means["method"])
    assert omissions[0].startswith("stored: d left out: d / x is {")


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
    rule = {"tuning": 0, "tuned": ["lr"]}
    fair = {"fair": {"points": 6}}
    folders = two_folders(fronts=rule, protocols={"paper": {}, **fair})
    first, stored = (leaderboard.read(folder) for folder in folders)
    stored_rows = stored.metrics.assign(protocol="fair", swept="lr")
    stored = stored._replace(metrics=stored_rows)
    made_by = first.made_by.model_copy(
        update={"fronts": stored.made_by.fronts, "protocols": fair}
    )
    two_cells = first.metrics[first.metrics["backbone"] != "z"]
    rows, omissions = leaderboard._comparable_rows(
        stored, leaderboard.ExperimentRows(two_cells, made_by)
    )
    assert set(rows["backbone"]) == {"x", "y"}
    assert omissions == ["stored: cells left out, which own does not have: 1"]
    # An older version made rows that do not say what a trial sets.
    old = stored._replace(metrics=stored_rows.drop(columns="swept"))
    rows, (omission,) = leaderboard._comparable_rows(
        old, leaderboard.ExperimentRows(two_cells, made_by)
    )
    assert rows.empty and "stored: left out: an older version made" in omission


def test_a_folder_without_results_is_refused(tmp_path):
    with pytest.raises(UserError, match=r"made_by\.json"):
        leaderboard.read(tmp_path)


def test_a_record_of_the_second_version_is_read(tmp_path):
    # It has no families: each backbone counts as one of its own.
    folder = write_results(tmp_path, "stored", ["topk", "reg1"])
    made_by = files.read_json(folder / leaderboard.MADE_BY)
    assert "families" not in made_by and "intervals" not in made_by
    means, omissions = leaderboard.joined([leaderboard.read(folder)])
    assert reg1_detection(means)["blocks"] == 3 and omissions == []

    # With two families there are too few blocks.
    families = {"x": "one", "y": "one", "z": "two"}
    files.write_json(folder / leaderboard.MADE_BY, {**made_by, "families": families})
    means, _ = leaderboard.joined([leaderboard.read(folder)])
    row = reg1_detection(means)
    assert row["blocks"] == 2 and row["outcome"] == "not comparable"


def test_a_leaderboard_of_no_folder_is_refused():
    with pytest.raises(UserError, match="name at least one folder"):
        leaderboard_page.write([])

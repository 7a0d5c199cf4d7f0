"""Methods of several experiments on one board; what does not fit is left out, and said."""

import numpy as np
import pandas as pd
import pytest

from sae.comparison import board, fronts, intervals, outcomes, readings
from sae.core import files
from sae.core.errors import UserError
from sae.report import board as printed

TRIALS = {
    "topk": {"a": (0.7, 0.4), "b": (0.68, 0.44)},
    "reg1": {"p": (0.695, 0.46)},
    "mine": {"q": (0.70, 0.47)},
}


def result(folder, name, methods, **changed):
    """A results folder of some methods in three cells."""
    rng, rows = np.random.default_rng(len(name)), []
    for backbone, method in [(b, m) for b in ("x", "y", "z") for m in methods]:
        shift = 0.002 * rng.normal()
        for (trial, (r2, ms)), split in [
            (t, s) for t in TRIALS[method].items() for s in ("val", "test")
        ]:
            row = {
                "dataset": "d",
                "backbone": backbone,
                "k": 8,
                "method": method,
                "trial": trial,
                "seed": 0,
            }
            row |= {
                "split": split,
                "protocol": "paper",
                "status": "ok",
                "r2": r2,
                "ms_mean_alive": ms + shift,
            }
            row |= {"detection_alive": ms + shift, "mask": None}
            rows.append(
                row
                | {
                    "l0": 8.0,
                    "dead_train": 0,
                    "m": 100,
                    "purity_binary": 0.5,
                    "purity_binary_null": 0.1,
                }
            )
    made_by = {
        "experiment": name,
        "versions": {"training loop": "1", f"objective {methods[-1]}": "1"},
        "protocols": {"paper": {}},
        "fronts": {},
    }
    made_by |= {
        "methods": {
            "methods": {
                m: {"against": None if m == "topk" else "topk"} for m in methods
            }
        }
    }
    made_by |= {"columns": {"purity_binary": "purity", "ms_mean_alive": "ms"}}
    made_by |= {
        "recipe": {"m": 100},
        "metrics": {"purity": {"version": "1"}, "ms": {"version": "1"}},
    }
    made_by |= {
        "cells": {f"d / {b}": {"dataset": "1", "backbone": b} for b in "xyz"}
    } | changed
    pd.DataFrame(rows).to_csv(folder / "metrics.csv", index=False)
    files.write_json(folder / board.MADE_BY, made_by)
    return folder


@pytest.fixture
def two(tmp_path):
    def make(**changed):
        for name in ("own", "stored"):
            (tmp_path / name).mkdir(exist_ok=True)
        own = result(tmp_path / "own", "own", ["topk", "mine"])
        return [
            own,
            result(tmp_path / "stored", "stored", ["topk", "reg1", "mine"], **changed),
        ]

    return make


def test_mine_beside_the_stored_ones(two, tmp_path, capsys):
    folders = two()
    means, said = board.joined([board.read(f) for f in folders])
    assert said == [] and [*means["method"].unique()] == ["mine", "reg1", "stored/mine"]
    alone = board.read(folders[1])
    one = readings.read(alone.metrics, alone.made_by.methods.tuned, fronts.Rule())
    reg1 = "method == 'reg1' and score == 'detection_alive' and width == 0.01"
    same = outcomes.means(one, {}, intervals.Rule()).query(reg1).iloc[0]
    of_both = means.query(reg1).iloc[0]
    assert of_both["effect"] == same["effect"] and of_both["p"] == same["p"]
    assert of_both["p_holm"] > same["p_holm"]  # Corrected for what it stands beside.
    printed.write(folders, out=tmp_path / "out")
    assert (
        "stored/mine"
        in capsys.readouterr().out
        == (tmp_path / "out/leaderboard.md").read_text() + "\n"
    )


def test_what_does_not_fit_is_left_out_and_said(two):
    def joined(**changed):
        return board.joined([board.read(f) for f in two(**changed)])

    for changed, what in (
        (
            {"versions": {"training loop": "2"}},
            "versions: {'training loop': '2'}, not {'training loop': '1'}",
        ),
        ({"recipe": {"m": 200}}, "recipe: {'m': 200}, not {'m': 100}"),
        (
            {"columns": {"dead_train": "ms"}, "metrics": {"ms": {"version": "2"}}},
            "metric ms: {'version': '2'}, not",
        ),
    ):
        means, said = joined(**changed)
        assert [*means["method"].unique()] == ["mine"] and len(said) == 1
        assert said[0].startswith(f"stored: left out, of other {what}")
    cells = {
        f"d / {b}": {"dataset": "1", "backbone": "other" if b == "x" else b}
        for b in "xyz"
    }
    means, said = joined(cells=cells)
    assert "reg1" not in set(means["method"]) and said[0].startswith(
        "stored: d left out: d / x is {"
    )
    means, said = joined(metrics={"purity": {"version": "2"}, "ms": {"version": "1"}})
    of_reg1 = means[means["method"] == "reg1"]
    assert "purity" not in set(of_reg1["score"]) and "ms" in set(of_reg1["score"])
    assert said == [
        "stored: scores of purity left out, of {'version': '2'}, not {'version': '1'}"
    ]


def test_mine_may_have_fewer_cells_and_protocols(two):
    rule, fair = {"tuning": 0, "tuned": ["lr"]}, {"fair": {"points": 6}}
    own, stored = (
        board.read(f) for f in two(fronts=rule, protocols={"paper": {}} | fair)
    )
    stored = stored._replace(metrics=stored.metrics.assign(protocol="fair"))
    mine = own.made_by.model_copy(
        update={"fronts": stored.made_by.fronts, "protocols": fair}
    )
    kept, said = board._fitting(
        stored, board.Result(own.metrics[own.metrics["backbone"] != "z"], mine)
    )
    assert set(kept["backbone"]) == {"x", "y"} and said == [
        "stored: cells left out, which own does not have: 1"
    ]


def test_a_folder_that_is_none(tmp_path):
    with pytest.raises(UserError, match=r"made_by\.json"):
        board.read(tmp_path)


def test_a_record_of_the_second_version_is_read(tmp_path):
    # It has no families: each backbone counts as one of its own.
    folder = result(tmp_path, "stored", ["topk", "reg1"])
    made_by = files.read_json(folder / board.MADE_BY)
    assert "families" not in made_by and "intervals" not in made_by
    means, omissions = board.joined([board.read(folder)])
    row = means.query("method == 'reg1' and score == 'detection_alive'").iloc[0]
    assert row["blocks"] == 3 and omissions == []
    # With two families there are too few blocks.
    families = {"x": "one", "y": "one", "z": "two"}
    files.write_json(folder / board.MADE_BY, made_by | {"families": families})
    means, _ = board.joined([board.read(folder)])
    row = means.query("method == 'reg1' and score == 'detection_alive'").iloc[0]
    assert row["blocks"] == 2 and row["outcome"] == "too few blocks"


def test_a_board_of_nothing_is_refused():
    with pytest.raises(UserError, match="name at least one folder"):
        printed.write([])

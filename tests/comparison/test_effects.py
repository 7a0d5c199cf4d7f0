"""Effects of what was chosen, of which each value is put in by hand."""

from math import isnan, nan

import pandas as pd
import pytest

from sae.comparison import effects
from sae.comparison.methods import Methods
from sae.core.errors import UserError

NAMES = Methods(
    methods={
        "topk": {},
        "batch": {"against": "topk"},
        "reg1": {"against": "batch"},  # Its baseline is Top-k, at the end of the chain.
        "frozen": {"control": True},
        "theirs": {"imported": True},
    }
)
CELL = {"dataset": "d", "backbone": "x", "k": 8}


def sae_rows(method, trial="a", seeds=(3, 4), cell=CELL, **scores):
    """Return rows of metrics on test, one for each seed; a tuple has a value a seed."""
    rows = []
    for place, seed in enumerate(seeds):
        row = {**cell, "method": method, "trial": trial, "seed": seed}
        row |= {"split": "test", "status": "ok"}
        for name, value in scores.items():
            row[name] = value[place] if isinstance(value, tuple) else value
        rows.append(row)
    return rows


def choice_row(method, trial="a", status="chosen", r2=0.70, cell=CELL, **values):
    """Return a row of selection.parquet; R* is .70."""
    is_chosen = status in ("chosen", "fresh seed failed")
    return {
        **cell,
        "protocol": "tuned",
        "method": method,
        "trial": trial,
        "status": status,
        "role": "chosen" if is_chosen else "candidate",
        "r2": r2,
        "bar": 0.70,
        "detection": 0.6,
        "seeds": "3 4" if is_chosen else None,
        "fresh": True if is_chosen else None,
        **values,
    }


def read(metrics, selection):
    """Return the table of effects, indexed by method and score."""
    table = effects.effects(pd.DataFrame(metrics), pd.DataFrame(selection), NAMES)
    return table.set_index(["method", "score"])


def test_all_scores_are_of_one_set_of_saes():
    # Trial b has more detection on test, and a seed of a's that nobody chose as well.
    metrics = [
        *sae_rows("topk", detection=0.60, ms_mean_alive=0.4, r2=0.70, l0=8.0),
        *sae_rows("batch", detection=(0.62, 0.64), ms_mean_alive=0.5, r2=0.69, l0=8.1),
        *sae_rows("batch", seeds=(0,), detection=0.9, ms_mean_alive=0.9, r2=0.1),
        *sae_rows("batch", "b", detection=0.9, ms_mean_alive=0.9, r2=0.7),
    ]
    selection = [
        *(choice_row(method) for method in ("topk", "batch")),
        choice_row("batch", "b", "not chosen"),
        choice_row("batch", "b", protocol="paper"),  # What another protocol chose.
    ]
    table = read(metrics, selection)
    of_batch = table.loc["batch"]
    assert of_batch["effect"].to_dict() == pytest.approx(
        {"detection": 0.03, "ms": 0.1, "r2": -0.01, "l0": 0.1}
    )
    assert set(of_batch["seeds"]) == {"3 4"} and set(of_batch["trial"]) == {"a"}
    assert of_batch["value"]["detection"] == pytest.approx(0.63)
    # What no SAE has is in no row; a baseline has no effect of its own.
    assert set(of_batch.index) == {"detection", "ms", "r2", "l0"}
    assert table.loc["topk", "effect"].isna().all()
    assert (table.loc["topk", "value"] == table.loc["topk", "level"]).all()


def test_the_baseline_is_that_at_the_end_of_the_chain():
    metrics = [
        *sae_rows("topk", detection=0.60),
        *sae_rows("batch", detection=0.64),
        *sae_rows("reg1", detection=0.65),
    ]
    table = read(metrics, [choice_row(name) for name in ("topk", "batch", "reg1")])
    row = table.loc[("reg1", "detection")]
    assert row["baseline"] == "topk" and row["effect"] == pytest.approx(0.05)


def test_controls_stand_beside_the_tuned_baseline():
    metrics = [
        *sae_rows("topk", "tuned", detection=0.60, r2=0.70),
        *sae_rows("topk", "untuned", detection=0.50, r2=0.60),
        *sae_rows("frozen", "default", (0, 1, 2), detection=(0.54, 0.55, 0.56), r2=0.4),
        # With what diverged nothing is said of a control.
        *sae_rows("frozen", "default", (3,), status="diverged", detection=nan, r2=nan),
        # Of this cell nothing was chosen.
        *sae_rows("frozen", "default", cell={**CELL, "k": 9}, detection=0.9, r2=0.9),
    ]
    row = read(metrics, [choice_row("topk", "tuned")]).loc["frozen"]
    assert row["effect"].to_dict() == pytest.approx({"detection": -0.05, "r2": -0.3})
    assert set(row["seeds"]) == {"0 1 2"} and row["control"].all()
    assert set(row["k"]) == {8}


@pytest.mark.parametrize(
    ("rows", "reason", "shortfall"),
    [
        (
            [
                choice_row("batch", "a", "not chosen", 0.684),
                choice_row("batch", "b", "not feasible", 0.71),
            ],
            "reconstructs less",
            0.006,
        ),
        ([choice_row("batch", "a", "not feasible", 0.7)], "no feasible trial", nan),
        ([choice_row("batch", "a", "fresh seed failed")], "fresh seed failed", nan),
    ],
)
def test_what_is_out_of_reach_has_no_value_and_says_why(rows, reason, shortfall):
    metrics = [*sae_rows("topk", detection=0.6), *sae_rows("batch", detection=0.9)]
    row = read(metrics, [choice_row("topk"), *rows]).loc[("batch", "detection")]
    assert (row["status"], row["reason"]) == ("out of reach", reason)
    assert isnan(row["value"]) and isnan(row["effect"])
    assert row["shortfall"] == pytest.approx(shortfall, nan_ok=True)


def test_beside_a_baseline_whose_fresh_seed_failed_there_is_no_effect():
    metrics = [*sae_rows("topk", detection=0.6), *sae_rows("batch", detection=0.9)]
    selection = [choice_row("topk", status="fresh seed failed"), choice_row("batch")]
    table = read(metrics, selection)
    assert table.loc[("topk", "detection"), "status"] == "out of reach"
    row = table.loc[("batch", "detection")]
    assert (row["status"], row["reason"]) == ("out of reach", effects.BASELINE_FAILED)
    assert isnan(row["effect"]) and isnan(row["value"])


def test_a_chosen_sae_without_rows_is_named():
    metrics = [*sae_rows("topk", detection=0.6), *sae_rows("batch", seeds=(3,))]
    with pytest.raises(UserError, match="d / x / k8: batch, a, seed 4, which was chos"):
        read(metrics, [choice_row("topk"), choice_row("batch")])


def test_without_choices_the_table_is_empty():
    metrics = sae_rows("topk", detection=0.6)
    assert read(metrics, [choice_row("topk", protocol="paper")]).empty


def test_an_sae_made_elsewhere_stands_beside_the_best_that_reconstructs_as_well_as_it():
    of_theirs = sae_rows("theirs", "default", (0,), detection=0.66, r2=0.64)
    metrics = [
        *of_theirs,
        {**of_theirs[0], "split": "val", "r2": 0.65},
        *sae_rows("topk", "a", (0, 3, 4), detection=(0.60, 0.1, 0.1), r2=0.70),
        # Of all its seeds.
        *sae_rows("topk", "b", (0, 3), detection=(0.63, 0.65), r2=0.64),
        *sae_rows("topk", "c", (0,), detection=0.90, r2=0.5),
    ]
    selection = [
        choice_row("topk", "a"),
        # .641 is within .01 of its .65, though not of R*.
        choice_row("topk", "b", "not chosen", 0.641, detection=0.64),
        choice_row("topk", "c", "not feasible", 0.66, detection=0.9),
        choice_row("topk", "d", "not chosen", 0.639, detection=0.9),
    ]

    def placed():
        table = effects.imported(pd.DataFrame(metrics), pd.DataFrame(selection), NAMES)
        return table.set_index("score").loc["detection"]

    row = placed()
    assert (row["trial"], row["value"], row["topk"]) == ("b", 0.66, 0.64)
    # Above what the baseline reaches there is none.
    metrics[1]["r2"] = 0.72
    row = placed()
    assert row["trial"] is None and isnan(row["topk"]) and row["value"] == 0.66

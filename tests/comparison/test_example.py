"""docs/protocol.md computes a choice and its effects by hand: the code gives the same."""

import re

import pandas as pd
import pytest
from conftest import ROOT

from sae.bank.plan import Method
from sae.comparison.effects import OUT_OF_REACH, effects
from sae.comparison.methods import Methods
from sae.scoring import choice

CELL = {"dataset": "d", "backbone": "b", "k": 8}
NAMES = Methods(
    methods={
        "topk": Method(),
        "reg1": Method(against="topk"),
        "reg2": Method(against="topk"),
    }
)


@pytest.fixture(scope="module")
def tables():
    """Return the two tables of the section, cells as text."""
    page = (ROOT / "docs/protocol.md").read_text()
    section = page.split("### By hand\n")[1].split("\n### ")[0]
    tables = []
    for block in re.findall(r"(?:^\|.*\n)+", section, re.M):
        head, _, *lines = (
            [cell.strip() for cell in line.strip("|\n").split("|")]
            for line in block.splitlines()
        )
        tables.append(pd.DataFrame(lines, columns=head))
    return tables


def as_trials(table):
    numbers = table[["R²", "L0", "detection"]].astype(float)
    trials = table[["method", "trial"]].join(
        numbers.set_axis(["r2", "l0", "d"], axis=1)
    )
    trials = trials.rename(columns={"d": choice.DETECTION}).assign(status="ok", k=8)
    return trials.assign(feasible=choice.feasible(trials))


def choose_each(trials):
    """Return R*, and {method: what is chosen}."""
    best_r2 = choice.best_r2(trials[trials["method"] == "topk"])
    by_method = trials.groupby("method", sort=False)
    return best_r2, {name: choice.choose(of, best_r2) for name, of in by_method}


def test_the_trials_of_the_page_are_chosen_as_it_says(tables):
    table = tables[0]
    trials = as_trials(table)
    best_r2, chosen = choose_each(trials)

    remark = table.iloc[:, -1]
    is_best = remark.str.contains("its R² is R", regex=False)
    assert best_r2 == trials.loc[is_best, "r2"].item() == 0.7
    assert list(~trials["feasible"]) == list(remark == "not feasible")
    assert {
        (name, row["trial"]) for name, row in chosen.items() if row is not None
    } == set(
        table.loc[remark.str.startswith("**chosen**"), ["method", "trial"]].itertuples(
            index=False, name=None
        )
    )
    less = trials["feasible"] & (trials["r2"] < best_r2 - choice.MARGIN)
    assert list(less) == list(remark == "reconstructs less")


def test_the_effects_of_the_page_are_those_of_the_fresh_seeds(tables):
    best_r2, chosen = choose_each(as_trials(tables[0]))
    rows = [
        CELL
        | {"method": name, "protocol": "tuned", "bar": best_r2}
        | (
            {"role": "candidate", "status": "not chosen", "r2": 0.689}
            if row is None
            else {
                "trial": row["trial"],
                "role": "chosen",
                "status": "chosen",
                "r2": row["r2"],
                "seeds": "3 4 5",
                "fresh": True,
            }
        )
        for name, row in chosen.items()
    ]
    by_hand = tables[1].set_index(["method", "score"])
    metrics = pd.DataFrame(
        CELL
        | {"method": method, "trial": "b", "seed": seed, "split": "test"}
        | {"status": "ok"}
        | {
            score: float(by_hand.loc[(method, score), f"seed {seed}"])
            for score in ("detection", "r2")
        }
        for method in ("topk", "reg1")
        for seed in (3, 4, 5)
    )

    found = effects(metrics, pd.DataFrame(rows), NAMES).set_index(["method", "score"])
    out = found.loc["reg2"].iloc[0]
    assert (out["status"], out["reason"]) == (OUT_OF_REACH, "reconstructs less")
    assert out["shortfall"] == pytest.approx(0.001)
    for key, line in by_hand.iterrows():
        assert found.loc[key, "value"] == pytest.approx(float(line["mean"]))
        if line["effect"]:
            assert found.loc[key, "effect"] == pytest.approx(float(line["effect"]))

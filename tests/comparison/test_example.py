"""The example of docs/protocol.md: three methods of four trials, worked out by hand.

R* is .700, of a: it is the baseline's best feasible trial, as d fires too often. So
trials from .690 on reconstruct as well.

- Top-k: a and b do, and b has the higher detection.
- Reg. 1: a and b do, and b has the higher detection; c has more, but too low an R^2,
  and d diverged.
- Reg. 2: none does; its best lacks .002.

What is chosen trains again with seeds 3, 4 and 5, whose means on test are compared.
"""

from math import isnan, nan

import pandas as pd
import pytest
from bank.common import RECIPE, REG1, method, plan

from sae.comparison import effects
from sae.comparison.methods import Methods
from sae.protocols import tuned
from sae.protocols._history import History

K = 50  # L0 may be 51.
RATES = {"a": 0.001, "b": 0.002, "c": 0.004, "d": 0.008}
# On validation: R^2, L0, detection.
TRIALS = {
    ("topk", "a"): (0.700, 50.0, 0.600),
    ("topk", "b"): (0.695, 50.0, 0.620),
    ("topk", "c"): (0.680, 50.0, 0.660),
    ("topk", "d"): (0.710, 52.0, 0.610),
    ("reg1", "a"): (0.698, 50.0, 0.630),
    ("reg1", "b"): (0.692, 50.0, 0.650),
    ("reg1", "c"): (0.685, 50.0, 0.700),
    ("reg1", "d"): (nan, nan, nan),  # It diverged.
    ("reg2", "a"): (0.688, 50.0, 0.700),
    ("reg2", "b"): (0.680, 50.0, 0.720),
    ("reg2", "c"): (0.650, 50.0, 0.740),
    ("reg2", "d"): (0.600, 50.0, 0.750),
}
# Of what trained with fresh seeds, on test: R^2, detection, MS, one value a seed.
FRESH = {
    ("topk", "b"): ([0.690, 0.690, 0.690], [0.61, 0.62, 0.63], [0.50, 0.51, 0.52]),
    ("reg1", "b"): ([0.685, 0.688, 0.691], [0.64, 0.65, 0.66], [0.53, 0.54, 0.52]),
}
SWEEP = {"lr": [*RATES.values()]}
WEIGHT = {"lambda": 0.1}
METHODS = {
    "topk": method(sweep=SWEEP),
    "reg1": method(**REG1 | WEIGHT, sweep=SWEEP),
    "reg2": method(**REG1 | WEIGHT | {"penalty": "l1_l2_ratio"}, sweep=SWEEP),
}
CELL = {"dataset": "digits", "backbone": "tiny", "k": K}


def validation_rows(saes):
    """Return what validation says of SAEs; fresh seeds are as their trial is."""
    letters = {rate: letter for letter, rate in RATES.items()}
    rows = []
    for sae in saes:
        r2, l0, detection = TRIALS[sae.method, letters[sae.settings.lr]]
        row = {"method": sae.method, "trial": sae.name, "seed": sae.seed}
        status = "diverged" if isnan(r2) else "ok"
        rows.append(
            row | {"status": status, "r2": r2, "l0": l0, "detection": detection}
        )
    return pd.DataFrame(rows)


@pytest.fixture(scope="module")
def chosen():
    """Return selection.parquet of the cell, and {letter: name of the trial}."""
    cell = plan(METHODS, k=K, recipe=RECIPE | {"m": 64}, protocols={"tuned": {}})
    trained = {}
    table = pd.DataFrame(columns=["method", "trial", "seed", "status"])
    for _ in range(2):
        history = History(cell, tuned.Options(), trained, table)
        trained = {sae.path: sae for sae in tuned.next(history)}
        table = validation_rows(trained.values())
    rows = tuned.choose(History(cell, tuned.Options(), trained, table)).rows
    names = {letter: f"lr{rate:g}" for letter, rate in RATES.items()}
    return pd.DataFrame(rows).assign(**CELL, protocol="tuned"), names


def test_the_example_chooses_as_by_hand(chosen):
    selection, names = chosen
    letters = {name: letter for letter, name in names.items()}
    is_chosen = selection["role"] == "chosen"
    chosen_trials = selection[is_chosen].set_index("method")["trial"].map(letters)
    assert chosen_trials.to_dict() == {"topk": "b", "reg1": "b"}
    assert (selection["bar"] == 0.700).all()
    status = {
        (row.method, letters[row.trial]): row.status for row in selection.itertuples()
    }
    not_feasible = {key for key, it in status.items() if it == "not feasible"}
    assert not_feasible == {("topk", "d"), ("reg1", "d")}


def test_the_example_compares_as_by_hand(chosen):
    selection, names = chosen
    rows = []
    for (name, letter), (r2s, detections, ms) in FRESH.items():
        row = {**CELL, "method": name, "trial": names[letter], "split": "test"}
        row |= {"status": "ok", "protocol": "tuned"}
        # The seed of the tuning is never read.
        rows.append(
            row | {"seed": 0, "r2": 0.1, "detection": 0.9, "ms_mean_alive": 0.9}
        )
        for seed, *values in zip((3, 4, 5), r2s, detections, ms, strict=True):
            scores = dict(
                zip(("r2", "detection", "ms_mean_alive"), values, strict=True)
            )
            rows.append(row | {"seed": seed} | scores)
    names_of_methods = Methods(
        methods={"topk": {}, "reg1": {"against": "topk"}, "reg2": {"against": "topk"}}
    )
    table = effects.effects(pd.DataFrame(rows), selection, names_of_methods)
    by_score = table.set_index(["method", "score"])

    by_hand = {  # value, level, effect
        "detection": (0.65, 0.62, 0.03),
        "ms": (0.53, 0.51, 0.02),
        "r2": (0.688, 0.690, -0.002),
    }
    for score, expected in by_hand.items():
        row = by_score.loc[("reg1", score), ["value", "level", "effect"]]
        assert row.tolist() == pytest.approx(expected)
    # Every column is of the same three SAEs.
    assert set(table.loc[table["method"] == "reg1", "seeds"]) == {"3 4 5"}

    out = by_score.loc[("reg2", "detection")]
    assert (out["status"], out["reason"]) == ("out of reach", "reconstructs less")
    assert out["shortfall"] == pytest.approx(0.002) and isnan(out["effect"])

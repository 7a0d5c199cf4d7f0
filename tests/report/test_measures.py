"""The measures beside the paper's, on planted rows."""

import pandas as pd

from sae.report import measures
from sae.report.names import Names

METHODS = {"topk": {"label": "Baseline"}, "good": {"against": "topk"}, "never": {"against": "topk"}}
NAMES = Names({"methods": METHODS | {"control": {"control": True}}})


def row(backbone, seed, method, value, **more):
    known = {"dataset": "d", "k": 4, "undertrained": False, "fallback": False, "redundancy_null": 0.25}
    return known | {"backbone": backbone, "seed": seed, "method": method, "redundancy_mean": value} | more


def test_means_over_cells_after_chance_and_before_controls():
    rows = [row("b1", 3, "topk", 0.2), row("b1", 4, "topk", 0.4), row("b2", 3, "topk", 0.5)]
    # A tie has the baseline's numbers in its cell; a method with ties alone has no row.
    rows += [row("b1", 3, "good", 0.1), row("b2", 3, "good", 0.5, fallback=True)]
    rows += [row("b1", 3, "never", 0.2, fallback=True), row("b3", 3, "topk", 9.0, undertrained=True)]
    controls = [row("b1", 0, "control", 0.7), row("b2", 0, "control", 0.9), row("b3", 0, "control", 5.0)]
    untuned = pd.DataFrame([*controls, row("b1", 0, "topk", 0.6)])
    found = measures.table(pd.DataFrame(rows), untuned, NAMES).set_index("method")
    # The mean of .2 and .4 is the first cell's, and .5 the second's. The third is not trained long enough.
    assert found["redundancy"].to_dict() == {
        "Chance": "0.250",
        "Baseline": "0.400",
        "good": "0.300",
        "control": "0.800",
    }
    assert found.columns.tolist() == ["redundancy"]
    assert measures.table(pd.DataFrame(rows).drop(columns="redundancy_mean"), untuned, NAMES).empty

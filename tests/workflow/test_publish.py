"""The card of published SAEs.

tests/models/test_libraries.py runs its lines, test_imported.py the command.
"""

import string

import pandas as pd
from sae_workflow import publish
from sae_workflow.settings import Cell


def test_the_card_leaves_names_to_be_filled_in_and_no_other_brace():
    text = publish.CARD.read_text(encoding="utf-8")
    fields = {field for _, field, _, _ in string.Formatter().parse(text) if field}
    assert {"first", "tables", "sources"} <= fields
    assert all(field.isidentifier() for field in fields)


def test_a_mean_over_seeds_has_an_interval_and_one_seed_has_none():
    cell = Cell("digits", "tiny", 4)

    def sae(method, r2):
        scores = {"R2": r2, "L0": 4.0}
        return publish.PublishedSae("f", cell, method, "paper", "", scores)

    saes = [sae("topk", r2) for r2 in (0.1, 0.2, 0.3)]
    saes.append(sae("reg1", 0.5))
    (row,) = publish._table_of_means(saes).to_dict("records")
    # Student's t: .2 plus and minus 4.303 * .1 / sqrt(3).
    assert row["R2"] == "0.2 [-0.048, 0.448]" and row["L0"] == "4 [4, 4]"
    assert row["SAEs"] == "digits-tiny-k4-topk" and row["seeds"] == "3"
    assert "| 0.2 [-0.048, 0.448] |" in publish._table_as_text(pd.DataFrame([row]))

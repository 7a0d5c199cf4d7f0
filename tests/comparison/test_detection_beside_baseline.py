"""Detection reweighted to the baseline's frequencies, by hand."""

import numpy as np
import pandas as pd
import pytest

from sae.comparison import controls
from sae.comparison.methods import Methods

NAMES = Methods.model_validate({"methods": {"topk": {}, "reg": {"against": "topk"}}})
RUN = {"dataset": "d", "backbone": "b", "k": 8, "seed": 0}


def chosen_sae(method, latents):
    """Return the metrics of a method's chosen SAE of 10 latents, and its latents.

    Args:
        latents: (images of 1,000 on which it fires, its AUC or NaN) for each.
    """
    auc = [value for _, value in latents]
    sae = {
        **RUN,
        "method": method,
        "source": method,
        "trial": "default",
        "m": 10,
        "n_images": 1000,
        "detection_auc": np.nanmean(auc),
        "detection_auc_all": np.nan_to_num(
            [*auc, *[np.nan] * (10 - len(auc))], nan=0.5
        ).mean(),
        "detection_looks": 0.55,
        "detection_measured": np.isfinite(auc).sum() / 10,
    }
    table = pd.DataFrame(latents, columns=["n_active", "detection"])
    return sae, table.assign(**RUN, method=method, trial="default", split="test")


def detection_by_method(saes, latents):
    """Return the table of chosen SAEs in one cell, indexed by method."""
    table = controls.detection_by_cell(pd.DataFrame(saes), latents, NAMES)
    return table.set_index("method")


def test_reweighted_is_the_methods_own_means_at_the_baselines_frequencies():
    # Bands end at 1 %, 3 %, 10 % and 100 %. The baseline has two rare latents and two
    # frequent ones, the method three rare ones and one frequent.
    base, base_latents = chosen_sae(
        "topk", [(5, 0.8), (10, 0.9), (50, 0.6), (60, 0.7), (1, np.nan)]
    )
    reg, reg_latents = chosen_sae(
        "reg", [(5, 0.9), (6, 0.9), (7, 0.9), (50, 0.65), (200, 0.5)]
    )
    latents = pd.concat([base_latents, reg_latents])
    table = detection_by_method([base, reg], latents)
    assert table.loc["topk", "alive"] == pytest.approx(0.75)
    assert table.loc["topk", "reweighted"] == table.loc["topk", "alive"]
    # Half of .9 and half of .65; the latent that fires on a fifth of the images has no
    # counterpart.
    expected = (2 * 0.9 + 2 * 0.65) / 4
    assert table.loc["reg", "reweighted"] == pytest.approx(expected)
    assert table["measured"].tolist() == [0.4, 0.5]


def test_a_method_that_fell_back_has_the_numbers_of_the_baseline():
    base, latents = chosen_sae("topk", [(5, 0.8), (50, 0.6)])
    table = detection_by_method([base, base | {"method": "reg"}], latents)
    fell_back, baseline = table.loc[["reg", "topk"], controls.DETECTION_ABOUT].to_numpy(
        float
    )
    assert np.allclose(fell_back, baseline)


def test_a_run_in_which_nothing_was_measured_counts_as_a_share_of_0():
    base, latents = chosen_sae("topk", [(5, 0.8), (50, 0.6)])
    unmeasured = base | {
        "seed": 1,
        "detection_auc": np.nan,
        "detection_auc_all": 0.5,
        "detection_measured": 0,
    }
    table = detection_by_method([base, unmeasured], latents)
    assert table["measured"].tolist() == [0.1]


def test_a_cell_without_a_value_does_not_count():
    base, latents = chosen_sae("topk", [(5, 0.8), (50, 0.6)])
    table = controls.detection_by_cell(pd.DataFrame([base]), latents, NAMES)
    both_cells = pd.concat([table, table.assign(k=16, reweighted=np.nan)])
    cells = controls.detection_beside_baseline(both_cells, NAMES).set_index("about")[
        "cells"
    ]
    of_others = {"alive": 2, "reweighted": 1, "measured": 2, "whole": 2}
    assert cells.to_dict() == {**of_others, "looks": 2}
    # Embeddings alone have no looks, of which nothing is said then.
    del base["detection_looks"]
    without = controls.detection_by_cell(pd.DataFrame([base]), latents, NAMES)
    assert set(controls.detection_beside_baseline(without, NAMES)["about"]) == {
        *of_others
    }


def test_without_judges_the_table_is_empty():
    base, latents = chosen_sae("topk", [(5, 0.8)])
    not_judged = latents.drop(columns="detection")
    assert controls.detection_by_cell(pd.DataFrame([base]), not_judged, NAMES).empty

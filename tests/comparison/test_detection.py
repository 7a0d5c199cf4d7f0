"""Detection reweighted to the baseline's frequencies, by hand."""

import numpy as np
import pandas as pd
import pytest

from sae.comparison import detection
from sae.comparison.methods import Methods

NAMES = Methods.model_validate({"methods": {"topk": {}, "reg": {"against": "topk"}}})
CELL = {"dataset": "d", "backbone": "b", "k": 8, "seed": 0}


def rows(method, auc, **more):
    """The chosen SAE of a method, and its latents: (images it fires on of 1,000, AUC or NaN)."""
    sae = (
        CELL
        | {
            "method": method,
            "source": method,
            "trial": "default",
            "m": 10,
            "n_images": 1000,
        }
        | more
    )
    latents = [
        CELL | {"method": method, "trial": "default", "split": "test", "n_active": n}
        for n, _ in auc
    ]
    of = [a for _, a in auc]
    sae |= {
        "detection_alive": np.nanmean(of),
        "detection": np.nansum([2 * a - 1 for a in of]) / 10,
    }
    sae["detection_measured"] = np.isfinite(of).sum() / 10
    return sae, pd.DataFrame(latents).assign(detection=of)


def test_reweighted_is_the_methods_own_means_at_the_baselines_frequencies():
    # Bands of up to 1 %, 3 %, 10 %, all. The baseline: two rare latents, two frequent. The method: three rare, one.
    base, of_base = rows(
        "topk", [(5, 0.8), (10, 0.9), (50, 0.6), (60, 0.7), (1, np.nan)]
    )
    own, of_own = rows("reg", [(5, 0.9), (6, 0.9), (7, 0.9), (50, 0.65), (200, 0.5)])
    table = detection.by_cell(
        pd.DataFrame([base, own]), pd.concat([of_base, of_own]), NAMES
    ).set_index("method")
    assert (
        table.loc["topk", "alive"]
        == table.loc["topk", "reweighted"]
        == pytest.approx(0.75)
    )
    # Half of .9 and half of .65; the latent that fires on a fifth of the images has no counterpart.
    assert table.loc["reg", "reweighted"] == pytest.approx((2 * 0.9 + 2 * 0.65) / 4)
    assert table["measured"].tolist() == [0.4, 0.5]


def test_a_method_that_fell_back_has_the_numbers_of_the_other_one():
    base, of_base = rows("topk", [(5, 0.8), (50, 0.6)])
    fallen = base | {"method": "reg"}
    table = detection.by_cell(pd.DataFrame([base, fallen]), of_base, NAMES).set_index(
        "method"
    )
    ours, theirs = table.loc[["reg", "topk"], detection.ABOUT].to_numpy(float)
    assert np.allclose(ours, theirs)


def test_a_run_in_which_nothing_was_measured_counts_as_none_measured_and_what_is_missing_as_no_cell():
    base, of_base = rows("topk", [(5, 0.8), (50, 0.6)])
    nothing = base | {
        "seed": 1,
        "detection_alive": np.nan,
        "detection": 0,
        "detection_measured": 0,
    }
    table = detection.by_cell(pd.DataFrame([base, nothing]), of_base, NAMES)
    assert table["measured"].tolist() == [0.1]
    both = pd.concat([table, table.assign(k=16, reweighted=np.nan)])
    cells = detection.differences(both, NAMES).set_index("about")["cells"]
    assert cells.to_dict() == {"alive": 2, "reweighted": 1, "measured": 2, "whole": 2}


def test_without_judges_there_is_nothing():
    base, latents = rows("topk", [(5, 0.8)])
    assert detection.by_cell(
        pd.DataFrame([base]), latents.drop(columns="detection"), NAMES
    ).empty

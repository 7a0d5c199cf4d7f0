"""Controls beside the baseline, on metrics made up so that the answer is known."""

import numpy as np
import pandas as pd
import yaml
from conftest import ROOT

from sae.comparison import controls
from sae.config.rule import ClaimRule
from sae.report import controls as of_controls
from sae.report import tables
from sae.report.names import Names
from sae.scoring.selection import chosen_rows

NAMES = Names(
    methods={
        "topk": {},
        "reg1": {"against": "topk"},
        "pca": {"control": True},
        "raw": {"control": True},
    },
    datasets={"emoji": "Emoji"},
)
RULE = ClaimRule(
    **yaml.safe_load((ROOT / "config.yaml").read_text())["claims"]
).model_copy(update={"resamples": 500})
# A score's level differs more between backbones than between methods: what counts is
# the difference within a cell.
LEVEL = {"a": 0.2, "b": 0.5, "c": 0.8}
ADDED = {"topk": 0.0, "reg1": 0.1, "pca": -0.05, "raw": 0.0}


def metrics():
    rng = np.random.default_rng(0)
    rows = []
    for dataset in ("emoji", "shirts"):
        for backbone, level in LEVEL.items():
            for method, added in ADDED.items():
                for seed in (0, 1):
                    ms = level + added + rng.normal(scale=0.005)
                    # On shirts the principal axes have as much as the baseline.
                    if method == "pca" and dataset == "shirts":
                        ms += 0.06
                    row = {
                        "dataset": dataset,
                        "backbone": backbone,
                        "k": 8,
                        "method": method,
                        "seed": seed,
                        "trial": "default",
                        "split": "test",
                        "status": "ok",
                        "ms_mean_alive": ms,
                        "r2": np.nan,
                        "selected": True,
                        "selection": "chosen",
                        "steps": 120,
                        "images_per_latent": 10.26,
                    }
                    rows.append(row)
    return pd.DataFrame(rows)


def test_a_score_that_a_control_has_as_high_tells_nothing():
    beside = controls.compare(
        chosen_rows(metrics(), "test", NAMES.compared),
        NAMES,
        tables.SCORES_OF_CONTROLS,
        RULE,
    )
    assert set(beside["score"]) == {"ms"}  # The others were not measured.
    flags = beside.set_index(["dataset", "control"])["tells_nothing"].unstack()
    of_pca = {"emoji": False, "shirts": True, "all datasets": True}
    assert flags["pca"].to_dict() == of_pca
    assert flags["raw"].all()
    means = beside.set_index(["dataset", "control"])["difference"]
    assert np.isclose(
        means["all datasets", "pca"],
        (means["emoji", "pca"] + means["shirts", "pca"]) / 2,
    )
    row = beside.iloc[0]
    assert abs(row["difference"] + 0.05) < 0.01
    assert row["low"] <= row["difference"] <= row["high"] < 0
    assert abs(row["baseline"] - 0.5) < 0.01
    assert np.isclose(row["value"] - row["baseline"], row["difference"])
    text = of_controls.as_text(beside, NAMES)
    assert text["data"].tolist() == ["Emoji", "shirts", "all datasets"]
    assert text["raw"].str.endswith(" ?").all()
    assert text["pca"].str.endswith(" ?").tolist() == [False, True, True]


def test_with_few_blocks_there_is_no_interval_and_no_flag():
    picked = chosen_rows(metrics(), "test", NAMES.compared).query("dataset == 'emoji'")
    beside = controls.compare(
        picked[picked["backbone"] != "a"], NAMES, tables.SCORES_OF_CONTROLS, RULE
    )
    assert beside["low"].isna().all() and not beside["tells_nothing"].any()
    text = of_controls.as_text(beside, NAMES)
    assert text["raw"].str.fullmatch(r"[+-]0.0\d\d").all()


def test_over_all_datasets_near_duplicates_do_not_count():
    table = metrics()
    table["ms_mean_alive_across_groups"] = table["ms_mean_alive"].where(
        table["dataset"] == "emoji"
    )
    table.loc[
        (table["dataset"] == "emoji") & (table["method"] == "pca"),
        "ms_mean_alive_across_groups",
    ] -= 0.1
    beside = controls.compare(
        chosen_rows(table, "test", NAMES.compared),
        NAMES,
        tables.SCORES_OF_CONTROLS,
        RULE,
    )
    of_pca = beside[beside["control"] == "pca"].set_index(["dataset", "score"])
    differences = of_pca["difference"]
    assert ("all datasets", "ms_across") not in differences.index
    of_datasets = [differences["emoji", "ms_across"], differences["shirts", "ms"]]
    assert np.isclose(differences["all datasets", "ms"], np.mean(of_datasets))

"""Protocol `tuned` through the real workflow, on a tiny experiment."""

import pandas as pd
import pytest

from sae.core import files

pytestmark = [pytest.mark.workflow, pytest.mark.slow]
CELL = "digits/tiny/k4"


def test_an_experiment_is_tuned_and_chosen_by_both_protocols(make_checkout):
    checkout = make_checkout()
    checkout.experiment["methods"] = ["topk", "reg1", "reg1_all", "untrained"]
    checkout.config["backbones"]["second"] = checkout.config["backbones"]["tiny"]
    checkout.experiment["judges"] = ["second"]
    checkout.experiment.setdefault("metrics", {})["stability_alive"] = {}
    del checkout.experiment["sweep"]["reg2"]
    tuned = {
        "points": 3,
        "ranges": {"reg1": {"lambda": {"k4": [0.0001, 0.01]}}},
        "fresh": [3, 4],
    }
    checkout.experiment["protocols"] = {"paper": {}, "tuned": tuned}
    checkout.config["compute"]["saes_at_once"] = 2
    checkout.write()
    checkout.snakemake("tiny", "--cores", "2")

    folder = checkout.folder / "results/tiny"
    bank = files.read_json(folder / f"saes/{CELL}/bank.json")
    assert {e["protocol"] for e in bank["saes"]} == {"paper", "tuned"}
    metrics = pd.read_parquet(folder / "metrics.parquet")
    rows = metrics[metrics["protocol"] == "tuned"]
    trials = rows[(rows["seed"] == 0) & (rows["split"] == "val")]
    assert trials.groupby("method").size().to_dict() == {"reg1": 3, "topk": 3}
    # The learning rates and scales of the points are the same for every method.
    points = [
        set(map(tuple, of_method[["lr", "encoder_scale", "auxk_alpha"]].to_numpy()))
        for _, of_method in trials.groupby("method")
    ]
    assert points[0] == points[1]

    selection = pd.read_parquet(folder / "selection.parquet")
    selection = selection[selection["protocol"] == "tuned"].set_index(
        ["method", "trial"]
    )
    # Both backbones are of one family, so that no detection chooses.
    best = selection.groupby("method")["r2"].idxmax()
    assert (selection.loc[best, "r2"] >= selection.loc[best, "bar"] - 0.01).all()
    chosen = selection[selection["role"] == "chosen"]
    assert set(chosen.index) == set(best) and set(chosen["seeds"]) == {"3 4"}

    fresh = rows[(rows["seed"] > 0) & (rows["split"] == "test")]
    assert set(fresh["seed"]) == {3, 4}
    assert set(fresh.set_index(["method", "trial"]).index) == set(best)
    assert fresh[["probe_auc", "r2"]].notna().all(axis=None)

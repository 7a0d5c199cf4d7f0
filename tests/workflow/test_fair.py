"""Protocol `fair` through the real workflow, on a tiny experiment."""

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
    fair = {
        "most_steps": {"digits": 40},
        "ranges": {"reg1": {"lambda": {"k4": [0.0001, 0.01]}}},
        "fresh": [3, 4],
        "l0": 2.0,
        "firing": 0.1,
        "points": 3,
        "refined": 1,
        "values": 2,
    }
    checkout.experiment["protocols"] = {"paper": {}, "fair": fair}
    checkout.config["compute"]["saes_at_once"] = 2
    checkout.config["protocols"]["fair"]["steps"]["first"] = 10
    checkout.write()
    checkout.snakemake("tiny", "--cores", "2")
    folder = checkout.folder / "results/tiny"
    bank = files.read_json(folder / f"saes/{CELL}/bank.json")
    steps = bank["facts"]["fair"]["steps"]
    assert steps in (10, 20, 40)
    assert {e["protocol"] for e in bank["saes"]} == {"paper", "fair"}
    metrics = pd.read_parquet(folder / "metrics.parquet")
    selection = pd.read_parquet(folder / "selection.parquet")
    fair_rows = metrics[(metrics["protocol"] == "fair") & (metrics["split"] == "test")]
    tuning_rows = fair_rows[
        (fair_rows["seed"] == 0)
        & (fair_rows["steps"] == steps)
        & fair_rows["swept"].str.contains("auxk_alpha")
    ]
    # Three points, two refined.
    trial_counts = tuning_rows.groupby("method")["trial"].nunique()
    assert trial_counts.to_dict() == {"reg1": 5, "topk": 5}
    assert not fair_rows["selected"].any() and set(fair_rows["seed"]) == {0, 3, 4}
    # The learning rates and scales of the common points are the same for every method.
    common = {
        name: set(map(tuple, rows[["lr", "encoder_scale"]].to_numpy()))
        for name, rows in tuning_rows.groupby("method")
    }
    assert len(common["topk"] & common["reg1"]) == 3
    judged = fair_rows[fair_rows["seed"] >= 3]
    # The ablation is trained at the heaviest vertex.
    assert set(judged["method"]) == {"topk", "reg1", "reg1_all"}
    assert judged["probe_auc"].notna().all() and judged["r2"].notna().all()
    # Rows of both protocols are alone their own: what the paper's rule selects has not
    # changed.
    selected = metrics[metrics["selected"]]
    assert set(selected["protocol"]) == {"paper"} and set(selected["seed"]) == {0}
    assert set(selection["protocol"]) == {"paper", "fair"}
    of_fair = selection[selection["protocol"] == "fair"]
    assert of_fair["seed"].isna().all()
    weights = of_fair.groupby(["method", "width"])["weight"].sum()
    assert weights.to_numpy() == pytest.approx(1)
    # A measure that reads the other seeds.
    assert judged["stability_alive"].between(-1, 1).all()
    assert checkout.planned() == {}
    # Another fresh seed trains what is judged with it, and nothing again.
    before = {f.name for f in (checkout.folder / "results/store/saes").iterdir()}
    checkout.experiment["protocols"]["fair"]["fresh"] = [3, 4, 5]
    checkout.write()
    checkout.snakemake(f"results/tiny/saes/{CELL}/bank.json", "--cores", "2")
    bank = files.read_json(folder / f"saes/{CELL}/bank.json")
    new = {f.name for f in (checkout.folder / "results/store/saes").iterdir()} - before
    assert new == {e["key"] for e in bank["saes"] if e["seed"] == 5}

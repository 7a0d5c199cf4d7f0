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
    checkout.experiment["metrics"] = checkout.experiment.get("metrics", {}) | {
        "stability_alive": {}
    }
    del checkout.experiment["sweep"]["reg2"]
    ranges = {"reg1": {"lambda": {"k4": [0.0001, 0.01]}}}
    fair = {
        "most_steps": {"digits": 40},
        "ranges": ranges,
        "fresh": [3, 4],
        "l0": 2.0,
        "firing": 0.1,
    }
    checkout.experiment["protocols"] = {
        "paper": {},
        "fair": fair | {"points": 3, "refined": 1, "values": 2},
    }
    checkout.config["compute"]["saes_at_once"] = 2
    checkout.config["protocols"]["fair"]["steps"]["first"] = 10
    checkout.write()
    checkout.snakemake("tiny", "--cores", "2")
    results = checkout.folder / "results/tiny"
    bank = files.read_json(results / f"saes/{CELL}/bank.json")
    steps = bank["facts"]["fair"]["steps"]
    assert steps in (10, 20, 40) and {e["protocol"] for e in bank["saes"]} == {
        "paper",
        "fair",
    }
    metrics, selection = (
        pd.read_parquet(results / f"{name}.parquet")
        for name in ("metrics", "selection")
    )
    fair = metrics[(metrics["protocol"] == "fair") & (metrics["split"] == "test")]
    tried = fair[
        (fair["seed"] == 0)
        & (fair["steps"] == steps)
        & fair["trial"].str.contains("auxk_alpha")
    ]
    assert tried.groupby("method")["trial"].nunique().to_dict() == {
        "reg1": 5,
        "topk": 5,
    }  # Three points, two refined.
    assert not fair["selected"].any() and set(fair["seed"]) == {0, 3, 4}
    # The learning rates and scales of the common points are the same for every method.
    common = {
        name: set(map(tuple, rows[["lr", "encoder_scale"]].to_numpy()))
        for name, rows in tried.groupby("method")
    }
    assert len(common["topk"] & common["reg1"]) == 3
    judged = fair[fair["seed"] >= 3]
    assert set(judged["method"]) == {
        "topk",
        "reg1",
        "reg1_all",
    }  # The ablation at the heaviest vertex.
    assert judged["probe_auc"].notna().all() and judged["r2"].notna().all()
    # Rows of both protocols are alone their own: what the paper's rule selects has not
    # changed.
    assert set(metrics[metrics["selected"]]["protocol"]) == {"paper"} and set(
        metrics[metrics["selected"]]["seed"]
    ) == {0}
    of_fair = selection[selection["protocol"] == "fair"]
    assert (
        set(selection["protocol"]) == {"paper", "fair"} and of_fair["seed"].isna().all()
    )
    assert of_fair.groupby(["method", "width"])[
        "weight"
    ].sum().to_numpy() == pytest.approx(1)
    # A measure that reads the other seeds.
    assert judged["stability_alive"].between(-1, 1).all()
    assert checkout.planned() == {}
    # Another fresh seed trains what is judged with it, and nothing again.
    before = {f.name for f in (checkout.folder / "results/store/saes").iterdir()}
    checkout.experiment["protocols"]["fair"]["fresh"] = [3, 4, 5]
    checkout.write()
    checkout.snakemake(f"results/tiny/saes/{CELL}/bank.json", "--cores", "2")
    bank = files.read_json(results / f"saes/{CELL}/bank.json")
    new = {f.name for f in (checkout.folder / "results/store/saes").iterdir()} - before
    assert new == {e["key"] for e in bank["saes"] if e["seed"] == 5}

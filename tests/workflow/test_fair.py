"""Protocol `fair` through the real workflow, on a tiny experiment."""

import pandas as pd
import pytest

from sae.core import files

pytestmark = [pytest.mark.workflow, pytest.mark.slow]
CELL = "digits/tiny/k4"


def test_an_experiment_is_tuned_and_judged_by_both_protocols(make_checkout):
    checkout = make_checkout()
    checkout.experiment["methods"] = ["topk", "reg1", "reg1_all", "untrained"]
    checkout.config["backbones"]["second"] = checkout.config["backbones"]["tiny"]
    checkout.experiment["judges"] = ["second"]
    checkout.experiment["metrics"] = checkout.experiment.get("metrics", {}) | {"stability_alive": {}}
    del checkout.experiment["sweep"]["reg2"]
    ranges = {"reg1": {"lambda": {"k4": [0.0001, 0.01]}}}
    checkout.experiment["fair"] = {"trials": 3, "most_steps": {"digits": 40}, "ranges": ranges}
    checkout.config["compute"]["saes_per_job"] = 4
    rule = checkout.config["fair"]
    rule["steps"]["first"] = 10
    rule |= {"tolerances": [0.5, 0.6], "near": 0.5}  # So few steps tell nothing: let there be candidates.
    checkout.write()
    checkout.snakemake("tiny", "--cores", "2")
    results = checkout.folder / "results/tiny"
    banks = {name: files.read_json(results / f"saes/{CELL}/{name}.json") for name in ("bank_lengths", "bank")}
    lengths = pd.DataFrame(banks["bank_lengths"]["lengths"])
    steps = banks["bank"]["steps"]
    assert steps == lengths["steps"].max() and set(lengths["steps"]) <= {10, 20, 40}
    # Parts trained the shortlist; the bank's own job found all of it.
    logs = results / "logs/train_shortlist/digits/tiny"
    assert " start " not in (logs / "k4.log").read_text() and " start " in (logs / "k4/0-of-5.log").read_text()
    metrics, selection = (pd.read_parquet(results / f"{name}.parquet") for name in ("metrics", "selection"))
    fair = metrics[(metrics["protocol"] == "fair") & (metrics["split"] == "test")]
    assert fair[fair["seed"] == 0].groupby("method")["trial"].nunique().to_dict() == {"reg1": 3, "topk": 3}
    assert set(fair["steps"]) == {steps} and not fair["selected"].any() and set(fair["seed"]) == {0, 1, 2, 3, 4, 5}
    # The learning rates and scales are the same for every method.
    points = (
        fair[fair["seed"] == 0].groupby("method")[["lr", "encoder_scale"]].apply(lambda p: sorted(map(tuple, p.values)))
    )
    assert points["topk"] == points["reg1"]
    judged = fair[fair["seed"] >= 3]
    assert set(judged["method"]) == {"topk", "reg1", "reg1_all"}  # The ablation at the headline's candidate.
    assert judged[judged["method"] != "reg1_all"]["probe_auc"].notna().all() and judged["r2"].notna().all()
    # Rows of both protocols are alone their own: what the paper's rule selects has not changed.
    assert set(metrics[metrics["selected"]]["protocol"]) == {"paper"} and set(metrics[metrics["selected"]]["seed"]) == {
        0
    }
    assert set(selection["protocol"]) == {"paper", "fair"}
    table = pd.read_csv(results / "tables/fair.csv")
    assert set(table["method"]) == {"topk", "reg1"} and len(table) == 4
    assert "fair_verdict" in pd.read_csv(results / "claims.csv")
    page = (results / "report/index.html").read_text()
    assert "equal tuning:" in page  # Verdicts are counted under both protocols.
    assert "The same reconstruction after the same tuning" in page and "Fronts" in page
    # A measure that reads the other seeds; the one cell is undertrained, so the table of measures has no rows.
    assert judged["stability_alive"].between(-1, 1).all() and pd.read_csv(results / "tables/measures.csv").empty
    assert checkout.planned() == {}
    # A method of one's own joins the leaderboard, through a configuration of its own.
    other = {"methods": ["topk", "reg2"], "sweep": {"reg2": {"lambda": [0.001]}}}
    joins = {"join": "results/tiny/tables/leaderboard.json", "ranges": {"reg2": ranges["reg1"]}}
    checkout.config["experiments"]["mine"] = checkout.experiment | other
    checkout.config["experiments"]["mine"]["fair"] = checkout.experiment["fair"] | joins
    checkout.write()
    checkout.snakemake("mine", "--cores", "2")
    board = pd.read_csv(checkout.folder / "results/mine/tables/leaderboard.csv")
    if len(board):  # So few steps may leave the cell undertrained.
        assert board.groupby("method")["stored"].all().to_dict()["reg1"] and not board["stored"].all()
    assert "Joined: results/tiny/tables" in (checkout.folder / "results/mine/tables/leaderboard.md").read_text()
    # A run of the same methods on another backbone counts the first run's cell; one of another method in the same cell
    # counts its methods, since the baseline has the same scores.
    counted = checkout.experiment["fair"] | {"cells": ["results/tiny/tables/leaderboard.json"]}
    elsewhere = {"backbones": ["second"], "judges": ["tiny"], "fair": counted}
    checkout.config["experiments"] |= {
        "more": checkout.experiment | elsewhere,
        "united": checkout.experiment | other | {"fair": counted | {"ranges": {"reg2": ranges["reg1"]}}},
    }
    checkout.write()
    checkout.snakemake("more", "--cores", "2")
    grown = files.read_json(checkout.folder / "results/more/tables/leaderboard.json")
    assert set(grown["stars"]) == {"digits/tiny/4 topk", "digits/second/4 topk"}
    assert (
        "Cells of other runs: digits/tiny/4 from"
        in (checkout.folder / "results/more/tables/leaderboard.md").read_text()
    )
    # What a run makes anew itself is looked at when it is made.
    checkout.snakemake("more", "--cores", "2", "--forcerun", "compare", "--until", "compare")
    checkout.snakemake("united", "--cores", "2")
    united = files.read_json(checkout.folder / "results/united/tables/leaderboard.json")
    assert {"topk", "reg1", "reg2"} <= set(united["definitions"]) and {"topk", "reg1", "reg2"} == set(
        united["tuned"]["method"]
    )
    # Another fresh seed trains candidates, and nothing before them.
    rule["seeds"]["fresh"] = [3, 4, 5, 6]
    checkout.write()
    again = checkout.planned()
    assert not {"lengths", "train", "train_shortlist", "shortlist"} & again.keys() and again["train_chosen"] == 1

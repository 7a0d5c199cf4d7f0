"""What stands for a method in a cell, what the answer says, and where to start.

Also how distributions count.
"""

import re

import numpy as np
import pandas as pd
from report.site import sample

from sae.bank.read import Bank
from sae.bank.sae import Sae
from sae.core import registry
from sae.report.names import MARKERS, Names
from sae.report.site import cells, overview, start
from sae.report.site.answer import answer
from sae.report.site.images import classes
from sae.training.recipe import Settings

NAMES = Names(
    methods={
        "topk": {"label": "Baseline"},
        "reg1": {"against": "topk", "label": "Reg. 1"},
        "reg2": {"against": "topk", "label": "Reg. 2"},
        "reg1_all": {"against": "topk", "at": "reg1"},
        "raw": {"control": True},
    },
    datasets={"d": "Data"},
    backbones={"b": "Back"},
)


def entry(method, protocol, trial, seed, chosen=True):
    settings = Settings.model_construct()
    names = ("d", "b", 4, method, {"lr": trial}, seed)
    return Sae(*names, protocol, settings, status="ok", chosen=chosen)


def test_what_stands_for_a_method():
    saes = [
        entry(method, "paper", 1, seed)
        for seed in (0, 1)
        for method in ("topk", "raw", "reg1_all")
    ]
    saes += [entry("reg1", "paper", 1, 0, chosen=False), entry("reg1", "paper", 1, 1)]
    saes += [
        entry(m, "fair", lr, seed)
        for seed in (3, 4)
        for m in ("topk", "reg1")
        for lr in (7, 8)
    ]
    bank = Bank("bank.json", "d", "b", 4, 1.0, "", saes, {})
    row = {"score": "ms", "width": 0.01}
    weights = [
        ("topk", "lr7", 0.4),
        ("topk", "lr8", 0.6),
        ("reg1", "lr7", 0.7),
        ("reg1", "lr8", 0.3),
    ]
    selection = pd.DataFrame(
        [
            {**row, "method": method, "trial": trial, "weight": weight}
            for method, trial, weight in weights
        ]
    )
    of_wide = selection.assign(width=0.02, weight=1 - selection["weight"])
    of_paper = pd.DataFrame({"method": ["topk"], "trial": ["lr1"]})
    selections = pd.concat([of_paper, selection, of_wide])
    chosen = cells.chosen_saes(bank, NAMES, selections)
    # The paper's rule chose no trial of Reg. 1 with its first seed: the heaviest vertex
    # stands there.
    key = {method: (e.protocol, e.name, e.seed) for method, e in chosen.items()}
    assert key == {
        "topk": ("paper", "lr1", 0),
        "reg1": ("fair", "lr7", 3),
        "raw": ("paper", "lr1", 0),
    }
    assert list(cells.chosen_saes(bank, NAMES, of_paper)) == ["topk", "raw"]


def test_distributions_share_bins_and_count_what_has_no_score():
    tables = {
        0: pd.DataFrame(
            {
                "ms": [0.5, 0.9, np.nan],
                "detection": [0.7, np.nan, np.nan],
                "top_class": "a",
            }
        )
    }
    tables[3] = tables[0].assign(ms=[0.1, 0.2, 0.3], detection=np.nan)
    distributions = cells.distributions(tables)
    by_method_and_score = {(row["method"], row["score"]): row for row in distributions}
    assert by_method_and_score.keys() == {(0, "ms"), (3, "ms"), (0, "detection")}
    ms, ms_of_method_3, detection = by_method_and_score.values()
    assert (ms["edges"] == ms_of_method_3["edges"]).all()
    assert ms["edges"][0] == 0 and ms["edges"][-1] == 0.9
    assert (ms["alive"].sum(), ms["all"].sum(), ms["all"][0]) == (2, 3, 1)
    assert ms_of_method_3["all"].sum() == 3
    assert detection["edges"][0] == 0.5 and detection["all"][0] == 2


def mean_row(**columns):
    """Return a row of the means over cells, but for the columns that are given."""
    row = {
        "method": "reg1",
        "score": "detection_auc",
        "width": 0.01,
        "effect": 0.0123,
        "low": -0.01,
        "high": 0.03,
        "outcome": "inconclusive",
        "reason": None,
        "unit": "dataset and family",
        "datasets": 2,
        "blocks": 4,
        "infeasible": 1,
        "out_of_reach": 0,
        "cells": 2,
        "r2_difference": -0.002,
    }
    return {**row, **columns}


def test_the_answer_names_gains_scale_and_every_price():
    table = pd.DataFrame(
        [
            mean_row(),
            mean_row(score="ms", effect=-0.02, low=-0.03, high=-0.01, outcome="worse"),
            mean_row(
                score="measured", effect=-0.08, low=-0.12, high=-0.04, outcome=None
            ),
            mean_row(score="dead_train", effect=-5.0, low=-9.0, high=0.5, outcome=None),
            mean_row(score="probe_auc", effect=-0.5, low=-0.6, high=-0.4, outcome=None),
            mean_row(method="reg2", effect=0.02, low=0.01, outcome="better"),
            mean_row(width=0.02, effect=9.0),
            mean_row(method="reg2", score="purity", effect=9.0, outcome=None),
        ]
    )
    of_raw = [("detection_auc", 0.7, -0.1), ("detection_looks", 0.6, -0.05)]
    controls = pd.DataFrame(of_raw, columns=["score", "baseline", "difference"])
    controls = controls.assign(control="raw")
    none = pd.DataFrame(columns=["method", "score", "value", "baseline", "cells"])
    claims = pd.DataFrame(
        {"ours": [False, False, True], "verdict": ["holds", "not shown", "holds"]}
    )
    assert answer(table, controls, none, claims, NAMES, []) == [
        "On these datasets, Reg. 2 beside Baseline at the same R²: detection is better "
        "(+0.020).",
        "Reg. 1 beside Baseline at the same R²: detection is inconclusive (+0.012; "
        "could be a loss of .01 to a gain of .03); MS is worse (-0.020).",
        "For scale, controls in detection, each at its own R²: raw -0.100.",
        "Judged by 8 x 8 pixels of each image instead of a backbone, the baseline's "
        "detection is 0.600 (0.700 with a backbone, .5 by chance): that much takes no "
        "network to see.",
        # Not dead latents, whose interval holds 0, and not probes, which have no front
        # of their own.
        "What it costs: Reg. 2 loses in no score (no interval lies below 0), and its "
        "R² differs by -0.002; Reg. 1 loses in MS (-0.020 [-0.030, -0.010]) and in "
        "latents measured (-0.080 [-0.120, -0.040]), and its R² differs by -0.002. "
        "In 1 of 3 cells there is no comparison.",
    ]
    why = "Top-k has no feasible trial."
    nothing, of_paper, reason = answer(table[:0], controls, none, claims, NAMES, [why])
    assert reason == why
    assert "nothing compares at the same R²" in nothing
    assert "claims" in of_paper and "hold" not in of_paper
    assert len(answer(table[:0], controls, none, claims[:0], NAMES, [])) == 1
    # An SAE that was made elsewhere, alone.
    scores = [("r2", 0.7, 0.8), ("detection_auc", 0.65, 0.7), ("measured", 0.5, 0.9)]
    theirs = pd.DataFrame(
        [("reg1", score, value, baseline, 3) for score, value, baseline in scores],
        columns=none.columns,
    )
    assert answer(table[:0], controls, theirs, claims, NAMES, []) == [
        "Reg. 1, made elsewhere, not tuned here (and Baseline): R² 0.700 (0.800), "
        "detection 0.650 (0.700)."
    ]


def test_what_is_not_comparable_says_why_and_has_no_effect_at_the_same_r2():
    out_of_reach = {"outcome": "not comparable", "reason": "out of reach"}
    too_few = {"outcome": "not comparable", "reason": "too few blocks", "blocks": 1}
    none = pd.DataFrame(columns=["method", "score", "value", "baseline", "cells"])
    controls = pd.DataFrame(columns=["control", "score", "baseline", "difference"])
    about_none = (controls, none, none, NAMES, [])
    table = pd.DataFrame(
        [
            mean_row(
                **too_few, low=np.nan, high=np.nan, cells=1, infeasible=0, datasets=1
            ),
            mean_row(
                method="reg2",
                effect=0.5,
                out_of_reach=2,
                infeasible=0,
                datasets=1,
                **out_of_reach,
            ),
        ]
    )
    assert answer(table, *about_none) == [
        "On this dataset, Reg. 1 beside Baseline at the same R²: detection is not "
        "comparable (1 block, too few; mean of 1 cell: +0.012).",
        "Reg. 2 beside Baseline at the same R²: detection is not comparable (out of "
        "reach in 2 of 4 cells).",
        "What it costs: Reg. 1 has too few blocks to say in which scores it loses, and "
        "its R² differs by -0.002.",
    ]
    places = overview.Places([], NAMES.methods)
    leaderboard = overview.leaderboard_rows(
        table.reindex(
            columns=[*overview.LEADERBOARD_COLUMNS, "method", "reason", "blocks"]
        ),
        controls,
        places,
    )
    assert [row["says"] for row in leaderboard] == [
        "not comparable: 1 block, too few",
        "not comparable: out of reach in 2 of 4 cells",
    ]
    assert leaderboard[0]["effect"] == 0.0123 and np.isnan(leaderboard[1]["effect"])
    nowhere = table[1:].assign(effect=np.nan, cells=0)
    sentence = answer(nowhere, *about_none)[0]
    assert sentence.startswith("No method here reaches the R²")


def test_where_to_start_follows_the_rules():
    base = pd.DataFrame(
        {
            "n_active": [50, 50, 3, 9],
            "ms": [0.5, 0.6, 0.9, np.nan],
            "detection": [0.9, 0.6, 0.99, 0.96],
        }
    )
    of_reg1 = base.assign(
        ms=[0.8, 0.7, 0.95, 0.1], n_active=[20, 30, 40, 50], purity=[0.9, 0.2, 0.5, 1.0]
    )
    highest = np.arange(40).reshape(4, 10)
    highest[3, 4:] = -1
    baseline = start.latent_rows(0, "topk", base, highest)
    cosines = np.array([0.9, 0.6, 0.9, 0.9])
    reg1 = start.latent_rows(
        0, "reg1", of_reg1, np.where(highest < 0, -1, highest + 100)
    )
    reg1 = start.beside_baseline(reg1, baseline, np.arange(4), cosines)
    effects = [
        {"cell": 0, "method": 1, "score": "ms", "effect": value}
        for value in (0.1, np.nan)
    ]
    cells = [("d </script>", "b", 8)]
    views = start.views([baseline, reg1], NAMES, effects, cells)
    cell = "d%20%3C%2Fscript%3E/b/8"
    assert {view.title: view.href for view in views} == {
        "Where Reg. 1 helps most": f"#/compare/{cell}?a=topk&b=reg1",
        # The others have no match that fires often.
        "Largest gain with Reg. 1": f"#/latent/{cell}/reg1/0?with=topk",
        "Rare, but well detected": f"#/latent/{cell}/topk/2",
        "High MS, but poorly detected": f"#/latent/{cell}/reg1/1",
        "Highest MS": f"#/latent/{cell}/reg1/2",
        # The one across classes is reg1/1 as well.
    }
    # The images of the latent, then those of its match.
    gained = next(view for view in views if view.title == "Largest gain with Reg. 1")
    assert gained.strips == [
        start.Strip("Reg. 1", 0, list(range(100, 110))),
        start.Strip("Baseline", 0, list(range(10))),
    ]
    assert start.views([], NAMES, [], []) == []


def test_names_come_first_one_each_and_no_two_views_show_one_latent():
    table = pd.DataFrame(
        {
            "n_active": 20,
            "ms": [0.1, 0.2, 0.3, 0.9, 0.5, 0.6, 0.7],
            "name": ["hand", "clock", "clock", "heart", "face", None, "key"],
            "name_precision": [0.6, 0.9, 0.8, 0.9, 0.7, np.nan, 1.0],
            # A name that promises something on two images is not shown.
            "named_images": [9, 5, 9, 8, 9, 0, 2],
        }
    )
    cell = ("images", "b", 8)  # As a dataset is called whose vectors are a .npy file.
    highest = np.arange(70).reshape(7, 10)
    # Three of the first five images of `face` are those of `clock`.
    highest[4, :3] = highest[1, :3]
    sae = start.latent_rows(0, "topk", table, highest)
    views = start.views([sae], NAMES, [], [cell])
    assert [(view.title, view.href, view.named) for view in views] == [
        ("heart", "#/latent/images/b/8/topk/3", True),
        ("clock", "#/latent/images/b/8/topk/1", True),
        ("hand", "#/latent/images/b/8/topk/0", True),
        # The latent of highest MS is `heart`: it has its card.
    ]
    assert views[0].rule == "Precision 0.90 on 8 test images."

    of_other_data = start.latent_rows(1, "topk", table, highest)
    views = start.views([sae, of_other_data], NAMES, [], [cell, ("e", "b", 8)])
    assert [view.title for view in views] == ["heart", "clock", "hand"]


def test_the_first_panel_is_an_ordinary_one():
    effects = [
        {"cell": cell, "method": 1, "score": "ms", "effect": effect}
        for cell, effect in enumerate((0.3, np.nan, -0.1, 0.2, 0.1))
    ]
    panel = start.first_panel(NAMES, effects)
    assert (panel["cell"], panel["score"]) == (4, "ms")
    assert "Of 4 cells" in panel["rule"]
    assert start.first_panel(NAMES, []) is None


def test_classes_are_those_of_the_split_by_number():
    index = pd.DataFrame(
        {
            "label": pd.array([7, 2, None, 7], "Int64"),
            "label_name": ["b", None, None, "b"],
        }
    )
    names, places = classes(index)
    assert names == ["2", "b"] and places.tolist() == [1, 0, -1, 1]


def test_a_method_has_a_colour_in_hex_and_a_marker_that_the_site_draws():
    methods = {
        str(position): {"colour": "red", "position": position}
        for position in range(len(MARKERS))
    }
    rows = overview.methods(Names(methods=methods, datasets={}, backbones={}))
    assert {row["colour"] for row in rows} == {"#ff0000"}
    charts = (sample.SITE / "assets/20-charts.js").read_text()
    shapes = charts.partition("SHAPES = {")[2].partition("};")[0]
    drawn = re.findall(r'^  "?([^" ]+?)"?: "M', shapes, re.MULTILINE)
    assert {row["marker"] for row in rows} == set(MARKERS) == set(drawn)


def test_a_method_without_a_chosen_trial_has_the_one_of_highest_validation_r2():
    saes = [
        entry("topk", "paper", 1, 0),
        *(entry("reg1", "paper", lr, 0, chosen=False) for lr in (1, 2, 3)),
        entry("raw", "paper", 1, 0, chosen=False),  # A control has no trials.
    ]
    bank = Bank("bank.json", "d", "b", 4, 1.0, "", saes, {})
    r2 = {
        ("reg1", "lr1"): 0.6,
        ("reg1", "lr2"): 0.7,
        ("reg1", "lr3"): np.nan,
        ("topk", "lr1"): 0.9,
        ("raw", "lr1"): 0.9,
    }
    metrics = pd.DataFrame(
        [
            {"method": m, "trial": t, "seed": 0, "split": split, "r2": value + shift}
            for (m, t), value in r2.items()
            for split, shift in (("val", 0), ("test", -value))
        ]
    )
    chosen = {"topk": saes[0]}
    best = cells.best_reconstructing(bank, NAMES, metrics, chosen)
    assert {method: e.name for method, e in best.items()} == {"reg1": "lr2"}


def test_a_metric_of_one_s_own_stands_on_the_site(tmp_path):
    (tmp_path / "metrics").mkdir()
    text = (
        '"""How sharp latents are. The rest."""\n\ndef score(subject):\n    return {}\n'
    )
    (tmp_path / "metrics/sharpness.py").write_text(text)
    try:
        registry.extend(tmp_path)
        columns = {"r2": "reconstruction", "sharp_mean": "sharpness"}
        extension_metrics = overview.extension_metrics(columns)
    finally:
        registry.extend(None)
    assert extension_metrics == {"sharp_mean": "How sharp latents are"}
    scores = overview.scores(extension_metrics)
    (row,) = [row for row in scores if row["id"] == "sharp_mean"]
    assert row["what"] == "How sharp latents are" and not row["endpoint"]
    latents = pd.DataFrame(
        {
            "dataset": ["d"],
            "k": [4],
            "latent": [0],
            "ms": [0.1],
            "n_active": [3],
            "sharp": [1.0],
        }
    )
    (score,) = overview.extension_latent_scores(latents, extension_metrics)
    assert score == {"id": "sharp", "label": "sharp", "what": "How sharp latents are"}

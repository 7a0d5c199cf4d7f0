"""What stands for a method in a cell, what the answer says, and where to start.

Also how distributions count.
"""

import re

import numpy as np
import pandas as pd
import pytest
from report.site import sample

from sae.bank.read import Bank
from sae.bank.sae import Sae
from sae.comparison import verdicts
from sae.comparison.effects import COLUMNS
from sae.comparison.intervals import IntervalRule
from sae.core import registry
from sae.report.names import MARKERS, Names
from sae.report.site import cells, overview, start
from sae.report.site.answer import answer
from sae.report.site.images import classes
from sae.scoring.rows import CELL
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


def bank_of(saes):
    return Bank("bank.json", "d", "b", 4, 1.0, "", saes, {})


def selection_row(method, trial, status, seeds="3 4", **columns):
    is_chosen = status in ("chosen", "fresh seed failed")
    return {
        **dict(zip(CELL, ("d", "b", 4), strict=True)),
        "protocol": "tuned",
        "method": method,
        "trial": trial,
        "role": "chosen" if is_chosen else "candidate",
        "status": status,
        "seeds": seeds if is_chosen else None,
        "bar": 0.7,
        **columns,
    }


def test_what_stands_for_a_method():
    saes = [
        entry(method, "paper", 1, seed)
        for seed in (0, 1)
        for method in ("topk", "raw", "reg1_all", "reg2")
    ]
    saes += [
        entry("reg1", "paper", 1, 0, chosen=False),
        entry("reg1", "paper", 2, 3),  # Both protocols ask for it.
        entry("reg1", "tuned", 2, 4),
        *(entry("topk", "tuned", 7, seed) for seed in (3, 4)),
        *(entry("reg2", "tuned", 7, seed) for seed in (3, 4)),
    ]
    selection = pd.DataFrame(
        [
            {"protocol": "paper", "method": "topk", "trial": "lr1", "status": "chosen"},
            selection_row("topk", "lr7", "chosen"),
            selection_row("reg1", "lr1", "not chosen"),
            selection_row("reg1", "lr2", "chosen"),
            selection_row("reg2", "lr7", "fresh seed failed"),
        ]
    )
    chosen = cells.chosen_saes(bank_of(saes), NAMES, selection)
    key = {method: (e.protocol, e.name, e.seed) for method, e in chosen.items()}
    assert key == {
        "topk": ("tuned", "lr7", 3),
        "reg1": ("paper", "lr2", 3),
        # `tuned` has none: what the paper's rule chose, with its first seed.
        "reg2": ("paper", "lr1", 0),
        "raw": ("paper", "lr1", 0),
    }
    # Without protocol `paper` controls have the fresh seeds.
    of_tuned = [entry("raw", "tuned", 1, seed) for seed in (3, 4)]
    (raw,) = cells.chosen_saes(bank_of(of_tuned), NAMES, selection[:0]).values()
    assert raw.seed == 3


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


# One method, two families and three scores: what is written by hand below.
EFFECTS = {
    # (method, score): its effect with family x, with family y
    ("reg1", "detection"): (0.02, 0.004),
    ("reg1", "detection_per_latent"): (0.03, 0.01),
    ("reg1", "detection_per_activation"): (0.01, -0.002),
    ("reg1", "coverage"): (-0.1, -0.02),
    ("reg1", "r2"): (0.001, -0.0012),
    ("reg2", "detection"): (-0.004, 0.002),
    ("raw", "detection"): (-0.12, -0.08),
    ("raw", "r2"): (-0.3, -0.1),
}


def effect_table(effects=EFFECTS, datasets=("d",)):
    """Return comparison_cells: in each dataset a cell of x and one of y.

    The baseline has .7 of all. From dataset to dataset effects grow by a thousandth.
    """
    rows = []
    for (method, score), by_family in effects.items():
        for number, dataset in enumerate(datasets):
            for backbone, effect in zip(("x1", "y1"), by_family, strict=True):
                row = {
                    **dict(zip(CELL, (dataset, backbone, 4), strict=True)),
                    "method": method,
                    "baseline": "topk",
                    "control": method == "raw",
                    "status": "ok",
                    "trial": "lr1",
                    "seeds": "3 4 5",
                    "fresh": True,
                    "score": score,
                    "level": 0.7,
                    "effect": effect + number / 1000,
                }
                rows.append({**row, "value": row["level"] + row["effect"]})
    baseline = {**rows[0], "method": "topk", "value": 0.7, "effect": np.nan}
    table = pd.DataFrame([baseline, *rows], columns=COLUMNS)
    return table.astype({"reason": object, "shortfall": float})


RULE = IntervalRule()
FAMILIES = {"x1": "x", "y1": "y"}
NO_IMPORTED = pd.DataFrame(columns=[*CELL, "method", "score", "value", "topk", "trial"])
NO_EFFECTS = pd.DataFrame(columns=COLUMNS)
NO_CLAIMS = pd.DataFrame(columns=["ours", "verdict"])


def answer_of(table, imported=NO_IMPORTED, claims=NO_CLAIMS):
    means = verdicts.means(table, FAMILIES, RULE)
    return answer(means, table, imported, claims, NAMES, RULE)


def test_the_answer_says_effects_by_family_and_view_and_their_cost():
    assert answer_of(effect_table()) == [
        "Reg. 1 changes detection by +0.012 over Baseline (2 cells, no interval). "
        "By family of backbones: x +0.020, y +0.004. "
        "By view: per latent +0.020, per activation +0.004. "
        "Cost: coverage -0.060, R² 0.000.",
        "Reg. 2 changes detection by -0.001 over Baseline (2 cells, no interval). "
        "By family of backbones: x -0.004, y +0.002.",
        "For scale: raw, at its own R², differs from Baseline by -0.100 in detection.",
        "Verdicts need 6 datasets.",
    ]
    # Of six datasets the mean is .0025 higher, and surely not 0.
    paragraphs = answer_of(effect_table(datasets="abcdef"))
    first = "Reg. 1 raises detection by 0.015 over Baseline (95 % interval +0.013 to "
    assert paragraphs[0].startswith(first + "+0.016). The verdict is better.")
    assert "Reg. 2 changes" in paragraphs[1] or "Reg. 2 raises" in paragraphs[1]


def test_the_answer_says_what_is_out_of_reach_or_made_elsewhere():
    table = effect_table()
    of_reg2 = table["method"] == "reg2"
    table.loc[of_reg2, ["value", "effect"]] = np.nan
    reasons = ["out of reach", "reconstructs less", 0.0123]
    table.loc[of_reg2, ["status", "reason", "shortfall"]] = reasons
    paragraphs = answer_of(table)
    assert paragraphs[-1] == (
        "Reg. 2 is out of reach in 2 of 2 cells: reconstructs less, by 0.012 of R² at "
        "most."
    )
    assert len(paragraphs) == 4

    claims = pd.DataFrame({"ours": [False], "verdict": ["holds"]})
    nothing, of_paper = answer_of(table[:0], claims=claims)
    assert nothing.startswith("Nothing to compare") and "claims" in of_paper
    # An SAE that was made elsewhere, alone.
    scores = [("r2", 0.7, 0.8), ("detection", 0.65, np.nan), ("coverage", 0.5, 0.9)]
    theirs = pd.DataFrame(
        [("reg1", *score) for score in scores],
        columns=["method", "score", "value", "topk"],
    )
    assert answer_of(table[:0], imported=theirs) == [
        "Reg. 1, made elsewhere (in brackets the best Baseline that reconstructs as "
        "well): R² 0.700 (0.800), detection 0.650 (-)."
    ]


def test_a_row_of_the_comparison_has_all_scores_of_one_set_of_saes():
    places = overview.Places([], ["topk", "reg1", "reg2", "raw"])
    table = effect_table()
    # What is out of reach says so; else there is no verdict with one dataset.
    of_reg2 = table["method"] == "reg2"
    table.loc[of_reg2, ["value", "effect"]] = np.nan
    table.loc[of_reg2, "status"] = "out of reach"
    means = verdicts.means(table, FAMILIES, RULE)
    rows = overview.comparison_rows(means, places)
    keys = [(row["method"], row["family"], row.get("control")) for row in rows]
    by_family = [(1, False), (2, False), (3, True)]
    assert keys == [
        *((0, family, None) for family in ("x", "y", "mean")),
        *((n, f, control) for n, control in by_family for f in ("x", "y", "mean")),
    ]
    of_topk, of_reg1, of_reg2 = rows[2], rows[5], rows[8]
    assert set(of_topk["values"].values()) == {0.7} and len(of_topk["values"]) == 5
    expected = {score: sum(EFFECTS["reg1", score]) / 2 for score in of_topk["values"]}
    assert of_reg1["effects"] == pytest.approx(expected)
    assert (of_reg1["low"], of_reg1["verdicts"]) == ({}, {})
    assert of_reg1["up"]["detection"] == of_reg1["cells"] == 2
    assert (of_reg2["effects"], of_reg2["out_of_reach"]) == ({}, 2)
    assert of_reg2["verdicts"] == {"detection": "out of reach in 2 of 2 cells"}

    # One family and its mean are the same.
    of_one = verdicts.means(table, {"x1": "x", "y1": "x"}, RULE)
    assert {row["family"] for row in overview.comparison_rows(of_one, places)} == {
        "mean"
    }


def test_rows_of_a_cell_have_all_scores_of_one_set_of_saes():
    places = overview.Places([("d", "x1", 4), ("d", "y1", 4)], NAMES.methods)
    rows = overview.rows_by_cell(effect_table(), places)
    of_reg1 = [row for row in rows if row["method"] == places.methods["reg1"]]
    assert [row["cell"] for row in of_reg1] == [0, 1]
    assert of_reg1[0]["effects"]["coverage"] == -0.1
    assert of_reg1[0]["values"]["coverage"] == pytest.approx(0.6)
    assert (of_reg1[0]["trial"], of_reg1[0]["seeds"]) == ("lr1", "3 4 5")


def test_trials_say_which_are_feasible_and_which_was_chosen():
    saes = [("lr1", 0), ("lr2", 0), ("lr2", 3), ("lr3", 0), ("lr1", 1)]
    metrics = pd.DataFrame(
        [
            {
                **dict(zip(CELL, ("d", "b", 4), strict=True)),
                **{"method": "reg1", "trial": trial, "seed": seed, "split": "val"},
                **{"status": "ok", "r2": 0.5, "selected": trial == "lr1"},
            }
            for trial, seed in saes
        ]
    )
    selection = pd.DataFrame(
        [
            selection_row("reg1", "lr1", "not chosen"),
            selection_row("reg1", "lr2", "chosen"),
            selection_row("reg1", "lr3", "not feasible"),
        ]
    )
    places = overview.Places([("d", "b", 4)], NAMES.methods)
    columns = overview.trials(metrics, selection, 0, places)
    assert columns["role"] == [
        *("paper's choice", "chosen", "fresh seed", "trial", "paper's choice")
    ]
    assert columns["feasible"] == [True, True, None, False, None]
    assert overview.reconstructs_as_well(selection, "reg1") == pytest.approx(0.69)

    of_paper = overview.trials(metrics, selection[:0], None, places)
    assert of_paper["role"] == ["chosen", "trial", "trial", "trial", "chosen"]
    assert overview.reconstructs_as_well(selection, "topk") is None


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
    cells = [("d </script>", "b", 8)]
    effects = pd.DataFrame(cells, columns=CELL).assign(
        method="reg1", score="ms", effect=0.1
    )
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
    assert start.views([], NAMES, NO_EFFECTS, []) == []


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
    views = start.views([sae], NAMES, NO_EFFECTS, [cell])
    assert [(view.title, view.href, view.named) for view in views] == [
        ("heart", "#/latent/images/b/8/topk/3", True),
        ("clock", "#/latent/images/b/8/topk/1", True),
        ("hand", "#/latent/images/b/8/topk/0", True),
        # The latent of highest MS is `heart`: it has its card.
    ]
    assert views[0].rule == "Precision 0.90 on 8 test images."

    of_other_data = start.latent_rows(1, "topk", table, highest)
    views = start.views([sae, of_other_data], NAMES, NO_EFFECTS, [cell, ("e", "b", 8)])
    assert [view.title for view in views] == ["heart", "clock", "hand"]

    # An SAE that was made elsewhere comes first, though its names are less precise.
    theirs = start.latent_rows(
        0, "theirs", table.assign(name_precision=0.55), highest + 100
    )
    with_theirs = Names(methods={**NAMES.methods, "theirs": {"imported": True}})
    views = start.views([sae, theirs], with_theirs, NO_EFFECTS, [cell])
    assert views[0].href == "#/latent/images/b/8/theirs/0"


def test_views_open_on_an_ordinary_cell_in_which_every_method_is():
    by_cell = [0.3, np.nan, -0.1, 0.2, 0.11, 0.12]
    cells = [(dataset, "b", 4) for dataset in "uvwxyz"]
    effects = pd.DataFrame(cells, columns=CELL).assign(
        method="reg1", score="detection", effect=by_cell
    )
    # The median is .12; there one method has no chosen SAE.
    counts = [3, 3, 3, 3, 3, 2]
    first = start.first_cell(counts, effects, NAMES, cells)
    assert first["cell"] == 4
    assert "(5 of 6)" in first["rule"] and "(+0.120)" in first["rule"]
    # Without effects it is the first one that has most.
    first = start.first_cell([1, 2, 2, 0, 0, 0], effects[:0], NAMES, cells)
    assert first["cell"] == 1
    first = start.first_cell([0, 2, 0, 0, 0, 0], effects, NAMES, cells)
    assert first["cell"] == 1


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
    best = cells.best_reconstructing(bank_of(saes), NAMES, metrics, chosen)
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
            "copy_of": [1.0],  # No score: which latent counts in its place.
            "sharp": [1.0],
        }
    )
    (score,) = overview.extension_latent_scores(latents, extension_metrics)
    assert score == {"id": "sharp", "label": "sharp", "what": "How sharp latents are"}

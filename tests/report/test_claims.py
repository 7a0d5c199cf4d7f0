"""Verdicts on planted effects, the interval against all resamples, the published effects against the specification."""

import itertools

import numpy as np
import pandas as pd
import pytest
import yaml
from conftest import ROOT

from sae.comparison import bootstrap, claims, published
from sae.comparison.claims import VERDICTS
from sae.comparison.scores import across_groups
from sae.config.rule import Rule
from sae.core import files
from sae.report import claims as page
from sae.report.names import Names
from sae.report.tables import Settings

RULE = Rule(**yaml.safe_load((ROOT / "config.yaml").read_text())["claims"])
FEW = RULE.model_copy(update={"resamples": 100})
PAPER = ROOT / "workflow/resources/paper"
PUBLISHED = published.read(PAPER)
CELLS = list(itertools.product(["d1", "d2"], ["b1", "b2", "b3"], [4, 8, 16]))
BASE = {
    "r2": 0.7,
    "ms_mean": 0.4,
    "ms_mean_alive": 0.5,
    "dead": 10.0,
    "purity_binary": 0.5,
    "purity_binary_null": 0.2,
}
BASE |= {"probe_auc": 0.5, "probe_top1": 0.7, "ms_mean_alive_independent": 0.3}


RUNS = ["dataset", "backbone", "k", "seed"]
METHODS = {
    "topk": {"label": "Baseline"},
    "reg1": {"label": "Reg. 1", "against": "topk"},
    "reg2": {"label": "Reg. 2", "against": "topk"},
    "reg1_all": {"against": "topk", "at": "reg1"},
    "reg2_all": {"against": "topk", "at": "reg2"},
}
NAMES = Names(methods=METHODS)


def results(
    effect=None,
    ablation=None,
    rise=None,
    seeds=(0, 1, 2),
    noise=0.0,
    fallback=(),
    below=1.0,
    methods=METHODS,
):
    """Metrics and curves of a grid with planted effects on the other methods, the `at` ones, NMSE(4k)/NMSE(k)."""
    rng = np.random.default_rng(0)
    rows, points = [], []
    for cell, seed in itertools.product(CELLS, seeds):
        key = dict(zip(RUNS, (*cell, seed), strict=True))
        shared = (
            rng.normal(size=len(BASE)) * 0.05
        )  # by all methods of a cell: pairing must remove it
        for method, about in methods.items():
            lost = cell in fallback and "against" in about
            if lost and "at" in about:
                continue  # Nothing was chosen, so there is nothing to ablate.
            added = ((effect or {}) if "against" in about else {}) | (
                (ablation or {}) if "at" in about else {}
            )
            values = {
                name: value + shift
                for (name, value), shift in zip(BASE.items(), shared, strict=True)
            }
            values = {
                name: v + added.get(name, 0) + rng.normal() * noise
                for name, v in values.items()
            }
            of = key | {
                "method": method,
                "trial": "lambda0.01" if "against" in about else "default",
                "split": "test",
            }
            rows.append(
                of
                | {"protocol": "paper", "status": "ok"}
                | values
                | {"selected": not lost, "selection": "fallback" if lost else "chosen"}
            )
            up, k = (rise or {}).get(method, 1.0), cell[2]
            low = below if method == "reg2" else 1.0
            curve = {
                k // 4: 0.6 * low,
                k // 2: 0.5 * low,
                k: 0.3,
                2 * k: 0.3,
                4 * k: 0.3 * up,
            }
            points += [
                of | {"curve": "robustness", "x": x, "y": y} for x, y in curve.items()
            ]
    return pd.DataFrame(rows), pd.DataFrame(points)


def judged(metrics, points, names=NAMES):
    rule = RULE.model_copy(update={"resamples": 1000})  # Enough for effects as planted.
    evidence = claims.Evidence(across_groups(metrics), points, PUBLISHED, rule, names)
    return {
        claim.name: claims.judge(claim, evidence) for claim in claims.claims(evidence)
    }


def test_a_claim_counts_what_diverged():
    metrics, points = results()
    lost = metrics[(metrics["method"] == "reg1") & (metrics["k"] == metrics["k"].min())]
    lost = lost.assign(
        trial="lambda9", status="diverged", selected=False, selection="not_selected"
    )
    found, every = (
        judged(pd.concat([metrics, lost]), points),
        (metrics["method"] == "reg1").sum() + len(lost),
    )
    assert found["reg1_raises_ms"]["note"].startswith(
        f"Reg. 1: {len(lost)} of {every} SAEs diverged; "
    )
    assert "diverged" not in found["reg2_raises_ms"]["note"]


def verdicts(**planted):
    return judged(*results(**planted))


def test_planted_effects_get_their_verdicts():
    effect = {
        "ms_mean": 0.02,
        "ms_mean_alive": 0.03,
        "purity_binary": 0.02,
        "dead": 5,
        "r2": -0.001,
        "probe_auc": 0.05,
    }
    ablation = {"dead": 40, "ms_mean_alive": -0.05, "ms_mean": -0.06}
    effect["ms_mean_alive_independent"] = 0.01
    rise = {"topk": 1.4, "reg2": 1.02}
    rows = verdicts(
        effect=effect, ablation=ablation, rise=rise, noise=0.0005, below=0.9
    )
    by = {
        verdict: {n for n, row in rows.items() if row["verdict"] == verdict}
        for verdict in VERDICTS
    }
    assert not by["not tested"] and not by["holds in part"]
    assert by["not shown"] == {"reg1_ms_above_reg2", "reg1_fewer_dead"}
    row = rows["reg1_raises_ms"]
    assert (
        row["measured"] == pytest.approx(0.03, abs=0.001)
        and row["ci_low"] < row["measured"] < row["ci_high"]
    )
    assert (row["cells_for"], row["cells_against"]) == (18, 0)
    assert rows["reg2_error_below_k"]["measured"] == pytest.approx(np.log(0.9))
    assert rows["baseline_rises_above_k"]["measured"] == pytest.approx(1.4)
    assert rows["reg1_raises_independent_ms"]["measured"] == pytest.approx(
        0.01, abs=0.001
    )
    assert rows["mask_prevents_dead_reg1"]["measured"] == pytest.approx(
        40 - 5, abs=0.01
    )


def test_a_planted_null_holds_nothing_but_no_loss():
    rows = verdicts(noise=0.003)
    positive = {
        name
        for name, row in rows.items()
        if row["verdict"] in ("holds", "holds in part")
    }
    assert positive == {"reg1_keeps_r2", "reg2_keeps_r2", "reg2_keeps_probe_top1"}
    assert (
        rows["reg2_flat_above_k"]["verdict"] == "not tested"
    )  # the baseline rises nowhere


def test_a_loss_beyond_the_margin_is_a_loss():
    rows = verdicts(effect={"r2": -0.006, "probe_top1": -0.02})
    assert {
        rows[n]["verdict"]
        for n in ("reg1_keeps_r2", "reg2_keeps_r2", "reg2_keeps_probe_top1")
    } == {"not shown"}


def test_a_sign_that_turns_when_dead_latents_count_as_0_holds_in_part():
    row = verdicts(effect={"ms_mean_alive": 0.03, "ms_mean": -0.01})["reg1_raises_ms"]
    assert row["verdict"] == "holds in part" and "dead as 0: -0.010" in row["note"]


def test_a_fallback_is_a_tie_and_stays_in_the_mean():
    effect = {"ms_mean_alive": 0.03, "ms_mean": 0.03, "r2": -0.001, "dead": 5}
    rise = {"topk": 1.4, "reg2": 1.0}
    rows = verdicts(effect=effect, ablation={"dead": 40}, rise=rise, fallback=CELLS[:3])
    for name, mean in {
        "reg1_raises_ms": 0.03 * 15 / 18,
        "reg1_keeps_r2": -0.001 * 15 / 18,
        "mask_prevents_dead_reg1": (40 - 5) * 15 / 18,
        "reg2_flat_above_k": (1.0 * 15 + 1.4 * 3)
        / 18,  # the baseline's curve stands for a method that fell back
    }.items():
        assert (rows[name]["cells_for"], rows[name]["cells_against"]) == (15, 0), name
        assert rows[name]["measured"] == pytest.approx(mean), name
    assert (
        rows["reg1_ms_above_reg2"]["cells_for"]
        == rows["reg1_ms_above_reg2"]["cells_against"]
        == 0
    )


def test_one_seed_that_fell_back_leaves_its_cell_a_vote():
    metrics, points = results(effect={"ms_mean_alive": 0.03, "ms_mean": 0.03})
    cell = (
        (metrics["dataset"] == "d1")
        & (metrics["backbone"] == "b1")
        & (metrics["k"] == 4)
        & (metrics["seed"] == 0)
    )
    metrics.loc[cell & (metrics["method"] == "reg1"), ["selected", "selection"]] = [
        False,
        "fallback",
    ]
    row = judged(metrics, points)["reg1_raises_ms"]
    assert row["cells_for"] == 18 and row["measured"] == pytest.approx(
        0.03 * (17 + 2 / 3) / 18
    )


def test_too_few_blocks_are_measured_and_not_judged():
    metrics, points = results(effect={"ms_mean_alive": 0.03, "ms_mean": 0.03})
    row = judged(metrics[metrics["backbone"] == "b1"], points)["reg1_raises_ms"]
    assert (
        row["verdict"] == "not tested" and "ci_low" not in row and row["cells_for"] == 6
    )
    assert row["measured"] == pytest.approx(0.03)


def test_a_dictionary_too_small_for_4k_leaves_that_claim_untested():
    metrics, points = results()
    rows = judged(metrics, points[points["x"] <= 2 * points["k"]])
    assert (
        rows["baseline_rises_above_k"]["verdict"]
        == rows["reg2_flat_above_k"]["verdict"]
        == "not tested"
    )


def test_the_mask_is_not_tested_where_no_sae_went_without_it():
    there = {name: METHODS[name] for name in ("topk", "reg1", "reg2")}
    metrics, points = results(
        effect={"ms_mean_alive": 0.03}, methods=there, fallback=CELLS[:12]
    )
    rows = judged(metrics, points, Names(methods=there))
    assert {row["verdict"] for name, row in rows.items() if "mask" in name} == {
        "not tested"
    }


@pytest.mark.parametrize("methods", [["topk"], ["topk", "reg1"], ["reg2", "reg2_all"]])
def test_claims_about_methods_that_are_not_there_are_not_tested(methods):
    there = {name: METHODS[name] for name in methods}
    metrics, points = results(
        effect={"ms_mean_alive": 0.03, "ms_mean": 0.03}, methods=there
    )
    for curves in (points, points[:0]):
        rows = judged(metrics, curves, Names(methods=there))
        tested = {name for name, row in rows.items() if row["verdict"] != "not tested"}
        known = {
            "reg1": {"reg1_raises_ms", "reg1_keeps_r2"},
            "topk": {"baseline_rises_above_k"},
        }
        assert not any("reg1" in name for name in tested) or "reg1" in methods
        assert not any(
            "reg2" in name
            for name in tested - {"mask_prevents_dead_reg2", "mask_raises_ms_reg2"}
        )
        assert ("baseline_rises_above_k" in tested) == (
            "topk" in methods and len(curves) > 0
        )
        assert known["reg1"] <= tested or "reg1" not in methods


def test_other_methods_get_two_claims_of_ours_against_what_they_are_compared_with(
    tmp_path,
):
    methods = METHODS | {"mine": {"label": "Mine | $x$", "against": "reg1"}}
    metrics, points = results(
        effect={"ms_mean_alive": 0.03, "ms_mean": 0.03}, methods=methods
    )
    metrics.loc[metrics["method"] == "mine", "ms_mean_alive"] += 0.01
    files.write_parquet(tmp_path / "metrics.parquet", metrics)
    files.write_parquet(tmp_path / "curves.parquet", points)
    written = (tmp_path / "metrics.parquet", tmp_path / "curves.parquet")
    page.write(*written, PAPER, Settings(claims=FEW, methods=methods), tmp_path)
    table = pd.read_csv(tmp_path / "claims.csv").set_index("claim")
    ours = [
        "reg1_raises_independent_ms",
        "reg2_raises_independent_ms",
        "mine_raises_ms",
        "mine_keeps_r2",
    ]
    assert table["ours"].dtype == bool and table.index[table["ours"]].tolist() == ours
    assert table.loc["mine_raises_ms", "measured"] == pytest.approx(0.01)
    assert table.loc["mine_raises_ms", "statement"] == "Mine | $x$ raises mean MS"
    text = (tmp_path / "claims.md").read_text()
    assert (
        r"Mine \| \$x\$ raises mean MS" in text
        and text.count("ours, not the paper's") == 4
    )


def test_cells_must_agree():
    values = pd.Series(
        0.001, pd.MultiIndex.from_tuples([(*c, 0) for c in CELLS], names=RUNS)
    )
    values[values.index.get_level_values("k") == 4] = 1.0
    values[values.index.get_level_values("k") != 4] = -0.001
    claim = claims.Claim("x", "x", values, "-")
    row = claims.judge(
        claim, claims.Evidence(*results(seeds=(0,)), PUBLISHED, RULE, NAMES)
    )
    assert row["ci_low"] > 0 and (row["cells_for"], row["cells_against"]) == (6, 12)
    assert (
        row["verdict"] == "holds in part"
        and row["note"] == "interval across blocks only"
    )


def test_the_interval_is_that_of_all_resamples():
    index = pd.MultiIndex.from_product(
        [["d"], ["b1", "b2", "b3", "b4"], [4, 8], [0]], names=RUNS
    )
    values = pd.Series([0.1, 0.3, -0.2, 0.1, 0.5, 0.4, 0.0, 0.2], index)
    blocks = values.groupby("backbone").mean().to_numpy()
    means = [
        blocks[list(drawn)].mean() for drawn in itertools.product(range(4), repeat=4)
    ]
    expected = np.quantile(means, [0.025, 0.975])
    rule = RULE.model_copy(update={"resamples": 200_000})
    np.testing.assert_allclose(bootstrap.interval(values, rule), expected, atol=0.004)


def test_seeds_are_drawn_inside_blocks():
    # All blocks alike: what varies is the seeds alone. Mean of 3 seeds x 3 blocks, each drawn from {0, 0, 3}.
    index = pd.MultiIndex.from_product(
        [["d"], ["b1", "b2", "b3"], [4], [0, 1, 2]], names=RUNS
    )
    values = pd.Series([0.0, 0.0, 3.0] * 3, index)
    low, high = bootstrap.interval(values, RULE)
    counts = np.random.default_rng(1).binomial(9, 1 / 3, 200_000) / 3
    assert (low, high) == pytest.approx(
        tuple(np.quantile(counts, [0.025, 0.975])), abs=1e-9
    )
    assert bootstrap.interval(values, RULE) == (low, high)


def test_published_effects_are_those_of_the_specification():
    tables = PUBLISHED
    assert published.effect(tables, "reg1", "ms_mean") == "+0.043 (up 18, down 0 of 18)"
    assert published.effect(tables, "reg1", "r2").startswith("+0.001")
    assert published.effect(tables, "reg2", "ms_mean").startswith("+0.021")
    assert published.effect(tables, "reg2", "r2").startswith("+0.008")
    assert published.effect(tables, "reg1", "ms_mean", other="reg2").endswith(
        "(up 18, down 0 of 18)"
    )
    assert published.effect(tables, "reg2", "probe_auc").endswith("(up 9, down 0 of 9)")
    assert (
        published.effect(tables, "mine", "r2")
        == published.effect(tables, "reg1", "l0")
        == "-"
    )
    # Table 4 by hand: CLIP, k = 32, ImageNet, Reg. 1: 1052 without the mask, 26 with it.
    cell = tables[
        (tables["encoder"] == "clip_vit_l14")
        & (tables["k"] == 32)
        & (tables["data"] == "imagenet")
    ]
    cell = cell.set_index("method")["dead"]
    assert (cell["reg1"], cell["reg1_all"]) == (26, 1052)
    assert published.effect(tables, "reg1", "purity_weighted").endswith("of 9)")


def test_ms_is_read_across_groups_where_a_dataset_has_groups():
    metrics, points = results(effect={"ms_mean_alive": 0.1})
    # On d1 the difference lies in pairs of near-duplicates alone.
    metrics["ms_mean_alive_across_groups"] = np.where(
        metrics["dataset"] == "d1", 0.5, np.nan
    )
    row = judged(metrics, points)["reg1_raises_ms"]
    assert row["measured"] == pytest.approx(0.05, abs=0.005) and row["cells_for"] == 9


def test_a_claim_about_a_score_that_a_control_has_too_says_so():
    methods = METHODS | {"raw": {"label": "Raw", "control": True}}
    metrics, points = results(
        effect={"ms_mean_alive": 0.03, "ms_mean": 0.03}, noise=0.001, methods=methods
    )
    notes = {
        name: row["controls"]
        for name, row in judged(metrics, points, Names(methods=methods)).items()
    }
    assert "d1: raw" in notes["reg1_raises_ms"]
    assert notes["mask_raises_ms_reg1"] and not notes["reg2_more_dead"]


def test_the_wider_interval_is_that_of_student_where_blocks_are_few():
    index = pd.MultiIndex.from_product(
        [["d"], ["b1", "b2", "b3"], [4], [0]], names=RUNS
    )
    low, high = bootstrap.wider_interval(pd.Series([0.0, 0.1, 0.2], index), RULE)
    half = (
        4.302653 * 0.1 / np.sqrt(3)
    )  # The 97.5 % quantile of t with 2 degrees of freedom.
    assert (low, high) == pytest.approx((0.1 - half, 0.1 + half), abs=1e-6)
    seeds = pd.MultiIndex.from_product(
        [["d"], ["b1", "b2", "b3", "b4"], [4], range(4)], names=RUNS
    )
    noisy = pd.Series(
        [1.0, -1, 1, -1] * 4, seeds
    )  # All blocks alike: seeds alone vary.
    assert bootstrap.wider_interval(noisy, RULE) == bootstrap.interval(noisy, RULE)


def test_claims_are_those_of_protocol_paper_alone(tmp_path):
    metrics, points = results(effect={"ms_mean_alive": 0.03})
    tuned = metrics.assign(
        protocol="fair",
        seed=9,
        r2=0.1,
        status="diverged",
        selected=False,
        selection="not_selected",
    )
    files.write_parquet(tmp_path / "curves.parquet", points)
    for folder, rows in (("own", metrics), ("both", pd.concat([metrics, tuned]))):
        (tmp_path / folder).mkdir()
        files.write_parquet(tmp_path / "metrics.parquet", rows)
        settings = Settings(claims=FEW, methods=METHODS)
        page.write(
            tmp_path / "metrics.parquet",
            tmp_path / "curves.parquet",
            PAPER,
            settings,
            tmp_path / folder,
        )
    for name in ("claims.csv", "claims.md"):
        assert (tmp_path / "own" / name).read_bytes() == (
            tmp_path / "both" / name
        ).read_bytes()


def test_ties_take_no_part_in_the_agreement_and_a_threshold_that_is_reached_counts():
    # For in 6 cells, against in 3, a tie in 9: two thirds of those that differ agree, a third of all.
    values = pd.Series(
        0.0, pd.MultiIndex.from_tuples([(*c, 0) for c in CELLS], names=RUNS)
    )
    values.iloc[[0, 3, 6, 9, 12, 15]], values.iloc[[1, 4, 7]] = 0.5, -0.001
    evidence = claims.Evidence(
        *results(seeds=(0,), rise={"topk": 1.5}), PUBLISHED, RULE, NAMES
    )
    row = claims.judge(claims.Claim("x", "x", values, "-"), evidence)
    assert (row["cells_for"], row["cells_against"], row["verdict"]) == (6, 3, "holds")
    reached = float(evidence.rise("topk").iloc[0])
    assert len(evidence.rise_where("reg2", "topk", reached)) == len(CELLS)

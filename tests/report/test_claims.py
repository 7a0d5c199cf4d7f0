"""Verdicts on planted effects, bootstrap intervals, and the paper's own effects.

Intervals are checked against all resamples, the paper's effects against its tables.
"""

import itertools

import numpy as np
import pandas as pd
import pytest
import yaml
from conftest import ROOT

from sae.comparison import bootstrap, claims, published
from sae.comparison.claims import VERDICTS
from sae.comparison.scores import across_groups
from sae.config.rule import ClaimRule
from sae.core import files
from sae.report import claims as page
from sae.report.names import Names
from sae.report.tables import ComparisonSettings

RULE = ClaimRule(**yaml.safe_load((ROOT / "config.yaml").read_text())["claims"])
FEW_RESAMPLES = RULE.model_copy(update={"resamples": 100})
PAPER = ROOT / "workflow/resources/paper"
PUBLISHED = published.read(PAPER)
CELLS = list(itertools.product(["d1", "d2"], ["b1", "b2", "b3"], [4, 8, 16]))
RUN = ["dataset", "backbone", "k", "seed"]
BASELINE_SCORES = {
    "r2": 0.7,
    "ms_mean": 0.4,
    "ms_mean_alive": 0.5,
    "dead": 10.0,
    "purity_binary": 0.5,
    "purity_binary_null": 0.2,
    "probe_auc": 0.5,
    "probe_top1": 0.7,
    "ms_mean_alive_independent": 0.3,
}
METHODS = {
    "topk": {"label": "Baseline"},
    "reg1": {"label": "Reg. 1", "against": "topk"},
    "reg2": {"label": "Reg. 2", "against": "topk"},
    "reg1_all": {"against": "topk", "at": "reg1"},
    "reg2_all": {"against": "topk", "at": "reg2"},
}
NAMES = Names(methods=METHODS)
RAISED_MS = {"ms_mean_alive": 0.03, "ms_mean": 0.03}


def planted_results(
    effect=None,
    ablation=None,
    rise=None,
    seeds=(0, 1, 2),
    noise=0.0,
    fallback=(),
    below=1.0,
    methods=METHODS,
):
    """Return metrics and curves of a grid of cells, with known effects.

    Args:
        effect: {score: what methods that are `against` another add to the baseline}.
        ablation: {score: what methods that train `at` another's choice add to that}.
        rise: {method: NMSE at four times k over that at k}; 1 of others.
        noise: The standard deviation of each score of each SAE.
        fallback: Cells in which nothing was acceptable of any method but the baseline.
        below: The error of `reg2` below k, relative to that of others.
    """
    rng = np.random.default_rng(0)
    rows = []
    points = []
    for cell, seed in itertools.product(CELLS, seeds):
        run = dict(zip(RUN, (*cell, seed), strict=True))
        # All methods of a cell share a deviation: pairing must remove it.
        shared = rng.normal(size=len(BASELINE_SCORES)) * 0.05
        for method, about in methods.items():
            fell_back = cell in fallback and "against" in about
            if fell_back and "at" in about:
                continue  # Nothing was chosen, so there is nothing to ablate.
            added = {}
            if "against" in about:
                added.update(effect or {})
            if "at" in about:
                added.update(ablation or {})
            scores = {
                name: value + shift + added.get(name, 0) + rng.normal() * noise
                for (name, value), shift in zip(
                    BASELINE_SCORES.items(), shared, strict=True
                )
            }
            sae = {
                **run,
                "method": method,
                "trial": "lambda0.01" if "against" in about else "default",
                "split": "test",
            }
            status = {
                "protocol": "paper",
                "status": "ok",
                "selected": not fell_back,
                "selection": "fallback" if fell_back else "chosen",
            }
            rows.append({**sae, **scores, **status})

            k = cell[2]
            relative_error = below if method == "reg2" else 1.0
            curve = {
                k // 4: 0.6 * relative_error,
                k // 2: 0.5 * relative_error,
                k: 0.3,
                2 * k: 0.3,
                4 * k: 0.3 * (rise or {}).get(method, 1.0),
            }
            for x, y in curve.items():
                points.append(sae | {"curve": "robustness", "x": x, "y": y})
    return pd.DataFrame(rows), pd.DataFrame(points)


def decide(metrics, points, names=NAMES):
    """Return {name: judged claim} of an experiment."""
    rule = RULE.model_copy(update={"resamples": 1000})  # Enough for effects as planted.
    evidence = claims.Evidence(across_groups(metrics), points, PUBLISHED, rule, names)
    return {
        claim.name: claims.decide(claim, evidence) for claim in claims.claims(evidence)
    }


def decide_planted(**planted):
    """Return {name: judged claim} of planted results."""
    return decide(*planted_results(**planted))


def values_by_run(value, cells=CELLS):
    """Return one value for each cell, with one seed."""
    runs = pd.MultiIndex.from_tuples([(*cell, 0) for cell in cells], names=RUN)
    return pd.Series(value, runs)


def test_a_claim_counts_the_saes_that_diverged():
    metrics, points = planted_results()
    of_reg1 = metrics[metrics["method"] == "reg1"]
    diverged = of_reg1[of_reg1["k"] == 4].assign(
        trial="lambda9", status="diverged", selected=False, selection="not_selected"
    )
    rows = decide(pd.concat([metrics, diverged]), points)
    sae_count = len(of_reg1) + len(diverged)
    note = f"Reg. 1: {len(diverged)} of {sae_count} SAEs diverged; "
    assert rows["reg1_raises_ms"].note.startswith(note)
    assert "diverged" not in rows["reg2_raises_ms"].note


def test_planted_effects_get_their_verdicts():
    effect = {
        "ms_mean": 0.02,
        "ms_mean_alive": 0.03,
        "purity_binary": 0.02,
        "dead": 5,
        "r2": -0.001,
        "probe_auc": 0.05,
        "ms_mean_alive_independent": 0.01,
    }
    rows = decide_planted(
        effect=effect,
        ablation={"dead": 40, "ms_mean_alive": -0.05, "ms_mean": -0.06},
        rise={"topk": 1.4, "reg2": 1.02},
        noise=0.0005,
        below=0.9,
    )
    by_verdict = {verdict: set() for verdict in VERDICTS}
    for name, row in rows.items():
        by_verdict[row.verdict].add(name)
    assert not by_verdict["not tested"] and not by_verdict["holds in part"]
    assert by_verdict["not shown"] == {"reg1_ms_above_reg2", "reg1_fewer_dead"}

    row = rows["reg1_raises_ms"]
    assert row.measured == pytest.approx(0.03, abs=0.001)
    assert row.ci_low < row.measured < row.ci_high
    assert (row.cells_for, row.cells_against) == (18, 0)
    below_k = rows["reg2_error_below_k"].measured
    assert below_k == pytest.approx(np.log(0.9))
    above_k = rows["baseline_rises_above_k"].measured
    assert above_k == pytest.approx(1.4)
    independent = rows["reg1_raises_independent_ms"].measured
    assert independent == pytest.approx(0.01, abs=0.001)
    unmasked_dead = rows["mask_prevents_dead_reg1"].measured
    assert unmasked_dead == pytest.approx(40 - 5, abs=0.01)


def test_without_an_effect_only_claims_of_no_loss_hold():
    rows = decide_planted(noise=0.003)
    held = {
        name for name, row in rows.items() if row.verdict in ("holds", "holds in part")
    }
    assert held == {"reg1_keeps_r2", "reg2_keeps_r2", "reg2_keeps_probe_top1"}
    # The baseline rises nowhere.
    assert rows["reg2_flat_above_k"].verdict == "not tested"


def test_a_loss_beyond_the_margin_is_a_loss():
    rows = decide_planted(effect={"r2": -0.006, "probe_top1": -0.02})
    for name in ("reg1_keeps_r2", "reg2_keeps_r2", "reg2_keeps_probe_top1"):
        assert rows[name].verdict == "not shown", name


def test_a_claim_whose_sign_turns_when_dead_latents_count_as_0_holds_in_part():
    rows = decide_planted(effect={"ms_mean_alive": 0.03, "ms_mean": -0.01})
    row = rows["reg1_raises_ms"]
    assert row.verdict == "holds in part" and "dead as 0: -0.010" in row.note


def test_a_cell_that_fell_back_is_a_tie_and_stays_in_the_mean():
    rows = decide_planted(
        effect=RAISED_MS | {"r2": -0.001, "dead": 5},
        ablation={"dead": 40},
        rise={"topk": 1.4, "reg2": 1.0},
        fallback=CELLS[:3],
    )
    means = {
        "reg1_raises_ms": 0.03 * 15 / 18,
        "reg1_keeps_r2": -0.001 * 15 / 18,
        "mask_prevents_dead_reg1": (40 - 5) * 15 / 18,
        # The baseline's curve stands for a method that fell back.
        "reg2_flat_above_k": (1.0 * 15 + 1.4 * 3) / 18,
    }
    for name, mean in means.items():
        row = rows[name]
        assert (row.cells_for, row.cells_against) == (15, 0), name
        assert row.measured == pytest.approx(mean), name
    row = rows["reg1_ms_above_reg2"]
    assert row.cells_for == row.cells_against == 0


def test_a_cell_in_which_one_seed_of_several_fell_back_counts():
    metrics, points = planted_results(effect=RAISED_MS)
    run = {"dataset": "d1", "backbone": "b1", "k": 4, "seed": 0, "method": "reg1"}
    fell_back = (metrics[list(run)] == list(run.values())).all(axis=1)
    metrics.loc[fell_back, ["selected", "selection"]] = [False, "fallback"]
    row = decide(metrics, points)["reg1_raises_ms"]
    assert row.cells_for == 18
    assert row.measured == pytest.approx(0.03 * (17 + 2 / 3) / 18)


def test_a_claim_of_too_few_blocks_is_measured_and_not_decided():
    metrics, points = planted_results(effect=RAISED_MS)
    row = decide(metrics[metrics["backbone"] == "b1"], points)["reg1_raises_ms"]
    assert row.verdict == "not tested" and np.isnan(row.ci_low) and row.cells_for == 6
    assert row.measured == pytest.approx(0.03)


def test_a_dictionary_too_small_for_4k_leaves_that_claim_untested():
    metrics, points = planted_results()
    rows = decide(metrics, points[points["x"] <= 2 * points["k"]])
    assert rows["baseline_rises_above_k"].verdict == "not tested"
    assert rows["reg2_flat_above_k"].verdict == "not tested"


def test_the_mask_is_not_tested_where_no_sae_was_trained_without_it():
    methods = {name: METHODS[name] for name in ("topk", "reg1", "reg2")}
    metrics, points = planted_results(
        effect={"ms_mean_alive": 0.03}, methods=methods, fallback=CELLS[:12]
    )
    rows = decide(metrics, points, Names(methods=methods))
    verdicts = {row.verdict for name, row in rows.items() if "mask" in name}
    assert verdicts == {"not tested"}


@pytest.mark.parametrize("ids", [["topk"], ["topk", "reg1"], ["reg2", "reg2_all"]])
def test_claims_about_methods_that_are_not_in_the_experiment_are_not_tested(ids):
    methods = {name: METHODS[name] for name in ids}
    metrics, points = planted_results(effect=RAISED_MS, methods=methods)
    for curves in (points, points[:0]):
        rows = decide(metrics, curves, Names(methods=methods))
        tested = {name for name, row in rows.items() if row.verdict != "not tested"}
        about_reg1 = {name for name in tested if "reg1" in name}
        about_reg2 = {name for name in tested if "reg2" in name}
        if "reg1" in ids:
            assert {"reg1_raises_ms", "reg1_keeps_r2"} <= about_reg1
        else:
            assert not about_reg1
        # Without the baseline only the ablation is left to compare it with.
        assert about_reg2 <= {"mask_prevents_dead_reg2", "mask_raises_ms_reg2"}
        has_curve = "topk" in ids and len(curves) > 0
        assert ("baseline_rises_above_k" in tested) == has_curve


def test_another_method_gets_two_claims_of_ours_beside_what_it_is_compared_with(
    tmp_path,
):
    methods = METHODS | {"mine": {"label": "Mine | $x$", "against": "reg1"}}
    metrics, points = planted_results(effect=RAISED_MS, methods=methods)
    metrics.loc[metrics["method"] == "mine", "ms_mean_alive"] += 0.01
    files.write_parquet(tmp_path / "metrics.parquet", metrics)
    files.write_parquet(tmp_path / "curves.parquet", points)
    written = (tmp_path / "metrics.parquet", tmp_path / "curves.parquet")
    settings = ComparisonSettings(claims=FEW_RESAMPLES, methods=methods)
    page.write(*written, PAPER, settings, tmp_path)

    table = pd.read_csv(tmp_path / "claims.csv").set_index("claim")
    assert table["ours"].dtype == bool
    assert table.index[table["ours"]].tolist() == [
        "reg1_raises_independent_ms",
        "reg2_raises_independent_ms",
        "mine_raises_ms",
        "mine_keeps_r2",
    ]
    row = table.loc["mine_raises_ms"]
    assert row["measured"] == pytest.approx(0.01)
    assert row["statement"] == "Mine | $x$ raises mean MS"
    text = (tmp_path / "claims.md").read_text()
    assert r"Mine \| \$x\$ raises mean MS" in text
    assert text.count("ours, not the paper's") == 4


def test_a_claim_with_which_few_cells_agree_holds_in_part():
    values = values_by_run(-0.001)
    values[values.index.get_level_values("k") == 4] = 1.0
    evidence = claims.Evidence(*planted_results(seeds=(0,)), PUBLISHED, RULE, NAMES)
    row = claims.decide(claims.Claim("x", "x", values, "-"), evidence)
    assert row.ci_low > 0 and (row.cells_for, row.cells_against) == (6, 12)
    assert row.verdict == "holds in part"
    assert row.note == "interval across blocks only"


def test_ties_take_no_part_in_the_agreement():
    # For in 6 cells, against in 3, a tie in 9: two thirds of those that differ agree.
    values = values_by_run(0.0)
    values.iloc[[0, 3, 6, 9, 12, 15]] = 0.5
    values.iloc[[1, 4, 7]] = -0.001
    evidence = claims.Evidence(*planted_results(seeds=(0,)), PUBLISHED, RULE, NAMES)
    row = claims.decide(claims.Claim("x", "x", values, "-"), evidence)
    assert (row.cells_for, row.cells_against, row.verdict) == (6, 3, "holds")


def test_a_cell_whose_error_rises_by_exactly_the_threshold_counts():
    metrics, points = planted_results(seeds=(0,), rise={"topk": 1.5})
    evidence = claims.Evidence(metrics, points, PUBLISHED, RULE, NAMES)
    threshold = float(evidence.error_rise("topk").iloc[0])
    assert len(evidence.error_rise_where("reg2", "topk", threshold)) == len(CELLS)


def test_the_interval_is_that_of_all_resamples():
    backbones = ["b1", "b2", "b3", "b4"]
    runs = pd.MultiIndex.from_product([["d"], backbones, [4, 8], [0]], names=RUN)
    values = pd.Series([0.1, 0.3, -0.2, 0.1, 0.5, 0.4, 0.0, 0.2], runs)
    blocks = values.groupby("backbone").mean().to_numpy()
    means = [
        blocks[list(drawn)].mean() for drawn in itertools.product(range(4), repeat=4)
    ]
    expected = np.quantile(means, [0.025, 0.975])
    rule = RULE.model_copy(update={"resamples": 200_000})
    np.testing.assert_allclose(bootstrap.interval(values, rule), expected, atol=0.004)


def test_seeds_are_drawn_inside_blocks():
    # All blocks are alike, so that only seeds vary: the mean of 3 seeds in 3 blocks,
    # each drawn from {0, 0, 3}.
    backbones = ["b1", "b2", "b3"]
    runs = pd.MultiIndex.from_product([["d"], backbones, [4], [0, 1, 2]], names=RUN)
    values = pd.Series([0.0, 0.0, 3.0] * 3, runs)
    ends = bootstrap.interval(values, RULE)
    means = np.random.default_rng(1).binomial(9, 1 / 3, 200_000) / 3
    expected = tuple(np.quantile(means, [0.025, 0.975]))
    assert ends == pytest.approx(expected, abs=1e-9)
    assert bootstrap.interval(values, RULE) == ends


def test_the_wider_interval_is_that_of_student_where_blocks_are_few():
    backbones = ["b1", "b2", "b3"]
    runs = pd.MultiIndex.from_product([["d"], backbones, [4], [0]], names=RUN)
    ends = bootstrap.wider_interval(pd.Series([0.0, 0.1, 0.2], runs), RULE)
    # The 97.5 % quantile of t with 2 degrees of freedom.
    half_width = 4.302653 * 0.1 / np.sqrt(3)
    assert ends == pytest.approx((0.1 - half_width, 0.1 + half_width), abs=1e-6)

    # All blocks are alike, so that only seeds vary.
    backbones = ["b1", "b2", "b3", "b4"]
    runs = pd.MultiIndex.from_product([["d"], backbones, [4], range(4)], names=RUN)
    values = pd.Series([1.0, -1, 1, -1] * 4, runs)
    assert bootstrap.wider_interval(values, RULE) == bootstrap.interval(values, RULE)


def test_published_effects_are_those_of_the_specification():
    def effect(method, metric, against="topk"):
        return published.effect(PUBLISHED, method, metric, against)

    assert effect("reg1", "ms_mean") == "+0.043 (up 18, down 0 of 18)"
    assert effect("reg1", "r2").startswith("+0.001")
    assert effect("reg2", "ms_mean").startswith("+0.021")
    assert effect("reg2", "r2").startswith("+0.008")
    assert effect("reg1", "ms_mean", "reg2").endswith("(up 18, down 0 of 18)")
    assert effect("reg2", "probe_auc").endswith("(up 9, down 0 of 9)")
    assert effect("reg1", "purity_weighted").endswith("of 9)")
    # The paper knows neither this method nor this metric.
    assert effect("mine", "r2") == effect("reg1", "l0") == "-"


def test_ms_is_read_across_groups_where_a_dataset_has_groups():
    metrics, points = planted_results(effect={"ms_mean_alive": 0.1})
    # On d1 the difference lies in pairs of near-duplicates alone.
    is_d1 = metrics["dataset"] == "d1"
    metrics["ms_mean_alive_across_groups"] = np.where(is_d1, 0.5, np.nan)
    row = decide(metrics, points)["reg1_raises_ms"]
    assert row.measured == pytest.approx(0.05, abs=0.005) and row.cells_for == 9


def test_a_claim_about_a_score_that_a_control_has_too_names_the_control():
    methods = METHODS | {"raw": {"label": "Raw", "control": True}}
    metrics, points = planted_results(effect=RAISED_MS, noise=0.001, methods=methods)
    rows = decide(metrics, points, Names(methods=methods))
    assert "d1: raw" in rows["reg1_raises_ms"].controls
    assert rows["mask_raises_ms_reg1"].controls
    assert not rows["reg2_more_dead"].controls


def test_claims_are_those_of_protocol_paper_alone(tmp_path):
    metrics, points = planted_results(effect={"ms_mean_alive": 0.03})
    of_protocol_fair = metrics.assign(
        protocol="tuned",
        seed=9,
        r2=0.1,
        status="diverged",
        selected=False,
        selection="not_selected",
    )
    written = (tmp_path / "metrics.parquet", tmp_path / "curves.parquet")
    files.write_parquet(written[1], points)
    settings = ComparisonSettings(claims=FEW_RESAMPLES, methods=METHODS)
    for folder, rows in (
        ("paper", metrics),
        ("both", pd.concat([metrics, of_protocol_fair])),
    ):
        (tmp_path / folder).mkdir()
        files.write_parquet(written[0], rows)
        page.write(*written, PAPER, settings, tmp_path / folder)
    for name in ("claims.csv", "claims.md"):
        of_paper = (tmp_path / "paper" / name).read_bytes()
        assert of_paper == (tmp_path / "both" / name).read_bytes()

"""Effects by fronts: cells whose fronts are known by hand, and numeric means."""

import numpy as np
import pandas as pd
import pytest
from sae.comparison.fronts import FrontRule

from sae.comparison import fronts
from sae.core.errors import UserError

AGAINST = {"topk": None, "reg": "topk"}
CELL = {"dataset": "d", "backbone": "b", "k": 8}

# By hand, the example of docs/protocol.md. The baseline's front falls from (.70, .40)
# to (.68, .44), the method's from (.69, .46) to (.67, .52). R* is .70, the reach .69
# and the floor .68. At a width of .03 a third of the window lies left of the floor and
# is read at .68, the next third from .68 to .69, and the last at .69.
BASELINE = {"a": (0.70, 0.40), "b": (0.68, 0.44), "c": (0.68, 0.43)}
METHOD = {"p": (0.69, 0.46), "q": (0.67, 0.52)}
DIVERGED = {"status": "diverged", "r2": np.nan, "ms_mean_alive": np.nan}


def trial_rows(method, trials, cell=CELL, seeds=(0,), on_validation=None, **changed):
    """Return the metrics of trials, a row for each, seed and split.

    Args:
        method: What they are trials of.
        trials: {trial: (R^2, MS)} on test.
        cell: Where they were trained.
        seeds: With which each was trained.
        on_validation: {trial: (R^2, MS)} on validation, of those in which it differs.
        changed: {trial: other columns}.
    """
    validation_trials = {**trials, **(on_validation or {})}
    rows = []
    for trial in trials:
        scores = {"val": validation_trials[trial], "test": trials[trial]}
        for split, (r2, ms) in scores.items():
            for seed in seeds:
                row = {
                    **cell,
                    "method": method,
                    "trial": trial,
                    "seed": seed,
                    "split": split,
                    "status": "ok",
                    "r2": r2,
                    "ms_mean_alive": ms,
                    "l0": 8.0,
                    "dead_train": 0,
                    "m": 100,
                    **changed.get(trial, {}),
                }
                rows.append(row)
    return rows


def read_effects(*parts, width=0.03, score="ms", equal_test_r2=False, **rule):
    """Return the effects in one score of some trials."""
    metrics = pd.DataFrame([row for part in parts for row in part])
    rule = FrontRule(widths=[width], **rule)
    table = fronts.effects(metrics, AGAINST, rule, equal_test_r2=equal_test_r2)
    return table[table["score"] == score]


def only_row(table):
    """Return the one row of a table as a dictionary."""
    (row,) = table.to_dict("records")
    return row


def test_the_example_of_the_docs_is_read_as_by_hand():
    parts = trial_rows("topk", BASELINE), trial_rows("reg", METHOD)
    row = only_row(read_effects(*parts))
    at_floor = 0.49 - 0.44
    between = 0.475 - 0.43
    at_reach = 0.46 - 0.42
    assert row["effect"] == pytest.approx((at_floor + between + at_reach) / 3)
    assert row["level"] == pytest.approx((0.44 + 0.43 + 0.42) / 3)
    assert (row["best_r2"], row["reach"], row["floor"]) == (0.70, 0.69, 0.68)
    assert row["shortfall"] == pytest.approx(0.01) and row["gain"] == 0
    assert row["vertices"] == "p: 0.750; q: 0.250"
    assert row["baseline_vertices"] == "a: 0.250; b: 0.750"
    # Both have an R^2 of .685 at these weights.
    assert row["r2_difference"] == pytest.approx(0, abs=1e-12)
    assert (row["status"], row["seeds"], row["below_floor"]) == ("ok", 1, False)


@pytest.mark.parametrize("seed", range(10))
def test_an_effect_is_the_mean_over_the_window(seed):
    rng = np.random.default_rng(seed)
    sides = []
    for _ in range(2):
        sides.append(
            {f"t{i}": (0.6 + 0.1 * rng.random(), rng.random()) for i in range(6)}
        )
    # The method's best point reaches the floor in every world.
    sides[1]["t0"] = (0.699, sides[1]["t0"][1])
    effect = read_effects(
        trial_rows("topk", sides[0]), trial_rows("reg", sides[1]), width=0.05
    )
    row = only_row(effect)

    best_r2, reach = (max(r2 for r2, _ in side.values()) for side in sides)
    floor = max(sides[0].values(), key=lambda point: point[1])[0]
    window = np.linspace(best_r2 - 0.05, best_r2, 20_001)
    r2_read = np.maximum(floor, np.minimum(window, reach))
    heights = [best_mixture(np.array([*side.values()]), r2_read) for side in sides]
    assert row["effect"] == pytest.approx(heights[1] - heights[0], abs=1e-4)


def best_mixture(points, r2_read):
    """Return the mean score of the best mixtures of two points.

    Args:
        points: (points, 2) R^2 and score.
        r2_read: (steps) the R^2 that a mixture must reach, at each step one.
    """
    best = np.full(len(r2_read), -np.inf)
    for first in points:
        for second in points:
            share_at_r2 = (r2_read - second[0]) / (first[0] - second[0] or 1)
            for share in (1.0, np.clip(share_at_r2, 0, 1)):
                r2 = share * first[0] + (1 - share) * second[0]
                score = share * first[1] + (1 - share) * second[1]
                best = np.where(r2 >= r2_read - 1e-12, np.maximum(best, score), best)
    return best.mean()


def test_validation_chooses_and_test_is_read():
    # On validation q is no vertex, and p scores .9.
    on_validation = {"p": (0.69, 0.9), "q": (0.67, 0.1)}
    method = trial_rows("reg", METHOD, on_validation=on_validation)
    row = only_row(read_effects(trial_rows("topk", BASELINE), method))
    assert row["vertices"] == "p: 1.000"
    assert row["effect"] == pytest.approx(0.46 - (0.44 + 0.43 + 0.42) / 3)


def test_equal_test_r2_reads_both_where_test_has_them():
    baseline = trial_rows("topk", BASELINE)
    plain = only_row(read_effects(baseline, trial_rows("reg", METHOD)))
    method = trial_rows("reg", METHOD)
    equal_on_both = only_row(read_effects(baseline, method, equal_test_r2=True))
    assert equal_on_both["effect"] == pytest.approx(plain["effect"])
    # Test has .01 less R^2 of the method than validation: it ends at the floor there.
    on_test = {name: (r2 - 0.01, ms) for name, (r2, ms) in METHOD.items()}
    method = trial_rows("reg", on_test, on_validation=METHOD)
    row = only_row(read_effects(baseline, method, equal_test_r2=True))
    assert row["effect"] == pytest.approx(0.46 - 0.44)
    assert row["r2_difference"] == pytest.approx(0)
    # Of the baseline, too: R* and floor are then those of test.
    lower = {name: (r2 - 0.01, ms) for name, (r2, ms) in BASELINE.items()}
    shifted = trial_rows("topk", lower, on_validation=BASELINE)
    row = only_row(read_effects(shifted, method, equal_test_r2=True))
    assert row["effect"] == pytest.approx(plain["effect"])


def test_a_front_of_one_vertex_is_read_there():
    baseline = trial_rows("topk", {"a": (0.70, 0.40), "b": (0.69, 0.39)})
    further = only_row(read_effects(baseline, trial_rows("reg", {"p": (0.75, 0.45)})))
    # Floor and R* are one, and the method's only vertex stands there.
    assert further["effect"] == pytest.approx(0.45 - 0.40)
    assert further["gain"] == pytest.approx(0.05)
    falling = trial_rows("reg", {"p": (0.71, 0.40), "q": (0.69, 0.50)})
    row = only_row(read_effects(baseline, falling))
    assert row["effect"] == pytest.approx(0.45 - 0.40)
    equal = {"p": (0.70, 0.40), "q": (0.70, 0.50)}
    row = only_row(read_effects(baseline, trial_rows("reg", equal)))
    assert row["effect"] == pytest.approx(0.10) and row["vertices"] == "q: 1.000"


def test_a_method_with_the_baselines_trials_has_no_effect():
    parts = trial_rows("topk", BASELINE), trial_rows("reg", BASELINE)
    row = only_row(read_effects(*parts))
    assert row["effect"] == row["r2_difference"] == 0


def test_a_method_that_ends_below_the_floor_is_read_there_or_out_of_reach():
    baseline = trial_rows("topk", BASELINE)
    # By .004: both are read at its reach, where the baseline is flat.
    near = only_row(read_effects(baseline, trial_rows("reg", {"p": (0.676, 0.47)})))
    assert near["effect"] == pytest.approx(0.47 - 0.44) and near["below_floor"]
    assert near["r2_difference"] == pytest.approx(0.676 - 0.68)
    # By .006: there is no effect.
    far = only_row(read_effects(baseline, trial_rows("reg", {"p": (0.674, 0.47)})))
    assert far["status"] == "out of reach" and np.isnan(far["effect"])
    assert far["reach"] == 0.674 and far["shortfall"] == pytest.approx(0.026)


def test_what_is_not_feasible_is_on_no_front():
    too_many = {"l0": 8.2}
    silent = {"dead_train": 11}
    unknown = {"dead_train": np.nan}
    # A slower baseline, whose floor both trials of the method reach.
    slow = {"a": (0.69, 0.40), "b": (0.67, 0.44)}
    baseline = trial_rows("topk", slow)

    def reach(**changed):
        limits = changed.pop("limits", {})
        method = trial_rows("reg", METHOD, **changed)
        return only_row(read_effects(baseline, method, **limits))["reach"]

    for change in (too_many, silent, unknown, DIVERGED):
        assert reach(p=change) == 0.67
    assert reach(p=silent, limits={"firing": 0.8}) == 0.69

    for change in (too_many, DIVERGED):
        method = trial_rows("reg", METHOD, p=change, q=change)
        row = only_row(read_effects(baseline, method))
        assert row["status"] == "infeasible" and np.isnan(row["effect"])
    none = trial_rows("topk", slow, a=silent, b=silent)
    row = only_row(read_effects(none, trial_rows("reg", METHOD)))
    assert row["status"] == "baseline infeasible" and np.isnan(row["best_r2"])


def test_r_star_is_one_value_whatever_the_score():
    # The best trial of the baseline has no detection: its R^2 is R* all the same.
    detection = {name: {"detection_auc": 0.6} for name in ("b", "c", "p", "q")}
    baseline = trial_rows("topk", BASELINE, **detection)
    parts = baseline, trial_rows("reg", METHOD, **detection)
    row = only_row(read_effects(*parts, score="detection_auc"))
    assert row["best_r2"] == 0.70 and row["floor"] == 0.68


def test_fresh_seeds_alone_are_read_and_a_diverged_one_loses_its_vertex():
    # The fresh seeds score .1 more than the tuning's, but p diverged with one of them.
    baseline = trial_rows("topk", BASELINE, seeds=(0, 3, 4))
    fresh = {name: (r2, ms + 0.1) for name, (r2, ms) in METHOD.items()}
    of_fresh = trial_rows("reg", fresh, seeds=(3, 4))
    for row in of_fresh:
        if (row["trial"], row["seed"]) == ("p", 4):
            row.update(DIVERGED)
    parts = baseline, trial_rows("reg", METHOD), of_fresh
    table = read_effects(*parts, tuning=0).set_index("seed")
    # Without p the method ends .01 below the floor with seed 4: it is not read.
    assert list(table.index) == [3] and table["fresh"].all()
    assert table.loc[3, "effect"] == pytest.approx(0.045 + 0.1)
    assert table.loc[3, "seeds"] == 1

    # A baseline whose best vertex diverged: both are read as far as it reaches.
    for row in baseline:
        if (row["trial"], row["seed"]) == ("a", 3):
            row["status"] = "diverged"
    same = [row | {"method": "reg", "status": "ok"} for row in baseline]
    table = read_effects(baseline, same, tuning=0).set_index("seed")
    assert table["effect"].tolist() == [0, 0]
    assert table.loc[3, "lost"] == "a" and table.loc[4, "lost"] == ""
    mean = only_row(fronts.by_cell(table.reset_index()))
    assert mean["effect"] == 0 and mean["lost"] == "a"

    for row in baseline:
        row["status"] = "diverged" if row["seed"] else "ok"
    row = only_row(read_effects(baseline, same, tuning=0))
    assert row["status"] == "diverged" and np.isnan(row["effect"])
    assert row["lost"] == "a; b"


def test_other_bounds_are_read_with_the_seed_of_the_tuning():
    # In d2 a trial with many silent latents would be best; it has no fresh seeds.
    cell_of_d2 = {**CELL, "dataset": "d2"}
    seeds = (0, 3, 4)
    parts = []
    for cell in (CELL, cell_of_d2):
        parts.append(trial_rows("topk", BASELINE, cell, seeds=seeds))
        parts.append(trial_rows("reg", METHOD, cell, seeds=seeds))
    silent = {"z": {"dead_train": 20}}
    parts.append(trial_rows("reg", {"z": (0.71, 0.60)}, cell_of_d2, **silent))
    metrics = pd.DataFrame([row for part in parts for row in part])
    rule = FrontRule(widths=[0.03], tuning=0)
    by_bound = {
        bound: table[table["score"] == "ms"].set_index("dataset")
        for bound, table in fronts.sensitivity(metrics, AGAINST, rule)
    }
    usual = by_bound["90% of latents must fire"]
    free = by_bound["0% of latents must fire"]
    assert (usual["seed"] == 0).all()
    assert usual["effect"].tolist() == pytest.approx([0.045, 0.045])
    assert free.loc["d", "effect"] == pytest.approx(0.045)
    baseline_mean = (0.44 + 0.43 + 0.41) / 3
    assert free.loc["d2", "effect"] == pytest.approx(0.60 - baseline_mean)
    # By the fresh seeds that cell has no effect, and the status says why.
    any_share = rule.model_copy(update={"firing": 0.0})
    table = fronts.effects(metrics, AGAINST, any_share).query("score == 'ms'")
    assert [*table["status"]] == ["ok", "ok", "seeds missing"]


def test_every_score_of_all_trials_has_a_front_of_its_own():
    columns = ("detection_auc", "detection_measured", "dead_train", "probe_auc")

    def scores(*values):
        return dict(zip(columns, values, strict=True))

    of_topk = {"a": scores(0.5, 0.90, 3, 0.30), "b": scores(0.6, 0.80, 1, 0.20)}
    of_reg = {"p": scores(0.7, 0.70, 5, 0.10), "q": scores(0.6, 0.95, 2, 0.40)}
    topk = trial_rows("topk", {"a": (0.70, 0.40), "b": (0.68, 0.44)}, **of_topk)
    parts = topk, trial_rows("reg", METHOD, **of_reg)

    detection = only_row(read_effects(*parts, score="detection_auc", width=0.01))
    assert detection["vertices"] == "p: 1.000"
    # The baseline's front of measured latents is a alone, at .70. The method's, from p
    # to q, ends .01 below. That is out of reach, whatever the front of detection is.
    measured = only_row(read_effects(*parts, score="measured"))
    assert measured["status"] == "out of reach" and measured["floor"] == 0.70
    # Fewer dead latents are better: the window is read from .68 to .69, as for MS.
    dead = only_row(read_effects(*parts, score="dead_train"))
    baseline_mean = (1 + 1.5 + 2) / 3
    assert dead["effect"] == pytest.approx(baseline_mean - (0.75 * 5 + 0.25 * 2))
    # Judged SAEs alone have probes: they are read at the vertices of detection.
    probe = only_row(read_effects(*parts, score="probe_auc", width=0.01))
    assert probe["front"] == detection["front"] == "detection_auc"
    assert probe["effect"] == pytest.approx(0.10 - (0.5 * 0.25 + 0.5 * 0.25), abs=1e-9)
    assert read_effects(*parts, score="purity").empty  # Nowhere measured.


def test_a_score_that_a_vertex_lacks_on_test_is_not_measured():
    baseline = trial_rows("topk", BASELINE, a={"probe_auc": 0.5}, b={"probe_auc": 0.5})
    cell = {**CELL, "backbone": "c"}
    parts = [baseline, trial_rows("topk", BASELINE, cell)]
    parts.append(trial_rows("reg", METHOD, p={"probe_auc": 0.6}, q={"probe_auc": 0.6}))
    parts.append(trial_rows("reg", METHOD, cell))
    table = read_effects(*parts, score="probe_auc").set_index("backbone")
    assert table.loc["b", "effect"] == pytest.approx(0.1)
    assert table.loc["c", "status"] == "not measured"


def test_a_trial_that_finds_a_length_is_no_trial_of_the_method():
    trials = {
        "auxk_alpha0.1-encoder_scale1-lr0.01": (0.70, 0.40),
        "lr0.01-steps500": (0.8, 0.9),
    }
    point, length = trials
    tuned = ["auxk_alpha", "encoder_scale", "lr"]
    swept = {"swept": " ".join(tuned)}
    baseline = trial_rows(
        "topk", trials, **{point: swept, length: {"swept": "lr steps"}}
    )
    own_swept = {"swept": "auxk_alpha encoder_scale lambda lr"}
    twin = {"auxk_alpha0.1-encoder_scale1-lambda0.1-lr0.01": (0.70, 0.45)}
    reg = trial_rows("reg", twin, **dict.fromkeys(twin, own_swept))
    row = only_row(read_effects(baseline, reg, tuned=tuned))
    assert row["best_r2"] == 0.70 and row["effect"] == pytest.approx(0.05)
    # A CSV gives an empty text back as null: that of a trial that sets nothing.
    default = trial_rows("topk", {"default": (0.8, 0.9)}, default={"swept": np.nan})
    effects = read_effects(baseline, default, reg, tuned=tuned)
    assert only_row(effects)["best_r2"] == 0.70
    # Rows of an older version do not say what their trials set, all or some of them.
    for swept in ({}, {"swept": np.nan}):
        old = trial_rows("reg", twin, CELL | {"backbone": "old"})
        for row in old:
            row.update(swept)
        with pytest.raises(UserError, match="older version"):
            read_effects(old, tuned=tuned)
    with pytest.raises(UserError, match="older version"):
        read_effects(baseline, old, tuned=tuned)

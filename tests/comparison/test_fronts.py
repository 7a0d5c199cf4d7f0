"""Effects by fronts: cells whose fronts are known, by hand, and against numeric means over the window."""

import sys

import numpy as np
import pandas as pd
import pytest
from conftest import ROOT

from sae.comparison import fronts
from sae.comparison.fronts import Rule

AGAINST = {"topk": None, "reg": "topk"}
CELL = {"dataset": "d", "backbone": "b", "k": 8}


def rows(method, trials, cell=CELL, seeds=(0,), val=None, **changed):
    """Rows of a method's trials: {name: (R^2, MS)}, the same on val and test but for `val`, what validation saw."""
    found = []
    for trial, (r2, ms) in trials.items():
        for split in ("val", "test"):
            seen = (val or {}).get(trial, (r2, ms)) if split == "val" else (r2, ms)
            for seed in seeds:
                row = cell | {
                    "method": method,
                    "trial": trial,
                    "seed": seed,
                    "split": split,
                    "status": "ok",
                }
                row |= {
                    "r2": seen[0],
                    "ms_mean_alive": seen[1],
                    "l0": 8.0,
                    "dead_train": 0,
                    "m": 100,
                }
                found.append(row | changed.get(trial, {}))
    return found


def effect(*parts, width=0.02, score="ms", strict=False, **rule):
    metrics, rule = (
        pd.DataFrame([row for part in parts for row in part]),
        Rule(widths=[width], **rule),
    )
    table = fronts.effects(metrics, AGAINST, rule, strict=strict)
    return table[table["score"] == score]


def only(table):
    (row,) = table.to_dict("records")
    return row


# By hand, the example of docs/protocol.md: the baseline's front falls from (.70, .40) to (.68, .44), the method's from
# (.69, .46) to (.67, .50). R* is .70; the window of .02 is read from .68 to .69, and at .69 for its upper half.
BASE, REG = (
    {"a": (0.70, 0.40), "b": (0.68, 0.44), "c": (0.68, 0.43)},
    {"p": (0.69, 0.46), "q": (0.67, 0.50)},
)


def test_by_hand():
    row = only(effect(rows("topk", BASE), rows("reg", REG)))
    # Of the method: .46 for the upper half, on average .47 for the lower one; the baseline: .42, and .43.
    assert row["effect"] == pytest.approx((0.46 - 0.42) / 2 + (0.47 - 0.43) / 2)
    assert row["level"] == pytest.approx((0.42 + 0.43) / 2)
    assert (row["star"], row["reach"], row["gain"]) == (0.70, 0.69, 0) and row[
        "shortfall"
    ] == pytest.approx(0.01)
    assert (
        row["vertices"] == "p: 0.875; q: 0.125"
        and row["baseline_vertices"] == "a: 0.375; b: 0.625"
    )
    # R^2 at these weights: 0.6875 of the method, as of the baseline.
    assert row["r2_difference"] == pytest.approx(0, abs=1e-12) and (
        row["status"],
        row["seeds"],
    ) == ("ok", 1)


@pytest.mark.parametrize("seed", range(10))
def test_the_mean_over_the_window(seed):
    rng = np.random.default_rng(seed)
    both = [
        {f"t{i}": (0.6 + 0.1 * rng.random(), rng.random()) for i in range(6)}
        for _ in range(2)
    ]
    row = only(effect(rows("topk", both[0]), rows("reg", both[1]), width=0.05))
    star, reach = (max(r2 for r2, _ in side.values()) for side in both)
    at, height = (
        np.minimum(np.linspace(star - 0.05, star, 20_001), min(reach, star)),
        [],
    )
    for side in both:
        points = np.array([*side.values()])
        # The best mixture of two points that reconstructs so well.
        pairs = [(p, q) for p in points for q in points]
        best = np.full(len(at), -np.inf)
        for p, q in pairs:
            for share in (1.0, np.clip((at - q[0]) / (p[0] - q[0] or 1), 0, 1)):
                r2, ms = (
                    share * p[0] + (1 - share) * q[0],
                    share * p[1] + (1 - share) * q[1],
                )
                best = np.where(r2 >= at - 1e-12, np.maximum(best, ms), best)
        height.append(best.mean())
    assert row["effect"] == pytest.approx(height[1] - height[0], abs=1e-4)


def test_choices_are_of_validation_and_numbers_of_test():
    seen = {
        "p": (0.69, 0.9),
        "q": (0.67, 0.1),
    }  # On validation q is no vertex, and p scores .9.
    row = only(effect(rows("topk", BASE), rows("reg", REG, val=seen)))
    assert row["vertices"] == "p: 1.000" and row["effect"] == pytest.approx(
        0.46 - (0.42 + 0.43) / 2
    )


def test_the_strict_form_is_at_equal_test_r2():
    # Test has .01 less R^2 of the method than validation saw. At equal test R^2 it is read further left on its front.
    reg = {name: (r2 - 0.01, ms) for name, (r2, ms) in REG.items()}
    row = only(effect(rows("topk", BASE), rows("reg", reg, val=REG), strict=True))
    # From .68 to .70 both stand at .68, what the method reaches: .46 against .44.
    assert row["effect"] == pytest.approx(0.46 - 0.44) and row[
        "r2_difference"
    ] == pytest.approx(0)
    plain = only(effect(rows("topk", BASE), rows("reg", REG)))
    assert only(effect(rows("topk", BASE), rows("reg", REG), strict=True))[
        "effect"
    ] == pytest.approx(plain["effect"])


def test_ends_gains_and_what_lies_out_of_reach():
    further = only(effect(rows("topk", BASE), rows("reg", {"p": (0.75, 0.45)})))
    # One vertex: with free disposal its score holds all along the window; the baseline's mean there is .42.
    assert further["effect"] == pytest.approx(0.45 - 0.42) and further[
        "gain"
    ] == pytest.approx(0.05)
    short = only(effect(rows("topk", BASE), rows("reg", {"p": (0.5, 0.6)})))
    # Read where the method ends, below the baseline's last vertex.
    assert short["effect"] == pytest.approx(0.6 - 0.44) and short[
        "shortfall"
    ] == pytest.approx(0.2)
    equal = only(
        effect(rows("topk", BASE), rows("reg", {"p": (0.70, 0.40), "q": (0.70, 0.50)}))
    )
    assert (
        equal["effect"] == pytest.approx(0.50 - 0.42)
        and equal["vertices"] == "q: 1.000"
    )
    same = only(effect(rows("topk", BASE), rows("reg", BASE)))
    assert same["effect"] == same["r2_difference"] == 0


def test_what_is_not_feasible_is_on_no_front_and_no_zero_is_put_in():
    l0, silent = {"l0": 8.2}, {"dead_train": 11}
    row = only(effect(rows("topk", BASE), rows("reg", REG, p=l0)))
    assert row["reach"] == 0.67 and row["vertices"] == "q: 1.000"
    assert only(effect(rows("topk", BASE), rows("reg", REG, p=silent)))["reach"] == 0.67
    assert (
        only(effect(rows("topk", BASE), rows("reg", REG, p=silent), firing=0.8))[
            "reach"
        ]
        == 0.69
    )
    diverged = {"status": "diverged", "r2": np.nan, "ms_mean_alive": np.nan}
    assert (
        only(effect(rows("topk", BASE), rows("reg", REG, p=diverged)))["reach"] == 0.67
    )
    for lost in (
        rows("reg", REG, p=l0, q=l0),
        rows("reg", REG, p=diverged, q=diverged),
    ):
        row = only(effect(rows("topk", BASE), lost))
        assert row["status"] == "infeasible" and np.isnan(row["effect"])
    row = only(
        effect(rows("topk", BASE, a=silent, b=silent, c=silent), rows("reg", REG))
    )
    assert (
        row["status"] == "infeasible"
        and np.isnan(row["effect"])
        and np.isnan(row["star"])
    )


def test_fresh_seeds_alone_are_read_and_one_that_diverged_takes_its_vertex_out():
    # Validation of the tuning seed chose; the fresh seeds score .1 more, but p diverged in one of them.
    fresh = {name: (r2, ms + 0.1) for name, (r2, ms) in REG.items()}
    parts = (
        rows("topk", BASE, seeds=(0, 3, 4)),
        rows("reg", REG),
        rows("reg", fresh, seeds=(3, 4)),
    )
    lost = [row for row in parts[2] if row["trial"] == "p" and row["seed"] == 4]
    for row in lost:
        row |= {"status": "diverged", "r2": np.nan, "ms_mean_alive": np.nan}
    table = effect(*parts, tuning=0).set_index("seed")
    assert (
        sorted(table.index) == [3, 4]
        and table["fresh"].all()
        and (table["seeds"] == 2).all()
    )
    whole = (0.46 - 0.42) / 2 + (0.47 - 0.43) / 2 + 0.1
    assert table.loc[3, "effect"] == pytest.approx(whole)
    # Without p the method reaches .67: both are read there.
    assert table.loc[4, "effect"] == pytest.approx(0.6 - 0.44) and table[
        "lost"
    ].tolist() == ["", "p"]
    mean = only(fronts.by_cell(table.reset_index()))
    assert (
        mean["effect"] == pytest.approx(table["effect"].mean()) and mean["lost"] == "p"
    )
    for row in parts[
        0
    ]:  # The baseline's R* too, in the other seed: an identical method then has no effect.
        row["status"] = "diverged" if (row["trial"], row["seed"]) == ("a", 3) else "ok"
    same = [row | {"method": "reg", "status": "ok"} for row in parts[0]]
    assert effect(parts[0], same, tuning=0)["effect"].tolist() == [0, 0]
    for row in parts[0]:
        row["status"] = "diverged" if row["seed"] else "ok"
    row = only(effect(parts[0], same, tuning=0))
    assert (
        row["status"] == "diverged"
        and np.isnan(row["effect"])
        and row["lost"] == "a; b"
    )


def test_another_bound_is_read_in_every_cell_with_the_tuning_s_seed():
    # In d2 a trial with many silent latents would be the best: no fresh seed was trained of it.
    other, silent = CELL | {"dataset": "d2"}, {"dead_train": 20}
    parts = [rows("topk", BASE, cell, seeds=(0, 3, 4)) for cell in (CELL, other)]
    parts += [rows("reg", REG, cell, seeds=(0, 3, 4)) for cell in (CELL, other)]
    parts.append(rows("reg", {"z": (0.71, 0.60)}, other, z=silent))
    metrics, rule = (
        pd.DataFrame([row for part in parts for row in part]),
        Rule(widths=[0.02], tuning=0),
    )
    found = {
        said: of[of["score"] == "ms"]
        for said, of in fronts.sensitivity(metrics, AGAINST, rule)
    }
    usual, free = (
        found[f"{share}% of latents must fire"].set_index("dataset")
        for share in (90, 0)
    )
    assert (usual["seed"] == 0).all() and usual["effect"].tolist() == pytest.approx(
        [0.04, 0.04]
    )
    assert free.loc["d", "effect"] == pytest.approx(0.04) and free.loc[
        "d2", "effect"
    ] == pytest.approx(0.60 - 0.42)
    # By the fresh seeds that cell would have no number, and it is said.
    table = fronts.effects(
        metrics, AGAINST, rule.model_copy(update={"firing": 0.0})
    ).query("score == 'ms'")
    assert [*table["status"]] == ["ok", "ok", "seeds missing"]


def test_each_endpoint_has_a_front_of_its_own_and_others_are_read_at_the_first_one_s():
    ways = {
        "p": {"detection_alive": 0.6, "dead": 5, "dead_train": 5},
        "q": {"detection_alive": 0.5, "dead_train": 1},
    }
    base = {name: {"detection_alive": 0.5, "dead_train": 3} for name in BASE}
    table = [rows("topk", BASE, **base), rows("reg", REG, **ways)]
    found = only(effect(*table, score="detection_alive"))
    assert found["vertices"] == "p: 1.000" and found["effect"] == pytest.approx(0.1)
    # Fewer dead latents are better: at the weights of MS, .875 of 5 and .125 of 1, against 3.
    assert only(effect(*table, score="dead_train"))["effect"] == pytest.approx(
        3 - (0.875 * 5 + 0.125)
    )
    assert effect(*table, score="probe_auc").empty  # Nowhere measured.


def test_a_trial_that_finds_a_length_is_no_trial_of_the_method():
    tried = {
        "auxk_alpha0.1-encoder_scale1-lr0.01": (0.70, 0.40),
        "lr0.01-steps500": (0.8, 0.9),
    }
    both = (
        rows("topk", tried),
        rows("reg", {"auxk_alpha0.1-encoder_scale1-lambda0.1-lr0.01": (0.70, 0.45)}),
    )
    row = only(effect(*both, tuned=["auxk_alpha", "encoder_scale", "lr"]))
    assert row["star"] == 0.70 and row["effect"] == pytest.approx(0.05)


@pytest.mark.slow
def test_size_and_power_of_the_rule_in_simulated_cells():
    sys.path.append(str(ROOT / "bench"))
    import power

    found = power.outcomes(
        np.random.default_rng(0), {"reg": 0.02, "same": 0.0}, 0.0, 150
    )
    shown = found.filter(like="shown").sum(axis="columns")
    # What is not there is shown in 5 % of runs, within three standard errors; .02 in nearly all; no bias.
    assert shown["same"] < 0.05 + 3 * (0.05 * 0.95 / 150) ** 0.5 and shown["reg"] > 0.95
    assert (
        abs(found.loc["same", "effect"]) < 0.002
        and abs(found.loc["reg", "effect"] - 0.02) < 0.002
    )

"""What protocol `fair` trains and judges, in planted worlds where it is known what an SAE of given settings scores."""

import hashlib
import math

import pandas as pd
import pytest
from bank.common import RECIPE, REG1, method, plan
from scipy.stats import qmc

from sae.bank.plan import named
from sae.core.errors import UserError
from sae.protocols import fair
from sae.protocols._history import History

METHODS = {
    "topk": method(),
    "reg1": method(**REG1),
    "reg1_all": method(**REG1 | {"mask": "all"}, at="reg1"),
    "untrained": method(control=True),
}
RULE = {
    "lr": [0.0003, 0.01],
    "encoder_scale": [0.1, 1.0],
    "auxk_alpha": [0.01, 0.3],
    "design_seed": 0,
}
RULE |= {
    "points": 6,
    "refined": 2,
    "values": 3,
    "tuning": 0,
    "fresh": [3, 4, 5],
    "widths": [0.01, 0.02],
}
RULE |= {
    "steps": {"first": 10, "gain_r2": 0.003, "gain_ms": 0.005},
    "most_steps": {"digits": 80},
}
RULE |= {
    "l0": 1.02,
    "firing": 0.9,
    "ranges": {"reg1": {"lambda": {"k4": [0.001, 0.1]}}},
}
WHOLE = RECIPE | {"encoder_scale": 1.0, "steps": None, "frozen": None}


def trained(settings):
    """R^2 and MS trade off with the learning rate, on a concave front; more than 40 steps gain nothing."""
    rate, gain = math.log10(settings.lr / 0.0003) / 1.5, 1 - 1 / min(settings.steps, 40)
    lam = 0 if settings.lam is None else math.log10(settings.lam / 0.0001) / 100
    return {
        "r2": 0.5 + gain * (0.2 * rate - lam / 10),
        "ms": gain * (0.5 - 0.1 * rate**2 + lam),
    }


def rows(members, world):
    for m in members:
        values = (
            {"l0": 4.0, "dead_train": 0, "m": 32, "status": "ok"}
            | world(m.settings)
            | {"method": m.method}
        )
        values["ms_mean_alive"] = values.pop("ms")
        if values["status"] != "ok":
            values |= dict.fromkeys(("r2", "l0", "ms_mean_alive", "dead_train"))
        yield values | {"trial": m.name, "seed": m.settings.seed}


def follow(world=trained, methods=METHODS, **rule):
    """Train what is asked for until it is no more: the rounds, lists of SAEs, and the last history."""
    of = plan(methods, recipe=WHOLE, protocols={"fair": RULE | rule})
    rounds, done = [], {}
    while True:
        none = pd.DataFrame(columns=["method", "trial", "seed", "status"])
        table = pd.DataFrame(rows(done.values(), world)) if done else none
        history = History(of, fair.Options(**RULE | rule), done, table)
        new = [m for m in fair.next(history) if m.path not in done]
        if not new:
            return rounds, history
        rounds.append(new)
        done = done | named(new)


def test_the_rounds():
    rounds, history = follow()
    lengths, (points, refined, judged) = rounds[:-3], rounds[-3:]
    # 10, 20, 40 and 80 steps, three rates each: the last doubling gains nothing.
    assert [{m.settings.steps for m in each} for each in lengths] == [
        {10},
        {20},
        {40},
        {80},
    ]
    assert all(
        [m.settings.lr for m in each] == [0.000538, 0.00173, 0.00557]
        for each in lengths
    )
    assert history.plan.methods["topk"] and fair.choose(history).facts == {
        "steps": 80,
        "undertrained": False,
    }
    # Six common points, of one Sobol sequence in the unit cube; a method's own option at the geometric middle.
    by_method = {
        name: [m.settings for m in points if m.method == name]
        for name in ("topk", "reg1")
    }
    common = [(s.lr, s.encoder_scale, s.auxk_alpha, s.steps) for s in by_method["topk"]]
    assert (
        common
        == [(s.lr, s.encoder_scale, s.auxk_alpha, s.steps) for s in by_method["reg1"]]
        and len(common) == 6
    )
    scramble = int.from_bytes(
        hashlib.sha256(b"0 digits tiny points").digest()[:4], "big"
    )
    unit = qmc.Sobol(8, scramble=True, rng=scramble).random(8)[:6]
    assert [s[0] for s in common] == pytest.approx(
        [0.0003 * (0.01 / 0.0003) ** u for u in unit[:, 0]], rel=0.005
    )
    assert {s.lam for s in by_method["reg1"]} == {0.01} and {
        m.method for m in points
    } == {"topk", "reg1"}
    # Three values of lambda at each of the two rates that reconstruct best; without options of its own, points nearby.
    best = sorted({s.lr for s in by_method["topk"]})[-2:]
    own = [m.settings for m in refined if m.method == "reg1"]
    assert (
        sorted(s.lr for s in own) == sorted(3 * best) and len({s.lam for s in own}) == 6
    )
    near = [m.settings for m in refined if m.method == "topk"]
    third = (0.01 / 0.0003) ** (1 / 6)
    for rate, around in zip(reversed(best), (near[:3], near[3:]), strict=True):
        assert all(
            rate / third <= s.lr * 1.005 and s.lr <= rate * third * 1.005
            for s in around
        )
    assert {m.settings.seed for each in rounds[:-1] for m in each} == {0}
    assert {m.settings.seed for m in judged} == {3, 4, 5}
    assert len(points) + len(refined) == 24


def test_every_vertex_with_weight_is_judged_and_the_ablation_at_the_heaviest():
    _, history = follow()
    choice = fair.choose(history)
    table = pd.DataFrame(choice.rows)
    assert table.groupby(["method", "width"])[
        "weight"
    ].sum().to_numpy() == pytest.approx(1)
    assert (
        set(table["role"]) == {"vertex"}
        and set(table["status"]) == {"chosen"}
        and table["seed"].isna().all()
    )
    judged = {(name, trial) for name, trial, _ in choice.judged}
    assert {(r["method"], r["trial"]) for r in choice.rows} == {
        key for key in judged if key[0] != "reg1_all"
    }
    first = table[(table["method"] == "reg1") & (table["width"] == 0.01)]
    assert {t for name, t in judged if name == "reg1_all"} == {
        first.loc[first["weight"].idxmax(), "trial"]
    }
    of_topk = [
        trained(m.settings)["r2"]
        for m in history.trained.values()
        if m.method == "topk" and len(m.trial) > 2
    ]
    assert (
        table["bar"].iloc[0] == max(of_topk) and (table["r2"] <= table["reach"]).all()
    )


def test_what_kills_latents_or_spends_more_of_them_is_on_no_front():
    def world(s):
        # The highest rates reconstruct best by letting half of the dictionary die; low lambdas spend more latents.
        return trained(s) | {
            "dead_train": 16 if s.lr > 0.003 else 3,
            "l0": 4.1 if s.lam and s.lam < 0.01 else 4.0,
        }

    _, history = follow(world)
    for row in fair.choose(history).rows:
        member = next(
            m
            for m in history.trained.values()
            if (m.method, m.name) == (row["method"], row["trial"])
        )
        assert member.settings.lr <= 0.003 and not (member.settings.lam or 1) < 0.01


def test_a_method_without_a_feasible_trial_says_so_and_a_baseline_without_one_fails():
    def dead(name):
        return lambda s: (
            trained(s)
            | ({"dead_train": 9} if (s.penalty is None) == (name == "topk") else {})
        )

    rounds, history = follow(dead("reg1"))
    lost = [row for row in fair.choose(history).rows if row["method"] == "reg1"]
    assert [(row["trial"], row["status"]) for row in lost] == [(None, "infeasible")]
    # Its trials are refined all the same, and none of it is judged.
    assert sum(m.method == "reg1" for m in rounds[-2]) == 6 and {
        m.method for m in rounds[-1]
    } == {"topk"}
    with pytest.raises(
        UserError,
        match=r"no trial of topk is feasible .* 90% of the latents or more fire",
    ):
        follow(dead("topk"))


def test_diverged_trials_are_out_and_all_of_them_fail_the_cell():
    _, history = follow(
        lambda s: trained(s) | ({"status": "diverged"} if s.lr > 0.002 else {})
    )
    rates = [
        float(row["trial"].split("-lr")[1].split("-")[0])
        for row in fair.choose(history).rows
    ]
    assert rates and max(rates) <= 0.002
    with pytest.raises(
        UserError,
        match="the baseline diverged at every learning rate: lower `lr` of protocol fair",
    ):
        follow(lambda s: trained(s) | {"status": "diverged"})


def test_a_baseline_that_gains_at_the_longest_is_undertrained_and_own_steps_are_kept():
    _, history = follow(most_steps={"digits": 20})
    assert fair.choose(history).facts == {"steps": 20, "undertrained": True}
    own = {name: spec | {"recipe": {"steps": 7}} for name, spec in METHODS.items()}
    rounds, history = follow(methods=own, most_steps=None)
    assert len(rounds) == 3 and {m.settings.steps for each in rounds for m in each} == {
        7
    }
    assert fair.choose(history).facts == {}


def test_no_more_saes_than_costs_reckon():
    rounds, history = follow()
    sizes = fair.at_most(history.plan, history.options)
    *first, refined, judged = rounds
    assert (
        sum(map(len, first)) == sizes.trials == 12 + 2 * 6
        and len(refined) + len(judged) <= sizes.after
    )
    assert sum(sizes.by_method.values()) == sizes.trials + sizes.after
    assert sizes.most_steps == 80

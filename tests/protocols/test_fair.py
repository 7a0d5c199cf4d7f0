"""What protocol `fair` trains and judges, in planted worlds.

In a world it is known what an SAE of given settings scores.
"""

import hashlib
import math

import pandas as pd
import pytest
from bank.common import RECIPE, REG1, method, plan
from scipy.stats import qmc

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
    "points": 6,
    "refined": 2,
    "values": 3,
    "tuning": 0,
    "fresh": [3, 4, 5],
    "widths": [0.01, 0.02],
    "steps": {"first": 10, "gain_r2": 0.003, "gain_ms": 0.005},
    "most_steps": {"digits": 80},
    "l0": 1.02,
    "firing": 0.9,
    "ranges": {"reg1": {"lambda": {"k4": [0.001, 0.1]}}},
}
SCALED_RECIPE = RECIPE | {"encoder_scale": 1.0, "steps": None, "frozen": None}


def concave_world(settings):
    """Return scores of an SAE: R^2 and MS trade off with the learning rate.

    Their front is concave, and more than 40 steps gain nothing.
    """
    rate = math.log10(settings.lr / 0.0003) / 1.5
    trained_share = 1 - 1 / min(settings.steps, 40)
    penalty = 0 if settings.lam is None else math.log10(settings.lam / 0.0001) / 100
    return {
        "r2": 0.5 + trained_share * (0.2 * rate - penalty / 10),
        "ms": trained_share * (0.5 - 0.1 * rate**2 + penalty),
    }


def validation_table(members, world):
    """Return a history's table of validation: a row for each SAE, scored by a world."""
    rows = []
    for member in members:
        row = {
            "l0": 4.0,
            "dead_train": 0,
            "m": 32,
            "status": "ok",
            **world(member.settings),
            "method": member.method,
            "trial": member.name,
            "seed": member.settings.seed,
        }
        row["ms_mean_alive"] = row.pop("ms")
        if row["status"] != "ok":
            row.update(dict.fromkeys(("r2", "l0", "ms_mean_alive", "dead_train")))
        rows.append(row)
    if not rows:
        return pd.DataFrame(columns=["method", "trial", "seed", "status"])
    return pd.DataFrame(rows)


def run_protocol(world=concave_world, methods=METHODS, **changed_rule):
    """Train what is asked for until it is no more.

    Returns:
        The rounds, each a list of SAEs, and the last history.
    """
    rule = RULE | changed_rule
    cell = plan(methods, recipe=SCALED_RECIPE, protocols={"fair": rule})
    rounds = []
    trained = {}
    while True:
        table = validation_table(trained.values(), world)
        history = History(cell, fair.Options(**rule), trained, table)
        lacking = [m for m in fair.next(history) if m.path not in trained]
        if not lacking:
            return rounds, history
        rounds.append(lacking)
        trained = trained | {sae.path: sae for sae in lacking}


@pytest.fixture(scope="module")
def concave_run():
    """The rounds and the last history of the whole rule in the concave world."""
    return run_protocol()


def settings_of(members, method):
    """Return the settings of a method's SAEs."""
    return [member.settings for member in members if member.method == method]


def test_the_baseline_trains_longer_until_a_doubling_gains_nothing(concave_run):
    rounds, history = concave_run
    lengths = rounds[:-3]
    steps_by_round = [{m.settings.steps for m in members} for members in lengths]
    assert steps_by_round == [{10}, {20}, {40}, {80}]
    for members in lengths:
        assert {m.method for m in members} == {"topk"}
        assert [m.settings.lr for m in members] == [0.000538, 0.00173, 0.00557]
    facts = fair.choose(history).facts
    assert facts == {"steps": 80, "undertrained": False}


def test_every_method_tries_the_same_points_of_one_sobol_sequence(concave_run):
    rounds, _ = concave_run
    points = rounds[-3]
    assert {m.method for m in points} == {"topk", "reg1"}
    common_of_topk, common_of_reg1 = (
        [
            (s.lr, s.encoder_scale, s.auxk_alpha, s.steps)
            for s in settings_of(points, method)
        ]
        for method in ("topk", "reg1")
    )
    assert len(common_of_topk) == 6
    assert common_of_topk == common_of_reg1

    digest = hashlib.sha256(b"0 digits tiny points").digest()
    scramble = int.from_bytes(digest[:4], "big")
    unit_points = qmc.Sobol(8, scramble=True, rng=scramble).random(8)[:6]
    rates = [0.0003 * (0.01 / 0.0003) ** share for share in unit_points[:, 0]]
    assert [point[0] for point in common_of_topk] == pytest.approx(rates, rel=0.005)

    # A method's own option stands at the geometric middle of its range.
    assert {s.lam for s in settings_of(points, "reg1")} == {0.01}


def test_own_options_are_refined_at_the_two_trials_that_reconstruct_best(concave_run):
    rounds, _ = concave_run
    points, refined = rounds[-3], rounds[-2]
    best_rates = sorted({s.lr for s in settings_of(points, "topk")})[-2:]
    refined_reg1 = settings_of(refined, "reg1")
    assert sorted(s.lr for s in refined_reg1) == sorted(3 * best_rates)
    assert len({s.lam for s in refined_reg1}) == 6
    assert len(points) + len(refined) == 24


def test_a_method_without_own_options_is_refined_at_common_points_nearby(concave_run):
    rounds, _ = concave_run
    points, refined = rounds[-3], rounds[-2]
    second_rate, best_rate = sorted({s.lr for s in settings_of(points, "topk")})[-2:]
    refined_topk = settings_of(refined, "topk")
    assert len(refined_topk) == 6
    half_third = (0.01 / 0.0003) ** (1 / 6)
    for rate, nearby in (
        (best_rate, refined_topk[:3]),
        (second_rate, refined_topk[3:]),
    ):
        for settings in nearby:
            assert rate / half_third <= settings.lr * 1.005
            assert settings.lr <= rate * half_third * 1.005


def test_only_what_is_judged_has_fresh_seeds(concave_run):
    rounds, _ = concave_run
    *tuning_rounds, judged = rounds
    tuning_seeds = {m.settings.seed for members in tuning_rounds for m in members}
    assert tuning_seeds == {0}
    assert {m.settings.seed for m in judged} == {3, 4, 5}


def test_every_vertex_with_weight_is_judged_and_the_ablation_at_the_heaviest(
    concave_run,
):
    _, history = concave_run
    choice = fair.choose(history)
    vertices = pd.DataFrame(choice.rows)
    weight_sums = vertices.groupby(["method", "width"])["weight"].sum()
    assert weight_sums.to_numpy() == pytest.approx(1)
    assert set(vertices["role"]) == {"vertex"}
    assert set(vertices["status"]) == {"chosen"}
    assert vertices["seed"].isna().all()

    judged_trials = {(method, trial) for method, trial, _ in choice.chosen}
    chosen_trials = {(row["method"], row["trial"]) for row in choice.rows}
    ablation_trials = {key for key in judged_trials if key[0] == "reg1_all"}
    assert chosen_trials == judged_trials - ablation_trials
    is_headline = (vertices["method"] == "reg1") & (vertices["width"] == 0.01)
    headline = vertices[is_headline]
    heaviest_trial = headline.loc[headline["weight"].idxmax(), "trial"]
    assert ablation_trials == {("reg1_all", heaviest_trial)}


def test_r_star_is_the_best_r2_of_the_baselines_trials(concave_run):
    _, history = concave_run
    vertices = pd.DataFrame(fair.choose(history).rows)
    # Those of the first round have a rate and steps alone, and are no trials.
    r2_of_topk = [
        concave_world(member.settings)["r2"]
        for member in history.trained.values()
        if member.method == "topk" and len(member.trial) > 2
    ]
    assert vertices["bar"].iloc[0] == max(r2_of_topk)
    assert (vertices["r2"] <= vertices["reach"]).all()


def test_what_kills_latents_or_spends_more_of_them_is_on_no_front():
    def world(settings):
        # The highest rates reconstruct best by letting half of the dictionary die; low
        # lambdas spend more latents.
        return concave_world(settings) | {
            "dead_train": 16 if settings.lr > 0.003 else 3,
            "l0": 4.1 if settings.lam and settings.lam < 0.01 else 4.0,
        }

    _, history = run_protocol(world)
    settings_by_trial = {
        (member.method, member.name): member.settings
        for member in history.trained.values()
    }
    for row in fair.choose(history).rows:
        settings = settings_by_trial[row["method"], row["trial"]]
        assert settings.lr <= 0.003
        assert settings.lam is None or settings.lam >= 0.01


def world_of_dead(method):
    """Return a world where too many latents of a method, topk or reg1, are dead."""

    def world(settings):
        is_of_method = (settings.penalty is None) == (method == "topk")
        return concave_world(settings) | ({"dead_train": 9} if is_of_method else {})

    return world


def test_a_method_without_a_feasible_trial_is_refined_but_not_judged():
    rounds, history = run_protocol(world_of_dead("reg1"))
    rows_of_reg1 = [row for row in fair.choose(history).rows if row["method"] == "reg1"]
    trials_and_status = [(row["trial"], row["status"]) for row in rows_of_reg1]
    assert trials_and_status == [(None, "infeasible")]
    refined, judged = rounds[-2:]
    assert sum(m.method == "reg1" for m in refined) == 6
    assert {m.method for m in judged} == {"topk"}


def test_a_baseline_without_a_feasible_trial_fails_its_cell():
    message = r"no trial of topk is feasible .* 90% of the latents or more fire"
    with pytest.raises(UserError, match=message):
        run_protocol(world_of_dead("topk"))


def test_diverged_trials_are_on_no_front():
    def world(settings):
        is_lost = settings.lr > 0.002
        return concave_world(settings) | ({"status": "diverged"} if is_lost else {})

    _, history = run_protocol(world)
    rate_by_trial = {
        (member.method, member.name): member.settings.lr
        for member in history.trained.values()
    }
    rates = [
        rate_by_trial[row["method"], row["trial"]] for row in fair.choose(history).rows
    ]
    assert rates
    assert max(rates) <= 0.002


def test_a_baseline_that_diverges_at_every_rate_fails_its_cell():
    message = (
        "the baseline diverged at every learning rate: lower `lr` of protocol fair"
    )
    with pytest.raises(UserError, match=message):
        run_protocol(lambda s: concave_world(s) | {"status": "diverged"})


def test_a_baseline_that_still_gains_at_the_longest_is_undertrained():
    _, history = run_protocol(most_steps={"digits": 20})
    facts = fair.choose(history).facts
    assert facts == {"steps": 20, "undertrained": True}


def test_methods_keep_their_own_steps_where_the_rule_has_no_longest():
    methods = {name: spec | {"recipe": {"steps": 7}} for name, spec in METHODS.items()}
    rounds, history = run_protocol(methods=methods, most_steps=None)
    assert len(rounds) == 3
    steps = {member.settings.steps for members in rounds for member in members}
    assert steps == {7}
    assert fair.choose(history).facts == {}


def test_no_more_saes_are_trained_than_costs_reckon(concave_run):
    rounds, history = concave_run
    sizes = fair.at_most(history.plan, history.options)
    *first_rounds, refined, judged = rounds
    assert sum(map(len, first_rounds)) == sizes.trials == 12 + 2 * 6
    assert len(refined) + len(judged) <= sizes.after
    assert sum(sizes.by_method.values()) == sizes.trials + sizes.after
    assert sizes.most_steps == 80


POINTS = [
    {"lr": 0.001, "encoder_scale": 0.1, "auxk_alpha": 0.3},
    {"lr": 0.001, "encoder_scale": 1.0, "auxk_alpha": 0.01, "alone": True},
    {"lr": 0.004, "encoder_scale": 0.1, "auxk_alpha": 0.3},
    {"lr": 0.004, "encoder_scale": 1.0, "auxk_alpha": 0.01, "alone": True},
]
GRID = {
    "points": POINTS,
    "own_values": {"reg1": {"lambda": {"k4": [0.01, 0.03], "k8": [9.0]}}},
    "ranges": {},
}


def tried(members, method):
    """Return (lr, encoder scale, AuxK's alpha, lambda) of a method's SAEs."""
    return [
        (s.lr, s.encoder_scale, s.auxk_alpha, s.lam)
        for s in settings_of(members, method)
    ]


def test_listed_points_are_tried_as_they_stand_and_not_refined():
    rounds, history = run_protocol(**GRID)
    *lengths, points, judged = rounds
    assert [{m.settings.steps for m in members} for members in lengths] == [
        {10},
        {20},
        {40},
        {80},
    ]
    assert tried(points, "topk") == [
        (0.001, 0.1, 0.3, None),
        (0.001, 1.0, 0.01, None),
        (0.004, 0.1, 0.3, None),
        (0.004, 1.0, 0.01, None),
    ]
    assert tried(points, "reg1") == [
        (0.001, 0.1, 0.3, 0.01),
        (0.001, 0.1, 0.3, 0.03),
        (0.004, 0.1, 0.3, 0.01),
        (0.004, 0.1, 0.3, 0.03),
    ]
    assert {m.settings.steps for m in points} == {80}

    tried_points = {(m.method, m.name) for m in points}
    assert {m.settings.seed for m in judged} == {3, 4, 5}
    of_tuned = {(m.method, m.name) for m in judged if m.method != "reg1_all"}
    assert of_tuned <= tried_points
    assert {row["method"] for row in fair.choose(history).rows} == {"topk", "reg1"}


def test_the_sizes_of_a_grid_are_those_of_its_rounds():
    rounds, _ = run_protocol(**GRID)
    rule = RULE | GRID
    cell = plan(METHODS, recipe=SCALED_RECIPE, protocols={"fair": rule})
    sizes = fair.at_most(cell, fair.Options(**rule))
    assert sizes.trials == sum(map(len, rounds[:-1]))
    assert sizes.after == sizes.chosen >= len(rounds[-1])


def test_a_method_that_has_no_own_values_trains_at_every_point():
    rounds, _ = run_protocol(
        **GRID | {"own_values": {}},
        methods={
            "topk": method(),
            "reg1": method(**REG1 | {"lambda": 0.02}),
        },
    )
    points = rounds[-2]
    assert len(settings_of(points, "reg1")) == 4
    assert {s.lam for s in settings_of(points, "reg1")} == {0.02}

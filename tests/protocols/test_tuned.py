"""What protocol `tuned` trains and chooses, in worlds whose scores are planted."""

import math

import pandas as pd
import pytest
from bank.common import METHODS, RECIPE, REG1, method, plan, write_activations

from sae.bank.read import read
from sae.bank.train import Place
from sae.core import files
from sae.core.errors import UserError
from sae.protocols import _cell, tuned
from sae.protocols._history import History
from sae.scoring.choice import DETECTION

SWEPT = {
    "topk": method(sweep={"lr": [0.001, 0.003]}),
    "reg1": method(**REG1, sweep={"lambda": [0.001, 0.01]}),
    "untrained": method(control=True),
}
# The penalty costs R^2, and raises detection.
R2_BY_LAMBDA = {None: 0.75, 0.001: 0.745, 0.01: 0.70}


def world(settings):
    """Return scores of an SAE: a rate of .003 reconstructs less, and is detected more."""
    lam = settings.lam
    scores = {"r2": R2_BY_LAMBDA[lam] - 0.1 * (settings.lr == 0.003)}
    return scores | {DETECTION: 0.6 + (lam or 0) + settings.lr}


def run_protocol(world=world, methods=SWEPT, protocols=None, recipe=RECIPE, **options):
    """Train what is asked for until it is no more.

    Returns:
        The rounds, each a list of SAEs, and the last history.
    """
    cell = plan(methods, recipe=recipe, protocols=protocols or {"tuned": options})
    rounds, rows, trained = [], [], {}
    while True:
        columns = ["method", "trial", "seed", "status"]
        table = pd.DataFrame(rows) if rows else pd.DataFrame(columns=columns)
        history = History(cell, tuned.Options(**options), trained, table)
        lacking = [sae for sae in tuned.next(history) if sae.path not in trained]
        if not lacking:
            return rounds, history
        rounds.append(lacking)
        for sae in lacking:
            trained = trained | {sae.path: sae}
            about = {"method": sae.method, "trial": sae.name, "status": "ok"}
            about |= {"seed": sae.settings.seed, "l0": 4.0}
            rows.append(about | world(sae.settings))


def names(saes):
    return [(sae.method, sae.name, sae.settings.seed) for sae in saes]


def test_trials_of_the_sweeps_then_the_chosen_ones_with_fresh_seeds():
    rounds, history = run_protocol(trials={"reg1": [{"lambda": 0.001, "lr": 0.003}]})
    controls = [("untrained", "default", seed) for seed in (3, 4, 5)]
    assert names(rounds[0]) == [
        ("topk", "lr0.001", 0),
        ("topk", "lr0.003", 0),
        ("reg1", "lambda0.001", 0),
        ("reg1", "lambda0.01", 0),
        ("reg1", "lambda0.001-lr0.003", 0),
        *controls,
    ]
    # .745 lies within .01 of Top-k's best, .75; those of higher detection do not.
    chosen = [("topk", "lr0.001"), ("reg1", "lambda0.001")]
    assert names(rounds[1]) == [(*of, seed) for of in chosen for seed in (3, 4, 5)]
    assert len(rounds) == 2

    choice = tuned.choose(history)
    table = pd.DataFrame(choice.rows).set_index("trial")
    assert table["role"].eq("chosen").tolist() == [True, False, True, False, False]
    assert set(table["bar"]) == {0.75}
    assert table.loc["lambda0.001", ["status", "seeds"]].tolist() == ["chosen", "3 4 5"]
    assert choice.chosen == {sae.table_key for sae in [*rounds[1], *rounds[0][-3:]]}


@pytest.mark.parametrize(
    "failing", [{"status": "diverged"}, {"l0": 4.09}, {"r2": math.nan}]
)
def test_a_fresh_seed_that_fails_leaves_no_choice(failing):
    def with_failure(settings):
        fails = settings.lam == 0.001 and settings.seed == 4
        return world(settings) | (failing if fails else {})

    rounds, history = run_protocol(with_failure)
    # Nothing else is trained in its place.
    assert len(rounds) == 2
    status = pd.DataFrame(tuned.choose(history).rows).set_index("trial")["status"]
    assert status["lambda0.001"] == "fresh seed failed"
    assert status["lr0.001"] == "chosen"


def test_a_method_out_of_reach_has_no_fresh_seeds():
    rounds, history = run_protocol(
        lambda settings: world(settings) | ({"r2": 0.73} if settings.lam else {})
    )
    assert {sae.method for sae in rounds[1]} == {"topk"}
    rows = pd.DataFrame(tuned.choose(history).rows)
    of_reg1 = rows[rows["method"] == "reg1"]
    assert set(of_reg1["status"]) == {"not chosen"}
    assert set(of_reg1["bar"]) == {0.75}


def test_a_baseline_without_a_feasible_trial_ends_the_cell():
    with pytest.raises(UserError, match="no trial of topk is feasible"):
        run_protocol(lambda settings: world(settings) | {"l0": 5.0})


def test_where_nobody_judges_the_highest_r2_is_chosen():
    rounds, _ = run_protocol(lambda settings: {"r2": world(settings)["r2"]})
    assert {sae.name for sae in rounds[1]} == {"lr0.001", "lambda0.001"}


RATES = [
    {"lr": lr, "encoder_scale": 1.0, "auxk_alpha": 0.03, "alone": alone}
    for lr, alone in ((0.001, False), (0.002, True), (0.004, True))
]
SCALED = RECIPE | {"encoder_scale": 1.0}


def lr_alone(settings):
    return {"r2": 0.75, DETECTION: settings.lr}


def test_listed_points_give_all_methods_as_many_trials():
    methods = {"topk": method(), "reg1": method(**REG1)}
    own = {"reg1": {"lambda": [0.001, 0.003, 0.01]}}
    options = {"points": RATES, "own_values": own}
    rounds, _ = run_protocol(lr_alone, methods, recipe=SCALED, **options)
    of = {
        name: [sae.trial for sae in rounds[0] if sae.method == name] for name in methods
    }
    assert [trial["lr"] for trial in of["topk"]] == [0.001, 0.002, 0.004]
    assert [(trial["lr"], trial["lambda"]) for trial in of["reg1"]] == [
        (0.001, 0.001),
        (0.001, 0.003),
        (0.001, 0.01),
    ]
    sizes = tuned.at_most(
        plan(methods, recipe=SCALED, protocols={"tuned": options}),
        tuned.Options(**options),
    )
    assert (sizes.trials, sizes.after) == (6, 6)
    assert len(rounds[1]) == 6


def test_drawn_points_are_those_of_one_sobol_sequence():
    methods = {"topk": method(), "reg1": method(**REG1)}
    options = {"points": 4, "ranges": {"reg1": {"lambda": [0.0001, 0.01]}}}
    rounds, _ = run_protocol(lr_alone, methods, recipe=SCALED, **options)
    again, _ = run_protocol(lr_alone, methods, recipe=SCALED, **options)
    assert names(rounds[0]) == names(again[0])
    of = {
        name: [sae.trial for sae in rounds[0] if sae.method == name] for name in methods
    }
    assert len(of["topk"]) == len(of["reg1"]) == 4
    for place, (low, high) in enumerate([(0.0003, 0.01), (0.03, 1.0), (0.03, 1.0)]):
        name = tuned.COMMON[place]
        # All methods have the same points, within the range.
        values = [trial[name] for trial in of["topk"]]
        assert values == [trial[name] for trial in of["reg1"]]
        assert all(low <= value <= high for value in values)
        # A Sobol sequence has one point in each quarter of every range.
        quarters = [
            int(4 * math.log(value / low) / math.log(high / low)) for value in values
        ]
        assert sorted(quarters) == [0, 1, 2, 3]


def train_cell(folder, activations, protocols):
    """Train a tiny cell; return its SAEs and its selection."""
    place = Place(folder / "store", folder / "bank.json")
    _cell.train(plan(METHODS, protocols=protocols), activations, place, folder)
    return read(place.bank).saes, files.read_parquet(folder / "selection.parquet")


def test_paper_and_tuned_share_the_saes_that_both_ask_for(tmp_path):
    activations = write_activations(tmp_path / "activations")
    alone, selection_alone = train_cell(tmp_path / "alone", activations, {"paper": {}})
    saes, selection = train_cell(
        tmp_path / "both", activations, {"paper": {}, "tuned": {"fresh": [3]}}
    )
    # What paper trains and chooses is as without `tuned`.
    assert saes[: len(alone)] == alone
    of_paper = selection[selection["protocol"] == "paper"].reset_index(drop=True)
    pd.testing.assert_frame_equal(
        of_paper[list(selection_alone)], selection_alone, check_dtype=False
    )
    # All its trials are paper's: three fresh ones are added, of the methods tuned.
    added = saes[len(alone) :]
    assert {sae.settings.seed for sae in added} == {3}
    assert {sae.protocol for sae in added} == {"tuned"}
    assert len({sae.sha256 for sae in saes}) == len(saes)

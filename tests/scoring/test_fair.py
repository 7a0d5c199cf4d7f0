"""The rule of protocol `fair` on planted worlds, where it is known what a method does."""

import math
import shutil

import pandas as pd
import pytest
from scoring.examples import TinyBank, coder, write_activations

from sae.core import files
from sae.core.errors import UserError
from sae.scoring import fair, select, stage
from sae.scoring.metrics import reconstruction
from sae.scoring.selection import choose

CELL = {"dataset": "d", "backbone": "b", "k": 4}
METHODS = {"topk": None, "mine": "topk"}
RULE = {"shortlist": 3, "near": 0.005, "tolerances": [0.002, 0.005], "l0": 1.02, "firing": 0.02, "trials": 4}
RULE |= {"seeds": {"tuning": 0, "shortlist": [1, 2], "fresh": [3, 4]}}
RATES = (0.001, 0.003, 0.01, 0.03)


def world(values, seeds=(0, 1, 2)):
    """Scores of SAEs: {method: {trial: its values, or a value a seed}}; the rest is that of a good baseline."""
    usual = {"r2": 0.7, "ms": 0.5, "l0": 4.0, "firing": 0.99, "ok": True}
    rows = []
    for method, trials in values.items():
        for trial, given in trials.items():
            for number, seed in enumerate(seeds):
                own = {name: v[number] if isinstance(v, tuple) else v for name, v in given.items()}
                rows.append({"method": method, "trial": trial, "seed": seed} | usual | own)
    return pd.DataFrame(rows)


def candidates(scores, methods=METHODS):
    """{(method, tolerance): (trial, status)}."""
    out = fair.choose(scores, methods, RULE, CELL)
    assert set(out["seed"]) == {3, 4} and len(out) == 2 * len(methods) * len(RULE["tolerances"])
    out = out.drop_duplicates(["method", "tolerance"])
    trials = out["trial"].astype(object).where(out["trial"].notna(), None)
    keys = zip(out["method"], out["tolerance"], strict=True)
    return dict(zip(keys, zip(trials, out["status"], strict=True), strict=True))


def trained(rate, steps=300):
    """How good an SAE has become, from 0 to 1: what is trained too gently has not arrived."""
    return 1 - math.exp(-rate * steps)


def test_a_method_that_only_trains_faster_has_no_effect():
    """Its penalty acts as a higher learning rate. Against the recipe's baseline it looks better in both scores."""

    def values(rate):
        return {"r2": 0.6 + 0.1 * trained(rate), "ms": 0.5 + 0.05 * trained(rate)}

    rows = [{**CELL, "method": "topk", "trial": "default", "lambda": None, **values(0.001)}]
    faster = [(f"lambda{lam:g}", lam, values(0.001 * (1 + lam))) for lam in (1, 3)]
    rows += [{**CELL, "method": "mine", "trial": name, "lambda": lam, **found} for name, lam, found in faster]
    sweeps = {"topk": {"against": None, "sweep": {}}, "mine": {"against": "topk", "sweep": {"lambda": []}}}
    of_paper = choose(pd.DataFrame(rows).assign(seed=0, status="ok"), sweeps).set_index("method")["trial"]
    gain = dict((name, found["ms"]) for name, _, found in faster)[of_paper["mine"]] - rows[0]["ms"]
    assert gain > 0.02  # The paper's rule sees an effect.

    tuned = {"topk": {f"lr{rate:g}": values(rate) for rate in RATES}}
    tuned["mine"] = {f"lr{rate:g}": values(2 * rate) for rate in RATES}
    scores = world(tuned)
    chosen = candidates(scores)
    ms = scores.drop_duplicates(["method", "trial"]).set_index(["method", "trial"])["ms"]
    difference = ms["mine", chosen["mine", 0.002][0]] - ms["topk", chosen["topk", 0.002][0]]
    assert abs(difference) < 1e-4


def test_a_true_effect_at_equal_reconstruction_is_found_and_a_loss_is_a_tie():
    tuned = {"topk": {"a": {"r2": 0.7}, "b": {"r2": 0.699, "ms": 0.51}}}
    tuned["mine"] = {"c": {"r2": 0.699, "ms": 0.54}, "d": {"r2": 0.6965, "ms": 0.6}, "e": {"r2": 0.6, "ms": 0.9}}
    found = candidates(world(tuned))
    assert found["topk", 0.002] == found["topk", 0.005] == ("b", "chosen")
    assert found["mine", 0.002] == ("c", "chosen") and found["mine", 0.005] == ("d", "chosen")
    del tuned["mine"]["c"]
    assert candidates(world(tuned))["mine", 0.002] == (None, "tie")


def test_killing_latents_and_spending_more_of_them_buys_nothing():
    tuned = {"topk": {"a": {}}, "mine": {"dead": {"ms": 0.9, "firing": 0.96}, "dense": {"ms": 0.8, "l0": 4.1}}}
    tuned["mine"]["honest"] = {"ms": 0.51, "firing": 0.97, "l0": 4.08}
    assert candidates(world(tuned))["mine", 0.002] == ("honest", "chosen")


def test_choices_read_means_over_the_tuning_seeds_and_a_trial_that_diverged_once_is_out():
    tuned = {"topk": {"a": {"r2": (0.7, 0.7, 0.7)}, "lucky": {"r2": (0.72, 0.68, 0.68), "ms": 0.9}}}
    tuned["mine"] = {"x": {"ms": (0.9, 0.1, 0.1)}, "y": {"ms": 0.4}, "z": {"ms": 0.99, "ok": (True, True, False)}}
    found = candidates(world(tuned))
    assert found["topk", 0.002] == ("a", "chosen") and found["mine", 0.002] == ("y", "chosen")


def test_the_root_of_a_chain_sets_the_bar():
    methods = {"mine": "other", "other": "topk", "topk": None}
    tuned = {"topk": {"a": {}}, "other": {"b": {"r2": 0.72}}, "mine": {"c": {"r2": 0.699}}}
    assert candidates(world(tuned), methods)["mine", 0.002] == ("c", "chosen")


def test_the_shortlist_by_hand():
    base = {"r1": {"r2": 0.700, "ms": 0.40}, "r2": {"r2": 0.699, "ms": 0.41}, "r3": {"r2": 0.698, "ms": 0.42}}
    base |= {"m1": {"r2": 0.696, "ms": 0.50}, "m2": {"r2": 0.6955, "ms": 0.49}, "far": {"r2": 0.69, "ms": 0.9}}
    mine = {name: {"r2": 0.6949, "ms": 0.9} for name in "abcde"} | {"f": {"r2": 0.71, "ms": 0.1}}
    scores = world({"topk": base, "mine": mine}, seeds=(0,))
    got = fair.shortlist(scores, METHODS, RULE | {"trials": 6})
    of = got.groupby("method")["trial"].apply(list)
    # Three of highest MS that come near the best R^2, and of the baseline the three of highest R^2.
    assert of["topk"] == ["m1", "m2", "r3", "r1", "r2"] and of["mine"] == ["f"]


def test_every_method_must_have_as_many_trials():
    scores = world({"topk": {name: {} for name in "abcd"}, "mine": {name: {} for name in "abcde"}}, seeds=(0,))
    with pytest.raises(UserError, match="mine has 5 trials, but every method must have 4"):
        fair.shortlist(scores, METHODS, RULE)
    lost = world({m: {name: {"ok": m != "topk"} for name in "abcd"} for m in METHODS}, seeds=(0,))
    with pytest.raises(UserError, match="every trial of topk diverged"):
        fair.shortlist(lost, METHODS, RULE)


def test_steps_double_until_the_baseline_gains_little_in_both_scores():
    rule = {"most": 1000, "gain_r2": 0.003, "gain_ms": 0.005}

    def tried(*rows):
        return pd.DataFrame(rows, columns=["steps", "lr", "r2", "ms"])

    first = (250, 0.01, 0.60, 0.50), (250, 0.001, 0.5, 0.9)
    assert fair.longer(tried(*first), rule) == 500
    # At the better learning rate of each length: R^2 gains 0.002, MS 0.004.
    settled = tried(*first, (500, 0.01, 0.4, 0.0), (500, 0.001, 0.602, 0.504))
    assert fair.longer(settled, rule) is None and fair.settled(settled, rule)
    for r2, ms in ((0.604, 0.5), (0.6, 0.506)):
        assert fair.longer(tried(*first, (500, 0.001, r2, ms)), rule) == 1000
    cap = tried(*first, (500, 0.001, 0.65, 0.5), (1000, 0.001, 0.7, 0.5))
    assert fair.longer(cap, rule) is None and not fair.settled(cap, rule)


@pytest.fixture
def cell(tmp_path):
    """A bank with two trials of each method under `fair`, and one SAE under `paper`, with activations."""
    write_activations(tmp_path / "own", "b")
    bank = TinyBank(tmp_path / "bank.json")
    bank.add("topk", coder=coder(0))
    for number, rate in enumerate(RATES[:2]):
        bank.add("topk", {"lr": rate}, coder=coder(number), protocol="fair")
        bank.add("mine", {"lr": rate}, coder=coder(number + 2), protocol="fair")
    content = files.read_json(bank.file) | {"steps": 500, "undertrained": True}
    files.write_json(bank.file, content)
    again = TinyBank(tmp_path / "bank_shortlist.json")
    for seed, method, rate in ((s, m, r) for s in (1, 2) for m in METHODS for r in RATES[:2]):
        again.add(method, {"lr": rate}, seed, coder=coder(10 * seed + len(method)), protocol="fair")
    return tmp_path


SETTINGS = {"methods": {"topk": {"against": None, "sweep": []}}, "fair": RULE | {"trials": 2, "methods": METHODS}}


def selected(cell):
    select.shortlist(cell / "bank.json", cell / "own", SETTINGS, cell / "scores/shortlist.parquet")
    tuned = {"shortlist_file": cell / "bank_shortlist.json"}
    select.select(cell / "bank.json", cell / "own", SETTINGS, cell / "scores/selection.parquet", **tuned)
    return [(cell / f"scores/{name}.parquet").read_bytes() for name in ("shortlist", "selection")]


def test_a_selection_needs_no_test_images_and_a_leak_fails(cell, monkeypatch):
    before = selected(cell)
    table = files.read_parquet(cell / "scores/selection.parquet")
    assert table.groupby("protocol").size().to_dict() == {"fair": 8, "paper": 1}
    of_fair = table[table["protocol"] == "fair"]
    assert of_fair["undertrained"].all() and set(of_fair["steps"]) == {500}
    shutil.rmtree(cell / "own/test")
    shutil.rmtree(cell / "scores")
    assert selected(cell) == before
    write_activations(cell / "own", "b")
    shutil.rmtree(cell / "scores")
    score = reconstruction.score
    monkeypatch.setattr(reconstruction, "score", lambda s, split, o: score(s, "test", o))
    with pytest.raises((UserError, KeyError), match="test"):
        selected(cell)


def test_candidates_get_the_scores_of_every_stage_and_stay_out_of_what_the_paper_selects(cell):
    selected(cell)
    chosen = TinyBank(cell / "bank_chosen.json")
    chosen.add("mine", {"lr": 0.001}, 3, coder=coder(5), protocol="fair")
    chosen.add("topk_all", {"lr": 0.001}, 0, coder=coder(6))
    metrics = {"metrics": {name: None for name in ("reconstruction", "latents", "robustness")}}
    where = {"selection": cell / "scores/selection.parquet", "chosen": chosen.file}
    found = {}
    for name in ("score_chosen", "robustness"):
        stage.run(name, cell / "bank.json", cell / "own", metrics, cell / "scores" / name, **where)
        tables = (
            files.read_parquet(cell / f"scores/{name}/{table}.parquet") for table in ("metrics", "curves", "latents")
        )
        found[name] = [set(zip(table["method"], table["seed"], strict=True)) for table in tables]
    assert found["score_chosen"] == [{("topk", 0), ("mine", 3), ("topk_all", 0)}, set(), {("topk", 0), ("mine", 3)}]
    assert found["robustness"][1] == {("topk", 0), ("mine", 3)}
    stage.run(
        "score",
        cell / "bank.json",
        cell / "own",
        metrics,
        cell / "scores/score",
        shortlist=cell / "bank_shortlist.json",
    )
    rows = files.read_parquet(cell / "scores/score/metrics.parquet")
    assert (
        rows.groupby("protocol")["trial"].size().to_dict() == {"fair": 2 * 12, "paper": 2} and rows["r2"].notna().all()
    )

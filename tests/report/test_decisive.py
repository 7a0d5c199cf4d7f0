"""bench/decisive.py: effects that were put into rows by hand, and words by hand.

Along a line of six learning rates the baseline pays .002 of R^2 for each step in the
score. A penalty has the same R^2, and a score that is higher by what a test says. So
its front lies above the baseline's by just that.
"""

import itertools
import sys

import numpy as np
import pandas as pd
import pytest
from conftest import ROOT
from scipy import stats

from sae.core import files
from sae.scoring.front import DETECTION

DATASETS = {
    "fashion_mnist_55k": 16,
    "emoji_vendors_split2": 8,
    "openclipart_split1": 4,
}
# {backbone: by how much its gain differs}.
BACKBONES = {
    "efficientnet_lite0": 0.002,
    "efficientnet_lite2": -0.002,
    "dinov2_vit_s14": 0.001,
}
RATES = [0.0005, 0.001, 0.002, 0.004, 0.006, 0.009]
# Fresh seeds, and by how much a penalty's score differs with them.
SEEDS = {0: 0.0, 3: -0.001, 4: 0.0, 5: 0.001}
GAIN_OF_MATCH = 0.003
# The true gains of Reg. 1, the same at all rates.
MANY = dict(zip(DATASETS, (0.004, 0.020, 0.022), strict=True))
FEW = dict(zip(DATASETS, (0.024, 0.030, 0.010), strict=True))


@pytest.fixture(scope="module")
def decisive():
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(ROOT / "bench")
        patch.syspath_prepend(ROOT / "workflow")
        patch.chdir(ROOT)
        import decisive

        yield decisive


@pytest.fixture(scope="module")
def names(decisive):
    from sae_workflow import settings

    config = settings.read_config("config.yaml")
    plan = settings.claims_settings(config, "decisive")
    return decisive.ComparisonSettings.model_validate(plan)


def make_metrics(gain, *, lone=-0.02, sizes=("many", "few"), datasets=DATASETS):
    """Return rows of the run, protocol `fair`.

    Args:
        gain: (size, dataset, rate) -> what Reg. 1 gains in detection; in MS half of it.
            Reg. 2 gains it on Fashion-MNIST, and loses it elsewhere.
        lone: What the baseline's trials without a twin score above those with one.
            Where it is above 0 they are the baseline's front, and have the fresh seeds.
        sizes: Which there are.
        datasets: Which there are.
    """
    rows = []
    for size, dataset, backbone in itertools.product(sizes, datasets, BACKBONES):
        name = dataset if size == "many" else f"{dataset}_few"
        cell = {"dataset": name, "backbone": backbone, "k": DATASETS[dataset]}
        for number, rate in enumerate(RATES):
            r2 = 0.80 - 0.002 * number
            score = 0.70 + 0.01 * number - 0.0005 * number**2
            point = {**cell, "lr": rate, "r2": r2}
            at_front = {**point, "encoder_scale": 0.1, "auxk_alpha": 0.1}
            below = {
                **point,
                "encoder_scale": 0.3,
                "auxk_alpha": 0.3,
                "r2": r2 - 0.01,
            }
            alone = {**point, "encoder_scale": 0.1, "auxk_alpha": 0.3}
            seeds_of_twins = SEEDS if lone < 0 else [0]
            seeds_of_lone = [0] if lone < 0 else SEEDS
            rows += sae_rows("topk", at_front, score, seeds_of_twins)
            rows += sae_rows("topk", below, score - 0.05, [0])
            rows += sae_rows("topk", alone, score + lone, seeds_of_lone)
            for method, strength in itertools.product(("reg1", "reg2"), (0.001, 0.004)):
                gained = gain(size, dataset, rate) + BACKBONES[backbone]
                if method == "reg2" and dataset != "fashion_mnist_55k":
                    gained = -gained
                seeds = SEEDS if strength == 0.001 else [0]
                penalty = {"lambda": strength, "gain": gained}
                rows += sae_rows(method, at_front | penalty, score, seeds)
                rows += sae_rows(method, below | penalty, score - 0.05, [0])
    return pd.DataFrame(rows).drop(columns="gain")


def sae_rows(method, about, score, seeds):
    """Return the rows of a trial, on both splits, for some seeds."""
    options = [name for name in about if name in OPTIONS]
    trial = "-".join(f"{name}{about[name]:g}" for name in sorted(options))
    gain = about.get("gain", 0.0)
    rows = []
    for seed, split in itertools.product(seeds, ("val", "test")):
        # Validation knows the trials of the tuning alone.
        shift = SEEDS[seed] if method != "topk" else 0.0
        scores = {
            "detection_auc": score + gain + shift,
            "ms_mean_alive": score + gain / 2 + shift,
            "concepts_match": score + (GAIN_OF_MATCH if method != "topk" else 0.0),
        }
        identity = {"method": method, "trial": trial, "seed": seed, "split": split}
        identity["swept"] = " ".join(sorted(options))
        rows.append({**FEASIBLE, **about, **identity, **scores})
    return rows


OPTIONS = ("lambda", "lr", "encoder_scale", "auxk_alpha")
FEASIBLE = {
    "protocol": "fair",
    # Swept options stand between these two columns.
    "mask": None,
    **dict.fromkeys(OPTIONS),
    "status": "ok",
    "m": 128,
    "dead_train": 0,
    "l0": 4.0,
    "n_images": 1000,
    "selected": False,
    "selection": "not_selected",
}


def by_blocks(gains, signs=(1, 1, 1)):
    """Return mean and interval over blocks, worked out without the code under test.

    Args:
        gains: {dataset: what a method gains on it}.
        signs: For each dataset whether the gain is one, 1, or a loss, -1.
    """
    families = [[0.002, -0.002], [0.001]]
    blocks = [
        sign * (gain + np.mean(family))
        for sign, gain in zip(signs, gains.values(), strict=True)
        for family in families
    ]
    half = stats.t.ppf(0.975, 5) * np.std(blocks, ddof=1) / 6**0.5
    return np.mean(blocks), half


def constant(size, dataset, rate):
    """Gain `MANY` and `FEW`, at all rates."""
    return (MANY if size == "many" else FEW)[dataset]


@pytest.fixture(scope="module")
def experiment(decisive, names):
    return decisive.Experiment(make_metrics(constant), names)


@pytest.fixture(scope="module")
def tables(decisive, experiment):
    with pytest.MonkeyPatch.context() as patch:
        # It takes as long as all the others, and has a test of its own.
        quick = decisive.means_of_twins_alone
        patch.setattr(decisive, "means_without_a_rate", quick)
        return decisive.read_tables(experiment)


def row_of(table, **values):
    for column, value in values.items():
        table = table[table[column] == value]
    assert len(table) == 1, table
    return table.iloc[0]


@pytest.mark.parametrize(("size", "gains"), [("many", MANY), ("few", FEW)])
def test_many_and_few_are_read_apart(tables, size, gains):
    about = {"size": size, "width": 0.01}
    row = row_of(tables["means"], method="reg1", score="detection_auc", **about)
    mean, half = by_blocks(gains)
    assert row["cells"] == 9 and row["blocks"] == 6 and row["fresh_cells"] == 9
    assert row["effect"] == pytest.approx(mean)
    assert row["high"] - row["effect"] == pytest.approx(half)
    assert row["equal_r2"] == pytest.approx(mean)
    ms = row_of(tables["means"], method="reg1", score="ms", **about)
    mean, _ = by_blocks({name: gain / 2 for name, gain in gains.items()})
    assert ms["effect"] == pytest.approx(mean - 0.0005 / 2)
    match = row_of(tables["means"], method="reg1", score="concepts_match", **about)
    assert match["effect"] == pytest.approx(GAIN_OF_MATCH)
    assert match["fresh_cells"] == 0
    reg2 = row_of(tables["means"], method="reg2", score="detection_auc", **about)
    assert reg2["effect"] == pytest.approx(by_blocks(gains, (1, -1, -1))[0])
    assert not reg2["same_sign"]


def test_the_same_pictures_are_never_two_datasets_of_one_mean(decisive, experiment):
    with pytest.raises(ValueError, match="with many images and with few"):
        decisive.read_fronts(experiment)


def test_each_dataset_alone(tables):
    row = row_of(
        tables["datasets"],
        method="reg1",
        score="detection_auc",
        width=0.01,
        dataset="openclipart_split1_few",
    )
    assert row["effect"] == pytest.approx(0.010 + 0.0005)
    backbones = 0.010 + np.array([*BACKBONES.values()])
    half = stats.t.ppf(0.975, 2) * np.std(backbones, ddof=1) / 3**0.5
    assert row["low_backbones"] == pytest.approx(backbones.mean() - half)


def test_few_minus_many_is_paired_by_backbone_and_seed(tables):
    for dataset in DATASETS:
        row = row_of(
            tables["few_minus_many"],
            method="reg1",
            score="detection_auc",
            width=0.01,
            dataset=dataset,
        )
        # What a backbone or a seed adds is in both, so that nothing varies.
        assert row["effect"] == pytest.approx(FEW[dataset] - MANY[dataset])
        assert row["high_backbones"] - row["low_backbones"] == pytest.approx(
            0, abs=1e-9
        )
        assert row["high_seeds"] - row["low_seeds"] == pytest.approx(0, abs=1e-9)
        assert row["cells"] == 3
        assert row["up"] == (0 if dataset == "openclipart_split1" else 3)
    of_all = row_of(
        tables["few_minus_many"],
        method="reg1",
        score="detection_auc",
        width=0.01,
        dataset="all datasets",
    )
    differences = {dataset: FEW[dataset] - MANY[dataset] for dataset in DATASETS}
    blocks = np.repeat([*differences.values()], 2)
    half = stats.t.ppf(0.975, 5) * np.std(blocks, ddof=1) / 6**0.5
    assert of_all["effect"] == pytest.approx(np.mean(blocks))
    assert of_all["high"] - of_all["effect"] == pytest.approx(half)


def test_what_came_out_stands_in_the_order_of_what_was_expected(decisive, tables):
    table = decisive.came_out(tables)
    reg1 = table[table["method"] == "reg1"].set_index("what")["effect"]
    assert [*reg1.index][1:5] == [
        "of these fashion_mnist_55k",
        "of these emoji_vendors_split2",
        "of these openclipart_split1",
        "fashion_mnist_55k, few minus many",
    ]
    assert reg1["of these emoji_vendors_split2"] == pytest.approx(0.0205)
    assert reg1["match with concepts, many"] == pytest.approx(GAIN_OF_MATCH)


def test_words_of_rows_whose_gains_are_known(decisive, tables, names):
    answers = {
        (answer.method, answer.question): answer.answer
        for answer in decisive.answer_questions(tables, names, 0.004)
    }
    assert answers["reg1", "many images"] == "confirmed"
    assert answers["reg1", "of small data"] == "yes"
    assert answers["reg1", "of low rates"] == "inconclusive"
    assert answers["reg1", "of the judge alone"] == "yes"
    # Its mean is below 0, and its datasets disagree.
    assert answers["reg2", "many images"] == "refuted"
    assert answers["reg2", "of the judge alone"] == "no"  # the match gains


def test_a_run_whose_few_images_are_not_there_yet(decisive, names, monkeypatch):
    one_dataset = {"sizes": ["many"], "datasets": ["fashion_mnist_55k"]}
    metrics = make_metrics(constant, **one_dataset)
    # They have tests of their own.
    for slow in ("means_without_a_rate", "means_of_twins_alone"):
        monkeypatch.setattr(decisive, slow, lambda rows: pd.DataFrame())
    of_many = decisive.read_tables(decisive.Experiment(metrics, names))
    answers = {
        (answer.method, answer.question): answer.answer
        for answer in decisive.answer_questions(of_many, names, 0.004)
    }
    assert answers["reg1", "of small data"] == "not known"
    came_out = decisive.came_out(of_many).set_index(["what", "method"])["effect"]
    assert came_out["detection, many", "reg1"] == pytest.approx(0.004 + 0.0005)
    assert not came_out.index.get_level_values("what").str.contains("few").any()


def test_twins_gain_by_rate(decisive, names):
    def mostly_at_low_rates(size, dataset, rate):
        return 0.03 if rate <= 0.002 else 0.004

    metrics = make_metrics(mostly_at_low_rates, sizes=["many"])
    table = decisive.gains_by_rate(decisive.Experiment(metrics, names))
    about = {"method": "reg1", "score": "detection_auc", "dataset": "all"}
    low = row_of(table, rates="up to 0.002", **about)
    high = row_of(table, rates="from 0.004", **about)
    # Two points a rate with two lambdas, in nine cells.
    assert low["twins"] == high["twins"] == 9 * 3 * 4
    assert low["effect"] == pytest.approx(0.0305)
    assert high["effect"] == pytest.approx(0.0045)
    half = stats.t.ppf(0.975, 5) * np.std([0, 0.001] * 3, ddof=1) / 6**0.5
    assert high["high"] == pytest.approx(0.0045 + half)
    assert row_of(table, rates="0.004", **about)["effect"] == pytest.approx(0.0045)
    of_emoji = about | {"dataset": "emoji_vendors_split2"}
    assert row_of(table, rates="0.002", **of_emoji)["effect"] == pytest.approx(0.0305)
    contrast = row_of(table, rates="low minus high", **about)
    assert contrast["effect"] == contrast["low"] == pytest.approx(0.026)
    assert decisive.answer_low_rates("reg1", high, contrast).answer == "yes"


def test_twins_are_read_in_the_score_and_r2_stands_beside(decisive, names):
    metrics = make_metrics(constant, sizes=["many"])
    # A penalty loses R^2 in every trial.
    metrics.loc[metrics["method"] == "reg1", "r2"] -= 0.001
    table = decisive.gains_by_rate(decisive.Experiment(metrics, names))
    about = {"method": "reg1", "score": DETECTION, "dataset": "all"}
    for rates in ("up to 0.002", "0.009"):
        row = row_of(table, rates=rates, **about)
        assert row["effect"] == pytest.approx(np.mean([*MANY.values()]) + 0.0005)
        assert row["r2_difference"] == pytest.approx(-0.001)


def test_one_rate_is_left_out_of_all_methods(decisive, names):
    def only_at_one_rate(size, dataset, rate):
        return 0.03 if rate == 0.004 else 0.0

    of_dataset = {"sizes": ["many"], "datasets": ["openclipart_split1"]}
    metrics = make_metrics(only_at_one_rate, **of_dataset)
    table = decisive.means_without_a_rate(decisive.Experiment(metrics, names))
    about = {"method": "reg1", "score": "detection_auc"}
    effects = table[(table[list(about)] == pd.Series(about)).all(axis=1)]
    effects = effects.set_index("left_out")["effect"]
    assert [*effects.index] == ["none", *(f"{rate:g}" for rate in RATES)]
    assert effects["0.004"] == pytest.approx(0.0005)
    assert (effects.drop("0.004") > 0.01).all()


def test_the_baseline_with_its_twins_alone(decisive, names):
    about = {"method": "reg1", "score": "detection_auc"}
    one_dataset = {"sizes": ["many"], "datasets": ["emoji_vendors_split2"]}
    # The trials that have no twin are the baseline's front, and are the judged ones.
    metrics = make_metrics(constant, lone=0.005, **one_dataset)
    experiment = decisive.Experiment(metrics, names)
    means = decisive.judge(decisive.read_fronts(experiment), names)
    of_all_trials = row_of(means, width=0.01, **about)
    assert of_all_trials["effect"] == pytest.approx(0.0205 - 0.005)
    assert of_all_trials["fresh_cells"] == 3
    alone = row_of(decisive.means_of_twins_alone(experiment), **about)
    assert alone["effect"] == pytest.approx(0.0205)
    # Its vertices have no fresh seeds: both sides are read with the seed of the tuning.
    assert alone["cells"] == 3 and alone["fresh_cells"] == 0
    # Where they are on no front, nothing changes, fresh seeds included.
    metrics = make_metrics(constant, lone=-0.02, **one_dataset)
    alone = row_of(
        decisive.means_of_twins_alone(decisive.Experiment(metrics, names)), **about
    )
    assert alone["effect"] == pytest.approx(0.0205)
    assert alone["fresh_cells"] == 3


@pytest.mark.parametrize(
    ("outcome", "high", "word"),
    [
        ("better", 0.03, "confirmed"),
        ("inconclusive", 0.0099, "refuted"),
        ("inconclusive", 0.010, "inconclusive"),
        ("worse", -0.001, "refuted"),
        ("equivalent within .01", 0.008, "refuted"),
        ("better, by less than .01", 0.009, "confirmed and refuted"),
        ("better, by less than .01", 0.012, "confirmed"),
        ("not comparable", 0.002, "inconclusive"),
    ],
)
def test_word_for_many_images(decisive, outcome, high, word):
    row = pd.Series({"outcome": outcome, "high": high})
    assert decisive.say_of_many(row) == word


@pytest.mark.parametrize(
    ("changed", "answer"),
    [
        ({}, "yes"),
        ({"up": 2}, "inconclusive"),
        ({"up": 2, "cells": 2}, "inconclusive"),  # of three backbones
        ({"many": 0.010}, "inconclusive"),  # half of .020
        ({"many": -0.030}, "yes"),
        ({"few_low": -0.001}, "inconclusive"),
        ({"low": -0.001}, "inconclusive"),  # of few minus many
        ({"low": -0.002, "high": -0.001}, "no"),
    ],
)
def test_of_small_data(decisive, changed, answer):
    numbers = {"up": 3, "cells": 3, "many": 0.009, "few_low": 0.001}
    numbers |= {"low": 0.001, "high": 0.019} | changed
    difference = {
        "effect": 0.01,
        "up": numbers["up"],
        "cells": numbers["cells"],
        "low_backbones": numbers["low"],
        "high_backbones": numbers["high"],
    }
    few = {
        "effect": 0.020,
        "low_backbones": numbers["few_low"],
        "high_backbones": 0.039,
    }
    small_data = decisive.answer_small_data(
        "reg1",
        pd.Series(difference),
        pd.Series({"effect": numbers["many"]}),
        pd.Series(few),
        backbones=3,
    )
    assert small_data.answer == answer


@pytest.mark.parametrize(
    ("effect", "low", "high", "answer"),
    [
        (0.009, 0.001, 0.02, "yes"),
        (0.010, 0.001, 0.02, "inconclusive"),
        (0.009, -0.001, 0.02, "inconclusive"),
        (0.009, -0.02, -0.001, "no"),
    ],
)
def test_of_low_rates(decisive, effect, low, high, answer):
    at_high = pd.Series({"effect": effect, "low": 0.0, "high": 0.012})
    contrast = pd.Series({"effect": 0.01, "low": low, "high": high})
    assert decisive.answer_low_rates("reg1", at_high, contrast).answer == answer


@pytest.mark.parametrize(
    ("outcome", "low", "high", "answer"),
    [
        ("better", 0.0, 0.0119, "yes"),
        ("better", 0.0, 0.012, "inconclusive"),
        ("inconclusive", -0.001, 0.005, "inconclusive"),
        ("better", 0.001, 0.012, "no"),
    ],
)
def test_of_the_judge_alone(decisive, outcome, low, high, answer):
    detection = pd.Series({"outcome": outcome, "high": 0.03})
    match = pd.Series({"effect": 0.003, "low": low, "high": high})
    judge_alone = decisive.answer_judge_alone("reg1", detection, match, 0.012)
    assert judge_alone.answer == answer
    unknown = decisive.answer_judge_alone("reg1", detection, match, float("nan"))
    assert unknown.answer == "not known"


def test_the_least_effect_in_the_match_that_is_found(decisive, tmp_path):
    table = tmp_path / "power.csv"
    table.write_text(
        "design,found with 0.8\ndecisive,0.005\n"
        f'"{decisive.DESIGN_OF_MATCH}",0.02\n"{decisive.DESIGN_OF_MATCH}",0.01\n'
    )
    assert decisive.read_smallest_match(table) == 0.01
    assert np.isnan(decisive.read_smallest_match(tmp_path / "none.csv"))


def test_the_folder_of_a_run_gives_every_table(
    decisive, experiment, tables, tmp_path, monkeypatch, capsys
):
    metrics = experiment.metrics
    run_folder = tmp_path / "decisive"
    run_folder.mkdir()
    of_paper = metrics[(metrics["method"] == "topk") & (metrics["seed"] == 0)]
    of_paper = of_paper.drop_duplicates(["dataset", "backbone", "split"])
    of_paper = of_paper.assign(protocol="paper", selected=True, selection="chosen")
    lower = of_paper["detection_auc"] - 0.1
    untrained = of_paper.assign(method="untrained", detection_auc=lower)
    rows = pd.concat([metrics, of_paper, untrained])
    files.write_parquet(run_folder / "metrics.parquet", rows)
    sae = ["dataset", "backbone", "k", "method", "trial", "seed", "split"]
    curves = metrics[sae].assign(
        curve="detection_by_frequency", x=0.01, y=metrics["detection_auc"]
    )
    files.write_parquet(run_folder / "curves.parquet", curves)
    latents = metrics[sae].assign(latent=0, detection=0.7, n_active=5)
    files.write_parquet(run_folder / "latents.parquet", latents)

    table_folder = tmp_path / "tables"
    monkeypatch.chdir(ROOT)
    command = ["decisive.py", str(run_folder), "--out", str(table_folder)]
    monkeypatch.setattr(sys, "argv", [*command, "--smallest-match", "0.002"])
    # The tables of effects take long, and are those of the fixture: from these rows.
    experiments_read = []

    def read_tables(experiment):
        experiments_read.append(experiment)
        return tables

    monkeypatch.setattr(decisive, "read_tables", read_tables)
    decisive.main()
    pd.testing.assert_frame_equal(
        experiments_read[0].metrics.reset_index(drop=True),
        metrics.reset_index(drop=True),
    )
    printed = capsys.readouterr().out
    tables = {file.stem: pd.read_csv(file) for file in table_folder.glob("*.csv")}
    assert set(tables) == {
        *("answers", "came_out", "means", "datasets", "few_minus_many", "rates"),
        *("without_a_rate", "twins_alone", "by_frequency", "controls", "cells"),
    }
    cell = row_of(
        tables["cells"],
        dataset="emoji_vendors_split2_few",
        backbone="efficientnet_lite2",
        method="reg1",
        score="detection_auc",
    )
    assert cell["effect"] == pytest.approx(0.030 - 0.002)
    assert all(name in printed for name in tables)
    answer = row_of(tables["answers"], method="reg1", question="of the judge alone")
    # The match gains .003, of which .002 is found.
    assert answer["answer"] == "no"
    mean, _ = by_blocks(MANY)
    by_frequency = row_of(tables["by_frequency"], size="many", method="reg1")
    assert by_frequency["gain up to 1%"] == pytest.approx(mean, abs=1e-6)
    assert by_frequency["reweighted"] == pytest.approx(mean, abs=1e-6)
    of_controls = row_of(
        tables["controls"],
        size="few",
        score="detection_auc",
        dataset="all datasets",
    )
    assert of_controls["difference"] == pytest.approx(-0.1)

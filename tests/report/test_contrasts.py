"""bench/contrasts.py: effects that were put into rows by hand, and the kept rows.

Along a line of six learning rates the baseline pays .002 of R^2 for each step in the
score. A penalty has the same R^2, and a score that is higher by what a test says. So
its front lies above the baseline's by just that.
"""

import itertools
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from conftest import ROOT
from scipy import stats
from support.errors import refused_naming

from bench import contrasts
from sae.comparison import outcomes
from sae.report.tables import ComparisonSettings

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
OF_DETECTION = {"method": "reg1", "score": "detection_auc"}


@pytest.fixture(scope="module")
def names():
    from sae_workflow import settings

    config = settings.read_config(str(ROOT / "config.yaml"))
    plan = settings.claims_settings(config, "decisive")
    return ComparisonSettings.model_validate(plan)


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


def read(metrics, names):
    return outcomes.readings_of(metrics, names.tuned, names.fronts)


@pytest.fixture(scope="module")
def experiment(names, tmp_path_factory):
    folder = tmp_path_factory.mktemp("kept") / "decisive"
    return contrasts.Experiment(folder, make_metrics(constant), names)


@pytest.fixture(scope="module")
def all_readings(experiment):
    return read(experiment.metrics, experiment.names)


def row_of(table, **values):
    for column, value in values.items():
        table = table[table[column] == value]
    assert len(table) == 1, table
    return table.iloc[0]


@pytest.mark.parametrize(("size", "gains"), [("many", MANY), ("few", FEW)])
def test_many_and_few_are_read_apart(experiment, all_readings, size, gains):
    datasets = contrasts.sets_of(experiment)[size]
    means = contrasts.judge(contrasts.only(all_readings, datasets), experiment.names)
    means = means[means["width"] == 0.01]
    row = row_of(means, **OF_DETECTION)
    mean, half = by_blocks(gains)
    assert row["cells"] == 9 and row["blocks"] == 6 and row["fresh_cells"] == 9
    assert row["effect"] == pytest.approx(mean)
    assert row["high"] - row["effect"] == pytest.approx(half)
    assert row["equal_r2"] == pytest.approx(mean)
    ms = row_of(means, method="reg1", score="ms")
    mean, _ = by_blocks({name: gain / 2 for name, gain in gains.items()})
    assert ms["effect"] == pytest.approx(mean - 0.0005 / 2)
    match = row_of(means, method="reg1", score="concepts_match")
    assert match["effect"] == pytest.approx(GAIN_OF_MATCH)
    assert match["fresh_cells"] == 0
    reg2 = row_of(means, method="reg2", score="detection_auc")
    assert reg2["effect"] == pytest.approx(by_blocks(gains, (1, -1, -1))[0])
    assert not reg2["same_sign"]


def test_a_set_whose_dataset_is_not_there_is_refused(experiment):
    metrics = experiment.metrics
    lacks = metrics[metrics["dataset"] != "openclipart_split1_few"]
    with refused_naming("openclipart_split1_few", "make reference"):
        contrasts.sets_of(experiment._replace(metrics=lacks))


def test_the_sets_of_photographs_are_those_of_its_page():
    sets = contrasts.SETS["photographs"]
    sizes = {name: len(set(datasets)) for name, datasets in sets.items()}
    assert sizes == {"all": 8, "photographs": 6, "small pictures": 2, "untouched": 6}
    from sae_workflow import settings

    config = settings.read_config(str(ROOT / "config.yaml"))
    assert {*sets["all"]} == {*config.experiments["photographs"].datasets}
    paired = contrasts.PAIRS["photographs_all"]
    assert [*paired.names] == config.experiments["photographs_all"].datasets
    assert {*paired.names.values()} == {*sets["small pictures"]}


def test_few_minus_many_is_paired_by_backbone_and_seed(all_readings, names):
    datasets = contrasts.PAIRS["decisive"].names
    paired = contrasts.subtract(all_readings, all_readings, datasets)
    table = contrasts.judge_each_dataset(paired, names)
    table = table[table["width"] == 0.01]
    for dataset in DATASETS:
        row = row_of(table, dataset=dataset, **OF_DETECTION)
        # What a backbone or a seed adds is in both, so that nothing varies.
        assert row["effect"] == pytest.approx(FEW[dataset] - MANY[dataset])
        for unit in ("backbones", "seeds"):
            width = row[f"high_{unit}"] - row[f"low_{unit}"]
            assert width == pytest.approx(0, abs=1e-9)
        assert row["cells"] == 3
        assert row["up"] == (0 if dataset == "openclipart_split1" else 3)
    means = contrasts.judge(paired, names)
    of_all = row_of(means, width=0.01, **OF_DETECTION)
    differences = {dataset: FEW[dataset] - MANY[dataset] for dataset in DATASETS}
    blocks = np.repeat([*differences.values()], 2)
    half = stats.t.ppf(0.975, 5) * np.std(blocks, ddof=1) / 6**0.5
    assert of_all["effect"] == pytest.approx(np.mean(blocks))
    assert of_all["high"] - of_all["effect"] == pytest.approx(half)


def test_two_experiments_are_subtracted_under_the_names_of_the_second(names):
    one = {"sizes": ["many"], "datasets": ["fashion_mnist_55k"]}
    second = make_metrics(constant, **one)
    first = make_metrics(lambda *_: 0.034, **one).assign(dataset="all_images")
    differences = contrasts.subtract(
        read(first, names), read(second, names), {"all_images": "fashion_mnist_55k"}
    )
    row = row_of(contrasts.judge(differences, names), width=0.01, **OF_DETECTION)
    assert row["effect"] == pytest.approx(0.030)
    assert row["cells"] == row["fresh_cells"] == 3
    assert {*differences.fronts["dataset"]} == {"fashion_mnist_55k"}


def test_from_six_datasets_on_a_block_is_a_dataset(names):
    cells = pd.Series(
        {
            (f"d{i}", backbone, 16): i + i * (backbone == "dinov2_vit_s14")
            for i in range(6)
            for backbone in BACKBONES
        }
    ).rename_axis(["dataset", "backbone", "k"])
    for count, blocks in ((5, 10), (6, 6)):
        of_some = cells[cells.index.get_level_values("dataset") < f"d{count}"]
        mean, half, _ = contrasts.over_blocks(of_some, names)
        families = np.outer(np.arange(count), [1, 2])
        expected = families.ravel() if count < 6 else families.mean(axis=1)
        assert len(expected) == blocks
        assert mean == pytest.approx(expected.mean())
        error = np.std(expected, ddof=1) / blocks**0.5
        assert half == pytest.approx(stats.t.ppf(0.975, blocks - 1) * error)


def test_twins_gain_by_rate_and_r2_stands_beside(names, tmp_path):
    def mostly_at_low_rates(size, dataset, rate):
        return 0.03 if rate <= 0.002 else 0.004

    metrics = make_metrics(mostly_at_low_rates, sizes=["many"])
    # A penalty loses R^2 in every trial.
    metrics.loc[metrics["method"] == "reg1", "r2"] -= 0.001
    experiment = contrasts.Experiment(tmp_path, metrics, names)
    pairs = contrasts.pair_by_rates(experiment)
    table = contrasts.gains_by_rates(pairs, DATASETS, names)
    about = OF_DETECTION | {"dataset": "all"}
    low = row_of(table, rates="up to 0.002", **about)
    high = row_of(table, rates="from 0.004", **about)
    # Two points a rate with two lambdas, in nine cells.
    assert low["twins"] == high["twins"] == 9 * 3 * 4
    assert low["effect"] == pytest.approx(0.0305)
    assert high["effect"] == pytest.approx(0.0045)
    assert high["r2_difference"] == pytest.approx(-0.001)
    half = stats.t.ppf(0.975, 5) * np.std([0, 0.001] * 3, ddof=1) / 6**0.5
    assert high["high"] == pytest.approx(0.0045 + half)
    assert row_of(table, rates="0.004", **about)["effect"] == pytest.approx(0.0045)
    of_emoji = about | {"dataset": "emoji_vendors_split2"}
    assert row_of(table, rates="0.002", **of_emoji)["effect"] == pytest.approx(0.0305)
    contrast = row_of(table, rates="low minus high", **about)
    assert contrast["effect"] == contrast["low"] == pytest.approx(0.026)


def test_the_baseline_with_its_twins_alone(names, tmp_path):
    one = {"sizes": ["many"], "datasets": ["emoji_vendors_split2"]}

    def of_twins_alone(experiment):
        is_kept = contrasts.has_twin(experiment)
        alone = contrasts.read_fewer_trials(experiment, is_kept)
        return row_of(contrasts.judge(alone, names), **OF_DETECTION)

    # The trials that have no twin are the baseline's front, and are the judged ones.
    metrics = make_metrics(constant, lone=0.005, **one)
    means = contrasts.judge(read(metrics, names), names)
    of_all_trials = row_of(means, width=0.01, **OF_DETECTION)
    assert of_all_trials["effect"] == pytest.approx(0.0205 - 0.005)
    assert of_all_trials["fresh_cells"] == 3
    alone = of_twins_alone(contrasts.Experiment(tmp_path, metrics, names))
    assert alone["effect"] == pytest.approx(0.0205)
    # Its vertices have no fresh seeds: both sides are read with the seed of the tuning.
    assert alone["cells"] == 3 and alone["fresh_cells"] == 0
    # Where they are on no front, nothing changes, fresh seeds included.
    metrics = make_metrics(constant, lone=-0.02, **one)
    alone = of_twins_alone(contrasts.Experiment(tmp_path, metrics, names))
    assert alone["effect"] == pytest.approx(0.0205)
    assert alone["fresh_cells"] == 3


def test_a_band_of_frequency_has_the_vertices_with_latents_there():
    cell = ("d", "b", 4)
    auc_by_sae = {
        (*cell, "topk", "t", 3): np.array([0.7, np.nan, np.nan, 0.5]),
        (*cell, "mine", "t", 3): np.array([0.85, np.nan, np.nan, 0.45]),
        # It has rare latents alone.
        (*cell, "mine", "u", 3): np.array([0.45, np.nan, np.nan, np.nan]),
    }
    effect = SimpleNamespace(
        **dict(zip(("dataset", "backbone", "k"), cell, strict=True)),
        seed=3,
        method="mine",
        baseline="topk",
        vertices="t: 0.750; u: 0.250",
        baseline_vertices="t: 1.000",
    )
    rare, second, third, frequent = contrasts.gain_by_band(effect, auc_by_sae)
    assert rare == pytest.approx(0.75 * 0.85 + 0.25 * 0.45 - 0.7)
    assert frequent == pytest.approx(-0.05)
    assert np.isnan(second) and np.isnan(third)


# The kept rows, and what pages state of them.


def read_kept(name):
    return contrasts.read_experiment(ROOT / "docs/results" / name)


@pytest.mark.slow
@pytest.mark.parametrize("command", ["sets", "pairs"])
def test_kept_tables_follow_from_kept_rows(command, tmp_path, monkeypatch):
    decisive = ROOT / "docs/results/decisive"
    words = ["contrasts.py", command, str(decisive), "--out", str(tmp_path)]
    monkeypatch.setattr("sys.argv", words)
    contrasts.main()
    tables = [*tmp_path.iterdir()]
    assert tables
    for table in tables:
        assert table.read_bytes() == (decisive / "read" / table.name).read_bytes()


# (a command, an experiment, a table, {column: value} of a row, {column: what a page has})
STATED = [
    ("rate", "fair", "rate", {"method": "reg1", "rate up to": "1"},
     {"ms_mean_alive": 0.007, "detection_auc": 0.016}),
    ("rate", "sizes", "rate_by_dataset",
     {"method": "reg1", "rate up to": "1", "dataset": "fashion_mnist_5k"},
     {"ms_mean_alive": 0.006, "detection_auc": 0.016}),
    ("frequency", "fair", "by_frequency", {"method": "reg1"},
     {"gain up to 1%": 0.030, "gain up to 3%, low": 0.016}),
    ("frequency", "decisive", "by_frequency", {"method": "reg1", "size": "many"},
     {"gain up to 3%": 0.015, "gain up to 1%, low": -0.009}),
    ("frequency", "rivals", "by_frequency", {"method": "reg2_matryoshka"},
     {"gain up to 1%": 0.122, "gain up to 100%": -0.047}),
]  # fmt: skip


@pytest.mark.parametrize(
    ("command", "name", "table", "place", "stated"),
    [
        pytest.param(*row, marks=pytest.mark.slow if row[0] == "frequency" else ())
        for row in STATED
    ],
)
def test_a_page_states_what_the_kept_rows_say(command, name, table, place, stated):
    tables = contrasts.COMMANDS[command](read_kept(name))
    row = row_of(tables[table], **place)
    assert {column: round(row[column], 3) for column in stated} == stated

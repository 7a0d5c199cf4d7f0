"""Read the decisive run: `python bench/decisive.py results/decisive --out FOLDER`.

docs/results/decisive/README.md has the design, what is expected, and which words are
said of which numbers; this script was written before there were any. The cells of many
images and those of few are read apart, each by the rule of fronts as if they were an
experiment of their own: the same pictures are never two datasets of one mean. It
prints, and writes as CSV into the folder:

- answers.csv: the words, for each penalty, and the numbers on which they rest;
- came_out.csv: what came out, in the order of the page's table of what is expected;
- means.csv: each score's effect at the same R^2, over blocks, with intervals, the two
  other readings and the outcome; datasets.csv: the same of each dataset alone;
- cells.csv: the effect in each cell, a mean over seeds;
- few_minus_many.csv: the same seeds and backbones with few images, minus with many; of
  each dataset, and of all with the interval over blocks;
- rates.csv: what pairs of twins gain, by learning rate, and at low rates minus at high;
- without_a_rate.csv: the endpoints without all trials of one rate, for each rate;
- twins_alone.csv: the endpoints where the baseline has only the trials that have twins;
- by_frequency.csv: the gain in detection by how often latents fire;
- controls.csv: what the controls lack of the baseline.
"""

import argparse
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
from _comparison import Experiment, over_blocks, read_experiment
from fair import gains_by_seed, gains_over_blocks

from sae.comparison import controls, fronts, outcomes, pairs, readings
from sae.comparison.outcomes import BETTER, NOT_COMPARABLE
from sae.comparison.readings import Readings
from sae.comparison.scores import across_groups
from sae.core import files
from sae.report.tables import ComparisonSettings
from sae.scoring.front import DETECTION, ENDPOINTS
from sae.scoring.rows import CELL, read_metrics
from sae.scoring.selection import chosen_rows, rows_under

POWER_TABLE = Path("docs/results/decisive/power.csv")
DESIGN_OF_MATCH = "decisive-match"  # its rows in the table of power

MANY = "many"
FEW = "few"
FEW_SUFFIX = "_few"  # how the names of datasets of few images end
FASHION_MNIST = "fashion_mnist_55k"
MATCH = "concepts_match"
WORTH = (DETECTION, "detection_auc_all", "ms", MATCH, "concepts_pairs")

# The page's words, and the numbers in their definitions.
CONFIRMED = "confirmed"
REFUTED = "refuted"
INCONCLUSIVE = outcomes.INCONCLUSIVE
YES = "yes"
NO = "no"
NOT_KNOWN = "not known"
REFUTED_BELOW = 0.010  # of detection: where the interval's upper end lies
HIGH_RATE = 0.004  # from here on twins gain little, if the gain is one of low rates
LOW_RATE = 0.002  # and up to here they gain more
SMALL_GAIN = 0.01  # of twins at high rates
HIGH_RATES = f"from {HIGH_RATE:g}"
LOW_RATES = f"up to {LOW_RATE:g}"
LOW_MINUS_HIGH = "low minus high"
ALL_DATASETS = "all datasets"

KEYS = [*CELL, "method", "score", "width"]
# What a table of means says of few minus many.
OF_DIFFERENCE = [
    *("dataset", "method", "score", "width", "cells", "blocks", "effect", "low"),
    *("high", "effect_by_cell", "low_backbones", "high_backbones", "low_seeds"),
    *("high_seeds", "up", "fresh_cells"),
]
SEEDS_MISSING = "seeds missing"  # a status of `sae.comparison.fronts.Effect`
# What is printed of a table of means.
SHOWN = [
    *("size", "dataset", "left_out", "rates", "method", "score", "cells"),
    *("fresh_cells", "effect", "low", "high", "low_backbones", "high_backbones"),
    *("low_seeds", "high_seeds", "p_holm", "outcome", "equal_r2", "pairs", "up"),
    *("out_of_reach", "infeasible"),
]


@dataclass(frozen=True)
class Answer:
    """An answer about a method, in one of the page's words.

    Attributes:
        method: A penalty.
        question: "many images", "of small data", "of low rates" or "of the judge
            alone".
        answer: `CONFIRMED`, `REFUTED`, both or `INCONCLUSIVE` of the first question,
            `YES`, `NO`, `INCONCLUSIVE` or `NOT_KNOWN` of the others.
        because: The numbers on which it rests.
    """

    method: str
    question: str
    answer: str
    because: str


def main() -> None:
    """Print the tables, and write them where `--out` says."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("results", type=Path, help="folder of the run `decisive`")
    parser.add_argument("--out", type=Path, help="a folder for the CSVs")
    parser.add_argument(
        "--smallest-match",
        type=float,
        help="the smallest effect in the match with concepts that is found with a "
        f"power of .8; by default the least that {POWER_TABLE} has",
    )
    arguments = parser.parse_args()
    smallest_match = arguments.smallest_match
    if smallest_match is None:
        smallest_match = read_smallest_match(POWER_TABLE)
    experiment = read_experiment(arguments.results, experiment="decisive")

    tables = read_tables(experiment)
    answers = answer_questions(tables, experiment.names, smallest_match)
    tables = {
        "answers": pd.DataFrame(map(vars, answers)),
        "came_out": came_out(tables),
        **tables,
    }
    tables["by_frequency"] = gains_by_frequency(arguments.results, experiment)
    metrics = read_metrics(arguments.results / "metrics.parquet")
    tables["controls"] = compare_controls(metrics, experiment.names)

    for name, table in tables.items():
        print(f"{name}\n\n{_as_text(table)}\n")
        if arguments.out:
            text = table.to_csv(index=False, lineterminator="\n", float_format="%.6g")
            files.write_text(arguments.out / f"{name}.csv", text)


def read_tables(experiment: Experiment) -> dict[str, pd.DataFrame]:
    """Return the tables of effects, {name: a table}, with many and few images apart."""
    names = experiment.names
    sizes = split_sizes(experiment)
    readings_by_size = {size: read_fronts(rows) for size, rows in sizes.items()}
    # A run may be read while its cells of few images are not there.
    differences = pd.DataFrame(columns=OF_DIFFERENCE)
    if {MANY, FEW} <= readings_by_size.keys():
        paired = few_minus_many(readings_by_size[FEW], readings_by_size[MANY])
        if len(paired.fronts):
            of_datasets = judge_each_dataset(paired, names)
            of_all = judge(paired, names).assign(dataset=ALL_DATASETS)
            differences = pd.concat([of_datasets, of_all], ignore_index=True)
            differences = differences[OF_DIFFERENCE]
    return {
        "means": _by_size(
            {size: judge(of_size, names) for size, of_size in readings_by_size.items()}
        ),
        "datasets": _by_size(
            {
                size: judge_each_dataset(of_size, names)
                for size, of_size in readings_by_size.items()
            }
        ),
        "cells": _by_size(
            {
                size: effects_by_cell(of_size)
                for size, of_size in readings_by_size.items()
            }
        ),
        "few_minus_many": differences,
        "rates": _by_size({size: gains_by_rate(rows) for size, rows in sizes.items()}),
        "without_a_rate": _by_size(
            {size: means_without_a_rate(rows) for size, rows in sizes.items()}
        ),
        "twins_alone": _by_size(
            {size: means_of_twins_alone(rows) for size, rows in sizes.items()}
        ),
    }


def _by_size(tables: dict[str, pd.DataFrame]) -> pd.DataFrame:
    """Join {size: table}, with the size in the first column."""
    parts = []
    for size, table in tables.items():
        part = table.copy()
        part.insert(0, "size", size)
        parts.append(part)
    return pd.concat(parts, ignore_index=True)


# The cells of many images and those of few, each by the rule of fronts.


def split_sizes(experiment: Experiment) -> dict[str, Experiment]:
    """Return {size: the experiment with the rows of its cells alone}.

    A size that has no rows is left out.
    """
    is_few = experiment.metrics["dataset"].str.endswith(FEW_SUFFIX)
    rows_by_size = {
        MANY: experiment.metrics[~is_few],
        FEW: experiment.metrics[is_few],
    }
    return {
        size: experiment._replace(metrics=rows)
        for size, rows in rows_by_size.items()
        if len(rows)
    }


def read_fronts(experiment: Experiment) -> Readings:
    """Read what every method has beside the baseline, in the cells of one size.

    Raises:
        ValueError: A dataset is there with many images and with few.
    """
    datasets = set(experiment.metrics["dataset"])
    for dataset in datasets:
        if f"{dataset}{FEW_SUFFIX}" in datasets:
            raise ValueError(
                f"{dataset} is there with many images and with few: split_sizes parts "
                "them before they are read"
            )
    names = experiment.names
    return readings.read(experiment.metrics, names.tuned, names.fronts)


def judge(method_readings: Readings, names: ComparisonSettings) -> pd.DataFrame:
    """Average effects over blocks, with intervals and outcomes.

    Returns:
        The table of `sae.comparison.outcomes.means`, and `fresh_cells`: how many of the
        cells are read with fresh seeds, and not with the seed of the tuning.
    """
    means = outcomes.means(method_readings, names.families, names.intervals)
    effects = method_readings.fronts
    is_fresh = (effects["status"] == "ok") & effects["fresh"].astype(bool)
    cells = effects[is_fresh].drop_duplicates(KEYS)
    counts = cells.groupby(outcomes.KEYS).size().rename("fresh_cells").reset_index()
    means = means.merge(counts, on=outcomes.KEYS, how="left")
    return means.fillna({"fresh_cells": 0}).astype({"fresh_cells": int})


def judge_each_dataset(
    method_readings: Readings, names: ComparisonSettings
) -> pd.DataFrame:
    """Return the tables of :func:`judge` of each dataset alone, with its name.

    A dataset has two blocks, so that nothing is tested; `low_backbones` and
    `high_backbones` are the ends of the interval over its backbones.
    """
    parts = []
    for dataset in method_readings.fronts["dataset"].unique():
        part = judge(only_dataset(method_readings, dataset), names)
        part.insert(0, "dataset", dataset)
        parts.append(part)
    return pd.concat(parts, ignore_index=True)


def only_dataset(method_readings: Readings, dataset: str) -> Readings:
    """Return the readings of one dataset."""
    return Readings(*(table[table["dataset"] == dataset] for table in method_readings))


def effects_by_cell(method_readings: Readings) -> pd.DataFrame:
    """Return the effect in each cell at the first width, a mean over seeds."""
    compared = method_readings.fronts[method_readings.fronts["status"] == "ok"]
    first_width = outcomes.headline(fronts.by_cell(compared))
    return first_width[[*KEYS, "effect", "r2_difference", "below_floor"]]


def few_minus_many(few: Readings, many: Readings) -> Readings:
    """Return, as effects, what a method gains with few images minus that with many.

    They are paired by backbone and seed. The datasets have the names of many images.
    """
    pair = [*KEYS, "seed"]
    compared = few.fronts[few.fronts["status"] == "ok"]
    compared = compared.assign(dataset=compared["dataset"].str.removesuffix(FEW_SUFFIX))
    of_many = many.fronts.loc[many.fronts["status"] == "ok", [*pair, "effect"]]
    paired = compared.merge(of_many, on=pair, suffixes=("", "_many"))
    differences = paired.assign(effect=paired["effect"] - paired.pop("effect_many"))
    return Readings(differences, few.equal_r2[:0], few.pairs[:0])


# The same question of fewer trials.


def read_fewer_trials(experiment: Experiment, is_kept: pd.Series) -> Readings:
    """Read the cells of one size as if other trials had not been made.

    Other trials may then be vertices. Where one that weighs anything was not trained
    with fresh seeds, that method, score and cell is read with the seed of the tuning,
    on both sides; `fresh` of the effects says so. The first width alone is read.

    Args:
        experiment: The rows of the size.
        is_kept: Which of these rows stay.
    """
    rule = experiment.names.fronts
    headline = rule.model_copy(update={"widths": rule.widths[:1]})
    fewer_trials = Experiment(
        experiment.metrics[is_kept],
        experiment.names.model_copy(update={"fronts": headline}),
    )
    method_readings = read_fronts(fewer_trials)
    tables = (method_readings.fronts, method_readings.equal_r2)
    if not any((table["status"] == SEEDS_MISSING).any() for table in tables):
        return method_readings
    with_tuning = read_fronts(fewer_trials._replace(metrics=fewer_trials.tuning))
    return Readings(
        _replace_missing(method_readings.fronts, with_tuning.fronts),
        _replace_missing(method_readings.equal_r2, with_tuning.equal_r2),
        method_readings.pairs,
    )


def _replace_missing(effects: pd.DataFrame, substitutes: pd.DataFrame) -> pd.DataFrame:
    """Return effects, with substitutes for those whose vertices lack fresh seeds."""
    is_missing = effects["status"] == SEEDS_MISSING
    substituted = substitutes.merge(effects.loc[is_missing, KEYS], on=KEYS)
    return pd.concat([effects[~is_missing], substituted], ignore_index=True)


def means_without_a_rate(experiment: Experiment) -> pd.DataFrame:
    """Return the means of the endpoints without all trials of one learning rate.

    Args:
        experiment: The rows of one size.

    Returns:
        The columns of :func:`judge`, and `left_out`: each rate, and "none".
    """
    rates = experiment.metrics["lr"]
    parts = []
    for rate in [None, *sorted(rates.dropna().unique())]:
        method_readings = read_fewer_trials(experiment, rates != rate)
        part = _endpoints(judge(method_readings, experiment.names))
        part.insert(0, "left_out", "none" if rate is None else f"{rate:g}")
        parts.append(part)
    return pd.concat(parts, ignore_index=True)


def means_of_twins_alone(experiment: Experiment) -> pd.DataFrame:
    """Return the means of the endpoints where the baseline's every trial has a twin.

    Trials of the baseline at points where no method that is compared with it trained
    are left out.

    Args:
        experiment: The rows of one size.
    """
    method_readings = read_fewer_trials(experiment, has_twin(experiment))
    return _endpoints(judge(method_readings, experiment.names))


def has_twin(experiment: Experiment) -> pd.Series:
    """Say which rows are of trials at points of other methods than the baseline's too.

    All trials of a method that is compared with the baseline are at such points.
    """
    metrics = experiment.metrics
    names = experiment.names
    is_compared = metrics["method"].map(names.tuned).notna()
    points = pd.MultiIndex.from_frame(metrics[[*CELL, *names.fronts.tuned]])
    return is_compared | points.isin(points[is_compared])


def _endpoints(means: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of the endpoints."""
    return means[means["score"].isin(ENDPOINTS)]


# Pairs of twins, by learning rate.


def gains_by_rate(experiment: Experiment) -> pd.DataFrame:
    """Return what pairs of twins gain at low rates, at high ones, and at each.

    The effects are those of `sae.comparison.pairs`.

    Args:
        experiment: The rows of one size.

    Returns:
        A row for each score, method and `rates`, `LOW_MINUS_HIGH` among them: over all
        datasets with the interval over blocks (`dataset` is "all"), and of each
        dataset. `twins`: how many pairs are feasible; `r2_difference`: what they lose
        of R^2, which has no price.
    """
    metrics = experiment.metrics
    names = experiment.names
    rate = metrics["lr"]
    rates = sorted(rate.dropna().unique())
    bands = {
        LOW_RATES: rate <= LOW_RATE,
        HIGH_RATES: rate >= HIGH_RATE,
        **{f"{one_rate:g}": rate == one_rate for one_rate in rates},
    }
    is_baseline = metrics["method"].map(names.tuned).isna()
    effects_by_rates = {
        title: pairs.effects(
            metrics[is_baseline | is_in_band], names.tuned, names.fronts
        )
        for title, is_in_band in bands.items()
    }
    effects_by_rates[LOW_MINUS_HIGH] = low_minus_high(
        effects_by_rates[LOW_RATES], effects_by_rates[HIGH_RATES]
    )
    rows = []
    for title, effects in effects_by_rates.items():
        for (score, method), cells in effects.groupby(["score", "method"], sort=False):
            about = {"score": score, "method": method, "rates": title}
            rows.append(about | {"dataset": "all"} | _mean_gain(cells, names))
            for dataset, of_dataset in cells.groupby("dataset", sort=False):
                # Its two blocks are too few for an interval.
                no_interval = {"low": None, "high": None}
                gain = {**_mean_gain(of_dataset, names), **no_interval}
                rows.append(about | {"dataset": dataset} | gain)
    return pd.DataFrame(rows)


def low_minus_high(at_low: pd.DataFrame, at_high: pd.DataFrame) -> pd.DataFrame:
    """Return what twins gain at low rates minus at high ones, in cells that have both.

    Args:
        at_low: Effects of pairs at low rates, as `sae.comparison.pairs` has them.
        at_high: Those at high rates.
    """
    cells = at_low.merge(
        at_high, on=[*CELL, "method", "score"], suffixes=("", "_at_high")
    )
    return cells.assign(
        effect=cells["effect"] - cells["effect_at_high"],
        r2_difference=cells["r2_difference"] - cells["r2_difference_at_high"],
        points=cells["points"] + cells["points_at_high"],
    )


def _mean_gain(cells: pd.DataFrame, names: ComparisonSettings) -> dict[str, Any]:
    """Return the mean gain of some cells over blocks, with its interval."""
    by_cell = cells.set_index(CELL)
    effect, half_width, _ = over_blocks(by_cell["effect"], names)
    return {
        "effect": effect,
        "low": effect - half_width,
        "high": effect + half_width,
        "r2_difference": over_blocks(by_cell["r2_difference"], names)[0],
        "cells": len(cells),
        "twins": cells["points"].sum(),
    }


# What stands beside.


def gains_by_frequency(run_folder: Path, experiment: Experiment) -> pd.DataFrame:
    """Return the gain in detection by how often latents fire, by size.

    Args:
        run_folder: The folder of the run, as bench/frequency.py reads it.
        experiment: Its rows.
    """
    tables = {}
    for size, rows in split_sizes(experiment).items():
        tables[size] = gains_over_blocks(gains_by_seed(run_folder, rows), rows)
    return _by_size(tables)


def compare_controls(metrics: pd.DataFrame, names: ComparisonSettings) -> pd.DataFrame:
    """Return what the controls lack of the baseline, at their own R^2, by size.

    Args:
        metrics: metrics.parquet of the run, with the SAEs of protocol `paper`.
        names: The experiment's methods, and the rule of intervals.
    """
    chosen = chosen_rows(rows_under(metrics, "paper"), "test", names.compared)
    chosen = across_groups(chosen)
    is_few = chosen["dataset"].str.endswith(FEW_SUFFIX)
    return _by_size(
        {
            size: controls.compare(rows, names, WORTH, names.claims)
            for size, rows in ((MANY, chosen[~is_few]), (FEW, chosen[is_few]))
            if len(rows)
        }
    )


# The page's words.


def answer_questions(
    tables: dict[str, pd.DataFrame], names: ComparisonSettings, smallest_match: float
) -> list[Answer]:
    """Say the page's words of each penalty.

    Args:
        tables: Of :func:`read_tables`.
        names: With the experiment's methods.
        smallest_match: The smallest effect in the match with concepts that is found
            with a power of .8; NaN if it is not known.
    """
    means = outcomes.headline(tables["means"])
    datasets = outcomes.headline(tables["datasets"])
    differences = outcomes.headline(tables["few_minus_many"])
    rates = tables["rates"]
    rates = rates[(rates["size"] == MANY) & (rates["dataset"] == "all")]
    answers = []
    for method, baseline in names.tuned.items():
        if baseline is None:
            continue
        detection = _row(means, method=method, size=MANY, score=DETECTION)
        answers.append(
            Answer(method, "many images", say_of_many(detection), _numbers(detection))
        )
        about = {"method": method, "score": DETECTION}
        answers.append(
            answer_small_data(
                method,
                _row(differences, dataset=FASHION_MNIST, **about),
                _row(datasets, dataset=FASHION_MNIST, size=MANY, **about),
                _row(datasets, dataset=FASHION_MNIST + FEW_SUFFIX, size=FEW, **about),
                backbones=len(names.families),
            )
        )
        answers.append(
            answer_low_rates(
                method,
                _row(rates, rates=HIGH_RATES, **about),
                _row(rates, rates=LOW_MINUS_HIGH, **about),
            )
        )
        match = _row(means, method=method, size=MANY, score=MATCH)
        answers.append(answer_judge_alone(method, detection, match, smallest_match))
    return answers


def came_out(tables: dict[str, pd.DataFrame]) -> pd.DataFrame:
    """Return what came out, in the order of the page's table of what is expected.

    Args:
        tables: Of :func:`read_tables`.

    Returns:
        Columns what, method, effect, low, high. Intervals of a dataset alone are those
        over its backbones.
    """
    means = outcomes.headline(tables["means"])
    datasets = outcomes.headline(tables["datasets"])
    differences = outcomes.headline(tables["few_minus_many"])
    rates = tables["rates"]
    expected: list[tuple[str, pd.DataFrame, dict[str, str]]] = [
        ("detection, many", means, {"score": DETECTION, "size": MANY})
    ]
    for dataset in datasets.loc[datasets["size"] == MANY, "dataset"].unique():
        about = {"score": DETECTION, "size": MANY, "dataset": dataset}
        expected.append((f"of these {dataset}", datasets, about))
    few_about = {"score": DETECTION, "dataset": FASHION_MNIST}
    rates_about = {"score": DETECTION, "size": MANY, "dataset": "all"}
    expected += [
        (f"{FASHION_MNIST}, few minus many", differences, few_about),
        (f"twins at rates {HIGH_RATES}", rates, {**rates_about, "rates": HIGH_RATES}),
        ("MS, many", means, {"score": "ms", "size": MANY}),
        ("match with concepts, many", means, {"score": MATCH, "size": MANY}),
        ("latents measured, many", means, {"score": "measured", "size": MANY}),
    ]
    rows = []
    for quantity, table, about in expected:
        for _, row in table[_has_values(table, about)].iterrows():
            is_of_dataset = table is datasets or table is differences
            ends = (
                ("low_backbones", "high_backbones")
                if is_of_dataset
                else ("low", "high")
            )
            rows.append(
                {
                    "what": quantity,
                    "method": row["method"],
                    "effect": row["effect"],
                    "low": row[ends[0]],
                    "high": row[ends[1]],
                }
            )
    return pd.DataFrame(rows)


def say_of_many(detection: pd.Series | None) -> str:
    """Return the word for detection over the cells of many images.

    *Confirmed* and *refuted* have definitions of their own, and both may hold: of an
    effect that is shown, and small. All else is inconclusive, as is a method that the
    rule cannot compare: out of reach in too many cells, or in too few blocks.

    Args:
        detection: A method's row of :func:`judge`.
    """
    if detection is None:
        return INCONCLUSIVE
    if detection["outcome"] == NOT_COMPARABLE:
        return INCONCLUSIVE
    words = []
    if detection["outcome"].startswith(BETTER):
        words.append(CONFIRMED)
    if detection["high"] < REFUTED_BELOW:
        words.append(REFUTED)
    return " and ".join(words) or INCONCLUSIVE


def answer(holds: bool, low: float, high: float) -> str:
    """Return the word for a question, from the interval of the contrast that it asks.

    Args:
        holds: Whether what was asked for before the run holds.
        low: The lower end of the contrast's interval.
        high: Its upper end.
    """
    if holds and low > 0:
        return YES
    return NO if high < 0 else INCONCLUSIVE


def answer_small_data(
    method: str,
    difference: pd.Series | None,
    many: pd.Series | None,
    few: pd.Series | None,
    *,
    backbones: int,
) -> Answer:
    """Say whether the gain on Fashion-MNIST is one of small data.

    Args:
        method: A penalty.
        difference: Its row of few minus many in detection, which is the contrast. Its
            interval, and that of few, are the ones over backbones.
        many: Its row with many images.
        few: That with few.
        backbones: How many there are, all of which must have a positive difference.
    """
    question = "of small data"
    if difference is None or many is None or few is None:
        return Answer(method, question, NOT_KNOWN, "a reading is missing")
    all_positive = difference["up"] == difference["cells"] == backbones
    below_half = many["effect"] < few["effect"] / 2
    holds = all_positive and below_half and few["low_backbones"] > 0
    low = difference["low_backbones"]
    high = difference["high_backbones"]
    because = (
        f"few minus many {difference['effect']:+.4f} [{low:+.4f}, {high:+.4f}], above "
        f"0 with {difference['up']} of {backbones} backbones; many "
        f"{many['effect']:+.4f}, few {few['effect']:+.4f} "
        f"[{few['low_backbones']:+.4f}, {few['high_backbones']:+.4f}], over backbones"
    )
    return Answer(method, question, answer(holds, low, high), because)


def answer_low_rates(
    method: str, high_rates: pd.Series | None, contrast: pd.Series | None
) -> Answer:
    """Say whether the gain is one of low learning rates.

    Args:
        method: A penalty.
        high_rates: Its row of :func:`gains_by_rate` for `HIGH_RATES`.
        contrast: That for `LOW_MINUS_HIGH`.
    """
    question = "of low rates"
    if high_rates is None or contrast is None:
        return Answer(method, question, NOT_KNOWN, "no twins are feasible there")
    holds = high_rates["effect"] < SMALL_GAIN
    because = (
        f"twins, {LOW_MINUS_HIGH}: {_interval(contrast)}; {HIGH_RATES}: "
        f"{_interval(high_rates)}"
    )
    word = answer(holds, contrast["low"], contrast["high"])
    return Answer(method, question, word, because)


def answer_judge_alone(
    method: str,
    detection: pd.Series | None,
    match: pd.Series | None,
    smallest_match: float,
) -> Answer:
    """Say whether only the judge of detection sees a gain, and people's words do not.

    *No* needs a match that gains, *yes* a detection that is confirmed.

    Args:
        method: A penalty.
        detection: Its row of detection over the cells of many images.
        match: That of the match with concepts.
        smallest_match: The smallest effect in the match that is found with a power of
            .8.
    """
    question = "of the judge alone"
    if match is None or pd.isna(smallest_match):
        return Answer(method, question, NOT_KNOWN, "no match, or no smallest effect")
    because = (
        f"detection is {say_of_many(detection)}; match {_interval(match)}, found with "
        f"a power of .8: {smallest_match:.4f}"
    )
    is_confirmed = CONFIRMED in say_of_many(detection)
    if is_confirmed and match["high"] < smallest_match:
        return Answer(method, question, YES, because)
    return Answer(method, question, NO if match["low"] > 0 else INCONCLUSIVE, because)


def read_smallest_match(power_table: Path) -> float:
    """Return the smallest effect in the match that is found; NaN without a table.

    Of several scenarios it is the least: "of the judge alone" is then said least often.

    Args:
        power_table: What `bench/power.py --csv` wrote.
    """
    if not power_table.exists():
        return float("nan")
    table = pd.read_csv(power_table)
    is_of_match = table["design"] == DESIGN_OF_MATCH
    return float(table.loc[is_of_match, "found with 0.8"].min())


def _row(table: pd.DataFrame, **values: Any) -> pd.Series | None:
    """Return the row whose columns have these values; None if there is none."""
    rows = table[_has_values(table, values)]
    assert len(rows) <= 1
    return None if rows.empty else rows.iloc[0]


def _has_values(table: pd.DataFrame, values: dict[str, Any]) -> pd.Series:
    """Say which rows have these values, {column: value}."""
    has_values = pd.Series(True, table.index)
    for column, value in values.items():
        has_values &= table[column] == value
    return has_values


def _interval(row: pd.Series) -> str:
    """Write an effect and its interval."""
    return f"{row['effect']:+.4f} [{row['low']:+.4f}, {row['high']:+.4f}]"


def _numbers(detection: pd.Series | None) -> str:
    """Write the numbers on which the word for many images rests."""
    if detection is None:
        return "detection was not read"
    return (
        f"{_interval(detection)}, Holm {detection['p_holm']:.4f}, "
        f"datasets of one sign: {detection['same_sign']}, {detection['outcome']}, "
        f"{detection['cells']} cells"
    )


def _as_text(table: pd.DataFrame) -> str:
    """Write a table for the console, of means the columns that matter most."""
    if "width" in table:
        table = outcomes.headline(table)
        table = table[[name for name in SHOWN if name in table]]
    return table.round(4).to_string(index=False)


if __name__ == "__main__":
    main()

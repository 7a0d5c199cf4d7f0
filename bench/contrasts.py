"""Numbers that pages of docs/results state beside their tables, from the rows there.

    python bench/contrasts.py sets docs/results/decisive        # and photographs
    python bench/contrasts.py pairs docs/results/decisive       # and photographs_all
    python bench/contrasts.py frequency docs/results/fair       # rivals and decisive
    python bench/contrasts.py same docs/results/photographs     # and fair, decisive
    python bench/contrasts.py rate docs/results/fair            # and sizes

Each prints its tables; with `--out` it writes them as CSV into a folder.
"""

import argparse
import sys
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from sae_workflow import settings

from sae.comparison import controls, fronts, intervals, outcomes, pairs
from sae.comparison.fronts import TRIAL
from sae.comparison.outcomes import Readings
from sae.comparison.scores import across_groups
from sae.core import files
from sae.core.errors import UserError
from sae.report.tables import ComparisonSettings
from sae.scoring.frequency import FREQUENCY_BANDS
from sae.scoring.front import DETECTION, ENDPOINTS
from sae.scoring.rows import CELL, read_metrics
from sae.scoring.selection import chosen_rows, rows_under

ROOT = Path(__file__).parent.parent
Tables = dict[str, pd.DataFrame]

# {experiment: {set: its datasets}}. Each set is read as if it were an experiment of its
# own, so that the same pictures are never two datasets of one mean.
MANY = ("fashion_mnist_55k", "emoji_vendors_split2", "openclipart_split1")
FEW = tuple(f"{dataset}_few" for dataset in MANY)
UNTOUCHED = ("aid_6k", "intel_scenes_6k", "food101_6k", "cats_dogs_6k")
SMALL_PICTURES = ("cifar10_6k", "tiny_imagenet_6k")
PHOTOGRAPHS = ("caltech101", "imagenette_6k", *UNTOUCHED)
SETS = {
    "decisive": {"many": MANY, "few": FEW},
    "photographs": {
        "all": (*PHOTOGRAPHS, *SMALL_PICTURES),
        "photographs": PHOTOGRAPHS,
        "small pictures": SMALL_PICTURES,
        "untouched": (*UNTOUCHED, *SMALL_PICTURES),
    },
}


class Pairs(NamedTuple):
    """Cells with one number of training images, to be subtracted from another.

    Attributes:
        table: The name of the table.
        minus: The experiment that is subtracted.
        names: {dataset: the dataset of that one}.
        columns: Those of the table.
    """

    table: str
    minus: str
    names: dict[str, str]
    columns: list[str]


OF_DIFFERENCE = [
    *("dataset", "method", "score", "width", "cells", "blocks", "effect", "low"),
    *("high", "effect_by_cell", "low_backbones", "high_backbones", "low_seeds"),
    *("high_seeds", "up", "fresh_cells"),
]
PAIRS = {
    "decisive": Pairs(
        "few_minus_many",
        "decisive",
        dict(zip(FEW, MANY, strict=True)),
        OF_DIFFERENCE,
    ),
    "photographs_all": Pairs(
        "all_minus_few",
        "photographs",
        dict(zip(("cifar10", "tiny_imagenet"), SMALL_PICTURES, strict=True)),
        # Its page asks whether the interval of 90 % lies within .01 of 0.
        [*OF_DIFFERENCE, "low_one_sided", "high_one_sided"],
    ),
}

WORTH = (DETECTION, "detection_auc_all", "ms", "concepts_match", "concepts_pairs")
PENALTIES = ("reg1", "reg2")
ALL_DATASETS = "all datasets"
METHOD = [*CELL, "method"]
KEYS = [*METHOD, "score", "width"]
# What is printed of a table of means; files have all columns.
SHOWN = [
    *("size", "dataset", "left_out", "method", "score", "cells", "fresh_cells"),
    *("effect", "low", "high", "low_one_sided", "high_one_sided"),
    *("low_backbones", "high_backbones", "low_seeds", "high_seeds", "p_holm"),
    *("outcome", "equal_r2", "pairs", "up", "out_of_reach"),
]


class Experiment(NamedTuple):
    """The kept rows of an experiment.

    Attributes:
        folder: Where they lie.
        metrics: Those of which its fronts are made, MS across groups.
        names: Its methods, rules and families of backbones.
    """

    folder: Path
    metrics: pd.DataFrame
    names: ComparisonSettings

    @property
    def tuning(self) -> pd.DataFrame:
        """The rows of the seed of the tuning."""
        return self.metrics[self.metrics["seed"] == self.names.fronts.tuning]

    @property
    def first_width(self) -> fronts.FrontRule:
        """The rule of fronts at its first width alone."""
        rule = self.names.fronts
        return rule.model_copy(update={"widths": rule.widths[:1]})

    def effects(self, metrics: pd.DataFrame) -> pd.DataFrame:
        """Return the effects at the first width, of these rows or of some."""
        return fronts.effects(metrics, self.names.tuned, self.first_width)


def main() -> None:
    """Print tables, and write them where `--out` says."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("command", choices=COMMANDS)
    parser.add_argument("folder", type=Path, help="docs/results/EXPERIMENT")
    parser.add_argument("--out", type=Path, help="a folder for the CSVs")
    arguments = parser.parse_args()
    try:
        experiment = read_experiment(arguments.folder)
        tables = COMMANDS[arguments.command](experiment)
    except UserError as error:
        sys.exit(f"error: {error}")
    for name, table in tables.items():
        shown = table
        if "width" in table:
            shown = outcomes.headline(table)
            shown = shown[[column for column in SHOWN if column in shown]]
        print(f"{name}\n\n{shown.round(4).to_string(index=False)}\n")
        if arguments.out:
            text = table.to_csv(index=False, lineterminator="\n", float_format="%.6g")
            files.write_text(arguments.out / f"{name}.csv", text)


def read_experiment(folder: Path) -> Experiment:
    """Read the kept rows of an experiment, which the folder is named for."""
    config = settings.read_config(str(ROOT / "config.yaml"))
    if folder.name not in config.experiments:
        raise UserError(f"{folder}: the config has no experiment {folder.name}")
    record = settings.claims_settings(config, folder.name)
    names = ComparisonSettings.model_validate(record)
    metrics = across_groups(read_metrics(folder / "metrics.parquet"))
    return Experiment(folder, fronts.of_protocol(metrics, names.fronts), names)


def over_blocks(cells: pd.Series, names: ComparisonSettings) -> intervals.Estimate:
    """Estimate the mean of cells over the blocks of `sae.comparison.outcomes`.

    Args:
        cells: By (dataset, backbone, k).
        names: With the families.
    """
    rows = cells.rename("effect").reset_index()
    family = rows["backbone"].map(names.families).rename("family")
    dataset = rows["dataset"].replace(names.pictures)
    blocks = rows.groupby([dataset, family])["effect"].mean()
    if dataset.nunique() >= outcomes.DATASETS_AS_BLOCKS:
        blocks = blocks.groupby("dataset").mean()
    return intervals.student(blocks.to_numpy(), names.intervals.confidence)


# Sets of datasets.


def read_sets(experiment: Experiment) -> Tables:
    """Read an experiment by sets of datasets.

    Returns:
        - means: each score's effect at the same R^2, over blocks, with intervals, the
          two other readings and the outcome; datasets: that of each dataset alone;
        - cells: the effect in each cell, a mean over seeds;
        - controls: what the controls lack of the baseline, at their own R^2;
        - of listed points, rates: what pairs of twins gain, by learning rate, and at
          low minus high ones; without_a_rate: the endpoints without all trials of one
          rate, for each rate; twins_alone: the endpoints where the baseline has only
          the trials with twins.
    """
    names = experiment.names
    all_readings = outcomes.readings_of(experiment.metrics, names.tuned, names.fronts)
    paper = rows_under(read_metrics(experiment.folder / "metrics.parquet"), "paper")
    chosen = across_groups(chosen_rows(paper, "test", names.compared))
    fewer_trials: dict[str, Readings] = {}
    pairs_by_rates: Tables = {}
    if names.fronts.grid:
        fewer_trials = read_without_rates(experiment)
        pairs_by_rates = pair_by_rates(experiment)
        of_twins = read_fewer_trials(experiment, has_twin(experiment))

    parts: dict[str, list[pd.DataFrame]] = {}
    for name, datasets in sets_of(experiment).items():
        of_set = only(all_readings, datasets)
        of_chosen = chosen[chosen["dataset"].isin([*datasets])]
        tables = {
            "means": judge(of_set, names),
            "datasets": judge_each_dataset(of_set, names),
            "cells": effects_by_cell(of_set.fronts),
            "controls": controls.compare(of_chosen, names, WORTH, names.claims),
        }
        if names.fronts.grid:
            tables["rates"] = gains_by_rates(pairs_by_rates, datasets, names)
            left_out = []
            for rate, fewer in fewer_trials.items():
                means = endpoints(judge(only(fewer, datasets), names))
                means.insert(0, "left_out", rate)
                left_out.append(means)
            tables["without_a_rate"] = pd.concat(left_out)
            of_set = only(of_twins, datasets)
            tables["twins_alone"] = endpoints(judge(of_set, names))
        for table_name, table in tables.items():
            table.insert(0, "size", name)
            parts.setdefault(table_name, []).append(table)
    return {name: pd.concat(tables) for name, tables in parts.items()}


def sets_of(experiment: Experiment) -> Mapping[str, Iterable[str]]:
    """Return {set: its datasets}; of most experiments, all are one set.

    Raises:
        UserError: There are no rows of a dataset.
    """
    with_rows = list(experiment.metrics["dataset"].unique())
    sets = SETS.get(experiment.folder.name, {"all": with_rows})
    missing = {name for datasets in sets.values() for name in datasets} - {*with_rows}
    if missing:
        raise UserError(
            f"{experiment.folder} lacks rows of {', '.join(sorted(missing))}: keep "
            "them first, by `make reference`"
        )
    return sets


def only(all_readings: Readings, datasets: Iterable[str]) -> Readings:
    """Return the readings of some datasets."""
    return Readings(
        *(table[table["dataset"].isin([*datasets])] for table in all_readings)
    )


def judge(method_readings: Readings, names: ComparisonSettings) -> pd.DataFrame:
    """Average effects over blocks, with intervals and outcomes.

    Returns:
        The table of `sae.comparison.outcomes.means`, and `fresh_cells`: how many of the
        cells are read with fresh seeds, and not with the seed of the tuning.
    """
    means = outcomes.means(
        method_readings, names.families, names.intervals, names.pictures
    )
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

    A dataset has a block for each family, so that often nothing is tested;
    `low_backbones`, `high_backbones` are the ends of the interval over its backbones.
    """
    parts = []
    for dataset in method_readings.fronts["dataset"].unique():
        part = judge(only(method_readings, [dataset]), names)
        part.insert(0, "dataset", dataset)
        parts.append(part)
    return pd.concat(parts)


def endpoints(means: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of the endpoints."""
    return means[means["score"].isin(ENDPOINTS)].copy()


def effects_by_cell(effects: pd.DataFrame) -> pd.DataFrame:
    """Return the effect in each cell at the first width, a mean over seeds."""
    compared = effects[effects["status"] == "ok"]
    first_width = outcomes.headline(fronts.by_cell(compared))
    return first_width[[*KEYS, "effect", "r2_difference", "below_floor"]]


def read_without_rates(experiment: Experiment) -> dict[str, Readings]:
    """Return {rate: the endpoints without its trials}, and with all as "none"."""
    rates = experiment.metrics["lr"]
    by_rate = {"none": read_fewer_trials(experiment, rates.notna())}
    for rate in sorted(rates.dropna().unique()):
        by_rate[f"{rate:g}"] = read_fewer_trials(experiment, rates != rate)
    return by_rate


def read_fewer_trials(experiment: Experiment, is_kept: pd.Series) -> Readings:
    """Read the endpoints as if other trials had not been made, at the first width.

    Other trials may then be vertices. Where one that weighs anything was not trained
    with fresh seeds, that method, score and cell is read with the seed of the tuning,
    on both sides; `fresh` of the effects says so.

    Args:
        experiment: Its rows.
        is_kept: Which of them stay.
    """
    rows = experiment.metrics[is_kept]
    against = experiment.names.tuned
    of_seeds = outcomes.readings_of(rows, against, experiment.first_width)
    missing = [effects["status"] == "seeds missing" for effects in of_seeds[:2]]
    if not any(is_missing.any() for is_missing in missing):
        return of_seeds
    tuning = rows[rows["seed"] == experiment.names.fronts.tuning]
    of_tuning = outcomes.readings_of(tuning, against, experiment.first_width)
    joined = []
    for effects, is_missing, substitutes in zip(
        of_seeds[:2], missing, of_tuning[:2], strict=True
    ):
        substituted = substitutes.merge(effects.loc[is_missing, KEYS], on=KEYS)
        joined.append(pd.concat([effects[~is_missing], substituted]))
    return Readings(joined[0], joined[1], of_seeds.pairs)


def has_twin(experiment: Experiment) -> pd.Series:
    """Say which rows are of trials at points of other methods than the baseline's too.

    All trials of a method that is compared with the baseline are at such points.
    """
    metrics = experiment.metrics
    is_compared = metrics["method"].map(experiment.names.tuned).notna()
    options = experiment.names.fronts.tuned
    points = pd.MultiIndex.from_frame(metrics[[*CELL, *options]])
    return is_compared | points.isin(points[is_compared])


# Rates that count as low, and as high, where pairs of twins are parted by them.
LOW_RATE = 0.002
HIGH_RATE = 0.004
LOW_RATES = f"up to {LOW_RATE:g}"
HIGH_RATES = f"from {HIGH_RATE:g}"
LOW_MINUS_HIGH = "low minus high"


def pair_by_rates(experiment: Experiment) -> Tables:
    """Return {rates: effects of `sae.comparison.pairs` at these}.

    `LOW_MINUS_HIGH` is of the cells that have both.
    """
    metrics = experiment.metrics
    names = experiment.names
    rate = metrics["lr"]
    bands = {LOW_RATES: rate <= LOW_RATE, HIGH_RATES: rate >= HIGH_RATE}
    for one_rate in sorted(rate.dropna().unique()):
        bands[f"{one_rate:g}"] = rate == one_rate
    is_baseline = metrics["method"].map(names.tuned).isna()
    effects = {
        rates: pairs.effects(
            metrics[is_baseline | is_in_band], names.tuned, names.fronts
        )
        for rates, is_in_band in bands.items()
    }
    in_both = effects[LOW_RATES].merge(
        effects[HIGH_RATES], on=[*METHOD, "score"], suffixes=("", "_high")
    )
    effects[LOW_MINUS_HIGH] = in_both.assign(
        effect=in_both["effect"] - in_both["effect_high"],
        r2_difference=in_both["r2_difference"] - in_both["r2_difference_high"],
        points=in_both["points"] + in_both["points_high"],
    )
    return effects


def gains_by_rates(
    pairs_by_rates: Tables, datasets: Iterable[str], names: ComparisonSettings
) -> pd.DataFrame:
    """Return what pairs of twins gain at some learning rates, in some datasets.

    Args:
        pairs_by_rates: Of :func:`pair_by_rates`.
        datasets: Those that are read.
        names: With the families.

    Returns:
        A row for each score, method and `rates`: over all of the datasets ("all") with
        the interval over blocks, and of each dataset. `twins`: how many pairs are
        feasible; `r2_difference`: what they lose of R^2, which has no price.
    """
    rows = []
    for rates, effects in pairs_by_rates.items():
        effects = effects[effects["dataset"].isin([*datasets])]
        for (score, method), cells in effects.groupby(["score", "method"], sort=False):
            parts = [("all", cells), *cells.groupby("dataset", sort=False)]
            for dataset, part in parts:
                by_cell = part.set_index(CELL)
                effect, half_width, _ = over_blocks(by_cell["effect"], names)
                of_r2 = over_blocks(by_cell["r2_difference"], names)
                if dataset != "all":  # its blocks are too few
                    half_width = np.nan
                rows.append(
                    {
                        "score": score,
                        "method": method,
                        "rates": rates,
                        "dataset": dataset,
                        "effect": effect,
                        "low": effect - half_width,
                        "high": effect + half_width,
                        "r2_difference": of_r2.mean,
                        "cells": len(part),
                        "twins": part["points"].sum(),
                    }
                )
    return pd.DataFrame(rows)


# Contrasts.


def read_pairs(experiment: Experiment) -> Tables:
    """Read one number of training images minus another, as `PAIRS` has them.

    Returns:
        Under its name, a table of each dataset, and of all with the interval over
        blocks.
    """
    if experiment.folder.name not in PAIRS:
        raise UserError(f"{experiment.folder}: only {', '.join(PAIRS)} have pairs")
    paired = PAIRS[experiment.folder.name]
    names = experiment.names
    first = outcomes.readings_of(experiment.metrics, names.tuned, names.fronts)
    second = first
    if paired.minus != experiment.folder.name:
        with_second = read_experiment(experiment.folder.parent / paired.minus)
        second = outcomes.readings_of(with_second.metrics, names.tuned, names.fronts)
    for effects, datasets in (
        (first.fronts, paired.names.keys()),
        (second.fronts, paired.names.values()),
    ):
        missing = {*datasets} - {*effects["dataset"]}
        if missing:
            raise UserError(
                f"there are no rows of {', '.join(sorted(missing))}: keep them first, "
                "by `make reference`"
            )
    differences = subtract(first, second, paired.names)
    of_all = judge(differences, names).assign(dataset=ALL_DATASETS)
    table = pd.concat([judge_each_dataset(differences, names), of_all])
    return {paired.table: table[paired.columns]}


def subtract(first: Readings, second: Readings, names: Mapping[str, str]) -> Readings:
    """Return, as effects, what a method gains in one reading minus in another.

    They are paired by backbone and seed.

    Args:
        first: With the datasets that are the keys of `names`.
        second: With those that are its values, which name the difference.
        names: {dataset: the dataset of `second`}.
    """
    pair = [*KEYS, "seed"]
    compared = first.fronts[first.fronts["status"] == "ok"]
    compared = compared.assign(dataset=compared["dataset"].map(names))
    subtracted = second.fronts.loc[second.fronts["status"] == "ok", [*pair, "effect"]]
    paired = compared.merge(subtracted, on=pair, suffixes=("", "_second"))
    differences = paired.assign(effect=paired["effect"] - paired.pop("effect_second"))
    return Readings(differences, first.equal_r2[:0], first.pairs[:0])


# How often latents fire.


def read_frequency(experiment: Experiment) -> Tables:
    """Read the gain in detection by how often latents fire.

    Rare latents are easier to find, so that a method whose latents are rarer may owe
    them its mean. Read are the vertices of detection's fronts, with the seeds that
    judge them: the mean AUC on test in each band of frequency minus the baseline's
    there, a mean over blocks with its interval.
    """
    effects = experiment.effects(experiment.metrics)
    effects = effects[(effects["score"] == DETECTION) & (effects["status"] == "ok")]
    curves = files.read_parquet(experiment.folder / "curves.parquet")
    is_by_frequency = curves["curve"] == "detection_by_frequency"
    curves = curves[is_by_frequency & (curves["split"] == "test")]
    auc_by_sae = {
        sae: points.set_index("x")["y"].reindex(FREQUENCY_BANDS).to_numpy(float)
        for sae, points in curves.groupby([*TRIAL, "seed"])
    }
    bands = [f"gain up to {band:.0%}" for band in FREQUENCY_BANDS]
    rows = []
    for effect in effects.itertuples():
        gain = gain_by_band(effect, auc_by_sae)
        about = {name: getattr(effect, name) for name in [*METHOD, "effect"]}
        rows.append({**about, **dict(zip(bands, gain, strict=True))})
    gains = pd.DataFrame(rows)

    sets = sets_of(experiment)
    lines: list[dict[str, object]] = []
    for name, datasets in sets.items():
        of_set = gains[gains["dataset"].isin([*datasets])]
        for method, of_method in of_set.groupby("method", sort=False):
            line: dict[str, object] = {"size": name} if len(sets) > 1 else {}
            line["method"] = method
            cells = of_method.groupby(CELL).mean(numeric_only=True)
            for column in ("effect", *bands):
                by_cell = cells[column].dropna()
                mean, half_width, _ = over_blocks(by_cell, experiment.names)
                line[column] = mean
                line[f"{column}, low"] = mean - half_width
                line[f"{column}, high"] = mean + half_width
            lines.append(line)
    return {"by_frequency": pd.DataFrame(lines).round(3)}


def gain_by_band(effect: Any, auc_by_sae: Mapping[tuple, np.ndarray]) -> np.ndarray:
    """Return a method's gain with one seed in each band of frequency.

    In a band the vertices that have latents there weigh as they do on the front.

    Args:
        effect: A row of `sae.comparison.fronts.effects`, of detection.
        auc_by_sae: {(*cell, method, trial, seed): (bands,) mean AUC, NaN of none}.
    """
    sides = []
    for saes, weight in vertices_of(effect):
        auc = np.array([auc_by_sae[sae] for sae in saes])
        with np.errstate(invalid="ignore"):
            total = weight @ np.nan_to_num(auc)
            sides.append(total / (weight @ ~np.isnan(auc)))
    return sides[0] - sides[1]


def vertices_of(effect: Any) -> list[tuple[list[tuple], np.ndarray]]:
    """Return the SAEs of an effect's vertices, the method's and then the baseline's.

    Args:
        effect: A row of `sae.comparison.fronts.effects`.

    Returns:
        Of either side, the keys (*cell, method, trial, seed), and (SAEs,) weights.
    """
    sides = []
    for method, vertices in (
        (effect.method, effect.vertices),
        (effect.baseline, effect.baseline_vertices),
    ):
        trials, weights = zip(
            *(vertex.rsplit(": ", 1) for vertex in vertices.split("; ")), strict=True
        )
        cell = (effect.dataset, effect.backbone, effect.k)
        saes = [(*cell, method, trial, effect.seed) for trial in trials]
        sides.append((saes, np.array(weights, float)))
    return sides


# What the SAEs that gain in detection pay.

PAID = {
    "detection": "detection_auc",
    "detection_all": "detection_auc_all",
    "measured": "detection_measured",
    "rare": "fires_below_10",  # latents that fire on less than 10 test images
    "r2": "r2",
}


def read_same_saes(experiment: Experiment) -> Tables:
    """Read what else differs between the SAEs whose detection is compared.

    A price has a front of its own, where it is at its best; here are the SAEs that have
    the gain in detection. This was asked after the rows of photographs had been read,
    and decides nothing.

    Returns:
        - same_saes: the vertices of detection's fronts, with the seeds that judge them;
        - pairs_by_lambda: pairs of trials that differ in the penalty alone, with the
          seed of the tuning, for each lambda.

        Both have, of all cells, of each set of `SETS` and of each backbone, the
        difference of each of `PAID` on test, over blocks, with its interval.
    """
    tests = experiment.metrics[experiment.metrics["split"] == "test"]
    score_of_sae = tests.set_index([*TRIAL, "seed"])[[*PAID.values()]]
    score_of_sae = score_of_sae[~score_of_sae.index.duplicated()]
    effects = experiment.effects(experiment.metrics)
    effects = effects[(effects["score"] == DETECTION) & (effects["status"] == "ok")]
    rows = []
    for effect in effects.itertuples():
        of_method, of_baseline = (
            np.average(score_of_sae.loc[saes], axis=0, weights=weight)
            for saes, weight in vertices_of(effect)
        )
        about = {name: getattr(effect, name) for name in METHOD}
        rows.append({**about, **dict(zip(PAID, of_method - of_baseline, strict=True))})

    tuning = experiment.tuning
    trials = tuning[(tuning["split"] == "test") & tuning[OPTIONS].notna().all(axis=1)]
    is_baseline = trials["method"].map(experiment.names.tuned).isna()
    twins = trials[trials["method"].isin(PENALTIES)].merge(
        trials[is_baseline], on=[*CELL, *OPTIONS], suffixes=("", "_baseline")
    )
    for name, score in PAID.items():
        twins[name] = twins[score] - twins[f"{score}_baseline"]
    return {
        "same_saes": over_cells(pd.DataFrame(rows), ["method"], experiment),
        "pairs_by_lambda": over_cells(twins, ["method", "lambda"], experiment),
    }


def over_cells(
    differences: pd.DataFrame, about: list[str], experiment: Experiment
) -> pd.DataFrame:
    """Return means of `PAID` over blocks, of all cells and of parts, for `about`."""
    lines = []
    parts = {
        name: differences[differences["dataset"].isin([*datasets])]
        for name, datasets in sets_of(experiment).items()
    }
    parts |= dict(iter(differences.groupby("backbone")))
    for part, of_part in parts.items():
        for key, rows in of_part.groupby(about):
            line = {"part": part, **dict(zip(about, key, strict=True))}
            for name in PAID:
                by_cell = rows.groupby(CELL)[name].mean()
                mean, half_width, _ = over_blocks(by_cell, experiment.names)
                line[name] = mean
                line[f"{name}_low"] = mean - half_width
                line[f"{name}_high"] = mean + half_width
                line[f"{name}_up"] = (by_cell > 0).sum()
            lines.append({**line, "cells": len(by_cell)})
    return pd.DataFrame(lines)


# The same trial with and without a penalty.

OPTIONS = ["lr", "encoder_scale", "auxk_alpha"]  # of a common point
RATE_SCORES = ["ms_mean_alive", "detection_auc", "r2"]
RATE_BANDS = [0, 0.0008, 0.0016, 0.004, 1]
MOST_DEAD = 0.1  # of the baseline's latents


def read_rate(experiment: Experiment) -> Tables:
    """Read what a penalty adds to the same trial, by its learning rate.

    Trials that differ from the baseline's in the penalty alone: the common points of
    each cell, with one lambda. On test, with the seed of the tuning, where 90 % of the
    baseline's latents fire; MS without near-duplicates.

    Returns:
        rate_by_dataset and rate: mean gains; correlation: over Top-k's own trials of a
        cell, the rank correlation of rate and MS.
    """
    rows = experiment.tuning.query("split == 'test' and steps.notna()")
    point = [*CELL, *OPTIONS, "steps"]
    is_alive = rows["dead_train"] <= MOST_DEAD * rows["m"]
    baseline = rows[(rows["method"] == "topk") & is_alive].drop_duplicates(point)
    twins = rows[rows["method"].isin(PENALTIES)].merge(
        baseline[[*point, *RATE_SCORES]], on=point, suffixes=("", " of Top-k")
    )
    # Trials at the common points have one lambda in a cell, the others each their own.
    lambdas = twins.groupby(METHOD)["lambda"]
    common_lambda = lambdas.transform(lambda values: values.mode().iloc[0])
    twins = twins[twins["lambda"] == common_lambda]

    gains = twins[["dataset", "method", "ms_mean_alive of Top-k"]].copy()
    for score in RATE_SCORES:
        gains[score] = twins[score] - twins[f"{score} of Top-k"]
    labels = [f"{rate:g}" for rate in RATE_BANDS[1:]]
    gains["rate up to"] = pd.cut(twins["lr"], RATE_BANDS, labels=labels)
    tables = {}
    for name, columns in {
        "rate_by_dataset": ["dataset", "rate up to", "method"],
        "rate": ["rate up to", "method"],
    }.items():
        by_rate = gains.groupby(columns, observed=True)
        means = by_rate.mean(numeric_only=True)
        tables[name] = means.assign(trials=by_rate.size()).reset_index()
    correlations = [
        {**dict(zip(CELL, cell, strict=True)), "rank correlation": correlation}
        for cell, trials in baseline.groupby(CELL)
        for correlation in [trials["lr"].corr(trials["ms_mean_alive"], "spearman")]
    ]
    return {**tables, "correlation": pd.DataFrame(correlations)}


COMMANDS: dict[str, Callable[[Experiment], Tables]] = {
    "sets": read_sets,
    "pairs": read_pairs,
    "frequency": read_frequency,
    "same": read_same_saes,
    "rate": read_rate,
}

if __name__ == "__main__":
    main()

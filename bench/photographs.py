"""Read `photographs` as its page says: `python bench/photographs.py docs/results`.

docs/results/photographs/README.md has the design and its words; this script was written
before there was a test score. It prints tables, and writes them as CSV into `read`
beside the rows, from the rows that are kept of `photographs` and `photographs_all`:

- means.csv: the table of outcomes (docs/protocol.md) of all eight sets, of the sets of
  photographs, of small pictures, and of sets that nobody had read;
- datasets.csv: each score's mean effect in each set;
- sentences.csv: whether the page's sentences are said;
- all_minus_few.csv: the effect with all training images minus that with few.
"""

import argparse
from pathlib import Path

import numpy as np
import pandas as pd
from _comparison import Experiment, read_experiment

from sae.comparison import fronts, outcomes, readings
from sae.comparison.intervals import student
from sae.comparison.outcomes import NEGLIGIBLE, NOT_COMPARABLE, is_shown
from sae.comparison.readings import Readings
from sae.core import files
from sae.scoring.front import DETECTION, ENDPOINTS
from sae.scoring.rows import CELL

READ_BEFORE = ("caltech101", "imagenette_6k")
SMALL_PICTURES = ("cifar10_6k", "tiny_imagenet_6k")
FEW_SUFFIX = "_6k"
EIGHT = "eight sets"
PHOTOGRAPHS = "photographs"
SMALL = "small pictures"
NOT_READ = "not read before"
MORE_GAIN = "fewer images, more gain"
NO_MATTER = f"the number of images makes less than {NEGLIGIBLE}"
CELL_EFFECT = ["method", "score", *CELL]


def main() -> None:
    """Print the tables, and write them."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("results", type=Path, help="folder of kept results")
    results = parser.parse_args().results

    few = read_experiment(results / "photographs")
    method_readings = readings.read(few.metrics, few.names.tuned, few.names.fronts)
    means = means_of_sets(method_readings, few)
    datasets = outcomes.headline(
        outcomes.by_dataset(method_readings.fronts, few.names.families)
    )
    tables = {
        "means": means,
        "datasets": datasets,
        "sentences": sentences(means, datasets),
    }
    if (results / "photographs_all").exists():
        every_image = read_experiment(results / "photographs_all")
        tables["all_minus_few"] = all_minus_few(every_image, few)
    for name, table in tables.items():
        print(f"{name}\n\n{table.round(4).to_string(index=False)}\n")
        text = table.to_csv(index=False, lineterminator="\n", float_format="%.6g")
        files.write_text(results / "photographs/read" / f"{name}.csv", text)


def means_of_sets(method_readings: Readings, experiment: Experiment) -> pd.DataFrame:
    """Return the table of outcomes of each group of sets, its name in column `sets`."""
    every_set = list(dict.fromkeys(method_readings.fronts["dataset"]))
    groups = {
        EIGHT: every_set,
        PHOTOGRAPHS: [name for name in every_set if name not in SMALL_PICTURES],
        SMALL: [name for name in every_set if name in SMALL_PICTURES],
        NOT_READ: [name for name in every_set if name not in READ_BEFORE],
    }
    names = experiment.names
    parts = []
    for title, sets in groups.items():
        of_sets = Readings(
            *(table[table["dataset"].isin(sets)] for table in method_readings)
        )
        if of_sets.fronts.empty:
            continue
        means = outcomes.means(of_sets, names.families, names.intervals)
        part = outcomes.headline(means).copy()
        part.insert(0, "sets", title)
        parts.append(part)
    return pd.concat(parts, ignore_index=True)


def sentences(means: pd.DataFrame, datasets: pd.DataFrame) -> pd.DataFrame:
    """Say which of the page's sentences hold of each word for an endpoint.

    A set that was read before has to have the effect's sign, if the word has one.

    Args:
        means: Of :func:`means_of_sets`.
        datasets: Of `sae.comparison.outcomes.by_dataset`, at the first width.

    Returns:
        Columns method, score, outcome (over eight sets), `on photographs` and `on sets
        that nobody had read`: whether that is said.
    """
    outcome_of = means.set_index(["sets", "method", "score"])["outcome"].to_dict()
    effects = datasets.set_index(["method", "score", "dataset"])["effect"].to_dict()
    rows = []
    is_tested = (means["sets"] == EIGHT) & means["score"].isin(ENDPOINTS)
    for row in means[is_tested].itertuples():
        about = (row.method, row.score)
        said_of_eight = row.outcome != NOT_COMPARABLE
        read_before = [effects[(*about, name)] for name in READ_BEFORE]
        same_sign = all(
            np.sign(effect) == np.sign(row.effect) for effect in read_before
        )
        of_photographs = outcome_of[PHOTOGRAPHS, *about] == row.outcome
        of_not_read = outcome_of[NOT_READ, *about] == row.outcome
        rows.append(
            {
                "method": row.method,
                "score": row.score,
                "outcome": row.outcome,
                "on photographs": said_of_eight
                and of_photographs
                and (same_sign or not is_shown(row.outcome)),
                "on sets that nobody had read": said_of_eight and of_not_read,
            }
        )
    return pd.DataFrame(rows)


def all_minus_few(every_image: Experiment, few: Experiment) -> pd.DataFrame:
    """Return the effect with all training images minus that with few.

    Returns:
        A row for each method and score: the number of `blocks` (a set and a family),
        the mean over them, the ends of its 95 % and 90 % intervals, and of detection
        what the page says of it.
    """
    few_effects = cell_effects(few).rename(
        lambda name: name.removesuffix(FEW_SUFFIX), level="dataset"
    )
    difference = (cell_effects(every_image) - few_effects).dropna()
    rows = []
    for (method, score), cells in difference.groupby(["method", "score"], sort=False):
        family = cells.index.get_level_values("backbone").map(few.names.families)
        dataset = cells.index.get_level_values("dataset")
        blocks = cells.groupby([dataset, family]).mean().to_numpy()
        wide = student(blocks, few.names.intervals.confidence)
        narrow = student(blocks, few.names.intervals.one_sided)
        row = {
            "method": method,
            "score": score,
            "blocks": len(blocks),
            "difference": wide.mean,
            "low": wide.mean - wide.half_width,
            "high": wide.mean + wide.half_width,
            "low_one_sided": wide.mean - narrow.half_width,
            "high_one_sided": wide.mean + narrow.half_width,
        }
        if score == DETECTION:
            row["said"] = say_of_number_of_images(row)
        rows.append(row)
    return pd.DataFrame(rows)


def cell_effects(experiment: Experiment) -> pd.Series:
    """Return the effect in each cell, indexed by method, score and cell."""
    effects = experiment.effects()
    compared = fronts.by_cell(effects[effects["status"] == "ok"])
    return compared.set_index(CELL_EFFECT)["effect"]


def say_of_number_of_images(row: dict[str, float]) -> str:
    """Return what the page says of detection with all images minus that with few."""
    if row["high"] < 0:
        return MORE_GAIN
    if max(-row["low_one_sided"], row["high_one_sided"]) < NEGLIGIBLE:
        return NO_MATTER
    return outcomes.INCONCLUSIVE


if __name__ == "__main__":
    main()

"""Say which sentences of docs/results/photographs hold: `python bench/photographs.py`.

Its page has the words, which were written before there was a test score, as was this
script. The numbers are those of `bench/contrasts.py`, from the rows that are kept of
`photographs` and, if they are there, `photographs_all`.
"""

import sys
from pathlib import Path

import numpy as np
import pandas as pd
from contrasts import ALL_DATASETS, read_experiment, read_pairs, read_sets

from sae.comparison import outcomes
from sae.comparison.outcomes import NEGLIGIBLE, NOT_COMPARABLE, is_shown
from sae.core.errors import UserError
from sae.scoring.front import DETECTION, ENDPOINTS

RESULTS = Path(__file__).parent.parent / "docs/results"
READ_BEFORE = ("caltech101", "imagenette_6k")
BLOCKS_OF_PAIRS = 4  # of all images minus few: two sets, two families
MORE_GAIN = "fewer images, more gain"
NO_MATTER = f"the number of images makes less than {NEGLIGIBLE}"


def main() -> None:
    """Print the sentences."""
    try:
        tables = read_sets(read_experiment(RESULTS / "photographs"))
        means = outcomes.headline(tables["means"])
        datasets = outcomes.headline(tables["datasets"])
        of_all = datasets[datasets["size"] == "all"]
        print(sentences(means, of_all).to_string(index=False))
        if (RESULTS / "photographs_all/metrics.parquet").exists():
            differences = read_pairs(read_experiment(RESULTS / "photographs_all"))
            said = of_the_number_of_images(differences["all_minus_few"])
            print(said.to_string())
    except UserError as error:
        sys.exit(f"error: {error}")


def sentences(means: pd.DataFrame, datasets: pd.DataFrame) -> pd.DataFrame:
    """Say which of the page's sentences hold of each word for an endpoint.

    A set that was read before has to have the effect's sign, if the word has one. For a
    sentence *better* and *better, by less than .01* are one word.

    Args:
        means: Outcomes of each set of datasets, its name in column `size`.
        datasets: The effects of each dataset alone.

    Returns:
        Columns method, score, outcome (over eight sets), `on photographs` and `on sets
        that nobody had read`: whether that is said.
    """
    outcome_of = means.set_index(["size", "method", "score"])["outcome"].to_dict()
    effects = datasets.set_index(["method", "score", "dataset"])["effect"].to_dict()
    rows = []
    is_tested = (means["size"] == "all") & means["score"].isin(ENDPOINTS)
    for row in means[is_tested].itertuples():
        about = (row.method, row.score)
        word = first_word(row.outcome)
        is_compared = word != NOT_COMPARABLE
        read_before = [effects[(*about, name)] for name in READ_BEFORE]
        same_sign = all(np.sign(value) == np.sign(row.effect) for value in read_before)
        of_photographs = first_word(outcome_of["photographs", *about]) == word
        of_untouched = first_word(outcome_of["untouched", *about]) == word
        rows.append(
            {
                "method": row.method,
                "score": row.score,
                "outcome": row.outcome,
                "on photographs": is_compared
                and of_photographs
                and (same_sign or not is_shown(row.outcome)),
                "on sets that nobody had read": is_compared and of_untouched,
            }
        )
    return pd.DataFrame(rows)


def first_word(outcome: str) -> str:
    """Return an outcome without *by less than .01*."""
    return outcome.partition(",")[0]


def of_the_number_of_images(differences: pd.DataFrame) -> pd.Series:
    """Return what is said of each method's detection, all images minus few."""
    is_read = (differences["dataset"] == ALL_DATASETS) & (
        differences["score"] == DETECTION
    )
    rows = outcomes.headline(differences[is_read]).set_index("method")
    return rows.apply(say_of_number_of_images, axis="columns")


def say_of_number_of_images(row: pd.Series) -> str:
    """Return what the page says of an effect with all images minus that with few."""
    if row["blocks"] < BLOCKS_OF_PAIRS:
        return outcomes.INCONCLUSIVE
    if row["high"] < 0:
        return MORE_GAIN
    if max(-row["low_one_sided"], row["high_one_sided"]) < NEGLIGIBLE:
        return NO_MATTER
    return outcomes.INCONCLUSIVE


if __name__ == "__main__":
    main()

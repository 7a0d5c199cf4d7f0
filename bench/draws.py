"""What the draw of trials is worth: `python bench/draws.py docs/results/fair`.

Trials are drawn anew from themselves, with replacement, and effects are read with the
seed of the tuning. Common points are drawn together for all methods and all k of a
(dataset, backbone), as the protocol draws them; a method's other trials, for itself in
each cell. Printed are the mean over blocks as drawn, and the mean and the standard
deviation over the new draws. It cannot show what a trial outside of these would change.
"""

import argparse
from pathlib import Path

import numpy as np
import pandas as pd
from _comparison import Experiment, read

from sae.comparison import outcomes
from sae.scoring.front import ENDPOINTS
from sae.scoring.rows import CELL

BACKBONE = ["dataset", "backbone"]
METHOD = [*CELL, "method"]
OPTIONS = ["lr", "encoder_scale", "auxk_alpha"]


def main() -> None:
    """Print a row for each score and method, of each dataset with `--by-dataset`."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "results", type=Path, help="folder of an experiment with `fair`"
    )
    parser.add_argument("--config", nargs="*", default=[], help="laid over config.yaml")
    parser.add_argument("--draws", type=int, default=40)
    parser.add_argument("--by-dataset", action="store_true")
    arguments = parser.parse_args()
    experiment = read(arguments.results, *arguments.config)
    rows = experiment.tuning
    by = ["score", "method", *(["dataset"] if arguments.by_dataset else [])]

    rng = np.random.default_rng(0)
    trials = _with_point(rows)
    drawn = []
    for _ in range(arguments.draws):
        kept = _draw(trials, rng)
        drawn.append(_means(experiment, rows.merge(kept), by))
    table = pd.DataFrame(drawn)
    columns = {
        "as drawn": _means(experiment, rows, by),
        "mean": table.mean(),
        "sd": table.std(),
    }
    print(pd.DataFrame(columns).round(4).to_string())


def _means(experiment: Experiment, rows: pd.DataFrame, by: list[str]) -> pd.Series:
    """Return the mean over blocks of the endpoints."""
    effects = experiment.effects(rows)
    effects = effects[effects["score"].isin(ENDPOINTS)]
    datasets = outcomes.by_dataset(effects, experiment.names.families)
    if "dataset" in by:
        return datasets.set_index(by)["effect"]
    # Every dataset has the same families, so that its mean weighs as much.
    return datasets.groupby(by)["effect"].mean()


def _with_point(rows: pd.DataFrame) -> pd.DataFrame:
    """Return each trial with the common point that it stands at, or with itself.

    A point is common if every method of the cell has a trial there.
    """
    trials = rows[[*METHOD, "trial", *OPTIONS]].drop_duplicates([*METHOD, "trial"])
    points = trials[OPTIONS].astype(str).agg(" ".join, axis=1)
    trials = trials.assign(point=points)
    count = trials.groupby([*CELL, "point"])["method"].transform("nunique")
    is_common = count == trials.groupby(CELL)["method"].transform("nunique")
    own = trials["method"] + " " + trials["trial"] + " " + trials["k"].astype(str)
    return trials.assign(unit=trials["point"].where(is_common, own), common=is_common)


def _draw(trials: pd.DataFrame, rng: np.random.Generator) -> pd.DataFrame:
    """Draw units with replacement, and return the trials that were drawn at all."""
    kept = []
    common = trials[trials["common"]]
    for _, rows in common.groupby(BACKBONE, sort=False):
        kept.append(rows[rows["unit"].isin(_some(rows["unit"], rng))])
    for _, rows in trials[~trials["common"]].groupby(METHOD, sort=False):
        kept.append(rows[rows["unit"].isin(_some(rows["unit"], rng))])
    return pd.concat(kept)[[*METHOD, "trial"]]


def _some(units: pd.Series, rng: np.random.Generator) -> np.ndarray:
    """Draw as many of some units as there are, with replacement."""
    every = units.unique()
    return rng.choice(every, len(every))


if __name__ == "__main__":
    main()

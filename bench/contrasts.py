"""Contrasts between experiments, which docs/results/decisive states beside its tables.

    python bench/contrasts.py groups results/datasets
    python bench/contrasts.py tables docs/results

The second reads the rows that are kept in docs/results, and what the first wrote.
"""

import argparse
from pathlib import Path

import numpy as np
import pandas as pd
from _command import add_command, run_script
from _comparison import Experiment, read_experiment
from decisive import FEW, split_sizes
from scipy.special import stdtrit

from sae.core import files
from sae.scoring.front import DETECTION, ENDPOINTS
from sae.scoring.rows import CELL

EXPERIMENTS = ("fair", "sizes", "decisive")
READ = Path("docs/results/decisive/read")
TRAINING_IMAGES = READ / "training_images.csv"
# The cells of Fashion-MNIST that `sizes` and `decisive` both have.
BACKBONE = "efficientnet_lite0"
K = 16


def add_commands(commands: "argparse._SubParsersAction") -> None:
    """Add every command of this script."""
    command = add_command(commands, "groups", count_groups, tiny=False)
    command.add_argument("datasets", type=Path, help="folder with a dataset in each")
    command.add_argument("--out", type=Path, default=TRAINING_IMAGES, help="a CSV")

    command = add_command(commands, "tables", write_tables, tiny=False)
    command.add_argument("results", type=Path, help="folder of kept results")
    command.add_argument("--out", type=Path, default=READ, help="a folder for the CSVs")


def count_groups(arguments: argparse.Namespace) -> None:
    """Count the training images of datasets, and their groups of near-duplicates.

    It is behind the groups of docs/results/decisive. In a dataset without
    near-duplicates each image is a group.
    """
    lines = []
    for index_file in sorted(arguments.datasets.glob("*/index.parquet")):
        index = files.read_parquet(index_file)
        train = index[index["split"] == "train"]
        groups = train["group"].nunique()
        dataset = index_file.parent.name
        lines.append({"dataset": dataset, "images": len(train), "groups": groups})
    write(arguments.out, pd.DataFrame(lines))


def write_tables(arguments: argparse.Namespace) -> None:
    """Write the contrasts that no experiment's own tables have.

    It is behind three tables of docs/results/decisive: images and groups for each
    latent (images_a_latent.csv), `fair` minus the cells of few images
    (fair_minus_few.csv), and Fashion-MNIST in `sizes` and in `decisive`
    (fashion_mnist.csv).
    """
    experiments = {
        name: read_experiment(arguments.results / name) for name in EXPERIMENTS
    }
    sizes = images_a_latent(experiments, pd.read_csv(TRAINING_IMAGES))
    tables = {
        "images_a_latent": sizes,
        "fair_minus_few": fair_minus_few(experiments["fair"], experiments["decisive"]),
        "fashion_mnist": compare_fashion_mnist(experiments, sizes),
    }
    for name, table in tables.items():
        print(f"{name}\n\n{table.round(4).to_string(index=False)}\n")
        write(arguments.out / f"{name}.csv", table)


def write(path: Path, table: pd.DataFrame) -> None:
    """Write a table as CSV with six digits."""
    text = table.to_csv(index=False, lineterminator="\n", float_format="%.6g")
    files.write_text(path, text)


def images_a_latent(
    experiments: dict[str, Experiment], training_images: pd.DataFrame
) -> pd.DataFrame:
    """Return how many training images and groups there are for each latent.

    Args:
        experiments: {name: its rows}.
        training_images: Columns dataset, images, groups.

    Returns:
        A row for each experiment and dataset: m, images, groups, images_a_latent,
        groups_a_latent.
    """
    parts = []
    for name, experiment in experiments.items():
        part = experiment.metrics[["dataset", "m"]].drop_duplicates()
        part.insert(0, "experiment", name)
        parts.append(part)
    table = pd.concat(parts).merge(training_images, on="dataset", how="left")
    for name in ("images", "groups"):
        table[f"{name}_a_latent"] = table[name] / table["m"]
    return table


def fair_minus_few(fair: Experiment, decisive: Experiment) -> pd.DataFrame:
    """Return the gain in `fair` minus that in the cells of few images of `decisive`.

    The cells are others, so the difference of the two means over blocks is not paired:
    its interval is Welch's.

    Returns:
        A row for each endpoint and penalty: the two means, their difference, low, high.
    """
    few = split_sizes(decisive)[FEW]
    confidence = fair.names.intervals.confidence
    lines = []
    gains_of_few = block_gains(few).set_index(["score", "method"])["gain"]
    by_method = block_gains(fair).groupby(["score", "method"], sort=False)
    for (score, method), blocks_of_fair in by_method:
        of_fair = blocks_of_fair["gain"].to_numpy()
        of_few = gains_of_few[score, method].to_numpy()
        difference, half_width = welch(of_fair, of_few, confidence)
        lines.append(
            {
                "score": score,
                "method": method,
                "fair": of_fair.mean(),
                "few": of_few.mean(),
                "difference": difference,
                "low": difference - half_width,
                "high": difference + half_width,
            }
        )
    return pd.DataFrame(lines)


def block_gains(experiment: Experiment) -> pd.DataFrame:
    """Return each penalty's gain in the endpoints in each (dataset, family).

    Returns:
        Columns score, method, dataset, family, gain.
    """
    effects = experiment.effects()
    is_read = (effects["status"] == "ok") & effects["score"].isin(ENDPOINTS)
    is_penalty = effects["method"].isin(["reg1", "reg2"])
    cells = effects[is_read & is_penalty].groupby(["score", "method", *CELL])
    gains = cells["effect"].mean().rename("gain").reset_index()
    family = gains["backbone"].map(experiment.names.families)
    blocks = gains.assign(family=family).groupby(
        ["score", "method", "dataset", "family"]
    )
    return blocks["gain"].mean().reset_index()


def welch(
    first: np.ndarray, second: np.ndarray, confidence: float
) -> tuple[float, float]:
    """Return the difference of two means, and half of Welch's interval (1947).

    Args:
        first: (n,) values.
        second: (n,) values of another sample, of another length perhaps.
        confidence: The coverage of the interval.
    """
    squared_errors = np.array(
        [np.var(sample, ddof=1) / len(sample) for sample in (first, second)]
    )
    freedom = np.array([len(first) - 1, len(second) - 1])
    squared_error = squared_errors.sum()
    degrees = squared_error**2 / (squared_errors**2 / freedom).sum()
    quantile = float(stdtrit(degrees, (1 + confidence) / 2))
    return float(first.mean() - second.mean()), quantile * float(squared_error**0.5)


def compare_fashion_mnist(
    experiments: dict[str, Experiment], sizes: pd.DataFrame
) -> pd.DataFrame:
    """Return the gains in detection in the cells that `sizes` and `decisive` share.

    Args:
        experiments: {name: its rows}.
        sizes: Of :func:`images_a_latent`.

    Returns:
        A row for each experiment and number of images, those of few images first.
    """
    parts = []
    for name in ("sizes", "decisive"):
        metrics = experiments[name].metrics
        is_shared = (
            metrics["dataset"].str.startswith("fashion_mnist")
            & (metrics["backbone"] == BACKBONE)
            & (metrics["k"] == K)
        )
        effects = experiments[name].effects(metrics[is_shared])
        of_detection = effects[effects["score"] == DETECTION]
        gains = of_detection.pivot_table(
            index="dataset", columns="method", values="effect"
        )
        gains.insert(0, "experiment", name)
        parts.append(gains.reset_index())
    table = sizes.merge(pd.concat(parts), on=["experiment", "dataset"])
    return table.sort_values(["images", "m"], ascending=[True, False])


if __name__ == "__main__":
    run_script(__doc__, add_commands)

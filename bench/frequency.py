"""The gain in detection by how often latents fire: `python bench/frequency.py docs/results/fair`.

Rare latents are easier to find, so that a method whose latents are rarer may owe them its
mean. Read are the vertices of detection's fronts, with fresh seeds on test: the mean AUC
in each band of frequency minus the baseline's there, mean over blocks, with its interval.
Where the folder has every latent of the judged SAEs (results of a run, not those that are
kept in docs), `reweighted` is the gain as if latents fired as often as the baseline's.
"""

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from _comparison import Experiment, over_blocks, read

from sae.comparison.fronts import TRIAL
from sae.core import files
from sae.scoring.front import DETECTION
from sae.scoring.metrics.detection import BANDS
from sae.scoring.rows import CELL


def main() -> None:
    """Print a row for each method, and write it where `--out` says."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("results", type=Path, help="folder of a run with protocol fair")
    parser.add_argument("--experiment", help="its name, where the folder has another")
    parser.add_argument("--config", nargs="*", default=[], help="laid over config.yaml")
    parser.add_argument("--out", type=Path, help="a CSV")
    arguments = parser.parse_args()
    experiment = read(
        arguments.results, *arguments.config, experiment=arguments.experiment
    )
    gains = gains_by_seed(arguments.results, experiment)
    table = gains_over_blocks(gains, experiment).set_index("method").round(3)
    print(table.to_string())
    if arguments.out:
        files.write_text(arguments.out, table.to_csv(lineterminator="\n"))


def gains_by_seed(run_folder: Path, experiment: Experiment) -> pd.DataFrame:
    """Return the gain of each method in each cell, with each seed that is read.

    Args:
        run_folder: The folder of the run, with curves.parquet and latents.parquet.
        experiment: Its rows, or some of them; cells without rows have no gain.

    Returns:
        Columns method, `CELL`, effect (all bands together), reweighted (as if latents
        fired as often as the baseline's; NaN where the folder lacks latents), and a
        column for each band.
    """
    effects = experiment.effects()
    effects = effects[(effects["score"] == DETECTION) & (effects["status"] == "ok")]
    curves = files.read_parquet(run_folder / "curves.parquet")
    curves = curves[
        (curves["curve"] == "detection_by_frequency") & (curves["split"] == "test")
    ]
    bands = {key: rows for key, rows in curves.groupby([*TRIAL, "seed"])}
    latents = files.read_parquet(run_folder / "latents.parquet")
    latents = latents[latents["dataset"].isin(experiment.metrics["dataset"])]
    counts = _counts(latents, experiment.metrics)
    return pd.DataFrame([_gain(row, bands, counts) for row in effects.itertuples()])


def gains_over_blocks(gains: pd.DataFrame, experiment: Experiment) -> pd.DataFrame:
    """Return each method's mean gains over blocks, with their intervals.

    Args:
        gains: Of :func:`gains_by_seed`.
        experiment: With the families of backbones.

    Returns:
        A row for each method: the columns of gains, and of each its low and high end.
        Columns that no cell has are left out.
    """
    if gains.empty:
        return gains
    lines = []
    for method, rows in gains.groupby("method", sort=False):
        line: dict[str, object] = {"method": method}
        cells = rows.groupby(CELL).mean(numeric_only=True)
        for column in ("effect", "reweighted", *map(_title, BANDS)):
            known = cells[column].dropna()
            if known.empty:
                continue
            mean, half, _ = over_blocks(known, experiment.names)
            line[column] = mean
            line[f"{column}, low"], line[f"{column}, high"] = mean - half, mean + half
        lines.append(line)
    return pd.DataFrame(lines)


def _title(band: float) -> str:
    """Return the column of a band."""
    return f"gain up to {band:.0%}"


def _counts(latents: pd.DataFrame, metrics: pd.DataFrame) -> dict[tuple, np.ndarray]:
    """Return {(trial, seed): how many measured latents lie in each band}."""
    images = metrics[metrics["split"] == "test"].groupby("dataset")["n_images"].max()
    measured = latents[(latents["split"] == "test") & latents["detection"].notna()]
    share = measured["n_active"] / measured["dataset"].map(images)
    rows = measured.assign(band=np.searchsorted(BANDS, share))
    return {
        key: np.bincount(of_sae["band"], minlength=len(BANDS))
        for key, of_sae in rows.groupby([*TRIAL, "seed"])
    }


def _gain(row: Any, bands: dict, counts: dict) -> dict[str, object]:
    """Return a method's gain with one seed in each band, and reweighted."""
    own, _ = _side(row, row.method, row.vertices, bands, counts)
    base, size = _side(row, row.baseline, row.baseline_vertices, bands, counts)
    gain = own - base
    cell = {"dataset": row.dataset, "backbone": row.backbone, "k": row.k}
    line = {"method": row.method, **cell, "effect": row.effect, "reweighted": np.nan}
    known = ~np.isnan(gain) & (size > 0)
    if known.any():
        line["reweighted"] = float(np.average(gain[known], weights=size[known]))
    return line | {_title(band): value for band, value in zip(BANDS, gain, strict=True)}


def _side(
    row: Any, method: str, vertices: str, bands: dict, counts: dict
) -> tuple[np.ndarray, np.ndarray]:
    """Return the mean AUC of a front in each band, and how many latents it has there.

    In a band the vertices that have latents there weigh as they do on the front.
    """
    total, weights, size = (np.zeros(len(BANDS)) for _ in range(3))
    for vertex in vertices.split("; "):
        trial, weight = vertex.rsplit(": ", 1)
        key = (row.dataset, row.backbone, row.k, method, trial, row.seed)
        curve = bands[key].set_index("x")["y"].reindex(BANDS).to_numpy(float)
        known = ~np.isnan(curve)
        total[known] += float(weight) * curve[known]
        weights[known] += float(weight)
        size += float(weight) * counts.get(key, np.zeros(len(BANDS)))
    with np.errstate(invalid="ignore"):
        return total / weights, size


if __name__ == "__main__":
    main()

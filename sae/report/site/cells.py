"""One cell (dataset, backbone, k): which SAEs are shown, and the file of the cell.

The file has curves and distributions of the SAEs that are shown, and the training and
settings of all trials.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from sae.bank.read import Bank
from sae.bank.sae import Sae
from sae.core import files
from sae.report.names import Names
from sae.report.site.concepts import WORDS
from sae.scoring.rows import KEY
from sae.scoring.selection import rows_under

BINS = 40
POINTS = 100  # of a training curve, at most
# What a latent without a score counts as, by the column of latents.parquet; of other
# columns, which begin with `ms`, it is 0.
VALUE_WITHOUT_SCORE = {"detection": 0.5}
# The columns of latents.parquet that have no distribution.
NO_SCORES = (
    *KEY,
    "n_active",
    "top_class",
    "copy_of",
    "latent",
    "selected",
    "ms_across_groups",
    "spread",
    *WORDS,
)


def chosen_saes(bank: Bank, names: Names, selection: pd.DataFrame) -> dict[str, Sae]:
    """Choose the SAE that stands for each method.

    It is the trial that protocol `tuned` chose, with its first fresh seed; of a method
    without one what protocol `paper` chose with its first seed. Controls are among
    them; methods that are trained at another's choice are not.

    Args:
        bank: The cell's SAEs.
        names: The experiment's methods.
        selection: The cell's rows of selection.parquet.

    Returns:
        {method: its SAE}, in the order of config.
    """
    chosen = [sae for sae in bank.saes if sae.chosen and sae.method in names.compared]
    # Controls and imported SAEs are of `tuned` where there is no protocol `paper`.
    chosen = [
        sae
        for sae in chosen
        if sae.protocol == "paper" or sae.method not in names.tuned
    ]
    saes = {sae.method: sae for sae in chosen if sae.seed == chosen[0].seed}

    # By its key: an SAE that both protocols ask for is of `paper` in the bank.
    sae_by_key = {sae.table_key: sae for sae in bank.saes}
    trials = rows_under(selection, "tuned")
    for row in trials[trials["status"] == "chosen"].to_dict("records"):
        first_seed = int(row["seeds"].split()[0])
        saes[row["method"]] = sae_by_key[row["method"], row["trial"], first_seed]
    return {method: saes[method] for method in names.order(saes)}


def best_reconstructing(
    bank: Bank, names: Names, metrics: pd.DataFrame, chosen: Mapping[str, Sae]
) -> dict[str, Sae]:
    """Return the trial of highest validation R² of each method without a chosen SAE.

    A protocol chooses none where no trial reconstructs as well as the baseline. Such a
    method has something to look at all the same; it is marked, and in no mean and no
    claim.

    Args:
        bank: The cell's SAEs.
        names: The experiment's methods.
        metrics: The cell's rows of metrics.parquet.
        chosen: {method: the SAE that stands for it}.

    Returns:
        {method: its SAE}, of methods that are tuned and trained here.
    """
    validation = metrics[metrics["split"] == "val"]
    r2 = validation.set_index(["method", "trial", "seed"])["r2"]
    best: dict[str, Sae] = {}
    for entry in bank.saes:
        if entry.method in chosen or entry.method not in names.tuned or not entry.ok:
            continue
        key = entry.table_key
        if key not in r2.index or np.isnan(r2[key]):
            continue
        current = best.get(entry.method)
        if current is None or r2[key] > r2[current.table_key]:
            best[entry.method] = entry
    return best


def cell_payload(
    bank: Bank,
    saes: Mapping[str, Sae],
    names: Names,
    curves: pd.DataFrame,
    latents: pd.DataFrame,
) -> dict[str, Any]:
    """Return what the file of a cell holds.

    Args:
        bank: The cell's SAEs.
        saes: {method: the SAE that is shown}.
        names: The experiment's methods.
        curves: The cell's rows of curves.parquet on test.
        latents: The cell's rows of latents.parquet on test.
    """
    places = {method: place for place, method in enumerate(names.order(names.methods))}
    tables = {
        places[method]: rows_of_sae(latents, entry) for method, entry in saes.items()
    }
    return {
        "curves": _curves(saes, places, curves),
        "distributions": distributions(tables),
        "training": _training(bank, places),
        "settings": _settings(bank, places),
    }


def _curves(
    saes: Mapping[str, Sae], places: Mapping[str, int], curves: pd.DataFrame
) -> list[dict[str, Any]]:
    rows = []
    for method, entry in saes.items():
        sae_curves = rows_of_sae(curves, entry).groupby("curve", sort=False)
        for curve, points in sae_curves:
            row = {
                "curve": curve,
                "method": places[method],
                "x": points["x"],
                "y": points["y"],
            }
            rows.append(row)
    return rows


def _training(bank: Bank, places: Mapping[str, int]) -> list[dict[str, Any]]:
    """Return the training curves of all trials that have one, at `POINTS` steps."""
    rows = []
    for entry in bank.saes:
        log = bank.file.parent / bank.store / entry.key / "train.parquet"
        if not log.exists():
            continue
        steps = files.read_parquet(log)
        if len(steps) < 2:
            continue
        evenly_spaced = np.linspace(0, len(steps) - 1, POINTS).astype(int)
        steps = steps.iloc[np.unique(evenly_spaced)]
        row = {
            "method": places.get(entry.method),
            "trial": entry.name,
            "seed": entry.seed,
            "status": entry.status,
        }
        for column in ("step", "r2", "dead"):
            if column in steps:
                row[column] = steps[column]
        rows.append(row)
    return rows


def _settings(bank: Bank, places: Mapping[str, int]) -> list[dict[str, Any]]:
    """Return the settings of all trials, once for all seeds."""
    rows: list[dict[str, Any]] = []
    for entry in bank.saes:
        settings = {
            "protocol": entry.protocol,
            **dict(sorted(entry.settings.model_dump(by_alias=True).items())),
            **entry.settings.options,
        }
        shown_settings = {
            name: value
            for name, value in settings.items()
            if value is not None and name not in ("options", "seed")
        }
        row = {
            "method": places.get(entry.method),
            "trial": entry.name,
            "settings": shown_settings,
        }
        if row not in rows:
            rows.append(row)
    return rows


def distributions(tables: Mapping[int, pd.DataFrame]) -> list[dict[str, Any]]:
    """Return how the scores of latents are distributed.

    All methods have the same bins for a score.

    Args:
        tables: {place of a method: (m rows by latent) scores}.

    Returns:
        A row for each score and method that has it: `edges` of the bins; `alive`, how
        many latents with a score are in each bin; `all`, where latents without a score
        count with `VALUE_WITHOUT_SCORE`.
    """
    if not tables:
        return []
    joined = pd.concat(tables.values())
    scores = [
        name for name in joined if name not in NO_SCORES and joined[name].notna().any()
    ]
    rows = []
    for score in scores:
        default = VALUE_WITHOUT_SCORE.get(score, 0.0)
        with_default = np.append(joined[score].dropna().to_numpy(float), default)
        edges = np.histogram_bin_edges(with_default, BINS)
        for method, table in tables.items():
            values = table[score].to_numpy(float)
            alive, _ = np.histogram(values[~np.isnan(values)], edges)
            all_latents, _ = np.histogram(np.nan_to_num(values, nan=default), edges)
            if alive.any():
                row = {
                    "method": method,
                    "score": score,
                    "edges": edges,
                    "alive": alive,
                    "all": all_latents,
                }
                rows.append(row)
    return rows


def rows_of_sae(rows: pd.DataFrame, entry: Sae) -> pd.DataFrame:
    """Return the rows of one SAE, from those of its cell."""
    return rows[
        (rows["method"] == entry.method)
        & (rows["trial"] == entry.name)
        & (rows["seed"] == entry.seed)
    ]

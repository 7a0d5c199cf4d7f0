"""One cell (dataset, backbone, k): which SAEs are shown, their curves and distributions, the training of all trials."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from sae.bank.read import Bank, BankedSae
from sae.comparison.outcomes import headline
from sae.core import files
from sae.report.names import Names
from sae.scoring.front import MS
from sae.scoring.metrics import concepts as names_of_latents
from sae.scoring.rows import KEY

BINS = 40
POINTS = 100  # of a training curve, at most
# What a latent without a score counts as, by the column of latents.parquet; other columns begin with `ms`.
NOTHING = {"detection": 0.5, "detection_random": 0.5}
NO_SCORES = (
    *KEY,
    "n_active",
    "top_class",
    "latent",
    "selected",
    "ms_across_groups",
    *names_of_latents.SHOWN,
)


def shown(bank: Bank, names: Names, selection: pd.DataFrame) -> dict[str, BankedSae]:
    """{method: the SAE that stands for it}: what protocol `paper` chose with its first seed.

    Of a method without one it is the vertex of `fair` that weighs most at the headline's width, on the front of MS,
    with its first fresh seed. Controls are among them; methods that are trained at another's choice are not.

    Args:
        selection: the cell's rows of selection.parquet.
    """
    judged = [
        entry for entry in bank.saes if entry.judged and entry.method in names.compared
    ]
    weighed = selection.reindex(
        columns=["method", "trial", "score", "width", "weight"]
    ).dropna()
    weighed = headline(weighed[weighed["score"] == MS]).sort_values(
        "weight", kind="stable"
    )
    heaviest = dict(zip(weighed["method"], weighed["trial"], strict=True))
    found: dict[str, BankedSae] = {}
    for protocol in ("fair", "paper"):
        of_protocol = [entry for entry in judged if entry.protocol == protocol]
        of_first = [entry for entry in of_protocol if entry.seed == of_protocol[0].seed]
        found |= {
            e.method: e
            for e in of_first
            if protocol == "paper" or heaviest.get(e.method) == e.name
        }
    return {method: found[method] for method in names.order(found)}


def best_reconstructing(
    bank: Bank, names: Names, metrics: pd.DataFrame, chosen: Mapping[str, BankedSae]
) -> dict[str, BankedSae]:
    """Return the trial of highest validation R² of each method without a chosen SAE.

    Protocol `paper` chooses none where no trial reaches the baseline's R². Such a method
    has something to look at all the same; it is marked, and in no mean and no claim.

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
    best: dict[str, BankedSae] = {}
    for entry in bank.saes:
        if entry.method in chosen or entry.method not in names.tuned or not entry.ok:
            continue
        key = (entry.method, entry.name, entry.seed)
        if key not in r2.index or np.isnan(r2[key]):
            continue
        current = best.get(entry.method)
        if current is None or r2[key] > r2[entry.method, current.name, current.seed]:
            best[entry.method] = entry
    return best


def payload(
    bank: Bank,
    of_methods: dict[str, BankedSae],
    names: Names,
    curves: pd.DataFrame,
    latents: pd.DataFrame,
) -> dict[str, Any]:
    """What `cells/{i}` holds.

    Args:
        of_methods: see :func:`shown`.
        curves, latents: the cell's rows of curves.parquet and latents.parquet on test.
    """
    number = {method: place for place, method in enumerate(names.order(names.methods))}
    made: dict[str, list[dict[str, Any]]] = {
        "curves": [],
        "distributions": [],
        "training": [],
        "settings": [],
    }
    tables = {method: of(latents, entry) for method, entry in of_methods.items()}
    for method, entry in of_methods.items():
        for curve, points in of(curves, entry).groupby("curve", sort=False):
            made["curves"].append(
                {
                    "curve": curve,
                    "method": number[method],
                    "x": points["x"],
                    "y": points["y"],
                }
            )
    made["distributions"] = distributions(
        {number[method]: table for method, table in tables.items()}
    )
    for entry in bank.saes:
        about = {"method": number.get(entry.method), "trial": entry.name}
        settings = (
            {"protocol": entry.protocol}
            | entry.settings
            | entry.settings.get("options", {})
        )
        settings = {
            k: v
            for k, v in settings.items()
            if v is not None and k not in ("options", "seed")
        }
        if (row := about | {"settings": settings}) not in made["settings"]:
            made["settings"].append(row)
        log = bank.file.parent / bank.store / entry.key / "train.parquet"
        steps = files.read_parquet(log) if log.exists() else pd.DataFrame({"step": []})
        if len(steps) > 1:
            steps = steps.iloc[
                np.unique(np.linspace(0, len(steps) - 1, POINTS).astype(int))
            ]
            columns = {
                name: steps[name] for name in ("step", "r2", "dead") if name in steps
            }
            made["training"].append(
                about | {"seed": entry.seed, "status": entry.status} | columns
            )
    return made


def distributions(tables: Mapping[int, pd.DataFrame]) -> list[dict[str, Any]]:
    """How the scores of latents are distributed, by {method: m rows by latent}; all of a score in the same bins."""
    found = []
    every = pd.concat(tables.values()) if tables else pd.DataFrame()
    for name in [
        name for name in every if name not in NO_SCORES and every[name].notna().any()
    ]:
        nothing = NOTHING.get(name, 0.0)
        edges = np.histogram_bin_edges(
            np.append(every[name].dropna().to_numpy(float), nothing), BINS
        )
        for method, table in tables.items():
            values = table[name].to_numpy(float)
            alive, _ = np.histogram(values[~np.isnan(values)], edges)
            filled, _ = np.histogram(np.nan_to_num(values, nan=nothing), edges)
            if alive.any():
                found.append(
                    {
                        "method": method,
                        "score": name,
                        "edges": edges,
                        "alive": alive,
                        "all": filled,
                    }
                )
    return found


def of(rows: pd.DataFrame, entry: BankedSae) -> pd.DataFrame:
    """The rows of one SAE, of those of its cell."""
    return rows[
        (rows["method"] == entry.method)
        & (rows["trial"] == entry.name)
        & (rows["seed"] == entry.seed)
    ]

"""Do the ranges of `fair` fit its baseline? `python bench/pilot.py results/pilot`, after config/experiments/pilot.yaml.

Of each cell, on validation alone: how long it trains, how many of the baseline's trials are feasible, the rate of the
best feasible one, and the rates that were tried on either side of it. The ranges fit where four trials or more are
feasible and the best one lies inside: a higher and a lower rate were tried.
"""

import argparse
from pathlib import Path

import pandas as pd
from sae_workflow import settings

from sae.scoring.rows import CELL

ROOT = Path(__file__).parent.parent
FEWEST = 4


def main() -> None:
    """Print a row a cell, and whether all fit."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("results", type=Path)
    parser.add_argument("--out", type=Path, help="a CSV of every trial")
    a = parser.parse_args()
    rows = trials(a.results)
    if a.out:
        rows.to_csv(a.out, index=False, float_format="%.5g")
    found = pd.DataFrame([row(cell, of) for cell, of in rows.groupby(CELL)])
    print(found.to_markdown(index=False, floatfmt=".3g"))
    print(
        "every cell that is there fits"
        if found["fits"].all()
        else "the ranges do not fit everywhere"
    )


def trials(results: Path) -> pd.DataFrame:
    """A row per trial of the baseline at its cell's common points and around them, and whether it is feasible."""
    rule = settings.front_rule(settings.read_config(str(ROOT / "config.yaml")), "fair")
    rows = pd.concat(
        map(pd.read_parquet, sorted(results.glob("scores/*/*/*/validation.parquet"))),
        ignore_index=True,
    )
    # Those that only say how long to train have no weight of AuxK of their own.
    rows = rows[
        rows["trial"].str.contains("auxk_alpha") & (rows["seed"] == rule["tuning"])
    ].reset_index(drop=True)
    rows["firing"] = 1 - rows["dead_train"] / rows["m"]
    within = (rows["l0"] <= rule["l0"] * rows["k"]) & (rows["firing"] >= rule["firing"])
    rows["feasible"] = (rows["status"] == "ok") & within
    columns = [
        "lr",
        "encoder_scale",
        "auxk_alpha",
        "steps",
        "r2",
        "ms_mean_alive",
        "l0",
        "firing",
        "feasible",
    ]
    return rows[[*CELL, "trial", *columns]]


def row(cell: tuple, of: pd.DataFrame) -> dict:
    """What is printed of a cell."""
    feasible, rates = of[of["feasible"]], of["lr"]
    found = dict(zip(CELL, cell, strict=True)) | {
        "steps": int(of["steps"].max()),
        "feasible": f"{len(feasible)}/{len(of)}",
    }
    if feasible.empty:
        return found | {"fits": False}
    best = feasible.loc[feasible["r2"].idxmax()]
    inside = bool(rates.min() < best["lr"] < rates.max())
    any_best = of.loc[of["r2"].idxmax()]
    return found | {
        "best feasible rate": best["lr"],
        "rates tried": f"{rates.min():g} to {rates.max():g}",
        "its R2": best["r2"],
        "firing": best["firing"],
        "best R2 of all": any_best["r2"],
        "its firing": any_best["firing"],
        "fits": inside and len(feasible) >= FEWEST,
    }


if __name__ == "__main__":
    main()

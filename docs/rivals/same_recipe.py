"""Every method beside Top-k at the same learning rate, scale and steps: python docs/rivals/same_recipe.py

All trials are in it (test split, tuning seed 0), none is picked: each method was tried at the same eight pairs of a
learning rate and a scale. A penalty's weight goes with the pair, as it was drawn.
"""

import measures
import pandas as pd
from sae_workflow import settings

from sae.report.bootstrap import wider_interval
from sae.report.names import Names
from sae.report.scores import across_groups
from sae.report.tables import markdown
from sae.scoring.selection import CELL

PAIR = ["lr", "encoder_scale", "steps"]
SHOWN = {
    "R2": "r2",
    "MS": "ms_mean_alive",
    "MS independent": "ms_independent",
    "purity - null": "purity",
    "dead": "dead",
}


def main() -> None:
    """Print a row per method: the mean over cells and pairs, its interval over cells, and in how many it is up."""
    config = settings.read("config.yaml")
    rule = config.claims.model_dump()
    names = Names(settings.names(config, "rivals"))
    rows = across_groups(measures.read("metrics.csv"))
    rows = rows[(rows["protocol"] == "fair") & (rows["split"] == "test") & (rows["seed"] == 0)]
    independent = pd.concat(pd.read_csv(file) for file in sorted(measures.HERE.glob("*/independent.csv")))
    rows = rows.merge(independent, on=[*CELL, "method", "trial"], how="left")
    rows["purity"] = rows["purity_binary"] - rows["purity_binary_null"]
    at = rows.set_index([*CELL, *PAIR, "method"])[list(SHOWN.values())]
    difference = at - at.xs("topk", level="method").reindex(at.index.droplevel("method")).to_numpy()
    found = []
    for method, own in difference.drop("topk", level="method").groupby("method"):
        cells = own.groupby(CELL).mean()
        row = {"method": names.method(method)}
        for label, column in SHOWN.items():
            known = pd.concat({0: cells[column].dropna()}, names=["seed"])
            low, high = wider_interval(known, rule)
            style = "+.0f" if column == "dead" else "+.3f"
            row[label] = f"{known.mean():{style}} [{low:{style}}, {high:{style}}], {(known > 0).sum()}/{len(known)}"
        found.append((-cells["ms_mean_alive"].mean(), row))
    print(markdown(pd.DataFrame([row for _, row in sorted(found, key=lambda of: of[0])])))


if __name__ == "__main__":
    main()

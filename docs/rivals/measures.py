"""The measures beside the paper's, a table per dataset, of all parts together: python docs/rivals/measures.py

What was run again in `mended` counts as it is there.
"""

from pathlib import Path

import pandas as pd
from sae_workflow import settings

from sae.report import fair, measures
from sae.report.names import Names
from sae.report.scores import across_groups
from sae.report.tables import markdown
from sae.scoring.selection import CELL

HERE = Path(__file__).parent
# A later one replaces the methods that it runs again.
PARTS = (
    "lite0",
    "lite2_dinov2",
    "mended",
    "fashion_lite0",
    "fashion_dinov2",
    "fashion_lite2",
)
TOLERANCE, FRESH = 0.002, (3, 4, 5)


def read(file: str) -> pd.DataFrame:
    """A table of all parts, one below the other."""
    parts = [pd.read_csv(HERE / part / file, low_memory=False).assign(part=part) for part in PARTS]
    rows = pd.concat(parts, ignore_index=True)
    last = rows.groupby([*CELL, "method"])["part"].transform("last")
    return rows[rows["part"] == last].drop(columns="part").reset_index(drop=True)


def main() -> None:
    """Print the tables."""
    names = Names(settings.names(settings.read("config.yaml"), "rivals"))
    metrics = across_groups(read("metrics.csv"))
    choice = read("tables/fair.csv").assign(protocol="fair").merge(pd.DataFrame({"seed": FRESH}), "cross")
    tuned = fair.picked(metrics[metrics["protocol"] == "fair"], choice, names.compared, TOLERANCE)
    untuned = metrics[metrics["method"].isin(names.controls) & (metrics["split"] == "test")]
    for dataset, rows in tuned.groupby("dataset", sort=False):
        cells = untuned[untuned["dataset"] == dataset]
        print(f"{names.dataset(dataset)}, cells: {rows[CELL].drop_duplicates().shape[0]}\n")
        print(markdown(measures.table(rows, cells, names)) + "\n")


if __name__ == "__main__":
    main()

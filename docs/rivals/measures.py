"""The measures beside the paper's, of the three cells of emoji, all parts together: python docs/rivals/measures.py

What was run again in `mended` counts as it is there.
"""

from pathlib import Path

import pandas as pd
from sae_workflow import settings

from sae.report import fair, measures
from sae.report.names import Names
from sae.report.scores import across_groups
from sae.report.tables import markdown

HERE = Path(__file__).parent
TOLERANCE, FRESH = 0.002, (3, 4, 5)


def read(file: str) -> pd.DataFrame:
    """A table of all parts, one below the other."""
    again = pd.read_csv(HERE / "mended" / file, low_memory=False)
    once = [pd.read_csv(HERE / part / file, low_memory=False) for part in ("lite0", "lite2_dinov2")]
    return pd.concat([again, *(rows[~rows["method"].isin(set(again["method"]))] for rows in once)], ignore_index=True)


def main() -> None:
    """Print the table."""
    names = Names(settings.names(settings.read("config.yaml"), "rivals"))
    metrics = across_groups(read("metrics.csv"))
    choice = read("tables/fair.csv").assign(protocol="fair").merge(pd.DataFrame({"seed": FRESH}), "cross")
    tuned = fair.picked(metrics[metrics["protocol"] == "fair"], choice, names.compared, TOLERANCE)
    untuned = metrics[metrics["method"].isin(names.controls) & (metrics["split"] == "test")]
    print(markdown(measures.table(tuned, untuned, names)))


if __name__ == "__main__":
    main()

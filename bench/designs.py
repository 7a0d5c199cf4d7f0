"""A sequence or a grid for the trials of protocol `fair`? What each finds on validation, from two runs.

    python bench/designs.py # of the stored trials
    snakemake pilot --configfile config.yaml bench/designs.yaml # to make the grid's anew, then
    python bench/designs.py docs/fair/metrics.csv results/pilot/metrics.csv

docs/fair has the sequence's trials (protocol `fair`, its tuning seed), `pilot` a grid of as many (protocol
`paper`). Printed are, of each cell and method of both, the best R^2, and the best MS of trials within 0.005 of the
baseline's best R^2 under either. Test is not read.
"""

import argparse
from pathlib import Path

import pandas as pd

from sae.config.load import read
from sae.scoring.selection import CELL, under

ROOT = Path(__file__).parent.parent
BASELINE = "topk"
MS = "ms_mean_alive_across_groups"


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    stored = ROOT / "docs/fair/metrics.csv"
    parser.add_argument("sequence", type=Path, nargs="?", default=stored)
    parser.add_argument("grid", type=Path, nargs="?", default=ROOT / "docs/fair/pilot_grid.csv")
    parser.add_argument("--tiny", action="store_true", help="the same: it takes a second")
    a = parser.parse_args()
    fair = read(ROOT / "config.yaml").fair
    trials = pd.concat([of(a.sequence, "sequence", "fair"), of(a.grid, "grid", "paper")])
    trials = trials[(trials["seed"] == fair.seeds.tuning) & (trials["split"] == "val")]
    rows = []
    for cell, of_cell in trials.groupby(CELL):
        best = of_cell.loc[of_cell["method"] == BASELINE, "r2"].max()
        for (method, design), found in of_cell.groupby(["method", "design"], sort=False):
            near = found.loc[found["r2"] >= best - fair.near, MS]
            row = {"method": method, "design": design, "trials": len(found), "R^2": found["r2"].max()}
            rows.append(dict(zip(CELL, cell, strict=True)) | row | {"near": len(near), "MS": near.max()})
    table = pd.DataFrame(rows)
    both = table.groupby([*CELL, "method"])["design"].transform("nunique") == 2
    print(table[both].sort_values([*CELL, "method"]).to_string(index=False, float_format="%.4f"))


def of(file: Path, design: str, protocol: str) -> pd.DataFrame:
    """The trials of one run under one protocol."""
    return under(pd.read_csv(file), protocol).assign(design=design)


if __name__ == "__main__":
    main()

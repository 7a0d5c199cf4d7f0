"""More values of a method's own option at the baseline's best recipe: python docs/rivals/weights/options.py

A row per method and value: in how many cells it would be eligible beside Top-k of the same recipe and seed (R^2 on
validation, latents that fire on training images, L0; the numbers of config.yaml's `fair`), and what it has on test less
that Top-k. One tuning seed. `*`: about the value that it had with this recipe in `rivals` (ReLU + l1: .0166).
"""

from pathlib import Path

import pandas as pd
from sae_workflow import settings

from sae.report.names import Names
from sae.report.scores import across_groups
from sae.report.tables import markdown
from sae.scoring.selection import CELL

IN_RIVALS = {"monoloss": 0.02, "orthogonal": 0.05, "jumprelu": 0.2, "relu_l1": None}
SHOWN = {"R2": "r2", "MS": "ms_mean_alive", "MS_dead_as_0": "ms_mean", "dead": "dead"}


def main() -> None:
    """Print the table."""
    config = settings.read("config.yaml")
    rule, names = config.fair, Names(settings.names(config, "rivals"))
    files = sorted(Path(__file__).parent.glob("*.csv"))
    rows = across_groups(pd.concat(pd.read_csv(file, low_memory=False) for file in files))
    rows = rows[rows["method"].isin([*IN_RIVALS, "topk"])]
    rows["option"] = rows[["lambda", "sparsity", "weight"]].bfill(axis=1).iloc[:, 0]
    val, test = (rows[rows["split"] == split].set_index([*CELL, "method", "option"]) for split in ("val", "test"))
    topk = val.xs("topk", level="method").droplevel("option")
    beside = topk.reindex(val.index.droplevel(["method", "option"]))
    enough = val["dead_train"].to_numpy() / val["m"] <= beside["dead_train"].to_numpy() / val["m"] + rule.firing
    gap = val["r2"] - beside["r2"].to_numpy()
    eligible = {
        f"eligible at {tolerance:g}": (gap >= -tolerance)
        & enough
        & (val["l0"] <= rule.l0 * val.index.get_level_values("k"))
        for tolerance in rule.tolerances
    }
    there = test.xs("topk", level="method").droplevel("option")
    less = (
        test[list(SHOWN.values())]
        - there.reindex(test.index.droplevel(["method", "option"]))[list(SHOWN.values())].to_numpy()
    )
    table = pd.DataFrame(eligible | {"val R2": gap} | {name: less[column] for name, column in SHOWN.items()})
    shown = []
    for (method, option), cells in table.drop("topk", level="method").groupby(["method", "option"]):
        line = {
            "method": names.method(method),
            "option": f"{option:g}" + (" *" if option == IN_RIVALS[method] else ""),
        }
        line |= {name: f"{int(cells[name].sum())} of {len(cells)}" for name in eligible}
        for name in ("val R2", *SHOWN):
            style = "+.0f" if name == "dead" else "+.3f"
            line[name] = f"{cells[name].mean():{style}} ({', '.join(format(value, style) for value in cells[name])})"
        shown.append(line)
    print(markdown(pd.DataFrame(shown)))


if __name__ == "__main__":
    main()

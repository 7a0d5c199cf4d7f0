"""What the comparison by fronts finds in simulated cells whose effects are known: `python bench/power.py`.

A world has six (dataset, backbone) blocks of two cells, four methods beside the baseline, and twelve trials of each
with three fresh seeds. R^2 and MS trade off along the trials. A row says how often a method is shown higher or lower,
called equivalent or left undecided, and the mean estimate.
"""

import argparse

import numpy as np
import pandas as pd

from sae.comparison import fronts, intervals
from sae.comparison.fronts import Rule

EFFECTS, PRICES = (0.0, 0.005, 0.01, 0.02), (0.0, 0.005)
RULE = Rule(widths=[0.01], tuning=0)


def world(
    rng: np.random.Generator,
    effects: dict[str, float],
    *,
    price: float = 0.0,
    trials: int = 12,
) -> tuple[pd.DataFrame, dict[str, str | None]]:
    """Metrics of simulated cells, and {method: what it is compared with}.

    Args:
        effects: {method: its MS above the baseline's at the same R^2}; blocks and cells vary about that.
        price: what the best R^2 of these methods lacks of the baseline's.
    """
    found = []
    for dataset, backbone in [(d, b) for d in "de" for b in "xyz"]:
        of_block = {method: 0.006 * rng.normal() for method in effects}
        for k in (16, 32):
            cell, r2, ms = (
                {"dataset": dataset, "backbone": backbone, "k": k},
                0.6 + 0.2 * rng.random(),
                rng.random(),
            )
            for method in ("topk", *effects):
                own = method != "topk"
                more = own * (
                    effects.get(method, 0.0)
                    + of_block.get(method, 0.0)
                    + 0.003 * rng.normal()
                )
                for trial, at in enumerate(rng.random(trials)):
                    for seed in (0, 3, 4, 5):
                        row = cell | {
                            "method": method,
                            "trial": f"t{trial}",
                            "seed": seed,
                            "status": "ok",
                        }
                        row |= {
                            "r2": r2
                            - own * price
                            - 0.04 * at**2
                            + 0.001 * rng.normal(),
                            "l0": k,
                        }
                        # What reconstructs less by `price` is as far along the trade-off as its R^2 says.
                        along = np.sqrt(at**2 + own * price / 0.04)
                        row |= {
                            "ms_mean_alive": ms
                            + 0.05 * along
                            + more
                            + 0.002 * rng.normal()
                        }
                        row |= {"dead_train": 0, "m": 100}
                        # One image set chooses, another is read: both see the same SAE.
                        found += [row | {"split": "val"}, row | {"split": "test"}]
    return pd.DataFrame(found), {"topk": None} | dict.fromkeys(effects, "topk")


def outcomes(
    rng: np.random.Generator, effects: dict[str, float], price: float, runs: int
) -> pd.DataFrame:
    """A row per method: shares of the runs by outcome, and the mean estimate."""
    found = []
    for _ in range(runs):
        metrics, against = world(rng, effects, price=price)
        means = intervals.means(fronts.effects(metrics, against, RULE))
        found.append(
            means[means["score"] == "ms"][["method", "outcome", "effect", "shortfall"]]
        )
    every = pd.concat(found)
    every["outcome"] = every["outcome"].str.removesuffix(", small")
    shares = (
        every.groupby("method")["outcome"]
        .value_counts(normalize=True)
        .unstack(fill_value=0.0)
    )
    return shares.join(every.groupby("method")[["effect", "shortfall"]].mean())


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--runs", type=int, default=200, help="worlds a line")
    parser.add_argument(
        "--tiny", action="store_true", help="seconds, to see that it runs"
    )
    a = parser.parse_args()
    names = {f"+{effect:g}": effect for effect in EFFECTS}
    for price in PRICES:
        print(f"price {price:g} of R2, {2 if a.tiny else a.runs} runs of 12 cells:")
        print(
            outcomes(np.random.default_rng(0), names, price, 2 if a.tiny else a.runs)
            .round(3)
            .to_string()
        )


if __name__ == "__main__":
    main()

"""How often the verdicts of `benchmark` find an effect, and refute one.

    python bench/power.py --csv docs/results/benchmark/power.csv

Each simulated world has nine datasets and two families of backbones, and Reg. 1 and
Reg. 2 with a known effect in detection; in MS they have none. An effect varies between
datasets, and again between the families of a dataset, as those of `photographs` do:
the two standard deviations are estimated from the rows of Reg. 1 and Reg. 2 in its
`tables/comparison_cells.csv`. Both views of detection get the effect of detection.
`sae.comparison.verdicts` then says what it says of an experiment.
"""

import argparse
from pathlib import Path

import numpy as np
import pandas as pd

from sae.comparison import verdicts
from sae.comparison.intervals import IntervalRule
from sae.comparison.published import REG1, REG2
from sae.core import files
from sae.scoring.choice import DETECTION, MS

ROOT = Path(__file__).parent.parent
KEPT = ROOT / "docs/results/photographs/tables/comparison_cells.csv"
KEPT_DETECTION = "detection_per_latent"  # its only view there
DATASETS = 9
FAMILIES = ("efficientnet", "dinov2")
EFFECTS = (0.0, 0.005, 0.0075, 0.01, 0.0125, 0.015, 0.02)


def main() -> None:
    """Print the shares of verdicts at each effect, and write them."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--worlds", type=int, default=500, help="for each effect")
    parser.add_argument("--csv", type=Path, help="where the table is written")
    arguments = parser.parse_args()

    between = spread(KEPT_DETECTION)
    print("standard deviations between datasets, and between their families:")
    print(f"detection {between[0]:.4f}, {between[1]:.4f}")
    rows = []
    for effect in EFFECTS:
        said = simulate(effect, between, spread(MS), arguments.worlds)
        rows.append({"effect": effect, **said})
        print(rows[-1], flush=True)
    if arguments.csv:
        text = pd.DataFrame(rows).to_csv(index=False, float_format="%.4g")
        files.write_text(arguments.csv, text)


def spread(score: str) -> tuple[float, float]:
    """Return the standard deviations of an effect between datasets and families.

    An effect is taken to be a mean, plus a deviation of its dataset, plus one of its
    family in this dataset. Variances are averaged over Reg. 1 and Reg. 2.
    """
    cells = pd.read_csv(KEPT)
    cells = cells[(cells["score"] == score) & cells["method"].isin([REG1, REG2])]
    between_families = []
    between_datasets = []
    for _, of_method in cells.groupby("method"):
        effects = of_method.pivot(
            index="dataset", columns="backbone", values="effect"
        ).dropna()
        one, other = (effects[backbone] for backbone in effects)
        of_families = (one - other).var() / 2
        between_families.append(of_families)
        between_datasets.append(effects.mean(axis=1).var() - of_families / 2)
    return np.sqrt(np.mean(between_datasets)), np.sqrt(np.mean(between_families))


def simulate(
    effect: float,
    detection_spread: tuple[float, float],
    ms_spread: tuple[float, float],
    worlds: int,
) -> dict[str, float]:
    """Return the share of verdicts in detection, over worlds and both penalties.

    Also `any wrong`: the share of worlds in which either penalty is called better or
    worse in a score in which it has no effect.
    """
    rng = np.random.default_rng(0)
    said: list[str] = []
    wrong = 0
    for _ in range(worlds):
        effects = []
        for method in (REG1, REG2):
            of_detection = draw(rng, effect, detection_spread)
            effects += [
                rows(method, score, of_detection)
                for score in (DETECTION, *verdicts.VIEWS)
            ]
            effects.append(rows(method, MS, draw(rng, 0, ms_spread)))
        table = verdicts.of_mean(
            verdicts.means(
                pd.concat(effects, ignore_index=True),
                {family: family for family in FAMILIES},
                IntervalRule(),
            )
        )
        of_detection = table.loc[table["score"] == DETECTION, "verdict"]
        said += list(of_detection)
        without_effect = table.loc[table["score"] == MS, "verdict"]
        if not effect:
            without_effect = pd.concat([without_effect, of_detection])
        wrong += any(map(verdicts.is_shown, without_effect))
    shares = {
        word: sum(verdict.startswith(word) for verdict in said) / len(said)
        for word in (
            verdicts.BETTER,
            verdicts.EQUIVALENT,
            verdicts.DIFFERS,
            verdicts.INCONCLUSIVE,
            verdicts.WORSE,
        )
    }
    return {**shares, "any wrong": wrong / worlds}


def draw(
    rng: np.random.Generator, effect: float, spreads: tuple[float, float]
) -> np.ndarray:
    """Draw the effect of each dataset and family: (datasets, families)."""
    of_datasets = rng.normal(0, spreads[0], (DATASETS, 1))
    of_families = rng.normal(0, spreads[1], (DATASETS, len(FAMILIES)))
    return effect + of_datasets + of_families


def rows(method: str, score: str, effects: np.ndarray) -> pd.DataFrame:
    """Return effects as `sae.comparison.effects` does."""
    cells = pd.MultiIndex.from_product(
        [map(str, range(DATASETS)), FAMILIES], names=["dataset", "backbone"]
    )
    table = pd.DataFrame({"effect": effects.ravel()}, cells).reset_index()
    table["value"] = 0.7 + table["effect"]
    return table.assign(
        **{"k": 16, "method": method, "baseline": "topk", "control": False},
        **{"score": score, "level": 0.7},
        **{"status": "ok", "seeds": "3 4 5", "fresh": True},
    )


if __name__ == "__main__":
    main()

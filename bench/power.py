"""How often the rule of the comparison errs, what it finds, and what it refutes.

`python bench/power.py`. A world has the cells of a design (`fair`, `rivals`, `demo`),
and its methods have effects that are known: the same mean everywhere, plus a deviation
that is drawn for each dataset, each family of backbones, each backbone of a dataset,
and each cell. The rule reads these effects, with the noise that a reading has, as it
reads an experiment's, detection and MS together; MS has no effect. A row says how often
any method of a world is called better or worse in either, where none has an effect (the
size of the test), which share of the methods is called equivalent within .01 in
detection then (its power to refute), which share is called better where detection has
an effect (its power to find), and which effect is found with a power of .8. Last,
worlds in which trials are simulated, too, say whether fronts and pairs read the effects
that are there.

The deviations have a standard deviation of .009 together, as the blocks of `fair` have
in detection, unless a design has another. How it is divided is a scenario. Where effects
vary by dataset or by family, the size exceeds .075: so with few datasets a word speaks
of these datasets alone. Designs of six datasets or more have datasets as blocks.
"""

import argparse
import itertools
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from sae.comparison import intervals, outcomes
from sae.comparison.fronts import FrontRule
from sae.comparison.intervals import POWER
from sae.comparison.outcomes import DATASETS_AS_BLOCKS, NEGLIGIBLE, Readings
from sae.comparison.pairs import COLUMNS as PAIR_COLUMNS
from sae.core import files
from sae.scoring.front import DETECTION, MS

EFFECTS = (0.01, 0.02, 0.03, 0.05)

BETWEEN_CELLS = 0.009  # standard deviation of an effect between (dataset, backbone)
WITHIN = 0.003  # between the cells of a (dataset, backbone), and again between seeds
# {scenario: the shares of the variance between datasets, families, backbones}.
SCENARIOS = {
    "by backbone": (0.0, 0.0, 1.0),
    "half by family": (0.0, 0.5, 0.5),
    "half by dataset": (0.5, 0.0, 0.5),
    "by dataset": (1.0, 0.0, 0.0),
}


@dataclass(frozen=True)
class Design:
    """The cells and the methods that an experiment compares.

    Attributes:
        datasets: How many.
        families: {family: how many backbones}.
        ks: How many values of k.
        methods: How many methods beside the baseline.
        trials: How many each method has.
        fresh: The seeds by which vertices are judged; none if the tuning's seed does.
        between: Standard deviation of an effect between (dataset, backbone).
        within: That between the cells of a (dataset, backbone), and again between
            readings with other seeds.
    """

    datasets: int = 2
    families: dict[str, int] = field(default_factory=lambda: {"a": 2, "b": 1})
    ks: int = 2
    methods: int = 2
    trials: int = 12
    fresh: tuple[int, ...] = (3, 4, 5)
    between: float = BETWEEN_CELLS
    within: float = WITHIN

    @property
    def seeds(self) -> tuple[int, ...]:
        """The seeds of a reading."""
        return self.fresh or (0,)

    @property
    def cells(self) -> list[tuple[str, str, str, int]]:
        """(dataset, family, backbone, k) of each cell."""
        backbones = [
            (family, f"{family}{number}")
            for family, count in self.families.items()
            for number in range(count)
        ]
        datasets = [f"d{number}" for number in range(self.datasets)]
        return [
            (dataset, *backbone, k)
            for dataset, backbone, k in itertools.product(
                datasets, backbones, range(1, self.ks + 1)
            )
        ]


DESIGNS = {
    "fair": Design(),
    "rivals": Design(ks=1, methods=15, trials=8),
    "demo": Design(trials=4, fresh=()),
    # Six datasets, which are the blocks.
    "six": Design(datasets=6, families={"a": 1, "b": 1}, ks=1),
    # Eight datasets at one number of training images, one backbone of each family.
    "photographs": Design(datasets=8, families={"a": 1, "b": 1}, ks=1),
    # The nine cells of many images; of few it has nine more, which are read alike.
    "decisive": Design(datasets=3, ks=1, trials=24),
    # The match with concepts there, which has no fresh seeds. Its spread is that of the
    # demo's cells on validation (docs/results/decisive/README.md).
    "decisive-match": Design(
        datasets=3, ks=1, trials=24, fresh=(), between=0.006, within=0.009
    ),
}


class World:
    """A design whose methods have known effects.

    Attributes:
        design: Which cells and methods.
        families: {backbone: its family}.
        against: {method: what it is compared with}.
        gains: {(method, score): its effect in each cell, (cells,)}.
    """

    def __init__(
        self,
        rng: np.random.Generator,
        design: Design,
        shares: tuple[float, float, float],
        effects: dict[str, float],
    ) -> None:
        self._rng = rng
        self.design = design
        self.families = {backbone: family for _, family, backbone, _ in design.cells}
        methods = [f"m{number}" for number in range(design.methods)]
        self.against: dict[str, str | None] = {
            "topk": None,
            **dict.fromkeys(methods, "topk"),
        }
        self.gains = {
            (method, score): _gains(rng, design, shares, mean)
            for method in methods
            for score, mean in effects.items()
        }

    def means(self, world_readings: Readings) -> pd.DataFrame:
        """Judge readings of this world: a row for each method and score."""
        return outcomes.means(world_readings, self.families, intervals.IntervalRule())

    def read_effects(self) -> np.ndarray:
        """Return the effects that are there, with the noise of a reading.

        Returns:
            (methods and scores, seeds, cells), in the order of `gains`.
        """
        gains = np.array([*self.gains.values()])[:, None, :]
        seeds = len(self.design.seeds)
        shape = (len(gains), seeds, gains.shape[-1])
        return gains + self.design.within * self._rng.normal(size=shape)

    def readings(self) -> Readings:
        """Return the effects of :meth:`read_effects` as tables."""
        seeds = self.design.seeds
        cells = self.design.cells
        datasets, _, backbones, ks = zip(*cells, strict=True)
        methods, scores = zip(*self.gains, strict=True)
        effect = self.read_effects().ravel()

        # Rows are ordered by method and score, then by seed, then by cell. Names are
        # objects, since pandas is slow with many short tables of its own strings.
        by_front = len(seeds) * len(cells)
        names = {
            "dataset": np.tile(datasets, len(self.gains) * len(seeds)),
            "backbone": np.tile(backbones, len(self.gains) * len(seeds)),
            "method": np.repeat(methods, by_front),
            "score": np.repeat(scores, by_front),
            "front": np.repeat(scores, by_front),
            "status": np.repeat("ok", len(effect)),
        }
        effects = pd.DataFrame(
            {
                **{
                    name: pd.Series(column, dtype=object)
                    for name, column in names.items()
                },
                "k": np.tile(ks, len(self.gains) * len(seeds)),
                "seed": np.tile(np.repeat(seeds, len(cells)), len(self.gains)),
                "effect": effect,
                "width": 0.01,
                "fresh": len(seeds) > 1,
                "below_floor": False,
                "level": 0.5,
                "shortfall": 0.0,
                "gain": 0.0,
                "r2_difference": 0.0,
            }
        )
        return Readings(effects, effects[:0], pd.DataFrame(columns=PAIR_COLUMNS))

    def read_trials(self, price: float) -> Readings:
        """Simulate trials along a trade-off of R^2 and scores, and read them.

        Args:
            price: What the best R^2 of the methods lacks of the baseline's.
        """
        design = self.design
        scores = dict.fromkeys(score for _, score in self.gains)
        # Half of the trials are at points that all methods share.
        common = self._rng.random((len(design.cells), design.trials // 2))
        parts = []
        for number, (dataset, _, backbone, k) in enumerate(design.cells):
            best_r2 = 0.6 + 0.2 * self._rng.random()
            levels = {score: 0.4 + 0.3 * self._rng.random() for score in scores}
            for method in self.against:
                of_method = self._rng.random(design.trials - common.shape[1])
                along = np.concatenate([common[number], of_method])
                heights = levels
                loss = 0.0
                if method != "topk":
                    loss = price
                    heights = {
                        score: level + self.gains[method, score][number]
                        for score, level in levels.items()
                    }
                trials = _trials(self._rng, along, best_r2, heights, loss, design)
                about = {"dataset": dataset, "backbone": backbone, "k": k}
                parts.append(trials.assign(method=method, **about))
        rows = pd.concat(parts, ignore_index=True)
        metrics = pd.concat([rows.assign(split=split) for split in ("val", "test")])
        rule = FrontRule(widths=[0.01])
        if design.fresh:
            rule = FrontRule(widths=[0.01], tuning=0, tuned=["lr"])
        return outcomes.readings_of(metrics.reset_index(drop=True), self.against, rule)


def _gains(
    rng: np.random.Generator,
    design: Design,
    shares: tuple[float, float, float],
    mean: float,
) -> np.ndarray:
    """Return a method's effect in each cell: (cells,)."""
    cells = design.cells
    gains = np.full(len(cells), mean)
    groups_of_cells: list[list[Any]] = [
        [dataset for dataset, *_ in cells],
        [family for _, family, *_ in cells],
        [(dataset, backbone) for dataset, _, backbone, _ in cells],
    ]
    for share, groups in zip(shares, groups_of_cells, strict=True):
        drawn = {group: rng.normal() for group in dict.fromkeys(groups)}
        deviation = np.array([drawn[group] for group in groups])
        gains += design.between * share**0.5 * deviation
    return gains + design.within * rng.normal(size=len(cells))


def _trials(
    rng: np.random.Generator,
    along: np.ndarray,
    best_r2: float,
    levels: dict[str, float],
    price: float,
    design: Design,
) -> pd.DataFrame:
    """Return rows of a method's trials in a cell, along a trade-off of R^2 and scores.

    Args:
        rng: Draws the noise.
        along: How far along the trade-off each trial is: 0 has the best R^2, 1 the
            highest scores.
        best_r2: Of the baseline.
        levels: {score: its value at the baseline's best R^2}.
        price: What the method's best R^2 lacks of the baseline's.
        design: With the fresh seeds.
    """
    seeds = (0, *design.fresh)
    trial = np.repeat(np.arange(len(along)), len(seeds))
    place = along[trial]
    r2 = best_r2 - price - 0.04 * place**2 + 0.001 * rng.normal(size=len(trial))
    # What reconstructs less by `price` is as far along the trade-off as its R^2 says.
    height = 0.05 * np.sqrt(place**2 + price / 0.04)
    rows = pd.DataFrame(
        {
            "trial": [f"lr{value:.6f}" for value in place],
            "seed": np.tile(seeds, len(along)),
            "protocol": "fair",
            "swept": "lr",
            "mask": "",
            "lr": place,
            "status": "ok",
            "m": 100,
            "dead_train": 0,
            "l0": 0.0,
            "r2": r2,
        }
    )
    columns = {DETECTION: "detection_auc", MS: "ms_mean_alive"}
    for score, level in levels.items():
        noise = 0.002 * rng.normal(size=len(trial))
        rows[columns[score]] = level + height + noise
    return rows


class Words(NamedTuple):
    """What is said of the effects of many worlds.

    Attributes:
        shown: (worlds, methods, scores) whether a method is called better or worse.
        negligible: (worlds, methods, scores) whether it is called equivalent within .01,
            or better or worse by less.
        too_narrow_by: (scores,) the standard deviation of the mean effect over worlds,
            in units of the standard error that a world's interval has.
    """

    shown: np.ndarray
    negligible: np.ndarray
    too_narrow_by: np.ndarray


def judge_worlds(
    design: Design,
    shares: tuple[float, float, float],
    effects: dict[str, float],
    *,
    runs: int,
) -> Words:
    """Judge many worlds, all at once, which takes a hundredth of the time.

    The words are those of `sae.comparison.outcomes.means` of each world's readings
    (tests/comparison/test_outcomes.py).

    Args:
        design: Which cells and methods.
        shares: Of a scenario.
        effects: {score: the true mean effect of every method}.
        runs: Worlds.
    """
    worlds = [
        World(np.random.default_rng(run), design, shares, effects)
        for run in range(runs)
    ]
    # (worlds, tests, cells): each method in each score is a test.
    cells = np.stack([world.read_effects().mean(axis=1) for world in worlds])
    block_of_cell = [(dataset, family) for dataset, family, *_ in design.cells]
    blocks = _means_of_groups(cells, block_of_cell)
    dataset_of_block = [dataset for dataset, _ in dict.fromkeys(block_of_cell)]
    datasets = _means_of_groups(blocks, dataset_of_block)
    if design.datasets >= DATASETS_AS_BLOCKS:
        blocks = datasets

    # Student's t over blocks, and Holm's correction over the tests of a world.
    rule = intervals.IntervalRule()
    means = blocks.mean(axis=-1)
    freedom = blocks.shape[-1] - 1
    error = blocks.std(axis=-1, ddof=1) / blocks.shape[-1] ** 0.5
    p = intervals.t_test(means, error, freedom)
    order = np.argsort(p, axis=1, kind="stable")
    factors = np.arange(p.shape[1], 0, -1)
    rising_p = np.take_along_axis(p, order, axis=1)
    corrected = np.maximum.accumulate(factors * rising_p, axis=1)
    p_holm = np.empty_like(p)
    np.put_along_axis(p_holm, order, corrected, axis=1)
    same_sign = (np.sign(datasets) == np.sign(means)[..., None]).all(axis=-1)

    half_width = intervals.t_quantile(freedom, rule.one_sided) * error
    by_test = (runs, design.methods, len(effects))
    stated_error = (error.reshape(by_test) ** 2).mean(axis=(0, 1)) ** 0.5
    true_error = means.reshape(by_test).std(axis=(0, 1), ddof=1)
    return Words(
        shown=((p_holm < rule.level) & same_sign).reshape(by_test),
        negligible=(np.abs(means) + half_width < NEGLIGIBLE).reshape(by_test),
        too_narrow_by=true_error / stated_error,
    )


def _means_of_groups(values: np.ndarray, groups: list[Any]) -> np.ndarray:
    """Average the last axis over groups, in the order in which they first come."""
    return np.stack(
        [
            values[..., [member == group for member in groups]].mean(axis=-1)
            for group in dict.fromkeys(groups)
        ],
        axis=-1,
    )


def smallest_effect(powers: dict[float, float], power: float = POWER) -> float:
    """Return the smallest true effect that is found with a power.

    Args:
        powers: {effect: the share of methods that are shown with it}.
        power: The share of methods that is to be shown.

    Returns:
        Where the shares rise to `power`, between two effects in proportion; NaN where
        it lies below it at all of the effects, or at none.
    """
    effects = sorted(powers)
    for lower, higher in itertools.pairwise(effects):
        if powers[lower] < power <= powers[higher]:
            rise = powers[higher] - powers[lower]
            return lower + (higher - lower) * (power - powers[lower]) / rise
    return float("nan")


def power_row(
    name: str,
    scenario: str,
    nonzero_effects: list[float],
    runs: int,
    *,
    with_ms: bool = True,
) -> dict[str, Any]:
    """Return a row of the table: size and power of the rule in a design's scenario.

    Args:
        name: Of the design.
        scenario: Of `SCENARIOS`.
        nonzero_effects: True effects in detection, for each of which a power is found.
        runs: Worlds for each effect.
        with_ms: Whether MS is tested beside detection.
    """
    design = DESIGNS[name]
    shares = SCENARIOS[scenario]
    row: dict[str, Any] = {"design": name, "effects vary": scenario}
    powers = {}
    for effect in [0.0, *nonzero_effects]:
        effects = {DETECTION: effect}
        if with_ms:
            effects[MS] = 0.0
        words = judge_worlds(design, shares, effects, runs=runs)
        powers[effect] = words.shown[:, :, 0].mean()
        if effect:
            row[f"power at {effect:g}"] = powers[effect]
            continue
        row["size"] = words.shown.any(axis=(1, 2)).mean()
        row["too narrow by"] = words.too_narrow_by[0]
        row["refuted at 0"] = words.negligible[:, :, 0].mean()
    row[f"found with {POWER:g}"] = smallest_effect(powers)
    return row


def check_readings(names: list[str], runs: int) -> pd.DataFrame:
    """Say whether fronts, equal R^2 on test and pairs read the effects that are there.

    Args:
        names: Of the designs.
        runs: Worlds of simulated trials for each row.

    Returns:
        A row for each design, price in R^2 and true effect on MS, with what is read.
    """
    rows = []
    for name, price in itertools.product(names, (0.0, 0.005)):
        for effect in (0.0, 0.02):
            effects = {DETECTION: effect, MS: effect}
            shares = SCENARIOS["by backbone"]
            read = []
            for run in range(runs):
                world = World(
                    np.random.default_rng(run), DESIGNS[name], shares, effects
                )
                means = world.means(world.read_trials(price))
                of_ms = means.loc[means["score"] == MS, ["effect", "equal_r2", "pairs"]]
                read.append(of_ms.astype(float))
            means_read = pd.concat(read).mean().to_dict()
            about = {"design": name, "price in R2": price, "true": effect}
            rows.append({**about, **means_read})
    return pd.DataFrame(rows).round(4)


def main() -> None:
    """Print the tables, and what they decide."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--designs", nargs="*", default=list(DESIGNS), choices=DESIGNS)
    parser.add_argument(
        "--effects",
        nargs="*",
        type=float,
        default=EFFECTS,
        help="true effects in detection, of which a power is found, rising",
    )
    parser.add_argument(
        "--detection-alone",
        action="store_true",
        help="of detection, as if MS were not tested beside it",
    )
    parser.add_argument("--csv", type=Path, help="where the table of power goes")
    parser.add_argument("--runs", type=int, default=400, help="worlds a row")
    parser.add_argument(
        "--trial-runs", type=int, default=40, help="with trials; 0: none"
    )
    parser.add_argument(
        "--tiny", action="store_true", help="seconds, to see that it runs"
    )
    arguments = parser.parse_args()
    runs = 2 if arguments.tiny else arguments.runs
    trial_runs = 1 if arguments.tiny else arguments.trial_runs

    rows = []
    for design, scenario in itertools.product(arguments.designs, SCENARIOS):
        row = power_row(
            design,
            scenario,
            arguments.effects,
            runs,
            with_ms=not arguments.detection_alone,
        )
        rows.append(row)
        print(*row.values(), flush=True)
    table = pd.DataFrame(rows)
    print(table.round(4).to_markdown(index=False))
    if arguments.csv:
        text = table.round(4).to_csv(index=False, lineterminator="\n")
        files.write_text(arguments.csv, text)

    if trial_runs:
        print(check_readings(arguments.designs, trial_runs).to_markdown(index=False))


if __name__ == "__main__":
    main()

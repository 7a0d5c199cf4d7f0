"""Every method tuned in as many trials, read as fronts of R^2 and each of two scores.

`sae.scoring.front` has the rule of feasible trials, fronts and windows.

What it trains in a cell, all chosen on the validation split with one tuning seed:

1. The baseline at lengths that double, as long as it gains from more steps.
2. The same points of a Sobol sequence over learning rate, encoder scale and AuxK's alpha for every method, its own
   options at the geometric middle of their ranges. Each (dataset, backbone) has a scramble of its own.
3. Around two of a method's trials, those of highest R^2 on its front of MS, further values of its own options; a method
   without any has points in a box of a third of each common range.
4. Every vertex of a front that weighs anything in a window below R*, the best R^2 of the baseline, with fresh seeds; of
   the baseline also those that weigh where a method reaches no further. By these alone a method is judged. `at` methods
   train at the vertex that weighs most in the first window.

docs/protocol.md has the rule, and says what rests on it.
"""

from __future__ import annotations

import functools
import hashlib
import itertools
import math
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
from pydantic import AfterValidator, Field, ValidationInfo, field_validator

from sae.bank.plan import Member, Plan
from sae.core.errors import UserError
from sae.core.options import Count, Range, Ranges, Seed, Share, distinct
from sae.core.options import Options as Base
from sae.protocols._history import Choice, History, Sizes
from sae.scoring import front
from sae.scoring.front import DETECTION, MS, Window

if TYPE_CHECKING:
    import pandas as pd

VERSION = 2
METRICS = ("reconstruction", "monosemanticity", "firing", "detection")
# The scores whose fronts say what is judged; detection is measured where a backbone of
# another family sees the images. By the first one trials are refined.
FRONTS_OF = (MS, DETECTION)
NAME = "fair"
COMMON = ("lr", "encoder_scale", "auxk_alpha")
RATES = 3  # At which the baseline tries a length.
VERTICES = (
    6  # What costs reckon a method to have on both fronts: the most that was seen.
)
DIMENSIONS = 8  # Of every Sobol sequence: its scramble hangs on their number.


class StepsOptions(Base):
    """How long a cell's SAEs train: steps double until the baseline gains less than both."""

    first: Count
    gain_r2: Share
    gain_ms: Share


class Options(Base):
    """The rule; an experiment adds its ranges and its longest training."""

    lr: Range
    encoder_scale: Range
    auxk_alpha: Range
    """Drawn from evenly in the logarithm."""
    points: Count
    """Trials of each method at the common points."""
    refined: Count
    """How many of these are refined."""
    values: Count
    """Trials around each of these."""
    design_seed: Seed
    steps: StepsOptions
    most_steps: dict[str, Count] | None = None
    """By dataset: longer SAEs are not trained. If it is not given, every method sets its own number of steps."""
    ranges: dict[str, Ranges] = Field({})
    """By method, its own options: [lowest, highest], or {k8: [lowest, highest], ...}."""
    tuning: Seed
    """The seed of every trial."""
    fresh: Annotated[list[Seed], Field(min_length=1), AfterValidator(distinct)]
    """The seeds of what is judged."""
    widths: Annotated[list[Share], Field(min_length=1), AfterValidator(distinct)]
    """Of the windows below R*; the first is the headline."""
    l0: float = Field(ge=1)
    firing: float = Field(ge=0, le=1)

    @field_validator("fresh")
    @classmethod
    def _apart(cls, seeds: list[int], info: ValidationInfo) -> list[int]:
        if info.data.get("tuning") in seeds:
            raise ValueError(
                f"{info.data['tuning']} is the seed of `tuning` too; what is judged must not be tuned on"
            )
        return seeds


def next(history: History) -> list[Member]:
    """The rounds of this module, each once all that it rests on is there.

    Raises:
        UserError: the baseline diverged at every learning rate, or none of its trials is feasible.
    """
    asked: list[Member] = []
    for members in _Rounds(history).in_turn():
        asked += members
        if not history.has(asked):
            break
    return asked


def choose(history: History) -> Choice:
    """Say which trials are vertices, and what they weigh in each window.

    Returns:
        A row for each method, score, window and vertex with weight in it; or one for a
        method without a feasible trial.
    """
    rounds = _Rounds(history)
    rows: list[dict[str, Any]] = []
    for (method, score), vertices in rounds.fronts.items():
        best_r2 = rounds.best_r2_of_baseline(method)
        about = {"method": method, "seed": None, "score": score, "bar": best_r2}
        about |= rounds.facts
        if vertices.empty:
            rows.append(about | {"trial": None, "role": None, "status": "infeasible"})
            continue
        columns = ["trial", "r2", *FRONTS_OF, "l0", "firing"]
        records = vertices[columns].to_dict("records")
        for width in history.options.widths:
            window = Window(best_r2 - width, best_r2)
            weights = front.weights(vertices["r2"].to_numpy(float), window).tolist()
            for vertex, weight in zip(records, weights, strict=True):
                if weight > 0:
                    reach = rounds.reach(method)
                    place = {"width": width, "weight": weight, "reach": reach}
                    role = {"role": "vertex", "status": "chosen"}
                    rows.append(about | place | vertex | role)
    judged = {(m.method, m.name, m.settings.seed) for m in rounds.judged()}
    return Choice(rows, judged, rounds.facts)


def at_most(plan: Plan, options: Options) -> Sizes:
    """As many trials of each method; after them its refined ones, and as many vertices as are to be expected."""
    seeds, refined, most = len(options.fresh), options.refined * options.values, None
    trials = dict.fromkeys(plan.tuned, options.points)
    if options.most_steps:
        most = options.most_steps[plan.dataset]
        trials[_baseline(plan)] += RATES * (most // options.steps.first).bit_length()
    judged = dict.fromkeys(trials, seeds * VERTICES) | {
        name: seeds for m in trials for name in plan.at(m)
    }
    after = {
        name: count + (refined if name in trials else 0)
        for name, count in judged.items()
    }
    of_both = {name: trials.get(name, 0) + count for name, count in after.items()}
    return Sizes(
        sum(trials.values()), sum(after.values()), of_both, sum(judged.values()), most
    )


class _Rounds:
    """What is trained in each round, as far as the history says it; every answer is worked out once."""

    def __init__(self, history: History) -> None:
        self._history, self._plan, self._options = (
            history,
            history.plan,
            history.options,
        )
        self._common: dict[str, Sequence[float]] = {
            name: getattr(self._options, name) for name in COMMON
        }

    def in_turn(self) -> Iterator[list[Member]]:
        """The SAEs of each round. One may be asked for when those before it were trained."""
        yield [
            member for steps in self._lengths[0] for member in self._at_length(steps)
        ]
        yield [*itertools.chain(*self.points.values())]
        yield [*itertools.chain(*self.refined.values())]
        yield self.judged()

    # Round 1: the steps.

    @property
    def facts(self) -> dict[str, Any]:
        """{steps, undertrained}: how long the cell trains, and whether the baseline would still gain from more.

        Nothing where every method sets its own. Only after the first round.
        """
        lengths, settled = self._lengths
        return {"steps": lengths[-1], "undertrained": not settled} if lengths else {}

    @functools.cached_property
    def _lengths(self) -> tuple[list[int], bool]:
        """The lengths tried so far and the next one, and whether the last doubling gained little in both scores.

        No length where every method sets its own.
        """
        if not self._options.most_steps:
            return [], True
        most, rule = self._options.most_steps[self._plan.dataset], self._options.steps
        lengths, best = [rule.first], []
        while self._history.has(self._at_length(lengths[-1])):
            best.append(self._best(lengths[-1]))
            gained = (
                best[-1] - best[-2]
                if len(best) > 1
                else {"r2": math.inf, "ms": math.inf}
            )
            settled = bool(gained["r2"] < rule.gain_r2 and gained["ms"] < rule.gain_ms)
            if settled or 2 * lengths[-1] > most:
                return lengths, settled
            lengths.append(2 * lengths[-1])
        return lengths, False

    def _at_length(self, steps: int) -> list[Member]:
        """The baseline with three learning rates."""
        low, high = self._options.lr
        # The middles of the range's thirds, in the logarithm.
        rates = [
            _rounded(low * (high / low) ** ((2 * n + 1) / (2 * RATES)))
            for n in range(RATES)
        ]
        baseline, seed = _baseline(self._plan), self._options.tuning
        return [
            self._plan.member(baseline, {"lr": lr, "steps": steps}, seed, NAME)
            for lr in rates
        ]

    def _best(self, steps: int) -> pd.Series:
        """r2 and ms of a length, at its rate of highest R^2."""
        rows = self._scores(self._at_length(steps))
        scored = rows[["r2", "l0", "firing", MS]].notna().all(axis=1)
        rows = rows.loc[(rows["status"] == "ok") & scored, ["r2", MS]]
        if rows.empty:
            said = "the baseline diverged at every learning rate: lower `lr` of protocol fair"
            raise UserError(f"{self._plan.cell}: {said}")
        return rows.loc[rows["r2"].idxmax()]

    # Rounds 2 and 3: the trials.

    @functools.cached_property
    def points(self) -> dict[str, list[Member]]:
        """Every method at the common points."""
        common = self._drawn(self._common, self._options.points, "points")
        found: dict[str, list[Member]] = {}
        for method in self._plan.tuned:
            middle = {
                name: math.sqrt(low * high)
                for name, (low, high) in self._ranges(method).items()
            }
            found[method] = [self._member(method, trial | middle) for trial in common]
        return found

    @functools.cached_property
    def refined(self) -> dict[str, list[Member]]:
        """Around the trials of a method that promise most, its own options; without any, the common ones nearby."""
        found: dict[str, list[Member]] = {method: [] for method in self._plan.tuned}
        for method, members in found.items():
            for number, trial in enumerate(self._promising(method)):
                box = self._ranges(method) or {
                    name: _third(self._common[name], trial[name]) for name in COMMON
                }
                drawn = self._drawn(
                    dict(sorted(box.items())),
                    self._options.values,
                    f"{method} {number}",
                )
                members += [self._member(method, trial | values) for values in drawn]
        return found

    def _promising(self, method: str) -> list[dict[str, Any]]:
        """The trials of highest R^2 on the front, then among the other feasible ones; where these are too few, those
        that fire most.
        """
        count, rows = self._options.refined, self._scores(self.points[method])
        feasible = rows[rows["feasible"] & rows[MS].notna()]
        vertices = front.vertices(rows, MS)
        others = feasible.drop(index=vertices.index).sort_values(
            "r2", ascending=False, kind="stable"
        )
        order = [*vertices["options"], *others["options"]]
        if len(order) < count:
            order = [
                *rows.sort_values("firing", ascending=False, kind="stable")["options"]
            ]
        return order[:count]

    def _member(self, method: str, trial: dict[str, Any]) -> Member:
        trial = {name: _rounded(value) for name, value in trial.items()}
        steps = self._plan.methods[method].recipe.get("steps") or self.facts.get(
            "steps"
        )
        trial |= {"steps": steps} if steps else {}
        return self._plan.member(method, trial, self._options.tuning, NAME)

    def _ranges(self, method: str) -> dict[str, Sequence[float]]:
        """{option: its range} of a method's own options, in this cell."""
        given = self._options.ranges.get(method, {})
        return {
            name: ends[f"k{self._plan.k}"] if isinstance(ends, dict) else ends
            for name, ends in given.items()
        }

    def _drawn(
        self, box: dict[str, Sequence[float]], count: int, what: str
    ) -> list[dict[str, float]]:
        """Points of a box, of a Sobol sequence whose scramble is the same for every k of a (dataset, backbone)."""
        text = f"{self._options.design_seed} {self._plan.dataset} {self._plan.backbone} {what}"
        unit = sobol(
            count, int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big")
        )
        return [
            {
                name: _between(box[name], at)
                for name, at in zip(box, point, strict=False)
            }
            for point in unit
        ]

    # Round 4: what is judged.

    @functools.cached_property
    def trials(self) -> dict[str, pd.DataFrame]:
        """{method: its trials, with what validation says of them}."""
        members = {m: [*self.points[m], *self.refined[m]] for m in self._plan.tuned}
        return {method: self._scores(asked) for method, asked in members.items()}

    @functools.cached_property
    def fronts(self) -> dict[tuple[str, str], pd.DataFrame]:
        """{(method, score): the vertices of its front}, of scores that are measured."""
        measured = [MS]
        if any(trials[DETECTION].notna().any() for trials in self.trials.values()):
            measured = [*FRONTS_OF]
        return {
            (method, score): front.vertices(trials, score)
            for method, trials in self.trials.items()
            for score in measured
        }

    def reach(self, method: str) -> float:
        """Return the best R^2 of a method's feasible trials; NaN if it has none."""
        return front.best_r2(self.trials[method])

    def best_r2_of_baseline(self, method: str) -> float:
        """Return R*: the reach of the baseline at the end of a method's `against`.

        Raises:
            UserError: the baseline has no feasible trial.
        """
        root = self._plan.root(method)
        reach = self.reach(root)
        if math.isnan(reach):
            raise UserError(
                f"{self._plan.cell}: no trial of {root} is feasible under protocol fair (L0 at most "
                f"{self._options.l0:g} k, and {self._options.firing:.0%} of the latents or more fire on training "
                "images): its ranges of lr and auxk_alpha do not fit this cell"
            )
        return reach

    def judged(self) -> list[Member]:
        """Return every vertex with weight in a window, and the `at` methods, with fresh seeds."""
        members: list[Member] = []
        for (method, score), vertices in self.fronts.items():
            windows = self._windows(method, score)
            if vertices.empty:
                continue
            r2 = vertices["r2"].to_numpy(float)
            weights = [front.weights(r2, window) for window in windows]
            kept = vertices["options"][np.sum(weights, axis=0) > 0]
            heaviest = vertices["options"].iloc[int(np.argmax(weights[0]))]
            for seed in self._options.fresh:
                members += [
                    self._plan.member(method, trial, seed, NAME) for trial in kept
                ]
                if score == MS:
                    at_choice = self._plan.at(method)
                    members += [
                        self._plan.member(other, heaviest, seed, NAME)
                        for other in at_choice
                    ]
        return members

    def _windows(self, method: str, score: str) -> list[Window]:
        """Return the windows in which a front is read; the headline's is the first.

        A baseline is also read at the R^2 where the methods that are compared with it end.
        """
        best_r2 = self.best_r2_of_baseline(method)
        compared = [
            other
            for other, of in self.fronts
            if of == score
            and self._plan.root(other) == method
            and len(self.fronts[other, of])
        ]
        return [
            Window(best_r2 - width, best_r2, reach=reach)
            for reach in (math.inf, *map(self.reach, compared))
            for width in self._options.widths
        ]

    def _scores(self, members: list[Member]) -> pd.DataFrame:
        """Return what the rule reads of each trial, on validation.

        Columns: trial, options, status, k, r2, l0, firing, feasible, and each score of
        `FRONTS_OF`.
        """
        rows = self._history.of(members)
        ms = "ms_mean_alive"
        # Where all diverged there are no columns of scores.
        names = ["r2", "l0", "dead_train", "m", ms, f"{ms}_across_groups", DETECTION]
        numbers = rows.reindex(columns=names).astype(float)
        options = {member.name: member.trial for member in members}
        trials = numbers[["r2", "l0"]].assign(
            trial=rows["trial"],
            options=rows["trial"].map(options),
            status=rows["status"],
            k=self._plan.k,
            firing=1 - numbers["dead_train"] / numbers["m"],
        )
        trials[MS] = numbers[f"{ms}_across_groups"].fillna(numbers[ms])
        trials[DETECTION] = numbers[DETECTION]
        return trials.assign(feasible=front.feasible(trials, self._options))


def _baseline(plan: Plan) -> str:
    """The method that says how many steps are enough: the first that is compared with no other one."""
    first, *_ = (name for name in plan.tuned if plan.methods[name].against is None)
    return first


def _between(ends: Sequence[float], at: float) -> float:
    """The value at a share of a range, in the logarithm."""
    low, high = map(math.log, ends)
    return math.exp(low + at * (high - low))


def _third(ends: Sequence[float], middle: float) -> list[float]:
    """The third of a range around a value, in the logarithm, as far as it lies in the range."""
    apart = (ends[1] / ends[0]) ** (1 / 6)
    return [max(ends[0], middle / apart), min(ends[1], middle * apart)]


def _rounded(value: float) -> float:
    return float(f"{value:.3g}")


@functools.cache
def sobol(count: int, seed: int) -> list[list[float]]:
    """(count, DIMENSIONS) points in the unit cube: the first of a scrambled Sobol sequence."""
    from scipy.stats import qmc  # Takes half a second.

    # Its length must be a power of 2, or it warns.
    sequence = qmc.Sobol(DIMENSIONS, scramble=True, rng=seed)
    return sequence.random_base2(max(0, count - 1).bit_length())[:count].tolist()

"""Every method tuned in as many trials, read as a front of R^2 and MS (`sae.scoring.front`).

What it trains in a cell, all chosen on the validation split with one tuning seed:

1. The baseline at lengths that double, as long as it gains from more steps.
2. The same points of a Sobol sequence over learning rate, encoder scale and AuxK's alpha for every method, its own
   options at the geometric middle of their ranges. Each (dataset, backbone) has a scramble of its own.
3. Around two of a method's trials, those of highest R^2 on its front, further values of its own options; a method
   without any has points in a box of a third of each common range.
4. Every vertex of a front that weighs anything in a window below R*, the best R^2 of the baseline, with fresh seeds; of
   the baseline also those that weigh where a method reaches no further. By these alone a method is judged. `at` methods
   train at the vertex that weighs most in the first window.

A trial is feasible if it ended well, its L0 is at most `l0` times k, and a share `firing` of its latents fires on the
training images. docs/protocol.md has the rule, and says what rests on it.
"""

from __future__ import annotations

import functools
import hashlib
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
from pydantic import AfterValidator, Field, ValidationInfo, field_validator

from sae.bank.plan import Member, Plan
from sae.core.errors import UserError
from sae.core.options import Count, Range, Ranges, Seed, Share, distinct
from sae.core.options import Options as Base
from sae.protocols._history import Choice, History, Sizes
from sae.scoring import front

if TYPE_CHECKING:
    import pandas as pd

VERSION = 1
METRICS = ("reconstruction", "monosemanticity", "firing")
NAME = "fair"
COMMON = ("lr", "encoder_scale", "auxk_alpha")
RATES = 3  # At which the baseline tries a length.
VERTICES = 4  # Of a front that are judged, as costs reckon: seen are one to four.
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
            raise ValueError(f"{info.data['tuning']} is the seed of `tuning` too; what is judged must not be tuned on")
        return seeds


def next(history: History) -> list[Member]:
    """The rounds of this module, each once all that it rests on is there.

    Raises:
        UserError: the baseline diverged at every learning rate, or none of its trials is feasible.
    """
    rounds, asked = _Rounds(history), []
    for members in (rounds.lengths, rounds.points, rounds.refined, rounds.judged):
        asked += members()
        if not history.has(asked):
            break
    return asked


def choose(history: History) -> Choice:
    """A row per method, window and vertex with weight in it; or one of a method without a feasible trial."""
    rounds, rows = _Rounds(history), list[dict[str, Any]]()
    for method in rounds.tuned:
        vertices, star = rounds.front(method), rounds.star(method)
        common = {"method": method, "seed": None, "bar": star} | rounds.facts
        if vertices.empty:
            rows.append(common | {"trial": None, "status": "infeasible"})
        for width in history.options.widths if len(vertices) else ():
            weights = front.weights(vertices["r2"].to_numpy(float), star - width, star)
            for vertex, weight in zip(vertices.to_dict("records"), weights.tolist(), strict=True):
                if weight > 0:
                    row = common | {"width": width, "weight": weight, "reach": float(vertices["r2"].iloc[0])}
                    values = {name: vertex[name] for name in ("trial", "r2", "ms", "l0", "firing")}
                    rows.append(row | values | {"status": "vertex"})
    judged = {(m.method, m.name, m.settings.seed) for m in rounds.judged()}
    return Choice(rows, judged, rounds.facts)


def at_most(plan: Plan, options: Options) -> Sizes:
    """As many trials of each method; after them its refined ones, and as many vertices as are to be expected."""
    methods, seeds, refined = _tuned(plan), len(options.fresh), options.refined * options.values
    trials, most = dict.fromkeys(methods, options.points), None
    if options.most_steps:
        most = options.most_steps[plan.dataset]
        trials[_baseline(plan)] += RATES * (most // options.steps.first).bit_length()
    judged = dict.fromkeys(methods, seeds * VERTICES) | {name: seeds for m in methods for name in plan.at(m)}
    after = len(methods) * refined + sum(judged.values())
    of_both = {name: trials.get(name, 0) + (refined if name in trials else 0) + n for name, n in judged.items()}
    return Sizes(sum(trials.values()), after, of_both, sum(judged.values()), most)


class _Rounds:
    """What is trained in each round, as far as the history says it; every answer is worked out once."""

    def __init__(self, history: History) -> None:
        self._history, self._plan, self._options = history, history.plan, history.options
        self.tuned = _tuned(self._plan)
        for name in ("lengths", "points", "refined", "judged", "front", "star", "_trials"):
            setattr(self, name, functools.cache(getattr(self, name)))

    # Round 1: the steps.

    @functools.cached_property
    def facts(self) -> dict[str, Any]:
        """{steps, undertrained}: how long the cell trains, and whether the baseline would still gain from more.

        Nothing where every method sets its own. Only after :meth:`lengths` were trained.
        """
        if not self._options.most_steps:
            return {}
        steps = self._lengths_tried()[-1]
        return {"steps": steps, "undertrained": not self._settled(steps)}

    def lengths(self) -> list[Member]:
        """The baseline with three learning rates at the lengths tried so far, and at the next one."""
        if not self._options.most_steps:
            return []
        return [member for steps in self._lengths_tried() for member in self._at_length(steps)]

    def _lengths_tried(self) -> list[int]:
        most, tried = self._options.most_steps[self._plan.dataset], [self._options.steps.first]
        while self._history.has(self._at_length(tried[-1])):
            if self._settled(tried[-1]) or 2 * tried[-1] > most:
                break
            tried.append(2 * tried[-1])
        return tried

    def _at_length(self, steps: int) -> list[Member]:
        low, high = self._options.lr
        # The middles of the range's thirds, in the logarithm.
        rates = [_rounded(low * (high / low) ** ((2 * n + 1) / (2 * RATES))) for n in range(RATES)]
        baseline, seed = _baseline(self._plan), self._options.tuning
        return [self._plan.member(baseline, {"lr": lr, "steps": steps}, seed, NAME) for lr in rates]

    def _settled(self, steps: int) -> bool:
        """Whether the doubling to `steps` gained little in both scores, at the rate of highest R^2 of each length."""
        last, rule = self._best(steps), self._options.steps
        if steps == rule.first:
            return False
        before = self._best(steps // 2)
        return bool(last["r2"] - before["r2"] < rule.gain_r2 and last["ms"] - before["ms"] < rule.gain_ms)

    def _best(self, steps: int) -> pd.Series:
        rows = self._scores(self._at_length(steps))
        rows = rows[rows["ok"]]
        if rows.empty:
            raise UserError(
                f"{self._plan.cell}: the baseline diverged at every learning rate: lower `lr` of protocol fair"
            )
        return rows.loc[rows["r2"].idxmax()]

    # Rounds 2 and 3: the trials.

    def points(self) -> list[Member]:
        """Every method at the common points."""
        return [member for method in self.tuned for member in self._points(method)]

    def _points(self, method: str) -> list[Member]:
        middle = {name: math.sqrt(low * high) for name, (low, high) in self._ranges(method).items()}
        unit = sobol(self._options.points, self._scramble("points"))
        common = [{n: _between(self._common[n], at) for n, at in zip(COMMON, point, strict=False)} for point in unit]
        return [self._member(method, trial | middle) for trial in common]

    def refined(self) -> list[Member]:
        """Around the trials of a method that promise most, its own options; without any, the common ones nearby."""
        found = []
        for method in self.tuned:
            own = self._ranges(method)
            for number, trial in enumerate(self._promising(method)):
                box = own or {name: _third(self._common[name], trial[name]) for name in COMMON}
                for point in sobol(self._options.values, self._scramble(f"{method} {number}")):
                    values = {name: _between(box[name], at) for name, at in zip(sorted(box), point, strict=False)}
                    found.append(self._member(method, trial | values))
        return found

    def _promising(self, method: str) -> list[dict[str, Any]]:
        """The trials of highest R^2 on the front, then among the other feasible ones; where these are too few, those
        that fire most.
        """
        members = self._points(method)
        rows = self._scores(members)
        feasible = rows[rows["feasible"]]
        if len(feasible) >= self._options.refined:
            vertices = _vertices(feasible)
            others = feasible.drop(index=vertices.index).sort_values("r2", ascending=False, kind="stable")
            order = [*vertices["trial"], *others["trial"]]
        else:
            order = [*rows.sort_values("firing", ascending=False, kind="stable")["trial"]]
        trials = {member.name: member.trial for member in members}
        return [trials[name] for name in order[: self._options.refined]]

    def _member(self, method: str, trial: dict[str, Any]) -> Member:
        trial = {name: _rounded(value) for name, value in trial.items()}
        steps = self._plan.methods[method].recipe.get("steps") or self.facts.get("steps")
        trial |= {"steps": steps} if steps else {}
        return self._plan.member(method, trial, self._options.tuning, NAME)

    def _ranges(self, method: str) -> dict[str, Sequence[float]]:
        """{option: its range} of a method's own options, in this cell."""
        given = self._options.ranges.get(method, {})
        return {name: ends[f"k{self._plan.k}"] if isinstance(ends, dict) else ends for name, ends in given.items()}

    @property
    def _common(self) -> dict[str, Sequence[float]]:
        return {name: getattr(self._options, name) for name in COMMON}

    def _scramble(self, what: str) -> int:
        """Of a Sobol sequence: the same for every k of a (dataset, backbone)."""
        text = f"{self._options.design_seed} {self._plan.dataset} {self._plan.backbone} {what}"
        return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big")

    # Round 4: what is judged.

    def judged(self) -> list[Member]:
        """Every vertex with weight in a window, and the `at` methods, with fresh seeds."""
        found = []
        for method in self.tuned:
            vertices, star = self.front(method), self.star(method)
            if vertices.empty:
                continue
            r2 = vertices["r2"].to_numpy(float)
            # A baseline is read where others reach, too.
            others = [m for m in self.tuned if self._plan.root(m) == method and len(self.front(m))]
            reaches = [math.inf, *(float(self.front(m)["r2"].iloc[0]) for m in others)]
            widths = self._options.widths
            windows = [front.weights(r2, star - width, star, reach) for reach in reaches for width in widths]
            trials = [self._trials()[method, name] for name in vertices["trial"]]
            kept = [trial for trial, weight in zip(trials, np.sum(windows, axis=0), strict=True) if weight > 0]
            heaviest = trials[int(np.argmax(windows[0]))]
            for seed in self._options.fresh:
                found += [self._plan.member(method, trial, seed, NAME) for trial in kept]
                found += [self._plan.member(other, heaviest, seed, NAME) for other in self._plan.at(method)]
        return found

    def star(self, method: str) -> float:
        """R* of a method: the best R^2 that the baseline at the end of its chain of `against` has.

        Raises:
            UserError: the baseline has no feasible trial.
        """
        root = self._plan.root(method)
        vertices = self.front(root)
        if vertices.empty:
            raise UserError(
                f"{self._plan.cell}: no trial of {root} is feasible under protocol fair (L0 at most "
                f"{self._options.l0:g} k, and {self._options.firing:.0%} of the latents or more fire on training "
                "images): its ranges of lr and auxk_alpha do not fit this cell"
            )
        return float(vertices["r2"].iloc[0])

    def front(self, method: str) -> pd.DataFrame:
        """The vertices of a method's front, by falling R^2."""
        rows = self._scores([m for (name, _), m in self._tried().items() if name == method])
        return _vertices(rows[rows["feasible"]])

    def _tried(self) -> dict[tuple[str, str], Member]:
        return {(m.method, m.name): m for m in (*self.points(), *self.refined())}

    def _trials(self) -> dict[tuple[str, str], dict[str, Any]]:
        return {key: member.trial for key, member in self._tried().items()}

    def _scores(self, members: list[Member]) -> pd.DataFrame:
        """What the rule reads of each of these: trial, r2, ms, l0, firing, ok, feasible."""
        rows, ms = self._history.of(members), "ms_mean_alive"
        # Where all diverged there are no columns of scores.
        of = rows.reindex(columns=["r2", "l0", ms, f"{ms}_across_groups", "dead_train", "m"]).astype(float)
        found = of[["r2", "l0"]].assign(
            trial=rows["trial"], ms=of[f"{ms}_across_groups"].fillna(of[ms]), firing=1 - of["dead_train"] / of["m"]
        )
        ok = (rows["status"] == "ok") & found.notna().all(axis=1)
        within = (found["l0"] <= self._options.l0 * self._plan.k) & (found["firing"] >= self._options.firing)
        return found.assign(ok=ok, feasible=ok & within)


def _vertices(rows: pd.DataFrame) -> pd.DataFrame:
    return rows.iloc[front.hull(rows["r2"].to_numpy(float), rows["ms"].to_numpy(float))]


def _tuned(plan: Plan) -> list[str]:
    return [name for name, spec in plan.methods.items() if spec.tuned]


def _baseline(plan: Plan) -> str:
    """The method that says how many steps are enough: the first that is compared with no other one."""
    first, *_ = (name for name in _tuned(plan) if plan.methods[name].against is None)
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

"""How methods compare that have several trials a cell: by their fronts of R^2 and a score.

In a cell (dataset, backbone, k) every choice reads validation and training images:

- `sae.scoring.front` says which trials are *feasible*, and which are vertices of a front.
- R* is the best R^2 of the baseline's feasible trials, one value a cell whatever the
  score; a method's *reach* is that of its own.
- The *floor* is the R^2 of the baseline's vertex of highest score. Left of it the
  baseline has nothing more to gain, so neither front is read there.
- The *effect* at width w is the mean over r in [R* - w, R*] of the method's front minus
  the baseline's, both read at max(floor, min(r, reach)), and both on test, at the
  vertices and weights that validation gave. It is the vertical distance of two
  rate-distortion curves (Bjontegaard 2001).
- A method that ends below the floor by at most `TOLERANCE` is compared at its reach, and
  marked; one that ends further below is *out of reach*, and has no effect.

Every score that each trial has on validation has a front of its own. Scores of judged
SAEs alone are read at the vertices of detection (column `front` says whose). Endpoints
are read with the fresh seeds that were trained at their vertices, where there are any;
other scores with the seed of the tuning, since their vertices have no other.

Any experiment whose methods have several trials has fronts; no protocol is needed.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from math import isnan, nan
from typing import Annotated, Any, NamedTuple

import numpy as np
import pandas as pd
from pydantic import Field

from sae.comparison.scores import (
    COMPARED,
    JUDGED_ONLY,
    OWN_FRONTS,
    SCORES,
    values,
)
from sae.core.options import Options, Share
from sae.scoring import front
from sae.scoring.front import ENDPOINTS, Window
from sae.scoring.rows import CELL

TRIAL = [*CELL, "method", "trial"]
TOLERANCE = 0.005  # of R^2: how far below the floor a method may end and be compared
# The readings of an effect, as the column `reading` names them.
VALIDATION = "validation weights"
EQUAL_TEST_R2 = "equal test R2"


class Rule(Options):
    """What is feasible, and where fronts are read.

    Attributes:
        l0: The highest L0 on validation, as a multiple of k.
        firing: The smallest share of the latents that fires on training images.
        widths: The widths of the windows below R*; the first is the headline.
        tuning: The seed of the trials, where others were trained for vertices alone.
        tuned: Options that a trial has to have to count. Trials that only find out how
            long a cell trains lack some of them.
    """

    l0: Annotated[float, Field(ge=1)] = 1.02
    firing: Annotated[float, Field(ge=0, le=1)] = 0.9
    widths: list[Share] = Field(default=[0.01, 0.005, 0.02])
    tuning: int | None = None
    tuned: list[str] = Field(default=[])

    @property
    def protocol(self) -> str | None:
        """The protocol whose SAEs alone stand on fronts, or None if those of all do."""
        return None if self.tuning is None else "fair"


@dataclass(frozen=True)
class Effect:
    """A method minus its baseline in one cell, for one score, width and seed.

    Attributes:
        front: The score whose front gave vertices and weights.
        reading: `VALIDATION` or `EQUAL_TEST_R2`.
        status: "ok"; "infeasible" if the method or its baseline has no feasible trial;
            "out of reach" if the method ends too far below the floor; "seeds missing" if
            vertices lack fresh seeds that others of the cell have; "diverged" if no seed
            is left of one side; "not measured" if a vertex lacks the score on test. All
            but "ok" have no effect.
        effect: The difference on test, signed so that more is better.
        level: The baseline's score in the same reading.
        best_r2: R*, on validation.
        reach: The method's best R^2 on validation.
        floor: The R^2 left of which fronts are not read.
        shortfall, gain: What the reach lacks of R*, and what it has beyond.
        below_floor: Whether the method ends below the floor, by the tolerance at most.
        r2_difference: The method's R^2 on test minus the baseline's at the same weights.
        seeds: How many seeds were read.
        fresh: Whether they are seeds of their own, not that of the tuning.
        vertices, baseline_vertices: "trial: weight; ..." of what weighs anything.
        lost: The vertices that diverged with this seed.
    """

    dataset: str
    backbone: str
    k: int
    method: str
    score: str
    width: float
    baseline: str
    front: str
    reading: str
    status: str
    seed: int | None = None
    effect: float = nan
    level: float = nan
    best_r2: float = nan
    reach: float = nan
    floor: float = nan
    shortfall: float = nan
    gain: float = nan
    below_floor: bool = False
    r2_difference: float = nan
    seeds: int = 0
    fresh: bool = False
    vertices: str = ""
    baseline_vertices: str = ""
    lost: str = ""


COLUMNS = [field.name for field in dataclasses.fields(Effect)]


def validation_trials(metrics: pd.DataFrame, rule: Rule) -> pd.DataFrame:
    """Gather what validation says of each trial.

    Args:
        metrics: Tidy metrics, MS across groups where a dataset has groups.
        rule: What is feasible.

    Returns:
        A row for each cell, method and trial, means over its seeds: `status`, `r2`, `l0`,
        `firing`, `feasible`, and the scores of `COMPARED` that validation has.
    """
    rows = metrics[metrics["split"] == "val"]
    if rule.tuning is not None:
        rows = rows[rows["seed"] == rule.tuning]
    rows = rows[_names_options(rows["trial"], rule.tuned)]

    numbers = {name: SCORES[name].of(rows) for name in COMPARED}
    numbers["r2"] = values(rows, "r2")
    numbers["l0"] = values(rows, "l0")
    numbers["firing"] = 1 - values(rows, "dead_train") / values(rows, "m")
    numbers["ended_well"] = rows["status"] == "ok"
    trials = rows[TRIAL].assign(**numbers).groupby(TRIAL, sort=False)
    trials = trials.mean(skipna=False).reset_index()

    # A trial of which a seed diverged ended badly.
    status = np.where(trials.pop("ended_well") == 1, "ok", "diverged")
    trials = trials.assign(status=status)
    return trials.assign(feasible=front.feasible(trials, rule))


def _names_options(trials: pd.Series, options: Iterable[str]) -> np.ndarray:
    """Say which trials name each of these options, such as "auxk_alpha0.1-lr0.002".

    The columns of the options do not tell: a trial that leaves an option out has the
    value of the recipe there.
    """
    named = [all(f"-{name}" in f"-{trial}" for name in options) for trial in trials]
    return np.array(named, dtype=bool)


def effects(
    metrics: pd.DataFrame,
    against: Mapping[str, str | None],
    rule: Rule,
    *,
    equal_test_r2: bool = False,
) -> pd.DataFrame:
    """Compare every method with its baseline, in every cell, for every score and width.

    Args:
        metrics: As :func:`validation_trials` takes it.
        against: {method: the method that it is compared with, or None of a baseline};
            other methods are left out.
        rule: What is feasible, and where fronts are read.
        equal_test_r2: Whether both sides are read where they have the same R^2 on test.
            The vertices are the same; with each seed they are ordered by their test R^2,
            R* is the best of the baseline's, and the floor that of its vertex of highest
            score on validation.

    Returns:
        The columns of :class:`Effect`; a row for each seed that was read, or one that
        says why there is none. Scores that nothing has give no rows. Scores that are no
        endpoints are read at the first width alone.
    """
    trials = validation_trials(metrics, rule)
    tests = read_test_scores(metrics)
    reading = EQUAL_TEST_R2 if equal_test_r2 else VALIDATION
    rows: list[Effect] = []
    for cell, cell_trials in trials.groupby(CELL, sort=False):
        for pair in _comparable_pairs(cell, cell_trials, tests, against, rule, reading):
            rows += pair.rows()
    # A score that was measured nowhere says nothing.
    measured = {row.score for row in rows if row.status == "ok"}
    said = {row.score for row in rows if row.status not in ("ok", "not measured")}
    kept = measured | (said & {*OWN_FRONTS})
    rows = [row for row in rows if row.score in kept]
    return pd.DataFrame([vars(row) for row in rows], columns=COLUMNS)


def sensitivity(
    metrics: pd.DataFrame, against: Mapping[str, str | None], rule: Rule
) -> Iterator[tuple[str, pd.DataFrame]]:
    """Yield what else could be asked, and the :func:`effects` then, at the first width.

    With another bound on firing latents other trials are vertices, which have no fresh
    seeds: all are read with the seed of the tuning.
    """
    rule = rule.model_copy(update={"widths": rule.widths[:1]})
    tuned = metrics
    if rule.tuning is not None:
        tuned = metrics[metrics["seed"] == rule.tuning]
    for firing in (rule.firing, 0.95, 0.0):
        other_rule = rule.model_copy(update={"firing": firing})
        yield f"{firing:.0%} of latents must fire", effects(tuned, against, other_rule)


def root(method: str, against: Mapping[str, str | None]) -> str:
    """Return the baseline at the end of a method's chain of `against`."""
    while (other := against.get(method)) is not None:
        method = other
    return method


def of_protocol(metrics: pd.DataFrame, rule: Rule) -> pd.DataFrame:
    """Return the metrics of which fronts are made."""
    if rule.protocol is None:
        return metrics
    return metrics[metrics["protocol"] == rule.protocol]


def by_cell(effects: pd.DataFrame) -> pd.DataFrame:
    """Average the rows of :func:`effects` over seeds.

    Returns:
        A row for each cell, method, score, width and reading, without the seed.
    """
    keys = [*CELL, "method", "score", "width", "reading"]
    averaged = ("effect", "level", "r2_difference")
    aggregations: dict[str, Any] = {
        name: "mean" if name in averaged else "first"
        for name in COLUMNS
        if name not in [*keys, "seed"]
    }
    aggregations["lost"] = _joined_names
    by_cell = effects.groupby(keys, sort=False, dropna=False)
    cells = by_cell.agg(aggregations).reset_index()
    return cells[[name for name in COLUMNS if name != "seed"]]


def _joined_names(lists: pd.Series) -> str:
    """Join several lists of names, "a; b", without repeats."""
    names = {name for text in lists for name in text.split("; ") if name}
    return "; ".join(sorted(names))


# -- what the SAEs score on test


class TestedSae(NamedTuple):
    """What one SAE scores on test; `ok` is False if it diverged."""

    ok: bool
    r2: float
    scores: dict[str, float]


TestScores = dict[tuple[Any, ...], dict[int, TestedSae]]  # {trial: {seed: SAE}}


def read_test_scores(metrics: pd.DataFrame) -> TestScores:
    """Return {(dataset, backbone, k, method, trial): {seed: what it scores on test}}."""
    rows = metrics[metrics["split"] == "test"]
    scores = pd.DataFrame({name: SCORES[name].of(rows) for name in COMPARED})
    ended_well = rows["status"] == "ok"
    tests: TestScores = {}
    saes = zip(ended_well, values(rows, "r2"), scores.to_dict("records"), strict=True)
    keys = rows[[*TRIAL, "seed"]].itertuples(index=False, name=None)
    for (*trial, seed), sae in zip(keys, saes, strict=True):
        tests.setdefault(tuple(trial), {})[int(seed)] = TestedSae(*sae)
    return tests


class _Front:
    """The vertices of a front on validation, and what their SAEs score on test.

    Attributes:
        r2: (vertices,) on validation, falling.
        names: (vertices,) of the trials.
        saes: (vertices,) {seed: what that SAE scores on test}.
    """

    def __init__(self, vertices: pd.DataFrame, tests: TestScores) -> None:
        keys = vertices[TRIAL].itertuples(index=False, name=None)
        self.r2 = vertices["r2"].to_numpy(float)
        self.names = [*vertices["trial"]]
        self.saes = [tests.get(key, {}) for key in keys]

    def standing(self, seed: int) -> list[int]:
        """Return the vertices that have an SAE of a seed that ended well."""
        return [n for n, saes in enumerate(self.saes) if seed in saes and saes[seed].ok]

    def diverged(self, seed: int) -> list[int]:
        """Return the vertices whose SAE of a seed diverged."""
        return [
            n for n, saes in enumerate(self.saes) if seed in saes and not saes[seed].ok
        ]

    def common_seeds(self, places: Iterable[int]) -> set[int]:
        """Return the seeds with which each of some vertices was trained."""
        return set.intersection(*(set(self.saes[place]) for place in places))


class _Line(NamedTuple):
    """A front with one seed: (vertices,) places and R^2, which falls."""

    places: list[int]
    r2: np.ndarray


@dataclass(frozen=True)
class _Pair:
    """A method's front and its baseline's, for one score in one cell."""

    cell: tuple[Any, ...]
    method: str
    baseline: str
    score: str
    front_of: str  # the score whose front it is
    own: _Front
    base: _Front
    reach: float
    best_r2: float
    retrained: bool  # whether seeds were trained at vertices of the cell
    rule: Rule
    reading: str

    def rows(self) -> Iterator[Effect]:
        """Yield a row for each width and seed, or one that says why there is none."""
        status = self.problem()
        is_endpoint = self.score in ENDPOINTS
        for width in self.rule.widths if is_endpoint else self.rule.widths[:1]:
            if status is not None:
                yield self.row(width, status=status)
                continue
            seeds = self.seeds(width)
            if not seeds:
                yield self.row(width, status="seeds missing")
                continue
            effects = [self.effect_with(width, seed) for seed in seeds]
            measured = [effect for effect in effects if not isnan(effect.effect)]
            for effect in measured:
                yield dataclasses.replace(effect, seeds=len(measured))
            if not measured and all(effect.lost for effect in effects):
                # What stood on the front diverged with every seed.
                yield self.row(width, status="diverged", lost=effects[0].lost)
            elif not measured:
                yield self.row(width, status="not measured")

    def problem(self) -> str | None:
        """Say why the two cannot be compared, or None if they can."""
        if not len(self.own.r2) or not len(self.base.r2):
            return "infeasible"
        if self.reach < self.base.r2[-1] - TOLERANCE:
            return "out of reach"
        return None

    def row(self, width: float, **about: Any) -> Effect:
        """Return a row with what is known before any seed is read."""
        floor = float(self.base.r2[-1]) if len(self.base.r2) else nan
        dataset, backbone, k = self.cell
        return Effect(
            dataset=dataset,
            backbone=backbone,
            k=k,
            method=self.method,
            score=self.score,
            width=width,
            baseline=self.baseline,
            front=self.front_of,
            reading=self.reading,
            best_r2=self.best_r2,
            reach=self.reach,
            floor=floor,
            shortfall=_positive_part(self.best_r2 - self.reach),
            gain=_positive_part(self.reach - self.best_r2),
            below_floor=self.reach < floor,
            **about,
        )

    def window(self, width: float) -> Window:
        """Return where both fronts are read by validation, if no vertex diverged."""
        low = self.best_r2 - width
        return Window(low, self.best_r2, float(self.base.r2[-1]), self.reach)

    def seeds(self, width: float) -> list[int]:
        """Return the seeds of which both sides have each vertex that weighs anything."""
        window = self.window(width)
        sides = []
        for side in (self.own, self.base):
            heavy = np.flatnonzero(front.weights(side.r2, window) > 0)
            sides.append(side.common_seeds(heavy))
        common = sides[0] & sides[1]
        tuning = self.rule.tuning
        if tuning is None:
            return sorted(common)
        if self.front_of not in ENDPOINTS:
            return sorted(common & {tuning})
        fresh = [side - {tuning} for side in sides]
        if all(fresh):
            return sorted(fresh[0] & fresh[1])
        return [] if self.retrained else sorted(common & {tuning})

    def effect_with(self, width: float, seed: int) -> Effect:
        """Read both fronts with one seed.

        Where a vertex diverged, each side is read as far as both still reach.
        """
        own, base = self.line(self.own, seed), self.line(self.base, seed)
        lost = [
            side.names[place]
            for side in (self.own, self.base)
            for place in side.diverged(seed)
        ]
        fresh = self.rule.tuning is not None and seed != self.rule.tuning
        row = self.row(width, status="ok", seed=seed, lost="; ".join(lost), fresh=fresh)
        if not own.places or not base.places:
            return row
        window = self.window_of_seed(width, seed, own, base)
        if window.reach < window.floor - TOLERANCE:
            return row

        score, r2, words = self.value(self.own, own, window, seed)
        base_score, base_r2, base_words = self.value(self.base, base, window, seed)
        return dataclasses.replace(
            row,
            effect=SCORES[self.score].better * (score - base_score),
            level=base_score,
            r2_difference=r2 - base_r2,
            vertices=words,
            baseline_vertices=base_words,
        )

    def line(self, side: _Front, seed: int) -> _Line:
        """Return a front with one seed, without the vertices that diverged."""
        places = side.standing(seed)
        if self.reading == VALIDATION:
            return _Line(places, side.r2[places])
        r2 = np.array([side.saes[place][seed].r2 for place in places])
        order = np.argsort(-r2, kind="stable")
        return _Line([places[n] for n in order], r2[order])

    def window_of_seed(
        self, width: float, seed: int, own: _Line, base: _Line
    ) -> Window:
        """Return where both fronts are read with one seed."""
        reach = float(min(own.r2[0], base.r2[0]))
        if self.reading == VALIDATION:
            diverged = self.base.diverged(seed)
            places = range(len(self.base.r2))
            floor = min(float(self.base.r2[n]) for n in places if n not in diverged)
            best = self.best_r2
        else:
            # The last vertex has the highest score on validation.
            highest = base.places.index(max(base.places))
            floor = float(base.r2[highest])
            best = float(base.r2[0])
        return Window(best - width, best, floor, reach)

    def value(
        self, side: _Front, line: _Line, window: Window, seed: int
    ) -> tuple[float, float, str]:
        """Return a front's score and R^2 on test, and its weights in words."""
        score = 0.0
        r2 = 0.0
        words = []
        for place, weight in zip(
            line.places, front.weights(line.r2, window), strict=True
        ):
            if weight > 0:
                sae = side.saes[place][seed]
                score += float(weight) * sae.scores[self.score]
                r2 += float(weight) * sae.r2
                words.append(f"{side.names[place]}: {weight:.3f}")
        return score, r2, "; ".join(words)


def _positive_part(value: float) -> float:
    """Return a value, 0 in place of a negative one, and NaN of NaN."""
    return nan if isnan(value) else max(0.0, value)


def _comparable_pairs(
    cell: tuple[Any, ...],
    trials: pd.DataFrame,
    tests: TestScores,
    against: Mapping[str, str | None],
    rule: Rule,
    reading: str,
) -> Iterator[_Pair]:
    """Yield each method's front with its baseline's, for each score of a cell."""
    methods = {
        str(method): rows
        for method, rows in trials.groupby("method", sort=False)
        if method in against
    }
    measured = [name for name in OWN_FRONTS if trials[name].notna().any()]
    fronts = {
        (method, score): _Front(
            front.vertices(rows, score, SCORES[score].better), tests
        )
        for method, rows in methods.items()
        for score in measured
    }
    reach = {method: front.best_r2(rows) for method, rows in methods.items()}

    keys = trials[TRIAL].itertuples(index=False, name=None)
    trained = {seed for key in keys for seed in tests.get(key, ())}
    retrained = rule.tuning is not None and trained > {rule.tuning}

    scores = [(score, score) for score in measured]
    endpoints = [score for score in ENDPOINTS if score in measured]
    scores += [(score, endpoints[0]) for score in JUDGED_ONLY if endpoints]
    for method, (score, front_of) in itertools.product(methods, scores):
        baseline = root(method, against)
        if baseline == method or baseline not in methods:
            continue
        yield _Pair(
            cell=cell,
            method=method,
            baseline=baseline,
            score=score,
            front_of=front_of,
            own=fronts[method, front_of],
            base=fronts[baseline, front_of],
            reach=reach[method],
            best_r2=reach[baseline],
            retrained=retrained,
            rule=rule,
            reading=reading,
        )

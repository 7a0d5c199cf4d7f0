"""How methods with several trials a cell compare: by fronts of R^2 and a score.

In a cell (dataset, backbone, k) every choice reads validation and training images:

- `sae.scoring.front` says which trials are *feasible*, and which are vertices of a
  front.
- R* is the best R^2 of the baseline's feasible trials, one value a cell whatever the
  score; a method's *reach* is that of its own.
- The *floor* is the R^2 of the baseline's vertex of highest score. Left of it the
  baseline has nothing more to gain, so neither front is read there.
- The *effect* at width w is the mean over r in [R* - w, R*] of the method's front minus
  the baseline's, both read at max(floor, min(r, reach)), and both on test, at the
  vertices and weights that validation gave. It is the vertical distance of two
  rate-distortion curves (Bjontegaard 2001).
- A method that ends below the floor by at most `TOLERANCE` is compared at its reach,
  and marked; one that ends further below is *out of reach*, and has no effect.

Every score that each trial has on validation has a front of its own. Scores of chosen
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
    CHOSEN_ONLY,
    COMPARED,
    OWN_FRONTS,
    SCORES,
    values,
)
from sae.core.errors import UserError
from sae.core.options import Options, Share, later
from sae.core.paths import trial_name
from sae.scoring import front
from sae.scoring.front import ENDPOINTS, Window
from sae.scoring.rows import CELL

TRIAL = [*CELL, "method", "trial"]
TOLERANCE = 0.005  # of R^2: how far below the floor a method may end and be compared
# The readings of an effect, as the column `reading` names them.
VALIDATION = "validation weights"
EQUAL_TEST_R2 = "equal test R2"


class FrontRule(Options):
    """The rule of fronts: what is feasible, and where fronts are read.

    Attributes:
        l0: The highest L0 on validation, as a multiple of k.
        firing: The smallest share of the latents that fires on training images.
        widths: The widths of the windows below R*; the first is the headline.
        tuning: The seed of the trials, where others were trained for vertices alone.
        tuned: Options that a trial has to have to count. Trials that only find out how
            long a cell trains lack some of them.
        grid: Whether trials are at listed points, so that none was put where another
            one promised most.
    """

    l0: Annotated[float, Field(ge=1)] = 1.02
    firing: Annotated[float, Field(ge=0, le=1)] = 0.9
    widths: list[Share] = Field(default=[0.01, 0.005, 0.02])
    tuning: int | None = None
    tuned: list[str] = Field(default=[])
    grid: bool = later(False)

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
        status: "ok"; "infeasible" if the method has no feasible trial, "baseline
            infeasible" if its baseline has none; "out of reach" if the method ends too
            far below the floor; "seeds missing" if vertices lack fresh seeds that
            others of the cell have; "diverged" if no seed is left of one side; "not
            measured" if a vertex lacks the score on test. All but "ok" have no effect.
        effect: The difference on test, signed so that more is better.
        level: The baseline's score in the same reading.
        best_r2: R*, on validation.
        reach: The method's best R^2 on validation.
        floor: The R^2 left of which fronts are not read.
        shortfall, gain: What the reach lacks of R*, and what it has beyond.
        below_floor: Whether the method ends below the floor, by the tolerance at most.
        r2_difference: The method's R^2 on test minus the baseline's at the same
            weights.
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


def validation_trials(metrics: pd.DataFrame, rule: FrontRule) -> pd.DataFrame:
    """Gather what validation says of each trial.

    Args:
        metrics: Tidy metrics, MS across groups where a dataset has groups.
        rule: What is feasible.

    Returns:
        A row for each cell, method and trial, means over its seeds: `status`, `r2`,
        `l0`, `firing`, `feasible`, and the scores of `COMPARED` that validation has.

    Raises:
        UserError: The rows do not say what each trial sets.
    """
    rows = metrics[metrics["split"] == "val"]
    if rule.tuning is not None:
        rows = rows[rows["seed"] == rule.tuning]
    if rule.tuned:
        rows = rows[_sets_options(rows, rule.tuned)]

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


def says_what_trials_set(rows: pd.DataFrame) -> bool:
    """Say whether rows have the options that their trials set, as those of today do."""
    if "swept" not in rows:
        return False
    # A trial that sets nothing has an empty text, which a CSV gives back as null.
    sets_something = rows["trial"] != trial_name({})
    return bool(rows.loc[sets_something, "swept"].notna().all())


def _sets_options(rows: pd.DataFrame, options: Iterable[str]) -> np.ndarray:
    if not says_what_trials_set(rows):
        raise UserError(
            "metrics have no column `swept`, or rows without it: an older version made "
            "them. Run the experiment again, which trains and scores nothing anew"
        )
    needed = set(options)
    sets_all = [
        isinstance(names, str) and needed <= set(names.split())
        for names in rows["swept"]
    ]
    return np.array(sets_all, dtype=bool)


def effects(
    metrics: pd.DataFrame,
    against: Mapping[str, str | None],
    rule: FrontRule,
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
            The vertices are the same; with each seed they are ordered by their test
            R^2, R* is the best of the baseline's, and the floor that of its vertex of
            highest score on validation.

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

    # A score without any effect goes, unless its own fronts say why there is none.
    measured = {row.score for row in rows if row.status == "ok"}
    without_effect = {
        row.score for row in rows if row.status not in ("ok", "not measured")
    }
    shown = measured | (without_effect & set(OWN_FRONTS))
    rows = [row for row in rows if row.score in shown]
    return pd.DataFrame([vars(row) for row in rows], columns=COLUMNS)


def sensitivity(
    metrics: pd.DataFrame, against: Mapping[str, str | None], rule: FrontRule
) -> Iterator[tuple[str, pd.DataFrame]]:
    """Yield the effects under other rules of what is feasible, at the first width.

    Each comes with the rule as text, such as "95% of latents must fire". With another
    bound on firing latents other trials are vertices, which have no fresh seeds: all
    are read with the seed of the tuning.
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
    compared_with = against.get(method)
    while compared_with is not None:
        method = compared_with
        compared_with = against.get(method)
    return method


def of_protocol(metrics: pd.DataFrame, rule: FrontRule) -> pd.DataFrame:
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
    seeds_by_cell = effects.groupby(keys, sort=False, dropna=False)
    cells = seeds_by_cell.agg(aggregations).reset_index()
    return cells[[name for name in COLUMNS if name != "seed"]]


def _joined_names(lists: pd.Series) -> str:
    """Join several lists of names, "a; b", without repeats."""
    names = {name for text in lists for name in text.split("; ") if name}
    return "; ".join(sorted(names))


# -- what the SAEs score on test


# {values of the columns `TRIAL`: {seed: {"r2" or another score: its value}}}; of an SAE
# that diverged there are no scores.
TestScores = dict[tuple[Any, ...], dict[int, dict[str, float]]]


def read_test_scores(metrics: pd.DataFrame) -> TestScores:
    """Return the scores on test of every trial (`TRIAL`), by its seeds."""
    rows = metrics[metrics["split"] == "test"]
    keys = rows[[*TRIAL, "seed"]].itertuples(index=False, name=None)
    scores = pd.DataFrame({name: SCORES[name].of(rows) for name in COMPARED})
    scores["r2"] = values(rows, "r2")
    ended_well = rows["status"] == "ok"

    tests: TestScores = {}
    for (*trial_key, seed), ok, of_sae in zip(
        keys, ended_well, scores.to_dict("records"), strict=True
    ):
        tests.setdefault(tuple(trial_key), {})[int(seed)] = of_sae if ok else {}
    return tests


class _Front(NamedTuple):
    """Vertices of a front on validation, and what their SAEs score on test.

    Attributes:
        r2: (vertices,) by which the front is read, falling.
        trials: (vertices,) their names.
        scores: (vertices,) {seed: what that SAE scores on test}, as `TestScores`.
    """

    r2: np.ndarray
    trials: list[str]
    scores: list[dict[int, dict[str, float]]]

    def at(self, places: Iterable[int]) -> _Front:
        """Return the vertices at some places."""
        kept = list(places)
        return _Front(
            self.r2[kept],
            [self.trials[place] for place in kept],
            [self.scores[place] for place in kept],
        )

    def diverged(self, seed: int) -> list[int]:
        """Return the places of vertices whose SAE of a seed diverged."""
        return [
            place
            for place, scores in enumerate(self.scores)
            if seed in scores and not scores[seed]
        ]


@dataclass(frozen=True)
class _FrontPair:
    """A method's front and its baseline's, for one score in one cell.

    Attributes:
        cell: (dataset, backbone, k).
        baseline: The method at the end of its chain of `against`.
        score: The score that is compared.
        front_of: The score whose fronts these are.
        reach: The best R^2 of the method's feasible trials, on validation.
        best_r2: That of the baseline, R*.
        retrained: Whether fresh seeds were trained at vertices of the cell.
        reading: `VALIDATION` or `EQUAL_TEST_R2`.
    """

    cell: tuple[Any, ...]
    method: str
    baseline: str
    score: str
    front_of: str
    method_front: _Front
    baseline_front: _Front
    reach: float
    best_r2: float
    retrained: bool
    rule: FrontRule
    reading: str

    def rows(self) -> Iterator[Effect]:
        """Yield a row for each width and seed, or one that says why there is none."""
        widths = self.rule.widths
        if self.score not in ENDPOINTS:
            widths = widths[:1]
        problem = self.problem()
        for width in widths:
            if problem is not None:
                yield self.row(width, status=problem)
            else:
                yield from self.rows_of_width(width)

    def rows_of_width(self, width: float) -> Iterator[Effect]:
        """Yield a row for each seed with an effect, or one that says why none has."""
        seeds = self.seeds(width)
        if not seeds:
            yield self.row(width, status="seeds missing")
            return

        effects = [self.effect_with(width, seed) for seed in seeds]
        measured = [effect for effect in effects if not isnan(effect.effect)]
        if measured:
            for effect in measured:
                yield dataclasses.replace(effect, seeds=len(measured))
        elif all(effect.lost for effect in effects):
            # With every seed a vertex diverged.
            yield self.row(width, status="diverged", lost=effects[0].lost)
        else:
            yield self.row(width, status="not measured")

    def problem(self) -> str | None:
        if not len(self.baseline_front.r2):
            return "baseline infeasible"
        if not len(self.method_front.r2):
            return "infeasible"
        if self.reach < self.floor - TOLERANCE:
            return "out of reach"
        return None

    @property
    def floor(self) -> float:
        """The R^2 of the baseline's vertex of highest score, NaN if it has none."""
        r2 = self.baseline_front.r2
        return float(r2[-1]) if len(r2) else nan

    def row(self, width: float, **about: Any) -> Effect:
        """Return a row with what is known before any seed is read."""
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
            floor=self.floor,
            shortfall=_positive_part(self.best_r2 - self.reach),
            gain=_positive_part(self.reach - self.best_r2),
            below_floor=self.reach < self.floor,
            **about,
        )

    def seeds(self, width: float) -> list[int]:
        """Return the seeds that are read: both fronts have them at their vertices."""
        # Where both fronts are read by validation, if no vertex diverged.
        window = Window(self.best_r2 - width, self.best_r2, self.floor, self.reach)
        seeds_by_front = []
        for side in (self.method_front, self.baseline_front):
            # A vertex that weighs nothing in the window does not count.
            weighing_places = np.flatnonzero(front.weights(side.r2, window) > 0)
            seeds_by_vertex = (set(side.scores[place]) for place in weighing_places)
            seeds_by_front.append(set.intersection(*seeds_by_vertex))
        common_seeds = set.intersection(*seeds_by_front)

        tuning = self.rule.tuning
        if tuning is None:
            return sorted(common_seeds)
        # Other scores are read with the seed of the tuning alone.
        if self.front_of not in ENDPOINTS:
            return sorted(common_seeds & {tuning})
        fresh_by_front = [seeds - {tuning} for seeds in seeds_by_front]
        if all(fresh_by_front):
            return sorted(set.intersection(*fresh_by_front))
        if self.retrained:
            return []
        return sorted(common_seeds & {tuning})

    def effect_with(self, width: float, seed: int) -> Effect:
        """Read both fronts with one seed; NaN where these cannot be compared."""
        lost = [
            side.trials[place]
            for side in (self.method_front, self.baseline_front)
            for place in side.diverged(seed)
        ]
        fresh = self.rule.tuning is not None and seed != self.rule.tuning
        row = self.row(width, status="ok", seed=seed, lost="; ".join(lost), fresh=fresh)

        of_method = self.with_seed(self.method_front, seed)
        of_baseline = self.with_seed(self.baseline_front, seed)
        if not of_method.trials or not of_baseline.trials:
            return row
        # Where a vertex diverged, each front is read as far as both still reach.
        window = self.window_of_seed(width, seed, of_method, of_baseline)
        if window.reach < window.floor - TOLERANCE:
            return row

        score, r2, vertices = self.mean(of_method, window, seed)
        baseline_score, baseline_r2, baseline_vertices = self.mean(
            of_baseline, window, seed
        )
        better = SCORES[self.score].better
        return dataclasses.replace(
            row,
            effect=better * (score - baseline_score),
            level=baseline_score,
            r2_difference=r2 - baseline_r2,
            vertices=vertices,
            baseline_vertices=baseline_vertices,
        )

    def with_seed(self, side: _Front, seed: int) -> _Front:
        """Return a front as it stands with a seed, without vertices that diverged."""
        front_of_seed = side.at(
            place for place, scores in enumerate(side.scores) if scores.get(seed)
        )
        if self.reading == VALIDATION:
            return front_of_seed
        test_r2 = np.array([scores[seed]["r2"] for scores in front_of_seed.scores])
        order = np.argsort(-test_r2, kind="stable")
        return front_of_seed._replace(r2=test_r2).at(order)

    def window_of_seed(
        self,
        width: float,
        seed: int,
        of_method: _Front,
        of_baseline: _Front,
    ) -> Window:
        reach = float(min(of_method.r2[0], of_baseline.r2[0]))
        if self.reading == VALIDATION:
            baseline_r2 = self.baseline_front.r2
            diverged = self.baseline_front.diverged(seed)
            floor = min(
                float(baseline_r2[place])
                for place in range(len(baseline_r2))
                if place not in diverged
            )
            best_r2 = self.best_r2
        else:
            # Of the baseline's vertices the last one has the highest score on
            # validation.
            in_order = self.baseline_front.trials
            highest = max(of_baseline.trials, key=in_order.index)
            floor = float(of_baseline.r2[of_baseline.trials.index(highest)])
            best_r2 = float(of_baseline.r2[0])
        return Window(best_r2 - width, best_r2, floor, reach)

    def mean(self, side: _Front, window: Window, seed: int) -> tuple[float, float, str]:
        """Return the means of score and R^2 over a window, and "trial: weight; ..."."""
        score = 0.0
        r2 = 0.0
        texts = []
        weights = front.weights(side.r2, window)
        for trial, scores, weight in zip(
            side.trials, side.scores, weights, strict=True
        ):
            # A vertex that weighs nothing may lack the score.
            if weight > 0:
                score += float(weight) * scores[seed][self.score]
                r2 += float(weight) * scores[seed]["r2"]
                texts.append(f"{trial}: {weight:.3f}")
        return score, r2, "; ".join(texts)


def _positive_part(value: float) -> float:
    return nan if isnan(value) else max(0.0, value)


def _comparable_pairs(
    cell: tuple[Any, ...],
    trials: pd.DataFrame,
    tests: TestScores,
    against: Mapping[str, str | None],
    rule: FrontRule,
    reading: str,
) -> Iterator[_FrontPair]:
    """Yield each method's front with its baseline's, for each score of a cell."""
    methods = {
        str(method): rows
        for method, rows in trials.groupby("method", sort=False)
        if method in against
    }
    measured = [score for score in OWN_FRONTS if trials[score].notna().any()]
    fronts = {}
    for method, score in itertools.product(methods, measured):
        vertices = front.vertices(methods[method], score, SCORES[score].better)
        keys_of_vertices = vertices[TRIAL].itertuples(index=False, name=None)
        fronts[method, score] = _Front(
            r2=vertices["r2"].to_numpy(float),
            trials=[*vertices["trial"]],
            scores=[tests.get(key, {}) for key in keys_of_vertices],
        )
    reach = {method: front.reach(rows) for method, rows in methods.items()}

    keys = trials[TRIAL].itertuples(index=False, name=None)
    trained_seeds = {seed for key in keys for seed in tests.get(key, ())}
    retrained = rule.tuning is not None and trained_seeds > {rule.tuning}

    # Each score, and the score whose fronts it is read at.
    scores = [(score, score) for score in measured]
    endpoints = [score for score in ENDPOINTS if score in measured]
    if endpoints:
        scores += [(score, endpoints[0]) for score in CHOSEN_ONLY]
    for method, (score, front_of) in itertools.product(methods, scores):
        baseline = root(method, against)
        if baseline == method or baseline not in methods:
            continue
        yield _FrontPair(
            cell=cell,
            method=method,
            baseline=baseline,
            score=score,
            front_of=front_of,
            method_front=fronts[method, front_of],
            baseline_front=fronts[baseline, front_of],
            reach=reach[method],
            best_r2=reach[baseline],
            retrained=retrained,
            rule=rule,
            reading=reading,
        )

"""How methods compare that have several trials a cell: by the fronts of R^2 and a score.

In a cell (dataset, backbone, k), all choices being made on validation and training images:

- A trial is *feasible* if it ended well, its L0 is at most `l0` k, and a share `firing` of its latents fires on the
  training images.
- R* is the best R^2 of the baseline's feasible trials, the *reach* of a method that of its own.
- The *front* of a method is the upper concave hull of (R^2, score) of its feasible trials (`sae.scoring.front`).
- The *effect* of a method at width w is the mean over r in [R* - w, R*] of its front minus the baseline's, both read at
  min(r, reach, R*), and both on test: at the vertices and weights that validation gave. It is the vertical distance of
  two rate-distortion curves (Bjontegaard 2001). Where fresh seeds were trained at the vertices, they alone are read;
  one that diverged takes its vertex out.
- Beside it stand the *shortfall* max(0, R* - reach), the *gain* max(0, reach - R*), and the difference in test R^2 at
  the same weights. What was not measured has no number.
- The *strict* form compares at equal test R^2: the window ends at the best test R^2 of the baseline's vertices, and the
  weights are those at which the same vertices, by their test R^2, reach each R^2 of it.

Any experiment whose methods have several trials has fronts; no protocol is needed.
"""

import itertools
import math
from collections.abc import Iterator, Mapping
from typing import Annotated, Any

import numpy as np
import pandas as pd
from pydantic import Field

from sae.comparison.scores import ENDPOINTS, READ, values
from sae.core.options import Options, Share
from sae.scoring import front
from sae.scoring.rows import CELL

TRIAL = [*CELL, "method", "trial"]
COLUMNS = [
    *CELL,
    "method",
    "score",
    "width",
    "status",
    "effect",
    "level",
    "star",
    "reach",
    "shortfall",
    "gain",
]
COLUMNS += [
    "r2_difference",
    "seeds",
    "fresh",
    "vertices",
    "baseline",
    "baseline_vertices",
    "lost",
]
# {(cell, method, trial): {seed: {score, r2, ok}}}, on test.
Tests = dict[tuple[Any, ...], dict[int, dict[str, Any]]]


class Rule(Options):
    """What is feasible, and where fronts are read.

    Attributes:
        l0: L0 on validation, as a multiple of k, at most.
        firing: share of the latents that fire on training images, at least.
        widths: of the windows below R*; the first is the headline.
        tuning: the seed of the trials, where others were trained for vertices alone.
        tuned: options that a trial has to say to count, such as those that find a cell's length do not.
    """

    l0: Annotated[float, Field(ge=1)] = 1.02
    firing: Annotated[float, Field(ge=0, le=1)] = 0.9
    widths: list[Share] = Field(default=[0.01, 0.005, 0.02])
    tuning: int | None = None
    tuned: list[str] = Field(default=[])

    @property
    def protocol(self) -> str | None:
        """The one whose SAEs alone stand on fronts, where it trains seeds for them; None: those of all."""
        return None if self.tuning is None else "fair"


def points(metrics: pd.DataFrame, rule: Rule) -> pd.DataFrame:
    """The trials of each method, by what validation says of them.

    Args:
        metrics: tidy metrics, MS across groups where a dataset has groups.

    Returns:
        A row per cell, method and trial, means over its seeds: `r2`, the scores of `READ` that validation has, `l0`,
        `firing`, `ok`, `feasible`. What was not measured keeps no trial from being feasible.
    """
    rows = metrics[metrics["split"] == "val"]
    rows = rows if rule.tuning is None else rows[rows["seed"] == rule.tuning]
    counts = [
        all(f"-{name}" in f"-{trial}" for name in rule.tuned) for trial in rows["trial"]
    ]
    rows = rows.loc[np.array(counts, dtype=bool)]
    r2, l0, dead, m = (values(rows, name) for name in ("r2", "l0", "dead_train", "m"))
    of = {name: score.of(rows) for name, score in READ.items()}
    found = rows[TRIAL].assign(
        r2=r2, l0=l0, firing=1 - dead / m, ok=rows["status"] == "ok", **of
    )
    # A trial of which a seed diverged ended badly.
    found = (
        found.groupby(TRIAL, sort=False)
        .agg(lambda column: column.mean(skipna=False))
        .reset_index()
    )
    found["ok"] = (found["ok"] == 1) & found["r2"].notna()
    within = ~(found["l0"] > rule.l0 * found["k"]) & ~(found["firing"] < rule.firing)
    return found.assign(feasible=found["ok"] & within)


def vertices(points: pd.DataFrame, score: str) -> pd.DataFrame:
    """The rows of :func:`points` of one cell and method that are vertices of its front, by falling R^2."""
    rows = points[points["feasible"] & points[score].notna()]
    return rows.iloc[
        front.hull(
            rows["r2"].to_numpy(float), READ[score].better * rows[score].to_numpy(float)
        )
    ]


def effects(
    metrics: pd.DataFrame,
    against: Mapping[str, str | None],
    rule: Rule,
    *,
    strict: bool = False,
) -> pd.DataFrame:
    """Every method's effect, in every cell, for every score and width.

    Args:
        metrics: as :func:`points` takes it.
        against: {method: the method that it is compared with, or None of a baseline}; others are left out.
        strict: whether at equal test R^2.

    Returns:
        Columns `COLUMNS`; a row per cell, method, score, width and seed that was read (`seed`). `status`: 'ok', or
        'infeasible' of a method without a feasible trial, or of a baseline, 'diverged' where no seed is left of one of
        them, 'seeds missing' where vertices lack the fresh seeds that others of the cell have; these have no numbers.
        The effect's sign: more is better. `level`: the baseline's score there. `fresh`: whether seeds of their own were
        read. `vertices`: 'trial: weight; ...' of the method, `baseline_vertices` of the baseline, without those that
        weigh nothing. `lost`: vertices that diverged with that seed.
    """
    read = _tests(metrics)
    tried = points(metrics, rule)
    rows = list[dict[str, Any]]()
    for cell, of_cell in tried[tried["method"].isin(list(against))].groupby(
        CELL, sort=False
    ):
        rows += _of_cell(
            dict(zip(CELL, cell, strict=True)), of_cell, read, against, rule, strict
        )
    return pd.DataFrame(rows, columns=[*COLUMNS, "seed"])


def sensitivity(
    metrics: pd.DataFrame, against: Mapping[str, str | None], rule: Rule
) -> Iterator[tuple[str, pd.DataFrame]]:
    """What is else, and the :func:`effects` then, at the headline's width.

    With another bound other trials are vertices, which have no fresh seeds: all are read with the seed of the tuning.
    """
    rule = rule.model_copy(update={"widths": rule.widths[:1]})
    yield "equal test R2", effects(metrics, against, rule, strict=True)
    tuned = metrics if rule.tuning is None else metrics[metrics["seed"] == rule.tuning]
    for firing in (rule.firing, 0.95, 0.0):
        other = effects(tuned, against, rule.model_copy(update={"firing": firing}))
        yield f"{firing:.0%} of latents must fire", other


def _tests(metrics: pd.DataFrame) -> Tests:
    rows, found = metrics[metrics["split"] == "test"], Tests()
    scores = pd.DataFrame({name: score.of(rows) for name, score in READ.items()})
    every = scores.assign(r2=values(rows, "r2"), ok=rows["status"] == "ok").to_dict(
        "records"
    )
    for *trial, seed, of in zip(
        *(rows[name] for name in (*TRIAL, "seed")), every, strict=True
    ):
        found.setdefault(tuple(trial), {})[int(seed)] = of
    return found


def root(method: str, against: Mapping[str, str | None]) -> str:
    """The baseline at the end of a method's chain of `against`."""
    while (other := against.get(method)) is not None:
        method = other
    return method


def of_rule(metrics: pd.DataFrame, rule: Rule) -> pd.DataFrame:
    """The metrics of which fronts are made."""
    return (
        metrics
        if rule.protocol is None
        else metrics[metrics["protocol"] == rule.protocol]
    )


def _of_cell(
    cell: dict[str, Any],
    tried: pd.DataFrame,
    tests: Tests,
    against: Mapping[str, str | None],
    rule: Rule,
    strict: bool,
) -> Iterator[dict[str, Any]]:
    by_method = {
        str(method): rows for method, rows in tried.groupby("method", sort=False)
    }
    fronts = {
        (m, name): vertices(rows, name)
        for m, rows in by_method.items()
        for name in ENDPOINTS
    }
    trained = {
        seed
        for key in tried[TRIAL].itertuples(index=False, name=None)
        for seed in tests.get(key, ())
    }
    retrained = rule.tuning is not None and trained > {rule.tuning}
    for method, name, width in itertools.product(by_method, READ, rule.widths):
        # A score that is no endpoint is read at the vertices of one.
        hull, base = name if name in ENDPOINTS else READ[name].at, root(method, against)
        if base == method or (base, hull) not in fronts:
            continue
        own, theirs = fronts[method, hull], fronts[base, hull]
        row = cell | {"method": method, "score": name, "width": width, "baseline": base}
        if theirs.empty or own.empty:
            if tried[name].notna().any():
                yield row | {
                    "status": "infeasible",
                    "star": theirs["r2"].max(),
                    "reach": own["r2"].max(),
                    "seeds": 0,
                }
            continue
        star, reach = float(theirs["r2"].iloc[0]), float(own["r2"].iloc[0])
        row |= {
            "star": star,
            "reach": reach,
            "shortfall": max(0.0, star - reach),
            "gain": max(0.0, reach - star),
        }
        both = [
            _Side(tests, side, name, (star - width, star, reach), rule, strict)
            for side in (own, theirs)
        ]
        common = [seed for seed in both[0].seeds if seed in both[1].seeds]
        if not common or (retrained and not (both[0].fresh and both[1].fresh)):
            yield row | {"status": "seeds missing", "seeds": 0}
            continue
        found = [_of_seed(both, seed, star, width) for seed in common]
        read = [of for of in found if not math.isnan(of["effect"])]
        for of in read:
            yield row | {"status": "ok", "seeds": len(read)} | of
        if not read and all(
            of["lost"] for of in found
        ):  # What stood on the front diverged in every seed.
            yield row | {"status": "diverged", "seeds": 0, "lost": found[0]["lost"]}


class _Side:
    """A front as test reads it.

    Attributes:
        strict: whether by the vertices' test R^2.
        seeds: those of which every vertex with weight in the window has an SAE; those of their own, if there are any.
    """

    def __init__(
        self,
        tests: Tests,
        side: pd.DataFrame,
        name: str,
        window: tuple[float, float, float],
        rule: Rule,
        strict: bool,
    ) -> None:
        self._r2, self._trials, self._name, self.strict = (
            side["r2"].to_numpy(float),
            [*side["trial"]],
            name,
            strict,
        )
        self._of = [
            tests.get(key, {}) for key in side[TRIAL].itertuples(index=False, name=None)
        ]
        self._needed = [
            n for n, weight in enumerate(front.weights(self._r2, *window)) if weight > 0
        ]
        common = set.intersection(*(set(self._of[n]) for n in self._needed))
        self.fresh = bool(rule.tuning is not None and common - {rule.tuning})
        self.seeds = sorted(common - {rule.tuning} if self.fresh else common)

    def lost(self, seed: int) -> list[str]:
        """The trials of the vertices with weight that diverged with a seed."""
        return [self._trials[n] for n in self._needed if not self._of[n][seed]["ok"]]

    def _by_r2(self, seed: int) -> tuple[list[int], np.ndarray]:
        """The vertices that did not diverge and their R^2, which falls."""
        left = [
            n for n, seeds in enumerate(self._of) if seed in seeds and seeds[seed]["ok"]
        ]
        r2 = (
            np.array([self._of[n][seed]["r2"] for n in left])
            if self.strict
            else self._r2[left]
        )
        order = np.argsort(-r2, kind="stable")
        return [left[n] for n in order], r2[order]

    def best(self, seed: int) -> float:
        """The R^2 that it reaches with a seed."""
        return float(self._by_r2(seed)[1].max(initial=-math.inf))

    def read(
        self, seed: int, window: tuple[float, float], at_most: float
    ) -> tuple[float, float, str]:
        """Score and R^2 on test, and the weights in words."""
        left, r2 = self._by_r2(seed)
        heavy = [
            (n, float(w))
            for n, w in zip(left, front.weights(r2, *window, at_most), strict=True)
            if w > 0
        ]
        value, test = (
            sum(weight * self._of[n][seed][what] for n, weight in heavy)
            for what in (self._name, "r2")
        )
        return (
            value,
            test,
            "; ".join(f"{self._trials[n]}: {weight:.3f}" for n, weight in heavy),
        )


def _of_seed(both: list[_Side], seed: int, star: float, width: float) -> dict[str, Any]:
    """The effect with one seed; where a vertex diverged, both sides are read as far as both still reach."""
    lost = "; ".join(trial for side in both for trial in side.lost(seed))
    at_most = min(side.best(seed) for side in both)
    row = {
        "seed": seed,
        "lost": lost,
        "effect": math.nan,
        "fresh": both[0].fresh and both[1].fresh,
    }
    if at_most == -math.inf:
        return row
    star = both[1].best(seed) if both[1].strict else star
    window = (star - width, star)
    (ours, r2, said), (theirs, their_r2, theirs_said) = (
        side.read(seed, window, at_most) for side in both
    )
    row |= {
        "effect": READ[both[0]._name].better * (ours - theirs),
        "level": theirs,
        "r2_difference": r2 - their_r2,
    }
    return row | {"vertices": said, "baseline_vertices": theirs_said}


def by_cell(effects: pd.DataFrame) -> pd.DataFrame:
    """The rows of :func:`effects`, means over seeds: `COLUMNS`, a row per cell, method, score and width."""
    keys = [*CELL, "method", "score", "width"]
    of: dict[str, Any] = dict.fromkeys(COLUMNS, "first") | dict.fromkeys(
        ("effect", "level", "r2_difference"), "mean"
    )
    of["lost"] = lambda lost: "; ".join(sorted(set(filter(None, lost.fillna("")))))
    grouped = effects.groupby(keys, sort=False, dropna=False)
    return grouped.agg(
        {name: of[name] for name in COLUMNS if name not in keys}
    ).reset_index()[COLUMNS]

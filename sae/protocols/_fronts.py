"""The rule of fronts: the vertices of a method's fronts are chosen, with fresh seeds.

A method has a front of R^2 and each score on validation, of its feasible trials
(`sae.scoring.front`). Every vertex that weighs anything in a window below R*, the best
R^2 of the baseline, trains with fresh seeds; of the baseline also those that weigh
where a method reaches no further. By these alone a method is compared. `at` methods
train at the vertex that weighs most in the first window.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from sae.bank.plan import Plan
from sae.bank.sae import Sae
from sae.core.errors import UserError
from sae.protocols._history import Choice, History, Rounds
from sae.scoring import front
from sae.scoring.front import DETECTION, MS, Window

if TYPE_CHECKING:
    import pandas as pd

# The scores whose fronts say what is chosen. Detection is measured where a backbone of
# another family sees the images.
FRONT_SCORES = (MS, DETECTION)
# How many vertices costs reckon a method to have on both fronts: the most ever seen.
EXPECTED_VERTICES = 6


def choose_vertices(
    history: History,
    members_by_method: Mapping[str, list[Sae]],
    facts: Mapping[str, Any],
    protocol: str,
) -> Rounds[Choice]:
    """Train the vertices of fronts with fresh seeds, and choose them.

    Chosen are more than the rows name: of the baseline also the vertices where a method
    reaches less.

    Args:
        history: Of the cell. Of the options `fresh`, `widths`, `l0` and `firing` are
            read.
        members_by_method: {method: its trials}, all of them trained.
        facts: What the design found out about the cell; each row says it.
        protocol: Its name.

    Raises:
        UserError: No trial of a baseline is feasible.
    """
    fronts = _find_fronts(history, members_by_method)
    chosen = _vertex_members(fronts, protocol)
    yield chosen
    return Choice(
        _vertex_rows(fronts, facts),
        {member.table_key for member in chosen},
        dict(facts),
    )


def count_vertices(plan: Plan, seed_count: int) -> dict[str, int]:
    """Return {method: how many SAEs are chosen}, with as many vertices as expected.

    An `at` method trains at one of them.
    """
    counts = dict.fromkeys(plan.tuned, seed_count * EXPECTED_VERTICES)
    for method in plan.tuned:
        counts.update(dict.fromkeys(plan.at(method), seed_count))
    return counts


@dataclass(frozen=True)
class _Fronts:
    """The fronts of a cell's methods on validation.

    Attributes:
        history: Of the cell.
        trials: {method: the rows of its trials}, with the columns of
            :func:`score_trials`.
        vertices: {(method, score): the rows that are vertices of its front}, of the
            scores that are measured.
    """

    history: History
    trials: dict[str, pd.DataFrame]
    vertices: dict[tuple[str, str], pd.DataFrame]

    def reach(self, method: str) -> float:
        """Return the best R^2 of a method's feasible trials; NaN if it has none."""
        return front.reach(self.trials[method])

    def best_r2(self, method: str) -> float:
        """Return R*: the reach of the baseline at the end of a method's `against`.

        Raises:
            UserError: the baseline has no feasible trial.
        """
        plan = self.history.plan
        options = self.history.options
        baseline = plan.root(method)
        best_r2 = self.reach(baseline)
        if math.isnan(best_r2):
            raise UserError(
                f"{plan.cell}: no trial of {baseline} is feasible under protocol fair "
                f"(L0 at most {options.l0:g} k, and {options.firing:.0%} of the "
                "latents or more fire on training images): its values of lr "
                "and auxk_alpha do not fit this cell"
            )
        return best_r2

    def windows(self, method: str, score: str) -> list[Window]:
        """Return the windows in which a front is read; the headline's is the first.

        A baseline is also read at the R^2 where it and the methods that are compared
        with it end.
        """
        best_r2 = self.best_r2(method)
        reaches = [math.inf]
        for (other_method, other_score), vertices in self.vertices.items():
            # Nothing but a baseline stands at the end of an `against`.
            is_its_baseline = self.history.plan.root(other_method) == method
            if is_its_baseline and other_score == score and not vertices.empty:
                reaches.append(self.reach(other_method))
        return [
            Window(best_r2 - width, best_r2, reach=reach)
            for reach in reaches
            for width in self.history.options.widths
        ]


def _find_fronts(
    history: History, members_by_method: Mapping[str, list[Sae]]
) -> _Fronts:
    trials = {
        method: score_trials(history, members)
        for method, members in members_by_method.items()
    }
    # Detection is missing where no backbone of another family sees the images.
    measured_scores: tuple[str, ...] = (MS,)
    if any(of_method[DETECTION].notna().any() for of_method in trials.values()):
        measured_scores = FRONT_SCORES
    vertices = {
        (method, score): front.vertices(of_method, score)
        for method, of_method in trials.items()
        for score in measured_scores
    }
    return _Fronts(history, trials, vertices)


def _vertex_members(fronts: _Fronts, protocol: str) -> list[Sae]:
    """Return what is trained with fresh seeds, and chosen."""
    # These are the vertices of each front that weigh anything in one of its windows. A
    # method that is `at` another one trains at the vertex of that one's front of MS
    # that weighs most in the headline's window.
    plan = fronts.history.plan
    members: list[Sae] = []
    for (method, score), vertices in fronts.vertices.items():
        windows = fronts.windows(method, score)
        if vertices.empty:
            continue

        r2 = vertices["r2"].to_numpy(float)
        weights = [front.weights(r2, window) for window in windows]
        weighing_trials = vertices["options"][np.sum(weights, axis=0) > 0]
        heaviest_trial = vertices["options"].iloc[int(np.argmax(weights[0]))]
        for seed in fronts.history.options.fresh:
            for trial in weighing_trials:
                members.append(plan.member(method, trial, seed, protocol))
            if score == MS:
                for at_method in plan.at(method):
                    members.append(
                        plan.member(at_method, heaviest_trial, seed, protocol)
                    )
    return members


def _vertex_rows(fronts: _Fronts, facts: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return what selection.parquet says of the fronts."""
    # A row for each method, score, window and vertex with weight in it; or one for a
    # method and score without a vertex.
    rows: list[dict[str, Any]] = []
    for (method, score), vertices in fronts.vertices.items():
        best_r2 = fronts.best_r2(method)
        front_columns = {
            "method": method,
            "seed": None,
            "score": score,
            "bar": best_r2,
            **facts,
        }
        if vertices.empty:
            no_vertex = {"trial": None, "role": None, "status": "infeasible"}
            rows.append({**front_columns, **no_vertex})
            continue

        columns = ["trial", "r2", *FRONT_SCORES, "l0", "firing"]
        vertex_records = vertices[columns].to_dict("records")
        for width in fronts.history.options.widths:
            window = Window(best_r2 - width, best_r2)
            weights = front.weights(vertices["r2"].to_numpy(float), window).tolist()
            for vertex, weight in zip(vertex_records, weights, strict=True):
                if weight > 0:
                    row = {
                        **front_columns,
                        "width": width,
                        "weight": weight,
                        "reach": fronts.reach(method),
                        **vertex,
                        "role": "vertex",
                        "status": "chosen",
                    }
                    rows.append(row)
    return rows


def score_trials(history: History, members: list[Sae]) -> pd.DataFrame:
    """Return what the rule reads on validation, a row for each trained SAE.

    Its columns are trial (its name), options (a dict), status, k, r2, l0, firing (the
    share of latents that fires on training images), feasible, and each score of
    `FRONT_SCORES`.
    """
    rows = history.rows_of(members)
    ms = "ms_mean_alive"
    # Where all diverged there are no columns of scores: they become NaN.
    names = ["r2", "l0", "dead_train", "m", ms, f"{ms}_across_groups", DETECTION]
    numbers = rows.reindex(columns=names).astype(float)
    options_by_name = {member.name: member.trial for member in members}
    trials = numbers[["r2", "l0"]].assign(
        trial=rows["trial"],
        options=rows["trial"].map(options_by_name),
        status=rows["status"],
        k=history.plan.k,
        firing=1 - numbers["dead_train"] / numbers["m"],
    )
    # Across groups, where the images of the cell have groups.
    trials[MS] = numbers[f"{ms}_across_groups"].fillna(numbers[ms])
    trials[DETECTION] = numbers[DETECTION]
    return trials.assign(feasible=front.feasible(trials, history.options))

"""Tune every method in a number of trials, and choose the best that reconstructs as well.

1. Every trial trains with one seed, `tuning`. Which trials there are says the design:

   - `points` is left out: those of the methods' sweeps, and what `trials` adds;
   - `points` is a number: so many points, drawn from the ranges of lr, encoder_scale
     and auxk_alpha, which are the same for every method, and from a method's own
     `ranges`;
   - `points` is a list: every method trains at each of them, with each of its
     `own_values`. A method with own values skips points that are `alone`: these give
     the others, such as Top-k, as many trials.

2. `sae.scoring.choice` chooses one trial of each method, on validation images.
3. It trains again with the `fresh` seeds. A fresh seed that diverges, or whose L0 is
   above the bound on validation, leaves the method without a choice in the cell.

Controls are not tuned: they train with the fresh seeds, unless protocol `paper` of the
same experiment has them. docs/protocol.md says what rests on this.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from math import isnan
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import (
    AfterValidator,
    Discriminator,
    Field,
    Tag,
    ValidationInfo,
    field_validator,
)

from sae.bank.plan import Plan
from sae.bank.sae import Sae
from sae.config.protocol_use import ProtocolUse
from sae.core.errors import Problem, UserError
from sae.core.options import (
    Count,
    Grid,
    OfOptions,
    Positive,
    Range,
    Ranges,
    Seed,
    by_list,
    distinct,
)
from sae.core.options import Options as Base
from sae.protocols import _draws, _lists
from sae.protocols._history import Choice, History, Rounds, Sizes, asked, outcome
from sae.scoring import choice
from sae.scoring.choice import DETECTION

if TYPE_CHECKING:
    import pandas as pd

VERSION = 1
METRICS = ("reconstruction", "detection")
NAME = "tuned"
# The options that every method has, in the order of the Sobol sequence's dimensions.
COMMON = ("lr", "encoder_scale", "auxk_alpha")


class PointOptions(Base):
    """A listed point: options that every method has, to three significant digits."""

    lr: Positive
    encoder_scale: Positive
    auxk_alpha: Positive
    alone: bool = False
    """Whether only methods without own options train there."""

    @property
    def common(self) -> dict[str, float]:
        """{option: value} of the options that every method has."""
        return {name: float(f"{getattr(self, name):.3g}") for name in COMMON}


class Options(Base):
    """The trials of each method, and the seeds."""

    points: (
        Annotated[
            Annotated[Count, Field(le=10_000), Tag("number")]
            | Annotated[list[PointOptions], Field(min_length=1), Tag("list")],
            Discriminator(by_list),
        ]
        | None
    ) = Field(
        None,
        description="How many points are drawn, or a list of points; left out, the "
        "trials are those of the methods' sweeps.",
    )
    trials: dict[str, list[dict[str, Any]]] = Field(
        {},
        description="{method: further trials beside its sweep}, {option: value} each.",
    )
    lr: Range = Field([0.0003, 0.01])
    """[lowest, highest] learning rate of points that are drawn, evenly in the logarithm."""
    encoder_scale: Range = Field([0.03, 1.0])
    """The same of the encoder's first scale."""
    auxk_alpha: Range = Field([0.03, 1.0])
    """The same of AuxK's weight."""
    ranges: dict[str, Ranges] = Field(
        {},
        description="By method, where points are drawn: the ranges of its own options, "
        "[lowest, highest] or {k8: [lowest, highest], ...}.",
    )
    own_values: dict[str, OfOptions[Grid]] = Field(
        {},
        description="By method, where points are listed: values of its own options, a "
        "list or {k8: a list, ...}; each is tried at every point that is not alone.",
    )
    design_seed: Seed = 0
    """The seed of what is drawn."""
    tuning: Seed = 0
    """The seed of every trial."""
    fresh: Annotated[list[Seed], Field(min_length=1), AfterValidator(distinct)] = Field(
        [3, 4, 5]
    )
    """The seeds with which the chosen trial trains again, and which are scored."""

    @field_validator("points")
    @classmethod
    def _check_no_point_twice(
        cls, points: int | list[PointOptions] | None
    ) -> int | list[PointOptions] | None:
        if not isinstance(points, list):
            return points
        seen_points = []
        for point in points:
            if point.common in seen_points:
                values = [f"{name} {value:g}" for name, value in point.common.items()]
                raise ValueError(f"{', '.join(values)} is there twice; leave one out")
            seen_points.append(point.common)
        return points

    @field_validator("fresh")
    @classmethod
    def _check_not_tuned_on(cls, seeds: list[int], info: ValidationInfo) -> list[int]:
        tuning_seed = info.data.get("tuning")
        if tuning_seed in seeds:
            raise ValueError(
                f"{tuning_seed} is the seed of `tuning` too; "
                "what is scored must not be tuned on"
            )
        return seeds


def next(history: History) -> list[Sae]:
    """Return every trial and control; then the chosen trials with the fresh seeds.

    Raises:
        UserError: No trial of a baseline is feasible.
    """
    return asked(_rounds(history), history)


def choose(history: History) -> Choice:
    """Say what validation says of every trial, and which one is chosen."""
    return outcome(_rounds(history))


def at_most(plan: Plan, options: Options) -> Sizes:
    """Count the SAEs of a cell: its trials, and later one a method and fresh seed."""
    trial_counts = Counter(
        {
            method: len(
                [
                    trial
                    for trial in trials
                    if not _paper_has(plan, method, trial, options)
                ]
            )
            for method, trials in _trials_by_method(plan, options).items()
        }
    )
    trial_counts.update(Counter(sae.method for sae in _controls(plan, options)))
    fresh_counts = dict.fromkeys(plan.tuned, len(options.fresh))
    by_method = Counter(trial_counts)
    by_method.update(fresh_counts)
    controls = trial_counts.total() - sum(trial_counts[name] for name in plan.tuned)
    return Sizes(
        trials=trial_counts.total(),
        after=sum(fresh_counts.values()),
        by_method=dict(by_method),
        chosen=sum(fresh_counts.values()) + controls,
    )


def config_problems(use: ProtocolUse, options: Options) -> Iterator[Problem]:
    """Yield what is wrong with an experiment that is to be tuned.

    It needs a baseline, and a range or values of every option of a method's own.
    """
    if all(method.against for method in use.methods.values()):
        yield Problem(
            "",
            "no method of this experiment is a baseline, compared with no other one; "
            "add one",
        )
    if options.points is None:
        yield from _lists.trial_problems(use, options.trials)
        unread = {"ranges", "own_values"}
    else:
        if use.recipe["tied"]:
            yield Problem(
                "",
                f"training.{use.recipe_name} is tied: its encoder has no scale of its "
                "own to tune",
            )
        if isinstance(options.points, int):
            yield from _draws.draw_problems(use, options, COMMON)
            unread = {"own_values", "trials"}
        else:
            yield from _lists.point_problems(use, options)
            unread = {"ranges", "trials"}
    for name in sorted(unread & set(use.written_options)):
        yield Problem(name, _UNREAD[name])


_UNREAD = {
    "ranges": "it is for points that are drawn; let `points` be a number",
    "own_values": "it is for points that are listed; let `points` be a list",
    "trials": "it is for trials beside the sweeps; leave `points` out",
}


def _trials_by_method(plan: Plan, options: Options) -> dict[str, list[dict[str, Any]]]:
    """Return the trials of each tuned method, each once."""
    if isinstance(options.points, int):
        box = {name: getattr(options, name) for name in COMMON}
        return _draws.drawn_trials(plan, options, box)
    if options.points is not None:
        return {
            method: _lists.trials_of_points(options, method, plan.k)
            for method in plan.tuned
        }
    return {
        method: _distinct(
            [*plan.methods[method].trials(), *options.trials.get(method, [])]
        )
        for method in plan.tuned
    }


def _distinct(trials: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [trial for place, trial in enumerate(trials) if trial not in trials[:place]]


def _paper_has(
    plan: Plan, method: str, trial: dict[str, Any], options: Options
) -> bool:
    """Say whether protocol `paper` of the same cell trains a trial with the same seed."""
    in_sweep = trial in plan.methods[method].trials()
    return "paper" in plan.protocols and options.tuning in plan.seeds and in_sweep


def _controls(plan: Plan, options: Options) -> list[Sae]:
    """Return what is not tuned: controls with the fresh seeds, imported SAEs once."""
    if "paper" in plan.protocols:
        return []
    return [
        plan.member(name, {}, seed, NAME)
        for name, method in plan.methods.items()
        if method.control or method.imported
        for seed in (options.fresh[:1] if method.imported else options.fresh)
    ]


def _rounds(history: History) -> Rounds[Choice]:
    plan = history.plan
    options = history.options
    members_by_method = {
        method: [plan.member(method, trial, options.tuning, NAME) for trial in trials]
        for method, trials in _trials_by_method(plan, options).items()
    }
    controls = _controls(plan, options)
    tuned = [member for members in members_by_method.values() for member in members]
    yield [*tuned, *controls]

    trials = {
        method: read_validation(history, members)
        for method, members in members_by_method.items()
    }
    chosen = _chosen_trials(plan, trials)
    fresh = {
        method: [
            plan.member(method, row["options"], seed, NAME) for seed in options.fresh
        ]
        for method, row in chosen.items()
    }
    yield [member for members in fresh.values() for member in members]

    rows = []
    for method, of_method in trials.items():
        bar = choice.best_r2(trials[plan.root(method)])
        status = {}
        if method in chosen:
            reads_well = read_validation(history, fresh[method])["feasible"].all()
            status[chosen[method]["trial"]] = (
                "chosen" if reads_well else "fresh seed failed"
            )
        rows += _selection_rows(method, of_method, bar, status, options.fresh)
    keys = {
        member.table_key
        for members in [*fresh.values(), controls]
        for member in members
    }
    return Choice(rows, keys)


def _chosen_trials(
    plan: Plan, trials: Mapping[str, pd.DataFrame]
) -> dict[str, pd.Series]:
    """Return {method: its chosen trial}, of the methods that have one."""
    chosen = {}
    for method, of_method in trials.items():
        baseline = plan.root(method)
        best_r2 = choice.best_r2(trials[baseline])
        if isnan(best_r2):
            raise UserError(
                f"{plan.cell}: no trial of {baseline} is feasible under protocol tuned "
                f"(its L0 on validation may be {choice.MOST_L0:g} k at most, and it "
                "must not diverge): its learning rates do not fit this cell"
            )
        row = choice.choose(of_method, best_r2)
        if row is not None:
            chosen[method] = row
    return chosen


def _selection_rows(
    method: str,
    trials: pd.DataFrame,
    bar: float,
    status_of_chosen: Mapping[str, str],
    fresh: list[int],
) -> list[dict[str, Any]]:
    """Return a row of selection.parquet for each trial of a method."""
    rows = []
    for trial in trials.to_dict("records"):
        status = status_of_chosen.get(trial["trial"])
        if status is None:
            status = "not chosen" if trial["feasible"] else "not feasible"
        is_chosen = trial["trial"] in status_of_chosen
        rows.append(
            {
                "method": method,
                "seed": None,
                "trial": trial["trial"],
                "role": "chosen" if is_chosen else "candidate",
                "status": status,
                "r2": trial["r2"],
                "bar": bar,
                DETECTION: trial[DETECTION],
                "l0": trial["l0"],
                "seeds": " ".join(map(str, fresh)) if is_chosen else None,
                "fresh": True if is_chosen else None,
            }
        )
    return rows


def read_validation(history: History, members: list[Sae]) -> pd.DataFrame:
    """Return what the rule reads on validation, a row for each trained SAE.

    Its columns are trial (its name), options (a dict), status, k, r2, l0, feasible and
    detection, which is NaN where no backbone of another family sees the images.
    """
    rows = history.rows_of(members)
    # Where all diverged there are no columns of scores: they become NaN.
    numbers = rows.reindex(columns=["r2", "l0", DETECTION]).astype(float)
    options_by_name = {member.name: member.trial for member in members}
    trials = numbers.assign(
        trial=rows["trial"],
        options=rows["trial"].map(options_by_name),
        status=rows["status"],
        k=history.plan.k,
    )
    return trials.assign(feasible=choice.feasible(trials))

"""Tune every method in as many trials, and judge its fronts of R^2 and two scores.

A cell trains in rounds. All of them are chosen on the validation split, all but the
last with one tuning seed:

1. The length of training, if `most_steps` is given (`_lengths`).
2. The trials of every method: drawn, and then refined (`_draws`), or at points that are
   listed (`_lists`).
3. The vertices of fronts, with fresh seeds (`_fronts`, which has the rule).

A run lists its points so that every cell has the same ones:

    points:
      - { lr: 0.001, encoder_scale: 0.1, auxk_alpha: 0.3 }
      - { lr: 0.001, encoder_scale: 0.3, auxk_alpha: 0.1, alone: true }
    own_values: { reg1: { lambda: { k8: [0.001, 0.003], k16: [0.001, 0.003] } } }

Then a method that `own_values` names trains at each point with each of these values of
its own options, but not at points that are `alone`: these give the other methods, such
as Top-k, as many trials. Nothing is refined. The range of lr says at which rates the
length of training is found.

docs/protocol.md has the rule, and says what rests on it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Annotated, Any

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
from sae.core.errors import Problem
from sae.core.options import (
    Count,
    Grid,
    OfOptions,
    Positive,
    Range,
    Ranges,
    Seed,
    Share,
    by_list,
    distinct,
    later,
)
from sae.core.options import Options as Base
from sae.protocols import _draws, _fronts, _lengths, _lists
from sae.protocols._history import Choice, History, Rounds, Sizes, asked, outcome
from sae.protocols._own_options import rounded

VERSION = 2
METRICS = ("reconstruction", "monosemanticity", "firing", "detection")
NAME = "fair"
# The options that every method has, in the order of the Sobol sequence's dimensions.
COMMON = ("lr", "encoder_scale", "auxk_alpha")
# The options that are read only where points are drawn, not listed.
READ_FOR_DRAWN_POINTS = (
    "encoder_scale",
    "auxk_alpha",
    "refined",
    "values",
    "design_seed",
    "ranges",
)


class StepsOptions(Base):
    """The length of training: steps double until the baseline gains less than both."""

    first: Count
    """The first length that is tried, in steps."""
    gain_r2: Share
    """Steps double again where R^2 gains at least this, or MS `gain_ms`."""
    gain_ms: Share
    """Steps double again where MS gains at least this, or R^2 `gain_r2`."""


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
    """The rule; an experiment adds its ranges and its longest training."""

    lr: Range
    """[lowest, highest] learning rate, drawn evenly in the logarithm."""
    encoder_scale: Range
    """[lowest, highest] scale of the first encoder, drawn evenly in the logarithm."""
    auxk_alpha: Range
    """[lowest, highest] weight of AuxK, drawn evenly in the logarithm."""
    points: Annotated[
        Annotated[int, Field(ge=1, le=10_000), Tag("number")]
        | Annotated[list[PointOptions], Field(min_length=1), Tag("list")],
        Discriminator(by_list),
    ]
    """Trials of each method at the common points, which are drawn; or these points."""
    refined: Count
    """How many of these trials are refined, where points are drawn."""
    values: Count
    """Trials around each one that is refined."""
    design_seed: Seed
    """The seed of the points that are drawn."""
    steps: StepsOptions
    """How the length of training is found: steps double until the baseline gains
    little, or up to `most_steps`; read only where that is given."""
    most_steps: dict[str, Count] | None = Field(
        None,
        description="By dataset: the most steps that an SAE may train. If it is not "
        "given, every method sets its own number of steps, or `by_dataset` does.",
    )
    ranges: dict[str, Ranges] = Field(
        {},
        description="By method: the ranges of its own options, [lowest, highest] "
        "or {k8: [lowest, highest], ...}.",
    )
    own_values: dict[str, OfOptions[Grid]] = later(
        {},
        description="By method, where points are listed: values of its own options, a "
        "list or {k8: a list, ...}; each is tried at every point that is not alone.",
    )
    tuning: Seed
    """The seed of every trial."""
    fresh: Annotated[list[Seed], Field(min_length=1), AfterValidator(distinct)]
    """The seeds of the SAEs that are chosen."""
    widths: Annotated[list[Share], Field(min_length=1), AfterValidator(distinct)]
    """The widths of the windows below R*; the first is the headline."""
    l0: float = Field(ge=1)
    """The highest L0 of a feasible trial, as a multiple of k."""
    firing: float = Field(ge=0, le=1)
    """The smallest share of latents that a feasible trial has firing."""

    @field_validator("points")
    @classmethod
    def _check_no_point_twice(
        cls, points: int | list[PointOptions]
    ) -> int | list[PointOptions]:
        if isinstance(points, int):
            return points
        seen_points = []
        for point in points:
            if point.common in seen_points:
                values = [f"{name} {value:g}" for name, value in point.common.items()]
                raise ValueError(f"{', '.join(values)} is there twice; leave one out")
            seen_points.append(point.common)
        return points

    @property
    def draws(self) -> bool:
        """Whether points are drawn, not listed."""
        return isinstance(self.points, int)

    @field_validator("fresh")
    @classmethod
    def _check_not_tuned_on(cls, seeds: list[int], info: ValidationInfo) -> list[int]:
        tuning_seed = info.data.get("tuning")
        if tuning_seed in seeds:
            raise ValueError(
                f"{tuning_seed} is the seed of `tuning` too; "
                "what is judged must not be tuned on"
            )
        return seeds


def next(history: History) -> list[Sae]:
    """Return the SAEs of all rounds that can be said so far, round after round.

    A round can be said when all SAEs of the rounds before it were trained.

    Raises:
        UserError: The baseline diverged at every learning rate, or none of its trials
            is feasible.
    """
    return asked(_rounds(history), history)


def choose(history: History) -> Choice:
    """Say which trials are vertices, and what they weigh in each window below R*."""
    return outcome(_rounds(history))


def at_most(plan: Plan, options: Options) -> Sizes:
    """Count the SAEs of a cell.

    Known beforehand are the lengths, at the most that are possible, and the trials that
    are drawn or listed. Known later are the refined trials, and the vertices.
    """
    refined_count = 0
    if options.draws:
        trial_counts = Counter(dict.fromkeys(plan.tuned, options.points))
        refined_count = options.refined * options.values
    else:
        trial_counts = Counter(
            {
                method: len(_lists.trials_of_points(options, method, plan.k))
                for method in plan.tuned
            }
        )
    trial_counts.update(_lengths.count(plan, options))

    vertex_counts = _fronts.count_vertices(plan, len(options.fresh))
    later_counts = {
        method: count + (refined_count if method in trial_counts else 0)
        for method, count in vertex_counts.items()
    }
    return Sizes(
        trials=trial_counts.total(),
        after=sum(later_counts.values()),
        by_method={
            method: trial_counts[method] + count
            for method, count in later_counts.items()
        },
        chosen=sum(vertex_counts.values()),
        most_steps=options.most_steps[plan.dataset] if options.most_steps else None,
    )


def config_problems(use: ProtocolUse, options: Options) -> Iterator[Problem]:
    """Yield what is wrong with an experiment that is to be tuned.

    It needs a baseline, a length of training for every dataset, and a range or values
    of every option of a method's own.
    """
    if all(method.against for method in use.methods.values()):
        yield Problem(
            "",
            "no method of this experiment is a baseline, compared with no other one; "
            "add one",
        )
    yield from _lengths.step_problems(use, options)
    if use.recipe["tied"]:
        yield Problem(
            "",
            f"training.{use.recipe_name} is tied: its encoder has no scale of its own "
            "to tune",
        )
    if options.draws:
        yield from _draws.draw_problems(use, options, COMMON)
    else:
        yield from _lists.point_problems(use, options, READ_FOR_DRAWN_POINTS)


def _rounds(history: History) -> Rounds[Choice]:
    plan = history.plan
    options = history.options
    facts = yield from _lengths.double_lengths(history, NAME)

    def tuning_member(method: str, trial: Mapping[str, float]) -> Sae:
        """Return the SAE of a trial: values rounded, with steps, of the tuning seed."""
        settings: dict[str, Any] = {
            name: rounded(value) for name, value in trial.items()
        }
        steps = plan.methods[method].recipe.get("steps") or facts.get("steps")
        if steps:
            settings["steps"] = steps
        return plan.member(method, settings, options.tuning, NAME)

    if options.draws:
        common_box = {name: getattr(options, name) for name in COMMON}
        members_by_method = yield from _draws.drawn_members(
            history, common_box, tuning_member
        )
    else:
        members_by_method = {
            method: [
                tuning_member(method, trial)
                for trial in _lists.trials_of_points(options, method, plan.k)
            ]
            for method in plan.tuned
        }
        yield [member for members in members_by_method.values() for member in members]

    return (yield from _fronts.choose_vertices(history, members_by_method, facts, NAME))

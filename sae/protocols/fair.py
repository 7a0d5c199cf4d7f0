"""Tune every method in as many trials, and judge its fronts of R^2 and two scores.

`sae.scoring.front` has the rule of feasible trials, fronts and windows.

A cell trains in four rounds. All of them are chosen on the validation split, the first
three with one tuning seed:

1. The baseline at lengths that double, as long as it gains from more steps.
2. The same points of a Sobol sequence over learning rate, encoder scale and AuxK's
   alpha for every method, its own options at the geometric middle of their ranges. Each
   (dataset, backbone) has a scramble of its own.
3. Around two of a method's trials, those of highest R^2 on its front of MS, further
   values of its own options; a method without any has points in a box of a third of
   each common range.
4. Every vertex of a front that weighs anything in a window below R*, the best R^2 of
   the baseline, with fresh seeds; of the baseline also those that weigh where a method
   reaches no further. By these alone a method is judged. `at` methods train at the
   vertex that weighs most in the first window.

A run may list its points instead of drawing them, so that every cell has the same ones:

    points:
      - { lr: 0.001, encoder_scale: 0.1, auxk_alpha: 0.3 }
      - { lr: 0.001, encoder_scale: 0.3, auxk_alpha: 0.1, alone: true }
    own_values: { reg1: { lambda: { k8: [0.001, 0.003], k16: [0.001, 0.003] } } }

Then a method that `own_values` names trains at each point with each of these values of
its own options, but not at points that are `alone`: these give the other methods, such
as Top-k, as many trials. Nothing is refined: there is no round 3. The range of lr says
at which rates round 1 trains.

docs/protocol.md has the rule, and says what rests on it.
"""

from __future__ import annotations

import functools
import hashlib
import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
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
from sae.core.errors import Problem, UserError, describe_unknown
from sae.core.options import (
    Count,
    Grid,
    Later,
    OfOptions,
    Positive,
    Range,
    Ranges,
    Seed,
    Share,
    by_list,
    distinct,
)
from sae.core.options import Options as Base
from sae.protocols._history import Choice, History, Sizes
from sae.scoring import front
from sae.scoring.front import DETECTION, MS, Window

if TYPE_CHECKING:
    import pandas as pd

VERSION = 2
METRICS = ("reconstruction", "monosemanticity", "firing", "detection")
NAME = "fair"
# The scores whose fronts say what is judged. By the first one trials are refined.
# Detection is measured where a backbone of another family sees the images.
FRONT_SCORES = (MS, DETECTION)
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
# At how many learning rates the baseline tries a length.
RATES_OF_LENGTH = 3
# How many vertices costs reckon a method to have on both fronts: the most ever seen.
EXPECTED_VERTICES = 6
# The dimensions of every Sobol sequence: its scramble hangs on their number.
SOBOL_DIMENSIONS = 8


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
    own_values: Annotated[dict[str, OfOptions[Grid]], Later({})] = Field(
        {},
        description="By method, where points are listed: values of its own options, a "
        "list or {k8: a list, ...}; each is tried at every point that is not alone.",
    )
    tuning: Seed
    """The seed of every trial."""
    fresh: Annotated[list[Seed], Field(min_length=1), AfterValidator(distinct)]
    """The seeds of the SAEs that are judged."""
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
        UserError: the baseline diverged at every learning rate, or none of its trials
            is feasible.
    """
    # Round 1: the baseline at lengths that double.
    lengths = _find_lengths(history)
    members: list[Sae] = []
    for steps in lengths.steps:
        members += _baseline_at_length(history, steps)
    if not history.has(members):
        return members

    # Round 2: every method at the same points of the common options.
    points_by_method = _common_points(history, lengths)
    members += _flatten(points_by_method)
    if not history.has(members):
        return members

    # Round 3: further points around the best trials of each method; not of a grid.
    refined_by_method = _refined_points(history, lengths, points_by_method)
    members += _flatten(refined_by_method)
    if not history.has(members):
        return members

    # Round 4: the vertices of fronts, with fresh seeds.
    fronts = _find_fronts(history, points_by_method, refined_by_method)
    members += _judged_members(history, fronts)
    return members


def choose(history: History) -> Choice:
    """Say which trials are vertices, and what they weigh in each window below R*.

    All rounds were trained: what each of them asked for is worked out once more.

    Returns:
        Rows as :func:`_vertex_rows` has them. Judged are the SAEs of the last round,
        which are more: of the baseline also the vertices where a method reaches less.
    """
    lengths = _find_lengths(history)
    points_by_method = _common_points(history, lengths)
    refined_by_method = _refined_points(history, lengths, points_by_method)
    fronts = _find_fronts(history, points_by_method, refined_by_method)

    rows = _vertex_rows(history, lengths, fronts)
    judged = {member.table_key for member in _judged_members(history, fronts)}
    return Choice(rows, judged, lengths.facts())


def at_most(plan: Plan, options: Options) -> Sizes:
    """Count the SAEs of a cell.

    Known beforehand are the trials of the first two rounds, at the most lengths that
    are possible. Chosen are the refined trials and what is judged, with as many
    vertices as are to be expected.
    """
    trial_counts = {
        method: options.points
        if isinstance(options.points, int)
        else len(_listed_trials(options, method, plan.k))
        for method in plan.tuned
    }
    refined_count = 0
    if isinstance(options.points, int):
        refined_count = options.refined * options.values
    most_steps = None
    if options.most_steps:
        most_steps = options.most_steps[plan.dataset]
        # The lengths first, 2 first, 4 first, ... up to the longest.
        length_count = (most_steps // options.steps.first).bit_length()
        trial_counts[_baseline(plan)] += RATES_OF_LENGTH * length_count

    # A method is judged at all its vertices, its `at` methods at one of them.
    seed_count = len(options.fresh)
    judged_counts = dict.fromkeys(trial_counts, seed_count * EXPECTED_VERTICES)
    for method in trial_counts:
        for at_method in plan.at(method):
            judged_counts[at_method] = seed_count

    chosen_counts = dict(judged_counts)
    for method in trial_counts:
        chosen_counts[method] += refined_count

    return Sizes(
        trials=sum(trial_counts.values()),
        after=sum(chosen_counts.values()),
        by_method={
            method: trial_counts.get(method, 0) + count
            for method, count in chosen_counts.items()
        },
        judged=sum(judged_counts.values()),
        most_steps=most_steps,
    )


# What an experiment must say, beside options that are right alone.


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
    yield from _step_problems(use, options)
    if use.recipe["tied"]:
        yield Problem(
            "",
            f"training.{use.recipe_name} is tied: its encoder has no scale of its own "
            "to tune",
        )
    if isinstance(options.points, int):
        if options.own_values:
            yield Problem(
                "own_values",
                "it is for points that are listed; list them, or write ranges",
            )
        yield from _own_option_problems(use, "ranges", options.ranges, "range")
    else:
        yield from _point_problems(use, options, options.points)
        own_problems = [
            *_own_option_problems(use, "own_values", options.own_values, "list")
        ]
        yield from own_problems
        if not own_problems:
            yield from _trial_count_problems(use, options)


def _step_problems(use: ProtocolUse, options: Options) -> Iterator[Problem]:
    """Yield what is wrong with the lengths of training."""
    # `most_steps` says the longest. Without it every method, or every dataset, sets its
    # own number of steps.
    most_steps = options.most_steps or {}
    for dataset in most_steps:
        if dataset not in use.known_datasets:
            yield Problem("most_steps", describe_unknown(dataset, use.known_datasets))

    if most_steps:
        for dataset in sorted(set(use.datasets) - most_steps.keys()):
            yield Problem("most_steps", f"no number of steps for {dataset}")
    elif not all(
        use.recipe_by_dataset.get(dataset, {}).get("steps") for dataset in use.datasets
    ):
        for name in sorted(use.methods):
            if "steps" not in use.methods[name].recipe:
                yield Problem(
                    "most_steps",
                    f"it must say how many steps {name} may train, which sets none of "
                    "its own, and neither does by_dataset for each dataset",
                )

    for dataset, longest in most_steps.items():
        if longest < options.steps.first:
            yield Problem(
                f"most_steps.{dataset}",
                f"{longest} is less than steps.first, {options.steps.first}",
            )


def _point_problems(
    use: ProtocolUse, options: Options, points: list[PointOptions]
) -> Iterator[Problem]:
    unread_options = set(use.written_options) & set(READ_FOR_DRAWN_POINTS)
    if options.ranges:
        unread_options.add("ranges")
    for name in sorted(unread_options):
        instead = "write `own_values`" if name == "ranges" else "leave it out"
        yield Problem(name, f"points are listed, so that none is drawn; {instead}")

    if options.own_values and all(point.alone for point in points):
        yield Problem(
            "points",
            "all are `alone`, so that the methods of `own_values` have none; leave "
            "some so",
        )
    baselines = [name for name, method in use.methods.items() if not method.against]
    for place, point in enumerate(points):
        values = {option: [value] for option, value in point.common.items()}
        for name in baselines:
            yield from use.check_values(f"points.{place}", name, values)


def _trial_count_problems(use: ProtocolUse, options: Options) -> Iterator[Problem]:
    """Yield which methods have other numbers of trials than the baseline in a grid."""
    baselines = [name for name, method in use.methods.items() if not method.against]
    if not baselines:
        return
    baseline = baselines[0]
    for k in use.budgets:
        counts = {name: len(_listed_trials(options, name, k)) for name in use.methods}
        for name, count in counts.items():
            if count != counts[baseline]:
                yield Problem(
                    "points",
                    f"at k = {k} {name} has {count} trials, and {baseline} has "
                    f"{counts[baseline]}; mark points as `alone`, or add values, until "
                    "all have as many",
                )


def _own_option_problems(
    use: ProtocolUse,
    section: str,
    values_by_method: Mapping[str, Mapping[str, Any]],
    form: str,
) -> Iterator[Problem]:
    """Yield what is wrong with methods' "ranges" or "own_values", as `section` says."""
    for name in values_by_method:
        if name not in use.methods:
            yield Problem(section, describe_unknown(name, use.methods))

    for name, method in use.methods.items():
        method_key = f"{section}.{name}"
        values_by_option = values_by_method.get(name, {})
        # Values of the type that the option has where nothing is tuned.
        usual_values = {**use.recipe, **method.options}
        whole_options = {
            option
            for option in values_by_option
            if isinstance(usual_values.get(option), int)
        }
        fractional_values = {
            option: values
            for option, values in values_by_option.items()
            if option not in whole_options
        }
        yield from use.check_values(
            method_key, name, fractional_values, excluded=(*COMMON, "steps")
        )
        for option in sorted(whole_options):
            yield Problem(
                f"{method_key}.{option}",
                "a whole number, which is not tuned here; sweep it instead",
            )
        if method.penalty and method.lam is None and "lambda" not in values_by_option:
            yield Problem(
                method_key,
                f"{name} has the penalty {method.penalty}, but no {form} of lambda",
            )
        for option, values in values_by_option.items():
            option_key = f"{method_key}.{option}"
            if form == "list":
                yield from _equal_value_problems(option_key, values)
            if not isinstance(values, dict):
                continue
            names_of_k = [f"k{k}" for k in use.budgets]
            missing = [name_of_k for name_of_k in names_of_k if name_of_k not in values]
            if missing:
                yield Problem(option_key, f"no {form} for {', '.join(missing)}")
            known_names = [f"k{k}" for k in sorted(use.known_budgets)]
            for name_of_k in values:
                if name_of_k not in known_names:
                    yield Problem(option_key, describe_unknown(name_of_k, known_names))


def _equal_value_problems(
    option_key: str, values: Sequence[float] | Mapping[str, Sequence[float]]
) -> Iterator[Problem]:
    """Yield which values are one when rounded, as trials have three digits."""
    lists = values.values() if isinstance(values, Mapping) else [values]
    for of_one_k in lists:
        for place, value in enumerate(of_one_k):
            for earlier in of_one_k[:place]:
                if earlier != value and _rounded(earlier) == _rounded(value):
                    yield Problem(
                        option_key,
                        f"{earlier:g} and {value:g} are both {_rounded(value):g} in "
                        "three digits; leave one out",
                    )


# Round 1: how long the SAEs train.


@dataclass(frozen=True)
class _Lengths:
    """The lengths of training that the baseline tries, in steps.

    Attributes:
        steps: The lengths tried so far, and the next one while round 1 goes on; when it
            has ended, the last one is the cell's. Empty where every method sets its own
            number of steps.
        settled: Whether the last doubling gained little in both scores.
    """

    steps: list[int]
    settled: bool

    def facts(self) -> dict[str, Any]:
        """Return {steps, undertrained}, or {} where every method sets its own steps.

        `steps` says how long the cell trains, `undertrained` whether the baseline would
        still gain from more. Both hold only when round 1 has ended.
        """
        if not self.steps:
            return {}
        return {"steps": self.steps[-1], "undertrained": not self.settled}


def _find_lengths(history: History) -> _Lengths:
    """Double the length of training as long as the baseline gains."""
    options = history.options
    if not options.most_steps:
        return _Lengths([], settled=True)

    most_steps = options.most_steps[history.plan.dataset]
    lengths = [options.steps.first]
    best_before = None
    while history.has(_baseline_at_length(history, lengths[-1])):
        best = _best_of_length(history, lengths[-1])
        settled = False
        if best_before is not None:
            gain = best - best_before
            settled = bool(
                gain["r2"] < options.steps.gain_r2 and gain[MS] < options.steps.gain_ms
            )
        if settled or 2 * lengths[-1] > most_steps:
            return _Lengths(lengths, settled)

        best_before = best
        lengths.append(2 * lengths[-1])
    return _Lengths(lengths, settled=False)


def _baseline_at_length(history: History, steps: int) -> list[Sae]:
    plan = history.plan
    options = history.options
    low, high = options.lr
    # The middles of the range's thirds, in the logarithm.
    rates = [
        _rounded(low * (high / low) ** ((2 * n + 1) / (2 * RATES_OF_LENGTH)))
        for n in range(RATES_OF_LENGTH)
    ]
    baseline = _baseline(plan)
    return [
        plan.member(baseline, {"lr": lr, "steps": steps}, options.tuning, NAME)
        for lr in rates
    ]


def _best_of_length(history: History, steps: int) -> pd.Series:
    """Return R^2 and MS of the baseline at one length, at its rate of highest R^2."""
    trials = _score_trials(history, _baseline_at_length(history, steps))
    ended_well = trials["status"] == "ok"
    is_scored = trials[["r2", "l0", "firing", MS]].notna().all(axis=1)
    scores = trials.loc[ended_well & is_scored, ["r2", MS]]
    if scores.empty:
        raise UserError(
            f"{history.plan.cell}: the baseline diverged at every learning rate: "
            "lower `lr` of protocol fair"
        )
    return scores.loc[scores["r2"].idxmax()]


def _baseline(plan: Plan) -> str:
    """Return the first tuned method that is compared with no other one."""
    compared_with_none = [
        method for method in plan.tuned if plan.methods[method].against is None
    ]
    return compared_with_none[0]


# Round 2: every method at the same points of the common options.


def _common_points(history: History, lengths: _Lengths) -> dict[str, list[Sae]]:
    """Return {method: its trials at the common points}, which are drawn or listed."""
    options = history.options
    plan = history.plan
    points_by_method = {}
    for method in plan.tuned:
        if isinstance(options.points, int):
            trials = _drawn_trials(history, method)
        else:
            trials = _listed_trials(options, method, plan.k)
        points_by_method[method] = [
            _tuning_member(history, lengths, method, trial) for trial in trials
        ]
    return points_by_method


def _drawn_trials(history: History, method: str) -> list[dict[str, float]]:
    """Return a method's trials at points that are drawn, own options in the middle."""
    options = history.options
    common_box = {name: getattr(options, name) for name in COMMON}
    middle = {
        name: math.sqrt(low * high)
        for name, (low, high) in _own_ranges(history, method).items()
    }
    # Every method has the same scramble.
    common_points = _draw_points(history, common_box, options.points, "points")
    return [{**point, **middle} for point in common_points]


def _listed_trials(options: Options, method: str, k: int) -> list[dict[str, float]]:
    """Return a method's trials at the points that are listed."""
    # A method without values of its own trains once at every point, else with each
    # combination of them at every point that is not `alone`.
    own_values = {}
    for name, values in sorted(options.own_values.get(method, {}).items()):
        # The rule has one list for all cells, or {k8: a list, ...}.
        own_values[name] = values[f"k{k}"] if isinstance(values, dict) else values
    assert not isinstance(options.points, int)
    points = [p for p in options.points if not (own_values and p.alone)]
    return [
        {**point.common, **dict(zip(own_values, combination, strict=True))}
        for point in points
        for combination in itertools.product(*own_values.values())
    ]


def _own_ranges(history: History, method: str) -> dict[str, Sequence[float]]:
    ranges = {}
    for name, ends in history.options.ranges.get(method, {}).items():
        # The rule has one range for all cells, or {k8: [lowest, highest], ...}.
        ranges[name] = ends[f"k{history.plan.k}"] if isinstance(ends, dict) else ends
    return ranges


def _draw_points(
    history: History, box: Mapping[str, Sequence[float]], count: int, purpose: str
) -> list[dict[str, float]]:
    """Draw points in a box from a Sobol sequence, evenly in the logarithm."""
    # Each purpose has a scramble of its own; cells that differ in k alone have the
    # same.
    plan = history.plan
    text = f"{history.options.design_seed} {plan.dataset} {plan.backbone} {purpose}"
    digest = hashlib.sha256(text.encode()).digest()
    unit_points = sobol(count, int.from_bytes(digest[:4], "big"))
    # A box has fewer options than the sequence has dimensions: the first ones are read.
    return [
        {
            name: _value_at(ends, share)
            for (name, ends), share in zip(box.items(), unit_point, strict=False)
        }
        for unit_point in unit_points
    ]


@functools.cache
def sobol(count: int, seed: int) -> list[list[float]]:
    """Return the first points of a scrambled Sobol sequence in the unit cube.

    Args:
        count: How many points.
        seed: Of the scramble.

    Returns:
        (count, SOBOL_DIMENSIONS) coordinates.
    """
    from scipy.stats import qmc  # Takes half a second.

    sequence = qmc.Sobol(SOBOL_DIMENSIONS, scramble=True, rng=seed)
    # It warns unless the number of points that are drawn is a power of 2.
    exponent = max(0, count - 1).bit_length()
    return sequence.random_base2(exponent)[:count].tolist()


def _value_at(ends: Sequence[float], share: float) -> float:
    """Return the value at a share of a range, from 0 to 1, in the logarithm."""
    low, high = map(math.log, ends)
    return math.exp(low + share * (high - low))


def _tuning_member(
    history: History, lengths: _Lengths, method: str, trial: Mapping[str, float]
) -> Sae:
    """Return the SAE of a trial: values rounded, with its steps, of the tuning seed."""
    settings: dict[str, Any] = {name: _rounded(value) for name, value in trial.items()}
    steps = history.plan.methods[method].recipe.get("steps")
    if not steps and lengths.steps:
        steps = lengths.steps[-1]
    if steps:
        settings["steps"] = steps
    return history.plan.member(method, settings, history.options.tuning, NAME)


def _rounded(value: float) -> float:
    """Round to three significant digits."""
    return float(f"{value:.3g}")


# Round 3: further points around the best trials of each method.


def _refined_points(
    history: History, lengths: _Lengths, points_by_method: Mapping[str, list[Sae]]
) -> dict[str, list[Sae]]:
    """Return {method: further trials around those of its points that promise most}."""
    # They differ in the method's own options; if it has none, in the common ones
    # nearby. Where points are listed there are none.
    options = history.options
    if not isinstance(options.points, int):
        return {method: [] for method in history.plan.tuned}
    refined_by_method: dict[str, list[Sae]] = {}
    for method in history.plan.tuned:
        refined_by_method[method] = []
        promising_trials = _promising_trials(history, points_by_method[method])
        for number, trial in enumerate(promising_trials):
            box = _own_ranges(history, method)
            if not box:
                box = {
                    name: _third_around(getattr(options, name), trial[name])
                    for name in COMMON
                }
            # By name, since the order of config.yaml should decide nothing.
            box_by_name = dict(sorted(box.items()))
            purpose = f"{method} {number}"
            for point in _draw_points(history, box_by_name, options.values, purpose):
                member = _tuning_member(history, lengths, method, {**trial, **point})
                refined_by_method[method].append(member)
    return refined_by_method


def _promising_trials(history: History, members: list[Sae]) -> list[dict[str, Any]]:
    """Return the options of the trials to refine, as many as the rule says."""
    # First come those on the front of MS, then the other feasible ones, both by falling
    # R^2. Where these are too few, the trials whose latents fire most are returned
    # instead, feasible or not.
    count = history.options.refined
    trials = _score_trials(history, members)
    vertices = front.vertices(trials, MS)
    feasible_trials = trials[trials["feasible"] & trials[MS].notna()]
    below_front = feasible_trials.drop(index=vertices.index)
    below_front = below_front.sort_values("r2", ascending=False, kind="stable")
    in_order = [*vertices["options"], *below_front["options"]]
    if len(in_order) < count:
        by_firing = trials.sort_values("firing", ascending=False, kind="stable")
        in_order = [*by_firing["options"]]
    return in_order[:count]


def _third_around(ends: Sequence[float], middle: float) -> list[float]:
    """Return the third of a range around a value, in the logarithm, cut at its ends."""
    # The factor that spans half of a third, as the whole range has six such halves.
    half_third = (ends[1] / ends[0]) ** (1 / 6)
    return [max(ends[0], middle / half_third), min(ends[1], middle * half_third)]


# Round 4: what is judged.


@dataclass(frozen=True)
class _Fronts:
    """The fronts of a cell's methods on validation.

    Attributes:
        history: Of the cell.
        trials: {method: the rows of its trials of rounds 2 and 3}, with the columns of
            :func:`_score_trials`.
        vertices: {(method, score): the rows that are vertices of its front}, of the
            scores that are measured.
    """

    history: History
    trials: dict[str, pd.DataFrame]
    vertices: dict[tuple[str, str], pd.DataFrame]

    def reach(self, method: str) -> float:
        """Return the best R^2 of a method's feasible trials; NaN if it has none."""
        return front.best_r2(self.trials[method])

    def best_r2_of_baseline(self, method: str) -> float:
        """Return R*: the reach of the baseline at the end of a method's `against`.

        Raises:
            UserError: the baseline has no feasible trial.
        """
        plan = self.history.plan
        options = self.history.options
        baseline = plan.root(method)
        reach = self.reach(baseline)
        if math.isnan(reach):
            raise UserError(
                f"{plan.cell}: no trial of {baseline} is feasible under protocol fair "
                f"(L0 at most {options.l0:g} k, and {options.firing:.0%} of the "
                "latents or more fire on training images): its values of lr "
                "and auxk_alpha do not fit this cell"
            )
        return reach

    def windows(self, method: str, score: str) -> list[Window]:
        """Return the windows in which a front is read; the headline's is the first.

        A baseline is also read at the R^2 where it and the methods that are compared
        with it end.
        """
        best_r2 = self.best_r2_of_baseline(method)
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
    history: History,
    points_by_method: Mapping[str, list[Sae]],
    refined_by_method: Mapping[str, list[Sae]],
) -> _Fronts:
    trials = {
        method: _score_trials(
            history, [*points_by_method[method], *refined_by_method[method]]
        )
        for method in history.plan.tuned
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


def _judged_members(history: History, fronts: _Fronts) -> list[Sae]:
    """Return what is trained with fresh seeds, and judged by them."""
    # These are the vertices of each front that weigh anything in one of its windows. A
    # method that is `at` another one trains at the vertex of that one's front of MS
    # that weighs most in the headline's window.
    plan = history.plan
    members: list[Sae] = []
    for (method, score), vertices in fronts.vertices.items():
        windows = fronts.windows(method, score)
        if vertices.empty:
            continue

        r2 = vertices["r2"].to_numpy(float)
        weights = [front.weights(r2, window) for window in windows]
        weighing_trials = vertices["options"][np.sum(weights, axis=0) > 0]
        heaviest_trial = vertices["options"].iloc[int(np.argmax(weights[0]))]
        for seed in history.options.fresh:
            for trial in weighing_trials:
                members.append(plan.member(method, trial, seed, NAME))
            if score == MS:
                for at_method in plan.at(method):
                    members.append(plan.member(at_method, heaviest_trial, seed, NAME))
    return members


def _vertex_rows(
    history: History, lengths: _Lengths, fronts: _Fronts
) -> list[dict[str, Any]]:
    """Return what selection.parquet says of the fronts."""
    # A row for each method, score, window and vertex with weight in it; or one for a
    # method and score without a vertex.
    rows: list[dict[str, Any]] = []
    for (method, score), vertices in fronts.vertices.items():
        best_r2 = fronts.best_r2_of_baseline(method)
        front_columns = {
            "method": method,
            "seed": None,
            "score": score,
            "bar": best_r2,
            **lengths.facts(),
        }
        if vertices.empty:
            no_vertex = {"trial": None, "role": None, "status": "infeasible"}
            rows.append({**front_columns, **no_vertex})
            continue

        columns = ["trial", "r2", *FRONT_SCORES, "l0", "firing"]
        vertex_records = vertices[columns].to_dict("records")
        for width in history.options.widths:
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


# What several rounds use.


def _score_trials(history: History, members: list[Sae]) -> pd.DataFrame:
    """Return what the rule reads on validation, a row for each trained SAE."""
    # Its columns are trial (its name), options (a dict), status, k, r2, l0, firing (the
    # share of latents that fires on training images), feasible, and each score of
    # `FRONT_SCORES`.
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


def _flatten(members_by_method: Mapping[str, list[Sae]]) -> list[Sae]:
    return [member for members in members_by_method.values() for member in members]

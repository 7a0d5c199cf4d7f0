"""The design of a list: the config says every trial.

It lists the trials themselves, or points of the options that every method has, with
values of methods' own options.
"""

import itertools
from collections.abc import Iterator, Mapping
from typing import Any

from sae.config.protocol_use import ProtocolUse
from sae.core.errors import Problem, describe_unknown
from sae.protocols._own_options import at_k, own_option_problems, rounded


def trials_of_points(options: Any, method: str, k: int) -> list[dict[str, float]]:
    """Return a method's trials at the points that are listed.

    A method without values of its own trains once at every point, else with each
    combination of them at every point that is not `alone`.

    Args:
        options: Of the protocol, of which `points` and `own_values` are read.
        method: The method.
        k: The budget of the cell.
    """
    own_values = dict(sorted(at_k(options.own_values.get(method, {}), k).items()))
    return [
        {**point.common, **dict(zip(own_values, combination, strict=True))}
        for point in options.points
        if not (own_values and point.alone)
        for combination in itertools.product(*own_values.values())
    ]


def trial_problems(
    use: ProtocolUse, trials_by_method: Mapping[str, list[dict[str, Any]]]
) -> Iterator[Problem]:
    """Yield what is wrong with the trials that an experiment lists.

    They must be of its methods, each of which must be able to train at them.
    """
    for name in trials_by_method:
        if name not in use.methods:
            yield Problem("trials", describe_unknown(name, use.methods))

    for name in sorted(trials_by_method.keys() & use.methods.keys()):
        method = use.methods[name]
        for trial in trials_by_method[name]:
            values = {option: [value] for option, value in trial.items()}
            yield from use.check_values(f"trials.{name}", name, values)
            if method.penalty and method.lam is None and "lambda" not in trial:
                yield Problem(
                    f"trials.{name}",
                    f"{name} has a penalty, so that each of its trials needs a lambda",
                )


def point_problems(use: ProtocolUse, options: Any) -> Iterator[Problem]:
    """Yield what is wrong with points that are listed, and with methods' own values.

    Args:
        use: The experiment.
        options: As in :func:`trials_of_points`.
    """
    if options.own_values and all(point.alone for point in options.points):
        yield Problem(
            "points",
            "all are `alone`, so that the methods of `own_values` have none; leave "
            "some so",
        )
    baselines = [name for name, method in use.methods.items() if not method.against]
    for place, point in enumerate(options.points):
        values = {option: [value] for option, value in point.common.items()}
        for name in baselines:
            yield from use.check_values(f"points.{place}", name, values)

    common = options.points[0].common
    own_problems = [
        *own_option_problems(use, "own_values", options.own_values, "list", common),
        *_equal_value_problems(options.own_values),
    ]
    yield from own_problems
    if not own_problems:
        yield from _trial_count_problems(use, options)


def _trial_count_problems(use: ProtocolUse, options: Any) -> Iterator[Problem]:
    """Yield which methods have other numbers of trials than the baseline in a grid."""
    baselines = [name for name, method in use.methods.items() if not method.against]
    if not baselines:
        return
    baseline = baselines[0]
    for k in use.budgets:
        counts = {name: len(trials_of_points(options, name, k)) for name in use.methods}
        for name, count in counts.items():
            if count != counts[baseline]:
                yield Problem(
                    "points",
                    f"at k = {k} {name} has {count} trials, and {baseline} has "
                    f"{counts[baseline]}; mark points as `alone`, or add values, until "
                    "all have as many",
                )


def _equal_value_problems(
    own_values: Mapping[str, Mapping[str, Any]],
) -> Iterator[Problem]:
    """Yield which values are one when rounded, as trials have three digits."""
    for method, values_by_option in own_values.items():
        for option, values in values_by_option.items():
            lists = values.values() if isinstance(values, dict) else [values]
            for earlier, later in itertools.chain.from_iterable(
                itertools.combinations(of_one_k, 2) for of_one_k in lists
            ):
                if earlier != later and rounded(earlier) == rounded(later):
                    yield Problem(
                        f"own_values.{method}.{option}",
                        f"{earlier:g} and {later:g} are both {rounded(later):g} in "
                        "three digits; leave one out",
                    )

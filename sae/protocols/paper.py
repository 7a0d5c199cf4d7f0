"""A sweep, and the rule of arXiv:2606.27321: the largest lambda that loses no R^2.

`_sweep` is the design, `_largest_lambda` the rule.
"""

from sae.bank.plan import Plan
from sae.bank.sae import Sae
from sae.core.options import Options
from sae.protocols import _sweep
from sae.protocols._history import Choice, History, Rounds, Sizes, asked, outcome
from sae.protocols._largest_lambda import largest_lambda

VERSION = 1
METRICS = ("reconstruction",)
NAME = "paper"


def next(history: History) -> list[Sae]:
    """Return every trial with every seed; then `at` methods too, at what was chosen.

    Raises:
        UserError: A method that others are compared with diverged.
    """
    return asked(_rounds(history), history)


def choose(history: History) -> Choice:
    """Choose one trial per method and seed, to get every score."""
    return outcome(_rounds(history))


def at_most(plan: Plan, options: Options) -> Sizes:
    """Count the SAEs: every trial and seed, and after the choice the `at` methods."""
    trial_counts = _sweep.count(plan)
    at_counts = {
        name: len(plan.seeds) for name in plan.methods if name not in trial_counts
    }
    by_method = {**trial_counts, **at_counts}
    return Sizes(
        trials=sum(trial_counts.values()),
        after=sum(at_counts.values()),
        by_method=by_method,
        chosen=len(plan.seeds) * len(trial_counts),
    )


def _rounds(history: History) -> Rounds[Choice]:
    members = _sweep.swept_members(history.plan, NAME)
    yield members
    return (yield from largest_lambda(history, members, NAME))

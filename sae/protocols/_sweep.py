"""The design of a sweep: every combination of a method's swept values, with every seed.

A method that is `at` another one has no trials of its own.
"""

from sae.bank.plan import Method, Plan
from sae.bank.sae import Sae


def swept_members(plan: Plan, protocol: str) -> list[Sae]:
    """Return every trial with every seed, baselines first."""
    # Baselines are compared with no other method. Then methods are in the order of
    # their names, since that of config.yaml should decide nothing.

    def place_in_order(name: str) -> tuple[bool, str]:
        method = plan.methods[name]
        is_no_baseline = method.against is not None or method.control
        return is_no_baseline, name

    return [
        plan.member(name, trial, seed, protocol)
        for name in sorted(plan.methods, key=place_in_order)
        if plan.methods[name].at is None
        for trial in plan.methods[name].trials()
        for seed in _seeds(plan, plan.methods[name])
    ]


def count(plan: Plan) -> dict[str, int]:
    """Return {method: how many SAEs it has}."""
    return {
        name: len(_seeds(plan, method)) * len(method.trials())
        for name, method in plan.methods.items()
        if method.at is None
    }


def _seeds(plan: Plan, method: Method) -> list[int]:
    """Return the seeds of a method: the first alone if its SAE was made elsewhere."""
    return plan.seeds[:1] if method.imported else plan.seeds

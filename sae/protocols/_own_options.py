"""The options that methods have of their own: what designs try of them, by k."""

from collections.abc import Collection, Iterator, Mapping
from typing import Any, Literal

from sae.config.protocol_use import ProtocolUse
from sae.core.errors import Problem, describe_unknown


def at_k(values_by_option: Mapping[str, Any], k: int) -> dict[str, list[float]]:
    """Return {option: values} at a budget k.

    Args:
        values_by_option: {option: values for all cells, or {k8: values, ...}}.
        k: The budget.
    """
    return {
        name: values[f"k{k}"] if isinstance(values, dict) else values
        for name, values in values_by_option.items()
    }


def rounded(value: float) -> float:
    """Round to three significant digits, which a trial's values have."""
    return float(f"{value:.3g}")


def own_option_problems(
    use: ProtocolUse,
    section: str,
    values_by_method: Mapping[str, Mapping[str, Any]],
    form: Literal["range", "list"],
    common: Collection[str],
) -> Iterator[Problem]:
    """Yield what is wrong with what a design tries of methods' own options.

    Args:
        use: The experiment.
        section: The option of the protocol that says it.
        values_by_method: {method: {option: values, or {k8: values, ...}}}.
        form: What the values of an option are.
        common: The options that every method has, which are not tried here.
    """
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
            method_key, name, fractional_values, excluded=(*common, "steps")
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

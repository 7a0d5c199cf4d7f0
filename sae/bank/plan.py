"""The plan of a cell: which SAEs the cell may be asked to train.

A cell is a dataset, a backbone and a budget k. Nothing here imports torch, because the
workflow counts SAEs by plans.
"""

import itertools
from typing import Any

from pydantic import (
    ConfigDict,
    Field,
    ValidationError,
    ValidationInfo,
    field_serializer,
    field_validator,
)

from sae.bank.sae import Sae
from sae.core.errors import UserError
from sae.core.options import Options, describe_problems, later_options, without_absent
from sae.training.recipe import Recipe, Settings, later_options_of, rounded

# Options of the recipe that say what the inputs are: one choice for a whole cell.
INPUT_OPTIONS = ("input_norm", "unit_variance")
# The key among the facts of a bank of SAEs made elsewhere that the cell goes without.
LEFT_OUT = "left_out"


class Method(Options):
    """A method, complete with all defaults: what plans hold, and what is compared.

    How it is printed is in no plan. Tables that name a method may know its relations to
    others alone, so that nothing is required.
    """

    model_config = ConfigDict(validate_by_name=True, serialize_by_alias=True)

    objective: str = ""
    imported: bool = Field(default=False, exclude=True, validate_default=True)
    """Whether its SAEs were made elsewhere, as its objective says where it is known."""
    penalty: str | None = None
    mask: str | None = None
    lam: float | None = Field(default=None, alias="lambda")
    """Weight of the penalty; None if there is no penalty, or lambda is swept."""
    options: dict[str, Any] = Field(default={}, validate_default=True)
    """{option: value} of the objective and of the penalty."""
    recipe: dict[str, Any] = Field(default={})
    """{option: value} of the recipe, where the method differs from the cell."""
    sweep: dict[str, list[Any]] = Field(default={})
    """{option: values}; each combination of values is a trial."""
    at: str | None = None
    """Another method, at whose chosen trial this one trains; it then sweeps nothing."""
    against: str | None = None
    """The method that this one is compared with, if any."""
    control: bool = False
    """Whether the method shows what a score is worth; it is not tuned."""
    label: str | None = Field(default=None, exclude=True)
    """What is printed; by default its name."""
    colour: str | None = Field(default=None, exclude=True)
    """Its own, instead of one of the palette."""
    position: int | None = Field(default=None, exclude=True)
    """Its place among an experiment's methods; by default that in a mapping of them."""

    @field_validator("imported")
    @classmethod
    def _is_imported(cls, imported: bool, info: ValidationInfo) -> bool:
        return imported or info.data.get("objective") == "imported"

    @field_validator("options")
    @classmethod
    def _add_later_options(
        cls, options: dict[str, Any], info: ValidationInfo
    ) -> dict[str, Any]:
        # Without an objective there are none; one of the two may not be right.
        if not info.data.get("objective") or "penalty" not in info.data:
            return options
        try:
            later = later_options_of(info.data["objective"], info.data["penalty"])
        except UserError as error:
            raise ValueError(str(error)) from None
        return later | options

    @field_serializer("options")
    def _leave_out_absent_options(self, options: dict[str, Any]) -> dict[str, Any]:
        if not self.objective:
            return options
        later = later_options_of(self.objective, self.penalty)
        return without_absent(options, later)

    @property
    def tuned(self) -> bool:
        """Return whether the method has trials of its own here, to be compared."""
        return not (self.control or self.at or self.imported)

    def trials(self) -> list[dict[str, Any]]:
        """Return every combination of the swept values.

        Values are rounded to what paths print; of values that are then equal one stays.

        Returns:
            {option: value} for each trial, options sorted by name. The last option
            varies fastest. A method without a sweep has the one trial {}.
        """
        option_names = sorted(self.sweep)

        values_by_option = []
        for name in option_names:
            rounded_values = [rounded(value) for value in self.sweep[name]]
            distinct_values = list(dict.fromkeys(rounded_values))
            values_by_option.append(distinct_values)

        return [
            dict(zip(option_names, values, strict=True))
            for values in itertools.product(*values_by_option)
        ]


class Plan(Options):
    """The plan of a cell: all that its job is told. It travels as JSON."""

    dataset: str
    backbone: str
    k: int
    seeds: list[int]
    recipe: dict[str, Any]
    """What all methods share (`sae.training.recipe.Recipe`)."""
    methods: dict[str, Method]
    protocols: dict[str, dict[str, Any]]
    """{protocol: its options}, in the order in which the protocols train."""
    metrics: dict[str, dict[str, Any]] = Field({})
    """{metric: its options}, of the metrics that protocols read on validation; a metric
    that is not named has its defaults."""

    @field_validator("recipe")
    @classmethod
    def _add_later_options(cls, recipe: dict[str, Any]) -> dict[str, Any]:
        return later_options(Recipe) | recipe

    @field_serializer("recipe")
    def _leave_out_absent_options(self, recipe: dict[str, Any]) -> dict[str, Any]:
        return without_absent(recipe, later_options(Recipe))

    def member(
        self, method: str, trial: dict[str, Any], seed: int, protocol: str
    ) -> Sae:
        """Return the SAE of a method, a trial and a seed, with its settings.

        Each setting is what the trial says; else what the method says; else what the
        recipe of the cell says.

        Args:
            method: Name of a method of this plan.
            trial: {option: value} of swept options.
            seed: Seed of the SAE.
            protocol: Name of the protocol that asks for the SAE.

        Raises:
            UserError: The trial sets an option that the method does not have, or that
                all SAEs of the cell share; or a value is not allowed.
        """
        planned = self.methods[method]
        options_to_sweep = {*planned.options, *Recipe.model_fields} - {*INPUT_OPTIONS}
        if planned.penalty:
            options_to_sweep.add("lambda")
        for name in trial:
            if name not in options_to_sweep:
                raise UserError(f"method {method}: it has no option {name!r} to sweep")

        # Options of the objective and the penalty lie in a dictionary of their own.
        entry_options = {
            name: trial.get(name, value) for name, value in planned.options.items()
        }
        other_trial_values = {
            name: value for name, value in trial.items() if name not in entry_options
        }
        values = {
            **self.recipe,
            **planned.recipe,
            "k": self.k,
            "seed": seed,
            "objective": planned.objective,
            "penalty": planned.penalty,
            "mask": planned.mask,
            "lambda": planned.lam,
            **other_trial_values,
        }
        if planned.penalty and values["lambda"] is None:
            raise UserError(
                f"method {method}: penalty {planned.penalty} needs lambda, or a sweep "
                "of it"
            )

        try:
            settings = Settings(**values, options=entry_options)
        except ValidationError as error:
            raise UserError(f"method {method}: {describe_problems(error)}") from None
        return Sae(
            dataset=self.dataset,
            backbone=self.backbone,
            k=self.k,
            method=method,
            trial=trial,
            seed=seed,
            protocol=protocol,
            settings=settings,
        )

    @property
    def cell(self) -> str:
        """The cell as messages call it, such as `digits / tiny / k4`."""
        return f"{self.dataset} / {self.backbone} / k{self.k}"

    @property
    def tuned(self) -> list[str]:
        """The methods with trials of their own, to be compared."""
        return [name for name, planned in self.methods.items() if planned.tuned]

    def at(self, method: str) -> list[str]:
        """Return the methods that train at what is chosen for `method`."""
        return [name for name, planned in self.methods.items() if planned.at == method]

    def root(self, method: str) -> str:
        """Return the baseline at the end of a method's chain of `against`."""
        while (compared_with := self.methods[method].against) is not None:
            method = compared_with
        return method

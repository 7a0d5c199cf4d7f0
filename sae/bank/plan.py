"""What a cell, a (dataset, backbone, k), is asked to train. No torch here: the workflow counts SAEs by it."""

import itertools
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from pydantic import (
    ConfigDict,
    Field,
    ValidationError,
    ValidationInfo,
    field_serializer,
    field_validator,
)

from sae.core import paths
from sae.core.errors import UserError
from sae.core.options import Options, told, without_absent
from sae.training.recipe import Recipe, Settings, later_options_of, rounded


class Method(Options):
    """A method as a cell trains it, complete with all defaults."""

    model_config = ConfigDict(validate_by_name=True, serialize_by_alias=True)

    objective: str
    penalty: str | None = None
    mask: str | None = None
    lam: float | None = Field(None, alias="lambda")
    """None where it is swept, or there is no penalty."""
    options: dict[str, Any] = Field({})
    """Of the objective and of the penalty."""
    recipe: dict[str, Any] = Field({})
    """What it trains with instead of the cell's recipe."""
    sweep: dict[str, list[Any]] = Field({})
    """{option: values}: each point is a trial."""
    at: str | None = None
    against: str | None = None
    control: bool = False

    @field_validator("options")
    @classmethod
    def _complete(cls, options: dict[str, Any], info: ValidationInfo) -> dict[str, Any]:
        return later_options_of(info.data["objective"], info.data["penalty"]) | options

    @field_serializer("options")
    def _as_record(self, options: dict[str, Any]) -> dict[str, Any]:
        return without_absent(options, later_options_of(self.objective, self.penalty))

    @property
    def tuned(self) -> bool:
        """Whether it is trained here with trials of its own, to be compared."""
        return not (self.control or self.at or self.objective == "imported")

    def trials(self) -> list[dict[str, Any]]:
        """The points of the sweep, options sorted by name; values are rounded to what paths print."""
        names = sorted(self.sweep)
        values = [
            list(dict.fromkeys(rounded(v) for v in self.sweep[name])) for name in names
        ]
        return [
            dict(zip(names, point, strict=True)) for point in itertools.product(*values)
        ]


@dataclass(frozen=True)
class Member:
    """One SAE of a cell.

    Attributes:
        method: its name.
        trial: {option: value} in which it differs from the method's other SAEs; empty if in none.
        settings: what it is trained with.
        protocol: whose trial it is.
    """

    method: str
    trial: dict[str, Any]
    settings: Settings
    protocol: str

    @property
    def path(self) -> str:
        """Where it lies, relative to its bank."""
        return paths.SAE.format(
            method=self.method, trial=self.name, seed=self.settings.seed
        )

    @property
    def name(self) -> str:
        """The trial as paths have it."""
        return paths.trial_name(self.trial)

    def __str__(self) -> str:
        return f"{self.method} {self.name} seed {self.settings.seed}"


class Plan(Options):
    """What a cell's job is told: JSON is how it travels."""

    dataset: str
    backbone: str
    k: int
    seeds: list[int]
    recipe: dict[str, Any]
    """See `sae.training.recipe.Recipe`."""
    methods: dict[str, Method]
    protocols: dict[str, dict[str, Any]]
    """{entry of sae.protocols: its options}, in the order in which they train."""
    metrics: dict[str, dict[str, Any]] = Field({})
    """Of what the protocols read on validation, by name; the defaults where one is not named."""

    @field_validator("recipe")
    @classmethod
    def _complete(cls, recipe: dict[str, Any]) -> dict[str, Any]:
        return Recipe.later_options() | recipe

    @field_serializer("recipe")
    def _as_record(self, recipe: dict[str, Any]) -> dict[str, Any]:
        return without_absent(recipe, Recipe.later_options())

    def member(
        self, method: str, trial: dict[str, Any], seed: int, protocol: str
    ) -> Member:
        """One SAE.

        Raises:
            UserError: a method sets or sweeps what it does not have, or what the whole cell has in common.
        """
        spec = self.methods[method]
        known = {
            *spec.options,
            *Recipe.model_fields,
            *(["lambda"] if spec.penalty else []),
        }
        for name in trial:
            if name not in known:
                raise UserError(f"method {method}: it has no option {name!r} to sweep")
        for name in (
            "input_norm",
            "unit_variance",
        ):  # All SAEs of a cell read the same inputs.
            if name in spec.recipe or name in trial:
                raise UserError(
                    f"method {method}: {name} is the same for all methods; set it in the recipe"
                )
        options = {name: trial.get(name, value) for name, value in spec.options.items()}
        values = self.recipe | spec.recipe | {"k": self.k, "seed": seed}
        values |= {
            "objective": spec.objective,
            "penalty": spec.penalty,
            "mask": spec.mask,
            "lambda": spec.lam,
        }
        values |= {name: value for name, value in trial.items() if name not in options}
        if spec.penalty and values["lambda"] is None:
            raise UserError(
                f"method {method}: penalty {spec.penalty} needs lambda, or a sweep of it"
            )
        try:
            return Member(method, trial, Settings(**values, options=options), protocol)
        except ValidationError as error:
            raise UserError(f"method {method}: {told(error)}") from None

    @property
    def cell(self) -> str:
        """What messages call it."""
        return f"{self.dataset} / {self.backbone} / k{self.k}"

    @property
    def tuned(self) -> list[str]:
        """The methods with trials of their own, to be compared."""
        return [name for name, spec in self.methods.items() if spec.tuned]

    def at(self, method: str) -> list[str]:
        """The methods that are trained at what is chosen for another one."""
        return [name for name, spec in self.methods.items() if spec.at == method]

    def root(self, method: str) -> str:
        """The baseline at the end of a method's chain of `against`."""
        while (other := self.methods[method].against) is not None:
            method = other
        return method


def named(members: Iterable[Member]) -> dict[str, Member]:
    """{path: member}, each once, in their order."""
    return {member.path: member for member in members}

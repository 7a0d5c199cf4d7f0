"""An experiment with its name and the config that it stands in, for the checks."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

from sae.config.models import Config, Experiment, MethodEntry, RecipeEntry, Sweep


@dataclass(frozen=True)
class NamedExperiment:
    """An experiment of a config whose entries and methods are complete.

    Properties that look something up in the config hold once the names that the
    experiment says are known to be there.

    Attributes:
        config: The whole config.
        name: The experiment.
    """

    config: Config
    name: str

    @property
    def spec(self) -> Experiment:
        """The experiment as the config has it."""
        return self.config.experiments[self.name]

    @property
    def key(self) -> str:
        """The key of the experiment, such as "experiments.demo"."""
        return f"experiments.{self.name}"

    @property
    def names_of_k(self) -> list[str]:
        """Every k of its datasets as grids by k name it, such as "k8"."""
        return [f"k{k}" for k in self.spec.every_k]

    @cached_property
    def methods(self) -> dict[str, MethodEntry]:
        """{name: method} of its methods, in its order."""
        return {name: self.config.methods[name] for name in self.spec.methods}

    @cached_property
    def tuned_methods(self) -> dict[str, MethodEntry]:
        """{name: method} of those methods that have trials of their own."""
        return {name: method for name, method in self.methods.items() if method.tuned}

    @property
    def common_recipe(self) -> RecipeEntry:
        """The recipe that trains its SAEs, where nothing is said of a dataset."""
        return self.config.training[self.spec.training]

    def recipe(self, dataset: str) -> dict[str, Any]:
        """Return {option: value} of the recipe that trains SAEs on a dataset."""
        return self.config.recipe(self.name, dataset).model_dump()

    def recipe_key(self, dataset: str) -> str:
        """Return the key that says the recipe of a dataset."""
        differences = self.spec.by_dataset.get(dataset)
        if differences is not None and differences.recipe:
            return f"{self.key}.by_dataset.{dataset}"
        return f"training.{self.spec.training}"

    def k_key(self, dataset: str) -> str:
        """Return the key that says the budgets k of a dataset."""
        differences = self.spec.by_dataset.get(dataset)
        if differences is not None and differences.k is not None:
            return f"{self.key}.by_dataset.{dataset}.k"
        return f"{self.key}.k"

    def sweep_said_here(self, method: str) -> Sweep:
        """Return what the experiment itself says that a method sweeps."""
        return self.spec.sweep.get(method, {})

    def sweep(self, method: str) -> Sweep:
        """Return what a method sweeps in the experiment, for all k."""
        return {**self.methods[method].sweep, **self.sweep_said_here(method)}

    def values_tried(self, method: str, k: int) -> dict[str, list[Any]]:
        """Return {option: values} of a method's trials at a k.

        A method that is `at` another one is trained at one of the other one's trials.
        """
        at = self.config.methods[method].at
        return self.config.sweep(self.name, at or method, k)

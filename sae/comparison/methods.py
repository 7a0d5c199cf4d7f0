"""How an experiment's methods stand to each other.

They say with which method each is compared, at whose choice it is trained, and whether
it is a control.
"""

from collections.abc import Iterable

from pydantic import Field

from sae.bank.plan import Method
from sae.core.options import Options


class Methods(Options):
    """An experiment's methods.

    Attributes:
        methods: {id: what is known of the method}, in the order of config.
    """

    methods: dict[str, Method] = Field({})

    def of(self, name: str) -> Method:
        """Return what is known of a method; the defaults, of one that is not here."""
        return self.methods.get(name, Method())

    @property
    def compared(self) -> dict[str, str | None]:
        """{method: the method that it is compared with}, in the order of config.

        These are the methods that have trials of their own.
        """
        return {
            name: self.methods[name].against
            for name in self.order(self.methods)
            if self.methods[name].at is None
        }

    @property
    def tuned(self) -> dict[str, str | None]:
        """{method: the method that it is compared with}, of methods that are tuned.

        These are neither controls, nor made elsewhere.
        """
        return {
            name: against
            for name, against in self.compared.items()
            if self.methods[name].tuned
        }

    @property
    def pairs(self) -> list[tuple[str, str]]:
        """(base, method) of each method that is trained at the choice of its base."""
        pairs = []
        for name in self.order(self.methods):
            base = self.methods[name].at
            if base is not None:
                pairs.append((base, name))
        return pairs

    @property
    def baselines(self) -> list[str]:
        """The methods that others are compared with, and that are compared with none.

        If there are none of these, it is the first method that is tuned.
        """
        compared_with = {method.against for method in self.methods.values()}
        baselines = [
            name
            for name, against in self.compared.items()
            if against is None and name in compared_with
        ]
        if baselines:
            return baselines
        return list(self.tuned)[:1]

    @property
    def controls(self) -> list[str]:
        """The methods that say what a score is worth; they are not tuned."""
        return [name for name in self.order(self.methods) if self.methods[name].control]

    @property
    def imported(self) -> list[str]:
        """The methods whose SAEs were made elsewhere."""
        return [
            name for name in self.order(self.methods) if self.methods[name].imported
        ]

    def order(self, names: Iterable[str]) -> list[str]:
        """Return methods in the order of config; unknown ones come last, by id."""
        return sorted(
            set(names),
            key=lambda name: (name not in self.methods, self.position(name), name),
        )

    def position(self, name: str) -> int:
        """Return a method's place in the experiment; an unknown one comes last."""
        position = self.of(name).position
        if position is not None:
            return position
        return [*self.methods, name].index(name)

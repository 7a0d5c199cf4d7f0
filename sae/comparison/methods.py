"""How an experiment's methods stand to each other: which are compared, with which, and which are controls."""

from collections.abc import Iterable

from pydantic import Field

from sae.core.options import Options


class Method(Options):
    """What of a method decides how it is shown.

    Attributes:
        label: what is printed; by default its id.
        colour: of its own.
        against: the method that it is compared with.
        at: the method at whose choice it is trained.
        control: whether it says what a score is worth.
        imported: whether its SAEs were made elsewhere.
        position: among the experiment's methods; by default that in `Names.methods`.
    """

    label: str | None = None
    colour: str | None = None
    against: str | None = None
    at: str | None = None
    control: bool = False
    imported: bool = False
    position: int | None = None


class Methods(Options):
    """An experiment's methods.

    Attributes:
        methods: by id.
    """

    methods: dict[str, Method] = Field({})

    def of(self, name: str) -> Method:
        """What is known of a method; nothing of one that is not the experiment's."""
        return self.methods.get(name, Method())

    @property
    def compared(self) -> dict[str, str | None]:
        """{method: the method it is compared with}, of all that have trials of their own, in the order of config."""
        return {
            name: self.methods[name].against
            for name in self.order(self.methods)
            if self.methods[name].at is None
        }

    @property
    def tuned(self) -> dict[str, str | None]:
        """The same of those that have fronts: neither controls, nor made elsewhere."""
        return {
            n: other
            for n, other in self.compared.items()
            if not (self.of(n).control or self.of(n).imported)
        }

    @property
    def pairs(self) -> list[tuple[str, str]]:
        """(base, method) of all methods that are trained at the choice of another one, the base."""
        return [
            (base, name)
            for name in self.order(self.methods)
            if (base := self.methods[name].at) is not None
        ]

    @property
    def baselines(self) -> list[str]:
        """The methods that others are compared with, themselves with none; if there are none, the first trained one."""
        others = {method.against for method in self.methods.values()}
        found = [
            name
            for name, against in self.compared.items()
            if against is None and name in others
        ]
        return found or [*self.tuned][:1]

    @property
    def controls(self) -> list[str]:
        """The methods that say what a score is worth: not tuned, and compared with none."""
        return [name for name in self.order(self.methods) if self.methods[name].control]

    @property
    def imported(self) -> list[str]:
        """Return the methods whose SAEs were made elsewhere."""
        return [
            name for name in self.order(self.methods) if self.methods[name].imported
        ]

    def order(self, names: Iterable[str]) -> list[str]:
        """Methods in the order of config; those that it lacks come last, by id."""
        return sorted(
            set(names),
            key=lambda name: (name not in self.methods, self.position(name), name),
        )

    def position(self, name: str) -> int:
        """Its place among the experiment's methods."""
        given, places = self.of(name).position, [*self.methods, name]
        return places.index(name) if given is None else given

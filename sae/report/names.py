"""How methods, datasets and backbones are printed and drawn. Ids join tables; labels are looked up here, at the end."""

import functools
import re
from collections import Counter
from collections.abc import Iterable, Mapping

from pydantic import Field

from sae.core.options import Options

# Okabe and Ito's colours, then Paul Tol's that stay furthest from all before them, for normal and colour-blind eyes.
PALETTE = (
    *("#6699CC", "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9"),
    *("#332288", "#AA3377", "#661100", "#EE99AA", "#DDCC77", "#F0E442", "#88CCEE"),
)
# Of baselines.
DARK = ("#444444", "#000000")
CONTROL = "#AAAAAA"
# Their numbers have no common factor with each other, so that two methods differ in one at least.
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<", ">", "p", "h")
DASHES = ("-", (0, (7, 1.5, 1.5, 1.5)), (0, (1.5, 1)), (0, (9, 2)), (0, (5, 1, 1, 1, 1, 1)))
BASELINE_DASHES = (0, (3.5, 1.5))

Dashes = str | tuple[int, tuple[float, ...]]


# Control characters, halves of surrogate pairs, and marks that would turn round the text after them.
_UNPRINTED = re.compile(r"[\s\x00-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]+")


def printed(text: str) -> str:
    """A label or the name of a class on one line, without what no page, table or figure can print."""
    return _UNPRINTED.sub(" ", text).strip()


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


class Names(Options):
    """The labels and looks of an experiment's methods, datasets and backbones.

    A method's colour, marker and dashes follow from its position in config.yaml, so that they are the same in every
    figure. An id without a label is printed as it is. A label is printed on one line (:func:`printed`).

    Attributes:
        methods: by id.
        datasets, backbones: {id: label}.
    """

    methods: dict[str, Method] = Field({})
    datasets: dict[str, str | None] = Field({})
    backbones: dict[str, str | None] = Field({})

    @functools.cached_property
    def _labels(self) -> dict[str, dict[str, str]]:
        methods = {name: method.label for name, method in self.methods.items()}
        given = {"methods": methods, "datasets": self.datasets, "backbones": self.backbones}
        return {kind: _told_apart(labels) for kind, labels in given.items()}

    def method(self, name: str) -> str:
        """A method's label."""
        return self._labels["methods"].get(name, name)

    def dataset(self, name: str) -> str:
        """A dataset's label."""
        return self._labels["datasets"].get(name, name)

    def backbone(self, name: str) -> str:
        """A backbone's label."""
        return self._labels["backbones"].get(name, name)

    def of(self, name: str) -> Method:
        """What is known of a method; nothing of one that is not the experiment's."""
        return self.methods.get(name, Method())

    @property
    def compared(self) -> dict[str, str | None]:
        """{method: the method it is compared with}, of all that have trials of their own, in the order of config."""
        return {name: self.methods[name].against for name in self.order(self.methods) if self.methods[name].at is None}

    @property
    def pairs(self) -> list[tuple[str, str]]:
        """(base, method) of all methods that are trained at the choice of another one, the base."""
        return [(base, name) for name in self.order(self.methods) if (base := self.methods[name].at) is not None]

    @property
    def baselines(self) -> list[str]:
        """The methods that others are compared with, themselves with none; if there are none, the first trained one."""
        others = {method.against for method in self.methods.values()}
        found = [name for name, against in self.compared.items() if against is None and name in others]
        trained = [n for n in self.compared if not (self.methods[n].control or self.methods[n].imported)]
        return found or trained[:1]

    @property
    def controls(self) -> list[str]:
        """The methods that say what a score is worth: not tuned, and compared with none."""
        return [name for name in self.order(self.methods) if self.methods[name].control]

    def order(self, names: Iterable[str]) -> list[str]:
        """Methods in the order of config; those that it lacks come last, by id."""
        return sorted(set(names), key=lambda name: (name not in self.methods, self._position(name), name))

    def colour(self, name: str) -> str:
        """A method's colour: its own of config.yaml; dark for a baseline, grey for a control, else of the palette."""
        method, baselines = self.of(name), self.baselines[: len(DARK)]
        if method.colour:
            return method.colour
        if name in baselines:
            return DARK[baselines.index(name)]
        return CONTROL if method.control else PALETTE[self._position(name) % len(PALETTE)]

    def marker(self, name: str) -> str:
        """A method's marker, for matplotlib."""
        return MARKERS[self._position(name) % len(MARKERS)]

    def dashes(self, name: str) -> Dashes:
        """A method's line style, for matplotlib."""
        return BASELINE_DASHES if name in self.baselines else DASHES[(self._position(name) - 1) % len(DASHES)]

    def _position(self, name: str) -> int:
        given, places = self.of(name).position, [*self.methods, name]
        return places.index(name) if given is None else given


def _told_apart(given: Mapping[str, str | None]) -> dict[str, str]:
    """{id: what is printed}: two ids that have one label are told apart."""
    labels = {name: printed(label or "") or name for name, label in given.items()}
    count = Counter(labels.values())
    return {name: label if count[label] == 1 else f"{label} ({name})" for name, label in labels.items()}

"""How methods, datasets and backbones are printed and drawn. Ids join tables; labels are looked up here, at the end."""

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

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


def _labels(given: Mapping[str, str | None]) -> dict[str, str]:
    """{id: what is printed}: two ids that have one label are told apart."""
    labels = {name: printed(label or "") or name for name, label in given.items()}
    count = Counter(labels.values())
    return {name: label if count[label] == 1 else f"{label} ({name})" for name, label in labels.items()}


class _Method(NamedTuple):
    against: str | None
    at: str | None
    colour: str | None
    control: bool
    imported: bool
    position: int


class Names:
    """The labels and looks of an experiment's methods, datasets and backbones.

    A method's colour, marker and dashes follow from its position in config.yaml, so that they are the same in every
    figure. An id without a label is printed as it is. A label is printed on one line (:func:`printed`).

    Args:
        settings: {"methods": {id: {"label", "colour", "against", "at", "control", "imported", "position"}},
            "datasets": {id: label}, "backbones": {id: label}}. Each key of a method may be left out or None; the
            position is then that in `methods`.
    """

    def __init__(self, settings: dict[str, Any]) -> None:
        methods = settings.get("methods", {})
        self._labels = {kind: _labels(settings.get(kind, {})) for kind in ("datasets", "backbones")}
        self._labels["methods"] = _labels({name: given.get("label") for name, given in methods.items()})
        self._methods = {}
        for place, (name, given) in enumerate(methods.items()):
            position = given.get("position")
            self._methods[name] = _Method(
                against=given.get("against"),
                at=given.get("at"),
                colour=given.get("colour"),
                control=bool(given.get("control")),
                imported=bool(given.get("imported")),
                position=place if position is None else position,
            )

    def method(self, name: str) -> str:
        """A method's label."""
        return self._labels["methods"].get(name, name)

    def dataset(self, name: str) -> str:
        """A dataset's label."""
        return self._labels["datasets"].get(name, name)

    def backbone(self, name: str) -> str:
        """A backbone's label."""
        return self._labels["backbones"].get(name, name)

    def against(self, name: str) -> str | None:
        """The method that a method is compared with."""
        return self._methods[name].against if name in self._methods else None

    def at(self, name: str) -> str | None:
        """The method at whose choice a method is trained; None for all others."""
        return self._methods[name].at if name in self._methods else None

    @property
    def compared(self) -> dict[str, str | None]:
        """{method: the method it is compared with}, of all that have trials of their own, in the order of config."""
        return {name: self.against(name) for name in self.order(self._methods) if self.at(name) is None}

    @property
    def pairs(self) -> list[tuple[str, str]]:
        """(base, method) of all methods that are trained at the choice of another one, the base."""
        return [(base, name) for name in self.order(self._methods) if (base := self.at(name)) is not None]

    @property
    def baselines(self) -> list[str]:
        """The methods that others are compared with, themselves with none; if there are none, the first trained one."""
        others = {method.against for method in self._methods.values()}
        found = [name for name, against in self.compared.items() if against is None and name in others]
        trained = [n for n in self.compared if not (self._methods[n].control or self._methods[n].imported)]
        return found or trained[:1]

    @property
    def controls(self) -> list[str]:
        """The methods that say what a score is worth: not tuned, and compared with none."""
        return [name for name in self.order(self._methods) if self._methods[name].control]

    def order(self, names: Iterable[str]) -> list[str]:
        """Methods in the order of config; those that it lacks come last, by id."""
        return sorted(set(names), key=lambda name: (name not in self._methods, self._position(name), name))

    def colour(self, name: str) -> str:
        """A method's colour: its own of config.yaml; dark for a baseline, grey for a control, else of the palette."""
        if name in self._methods and (colour := self._methods[name].colour):
            return colour
        baselines = self.baselines
        if name in baselines[: len(DARK)]:
            return DARK[baselines.index(name)]
        if name in self._methods and self._methods[name].control:
            return CONTROL
        return PALETTE[self._position(name) % len(PALETTE)]

    def marker(self, name: str) -> str:
        """A method's marker, for matplotlib."""
        return MARKERS[self._position(name) % len(MARKERS)]

    def dashes(self, name: str) -> Dashes:
        """A method's line style, for matplotlib."""
        return BASELINE_DASHES if name in self.baselines else DASHES[(self._position(name) - 1) % len(DASHES)]

    def _position(self, name: str) -> int:
        return self._methods[name].position if name in self._methods else len(self._methods)

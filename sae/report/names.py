"""How methods, datasets and backbones are printed and drawn.

Ids join tables; labels are looked up here, at the end.
"""

import functools
import re
from collections import Counter
from collections.abc import Mapping

from pydantic import Field

from sae.comparison.methods import Methods

# Okabe and Ito's colours, then Paul Tol's that stay furthest from all before them, for
# normal and colour-blind eyes.
PALETTE = (
    *("#6699CC", "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9"),
    *("#332288", "#AA3377", "#661100", "#EE99AA", "#DDCC77", "#F0E442", "#88CCEE"),
)
# Of baselines.
DARK = ("#444444", "#000000")
# Of controls: pale, so that they stand back.
PALE = ("#9A9A9A", "#C9A97C", "#8FB39A", "#B9A0C9", "#D6A0A0")
# The numbers of colours, markers and dashes share no factor, so that no two methods
# look the same.
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<", ">", "p", "h")
DASHES = (
    "-",
    (0, (7, 1.5, 1.5, 1.5)),
    (0, (1.5, 1)),
    (0, (9, 2)),
    (0, (5, 1, 1, 1, 1, 1)),
)
BASELINE_DASHES = (0, (3.5, 1.5))

Dashes = str | tuple[int, tuple[float, ...]]

# Control characters, halves of surrogate pairs, and marks that would turn round the
# text after them.
_UNPRINTED = re.compile(
    r"[\s\x00-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]+"
)


def printed(text: str) -> str:
    """Return a label or the name of a class on one line.

    What no page, table or figure can print is left out.
    """
    return _UNPRINTED.sub(" ", text).strip()


class Names(Methods):
    """The labels and looks of an experiment's methods, datasets and backbones.

    A method's colour, marker and dashes follow from its position in config.yaml, so
    that they are the same in every figure. An id without a label is printed as it is. A
    label is printed on one line (:func:`printed`).

    Attributes:
        datasets: {id: label}.
        backbones: {id: label}.
    """

    datasets: dict[str, str | None] = Field({})
    backbones: dict[str, str | None] = Field({})

    @functools.cached_property
    def _labels(self) -> dict[str, dict[str, str]]:
        methods = {name: method.label for name, method in self.methods.items()}
        return {
            "methods": _different_labels(methods),
            "datasets": _different_labels(self.datasets),
            "backbones": _different_labels(self.backbones),
        }

    def method(self, name: str) -> str:
        """Return a method's label."""
        return self._labels["methods"].get(name, name)

    def dataset(self, name: str) -> str:
        """Return a dataset's label."""
        return self._labels["datasets"].get(name, name)

    def backbone(self, name: str) -> str:
        """Return a backbone's label."""
        return self._labels["backbones"].get(name, name)

    def colour(self, name: str) -> str:
        """Return a method's colour.

        It is its own of config.yaml; else dark for a baseline, pale for a control, and
        one of the palette for any other method.
        """
        method = self.of(name)
        if method.colour:
            return method.colour
        dark_baselines = self.baselines[: len(DARK)]
        if name in dark_baselines:
            return DARK[dark_baselines.index(name)]
        if method.control:
            return PALE[self.controls.index(name) % len(PALE)]
        return PALETTE[self.position(name) % len(PALETTE)]

    def marker(self, name: str) -> str:
        """Return a method's marker, for matplotlib."""
        return MARKERS[self.position(name) % len(MARKERS)]

    def dashes(self, name: str) -> Dashes:
        """Return a method's line style, for matplotlib."""
        if name in self.baselines:
            return BASELINE_DASHES
        return DASHES[(self.position(name) - 1) % len(DASHES)]


def _different_labels(label_by_id: Mapping[str, str | None]) -> dict[str, str]:
    """Return {id: label}; ids that share a label are named beside it."""
    labels = {name: printed(label or "") or name for name, label in label_by_id.items()}
    count = Counter(labels.values())
    return {
        name: label if count[label] == 1 else f"{label} ({name})"
        for name, label in labels.items()
    }

"""What a metric is given: one SAE, the images it is scored on, and its codes of them, encoded once for all metrics."""

import copy
from collections.abc import Callable, Collection, Hashable, Mapping, Sequence
from typing import Any, NamedTuple, TypeVar

import numpy as np
import torch

from sae.core.errors import UserError
from sae.data.store import Activations
from sae.models.coder import Coder
from sae.models.codes import Codes
from sae.models.inputs import Inputs

T = TypeVar("T")


class Curve(NamedTuple):
    """What a metric returns for a curve: `y` at each `x`, both of one length."""

    x: Sequence[float] | np.ndarray
    y: Sequence[float] | np.ndarray


class PerLatent(NamedTuple):
    """What a metric returns for a column of `latents.parquet`.

    Attributes:
        values: (m,), numbers or texts or None.
        name: of the column, where a number has that name too.
        of_judged: whether it is only kept of SAEs that a protocol chose to be judged.
    """

    values: Sequence[Any] | np.ndarray
    name: str = ""
    of_judged: bool = False


class _Declared(dict[str, Activations]):
    """The splits that a metric says it reads."""

    def __missing__(self, split: str) -> Activations:
        raise UserError(
            f"a metric reads the split {split!r}, which neither its SPLITS nor its READS name"
        )


# By column name: a number or text for a column of `metrics.parquet`, or one of the two above.
Scores = dict[str, Any]


class Subject:
    """One SAE and the data it is scored on.

    Attributes:
        coder: the SAE (`sae.models.coder.Coder`).
        splits: {split: `sae.data.store.Activations`}: embeddings as the backbone gave them, and their index.
        others: {backbone: {split: (N, d') embeddings of its images by another backbone of the experiment}}.
        siblings: coders of the same method and trial that were trained with other seeds, for a metric that reads them.
        shared: what is kept for all SAEs of a bank; give the same dict to each.
        backbone: name of the one whose embeddings the SAE was trained on.
    """

    def __init__(
        self,
        coder: Coder,
        splits: Mapping[str, Activations],
        others: Mapping[str, Mapping[str, np.ndarray]] | None = None,
        shared: dict[Hashable, Any] | None = None,
        backbone: str = "",
    ) -> None:
        self.coder, self.splits, self.others, self.backbone = (
            coder,
            splits,
            others or {},
            backbone,
        )
        self.siblings: Sequence[Coder] = ()
        self.shared: dict[Hashable, Any] = {} if shared is None else shared
        self._own: dict[Hashable, Any] = {}

    def limited(self, reads: Collection[str]) -> "Subject":
        """The same for a metric that reads these splits, or `others`: all else is an error or absent."""
        view = copy.copy(self)
        view.splits = _Declared(
            {split: data for split, data in self.splits.items() if split in reads}
        )
        seen = self.others.items() if "others" in reads else ()
        view.others = {
            name: {split: of[split] for split in of if split in reads}
            for name, of in seen
        }
        return view

    def embeddings(self, split: str) -> np.ndarray:
        """(N, d) embeddings as the backbone gave them, a memory map."""
        return self.splits[split].embeddings

    def inputs(self, split: str, at_most: int | None = None) -> torch.Tensor | Inputs:
        """(N, d) prepared inputs, on the coder's device.

        Args:
            at_most: of more rows, only this many, drawn at random; always the same.
        """
        self.splits[
            split
        ]  # Fails for a split that the metric did not ask for, even if its inputs are kept.
        space = (self.coder.input_norm, self.coder.input_scale)
        kept = self.shared.get(("inputs", split, at_most))
        if kept is None or kept[0] != space:
            kept = space, self.coder.open_inputs(self._rows(split, at_most).embeddings)
            self.shared["inputs", split, at_most] = kept
        return kept[1]

    def codes(self, split: str, at_most: int | None = None) -> Codes:
        """The SAE's codes of a split, encoded once."""
        count = len(self.embeddings(split))
        at_most = None if at_most is None or at_most >= count else at_most
        return self.once(
            ("codes", split, at_most),
            lambda: self.coder.encode(self.inputs(split, at_most)),
        )

    def firing_counts(self, split: str) -> np.ndarray:
        """(m,) the images of a split on which each latent is active; a large split's codes are not kept for it."""
        self.splits[split]
        if ("codes", split, None) in self._own:
            return self.codes(split).firing_counts()
        return self.once(
            ("firing", split), lambda: self.coder.firing_counts(self.inputs(split))
        )

    def labels(
        self, split: str, coarse: bool = False, at_most: int | None = None
    ) -> np.ndarray | None:
        """(N,) int64 class numbers from 0, fine or coarse; None where the dataset has none."""
        column = self._rows(split, at_most).index["label_coarse" if coarse else "label"]
        return None if column.isna().any() else column.to_numpy(dtype=np.int64)

    def groups(self, split: str) -> np.ndarray | None:
        """(N,) group names; None where each image is a group of its own."""
        data = self.splits[split]
        return data.index["group"].to_numpy() if data.grouped else None

    def once(self, key: Hashable, make: Callable[[], T]) -> T:
        """What `make` returns; made once for this SAE, for all metrics that ask for the same key."""
        return _once(self._own, key, make)

    def once_for_all(self, key: Hashable, make: Callable[[], T]) -> T:
        """The same for all SAEs of the bank: for what depends on the data alone."""
        return _once(self.shared, key, make)

    def _rows(self, split: str, at_most: int | None) -> Activations:
        data = self.splits[split]
        return (
            data
            if at_most is None
            else self.once_for_all(
                ("rows", split, at_most), lambda: data.sample(at_most)
            )
        )


def _once(kept: dict[Hashable, Any], key: Hashable, make: Callable[[], T]) -> T:
    if key not in kept:
        kept[key] = make()
    return kept[key]

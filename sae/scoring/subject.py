"""Give a metric one SAE, the images it is scored on, and its codes of them.

Codes are computed once for all metrics.
"""

import copy
import os
from collections.abc import Callable, Collection, Hashable, Mapping, Sequence
from dataclasses import replace
from types import ModuleType
from typing import Any, NamedTuple, TypeVar

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from sae.core import guard
from sae.core.errors import UserError
from sae.core.options import Options
from sae.core.seeding import seeded
from sae.data.concepts import SplitConcepts
from sae.data.store import Activations
from sae.models.coder import Coder
from sae.models.codes import Codes
from sae.models.inputs import Inputs

T = TypeVar("T")
# The images of a split whose codes are kept where firing is counted: other metrics most
# often read them, too.
MOST_KEPT = 100_000


class Curve(NamedTuple):
    """A curve that a metric returns: `y` at each `x`, both of one length."""

    x: Sequence[float] | np.ndarray
    y: Sequence[float] | np.ndarray


class PerLatent(NamedTuple):
    """A column of `latents.parquet` that a metric returns.

    That table has chosen SAEs alone.

    Attributes:
        values: (m,), numbers or texts or None.
        of_sae: a number of the whole SAE, for the column of that name in
            `metrics.parquet`; None where there is none.
    """

    values: Sequence[Any] | np.ndarray
    of_sae: float | None = None


class _DeclaredSplits(dict[str, Activations]):
    """The splits that a metric says it reads."""

    def __missing__(self, split: str) -> Activations:
        raise UserError(
            f"a metric reads the split {split!r}, which neither its SPLITS nor its "
            "READS name"
        )


# By column name: a number or text for a column of `metrics.parquet`, or one of the two
# above.
Scores = dict[str, Any]
# {(what it is, part, number): (array or tensor, its state)}
_Guarded = dict[tuple[str, object, int], tuple[Any, guard.State]]


class Subject:
    """One SAE and the data it is scored on.

    Attributes:
        coder: the SAE (`sae.models.coder.Coder`).
        splits: {split: `sae.data.store.Activations`}: embeddings as the backbone gave
            them, and their index.
        others: {backbone: {split: (N, d') embeddings of its images by another backbone
            of the experiment}}.
        siblings: coders of the same method and trial that were trained with other
            seeds, for a metric that reads them.
        shared: what is kept for all SAEs of a bank; give the same dict to each.
        backbone: name of the one whose embeddings the SAE was trained on.
        concepts: {split: what people call its images}, for a metric that reads them.
    """

    def __init__(
        self,
        coder: Coder,
        splits: Mapping[str, Activations],
        others: Mapping[str, Mapping[str, np.ndarray]] | None = None,
        shared: dict[Hashable, Any] | None = None,
        backbone: str = "",
        concepts: Mapping[str, SplitConcepts] | None = None,
    ) -> None:
        self.coder = coder
        # The arrays may be a caller's, who may go on writing to them.
        self.splits: Mapping[str, Activations] = {
            split: replace(images, embeddings=guard.read_only(images.embeddings))
            for split, images in splits.items()
        }
        self.others: Mapping[str, Mapping[str, np.ndarray]] = {
            backbone: {split: guard.read_only(x) for split, x in by_split.items()}
            for backbone, by_split in (others or {}).items()
        }
        self.backbone = backbone
        self.concepts = dict(concepts or {})
        self.siblings: Sequence[Coder] = ()
        self.shared: dict[Hashable, Any] = {} if shared is None else shared
        # {key: what was made for it}, of this SAE alone.
        self._made_for_sae: dict[Hashable, Any] = {}
        # What metrics may not change, of this SAE and of all SAEs of the bank.
        self._guarded: _Guarded = {}
        self._guarded_for_all: _Guarded = self.shared.setdefault("guarded", {})
        self._state_of_coder = _state_of(coder)
        for split, images in self.splits.items():
            _guard(self._guarded, f"embeddings of {split}", images.embeddings)
        for backbone, by_split in self.others.items():
            for split, x in by_split.items():
                _guard(self._guarded, f"{backbone}'s embeddings of {split}", x)
        _guard(self._guarded, "concepts", self.concepts)

    def score(self, module: ModuleType, split: str, options: Options) -> Scores:
        """Return what a metric gives of this SAE; the subject is a view for it.

        Args:
            module: the entry of the metric.
            split: the split that is scored.
            options: the metric's own.

        Raises:
            UserError: the metric changed what others read too, or how they compute.
        """
        process_before = _process_settings()
        metric = module.__name__.rpartition(".")[2]
        try:
            with seeded(f"metric {metric}, {split}"):
                scores = module.score(self, split, options)
        except ValueError as error:
            # What NumPy and scipy say of an array that cannot be written.
            if "read-only" not in str(error):
                raise
            raise _writes(module, "an array") from error
        for name, setting in _process_settings().items():
            if setting != process_before[name]:
                raise _writes(module, name)
        if _state_of(self.coder) != self._state_of_coder:
            raise _writes(module, "the SAE")
        for guarded in (self._guarded, self._guarded_for_all):
            for (name, _, _), (array, state) in guarded.items():
                if guard.state_of(array) != state:
                    raise _writes(module, name)
        return scores

    def limited(self, reads: Collection[str]) -> "Subject":
        """Return this subject as a metric sees it.

        To read another split is an error; other backbones are absent where `reads` has
        neither `others` nor their names. What the view keeps is kept for the subject
        too.

        Args:
            reads: splits, `others` or the names of backbones, and `concepts`.
        """
        view = copy.copy(self)
        view.splits = _DeclaredSplits(
            {
                # A table that is changed becomes another one (pandas' copy-on-write).
                split: replace(images, index=images.index.copy(deep=False))
                for split, images in self.splits.items()
                if split in reads
            }
        )
        if "concepts" not in reads:
            view.concepts = {}
        view.others = {
            backbone: {split: x for split, x in by_split.items() if split in reads}
            for backbone, by_split in self.others.items()
            if "others" in reads or backbone in reads
        }
        return view

    def embeddings(self, split: str) -> Float[np.ndarray, "images dim"]:
        """Return embeddings as the backbone gave them, a memory map."""
        return self.splits[split].embeddings

    def inputs(
        self, split: str, at_most: int | None = None
    ) -> Float[Tensor, "images dim"] | Inputs:
        """Return prepared inputs (N, d), on the coder's device.

        Args:
            split: the split.
            at_most: of more rows, only this many, drawn at random; always the same.
        """
        # This fails for a split that the metric did not ask for, even if its inputs are
        # kept.
        self.splits[split]

        # SAEs of a bank have the same inputs, unless their norms differ.
        key = ("inputs", split, at_most)
        space = (self.coder.input_norm, self.coder.input_scale)
        kept_space, inputs = self.shared.get(key, (None, None))
        if kept_space != space:
            embeddings = self._images(split, at_most).embeddings
            inputs = self.coder.open_inputs(embeddings)
            self.shared[key] = (space, inputs)
            _guard(self._guarded_for_all, f"inputs of {split}", inputs, at_most)
        return inputs

    def codes(self, split: str, at_most: int | None = None) -> Codes:
        """Return the SAE's codes of a split, encoded once.

        Args:
            split: the split.
            at_most: of more rows, only this many, drawn at random; always the same.
        """
        # This fails for a split that the metric did not ask for.
        count = len(self.embeddings(split))
        if at_most is not None and at_most >= count:
            at_most = None
        return self.once(
            ("codes", split, at_most),
            lambda: self.coder.encode(self.inputs(split, at_most)),
        )

    def firing_counts(self, split: str) -> Int[np.ndarray, " latents"]:
        """Return the number of images of a split on which each latent is active.

        Codes of a large split are not kept for it.
        """
        # This fails for a split that the metric did not ask for.
        image_count = len(self.embeddings(split))
        is_kept = ("codes", split, None) in self._made_for_sae
        if is_kept or image_count <= MOST_KEPT:
            return self.codes(split).firing_counts()
        return self.once(
            ("firing", split), lambda: self.coder.firing_counts(self.inputs(split))
        )

    def labels(
        self, split: str, at_most: int | None = None
    ) -> Int[np.ndarray, " images"] | None:
        """Return class numbers from 0; None where an image has none.

        Args:
            split: the split.
            at_most: of more rows, only this many, drawn at random; always the same.
        """
        column = self._images(split, at_most).index["label"]
        if column.isna().any():
            return None
        return guard.read_only(column.to_numpy(dtype=np.int64))

    def groups(self, split: str) -> np.ndarray | None:
        """Return (N,) group names; None where each image is a group of its own."""
        images = self.splits[split]
        if not images.grouped:
            return None
        return guard.read_only(images.index["group"].to_numpy())

    def once(self, key: Hashable, make: Callable[[], T]) -> T:
        """Return what `make` returns.

        It is made once for this SAE, for all metrics that ask for the same key.
        """
        return _keep(self._made_for_sae, self._guarded, key, make)

    def once_for_all(self, key: Hashable, make: Callable[[], T]) -> T:
        """Return what `make` returns, of what depends on the data alone.

        It is made once for all SAEs of the bank.
        """
        return _keep(self.shared, self._guarded_for_all, key, make)

    def _images(self, split: str, at_most: int | None) -> Activations:
        images = self.splits[split]
        if at_most is None:
            return images
        return self.once_for_all(
            ("rows", split, at_most), lambda: images.sample(at_most)
        )


def _keep(
    cache: dict[Hashable, Any],
    guarded: _Guarded,
    key: Hashable,
    make: Callable[[], T],
) -> T:
    """Return what a cache holds under a key; make and guard it if there is nothing."""
    if key not in cache:
        # Who asks first may draw for all, and then draws on as those do who ask later.
        with seeded(f"kept as {key}"):
            cache[key] = make()
        _guard(guarded, f"what is kept as {key}", cache[key])
    return cache[key]


def _process_settings() -> dict[str, Any]:
    """Return what all code of this process computes and writes by."""
    return {
        "PyTorch's default type": torch.get_default_dtype(),
        "whether PyTorch takes gradients": torch.is_grad_enabled(),
        "PyTorch's number of threads": torch.get_num_threads(),
        "NumPy's treatment of errors": np.geterr(),
        "the working directory": os.getcwd(),
    }


def _state_of(coder: Coder) -> dict[str, Any]:
    """Return what is another value after a coder was changed."""
    state: dict[str, Any] = {
        name: guard.state_of(tensor)
        for name, tensor in coder.state_dict(keep_vars=True).items()
    }
    for name in ("k", "input_norm", "input_scale", "tied"):
        state[name] = getattr(coder, name)
    state["select"] = (type(coder.select), getattr(coder.select, "k", None))
    return state


def _guard(guarded: _Guarded, name: str, value: Any, part: object = None) -> None:
    """Make arrays read-only, and note how they and tensors are now."""
    for number, array in enumerate(guard.lock(value)):
        guarded[name, part, number] = (array, guard.state_of(array))


def _writes(module: ModuleType, what: str) -> UserError:
    metric = module.__name__.rpartition(".")[2]
    return UserError(
        f"metric {metric} ({module.__file__}) changes {what}, which other metrics read "
        "too: let it put it back, or work on a copy, such as x.clone() of a tensor, "
        "x.copy() of an array or copy.deepcopy(coder)"
    )

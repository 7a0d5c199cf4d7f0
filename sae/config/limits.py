"""The most that the numbers of a config may be.

A number above its limit is a slip of the pen, which would fill a disk or a week.
"""

from collections.abc import Iterable
from typing import Any, ClassVar, NamedTuple

from pydantic import ValidationInfo, field_validator

from sae.core.options import Options


class Limit(NamedTuple):
    """The most that a number may be.

    Attributes:
        most: The number.
        reason: Why nobody means more.
    """

    most: float
    reason: str


_NO_LARGER_BATCH = Limit(2**24, "a larger batch fits no machine")
_NO_LONGER_TRAINING = Limit(10**9, "at 1 ms a step these take twelve days")
_NO_MORE_IMAGES = Limit(10**10, "nobody has more images")
_NO_MORE_NAMES = Limit(2**24, "more fit no machine")
_NO_MORE_TRIALS = Limit(
    100, "each is trained so many times, for every method in every cell"
)
_NO_MORE_CORES = Limit(4096, "no machine has more cores")
_NO_LARGER_FACTOR = Limit(1000, "it multiplies an estimate")
# {name of a field: its limit}, wherever the field stands.
LIMITS = {
    "m": Limit(2**24, "a larger SAE fits no machine"),
    "batch_size": _NO_LARGER_BATCH,
    "embed_batch_size": _NO_LARGER_BATCH,
    "epochs": Limit(10**6, "it is repeated that often on the same images"),
    "steps": _NO_LONGER_TRAINING,
    "most_steps": _NO_LONGER_TRAINING,
    "first": _NO_LONGER_TRAINING,
    "lr": Limit(
        10,
        "Adam moves each weight by about so much in a step, and rows of the decoder "
        "have length 1",
    ),
    "adam_eps": Limit(1, "a larger one drowns the gradients"),
    "auxk_alpha": Limit(10**6, "nothing but AuxK would count"),
    "lam": Limit(10**6, "nothing but the penalty would count"),
    "encoder_scale": Limit(
        1000, "the encoder starts as the decoder's transpose times this"
    ),
    "counts": _NO_MORE_IMAGES,
    "images": _NO_MORE_IMAGES,
    "max_broken": _NO_MORE_IMAGES,
    "image_size": Limit(2**14, "no backbone reads larger images"),
    "d": Limit(2**20, "no backbone has more dimensions"),
    "concepts": _NO_MORE_NAMES,
    "classes": _NO_MORE_NAMES,
    "points": Limit(10**4, "each is trained, for every method in every cell"),
    "refined": _NO_MORE_TRIALS,
    "values": _NO_MORE_TRIALS,
    "resamples": Limit(10**6, "the interval's ends are settled long before"),
    "threads": _NO_MORE_CORES,
    "decode_workers": _NO_MORE_CORES,
    "saes_at_once": _NO_MORE_CORES,
    "embed_shards": Limit(10**4, "each is a job"),
    "memory_factor": _NO_LARGER_FACTOR,
    "time_factor": _NO_LARGER_FACTOR,
}
# The limit of all other fields, and of options of one's own, whatever their name.
LIMIT_OF_OTHERS = Limit(10**12, "no number of a study is larger")


class Limited(Options):
    """Options whose numbers have a limit: :data:`LIMITS`.

    No study of the next years meets one.
    """

    # Names of fields that are options of a user's entries.
    EXTENSION_OPTIONS: ClassVar[frozenset[str]] = frozenset()

    @field_validator("*")
    @classmethod
    def _check_limit(cls, value: Any, field: ValidationInfo) -> Any:
        """Check the numbers of a field, alone or one level deep in what it holds."""
        name = field.field_name or ""
        limit = LIMITS.get(name, LIMIT_OF_OTHERS)
        if name in cls.EXTENSION_OPTIONS:
            limit = LIMIT_OF_OTHERS

        numbers: Iterable[Any] = [value]
        if isinstance(value, dict | Options):
            numbers = dict(value).values()
        elif isinstance(value, Iterable):
            numbers = value
        for number in numbers:
            if not isinstance(number, int | float) or "seed" in name:
                continue
            if number > limit.most:
                raise ValueError(
                    f"{number} should be at most {limit.most:,}: {limit.reason}"
                )
        return value

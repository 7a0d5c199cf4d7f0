"""The door to datasets and backbones: a mapping of config.yaml, which JSON brings, becomes the entry's `Options`."""

from types import ModuleType
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError

from sae.core import registry
from sae.core.errors import UserError
from sae.core.options import (
    Count,
    Later,
    Options,
    Positive,
    Precision,
    Whole,
    describe_problems,
    from_record,
    later_options,
    without_absent,
)

# The key of a mapping that names its entry.
NAMED_BY = {"dataset": "type", "backbone": "loader", "annotation": "source"}


class _OfAll(Options, extra="ignore"):
    """What functions read of the mapping of any dataset or backbone.

    The config knows these keys too (`sae.config.models`); a mapping that was written by
    hand is checked here alone.
    """

    artifacts: dict[str, str] | list[str] = Field([])
    max_broken: Whole = 0
    max_megapixels: Positive | None = None
    duplicates: Literal["allow"] | None = None
    train_share: Annotated[float, Field(gt=0, le=1), Later(1.0)] = 1.0
    image_size: Count | None = None
    precision: Precision | Literal["auto"] = "float32"
    dtype: Literal["float32", "float16"] = "float32"
    batch_size: Count | None = None


def entry(
    kind: Literal["dataset", "backbone", "annotation"], spec: dict[str, Any]
) -> tuple[ModuleType, Any]:
    """The module that a mapping names, and what its functions take: its `Options`; without such a class the mapping.

    Raises:
        UserError: there is no such entry, its file cannot be imported, or a key of the
            mapping is missing or not right.
    """
    by = NAMED_BY[kind]
    if not isinstance(spec.get(by), str):
        known = ", ".join(registry.names(kind))
        raise UserError(f"{kind}: its key {by} must name an entry; there are: {known}")
    module = registry.load(kind, spec[by])
    _checked(_OfAll, spec, f"{kind} {spec[by]}")
    if not hasattr(module, "Options"):
        return module, spec
    own = {key: spec[key] for key in module.Options.model_fields if key in spec}
    return module, _checked(module.Options, own, f"{kind} {spec[by]}")


def content(
    kind: Literal["dataset", "backbone"], spec: dict[str, Any]
) -> dict[str, Any]:
    """Return what of a mapping stands in keys: all but later options at what their absence stands for.

    Args:
        kind: Of the entry.
        spec: Its mapping in the config (`sae.core.options.Later` says what is later).
    """
    options = registry.head(kind, spec[NAMED_BY[kind]]).options
    return without_absent(spec, later_options(_OfAll) | later_options(options))


def _checked(model: type[Options], words: dict[str, Any], what: str) -> Options:
    """The model of some words, as a record has them.

    Raises:
        UserError: a key is missing or not right; says all of them, after `what`.
    """
    try:
        return from_record(model, words)
    except ValidationError as error:
        raise UserError(f"{what}: {describe_problems(error)}") from None

"""The door to datasets, backbones and annotations.

What config.yaml says of one is a mapping, which a job gets as JSON, or reads in a
manifest. :func:`parse` checks it once and makes an :class:`Entry` of it.
"""

from dataclasses import dataclass
from types import ModuleType
from typing import Any, Literal, TypeVar

from pydantic import Field, ValidationError

from sae.core import registry
from sae.core.errors import UserError
from sae.core.options import (
    Count,
    Options,
    Positive,
    Precision,
    Whole,
    describe_problems,
    from_record,
    later,
    later_options,
    without_absent,
)
from sae.data import artifacts

Kind = Literal["dataset", "backbone", "annotation"]
_OptionsClass = TypeVar("_OptionsClass", bound=Options)
# The key of a mapping that names its entry.
NAMED_BY = {"dataset": "type", "backbone": "loader", "annotation": "source"}


class ImageDatasetOptions(Options):
    """The options that any dataset of images may have, whatever its file says."""

    image_size: Count | None = Field(
        None,
        description="Pixels, for the backbones that have none of their own; each "
        "model's own, if not given.",
    )
    max_broken: Whole = Field(
        0, description="How many images may be unreadable, and are then left out."
    )
    max_megapixels: Positive | None = None
    """A larger image counts as unreadable, by its header; 89, if not given."""
    train_share: float = later(1.0, gt=0, le=1)
    """The share of its training groups that is kept; val and test stay."""


class NetworkOptions(Options):
    """The options that any backbone which embeds images may have."""

    image_size: Count | None = Field(
        None, description="Pixels; the dataset's, if not given."
    )
    precision: Precision | Literal["auto"] = "float32"
    """Of the network; auto: bfloat16 where the processor has it."""
    dtype: Literal["float32", "float16"] = Field(
        "float32", description="Of the embeddings as they are stored."
    )
    batch_size: Count | None = Field(
        None,
        description="Images a forward pass; compute.embed_batch_size, if not given.",
    )


class SharedOptions(ImageDatasetOptions, NetworkOptions, extra="ignore"):
    """The options of a dataset, backbone or annotation that do not depend on its file.

    Other keys are passed over: those of the file's own options.
    """

    artifacts: dict[str, str] | list[str] = Field([])
    duplicates: Literal["allow"] | None = None


@dataclass(frozen=True)
class Entry:
    """A dataset, backbone or annotation of the config, checked.

    Attributes:
        kind: What it is.
        name: The file that makes it, such as "imagenet": the mapping's `type`, `loader`
            or `source`.
        mapping: What the config says, as it stands in manifests.
        module: The file's module.
        options: What the module's functions take: its `Options`; the mapping itself
            where the module has no such class.
        shared: The options that do not depend on the file.
    """

    kind: Kind
    name: str
    mapping: dict[str, Any]
    module: ModuleType
    options: Any
    shared: SharedOptions

    @property
    def artifact_names(self) -> list[str]:
        """The artifacts that it is made of, in order."""
        return artifacts.list_names(self.shared.artifacts)

    def key_content(self) -> dict[str, Any]:
        """Return what of the mapping stands in keys.

        That is all but later options at what their absence stands for
        (`sae.core.options.later`).
        """
        own_options = registry.head(self.kind, self.name).options
        return without_absent(
            self.mapping, {**later_options(SharedOptions), **later_options(own_options)}
        )


def parse(kind: Kind, mapping: dict[str, Any]) -> Entry:
    """Check what the config says of a dataset, backbone or annotation.

    Raises:
        UserError: there is no such entry, its file cannot be imported, or a key of the
            mapping is missing or not right.
    """
    name = mapping.get(NAMED_BY[kind])
    if not isinstance(name, str):
        entry_names = ", ".join(registry.names(kind))
        raise UserError(
            f"{kind}: its key {NAMED_BY[kind]} must name an entry; there are: "
            f"{entry_names}"
        )
    module = registry.load(kind, name)
    shared = _checked(SharedOptions, mapping, f"{kind} {name}")
    options: Any = mapping
    if hasattr(module, "Options"):
        names = module.Options.model_fields
        own_mapping = {key: mapping[key] for key in names if key in mapping}
        options = _checked(module.Options, own_mapping, f"{kind} {name}")
    return Entry(kind, name, mapping, module, options, shared)


def _checked(
    options_class: type[_OptionsClass], mapping: dict[str, Any], place: str
) -> _OptionsClass:
    try:
        return from_record(options_class, mapping)
    except ValidationError as error:
        raise UserError(f"{place}: {describe_problems(error)}") from None

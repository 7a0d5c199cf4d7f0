"""Datasets, backbones and annotations as the config says them.

One class has all that may be written of an entry: what all of its kind have, and the
options of its own file (:func:`class_with_options`). `sae.config` makes objects of it;
a job gets one as JSON (:attr:`Entry.spec`), or reads it in a manifest, and makes an
object of the same spec (:func:`parse`); labels and families are for the config alone.
"""

import functools
from types import ModuleType
from typing import Annotated, Any, ClassVar, Literal, Self, TypeVar, get_args, overload

from pydantic import BeforeValidator, Field, ValidationError, create_model

from sae.core import registry
from sae.core.errors import UserError
from sae.core.options import (
    Count,
    Extends,
    Label,
    Limited,
    Name,
    Options,
    Positive,
    Precision,
    Whole,
    as_record,
    describe_problems,
    from_record,
    later,
    later_options,
    without_absent,
)
from sae.data.artifacts import list_names

Kind = Literal["dataset", "backbone", "annotation"]
StoredDtype = Literal["float32", "float16"]
_Model = TypeVar("_Model", bound=Limited)
# The key of a mapping that names its entry.
NAMED_BY = {"dataset": "type", "backbone": "loader", "annotation": "source"}
# What an entry of the config says beside its options.
NO_OPTIONS = ("optional",)


class Entry(Limited, extra="allow"):
    """An entry as it is written; its other keys are the entry's own options.

    Attributes:
        constants: the constants of the entry's file.
    """

    constants: ClassVar[dict[str, Any]] = {}
    # Keys that do not decide what jobs make.
    NO_CONTENT: ClassVar[frozenset[str]] = frozenset({"label", "family"})

    @property
    def spec(self) -> dict[str, Any]:
        """The mapping that jobs, manifests and keys have: what decides what they make.

        Of later options (`sae.core.options.later`) it has those that are not at the
        value that their absence stands for, whether they are written or not.
        """
        written = self.model_dump(
            by_alias=True,
            exclude_unset=True,
            exclude_none=True,
            exclude=set(self.NO_CONTENT),
        )
        complete = self.model_dump(by_alias=True)
        absent_values = later_options(type(self))
        later = {name: complete[name] for name in absent_values}
        return without_absent(written | later, absent_values)

    @property
    def artifact_names(self) -> list[str]:
        """The artifacts that it is made of, in order; an option of some entries."""
        return list_names(getattr(self, "artifacts", None) or [])

    def laid_over(self, overrides: dict[str, Any]) -> Self:
        """Return a metric or protocol with options of an experiment laid over."""
        return self.model_validate(self.model_dump(exclude_unset=True) | overrides)

    def options(self, overrides: dict[str, Any]) -> dict[str, Any]:
        """Return all options of a metric or protocol, as records have them.

        Args:
            overrides: An experiment's, which are laid over.
        """
        return as_record(self.laid_over(overrides), exclude=NO_OPTIONS)


class FileEntry(Entry):
    """A dataset, a backbone or an annotation: one of its keys names its file."""

    KIND: ClassVar[Kind]

    @property
    def entry_module(self) -> ModuleType:
        """The module of its file."""
        return registry.load(self.KIND, getattr(self, NAMED_BY[self.KIND]))

    @property
    def own_options(self) -> Any:
        """What the functions of its file take: itself, or what is written of it.

        The latter where the file has no class `Options`.
        """
        return self if hasattr(self.entry_module, "Options") else self.spec

    def __reduce__(self) -> tuple[Any, ...]:
        """Name no class, since none of a module stands for it.

        What the spec leaves out, such as a label or a family, no job reads.
        """
        return parse, (self.KIND, self.spec)


class AnnotationEntry(FileEntry):
    """An annotation says where the names of a dataset's images come from."""

    KIND: ClassVar[Kind] = "annotation"
    NO_CONTENT: ClassVar[frozenset[str]] = frozenset()
    source: str
    """A file in sae/data/annotations/, or one of your own."""


def _file_of_concepts(written: Any) -> Any:
    if isinstance(written, str):
        return {"source": "csv", "file": written}
    return written


class DatasetEntry(FileEntry):
    """An entry of `datasets`."""

    KIND: ClassVar[Kind] = "dataset"
    has_images: ClassVar[bool] = False  # It holds embeddings alone.
    NO_CONTENT: ClassVar[frozenset[str]] = Entry.NO_CONTENT | {"concepts", "pictures"}
    extends: Extends = None
    type: str
    """A file in sae/data/datasets/, or one of your own."""
    label: Label = None
    duplicates: Literal["allow"] | None = None
    """Whether the same image may lie in several splits; an error, if not given."""
    pictures: Name | None = Field(
        None,
        description="Datasets that say one name here hold the same pictures, and "
        "outcomes count them as one dataset.",
    )
    concepts: Annotated[AnnotationEntry, BeforeValidator(_file_of_concepts)] = (
        AnnotationEntry(source="classes")
    )
    """What people call its images: a CSV, or a `source` with options; the classes."""


class ImageDatasetEntry(DatasetEntry):
    """A dataset of images."""

    has_images: ClassVar[bool] = True
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


class BackboneEntry(FileEntry):
    """An entry of `backbones`."""

    KIND: ClassVar[Kind] = "backbone"
    reads_images: ClassVar[bool] = False  # Its embeddings are given.
    extends: Extends = None
    loader: str
    """A file in sae/data/backbones/, or one of your own."""
    label: Label = None
    family: Name = Field(
        description="Backbones of one family are no independent judges of each other's "
        "latents."
    )
    model: str
    """Which of the loader's models."""


class NetworkEntry(BackboneEntry):
    """A backbone that embeds images."""

    reads_images: ClassVar[bool] = True
    image_size: Count | None = Field(
        None, description="Pixels; the dataset's, if not given."
    )
    precision: Precision | Literal["auto"] = "float32"
    """Of the network; auto: bfloat16 where the processor has it."""
    dtype: StoredDtype = Field(
        "float32", description="Of the embeddings as they are stored."
    )
    batch_size: Count | None = Field(
        None,
        description="Images a forward pass; compute.embed_batch_size, if not given.",
    )


def class_of_file(kind: Kind, name: str) -> type[FileEntry]:
    """Return the class of what may be written of a dataset, backbone or annotation.

    Raises:
        UserError: as :func:`class_with_options`.
    """
    constants = registry.head(kind, name).constants
    common: type[FileEntry] = AnnotationEntry
    if kind == "dataset":
        has_images = constants.get("HAS_IMAGES", True)
        common = ImageDatasetEntry if has_images else DatasetEntry
    elif kind == "backbone":
        reads_images = constants.get("READS_IMAGES", True)
        common = NetworkEntry if reads_images else BackboneEntry
    return class_with_options(common, kind, name)


def class_with_options(common: type[_Model], kind: str, name: str) -> type[_Model]:
    """Return a class with an entry's own options among its fields.

    It has no other keys, but where a dataset or backbone of one's own has no class
    `Options`.

    Args:
        common: The class that gets the options.
        kind: Of the entry.
        name: The entry.

    Raises:
        UserError: the entry's file is not right, or an option in it has a name that is
            taken.
    """
    if registry.is_own(kind, name):
        # It may be another entry at the next call (`registry.extend`).
        return _make_class(common, kind, name)
    return _library_class(common, kind, name)


def _make_class(common: type[_Model], kind: str, name: str) -> type[_Model]:
    head = registry.head(kind, name)
    _check_names_are_free(common, kind, name, head.options)
    has_options = head.options is not Options
    bases: Any = (head.options, common) if has_options else common
    open_ended = not has_options and kind in ("dataset", "backbone")
    return create_model(
        name,
        __base__=bases,
        __cls_kwargs__={
            "extra": "allow" if open_ended else "forbid",
            "use_attribute_docstrings": False,
        },
        constants=(ClassVar[dict[str, Any]], head.constants),
    )


# A class takes long to make.
_library_class = functools.cache(_make_class)


def _check_names_are_free(
    common: type[Limited], kind: str, name: str, options: type[Options]
) -> None:
    """Check that no option of an entry has a name that its class has already."""
    taken_names = {*common.model_fields, *dir(common)}
    if kind in ("objective", "penalty"):
        taken_names.update(("k", "seed"))
    # Every class of options has the names of `Options`, and a loader may narrow which
    # models it knows.
    taken_names -= {*dir(Options), "model"}
    in_both = taken_names & {*options.model_fields, *dir(options)}
    if in_both:
        file = registry.locate(registry.module_name(kind, name))
        raise UserError(
            f"{name} has an option {min(in_both)!r}, a name that is taken: rename it "
            f"in {file}"
        )


@overload
def parse(kind: Literal["dataset"], mapping: dict[str, Any]) -> DatasetEntry: ...
@overload
def parse(kind: Literal["backbone"], mapping: dict[str, Any]) -> BackboneEntry: ...
@overload
def parse(kind: Literal["annotation"], mapping: dict[str, Any]) -> AnnotationEntry: ...
def parse(kind: Kind, mapping: dict[str, Any]) -> FileEntry:
    """Return a dataset, backbone or annotation as :attr:`Entry.spec` says it.

    Raises:
        UserError: there is no such entry, its file cannot be imported, or a key of the
            mapping is missing, unknown or not right.
    """
    name = mapping.get(NAMED_BY[kind])
    if not isinstance(name, str):
        entry_names = ", ".join(registry.names(kind))
        raise UserError(
            f"{kind}: its key {NAMED_BY[kind]} must name an entry; there are: "
            f"{entry_names}"
        )
    registry.load(kind, name)
    # No job reads the family of a backbone.
    unread = {"family": "unsaid"} if kind == "backbone" else {}
    try:
        entry = from_record(class_of_file(kind, name), {**unread, **mapping})
    except ValidationError as error:
        raise UserError(f"{kind} {name}: {describe_problems(error)}") from None
    _check_open_entry(kind, name, mapping)
    return entry


def _check_open_entry(kind: Kind, name: str, mapping: dict[str, Any]) -> None:
    """Check the keys that the library reads where a file of one's own takes any key."""
    entry_class = class_of_file(kind, name)
    has_images = kind != "dataset" or issubclass(entry_class, ImageDatasetEntry)
    if not has_images and "train_share" in mapping:
        raise UserError(
            f"dataset {name}: train_share is for datasets of images, since given "
            "embeddings belong to its rows one by one; leave it out"
        )
    dtypes = get_args(StoredDtype)
    if kind == "backbone" and mapping.get("dtype", dtypes[0]) not in dtypes:
        raise UserError(
            f"backbone {name}, key dtype: {mapping['dtype']!r}; write one of "
            f"{', '.join(dtypes)}"
        )

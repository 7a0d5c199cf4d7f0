"""What config.yaml may hold. The comments in it say what each key means."""

import functools
from typing import Annotated, Any, ClassVar, Literal, Self, TypeVar

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    create_model,
)

from sae.bank.plan import Method
from sae.config.entries import head_of
from sae.config.limits import Limited
from sae.config.rule import ClaimRule
from sae.core import registry
from sae.core.errors import UserError
from sae.core.options import (
    Count,
    OfOptions,
    Options,
    Positive,
    Seed,
    Whole,
    as_record,
    distinct,
    later_options,
    like,
    without_absent,
)
from sae.data.artifacts import list_names
from sae.data.entries import ImageDatasetOptions, NetworkOptions
from sae.training import recipe

NAME = "^[a-z][a-z0-9_]{0,63}$"
NAMES = (
    "a name stands in paths; allowed: a to z, 0 to 9 and _, a letter first, at most 64 "
    "of them"
)
Model = TypeVar("Model", bound=Limited)


def _name_of_recipe(written: Any) -> Any:
    if isinstance(written, dict):
        raise ValueError(
            "it names a recipe: write these options below `training` at the top, as "
            "`NAME: {extends: study, ...}`, and NAME here"
        )
    return written


def _options_of_null(options: Any) -> Any:
    return {} if options is None else options


Name = Annotated[str, like(NAME, NAMES), Field(json_schema_extra={"pattern": NAME})]
Names = Annotated[list[str], Field(min_length=1), AfterValidator(distinct)]
# `extends` is resolved before these classes check anything.
Extends = Annotated[
    str | None,
    Field(
        exclude=True, description="Another entry, whose words hold where this has none."
    ),
]
_Printed = Field(description="How it is printed; its name, if not given.")
Label = Annotated[Annotated[str, Field(min_length=1)] | None, _Printed]
Sweep = OfOptions[Annotated[list[Any], Field(min_length=1)]]


class RecipeEntry(Limited, recipe.Recipe):
    """An entry of `training`: how SAEs are trained, whatever the method."""

    extends: Extends = None


class Gallery(Limited):
    """The cell that galleries show; what is left out is the first that has images."""

    dataset: str | None = None
    """One of the experiment's; the first, if not given."""
    backbone: str | None = None
    """One of the experiment's; the first, if not given."""
    k: Count | None = None
    """One of the experiment's; the first, if not given."""


class OfDataset(Limited, extra="allow"):
    """Options of the recipe that differ for a dataset, and its k."""

    # k is no option of the recipe: it parts cells, as a dataset and a backbone do.
    k: Annotated[list[Count], Field(min_length=1), AfterValidator(distinct)] | None = (
        None
    )
    """How many latents may be active for an image, instead of the experiment's `k`."""

    @property
    def recipe(self) -> dict[str, Any]:
        """The options of the recipe that differ for the dataset."""
        return dict(self.model_extra or {})


class Concepts(Limited):
    """Concepts say how an experiment scores the match of latents with them."""

    test: Literal["all", "baselines"] = "all"
    """Whose test scores are computed: of all, or of baselines and controls alone."""


class Experiment(Limited):
    """A grid of datasets, backbones, k, methods and seeds; a target of Snakemake."""

    extends: Extends = None
    description: str = ""
    """What it is about, on its site and in `make plan`."""
    datasets: Names
    """Names from `datasets`."""
    backbones: Names
    """Names from `backbones`; SAEs are trained on the embeddings of each."""
    judges: Annotated[list[str], AfterValidator(distinct)] = Field(
        [],
        description="Further backbones, whose embeddings judge the latents; no SAE is "
        "trained on them.",
    )
    k: Annotated[list[Count], Field(min_length=1), AfterValidator(distinct)]
    """How many latents may be active for an image."""
    seeds: Annotated[list[Seed], Field(min_length=1), AfterValidator(distinct)]
    """Of the initialisation and the order of batches; every trial trains with each."""
    methods: Names
    """Names from `methods`."""
    sweep: dict[str, Sweep] = Field(
        {},
        description="By method: values of any of its options or of the recipe, a list "
        "or one list per k; each point is a trial.",
    )
    training: Annotated[str, BeforeValidator(_name_of_recipe)]
    """The recipe that trains its SAEs, a name from `training`."""
    by_dataset: dict[str, OfDataset] = Field({})
    """By dataset: options of the recipe that differ there, such as `m`; or its `k`."""
    metrics: dict[str, dict[str, Any]] = Field(
        {},
        description="By metric: options that differ from those of `metrics`, or {} to "
        "have one that is `optional` there.",
    )
    heatmaps: Whole = Field(
        0,
        description="How many test images of a cell get heatmaps, at most: where in "
        "them latents fire. 0: none do.",
    )
    gallery: Gallery = Gallery()
    """The cell that the galleries show."""
    concepts: Concepts = Concepts()
    """How the match of latents with concepts is scored."""
    protocols: Annotated[dict[str, dict[str, Any]], Field(min_length=1)] = Field(
        {"paper": {}},
        description="Which SAEs its cells train, and which of them count: by each, "
        "options that differ from those of `protocols`.",
    )
    leaderboard: Annotated[list[str], AfterValidator(distinct)] = Field(
        [],
        description="Folders of other experiments' results (metrics.csv, "
        "made_by.json), whose methods stand on its leaderboard too.",
    )

    @property
    def embedding(self) -> list[str]:
        """The backbones that embed its images: its SAEs' own, then the judges."""
        return [*self.backbones, *self.judges]

    def k_of(self, dataset: str) -> list[int]:
        """Return the budgets k at which SAEs are trained on a dataset."""
        budgets = self.by_dataset.get(dataset, OfDataset()).k
        return self.k if budgets is None else budgets

    @property
    def every_k(self) -> list[int]:
        """The budgets k of all its datasets, each once."""
        budgets = [k for dataset in self.datasets for k in self.k_of(dataset)]
        return list(dict.fromkeys(budgets))


class _Import(Limited):
    """An SAE of another library, or of this project, and what its file leaves open."""

    place: str = Field(
        min_length=1,
        description="A file or folder, or a repository of the Hugging Face hub, "
        "owner/name[:folder].",
    )
    format: str = "auto"
    """An importer."""
    k: Count | None = Field(
        None,
        description="Latents that are kept, by default what the file says; then it is "
        "scored in cells of this k alone.",
    )
    input_norm: Literal["none", "unit_l2", "unit_l2_layernorm"] | None = None
    input_scale: Positive | None = Field(
        None,
        description="The space of its inputs; by default what the file says, else "
        "embeddings as they are.",
    )
    dataset: str | None = None
    backbone: str | None = None
    """Where it is scored; by default in every cell of an experiment."""

    def belongs_to(self, dataset: str, backbone: str, k: int) -> bool:
        """Return whether the SAE is scored in a cell."""
        return (
            self.dataset in (None, dataset)
            and self.backbone in (None, backbone)
            and self.k in (None, k)
        )


def _import_of_place(written: Any) -> Any:
    return {"place": written} if isinstance(written, str) else written


Import = Annotated[_Import, BeforeValidator(_import_of_place)]


# A key is `lambda` or `import`, not the name by which Python has it.
class MethodEntry(Limited, extra="allow", validate_by_name=False):
    """A way to train an SAE.

    Its other keys are options of its objective, of its penalty and of the recipe.
    """

    # Once a config is loaded, a method also holds what it took over. Its class is then
    # `TypedMethod`, which has the options of its objective and its penalty as fields,
    # too (:func:`class_with_options`). A required option that is swept has its first
    # value.

    extends: Extends = None
    objective: str = Field(
        "", description="How latents are selected; required where nothing is extended."
    )
    penalty: str | None = None
    """A term on the activations before the selection, weighed by `lambda`."""
    mask: Literal["batch_active", "all"] | None = Field(
        None,
        description="The latents that the penalty is about; those that fire in the "
        "batch, if not given.",
    )
    lam: Positive | None = Field(
        None, alias="lambda", description="Weight of the penalty's mean over the batch."
    )
    at: str | None = None
    """Another method, at whose chosen trial this one is trained; it sweeps nothing."""
    against: str | None = None
    """The method that it is compared with; its R² may not be lost."""
    control: bool = Field(
        False,
        description="Whether it says what a score is worth: it is not tuned, and "
        "stands beside the baseline.",
    )
    imported: Import | None = Field(
        None, alias="import", description="An SAE made elsewhere, then not trained."
    )
    sweep: Sweep = Field({})
    """As in an experiment, whose own is laid over it."""
    label: Label = None
    colour: (
        Annotated[
            str, like("#[0-9A-Fa-f]{6}", "write a colour such as '#1f77b4', in quotes")
        ]
        | None
    ) = None
    """How it is drawn."""

    @property
    def tuned(self) -> bool:
        """Return whether the method has trials of its own."""
        return not (self.control or self.at or self.imported)

    @property
    def options(self) -> dict[str, Any]:
        """{option: value} of its objective and its penalty."""
        return {
            name: getattr(self, name)
            for name in type(self).model_fields
            if name not in TypedMethod.model_fields
        }

    @property
    def recipe(self) -> dict[str, Any]:
        """{option: value} of the recipe, where it differs from the experiment's."""
        return {
            name: getattr(self, name)
            for name in recipe.Recipe.model_fields
            if name in self.model_fields_set
        }


_recipe_fields: dict[str, Any] = {
    name: (field.rebuild_annotation(), Field(None, description=field.description))
    for name, field in recipe.Recipe.model_fields.items()
}
# A method whose options of the recipe are typed fields, not keys of any kind. Those
# that it does not set are not in `model_fields_set`.
TypedMethod: type[MethodEntry] = create_model(
    "TypedMethod", __base__=MethodEntry, **_recipe_fields
)


def method_of(entry: MethodEntry) -> Method:
    """Return the method of a complete entry, without its sweep, which may hang on k."""
    same = "objective penalty mask at against control options recipe label colour"
    values = {name: getattr(entry, name) for name in same.split()}
    return Method.model_validate({**values, "lambda": entry.lam})


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
        """The mapping that jobs get: what is written and decides what they make.

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


class Annotation(Entry):
    """An annotation says where the names of a dataset's images come from."""

    NO_CONTENT: ClassVar[frozenset[str]] = frozenset()
    source: str
    """A file in sae/data/annotations/, or one of your own."""


def _file_of_concepts(written: Any) -> Any:
    if isinstance(written, str):
        return {"source": "csv", "file": written}
    return written


class Dataset(Entry):
    """An entry of `datasets`."""

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
    concepts: Annotated[Annotation, BeforeValidator(_file_of_concepts)] = Annotation(
        source="classes"
    )
    """What people call its images: a CSV, or a `source` with options; the classes."""


class ImageDataset(ImageDatasetOptions, Dataset):
    """A dataset of images."""

    has_images: ClassVar[bool] = True


class Backbone(Entry):
    """An entry of `backbones`."""

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


class Network(NetworkOptions, Backbone):
    """A backbone that embeds images."""

    reads_images: ClassVar[bool] = True


class Metric(Entry):
    """An entry of `metrics`."""

    optional: bool = Field(
        False,
        description="Whether it is computed for those experiments alone that name it.",
    )


class Protocol(Entry):
    """An entry of `protocols`."""


def entry_model(
    kind: Literal["dataset", "backbone", "annotation", "metric", "protocol"], name: str
) -> type[Entry]:
    """Return the class of what may be written of an entry.

    It has what all entries of the kind have, and the entry's own options.

    Raises:
        UserError: as :func:`class_with_options`.
    """
    constants = head_of(kind, name).constants
    common: type[Entry] = Protocol if kind == "protocol" else Metric
    if kind == "dataset":
        common = ImageDataset if constants.get("HAS_IMAGES", True) else Dataset
    elif kind == "backbone":
        common = Network if constants.get("READS_IMAGES", True) else Backbone
    elif kind == "annotation":
        common = Annotation
    return class_with_options(common, kind, name)


def class_with_options(common: type[Model], kind: str, name: str) -> type[Model]:
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
    if registry.module_name(kind, name).startswith(registry.EXTENSIONS):
        # It may be another entry at the next call (`registry.extend`).
        return _make_class(common, kind, name)
    return _library_class(common, kind, name)


def _make_class(common: type[Model], kind: str, name: str) -> type[Model]:
    head = head_of(kind, name)
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
    if issubclass(common, TypedMethod):
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


class Compute(Limited):
    """The machine."""

    device: Literal["auto", "cpu", "cuda", "mps"]
    """But for cpu, a job takes a `gpu` slot, of which profiles/default has one."""
    threads: Count
    """Per job; results are the same to the bit for the same number."""
    embed_batch_size: Count
    """Images a forward pass."""
    embed_shards: int = Field(ge=1, le=10_000)
    """Jobs that embed one dataset with one backbone; the result is the same."""
    decode_workers: int = Field(ge=0)
    """Processes a job that read and decode images; 0: the job itself."""
    saes_at_once: Count
    """SAEs that a job trains side by side; the result is the same."""
    shared: list[
        Annotated[
            str, like("[^:]+", "write a folder that this machine sees, without a colon")
        ]
    ] = Field(
        description="Results folders of others, only read: embeddings and SAEs that "
        "lie there are not made again."
    )
    memory_factor: Positive
    """What the estimate of a job's memory is multiplied with."""
    time_factor: Positive
    """What the estimate of a job's time is multiplied with."""
    memory_limit: Count | None
    """MB that a job asks a cluster for at most; null: no limit."""
    time_limit: Count | None
    """Minutes that a job asks a cluster for at most; null: no limit."""


class Config(Options):
    """config.yaml."""

    extensions: str | None = None
    """A folder with entries of your own (docs/extending.md)."""
    experiments: dict[Name, Experiment] = Field(
        min_length=1,
        description="Grids of datasets, backbones, k, methods and seeds; each is a "
        "target of Snakemake.",
    )
    methods: dict[Name, MethodEntry] = Field(min_length=1)
    """Ways to train an SAE, which experiments compare."""
    training: dict[Name, RecipeEntry] = Field(min_length=1)
    """Recipes: how SAEs are trained, whatever the method."""
    datasets: dict[Name, Dataset]
    """Where images come from (docs/data.md)."""
    backbones: dict[Name, Backbone]
    """Frozen models that embed them."""
    metrics: dict[
        str, Annotated[Metric, BeforeValidator(_options_of_null, Metric | None)]
    ]
    """What SAEs are scored by, with options; null where all are the defaults."""
    figures: Annotated[list[str], AfterValidator(distinct)]
    """Which are drawn, in the order of the report."""
    claims: ClaimRule
    """The rule by which the paper's claims are judged."""
    protocols: dict[
        str, Annotated[Protocol, BeforeValidator(_options_of_null, Protocol | None)]
    ]
    """Which SAEs a cell trains, and which of them count, with options."""
    compute: Compute
    """What jobs may use of the machine."""

    def recipe(self, experiment: str, dataset: str) -> RecipeEntry:
        """Return the recipe that trains an experiment's SAEs on a dataset.

        What a method says itself, or a trial, still holds instead.

        Raises:
            pydantic.ValidationError: what is said of the dataset is not right.
        """
        spec = self.experiments[experiment]
        common = self.training[spec.training]
        if dataset not in spec.by_dataset:
            return common
        return RecipeEntry.model_validate(
            common.model_dump() | spec.by_dataset[dataset].recipe
        )

    def shown_dataset(self, experiment: str) -> str | None:
        """Return the dataset that galleries show: the first with images, if not said.

        It is None where an experiment has embeddings alone.
        """
        spec = self.experiments[experiment]
        pictured = [name for name in spec.datasets if self.datasets[name].has_images]
        if not pictured:
            return None
        return spec.gallery.dataset or pictured[0]

    def sweep(self, experiment: str, method: str, k: int) -> dict[str, list[Any]]:
        """Return what a method's trials in an experiment go through at a k.

        Returns:
            {option: values}; {} if the method has but one trial.
        """
        if self.methods[method].at:
            return {}
        sweep_of_experiment = self.experiments[experiment].sweep.get(method, {})
        values_by_option = {}
        for option, grid in {
            **self.methods[method].sweep,
            **sweep_of_experiment,
        }.items():
            values = grid.get(f"k{k}") if isinstance(grid, dict) else grid
            if values:
                values_by_option[option] = values
        return values_by_option

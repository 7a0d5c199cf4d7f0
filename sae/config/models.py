"""What config.yaml may hold. The comments in it say what each key means."""

from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    create_model,
)

from sae.bank.plan import Method
from sae.config.entries import head_of
from sae.config.rule import ClaimRule
from sae.core.options import (
    Count,
    Extends,
    Label,
    Limited,
    Name,
    OfOptions,
    Options,
    Positive,
    Seed,
    Whole,
    distinct,
    like,
)
from sae.data.entries import (
    BackboneEntry,
    DatasetEntry,
    Entry,
    class_of_file,
    class_with_options,
)
from sae.training import recipe


def _name_of_recipe(written: Any) -> Any:
    if isinstance(written, dict):
        raise ValueError(
            "it names a recipe: write these options below `training` at the top, as "
            "`NAME: {extends: study, ...}`, and NAME here"
        )
    return written


def _options_of_null(options: Any) -> Any:
    return {} if options is None else options


Names = Annotated[list[str], Field(min_length=1), AfterValidator(distinct)]
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
    # too (:func:`method_class_with`). A required option that is swept has its first
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


class Metric(Entry):
    """An entry of `metrics`."""

    optional: bool = Field(
        False,
        description="Whether it is computed for those experiments alone that name it.",
    )


def entry_model(
    kind: Literal["dataset", "backbone", "annotation", "metric", "protocol"], name: str
) -> type[Entry]:
    """Return the class of what may be written of an entry, whose file is checked.

    Raises:
        UserError: as :func:`sae.config.entries.head_of` and
            :func:`sae.data.entries.class_with_options`.
    """
    head_of(kind, name)
    if kind == "metric":
        return class_with_options(Metric, kind, name)
    if kind == "protocol":
        return class_with_options(Entry, kind, name)
    return class_of_file(kind, name)


def method_class_with(
    common: type[MethodEntry], kind: str, name: str
) -> type[MethodEntry]:
    """Return a class of methods with the options of an objective or a penalty.

    Raises:
        UserError: as :func:`entry_model`.
    """
    head_of(kind, name)
    return class_with_options(common, kind, name)


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
    datasets: dict[Name, DatasetEntry]
    """Where images come from (docs/data.md)."""
    backbones: dict[Name, BackboneEntry]
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
        str, Annotated[Entry, BeforeValidator(_options_of_null, Entry | None)]
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

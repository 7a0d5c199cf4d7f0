"""config.yaml as one typed object: what it may hold, and what is wrong with one that is not right.

A config is read in two steps. Its frame comes first: which keys there are, and of what type. Then come the entries that
it names (datasets, backbones, objectives, penalties, metrics, figures), each checked against the `Options` in its own
file, and whatever concerns more than one key. Neither step imports an entry, and so neither imports torch.
"""

import math
import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, TypeVar

import yaml
from pydantic import (
    AfterValidator,
    ConfigDict,
    Discriminator,
    Field,
    Tag,
    ValidationError,
    WithJsonSchema,
    create_model,
)

from sae.core import paths, registry
from sae.core.errors import UserError
from sae.core.options import Count, Options, Positive, Precision, Seed, Share, by_container, distinct
from sae.data.artifacts import names as artifact_names
from sae.training.settings import Recipe

NAME = "^[a-z][a-z0-9_]*$"
_YAML_NUMBER = " (write 0.001 or 1.0e-3: YAML reads 1e-3 as text)"
# One scale of the inputs serves a whole bank, and how often a log is written changes no result.
_OF_A_BANK = {"input_norm", "unit_variance"}
_NOT_SWEPT = {"log_every", "mask"}


def _name(text: str) -> str:
    if not re.fullmatch(NAME, text):
        raise ValueError("a name stands in paths; allowed: a to z, 0 to 9 and _, a letter first")
    return text


Name = Annotated[str, AfterValidator(_name), WithJsonSchema({"type": "string", "pattern": NAME})]
Names = Annotated[list[str], Field(min_length=1), AfterValidator(distinct)]
Label = Annotated[str, Field(min_length=1, description="How it is printed; its name, if not given.")]
_Values = Annotated[list[Any], Field(min_length=1)]
_ByK = Annotated[dict[str, _Values], Field(min_length=1)]
Values = Annotated[Annotated[_Values, Tag("list")] | Annotated[_ByK, Tag("mapping")], Discriminator(by_container)]
# {option: [values], or {k8: [values], ...}}
Sweep = dict[str, Values]
Model = TypeVar("Model", bound=Options)
Found = TypeVar("Found")
Mask = Literal["batch_active", "all"]


class Gallery(Options):
    """The cell that the galleries show; what is left out is the first that has images."""

    dataset: str | None = None
    backbone: str | None = None
    k: Count | None = None


class Experiment(Options):
    """A grid of datasets, backbones, k, methods and seeds, and a target of Snakemake."""

    description: str = ""
    datasets: Names
    backbones: Names
    k: Annotated[list[Count], Field(min_length=1), AfterValidator(distinct)]
    seeds: Annotated[list[Seed], Field(min_length=1), AfterValidator(distinct)]
    methods: Names
    sweep: dict[str, Sweep] = Field({}, description="By method; laid over what the method itself sweeps.")
    training: str = Field(description="The recipe that trains its SAEs.")
    metrics: dict[str, dict[str, Any]] = Field({}, description="Options of metrics that differ from the general ones.")
    gallery: Gallery = Gallery()


class Claims(Options):
    """The rule by which the paper's claims are judged (sae/report/claims.py)."""

    confidence: Share
    resamples: int = Field(ge=100)
    bootstrap_seed: Seed
    min_blocks: int = Field(ge=2)
    agreement: float = Field(ge=0, le=1)
    margin_r2: float = Field(ge=0)
    margin_top1: float = Field(ge=0)
    rises: float = Field(gt=0)
    flat: float = Field(gt=0)


class Compute(Options):
    """The machine."""

    device: Literal["auto", "cpu", "cuda", "mps"]
    threads: Count
    embed_batch_size: Count
    embed_shards: Count
    decode_workers: int = Field(ge=0)
    saes_per_job: Count | None
    shared: list[Annotated[str, Field(pattern="^[^:]+$")]]
    memory_factor: Positive
    time_factor: Positive
    memory_limit: Count | None
    time_limit: Count | None


class Entry(Options):
    """What is written of a dataset or backbone: with the entry's own options among its fields.

    Attributes:
        constants: the constants of the entry's file.
    """

    label: Label | None = None
    constants: ClassVar[dict[str, Any]] = {}

    @property
    def spec(self) -> dict[str, Any]:
        """The mapping that jobs get: as it is written, without what is only printed."""
        return self.model_dump(exclude_unset=True, exclude_none=True, exclude={"label"})


class Dataset(Entry):
    """An entry of `datasets`."""

    type: str

    @property
    def has_images(self) -> bool:
        """Whether there are images to embed and to show, not embeddings alone."""
        return self.constants.get("HAS_IMAGES", True)

    @property
    def files(self) -> list[str]:
        """The files that the index is made of, where a job is to look for changes in them."""
        return [pattern.format(**self.spec) for pattern in self.constants.get("FILES", ())]


class ImageDataset(Dataset):
    """A dataset of images."""

    image_size: Count | None = Field(None, description="Pixels; each backbone's own, if not given.")
    max_broken: int = Field(0, ge=0, description="How many images may be unreadable, and are then left out.")


class Backbone(Entry):
    """An entry of `backbones`."""

    loader: str
    model: str

    @property
    def reads_images(self) -> bool:
        """Whether it embeds images; else its embeddings are given."""
        return self.constants.get("READS_IMAGES", True)

    def files_of(self, dataset: Dataset) -> list[str]:
        """The files of a dataset's embeddings that are given, not made."""
        return [pattern.format(**dataset.spec | self.spec) for pattern in self.constants.get("FILES", ())]


class Network(Backbone):
    """A backbone that embeds images."""

    precision: Precision = "float32"
    dtype: Literal["float32", "float16"] = Field("float32", description="Of the embeddings as they are stored.")
    batch_size: Count | None = Field(None, description="Images a forward pass; compute.embed_batch_size, if not given.")


class Metric(Options):
    """An entry of `metrics`.

    Attributes:
        stage: the rule that computes it.
        reads: what it reads beside the SAE and the splits that it scores.
        written: its options in the config.
        model: the class of its options.
    """

    stage: str
    reads: list[str]
    written: dict[str, Any]
    model: type[Options]

    def options(self, overrides: dict[str, Any]) -> dict[str, Any]:
        """All its options, with an experiment's overrides laid over."""
        return self.model.model_validate(self.written | overrides).model_dump()


class Method(Options):
    """A method with all that it takes over from others.

    Attributes:
        lam: its lambda, unless that is swept.
        options: of its objective and its penalty, complete with defaults (but for one that must be swept).
        recipe: what it trains with instead of the experiment's recipe.
        sweep: its trials, before an experiment's own sweep.
        at: the method whose chosen trial it is trained at.
        against: the method that it is compared with.
    """

    objective: str
    penalty: str | None
    mask: Mask | None
    lam: float | None
    options: dict[str, Any]
    recipe: dict[str, Any]
    sweep: Sweep
    at: str | None
    against: str | None
    label: str | None
    colour: str | None


class _Open(Options):
    model_config = ConfigDict(extra="allow")


class MethodFrame(_Open):
    """A method as it is written; its other keys are options of its objective, its penalty or the recipe."""

    extends: str | None = Field(None, description="A method from which all but label, colour and at are taken over.")
    objective: str | None = None
    penalty: str | None = None
    mask: Mask | None = Field(None, description="The latents that the penalty is about: batch_active, if not given.")
    lam: Positive | None = Field(None, alias="lambda", description="Weight of the batch mean of the penalty.")
    sweep: Sweep = Field({}, description="{option: [values]}, or {option: {k8: [values], ...}}.")
    at: str | None = Field(None, description="A method at whose choice on validation this one is trained.")
    against: str | None = Field(None, description="The method that it is compared with.")
    label: Label | None = None
    colour: str | None = Field(None, pattern="^#[0-9A-Fa-f]{6}$")


class DatasetFrame(_Open):
    """What every dataset has; the rest belongs to its type."""

    type: str


class BackboneFrame(_Open):
    """What every backbone has; the rest belongs to its loader."""

    loader: str


class Frame(Options):
    """config.yaml without what its entries say."""

    extensions: str | None = Field(None, description="A folder with entries of one's own (docs/extending.md).")
    experiments: dict[Name, Experiment] = Field(min_length=1)
    methods: dict[Name, MethodFrame] = Field(min_length=1)
    training: dict[Name, Recipe] = Field(min_length=1)
    datasets: dict[Name, DatasetFrame]
    backbones: dict[Name, BackboneFrame]
    metrics: dict[str, dict[str, Any] | None]
    figures: Annotated[list[str], AfterValidator(distinct)]
    claims: Claims
    compute: Compute


class Config(Options):
    """config.yaml, checked, its methods resolved."""

    extensions: str | None
    experiments: dict[str, Experiment]
    methods: dict[str, Method]
    training: dict[str, Recipe]
    datasets: dict[str, Dataset]
    backbones: dict[str, Backbone]
    metrics: dict[str, Metric]
    figures: list[str]
    claims: Claims
    compute: Compute

    def sweep(self, experiment: str, method: str, k: int) -> dict[str, list]:
        """{option: values} that a method's trials in an experiment go through; {} if it has but one trial."""
        if self.methods[method].at:
            return {}
        grids = self.methods[method].sweep | self.experiments[experiment].sweep.get(method, {})
        found = {option: grid.get(f"k{k}") if isinstance(grid, dict) else grid for option, grid in grids.items()}
        return {option: values for option, values in found.items() if values}


_OF_A_PENALTY = {"lambda", "mask"}
_METHOD_KEYS = {field.alias or name for name, field in MethodFrame.model_fields.items()} - _OF_A_PENALTY


class _Lambda(Options):
    lam: Positive | None = Field(None, alias="lambda")


def read(path: str | Path, *, artifacts: Collection[str] | None = None, reserved: Collection[str] = ()) -> Config:
    """The config in a YAML file; see :func:`parse` and :func:`load`."""
    return load(parse(path), artifacts=artifacts, reserved=reserved)


class _Loader(yaml.SafeLoader):
    """YAML that does not keep the last of two equal keys in silence; what `<<` merges may be said anew."""

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        node = super().compose_mapping_node(anchor)
        seen = set()
        for key, _ in node.value:
            if key.value in seen:
                raise yaml.MarkedYAMLError(problem=f"the key {key.value!r} is there twice", problem_mark=key.start_mark)
            if isinstance(key, yaml.ScalarNode):
                seen.add(key.value)
        return node


def parse(path: str | Path) -> dict[str, Any]:
    """The content of a YAML file.

    Raises:
        UserError: it cannot be read, is not YAML, or has a key twice in one mapping; with the line.
    """
    try:
        content = yaml.load(Path(path).read_text(encoding="utf-8"), _Loader)
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path} cannot be read: {error}") from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f" line {mark.line + 1}" if mark else ""
        raise UserError(f"{path}{line} is not right: {getattr(error, 'problem', None) or error}") from None
    if not isinstance(content, dict):
        raise UserError(f"{path} is not right: it holds {type(content).__name__}, expected keys and their values")
    return content


def load(raw: dict[str, Any], *, artifacts: Collection[str] | None = None, reserved: Collection[str] = ()) -> Config:
    """Check a config as YAML gives it, and resolve its methods.

    Args:
        raw: the content of config.yaml. The entries in its folder `extensions` become known to this process.
        artifacts: the artifacts that there are; None: not checked.
        reserved: names that no experiment can take, beside the folders of results/.

    Raises:
        UserError: one line for each problem, with the key, the value and what is allowed.
    """
    problems = _Problems()
    for key, text in _no_json("", raw):
        problems.add(key, text)
    problems.end()
    frame = problems.build(Frame, raw, "")
    problems.end()
    assert frame is not None
    registry.extend(frame.extensions)
    config = _Entries(raw, frame, problems).config(artifacts)
    problems.end()
    for name in config.experiments:
        _check_experiment(config, name, problems)
        if name in {*_folders(), *reserved}:
            problems.add(f"experiments.{name}", "this name is taken by a rule or folder; choose another")
    problems.end()
    return config


def entry_model(kind: Literal["dataset", "backbone"], name: str, head: registry.Head) -> type[Entry]:
    """The class of what may be written of a dataset or backbone: what all have, and the options of its entry.

    An entry of one's own without a class `Options` may have any keys.

    Raises:
        UserError: an option of the entry has the name of a key that all have.
    """
    common: type[Entry]
    if kind == "dataset":
        common = ImageDataset if head.constants.get("HAS_IMAGES", True) else Dataset
    else:
        common = Network if head.constants.get("READS_IMAGES", True) else Backbone
    # A loader may narrow which models it knows.
    taken = set(head.options.model_fields) & (set(common.model_fields) | {"constants"}) - {"model"}
    if taken:
        raise UserError(
            f"{kind} {name}: its option {min(taken)!r} has the name of a key that every {kind} has; rename it in "
            f"{registry.locate(registry.module(kind, name))}"
        )
    bases: tuple[type[Any], ...] = (common, _Open) if head.options is Options else (head.options, common)
    return create_model(name, __base__=bases, constants=(ClassVar[dict[str, Any]], head.constants))


class _Problems:
    """Collects what is wrong; each line once."""

    def __init__(self) -> None:
        self.lines: dict[str, None] = {}

    def add(self, key: str, text: str) -> None:
        self.lines[f"config key {key or '(top level)'}: {text}"] = None

    def end(self) -> None:
        """Raise what there is."""
        if self.lines:
            raise UserError("\n".join(["config.yaml is not right:", *self.lines]))

    def known(self, key: str, names: Iterable[Any], allowed: Iterable[Any]) -> bool:
        """Whether all names are among the allowed ones."""
        allowed = list(allowed)
        unknown = [name for name in names if name not in allowed]
        for name in unknown:
            self.add(key, f"{name!r} is not known; allowed: {', '.join(sorted(map(str, allowed))) or 'none'}")
        return not unknown

    def build(self, model: type[Model], data: dict[str, Any], key: str) -> Model | None:
        """The model of some data; None where that is not right."""
        try:
            return model.model_validate(data)
        except ValidationError as error:
            for e in error.errors():
                self.add(*_explained(e, key, data))
            return None


def _explained(error: Any, key: str, data: Any) -> tuple[str, str]:
    """The key and the text of an error of pydantic."""
    parts = [key] if key else []
    for part in error["loc"]:
        inside = part in data if isinstance(data, dict) else isinstance(data, list) and isinstance(part, int)
        if inside:
            data = data[part]
        # Else it is a key that is not there, or pydantic's own mark of a form or a key.
        if inside or (isinstance(data, dict) and part not in ("[key]", "list", "mapping")):
            parts.append(str(part))
    return ".".join(parts), _text(error)


def _text(error: Any) -> str:
    value, said = error["input"], error["msg"].removeprefix("Value error, ")
    if error["type"] == "missing":
        return "this key is required"
    if error["type"] == "unknown_key":
        return said
    shown = "null" if value is None else repr(value)
    shown = shown if len(shown) <= 80 else shown[:77] + "..."
    said = re.sub("^(Input|Dictionary|List|String) should", f"{shown} should", said)
    said = said if said.startswith(shown) else f"{shown}: {said}"
    return said + (_YAML_NUMBER if isinstance(value, str) and error["type"] in ("float_type", "int_type") else "")


def _no_json(key: str, value: Any) -> Iterator[tuple[str, str]]:
    """What YAML can hold and a job's settings cannot."""
    if isinstance(value, dict):
        for name, inner in value.items():
            where = f"{key}.{name}" if key else str(name)
            if isinstance(name, str):
                yield from _no_json(where, inner)
            else:
                yield where, f"YAML reads this key as {type(name).__name__}; put it in quotes"
    elif isinstance(value, list):
        for i, inner in enumerate(value):
            yield from _no_json(f"{key}.{i}", inner)
    elif isinstance(value, float) and not math.isfinite(value):
        yield key, f"{value} is not allowed; it must be a finite number"
    elif not isinstance(value, str | int | float | None):
        yield key, f"YAML reads {value} as {type(value).__name__}; put it in quotes"


def _folders() -> set[str]:
    """The folders of results/ that belong to no experiment."""
    below = [p.split("/") for p in vars(paths).values() if isinstance(p, str) and p.startswith(f"{paths.RESULTS}/")]
    return {parts[1] for parts in below if "{" not in parts[1]}


class _Entries:
    """Reads what a frame names: entries, and the methods that are made of them."""

    def __init__(self, raw: dict[str, Any], frame: Frame, problems: _Problems) -> None:
        self.raw, self.frame, self.problems = raw, frame, problems
        self.heads: dict[tuple[str, str], registry.Head | None] = {}
        self.taken_over: dict[str, dict[str, Any] | None] = {}

    def config(self, artifacts: Collection[str] | None) -> Config:
        """The config; what is not right is missing in it, and among the problems."""
        frame = self.frame
        for name in frame.figures:
            self.head("figure", name, "figures")
        methods = _known({name: self.method(name) for name in frame.methods})
        _check_links(methods, self.problems)
        return Config(
            extensions=frame.extensions,
            experiments={name: self.experiment(name, methods) for name in frame.experiments},
            methods=methods,
            training=frame.training,
            datasets=self.of("dataset", "type", artifacts),
            backbones=self.of("backbone", "loader", artifacts),
            metrics=_known({name: self.metric(name) for name in frame.metrics}),
            figures=frame.figures,
            claims=frame.claims,
            compute=frame.compute,
        )

    def head(self, kind: str, name: str, key: str) -> registry.Head | None:
        """The head of an entry; None where there is no such entry, or its file is not right."""
        if not self.problems.known(key, [name], registry.names(kind)):
            return None
        if (kind, name) not in self.heads:
            self.heads[kind, name] = None
            try:
                self.heads[kind, name] = registry.head(kind, name)
            except UserError as error:
                self.problems.add(key, str(error))
        return self.heads[kind, name]

    def of(self, kind: Literal["dataset", "backbone"], chosen_by: str, artifacts: Collection[str] | None) -> dict:
        """All datasets or backbones."""
        found: dict[str, Entry | None] = {}
        for name, spec in self.raw[f"{kind}s"].items():
            key, entry = f"{kind}s.{name}", spec[chosen_by]
            head = self.head(kind, entry, f"{key}.{chosen_by}")
            if head is None:
                continue
            try:
                found[name] = self.problems.build(entry_model(kind, entry, head), spec, key)
            except UserError as error:
                self.problems.add(f"{key}.{chosen_by}", str(error))
                continue
            if found[name] and artifacts is not None:
                self.problems.known(f"{key}.artifacts", artifact_names(spec), artifacts)
        return _known(found)

    def metric(self, name: str) -> Metric | None:
        """A metric, its options checked."""
        written = self.frame.metrics[name] or {}
        head = self.head("metric", name, "metrics")
        if head is None or not self.problems.build(head.options, written, f"metrics.{name}"):
            return None
        if head.constants.get("STAGE") not in paths.STAGES:
            allowed = ", ".join(paths.STAGES)
            self.problems.add(f"metrics.{name}", f"its file must set STAGE, a text; allowed: {allowed}")
            return None
        reads = list(head.constants.get("READS", ()))
        return Metric(stage=head.constants["STAGE"], reads=reads, written=written, model=head.options)

    def experiment(self, name: str, methods: dict[str, Method]) -> Experiment:
        """An experiment, its sweeps checked and in order, its own options of metrics checked."""
        experiment, key = self.frame.experiments[name], f"experiments.{name}"
        if self.problems.known(f"{key}.metrics", experiment.metrics, self.frame.metrics):
            for metric, options in experiment.metrics.items():
                head = self.head("metric", metric, "metrics")
                both = (self.frame.metrics[metric] or {}) | options
                if head and self.problems.build(head.options, self.frame.metrics[metric] or {}, f"metrics.{metric}"):
                    self.problems.build(head.options, both, f"{key}.metrics.{metric}")
        known = {m: self.sweep(f"{key}.sweep.{m}", s, methods[m]) for m, s in experiment.sweep.items() if m in methods}
        return experiment.model_copy(update={"sweep": experiment.sweep | known})

    def owners(self, objective: str, penalty: str | None, key: str) -> dict[str, str]:
        """{option that a method of these may have: 'recipe', 'penalty', 'objective NAME' or 'penalty NAME'}."""
        owners = dict.fromkeys(Recipe.model_fields, "recipe")
        owners |= dict.fromkeys(_OF_A_PENALTY, "penalty") if penalty else {}
        taken = {*owners, *_METHOD_KEYS, *_OF_A_PENALTY, "k", "seed"}
        for kind, entry in (("objective", objective), ("penalty", penalty)):
            head = self.head(kind, entry, f"{key}.{kind}") if entry else None
            for name in head.options.model_fields if head else ():
                if name in taken:
                    file = registry.locate(registry.module(kind, str(entry)))
                    text = f"{entry} has an option {name!r}, a name that is taken: rename it in {file}"
                    self.problems.add(f"{key}.{kind}", text)
                owners[name] = f"{kind} {entry}"
                taken.add(name)
        return owners

    def written(self, name: str, heirs: tuple[str, ...] = ()) -> dict[str, Any] | None:
        """What a method says, laid over what it takes over; None where that is not right."""
        if name not in self.taken_over:
            own = dict(self.raw["methods"][name])
            inherited: dict[str, Any] | None = None
            parent, key = own.pop("extends", None), f"methods.{name}"
            if parent is None:
                inherited = {}
            elif parent in (*heirs, name):
                circle = " -> ".join([*heirs, name, parent])
                self.problems.add(f"{key}.extends", f"{circle} is a circle; a method cannot extend itself")
            elif self.problems.known(f"{key}.extends", [parent], self.frame.methods):
                inherited = self.written(parent, (*heirs, name))
            self.taken_over[name] = None if inherited is None else self.laid_over(own, inherited, key)
        return self.taken_over[name]

    def laid_over(self, own: dict[str, Any], inherited: dict[str, Any], key: str) -> dict[str, Any] | None:
        """A method's own words, and what of the inherited ones still holds."""
        objective, penalty = (own.get(kind, inherited.get(kind)) for kind in ("objective", "penalty"))
        if objective is None:
            self.problems.add(f"{key}.objective", "this key is required")
            return None
        owners, before = self.owners(objective, penalty, key), dict[str, str]()
        if inherited:
            before = self.owners(inherited["objective"], inherited["penalty"], key)
        own_sweep = own.get("sweep", {})
        allowed = _METHOD_KEYS | set(owners)
        for names, text in (
            (set(own) & _OF_A_PENALTY - set(owners), "this method has no penalty that it could belong to"),
            (set(own) - _OF_A_PENALTY - allowed, f"there is no such key; allowed: {', '.join(sorted(allowed))}"),
            (set(own) & set(own_sweep), "it is swept as well; leave one of the two out"),
            (set(own) & _OF_A_BANK, "all methods of a bank see the same inputs: set it in the recipe, in `training`"),
        ):
            for name in sorted(names):
                self.problems.add(f"{key}.{name}", text)
        if own.get("at") and own_sweep:
            self.problems.add(f"{key}.sweep", f"its trial is that of {own['at']}: leave `sweep` out")
        # An option of an entry that was replaced is not taken over, nor is one that this method sets or sweeps itself.
        kept = {name for name in owners if owners[name] == before.get(name)} - set(own) - set(own_sweep)
        sweep = {} if own.get("at") else {n: v for n, v in inherited.get("sweep", {}).items() if n in kept} | own_sweep
        words = {name: value for name, value in inherited.items() if name in {*kept, "against"}} | own
        return words | {"objective": objective, "penalty": penalty, "sweep": sweep}

    def method(self, name: str) -> Method | None:
        """A method with all that it takes over, its options checked."""
        words, key = self.written(name), f"methods.{name}"
        if words is None:
            return None
        owners = self.owners(words["objective"], words["penalty"], key)
        given = {n: words[n] for n in owners if n in words and n not in _OF_A_PENALTY}
        method = Method(
            objective=words["objective"],
            penalty=words["penalty"],
            mask=(words.get("mask") or "batch_active") if words["penalty"] else None,
            lam=words.get("lambda"),
            options={n: value for n, value in given.items() if owners[n] != "recipe"},
            recipe={n: value for n, value in given.items() if owners[n] == "recipe"},
            sweep=words["sweep"],
            **{n: words.get(n) for n in ("at", "against", "label", "colour")},
        )
        # A swept option need not have a value of its own.
        first = {n: next(iter(g.values()))[0] if isinstance(g, dict) else g[0] for n, g in method.sweep.items()}
        values, errors = self.values(method, first)
        for e in errors:
            if e["loc"][:1] not in {(n,) for n in first}:
                self.problems.add(*_explained(e, key, self.raw["methods"][name]))
        return method.model_copy(
            update={
                "options": {n: value for n, value in values.items() if owners.get(n, "").partition(" ")[2]},
                "recipe": {n: values.get(n) for n in method.recipe},
                "sweep": self.sweep(f"{key}.sweep", method.sweep, method),
            }
        )

    def values(self, method: Method, trial: dict[str, Any]) -> tuple[dict[str, Any], list[Any]]:
        """All options of a method and its recipe (any recipe of the config) at a trial, and pydantic's errors."""
        values, errors = dict[str, Any](), []
        recipe = next(iter(self.frame.training.values())).model_dump()
        said = recipe | {"lambda": method.lam} | method.recipe | method.options | trial
        heads = [self.heads.get((kind, entry or "")) for kind, entry in _entries_of(method)]
        models: list[type[Options]] = [Recipe, _Lambda, *(head.options for head in heads if head)]
        for model in models:
            keys = {field.alias or name for name, field in model.model_fields.items()}
            try:
                built = model.model_validate({n: value for n, value in said.items() if n in keys})
                values |= built.model_dump(by_alias=True)
            except ValidationError as error:
                errors += error.errors()
        return values, errors

    def sweep(self, key: str, sweep: Sweep, method: Method) -> Sweep:
        """A sweep, its values checked, as they are trained, in order."""
        owners = self.owners(method.objective, method.penalty, key)
        allowed = set(owners) - _NOT_SWEPT - _OF_A_BANK
        if not self.problems.known(key, sweep, allowed):
            return {}
        if method.at and sweep:
            self.problems.add(key, f"its trial is that of {method.at}: leave it out")
        found: Sweep = {}
        for option, grid in sweep.items():
            where = f"{key}.{option}"
            if isinstance(grid, dict):
                for k in (k for k in grid if not re.fullmatch(r"k[1-9]\d*", k)):
                    self.problems.add(where, f"{k!r} is not known; allowed: k and a number, such as k8")
                found[option] = {k: self.grid(f"{where}.{k}", option, values, method) for k, values in grid.items()}
            else:
                found[option] = self.grid(where, option, grid, method)
        return found

    def grid(self, key: str, option: str, values: list, method: Method) -> list:
        """The values that an option goes through, as they are trained, in ascending order."""
        found: dict[str, Any] = {}
        for i, value in enumerate(values):
            at_value, errors = self.values(method, {option: value})
            own = [e for e in errors if e["loc"][:1] in ((), (option,))]
            for e in own:
                self.problems.add(f"{key}.{i}", _text(e))
            if own or option not in at_value:
                continue
            trained = at_value[option]
            text = paths.written(trained) if isinstance(trained, str | int | float) else repr(trained)
            if not re.fullmatch("[A-Za-z0-9_.+-]+", text) or text == repr(None):
                self.problems.add(f"{key}.{i}", f"{value!r} cannot stand in a path, so it cannot be swept")
            elif text in found:
                self.problems.add(key, f"two values are both written {text} in paths; leave one out, or part them more")
            else:
                found[text] = paths.rounded(trained)
        return sorted(found.values())


def _entries_of(method: Method) -> tuple[tuple[str, str | None], ...]:
    return ("objective", method.objective), ("penalty", method.penalty)


def _known(found: Mapping[str, Found | None]) -> dict[str, Found]:
    return {name: value for name, value in found.items() if value is not None}


def _check_links(methods: dict[str, Method], problems: _Problems) -> None:
    """`at` and `against` name methods that have trials of their own, and lead into no circle."""
    for name, method in methods.items():
        for link, other in (("at", method.at), ("against", method.against)):
            key = f"methods.{name}.{link}"
            if other is None or not problems.known(key, [other], methods):
                continue
            if methods[other].at:
                problems.add(
                    key, f"{other} is itself trained at the choice of {methods[other].at}: name a method that is not"
                )
            chain = [name]
            while other is not None and other not in chain:
                chain, other = [*chain, other], getattr(methods.get(other), link, None)
            if other == name:
                problems.add(key, f"{' -> '.join([*chain, name])} is a circle")


def _check_experiment(config: Config, name: str, problems: _Problems) -> None:
    spec, key = config.experiments[name], f"experiments.{name}"
    sections: tuple[tuple[str, Mapping], ...] = (("datasets", config.datasets), ("backbones", config.backbones))
    sections += (("methods", config.methods),)
    known = [problems.known(f"{key}.{section}", getattr(spec, section), there) for section, there in sections]
    known.append(problems.known(f"{key}.training", [spec.training], config.training))
    known.append(problems.known(f"{key}.sweep", spec.sweep, spec.methods))
    if all(known):
        _check_cells(config, spec, key, problems)
        for method in spec.methods:
            _check_method(config, name, method, problems)


def _check_cells(config: Config, spec: Experiment, key: str, problems: _Problems) -> None:
    """Embeddings that are given belong to a dataset without images, and that has nothing else."""
    for d in spec.datasets:
        for b in spec.backbones:
            dataset, backbone = config.datasets[d], config.backbones[b]
            if dataset.has_images != backbone.reads_images:
                pair = f"dataset {d} (type {dataset.type}) and backbone {b} (loader {backbone.loader})"
                why = "a dataset without images needs a loader of given embeddings, and images another one"
                problems.add(key, f"{pair} do not go together: {why}")
    shown = spec.gallery
    for part, value, there in (
        ("dataset", shown.dataset, spec.datasets),
        ("backbone", shown.backbone, spec.backbones),
        ("k", shown.k, spec.k),
    ):
        if value is not None:
            problems.known(f"{key}.gallery.{part}", [value], there)
    if shown.dataset in config.datasets and not config.datasets[shown.dataset].has_images:
        problems.add(f"{key}.gallery.dataset", f"{shown.dataset} holds embeddings alone, without images to show")


def _check_method(config: Config, experiment: str, name: str, problems: _Problems) -> None:
    """What a method needs in an experiment: its partners, a grid for every k, a lambda, trials that it can train at."""
    spec, method, key = config.experiments[experiment], config.methods[name], f"experiments.{experiment}"
    for link, other in (("at", method.at), ("against", method.against)):
        if other is not None and other not in spec.methods:
            problems.add(f"{key}.methods", f"{name} is {link} {other}, which the experiment lacks; add {other}")
    ks, own = [f"k{k}" for k in spec.k], spec.sweep.get(name, {})
    for option, grid in (method.sweep | own).items():
        if isinstance(grid, dict):
            where = f"{key}.sweep" if option in own else "methods"
            missing = [k for k in ks if k not in grid]
            if missing:
                problems.add(f"{where}.{name}.{option}", f"no grid for {', '.join(missing)} of experiment {experiment}")
            if option in own:
                problems.known(f"{where}.{name}.{option}", grid, ks)
    for k in spec.k:
        trials = config.sweep(experiment, method.at or name, k)
        strange = set(trials) - {*Recipe.model_fields, *method.options, *(_OF_A_PENALTY if method.penalty else ())}
        for option in sorted(strange):
            problems.add(
                f"{key}.methods", f"{name} is at {method.at}, which sweeps {option}; {name} has no such option"
            )
        if method.penalty and method.lam is None and "lambda" not in trials:
            problems.add(f"{key}.methods", f"{name} has the penalty {method.penalty}, but no lambda; set or sweep it")
        _check_sizes(config, experiment, name, k, trials, problems)


def _check_sizes(
    config: Config, experiment: str, name: str, k: int, trials: dict[str, list], problems: _Problems
) -> None:
    """k and auxk_k are at most m, in every trial."""
    recipe, method = config.experiments[experiment].training, config.methods[name]
    values = config.training[recipe].model_dump() | method.recipe
    m, auxk_k = min(trials.get("m", [values["m"]])), max(trials.get("auxk_k", [values["auxk_k"]]))

    def place(*options: str) -> str:
        return f"methods.{name}" if {*options} & {*method.recipe, *trials} else f"training.{recipe}"

    if k > m:
        key = f"experiments.{experiment}.k"
        problems.add(key, f"k = {k} is larger than m = {m} of {place('m')}; allowed: 1 to {m}")
    if auxk_k > m:
        key = f"{place('m', 'auxk_k')}.auxk_k"
        problems.add(key, f"auxk_k = {auxk_k} is larger than m = {m} of {place('m')}; allowed: 1 to {m}")

"""Every field of every model refuses what it cannot be: one line, its key, its file."""

import typing

import pytest
from config.common import GENERATED, RAW, REMOVED, config_with
from pydantic import BaseModel
from sae_workflow import settings

from sae.config import extends, models
from sae.core import registry
from sae.core.errors import UserError
from sae.data.entries import NAMED_BY
from sae.training.recipe import Recipe

WHOLE = {**RAW}
for section in ("experiments", "training", "datasets", "backbones"):
    WHOLE[section] = extends.write_out_entries(RAW[section])
SMOKE = WHOLE["experiments"]["smoke"] | {"methods": ["topk"], "sweep": {}}
# It loads in a fraction of the time of the project's own config.
SMALL = RAW | {
    "experiments": {"smoke": SMOKE},
    "methods": {"topk": {"objective": "topk"}},
    "training": {"smoke": WHOLE["training"]["smoke"]},
    "datasets": {
        "fashion_mnist_smoke": WHOLE["datasets"]["fashion_mnist_smoke"],
        "images": GENERATED,
    },
    "backbones": {
        name: WHOLE["backbones"][name] for name in ("efficientnet_lite0", "thumbnail")
    },
}
FRACTIONS = {"train": 0.5, "val": 0.25, "test": 0.25}
TARS = {"train": "a.tar", "val": "b.tar", "test": "c.tar"}
# Entries of the files that the project's own config does not name.
MORE = {
    "datasets": {
        "generated": GENERATED,
        "folder": {"type": "image_folder", "root": "x", "fractions": FRACTIONS},
        "shards": {"type": "shards", "root": "x", "splits": TARS},
        "table": {"type": "table", "root": "x"},
    },
    "backbones": {
        "given": {"loader": "precomputed", "family": "x", "model": "m"},
        "trees": {
            "loader": "generated",
            "family": "generated",
            "model": "hierarchical",
            "d": 8,
            "concepts": 16,
            "classes": 3,
            "seed": 0,
        },
    },
}


def find_models():
    """Yield each model, a path of the config, and what may be written there."""
    yield models.Config, "", {}
    yield (
        models.Experiment,
        "experiments/smoke",
        SMOKE | {"gallery": {}, "concepts": {}},
    )
    yield models.OfDataset, "experiments/smoke/by_dataset", {"fashion_mnist_smoke": {}}
    yield Recipe, "experiments/smoke/by_dataset", {"fashion_mnist_smoke": {}}
    yield models.RecipeEntry, "training/smoke", SMALL["training"]["smoke"]
    yield models.ClaimRule, "claims", RAW["claims"]
    yield models.Compute, "compute", RAW["compute"]
    yield models.MethodEntry, "methods/x", {"objective": "topk"}
    yield models.MethodEntry, "methods/x", {"import": {"place": "x"}}
    yield Recipe, "methods/x", {"objective": "topk"}
    for kind in ("dataset", "backbone", "metric", "protocol"):
        section = f"{kind}s"
        entries = WHOLE[section] | MORE.get(section, {})
        files = {
            entry[NAMED_BY[kind]] if kind in NAMED_BY else name: name
            for name, entry in entries.items()
        }
        for file in registry.names(kind):
            entry = entries[files[file]] or {}
            yield models.entry_model(kind, file), f"{section}/{files[file]}", entry
    required = {"classes": {}, "csv": {"file": "x"}}
    for source in registry.names("annotation"):
        written = {"source": source}
        written |= required.get(source, {"artifacts": ["cldr_annotations"]})
        model = models.entry_model("annotation", source)
        yield model, "datasets/images/concepts", written
    for kind in ("objective", "penalty"):
        for name in registry.names(kind):
            method = {"objective": "topk", "lambda": 1, kind: name}
            if kind == "objective":
                del method["lambda"]
            if name == "axes":
                method |= {"basis": "principal", "control": True}
            if name != "imported":  # Nobody writes that one.
                yield registry.head(kind, name).options, "methods/x", method


def model_in(annotation):
    """Return the model that a field of this type holds, itself or None."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    if typing.get_origin(annotation) in (dict, list):
        return None
    return next(filter(None, map(model_in, typing.get_args(annotation))), None)


def find_mistakes(model, written, path=""):
    """Yield a path and a value for each mistake of each form, in models below, too."""
    yield f"{path}/no_such_key", 1
    for name, field in model.model_fields.items():
        key = field.alias or name
        yield f"{path}/{key}", [[{}]]  # Nothing is of this type,
        yield f"{path}/{key}", 10**30  # or so large.
        right = written.get(key, field.default)
        if type(right) in (int, float):
            yield f"{path}/{key}", str(right)
            yield f"{path}/{key}", True
        if key in written and field.is_required():
            yield f"{path}/{key}", REMOVED
        below = model_in(field.annotation)
        if below and isinstance(written.get(key), dict):
            yield from find_mistakes(below, written[key], f"{path}/{key}")


@pytest.mark.parametrize(("model", "path", "written"), [*find_models()])
def test_a_mistake_in_a_field_is_told_at_its_key(model, path, written):
    right = config_with({path: written} if path else {}, SMALL)
    settings.load(right)
    if path.endswith("by_dataset"):
        path += "/fashion_mnist_smoke"
    for below, value in find_mistakes(model, written or SMALL):
        changed = (path + below).strip("/")
        key = changed.replace("/", ".")
        with pytest.raises(UserError) as caught:
            settings.load(
                config_with({changed: value}, right),
                {key.split(".")[0]: "mine.yaml"},
            )
        head, *lines = str(caught.value).splitlines()
        # A number may be too large for the mapping that it is part of.
        keys = (key, key.rpartition(".")[0]) if value == 10**30 else (key,)
        begins = tuple(f"mine.yaml: config key {key}" for key in keys)
        assert head == "the configuration is not right:"
        assert lines and all(line.startswith(begins) for line in lines), caught.value

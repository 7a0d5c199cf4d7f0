"""Any model of timm; the embedding is the pooled output before the classifier.

The preprocessing is that of the tag (of timm's default tag, if none is named) or, for a repo or a folder with timm's
config.json, of that config.
"""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import timm
import torch
from pydantic import ValidationInfo, field_validator
from timm.data import create_transform, resolve_data_config

from sae.core import files, options
from sae.core.errors import UserError, did_you_mean
from sae.data.backbone import Backbone
from sae.data.backbones import _hub

VERSION = 1
FROM_HUB = True
_FILES = ("model.safetensors", "pytorch_model.bin")


class Options(options.Options):
    """What may be written of such a backbone."""

    model: str
    """timm's name with its tag, or `hf-hub:org/name` for a repo in timm's format (config.json and weights)."""
    checkpoint: str | None = None
    """A local file or folder with the weights; without it they come from the Hugging Face hub or its cache."""

    @field_validator("checkpoint")
    @classmethod
    def _weights_named_once(cls, value: str | None, info: ValidationInfo) -> str | None:
        if value is not None and str(info.data.get("model", "")).startswith("hf-hub:"):
            raise ValueError(
                "`hf-hub:` names the weights too; leave it out, or change `model`"
            )
        return value


def check_early(spec: Options) -> None:
    """Check the name of a model; no job has run yet.

    Raises:
        UserError: timm does not know the model, or has no weights of it and none are named.
    """
    name = spec.model
    if name.startswith("hf-hub:"):
        return  # Which only the hub knows.
    known = _known(name)
    if spec.checkpoint is None and known.hf_hub_id is None:
        raise UserError(
            f"timm has no weights of {name} on the hub; name a local file as `checkpoint`"
        )


def fetch(spec: Options) -> list[_hub.File]:
    """Download into the hub's cache what a backbone needs; returns the files, weights last ([] for local weights).

    Raises:
        UserError: the library does not know the model, or a file is neither in the cache nor on the hub.
    """
    name = spec.model
    if name.startswith("hf-hub:"):
        return _snapshot(name.removeprefix("hf-hub:"))
    check_early(spec)
    if spec.checkpoint is not None:
        return []
    return [
        _hub.fetch(
            _known(name).hf_hub_id,
            _FILES,
            "name a local copy in the backbone's entry as `checkpoint: PATH`",
        )
    ]


def load(
    spec: Options, _artifacts_root: str | Path | None, image_size: int | None
) -> Backbone:
    """The model without its classifier; see `sae.data.backbones`."""
    name, checkpoint, fetched = spec.model, spec.checkpoint, fetch(spec)
    if name.startswith("hf-hub:"):
        checkpoint = str(Path(fetched[0].path).parent)
        name = (
            _architecture(Path(checkpoint)) or name
        )  # `fetch` has seen that the config names one.
    if checkpoint is None:
        file = fetched[-1].path
        with _hub.loading(file, name):
            model = _create(
                name, image_size, pretrained=True, pretrained_cfg_overlay={"file": file}
            )
        return Backbone(model, preprocessing(model, image_size), file)
    file = _hub.weights_file(checkpoint, _FILES)
    with _hub.loading(file, name):
        model = _create(_source(name, Path(checkpoint)), image_size)
        # timm's own adaptation for this family: it renames old tensors and resizes the position embedding.
        adapt = getattr(
            sys.modules[type(model).__module__], "checkpoint_filter_fn", None
        )
        # `strict` would refuse a checkpoint for its classifier, which is left out here.
        missing, others = timm.models.load_checkpoint(
            model, file, strict=False, filter_fn=adapt
        )
    if missing:
        raise UserError(
            f"checkpoint {file} lacks {len(missing)} tensors of the model {name}, such as {missing[0]}"
        )
    if deeper := [key for key in others if _is_of_a_further_layer(key, model)]:
        raise UserError(
            f"checkpoint {file} holds more layers than the model {name} has, such as {deeper[0]}"
        )
    return Backbone(model, preprocessing(model, image_size), file)


def _is_of_a_further_layer(key: str, model: torch.nn.Module) -> bool:
    """Whether a tensor belongs to a layer that follows the last one of its kind, as `blocks.12.norm1.weight` may."""
    parts, modules = key.split("."), {name for name, _ in model.named_modules()}
    places = [
        (".".join(parts[:i]), part)
        for i, part in enumerate(parts)
        if i and part.isdigit()
    ]
    return any(
        f"{above}.0" in modules and f"{above}.{number}" not in modules
        for above, number in places
    )


def preprocessing(model: torch.nn.Module, image_size: int | None) -> Callable:
    """timm's evaluation transform; at `image_size` pixels the whole image is kept (no centre crop of a larger one)."""
    config = resolve_data_config({}, model=model)
    if image_size:
        config |= {"input_size": (3, image_size, image_size), "crop_pct": 1.0}
    return create_transform(**config, is_training=False)


def _create(name: str, image_size: int | None, **options: Any) -> torch.nn.Module:
    # Transformers fix their position embedding at creation; convolutional models take any size, but not the argument.
    if image_size is not None:
        try:
            return timm.create_model(
                name, num_classes=0, img_size=image_size, **options
            )
        except TypeError as error:
            if "img_size" not in str(error):
                raise
    return timm.create_model(name, num_classes=0, **options)


def _known(name: str) -> Any:
    """timm's entry for the weights of a model."""
    try:
        known = timm.is_model(name) and timm.models.get_pretrained_cfg(name)
    except RuntimeError:  # The model exists, its tag does not.
        known = None
    if not known:
        raise UserError(
            f"timm has no model {name!r}; `timm.list_models(pretrained=True)` lists those "
            f"there are{did_you_mean(name, timm.list_models(pretrained=True))}"
        )
    return known


def _snapshot(repo: str) -> list[_hub.File]:
    """timm's config and the weights of a repo of the hub."""
    instead = "give timm's own name as `model` and the folder as `checkpoint`"
    config = _hub.fetch(repo, ["config.json"], instead)
    architecture = _architecture(Path(config.path).parent)
    if not architecture:
        raise UserError(
            f"backbone hf-hub:{repo} is not in timm's format: its config.json names no `architecture`"
        )
    _known(architecture)
    return [config, _hub.fetch(repo, _FILES, instead)]


def _source(name: str, checkpoint: Path) -> str:
    """What timm makes the model from: the folder `checkpoint` if it holds timm's config.json, else the name."""
    architecture = _architecture(checkpoint)
    if architecture is None:
        return name
    if architecture != name.split(".")[0]:
        raise UserError(
            f"checkpoint {checkpoint} holds a {architecture} by its config.json; expected {name}"
        )
    return f"local-dir:{checkpoint}"


def _architecture(folder: Path) -> str | None:
    path = folder / "config.json"
    return files.read_foreign_json(path).get("architecture") if path.is_file() else None

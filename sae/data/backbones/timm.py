"""Any model of timm; the embedding is the pooled output before the classifier.

The preprocessing is that of the tag (of timm's default tag, if none is named) or, for a
repo or a folder with timm's config.json, of that config.
"""

import contextlib
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import timm
import torch
from pydantic import field_validator
from timm.data import create_transform, resolve_data_config

from sae.core import files, options
from sae.core.errors import UserError, did_you_mean
from sae.data.backbone import Backbone
from sae.data.backbones import _hub

VERSION = 1
FROM_HUB = True
_FILES = ("model.safetensors", "pytorch_model.bin")
# The names of timm's classes that do, such as AttentionPoolLatent, AttentionPool2d.
_POOLS_BY_ATTENTION = re.compile("Att(ention|n)Pool")


class Options(options.Options):
    """The options of such a backbone."""

    model: str
    """timm's name with its tag, or `hf-hub:org/name` for a repo in timm's format
    (config.json and weights)."""
    checkpoint: str | None = None
    """A local file or folder with the weights; without it they come from the Hugging
    Face hub or its cache."""

    _weights_named_once = field_validator("checkpoint")(options.weights_named_once)


def check_early(spec: Options) -> None:
    """Check the name of a model; no job has run yet.

    Raises:
        UserError: timm does not know the model, or has no weights of it and none are
            named.
    """
    name = spec.model
    if name.startswith(options.HUB_PREFIX):
        return  # Which only the hub knows.
    weights = _weights_entry(name)
    if spec.checkpoint is None and weights.hf_hub_id is None:
        raise UserError(
            f"timm has no weights of {name} on the hub; name a local file as "
            "`checkpoint`"
        )


def fetch(spec: Options) -> list[_hub.File]:
    """Download into the hub's cache what a backbone needs.

    Returns:
        The files, weights last; none for local weights.

    Raises:
        UserError: the library does not know the model, or a file is neither in the
            cache nor on the hub.
    """
    if spec.model.startswith(options.HUB_PREFIX):
        return _fetch_repo(spec.model.removeprefix(options.HUB_PREFIX))
    check_early(spec)
    if spec.checkpoint is not None:
        return []
    return [_hub.fetch(_weights_entry(spec.model).hf_hub_id, _FILES)]


def load(
    spec: Options, _artifacts_root: str | Path | None, image_size: int | None
) -> Backbone:
    """Load the model without its classifier; see `sae.data.backbones`."""
    name = spec.model
    checkpoint = spec.checkpoint
    hub_files = fetch(spec)
    if name.startswith(options.HUB_PREFIX):
        # The folder of the hub's cache has the config, which names the architecture,
        # and the weights.
        checkpoint = str(Path(hub_files[0].path).parent)
        name = _architecture(Path(checkpoint)) or name
    if checkpoint is not None:
        file = _hub.weights_file(checkpoint, _FILES)
        model = _load_checkpoint(name, checkpoint, file, image_size)
    else:
        file = hub_files[-1].path
        with _hub.loading(file, name):
            model = _create(
                name, image_size, pretrained=True, pretrained_cfg_overlay={"file": file}
            )
    return Backbone(model, preprocessing(model, image_size), file, positions_of(model))


def positions_of(
    model: Any,
) -> Callable[[torch.Tensor], torch.Tensor] | None:
    """Return a function from images to what a model of timm makes of each position.

    All that follows the pooling (norms, layers, a classifier) is applied to each
    position alone. Of a model that pools by its class token the positions are the
    patches' tokens.

    Returns:
        The function, from (N, 3, H, W) to (N, h, w, d). None where attention pools, or
        the positions are on no grid.
    """
    if any(_POOLS_BY_ATTENTION.search(type(part).__name__) for part in model.modules()):
        return None
    # Of others the features are tokens, in the order of the patches.
    is_convolutional = model.pretrained_cfg.get("pool_size") is not None
    patches: Any = getattr(model, "patch_embed", None)
    if not is_convolutional and getattr(patches, "grid_size", None) is None:
        return None

    def positions(images: torch.Tensor) -> torch.Tensor:
        features = model.forward_features(images)
        if is_convolutional:
            is_last = getattr(model, "output_fmt", "NCHW") == "NHWC"
            features = features if is_last else features.permute(0, 2, 3, 1)
            n, h, w, width = features.shape
            shape_alone = (-1, 1, 1, width) if is_last else (-1, width, 1, 1)
            alone = features.reshape(shape_alone)
        else:
            prefix = getattr(model, "num_prefix_tokens", 0)
            n, _, width = features.shape
            h, w = patches.grid_size
            tokens = features[:, prefix:].reshape(n * h * w, 1, width)
            # Whatever place the head takes, it finds this position there.
            alone = tokens.expand(-1, prefix + 1, -1)
        return model.forward_head(alone).reshape(n, h, w, -1)

    return positions


def _load_checkpoint(
    name: str, checkpoint: str, file: str, image_size: int | None
) -> torch.nn.Module:
    with _hub.loading(file, name):
        model = _create(_source(name, Path(checkpoint)), image_size)
        # timm's own adaptation for this family: it renames old tensors and resizes the
        # position embedding.
        family = sys.modules[type(model).__module__]
        adapt = getattr(family, "checkpoint_filter_fn", None)
        # `strict` would refuse a checkpoint for its classifier, which is left out here.
        missing, unused = timm.models.load_checkpoint(
            model, file, strict=False, filter_fn=adapt
        )
    if missing:
        raise UserError(
            f"checkpoint {file} lacks {len(missing)} tensors of the model {name}, such "
            f"as {missing[0]}"
        )
    deeper = [key for key in unused if _is_of_a_further_layer(key, model)]
    if deeper:
        raise UserError(
            f"checkpoint {file} holds more layers than the model {name} has, such as "
            f"{deeper[0]}"
        )
    return model


def _is_of_a_further_layer(key: str, model: torch.nn.Module) -> bool:
    """Say whether a tensor is of `blocks.12`, say, where `blocks.11` is the last."""
    modules = {name for name, _ in model.named_modules()}
    parts = key.split(".")
    for depth, part in enumerate(parts):
        if depth == 0 or not part.isdigit():
            continue
        layers = ".".join(parts[:depth])
        if f"{layers}.0" in modules and f"{layers}.{part}" not in modules:
            return True
    return False


def preprocessing(model: torch.nn.Module, image_size: int | None) -> Callable:
    """Return timm's evaluation transform.

    Args:
        model: a model of timm.
        image_size: in pixels. The whole image is then kept: there is no centre crop of
            a larger one. None: the model's own size and crop.
    """
    config = resolve_data_config({}, model=model)
    if image_size:
        config["input_size"] = (3, image_size, image_size)
        config["crop_pct"] = 1.0
    return create_transform(**config, is_training=False)


def _create(name: str, image_size: int | None, **options: Any) -> torch.nn.Module:
    # Transformers fix their position embedding at creation; convolutional models take
    # any size, but not the argument.
    if image_size is not None:
        try:
            return timm.create_model(
                name, num_classes=0, img_size=image_size, **options
            )
        except TypeError as error:
            if "img_size" not in str(error):
                raise
    return timm.create_model(name, num_classes=0, **options)


def _weights_entry(name: str) -> Any:
    entry = None
    with contextlib.suppress(RuntimeError):  # The model exists, its tag does not.
        if timm.is_model(name):
            entry = timm.models.get_pretrained_cfg(name)
    if not entry:
        models = timm.list_models(pretrained=True)
        raise UserError(
            f"timm has no model {name!r}; `timm.list_models(pretrained=True)` lists "
            f"those there are{did_you_mean(name, models)}"
        )
    return entry


def _fetch_repo(repo: str) -> list[_hub.File]:
    instead = "give timm's own name as `model` and the folder as `checkpoint`"
    config = _hub.fetch(repo, ["config.json"], instead)
    architecture = _architecture(Path(config.path).parent)
    if not architecture:
        raise UserError(
            f"backbone hf-hub:{repo} is not in timm's format: its config.json names no "
            "`architecture`"
        )
    _weights_entry(architecture)
    return [config, _hub.fetch(repo, _FILES, instead)]


def _source(name: str, checkpoint: Path) -> str:
    """Return what timm makes a model from: its config's folder, or the name."""
    architecture = _architecture(checkpoint)
    if architecture is None:
        return name
    if architecture != name.split(".")[0]:
        raise UserError(
            f"checkpoint {checkpoint} holds a {architecture} by its config.json; "
            f"expected {name}"
        )
    return f"local-dir:{checkpoint}"


def _architecture(folder: Path) -> str | None:
    config_file = folder / "config.json"
    if not config_file.is_file():
        return None
    return files.read_foreign_json(config_file).get("architecture")

"""The image tower of any open_clip model; the embedding is `encode_image` as it is.

Weights come from a local file or folder, or else from the Hugging Face hub or its
cache. OpenAI's own files, TorchScript, are refused as unsafe to load: the tag `openai`
has the same weights on the hub.

A tag stands for more than weights: it fixes the preprocessing (mean, std, resizing) and
the activation (GELU or QuickGELU). open_clip itself drops the former for a local file
and only warns of the latter; here both hold wherever the weights come from. Local
weights without a tag take them from open_clip_config.json, if they are a folder with
one, or from the model's tags, if those agree.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import open_clip
import torch
from open_clip.timm_model import TimmModel
from open_clip.transformer import VisionTransformer
from pydantic import Field, ValidationInfo, field_validator

from sae.core import files, options
from sae.core.errors import UserError, did_you_mean
from sae.data.backbone import Backbone
from sae.data.backbones import _hub, timm

VERSION = 1
FROM_HUB = True
_FILES = ("open_clip_model.safetensors", "open_clip_pytorch_model.bin")
_LOCAL_FILES = (*_FILES, "model.safetensors", "pytorch_model.bin")
_CONFIG = "open_clip_config.json"
_PREPROCESSING = ("mean", "std", "interpolation", "resize_mode")


class Options(options.Options):
    """The options of such a backbone."""

    model: str
    """open_clip's name, or `hf-hub:org/name` for a repo in open_clip's format
    (open_clip_config.json and weights)."""
    pretrained: str | None = Field(None, validate_default=True)
    """A weights tag, or a local file or folder; needed unless `model` is on the hub by
    itself."""
    checkpoint: str | None = None
    """A local copy (file or folder) of the tag's weights."""

    _weights_named_once = field_validator("pretrained", "checkpoint")(
        options.weights_named_once
    )

    @field_validator("pretrained")
    @classmethod
    def _weights_named(
        cls, value: str | None, validation: ValidationInfo
    ) -> str | None:
        is_of_hub = str(validation.data.get("model", "")).startswith(options.HUB_PREFIX)
        if value is None and not is_of_hub:
            raise ValueError(
                "this key is required: a weights tag, or a local file or folder"
            )
        return value


def check_early(spec: Options) -> None:
    """Check the name of a model and its tag; no job has run yet.

    Raises:
        UserError: open_clip does not know the model, or `pretrained` is neither a tag
            of it nor a local path.
    """
    name = spec.model
    tag_or_path = spec.pretrained or ""
    if name.startswith(options.HUB_PREFIX):
        return  # Which only the hub knows.
    models = open_clip.list_models()
    if name not in models:
        raise UserError(
            f"open_clip has no model {name!r}; `open_clip.list_models()` lists those "
            f"there are{did_you_mean(name, models)}"
        )
    if open_clip.get_pretrained_cfg(name, tag_or_path):
        return
    if spec.checkpoint is not None or not Path(tag_or_path).exists():
        tags = open_clip.list_pretrained_tags_by_model(name)
        tag_list = ", ".join(tags) or "none"
        raise UserError(
            f"pretrained: {tag_or_path} is neither a tag of {name} (there are: "
            f"{tag_list}) nor a local path{did_you_mean(tag_or_path, tags)}"
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
        repo = spec.model.removeprefix(options.HUB_PREFIX)
        instead = "give open_clip's own name as `model` and the folder as `pretrained`"
        config = _hub.fetch(repo, [_CONFIG], instead)
        return [config, _hub.fetch(repo, _FILES, instead)]
    check_early(spec)
    settings = open_clip.get_pretrained_cfg(spec.model, spec.pretrained)
    if not settings or spec.checkpoint is not None:
        return []
    repo, _, file_of_tag = settings["hf_hub"].rpartition("/")
    return [_hub.fetch(repo, [file_of_tag] if file_of_tag else _FILES)]


def load(
    spec: Options, _artifacts_root: str | Path | None, image_size: int | None
) -> Backbone:
    """Load the image tower; see `sae.data.backbones`."""
    hub_files = fetch(spec)
    settings = open_clip.get_pretrained_cfg(spec.model, spec.pretrained)
    if hub_files:
        file = hub_files[-1].path
    elif settings and spec.checkpoint is not None:
        file = _hub.weights_file(spec.checkpoint, _LOCAL_FILES)
    else:
        file = _hub.weights_file(spec.pretrained or "", _LOCAL_FILES)
        settings = _settings_without_tag(spec.model, spec.pretrained or "")

    arguments: dict[str, Any] = {
        f"image_{key}": settings[key] for key in _PREPROCESSING if key in settings
    }
    if settings.get("quick_gelu"):
        arguments["quick_gelu"] = True
    name = spec.model
    pretrained: str | None = file
    if name.startswith(options.HUB_PREFIX):
        # The folder of the hub's cache has the config and the weights.
        name = f"local-dir:{Path(hub_files[0].path).parent}"
        pretrained = None
    with _hub.loading(file, spec.model):
        model, transform = open_clip.create_model_from_pretrained(
            name, pretrained, force_image_size=image_size, **arguments
        )

    tower = model.visual
    trunk = getattr(tower, "trunk", None)
    if image_size and trunk is not None and hasattr(trunk, "set_input_size"):
        # open_clip resizes the position embedding of its own transformers only, not of
        # timm's.
        trunk.set_input_size(image_size)
    tower.output_tokens = False  # CoCa's tower would return its tokens too.
    return Backbone(tower, transform, file, _positions_of(tower))


def _positions_of(tower: Any) -> Callable[[torch.Tensor], torch.Tensor] | None:
    """Return a function from images to what an image tower makes of each position.

    Returns:
        The function, from (N, 3, H, W) to (N, h, w, d). None where attention pools.
    """
    if isinstance(tower, TimmModel):
        positions_of_trunk = timm.positions_of(tower.trunk)
        if positions_of_trunk is None or hasattr(tower.head, "pool"):
            return None
        return lambda images: tower.head(positions_of_trunk(images))
    if not isinstance(tower, VisionTransformer) or tower.attn_pool is not None:
        return None

    def positions(images: torch.Tensor) -> torch.Tensor:
        # The first token is the class's.
        tokens = tower.transformer(tower._embeds(images))[:, 1:]
        vectors = tower.ln_post(tokens)
        if tower.proj is not None:
            vectors = vectors @ tower.proj
        return vectors.reshape(len(images), *tower.grid_size, -1)

    return positions


def _settings_without_tag(name: str, path: str) -> dict[str, Any]:
    """Return preprocessing and activation of local weights without a tag."""
    # Those of open_clip's config beside them, else those on which the model's tags
    # agree.
    config_file = Path(path, _CONFIG)
    if config_file.is_file():
        config = files.read_foreign_json(config_file)
        quick_gelu = config.get("model_cfg", {}).get("quick_gelu", False)
        return {**config.get("preprocess_cfg", {}), "quick_gelu": quick_gelu}

    tags = open_clip.list_pretrained_tags_by_model(name)
    settings_of_tags = []
    for tag in tags:
        settings = open_clip.get_pretrained_cfg(name, tag)
        settings_of_tags.append(
            {key: settings.get(key) for key in (*_PREPROCESSING, "quick_gelu")}
        )
    if any(settings != settings_of_tags[0] for settings in settings_of_tags):
        raise UserError(
            f"pretrained: {path} does not tell its preprocessing and activation, on "
            f"which the tags of {name} differ; set `pretrained` to the tag that it is "
            f"of ({', '.join(tags)}) and `checkpoint: {path}`"
        )
    return settings_of_tags[0] if settings_of_tags else {}

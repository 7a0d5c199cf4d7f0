"""The image tower of any open_clip model; the embedding is `encode_image`, not normalised.

Weights come from a local file or folder, or else from the Hugging Face hub or its cache. OpenAI's own files,
TorchScript, are refused as unsafe to load: the tag `openai` has the same weights on the hub.

A tag stands for more than weights: it fixes the preprocessing (mean, std, resizing) and the activation (GELU or
QuickGELU). open_clip itself drops the former for a local file and only warns of the latter; here both hold wherever the
weights come from. Local weights without a tag take them from open_clip_config.json, if they are a folder with one, or
from the model's tags, if those agree.
"""

from pathlib import Path
from typing import Any

import open_clip
from pydantic import Field, ValidationInfo, field_validator

from sae.core import files, options
from sae.core.errors import UserError, did_you_mean
from sae.data.backbone import Backbone
from sae.data.backbones import _hub

VERSION = 1
FROM_HUB = True
_FILES = ("open_clip_model.safetensors", "open_clip_pytorch_model.bin")
_LOCAL_FILES = (*_FILES, "model.safetensors", "pytorch_model.bin")
_CONFIG = "open_clip_config.json"
_PREPROCESSING = ("mean", "std", "interpolation", "resize_mode")


class Options(options.Options):
    """What may be written of such a backbone."""

    model: str
    """open_clip's name, or `hf-hub:org/name` for a repo in open_clip's format (open_clip_config.json and weights)."""
    pretrained: str | None = Field(None, validate_default=True)
    """A weights tag, or a local file or folder; needed unless `model` is on the hub by itself."""
    checkpoint: str | None = None
    """A local copy (file or folder) of the tag's weights."""

    @field_validator("pretrained", "checkpoint")
    @classmethod
    def _weights_named_once(cls, value: str | None, info: ValidationInfo) -> str | None:
        named = str(info.data.get("model", "")).startswith("hf-hub:")
        if named and value is not None:
            raise ValueError(
                "`hf-hub:` names the weights too; leave it out, or change `model`"
            )
        if not named and value is None and info.field_name == "pretrained":
            raise ValueError(
                "this key is required: a weights tag, or a local file or folder"
            )
        return value


def check_early(spec: Options) -> None:
    """Check the name of a model and its tag; no job has run yet.

    Raises:
        UserError: open_clip does not know the model, or `pretrained` is neither a tag of it
            nor a local path.
    """
    name = spec.model
    tag_or_path = spec.pretrained or ""
    if name.startswith("hf-hub:"):
        return  # Which only the hub knows.
    models = open_clip.list_models()
    if name not in models:
        raise UserError(
            f"open_clip has no model {name!r}; `open_clip.list_models()` lists those there "
            f"are{did_you_mean(name, models)}"
        )
    if open_clip.get_pretrained_cfg(name, tag_or_path):
        return
    if spec.checkpoint is not None or not Path(tag_or_path).exists():
        tags = open_clip.list_pretrained_tags_by_model(name)
        there = ", ".join(tags) or "none"
        raise UserError(
            f"pretrained: {tag_or_path} is neither a tag of {name} (there are: {there}) nor "
            f"a local path{did_you_mean(tag_or_path, tags)}"
        )


def fetch(spec: Options) -> list[_hub.File]:
    """Download into the hub's cache what a backbone needs; returns the files, weights last ([] for local weights).

    Raises:
        UserError: the library does not know the model, or a file is neither in the cache nor on the hub.
    """
    name = spec.model
    if name.startswith("hf-hub:"):
        repo = name.removeprefix("hf-hub:")
        instead = "give open_clip's own name as `model` and the folder as `pretrained`"
        return [_hub.fetch(repo, [_CONFIG], instead), _hub.fetch(repo, _FILES, instead)]
    check_early(spec)
    settings = open_clip.get_pretrained_cfg(name, spec.pretrained)
    if not settings or spec.checkpoint is not None:
        return []
    repo, _, single = settings["hf_hub"].rpartition("/")
    instead = "name a local copy in the backbone's entry as `checkpoint: PATH`"
    return [_hub.fetch(repo, [single] if single else _FILES, instead)]


def load(
    spec: Options, _artifacts_root: str | Path | None, image_size: int | None
) -> Backbone:
    """The image tower; see `sae.data.backbones`."""
    name, fetched = spec.model, fetch(spec)
    settings = open_clip.get_pretrained_cfg(name, spec.pretrained)
    if fetched:
        file = fetched[-1].path
    elif settings and spec.checkpoint is not None:
        file = _hub.weights_file(spec.checkpoint, _LOCAL_FILES)
    else:
        file, settings = _without_tag(name, spec.pretrained or "")
    if name.startswith("hf-hub:"):
        name = f"local-dir:{Path(fetched[0].path).parent}"
    options = {
        f"image_{key}": settings[key] for key in _PREPROCESSING if key in settings
    }
    options |= {"quick_gelu": True} if settings.get("quick_gelu") else {}
    with _hub.loading(file, spec.model):
        model, transform = open_clip.create_model_from_pretrained(
            name,
            None if name.startswith("local-dir:") else file,
            force_image_size=image_size,
            **options,
        )
    trunk = getattr(model.visual, "trunk", None)
    if image_size and trunk is not None and hasattr(trunk, "set_input_size"):
        # open_clip resizes the position embedding of its own transformers only, not of timm's.
        trunk.set_input_size(image_size)
    model.visual.output_tokens = False  # CoCa's tower would return its tokens too.
    return Backbone(model.visual, transform, file)


def _without_tag(name: str, path: str) -> tuple[str, dict[str, Any]]:
    """The weights file at a local path, and the preprocessing and activation that belong to it.

    Those that open_clip's config in the folder names; else those on which the model's tags agree; for a model without
    tags {}, open_clip's defaults.
    """
    tags = open_clip.list_pretrained_tags_by_model(name)
    file, config = _hub.weights_file(path, _LOCAL_FILES), Path(path, _CONFIG)
    if config.is_file():
        said = files.read_foreign_json(config)
        quick = said.get("model_cfg", {}).get("quick_gelu", False)
        return file, said.get("preprocess_cfg", {}) | {"quick_gelu": quick}
    every = [open_clip.get_pretrained_cfg(name, tag) for tag in tags]
    every = [
        {key: c.get(key) for key in (*_PREPROCESSING, "quick_gelu")} for c in every
    ]
    if any(settings != every[0] for settings in every):
        raise UserError(
            f"pretrained: {path} does not tell its preprocessing and activation, on which the tags of {name} differ; "
            f"set `pretrained` to the tag that it is of ({', '.join(tags)}) and `checkpoint: {path}`"
        )
    return file, every[0] if every else {}

"""A backbone of the config: how it is loaded, and by what it is told apart."""

from pathlib import Path
from typing import Any

from sae.core import files
from sae.core.options import Precision
from sae.data import artifacts, folding
from sae.data.backbone import Backbone
from sae.data.entries import BackboneEntry, NetworkEntry, parse

# In the keys of embeddings made in bfloat16. Earlier versions used autocast alone under
# the key `bfloat16`; this text keeps the two apart.
_BFLOAT16_KEY = "bfloat16, weights too"


def load(
    entry: BackboneEntry, artifacts_root: str | Path | None, image_size: int | None
) -> Backbone:
    """Load the backbone of an entry; see `sae.data.backbones`."""
    return entry.entry_module.load(entry.own_options, artifacts_root, image_size)


def settle_precision(entry: BackboneEntry, device: str) -> BackboneEntry:
    """Return an entry with what `precision: auto` stands for on a device."""
    if not isinstance(entry, NetworkEntry) or entry.precision != "auto":
        return entry
    precision: Precision = "float32"
    if folding.has_bfloat16(device):
        precision = "bfloat16"
    return with_precision(entry, precision)


def with_precision(entry: BackboneEntry, precision: Precision) -> BackboneEntry:
    """Return an entry with another precision."""
    return parse("backbone", {**entry.spec, "precision": precision})


def identity(entry: BackboneEntry) -> dict[str, Any]:
    """Return what of a settled entry decides its embeddings, as keys have it.

    Where its weights lie does not; what they hold does, and is not in the entry.
    """
    content = entry.spec
    content.pop("checkpoint", None)
    pretrained = content.get("pretrained")
    if pretrained is not None and Path(pretrained).exists():
        del content["pretrained"]
    if content.get("precision") == "bfloat16":
        content["precision"] = _BFLOAT16_KEY
    return content


def fingerprint(
    entry: BackboneEntry, backbone: Backbone, artifacts_root: str | Path | None
) -> str:
    """Return a hash of a loaded backbone: of its weights and its :func:`identity`.

    Args:
        entry: its entry, settled (:func:`settle_precision`).
        backbone: the loaded backbone.
        artifacts_root: folder of fetched artifacts, of which its weights may be one.
    """
    manifests = artifacts.manifests(artifacts_root, entry.artifact_names)
    if manifests:
        weights: Any = [manifest["files"] for manifest in manifests]
    elif backbone.checkpoint:
        weights = files.sha256(backbone.checkpoint)
    else:
        weights = None
    return fingerprint_of_weights(entry, weights)


def fingerprint_of_weights(entry: BackboneEntry, weights: Any) -> str:
    """Return a hash of a settled entry and of the hashes of what it reads.

    Args:
        entry: the entry.
        weights: hashes, as JSON has them: of its weights, or of given embeddings.
    """
    return files.sha256_text(files.dumps([identity(entry), weights]))[:16]

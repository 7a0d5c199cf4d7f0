"""Use a trained SAE on new embeddings or images."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from sae.core import files, registry
from sae.core.errors import UserError
from sae.data import archives
from sae.data.embed import embed_images, fingerprint
from sae.models import saefile
from sae.models.coder import TopK
from sae.models.codes import Codes


class Encoder:
    """A trained SAE, ready for embeddings as its backbone gives them.

    Attributes:
        coder: the `sae.models.coder.Coder`.
        metadata: select, k, input_norm, input_scale, method, trial, seed, dataset, backbone, code.
    """

    def __init__(self, path: Path | str, device: str = "cpu") -> None:
        self.coder = saefile.load(path).to(device)
        self.metadata = self.coder.metadata

    def encode(self, embeddings: np.ndarray, k: int | None = None) -> Codes:
        """Sparse codes of embeddings (N, d), any float type, not normalised.

        Args:
            k: keep the k largest activations of each; by default the SAE selects as it does, by its k or threshold.

        Raises:
            UserError: another number of dimensions, no rows, values that are not finite, or k above m.
        """
        embeddings = np.asanyarray(embeddings)
        d, m = self.coder.d, self.coder.m
        if embeddings.ndim != 2 or embeddings.shape[1] != d or not len(embeddings):
            raise UserError(
                f"embeddings have shape {embeddings.shape}, this SAE takes (N, {d}) as {self.metadata['backbone']} "
                "gives them"
            )
        if k is not None and not 1 <= k <= m:
            raise UserError(f"k = {k}; this SAE has {m} latents: give 1 to {m}")
        for start in range(0, len(embeddings), 16_384):
            if not np.isfinite(embeddings[start : start + 16_384]).all():
                raise UserError("the embeddings hold NaN or infinite values")
        return self.coder.encode(self.coder.open_inputs(embeddings), None if k is None else TopK(k))

    def decode(self, codes: Codes) -> np.ndarray:
        """Codes back to the SAE's input space, (N, d) float32: embeddings normalised and scaled as in training.

        With `input_norm` 'unit_l2_layernorm' a reconstruction needs the input's own mean and scale: use
        `coder.reconstruct`.

        Raises:
            UserError: for that `input_norm`.
        """
        if self.coder.input_norm == "unit_l2_layernorm":
            raise UserError("this SAE standardises each input (unit_l2_layernorm): use Encoder.coder.reconstruct")
        return self.coder.decode(codes).cpu().numpy()


def encode(
    path: Path | str,
    source: Path | str,
    out: Path | str,
    *,
    device: str,
    activations: Path | str | None = None,
    artifacts_root: Path | str | None = None,
    workers: int = 0,
    k: int | None = None,
) -> None:
    """Write the codes of `source` to `out` (parquet): columns row, path (of images), latent, activation; largest first.

    Args:
        source: a `.npy` file of embeddings (N, d), or a folder of images.
        activations: for images, the folder of the splits that the SAE was trained on: it records which backbone and
            input size made its embeddings, and the images are embedded in the same way.
        artifacts_root, workers: as for :func:`sae.data.embed.embed`.

    Raises:
        UserError: `source` is neither, holds no image, or the activations are of another backbone.
    """
    encoder, source, paths = Encoder(path, device), Path(source), None
    if source.is_dir():
        if activations is None:
            raise UserError(f"{source} is a folder of images: name the SAE's own embeddings with --activations")
        manifest = files.read_json(Path(activations) / "train/manifest.json", "manifest of activations")
        if manifest["backbone"]["name"] != encoder.metadata["backbone"]:
            raise UserError(
                f"{activations} are embeddings of {manifest['backbone']['name']}, this SAE was trained on "
                f"{encoder.metadata['backbone']}"
            )
        paths = image_paths(source)
        embeddings = embed_like(manifest, source, paths, artifacts_root, device, workers)
    else:
        try:
            embeddings = np.load(source, mmap_mode="r")
        except (OSError, ValueError) as error:
            raise UserError(f"{source} is neither a folder of images nor a .npy file ({error})") from None
    codes = encoder.encode(embeddings, k)
    rows = codes.row_numbers()
    columns = {"row": rows} | ({} if paths is None else {"path": np.array(paths, dtype=object)[rows]})
    table = pd.DataFrame(columns | {"latent": codes.indices, "activation": codes.values})
    with files.atomic_file(out) as temporary:
        table.to_parquet(temporary, index=False)


def image_paths(folder: Path) -> list[str]:
    """The images in a folder and below, relative to it, sorted."""
    from torchvision.datasets.folder import IMG_EXTENSIONS

    paths = sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.suffix.lower() in IMG_EXTENSIONS)
    if not paths:
        raise UserError(f"no image in {folder}; endings looked for: {', '.join(IMG_EXTENSIONS)}")
    return paths


def embed_like(
    manifest: dict[str, Any],
    folder: Path,
    paths: list[str],
    artifacts_root: Path | str | None,
    device: str,
    workers: int,
) -> np.ndarray:
    """Embeddings (N, d) of images below `folder`, made as those of a store's manifest."""
    spec = manifest["backbone"]["spec"]
    module = registry.load("backbone", spec.get("loader", "precomputed"))
    if not hasattr(module, "load"):
        raise UserError(
            f"embeddings of {manifest['backbone']['name']} were given, not made: encode a .npy file of them"
        )
    backbone = module.load(spec, artifacts_root, manifest["image_size"])
    if fingerprint(spec, backbone, artifacts_root) != manifest["backbone"]["fingerprint"]:
        raise UserError(
            f"the weights of {manifest['backbone']['name']} are not those that the SAE's embeddings were made with; "
            "put those back, or embed and train anew"
        )
    options = {"batch_size": manifest["batch_size"], "device": device, "workers": workers, "spec": spec}
    embeddings = np.concatenate(list(embed_images(backbone, archives.opener(folder), paths, **options)))
    return embeddings.astype(manifest["dtype"])

"""Use a trained SAE on new embeddings or images."""

import logging
import os
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from sae.core import arguments, files, registry
from sae.core.errors import UserError
from sae.core.options import Count, Whole
from sae.core.shown import Shown
from sae.data import archives, pictures, store
from sae.data.embed import embed_images, fingerprint, load
from sae.models import inputs, saefile
from sae.models.coder import Coder, TopK
from sae.models.codes import Codes
from sae.models.convert import check_out
from sae.models.sizes import CHUNK

progress = logging.getLogger("sae.progress")


class Encoder(Shown):
    """A trained SAE, ready for embeddings as its backbone gives them.

    :meth:`encode` and :meth:`reconstruct` take raw embeddings, and a reconstruction is
    as raw as what it was given, so that the two can be compared::

        residual = embeddings - encoder.reconstruct(embeddings)

    Args:
        sae: the path of an SAE file, or a coder, as `sae.models.convert.load` gives it.
        device: the name of a torch device, or 'auto' for the best that there is; a
            coder is moved there.

    Attributes:
        coder: the `sae.models.coder.Coder`.
        metadata: select, k, input_norm, input_scale, method, trial, seed, dataset, backbone, embeddings (the SHA-256 of
            those that it was trained on), made_of (`sae.data.store.made_of`), versions. Names are those that its first
            maker used.

    Raises:
        UserError: `sae` is neither, there is no such device, or what
            :func:`sae.models.saefile.load` raises.
    """

    def __init__(
        self, sae: Path | str | Coder, device: str | torch.device = "cpu"
    ) -> None:
        if not isinstance(sae, str | os.PathLike | Coder):
            raise UserError(
                f"an SAE is opened by the path of its file, not by {type(sae).__name__}: give a path"
            )
        place = arguments.device_name(device)
        self.coder = (sae if isinstance(sae, Coder) else saefile.load(sae)).to(place)
        self.metadata = self.coder.metadata

    def facts(self) -> dict[str, object]:
        """What it is."""
        coder, said = self.coder, self.metadata
        trial = ", ".join(
            f"{name} {value}" for name, value in (said.get("trial") or {}).items()
        )
        method = (
            said.get("method") and f"{said['method']}{f' ({trial})' if trial else ''}"
        )
        found: dict[str, object] = {
            "d": coder.d,
            "m": coder.m,
            "k": coder.k,
            "method": method,
        }
        found |= {
            "select": said.get("select"),
            "input": f"{coder.input_norm} x {coder.input_scale:.4g}",
        }
        return found | {name: said.get(name) for name in ("dataset", "backbone")}

    def encode(
        self, embeddings: np.ndarray, k: int | None = None, name: str = "the array"
    ) -> Codes:
        """Sparse codes of embeddings (N, d), any float type, not normalised.

        Args:
            k: keep the k largest activations of each; by default the SAE selects as it does, by its k or threshold.
            name: what error messages call the embeddings.

        Raises:
            UserError: no floats, another number of dimensions, no rows, values that are not finite in float32, or k
                no whole number from 1 to m.
        """
        embeddings = self._checked(embeddings, name)
        return self.coder.encode(self.coder.open_inputs(embeddings), self._select(k))

    def reconstruct(
        self,
        embeddings: np.ndarray,
        k: int | None = None,
        *,
        codes: Codes | None = None,
        name: str = "the array",
    ) -> np.ndarray:
        """Reconstruct embeddings (N, d), in the space that they are given in.

        Args:
            embeddings: (N, d), any float type, not normalised.
            k: as in :meth:`encode`.
            codes: what is decoded; by default the codes of the embeddings. Edited ones
                show what some latents are worth.
            name: what error messages call the embeddings.

        Returns:
            (N, d) float32: the decoded codes, with the SAE's norm and scale undone.

        Raises:
            UserError: as :meth:`encode` and :meth:`decode`, the codes are of another
                number of samples, or both k and codes are given.
        """
        embeddings = self._checked(embeddings, name)
        select = self._select(k)
        if codes is not None:
            if k is not None:
                raise UserError(
                    "k and codes are both given, and codes have a k of their own: "
                    "leave one out"
                )
            _check_codes(codes, self.coder.m)
            if len(codes) != len(embeddings):
                raise UserError(
                    f"codes are of {len(codes)} samples, {name} has {len(embeddings)} "
                    "rows: give the codes of these embeddings"
                )

        coder = self.coder
        reconstructions = np.empty(embeddings.shape, dtype=np.float32)
        for start in range(0, len(embeddings), CHUNK):
            rows = slice(start, min(start + CHUNK, len(embeddings)))
            prepared = coder.prepare(embeddings[rows]).to(coder.b_dec.device)
            part = (
                coder.encode(prepared, select)
                if codes is None
                else codes.rows(rows.start, rows.stop)
            )
            reconstructions[rows] = inputs.undo(
                coder.reconstruct(prepared, part).cpu().numpy(),
                embeddings[rows],
                coder.input_norm,
                coder.input_scale,
            )
        return reconstructions

    def decode(self, codes: Codes) -> np.ndarray:
        """Decode to the SAE's input space, (N, d) float32: normalised and scaled.

        Not to be compared with embeddings as the backbone gave them, which
        :meth:`encode` takes: :meth:`reconstruct` gives what can be.

        Raises:
            UserError: `codes` are not codes of this SAE, or its `input_norm` is
                'unit_l2_layernorm': its reconstructions need each input's own mean and
                scale.
        """
        _check_codes(codes, self.coder.m)
        if self.coder.input_norm == "unit_l2_layernorm":
            raise UserError(
                "this SAE standardises each input (unit_l2_layernorm), so codes alone "
                "cannot be decoded: use Encoder.reconstruct(embeddings, codes=codes)"
            )
        return self.coder.decode(codes).cpu().numpy()

    def _checked(self, embeddings: Any, name: str) -> np.ndarray:
        backbone = self.metadata.get("backbone", "its backbone")
        needed = f"embeddings as {backbone} gives them"
        return check_embeddings(embeddings, self.coder.d, name, needed)

    def _select(self, k: int | None) -> TopK | None:
        """Return the Top-k selection of a user's k; None for the SAE's own selection.

        Raises:
            UserError: k is no whole number from 1 to m.
        """
        if k is None:
            return None
        m = self.coder.m
        whole = arguments.whole_number(
            "k", k, f"1 to {m}, the number of latents of this SAE"
        )
        if not 1 <= whole <= m:
            raise UserError(f"k = {whole}; this SAE has {m} latents: give 1 to {m}")
        return TopK(whole)


def _check_codes(codes: Any, m: int) -> None:
    """Check that codes are some of an SAE of m latents.

    Raises:
        UserError: they are something else, or of other latents.
    """
    if not isinstance(codes, Codes):
        raise UserError(
            f"codes are {type(codes).__name__}, not sae.models.codes.Codes: give what "
            "Encoder.encode returns"
        )
    if codes.m != m:
        raise UserError(
            f"codes are of an SAE of {codes.m} latents, and this one has {m}: encode "
            "with the SAE that decodes"
        )
    codes.check()


def check_embeddings(
    embeddings: Any, d: int | None, name: str, needed: str = "embeddings"
) -> np.ndarray:
    """Embeddings (N, d) as an array, whatever float type they have.

    Args:
        d: the number of dimensions; None: any.
        name: what error messages call the embeddings.
        needed: what they say is needed.

    Raises:
        UserError: no floats, another number of dimensions, no rows, masked, or values that are not finite in float32.
    """
    if isinstance(embeddings, np.ma.MaskedArray):
        raise UserError(
            f"{name} is a masked array, and masks are not heeded: give a plain array without those rows"
        )
    try:
        found = np.asanyarray(embeddings)
    except (
        ValueError,
        TypeError,
        RuntimeError,
    ) as error:  # Rows of several lengths, a tensor that is no array.
        raise UserError(f"{name} cannot be read as an array: {error}") from None
    if (
        found.dtype.kind != "f"
        or found.ndim != 2
        or not len(found)
        or d not in (None, found.shape[1])
    ):
        shape = f"(N, {'d' if d is None else d})"
        raise UserError(
            f"{name} holds {found.dtype} of shape {found.shape}; needed: {needed}, floats of shape {shape}"
        )
    for start in range(0, len(found), 16_384):
        with np.errstate(over="ignore"):
            finite = np.isfinite(found[start : start + 16_384].astype(np.float32)).all(
                axis=1
            )
        if not finite.all():
            row = start + int(finite.argmin())
            raise UserError(
                f"row {row} (from 0) of {name} holds NaN, or a value that is not finite in float32"
            )
    return found


def encode(
    sae: Path | str,
    source: Path | str,
    out: Path | str,
    *,
    device: str = "cpu",
    activations: Path | str | None = None,
    artifacts_root: Path | str | None = "results/artifacts",
    workers: Whole = 0,
    k: Count | None = None,
) -> None:
    """Write the codes of `source` to `out` (parquet): columns row, path (of images), latent, activation; largest first.

    Args:
        sae: sae.safetensors.
        source: a `.npy` file of embeddings (N, d), or a folder of images.
        out: the file to write.
        device: of PyTorch: cpu, cuda, cuda:1, mps, or auto for the best there is.
        activations: for images, the folder of the splits that the SAE was trained on: it records which backbone and
            input size made its embeddings, and the images are embedded in the same way.
        artifacts_root: folder of fetched artifacts, of which the backbone's weights may be one.
        workers: processes that decode images; with 0 this process does.
        k: activations to keep; the SAE's own number by default.

    Raises:
        UserError: `source` is neither or holds no image, the activations are not those of the SAE, `out` cannot be
            written or would replace what was given, or what :meth:`Encoder.encode` raises.
    """
    encoder, source, paths = Encoder(sae, device), Path(source), None
    if source.is_dir():
        if activations is None:
            raise UserError(
                f"{source} is a folder of images: name the SAE's own embeddings with --activations"
            )
        recorded = Path(activations) / "train/manifest.json"
        manifest = files.read_json(
            recorded, "manifest of activations", "name a whole folder of embeddings"
        )
        # Not by name: the same SAE may be of backbones with several names. Other processors' embeddings have another
        # hash; what they are made of is the same. SAEs of before do not say it.
        made_of, own = (
            encoder.metadata.get("made_of"),
            encoder.metadata.get("embeddings"),
        )
        if (
            made_of != store.made_of(manifest)
            and own != manifest["sha256"]["embeddings.npy"]
        ):
            said = f"are not the embeddings that {sae} was trained on (by the fingerprints in both): name those"
            raise UserError(f"{activations} {said}")
        paths = image_paths(source)
        check_out(out, sae, *(source / image for image in paths))
        embeddings = embed_like(
            manifest, source, paths, artifacts_root, device, workers
        )
    else:
        check_out(out, sae, source)
        if not source.exists():
            raise UserError(
                f"{source} does not exist; name a folder of images, or an array saved with `numpy.save`"
            )
        embeddings = files.read_array(source)
    codes = encoder.encode(embeddings, k, str(source))
    rows = codes.row_numbers()
    columns = {"row": rows} | (
        {} if paths is None else {"path": np.array(paths, dtype=object)[rows]}
    )
    files.write_parquet(
        out,
        pd.DataFrame(columns | {"latent": codes.indices, "activation": codes.values}),
    )
    kind = "embeddings" if paths is None else "images"
    progress.info(
        "%s: %s activations on %s %s of %s",
        out,
        f"{len(codes.values):,}",
        f"{len(codes):,}",
        kind,
        source,
    )


def image_paths(folder: Path) -> list[str]:
    """The images in a folder and below, relative to it, sorted."""
    found = (
        path
        for path in folder.rglob("*")
        if path.suffix.lower() in pictures.ENDINGS and path.is_file()
    )
    paths = sorted(path.relative_to(folder).as_posix() for path in found)
    if not paths:
        raise UserError(
            f"no image in {folder}; endings looked for: {', '.join(pictures.ENDINGS)}"
        )
    return paths


def embed_like(
    manifest: dict[str, Any],
    folder: Path,
    paths: list[str],
    artifacts: Path | str | None,
    device: str,
    workers: int,
) -> np.ndarray:
    """Embeddings (N, d) of images below `folder`, made as those of a store's manifest."""
    spec, name = manifest["backbone"]["spec"], manifest["backbone"]["name"]
    if not hasattr(
        registry.load("backbone", spec.get("loader", "precomputed")), "load"
    ):
        raise UserError(
            f"embeddings of {name} were given, not made: encode a .npy file of them"
        )
    if spec.get("precision") == "auto":  # What it was where they were made, not here.
        spec = spec | {"precision": manifest["precision"]}
    backbone = load(spec, artifacts, manifest["image_size"])
    if fingerprint(spec, backbone, artifacts) != manifest["backbone"]["fingerprint"]:
        said = "are not those that the SAE's embeddings were made with; put those back, or embed and train anew"
        raise UserError(f"the weights of {name} {said}")
    options = {
        "batch_size": manifest["batch_size"],
        "device": device,
        "workers": workers,
        "spec": spec,
    }
    try:
        found = list(
            embed_images(
                backbone, pictures.Guard(archives.opener(folder)), paths, **options
            )
        )
    except UserError as error:
        unread = str(error).startswith("image ")
        raise UserError(
            f"{error}{f': mend it, or move it out of {folder}, and encode again' * unread}"
        ) from None
    return np.concatenate(found).astype(manifest["dtype"])

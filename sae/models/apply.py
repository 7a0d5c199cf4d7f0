"""Use a trained SAE on new embeddings or images."""

import logging
import os
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float

from sae.core import arguments, files, outputs
from sae.core.display import Shown
from sae.core.errors import UserError
from sae.core.options import Count, Precision, Whole
from sae.data import archives, backbone_entries, folders, pictures, store
from sae.data.backbone import Backbone
from sae.data.entries import NetworkEntry, parse
from sae.data.forward import embed_images
from sae.data.omissions import Omissions
from sae.models import inputs, saefile
from sae.models.coder import Coder, TopK
from sae.models.codes import Codes
from sae.models.convert import check_output_path
from sae.models.sizes import CHUNK

progress = logging.getLogger("sae.progress")
# Of what `encode` writes.
SUFFIX = ".parquet"
# Rows whose numbers are checked at once.
_ROWS_CHECKED = 16_384


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
        metadata: select, k, input_norm, input_scale, method, trial, seed, dataset,
            backbone, embeddings (the SHA-256 of those that it was trained on), made_of
            (`sae.data.store.made_of`), versions. Names are those that its first maker
            used.

    Raises:
        UserError: `sae` is neither, a coder is not of float32, there is no such
            device, or what :func:`sae.models.saefile.load` raises.
    """

    def __init__(
        self, sae: Path | str | Coder, device: str | torch.device = "cpu"
    ) -> None:
        if not isinstance(sae, str | os.PathLike | Coder):
            raise UserError(
                "an SAE is opened by the path of its file, not by "
                f"{type(sae).__name__}: give a path"
            )
        device_name = arguments.device_name(device)
        coder = sae if isinstance(sae, Coder) else saefile.load(sae)
        saefile.check_coder(coder)
        self.coder = coder.to(device_name)
        self.metadata = coder.metadata

    def facts(self) -> dict[str, object]:
        """Return {name: value} of what an Encoder is shown by."""
        coder = self.coder
        metadata = self.metadata
        method = metadata.get("method")
        trial = metadata.get("trial") or {}
        if method and trial:
            options = ", ".join(f"{name} {value}" for name, value in trial.items())
            method = f"{method} ({options})"
        return {
            "d": coder.d,
            "m": coder.m,
            "k": coder.k,
            "method": method,
            "select": metadata.get("select"),
            "input": f"{coder.input_norm} x {coder.input_scale:.4g}",
            "dataset": metadata.get("dataset"),
            "backbone": metadata.get("backbone"),
        }

    def encode(
        self,
        embeddings: Float[np.ndarray, "samples d"],
        k: int | None = None,
        name: str = "the array",
    ) -> Codes:
        """Encode embeddings (N, d), of any float type and not normalised.

        Args:
            embeddings: (N, d), as the backbone gave them.
            k: keep the k largest activations of each embedding; by default the SAE
                selects as it was made to, by its k or its thresholds.
            name: what error messages call the embeddings.

        Returns:
            The sparse codes of the N embeddings.

        Raises:
            UserError: the embeddings are no floats, have another number of dimensions
                or no rows, or values that are not finite in float32; or k is no whole
                number from 1 to m.
        """
        embeddings = self._check_embeddings(embeddings, name)
        select = self._select_by(k)
        return self.coder.encode(self.coder.open_inputs(embeddings), select)

    def reconstruct(
        self,
        embeddings: Float[np.ndarray, "samples d"],
        k: int | None = None,
        *,
        codes: Codes | None = None,
        name: str = "the array",
    ) -> Float[np.ndarray, "samples d"]:
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
        embeddings = self._check_embeddings(embeddings, name)
        select = self._select_by(k)
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
            chunk_codes = (
                coder.encode(prepared, select)
                if codes is None
                else codes.rows(rows.start, rows.stop)
            )
            reconstructions[rows] = inputs.undo(
                coder.reconstruct(prepared, chunk_codes).cpu().numpy(),
                embeddings[rows],
                coder.input_norm,
                coder.input_scale,
            )
        return reconstructions

    def decode(self, codes: Codes) -> Float[np.ndarray, "samples d"]:
        """Decode to the space that the SAE reconstructs, (N, d) float32.

        That is the space of embeddings after norm and scale. Do not compare its vectors
        with embeddings as the backbone gave them; :meth:`reconstruct` is for that.

        Raises:
            UserError: `codes` are no codes, or of another number of latents, or the
                SAE's `input_norm` is 'unit_l2_layernorm': it undoes a LayerNorm after
                decoding, which needs the mean and scale of each input.
        """
        _check_codes(codes, self.coder.m)
        if self.coder.input_norm == "unit_l2_layernorm":
            raise UserError(
                "this SAE standardises each input (unit_l2_layernorm), so codes alone "
                "cannot be decoded: use Encoder.reconstruct(embeddings, codes=codes)"
            )
        return self.coder.decode(codes).cpu().numpy()

    def _check_embeddings(
        self, embeddings: Any, name: str
    ) -> Float[np.ndarray, "samples d"]:
        backbone = self.metadata.get("backbone", "its backbone")
        needed = f"embeddings as {backbone} gives them"
        return check_embeddings(embeddings, self.coder.d, name, needed)

    def _select_by(self, k: int | None) -> TopK | None:
        """Return the Top-k selection of a user's k; None for the SAE's own."""
        if k is None:
            return None
        m = self.coder.m
        whole_k = arguments.whole_number(
            "k", k, f"1 to {m}, the number of latents of this SAE"
        )
        if not 1 <= whole_k <= m:
            raise UserError(f"k = {whole_k}; this SAE has {m} latents: give 1 to {m}")
        return TopK(whole_k)


def _check_codes(codes: Any, m: int) -> None:
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


def coder_of(sae: Any, function: str) -> Coder:
    """Return the coder of what a user gave as an SAE.

    Args:
        sae: what the user gave.
        function: what error messages call the function that it was given to.

    Raises:
        UserError: it is neither an Encoder nor a coder, or not of float32.
    """
    coder = sae.coder if isinstance(sae, Encoder) else sae
    if not isinstance(coder, Coder):
        raise UserError(
            f"{function} takes an SAE, not {type(sae).__name__}: open a file with "
            "sae.load(path)"
        )
    saefile.check_coder(coder)
    return coder


def check_embeddings(
    embeddings: Any, d: int | None, name: str, needed: str = "embeddings"
) -> Float[np.ndarray, "samples d"]:
    """Return a user's embeddings (N, d) as an array, of whatever float type they are.

    Args:
        embeddings: what the user gave.
        d: the number of dimensions; None: any.
        name: what error messages call the embeddings.
        needed: what error messages say is needed.

    Raises:
        UserError: they are no floats, have another number of dimensions or no rows, are
            masked, or have values that are not finite or too small in float32.
    """
    if isinstance(embeddings, np.ma.MaskedArray):
        raise UserError(
            f"{name} is a masked array, and masks are not heeded: give a plain array "
            "without those rows"
        )
    try:
        array = np.asanyarray(embeddings)
    # Rows of several lengths, or a tensor that is no array.
    except (ValueError, TypeError, RuntimeError) as error:
        raise UserError(f"{name} cannot be read as an array: {error}") from None

    is_right = (
        array.dtype.kind == "f"
        and array.ndim == 2
        and array.size > 0
        and d in (None, array.shape[1])
    )
    if not is_right:
        shape = f"(N, {'d' if d is None else d})"
        raise UserError(
            f"{name} holds {array.dtype} of shape {array.shape}; needed: {needed}, "
            f"floats of shape {shape}"
        )
    for start in range(0, len(array), _ROWS_CHECKED):
        with np.errstate(over="ignore"):
            in_float32 = array[start : start + _ROWS_CHECKED].astype(np.float32)
        is_finite = np.isfinite(in_float32).all(axis=1)
        if not is_finite.all():
            row = start + int(is_finite.argmin())
            raise UserError(
                f"row {row} (from 0) of {name} holds NaN, or a value that is not "
                "finite in float32"
            )
        # Also of float16, whose digits were lost before.
        smaller_type = min(
            array.dtype, in_float32.dtype, key=lambda dtype: dtype.itemsize
        )
        faint_row = arguments.first_faint_row(
            array[start : start + _ROWS_CHECKED], smaller_type
        )
        if faint_row is not None:
            raise UserError(
                f"row {start + faint_row} (from 0) of {name} is too small for "
                f"{smaller_type}, which keeps few of its digits: multiply all "
                "embeddings by one number before they become "
                f"{smaller_type}"
            )
    return array


def check_variance(
    name: str, embeddings: Float[np.ndarray, "images dim"], norm: str = "none"
) -> None:
    """Refuse embeddings whose rows are all the same.

    Args:
        name: what the message calls them.
        embeddings: (N, d).
        norm: one that they get before.

    Raises:
        UserError: they are.
    """
    x = inputs.Inputs(embeddings, norm, 1.0, "cpu")
    if inputs.rows_differ(x, inputs.total_variance(x)):
        return
    reason = "it has one row"
    if len(embeddings) > 1:
        after = "" if norm == "none" else f" after the norm {norm}"
        reason = f"all its rows are the same{after}"
    raise UserError(
        f"{name} has no variance to explain ({reason}); give the embeddings of several "
        "images"
    )


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
    """Write the codes of `source` to a parquet file, the largest activation first.

    Its columns are row, path (of images), latent, activation.

    Args:
        sae: sae.safetensors.
        source: a `.npy` file of embeddings (N, d), or a folder of images.
        out: the file to write, FILE.parquet.
        device: of PyTorch: cpu, cuda, cuda:1, mps, or auto for the best there is.
        activations: for images, the folder of the splits that the SAE was trained on:
            it records which backbone and input size made its embeddings, and the images
            are embedded in the same way.
        artifacts_root: folder of fetched artifacts, of which the backbone's weights may
            be one.
        workers: processes that decode images; with 0 this process does.
        k: activations to keep; the SAE's own number by default.

    Raises:
        UserError: `source` is neither or holds no image, the activations are not those
            of the SAE, `out` cannot be written or would replace what was given, or what
            :meth:`Encoder.encode` raises.
    """
    encoder = Encoder(sae, device)
    source = Path(source)
    image_names = None
    if source.is_dir():
        if activations is None:
            raise UserError(
                f"{source} is a folder of images: name the SAE's own embeddings with "
                "--activations"
            )
        manifest = read_own_manifest(encoder, sae, activations)
        image_names = image_paths(source)
        given = [sae, *(source / name for name in image_names)]
        check_output_path(out, *given, suffix=SUFFIX)
        embeddings = embed_like(
            manifest, source, image_names, artifacts_root, device, workers
        )
    else:
        check_output_path(out, sae, source, suffix=SUFFIX)
        if not source.exists():
            raise UserError(
                f"{source} does not exist; name a folder of images, or an array saved "
                "with `numpy.save`"
            )
        embeddings = files.read_array(source)

    codes = encoder.encode(embeddings, k, str(source))
    row_numbers = codes.row_numbers()
    columns: dict[str, np.ndarray] = {"row": row_numbers}
    if image_names is not None:
        columns["path"] = np.array(image_names, dtype=object)[row_numbers]
    columns["latent"] = codes.indices
    columns["activation"] = codes.values
    with outputs.replacing_file(Path(out)) as temporary:
        files.write_parquet(temporary, pd.DataFrame(columns))
    progress.info(
        "%s: %s activations on %s %s of %s",
        out,
        f"{len(codes.values):,}",
        f"{len(codes):,}",
        "embeddings" if image_names is None else "images",
        source,
    )


def read_own_manifest(
    encoder: Encoder, sae: Path | str, activations: Path | str
) -> dict[str, Any]:
    """Return the manifest of the training embeddings of an SAE.

    Raises:
        UserError: `activations` holds no embeddings, or others than the SAE's.
    """
    if not Path(activations).is_dir():
        raise UserError(
            f"{activations} is no folder of embeddings: name the one that holds the "
            "splits which the SAE was trained on"
        )
    manifest = files.read_json(
        Path(activations) / "train/manifest.json",
        "manifest of activations",
        "name a whole folder of embeddings",
    )
    # The backbone's name does not tell, since the same SAE may be of backbones with
    # several names. Nor does the hash alone, since another processor gives embeddings
    # of another hash; what they are made of is the same. Older SAEs have the hash only.
    same_making = encoder.metadata.get("made_of") == store.made_of(manifest)
    own_hash = encoder.metadata.get("embeddings")
    if not same_making and own_hash != manifest["sha256"]["embeddings.npy"]:
        raise UserError(
            f"{activations} are not the embeddings that {sae} was trained on (by the "
            "fingerprints in both): name those"
        )
    return manifest


def image_paths(folder: Path) -> list[str]:
    """Return the images in a folder and below, relative to it, sorted.

    They are those that a dataset of type `image_folder` has; what is left out is said.

    Raises:
        UserError: there is none, a folder cannot be read, or a link leads to a folder
            that it lies in.
    """
    omissions = Omissions()
    paths = []
    for place, names in folders.walk(folder, folder, omissions):
        for name in names:
            path = (place / name).relative_to(folder).as_posix()
            if folders.is_picture(name):
                paths.append(path)
            else:
                folders.note_no_picture(path, omissions)
    omissions.tell(f"image folder {folder}")
    paths.sort()
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
) -> Float[np.ndarray, "samples d"]:
    """Embed images as the embeddings of a store were made.

    Args:
        manifest: the manifest of the store.
        folder: where the images lie.
        paths: the images, relative to the folder.
        artifacts: the folder of fetched artifacts.
        device: the torch device to embed on.
        workers: processes that decode images; with 0 this process does.

    Returns:
        (N, d) embeddings of the N images, in the store's type.

    Raises:
        UserError: the store's embeddings were not made by a backbone, its weights are
            other ones here, or an image cannot be read.
    """
    precision, backbone = load_like(manifest, artifacts, manifest["image_size"])
    open_image = pictures.Guard(archives.opener(folder))
    try:
        batches = list(
            embed_images(
                backbone,
                open_image,
                paths,
                batch_size=manifest["batch_size"],
                device=device,
                workers=workers,
                precision=precision,
            )
        )
    except UserError as error:
        advice = ""
        if str(error).startswith("image "):
            advice = f": mend it, or move it out of {folder}, and encode again"
        raise UserError(f"{error}{advice}") from None
    return np.concatenate(batches).astype(manifest["dtype"])


def load_like(
    manifest: dict[str, Any], artifacts: Path | str | None, image_size: int | None
) -> tuple[Precision, Backbone]:
    """Load the backbone that made the embeddings of a store.

    Args:
        manifest: the manifest of the store.
        artifacts: the folder of fetched artifacts.
        image_size: in pixels; None is the backbone's own.

    Returns:
        The precision in which it made them, and the backbone.

    Raises:
        UserError: the store's embeddings were not made by a backbone, or its weights
            are other ones here.
    """
    name = manifest["backbone"]["name"]
    entry = parse("backbone", manifest["backbone"]["spec"])
    if not isinstance(entry, NetworkEntry):
        raise UserError(
            f"embeddings of {name} were given, not made: encode a .npy file of them"
        )
    precision = entry.precision
    if precision == "auto":
        # Automatic precision is what it was where the embeddings were made, not here.
        precision = manifest["precision"]
        entry = backbone_entries.with_precision(entry, precision)

    backbone = backbone_entries.load(entry, artifacts, image_size)
    fingerprint = backbone_entries.fingerprint(entry, backbone, artifacts)
    if fingerprint != manifest["backbone"]["fingerprint"]:
        raise UserError(
            f"the weights of {name} are not those that the SAE's embeddings were made "
            "with; put those back, or embed and train anew"
        )
    return precision, backbone

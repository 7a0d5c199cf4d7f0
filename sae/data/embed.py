"""Embed a dataset with a frozen backbone into the activation store, in any number of shards that survive a kill.

Each split is cut into batches, and the batches are dealt to shards. So an image is embedded in the same batch whatever
the number of shards, and the result is the same to the bit. A shard writes its embeddings to
`.embedding-{key}/{shard}-of-{shards}/` (`sae.data.parts`). A killed shard continues from these files. When all shards
are complete, their files become those of the store.
"""

import functools
import logging
import shutil
import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pandas as pd
import torch
from PIL import Image

from sae.core import files, versions
from sae.core.errors import UserError
from sae.core.options import Count, Whole
from sae.data import artifacts, folding, pictures, store
from sae.data import dataset as datasets
from sae.data.backbone import Backbone
from sae.data.clock import Clock
from sae.data.entries import content, entry
from sae.data.parts import Part
from sae.data.splits import SPLITS

VERSION = 1
progress = logging.getLogger("sae.progress")
# In the keys of embeddings made in bfloat16. Earlier versions used autocast alone under the key `bfloat16`; this text
# keeps the two apart.
_WHOLE = "bfloat16, weights too"
_Forward = Callable[[torch.Tensor | str], torch.Tensor]
Item = TypeVar("Item")


@dataclass(frozen=True)
class Job:
    """A dataset to embed with a backbone.

    Attributes:
        dataset_dir: the folder that :func:`sae.data.dataset.build` wrote.
        name, spec: the backbone, and its mapping in the config.
        artifacts_root: folder of fetched artifacts; None where none are needed.
        out: the folder of the splits' folders.
        batch_size: images in one forward pass, unless the spec has a `batch_size`. On a CPU small batches are fastest,
            because they fit its cache.
        device: of PyTorch: cpu, cuda, cuda:1, mps, or auto for the best there is.
        workers: number of forked processes that read and decode images; with 0, this process does. On macOS keep 0.
        shards: the number of parts into which the work is cut.
        shared: other people's folders like `out`, only read: finished splits in them are copied, not made again.
    """

    dataset_dir: Path
    name: str
    spec: dict[str, Any]
    artifacts_root: Path | None
    out: Path
    batch_size: Count
    device: str = "cpu"
    workers: Whole = 0
    shards: Count = 1
    shared: tuple[Path, ...] = ()


def embed(job: Job, shard: int | None = None) -> None:
    """Embed one shard (0 to shards - 1). With None, embed what is missing of all shards, then write the store.

    Args:
        shard: of `job.shards`, from 0.

    Raises:
        UserError: there is no such shard, an image cannot be read, or the backbone or its embeddings are faulty.
    """
    if job.shards < 1 or not (shard is None or 0 <= shard < job.shards):
        raise UserError(
            f"shard {shard} of {job.shards}: shards are numbered from 0 to their number - 1"
        )
    work = _Extraction(job)
    for number in range(job.shards) if shard is None else [shard]:
        # Joining needs no backbone. A shard's job loads it even if the shard is complete, to detect changed weights.
        with work.locked(number):
            if (
                work.restore()
            ):  # Another process may have finished while this one waited for the lock.
                return
            if shard is not None or job.shards == 1 or not work.is_complete(number):
                work.embed_shard(number)
    if shard is None:
        with ExitStack() as locks:
            for number in range(job.shards):
                locks.enter_context(work.locked(number))
            if not work.restore():
                work.finish()


def load(
    spec: dict[str, Any], artifacts_root: str | Path | None, image_size: int | None
) -> Backbone:
    """The backbone of a mapping in the config; see `sae.data.backbones`."""
    module, options = entry("backbone", spec)
    return module.load(options, artifacts_root, image_size)


def settled(spec: dict[str, Any], device: str) -> dict[str, Any]:
    """A backbone's mapping in the config with what `precision: auto` is on a device."""
    asked = spec.get("precision") == "auto"
    return (
        spec | {"precision": "bfloat16" if folding.has_bfloat16(device) else "float32"}
        if asked
        else spec
    )


def fingerprint(
    spec: dict[str, Any], backbone: Backbone, artifacts_root: str | Path | None
) -> str:
    """A hash of a loaded backbone: of its weights, and of its :func:`settled` mapping without where they lie."""
    weights = [
        manifest["files"] for manifest in artifacts.manifests(artifacts_root, spec)
    ]
    return _fingerprint(
        spec, weights or (backbone.checkpoint and files.sha256(backbone.checkpoint))
    )


def _fingerprint(spec: dict[str, Any], weights: Any) -> str:
    return files.sha256_text(files.dumps([_identity(spec), weights]))[:16]


def _identity(spec: dict[str, Any]) -> dict[str, Any]:
    places = {"checkpoint"} | (
        {"pretrained"} if Path(spec.get("pretrained", "/")).exists() else set()
    )
    whole = {"precision": _WHOLE} if spec.get("precision") == "bfloat16" else {}
    decisive = content("backbone", spec) | whole
    return {key: value for key, value in decisive.items() if key not in places}


def _weights(provenance: dict[str, Any]) -> str:
    # Everything else that an embedding depends on is in the key of the folder.
    return provenance["backbone"]["fingerprint"]


class _Extraction:
    """The work on one dataset and backbone, and the folder that keeps it until it is finished.

    The key in the folder's name hashes everything that an embedding depends on except the weights. Each shard's
    `provenance.json` holds the fingerprint of the weights.
    """

    def __init__(self, job: Job) -> None:
        self.job, self.manifest = (
            job,
            files.read_json(job.dataset_dir / "manifest.json", "manifest of dataset"),
        )
        index_file, advice = (
            job.dataset_dir / "index.parquet",
            f"delete {job.dataset_dir} and run again",
        )
        files.check_sum(
            index_file,
            self.manifest["sha256"],
            f"{job.dataset_dir}/manifest.json",
            advice,
        )
        index = files.read_parquet(index_file)
        self.rows = {
            s: index[index["split"] == s].drop(columns="split").reset_index(drop=True)
            for s in SPLITS
        }
        self.spec = settled(job.spec, job.device)
        self.batch_size = job.spec.get("batch_size", job.batch_size)
        self.image_size = job.spec.get(
            "image_size", self.manifest["spec"].get("image_size")
        )
        self.module, self.options = entry("backbone", job.spec)
        self.dataset = entry("dataset", self.manifest["spec"])[1]
        self.given = not getattr(self.module, "READS_IMAGES", True)
        self.cell = f"{self.manifest['name']} / {job.name}"
        code = [
            ("data", "embed"),
            ("dataset", self.manifest["spec"]["type"]),
            ("backbone", job.spec["loader"]),
        ]
        device = torch.device(job.device).type
        made_by = {
            "dataset": self.manifest["fingerprint"],
            "backbone": _identity(self.spec),
            "batch_size": self.batch_size,
            "device": device,
            "versions": versions.joined(code),
            "libraries": store.versions(),
        }
        self.folder = (
            job.out / f".embedding-{files.sha256_text(files.dumps(made_by))[:16]}"
        )

    def place(self, shard: int) -> Path:
        """The folder of a shard."""
        return self.folder / f"{shard}-of-{self.job.shards}"

    def locked(self, shard: int) -> AbstractContextManager[None]:
        """A context in which no other process works on a shard: two would write into the same file."""
        tell = functools.partial(
            progress.info,
            "%s: waits for another process that embeds it",
            self.label(shard),
        )
        return files.locked(
            self.folder / "locks" / f"{shard}.of.{self.job.shards}", tell
        )

    def parts(self, shard: int) -> dict[str, tuple[int, Part]]:
        """{split: (first row, Part)} of a shard: consecutive batches of the splits laid end to end."""
        self.place(shard).mkdir(parents=True, exist_ok=True)
        every = [
            (split, row)
            for split in SPLITS
            for row in range(0, len(self.rows[split]), self.batch_size)
        ]
        start, end = (
            len(every) * number // self.job.shards for number in (shard, shard + 1)
        )
        found = {}
        for split, rows in self.rows.items():
            firsts = [row for of, row in every[start:end] if of == split] or [len(rows)]
            count = min(firsts[-1] + self.batch_size, len(rows)) - firsts[0]
            found[split] = firsts[0], Part(self.place(shard) / f"{split}.npy", count)
        return found

    def is_complete(self, shard: int) -> bool:
        """Whether a shard has all its rows."""
        recorded = (self.place(shard) / "provenance.json").exists()
        return recorded and all(part.complete for _, part in self.parts(shard).values())

    def embed_shard(self, shard: int) -> None:
        """Embed what is missing of a shard."""
        recorded, provenance = self.place(shard) / "provenance.json", self.provenance()
        if recorded.exists() and _weights(files.read_json(recorded)) != _weights(
            provenance
        ):
            shutil.rmtree(
                self.place(shard)
            )  # The weights have changed: nothing can be kept.
        parts = self.parts(shard)
        files.write_json(recorded, provenance)
        total = sum(part.rows for _, part in parts.values())
        clock = Clock(
            self.label(shard),
            total,
            total - sum(part.done for _, part in parts.values()),
        )
        for split, (first, part) in parts.items():
            if not part.complete:
                for batch in self.batches(split, first + part.done, first + part.rows):
                    part.append(batch)
                    clock.tell(len(batch))
        clock.end()

    def label(self, shard: int) -> str:
        """What messages call a shard."""
        return self.cell + (
            f", shard {shard} of {self.job.shards}" if self.job.shards > 1 else ""
        )

    def checked(self, batch: np.ndarray, split: str, first: int) -> np.ndarray:
        """A batch (n, d), of which `first` is the first row's number, in the type in which it is stored.

        Raises:
            UserError: it does not have two dimensions, or holds no real numbers or values that are not finite.
        """
        if batch.ndim != 2 or batch.dtype.kind != "f":
            raise UserError(
                f"{self.cell}: the backbone gave {batch.dtype} of shape {batch.shape}, not floats (n, d)"
            )
        given = (
            batch.dtype
            if self.given and batch.dtype in (np.float16, np.float32)
            else np.float32
        )
        stored = batch.astype(self.job.spec.get("dtype", given))
        finite = np.isfinite(stored).all(axis=1)
        if not finite.all():
            row = first + int(finite.argmin())
            file, image_id = (
                self.files().get(split, split),
                self.rows[split]["image_id"][row],
            )
            where = f"row {row} (from 0) of {file}, {image_id!r}"
            raise UserError(
                f"{self.cell}: {where}, holds NaN or values not finite as {stored.dtype}"
            )
        return stored

    def files(self) -> dict[str, Path]:
        """{split: file} of embeddings that are given, not made."""
        return self.module.files(self.dataset, self.options) if self.given else {}

    def duplicates(self) -> list[dict[str, list[str]]]:
        """The given embeddings that lie in several splits (`sae.data.dataset.duplicates`).

        Raises:
            UserError: there are some, and the dataset's entry does not allow them; or :meth:`checked` does.
        """
        content = []
        for split, rows in self.rows.items():
            for batch in self.batches(split, 0, len(rows)):
                content += [pictures.digest_bytes(row.tobytes()) for row in batch]
        index = pd.concat(
            [rows.assign(split=split) for split, rows in self.rows.items()],
            ignore_index=True,
        )
        return datasets.duplicates(
            self.cell, "embeddings", index, pd.Series(content), self.manifest["spec"]
        )

    def provenance(self) -> dict[str, Any]:
        """Entries of the splits' manifests. This loads the backbone, or hashes the given embeddings."""
        spec, root = self.spec, self.job.artifacts_root
        if self.given:
            preprocessing, made = (
                "none",
                _fingerprint(
                    spec, {s: files.sha256(f) for s, f in self.files().items()}
                ),
            )
        else:
            preprocessing, made = (
                str(self.backbone.transform),
                fingerprint(spec, self.backbone, root),
            )
        found = {
            "dataset": {
                key: self.manifest[key] for key in ("name", "fingerprint", "grouped")
            },
            "backbone": {
                "name": self.job.name,
                "spec": self.job.spec,
                "fingerprint": made,
            },
            "preprocessing": preprocessing,
            "image_size": self.image_size,
            "precision": spec.get("precision", "float32"),
            "batch_size": self.batch_size,
            "device": torch.device(self.job.device).type,
            "artifacts": self.manifest["artifacts"] + artifacts.manifests(root, spec),
        }
        return found | {"duplicates": self.duplicates()} if self.given else found

    @functools.cached_property
    def backbone(self) -> Backbone:
        """The backbone, loaded when it is first asked for."""
        try:
            return load(self.job.spec, self.job.artifacts_root, self.image_size)
        except UserError as error:
            raise UserError(f"config key backbones.{self.job.name}: {error}") from None

    def batches(self, split: str, first: int, last: int) -> Iterator[np.ndarray]:
        """Yield the embeddings (n, d) of rows `first` to `last` - 1 of a split, batch by batch, :meth:`checked`."""
        rows, size = self.rows[split], self.batch_size
        if self.given:
            given = self.module.embeddings(self.dataset, self.options, split)
            if len(given) != len(rows):
                raise UserError(
                    f"{self.cell}: {len(given)} embeddings of {split} for {len(rows)} rows"
                )
            found: Iterator[np.ndarray] = (
                given[i : min(i + size, last)] for i in range(first, last, size)
            )
        else:
            open_image = datasets.reader(self.manifest["spec"], self.job.artifacts_root)
            paths, pixels = (
                rows["path"][first:last].tolist(),
                rows["pixels"][first:last].to_numpy(),
            )
            how: dict[str, Any] = {
                "device": self.job.device,
                "workers": self.job.workers,
                "spec": self.spec,
            }
            found = embed_images(
                self.backbone, open_image, paths, batch_size=size, pixels=pixels, **how
            )
        for batch in found:
            yield self.checked(batch, split, first)
            first += len(batch)

    def finish(self) -> None:
        """Make the store from the complete shards."""
        shards = [self.parts(shard) for shard in range(self.job.shards)]
        recorded = [
            files.read_json(self.place(shard) / "provenance.json")
            for shard in range(self.job.shards)
        ]
        if len(set(map(_weights, recorded))) > 1:
            raise UserError(
                f"{self.cell}: the shards in {self.folder} have other weights; delete it and run again"
            )
        kinds = {
            (split, *part.kind)
            for parts in shards
            for split, (_, part) in parts.items()
            if part.kind
        }
        if len({kind[1:] for kind in kinds}) > 1:
            lie = {split: f" in {file}" for split, file in self.files().items()}
            found = "; ".join(
                f"{s} (d = {d}, {dtype}){lie.get(s, '')}"
                for s, d, dtype in sorted(kinds, key=str)
            )
            raise UserError(
                f"{self.cell}: embeddings of different d or dtype: {found}: give all those of one model"
            )
        out = self.job.out
        for split in SPLITS:
            index = self.rows[split].drop(columns="pixels", errors="ignore")
            store.adopt(
                out / split, [parts[split][1] for parts in shards], index, recorded[0]
            )
            # Snakemake deletes the output of a job that ended while Snakemake itself was not running. Links to the
            # finished files, which take no space, save embedding them a second time.
            files.link_or_copy(out / split, self.folder / "finished" / split)
        for folder in [
            *(f for f in out.glob(".embedding-*") if f != self.folder),
            *self.folder.glob("*-of-*"),
        ]:
            shutil.rmtree(folder)

    def restore(self) -> bool:
        """Take over finished splits of the same inputs, deleted here or made by others; whether there were any."""
        ours = self.folder / "finished"
        for place in (self.job.out, *self.job.shared):
            finished = place / self.folder.name / "finished"
            try:
                recorded = {
                    _weights(store.read(finished / split).manifest) for split in SPLITS
                }
            except UserError:  # There are none, or not all, or they were altered.
                continue
            if recorded != {_weights(self.provenance())}:
                continue
            for split in SPLITS:
                if finished != ours:
                    # Copied, not linked: Snakemake sets the time of a job's output, and these files belong to others.
                    files.link_or_copy(finished / split, ours / split, shutil.copyfile)
                files.link_or_copy(ours / split, self.job.out / split)
            progress.info(
                "%s: was finished before%s",
                self.cell,
                "" if place == self.job.out else f", in {place}",
            )
            return True
        return False


def embed_images(
    backbone: Backbone,
    open_image: Callable[[str], Image.Image],
    paths: Sequence[str],
    *,
    batch_size: int,
    device: str,
    workers: int,
    spec: dict[str, Any],
    pixels: np.ndarray | None = None,
) -> Iterator[np.ndarray]:
    """Yield the embeddings (n, d) float32 of images, batch by batch; on a GPU one batch late.

    Args:
        open_image: returns the PIL image of one of `paths`.
        device: on "cpu" each of PyTorch's threads embeds batches of its own, which changes no bit.
        workers: number of processes that open and transform images; with 0, this process does.
        spec: the backbone's mapping in the config, :func:`settled`; its `precision` is used. With bfloat16 the weights
            of `backbone` itself are that from then on.
        pixels: the `sae.data.pictures.digest` that each image must have; None: not checked.

    Raises:
        UserError: an image cannot be read or is another one, or the backbone gives complex numbers.
    """
    place = torch.device(device)
    cuda, lanes = (
        place.type == "cuda",
        torch.get_num_threads() if place.type == "cpu" else 1,
    )
    half = torch.bfloat16 if spec.get("precision") == "bfloat16" else None
    model = backbone.folded.to(device, half, memory_format=torch.channels_last)  # type: ignore[call-overload]
    split = folding.pixels(backbone.transform)
    on_device = split.to(place) if split else None
    loader: torch.utils.data.DataLoader = torch.utils.data.DataLoader(
        _Images(open_image, paths, split or backbone.transform, pixels),
        batch_size=batch_size,
        num_workers=workers,
        multiprocessing_context="fork" if workers else None,
        collate_fn=_collate,
        worker_init_fn=_silence_threads,
        pin_memory=cuda,
    )

    def forward(batch: torch.Tensor | str) -> torch.Tensor:
        if isinstance(batch, str):
            raise UserError(batch)
        # Not on MPS: there the copy may read memory that is given back meanwhile.
        batch = batch.to(device, non_blocking=cuda)
        # Autocast beside weights in bfloat16: a model may make float32 on its way.
        with (
            torch.inference_mode(),
            torch.autocast(place.type, torch.bfloat16, enabled=half is not None),
        ):
            images = on_device.normalise(batch) if on_device else batch
            embeddings = model(images.to(dtype=half, memory_format=torch.channels_last))
            if embeddings.is_complex():
                raise UserError(
                    f"the backbone gave {embeddings.dtype}; embeddings are real numbers"
                )
            return embeddings.float()

    # On a GPU a batch is copied back while the next one is computed.
    for embeddings in _late(_in_lanes(forward, loader, lanes), int(cuda)):
        yield embeddings.cpu().numpy()


def _late(items: Iterable[Item], ahead: int) -> Iterator[Item]:
    """The same items in their order; each is given when so many more were taken, or there are no more."""
    pending: deque[Item] = deque()
    for item in items:
        pending.append(item)
        if len(pending) > ahead:
            yield pending.popleft()
    yield from pending


def _in_lanes(
    forward: _Forward, batches: Iterable[torch.Tensor | str], lanes: int
) -> Iterator[torch.Tensor]:
    """`map` in the given order, by `lanes` threads for each of which PyTorch has one thread.

    Small batches side by side keep cores busier than a small batch that they share. This thread decodes meanwhile.
    """
    if lanes == 1:
        yield from map(forward, batches)
        return
    torch.set_num_threads(1)
    try:
        with ThreadPoolExecutor(
            lanes, initializer=torch.set_num_threads, initargs=(1,)
        ) as pool:
            for future in _late(
                (pool.submit(forward, batch) for batch in batches), 2 * lanes
            ):
                yield future.result()
    finally:
        torch.set_num_threads(lanes)


@dataclass
class _Images(torch.utils.data.Dataset):
    """Images as tensors. In place of one that cannot be read comes a text that says so."""

    open_image: Callable[[str], Image.Image]
    paths: Sequence[str]
    transform: Callable[[Image.Image], torch.Tensor]
    pixels: np.ndarray | None

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, i: int) -> torch.Tensor | str:
        try:
            image = self.open_image(self.paths[i])
            if self.pixels is not None and pictures.digest(image) != self.pixels[i]:
                unless = "(or another version of Pillow decodes it otherwise)"
                said = f"is not what it was when the dataset was indexed {unless}"
                raise UserError(
                    f"image {self.paths[i]} {said}: delete the dataset's manifest.json and run again"
                )
            return self.transform(image)
        except UserError as error:
            return str(error)
        except pictures.UNREADABLE as error:
            return f"image {self.paths[i]} cannot be read: {error}"


def _collate(items: list[torch.Tensor | str]) -> torch.Tensor | str:
    wrong = [item for item in items if isinstance(item, str)]
    if wrong:
        return wrong[0]
    batch = torch.stack([item for item in items if isinstance(item, torch.Tensor)])
    if torch.utils.data.get_worker_info() is not None:
        try:
            # Otherwise a thread of the queue does this. Its failure is not reported, and the reader waits for ever.
            batch.share_memory_()
        except RuntimeError as error:
            return f"processes that decode lack shared memory ({error}): make /dev/shm larger, or use fewer workers"
    return batch


def _silence_threads(_worker: int) -> None:
    # When the reader was stopped, the thread that sends it a batch reports that through this hook. A worker's own
    # errors reach the reader in another way.
    sys.excepthook = lambda *_: None

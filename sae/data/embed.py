"""Embed a dataset with a frozen backbone into the activation store.

The work is done in any number of shards that survive a kill. Each split is cut into
batches, and the batches are dealt to shards. So an image is embedded in the same batch
whatever the number of shards, and the result is the same to the bit. A shard writes its
embeddings to a folder of its own (`sae.data.work_shards`), and a killed shard continues
from these files. When all shards are complete, their files become those of the store.
"""

import logging
import shutil
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from sae.core import arguments, files
from sae.core.errors import UserError
from sae.data import artifacts, store

# Its old place: entries of one's own may still import it from here.
from sae.data.backbone import Backbone as Backbone
from sae.data.clock import Clock
from sae.data.extraction import Extraction, Job, prepare
from sae.data.parts import PartialArray
from sae.data.sources import EmbeddingSource, open_source
from sae.data.splits import SPLITS
from sae.data.work_shards import Shard

VERSION = 1
progress = logging.getLogger("sae.progress")


def embed(job: Job, shard: int | None = None) -> None:
    """Embed one shard. With None, embed what is missing of all, then write the store.

    Args:
        job: what is embedded, and how.
        shard: of `job.shards`, from 0.

    Raises:
        UserError: there is no such shard, an image cannot be read, or the backbone or
            its embeddings are faulty.
    """
    is_shard_there = shard is None or 0 <= shard < job.shards
    if job.shards < 1 or not is_shard_there:
        raise UserError(
            f"shard {shard} of {job.shards}: shards are numbered from 0 to their "
            "number - 1"
        )
    extraction = prepare(job)
    source = open_source(extraction)
    all_shards = [Shard(extraction, number) for number in range(job.shards)]
    if shard is None:
        _embed_all(extraction, source, all_shards)
        for split in SPLITS:
            arguments.tell_of_zero_rows(
                f"{extraction.title}, {split}", store.read(job.out / split).embeddings
            )
    else:
        with all_shards[shard].lock():
            # Another process may have finished while this one waited for the lock.
            if not _restore(extraction, source):
                # A complete shard too is looked at, to detect changed weights.
                _embed_shard(extraction, source, all_shards[shard])


def _embed_all(
    extraction: Extraction, source: EmbeddingSource, shards: list[Shard]
) -> None:
    for shard in shards:
        with shard.lock():
            # Another process may have finished while this one waited for the lock.
            if _restore(extraction, source):
                return
            # Joining several complete shards needs no backbone. A single one is looked
            # at, to detect changed weights.
            if len(shards) == 1 or not shard.is_complete():
                _embed_shard(extraction, source, shard)

    # Every process takes the locks in this order, so that none waits in a circle.
    with ExitStack() as locks:
        for shard in shards:
            locks.enter_context(shard.lock())
        # Another process may have finished before this one had all locks.
        if not _restore(extraction, source):
            _write_store(extraction, source, shards)


def _embed_shard(extraction: Extraction, source: EmbeddingSource, shard: Shard) -> None:
    provenance = _provenance(extraction, source)
    # What other weights made cannot be kept, nor what nothing is recorded of: of a kill
    # while a shard was deleted rows may be left.
    is_of_these_weights = shard.provenance_file.exists() and (
        _weights(files.read_json(shard.provenance_file)) == _weights(provenance)
    )
    if not is_of_these_weights:
        shard.delete()
    parts = shard.open_parts()
    files.write_json(shard.provenance_file, provenance)

    row_count = sum(part.rows for part in parts.values())
    done_count = sum(part.rows_written for part in parts.values())
    clock = Clock(shard.title, row_count, row_count - done_count)
    for split, part in parts.items():
        if part.complete:
            continue
        for batch in source.batches(split, part.next_row, part.end_row):
            part.append(batch)
            clock.tell(len(batch))
    clock.end()


def _provenance(extraction: Extraction, source: EmbeddingSource) -> dict[str, Any]:
    """Return how a split was made; this loads the backbone, or hashes embeddings."""
    job = extraction.job
    dataset_manifest = extraction.dataset_manifest
    backbone = extraction.backbone
    return {
        "dataset": {
            "name": dataset_manifest["name"],
            "fingerprint": dataset_manifest["fingerprint"],
            "grouped": dataset_manifest["grouped"],
        },
        "backbone": {
            "name": job.name,
            "spec": job.spec,
            "fingerprint": source.fingerprint(),
        },
        "image_size": extraction.image_size,
        "precision": extraction.precision,
        "batch_size": extraction.batch_size,
        "device": extraction.device_type,
        "artifacts": dataset_manifest["artifacts"]
        + artifacts.manifests(job.artifacts_root, backbone.artifact_names),
        **source.provenance(),
    }


def _weights(provenance: dict[str, Any]) -> str:
    """Return the hash of the weights that made some embeddings."""
    # All else that an embedding depends on is in the name of the extraction's folder.
    return provenance["backbone"]["fingerprint"]


def _write_store(
    extraction: Extraction, source: EmbeddingSource, shards: list[Shard]
) -> None:
    provenances = [files.read_json(shard.provenance_file) for shard in shards]
    if len({_weights(provenance) for provenance in provenances}) > 1:
        raise UserError(
            f"{extraction.title}: the shards in {extraction.folder} have other "
            "weights; delete it and run again"
        )
    parts_of_shards = [shard.open_parts() for shard in shards]
    arrays_of_split = {
        split: [parts[split] for parts in parts_of_shards] for split in SPLITS
    }
    _check_row_types(extraction, source, arrays_of_split)

    out = extraction.job.out
    for split, arrays in arrays_of_split.items():
        index = extraction.rows[split].drop(columns="pixels", errors="ignore")
        store.adopt(out / split, arrays, index, provenances[0])
        # Snakemake deletes the output of a job that ended while Snakemake itself was
        # not running. Links to the finished files, which take no space, save embedding
        # them a second time.
        files.link_or_copy(out / split, extraction.folder / "finished" / split)

    folders_of_other_settings = [
        folder for folder in out.glob(".embedding-*") if folder != extraction.folder
    ]
    shard_folders = list(extraction.folder.glob("*-of-*"))
    for folder in folders_of_other_settings + shard_folders:
        shutil.rmtree(folder)


def _check_row_types(
    extraction: Extraction,
    source: EmbeddingSource,
    arrays_of_split: dict[str, list[PartialArray]],
) -> None:
    row_types = {
        (split, array.row_type.d, array.row_type.dtype)
        for split, arrays in arrays_of_split.items()
        for array in arrays
        if array.row_type is not None
    }
    if len({(d, dtype) for _, d, dtype in row_types}) <= 1:
        return
    files_by_split = source.files_by_split()
    descriptions = []
    for split, d, dtype in sorted(row_types, key=str):
        file = files_by_split.get(split)
        place = f" in {file}" if file else ""
        descriptions.append(f"{split} (d = {d}, {dtype}){place}")
    raise UserError(
        f"{extraction.title}: embeddings of different d or dtype: "
        f"{'; '.join(descriptions)}: give all those of one model"
    )


def _restore(extraction: Extraction, source: EmbeddingSource) -> bool:
    """Put finished splits of the same inputs into the store, if there are any."""
    # Either this folder made them and Snakemake deleted its output, or they lie in a
    # folder of other people (`Job.shared`).
    job = extraction.job
    own_finished = extraction.folder / "finished"
    for place in (job.out, *job.shared):
        finished = place / extraction.folder.name / "finished"
        if not _has_same_weights(finished, extraction, source):
            continue
        for split in SPLITS:
            if finished != own_finished:
                # Copied, not linked: Snakemake sets the time of a job's output, and
                # these files belong to others.
                files.link_or_copy(
                    finished / split, own_finished / split, shutil.copyfile
                )
            files.link_or_copy(own_finished / split, job.out / split)
        progress.info(
            "%s: was finished before%s",
            extraction.title,
            "" if place == job.out else f", in {place}",
        )
        return True
    return False


def _has_same_weights(
    finished: Path, extraction: Extraction, source: EmbeddingSource
) -> bool:
    try:
        weights_of_splits = {
            _weights(store.read(finished / split).manifest) for split in SPLITS
        }
    except UserError:  # There are none, or not all, or they were altered.
        return False
    # All of the provenance is made, not the fingerprint alone: that of given embeddings
    # raises a UserError at duplicates which the dataset's entry no longer allows.
    present_weights = _weights(_provenance(extraction, source))
    return weights_of_splits == {present_weights}

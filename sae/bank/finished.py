"""The store of finished SAEs: `store/{key}/` holds one, `sae.safetensors`, `train.parquet` and `result.json`.

The key hashes what made it: embeddings and index, settings, versions and device class; of one with thresholds also the
key that it was trained under, the validation split, and the version of what fixes them. A folder appears whole or not
at all, so a killed job loses the SAE it was training and no other. A diverged SAE has no `sae.safetensors`.

Names are not in the key. Those in a file's metadata (dataset, backbone, method, trial) are what its first maker called
them, and the cadence of its log is that of its first maker; a bank's own file says under which names it has the SAE.
"""

import logging
import os
from collections.abc import Collection, Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

from sae.core import files, paths, seals, versions
from sae.core.errors import UserError

log = logging.getLogger(__name__)

_SAE, _LOG, _RESULT = paths.STORED


def key_of(made_by: dict[str, Any]) -> str:
    """The name of an SAE in a store, by all that made it."""
    return files.sha256_text(files.dumps(made_by))[:32]


def versions_of(objective: str, penalty: str | None) -> str:
    """The versions of what trains an SAE (`sae.core.versions`)."""
    entries = [("objective", objective), *([("penalty", penalty)] if penalty else [])]
    return versions.joined([("models", "inputs"), ("training", "loop"), *entries])


def find(folder: Path, shared: Iterable[Path]) -> dict[str, Any] | None:
    """The result of a finished SAE in a folder of the store, taken from another store if need be; None if in none.

    A damaged SAE is moved out of the way.
    """
    if folder.exists():
        result = whole(folder)
        if result is not None:
            return result
        log.warning("%s is damaged and is trained again", folder)
        with files.scratch_directory(folder) as scratch, suppress(FileNotFoundError):
            os.replace(folder, scratch / "damaged")
    for store in shared:
        theirs = Path(store) / folder.name
        try:
            if whole(theirs) is not None:
                with files.atomic_directory(folder) as temporary:
                    files.link_or_copy(theirs, temporary)
                log.info("%s was taken from %s", folder.name, store)
                return whole(folder)
        except (OSError, UserError) as error:
            log.warning("%s cannot be taken from %s: %s", folder.name, store, error)
    return None


def whole(folder: Path) -> dict[str, Any] | None:
    """The result of the SAE in a folder; None where one of the three files is missing, altered, or of another SAE."""
    try:
        result = files.read_json(folder / _RESULT, "result of SAE")
        seals.read(folder / _LOG)
        if result["status"] != "diverged":
            files.check_sum(folder / _SAE, result["sha256"], folder / _RESULT)
    except UserError as error:
        log.debug("%s", error)
        return None
    return result if key_of(result["made_by"]) == folder.name else None


def link(stored: Path, path: Path) -> None:
    """Link a finished SAE and its log from the store to where a bank has them, relatively and atomically."""
    path.parent.mkdir(parents=True, exist_ok=True)
    for place in (path, path.with_name(_LOG)):
        with files.atomic_file(place) as temporary:
            temporary.symlink_to(os.path.relpath(stored / place.name, path.parent))


def unlink_others(folder: Path, listed: Collection[str | None]) -> None:
    """Remove a bank's links to SAEs of an earlier plan, which are not `listed` by their path in its folder."""
    for place in folder.glob(paths.SAE.format(method="*", trial="*", seed="*")):
        if place.relative_to(folder).as_posix() not in listed:
            place.unlink()
            place.with_name(_LOG).unlink(missing_ok=True)

"""The store of finished SAEs.

`store/{key}/` holds one SAE in three files: `sae.safetensors`, its training log
`train.parquet`, and `result.json` (see `StoredSae`). A diverged SAE has no
`sae.safetensors`. A folder appears whole or not at all, so a killed job loses the SAE
that it was training and no other.

The key is a hash of all that made the SAE: the hashes of embeddings and index,
settings, versions of code, and class of device. The thresholds of some SAEs are fixed
once more on validation images: such an SAE has a second key, which also covers the key
that it was trained under, the validation split, and the version of the code that fixes
thresholds.

Names are not in the key. The metadata of `sae.safetensors` has the names (dataset,
backbone, method, trial) that its first maker gave it, and its log has the cadence of
its first maker. Under which names a bank has the SAE stands in bank.json.
"""

import logging
import os
from collections.abc import Collection, Iterable
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from sae.core import files, paths, seals, versions
from sae.core.errors import UserError

log = logging.getLogger(__name__)

SAE_FILE, LOG_FILE, RESULT_FILE = paths.STORED


@dataclass(frozen=True)
class StoredSae:
    """One SAE of a store, as its `result.json` describes it.

    Attributes:
        folder: Its folder, named by its key. It is not written to `result.json`.
        status: "ok" or "diverged".
        step: Number of the last training step, from 0; -1 where nothing was trained.
        m: Number of latents.
        sha256: Hash of `sae.safetensors`; None if the SAE diverged.
        made_by: All that decides the SAE. The key is its hash.
        made_with: Versions of libraries, recorded only.
        last_scores: {column of the training log: its last value}, such as `r2`, `l0`.
            A score is absent where the log lacks it or the value is not finite.
    """

    folder: Path
    status: str
    step: int
    m: int
    sha256: str | None
    made_by: dict[str, Any]
    made_with: dict[str, Any]
    last_scores: dict[str, float]

    @property
    def ok(self) -> bool:
        """Return whether training ended with an SAE, not by divergence."""
        return self.status == "ok"

    @property
    def key(self) -> str:
        """Return the key of the SAE."""
        return self.folder.name

    @classmethod
    def read(cls, folder: Path) -> "StoredSae":
        """Read the `result.json` of a folder.

        Raises:
            UserError: The file is missing or altered.
        """
        record = files.read_json(folder / RESULT_FILE, "result of SAE")
        names = ("status", "step", "m", "sha256", "made_by", "made_with")
        fields = {name: record.pop(name) for name in names}
        # What is left of the record are the scores.
        return cls(folder, **fields, last_scores=record)

    def write(self, folder: Path) -> None:
        """Write `result.json` into the folder where the SAE's files are collected."""
        record = asdict(self)
        del record["folder"]
        last_scores = record.pop("last_scores")
        files.write_json(folder / RESULT_FILE, {**last_scores, **record})


def store_key(made_by: dict[str, Any]) -> str:
    """Return the key of an SAE: a hash of all that made it, 32 hex digits."""
    return files.sha256_text(files.dumps(made_by))[:32]


def training_versions(objective: str, penalty: str | None) -> str:
    """Return the versions of the code that trains an SAE, as one text.

    Args:
        objective: Name of its objective.
        penalty: Name of its penalty, if it has one.
    """
    names = [("models", "inputs"), ("training", "loop"), ("objective", objective)]
    if penalty:
        names.append(("penalty", penalty))
    return versions.joined(names)


def find_sae(folder: Path, shared_stores: Iterable[Path]) -> StoredSae | None:
    """Find a finished SAE in the store or, if it is not there, in a shared one.

    An SAE of a shared store is linked or copied into `folder`. A damaged SAE is moved
    out of `folder`.

    Args:
        folder: Where the SAE lies in the store if it is finished.
        shared_stores: Stores of others, only read.

    Returns:
        The SAE in `folder`; None if no store has it whole.
    """
    if folder.exists():
        stored_sae = intact_sae(folder)
        if stored_sae is not None:
            return stored_sae
        log.warning("%s is damaged and is trained again", folder)
        # The scratch directory is removed with the damaged folder in it.
        with files.scratch_directory(folder) as scratch, suppress(FileNotFoundError):
            os.replace(folder, scratch / "damaged")

    for shared_store in shared_stores:
        shared_folder = Path(shared_store) / folder.name
        try:
            if intact_sae(shared_folder) is not None:
                with files.atomic_directory(folder) as temporary_folder:
                    files.link_or_copy(shared_folder, temporary_folder)
                log.info("%s was taken from %s", folder.name, shared_store)
                return intact_sae(folder)
        except (OSError, UserError) as error:
            log.warning(
                "%s cannot be taken from %s: %s", folder.name, shared_store, error
            )
    return None


def intact_sae(folder: Path) -> StoredSae | None:
    """Return the SAE in a folder if all its files are as they were written.

    Returns:
        None where a file is missing or altered, or belongs to an SAE of another key.
    """
    try:
        stored_sae = StoredSae.read(folder)
        seals.read_sealed(folder / LOG_FILE)
        if stored_sae.sha256 is not None:
            files.check_sum(folder / SAE_FILE, stored_sae.sha256, folder / RESULT_FILE)
    except UserError as error:
        log.debug("%s", error)
        return None
    if store_key(stored_sae.made_by) != stored_sae.key:
        return None
    return stored_sae


def link_sae(stored_folder: Path, bank_path: Path) -> None:
    """Link a finished SAE and its log from the store to where a bank has them.

    The links are relative, so that results can be moved as a whole.

    Args:
        stored_folder: Folder of the SAE in the store.
        bank_path: Where the bank has `sae.safetensors`; the log lies beside it.
    """
    bank_path.parent.mkdir(parents=True, exist_ok=True)
    for link in (bank_path, bank_path.with_name(LOG_FILE)):
        with files.atomic_file(link) as temporary_link:
            target = os.path.relpath(stored_folder / link.name, bank_path.parent)
            temporary_link.symlink_to(target)


def unlink_unlisted(bank_folder: Path, listed_paths: Collection[str | None]) -> None:
    """Remove a bank's links to SAEs of an earlier plan.

    Args:
        bank_folder: Folder of bank.json.
        listed_paths: Paths in that folder of the SAEs whose links stay.
    """
    every_sae = paths.SAE.format(method="*", trial="*", seed="*")
    for link in bank_folder.glob(every_sae):
        if link.relative_to(bank_folder).as_posix() not in listed_paths:
            link.unlink()
            link.with_name(LOG_FILE).unlink(missing_ok=True)

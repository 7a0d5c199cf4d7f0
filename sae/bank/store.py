"""The store of finished SAEs.

`store/{key}/` holds one SAE in three files: `sae.safetensors`, which a diverged SAE has
not; its training log `train.parquet`; and `result.json`: `status`, `step`, `m`,
`sha256` and `made_by` as of `sae.bank.sae.Sae`, the versions of libraries (`made_with`,
recorded only), what its training warned of, and the last scores of the log. A folder
appears whole or not at all, so a killed job loses the SAE that it was training and no
other.

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
from dataclasses import replace
from pathlib import Path
from typing import Any

from sae.bank.sae import Sae
from sae.core import files, paths, seals, versions
from sae.core.errors import UserError

log = logging.getLogger(__name__)

SAE_FILE, LOG_FILE, RESULT_FILE = paths.STORED


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


def find_sae(sae: Sae, store: Path, shared_stores: Iterable[Path]) -> Sae | None:
    """Find a finished SAE in the store or, if it is not there, in a shared one.

    An SAE of a shared store is linked or copied into the store. A damaged SAE is moved
    out of the store.

    Args:
        sae: The SAE, with its key.
        store: The store.
        shared_stores: Stores of others, only read.

    Returns:
        The SAE with what became of it; None if no store has it whole.
    """
    folder = store / sae.key
    if folder.exists():
        stored_sae = intact_sae(sae, folder)
        if stored_sae is not None:
            return stored_sae
        log.warning("%s is damaged and is trained again", folder)
        # The scratch directory is removed with the damaged folder in it.
        with files.scratch_directory(folder) as scratch, suppress(FileNotFoundError):
            os.replace(folder, scratch / "damaged")

    for shared_store in shared_stores:
        shared_folder = Path(shared_store) / sae.key
        try:
            if intact_sae(sae, shared_folder) is not None:
                with files.atomic_directory(folder) as temporary_folder:
                    files.link_or_copy(shared_folder, temporary_folder)
                log.info("%s was taken from %s", sae.key, shared_store)
                return intact_sae(sae, folder)
        except (OSError, UserError) as error:
            log.warning("%s cannot be taken from %s: %s", sae.key, shared_store, error)
    return None


def intact_sae(sae: Sae, folder: Path) -> Sae | None:
    """Return an SAE with what became of it, as its folder in a store says.

    Returns:
        None where a file of the folder is missing or altered, or belongs to an SAE of
        another key.
    """
    try:
        result = read_result(folder / RESULT_FILE)
        seals.read_sealed(folder / LOG_FILE)
        if result["sha256"] is not None:
            files.check_sum(folder / SAE_FILE, result["sha256"], folder / RESULT_FILE)
    except UserError as error:
        log.debug("%s", error)
        return None

    return replace(
        sae,
        settings=sae.settings.model_copy(update={"m": result["m"]}),
        status=result["status"],
        step=result["step"],
        sha256=result["sha256"],
        warnings=tuple(result.get("warnings", ())),
    )


def read_result(file: Path) -> dict[str, Any]:
    """Return what the store says of an SAE.

    Raises:
        UserError: The file is missing or altered, or belongs to an SAE of another key.
    """
    result = files.read_json(file, "result of SAE")
    if store_key(result["made_by"]) != file.parent.name:
        raise UserError(
            f"result of SAE {file} is of another SAE: delete its folder and run again"
        )
    return result


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

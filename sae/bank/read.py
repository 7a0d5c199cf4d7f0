"""Read a bank: open its SAEs, checked, and restore their links into the store."""

import os
from pathlib import Path

from sae.core import files
from sae.core.errors import UserError
from sae.models import saefile


def open_sae(bank_file, bank, entry):
    """Load one SAE of a bank, its hash checked; a missing link is restored from the store.

    Raises:
        UserError: the SAE is in neither place, or was altered.
    """
    path = Path(bank_file).parent / entry["path"]
    if not path.exists():
        stored = Path(bank_file).parent / bank["store"] / entry["key"]
        if not (stored / "sae.safetensors").is_file():
            raise UserError(f"{path} is gone, and {stored} too; delete {bank_file} and run again")
        link(stored, path, entry)
    found = files.sha256(path)
    if found != entry["sha256"]:
        raise UserError(
            f"{path} was altered or cut short: SHA-256 {found}, {bank_file} says {entry['sha256']}; "
            f"delete {path.resolve().parent} and {bank_file}, and run again"
        )
    return saefile.load(path)


def link(stored, path, result):
    """Link a finished SAE's files from the store to where the bank has them, relatively and atomically."""
    if result["status"] != "ok":
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    for link in (path, path.with_name("train.parquet")):
        files.symlink(os.path.relpath(stored / link.name, path.parent), link)

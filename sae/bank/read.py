"""Read a bank: open its SAEs, checked, and restore their links into the store."""

from pathlib import Path
from typing import Any

from sae.bank import store
from sae.core import files
from sae.core.errors import UserError
from sae.models import saefile
from sae.models.coder import Coder


def open_sae(bank_file: Path | str, bank: dict[str, Any], entry: dict[str, Any]) -> Coder:
    """Load one SAE of a bank, its hash checked; a missing link is restored from the store.

    Args:
        bank_file, bank: bank.json or bank_chosen.json, and its content.
        entry: one of `bank["saes"]` whose status is 'ok'.

    Raises:
        UserError: the SAE is in neither place, or was altered.
    """
    path = Path(bank_file).parent / entry["path"]
    if not path.exists():
        stored = Path(bank_file).parent / bank["store"] / entry["key"]
        if not (stored / path.name).is_file():
            raise UserError(f"{path} is gone, and {stored} too; delete {bank_file} and run again")
        store.link(stored, path)
    files.check_sum(path, entry["sha256"], bank_file, f"delete {path.resolve().parent} and {bank_file}, and run again")
    return saefile.load(path)

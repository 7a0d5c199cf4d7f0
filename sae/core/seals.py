"""Seals: a file that holds the hash of its own bytes, so that its reader knows that it was not altered.

A seal is the text `sha256-of-the-rest:` and 64 hex digits, once in the file. The digits are the SHA-256 of the file's
bytes with zeros in their place. JSON has it under the key `seal`, parquet and safetensors among their metadata, where
other programs pass it over.
"""

import hashlib
import re
from pathlib import Path

from sae.core.errors import UserError

BLANK = "sha256-of-the-rest:" + "0" * 64
_SEAL = re.compile(rb"sha256-of-the-rest:([0-9a-f]{64})")


def seal(path: str | Path) -> None:
    """Fill in the seal of a file that was written with :data:`BLANK` in it.

    Raises:
        ValueError: the file has no seal, or several.
    """
    with open(path, "rb+") as file:
        content = file.read()
        places = [found.start(1) for found in _SEAL.finditer(content)]
        if len(places) != 1:
            raise ValueError(f"{path} has {len(places)} seals, not one")
        file.seek(places[0])
        file.write(hashlib.sha256(content).hexdigest().encode())


ADVICE = "delete it and run again"


def read(
    path: str | Path, what: str = "file", advice: str = ADVICE, unsealed: str = ""
) -> bytes:
    """The content of a sealed file.

    Args:
        what: what error messages call the file.
        advice: how they end.
        unsealed: the whole error message for a file without a seal.

    Raises:
        UserError: the file is missing, has no seal, or was altered.
    """
    try:
        content = Path(path).read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        raise UserError(f"{what} {path} does not exist") from None
    found = list(_SEAL.finditer(content))
    if not found and unsealed:
        raise UserError(unsealed)
    if len(found) != 1:
        raise UserError(
            f"{what} {path} was altered or cut short, or is of an older version: no seal; {advice}"
        )
    if (
        hashlib.sha256(_SEAL.sub(BLANK.encode(), content)).hexdigest()
        != found[0][1].decode()
    ):
        raise UserError(
            f"{what} {path} was altered: it does not fit its seal (a SHA-256); {advice}"
        )
    return content

"""A seal is a hash that a file holds of its own bytes, so that a reader sees changes.

A seal is the text `sha256-of-the-rest:` and 64 hex digits, once in the file. The digits
are the SHA-256 of the file's bytes with zeros in their place. JSON has the seal under
the key `seal`, parquet and safetensors among their metadata, where other programs pass
it over.
"""

import hashlib
import re
from pathlib import Path

from sae.core.errors import UserError

# The seal of a file that is not sealed yet.
BLANK = "sha256-of-the-rest:" + "0" * 64
_SEAL = re.compile(rb"sha256-of-the-rest:([0-9a-f]{64})")

# How error messages end.
ADVICE = "delete it and run again"


def seal_file(path: str | Path) -> None:
    """Fill in the seal of a file that was written with :data:`BLANK` in it.

    Raises:
        ValueError: The file has no seal, or several.
    """
    with open(path, "rb+") as file:
        content = file.read()
        digit_places = [match.start(1) for match in _SEAL.finditer(content)]
        if len(digit_places) != 1:
            raise ValueError(f"{path} has {len(digit_places)} seals, not one")
        file.seek(digit_places[0])
        file.write(hashlib.sha256(content).hexdigest().encode())


def read_sealed(
    path: str | Path, what: str = "file", advice: str = ADVICE, unsealed: str = ""
) -> bytes:
    """Return the content of a sealed file.

    Args:
        path: The file.
        what: What error messages call the file.
        advice: How error messages end.
        unsealed: The whole error message for a file without a seal.

    Raises:
        UserError: The file is missing, has no seal, or was altered.
    """
    try:
        content = Path(path).read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        raise UserError(f"{what} {path} does not exist") from None

    seals = list(_SEAL.finditer(content))
    if not seals and unsealed:
        raise UserError(unsealed)
    if len(seals) != 1:
        raise UserError(
            f"{what} {path} was altered or cut short, or is of an older version: no "
            f"seal; {advice}"
        )

    sealed_digits = seals[0][1].decode()
    blank_content = _SEAL.sub(BLANK.encode(), content)
    if hashlib.sha256(blank_content).hexdigest() != sealed_digits:
        raise UserError(
            f"{what} {path} was altered: it does not fit its seal (a SHA-256); {advice}"
        )
    return content

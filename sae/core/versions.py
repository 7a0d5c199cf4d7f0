"""Versions say whether a number still means what it did.

Whatever gives numbers their meaning has a `VERSION` in its file: the entries of most
registries (`metric probe` is sae/scoring/metrics/probe.py), and modules such as the
loop of training (`training loop` is sae/training/loop.py). The lock file beside the
library holds the hash of each one's code (`sae.core.codehash`) at that version. Code
with another hash counts as something else, until somebody records that its numbers are
what they were, or raises its `VERSION`.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from sae.core import registry
from sae.core.codehash import code_hash
from sae.core.errors import UserError
from sae.core.files import write_text

# A kind of the registry and an entry; or a room, and a file in it.
Name = tuple[str, str]
# Kinds that give no number its meaning.
_KINDS_WITHOUT_NUMBERS = ("importer", "exporter", "figure")


class _CodeVersion(NamedTuple):
    """The version that a file states, and the hash of its code at that version."""

    number: int
    code: str


def version_of(kind: str, name: str) -> str:
    """Return the version of an entry or of a module, as keys and records have it.

    Returns:
        "1", or "1+3f2a91bc" where its code is not the one that was recorded. A user's
        entry is never recorded; without a `VERSION` it has 1.

    Raises:
        UserError: There is no such thing, or its `VERSION` is no whole number from 1.
    """
    version = _current_version(kind, name)
    if version == _recorded_versions().get((kind, name)):
        return str(version.number)
    return f"{version.number}+{version.code[:8]}"


def joined(names: Iterable[Name]) -> str:
    """Return several versions as one text: "metric probe 1, models inputs 1"."""
    return ", ".join(
        f"{kind} {name} {version_of(kind, name)}" for kind, name in sorted(set(names))
    )


def module_name(kind: str, name: str) -> str:
    """Return the dotted name of the module that has a version.

    Raises:
        UserError: There is no such entry.
    """
    if kind in registry.PACKAGES:
        return registry.module_name(kind, name)
    return f"sae.{kind}.{name}"


def waiting() -> dict[Name, str]:
    """Return what of the library is not as it was recorded.

    Returns:
        {name: what is not as it was, and what to do about it}.
    """
    library_names = _library_names()
    recorded_versions = _recorded_versions()
    advice_by_name = {}
    for kind, name in sorted({*library_names, *recorded_versions}):
        current = None
        if (kind, name) in library_names:
            current = _current_version(kind, name)
        recorded = recorded_versions.get((kind, name))
        if current != recorded:
            how_to_record = f"record it: `make versions RECORD='{kind} {name}'`"
            advice_by_name[kind, name] = _advice(current, recorded, how_to_record)
    return advice_by_name


def _advice(
    current: _CodeVersion | None, recorded: _CodeVersion | None, how_to_record: str
) -> str:
    """Say why a version waits, and what to do about it."""
    if current is None:
        return f"it is gone: {how_to_record}"
    if recorded is None or current.number != recorded.number:
        return f"its version {current.number} is not recorded: {how_to_record}"
    return (
        f"its code is not the one recorded for version {current.number}: if its "
        f"numbers are what they were, {how_to_record}; else raise its VERSION"
    )


def record(names: Iterable[Name]) -> None:
    """Write the present versions and code hashes of some things into the lock file.

    Args:
        names: What is recorded. A thing that the library no longer has leaves the file.

    Raises:
        UserError: There is no such thing, or its version was lowered: an older one may
            have left other numbers.
    """
    library_names = _library_names()
    versions = _recorded_versions()
    for kind, name in names:
        recorded = versions.pop((kind, name), None)
        if (kind, name) in library_names:
            current = _current_version(kind, name)
            versions[kind, name] = current
            if recorded is not None and current.number < recorded.number:
                raise UserError(
                    f"{kind} {name}: VERSION may only grow; it is {current.number}, "
                    f"recorded is {recorded.number}"
                )
        elif recorded is None:
            raise UserError(
                f"nothing of the library that has a version is called {kind} {name}"
            )

    lines = []
    for (kind, name), version in sorted(versions.items()):
        lines.append(f"{kind} {name} {version.number} {version.code}\n")
    write_text(_lock_file(), "".join(lines))


def _library_names() -> list[Name]:
    name_by_module: dict[str, Name] = {}
    for file in registry.roots()["sae"].glob("*/*.py"):
        if "VERSION" in registry.constants(registry.parse(file)):
            name = (file.parent.name, file.stem)
            name_by_module[module_name(*name)] = name

    # An entry that lies in a room itself, as protocols do, goes by its kind, not by its
    # room, so that entries come last.
    for kind in registry.PACKAGES:
        if kind not in _KINDS_WITHOUT_NUMBERS:
            for entry in registry.names(kind):
                name_by_module[module_name(kind, entry)] = (kind, entry)

    return [
        name
        for dotted_name, name in name_by_module.items()
        if dotted_name.startswith("sae.")
    ]


def _current_version(kind: str, name: str) -> _CodeVersion:
    dotted_name = module_name(kind, name)
    code = code_hash(dotted_name)
    file = registry.locate(dotted_name)
    assert file is not None  # Else there would be no hash.
    number = registry.constants(registry.parse(file)).get("VERSION", 1)
    if type(number) is not int or number < 1:
        raise UserError(
            f"{kind} {name}: VERSION of {file} is {number!r}, not a whole number from 1"
        )
    return _CodeVersion(number, code)


def _recorded_versions() -> dict[Name, _CodeVersion]:
    lock_file = _lock_file()
    if not lock_file.exists():
        return {}
    versions = {}
    try:
        for line in lock_file.read_text(encoding="utf-8").splitlines():
            kind, name, number, code = line.split()
            versions[kind, name] = _CodeVersion(int(number), code)
    except ValueError:  # A merge that was not finished, perhaps.
        raise UserError(
            f"{lock_file} does not have KIND NAME VERSION HASH in every line"
        ) from None
    return versions


def _lock_file() -> Path:
    return registry.roots()["sae"] / "versions.lock"

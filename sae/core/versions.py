"""Versions: what says whether a number still means what it did.

Whatever gives numbers their meaning has a `VERSION` in its file: the entries of most registries (`metric probe` is
sae/scoring/metrics/probe.py), and modules such as the loop of training (`training loop` is sae/training/loop.py). The
lock file beside the library holds the hash of each one's code (`sae.core.codehash`) at that version. Code with another
hash counts as something else, until somebody records that its numbers are what they were, or raises its `VERSION`.
"""

from collections.abc import Iterable
from pathlib import Path

from sae.core import registry
from sae.core.codehash import code_hash
from sae.core.errors import UserError
from sae.core.files import write_text

Name = tuple[
    str, str
]  # A kind of the registry and an entry; or a room, and a file in it.
_NO_NUMBERS = ("importer", "exporter", "figure")  # Kinds that give none their meaning.


def of(kind: str, name: str) -> str:
    """The version of an entry or of a module: "1", or "1+3f2a91bc" where its code is not the one that was recorded.

    An entry of one's own is never recorded; without a `VERSION` it has 1.

    Raises:
        UserError: there is no such thing, or its `VERSION` is no whole number from 1.
    """
    version, digest = _now(kind, name)
    is_recorded = _recorded().get((kind, name)) == (version, digest)
    return str(version) if is_recorded else f"{version}+{digest[:8]}"


def joined(names: Iterable[Name]) -> str:
    """The versions of several as one text: "metric probe 1, models inputs 1"."""
    return ", ".join(
        f"{kind} {name} {of(kind, name)}" for kind, name in sorted(set(names))
    )


def module(kind: str, name: str) -> str:
    """The dotted name of what has a version.

    Raises:
        UserError: there is no such entry.
    """
    return (
        registry.module(kind, name)
        if kind in registry.PACKAGES
        else f"sae.{kind}.{name}"
    )


def waiting() -> dict[Name, str]:
    """What of the library is not as it was recorded: {it: what to do about it}."""
    every, recorded, found = _every(), _recorded(), {}
    for kind, name in sorted({*every, *recorded}):
        now, known = (
            _now(kind, name) if (kind, name) in every else None,
            recorded.get((kind, name)),
        )
        if now == known:
            continue
        record = f"record it: `make versions RECORD='{kind} {name}'`"
        if now is None:
            record = f"it is gone: {record}"
        elif known is None or now[0] != known[0]:
            record = f"its version {now[0]} is not recorded: {record}"
        else:
            because = f"its code is not the one recorded for version {now[0]}: if its numbers are what they were"
            record = f"{because}, {record}; else raise its VERSION"
        found[kind, name] = record
    return found


def record(names: Iterable[Name]) -> None:
    """Write into the lock file what versions and code these have now.

    Raises:
        UserError: there is no such thing, or its version was lowered: an older one may have left other numbers.
    """
    every, recorded = _every(), _recorded()
    for kind, name in names:
        known = recorded.pop((kind, name), None)
        if (kind, name) in every:
            now = recorded[kind, name] = _now(kind, name)
            if known and now[0] < known[0]:
                raise UserError(
                    f"{kind} {name}: VERSION may only grow; it is {now[0]}, recorded is {known[0]}"
                )
        elif known is None:
            raise UserError(
                f"nothing of the library that has a version is called {kind} {name}"
            )
    lines = [
        f"{kind} {name} {version} {digest}\n"
        for (kind, name), (version, digest) in sorted(recorded.items())
    ]
    write_text(_lock(), "".join(lines))


def _every() -> list[Name]:
    """All of the library that has a version."""
    kinds = [kind for kind in registry.PACKAGES if kind not in _NO_NUMBERS]
    entries = [(kind, name) for kind in kinds for name in registry.names(kind)]
    files = [
        f
        for f in registry.roots()["sae"].glob("*/*.py")
        if "VERSION" in registry.constants(registry.parse(f))
    ]
    # By their modules: an entry that lies in a room itself, as protocols do, goes by its kind.
    found = {
        module(*name): name
        for name in [*((f.parent.name, f.stem) for f in files), *entries]
    }
    return [name for dotted, name in found.items() if dotted.startswith("sae.")]


def _now(kind: str, name: str) -> tuple[int, str]:
    """The version that a file states, and the hash of its code."""
    dotted = module(kind, name)
    digest, file = code_hash(dotted), registry.locate(dotted)
    assert file is not None  # Else there would be no hash.
    version = registry.constants(registry.parse(file)).get("VERSION", 1)
    if type(version) is not int or version < 1:
        raise UserError(
            f"{kind} {name}: VERSION of {file} is {version!r}, not a whole number from 1"
        )
    return version, digest


def _recorded() -> dict[Name, tuple[int, str]]:
    lines = _lock().read_text(encoding="utf-8").splitlines() if _lock().exists() else []
    try:
        rows = [line.split() for line in lines]
        return {
            (kind, name): (int(version), digest) for kind, name, version, digest in rows
        }
    except ValueError:  # A merge that was not finished, perhaps.
        raise UserError(
            f"{_lock()} does not have KIND NAME VERSION HASH in every line"
        ) from None


def _lock() -> Path:
    return registry.roots()["sae"] / "versions.lock"

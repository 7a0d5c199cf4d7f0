"""Say that code means what it meant: `make versions` lists what waits for that word, RECORD='metric probe' gives it."""

import sys

from sae.core import versions
from sae.core.errors import UserError


def main(*record: str) -> None:
    """List what waits, or record what is named ("metric probe"; "all": everything that waits) and list the rest."""
    try:
        waiting = versions.waiting()
        versions.record(waiting if record == ("all",) else [(kind, name) for kind, name in map(_two, record)])
        found = [f"{kind} {name}: {said}" for (kind, name), said in versions.waiting().items()]
        print("\n".join(found or ["Nothing waits: all code is as it was recorded."]))
    except UserError as error:
        sys.exit(f"error: {error}")


def _two(words: str) -> list[str]:
    found = words.split()
    if len(found) != 2:
        raise UserError(f"RECORD is {words!r}, not a kind and a name, such as 'metric probe', or all")
    return found


if __name__ == "__main__":
    main(*sys.argv[1:])

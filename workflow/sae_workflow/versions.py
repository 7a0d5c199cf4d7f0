"""Say that code means what it meant: `make versions` lists what waits for that word, RECORD='metric probe' gives it."""

from sae.core import versions
from sae.core.errors import UserError
from sae_workflow.start import start


def main(*record: str) -> None:
    """List what waits, or record what is named ("metric probe"; "all": everything that waits) and list the rest."""
    waiting = versions.waiting()
    versions.record(
        waiting
        if record == ("all",)
        else [(kind, name) for kind, name in map(_two, record)]
    )
    found = [
        f"{kind} {name}: {said}" for (kind, name), said in versions.waiting().items()
    ]
    print("\n".join(found or ["Nothing waits: all code is as it was recorded."]))


def _two(words: str) -> list[str]:
    found = words.split()
    if len(found) != 2:
        raise UserError(
            f"RECORD is {words!r}, not a kind and a name, such as 'metric probe', or all"
        )
    return found


if __name__ == "__main__":
    start(main)

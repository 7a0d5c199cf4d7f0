"""Say that code means what it meant.

`make versions` lists what waits for that word, RECORD='metric probe' gives it.

Snakemake lacks it: its provenance triggers take every edit for a change of meaning, and
see none in a module that a rule's command imports.
"""

from sae.core import versions
from sae.core.errors import UserError
from sae_workflow.command_line import run_command


def main(*record: str) -> None:
    """Record what is named, and list what then waits.

    Args:
        record: Kinds and names, such as "metric probe"; or "all", for everything that
            waits.
    """
    if record == ("all",):
        versions.record(versions.waiting())
    else:
        versions.record([_parse_name(words) for words in record])
    lines = [
        f"{kind} {name}: {reason}"
        for (kind, name), reason in versions.waiting().items()
    ]
    print("\n".join(lines or ["Nothing to record: all code is as it was recorded."]))


def _parse_name(words: str) -> versions.Name:
    """Return a kind and a name.

    Raises:
        UserError: the words are something else.
    """
    parts = words.split()
    if len(parts) != 2:
        raise UserError(
            f"RECORD is {words!r}, not a kind and a name, such as 'metric probe', or "
            "all"
        )
    kind, name = parts
    return kind, name


if __name__ == "__main__":
    run_command(main)

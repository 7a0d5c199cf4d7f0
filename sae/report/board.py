"""The board for reading."""

from collections.abc import Sequence
from pathlib import Path

from sae.comparison import board
from sae.core import files
from sae.core.errors import UserError
from sae.report import fronts
from sae.report.names import Names


def write(results: Sequence[Path], /, *, out: Path | None = None) -> None:
    """Print one board of the methods of several results folders, mine first: what each has above its baseline.

    Args:
        results: folders with metrics.csv or metrics.parquet and made_by.json: results/NAME, or what `make reference`
            copied.
        out: a folder to write leaderboard.csv and leaderboard.md into, too.

    Raises:
        UserError: a folder lacks a file, or no rows are left to compare.
    """
    made = render(list(map(Path, results)))
    print(made["leaderboard.md"])
    for name, text in made.items() if out else ():
        files.write_text(Path(out or "") / name, text)


def render(results: Sequence[Path]) -> dict[str, str]:
    """{'leaderboard.csv' and '.md': their text} of several results folders, mine first."""
    if not results:
        raise UserError("name at least one folder of results, such as results/demo")
    found = [board.read(folder) for folder in results]
    means, omissions = board.joined(found)
    methods = {
        name: method
        for result in reversed(found)
        for name, method in result.made_by.methods.methods.items()
    }
    first = found[0].made_by
    names = Names.model_validate({"methods": methods})
    page = fronts.page(means, names, first.fronts, first.intervals)
    text = "\n\n".join(["# Leaderboard", page[0], *omissions, *page[1:]]) + "\n"
    csv = means.to_csv(index=False, lineterminator="\n")
    return {"leaderboard.csv": csv, "leaderboard.md": text}

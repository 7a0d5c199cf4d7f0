"""The board for reading."""

from collections.abc import Sequence
from pathlib import Path

from sae.comparison import board
from sae.core import files
from sae.report import fronts
from sae.report.markup import markdown
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
    found = [board.read(folder) for folder in results]
    means, said = board.joined(found)
    methods = {
        name: method
        for result in reversed(found)
        for name, method in result.made_by.methods.methods.items()
    }
    shown = fronts.as_text(means, Names.model_validate({"methods": methods}))
    table = (
        [markdown(shown), *said, fronts.NOTES] if len(shown) else [*said, fronts.NONE]
    )
    text = "\n\n".join(["# Leaderboard", *table]) + "\n"
    return {
        "leaderboard.csv": means.to_csv(index=False, lineterminator="\n"),
        "leaderboard.md": text,
    }

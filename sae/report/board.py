"""The board for reading."""

from collections.abc import Sequence
from pathlib import Path

from sae.comparison import board
from sae.core import files
from sae.report import fronts
from sae.report.names import Names
from sae.report.tables import markdown


def write(results: Sequence[Path], /, *, out: Path | None = None) -> None:
    """Print one board of the methods of several results folders, mine first: what each has above its baseline.

    Args:
        results: folders with metrics.csv or metrics.parquet and made_by.json: results/NAME, or what `make reference`
            copied.
        out: a folder to write leaderboard.csv and leaderboard.md into, too.

    Raises:
        UserError: a folder lacks a file, or no rows are left to compare.
    """
    found = [board.read(Path(folder)) for folder in results]
    means, said = board.joined(found)
    methods = {name: method for result in reversed(found) for name, method in result.made_by.methods.methods.items()}
    shown = fronts.as_text(means, Names.model_validate({"methods": methods}))
    text = "\n\n".join([markdown(shown), *said, fronts.NOTES]) + "\n"
    print(text)
    if out:
        files.write_text(out / "leaderboard.md", text)
        files.write_text(out / "leaderboard.csv", means.to_csv(index=False, lineterminator="\n"))

"""The leaderboard for reading."""

import itertools
from collections.abc import Sequence
from pathlib import Path

from sae.comparison import leaderboard
from sae.core import files, outputs
from sae.core.errors import UserError
from sae.report import comparison
from sae.report.markup import prose
from sae.report.names import Names

COMMAND = "leaderboard"
PAGE = "leaderboard.md"


def write(results: Sequence[Path], /, *, out: Path | None = None) -> None:
    """Print one leaderboard of the methods of several results folders, mine first.

    The leaderboard says what each method has above its baseline.

    Args:
        results: Folders with metrics.csv or metrics.parquet and made_by.json:
            results/NAME, or what `make reference` copied.
        out: A folder to write leaderboard.csv and leaderboard.md into, too.

    Raises:
        UserError: a folder lacks a file, or no rows are left to compare; `out` holds
            other files of these names.
    """
    if out is not None:
        outputs.check_folder(out, COMMAND, [f"{COMMAND}.csv", PAGE])
    texts = render([Path(folder) for folder in results])
    print(texts[PAGE])
    if out is None:
        return
    with outputs.replacing_folder(out, COMMAND, PAGE) as folder:
        for name, text in texts.items():
            files.write_text(folder / name, text)


def render(results: Sequence[Path]) -> dict[str, str]:
    """Return {'leaderboard.csv' and '.md': their text} of several results folders.

    Args:
        results: Folders as :func:`write` takes them. The rules of the first hold, and
            its looks of methods that several have.

    Raises:
        UserError: there is no folder, or two of them have the same rows.
    """
    if not results:
        raise UserError("name at least one folder of results, such as results/demo")
    experiments = [leaderboard.read(folder) for folder in results]
    folders_and_rows = zip(results, experiments, strict=True)
    for (first, rows), (other, other_rows) in itertools.combinations(
        folders_and_rows, 2
    ):
        if rows.metrics.equals(other_rows.metrics):
            raise UserError(
                f"{other} has the rows of {first}, which would count twice in Holm's "
                "correction: name one of them"
            )
    means, omissions = leaderboard.joined(experiments)

    # Methods of earlier folders replace those of later ones.
    methods = {
        name: method
        for experiment in reversed(experiments)
        for name, method in experiment.made_by.methods.methods.items()
    }
    names = Names.model_validate({"methods": methods})
    rule = experiments[0].made_by.intervals
    page = comparison.page(means, names, rule)
    paragraphs = ["# Leaderboard", page[0], *map(prose, omissions), *page[1:]]
    return {
        "leaderboard.csv": means.to_csv(index=False, lineterminator="\n"),
        PAGE: "\n\n".join(paragraphs) + "\n",
    }

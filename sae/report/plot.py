"""Draw one figure: an entry of `sae/report/figures` draws it, this writes it."""

from pathlib import Path
from typing import Any

from sae.core import registry
from sae.report import style
from sae.report.names import Names
from sae.report.style import plt


def plot(name: str, results: str | Path, settings: dict[str, Any], out: str | Path) -> None:
    """Write `out`/`name`.png and .pdf.

    Args:
        name: an entry: a file with `READS` (what it reads, below `results`), `CAPTION` and
            `draw(results: Path, names: Names) -> Figure`.
        results: folder of the experiment's tables.
        settings: of :class:`sae.report.names.Names`.

    Raises:
        UserError: there is no such figure, or a table that it reads is missing.
    """
    draw = registry.load("figure", name).draw
    with plt.rc_context(style.RC):
        style.save(draw(Path(results), Names(settings)), out, name)

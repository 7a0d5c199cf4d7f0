"""Draw one figure: an entry of `sae/report/figures` draws it, this writes it."""

from pathlib import Path

from matplotlib.figure import Figure

from sae.core import files, registry
from sae.core.errors import UserError
from sae.core.paths import FIGURE_SUFFIXES
from sae.report import style
from sae.report.names import Names
from sae.report.style import plt


def plot(name: str, results: Path, settings: Names, out: Path) -> None:
    """Write `out`/`name`.png, .pdf and .svg.

    Args:
        name: An entry: a file with `READS` (what it reads, below `results`), `CAPTION`
            and `draw(results: Path, names: Names) -> Figure`.
        results: Folder of the experiment's tables.
        settings: How methods, datasets and backbones are printed and drawn.
        out: The folder to write into.

    Raises:
        UserError: there is no such figure, a table that it reads is missing, or it
            draws no figure.
    """
    draw = registry.load("figure", name).draw
    with plt.rc_context(style.RC):
        figure = draw(results, settings)
        if not isinstance(figure, Figure):
            raise UserError(
                f"figure {name}: draw must return a matplotlib figure, not "
                f"{type(figure).__name__}"
            )
        style.save(figure, out, name)
    figure_files = [out / f"{name}.{suffix}" for suffix in FIGURE_SUFFIXES]
    files.write_sums(out / f"{name}.sums.json", figure_files)

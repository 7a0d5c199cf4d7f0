"""Run docs/library.ipynb, and store what it prints and draws: `python docs/notebook.py`.

The embeddings that it reads must be there; its first cell says how.
"""

import base64
import contextlib
import io
import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import matplotlib
from PIL import Image

NOTEBOOK = Path(__file__).with_name("library.ipynb")
DPI = 80
COLOURS = 128  # A picture of the notebook takes a third of what it would with all.


def code_cells(notebook: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the cells of a notebook that hold code."""
    return [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]


def run(cells: Iterable[dict[str, Any]]) -> list[list[dict[str, Any]]]:
    """Run cells of code in their order, as one program in the working directory.

    Returns:
        The outputs of each, in the notebook's format: what it printed, and the figures
        that were open at its end.
    """
    matplotlib.use("agg")
    from matplotlib import pyplot

    names: dict[str, Any] = {"__name__": "__main__"}
    outputs = []
    for cell in cells:
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            exec("".join(cell["source"]), names)
        figures = [pyplot.figure(number) for number in pyplot.get_fignums()]
        outputs.append([*_texts(printed.getvalue()), *map(_picture, figures)])
        pyplot.close("all")
    return outputs


def _texts(printed: str) -> list[dict[str, Any]]:
    if not printed:
        return []
    text = printed.splitlines(keepends=True)
    return [{"output_type": "stream", "name": "stdout", "text": text}]


def _picture(figure: Any) -> dict[str, Any]:
    drawn = io.BytesIO()
    figure.savefig(drawn, format="png", dpi=DPI)
    small = io.BytesIO()
    Image.open(drawn).convert("RGB").quantize(COLOURS).save(
        small, format="PNG", optimize=True
    )
    png = base64.b64encode(small.getvalue()).decode() + "\n"
    return {
        "output_type": "display_data",
        "data": {"image/png": png, "text/plain": ["<Figure>"]},
        "metadata": {},
    }


def main() -> None:
    """Run the notebook where it lies, and write it with its outputs."""
    notebook = json.loads(NOTEBOOK.read_text())
    cells = code_cells(notebook)
    os.chdir(NOTEBOOK.parent)
    for number, (cell, outputs) in enumerate(zip(cells, run(cells), strict=True), 1):
        cell["execution_count"] = number
        cell["outputs"] = outputs
    text = json.dumps(notebook, indent=1, ensure_ascii=False)
    NOTEBOOK.write_text(f"{text}\n")


if __name__ == "__main__":
    main()

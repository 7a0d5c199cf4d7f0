"""Tables of text as Markdown and LaTeX, in which every text is printed as it is."""

import re

import pandas as pd


def markdown(table: pd.DataFrame) -> str:
    """A pipe table of a DataFrame of text, padded so that it reads as it stands."""
    rows = [[_cell(v) for v in row] for row in (table.columns, *table.to_numpy())]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    rows.insert(1, ["-" * width for width in widths])
    padded = [[v.ljust(w) for v, w in zip(row, widths, strict=True)] for row in rows]
    return "\n".join("| " + " | ".join(row) + " |" for row in padded)


# What would be markup: but a _ within a word, and an & that begins no entity, are themselves.
_MARKUP = re.compile(r"[\\`*|~$<]|\](?=\()|(?<![^\W_])_|_(?![^\W_])|&(?=#?\w+;)")
_ENTITIES = {
    "<": "&lt;",
    "&": "&amp;",
}  # Some readers of markdown take \< for the beginning of a tag.


def _cell(text: str) -> str:
    return _MARKUP.sub(
        lambda found: _ENTITIES.get(found[0], f"\\{found[0]}"), " ".join(text.split())
    )


# A row that begins with [ or * would be an option of the line break before it.
_TEX = str.maketrans(
    {c: rf"\{c}" for c in "_%&#${}"}
    | {
        "<": r"$<$",
        ">": r"$>$",
        "\\": r"\textbackslash{}",
        "~": r"\textasciitilde{}",
        "^": r"\textasciicircum{}",
    }
    | {"|": r"\textbar{}", "[": "{[}", "*": "{*}"}
)


def latex(table: pd.DataFrame, caption: str) -> str:
    """A `longtable` with booktabs rules, a space between cells (the first three columns)."""
    head, *rows = (
        [v.translate(_TEX) for v in row] for row in (table.columns, *table.to_numpy())
    )
    body = ""
    for number, row in enumerate(rows):
        if number and row[:3] != rows[number - 1][:3] and "method" in table:
            body += "\\addlinespace\n"
        body += " & ".join(row) + " \\\\\n"
    caption = " ".join(caption.replace("`", "").split()).translate(_TEX)
    return rf"""% needs \usepackage{{booktabs,longtable}}
\begin{{longtable}}{{{"l" * len(head)}}}
\caption{{{caption}}} \\
\toprule
{" & ".join(head)} \\
\midrule \endhead
{body}\bottomrule
\end{{longtable}}
"""

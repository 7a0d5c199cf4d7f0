"""Tables of text as Markdown and LaTeX, in which every text is printed as it is."""

import html
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


# What would begin a heading, a quotation, a list or a line at the start of a paragraph.
_AT_START = re.compile(r"(\d*)([#>+=.)-])")
# An escape, an entity or a span of code, as they stand in a paragraph of markdown.
_ESCAPED = re.compile(
    r"\\(?P<sign>[!-/:-@[-`{-~])|&(?P<entity>lt|amp);|`(?P<code>[^`]*)`"
)


def prose(text: str) -> str:
    """A text, such as a label, in a paragraph of markdown, printed as it is."""
    text = _cell(text)
    start = _AT_START.match(text)
    if start is None:
        return text
    return f"{start[1]}\\{start[2]}{text[start.end() :]}"


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


def _plain(paragraph: str) -> str:
    """Return what a paragraph of markdown prints, where its only markup is code."""
    return _ESCAPED.sub(
        lambda markup: (
            html.unescape(markup[0])
            if markup["entity"]
            else markup["sign"] or markup["code"] or ""
        ),
        " ".join(paragraph.split()),
    )


def latex(table: pd.DataFrame, caption: str) -> str:
    """A `longtable` with booktabs rules, a space between cells (the first three columns).

    Args:
        table: texts, which are printed as they are.
        caption: a paragraph of markdown, with labels in it by :func:`prose`, and no
            other markup than code.
    """
    head, *rows = (
        [v.translate(_TEX) for v in row] for row in (table.columns, *table.to_numpy())
    )
    body = ""
    for number, row in enumerate(rows):
        if number and row[:3] != rows[number - 1][:3] and "method" in table:
            body += "\\addlinespace\n"
        body += " & ".join(row) + " \\\\\n"
    caption = _plain(caption).translate(_TEX)
    return rf"""% needs \usepackage{{booktabs,longtable}}
\begin{{longtable}}{{{"l" * len(head)}}}
\caption{{{caption}}} \\
\toprule
{" & ".join(head)} \\
\midrule \endhead
{body}\bottomrule
\end{{longtable}}
"""

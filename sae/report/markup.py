"""Tables of text as Markdown and LaTeX, in which every text is printed as it is."""

import html
import re
import textwrap
from collections.abc import Mapping

import pandas as pd

WIDTH = 120  # columns of a paragraph's lines
# What would be markup: but a _ within a word, and an & that begins no entity, are
# themselves.
_MARKUP = re.compile(r"[\\`*|~$<]|\](?=\()|(?<![^\W_])_|_(?![^\W_])|&(?=#?\w+;)")
# Some readers of markdown take \< for the beginning of a tag.
_ENTITIES = {
    "<": "&lt;",
    "&": "&amp;",
}
# What would begin a heading, a quotation, a list or a line at the start of a paragraph.
_AT_START = re.compile(r"(\d*)([#>+=.)-])")
# And on a later line of it. A % begins a comment.
_AT_LINE_START = re.compile(r"(?<=\n)( *\d*)([>%]|[#+=.)-](?=[#=-]*(?:\s|$)))")
# An escape, an entity or a span of code, as they stand in a paragraph of markdown.
_ESCAPED = re.compile(
    r"\\(?P<sign>[!-/:-@[-`{-~])|&(?P<entity>lt|amp);|`(?P<code>[^`]*)`"
)
_TEX = str.maketrans(
    {
        **{sign: rf"\{sign}" for sign in "_%&#${}"},
        "<": r"$<$",
        ">": r"$>$",
        "\\": r"\textbackslash{}",
        "~": r"\textasciitilde{}",
        "^": r"\textasciicircum{}",
        "|": r"\textbar{}",
        # A row that begins with one of these would be an option of the line break
        # before it.
        "[": "{[}",
        "*": "{*}",
    }
)


def markdown(table: pd.DataFrame) -> str:
    """Return a pipe table of texts, padded so that it reads as it stands."""
    lines = [table.columns, *table.to_numpy()]
    rows = [[_escape(text) for text in line] for line in lines]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    rows.insert(1, ["-" * width for width in widths])
    text_lines = []
    for row in rows:
        cells = [text.ljust(width) for text, width in zip(row, widths, strict=True)]
        text_lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(text_lines)


def wrapped(paragraph: str) -> str:
    """Return a paragraph of markdown on lines of at most `WIDTH` columns."""
    return _filled(" ".join(paragraph.split()), indent="")


def column_key(meanings: Mapping[str, str]) -> str:
    """Return the key of a table, as a list in markdown.

    Args:
        meanings: {columns or marks, with commas between them: what they mean}.
    """
    bullets = []
    for names, meaning in meanings.items():
        code = ", ".join(f"`{name}`" for name in names.split(", "))
        bullets.append(_filled(f"- {code}: {meaning}.", indent="  "))
    return "\n".join(bullets)


def column_key_in_line(meanings: Mapping[str, str]) -> str:
    """Return the key of a table as sentences, without markup."""
    return " ".join(f"{names}: {meaning}." for names, meaning in meanings.items())


def _filled(text: str, indent: str) -> str:
    lines = textwrap.fill(
        text,
        WIDTH,
        subsequent_indent=indent,
        break_long_words=False,
        break_on_hyphens=False,
    )
    return _AT_LINE_START.sub(r"\1\\\2", lines)


def prose(text: str) -> str:
    """Return a text, such as a label, as a paragraph of markdown prints it as it is."""
    text = _escape(text)
    start = _AT_START.match(text)
    if start is None:
        return text
    return f"{start[1]}\\{start[2]}{text[start.end() :]}"


def _escape(text: str) -> str:
    """Return a text on one line, without markup."""
    on_one_line = " ".join(text.split())
    return _MARKUP.sub(
        lambda match: _ENTITIES.get(match[0], f"\\{match[0]}"), on_one_line
    )


def _printed_markup(markup: re.Match[str]) -> str:
    """Return what an escape, an entity or a span of code prints."""
    if markup["entity"]:
        return html.unescape(markup[0])
    return markup["sign"] or markup["code"] or ""


def latex(table: pd.DataFrame, caption: str) -> str:
    """Return a `longtable` with booktabs rules.

    There is a space between cells, which the first three columns tell apart.

    Args:
        table: Texts, which are printed as they are.
        caption: A paragraph of markdown, with labels in it by :func:`prose`, and no
            other markup than code.
    """
    lines = [table.columns, *table.to_numpy()]
    head, *rows = ([text.translate(_TEX) for text in line] for line in lines)
    body = ""
    for number, row in enumerate(rows):
        if number and row[:3] != rows[number - 1][:3] and "method" in table:
            body += "\\addlinespace\n"
        body += " & ".join(row) + " \\\\\n"
    printed_caption = _ESCAPED.sub(_printed_markup, " ".join(caption.split()))
    tex_caption = printed_caption.translate(_TEX)
    return rf"""% needs \usepackage{{booktabs,longtable}}
\begin{{longtable}}{{{"l" * len(head)}}}
\caption{{{tex_caption}}} \\
\toprule
{" & ".join(head)} \\
\midrule \endhead
{body}\bottomrule
\end{{longtable}}
"""

"""Lines of code of sae/ and workflow/, without docstrings, comments and blank lines: `python bench/loc.py`."""

import argparse
import ast
import io
import tokenize
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).parent.parent
NO_CODE = (
    tokenize.COMMENT,
    tokenize.NL,
    tokenize.NEWLINE,
    tokenize.INDENT,
    tokenize.DEDENT,
    tokenize.ENDMARKER,
)
DOCUMENTED = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)


def lines(text: str) -> int:
    """Those of a file of Python that hold code."""
    found: set[int] = set()
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type not in NO_CODE:
            found.update(range(token.start[0], token.end[0] + 1))
    for node in ast.walk(ast.parse(text)):
        if (
            isinstance(node, DOCUMENTED)
            and ast.get_docstring(node, clean=False) is not None
        ):
            found -= set(range(node.body[0].lineno, (node.body[0].end_lineno or 0) + 1))
    return len(found)


def main() -> None:
    """Print a line a room, and the sum."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--tiny", action="store_true", help="the same: it takes a second"
    )
    parser.parse_args()
    rooms: Counter[str] = Counter()
    for top in ("sae", "workflow"):
        for file in sorted((ROOT / top).rglob("*.py")):
            rooms["/".join(file.relative_to(ROOT).parts[:2])] += lines(
                file.read_text(encoding="utf-8")
            )
    for room, count in rooms.most_common():
        print(f"{count:>6}  {room}")
    print(f"{rooms.total():>6}  all")


if __name__ == "__main__":
    main()

"""Count signs of code that is hard to read, by room, and let no room get worse.

    python bench/readability.py            # counts of each room, per 1,000 statements
    python bench/readability.py --check    # fails where a room has more than recorded
    python bench/readability.py --record   # records the counts of today

The counts are signs, not goals: a name that passes and says nothing is worse than one
that is counted. `make lint` runs the check.
"""

import argparse
import ast
import json
import re
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parent.parent
RECORD = Path(__file__).with_suffix(".json")


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


# Names that do not say what they hold, and names that stand in for one.
VAGUE = _words(
    "all_ asked both by done every found given heavy here how it kept known left made "
    "now of one other others own read right said seen so some such taken that the "
    "then there these this those told tried wanted what when where which who whole "
    "why"
)
GENERIC = _words(
    "data foo info item items obj out res result results ret stuff temp thing things "
    "tmp val vals"
)
# How a docstring begins that has neither a subject nor an imperative.
NO_SUBJECT = re.compile(
    "(As|From|How|Its|Likewise|Of|Such|That|The same|These|Those|To|Until|What|Where"
    "|Whether) "
)
WIDEST = 88  # columns

SIGNS = {
    "vague": "names that do not say what they hold",
    "generic": "names that stand in for one, such as result",
    "walrus": "assignments within an expression, :=",
    "merged": "mappings or sets merged in passing, |=",
    "several": "assignments of several unlike values in one line",
    "no_subject": "docstrings that begin without a subject or an imperative",
    "wide": f"lines of more than {WIDEST} columns",
}


def count_signs(source: str) -> Counter[str]:
    """Count the signs in the text of a file, and its statements."""
    tree = ast.parse(source)
    counts: Counter[str] = Counter()
    counts["wide"] = sum(len(line) > WIDEST for line in source.splitlines())
    for node in ast.walk(tree):
        counts["statements"] += isinstance(node, ast.stmt)
        counts["walrus"] += isinstance(node, ast.NamedExpr)
        counts["merged"] += _is_merge(node)
        counts["several"] += _assigns_several(node)
        counts["no_subject"] += _lacks_subject(node)
        for name in names_made_by(node):
            counts["vague"] += name in VAGUE
            counts["generic"] += name in GENERIC
    return counts


def names_made_by(node: ast.AST) -> Iterator[str]:
    """Yield the names that a node makes, without underscores at their ends.

    These are variables, arguments, attributes that are set, and functions.
    """
    if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
        yield node.id.strip("_")
    elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
        yield node.attr.strip("_")
    elif isinstance(node, ast.arg):
        yield node.arg.strip("_")
    elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
        yield node.name.strip("_")


def _is_merge(node: ast.AST) -> bool:
    return isinstance(node, ast.AugAssign) and isinstance(node.op, ast.BitOr)


def _assigns_several(node: ast.AST) -> bool:
    if not isinstance(node, ast.Assign):
        return False
    return isinstance(node.targets[0], ast.Tuple) and isinstance(node.value, ast.Tuple)


def _lacks_subject(node: ast.AST) -> bool:
    if not isinstance(node, ast.FunctionDef | ast.ClassDef | ast.AsyncFunctionDef):
        return False
    docstring = ast.get_docstring(node)
    return docstring is not None and NO_SUBJECT.match(docstring) is not None


def rooms() -> dict[str, list[Path]]:
    """Return the Python files of each room.

    Rooms are the folders in sae/, its own files, the workflow, and bench.
    """
    folders = sorted(path.parent for path in (ROOT / "sae").glob("*/__init__.py"))
    by_room = {f"sae/{folder.name}": sorted(folder.rglob("*.py")) for folder in folders}
    by_room["sae"] = sorted((ROOT / "sae").glob("*.py"))
    by_room["workflow"] = sorted((ROOT / "workflow").rglob("*.py"))
    by_room["bench"] = sorted((ROOT / "bench").rglob("*.py"))
    return by_room


def count_by_room() -> dict[str, Counter[str]]:
    """Count the signs of each room."""
    by_room = {}
    for room, files in rooms().items():
        counts = [count_signs(file.read_text(encoding="utf-8")) for file in files]
        by_room[room] = sum(counts, Counter())
    return by_room


def worse_than(
    recorded: dict[str, dict[str, int]], counted: dict[str, Counter[str]]
) -> list[str]:
    """Return a line for each sign of which a room has more than is recorded."""
    lines = []
    for room, counts in counted.items():
        for sign, meaning in SIGNS.items():
            most = recorded.get(room, {}).get(sign, 0)
            if counts[sign] > most:
                lines.append(f"{room}: {counts[sign]} {meaning}, recorded are {most}")
    return lines


def main() -> None:
    """Print, check or record the counts."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    action = parser.add_mutually_exclusive_group()
    action.add_argument("--check", action="store_true")
    action.add_argument("--record", action="store_true")
    arguments = parser.parse_args()
    counted = count_by_room()

    if arguments.record:
        record = {
            room: {sign: counts[sign] for sign in SIGNS}
            for room, counts in counted.items()
        }
        RECORD.write_text(json.dumps(record, indent=1) + "\n")
    elif arguments.check:
        worse = worse_than(json.loads(RECORD.read_text()), counted)
        if worse:
            advice = "say it in plainer words, or see what --record would write"
            sys.exit("\n".join([*worse, f"bench/readability.py: {advice}"]))
    else:
        print(f"{'per 1,000 statements':22}" + "".join(f"{sign:>11}" for sign in SIGNS))
        for room, counts in counted.items():
            rates = [1000 * counts[sign] / counts["statements"] for sign in SIGNS]
            print(f"{room:22}" + "".join(f"{rate:11.1f}" for rate in rates))


if __name__ == "__main__":
    main()

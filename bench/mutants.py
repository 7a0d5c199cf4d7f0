"""Which faults do the tests see? Faults are put into the code by lot, one at a time.

    git clone . ../mutants && cd ../mutants && make setup
    PYTHONPATH=bench python bench/mutants.py results/bench/mutants.csv

Each mutant is one change at a place that is drawn by a seed: another comparison,
operator or constant, or a statement that is left out. The tests that run its line are
run, at most so many, those that run the least code first. A mutant is *killed* if one
fails or takes too long, and *alive* if all pass or none runs the line.

Which tests run which lines is measured first, once (.cache/mutants.coverage). The table
is written row by row, so that it goes on where it was stopped. The checkout is changed
meanwhile, and put back: use one of its own.
"""

import argparse
import ast
import os
import random
import re
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
from coverage import CoverageData

ROOT = Path(__file__).parent.parent
COVERAGE = ROOT / ".cache/mutants.coverage"
SETTINGS = ROOT / ".cache/mutants.ini"
# What stands behind a test's name: of pytest-cov, and of PYTEST_CURRENT_TEST.
AFTER_TEST = re.compile(r"(\|(setup|run|teardown)| \((setup|call|teardown)\))$")
CODE = ("sae", "workflow/sae_workflow")
# Tests that read code instead of running it, all of which would fail.
READ_CODE = ("tests/core/test_versions.py", "tests/core/test_codehash.py")
MOST_SECONDS = 300
COMPARISONS: dict[type[ast.cmpop], type[ast.cmpop]] = {
    ast.Lt: ast.LtE,
    ast.LtE: ast.Lt,
    ast.Gt: ast.GtE,
    ast.GtE: ast.Gt,
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
    ast.In: ast.NotIn,
    ast.NotIn: ast.In,
    ast.Is: ast.IsNot,
    ast.IsNot: ast.Is,
}
ARITHMETIC: dict[type[ast.operator], type[ast.operator]] = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.Div,
    ast.Div: ast.Mult,
    ast.FloorDiv: ast.Div,
    ast.Mod: ast.Mult,
    ast.Pow: ast.Mult,
    ast.BitAnd: ast.BitOr,
    ast.BitOr: ast.BitAnd,
}
MESSAGES = ("log", "progress", "details")  # Loggers, whose lines may be left out.


class Mutant(NamedTuple):
    """One change: the text between two places of a file, and what replaces it."""

    file: str
    line: int
    start: int
    end: int
    kind: str
    before: str
    after: str


def main() -> None:
    """Run the mutants that the table lacks, and print how many die in each room."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("table", type=Path, help="CSV file to write, or to go on with")
    parser.add_argument("--mutants", type=int, default=120)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--tests", type=int, default=100, help="for each, at most")
    arguments = parser.parse_args()

    if not COVERAGE.exists():
        measure_coverage()
    tests_of_lines, sizes = read_coverage()
    files = sorted(file for folder in CODE for file in (ROOT / folder).rglob("*.py"))
    places = [mutant for file in files for mutant in mutants_of(file)]
    drawn = random.Random(arguments.seed).sample(places, arguments.mutants)
    done = pd.read_csv(arguments.table) if arguments.table.exists() else pd.DataFrame()
    rows = done.to_dict("records")
    for number, mutant in enumerate(drawn[len(rows) :], len(rows) + 1):
        tests = tests_of_lines.get((mutant.file, mutant.line), set())
        chosen = sorted(tests, key=lambda test: (sizes[test], test))[: arguments.tests]
        started_at = time.monotonic()
        outcome = run(mutant, chosen)
        row = {
            **{key: getattr(mutant, key) for key in ("file", "line", "kind")},
            **{key: getattr(mutant, key)[:60] for key in ("before", "after")},
            "tests": len(chosen),
            "outcome": outcome,
            "seconds": round(time.monotonic() - started_at, 1),
        }
        rows.append(row)
        arguments.table.parent.mkdir(parents=True, exist_ok=True)
        pd.DataFrame(rows).to_csv(arguments.table, index=False)
        print(
            f"{number}/{len(drawn)} {outcome}: {mutant.file}:{mutant.line}", flush=True
        )

    table = pd.DataFrame(rows)
    table["room"] = table["file"].str.split("/").str[:2].str.join("/")
    is_killed = table["outcome"].isin(["killed", "too long"])
    by_room = is_killed.groupby(table["room"]).agg(["sum", "size"])
    print(by_room.rename(columns={"sum": "killed", "size": "mutants"}).to_string())
    print(f"{is_killed.sum()} of {len(table)} killed")


def measure_coverage() -> None:
    """Run all tests once, and keep which of them runs which line."""
    SETTINGS.parent.mkdir(exist_ok=True)
    SETTINGS.write_text(
        f"[run]\nsource = sae, sae_workflow\ndata_file = {COVERAGE}\n"
        "parallel = true\ncontext = ${PYTEST_CURRENT_TEST-}\n"
    )
    # This file is a plugin, too (`pytest_sessionstart`).
    options = ["-p", "mutants", "--cov", f"--cov-config={SETTINGS}"]
    options += ["--cov-context=test", "--cov-report="]
    command = [sys.executable, "-m", "pytest", *options]
    subprocess.run(command, cwd=ROOT, check=True)


def pytest_sessionstart(session: Any) -> None:
    """Let the processes that a test starts measure what they run, for that test."""
    if hasattr(session.config, "workerinput"):
        os.environ["COVERAGE_PROCESS_START"] = str(SETTINGS)


def read_coverage() -> tuple[dict[tuple[str, int], set[str]], Counter[str]]:
    """Return {(file, line): tests that run it}, and how many lines each test runs."""
    data = CoverageData(basename=str(COVERAGE))
    data.read()
    tests_of_lines: dict[tuple[str, int], set[str]] = {}
    for file in data.measured_files():
        # Tests run copies of the checkout, too.
        name = re.search(rf"/((?:{'|'.join(CODE)})/.*)$", file)
        if not name:
            continue
        for line, contexts in data.contexts_by_lineno(file).items():
            tests = {AFTER_TEST.sub("", context) for context in contexts} - {""}
            tests = {test for test in tests if not test.startswith(READ_CODE)}
            tests_of_lines.setdefault((name[1], line), set()).update(tests)
    sizes = Counter(test for tests in tests_of_lines.values() for test in tests)
    return tests_of_lines, sizes


def mutants_of(file: Path) -> Iterator[Mutant]:
    """Yield all mutants of a file, in the order of its code."""
    text = file.read_bytes()
    starts = [0]
    for line in text.splitlines(keepends=True):
        starts.append(starts[-1] + len(line))
    for node in nodes_of(ast.parse(text)):
        for kind, after in changes(node):
            start = starts[node.lineno - 1] + node.col_offset
            last_line, last_column = node.end_lineno or 0, node.end_col_offset or 0
            end = starts[last_line - 1] + last_column
            before = text[start:end].decode()
            name = str(file.relative_to(ROOT))
            yield Mutant(name, node.lineno, start, end, kind, before, after)


def nodes_of(tree: ast.AST) -> Iterator[ast.expr | ast.stmt]:
    """Yield the nodes of code that runs: not of annotations, texts and messages."""
    for field, value in ast.iter_fields(tree):
        if field in ("annotation", "returns"):
            continue
        for child in value if isinstance(value, list) else [value]:
            if not isinstance(child, ast.AST) or isinstance(child, ast.JoinedStr):
                continue
            if is_message(child):
                continue
            if isinstance(child, ast.expr | ast.stmt):
                yield child
            yield from nodes_of(child)


def is_message(node: ast.AST) -> bool:
    """Say whether a node is a call of a logger."""
    call = node.value if isinstance(node, ast.Expr) else None
    function = call.func if isinstance(call, ast.Call) else None
    owner = function.value if isinstance(function, ast.Attribute) else None
    return isinstance(owner, ast.Name) and owner.id in MESSAGES


def changes(node: ast.AST) -> Iterator[tuple[str, str]]:
    """Yield what may stand in place of a node: (kind of change, text)."""
    match node:
        case ast.Compare(left, [test], right) if type(test) in COMPARISONS:
            opposite = COMPARISONS[type(test)]()
            changed = ast.unparse(ast.Compare(left, [opposite], right))
            yield "comparison", f"({changed})"
        case ast.BinOp(left, sign, right) if type(sign) in ARITHMETIC:
            changed = ast.unparse(ast.BinOp(left, ARITHMETIC[type(sign)](), right))
            yield "operator", f"({changed})"
        case ast.BoolOp(word, values):
            and_or = ast.Or() if isinstance(word, ast.And) else ast.And()
            yield "operator", f"({ast.unparse(ast.BoolOp(and_or, values))})"
        case ast.UnaryOp(op=ast.Not() | ast.USub()):
            yield "operator", f"({ast.unparse(node.operand)})"
        case ast.Constant(value=bool() as value):
            yield "constant", str(not value)
        case ast.Constant(value=int() | float() as value):
            yield "constant", f"({value + 1})"
        case ast.Expr(value=ast.Call()) | ast.AugAssign() | ast.Raise():
            yield "statement left out", "pass"
        case ast.Continue() | ast.Break():
            yield "statement left out", "pass"
        case ast.Return(value=ast.expr()):
            yield "statement left out", "return None"


def run(mutant: Mutant, tests: list[str]) -> str:
    """Return what became of a mutant: killed, too long, alive or not run."""
    if not tests:
        return "not run"
    file = ROOT / mutant.file
    original = file.read_bytes()
    words = ROOT / ".cache/mutants.tests"
    words.write_text("\n".join(tests))
    changed = original[: mutant.start] + mutant.after.encode() + original[mutant.end :]
    options = ["-x", "-n", "2", "--dist", "worksteal", "-p", "no:cacheprovider"]
    try:
        file.write_bytes(changed)
        status = subprocess.run(
            [sys.executable, "-m", "pytest", *options, f"@{words}"],
            cwd=ROOT,
            env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            timeout=MOST_SECONDS,
        ).returncode
    except subprocess.TimeoutExpired:
        return "too long"
    finally:
        file.write_bytes(original)
    if status not in (0, 1, 2):  # 2: a test module cannot be imported.
        raise SystemExit(f"pytest ended with {status}: {mutant}")
    return "alive" if status == 0 else "killed"


if __name__ == "__main__":
    main()

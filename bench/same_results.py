"""Say in what the results of two runs differ, as before and after a cut of the code.

    cp -r results/demo /tmp/before
    python bench/same_results.py /tmp/before results/demo

It compares rows (metrics, selection, curves, latents) by their keys, and tables word by
word. The same code on the same machine gives the same bits, so anything that is printed
comes of a change. It ends with 1 if something differs.
"""

import argparse
from pathlib import Path

import pandas as pd

from sae.scoring.rows import CELL, KEY

KEYS = {
    "metrics.parquet": [*KEY, "protocol"],
    "selection.parquet": [*CELL, "method", "trial", "protocol"],
    "curves.parquet": [*KEY, "curve", "x"],
    "latents.parquet": [*KEY, "latent"],
}
TEXTS = ("tables/*.csv", "tables/*.md", "tables/*.tex", "claims.csv", "claims.md")


def main() -> None:
    """Print what differs."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("before", type=Path, help="results of an experiment")
    parser.add_argument("after", type=Path, help="those of another run of it")
    arguments = parser.parse_args()
    lines = differences(arguments.before, arguments.after)
    print("\n".join(lines) or "no difference")
    raise SystemExit(bool(lines))


def differences(before: Path, after: Path) -> list[str]:
    """Return a line for each column and each text that differs."""
    lines = []
    for name, key in KEYS.items():
        old, new = (pd.read_parquet(folder / name) for folder in (before, after))
        lines += [f"{name}: {line}" for line in differing_columns(old, new, key)]
    for pattern in TEXTS:
        files = {file.relative_to(before) for file in before.glob(pattern)}
        files |= {file.relative_to(after) for file in after.glob(pattern)}
        for file in sorted(files):
            texts = [read_text(folder / file) for folder in (before, after)]
            if texts[0] != texts[1]:
                lines.append(f"{file}: {first_difference(*texts)}")
    return lines


def differing_columns(
    before: pd.DataFrame, after: pd.DataFrame, key: list[str]
) -> list[str]:
    """Return a line for what rows are there, and for each column that differs."""
    lines = []
    for frame, other, word in ((before, after, "gone"), (after, before, "new")):
        columns = sorted(set(frame) - set(other))
        if columns:
            lines.append(f"columns {word}: {', '.join(columns)}")
    key = [name for name in key if name in before and name in after]
    before, after = (frame.set_index(key).sort_index() for frame in (before, after))
    if not before.index.equals(after.index):
        gone = len(before.index.difference(after.index))
        new = len(after.index.difference(before.index))
        lines.append(f"rows: {len(before)} and {len(after)}, {gone} gone, {new} new")
        return lines
    for name in before.columns.intersection(after.columns):
        old, new = before[name], after[name]
        differs = ~((old == new) | (old.isna() & new.isna()))
        if differs.any():
            line = f"{name}: {differs.sum()} of {len(old)}"
            if pd.api.types.is_numeric_dtype(old) and old.dtype != bool:
                line += f", at most {(new - old).abs().max():.3g}"
            place = " ".join(map(str, differs.idxmax()))
            lines.append(f"{line}; first {place}")
    return lines


def read_text(file: Path) -> list[str]:
    """Return the lines of a file, none if it is not there."""
    return file.read_text(encoding="utf-8").splitlines() if file.exists() else []


def first_difference(before: list[str], after: list[str]) -> str:
    """Say how many lines differ, and show the first."""
    if len(before) != len(after):
        return f"{len(before)} lines, {len(after)} after"
    pairs = [(old, new) for old, new in zip(before, after, strict=True) if old != new]
    return f"{len(pairs)} lines; first {pairs[0][0]!r}, after {pairs[0][1]!r}"


if __name__ == "__main__":
    main()

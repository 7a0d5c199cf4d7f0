"""bench/reference.py: the tables that are committed are what their rows give."""

import filecmp
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
KEPT = sorted(path.parent for path in (ROOT / "docs/results").glob("*/made_by.json"))
assert KEPT


@pytest.mark.slow
@pytest.mark.parametrize("kept", KEPT, ids=lambda folder: folder.name)
def test_every_table_follows_from_the_rows(kept, tmp_path):
    copy = tmp_path / kept.name
    copy.mkdir()
    for file in kept.glob("*.parquet"):
        shutil.copy(file, copy)
    shutil.copy(kept / "made_by.json", copy)
    own = ROOT / f"config/experiments/{kept.name}.yaml"
    overlay = ["--config", own] if own.exists() else []
    subprocess.run([sys.executable, "bench/reference.py", "rebuild", copy, *overlay], cwd=ROOT, check=True)
    names = sorted(f.relative_to(kept).as_posix() for f in kept.rglob("*") if f.suffix in (".csv", ".md"))
    names.remove("README.md")
    assert len(names) > 10 and filecmp.cmpfiles(kept, copy, names, shallow=False)[0] == names

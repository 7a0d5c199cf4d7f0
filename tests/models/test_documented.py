"""The Python that README.md and some pages of docs/ show runs.

It runs on small files of the names that it reads.
"""

import ast
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from conftest import ROOT
from scoring.examples import coder as make_coder

from sae.models import convert, saefile

BLOCKS = [
    pytest.param(code, id=f"{page} {number}")
    for page in ("README.md", "docs/api_train.md", "docs/other_saes.md")
    for number, code in enumerate(
        re.findall(r"^```python\n(.*?)^```", (ROOT / page).read_text(), re.S | re.M)
    )
]


def write_example_file(name):
    """Write a small file of a name, or what a folder of embeddings holds.

    Args:
        name: a path as the pages have it: a file, a folder of embeddings ("data/"), or
            a folder of a checkpoint.
    """
    path = Path(name)
    path.parent.mkdir(parents=True, exist_ok=True)
    coder = make_coder(0, d=6, m=16, k=4)
    if name.endswith("/"):
        write_example_file(f"{name}embeddings.npy")
        write_example_file(f"{name}index.parquet")
    elif path.suffix == ".npy":
        embeddings = np.random.default_rng(0).normal(size=(60, 6))
        np.save(path, embeddings.astype(np.float32))
    elif path.suffix == ".parquet":
        index = {"label": np.arange(60) % 3, "group": [f"g{row}" for row in range(60)]}
        pd.DataFrame(index).to_parquet(path)
    elif path.suffix == ".safetensors":
        saefile.save(coder, path)
    else:
        convert.export(coder, "saelens", path)


@pytest.mark.parametrize("code", BLOCKS)
def test_the_python_of_the_pages_runs(code, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    constants = [
        node.value
        for node in ast.walk(ast.parse(code))
        if isinstance(node, ast.Constant)
    ]
    for constant in constants:
        if isinstance(constant, str) and "/" in constant:
            write_example_file(constant)
    exec(compile(code, "page", "exec"), {})

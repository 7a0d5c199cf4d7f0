"""The Python that README.md and docs/other_saes.md show runs, on small files of the names that it reads."""

import ast
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from conftest import ROOT
from scoring.examples import coder

from sae.models import convert, saefile

BLOCKS = [
    pytest.param(code, id=f"{page} {number}")
    for page in ("README.md", "docs/other_saes.md")
    for number, code in enumerate(
        re.findall(r"^```python\n(.*?)^```", (ROOT / page).read_text(), re.S | re.M)
    )
]


def write(name):
    """A small file of this name; of a folder of embeddings what it holds."""
    place, made = Path(name), coder(0, d=6, m=16, k=4)
    place.parent.mkdir(parents=True, exist_ok=True)
    if name.endswith("/"):
        write(f"{name}embeddings.npy")
        write(f"{name}index.parquet")
    elif place.suffix == ".npy":
        np.save(place, np.random.default_rng(0).normal(size=(60, 6)).astype(np.float32))
    elif place.suffix == ".parquet":
        pd.DataFrame(
            {"label": np.arange(60) % 3, "group": [f"g{row}" for row in range(60)]}
        ).to_parquet(place)
    elif place.suffix == ".safetensors":
        saefile.save(made, place)
    else:
        convert.export(made, "saelens", place)


@pytest.mark.parametrize("code", BLOCKS)
def test_the_python_of_the_pages_runs(code, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    texts = [
        node.value
        for node in ast.walk(ast.parse(code))
        if isinstance(node, ast.Constant)
    ]
    for text in texts:
        if isinstance(text, str) and "/" in text:
            write(text)
    exec(compile(code, "page", "exec"), {})

"""The code hash follows meaning and imports, nothing else."""

import pytest

from sae.core import codehash


@pytest.fixture
def package(tmp_path, monkeypatch):
    root = tmp_path / "sae"
    (root / "sub").mkdir(parents=True)
    files = {
        "__init__.py": "from sae import b\n",
        "a.py": "from sae.sub.c import f\n\ndef g(x):\n    return f(x) + 1\n",
        "b.py": "VALUE = 1\n",
        "sub/d.py": "from . import c\nfrom ..b import VALUE\n",
        "sub/__init__.py": "",
        "sub/c.py": 'def f(x):\n    """Doc."""\n    return 2 * x\n',
    }
    for name, text in files.items():
        (root / name).write_text(text)
    monkeypatch.setattr(codehash, "ROOT", root)
    return root


def test_closure_leaves_out_the_top_package_and_what_is_not_imported(package):
    assert codehash.closure(["sae.a"]) == ["sae.a", "sae.sub", "sae.sub.c"]


def test_relative_imports_count(package):
    assert codehash.closure(["sae.sub.d"]) == ["sae.b", "sae.sub", "sae.sub.c", "sae.sub.d"]


@pytest.mark.parametrize(
    ("file", "text", "changes"),
    [
        ("sub/c.py", 'def f(x):\n    """Other words."""\n\n    # A remark.\n    return (2 * x)\n', False),
        ("sub/c.py", "def f(x):\n    return 2 * x\n", False),
        ("sub/c.py", "def f(x):\n    return 3 * x\n", True),
        ("sub/c.py", "def f(x, y=0):\n    return 2 * x\n", True),
        ("a.py", "from sae import b\nfrom sae.sub.c import f\n\ndef g(x):\n    return f(x) + 1\n", True),
        ("b.py", "VALUE = 2\n", False),
        ("__init__.py", "import os\n", False),
    ],
)
def test_what_changes_the_hash(package, file, text, changes):
    before = codehash.code_hash("sae.a")
    (package / file).write_text(text)
    assert (codehash.code_hash("sae.a") != before) == changes


def test_stages_do_not_depend_on_each_other():
    training, plots = codehash.closure(["sae.training.loop"]), codehash.closure(["sae.report.plots.lambda_sweep"])
    assert training == ["sae.models.inputs", "sae.models.coder", "sae.training.loop"]
    assert "sae.training.loop" not in plots
    scoring = codehash.closure(["sae.scoring.score"])
    assert not {"sae.report.plots.lambda_sweep", "sae.training.loop", "sae.bank.train", "sae.data.fetch"} & set(scoring)

"""The code hash follows meaning and imports: modules may move and take other names."""

import ast
import sys

import pytest
from conftest import ROOT

from sae.core import codehash, registry
from sae.core.errors import UserError

ENTRY = "sae_extensions.penalties.mine"
IMPORTS = "from sae_extensions import helper\nfrom sae_extensions.sub.one import f\n"
MINE = IMPORTS + "\n\ndef g(x):\n    return helper.h(f(x)) + 1\n"
FILES = {
    "penalties/mine.py": MINE,
    "helper.py": "def h(x):\n    return -x\n",
    "sub/one.py": 'def f(x):\n    """Doc."""\n    return 2 * x\n',
    "objectives/theirs.py": "from ..helper import h\n",
    "other.py": "VALUE = 1\n",
}


@pytest.fixture
def hash_of(extend):
    """Return a function that hashes an entry in a new folder of extensions.

    The folder has `FILES`, some of them changed; None leaves one out.
    """

    def make(changes, entry=ENTRY):
        texts = (FILES | changes).items()
        extend({name: text for name, text in texts if text is not None})
        return codehash.code_hash(entry)

    return make


@pytest.fixture
def hash_of_text(hash_of):
    """Return a function that hashes an entry with a text alone.

    The text may import from two modules, `a` and `b`.
    """
    modules = {
        "a.py": "def f(): return 1\ndef g(): return 2\n",
        "b.py": "def f(): return 3\ndef g(): return 4\n",
    }
    return lambda text: hash_of({"penalties/mine.py": text, **modules})


SAME = {
    "comments, docstrings, layout": {
        "sub/one.py": 'def f(x):\n    "Other."\n\n    # Said.\n    return (2\n  * x)\n'
    },
    "other entries": {
        "objectives/theirs.py": None,
        "penalties/next.py": "X = 1\n",
        "metrics/next.py": "not Python",
    },
    "comments of what is not imported": {"other.py": "VALUE = 1  # Said.\n"},
    "the order of imports": {
        "penalties/mine.py": "\n".join(IMPORTS.split("\n")[::-1])
        + MINE.removeprefix(IMPORTS)
    },
    "a module that moved": {
        "penalties/mine.py": MINE.replace("sub.one", "elsewhere"),
        "elsewhere.py": FILES["sub/one.py"],
        "sub/one.py": None,
    },
    "a module under another name": {
        "penalties/mine.py": MINE.replace("helper", "tools"),
        "tools.py": FILES["helper.py"],
        "helper.py": None,
    },
    "a module under another name, the old one kept here": {
        "penalties/mine.py": MINE.replace("import helper", "import tools as helper"),
        "tools.py": FILES["helper.py"],
    },
    "relative imports": {
        "penalties/mine.py": MINE.replace("sae_extensions.sub", "..sub").replace(
            "sae_extensions", ".."
        )
    },
    "hidden files, and what Python and editors leave": {
        ".git/HEAD": "ref",
        "penalties/.mine.py.swp": "x",
        "penalties/mine.py~": "x",
        "penalties/__pycache__/mine.cpython-311.pyc": "x",
    },
}
OTHER = {
    "an imported function": {"sub/one.py": "def f(x):\n    return 3 * x\n"},
    "a signature": {"sub/one.py": "def f(x, y=0):\n    return 2 * x\n"},
    "a helper that is imported as a module": {"helper.py": "def h(x):\n    return x\n"},
    "one more import": {
        "penalties/mine.py": "from sae_extensions import other\n" + MINE
    },
    "a number that becomes text": {"penalties/mine.py": MINE.replace("+ 1", "+ '1'")},
    "a file that is not Python": {"penalties/weights.json": "[1]"},
    "YAML, as a table of weights": {"weights.yaml": "a: 1"},
    "notes, which an entry may read": {"penalties/words.md": "cat"},
    "compiled Python beside its source": {"helper.pyc": "x"},
    "a module that no import shows": {"other.py": "VALUE = 2\n"},
    "a helper of the entries": {"penalties/_near.py": "VALUE = 2\n"},
    "a module that nothing can import": {"a.b.py": "VALUE = 2\n"},
    "a template that is no Python": {"template.py": "{{ name }} = "},
    "a function's name": {
        "penalties/mine.py": MINE.replace("f(x)", "e(x)").replace(
            "import f", "import e"
        ),
        "sub/one.py": "def e(x):\n    return 2 * x\n",
    },
}


@pytest.mark.parametrize("changes", SAME.values(), ids=SAME)
def test_what_leaves_the_hash_alone(hash_of, changes):
    assert hash_of(changes) == hash_of({})


@pytest.mark.parametrize("changes", OTHER.values(), ids=OTHER)
def test_what_changes_the_hash(hash_of, changes):
    assert hash_of(changes) != hash_of({})


def test_an_entry_may_move_and_be_renamed(hash_of):
    moved = {"penalties/mine.py": None, "objectives/yours.py": MINE}
    assert hash_of(moved, "sae_extensions.objectives.yours") == hash_of({})


def test_a_process_runs_what_it_hashed_and_sees_other_files_change(
    hash_of, tmp_path, monkeypatch
):
    monkeypatch.setattr(sys, "meta_path", list(sys.meta_path))
    codehash.run_what_is_hashed()
    planned = hash_of({"penalties/weights.json": "[1]"})
    (tmp_path / "extensions0/helper.py").write_text("def h(x):\n    return abs(x)\n")
    assert (
        registry.load("penalty", "mine").g(3) == -5
        and codehash.code_hash(ENTRY) == planned
    )
    (tmp_path / "extensions0/penalties/weights.json").write_text("[2]")
    assert codehash.code_hash(ENTRY) != planned
    (tmp_path / "extensions0/penalties/weights.json").write_text("[1]")
    registry.extend(tmp_path / "extensions0")  # As a new process does.
    assert (
        codehash.code_hash(ENTRY) != planned
        and registry.load("penalty", "mine").g(3) == 7
    )


@pytest.mark.parametrize(
    ("text", "swapped_text"),
    [
        (
            "def f(x): return x\ndef g(x): return -x\n",
            "def g(x): return x\ndef f(x): return -x\n",
        ),
        ("from A import f\nfrom B import g\n", "from B import f\nfrom A import g\n"),
        (
            "from A import f\nfrom A import g\n",
            "from A import f as g\nfrom A import g as f\n",
        ),
        ("from A import f\nfrom B import f\n", "from B import f\nfrom A import f\n"),
        (
            "from X import a, b\ny = a.f() - b.f()\n",
            "from X import b as a, a as b\ny = a.f() - b.f()\n",
        ),
        (
            "import A as m, B as n\ny = m.f() - n.f()\n",
            "import B as m, A as n\ny = m.f() - n.f()\n",
        ),
        ("from math import sin, cos\n", "from math import sin as cos, cos as sin\n"),
        # A name that stands for a module in one place and for an argument in another.
        (
            "from X import a\ndef h(a, b): return a.f()\n",
            "from X import a\ndef h(b, a): return a.f()\n",
        ),
    ],
)
def test_swaps_are_seen(hash_of_text, text, swapped_text):
    def with_whole_names(short):
        return (
            short.replace("A", "sae_extensions.a")
            .replace("B", "sae_extensions.b")
            .replace("X", "sae_extensions")
        )

    assert hash_of_text(with_whole_names(text)) != hash_of_text(
        with_whole_names(swapped_text)
    )


TALKS = """
import logging
from sae.core.errors import Problem, UserError

log = logging.getLogger(__name__)

class Lost(Exception):
    pass

def f(x):
    log.info("so %s", x)
    assert x < 9, "large"
    if x < 0:
        raise UserError(f"{x} is negative") from None
    if x > 5:
        raise Lost(x)
    return 2 * x

def problems(x):
    if x > 7:
        yield Problem("lr", "too high")
"""


@pytest.mark.parametrize(
    ("old", "new", "counts"),
    [
        ('    log.info("so %s", x)\n', "", False),
        ("import logging\n", "import logging\nimport warnings\n", False),
        ('"large"', '"too large"', False),
        ("too high", "too high; lower it", False),
        ("x < 9", "x < 8", True),
        ("if x > 7", "if x > 8", True),
        ("if x < 0", "if x < 1", True),
        ('raise UserError(f"{x} is negative") from None', "pass", True),
        ("raise UserError", "raise ValueError", True),
        (
            "Lost(x)",
            "Lost(-x)",
            True,
        ),  # An exception of the project may carry what is recorded.
        (
            "logging.getLogger(__name__)",
            "[]",
            True,
        ),  # No logger: its calls may do something.
        (
            "log =",
            "VERSION = 2\nlog =",
            True,
        ),  # A helper's, of which no version speaks.
    ],
)
def test_what_code_says_to_people_does_not_count(hash_of_text, old, new, counts):
    assert (
        old in TALKS
        and (hash_of_text(TALKS.replace(old, new)) != hash_of_text(TALKS)) == counts
    )


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"helper.py": "def h(x):\n    from sae_extensions.penalties import mine\n"},
            "in a circle: sae_extensions.penalties.mine -> sae_extensions.helper -> "
            "sae_extensions.penalties.mine",
        ),
        (
            {"helper.py": "def h(x):\n    return (\n"},
            r"helper\.py line 2 is not valid Python",
        ),
        ({"helper.py": "import sae.nothing\n"}, r"there is no module sae\.nothing"),
    ],
)
def test_what_cannot_be_hashed_is_told(hash_of, changes, message):
    with pytest.raises(UserError, match=message):
        hash_of(changes)


MODULES = sorted(
    ".".join(file.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
    for file in ROOT.glob("sae/**/*.py")
)


def test_no_module_of_the_project_imports_another_in_a_circle():
    assert codehash.code_hash(*MODULES)


def test_the_core_rests_on_no_other_room():
    """Else what it takes from there would be in no hash."""
    for file in ROOT.glob("sae/core/*.py"):
        imports = [
            n
            for n in ast.walk(ast.parse(file.read_text()))
            if isinstance(n, ast.Import | ast.ImportFrom)
        ]
        names = [getattr(n, "module", None) or a.name for n in imports for a in n.names]
        assert not [
            name
            for name in names
            if name.startswith("sae.") and not name.startswith("sae.core")
        ], file


def test_rooms_hold_no_code():
    """Importing a module runs the packages above it, which the hash does not count."""
    for file in ROOT.glob("sae/*/**/__init__.py"):
        assert not [
            node
            for node in ast.parse(file.read_text()).body
            if not codehash._is_docstring(node)
        ], file


def test_stages_do_not_depend_on_each_other(monkeypatch):
    def hashed(module):
        monkeypatch.setattr(codehash, "_module_hashes", {})
        codehash.code_hash(module)
        return {name for name, _ in codehash._module_hashes}

    def rooms(module):
        return {name.split(".")[1] for name in hashed(module)}

    assert rooms("sae.training.loop") == {"models", "training"}
    assert rooms("sae.data.embed") == {"data"}
    # Of training and its banks others know what an SAE and a method are.
    known = {"sae.bank.plan", "sae.bank.sae", "sae.training.recipe"}
    of_scoring = hashed("sae.scoring.stage") - known
    assert not {"training", "report"} & {name.split(".")[1] for name in of_scoring}
    of_tables = hashed("sae.report.tables") - known
    assert not {"training", "bank"} & {name.split(".")[1] for name in of_tables}
    assert not {"sae.data.embed", "sae.data.fetch"} & hashed("sae.bank.train")

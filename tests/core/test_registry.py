"""A folder is a registry: its files are entries, whose heads are read without a run."""

import importlib
import subprocess
import sys

import pytest
from pydantic import ValidationError
from support.errors import refused_naming

from sae.core import registry
from sae.core.errors import UserError
from sae.core.options import Options

HEAD = '''"""What it is."""

from typing import Literal

import torch
from pydantic import Field, field_validator

from sae.core.options import Count
from sae.core.options import Options as Base

raise RuntimeError("this file was run")

LARGEST = 4
READS: tuple[str, ...] = ("train", "val")
MADE = torch.zeros(3)


class StepOptions(Base):
    at: Count = 1


class Options(Base):
    """What may be set."""

    size: int = Field(LARGEST, le=LARGEST, description="Of it.")
    kind: Literal["a", "b"]
    step: StepOptions = StepOptions()

    @field_validator("kind")
    @classmethod
    def _not_b(cls, kind):
        if kind == "b":
            raise ValueError("b is no good")
        return kind


def helper(x: "torch.Tensor") -> None: ...
'''


def test_a_head_is_read_without_running_the_file(extend):
    extend({"penalties/mine.py": HEAD})
    head = registry.head("penalty", "mine")
    assert head.constants == {"LARGEST": 4, "READS": ("train", "val")}
    assert issubclass(head.options, Options)
    assert head.options(kind="a").model_dump() == {
        "size": 4,
        "kind": "a",
        "step": {"at": 1},
    }
    for wrong in (
        {"kind": "a", "size": 5},
        {"kind": "b"},
        {"kind": "a", "sise": 1},
        {"kind": "a", "step": {"at": 0}},
    ):
        with pytest.raises(ValidationError):
            head.options(**wrong)
    assert (
        head.options.model_json_schema()["properties"]["size"]["description"]
        == "Of it."
    )
    with pytest.raises(RuntimeError, match="this file was run"):
        registry.load("penalty", "mine")


def test_an_entry_without_options_has_none(extend):
    extend({"penalties/mine.py": "import torch\n"})
    assert registry.head("penalty", "mine") == ({}, Options, {"torch"})


def test_a_head_knows_what_the_file_defines(extend):
    lines = [
        "from x import y, z as penalty",
        "try:",
        "    import a",
        "except ImportError:",
        "    b = c = None",
        "class D:",
        "    def e(self): ...",
        "async def f(g):",
        "    h = 1",
        "i.j = k[l] = m(n)",
        "if o: p: int = 1",
    ]
    extend({"penalties/mine.py": "\n".join(lines)})
    assert registry.head("penalty", "mine").defined_names == {
        "y",
        "penalty",
        "a",
        "b",
        "c",
        "D",
        "f",
        "p",
    }


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "import torch\nfrom sae.core.options import Options as Base\n"
            "class Options(Base):\n    x: torch.dtype\n",
            r"penalty mine: .* Options of .*mine\.py .*NameError: .*torch.*pydantic",
        ),
        (
            "from pydantic import BaseModel\nclass Options(BaseModel):\n    x: int\n",
            "must derive from sae.core.options",
        ),
        (
            HEAD.replace(
                'if kind == "b":',
                "helper(kind)\n        if [t for t in kind if t in torch.__all__]:",
            ),
            r"the class Options of .*mine\.py uses helper: it may use constants",
        ),
    ],
)
def test_a_head_that_cannot_be_read_is_told(extend, text, message):
    extend({"penalties/mine.py": text})
    with pytest.raises(UserError, match=message):
        registry.head("penalty", "mine")


def assert_none_is_loaded(code, modules):
    """Check that a program in a new process loads none of some modules."""
    listing = f"import sys; print([name for name in {modules} if name in sys.modules])"
    process = subprocess.run(
        [sys.executable, "-c", f"{code}\n{listing}"], capture_output=True, text=True
    )
    assert process.stdout == "[]\n", process.stdout + process.stderr


def test_the_heads_of_all_entries_are_read_and_nothing_heavy_is_imported():
    code = (
        "from sae.core import registry\n"
        "for kind in registry.PACKAGES:\n"
        "    [registry.head(kind, name) for name in registry.names(kind)]"
    )
    heavy = ["torch", "numpy", "pandas", "sklearn", "matplotlib"]
    assert_none_is_loaded(code, heavy)


def test_a_job_that_scores_loads_little_beside_pytorch():
    """Each of these takes it half a second or more, whatever it scores."""
    metrics = "reconstruction monosemanticity purity detection firing names recovery"
    code = (
        "from sae.core import registry; import sae.scoring.stage\n"
        f"for name in {metrics.split()}:\n"
        "    registry.load('metric', name)"
    )
    slow = ["scipy.stats", "sklearn", "torch._dynamo", "torchvision"]
    assert_none_is_loaded(code, slow)


def test_an_unknown_entry_lists_those_there_are(extend):
    extend(
        {"penalties/mine.py": "", "penalties/_helper.py": "", "datasets/other.py": ""}
    )
    ours = [
        "both",
        "decoder_orthogonality",
        "l1_l2_ratio",
        "monoloss",
        "off_support_l1",
    ]
    assert registry.names("penalty") == sorted([*ours, "mine"])
    with refused_naming("no penalty 'their'", "off_support_l1", "mine"):
        registry.load("penalty", "their")


def test_an_entry_may_import_what_lies_beside_it(extend):
    files = {
        "penalties/mine.py": "from sae_extensions import helper\n"
        "from sae_extensions.penalties._near import TWO\n"
        "SUM = helper.ONE + TWO\n",
        "penalties/_near.py": "TWO = 2\n",
        "helper.py": "ONE = 1\n",
    }
    extend(files)
    assert registry.module_name("penalty", "mine") == "sae_extensions.penalties.mine"
    assert registry.load("penalty", "mine").SUM == 3
    # The same name elsewhere is another module, and its helper too.
    extend(files | {"helper.py": "ONE = 10\n"})
    assert registry.load("penalty", "mine").SUM == 12
    registry.extend(None)
    assert "mine" not in registry.names("penalty")
    with pytest.raises(ImportError):
        importlib.import_module("sae_extensions.helper")


def test_an_entry_that_cannot_be_imported_is_told(extend):
    extend({"penalties/mine.py": "import no_such_package\n"})
    with refused_naming("penalty mine", "mine.py", "no_such_package"):
        registry.load("penalty", "mine")


def test_a_folder_that_is_not_there_or_shadows_an_entry_is_refused(extend, tmp_path):
    with pytest.raises(UserError, match="nowhere is no folder"):
        registry.extend(tmp_path / "nowhere")
    with refused_naming("penalties/l1_l2_ratio.py", "penalty of the project", "rename"):
        extend({"penalties/l1_l2_ratio.py": "", "datasets/mine.py": ""})
    for kind, meant in (("penalty", "penalties"), ("metric", "metrics")):
        with pytest.raises(
            UserError, match=f"/{kind} is no kind of entry; did you mean {meant}\\?"
        ):
            extend({f"{kind}/mine.py": "", "penalties/other.py": ""})
    with refused_naming("penalties/mine/__init__.py", "mine.py", "rename"):
        extend({"penalties/mine.py": "", "penalties/mine/__init__.py": ""})
    assert "mine" not in registry.names("dataset")
    extend({"penalties_of_mine/mine.py": "", "data/mine.py": ""})
    extend({"penalties/mine.py": "", "penalties/mine/weights.json": ""})


def test_a_folder_is_no_entry(extend):
    folder = extend({"metrics/mine.py": "VERSION = 1\n"})
    (folder / "metrics/theirs.py").mkdir()
    assert "mine" in registry.names("metric")
    assert "theirs" not in registry.names("metric")

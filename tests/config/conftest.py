"""Entries of a user's own."""

import pytest
from config.common import FIGURE, METRIC

from sae.core import registry


@pytest.fixture(autouse=True)
def no_extensions():
    """Forget a test's entries after it."""
    yield
    registry.extend(None)


@pytest.fixture
def extensions(tmp_path):
    """Return a folder with an entry of each kind, none of which can be run."""

    def add(place, text):
        file = tmp_path / place
        file.parent.mkdir(exist_ok=True)
        file.write_text(f"raise RuntimeError('it was run')\n{text}")

    options = (
        "from pydantic import Field, field_validator\n"
        "from sae.core.options import Options as Base\n"
        "class Options(Base):\n    {}\n"
    )
    add("datasets/mine.py", "def load(): ...\n" + options.format("place: str"))
    add("datasets/loose.py", "from x import load")
    add(
        "backbones/mine.py",
        "def load(): ...\nFROM_HUB = True\n" + options.format("depth: int = 3"),
    )
    add(
        "objectives/mine.py",
        "class Objective: ...\n" + options.format("jitter: float = Field(ge=0)"),
    )
    add("penalties/mine.py", "def penalty(): ...\n" + options.format("power: int = 2"))
    add(
        "penalties/greedy.py",
        "def penalty(): ...\n" + options.format("lr: float = 2.0"),
    )
    check = "    @field_validator('p')\n    def check(cls, p): return p.lower()\n"
    add(
        "penalties/faulty.py", "def penalty(): ...\n" + options.format("p: int") + check
    )
    add(
        "penalties/mixed.py",
        "def penalty(): ...\n" + options.format("form: int | float | str"),
    )
    add(
        "penalties/jittered.py",
        "def penalty(): ...\n" + options.format("jitter: float = 2.0"),
    )
    add("metrics/mine.py", METRIC + options.format("bins: int = 10"))
    add("figures/mine.py", FIGURE)
    return tmp_path

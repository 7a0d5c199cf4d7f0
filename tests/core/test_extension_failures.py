"""Entries of one's own that fail are named by their line; the log has the traceback."""

import re

import pytest
from torch.utils.data import DataLoader
from training.common import data, entries, settings

from sae.core import extension_failures, registry
from sae.training import loop

HEAD = """from matplotlib.figure import Figure
from sae_extensions import helper
"""
DRAW = f"{HEAD}def draw(results, names):\n    "
FROM_ANOTHER = """try:
        helper.deeper()
    except KeyError:
        raise OSError('odd')
"""


@pytest.fixture
def plot(tmp_path, extend, run_step):
    """Return a function that draws a figure of one's own by the command line.

    It takes the text of the figure's file, and returns the exit code and the lines that
    were printed.
    """
    helper = "def deeper():\n    raise KeyError('first\\nand second')\n"

    def run(text, *options):
        mine = extend({"helper.py": helper, "figures/drawn.py": text})
        command = ["--extensions", mine, "plot", "--name", "drawn", *options]
        command += ["--results", tmp_path, "--out", tmp_path / "out", "--settings"]
        names = '{"methods": {}, "datasets": {}, "backbones": {}}'
        code, printed = run_step(*command, names)
        printed = printed.replace(str(mine), "/mine").replace(str(tmp_path), "")
        return code, printed.splitlines()

    return run


@pytest.mark.parametrize(
    ("text", "place", "message"),
    [
        (
            f"{DRAW}helper.deeper()\n",
            "helper.py line 2",
            r"KeyError: 'first\\nand second'",
        ),
        (
            f"{HEAD}undefined\n",
            "figures/drawn.py line 3",
            "NameError: name 'undefined' is not defined",
        ),
        (
            f"{DRAW}raise ValueError('x\\ny' * 999)\n",
            "figures/drawn.py line 4",
            r"ValueError: x yx .*\.\.\.",
        ),
        (DRAW + FROM_ANOTHER, "figures/drawn.py line 7", "OSError: odd"),
    ],
)
def test_the_line_that_failed_comes_first_and_the_traceback_is_in_the_log(
    plot, tmp_path, text, place, message
):
    code, lines = plot(text, "--log", str(tmp_path / "log"))
    assert (code, lines[0]) == (1, f"error: figure drawn failed at /mine/{place}")
    assert re.fullmatch(f"  {message}", lines[1])
    assert lines[2:] == ["  the whole traceback is in /log"]
    assert len(lines[1]) <= 402
    log = (tmp_path / "log").read_text()
    assert log.index(f"/{place}") < log.index("Traceback (most recent call last)")


def test_what_a_process_that_decodes_reports_has_the_line_too(extend):
    mine = extend({"datasets/mine.py": "def opened(path):\n    return path[9]\n"})
    opened = registry.load("dataset", "mine").opened
    workers = {"num_workers": 1, "multiprocessing_context": "fork"}
    with pytest.raises(IndexError) as caught:
        list(DataLoader(["path"], collate_fn=opened, **workers))
    explanation = extension_failures.explain(caught.value, "dataset")
    place, message = explanation.split("\n")
    assert place == f"dataset mine failed at {mine}/datasets/mine.py line 2"
    assert message.startswith("  IndexError: ")


def test_without_a_log_the_traceback_follows(plot):
    code, lines = plot(f"{DRAW}return 1 / 0\n")
    assert (code, lines[0]) == (
        1,
        "error: figure drawn failed at /mine/figures/drawn.py line 4",
    )
    assert lines[2:4] == ["plot failed", "Traceback (most recent call last):"]


def test_what_fails_after_an_entry_has_run_names_the_entries_that_were_loaded(
    plot, tmp_path
):
    code, lines = plot(
        f"{DRAW}return Figure((1e6, 1e6))\n", "--log", str(tmp_path / "log")
    )
    assert (code, len(lines)) == (1, 3)
    assert lines[0].startswith("error: plot failed after code of your own had run")
    assert lines[0].endswith(": figure drawn (/mine/figures/drawn.py)")
    assert lines[1].startswith("  ValueError: ")


def test_a_change_in_place_that_autograd_minds_names_the_penalty(extend):
    code = (
        "def penalty(batch):\n"
        "    raised = batch.a.exp()\n"
        "    raised += 1\n"
        "    return raised.sum(dim=1)\n"
    )
    mine = extend({"penalties/mine.py": code})
    s = settings(penalty="mine", mask="all", lam=0.1)
    with pytest.raises(RuntimeError) as caught:
        loop.train(data(), s, *entries(s))
    place, message = extension_failures.explain(caught.value, "train").split("\n")
    assert place.endswith(f": penalty mine ({mine}/penalties/mine.py)")
    assert message.startswith("  RuntimeError: one of the var")
    # Without entries of one's own it is the project's fault.
    registry.extend(None)
    assert extension_failures.explain(caught.value, "train") is None

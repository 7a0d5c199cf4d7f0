"""Options of commands are made from parameters; the real steps' command lines."""

import argparse
import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
from conftest import ROOT
from report.compared import MADE_BY, compared_rows

from sae.__main__ import main, parser
from sae.core import command, files
from sae.core.options import Count, Options
from sae.steps import STEPS, Step


class Plan(Options):
    name: str
    k: Count


@dataclass(frozen=True)
class Place:
    """A place.

    Attributes:
        store: where it
            lies, 100 % of it.
        shared: others.
    """

    store: Path
    shared: tuple[Path, ...] = ()


def work(
    word: str,
    /,
    settings: Plan,
    place: Place,
    bank_file: Path,
    *,
    others: dict[str, Path] | None = None,
    k: Count = 1,
):
    """Work.

    Args:
        bank_file, k: of both.
    """
    return word, settings, place, bank_file, others, k


def called(*words):
    parser = argparse.ArgumentParser()
    command.add_options(parser, work)
    return command.call_with_options(work, vars(parser.parse_args(words)))


NEEDED = ["it", "--settings", '{"name": "a", "k": 2}', "--store", "s", "--bank", "b"]


def test_help_says_defaults_that_say_something():
    form = argparse.ArgumentParser()
    command.add_options(form, work)
    text_of_option = {action.dest: action.help for action in form._actions}
    assert text_of_option["k"].endswith("(default: %(default)s)")
    assert "default" not in text_of_option["others"]
    assert "(default: 1)" in form.format_help()


def test_words_become_the_values_of_parameters_and_of_a_dataclass_fields():
    assert called(*NEEDED) == (
        "it",
        Plan(name="a", k=2),
        Place(Path("s")),
        Path("b"),
        None,
        1,
    )
    values = called(
        *NEEDED, "--shared", "x", "y z", "--others", "one=1", "two=a=b", "--k", "3"
    )
    assert values[2:] == (
        Place(Path("s"), (Path("x"), Path("y z"))),
        Path("b"),
        {"one": Path("1"), "two": Path("a=b")},
        3,
    )


def test_json_may_lie_in_a_file(tmp_path):
    (tmp_path / "plan.json").write_text(json.dumps({"name": "b", "k": 1}))
    assert called("it", "--settings", f"@{tmp_path}/plan.json", *NEEDED[3:])[1] == Plan(
        name="b", k=1
    )


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--k", "0"], "argument --k: '0' is too small: it must be at least 1"),
        (["--settings", "{"], "argument --settings: '{': Invalid JSON"),
        (["--settings", "@nowhere.json"], "argument --settings: cannot be read: "),
        (["--others", "one"], "argument --others: 'one' is not of the form NAME=PATH"),
    ],
)
def test_a_wrong_word_is_one_line(words, message, capsys):
    with pytest.raises(SystemExit):
        called(*NEEDED, *words)
    assert message in capsys.readouterr().err


@pytest.mark.parametrize("name", STEPS)
def test_each_step_has_a_text_for_each_of_its_options(name, capsys):
    with pytest.raises(SystemExit) as ended:
        parser(name).parse_args([name, "--help"])
    assert ended.value.code == 0
    assert [
        parameter.name
        for parameter, text in command.command_options(STEPS[name].load())
        if not text
    ] == []


def test_a_step_whose_code_cannot_be_imported_says_so_in_its_log(
    tmp_path, monkeypatch, run_step
):
    monkeypatch.setitem(STEPS, "fetch", Step("sae.nowhere:fetch", ""))
    assert run_step("fetch", "--log", tmp_path / "log", "--name", "x")[0] == 1
    assert "No module named 'sae.nowhere'" in (tmp_path / "log").read_text()


STEPS_WITH_A_SPEC = {
    "dataset": ["--name", "d", "--artifacts", "/nowhere", "--out", "out"],
    "fetch": ["--name", "a", "--root", "artifacts"],
}


@pytest.mark.parametrize(
    ("step", "spec", "expected"),
    [
        ("dataset", {"type": ["emoji"]}, "dataset: its key type must name an entry"),
        (
            "dataset",
            {"type": "shards", "root": 3, "splits": {"train": "*.tar"}},
            "dataset shards: root: 3 should be a valid string; splits.test: this key",
        ),
        ("fetch", {}, "artifact a: files: this key is required; sources: this key"),
    ],
)
def test_a_bad_spec_is_one_line(tmp_path, monkeypatch, run_step, step, spec, expected):
    monkeypatch.chdir(tmp_path)
    spec = json.dumps(spec)
    code, text = run_step(step, *STEPS_WITH_A_SPEC[step], "--spec", spec)
    assert code == 1 and text.startswith("error: ") and text.count("\n") == 1, text
    assert expected in text


@pytest.fixture
def results(tmp_path):
    """Return a results folder in which nothing was chosen."""
    metrics = compared_rows({"topk": {"detection": 0.7}})
    chosen = metrics[["dataset", "backbone", "k", "method", "trial"]].assign(
        protocol="tuned", role="candidate", status="not chosen"
    )
    files.write_json(tmp_path / "made_by.json", MADE_BY)
    files.write_parquet(tmp_path / "metrics.parquet", metrics)
    files.write_parquet(tmp_path / "selection.parquet", chosen)
    return str(tmp_path)


def test_a_command_without_an_output_ends_well(results):
    command = f"{sys.executable} -m sae leaderboard {results} >&-"
    process = subprocess.run(
        ["bash", "-c", command], cwd=ROOT, stderr=subprocess.PIPE, text=True
    )
    assert (process.returncode, process.stderr) == (0, "")


def test_a_reader_that_has_enough_gets_no_traceback(results):
    command = [sys.executable, "-m", "sae", "leaderboard", results]
    reading_end, writing_end = os.pipe()
    os.close(reading_end)
    process = subprocess.run(
        command, cwd=ROOT, stdout=writing_end, stderr=subprocess.PIPE, text=True
    )
    os.close(writing_end)
    assert (process.returncode, process.stderr) == (141, "")


@pytest.mark.parametrize(
    ("words", "expected"),
    [(["{0}/"], "which would count"), (["--out", "README.md"], "error: README.md")],
)
def test_a_place_that_is_wrong_is_one_line(
    words, expected, results, monkeypatch, capsys
):
    monkeypatch.chdir(ROOT)
    assert main(["leaderboard", results, *(w.format(results) for w in words)]) == 1
    assert expected in capsys.readouterr().err


def test_a_file_that_hides_a_package_is_named(tmp_path):
    (tmp_path / "torch.py").touch()
    command = [sys.executable, "-m", "sae", "score", "--help"]
    process = subprocess.run(command, cwd=tmp_path, stderr=subprocess.PIPE, text=True)
    assert process.returncode
    assert process.stderr.splitlines()[-1] == (
        f"ImportError: {tmp_path}/torch.py is imported instead of the package torch, "
        "which sae needs: give the file another name"
    )

"""Every command of the benches runs, at a tiny size; its figures then mean nothing."""

import ast
import os
import re
import subprocess
import sys

import pytest
from conftest import ROOT

SCRIPTS = sorted((ROOT / "bench").glob("[a-z]*.py"))

# They read what a run made; tests of their own give them some.
OF_RESULTS = {
    "decisive.py",
    "leaderboard.py",
    "parts.py",
    "photographs.py",
    "photographs_pilot.py",
    "pilot.py",
    "reference.py",
    "sizes.py",
}


def calls_of_add_command(script):
    """Yield the calls by which a script adds its commands, as syntax trees."""
    for node in ast.walk(ast.parse(script.read_text())):
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "add_command":
            yield node


def commands_of(script):
    """Return {command: the keywords with which it was added} of a script."""
    return {
        ast.literal_eval(call.args[1]): {
            keyword.arg: ast.literal_eval(keyword.value) for keyword in call.keywords
        }
        for call in calls_of_add_command(script)
    }


def tiny_runs():
    """Return (words, whether it writes files) of each command that has `--tiny`."""
    runs = []
    for script in SCRIPTS:
        if script.name in OF_RESULTS:
            continue
        commands = commands_of(script)
        for command, keywords in commands.items():
            if keywords.get("tiny", True):
                runs.append(((script.name, command), keywords.get("writes", False)))
        if not commands:
            runs.append(((script.name,), False))
    return runs


def run_script(words, *options):
    """Run a command as a user does, from the project's root."""
    path = os.pathsep.join([str(ROOT), str(ROOT / "workflow")])
    script, *command = words
    return subprocess.run(
        [sys.executable, f"bench/{script}", *command, *map(str, options)],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "writes"),
    [pytest.param(*run, id=" ".join(run[0])) for run in tiny_runs()],
)
def test_a_bench_runs(words, writes, tmp_path):
    options = ["--tiny"]
    if writes:
        options += ["--out", tmp_path]
    process = run_script(words, *options)
    assert process.returncode == 0, process.stdout + process.stderr
    assert process.stdout.strip()
    if writes:
        assert any(tmp_path.iterdir())


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.name)
def test_a_script_shows_its_commands_and_each_says_which_page_it_is_behind(script):
    tree = ast.parse(script.read_text())
    functions = {
        node.name: node for node in tree.body if isinstance(node, ast.FunctionDef)
    }
    for call in calls_of_add_command(script):
        command = ast.literal_eval(call.args[1])
        assert f"bench/{script.name} {command}" in ast.get_docstring(tree)
        function = functions[ast.unparse(call.args[2])]
        pages = re.findall(r"docs/[\w/]+(?:\.md)?", ast.get_docstring(function))
        assert pages, command
        assert all((ROOT / page).exists() for page in pages), pages


# A page has figures of an earlier commit, with the command of that commit.
OF_EARLIER_COMMITS = {"thresholds.py"}
# Nobody needs it for a page, but it shows the site that a page times.
OF_NO_PAGE = {("performance_site.py", "write")}


def test_every_command_that_is_printed_is_there_and_every_one_there_is_printed():
    """Pages, the Makefile and the costs name scripts and their commands."""
    folders = [ROOT / name for name in ("docs", "config", "workflow")]
    texts = [path for folder in folders for path in folder.rglob("*.md")]
    texts += [path for folder in folders for path in folder.rglob("*.yaml")]
    texts += [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "Makefile")]
    commands = {script.name: commands_of(script) for script in SCRIPTS}
    printed = set()
    for path in texts:
        words = " ".join(path.read_text(encoding="utf-8").split())
        for script, command in re.findall(r"bench/(\w+\.py)(?: ([\w-]+))?", words):
            if script in OF_EARLIER_COMMITS:
                continue
            assert script in commands, path
            if commands[script]:
                assert command in commands[script], (path, script)
            printed.add((script, command))
    is_there = {(script, name) for script in commands for name in commands[script]}
    assert is_there - printed == OF_NO_PAGE

"""The live view of a run: stages, jobs at work, the time left, errors."""

import errno
import json
import os
import re
import sys

import pytest
import snakemake_logger_plugin_sae
from sae_workflow import killed_jobs, run_progress
from sae_workflow.command_line import say
from sae_workflow.stages import STAGES
from support.errors import assert_names

from sae.core.progress import progress_path


@pytest.fixture
def clock(monkeypatch):
    """Return a function that sets the time, and returns a view of three jobs.

    The jobs are expected to take 10, 20 and 40 s.
    """
    time = [0.0]
    jobs = {1: 10.0, 2: 20.0, 3: 40.0}
    monkeypatch.setattr(run_progress, "expected_seconds", jobs)
    shown = run_progress.RunProgress(lambda: time[0])
    shown.note_plan({"embed": 1, "train": 2, "tiny": 1, "total": 4})

    def at(seconds):
        time[0] = seconds
        return shown

    return at


def test_every_rule_has_a_bar():
    assert {rule for rules in run_progress.BARS.values() for rule in rules} == set(
        STAGES
    )


def test_the_time_left_follows_what_jobs_took(clock, tmp_path):
    cell = {"experiment": "tiny", "dataset": "a", "backbone": "b", "k": "8"}
    clock(0).note_start(1, "embed", cell, [])
    # 4 of 70 s of work are done in 4 s.
    assert clock(4).seconds_left() == pytest.approx(66)
    # Twice as long as reckoned.
    assert clock(20).note_end(1) == "embed"
    assert clock(20).seconds_left() == pytest.approx(2 * (20 + 40))
    clock(20).note_start(2, "train", cell, [])
    clock(20).note_start(3, "train", cell, [tmp_path / "k8.log"])
    # Two at a time: 30 of 70 s of work in 30 s.
    assert clock(30).seconds_left() == pytest.approx(30 * 40 / 30)
    progress_path(tmp_path / "k8.log").write_text(
        json.dumps({"done": 3, "total": 12, "what": "SAEs trained"})
    )
    expected = (
        "tiny: 1 of 3 jobs, 30 s, about 40 s left; "
        "now train a/b/k8, train a/b/k8 (3 of 12"
    )
    assert clock(30).line().startswith(expected)
    assert clock(30).done_with_shares() == {"embed": 1, "train": 0.25}
    # Longer than reckoned: what the job says itself counts, 10 of 40 s.
    clock(40).note_end(2)
    assert clock(140).seconds_left() == pytest.approx(140 * 30 / 40)
    assert clock(140).note_failure(3) == "train a/b/k8"
    assert clock(140).failed == {3: "train"}
    clock(140).note_start(3, "train", cell, [])  # Tried again.
    assert not clock(140).failed


@pytest.mark.parametrize(
    ("report", "expected"), [("ahead", [2]), ("there", []), ("not asked for", [])]
)
def test_the_first_trained_cell_is_told_of_once_if_its_report_is_ahead(
    clock, tmp_path, monkeypatch, report, expected
):
    monkeypatch.chdir(tmp_path)
    if report != "not asked for":
        clock(0).note_plan({"site": 1, "tiny": 1})
    if report == "there":
        (tmp_path / "results/tiny/report").mkdir(parents=True)
        (tmp_path / "results/tiny/report/index.html").touch()
    announced = []
    for job_id, rule in ((1, "embed"), (2, "train"), (3, "train")):
        clock(0).note_start(job_id, rule, {}, [])
        clock(0).note_end(job_id)
        if clock(0).shows_first_cell:
            announced.append(job_id)
    assert announced == expected


def test_a_job_of_unknown_size_says_nothing_of_the_time_left(clock):
    run_progress.expected_seconds[4] = 0.0
    clock(0).note_start(1, "embed", {}, [])
    clock(0).note_start(4, "embed", {}, [])
    clock(10).note_end(1)
    assert clock(10).seconds_left() is None
    clock(10).note_end(4)
    assert clock(10).seconds_left() == pytest.approx(20 + 40)


@pytest.mark.parametrize(
    ("log", "lines"),
    [
        (
            "2026-01-02 03:04:05,678 ERROR error: mine.py\n  line 3\n"
            "2026-01-02 03:04:05,679 DEBUG y\nTraceback\n",
            ["error: mine.py", "  line 3"],
        ),
        (
            "2026-01-02 03:04:05,678 ERROR train failed\n"
            "Traceback (most recent call last):\n  File x\nKeyError: 'k'\n",
            ["train failed", "KeyError: 'k'"],
        ),
        ("bash: python: command not found\n\n", ["bash: python: command not found"]),
        ("", []),
    ],
    ids=["of one's own", "ours", "no record", "nothing"],
)
def test_a_failed_job_is_told_in_its_own_words(tmp_path, log, lines):
    (tmp_path / "k8.log").write_text(log)
    logs = [tmp_path / "k8.log", tmp_path / "none.log"]
    assert run_progress.error_in_logs(logs) == lines


def test_a_job_whose_log_could_not_be_written_is_told_why(tmp_path, monkeypatch):
    log = tmp_path / "k8.log"
    log.write_text("training\n")
    assert run_progress.error_in_logs([log]) == ["training"]

    def write_to_a_full_disk(dir):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(run_progress.tempfile, "TemporaryFile", write_to_a_full_disk)
    (line,) = run_progress.error_in_logs([log])
    assert_names(line, str(log), "its file system is full")
    # An error that could be written is the cause.
    log.write_text("2026-01-02 03:04:05,678 ERROR error: no such file\n")
    assert run_progress.error_in_logs([log]) == ["error: no such file"]


@pytest.mark.parametrize(
    "kind",
    [
        "Error:",
        "WorkflowError:",
        'IndexError in file "Snakefile", line 3:',
        'InputFunctionException in rule train in file "Snakefile", line 3:\nError:\n ',
    ],
)
def test_what_snakemake_says_of_an_error_is_told_without_its_kind(kind):
    assert run_progress.plain_message(f"{kind}\nno such key\n") == "no such key"


def test_a_shell_that_a_signal_to_stop_ends_is_told_of_once():
    # The shell of a job may get Ctrl-C before it can wait for its Python, and before
    # this process gets it.
    message = "Command 'python -m sae dataset' died with <Signals.{}: 2>."
    assert killed_jobs.was_told_to_stop(message.format("SIGINT"))
    assert not killed_jobs.was_told_to_stop(message.format("SIGKILL"))
    assert run_progress.repeats_job_error(message.format("SIGINT"))


@pytest.mark.workflow
@pytest.mark.slow
def test_a_run_says_little_and_an_error_once(make_checkout):
    checkout = make_checkout()

    def run(*options):
        words = ("-m", "sae_workflow.run", "tiny", "--until", "embed")
        process = checkout.run(*words, *options)
        return process.returncode, (process.stdout + process.stderr).splitlines()

    code, lines = run()
    assert code == 0, lines
    assert "embed: 1 job done" in "\n".join(lines) and len(lines) < 8, lines
    assert not any(checkout.folder.rglob("*.progress.json"))
    log = checkout.folder / "results/logs/embed/digits/tiny.log"
    assert "500 images" in log.read_text()
    index = checkout.folder / "results/datasets/digits/index.parquet"
    index.write_bytes(index.read_bytes() + b"x")
    code, lines = run("--forcerun", "embed")
    output = "\n".join(lines)
    assert code == 1, output
    assert output.count("altered") == 1, output
    assert "embed digits/tiny failed: results/datasets" in output
    assert "its log: results/logs/embed/digits/tiny.log" in output
    assert len(lines) < 10, output
    of_snakemake = r"RuleException|CalledProcessError|python -m sae"
    assert not re.search(of_snakemake, output), output
    last_log = max((checkout.folder / ".snakemake/log").iterdir())
    assert "python -m sae embed" in last_log.read_text()


@pytest.mark.parametrize(
    "tell",
    [
        lambda stream: say("a line", stream),
        # Rich by itself would end the program, and silence its standard output.
        lambda stream: snakemake_logger_plugin_sae._Console(file=stream).print(
            "a line"
        ),
    ],
    ids=["run", "live view"],
)
def test_what_nobody_reads_any_more_is_dropped(tell):
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "w") as stream:
        tell(stream)
        tell(stream)


@pytest.mark.workflow
@pytest.mark.slow
def test_a_run_goes_on_when_nobody_reads_what_it_says(make_checkout):
    checkout = make_checkout()
    words = ("-m", "sae_workflow.run", "tiny", "--until", "dataset")
    process = checkout.start(*words)
    process.stdout.readline()
    process.stdout.close()  # As `2>&1 | head -1` does.
    assert process.wait() == 0
    assert (checkout.folder / "results/datasets/digits/manifest.json").exists()
    # Snakemake's own log goes on, too.
    (log,) = (checkout.folder / ".snakemake/log").glob("*.log")
    assert "Finished jobid" in log.read_text()


@pytest.mark.workflow
@pytest.mark.slow
def test_a_run_without_standard_streams_has_its_site(make_checkout):
    checkout = make_checkout()
    run = f"'{sys.executable}' -m sae_workflow.run tiny <&- >&- 2>&-"
    checkout.run("bash", "-c", run)
    assert (checkout.folder / "results/tiny/report/index.html").exists()
    times = json.loads((checkout.folder / "results/tiny/logs/times.json").read_text())
    assert {row["step"] for row in times["jobs"]} >= {"embed", "train", "score"}

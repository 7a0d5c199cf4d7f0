"""How far a run is: its stages, the jobs at work, the time that is left.

It is made of what Snakemake logs, and of the small files that jobs keep beside their
logs (`sae.core.progress`). `snakemake_logger_plugin_sae` shows it.

Snakemake lacks it: it counts jobs that are done, where one job trains SAEs for hours,
and shows of a job that failed its command, not its error.
"""

import json
import re
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from sae.core import faults, paths
from sae.core.progress import progress_path

# {bar: its rules}, in the order in which they run.
BARS = {
    "data": ("artifact", "weights", "imported", "download", "dataset", "annotate"),
    "embed": ("embed_shard", "embed"),
    "train": ("train",),
    "score": ("score", "robustness", "probe", "probe_embeddings", "heatmaps"),
    "report": ("collect", "tables", "claims", "gallery", "plot", "site"),
}
_BAR_OF_RULE = {rule: bar for bar, rules in BARS.items() for rule in rules}
MOST_LINES = 12  # of an error
# {id of a job: the seconds that it is estimated to take, 0 where that is unknown}. The
# Snakefile fills it.
expected_seconds: dict[int, float] = {}


@dataclass(frozen=True)
class RunningJob:
    """A job at work.

    Attributes:
        bar: The bar of its rule.
        name: Its rule, and what it is about: dataset, backbone, k and the like.
        log: Its log, if it has one.
        started_at: When it was started, in seconds.
    """

    bar: str
    name: str
    log: Path | None
    started_at: float

    def progress(self) -> tuple[float, str]:
        """Return which share of it is done, and that in words; 0 and "" if unsaid."""
        if self.log is None:
            return 0, ""
        with suppress(OSError, ValueError, KeyError):
            content = json.loads(progress_path(self.log).read_text())
            done_count = content["done"]
            total_count = content["total"]
            if total_count:
                words = f"{done_count:,} of {total_count:,} {content['what']}"
                return min(done_count / total_count, 1), words
        return 0, ""


class RunProgress:
    """The progress of a run, by what it is told of its jobs.

    Attributes:
        name: The target of the run.
        job_counts: {bar: how many jobs it has}.
        done_counts: {bar: how many of them ended well}.
        running: {id: job at work}, in the order of their start.
        failed: {id: the bar of a job that failed, and was not tried again}.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        """Begin a run of unknown jobs.

        Args:
            clock: Returns the time in seconds.
        """
        self.name = "this run"
        self.job_counts: Counter[str] = Counter()
        self.done_counts: Counter[str] = Counter()
        self.running: dict[int, RunningJob] = {}
        self.failed: dict[int, str] = {}
        self._clock = clock
        self._began_at = clock()
        self._ended_ids: set[int] = set()

    def note_plan(self, counts_of_rules: Mapping[str, int]) -> None:
        """Note that a run begins, and how many jobs of each rule it has.

        Args:
            counts_of_rules: {rule: how many jobs}, as Snakemake counts them: with the
                rule of the target, and "total".
        """
        self._began_at = self._clock()
        for rule, count in counts_of_rules.items():
            if rule in _BAR_OF_RULE:
                self.job_counts[_BAR_OF_RULE[rule]] += count
            elif rule != "total":
                self.name = rule

    def note_start(
        self, job_id: int, rule: str, wildcards: Mapping[str, str], log: Iterable[str]
    ) -> None:
        """Note that a job starts, perhaps once more.

        Args:
            job_id: Its id.
            rule: Its rule; the target has no bar, and is passed over.
            wildcards: Its wildcards.
            log: Its logs, of which the first counts.
        """
        if rule not in _BAR_OF_RULE:
            return
        self.failed.pop(job_id, None)
        values = [
            f"k{value}" if name == "k" else value
            for name, value in wildcards.items()
            if name not in ("experiment", "shards")
        ]
        name = f"{rule} {'/'.join(values)}".strip()
        first_log = next(map(Path, log), None)
        self.running[job_id] = RunningJob(
            _BAR_OF_RULE[rule], name, first_log, self._clock()
        )

    def note_end(self, job_id: int) -> str | None:
        """Note that a job has ended well, and return the bar that it fills, if any."""
        job = self.running.pop(job_id, None)
        if job is None:
            return None
        self._ended_ids.add(job_id)
        self.done_counts[job.bar] += 1
        is_full = self.done_counts[job.bar] == self.job_counts[job.bar]
        return job.bar if is_full else None

    def note_failure(self, job_id: int) -> str:
        """Note that a job has failed, and return its name."""
        job = self.running.pop(job_id, None)
        if job is None:
            return f"job {job_id}"
        self.failed[job_id] = job.bar
        return job.name

    @property
    def shows_first_cell(self) -> bool:
        """True if one cell is trained, and the first report is still to be written."""
        return (
            self.done_counts["train"] == 1
            and self.done_counts["report"] < self.job_counts["report"]
            and not Path(paths.SITE.format(experiment=self.name)).exists()
        )

    @property
    def seconds(self) -> float:
        """The seconds since the run began."""
        return self._clock() - self._began_at

    def seconds_of(self, job: RunningJob) -> float:
        """Return the seconds that a job has worked."""
        return self._clock() - job.started_at

    def done_with_shares(self) -> dict[str, float]:
        """Return {bar: how many jobs are done, with parts of those at work}."""
        done_by_bar: dict[str, float] = dict(self.done_counts)
        for job in self.running.values():
            share, _ = job.progress()
            done_by_bar[job.bar] = done_by_bar.get(job.bar, 0) + share
        return done_by_bar

    def seconds_left(self) -> float | None:
        """Estimate the seconds that are left, at the pace of the run so far.

        Returns:
            None where nobody can say: nothing is done, or a job is of unknown size.
        """
        seconds_in_all = 0.0
        seconds_done = 0.0
        for job_id, seconds in expected_seconds.items():
            if not seconds and job_id not in self._ended_ids:
                return None
            seconds_in_all += seconds
            if job_id in self._ended_ids:
                seconds_done += seconds
            elif job_id in self.running:
                job = self.running[job_id]
                # One that does not say how far it is, by its time.
                share = job.progress()[0] or min(self.seconds_of(job) / seconds, 0.9)
                seconds_done += share * seconds
        if not seconds_done:
            return None
        return self.seconds * (seconds_in_all / seconds_done - 1)

    def headline(self) -> str:
        """Return one line: how many jobs are done, the time, what is left of it."""
        parts = [
            f"{self.done_counts.total()} of {format_job_count(self.job_counts.total())}",
            format_duration(self.seconds),
        ]
        if self.failed:
            parts.append(f"{len(self.failed)} failed")
        seconds_left = self.seconds_left() if self.running else None
        if seconds_left:
            parts.append(f"about {format_duration(seconds_left)} left")
        return f"{self.name}: {', '.join(parts)}"

    def line(self) -> str:
        """Return the headline with the jobs at work, for where nothing can be drawn."""
        jobs = []
        for job in self.running.values():
            words = job.progress()[1]
            jobs.append(f"{job.name} ({words})" if words else job.name)
        text = self.headline()
        if jobs:
            text += f"; now {', '.join(jobs[:2])}"
        if len(jobs) > 2:
            text += f" and {len(jobs) - 2} more"
        return text


def format_job_count(count: int) -> str:
    """Return a number of jobs in words, such as "1 job" or "2 jobs"."""
    return "1 job" if count == 1 else f"{count} jobs"


def format_duration(seconds: float) -> str:
    """Return seconds as people say them, such as "5 s", "12 min" or "2.5 h"."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = seconds / 60
    return f"{minutes:.0f} min" if minutes < 90 else f"{minutes / 60:.1f} h"


def error_in_logs(logs: Iterable[str]) -> list[str]:
    """Return the lines in which a job that failed says in its logs why.

    These are its last error, without the traceback. If there is no error, they are what
    is wrong with the disk of its logs, or else the last lines.
    """
    lines: list[str] = []
    logs = list(logs)
    for log in logs:
        with suppress(OSError):
            lines += Path(log).read_text(errors="replace").splitlines()

    # A record begins with its time and its level.
    records = re.split(
        r"^\d{4}-\S+ \S+ (?=[A-Z]+ )", "\n".join(lines), flags=re.MULTILINE
    )
    errors = [
        record.removeprefix("ERROR ")
        for record in records[1:]
        if record.startswith("ERROR ")
    ]
    if not errors:
        disk_faults = [line for line in map(_disk_fault, logs) if line]
        if disk_faults:
            return disk_faults[:1]
        return [line for line in lines if line.strip()][-MOST_LINES // 2 :]

    error_lines = errors[-1].splitlines()
    if "Traceback (most recent call last):" in error_lines:
        # A fault of the code: its log has where.
        error_lines = [error_lines[0], error_lines[-1]]
    return error_lines[:MOST_LINES]


def _disk_fault(log: str) -> str | None:
    """Return why nothing can be written into a log; None if something can."""
    try:
        with tempfile.TemporaryFile(dir=Path(log).parent) as probe:
            probe.write(bytes(4096))
    except OSError as error:
        error.filename = log
        explanation = faults.explain(error, "the log")
        return None if explanation is None else explanation[0]
    return None


def plain_message(message: str) -> str:
    """Return what Snakemake says of an error, without the kind and place of it."""
    lines = [
        line for line in message.strip().splitlines() if not line.startswith('  File "')
    ]
    if lines and re.match(r"\w+(Exception|Error)( in .*)?:$", lines[0]):
        lines = lines[1:]
    # A class may be called just that, and some messages begin with it.
    if lines[:1] == ["Error:"]:
        lines = lines[1:]
    return "\n".join(lines).strip()


def repeats_job_error(message: str) -> bool:
    """Return whether a message only says what the error of a job says, too."""
    texts = (
        "returned non-zero exit status",
        "died with <Signals.",
        "a job execution failed",
        "At least one job did not complete",
    )
    return any(text in message for text in texts)

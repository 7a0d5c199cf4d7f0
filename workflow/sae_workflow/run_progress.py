"""How far a run is: its stages, the jobs at work, the time that is left.

It is made of what Snakemake logs, and of the small files that jobs keep beside their
logs (`sae.core.progress`). `snakemake_logger_plugin_sae` shows it.
"""

import json
import re
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from sae.core import paths
from sae.core.progress import progress_path

# {bar: its rules}, in the order in which they run.
BARS = {
    "data": ("artifact", "weights", "imported", "download", "dataset", "annotate"),
    "embed": ("embed_shard", "embed"),
    "train": ("train",),
    "score": ("score", "robustness", "probe", "probe_embeddings"),
    "report": ("collect", "tables", "claims", "gallery", "plot", "site"),
}
_BAR_OF_RULE = {rule: bar for bar, rules in BARS.items() for rule in rules}
MOST_LINES = 12  # of an error


@dataclass(frozen=True)
class ExpectedJob:
    """A job of this run, before it starts.

    Attributes:
        rule: Its rule.
        seconds: How long it is estimated to take; 0 where that is unknown.
    """

    rule: str
    seconds: float


# {id of a job: what is expected of it}. The Snakefile fills it.
expected_jobs: dict[int, ExpectedJob] = {}


@dataclass(frozen=True)
class Progress:
    """The progress that a job reports of itself, such as 3 of 12 SAEs trained."""

    done_count: int
    total: int
    unit: str

    def __str__(self) -> str:
        return f"{self.done_count:,} of {self.total:,} {self.unit}"


@dataclass(frozen=True)
class RunningJob:
    """A job at work.

    Attributes:
        rule: Its rule.
        name: Its rule, and what it is about: dataset, backbone, k and the like.
        log: Its log, if it has one.
        started_at: When it was started, in seconds.
    """

    rule: str
    name: str
    log: Path | None
    started_at: float

    def progress(self) -> Progress | None:
        """Read how far the job is; None where it does not say so."""
        if self.log is None:
            return None
        try:
            content = json.loads(progress_path(self.log).read_text())
            if not content.get("total"):
                return None
            return Progress(content["done"], content["total"], content["what"])
        except (OSError, ValueError, KeyError):
            return None


@dataclass(frozen=True)
class EndedJob:
    """A job that ended well.

    Attributes:
        rule: Its rule.
        seconds: How long it took.
    """

    rule: str
    seconds: float


class RunProgress:
    """The progress of a run, by what it is told of its jobs.

    Attributes:
        name: The target of the run.
        job_counts: {bar: how many jobs it has}.
        done_counts: {bar: how many of them ended well}.
        running: {id: job at work}, in the order of their start.
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
        self._clock = clock
        self._began_at = clock()
        self._bar_of_failed: dict[int, str] = {}
        self._ended: dict[int, EndedJob] = {}

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
        self._bar_of_failed.pop(job_id, None)
        values = [
            f"k{value}" if name == "k" else value
            for name, value in wildcards.items()
            if name not in ("experiment", "shards")
        ]
        name = f"{rule} {'/'.join(values)}".strip()
        first_log = next(map(Path, log), None)
        self.running[job_id] = RunningJob(rule, name, first_log, self._clock())

    def note_end(self, job_id: int) -> str | None:
        """Note that a job has ended well.

        Returns:
            The bar that is full now, if one is.
        """
        job = self.running.pop(job_id, None)
        if job is None:
            return None
        self._ended[job_id] = EndedJob(job.rule, self.seconds_of(job))
        bar = _BAR_OF_RULE[job.rule]
        self.done_counts[bar] += 1
        is_full = self.done_counts[bar] == self.job_counts[bar]
        return bar if is_full else None

    def note_failure(self, job_id: int) -> str:
        """Note that a job has failed, and return its name."""
        job = self.running.pop(job_id, None)
        if job is None:
            return f"job {job_id}"
        self._bar_of_failed[job_id] = _BAR_OF_RULE[job.rule]
        return job.name

    def is_first_trained(self, job_id: int) -> bool:
        """Return whether a job that has ended is the first that trained a cell.

        False where a report is there, from an earlier run, or is not to be written.

        Args:
            job_id: A job of which :meth:`note_end` was told.
        """
        job = self._ended.get(job_id)
        is_training = job is not None and _BAR_OF_RULE[job.rule] == "train"
        is_first = is_training and self.done_counts["train"] == 1
        has_report_ahead = self.done_counts["report"] < self.job_counts["report"]
        report = Path(paths.SITE.format(experiment=self.name))
        return is_first and has_report_ahead and not report.exists()

    @property
    def failed_counts(self) -> Counter[str]:
        """{bar: how many jobs failed and were not tried again}."""
        return Counter(self._bar_of_failed.values())

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
            progress = job.progress()
            if progress is not None:
                bar = _BAR_OF_RULE[job.rule]
                share_done = min(progress.done_count / progress.total, 1)
                done_by_bar[bar] = done_by_bar.get(bar, 0) + share_done
        return done_by_bar

    def seconds_left(self) -> float | None:
        """Estimate the seconds that are left, as many jobs at once as so far.

        Returns:
            None where nobody can say: a job that has not ended is of unknown size.
        """
        jobs_to_end = {
            job_id: job
            for job_id, job in expected_jobs.items()
            if job_id not in self._ended
        }
        if not expected_jobs or any(not job.seconds for job in jobs_to_end.values()):
            return None

        job_seconds_left = 0.0
        for job_id, job in jobs_to_end.items():
            estimate = job.seconds * self._pace(job.rule)
            job_seconds_left += self._seconds_left_of(job_id, estimate)

        job_seconds_so_far = sum(job.seconds for job in self._ended.values())
        job_seconds_so_far += sum(map(self.seconds_of, self.running.values()))
        jobs_at_once = job_seconds_so_far / max(self.seconds, 1e-9)
        return job_seconds_left / max(1, jobs_at_once)

    def _seconds_left_of(self, job_id: int, estimate: float) -> float:
        """Return the seconds that are left of a job.

        Args:
            job_id: Its id; it may not have started.
            estimate: How long it takes in all, by what other jobs took. Once it has
                taken longer, what it says of its progress counts instead.
        """
        if job_id not in self.running:
            return max(0, estimate)
        job = self.running[job_id]
        seconds_so_far = self.seconds_of(job)
        if seconds_so_far > estimate:
            progress = job.progress()
            if progress is not None and progress.done_count:
                return seconds_so_far * (progress.total / progress.done_count - 1)
        return max(0, estimate - seconds_so_far)

    def _pace(self, rule: str) -> float:
        """Return how many times as long as estimated jobs took that have ended.

        These are the jobs of a rule; all jobs as long as none of the rule has ended.
        """
        for rules in ({rule}, set(_BAR_OF_RULE)):
            seconds = 0.0
            estimated_seconds = 0.0
            for job_id, job in self._ended.items():
                if job.rule in rules and job_id in expected_jobs:
                    estimate = expected_jobs[job_id].seconds
                    if estimate:
                        seconds += job.seconds
                        estimated_seconds += estimate
            if estimated_seconds:
                return seconds / estimated_seconds
        return 1.0

    def headline(self) -> str:
        """Return one line: how many jobs are done, the time, what is left of it."""
        parts = [
            f"{self.done_counts.total()} of {self.job_counts.total()} jobs",
            format_duration(self.seconds),
        ]
        failed_count = self.failed_counts.total()
        if failed_count:
            parts.append(f"{failed_count} failed")
        seconds_left = self.seconds_left() if self.running else None
        if seconds_left:
            parts.append(f"about {format_duration(seconds_left)} left")
        return f"{self.name}: {', '.join(parts)}"

    def line(self) -> str:
        """Return the headline with the jobs at work, for where nothing can be drawn."""
        jobs = []
        for job in self.running.values():
            progress = job.progress()
            jobs.append(job.name if progress is None else f"{job.name} ({progress})")
        text = self.headline()
        if jobs:
            text += f"; now {', '.join(jobs[:2])}"
        if len(jobs) > 2:
            text += f" and {len(jobs) - 2} more"
        return text


def format_duration(seconds: float) -> str:
    """Return seconds as people say them, such as "5 s", "12 min" or "2.5 h"."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = seconds / 60
    return f"{minutes:.0f} min" if minutes < 90 else f"{minutes / 60:.1f} h"


def error_in_logs(logs: Iterable[str]) -> list[str]:
    """Return the lines in which a job that failed says in its logs why.

    These are its last error, without the traceback; the last lines if there is no
    error.
    """
    lines: list[str] = []
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
        return [line for line in lines if line.strip()][-MOST_LINES // 2 :]

    error_lines = errors[-1].splitlines()
    if "Traceback (most recent call last):" in error_lines:
        # A fault of the code: its log has where.
        error_lines = [error_lines[0], error_lines[-1]]
    return error_lines[:MOST_LINES]


def plain_message(message: str) -> str:
    """Return what Snakemake says of an error, without the kind and place of it."""
    lines = [
        line for line in message.strip().splitlines() if not line.startswith('  File "')
    ]
    if lines and re.match(r"\w+(Exception|Error)( in .*)?:$", lines[0]):
        lines = lines[1:]
    return "\n".join(lines)


def repeats_job_error(message: str) -> bool:
    """Return whether a message only says what the error of a job says, too."""
    texts = (
        "returned non-zero exit status",
        "died with <Signals.",
        "a job execution failed",
        "At least one job did not complete",
    )
    return any(text in message for text in texts)

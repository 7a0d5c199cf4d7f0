"""How far a run is: its stages, the jobs at work and how far inside them, the time that is left.

Made of what Snakemake logs, and of the small files that jobs keep beside their logs (`sae.core.progress`).
`snakemake_logger_plugin_sae` shows it.
"""

import json
import re
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from sae.core.progress import progress_path

# {bar: its rules}, in the order in which they run.
BARS = {
    "data": ("artifact", "weights", "imported", "download", "dataset", "annotate"),
    "embed": ("embed_shard", "embed"),
    "train": ("train",),
    "score": ("score", "robustness", "probe", "probe_embeddings"),
    "report": ("collect", "tables", "claims", "gallery", "plot", "site"),
}
_BAR_OF = {rule: bar for bar, rules in BARS.items() for rule in rules}
# {id of a job of this run: (its rule, the seconds that it is reckoned to take)}. The Snakefile fills it.
expected: dict[int, tuple[str, float]] = {}
MOST_LINES = 12  # of an error


@dataclass(frozen=True)
class Working:
    """A job at work.

    Attributes:
        name: its rule, and what it is about: dataset, backbone, k and the like.
        log: its log, if it has one.
        since: when it was started, in seconds.
    """

    rule: str
    name: str
    log: Path | None
    since: float

    def far(self) -> tuple[int, int, str] | None:
        """(done, total, what) as it says itself; None where it does not."""
        try:
            said = json.loads(progress_path(self.log).read_text()) if self.log else {}
            return (
                (said["done"], said["total"], said["what"])
                if said.get("total")
                else None
            )
        except (OSError, ValueError, KeyError):
            return None


class View:
    """What there is to show of a run.

    Attributes:
        name: the target.
        total, done: {bar: jobs}.
        working: {id: job}, in the order of their start.

    Args:
        now: gives the time in seconds.
    """

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self.name, self.working, self._now, self._began = (
            "this run",
            dict[int, Working](),
            now,
            now(),
        )
        self.total, self.done = Counter[str](), Counter[str]()
        self._failed: dict[int, str] = {}  # {id: bar}
        self._ended: dict[int, tuple[str, float]] = {}  # {id: (rule, seconds)}

    def plan(self, stats: Mapping[str, int]) -> None:
        """A run begins that has {rule: jobs}."""
        self._began = self._now()
        for rule, count in stats.items():
            if rule in _BAR_OF:
                self.total[_BAR_OF[rule]] += count
            elif rule != "total":
                self.name = rule

    def start(
        self, number: int, rule: str, wildcards: Mapping[str, str], log: Iterable[str]
    ) -> None:
        """A job starts, perhaps once more."""
        if rule in _BAR_OF:
            self._failed.pop(number, None)
            told = {
                name: value
                for name, value in wildcards.items()
                if name not in ("experiment", "shards")
            }
            about = "/".join(
                f"k{value}" if name == "k" else value for name, value in told.items()
            )
            self.working[number] = Working(
                rule, f"{rule} {about}".strip(), next(map(Path, log), None), self._now()
            )

    def end(self, number: int) -> str | None:
        """A job has ended well; the bar that is full now, if one is."""
        job = self.working.pop(number, None)
        if job is None:
            return None
        self._ended[number] = job.rule, self._now() - job.since
        bar = _BAR_OF[job.rule]
        self.done[bar] += 1
        return bar if self.done[bar] == self.total[bar] else None

    def fail(self, number: int) -> str:
        """A job has failed; what it was."""
        job = self.working.pop(number, None)
        if job is None:
            return f"job {number}"
        self._failed[number] = _BAR_OF[job.rule]
        return job.name

    @property
    def failed(self) -> Counter[str]:
        """{bar: jobs that failed and were not tried again}."""
        return Counter(self._failed.values())

    @property
    def seconds(self) -> float:
        """Since the run began."""
        return self._now() - self._began

    def since(self, job: Working) -> float:
        """The seconds that a job has worked."""
        return self._now() - job.since

    def reached(self) -> dict[str, float]:
        """{bar: jobs, with what is done of those at work}."""
        found: dict[str, float] = dict(self.done)
        for job in self.working.values():
            if far := job.far():
                found[_BAR_OF[job.rule]] = found.get(_BAR_OF[job.rule], 0) + min(
                    far[0] / far[1], 1
                )
        return found

    def left(self) -> float | None:
        """The seconds that are left, by what jobs were reckoned to take and what those that ended took.

        None where nobody can say: of a job that has not ended it is not known (it was reckoned to take 0 s).
        """
        if not expected or any(
            not reckoned
            for n, (_, reckoned) in expected.items()
            if n not in self._ended
        ):
            return None
        now, rest = self._now(), 0.0
        for number, (rule, reckoned) in expected.items():
            if number in self._ended:
                continue
            seconds, job = reckoned * self._scale(rule), self.working.get(number)
            past = now - job.since if job else 0
            far = job.far() if job and past > seconds else None
            rest += (
                past * (far[1] / far[0] - 1)
                if far and far[0]
                else max(0, seconds - past)
            )
        busy = sum(s for _, s in self._ended.values()) + sum(
            now - job.since for job in self.working.values()
        )
        return rest / max(1, busy / max(self.seconds, 1e-9))

    def _scale(self, rule: str) -> float:
        """How many times as long as reckoned the jobs of a rule took that have ended; without one, all jobs."""
        for of in ({rule}, set(_BAR_OF)):
            ended = [
                (seconds, expected.get(n, (r, 0))[1])
                for n, (r, seconds) in self._ended.items()
                if r in of
            ]
            if both := [pair for pair in ended if pair[1]]:
                took, reckoned = map(sum, zip(*both, strict=True))
                return took / reckoned
        return 1.0

    def headline(self) -> str:
        """One line: jobs, time, what is left of it."""
        failed, left = self.failed.total(), self.left() if self.working else None
        said = [
            f"{self.done.total()} of {self.total.total()} jobs",
            duration(self.seconds),
        ]
        said += [f"{failed} failed"] * bool(failed) + (
            [f"about {duration(left)} left"] if left else []
        )
        return f"{self.name}: {', '.join(said)}"

    def line(self) -> str:
        """The same with the jobs at work, for where nothing can be drawn."""
        jobs = [
            f"{job.name}{f' ({said(far)})' if (far := job.far()) else ''}"
            for job in self.working.values()
        ]
        more = f" and {len(jobs) - 2} more" if len(jobs) > 2 else ""
        return f"{self.headline()}{'; now ' if jobs else ''}{', '.join(jobs[:2])}{more}"


def said(far: tuple[int, int, str]) -> str:
    """How far a job is, in words."""
    return f"{far[0]:,} of {far[1]:,} {far[2]}"


def duration(seconds: float) -> str:
    """Seconds as people say them."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = seconds / 60
    return f"{minutes:.0f} min" if minutes < 90 else f"{minutes / 60:.1f} h"


def own_words(logs: Iterable[str]) -> list[str]:
    """What a job that failed says of it in its logs: its last error, without the way there; else the last lines."""
    told = list[str]()
    for log in logs:
        with suppress(OSError):
            told += Path(log).read_text(errors="replace").splitlines()
    records = re.split(
        r"^\d{4}-\S+ \S+ (?=[A-Z]+ )", "\n".join(told), flags=re.MULTILINE
    )
    errors = [
        record.removeprefix("ERROR ")
        for record in records[1:]
        if record.startswith("ERROR ")
    ]
    if not errors:
        return [line for line in told if line.strip()][-MOST_LINES // 2 :]
    lines = errors[-1].splitlines()
    if "Traceback (most recent call last):" in lines:
        lines = [lines[0], lines[-1]]  # A fault of the code: its log has where.
    return lines[:MOST_LINES]


def plain(message: str) -> str:
    """What Snakemake says of an error, without the kind and place of what it raised."""
    lines = [
        line for line in message.strip().splitlines() if not line.startswith('  File "')
    ]
    head = re.match(r"\w+(Exception|Error)( in .*)?:$", lines[0]) if lines else None
    return "\n".join(lines[1:] if head else lines)


def tells_twice(message: str) -> bool:
    """Whether a message only says what the error of a job says, too."""
    said = (
        "returned non-zero exit status",
        "died with <Signals.",
        "a job execution failed",
        "At least one job did not complete",
    )
    return any(text in message for text in said)

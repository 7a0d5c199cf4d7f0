"""A run as one calm live view: `snakemake NAME --logger sae`, which `make run` says.

In a terminal: bars by stage, the jobs at work and how far they are, the time left. Elsewhere, a line a stage and a line
a minute. Each error is shown once. Snakemake's own log has all that it says, and the log of a job what that says.
"""

import logging
import os
import sys
import threading
import time
from typing import Any

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text
from sae_workflow import killed, view
from sae_workflow.start import silence
from snakemake_interface_logger_plugins.base import LogHandlerBase
from snakemake_interface_logger_plugins.common import LogEvent

EVERY, MINUTE = (
    0.5,
    60.0,
)  # seconds between two drawings, and between two lines where nothing can be drawn

# Seconds. A signal to stop goes to this process and to the shells of jobs alike. Where
# a shell dies of it first, this process gets it within that time, says in one line that
# it was stopped, and is silent from then on.
SIGNAL_PATIENCE = 1.0


class _Console(Console):
    def on_broken_pipe(self) -> None:
        """Say nothing more to a reader such as `head` that has enough; the run goes on."""
        self.quiet = True
        silence(self.file.fileno())

    def show_cursor(self, show: bool = True) -> bool:
        return False  # It stays where a Ctrl-C, after which nothing is written any more, would leave it hidden.


class LogHandler(LogHandlerBase):
    """Shows what Snakemake logs. A dry run says what Snakemake says without it."""

    writes_to_stream, writes_to_file, has_formatter, needs_rulegraph = (
        True,
        False,
        False,
        False,
    )

    def __post_init__(self) -> None:
        self._view, self._over, self._drawn = (
            view.View(),
            threading.Event(),
            threading.RLock(),
        )
        stream = sys.stdout if self.common_settings.stdout else sys.stderr
        self._console = _Console(
            file=stream, no_color=self.common_settings.nocolor or None, highlight=False
        )
        self._live = Live(
            console=self._console,
            auto_refresh=False,
            redirect_stdout=False,
            redirect_stderr=False,
        )
        self._thread: threading.Thread | None = None
        self._told = set[str]()
        self._killed_steps = set[str | None]()

    @property
    def has_filter(self) -> bool:
        """Snakemake's own would hold back what is needed here; a dry run takes it."""
        return not self.common_settings.dryrun

    def emit(self, record: logging.LogRecord) -> None:
        """Take a record."""
        try:
            with self._drawn:
                self._take(record)
        except Exception:
            self.handleError(record)

    def _take(self, record: Any) -> None:
        event = getattr(record, "event", None)
        if self.common_settings.dryrun:
            if text := self.format(record):
                self._print(text)
        elif event == LogEvent.RUN_INFO:
            self._view.plan(record.stats)
            jobs = ", ".join(
                f"{count} {bar}" for bar, count in self._view.total.items()
            )
            self._lines(f"{self._view.name}: {self._view.total.total()} jobs ({jobs})")
        elif event == LogEvent.JOB_INFO:
            self._view.start(
                record.jobid, record.rule_name, record.wildcards or {}, record.log
            )
            self._begin()
        elif event == LogEvent.JOB_FINISHED:
            if bar := self._view.end(record.job_id):
                self._lines(
                    f"{bar}: {self._view.done[bar]} jobs done, {view.duration(self._view.seconds)}"
                )
        elif event == LogEvent.JOB_ERROR:
            self._failure(record)
        elif event == LogEvent.GROUP_ERROR:
            for job in record.job_error_info:
                self._failure(logging.makeLogRecord(job))
        elif event == LogEvent.ERROR or (
            event is None and record.levelno >= logging.WARNING
        ):
            self._trouble(record)
        elif str(record.msg).startswith(("Nothing to be done", "Trying to restart")):
            self._print(str(record.msg))
        elif str(record.msg).startswith("Complete log") and self._view.failed:
            log = os.path.relpath(record.msg.partition(": ")[2].split(", ")[-1])
            self._print("What is finished is kept: mend it and run the same again.")
            self._print(f"All that Snakemake said: {log}")

    def _failure(self, record: Any) -> None:
        name = self._view.fail(record.jobid)
        words = view.own_words(record.log) or ["it said nothing"]
        step = killed.step_of_command(str(getattr(record, "shellcmd", "")))
        if step in self._killed_steps:
            words = [killed.explanation(step)]
            # Another job of this step may fail for another reason.
            self._killed_steps.discard(step)
        self._print(
            "\n".join(
                [f"{name} failed: {words[0].removeprefix('error: ')}", *words[1:]]
            ),
            "red",
        )
        self._print(f"  its log: {', '.join(map(str, record.log)) or 'it has none'}")

    def _trouble(self, record: Any) -> None:
        # A job whose shell was killed with it: `_failure` says so, which comes next.
        if step := killed.killed_step(str(record.msg or "")):
            self._killed_steps.add(step)
            return
        if killed.was_told_to_stop(str(record.msg or "")):
            time.sleep(SIGNAL_PATIENCE)
        text = view.plain(str(record.msg or ""))
        if text and not view.tells_twice(text) and text not in self._told:
            self._told.add(text)
            is_error = record.levelno >= logging.ERROR
            self._print(
                f"error: {text}" if is_error else text, "red" if is_error else "yellow"
            )

    def _print(self, text: str, style: str = "") -> None:
        self._console.print(Text(text, style), soft_wrap=True)

    def _lines(self, text: str) -> None:
        """Say something where nothing is drawn."""
        if not self._console.is_interactive:
            self._print(text)

    def _begin(self) -> None:
        if self._thread is None:
            if self._console.is_interactive:
                self._live.start()
            self._thread = threading.Thread(target=self._go_on, daemon=True)
            self._thread.start()

    def _go_on(self) -> None:
        while not self._over.wait(EVERY if self._console.is_interactive else MINUTE):
            with self._drawn:
                self._draw()

    def _draw(self) -> None:
        if self._console.is_interactive:
            self._live.update(self._picture(), refresh=True)
        else:
            self._print(self._view.line())

    def _picture(self) -> Group:
        of, reached = self._view, self._view.reached()
        bars = Table.grid(padding=(0, 1), expand=True)
        bars.add_column(width=8)
        bars.add_column(ratio=1)
        bars.add_column(justify="right")
        for bar in (bar for bar in view.BARS if of.total[bar]):
            colour = (
                "red"
                if of.failed[bar]
                else "green"
                if of.done[bar] == of.total[bar]
                else "cyan"
            )
            drawn = ProgressBar(
                of.total[bar],
                reached.get(bar, 0),
                complete_style=colour,
                finished_style=colour,
            )
            bars.add_row(f"  {bar}", drawn, f"{of.done[bar]}/{of.total[bar]}")
        jobs = Table.grid(padding=(0, 1), expand=True)
        jobs.add_column(ratio=1, no_wrap=True, overflow="ellipsis")
        jobs.add_column(no_wrap=True)
        jobs.add_column(justify="right")
        most = max(1, self._console.height - bars.row_count - 3)
        for job in list(of.working.values())[:most]:
            far = job.far()
            jobs.add_row(
                f"  {job.name}",
                view.said(far) if far else "",
                view.duration(of.since(job)),
            )
        more = len(of.working) - most
        return Group(
            Text(of.headline(), "bold"),
            bars,
            jobs,
            *([Text(f"  and {more} more")] if more > 0 else []),
        )

    def close(self) -> None:
        """Draw the end of the run."""
        self._over.set()
        with self._drawn:
            if self._thread:
                self._draw()
            self._live.stop()
            self._thread = None
        super().close()

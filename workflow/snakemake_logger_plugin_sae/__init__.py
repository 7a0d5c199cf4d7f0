"""A run as one calm live view: `snakemake NAME --logger sae`, which `make run` says.

In a terminal: bars by stage, the jobs at work and how far they are, the time left.
Elsewhere, a line a stage and a line a minute. Each error is shown once. Snakemake's own
log has all that it says, and the log of a job what that says.

Plugins lack it: `snakemake-logger-plugin-rich`, which its authors call unstable, has
bars of jobs, but not how far a job is, the time left, or the error in a job's own log.
"""

import logging
import os
import sys
import threading
import time
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text
from sae_workflow import killed_jobs, run_progress, settings
from snakemake_interface_logger_plugins.base import LogHandlerBase
from snakemake_interface_logger_plugins.common import LogEvent

from sae.core.faults import silence

SECONDS_BETWEEN_DRAWINGS = 0.5
SECONDS_BETWEEN_LINES = 60.0  # where nothing can be drawn

# Seconds. A signal to stop goes to this process and to the shells of jobs alike. Where
# a shell dies of it first, this process gets it within that time, says in one line that
# it was stopped, and is silent from then on.
SIGNAL_PATIENCE = 1.0


class _Console(Console):
    def on_broken_pipe(self) -> None:
        """Say nothing more to a reader such as `head` that has enough.

        The run goes on.
        """
        self.quiet = True
        silence(self.file.fileno())

    def show_cursor(self, show: bool = True) -> bool:
        """Let the cursor stay.

        A Ctrl-C, after which nothing is written any more, would leave it hidden.
        """
        return False


class LogHandler(LogHandlerBase):
    """Shows what Snakemake logs. A dry run says what Snakemake says without it."""

    writes_to_stream = True
    writes_to_file = False
    has_formatter = False
    needs_rulegraph = False

    def __post_init__(self) -> None:
        """Begin with nothing shown; Snakemake calls this."""
        self._run = run_progress.RunProgress()
        # A record may be logged while another thread draws.
        self._display_lock = threading.RLock()
        self._is_closed = threading.Event()
        self._thread: threading.Thread | None = None

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
        self._has_told_of_first_cell = False
        # Messages that were shown, so that none is shown twice.
        self._shown_messages: set[str] = set()
        # Steps whose shell was killed, and whose failure is logged next.
        self._killed_steps: set[str | None] = set()

    @property
    def has_filter(self) -> bool:
        """True if Snakemake's own filter is left out.

        It would hold back what is needed here; a dry run takes it.
        """
        return not self.common_settings.dryrun

    # What is shown of each record.

    def emit(self, record: logging.LogRecord) -> None:
        """Show what is to be shown of a record; Python's logging calls this."""
        try:
            with self._display_lock:
                self._show(record)
        except Exception:
            self.handleError(record)

    def _show(self, record: Any) -> None:
        event = getattr(record, "event", None)
        message = str(record.msg)
        if self.common_settings.dryrun:
            text = self.format(record)
            if text:
                self._print(text)
        elif event == LogEvent.RUN_INFO:
            self._show_plan(record)
        elif event == LogEvent.JOB_INFO:
            self._run.note_start(
                record.jobid, record.rule_name, record.wildcards or {}, record.log
            )
            self._start_drawing()
        elif event == LogEvent.JOB_FINISHED:
            self._show_end(record)
        elif event == LogEvent.JOB_ERROR:
            self._show_failure(record)
        elif event == LogEvent.GROUP_ERROR:
            for job in record.job_error_info:
                self._show_failure(logging.makeLogRecord(job))
        elif event == LogEvent.ERROR or (
            event is None and record.levelno >= logging.WARNING
        ):
            self._show_warning_or_error(record)
        elif message.startswith(("Nothing to be done", "Trying to restart")):
            self._print(message)
        elif message.startswith("Complete log") and self._run.failed:
            # Of several logs Snakemake's own is the last.
            path = record.msg.partition(": ")[2].split(", ")[-1]
            self._print(
                "What is finished is kept: fix this and run the same command again."
            )
            self._print(f"All that Snakemake said: {os.path.relpath(path)}")

    def _show_plan(self, record: Any) -> None:
        self._run.note_plan(record.stats)
        counts = ", ".join(
            f"{count} {bar}" for bar, count in self._run.job_counts.items()
        )
        job_count = run_progress.format_job_count(self._run.job_counts.total())
        self._print_where_nothing_is_drawn(f"{self._run.name}: {job_count} ({counts})")

    def _show_end(self, record: Any) -> None:
        full_bar = self._run.note_end(record.job_id)
        if full_bar is not None:
            done_count = self._run.done_counts[full_bar]
            job_count = run_progress.format_job_count(done_count)
            duration = run_progress.format_duration(self._run.seconds)
            self._print_where_nothing_is_drawn(
                f"{full_bar}: {job_count} done, {duration}"
            )
        if self._run.shows_first_cell and not self._has_told_of_first_cell:
            self._has_told_of_first_cell = True
            command = f"make show EXPERIMENT={self._run.name}"
            overlays = settings.overlays_of(sys.argv)
            if overlays:
                command += f" CONFIG='{' '.join(overlays)}'"
            self._print(
                "The SAEs of the first cell are there. To see their latents meanwhile, "
                f"in another terminal: {command}"
            )

    def _show_failure(self, record: Any) -> None:
        name = self._run.note_failure(record.jobid)
        lines = run_progress.error_in_logs(record.log) or ["it said nothing"]
        step = killed_jobs.step_of_command(str(getattr(record, "shellcmd", "")))
        if step in self._killed_steps:
            lines = [killed_jobs.explain_kill(step)]
            # Another job of this step may fail for another reason.
            self._killed_steps.discard(step)
        first_line = f"{name} failed: {lines[0].removeprefix('error: ')}"
        self._print("\n".join([first_line, *lines[1:]]), "red")
        self._print(f"  its log: {', '.join(map(str, record.log)) or 'it has none'}")

    def _show_warning_or_error(self, record: Any) -> None:
        message = str(record.msg or "")
        # A job whose shell was killed with it: `_show_failure`, which comes next, says
        # so.
        step = killed_jobs.killed_step(message)
        if step:
            self._killed_steps.add(step)
            return
        if killed_jobs.was_told_to_stop(message):
            time.sleep(SIGNAL_PATIENCE)

        text = run_progress.plain_message(message)
        if not text or run_progress.repeats_job_error(text):
            return
        if text in self._shown_messages:
            return
        self._shown_messages.add(text)
        if record.levelno >= logging.ERROR:
            self._print(f"error: {text}", "red")
        else:
            self._print(text, "yellow")

    def _print(self, text: str, style: str = "") -> None:
        self._console.print(Text(text, style), soft_wrap=True)

    def _print_where_nothing_is_drawn(self, text: str) -> None:
        if not self._console.is_interactive:
            self._print(text)

    # What is drawn in between.

    def _start_drawing(self) -> None:
        """Draw from now on every now and then, in a thread of its own."""
        if self._thread is None:
            if self._console.is_interactive:
                self._live.start()
            self._thread = threading.Thread(target=self._draw_until_closed, daemon=True)
            self._thread.start()

    def _draw_until_closed(self) -> None:
        seconds = SECONDS_BETWEEN_LINES
        if self._console.is_interactive:
            seconds = SECONDS_BETWEEN_DRAWINGS
        while not self._is_closed.wait(seconds):
            with self._display_lock:
                self._draw()

    def _draw(self) -> None:
        if self._console.is_interactive:
            self._live.update(self._picture(), refresh=True)
        else:
            self._print(self._run.line())

    def _picture(self) -> Group:
        """Return the headline, a row for each bar, as many jobs as there is room for."""
        bars = Table.grid(padding=(0, 1), expand=True)
        bars.add_column(width=8)
        bars.add_column(ratio=1)
        bars.add_column(justify="right")
        done_by_bar = self._run.done_with_shares()
        for bar, job_count in self._run.job_counts.items():
            done_count = self._run.done_counts[bar]
            colour = "green" if done_count == job_count else "cyan"
            if bar in self._run.failed.values():
                colour = "red"
            drawn_bar = ProgressBar(
                job_count,
                done_by_bar.get(bar, 0),
                complete_style=colour,
                finished_style=colour,
            )
            bars.add_row(f"  {bar}", drawn_bar, f"{done_count}/{job_count}")

        jobs = Table.grid(padding=(0, 1), expand=True)
        jobs.add_column(ratio=1, no_wrap=True, overflow="ellipsis")
        jobs.add_column(no_wrap=True)
        jobs.add_column(justify="right")
        most_jobs = max(1, self._console.height - bars.row_count - 3)
        running = list(self._run.running.values())
        for job in running[:most_jobs]:
            duration = run_progress.format_duration(self._run.seconds_of(job))
            jobs.add_row(f"  {job.name}", job.progress()[1], duration)
        parts: list[RenderableType] = [
            Text(self._run.headline(), "bold"),
            bars,
            jobs,
        ]
        if len(running) > most_jobs:
            parts.append(Text(f"  and {len(running) - most_jobs} more"))
        return Group(*parts)

    def close(self) -> None:
        """Draw the end of the run; Python's logging calls this."""
        self._is_closed.set()
        with self._display_lock:
            if self._thread:
                self._draw()
            self._live.stop()
            self._thread = None
        super().close()

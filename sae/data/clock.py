"""Progress through images, told from time to time."""

import logging
import time

from sae.core.progress import report_progress

progress = logging.getLogger("sae.progress")
EVERY = 15.0  # seconds between two lines


class Clock:
    """Logs how much of some work is done and when it will end, and keeps `sae.core.progress` at it.

    Args:
        what: what lines begin with.
        total: the number of images.
        left: the number of those that are not done yet.
    """

    def __init__(self, what: str, total: int, left: int) -> None:
        self.what, self.total, self.left, self.count = what, total, left, left
        self.started = self.told = time.monotonic()

    def tell(self, images: int) -> None:
        """So many images more are done."""
        self.left -= images
        report_progress(self.total - self.left, self.total, "images")
        if time.monotonic() - self.told > EVERY:
            self.told = time.monotonic()
            done, rate = self.total - self.left, self.rate()
            minutes = self.left / rate / 60
            progress.info(
                "%s: %d of %d images, %.0f/s, %.0f min left",
                self.what,
                done,
                self.total,
                rate,
                minutes,
            )

    def end(self) -> None:
        """All is done."""
        taken_up = (
            f" ({self.total - self.count} were there)"
            if self.count < self.total
            else ""
        )
        progress.info(
            "%s: %d images%s, %.0f/s", self.what, self.total, taken_up, self.rate()
        )

    def rate(self) -> float:
        """Images a second."""
        return (self.count - self.left) / max(time.monotonic() - self.started, 1e-9)

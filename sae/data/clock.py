"""Progress through images, told from time to time."""

import logging
import time

from sae.core.progress import report_progress

progress = logging.getLogger("sae.progress")
EVERY = 15.0  # seconds between two lines


class Clock:
    """Logs how much of some work is done and when it will end.

    It also keeps `sae.core.progress` at it.

    Args:
        heading: what lines begin with.
        total: the number of images.
        images_left: the number of those that are not done yet.
    """

    def __init__(self, heading: str, total: int, images_left: int) -> None:
        self.heading = heading
        self.total = total
        self.images_left = images_left
        self.left_at_start = images_left
        self.started_at = time.monotonic()
        self.told_at = self.started_at

    def tell(self, images: int) -> None:
        """Count so many more images as done."""
        self.images_left -= images
        images_done = self.total - self.images_left
        report_progress(images_done, self.total, "images")
        if time.monotonic() - self.told_at <= EVERY:
            return
        self.told_at = time.monotonic()
        rate = self.rate()
        progress.info(
            "%s: %d of %d images, %.0f/s, %.0f min left",
            self.heading,
            images_done,
            self.total,
            rate,
            self.images_left / rate / 60,
        )

    def end(self) -> None:
        """Say that all images are done."""
        done_before = self.total - self.left_at_start
        progress.info(
            "%s: %d images%s, %.0f/s",
            self.heading,
            self.total,
            f" ({done_before} were there)" if done_before > 0 else "",
            self.rate(),
        )

    def rate(self) -> float:
        """Return how many images a second were done since the start."""
        seconds = time.monotonic() - self.started_at
        return (self.left_at_start - self.images_left) / max(seconds, 1e-9)

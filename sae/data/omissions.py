"""Files that a reader of images leaves out.

They are counted by reason, and told with one example of each.
"""

import logging

progress = logging.getLogger("sae.progress")


class Omissions:
    """Counts what one dataset, or one split of it, leaves out.

    Attributes:
        counts: {reason: how many files or members}; a reason is a noun in the plural.
        examples: {reason: the name of the first of them}.
    """

    def __init__(self) -> None:
        self.counts: dict[str, int] = {}
        self.examples: dict[str, str] = {}

    def add(self, reason: str, name: str) -> None:
        """Note one file or member that is left out."""
        self.counts[reason] = self.counts.get(reason, 0) + 1
        self.examples.setdefault(reason, name)

    def tell(self, place: str) -> None:
        """Say one line for each reason.

        Args:
            place: what messages call the dataset, such as "image folder /data".
        """
        for reason, count in self.counts.items():
            example = self.examples[reason]
            progress.info(
                "%s: %d %s are left out, such as %r", place, count, reason, example
            )

    def lines(self) -> list[str]:
        """The reasons with their counts and examples, for a message of an error."""
        return [
            f"{count} {reason}, such as {self.examples[reason]!r}"
            for reason, count in self.counts.items()
        ]

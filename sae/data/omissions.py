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
        expected: the reasons that are no cause for a warning.
    """

    def __init__(self) -> None:
        self.counts: dict[str, int] = {}
        self.examples: dict[str, str] = {}
        self.expected: set[str] = set()

    def add(self, reason: str, name: str, *, expected: bool = False) -> None:
        """Note one file or member that is left out.

        Args:
            reason: why it is.
            name: of the file or member.
            expected: whether nobody takes such a file for one of the dataset.
        """
        self.counts[reason] = self.counts.get(reason, 0) + 1
        self.examples.setdefault(reason, name)
        if expected:
            self.expected.add(reason)

    def tell(self, place: str, *, expected: bool = False) -> None:
        """Say one line for each reason, as a warning where it is not expected.

        Args:
            place: what messages call the dataset, such as "image folder /data".
            expected: whether all reasons are: of an archive whose hash is known.
        """
        for reason, count in self.counts.items():
            is_expected = expected or reason in self.expected
            progress.log(
                logging.INFO if is_expected else logging.WARNING,
                "%s: %d %s are left out, such as %r",
                place,
                count,
                reason,
                self.examples[reason],
            )

    def lines(self) -> list[str]:
        """The reasons with their counts and examples, for a message of an error."""
        return [
            f"{count} {reason}, such as {self.examples[reason]!r}"
            for reason, count in self.counts.items()
        ]

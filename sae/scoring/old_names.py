"""Names of scores that older versions wrote; a table that has one is refused."""

from collections.abc import Collection
from pathlib import Path

from sae.core.errors import UserError

# {the name before: the name now}
RENAMED = {
    "detection_alive": "detection_measured_auc",
    "detection_auc": "detection_measured_auc",
    "detection_auc_all": "detection_per_latent",
    "detection_measured": "coverage",
    "detection_looks": "detection_pixels",
}
# The metrics that gave them.
METRICS = ("detection", "looks")


def refuse(names: Collection[str], file: Path, experiment: str) -> None:
    """Check that a table has no scores under names of before.

    Args:
        names: the scores of `METRICS` that the table may have.
        file: the table, for the message.
        experiment: the one whose table it is.

    Raises:
        UserError: it has.
    """
    old_names = [name for name in RENAMED if name in names]
    if old_names:
        new_names = list(dict.fromkeys(RENAMED[name] for name in old_names))
        raise UserError(
            f"{file}: an older version made it: it has {', '.join(old_names)}, today "
            f"{', '.join(new_names)}; score it anew with `make run "
            f"EXPERIMENT={experiment}`, which trains nothing again"
        )

"""Names that the scores of the metric `detection` had before, and how they are met.

The mean over all latents was `detection`, a mean of 2 AUC - 1, beside a mean AUC over
measured latents, `detection_alive`. Now both are on the scale of AUC, under new names.
Rows that hold the scores of one SAE are brought to these names; tables of them, and
tables of effects, are refused. A latent's own `detection` is an AUC, and keeps its
name.
"""

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from sae.core.errors import UserError

# {the name before: the name now}
RENAMED = {
    "detection_alive": "detection_auc",
    "detection": "detection_auc_all",
    "detection_random_alive": "detection_random_auc",
    "detection_random": "detection_random_auc_all",
}
# Those that were means of 2 AUC - 1.
_RESCALED = ("detection", "detection_random")


def rename(scores: Mapping[str, Any]) -> dict[str, Any]:
    """Return scores under their names of today, on the scale of AUC.

    Only a level takes (x + 1) / 2: a difference of two levels halves. So the rows of
    SAEs are renamed, and tables of effects are made anew from them.

    Args:
        scores: {column: a number, or numbers}, of the metric `detection`.
    """
    renamed = {}
    for name, value in scores.items():
        level = (value + 1) / 2 if name in _RESCALED else value
        renamed[RENAMED.get(name, name)] = level
    return renamed


def refuse(names: Collection[str], file: Path, command: str) -> None:
    """Check that a table has no scores under names of before.

    Args:
        names: the scores of the metric `detection` that the table may have.
        file: the table, for the message.
        command: what helps where an experiment's rows alone were kept.

    Raises:
        UserError: it has.
    """
    old_names = [name for name in RENAMED if name in names]
    if old_names:
        new_names = [RENAMED[name] for name in old_names]
        raise UserError(
            f"{file}: an older version made it: it has {' and '.join(old_names)}, "
            f"today {' and '.join(new_names)}. Run the experiment again, which trains "
            f"and scores nothing anew, or, where its rows alone were kept, `{command}`"
        )

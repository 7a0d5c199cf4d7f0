"""How long the SAEs of a bank train under protocol `fair`: as long as the baseline still gains from more steps.

The baseline trains with several learning rates at lengths that double, until validation says that the last doubling
gained little, or at the longest that is allowed (`sae.scoring.fair.longer`). Nothing is trained again: what is tried
here lies in the store.
"""

import logging
import tempfile
from pathlib import Path
from typing import Any

import pandas as pd

from sae.bank import train
from sae.bank.plan import length_members
from sae.core.errors import UserError
from sae.scoring import fair, stage

progress = logging.getLogger("sae.progress")
_METRICS = ("reconstruction", "monosemanticity")


def find(plan: dict[str, Any], activations_dir: Path, place: train.Place, *, device: str) -> None:
    """Write bank_lengths.json (`place.out`): the SAEs that were tried, and

    `steps`, how long the cell's SAEs train; `undertrained`, whether the baseline would still gain from more; and
    `lengths`: steps, lr, r2, ms (on val) of each of them that did not diverge.

    Args:
        plan: see `sae.bank.plan`; with `fair`.
        activations_dir: folder of the splits of one (dataset, backbone).

    Raises:
        UserError: a bad plan or bad activations, or every learning rate diverged.
    """
    rule = plan["fair"]["steps"]
    cell = train.open_cell(plan, activations_dir, None, device)
    splits = stage.Data({"val": Path(activations_dir) / "val"})
    options = {name: stage.options_of(name, None) for name in _METRICS}
    entries: list[dict[str, Any]] = []
    steps: int | None = rule["first"]
    with tempfile.TemporaryDirectory() as rows:
        while steps is not None:
            entries += train.bring(length_members(plan, steps), cell, place)
            bank = stage.Bank(place.out, train.content(entries, cell, place), entries, list(_METRICS))
            scored = stage.score([bank], options, splits, Path(rows), device, ("val",))
            tried = _tried(stage.as_tables(scored)[0].to_pandas())
            if steps not in set(tried["steps"]):
                raise UserError(f"{cell}: the baseline diverged at every learning rate: lower `fair.lr`")
            last, steps = steps, fair.longer(tried, rule)
    undertrained = not fair.settled(tried, rule)
    said = " (UNDERTRAINED: it would gain from more)" if undertrained else ""
    progress.info("%s: %d steps%s", cell, last, said)
    more = {"steps": last, "undertrained": undertrained, "lengths": tried.to_dict("records")}
    train.write(entries, cell, place, more)


def _tried(validation: pd.DataFrame) -> pd.DataFrame:
    found = validation.assign(ms=fair.ms(validation))
    return found[found["status"] == "ok"][["steps", "lr", "r2", "ms"]].reset_index(drop=True)

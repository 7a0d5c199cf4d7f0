"""Train a cell: each protocol says which SAEs come next, they are trained, scored on validation, and it is asked again.

No test image is read. What was trained lies in the store, what was scored in the store of rows: a choice that fails, or
a job that is killed, loses the SAE in training and no more.
"""

import logging
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa

from sae.bank.plan import Member, Plan, named
from sae.bank.train import Place, Trainer, cell_of
from sae.core import files, registry, workers
from sae.core.errors import UserError
from sae.core.options import Count
from sae.protocols._history import Choice, History
from sae.scoring import rows as rows_of
from sae.scoring import stage
from sae.scoring.rows import CELL

VERSION = 1
progress = logging.getLogger("sae.progress")


def train(
    settings: Plan,
    activations_dir: Path,
    place: Place,
    scores: Path,
    *,
    others: dict[str, Path] | None = None,
    at_once: Count = 1,
    device: str = "cpu",
) -> None:
    """Write bank.json (`place.bank`), and selection.parquet and validation.parquet in `scores`.

    Args:
        settings: what the cell trains; JSON of `sae.bank.plan.Plan`.
        activations_dir: folder of the splits of one (dataset, backbone); `train` and `val` are read.
        scores: folder of the cell's scores.
        others: {backbone: folder of its splits} of the experiment's other backbones, where a protocol reads them.
        at_once: SAEs to train side by side, each in a process of its own; the result is the same.
        device: of PyTorch: cpu, cuda, cuda:1, mps, or auto for the best there is.

    Raises:
        UserError: a bad plan or bad activations, or what a protocol raises.
    """
    plan, choices, tables = settings, dict[str, Choice](), []
    with workers.pool(at_once) as side_by_side:
        trainer = Trainer(
            plan, cell_of(plan, activations_dir, device), place, side_by_side
        )
        for name, options in plan.protocols.items():
            read = registry.load("protocol", name).METRICS
            metrics = {
                metric: stage.options_of(metric, plan.metrics.get(metric))
                for metric in read
            }
            rows = scores / ".rows/train" / name
            scorer = stage.Scorer(
                metrics, activations_dir, others or {}, rows, device, ("val",)
            )
            with scorer.kept():
                choices[name], table = follow(plan, name, options, trainer, scorer)
            tables.append(table)
    judged = set[tuple[str, str, int]]().union(
        *(choice.judged for choice in choices.values())
    )
    saes = [
        replace(e, judged=e.ok and (e.method, e.name, e.seed) in judged)
        for e in trainer.bank.saes
    ]
    replace(
        trainer.bank,
        saes=saes,
        facts={name: choice.facts for name, choice in choices.items()},
    ).write()
    place.unfinished.unlink(missing_ok=True)
    files.write_parquet(scores / "validation.parquet", rows_of.joined(tables))
    cell = plan.model_dump(include={*CELL})
    chosen = [
        cell | {"protocol": name} | row
        for name, choice in choices.items()
        for row in choice.rows
    ]
    # A seed is none where a choice is of all seeds.
    files.write_parquet(
        scores / "selection.parquet",
        rows_of.table(chosen, [*CELL, "method", "seed", "protocol"]),
    )


def follow(
    plan: Plan,
    name: str,
    options: dict[str, Any],
    trainer: Trainer,
    scorer: stage.Scorer,
) -> tuple[Choice, pa.Table]:
    """Train what a protocol asks for until it asks for no more; what it then chooses, and all scores on validation."""
    protocol, typed = (
        registry.load("protocol", name),
        registry.head("protocol", name).options.of_record(options),
    )
    trained: dict[str, Member] = {}
    while True:
        own = [
            (entry, list(protocol.METRICS))
            for entry in trainer.bank.saes
            if entry.protocol == name
        ]
        table = scorer.score(trainer.bank, own)[0]
        scorer.write()
        history = History(plan, typed, trained, table.to_pandas())
        new = named(
            member for member in protocol.next(history) if member.path not in trained
        )
        if not new:
            break
        asked = {(m.method, m.name, m.settings.seed): path for path, m in new.items()}
        for (
            entry
        ) in trainer.bank.saes:  # By names, since one that diverged has no path.
            if path := asked.get((entry.method, entry.name, entry.seed)):
                said = f"protocols {entry.protocol} and {name} both ask for {path}"
                raise UserError(
                    f"{plan.cell}: {said}: give one of them a trial or seed of its own"
                )
        trainer.bring(list(new.values()))
        trained = trained | new
    choice = protocol.choose(history)
    counts = Counter(row["status"] for row in choice.rows)
    said = (
        ", ".join(f"{count} {status}" for status, count in counts.items())
        or "nothing to choose"
    )
    progress.info("%s: protocol %s: %d SAEs; %s", plan.cell, name, len(trained), said)
    return choice, table

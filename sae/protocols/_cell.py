"""Train a cell: each protocol says which SAEs come next, until it asks for no more.

They are trained, scored on validation, and the protocol is asked again. No test image
is read. What was trained lies in the store, what was scored in the store of rows: a
choice that fails, or a job that is killed, loses the SAE in training and no more.
"""

import logging
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa

from sae.bank.plan import LEFT_OUT, Plan
from sae.bank.read import Bank
from sae.bank.sae import Sae
from sae.bank.train import CellData, Place, Trainer, cell_data_of
from sae.core import files, registry, workers
from sae.core.options import Count, from_record
from sae.protocols._history import Choice, History
from sae.scoring import rows, stage
from sae.training.objectives import imported

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
    """Train and choose the SAEs of a cell.

    Writes bank.json (`place.bank`), and selection.parquet and validation.parquet in
    `scores`.

    Args:
        settings: what the cell trains; JSON of `sae.bank.plan.Plan`.
        activations_dir: folder of the splits of one (dataset, backbone); `train` and
            `val` are read.
        scores: folder of the cell's scores.
        others: {backbone: folder of its splits} of the experiment's other backbones,
            where a protocol reads them.
        at_once: SAEs to train side by side, each in a process of its own; the result is
            the same.
        device: of PyTorch: cpu, cuda, cuda:1, mps, or auto for the best there is.

    Raises:
        UserError: a bad plan or bad activations, or what a protocol raises.
    """
    plan = settings
    choices: dict[str, Choice] = {}
    validation_tables = []
    with workers.pool(at_once) as side_by_side:
        cell_data = cell_data_of(plan, activations_dir, device)
        plan, left_out = _without_misfits(plan, cell_data)
        trainer = Trainer(plan, cell_data, place, side_by_side)
        # An SAE that two protocols ask for counts as the first one's; tables of the
        # paper read those of `paper`.
        for name in sorted(plan.protocols, key=lambda name: name != "paper"):
            options = plan.protocols[name]
            metrics = {
                metric: stage.options_of(metric, plan.metrics.get(metric))
                for metric in registry.load("protocol", name).METRICS
            }
            stored_rows = scores / ".rows/train" / name
            scorer = stage.Scorer(
                metrics, activations_dir, others or {}, stored_rows, device, ("val",)
            )
            with scorer.kept():
                choice, validation = _follow(plan, name, options, trainer, scorer)
            choices[name] = choice
            validation_tables.append(validation)

    _tell_of_warnings(trainer.bank)
    _write_bank(trainer.bank, choices, left_out)
    place.unfinished.unlink(missing_ok=True)
    files.write_parquet(scores / "validation.parquet", rows.joined(validation_tables))
    files.write_parquet(scores / "selection.parquet", _selection(plan, choices))


def _follow(
    plan: Plan,
    name: str,
    options: dict[str, Any],
    trainer: Trainer,
    scorer: stage.Scorer,
) -> tuple[Choice, pa.Table]:
    """Train what a protocol asks for until it asks for no more, and let it choose."""
    protocol = registry.load("protocol", name)
    protocol_options = from_record(registry.head("protocol", name).options, options)
    trained: dict[str, Sae] = {}
    while True:
        # Rows that were computed in an earlier turn are read again.
        metrics_by_sae = [
            (sae, list(protocol.METRICS))
            for sae in trainer.bank.saes
            if sae.path in trained
        ]
        validation, _, _ = scorer.score(trainer.bank, metrics_by_sae)
        scorer.write()

        # Copies: what a protocol changes in them is not what the cell goes on with.
        history = History(
            plan.model_copy(deep=True),
            protocol_options,
            dict(trained),
            validation.to_pandas(),
        )
        lacking = {
            sae.path: sae for sae in protocol.next(history) if sae.path not in trained
        }
        if not lacking:
            break
        # An SAE that an earlier protocol asked for is there already.
        in_bank = {sae.path for sae in trainer.bank.saes}
        trainer.bring([sae for path, sae in lacking.items() if path not in in_bank])
        trained = {**trained, **lacking}

    choice = protocol.choose(history)
    row_counts = Counter(row["status"] for row in choice.rows)
    counts_text = ", ".join(f"{count} {status}" for status, count in row_counts.items())
    progress.info(
        "%s: protocol %s: %d SAEs; %s",
        plan.cell,
        name,
        len(trained),
        counts_text or "nothing to choose",
    )
    return choice, validation


def _without_misfits(plan: Plan, cell_data: CellData) -> tuple[Plan, dict[str, str]]:
    """Return the plan without SAEs of other datasets, and {method: the reason}."""
    left_out = {}
    for name, method in plan.methods.items():
        if method.objective == "imported":
            options = imported.Options(**method.options)
            why = imported.misfit(options, cell_data.embeddings)
            if why:
                left_out[name] = why
                progress.warning("%s: %s is left out: it %s", plan.cell, name, why)
    methods = {
        name: method for name, method in plan.methods.items() if name not in left_out
    }
    return plan.model_copy(update={"methods": methods}), left_out


def _tell_of_warnings(bank: Bank) -> None:
    """Say what the training of SAEs warned of, perhaps in another job: each once."""
    saes_by_warning: dict[str, list[Sae]] = {}
    for sae in bank.saes:
        for text in sae.warnings:
            saes_by_warning.setdefault(text, []).append(sae)
    for text, saes in saes_by_warning.items():
        others = f" and {len(saes) - 1} more" if len(saes) > 1 else ""
        progress.warning("%s: %s%s: %s", saes[0].cell, saes[0], others, text)


def _write_bank(
    bank: Bank, choices: Mapping[str, Choice], left_out: dict[str, str]
) -> None:
    chosen = set[tuple[str, str, int]]()
    for choice in choices.values():
        chosen.update(choice.chosen)
    saes = []
    for sae in bank.saes:
        is_chosen = sae.ok and sae.table_key in chosen
        saes.append(replace(sae, chosen=is_chosen))
    facts = {name: choice.facts for name, choice in choices.items()}
    if left_out:
        facts[LEFT_OUT] = left_out
    replace(bank, saes=saes, facts=facts).write()


def _selection(plan: Plan, choices: Mapping[str, Choice]) -> pa.Table:
    """Return selection.parquet; `seed` is null where a choice is of all seeds."""
    cell = plan.model_dump(include={*rows.CELL})
    chosen_rows = []
    for name, choice in choices.items():
        for row in choice.rows:
            chosen_rows.append({**cell, "protocol": name, **row})
    return rows.table(chosen_rows, [*rows.CELL, "method", "seed", "protocol"])

"""Choose a bank's trials: scores on the validation split, then the rule of each protocol.

Protocol `paper` (`sae.scoring.selection`) reads reconstruction alone. Protocol `fair` (`sae.scoring.fair`) also reads
MS, L0 and how many latents fire on the training images; it chooses twice, a shortlist and then the candidates.
"""

import logging
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa

from sae.core import files
from sae.scoring import fair, selection, stage
from sae.scoring.rows import CELL, FAIR

progress = logging.getLogger("sae.progress")
METRIC = "reconstruction"


def select(
    bank_file: Path,
    activations_dir: Path,
    settings: dict[str, Any],
    out: Path,
    *,
    shortlist_file: Path | None = None,
    device: str = "cpu",
) -> None:
    """Write selection.parquet (`out`) and, beside it, validation.parquet: the scores that the choice rests on.

    Args:
        bank_file: bank.json.
        activations_dir: folder of the splits of this (dataset, backbone); `val` is read, and `train` for `fair`.
        settings: {methods: as of :func:`sae.scoring.selection.choose`, fair: the rule of protocol `fair` and its
            methods, or None}.
        shortlist_file: bank_shortlist.json, with `fair`.

    Raises:
        UserError: a file is missing or damaged, or a method has nothing to be compared with.
    """
    bank_files = [Path(bank_file), *([Path(shortlist_file)] if shortlist_file else [])]
    banks = [files.read_json(file, "bank") for file in bank_files]
    scored = _score(bank_files, banks, activations_dir, settings, Path(out), device)
    validation = stage.as_tables(scored)[0]
    rows = validation.to_pandas()
    choice = selection.choose(selection.under(rows, "paper"), settings["methods"])
    if rule := settings["fair"]:
        trials = selection.under(rows, FAIR)
        # Of the first round only what was shortlisted has every tuning seed.
        candidates = fair.choose(fair.scores(trials), rule["methods"], rule, {name: banks[0][name] for name in CELL})
        steps = {name: banks[0][name] for name in ("steps", "undertrained")}
        choice = pd.concat([choice, candidates.assign(**steps)], ignore_index=True)
    files.write_parquet(Path(out).with_name("validation.parquet"), validation)
    files.write_parquet(out, pa.Table.from_pandas(choice, preserve_index=False).replace_schema_metadata())
    counts = choice.groupby("protocol", sort=False)["status"].value_counts()
    said = ", ".join(f"{count} {status} ({protocol})" for (protocol, status), count in counts.items())
    _say(banks[0], f"selection: {said}; {scored.said}")


def shortlist(
    bank_file: Path, activations_dir: Path, settings: dict[str, Any], out: Path, *, device: str = "cpu"
) -> None:
    """Write shortlist.parquet (`out`): the trials of protocol `fair` that get more tuning seeds; columns method, trial.

    Args:
        bank_file, activations_dir: as for :func:`select`.
        settings: {fair: trials, methods, shortlist, near}.

    Raises:
        UserError: a file is missing or damaged, the methods have unequal numbers of trials, or a baseline diverged.
    """
    bank, rule = files.read_json(bank_file, "bank"), settings["fair"]
    scored = _score([Path(bank_file)], [bank], activations_dir, settings, Path(out), device)
    validation = stage.as_tables(scored)[0].to_pandas()
    picked = fair.shortlist(fair.scores(selection.under(validation, FAIR)), rule["methods"], rule)
    files.write_parquet(out, pa.Table.from_pandas(picked, preserve_index=False).replace_schema_metadata())
    counts = ", ".join(f"{count} of {method}" for method, count in picked["method"].value_counts().items())
    _say(bank, f"shortlist: {counts}; {scored.said}")


def _score(
    bank_files: list[Path],
    banks: list[dict[str, Any]],
    activations_dir: Path,
    settings: dict[str, Any],
    out: Path,
    device: str,
) -> stage.Scored:
    """Scores on val, and nothing else: no other split is even opened, but train for the firing of latents."""
    splits = ("train", "val") if settings["fair"] else ("val",)
    data = stage.Data({split: Path(activations_dir) / split for split in splits})
    scoring = []
    for file, bank in zip(bank_files, banks, strict=True):
        for protocol, names in (("paper", [METRIC]), (FAIR, list(fair.METRICS))):
            entries = [entry for entry in bank["saes"] if entry["protocol"] == protocol]
            scoring.append(stage.Bank(file, bank, entries, names))
    every = list(fair.METRICS) if settings["fair"] else [METRIC]
    options = {name: stage.options_of(name, None) for name in every}
    return stage.score(scoring, options, data, out.parent / ".rows/select", device, ("val",))


def _say(bank: dict[str, Any], said: str) -> None:
    progress.info("%s / %s / k%d: %s", bank["dataset"], bank["backbone"], bank["k"], said)

"""Choose a bank's trials: reconstruction on the validation split alone, then the rule (`sae.scoring.selection`)."""

import logging
from pathlib import Path
from typing import Any

import pyarrow as pa

from sae.core import files
from sae.scoring import selection, stage

progress = logging.getLogger("sae.progress")
METRIC = "reconstruction"


def select(bank_file: Path, activations_dir: Path, settings: dict[str, Any], out: Path, *, device: str = "cpu") -> None:
    """Write selection.parquet (`out`) and, beside it, validation.parquet: the scores that the choice rests on.

    Args:
        bank_file: bank.json.
        activations_dir: folder of the splits of this (dataset, backbone); only `val` is read.
        settings: {methods: as of :func:`sae.scoring.selection.choose`, protocol}.

    Raises:
        UserError: a file is missing or damaged, or a method has nothing to be compared with.
    """
    bank, out = files.read_json(bank_file, "bank"), Path(out)
    data = stage.Data({"val": Path(activations_dir) / "val"})
    banks = [stage.Bank(Path(bank_file), bank, bank["saes"], [METRIC])]
    options = {METRIC: stage.options_of(METRIC, None)}
    scored = stage.score(banks, options, data, out.parent / ".rows/select", device, ("val",))
    validation = stage.as_tables(scored)[0]
    choice = selection.choose(validation.to_pandas(), settings["methods"], settings["protocol"])
    files.write_parquet(out.with_name("validation.parquet"), validation)
    files.write_parquet(out, pa.Table.from_pandas(choice, preserve_index=False).replace_schema_metadata())
    counts = choice["status"].value_counts().to_dict()
    said = ", ".join(f"{count} {status}" for status, count in sorted(counts.items()))
    said = f"selection: {said}; {scored.said}"
    progress.info("%s / %s / k%d: %s", bank["dataset"], bank["backbone"], bank["k"], said)

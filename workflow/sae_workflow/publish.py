"""Lay out an experiment's chosen SAEs as the Hugging Face hub expects them.

`make publish EXPERIMENT=NAME` does. `results/{experiment}/hub/` gets a folder per SAE,
as SAELens loads it (`cfg.json`, `sae_weights.safetensors`), and a README that says what
they are worth and what they were made from. Nothing is uploaded. Snakemake lacks it:
its storage plugins copy a rule's files as they are.
"""

from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pandas as pd

from sae.bank.read import Bank
from sae.bank.read import read as read_bank
from sae.bank.sae import Sae
from sae.comparison.scores import SCORES
from sae.config.models import Config
from sae.core import files, paths, registry
from sae.core.errors import UserError
from sae.report.markup import markdown
from sae.scoring.rows import read_metrics
from sae_workflow import missing_inputs, settings
from sae_workflow.command_line import run_command

# Columns that tell the rows of metrics apart.
ROW_KEY = ["dataset", "backbone", "k", "method", "trial", "seed", "protocol"]
# The scores in the README, of those that an experiment has, on test.
SHOWN_SCORES = [
    "r2",
    "l0",
    "dead",
    "ms",
    "ms_across",
    "detection",
    "detection_per_latent",
    "detection_per_activation",
    "coverage",
    "detection_pixels",
    "ms_independent",
    "ms_independent_across",
    "purity",
    "probe_auc",
]
# The README with {places}. `embeddings` of its examples is an (N, d) tensor, as the
# backbone gave them.
CARD = settings.HERE / "resources/hub.md"


def publish(experiment: str, *overlays: str) -> Path:
    """Write the folder of an experiment's SAEs; it must not exist.

    Args:
        experiment: The name of an experiment of config.yaml.
        overlays: Files that are laid over config.yaml.

    Returns:
        The folder.

    Raises:
        UserError: there is no such experiment, it has no results, they are older than
            its SAEs, a file is damaged, or the folder is there.
    """
    config = settings.read_config("config.yaml", *overlays)
    missing_inputs.refuse_unknown_experiment(config, experiment)
    folder = Path(paths.HUB.format(experiment=experiment))
    if folder.exists():
        raise UserError(
            f"{folder} is there already: move it away, or delete it, and run again"
        )

    metrics_file = Path(paths.METRICS.format(experiment=experiment))
    metrics = read_metrics(metrics_file)
    test_rows = metrics[metrics["split"] == "test"].set_index(ROW_KEY)
    exporter = registry.load("exporter", "saelens")
    rows = []
    with files.atomic_directory(folder) as temporary:
        for bank, entry in _trained_saes(config, experiment):
            if bank.file.stat().st_mtime > metrics_file.stat().st_mtime:
                raise UserError(
                    f"{bank.file} is newer than {metrics_file}: run `snakemake "
                    f"{experiment}` to its end first"
                )
            cell = (bank.dataset, bank.backbone, bank.k)
            row = test_rows.loc[(*cell, *entry.table_key, entry.protocol)]
            if entry.chosen or row["selected"]:
                folder_name = _folder_name(bank, entry)
                _export(bank, entry, exporter, temporary / folder_name)
                row_as_table = row.to_frame().T
                scores = {
                    SCORES[name].heading: SCORES[name].of(row_as_table).item()
                    for name in SHOWN_SCORES
                }
                rows.append(
                    {"folder": folder_name, "protocol": entry.protocol, **scores}
                )
        if not rows:
            raise UserError(f"{experiment} has no SAE that was trained here and chosen")
        readme = _readme(config, experiment, pd.DataFrame(rows))
        files.write_text(temporary / "README.md", readme)
    return folder


def _trained_saes(config: Config, experiment: str) -> Iterator[tuple[Bank, Sae]]:
    """Yield every SAE of the experiment's methods that was trained here, with its bank.

    Controls are left out.
    """
    trained_methods = [
        name
        for name in config.experiments[experiment].methods
        if not (config.methods[name].control or config.methods[name].imported)
    ]
    for cell in settings.cells(config, experiment):
        bank = read_bank(paths.BANK.format(experiment=experiment, **cell.wildcards))
        for entry in bank.saes:
            if entry.ok and entry.method in trained_methods:
                yield bank, entry


def _folder_name(bank: Bank, entry: Sae) -> str:
    name = f"{bank.dataset}-{bank.backbone}-k{bank.k}-{entry.method}-seed{entry.seed}"
    if entry.protocol != "paper":
        # Another protocol may judge several trials of one method and seed.
        name += f"-{entry.protocol}-{entry.name}"
    return name


def _export(bank: Bank, entry: Sae, exporter: ModuleType, folder: Path) -> None:
    """Write an SAE of a bank into a new folder, as SAELens loads it."""
    folder.mkdir()
    coder = bank.open(entry)
    # Not what the SAE's first maker called it: what it is here.
    names_here = {
        "dataset": bank.dataset,
        "backbone": bank.backbone,
        "k": bank.k,
        "method": entry.method,
        "trial": entry.trial,
        "seed": entry.seed,
    }
    exporter.write(coder, folder, {**coder.metadata, **names_here})


def _readme(config: Config, experiment: str, saes: pd.DataFrame) -> str:
    """Return the README of an experiment's SAEs, a table with a row for each."""
    description = config.experiments[experiment].description or "SAEs of one's own"
    return CARD.read_text(encoding="utf-8").format(
        experiment=experiment,
        description=description[:1].upper() + description[1:],
        count=len(saes),
        protocols=" and ".join(f"protocol `{p}`" for p in sorted({*saes["protocol"]})),
        first=saes["folder"][0],
        meanings="\n".join(
            f"- `{SCORES[name].heading}`: {SCORES[name].what}" for name in SHOWN_SCORES
        ),
        table=markdown(saes.dropna(axis="columns", how="all").map(_number)),
        sources="\n".join(_sources(config, experiment)),
    )


def _number(value: Any) -> str:
    """Return a number with at most three decimals; a text as it is."""
    if isinstance(value, str):
        return value
    return "-" if pd.isna(value) else f"{value:.3f}".rstrip("0").rstrip(".")


def _sources(config: Config, experiment: str) -> Iterator[str]:
    """Yield a line for each dataset and backbone, and below it where it comes from."""
    spec = config.experiments[experiment]
    entries: dict[str, Any] = {}
    for name in spec.datasets:
        entries[f"dataset {name}"] = config.datasets[name]
    for name in spec.backbones:
        entries[f"backbone {name}"] = config.backbones[name]
    for name in spec.judges:
        entries[f"judge {name}"] = config.backbones[name]

    for title, entry in entries.items():
        if not entry.artifact_names:
            yield (
                f"- {title}: its licence is not known here; look it up where you have "
                "it from"
            )
            continue
        yield f"- {title}"
        for name in entry.artifact_names:
            artifact = settings.artifacts()[name]
            yield (
                f"  - {name} {artifact['version']}: {artifact['citation']}. "
                f"{artifact['licence']}. {artifact['homepage']}"
            )


def main(experiment: str, *overlays: str) -> None:
    """Publish an experiment, and say what to do next."""
    folder = publish(experiment, *overlays)
    count = sum(path.is_dir() for path in folder.iterdir())
    print(
        f"{folder}: {count} SAEs. Look at its README; then: huggingface-cli upload "
        f"OWNER/NAME {folder}"
    )


if __name__ == "__main__":
    run_command(main)

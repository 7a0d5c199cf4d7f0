"""Lay out an experiment's chosen SAEs as the Hugging Face hub expects them: `make publish EXPERIMENT=NAME`.

`results/{experiment}/hub/` gets a folder per SAE, as SAELens loads it (`cfg.json`, `sae_weights.safetensors`), and a
README that says what they are worth and what they were made from. Nothing is uploaded.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd

from sae.bank.read import Bank, BankedSae
from sae.bank.read import read as read_bank
from sae.comparison import intervals, published
from sae.comparison.scores import SCORES
from sae.config.models import Config
from sae.core import files, paths, registry
from sae.core.errors import UserError
from sae.data.artifacts import names as artifact_names
from sae.report.markup import markdown
from sae_workflow import missing, settings
from sae_workflow.start import start

KEY = ["dataset", "backbone", "k", "method", "trial", "seed"]
# Of these those that an experiment has, on test.
SHOWN = [
    "r2",
    "l0",
    "dead",
    "ms",
    "ms_across",
    "detection_alive",
    "ms_independent",
    "ms_independent_across",
    "purity",
]
SHOWN += ["probe_auc"]
# `embeddings` of its examples is an (N, d) tensor, as the backbone gave them.
CARD = settings.HERE / "resources/hub.md"
_INTERVALS = " In brackets, where several seeds were trained: the 95 % interval of their mean, by Student's t."


def publish(experiment: str, *overlays: str) -> Path:
    """Write the folder of an experiment of config.yaml, with files laid over it; it must not exist.

    Raises:
        UserError: there is no such experiment, it has no results, they are older than its SAEs, a file is damaged, or
            the folder is there.
    """
    config = settings.read("config.yaml", *overlays)
    if experiment not in config.experiments:
        raise missing.unknown(config, experiment)
    out, scored = (
        Path(pattern.format(experiment=experiment))
        for pattern in (paths.HUB, paths.METRICS)
    )
    if out.exists():
        raise UserError(
            f"{out} is there already: move it away, or delete it, and run again"
        )
    scores = files.read_parquet(scored)
    scores = scores[scores["split"] == "test"].set_index([*KEY, "protocol"])
    exporter, rows = registry.load("exporter", "saelens"), []
    with files.atomic_directory(out) as temporary:
        for bank, entry in _entries(config, experiment):
            if bank.file.stat().st_mtime > scored.stat().st_mtime:
                raise UserError(
                    f"{bank.file} is newer than {scored}: run `snakemake {experiment}` to its end first"
                )
            cell = (bank.dataset, bank.backbone, bank.k)
            row = scores.loc[
                (*cell, entry.method, entry.name, entry.seed, entry.protocol)
            ]
            if not (entry.judged or row["selected"]):
                continue
            made = dict(
                zip(KEY, (*cell, entry.method, entry.trial, entry.seed), strict=True)
            )
            name = "{dataset}-{backbone}-k{k}-{method}-seed{seed}".format(**made)
            # Of one method and seed another protocol may judge several.
            name += (
                "" if entry.protocol == "paper" else f"-{entry.protocol}-{entry.name}"
            )
            coder = bank.open(entry)
            (temporary / name).mkdir()
            # Not what the SAE's first maker called it: what it is here.
            exporter.write(coder, temporary / name, coder.metadata | made)
            given = {
                SCORES[score].heading: SCORES[score].of(row.to_frame().T).item()
                for score in SHOWN
            }
            of = (
                "" if entry.protocol == "paper" else entry.name
            )  # There validation chooses one trial for each seed.
            same = (*cell, entry.method, entry.protocol, of)
            rows.append(
                {"folder": name, "protocol": entry.protocol, "same": same} | given
            )
        if not rows:
            raise UserError(f"{experiment} has no SAE that was trained here and chosen")
        said = config.experiments[experiment].description or "SAEs of one's own"
        table, protocols = pd.DataFrame(rows), sorted({row["protocol"] for row in rows})
        means, table = _means(table), table.drop(columns="same")
        readme = CARD.read_text(encoding="utf-8").format(
            experiment=experiment,
            description=said[:1].upper() + said[1:],
            count=len(rows),
            protocols=" and ".join(f"protocol `{name}`" for name in protocols),
            first=rows[0]["folder"],
            intervals=_INTERVALS if len(means) else "",
            said="\n".join(
                f"- `{SCORES[name].heading}`: {SCORES[name].what}" for name in SHOWN
            ),
            tables="\n\n".join(map(_text, [means, table] if len(means) else [table])),
            sources="\n".join(_sources(config, experiment)),
        )
        files.write_text(temporary / "README.md", readme)
    return out


def _means(saes: pd.DataFrame) -> pd.DataFrame:
    """A row for each method of a cell with several seeds: how many, and each score's mean with its interval."""
    rows = []
    for (dataset, backbone, k, method, protocol, trial), of in saes.groupby(
        "same", sort=False
    ):
        if len(of) > 1:
            about = {
                "SAEs": f"{dataset}-{backbone}-k{k}-{method}",
                "protocol": protocol,
                "trial": trial,
            }
            scores = of.drop(columns=["folder", "protocol", "same"])
            rows.append(
                about
                | {"seeds": str(len(of))}
                | {name: _mean(scores[name]) for name in scores}
            )
    return pd.DataFrame(rows)


def _mean(values: pd.Series) -> str:
    mean, half, _ = intervals.student(values.to_numpy(float))
    return published.interval(mean, mean - half, mean + half, _number)


def _text(table: pd.DataFrame) -> str:
    return markdown(table.dropna(axis="columns", how="all").map(_number))


def _number(value: Any) -> str:
    if isinstance(value, str):
        return value
    return "-" if pd.isna(value) else f"{value:.3f}".rstrip("0").rstrip(".")


def _entries(config: Config, experiment: str) -> Iterator[tuple[Bank, BankedSae]]:
    """Every SAE of the experiment's methods that was trained here, but for controls, with its bank."""
    named = config.experiments[experiment].methods
    ours = [
        name
        for name in named
        if not (config.methods[name].control or config.methods[name].imported)
    ]
    for cell in settings.banks(config, experiment):
        bank = read_bank(paths.BANK.format(experiment=experiment, **cell))
        yield from (
            (bank, entry) for entry in bank.saes if entry.ok and entry.method in ours
        )


def _sources(config: Config, experiment: str) -> Iterator[str]:
    """A line for each dataset and backbone, and below it what is known of where it comes from."""
    spec = config.experiments[experiment]
    specs = {f"dataset {name}": config.datasets[name].spec for name in spec.datasets}
    specs |= {
        f"backbone {name}": config.backbones[name].spec for name in spec.backbones
    }
    specs |= {
        f"judge {name}, of `independent` alone": config.backbones[name].spec
        for name in spec.judges
    }
    for name, given in specs.items():
        own = artifact_names(given)
        yield f"- {name}" + (
            ""
            if own
            else ": its licence is not known here; look it up where you have it from"
        )
        for artifact in own:
            of = settings.artifacts()[artifact]
            yield f"  - {artifact} {of['version']}: {of['citation']}. {of['licence']}. {of['homepage']}"


def main(experiment: str, *overlays: str) -> None:
    """Publish, and say what to do next."""
    out = publish(experiment, *overlays)
    count = sum(path.is_dir() for path in out.iterdir())
    print(
        f"{out}: {count} SAEs. Look at its README; then: huggingface-cli upload OWNER/NAME {out}"
    )


if __name__ == "__main__":
    start(main)

"""Lay out an experiment's chosen SAEs as the Hugging Face hub expects them: `make publish EXPERIMENT=NAME`.

`results/{experiment}/hub/` gets a folder per SAE, as SAELens loads it (`cfg.json`, `sae_weights.safetensors`), and a
README that says what they are worth and what they were made from. Nothing is uploaded.
"""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd

from sae.bank.read import open_sae
from sae.core import files, paths, registry
from sae.core.errors import UserError
from sae.report.tables import markdown
from sae_workflow import missing, settings

FORMAT = "saelens"
KEY = ["dataset", "backbone", "k", "method", "trial", "seed"]
# Columns of metrics.parquet, on test; those that an experiment has.
SHOWN = ["r2", "l0", "dead", "ms_mean_alive", "ms_mean_alive_independent", "purity_binary", "probe_auc"]
_README = """\
---
library_name: saelens
license: other
tags: [sparse-autoencoder, vision, interpretability]
---
# Sparse autoencoders on vision embeddings: {experiment}

{description}. {count} SAEs, each in a folder of its own. They take embeddings as the backbone gives them where
`cfg.json` says `constant_norm_rescale`; else inputs as its `metadata` says (`input_norm`, `input_scale`).

```python
from sae_lens import SAE

sae = SAE.load_from_disk("{first}")  # or SAE.from_pretrained("OWNER/NAME", "{first}"), once it is on the hub
codes = sae.encode(embeddings)
```

## What they are worth

Scores on test images, which neither training nor selection saw. `r2`: variance explained; `ms`: Monosemanticity Score
over alive latents, by the SAE's own backbone, and by backbones of other families (`independent`).

{table}

## What they were made from

{sources}

`cfg.json` names what made each SAE under `metadata.made_by`: method, trial, seed, data, the hash of the embeddings and
that of the code. The licence of the weights is for whoever publishes them to state, above; those of the data and of the
backbones are listed here.
"""


def publish(experiment: str, folder: Path | None = None) -> Path:
    """Write the folder; it must not exist.

    Raises:
        UserError: there is no such experiment, it has no results, a file is damaged, or the folder is there.
    """
    config = settings.read("config.yaml")
    if experiment not in config.experiments:
        raise UserError(f"there is no experiment {experiment!r}; there are: {', '.join(config.experiments)}")
    registry.extend(config.extensions)
    out = folder or Path(paths.HUB.format(experiment=experiment))
    if out.exists():
        raise UserError(f"{out} is there already: move it away, or delete it, and run again")
    metrics = files.read_parquet(paths.METRICS.format(experiment=experiment))
    chosen = metrics[(metrics["split"] == "test") & metrics["selected"]]
    exporter, rows = registry.load("exporter", FORMAT), []
    with files.atomic_directory(out) as temporary:
        for bank_file, bank, entry in _entries(config, experiment):
            key = [bank[name] for name in KEY[:3]] + [entry["method"], paths.trial_name(entry["trial"]), entry["seed"]]
            row = chosen[(chosen[KEY] == pd.Series(key, KEY)).all(axis=1)]
            if row.empty:
                continue
            name = f"{key[0]}-{key[1]}-k{key[2]}-{key[3]}-seed{key[5]}"
            coder = open_sae(bank_file, bank, entry)
            (temporary / name).mkdir()
            exporter.write(coder, temporary / name, coder.metadata)
            rows.append({"folder": name} | {c: row[c].iloc[0] for c in SHOWN if c in row})
        if not rows:
            raise UserError(f"{experiment} has no SAE that selection chose")
        table = pd.DataFrame(rows)
        table = table.drop(columns=[c for c in table if table[c].isna().all()])
        text = table.map(_number)
        about = {"experiment": experiment, "description": config.experiments[experiment].description.capitalize()}
        about |= {"count": str(len(rows)), "first": rows[0]["folder"], "table": markdown(text)}
        sources = "\n".join(_sources(config, experiment))
        files.write_text(temporary / "README.md", _README.format(**about, sources=sources))
    return out


def _number(value: Any) -> str:
    if isinstance(value, str):
        return value
    return "-" if pd.isna(value) else f"{value:.3f}".rstrip("0").rstrip(".")


def _entries(config: Any, experiment: str) -> Iterator[tuple[Path, dict[str, Any], dict[str, Any]]]:
    """(file, its content, entry) of every SAE of protocol `paper` that was trained here, but for controls."""
    for cell in settings.banks(config, experiment):
        for pattern in (paths.BANK, paths.BANK_CHOSEN):
            file = Path(pattern.format(experiment=experiment, **cell))
            if not file.exists() and pattern == paths.BANK_CHOSEN:
                continue
            bank = files.read_json(file, "bank")
            for entry in bank["saes"]:
                method = config.methods[entry["method"]]
                ours = not (method.control or method.imported)
                if ours and entry["status"] == "ok" and entry["protocol"] == "paper":
                    yield file, bank, entry


def _sources(config: Any, experiment: str) -> Iterator[str]:
    artifacts = missing.artifacts_of(config, experiment)
    for name in artifacts:
        given = settings.artifacts()[name]
        yield f"- {name} {given['version']}: {given['citation']}. Licence: {given['licence']}. {given['homepage']}"
    if not artifacts:
        yield "- Data and backbones of one's own: see the experiment's report."


def main(experiment: str) -> int:
    """Publish, and say what to do next."""
    try:
        out = publish(experiment)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    count = sum(path.is_dir() for path in out.iterdir())
    print(f"{out}: {count} SAEs. Look at its README; then: huggingface-cli upload OWNER/NAME {out}")
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))

"""A bank: all SAEs of one (dataset, backbone, k), trained in one process and kept in a content-addressed store.

`store/{key}/` holds one finished SAE: `sae.safetensors`, `train.parquet`, `result.json`. The key hashes what made it:
embeddings and index, settings, code, precision and device class. A folder appears whole or not at all, so a killed job
loses the SAE it was training and no other. `bank.json` lists the bank's SAEs; the files beside it are relative symlinks
into the store, restored on reading when they are gone.
"""

import logging
import os
import time
from dataclasses import asdict
from pathlib import Path

import pandas as pd
import torch

from sae import files, inputs, model, registry
from sae.codehash import code_hash
from sae.data import store as activations
from sae.errors import UserError
from sae.names import format_lambda, sae_path
from sae.train import Diverged, Settings, train

log = logging.getLogger(__name__)
progress = logging.getLogger("sae.progress")
REGULARIZERS = "sae.regularizers"


def members(plan):
    """The SAEs of a bank, baselines first.

    Args:
        plan: {k, seeds, mask, lambdas: {regularizer: [lambda]}, baseline: bool, training: {...}}.

    Yields:
        (regularizer, Settings); regularizer 'none' is the baseline.
    """
    recipe = plan["training"] | {"k": plan["k"]}
    recipe = {key: recipe[key] for key in Settings.__dataclass_fields__ if key in recipe}
    for seed in plan["seeds"]:
        yield "none", Settings(**recipe, lam=0.0, mask="batch_active", seed=seed)
    for regularizer, lambdas in plan["lambdas"].items():
        for lam in lambdas:
            for seed in plan["seeds"]:
                yield regularizer, Settings(**recipe, lam=lam, mask=plan["mask"], seed=seed)


def train_bank(plan, activations_dir, store, out, *, device):
    """Train what the store lacks, link everything beside `out`, then write `out` (bank.json).

    Args:
        plan: see :func:`members`; also {dataset, backbone, training: {unit_variance}}.
        activations_dir: folder of the splits of one (dataset, backbone).
        store: folder of finished SAEs, shared by all banks and experiments.

    Raises:
        UserError: bad activations, or a diverged baseline.
    """
    out, store = Path(out), Path(store)
    data = activations.read(Path(activations_dir) / "train")
    norm = plan["training"]["input_norm"]
    x = inputs.prepare(data.embeddings, norm)
    scale = inputs.total_variance(x) ** -0.5 if plan["training"]["unit_variance"] else 1.0
    x = (x * scale).to(device)
    todo, entries = list(members(plan)), []
    cell = f"{plan['dataset']} / {plan['backbone']} / k{plan['k']}"
    for number, (regularizer, settings) in enumerate(todo, 1):
        made_by = {
            "data": data.manifest["sha256"],
            "dataset": plan["dataset"],
            "backbone": plan["backbone"],
            "regularizer": regularizer,
            "settings": asdict(settings),
            "input_scale": scale,
            "code": training_code(regularizer),
            "precision": "float32",
            "device": torch.device(device).type,
        }
        key = files.sha256_text(files.dumps(made_by))[:32]
        name = f"{regularizer} lambda {format_lambda(settings.lam)} {settings.mask} seed {settings.seed}"
        result = _finished(store / key)
        if result is None:
            log.info("%s: start %s as %s", cell, name, key)
            result = _train_one(x, regularizer, settings, made_by, store / key)
        else:
            log.info("%s: %s is in the store as %s", cell, name, key)
        if result["status"] == "ok":
            said = "R2 {r2:.3f}, L0 {l0:.1f}, dead {dead}, penalty {penalty:.3g}".format(**result)
        else:
            said = f"DIVERGED by step {result['step']} ({files.dumps(made_by['settings'])})"
        progress.info("%s: %d/%d %s: %s", cell, number, len(todo), name, said)
        relative = sae_path(regularizer, settings)
        _link(store / key, out.parent / relative, result)
        entries.append(
            {
                "path": relative if result["status"] == "ok" else None,
                "regularizer": regularizer,
                "lambda": settings.lam,
                "mask": settings.mask,
                "seed": settings.seed,
                "k": settings.k,
                "m": settings.m,
                "key": key,
                "sha256": result["sha256"],
                "status": result["status"],
                "step": result["step"],
            }
        )
    lost = [e for e in entries if e["regularizer"] == "none" and e["status"] != "ok"]
    if lost:
        raise UserError(f"{cell}: the baseline diverged (seed {lost[0]['seed']}, step {lost[0]['step']}); lower lr")
    bank = {key: plan[key] for key in ("dataset", "backbone", "k")} | {"saes": entries}
    bank["store"] = os.path.relpath(store, out.parent)
    files.write_json(out, bank)


def training_code(regularizer):
    """Hash of the code that decides a trained SAE."""
    modules = ["sae.train"] + ([registry.module(REGULARIZERS, regularizer)] if regularizer != "none" else [])
    return code_hash(*modules)


def open_sae(bank_file, bank, entry):
    """Load one SAE of a bank, its hash checked; a missing link is restored from the store.

    Raises:
        UserError: the SAE is in neither place, or was altered.
    """
    path = Path(bank_file).parent / entry["path"]
    if not path.exists():
        stored = Path(bank_file).parent / bank["store"] / entry["key"]
        if not (stored / "sae.safetensors").is_file():
            raise UserError(f"{path} is gone, and {stored} too; delete {bank_file} and run again")
        _link(stored, path, entry)
    found = files.sha256(path)
    if found != entry["sha256"]:
        raise UserError(
            f"{path} was altered or cut short: SHA-256 {found}, {bank_file} says {entry['sha256']}; "
            f"delete {path.resolve().parent} and {bank_file}, and run again"
        )
    return model.load(path)


def _finished(folder):
    """The result of a finished SAE, or None where there is none or it was damaged (it is then trained again)."""
    if not (folder / "result.json").is_file():
        return None
    result = files.read_json(folder / "result.json", "result of SAE")
    if result["status"] == "ok":
        sae = folder / "sae.safetensors"
        if not sae.is_file() or files.sha256(sae) != result["sha256"]:
            log.warning("%s is damaged and is trained again", sae)
            os.replace(folder, folder.with_name(f".{folder.name}.damaged-{os.getpid()}.tmp"))
            return None
    return result


def _train_one(x, regularizer, settings, made_by, folder):
    penalty = None if regularizer == "none" else registry.load(REGULARIZERS, regularizer).penalty
    started = time.perf_counter()

    def log_row(row):
        log.info(
            "step %(step)d epoch %(epoch)d: loss %(loss).5f, R2 %(r2).4f, L0 %(l0).1f, dead %(dead)d, "
            "penalty %(penalty).4g, aux %(aux).4g",
            row,
        )

    with files.atomic_directory(folder) as temporary:
        try:
            sae, rows = train(x, settings, penalty, log_row)
        except Diverged as error:
            result = {"status": "diverged", "step": error.step, "sha256": None}
            rows = error.rows
        else:
            sae.metadata = {
                "k": settings.k,
                "input_norm": settings.input_norm,
                "input_scale": made_by["input_scale"],
                "regularizer": regularizer,
                "lambda": settings.lam,
                "mask": settings.mask,
                "seed": settings.seed,
                "dataset": made_by["dataset"],
                "backbone": made_by["backbone"],
                "code": made_by["code"],
            }
            model.save(sae, temporary / "sae.safetensors")
            result = {"status": "ok", "step": rows[-1]["step"], "sha256": files.sha256(temporary / "sae.safetensors")}
        last = rows[-1]
        finite = all(abs(last[name]) < float("inf") for name in ("r2", "penalty"))
        result |= {name: last[name] if finite else None for name in ("r2", "l0", "dead", "penalty")}
        pd.DataFrame(rows).to_parquet(temporary / "train.parquet", index=False)
        files.write_json(temporary / "result.json", result | {"made_by": made_by})
    log.info("%.1f s, %.2f ms a step", seconds := time.perf_counter() - started, 1e3 * seconds / (last["step"] + 1))
    return result


def _link(stored, path, result):
    if result["status"] != "ok":
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    for link in (path, path.with_name("train.parquet")):
        temporary = link.with_name(f".{link.name}.{os.getpid()}.tmp")
        temporary.unlink(missing_ok=True)
        temporary.symlink_to(os.path.relpath(stored / link.name, path.parent))
        os.replace(temporary, link)

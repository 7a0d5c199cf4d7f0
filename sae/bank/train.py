"""A bank: all SAEs of one (dataset, backbone, k), trained in one process and kept in a content-addressed store.

`store/{key}/` holds one finished SAE: `sae.safetensors`, `train.parquet`, `result.json`. The key hashes what made it:
embeddings and index, settings, code, precision and device class. A folder appears whole or not at all, so a killed job
loses the SAE it was training and no other. `bank.json` lists the bank's SAEs; the files beside it are relative symlinks
into the store, restored on reading when they are gone.
"""

import logging
import os
import platform
import time
from contextlib import suppress
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path

import pandas as pd
import torch

from sae.bank.read import link
from sae.core import files, registry
from sae.core.codehash import code_hash
from sae.core.errors import UserError
from sae.core.names import format_lambda, sae_path
from sae.data import store as activations
from sae.models import inputs, saefile
from sae.training.loop import Diverged, Settings, moments, train

log = logging.getLogger(__name__)
progress = logging.getLogger("sae.progress")
REGULARIZERS = "sae.training.penalties"


def members(plan):
    """The SAEs of a bank, baselines first.

    Args:
        plan: {k, seeds, mask, lambdas: {regularizer: [lambda]}, training: {...}}.

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


@dataclass(frozen=True)
class Place:
    """Where a bank's SAEs come from and go.

    Attributes:
        store: folder of finished SAEs, of all banks and experiments.
        out: the bank's file; the links to its SAEs lie beside it.
        shared: stores of others, only read: an SAE that is there is taken, not trained.
        part: (number, parts): only bring this part of the SAEs, from 0, into the store. None: all, and write `out`.
    """

    store: Path
    out: Path
    shared: tuple = ()
    part: tuple | None = None


def train_bank(plan, activations_dir, place, *, device):
    """Train what the store lacks, link everything beside `place.out`, then write that (bank.json).

    Args:
        plan: see :func:`members`; also {dataset, backbone, training: {unit_variance}}.
        activations_dir: folder of the splits of one (dataset, backbone).
        place: see :class:`Place`.

    Raises:
        UserError: bad activations, or a diverged baseline.
    """
    data = activations.read(Path(activations_dir) / "train")
    norm = plan["training"]["input_norm"]
    scale = 1.0
    if plan["training"]["unit_variance"]:
        scale = inputs.total_variance(inputs.Inputs(data.embeddings, norm, 1.0, "cpu")) ** -0.5
    bank = {key: plan[key] for key in ("dataset", "backbone", "k")} | {"input_scale": scale}
    x = inputs.open_inputs(data.embeddings, norm, scale, device)
    train_all(list(members(plan)), bank, data, x, place)


def train_all(todo, bank, data, x, place):
    """Train SAEs, link them beside `place.out`, write that; of a part, only bring them into the store.

    Args:
        todo: (regularizer, Settings) of each.
        bank: what heads bank.json: dataset, backbone, k, input_scale.
        data, x: the activations (`sae.data.store.Activations`), and (N, d) their prepared inputs.
        place: see :class:`Place`.
    """
    if place.part is not None:
        number, parts = place.part
        todo = todo[len(todo) * number // parts : len(todo) * (number + 1) // parts]
    store, out, entries = place.store, place.out, []
    # Code and its hash are read together, before the first step: an edit while the bank trains belongs to the next run.
    penalties, codes = {"none": None}, {"none": code_hash("sae.training.loop")}
    for regularizer in dict.fromkeys(r for r, _ in todo if r != "none"):
        penalties[regularizer] = registry.load(REGULARIZERS, regularizer).penalty
        codes[regularizer] = code_hash("sae.training.loop", registry.module(REGULARIZERS, regularizer))
    cell, known = f"{bank['dataset']} / {bank['backbone']} / k{bank['k']}", None
    for number, (regularizer, settings) in enumerate(todo, 1):
        made_by = {
            "data": data.manifest["sha256"],
            "dataset": bank["dataset"],
            "backbone": bank["backbone"],
            "regularizer": regularizer,
            "settings": asdict(settings),
            "input_scale": bank["input_scale"],
            "code": codes[regularizer],
            "device": x.device.type,
        }
        key = files.sha256_text(files.dumps(made_by))[:32]
        name = f"{regularizer} lambda {format_lambda(settings.lam)} {settings.mask} seed {settings.seed}"
        result = _finished(store / key) or _taken(place.shared, store / key)
        if result is None:
            log.info("%s: start %s as %s", cell, name, key)
            known = known or moments(x, settings.input_norm)
            result = _train_one(x, penalties[regularizer], settings, made_by, store / key, known)
        else:
            log.info("%s: %s is in the store as %s", cell, name, key)
        if result["status"] == "ok":
            said = "R2 {r2:.3f}, L0 {l0:.1f}, dead {dead}, penalty {penalty:.3g}".format(**result)
        else:
            said = f"DIVERGED by step {result['step']} ({files.dumps(made_by['settings'])})"
        progress.info("%s: %d/%d %s: %s", cell, number, len(todo), name, said)
        if place.part is not None:
            continue
        relative = sae_path(regularizer, settings)
        link(store / key, out.parent / relative, result)
        entries.append(
            {
                "path": relative if result["status"] == "ok" else None,
                "regularizer": regularizer,
                "lambda": settings.lam,
                "mask": settings.mask,
                "seed": settings.seed,
                "settings": asdict(settings),
                "key": key,
                "sha256": result["sha256"],
                "status": result["status"],
                "step": result["step"],
            }
        )
    if place.part is not None:
        return
    lost = [e for e in entries if e["regularizer"] == "none" and e["status"] != "ok"]
    if lost:
        raise UserError(f"{cell}: the baseline diverged (seed {lost[0]['seed']}, step {lost[0]['step']}); lower lr")
    _prune(out, entries)
    files.write_json(out, bank | {"saes": entries, "store": os.path.relpath(store, out.parent)})


def _prune(out, entries):
    """Unlink SAEs of an earlier plan: neither `entries` nor the folder's other bank file lists them."""
    folder, listed = out.parent, {entry["path"] for entry in entries}
    for other in set(folder.glob("bank*.json")) - {out}:
        listed |= {entry["path"] for entry in files.read_json(other, "bank")["saes"]}
    for link_path in folder.glob("*/lambda*/*/seed*/sae.safetensors"):
        if link_path.relative_to(folder).as_posix() not in listed:
            link_path.unlink()
            link_path.with_name("train.parquet").unlink(missing_ok=True)


def _finished(folder):
    """The result of a finished SAE; None where there is none, or where it was damaged: it is then trained again."""
    if not folder.exists():
        return None
    result = _whole(folder)
    if result is None:
        log.warning("%s is damaged and is trained again", folder)
        with files.scratch_directory(folder) as scratch, suppress(FileNotFoundError):
            os.replace(folder, scratch / "damaged")
    return result


def _taken(stores, folder):
    """The result of a finished SAE that lies in another store, whose files `folder` then holds too; None if in none."""
    for store in stores:
        try:
            if _whole(Path(store) / folder.name) is None:
                continue
            with files.atomic_directory(folder) as temporary:
                files.link_or_copy(Path(store) / folder.name, temporary)
        except (OSError, UserError) as error:
            log.warning("%s cannot be taken from %s: %s", folder.name, store, error)
            continue
        log.info("%s was taken from %s", folder.name, store)
        return _whole(folder)
    return None


def _whole(folder):
    """The result of the SAE in a folder; None where there is none or its file is not the one of the result."""
    if not (folder / "result.json").is_file():
        return None
    result, sae = files.read_json(folder / "result.json", "result of SAE"), folder / "sae.safetensors"
    if result["status"] == "diverged" or (sae.is_file() and files.sha256(sae) == result["sha256"]):
        return result
    return None


def _versions():
    # Recorded, not part of the key: another version may give other bits.
    packages = {package: version(package) for package in ("torch", "numpy", "safetensors")}
    return packages | {"python": platform.python_version(), "threads": torch.get_num_threads()}


def _train_one(x, penalty, settings, made_by, folder, known):
    started = time.perf_counter()

    def log_row(row):
        log.info(
            "step %(step)d epoch %(epoch)d: loss %(loss).5f, R2 %(r2).4f, L0 %(l0).1f, dead %(dead)d, "
            "penalty %(penalty).4g, aux %(aux).4g",
            row,
        )

    with files.atomic_directory(folder) as temporary:
        try:
            sae, rows = train(x, settings, penalty, log_row, known)
        except Diverged as error:
            result = {"status": "diverged", "step": error.step, "sha256": None}
            rows = error.rows
        else:
            sae.metadata = {
                "k": settings.k,
                "input_norm": settings.input_norm,
                "input_scale": made_by["input_scale"],
                "regularizer": made_by["regularizer"],
                "lambda": settings.lam,
                "mask": settings.mask,
                "seed": settings.seed,
                "dataset": made_by["dataset"],
                "backbone": made_by["backbone"],
                "code": made_by["code"],
            }
            saefile.save(sae, temporary / "sae.safetensors")
            result = {"status": "ok", "step": rows[-1]["step"], "sha256": files.sha256(temporary / "sae.safetensors")}
        last = rows[-1]
        finite = all(abs(last[name]) < float("inf") for name in ("r2", "penalty"))
        result |= {name: last[name] if finite else None for name in ("r2", "l0", "dead", "penalty")}
        pd.DataFrame(rows).to_parquet(temporary / "train.parquet", index=False)
        files.write_json(temporary / "result.json", result | {"made_by": made_by, "made_with": _versions()})
    log.info("%.1f s, %.2f ms a step", seconds := time.perf_counter() - started, 1e3 * seconds / (last["step"] + 1))
    # Not `result`: where another process was first with this SAE, it is the store's that counts.
    return _whole(folder)

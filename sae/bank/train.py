"""Train a bank: the SAEs of one (dataset, backbone, k), in one process, of which the store has some already.

bank.json (the trials) and bank_chosen.json (what selection asks for) list a bank's SAEs, and under protocol `fair`
bank_lengths.json and bank_shortlist.json (`sae.bank.plan`); beside them lie relative
symlinks into the store, restored on reading when they are gone. What these files say of an SAE's names is what counts;
the SAE's own file says what its first maker called it (`sae.bank.store`).
"""

import functools
import logging
import math
import os
import platform
import shutil
import time
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pandas as pd
import torch

from sae.bank import store
from sae.bank.plan import Member, chosen_members, members, shortlist_members
from sae.core import files, registry
from sae.core.codehash import code_hash
from sae.core.errors import UserError
from sae.data import store as activations
from sae.models import inputs, saefile
from sae.models.coder import Coder, Threshold
from sae.models.inputs import Inputs
from sae.training.calibrate import calibrate
from sae.training.loop import Diverged, Moments, moments, train

log = logging.getLogger(__name__)
progress = logging.getLogger("sae.progress")

# Embeddings within rounding to float32 of each other vary by less than this share of their square; and less variance
# than this needs a scale that float32 does not hold.
_EPS, _LEAST = float(np.finfo(np.float32).eps), float(np.finfo(np.float32).max) ** -2
# Names in an SAE's settings; its key has the hash of what they name instead.
ENTRIES = ("objective", "penalty")
# What the last row of a training log says of an SAE, as far as its objective has it.
_SAID = {"r2": "R2 {:.3f}", "l0": "L0 {:.1f}", "dead": "dead {:.0f}", "penalty": "penalty {:.3g}"}


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
    shared: tuple[Path, ...] = ()
    part: tuple[int, int] | None = None


@dataclass(frozen=True)
class Cell:
    """What all SAEs of a bank have in common.

    Attributes:
        head: what begins the bank's file: dataset, backbone, k, input_scale.
        data: hashes of the embeddings and of their index.
        embeddings: (N, d) of the training split, as the backbone gave them.
        x: (N, d) prepared training inputs.
        input_norm: their norm.
        folder: of the activations of all splits.
    """

    head: dict[str, Any]
    data: dict[str, str]
    embeddings: np.ndarray
    x: torch.Tensor | Inputs
    input_norm: str
    folder: Path

    def __str__(self) -> str:
        return f"{self.head['dataset']} / {self.head['backbone']} / k{self.head['k']}"

    @functools.cached_property
    def moments(self) -> Moments:
        """What the SAEs start from, computed when the first is trained."""
        return moments(self.x, self.input_norm)

    @functools.cached_property
    def held_out(self) -> tuple[dict[str, str], torch.Tensor | Inputs]:
        """The hashes of the validation split, and its prepared inputs; read where an SAE has thresholds."""
        data, device = activations.read(self.folder / "val"), self.x.device.type
        return data.manifest["sha256"], inputs.open_inputs(
            data.embeddings, self.input_norm, self.head["input_scale"], device
        )


@dataclass(frozen=True)
class Code:
    """The entries that train an SAE, and the hash of what they mean."""

    objective: ModuleType
    penalty: ModuleType | None
    hash: str


def train_bank(
    plan: dict[str, Any],
    activations_dir: Path | str,
    place: Place,
    *,
    lengths_file: Path | str | None = None,
    device: str,
) -> None:
    """Train what the store lacks, link everything beside `place.out`, then write that (bank.json).

    Args:
        plan: see `sae.bank.plan`.
        activations_dir: folder of the splits of one (dataset, backbone).
        lengths_file: bank_lengths.json, which says how long the trials of protocol `fair` train.

    Raises:
        UserError: a bad plan or bad activations, or a method that others are `against` diverged.
    """
    fair = {} if not plan["fair"] else {"steps": None, "undertrained": False}
    if lengths_file:
        fair = _fair_of(files.read_json(lengths_file, "bank"))
    cell = open_cell(plan, activations_dir, None, device)
    entries = bring(members(plan, fair.get("steps")), cell, place)
    if place.part is None:
        _check_baselines(plan, entries, cell)
        write(entries, cell, place, fair)


def train_shortlist(
    plan: dict[str, Any],
    bank_file: Path | str,
    shortlist_file: Path | str,
    activations_dir: Path | str,
    place: Place,
    *,
    device: str,
) -> None:
    """Train the shortlisted trials of protocol `fair` with its other tuning seeds, and write bank_shortlist.json.

    Args:
        bank_file, activations_dir, place: as for :func:`train_chosen`.
        shortlist_file: shortlist.parquet of this bank.
    """
    bank, picked = files.read_json(bank_file, "bank"), files.read_parquet(shortlist_file)
    cell = open_cell(plan, activations_dir, bank["input_scale"], device)
    pairs = zip(picked["method"], picked["trial"], strict=True)
    entries = bring(shortlist_members(plan, bank["steps"], pairs), cell, place)
    if place.part is None:
        write(entries, cell, place, _fair_of(bank))


def train_chosen(
    plan: dict[str, Any],
    bank_file: Path | str,
    selection_file: Path | str,
    activations_dir: Path | str,
    place: Place,
    *,
    device: str,
) -> None:
    """Train what selection asks for, and write bank_chosen.json.

    These are the methods that are `at` another one, at its choice; and the candidates of protocol `fair`.

    Args:
        plan: as for :func:`train_bank`.
        bank_file: bank.json, of which the scale of the inputs is taken.
        selection_file: selection.parquet of this bank.
        activations_dir, place: as for :func:`train_bank`.
    """
    bank = files.read_json(bank_file, "bank")
    cell = open_cell(plan, activations_dir, bank["input_scale"], device)
    asked = chosen_members(plan, files.read_parquet(selection_file), bank.get("steps"))
    entries = bring(asked, cell, place)
    if place.part is None:
        write(entries, cell, place, _fair_of(bank) if "steps" in bank else {})


def _fair_of(bank: dict[str, Any]) -> dict[str, Any]:
    """What a bank's file says of the length of training under protocol `fair`."""
    return {name: bank[name] for name in ("steps", "undertrained")}


def open_cell(plan: dict[str, Any], activations_dir: Path | str, scale: float | None, device: str) -> Cell:
    """The training inputs of a bank, scaled as its first file is; `scale` None: that is still to be found.

    Raises:
        UserError: before a bank's first SAE trains: a split's embeddings are all the same, or not finite.
    """
    data, recipe = activations.read(Path(activations_dir) / "train"), plan["recipe"]
    norm = recipe["input_norm"]
    if scale is None:
        variance = _variance(data, Path(activations_dir) / "train", norm, "nothing can be learnt")
        held_out = Path(activations_dir) / "val"
        _variance(activations.read(held_out), held_out, norm, "R^2 on validation images is not defined")
        scale = float(variance**-0.5) if recipe["unit_variance"] else 1.0
    head = {key: plan[key] for key in ("dataset", "backbone", "k")} | {"input_scale": scale}
    x = inputs.open_inputs(data.embeddings, norm, scale, device)
    return Cell(head, data.manifest["sha256"], data.embeddings, x, norm, Path(activations_dir))


def _variance(split: activations.Activations, folder: Path, norm: str, so: str) -> float:
    """The total variance of a split's embeddings after their norm; `so` ends the message about one that has none."""
    count, x = len(split.embeddings), Inputs(split.embeddings, norm, 1.0, "cpu")
    variance, square = float(inputs.total_variance(x)), float(x[:1].double().square().sum())
    if not math.isfinite(variance):
        row = int(np.isfinite(split.embeddings).all(axis=1).argmin())
        advice = f"delete {folder.parent} and run again"
        raise UserError(f"{folder / 'embeddings.npy'} holds NaN or infinity in row {row} (from 0): {advice}")
    if variance <= max(_EPS**2 * square, _LEAST):
        same = f"all {count:,} embeddings are {'the same' if square else 'zero'} after the norm {norm}"
        raise UserError(
            f"{folder}: {same if count > 1 else 'there is one embedding only'}: the variance is {variance:.3g}, so "
            f"that {so}: look at the images, and at what the backbone makes of them"
        )
    return variance


def bring(todo: list[Member], cell: Cell, place: Place) -> list[dict[str, Any]]:
    """Bring SAEs into the store and link them, unless only a part is wanted; their entries in the bank's file."""
    if place.part is not None:
        number, parts = place.part
        todo = todo[len(todo) * number // parts : len(todo) * (number + 1) // parts]
    codes, entries = _code_of(todo), []
    for number, member in enumerate(todo, 1):
        code = codes[member.settings.objective, member.settings.penalty]
        made_by = {
            "data": cell.data,
            "settings": _identity(member, code),
            "input_scale": cell.head["input_scale"],
            "code": code.hash,
            "device": cell.x.device.type,
        }
        key = store.key_of(made_by)
        result, found = store.find(place.store / key, place.shared), ", found in the store"
        if result is None:
            found = ""
            log.info("%s: start %s as %s", cell, member, key)
            result = _train(member, cell, code, made_by, place.store / key)
        else:
            log.info("%s: %s is in the store as %s", cell, member, key)
        trained = key
        if result["status"] == "ok" and not getattr(code.objective, "MADE_ELSEWHERE", False):
            key, result = _within_budget(key, result, cell, place)
        progress.info("%s: %d/%d %s: %s%s", cell, number, len(todo), member, _said(result, made_by), found)
        if place.part is None and result["status"] == "ok":
            store.link(place.store / key, place.out.parent / member.path)
        entries.append(
            {
                "path": member.path if result["status"] == "ok" else None,
                "method": member.method,
                "protocol": member.protocol,
                "trial": member.trial,
                "seed": member.settings.seed,
                "settings": made_by["settings"]
                | {n: getattr(member.settings, n) for n in ENTRIES}
                | {"m": result["m"]},
                "key": key,
                "sha256": result["sha256"],
                "status": result["status"],
                "step": result["step"],
            }
            | ({"trained": trained} if trained != key else {})
        )
    return entries


def _code_of(todo: list[Member]) -> dict[tuple[str, str | None], Code]:
    # Code and its hash are read together, before the first step: an edit while the bank trains belongs to the next run.
    found = {}
    for objective, penalty in dict.fromkeys((m.settings.objective, m.settings.penalty) for m in todo):
        kinds = {"objective": objective} | ({"penalty": penalty} if penalty else {})
        modules = {kind: registry.load(kind, name) for kind, name in kinds.items()}
        dotted = [registry.module(kind, name) for kind, name in kinds.items()]
        digest = code_hash("sae.training.loop", *dotted)
        found[objective, penalty] = Code(modules["objective"], modules.get("penalty"), digest)
    return found


def _identity(member: Member, code: Code) -> dict[str, Any]:
    """What of an SAE's settings decides it; of one that was made elsewhere, what its file holds."""
    found = member.settings.identity()
    if getattr(code.objective, "MADE_ELSEWHERE", False):
        found["options"] = code.objective.content(member.settings.of(code.objective.Options))
    return found


def _said(result: dict[str, Any], made_by: dict[str, Any]) -> str:
    if result["status"] != "ok":
        return f"DIVERGED by step {result['step']} ({files.dumps(made_by['settings'])})"
    return ", ".join(form.format(result[name]) for name, form in _SAID.items() if result.get(name) is not None)


def _check_baselines(plan: dict[str, Any], entries: list[dict[str, Any]], cell: Cell) -> None:
    specs = plan["methods"].items()
    alone = {name for name, spec in specs if spec["against"] is None and spec["at"] is None and not spec["control"]}
    for method in sorted({spec["against"] for _, spec in specs} - {None} | alone):
        for seed in plan["seeds"]:
            own = [e for e in entries if e["protocol"] == "paper"]
            found = [e for e in own if (e["method"], e["seed"]) == (method, seed)]
            if found and all(e["status"] != "ok" for e in found):
                raise UserError(
                    f"{cell}: the baseline diverged (seed {seed}, step {found[0]['step']}): nothing can be compared "
                    f"with {method}; lower lr"
                )


def write(entries: list[dict[str, Any]], cell: Cell, place: Place, more: dict[str, Any]) -> None:
    """Write a bank's file; links of SAEs that no file of the bank lists any more go."""
    store.unlink_others(place.out, entries)
    files.write_json(place.out, content(entries, cell, place) | more)


def content(entries: list[dict[str, Any]], cell: Cell, place: Place) -> dict[str, Any]:
    """What a bank's file holds of its SAEs."""
    return cell.head | {"saes": entries, "store": os.path.relpath(place.store, place.out.parent)}


def _train(member: Member, cell: Cell, code: Code, made_by: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Train one SAE into a folder of the store; its result."""
    started = time.perf_counter()
    with files.atomic_directory(folder) as temporary:
        try:
            coder, rows = _made(member, cell, code)
        except Diverged as error:
            rows, result = error.rows, {"status": "diverged", "step": error.step, "sha256": None}
            result["m"] = member.settings.m
        else:
            coder.metadata |= {"method": member.method, "trial": member.trial, "seed": member.settings.seed}
            coder.metadata |= {name: cell.head[name] for name in ("dataset", "backbone")}
            coder.metadata |= {"embeddings": cell.data["embeddings.npy"], "code": code.hash}
            saefile.save(coder, temporary / "sae.safetensors")
            result = {"status": "ok", "step": rows[-1]["step"], "m": coder.m}
            result["sha256"] = files.sha256(temporary / "sae.safetensors")
        last = rows[-1]
        result |= {name: last[name] for name in _SAID if abs(last.get(name, float("inf"))) < float("inf")}
        files.write_parquet(temporary / "train.parquet", pd.DataFrame(rows))
        files.write_json(temporary / "result.json", result | {"made_by": made_by, "made_with": _versions()})
    seconds, steps = time.perf_counter() - started, last["step"] + 1
    log.info("%.1f s, %d steps of %.2f ms", seconds, steps, 1e3 * seconds / max(1, steps))
    # Not `result`: where another process was first with this SAE, it is the store's that counts.
    found = store.whole(folder)
    assert found is not None
    return found


def _within_budget(key: str, result: dict[str, Any], cell: Cell, place: Place) -> tuple[str, dict[str, Any]]:
    """The key and result of the SAE in the store that is judged: that of `key`, or for thresholds another one.

    Training fixes thresholds so that k latents are active on *training* images. Held-out images of a small dataset
    activate more (a third more, measured: docs/protocol.md), so that such an SAE would stand beside Top-k with a larger
    budget. It is stored once more with all thresholds scaled so that k are active on validation images, on average.
    """
    coder = saefile.load(place.store / key / "sae.safetensors")
    select = coder.select
    if not isinstance(select, Threshold):
        return key, result
    held_out, x = cell.held_out
    thresholds = {"of": key, "on": held_out, "code": code_hash("sae.training.calibrate")}
    made_by = result["made_by"] | {"thresholds": thresholds}
    own = place.store / store.key_of(made_by)
    found = store.find(own, place.shared)
    if found is None:
        coder, theta = coder.to(cell.x.device), select.theta.to(cell.x.device)
        # Where too few latents were active in training the factor was 0.
        direction = theta if theta.any() else torch.ones_like(theta)
        coder.select = Threshold(calibrate(coder, x, direction, coder.k))
        coder.metadata["thresholds_fixed_on"] = held_out["embeddings.npy"]
        with files.atomic_directory(own) as temporary:
            saefile.save(coder, temporary / "sae.safetensors")
            shutil.copyfile(place.store / key / "train.parquet", temporary / "train.parquet")
            digest = files.sha256(temporary / "sae.safetensors")
            files.write_json(temporary / "result.json", result | {"sha256": digest, "made_by": made_by})
        found = store.whole(own)
    assert found is not None
    return own.name, found


def _made(member: Member, cell: Cell, code: Code) -> tuple[Coder, list[dict[str, Any]]]:
    """The SAE and its log: trained, or taken as it was made elsewhere."""
    if getattr(code.objective, "MADE_ELSEWHERE", False):
        coder, row = code.objective.take(member.settings.of(code.objective.Options), member.settings, cell.embeddings)
        return coder, [{"step": -1, "epoch": 0, "lr": 0.0} | row]
    coder, rows = train(cell.x, member.settings, code.objective, code.penalty, _log_row, cell.moments)
    coder.input_scale = cell.head["input_scale"]
    return coder, rows


def _log_row(row: dict[str, Any]) -> None:
    counts = ("step", "epoch", "dead")
    log.info(" ".join(f"{name} {value:{'.0f' if name in counts else '.5g'}}" for name, value in row.items()))


def _versions() -> dict[str, Any]:
    # Recorded, not part of the key: another version may give other bits.
    packages: dict[str, Any] = {package: version(package) for package in ("torch", "numpy", "safetensors")}
    return packages | {"python": platform.python_version(), "threads": torch.get_num_threads()}

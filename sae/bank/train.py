"""Bring the SAEs of a cell into the store: those that it lacks are trained, several at a time if so told.

What bank.json says of an SAE's names is what counts; the SAE's own file says what its first maker called it.
"""

import functools
import logging
import os
import platform
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path, PurePath
from types import ModuleType
from typing import Any

import numpy as np
import pandas as pd
import torch

from sae.bank import finished
from sae.bank.plan import Member, Plan
from sae.bank.read import Bank, Entry
from sae.core import files, headway, paths, registry, versions
from sae.core.errors import UserError
from sae.core.workers import Map
from sae.data import store as activations
from sae.models import inputs, saefile
from sae.models.coder import Coder, Threshold
from sae.models.inputs import Inputs
from sae.training.calibrate import calibrate
from sae.training.loop import Diverged, Moments, moments, train
from sae.training.recipe import Settings, completed

log = logging.getLogger(__name__)
progress = logging.getLogger("sae.progress")

# What the last row of a training log says of an SAE, as far as its objective has it.
_SAID = {
    "r2": "R2 {:.3f}",
    "l0": "L0 {:.1f}",
    "dead": "dead {:.0f}",
    "penalty": "penalty {:.3g}",
}


@dataclass(frozen=True)
class Place:
    """Where a cell's SAEs come from and go.

    Attributes:
        store: folder of finished SAEs, of all cells and experiments.
        bank: bank.json; the links to its SAEs lie beside it.
        shared: stores of others, only read: an SAE that is there is taken, not trained.
    """

    store: Path
    bank: Path
    shared: tuple[Path, ...] = ()

    @property
    def unfinished(self) -> Path:
        """The file that says, while the cell trains, which SAEs it has asked for."""
        return self.bank.with_name(PurePath(paths.UNFINISHED).name)


@dataclass(frozen=True)
class Cell:
    """What the SAEs of a cell are trained on. It is opened when it is used, by each process for itself.

    Attributes:
        folder: of the splits' activations.
        input_norm, input_scale: of the prepared inputs.
        device: of the job.
    """

    folder: Path
    input_norm: str
    input_scale: float
    device: str

    def __reduce__(self) -> tuple[type, tuple[Any, ...]]:  # Closed, to another process.
        return Cell, (self.folder, self.input_norm, self.input_scale, self.device)

    @functools.cached_property
    def embeddings(self) -> np.ndarray:
        """(N, d) of the training split, as the backbone gave them."""
        return activations.read(self.folder / "train").embeddings

    @functools.cached_property
    def x(self) -> torch.Tensor | Inputs:
        """(N, d) prepared training inputs."""
        return inputs.open_inputs(
            self.embeddings, self.input_norm, self.input_scale, self.device
        )

    @functools.cached_property
    def moments(self) -> Moments:
        """What the SAEs start from."""
        return moments(self.x, self.input_norm)

    @functools.cached_property
    def held_out(self) -> tuple[dict[str, str], torch.Tensor | Inputs]:
        """The hashes of the validation split, and its prepared inputs, of which SAEs with thresholds ask."""
        val = activations.read(self.folder / "val")
        x = inputs.open_inputs(
            val.embeddings, self.input_norm, self.input_scale, self.device
        )
        return val.manifest["sha256"], x


@dataclass(frozen=True)
class Todo:
    """One SAE to bring: what it is, what made it (its key hashes that), and its folder of the store."""

    plan: Plan
    cell: Cell
    member: Member
    made_by: dict[str, Any]
    folder: Path


def cell_of(plan: Plan, activations_dir: Path, device: str) -> Cell:
    """Where a cell's inputs lie, and their space.

    Raises:
        UserError: before the first SAE trains: a split's embeddings are all the same.
    """
    norm = plan.recipe["input_norm"]
    variance = _variance(activations_dir / "train", norm, "nothing can be learnt")
    _variance(activations_dir / "val", norm, "R^2 on validation images is not defined")
    scale = float(variance**-0.5) if plan.recipe["unit_variance"] else 1.0
    return Cell(activations_dir, norm, scale, device)


def _variance(folder: Path, norm: str, so: str) -> float:
    """The total variance of a split's embeddings after their norm; `so` ends the message about one that has none."""
    embeddings = activations.read(folder).embeddings
    count, x = len(embeddings), Inputs(embeddings, norm, 1.0, "cpu")
    variance = float(inputs.total_variance(x))
    if not inputs.differ(x, variance):
        same = f"all {count:,} embeddings are {'the same' if x[:1].any() else 'zero'} after the norm {norm}"
        raise UserError(
            f"{folder}: {same if count > 1 else 'there is one embedding only'}: the variance is {variance:.3g}, so "
            f"that {so}: look at the images, and at what the backbone makes of them"
        )
    return variance


class Trainer:
    """Brings SAEs of one cell into the store, and lists them.

    Attributes:
        bank: what was brought so far.

    Args:
        side_by_side: a map over several processes (`sae.core.workers.pool`); without, SAEs train in this one.
    """

    def __init__(
        self, plan: Plan, cell: Cell, place: Place, side_by_side: Map | None = None
    ) -> None:
        self._plan, self._cell, self._place, self._map = plan, cell, place, side_by_side
        self._data = files.read_json(
            cell.folder / "train/manifest.json", "manifest of activations"
        )["sha256"]
        self._versions = functools.cache(finished.versions_of)
        root = os.path.relpath(place.store, place.bank.parent)
        self.bank = Bank(
            place.bank,
            plan.dataset,
            plan.backbone,
            plan.k,
            cell.input_scale,
            root,
            [],
            {},
        )

    def bring(self, members: list[Member]) -> list[Entry]:
        """Train what the stores lack, link all; their entries, which are added to the bank's."""
        todo = [self._todo(member) for member in members]
        self._note(todo)
        # By what made them: two names of one SAE are trained once.
        known = {
            one.folder: finished.find(one.folder, self._place.shared) for one in todo
        }
        lacking = {one.folder: one for one in todo if known[one.folder] is None}
        todo_now = lacking.values()
        made = (
            self._map(_train_alone, todo_now)
            if self._map and len(lacking) > 1
            else map(_train, todo_now)
        )
        before, entries = len(self.bank.saes), []
        for number, one in enumerate(todo, 1):
            headway.tell(before + number - 1, before + len(todo), "SAEs trained")
            result = known[one.folder] = known[one.folder] or next(made)
            said, how = (
                f"{self._plan.cell}: {number}/{len(todo)} {one.member}",
                ", found in the store",
            )
            progress.info(
                "%s: %s%s",
                said,
                _said(result, one.made_by),
                "" if one.folder in lacking else how,
            )
            entries.append(self._linked(one, result))
        self.bank = replace(self.bank, saes=[*self.bank.saes, *entries])
        return entries

    def _note(self, todo: list[Todo]) -> None:
        """Say what is about to be trained, so that `make prune` keeps it if this job is killed."""
        keys = {key for entry in self.bank.saes for key in (entry.key, entry.trained)}
        keys |= {one.folder.name for one in todo}
        if (
            self._place.unfinished.exists()
        ):  # Of a job that was killed in a later round.
            keys |= set(
                files.read_json(self._place.unfinished, "list of unfinished SAEs")[
                    "keys"
                ]
            )
        files.write_json(self._place.unfinished, {"keys": sorted(keys)})

    def _todo(self, member: Member) -> Todo:
        settings = member.settings
        # Code and its versions are read together: an edit while the cell trains belongs to the next run.
        objective, _ = entries_of(settings)
        identity, named = (
            settings.identity(),
            self._versions(settings.objective, settings.penalty),
        )
        if made_elsewhere(objective):  # What its file holds, wherever it lies.
            identity["options"] = objective.content(settings.of(objective))
        made_by = {
            "data": self._data,
            "settings": identity,
            "input_scale": self._cell.input_scale,
        }
        made_by |= {"versions": named, "device": torch.device(self._cell.device).type}
        return Todo(
            self._plan,
            self._cell,
            member,
            made_by,
            self._place.store / finished.key_of(made_by),
        )

    def _linked(self, one: Todo, result: dict[str, Any]) -> Entry:
        member, folder, path = one.member, one.folder, None
        # The key has the versions of what these name instead.
        names = member.settings.model_dump(include={"objective", "penalty"})
        settings = completed(one.made_by["settings"] | names)
        if result["status"] == "ok":
            folder, result = _within_budget(one, result, self._place)
            path = member.path
            finished.link(folder, self._place.bank.parent / path)
        return Entry(
            method=member.method,
            protocol=member.protocol,
            trial=member.trial,
            seed=member.settings.seed,
            settings=settings | {"m": result["m"]},
            key=folder.name,
            trained=one.folder.name,
            path=path,
            **{name: result[name] for name in ("sha256", "status", "step")},
        )


def _said(result: dict[str, Any], made_by: dict[str, Any]) -> str:
    if result["status"] != "ok":
        return f"DIVERGED by step {result['step']} ({files.dumps(made_by['settings'])})"
    return ", ".join(
        form.format(result[name])
        for name, form in _SAID.items()
        if result.get(name) is not None
    )


def entries_of(settings: Settings) -> tuple[ModuleType, ModuleType | None]:
    """The objective and the penalty of an SAE, loaded."""
    objective = registry.load("objective", settings.objective)
    return objective, registry.load(
        "penalty", settings.penalty
    ) if settings.penalty else None


def made_elsewhere(objective: ModuleType) -> bool:
    """Whether nothing is trained."""
    return getattr(objective, "MADE_ELSEWHERE", False)


_opened: Callable[[Cell], Cell] = functools.lru_cache(maxsize=1)(lambda cell: cell)


def _train_alone(one: Todo) -> dict[str, Any]:
    """:func:`_train`, in a process that trains for a job: it opens the cell once."""
    return _train(replace(one, cell=_opened(one.cell)))


def _train(one: Todo) -> dict[str, Any]:
    """Train one SAE into its folder of the store; its result."""
    log.info("%s: start %s as %s", one.plan.cell, one.member, one.folder.name)
    settings, started = one.member.settings, time.perf_counter()
    with files.atomic_directory(one.folder) as temporary:
        try:
            coder, rows = _made(one.member, one.cell)
        except Diverged as error:
            rows, result = (
                error.rows,
                {
                    "status": "diverged",
                    "step": error.step,
                    "sha256": None,
                    "m": settings.m,
                },
            )
        else:
            coder.metadata |= {
                "method": one.member.method,
                "trial": one.member.trial,
                "seed": settings.seed,
            }
            coder.metadata |= {
                "dataset": one.plan.dataset,
                "backbone": one.plan.backbone,
            }
            coder.metadata |= {
                "embeddings": one.made_by["data"]["embeddings.npy"],
                "versions": one.made_by["versions"],
            }
            coder.metadata["made_of"] = activations.made_of(
                files.read_json(one.cell.folder / "train/manifest.json")
            )
            saefile.save(coder, temporary / "sae.safetensors")
            result = {"status": "ok", "step": rows[-1]["step"], "m": coder.m}
            result["sha256"] = files.sha256(temporary / "sae.safetensors")
        last = rows[-1]
        result |= {
            name: last[name]
            for name in _SAID
            if abs(last.get(name, float("inf"))) < float("inf")
        }
        files.write_parquet(temporary / "train.parquet", pd.DataFrame(rows))
        files.write_json(
            temporary / "result.json",
            result | {"made_by": one.made_by, "made_with": _versions()},
        )
    seconds, steps = time.perf_counter() - started, last["step"] + 1
    log.info(
        "%.1f s, %d steps of %.2f ms", seconds, steps, 1e3 * seconds / max(1, steps)
    )
    # Not `result`: where another process was first with this SAE, it is the store's that counts.
    found = finished.whole(one.folder)
    assert found is not None
    return found


def _within_budget(
    one: Todo, result: dict[str, Any], place: Place
) -> tuple[Path, dict[str, Any]]:
    """The folder in the store and the result of the SAE that is judged: of `one`, or for thresholds another one.

    Training fixes thresholds so that k latents are active on *training* images. Held-out images of a small dataset
    activate more (a third more, measured: docs/protocol.md), so that such an SAE would stand beside Top-k with a larger
    budget. It is stored once more with all thresholds scaled so that k are active on validation images, on average.
    """
    coder = saefile.load(one.folder / "sae.safetensors")
    select = coder.select
    if not isinstance(select, Threshold) or made_elsewhere(
        entries_of(one.member.settings)[0]
    ):
        return one.folder, result
    held_out, x = one.cell.held_out
    thresholds = {
        "of": one.folder.name,
        "on": held_out,
        "versions": versions.joined([("training", "calibrate")]),
    }
    made_by = result["made_by"] | {"thresholds": thresholds}
    own = place.store / finished.key_of(made_by)
    found = finished.find(own, place.shared)
    if found is None:
        coder = coder.to(x.device)
        coder.select = Threshold(
            calibrate(coder, x, select.theta.to(x.device), coder.k)
        )
        coder.metadata["thresholds_fixed_on"] = held_out["embeddings.npy"]
        with files.atomic_directory(own) as temporary:
            saefile.save(coder, temporary / "sae.safetensors")
            shutil.copyfile(one.folder / "train.parquet", temporary / "train.parquet")
            digest = files.sha256(temporary / "sae.safetensors")
            files.write_json(
                temporary / "result.json",
                result | {"sha256": digest, "made_by": made_by},
            )
        found = finished.whole(own)
    assert found is not None
    return own, found


def _made(member: Member, cell: Cell) -> tuple[Coder, list[dict[str, Any]]]:
    """The SAE and its log: trained, or taken as it was made elsewhere."""
    settings, (objective, penalty) = member.settings, entries_of(member.settings)
    if made_elsewhere(objective):
        coder, row = objective.take(settings.of(objective), settings, cell.embeddings)
        return coder, [{"step": -1, "epoch": 0, "lr": 0.0} | row]
    coder, rows = train(cell.x, settings, objective, penalty, _log_row, cell.moments)
    coder.input_scale = cell.input_scale
    return coder, rows


def _log_row(row: dict[str, Any]) -> None:
    counts = ("step", "epoch", "dead")
    log.info(
        " ".join(
            f"{name} {value:{'.0f' if name in counts else '.5g'}}"
            for name, value in row.items()
        )
    )


def _versions() -> dict[str, Any]:
    # Recorded, not part of the key: another version may give other bits.
    packages: dict[str, Any] = {
        package: version(package) for package in ("torch", "numpy", "safetensors")
    }
    return packages | {
        "python": platform.python_version(),
        "threads": torch.get_num_threads(),
    }

"""Train the SAEs of a cell that the store lacks, and list all of them as a bank.

A `Trainer` is given planned SAEs of a cell (`sae.bank.sae.Sae`). It finds each in the
store or trains it, links it to where the bank has it, and returns it with what became
of it.

The names of an SAE that count are those in bank.json. The SAE's own file has the names
that its first maker gave it.
"""

import functools
import logging
import math
import os
import platform
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path, PurePath
from types import ModuleType
from typing import Any

import numpy as np
import pandas as pd
import torch

from sae.bank import store
from sae.bank.plan import Plan
from sae.bank.read import Bank
from sae.bank.sae import Sae
from sae.core import files, paths, registry, versions, warned
from sae.core.errors import UserError
from sae.core.progress import report_progress
from sae.core.workers import Map
from sae.data import store as activations
from sae.models import inputs, saefile
from sae.models.coder import Coder, Threshold
from sae.models.inputs import Inputs
from sae.training.calibrate import calibrate
from sae.training.loop import Diverged, Moments, moments, train
from sae.training.recipe import Settings, later_options_of

log = logging.getLogger(__name__)
progress = logging.getLogger("sae.progress")
details = logging.getLogger("sae.progress.details")

# The scores of a training log whose last values are kept in result.json, and how the
# console prints them. An objective need not have all of them.
_SCORE_FORMATS = {
    "r2": "R2 {:.3f}",
    "l0": "L0 {:.1f}",
    "dead": "dead {:.0f}",
    "penalty": "penalty {:.3g}",
}


@dataclass(frozen=True)
class Place:
    """The places that the SAEs of a cell come from and go to.

    Attributes:
        store: Folder of finished SAEs, of all cells and experiments.
        bank: Path of bank.json. The links to its SAEs lie beside it.
        shared: Stores of others, only read. An SAE that is in one is taken from there
            and not trained.
    """

    store: Path
    bank: Path
    shared: tuple[Path, ...] = ()

    @property
    def unfinished(self) -> Path:
        """The file that lists, while the cell trains, the keys that it asked for."""
        return self.bank.with_name(PurePath(paths.UNFINISHED).name)


@dataclass(frozen=True)
class CellData:
    """The data that the SAEs of a cell are trained on.

    Its files are opened when they are first asked for, and stay open. Data that are
    sent to another process arrive there with none of them open.

    Attributes:
        folder: Folder of the splits' embeddings.
        input_norm: Norm of the prepared inputs.
        input_scale: Factor of the prepared inputs, after their norm.
        device: Name of the torch device.
    """

    folder: Path
    input_norm: str
    input_scale: float
    device: str

    def __reduce__(self) -> tuple[type, tuple[Any, ...]]:
        """Leave out the cached properties when the data are pickled."""
        return CellData, (self.folder, self.input_norm, self.input_scale, self.device)

    @functools.cached_property
    def embeddings(self) -> np.ndarray:
        """(N, d) embeddings of the training split, as the backbone gave them."""
        return activations.read(self.folder / "train").embeddings

    @functools.cached_property
    def training_inputs(self) -> torch.Tensor | Inputs:
        """(N, d) prepared inputs of the training split."""
        return self._prepared(self.embeddings)

    @functools.cached_property
    def moments(self) -> Moments:
        """The mean and the variance of the training inputs, from which SAEs start."""
        return moments(self.training_inputs, self.input_norm)

    @functools.cached_property
    def validation(self) -> activations.Activations:
        """The validation split, on which thresholds are fixed."""
        return activations.read(self.folder / "val")

    @functools.cached_property
    def validation_inputs(self) -> torch.Tensor | Inputs:
        """(N, d) prepared inputs of the validation split."""
        return self._prepared(self.validation.embeddings)

    def _prepared(self, embeddings: np.ndarray) -> torch.Tensor | Inputs:
        return inputs.open_inputs(
            embeddings, self.input_norm, self.input_scale, self.device
        )


def cell_data_of(plan: Plan, activations_dir: Path, device: str) -> CellData:
    """Return the data of a plan's cell, with the scale of its inputs.

    Args:
        activations_dir: Folder of the splits' embeddings.
        device: Name of the torch device.

    Raises:
        UserError: The embeddings of the training or of the validation split are all the
            same. This is found before the first SAE trains.
    """
    input_norm = plan.recipe["input_norm"]
    training_variance = _variance_after_norm(
        activations_dir / "train", input_norm, "nothing can be learnt"
    )
    _variance_after_norm(
        activations_dir / "val",
        input_norm,
        "R^2 on validation images is not defined",
    )

    input_scale = 1.0
    if plan.recipe["unit_variance"]:
        input_scale = float(training_variance**-0.5)
    return CellData(activations_dir, input_norm, input_scale, device)


def _variance_after_norm(
    split_folder: Path, input_norm: str, consequence: str
) -> float:
    """Return the total variance of a split's embeddings after their norm."""
    embeddings = activations.read(split_folder).embeddings
    normed = Inputs(embeddings, input_norm, 1.0, "cpu")
    variance = float(inputs.total_variance(normed))
    if inputs.rows_differ(normed, variance):
        return variance

    count = len(embeddings)
    if count <= 1:
        cause = "there is one embedding only"
    else:
        value = "the same" if normed[:1].any() else "zero"
        cause = f"all {count:,} embeddings are {value} after the norm {input_norm}"
    raise UserError(
        f"{split_folder}: {cause}: the variance is {variance:.3g}, so that "
        f"{consequence}: look at the images, and at what the backbone makes of them"
    )


class Trainer:
    """A trainer brings the SAEs of one cell into the store and lists them in a bank.

    Attributes:
        bank: The SAEs that were brought so far.
    """

    def __init__(
        self,
        plan: Plan,
        cell_data: CellData,
        place: Place,
        side_by_side: Map | None = None,
    ) -> None:
        """Begin with an empty bank.

        Args:
            plan: Plan of the cell.
            cell_data: What its SAEs are trained on.
            place: Where they come from and go to.
            side_by_side: A map over several processes (`sae.core.workers.pool`).
                Without it SAEs train in this process, one after the other.
        """
        self._plan = plan
        self._cell_data = cell_data
        self._place = place
        self._side_by_side = side_by_side
        manifest = files.read_json(
            cell_data.folder / "train/manifest.json", "manifest of activations"
        )
        self._training_split_sha256 = manifest["sha256"]
        self._training_versions = functools.cache(store.training_versions)
        self.bank = Bank(
            file=place.bank,
            dataset=plan.dataset,
            backbone=plan.backbone,
            k=plan.k,
            input_scale=cell_data.input_scale,
            store=os.path.relpath(place.store, place.bank.parent),
            saes=[],
            facts={},
        )

    def bring(self, saes: list[Sae]) -> list[Sae]:
        """Train the SAEs that no store has, and add all to the bank.

        Args:
            saes: As the plan has them.

        Returns:
            They as the bank has them, in the same order.
        """
        requested = [self._with_key(sae) for sae in saes]
        self._note_as_unfinished(requested)

        store_folder = self._place.store
        found = [
            store.find_sae(sae, store_folder, self._place.shared) for sae in requested
        ]
        # Two of them may be one SAE under two names, with one key. It is trained once,
        # and its file has the names of the later one.
        to_train = {
            sae.key: sae
            for sae, stored_sae in zip(requested, found, strict=True)
            if stored_sae is None
        }
        train_one = functools.partial(
            _train_one, cell_data=self._cell_data, store_folder=store_folder
        )
        newly_trained: Iterator[None] = map(train_one, to_train.values())
        # One SAE alone gains nothing from another process. Without a pool none is
        # trained yet: `next` below trains one at a time.
        if self._side_by_side is not None and len(to_train) > 1:
            train_in_worker = functools.partial(
                _train_in_worker, cell_data=self._cell_data, store_folder=store_folder
            )
            newly_trained = self._side_by_side(train_in_worker, to_train.values())

        bank_size = len(self.bank.saes)
        finished_keys = set[str]()
        banked_saes = []
        for number, (sae, stored_sae) in enumerate(
            zip(requested, found, strict=True), 1
        ):
            report_progress(
                bank_size + number - 1, bank_size + len(requested), "SAEs trained"
            )
            origin = ", found in the store"
            if stored_sae is None:
                origin = ""
                # This loop meets the keys in the order of `to_train`, since a dict
                # keeps the place at which a key first came.
                if sae.key not in finished_keys:
                    next(newly_trained)
                    finished_keys.add(sae.key)
                stored_sae = store.intact_sae(sae, store_folder / sae.key)
                assert stored_sae is not None

            details.info(
                "%s: %d/%d %s: %s%s",
                self._plan.cell,
                number,
                len(requested),
                sae,
                self._describe_result(stored_sae),
                origin,
            )
            banked_saes.append(self._link(stored_sae))

        self.bank = replace(self.bank, saes=[*self.bank.saes, *banked_saes])
        return banked_saes

    def lacking(self, saes: list[Sae]) -> list[Sae]:
        """Return those of some planned SAEs that no store has."""
        place = self._place
        return [
            sae
            for sae in map(self._with_key, saes)
            if store.find_sae(sae, place.store, place.shared) is None
        ]

    def _with_key(self, sae: Sae) -> Sae:
        # The code is loaded when its versions are read: an edit that is made while the
        # cell trains belongs to the next run.
        settings = sae.settings
        objective, _ = load_objective_and_penalty(settings)
        code_versions = self._training_versions(settings.objective, settings.penalty)

        deciding_settings = settings.identity()
        if is_made_elsewhere(objective):
            # What the file of the SAE holds decides, wherever the file lies.
            options = settings.of(objective)
            deciding_settings["options"] = objective.content(options)

        made_by = {
            "data": self._training_split_sha256,
            "settings": deciding_settings,
            "input_scale": self._cell_data.input_scale,
            "versions": code_versions,
            "device": torch.device(self._cell_data.device).type,
        }
        key = store.store_key(made_by)
        return replace(sae, made_by=made_by, key=key, trained=key)

    def _note_as_unfinished(self, requested: list[Sae]) -> None:
        """List the cell's keys beside bank.json: `make prune` then keeps their SAEs."""
        unfinished = self._place.unfinished
        keys = {sae.key for sae in requested}
        for sae in self.bank.saes:
            keys.update((sae.key, sae.trained))

        # A job that was killed in a later round has noted more keys: they stay.
        if unfinished.exists():
            noted = files.read_json(unfinished, "list of unfinished SAEs")
            keys.update(noted["keys"])

        files.write_json(unfinished, {"keys": sorted(keys)})

    def _describe_result(self, sae: Sae) -> str:
        if not sae.ok:
            settings = files.dumps(sae.made_by["settings"])
            return f"DIVERGED by step {sae.step} ({settings})"
        result = files.read_json(self._place.store / sae.key / store.RESULT_FILE)
        return ", ".join(
            text.format(result[name])
            for name, text in _SCORE_FORMATS.items()
            if result.get(name) is not None
        )

    def _link(self, sae: Sae) -> Sae:
        """Link a stored SAE to where the bank has it, and return it as listed there."""
        if sae.ok:
            sae = _sae_within_budget(sae, self._cell_data, self._place)
            bank_path = self._place.bank.parent / sae.path
            store.link_sae(self._place.store / sae.key, bank_path)

        # The hash of its file stands for the options of one that was made elsewhere.
        settings = sae.settings
        later_options = later_options_of(settings.objective, settings.penalty)
        options = later_options | sae.made_by["settings"]["options"]
        listed_settings = settings.model_copy(update={"options": options})
        return replace(sae, settings=listed_settings)


def load_objective_and_penalty(
    settings: Settings,
) -> tuple[ModuleType, ModuleType | None]:
    """Return the modules of an SAE's objective and of its penalty, if it has one."""
    objective = registry.load("objective", settings.objective)
    penalty = None
    if settings.penalty:
        penalty = registry.load("penalty", settings.penalty)
    return objective, penalty


def is_made_elsewhere(objective: ModuleType) -> bool:
    """Return whether SAEs of an objective are taken from files and not trained."""
    return getattr(objective, "MADE_ELSEWHERE", False)


def _train_in_worker(sae: Sae, cell_data: CellData, store_folder: Path) -> None:
    _train_one(sae, _opened_data(cell_data), store_folder)


@functools.lru_cache(maxsize=1)
def _opened_data(cell_data: CellData) -> CellData:
    """Return the equal data that this process has open, if there are any."""
    return cell_data


def _train_one(sae: Sae, cell_data: CellData, store_folder: Path) -> None:
    """Bring an SAE into the store, where another process may have been faster."""
    log.info("%s: start %s as %s", sae.cell, sae, sae.key)
    start = time.perf_counter()
    with files.atomic_directory(store_folder / sae.key) as temporary_folder:
        sae_file = temporary_folder / store.SAE_FILE
        try:
            with warned.kept() as warnings:
                coder, log_rows = _train_or_take(sae, cell_data)
        except Diverged as divergence:
            log_rows = divergence.rows
            status = "diverged"
            last_step = divergence.step
            m = sae.settings.m
            sha256 = None
        else:
            coder.metadata.update(_names_and_origin(sae, cell_data))
            saefile.save(coder, sae_file)
            status = "ok"
            last_step = log_rows[-1]["step"]
            m = coder.m
            sha256 = files.sha256(sae_file)

        files.write_parquet(temporary_folder / store.LOG_FILE, pd.DataFrame(log_rows))
        result = {
            **_finite_scores(log_rows[-1]),
            "status": status,
            "step": last_step,
            "m": m,
            "sha256": sha256,
            "made_by": sae.made_by,
            "made_with": _library_versions(),
            "warnings": warnings,
        }
        files.write_json(temporary_folder / store.RESULT_FILE, result)

    seconds = time.perf_counter() - start
    step_count = log_rows[-1]["step"] + 1
    milliseconds_per_step = 1e3 * seconds / max(1, step_count)
    log.info("%.1f s, %d steps of %.2f ms", seconds, step_count, milliseconds_per_step)


def _names_and_origin(sae: Sae, cell_data: CellData) -> dict[str, Any]:
    manifest = files.read_json(cell_data.folder / "train/manifest.json")
    return {
        "method": sae.method,
        "trial": sae.trial,
        "seed": sae.seed,
        "dataset": sae.dataset,
        "backbone": sae.backbone,
        "embeddings": sae.made_by["data"]["embeddings.npy"],
        "versions": sae.made_by["versions"],
        "made_of": activations.made_of(manifest),
    }


def _finite_scores(log_row: dict[str, Any]) -> dict[str, float]:
    """Return the finite scores of a row of a training log; JSON has no NaN."""
    return {
        name: log_row[name]
        for name in _SCORE_FORMATS
        if name in log_row and math.isfinite(log_row[name])
    }


def _sae_within_budget(sae: Sae, cell_data: CellData, place: Place) -> Sae:
    """Return the SAE that a bank lists for a trained one: it has k active latents."""
    # Training fixes thresholds so that k latents are active on *training* images, on
    # average. Held-out images of a small dataset activate more (a third more, measured:
    # docs/protocol.md), so that such an SAE would stand beside Top-k with a larger
    # budget. Therefore it is stored once more, with all its thresholds scaled by one
    # factor so that k latents are active on validation images. An SAE that was made
    # elsewhere keeps its thresholds.
    trained_folder = place.store / sae.key
    coder = saefile.load(trained_folder / store.SAE_FILE)
    trained_select = coder.select
    objective, _ = load_objective_and_penalty(sae.settings)
    if not isinstance(trained_select, Threshold) or is_made_elsewhere(objective):
        return sae

    validation_sha256 = cell_data.validation.manifest["sha256"]
    made_by = {
        **sae.made_by,
        "thresholds": {
            "of": sae.key,
            "on": validation_sha256,
            "versions": versions.joined([("training", "calibrate")]),
        },
    }
    rescaled_sae = replace(sae, made_by=made_by, key=store.store_key(made_by))
    found_sae = store.find_sae(rescaled_sae, place.store, place.shared)
    if found_sae is not None:
        return found_sae

    validation_inputs = cell_data.validation_inputs
    device = validation_inputs.device
    coder = coder.to(device)
    with warned.kept() as warnings:
        theta = calibrate(
            coder, validation_inputs, trained_select.theta.to(device), coder.k
        )
    coder.select = Threshold(theta)
    coder.metadata["thresholds_fixed_on"] = validation_sha256["embeddings.npy"]

    folder = place.store / rescaled_sae.key
    with files.atomic_directory(folder) as temporary_folder:
        sae_file = temporary_folder / store.SAE_FILE
        saefile.save(coder, sae_file)
        shutil.copyfile(
            trained_folder / store.LOG_FILE, temporary_folder / store.LOG_FILE
        )
        result = files.read_json(trained_folder / store.RESULT_FILE)
        result |= {
            "sha256": files.sha256(sae_file),
            "made_by": made_by,
            "warnings": [*sae.warnings, *warnings],
        }
        files.write_json(temporary_folder / store.RESULT_FILE, result)

    stored_sae = store.intact_sae(rescaled_sae, folder)
    assert stored_sae is not None
    return stored_sae


def _train_or_take(sae: Sae, cell_data: CellData) -> tuple[Coder, list[dict[str, Any]]]:
    """Train an SAE or, if it was made elsewhere, take it from its file."""
    settings = sae.settings
    objective, penalty = load_objective_and_penalty(settings)

    if is_made_elsewhere(objective):
        options = settings.of(objective)
        coder, scores = objective.take(options, settings, cell_data.embeddings)
        return coder, [{"step": -1, "epoch": 0, "lr": 0.0} | scores]

    coder, log_rows = train(
        cell_data.training_inputs,
        settings,
        objective,
        penalty,
        _log_row,
        cell_data.moments,
    )
    coder.input_scale = cell_data.input_scale
    return coder, log_rows


def _log_row(log_row: dict[str, Any]) -> None:
    whole_numbers = ("step", "epoch", "dead")
    texts = []
    for name, value in log_row.items():
        number_format = ".0f" if name in whole_numbers else ".5g"
        texts.append(f"{name} {value:{number_format}}")
    log.info(" ".join(texts))


def _library_versions() -> dict[str, Any]:
    """Return the versions and the number of threads that an SAE was made with."""
    # They are recorded and no part of the key: another version may give other bits.
    return {
        "torch": version("torch"),
        "numpy": version("numpy"),
        "safetensors": version("safetensors"),
        "python": platform.python_version(),
        "threads": torch.get_num_threads(),
    }

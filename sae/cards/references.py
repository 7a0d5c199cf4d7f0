"""Train what an SAE is read beside: tuned Top-k, and what was not, or in part, trained.

Top-k has the SAE's m, its L0 as k and its norm of inputs. Steps double until R^2 on
validation stops rising. Then three learning rates, each at two scales of the first
encoder, are trained with one seed. These are the trials, with those of fewer steps:
shorter training reconstructs less and has higher scores, so that without these an SAE
that was stopped early would seem better than any Top-k. The trial that is chosen is
trained with seeds of its own.
"""

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sae.bank.plan import Plan
from sae.bank.sae import Sae
from sae.bank.train import Place, Trainer, cell_data_of
from sae.cards.images import CardImages, training_folder
from sae.cards.measure import r2_on
from sae.core import files, registry
from sae.core.workers import Map
from sae.models.coder import Coder
from sae.training import alone
from sae.training.loop import train

progress = logging.getLogger("sae.progress")

TOPK = "topk"
UNTRAINED = "untrained"
METHODS: dict[str, dict[str, Any]] = {
    TOPK: {"objective": "topk"},
    UNTRAINED: {
        "objective": "topk",
        "recipe": {"frozen": "all", "encoder_scale": 1.0},
        "control": True,
    },
    "frozen_decoder": {
        "objective": "topk",
        "recipe": {"frozen": "decoder"},
        "control": True,
    },
    "pca": {"objective": "axes", "options": {"basis": "principal"}, "control": True},
}
# But for what a card finds out: its length, rate and norm of inputs.
RECIPE = {**alone.RECIPE, "epochs": 1, "auxk_alpha": 0.1}
# Of 4,096 latents on 5,755 images 68 % fire after 250 steps, and 37 % with 256.
AUXK_K = 64
# The middle of the learning rates for 512 latents; it falls with the root of m.
RATE_AT_512 = 0.002
RATES = (1.0, 0.5, 2.0)  # as multiples of it; the first one says how long they train
ENCODER_SCALES = (0.1, 0.3)
TUNING_SEED = 0
FIRST_STEPS = 250
MOST_STEPS = 4000
SHORTER = (8, 4, 2)  # What the first length is divided by, for trials of lower R^2.
GAIN_R2 = 0.003  # Steps double again where R^2 on validation rises by at least this.
TIMED_STEPS = 5


@dataclass(frozen=True)
class Effort:
    """How much is trained.

    Attributes:
        encoder_scales: Of the points that are tried.
        seeds: Those of the chosen trial, and of controls.
        first_steps: The first length that is tried.
        most_steps: The longest one.
    """

    encoder_scales: tuple[float, ...]
    seeds: tuple[int, ...]
    first_steps: int
    most_steps: int


FULL = Effort(ENCODER_SCALES, (1, 2, 3), FIRST_STEPS, MOST_STEPS)
QUICK = Effort(ENCODER_SCALES[:1], (1, 2), FIRST_STEPS // 2, FIRST_STEPS // 2)


class References:
    """The references of one SAE, trained as they are asked for.

    Attributes:
        steps: How long they train; 0 before :meth:`find_steps`.
        still_improving: Whether more steps would have helped.
    """

    def __init__(
        self,
        coder: Coder,
        k: int,
        images: CardImages,
        root: Path,
        effort: Effort,
        *,
        device: str,
        side_by_side: Map | None,
    ) -> None:
        """Begin with none.

        Args:
            coder: The SAE that they stand beside.
            k: Active latents of each reference.
            images: Those of the card, which they are trained and chosen on.
            root: Where they are kept.
            effort: How much is trained.
            device: Name of the torch device.
            side_by_side: A map over several processes (`sae.core.workers.pool`).
        """
        self.effort = effort
        self.steps = 0
        self.still_improving = False
        # {its name: a trial of Top-k}, all that were asked for.
        self._trials: dict[str, dict[str, Any]] = {}
        self._middle_rate = float(f"{RATE_AT_512 * (512 / coder.m) ** 0.5:.2g}")
        recipe = {
            **RECIPE,
            "m": coder.m,
            "auxk_k": min(AUXK_K, coder.m),
            "input_norm": coder.input_norm,
            "lr": self._middle_rate,
        }
        manifest = images.splits["train"].manifest
        self._plan = Plan.model_validate(
            {
                "dataset": manifest["dataset"]["name"] or "images",
                "backbone": manifest["backbone"]["name"] or "embeddings",
                "k": k,
                "seeds": [TUNING_SEED],
                "recipe": recipe,
                "methods": METHODS,
                "protocols": {},
            }
        )
        folder = training_folder(images, root)
        self._cell_data = cell_data_of(self._plan, folder, device)
        name = files.sha256_text(str(folder.resolve()))[:16]
        cell = f"m{coder.m}-k{k}-{coder.input_norm}"
        bank = root / "banks" / name / cell / "bank.json"
        place = Place(store=root / "store", bank=bank)
        self._trainer = Trainer(self._plan, self._cell_data, place, side_by_side)

    def seconds_per_step(self) -> float:
        """Measure how long a step takes, on a few."""
        member = self._member(TOPK, {"steps": TIMED_STEPS})
        objective = registry.load("objective", "topk")
        started_at = time.perf_counter()
        train(
            self._cell_data.training_inputs,
            member.settings,
            objective,
            input_moments=self._cell_data.moments,
        )
        return (time.perf_counter() - started_at) / TIMED_STEPS

    def saes_to_train(self, steps: int) -> int:
        """Return about how many SAEs of some length the store lacks."""
        trials = [self._member(TOPK, trial) for trial in self._points(steps)]
        count = len(self._trainer.lacking(trials))
        # A card trains controls last: where they are, so mostly is its chosen trial.
        if self._trainer.lacking(self._untrained()):
            count += len(self.effort.seeds) + 1
        return count

    def find_steps(self, agree: Callable[[int], None]) -> None:
        """Double the steps of Top-k until R^2 on validation stops rising.

        Args:
            agree: Called with a number of steps before that many are gone on with; it
                may refuse.
        """
        steps = self.effort.first_steps
        for divisor in SHORTER:
            self._note(self._points(max(1, steps // divisor))[0])
        r2 = self._validation_r2(steps)
        while True:
            self.steps = steps
            if 2 * steps > self.effort.most_steps:
                self.still_improving = True
                break
            longer_r2 = self._validation_r2(2 * steps)
            gains = longer_r2 - r2 >= GAIN_R2  # No longer one does that diverged.
            if not gains:
                break
            steps *= 2
            agree(steps)
            r2 = longer_r2
        progress.info("references train for %d steps", self.steps)

    def tuned(self) -> dict[str, Coder]:
        """Return {trial: Top-k at each point and length}, but for what diverged."""
        for point in self._points(self.steps):
            self._note(point)
        members = [self._member(TOPK, trial) for trial in self._trials.values()]
        progress.info("%d trials of Top-k", len(members))
        return self._coders_by_trial(members)

    def retrained(self, trial: str) -> list[Coder]:
        """Return Top-k at a trial with seeds of its own, but for what diverged."""
        members = [
            self._member(TOPK, self._trials[trial], seed) for seed in self.effort.seeds
        ]
        progress.info("the chosen trial with %d other seeds", len(members))
        saes = self._bring(members)
        return [self._trainer.bank.open(sae) for sae in saes if sae.ok]

    def controls(self) -> dict[str, list[Coder]]:
        """Return {control: its SAEs}."""
        members = self._untrained()
        members.append(self._member("frozen_decoder", {"steps": self.steps}))
        members.append(self._member("pca", {}))
        progress.info("%d controls", len(members))
        coders: dict[str, list[Coder]] = {}
        for sae in self._bring(members):
            if sae.ok:
                coders.setdefault(sae.method, []).append(self._trainer.bank.open(sae))
        return coders

    def _untrained(self) -> list[Sae]:
        return [self._member(UNTRAINED, {}, seed) for seed in self.effort.seeds]

    def _points(self, steps: int) -> list[dict[str, Any]]:
        return [
            {
                "lr": float(f"{multiple * self._middle_rate:.2g}"),
                "encoder_scale": scale,
                "steps": steps,
            }
            for multiple in RATES
            for scale in self.effort.encoder_scales
        ]

    def _member(
        self, method: str, trial: dict[str, Any], seed: int = TUNING_SEED
    ) -> Sae:
        return self._plan.member(method, trial, seed, "card")

    def _note(self, trial: dict[str, Any]) -> Sae:
        member = self._member(TOPK, trial)
        self._trials[member.name] = trial
        return member

    def _bring(self, members: list[Sae]) -> list[Sae]:
        return self._trainer.bring(members)

    def _coders_by_trial(self, members: list[Sae]) -> dict[str, Coder]:
        return {
            sae.name: self._trainer.bank.open(sae)
            for sae in self._bring(members)
            if sae.ok
        }

    def _validation_r2(self, steps: int) -> float:
        member = self._note(self._points(steps)[0])
        for coder in self._coders_by_trial([member]).values():
            return r2_on(coder, self._cell_data.validation.embeddings)
        return float("nan")

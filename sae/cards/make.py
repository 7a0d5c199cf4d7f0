"""Make the card of an SAE: its scores, and where they stand beside its references."""

import itertools
import logging
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from math import isnan, nan
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float

from sae.cards.images import (
    LEAST_TEST_GROUPS,
    CardImages,
    check_group_count,
    says_uncounted_concepts,
)
from sae.cards.latents import CardLatents, choose_latents
from sae.cards.measure import (
    Measured,
    MeasuredImages,
    r2_on,
    tensors_sha256,
    without_nan,
)
from sae.cards.references import FULL, QUICK, UNTRAINED, References
from sae.comparison import card as cards
from sae.comparison.card import Reading
from sae.comparison.scores import SCORES, across_groups
from sae.core import arguments, workers
from sae.core.errors import UserError
from sae.models.coder import Coder
from sae.models.inputs import Inputs, rows_differ, total_variance
from sae.scoring import choice
from sae.scoring.choice import DETECTION
from sae.scoring.metrics.concepts import group_numbers
from sae.scoring.metrics.detection import CHANCE

progress = logging.getLogger("sae.progress")

# The scores of which a word is said.
COMPARED = (DETECTION, "ms", "concepts_match")
# Those that are shown beside them, of the same SAEs.
BESIDE = (
    *("detection_per_latent", "detection_per_activation", "coverage", "usable"),
    *("effective", "nested", "copies", "detection_pixels", "names_share"),
)
# What all scores of a card take, as a multiple of the SAE's on validation.
SCORINGS = 25
# Above this a card waits for a word.
MOST_MINUTES = 30
NORMS = ("none", "unit_l2", "unit_l2_layernorm")
# Formats of libraries that train on patch tokens, many for each image.
OF_PATCHES = ("saev", "visaebench")


@dataclass(frozen=True)
class Card:
    """A card: what card.json holds, and what its page shows beside that.

    Attributes:
        content: What card.json holds.
        latents: The latents that the page shows.
        images: The images that were read.
    """

    content: dict[str, Any]
    latents: CardLatents
    images: CardImages


def check_is_pooled(coder: Coder, is_pooled: bool) -> None:
    """Refuse an SAE of patch tokens.

    Raises:
        UserError: its format is one of libraries that train on patch tokens.
    """
    if coder.metadata.get("imported") in OF_PATCHES and not is_pooled:
        raise UserError(
            f"its file is of {coder.metadata['imported']}, whose SAEs are trained on "
            "patch tokens, many for each image; on pooled embeddings, one for each, "
            "scores mean little. If it was trained on pooled ones, say --pooled "
            "(pooled=True)"
        )


def make_card(
    coder: Coder,
    images: CardImages,
    *,
    root: Path,
    quick: bool = False,
    yes: bool = False,
    at_once: int = 1,
    device: str = "cpu",
) -> Card:
    """Train the references that the store lacks, score all, and read the SAE beside.

    Args:
        coder: The SAE.
        images: What it is read on.
        root: The folder of references.
        quick: Whether references train for a fixed short time.
        yes: Whether it may take more than half an hour.
        at_once: References that are trained side by side.
        device: Name of the torch device.

    Raises:
        UserError: The SAE reconstructs worse than the mean, or it would take too long.
    """
    if root.exists() and not root.is_dir():
        raise UserError(f"store: {root} is a file; name a folder")
    device = arguments.device_name(device)
    coder = coder.to(device)
    _check_r2(coder, images)
    test_groups = group_numbers(images.splits["test"])
    check_group_count(test_groups, LEAST_TEST_GROUPS, "the test images")
    measured_images = MeasuredImages(images, cards.fold_of_groups(test_groups))
    yours = Measured(coder, measured_images)
    started_at = time.perf_counter()
    k = min(coder.m, max(1, round(yours.on_val()["l0"])))
    if all(isnan(value_of(yours.on_val(), score)) for score in COMPARED):
        raise UserError(
            "nothing can be said of this SAE: too few of its latents fire on validation "
            f"images for any of {', '.join(SCORES[score].heading for score in COMPARED)}"
        )
    scoring_seconds = SCORINGS * (time.perf_counter() - started_at)

    effort = QUICK if quick else FULL
    kept_scores = root / "scores"

    def measured(coders: Iterable[Coder]) -> list[Measured]:
        return [
            Measured(reference, measured_images, kept_scores) for reference in coders
        ]

    with workers.pool(at_once) as side_by_side:
        references = References(
            coder, k, images, root, effort, device=device, side_by_side=side_by_side
        )
        step_seconds = references.seconds_per_step() / at_once

        def say_minutes(steps: int) -> None:
            saes = references.saes_to_train(steps)
            _say_minutes(saes, steps, step_seconds, scoring_seconds, yes)

        say_minutes(effort.first_steps)
        references.find_steps(say_minutes)
        tuned_coders = references.tuned()
        tuned = dict(zip(tuned_coders, measured(tuned_coders.values()), strict=True))
        trials = _trials(tuned, k)
        best = choice.choose(trials, float(yours.on_val()["r2"]))
        topk: list[Measured] = []
        if best is not None:
            retrained = references.retrained(best["trial"])
            if len(retrained) == len(effort.seeds):
                topk = measured(retrained)
        controls = {
            method: measured(coders) for method, coders in references.controls().items()
        }

    scored = [yours, *topk, *itertools.chain(*controls.values())]
    progress.info("scores of %d SAEs, and intervals", len(scored))
    for sae in scored:
        sae.on_test()
    readings = _all_readings(yours, topk, controls)
    judges_at_chance = _find_judges_at_chance(trials, tuned, images.judges)
    if judges_at_chance:
        readings = [
            replace(reading, word=cards.NO_VERDICT)
            if reading.score == DETECTION
            else reading
            for reading in readings
        ]
    latents = choose_latents(yours, images.splits["test"])
    content = {
        "sae": _about_sae(coder),
        "images": _about_images(images),
        "references": {
            "k": k,
            "m": coder.m,
            "steps": references.steps,
            "chosen": None if best is None else best["trial"],
            "seeds": len(topk),
            "still_improving": references.still_improving or quick,
            "quick": quick,
            "trials": trials.to_dict("records"),
        },
        "scores": _sizes_and_r2(yours, trials, topk, controls),
        "readings": [_as_dict(reading) for reading in readings],
        "judges_at_chance": judges_at_chance,
        "controls": {
            method: {score: _mean(saes, score) for score in ("r2", *COMPARED, *BESIDE)}
            for method, saes in controls.items()
        },
        "on_validation": {
            "yours": _on_validation([yours]),
            **{method: _on_validation(saes) for method, saes in controls.items()},
        },
        "notes": [*images.notes, *says_uncounted_concepts(images)],
        "latents": latents.as_lists(),
        "columns": {
            name: value for name, value in yours.on_test().items() if np.isscalar(value)
        },
    }
    return Card(without_nan(content), latents, images)


def _say_minutes(
    saes: int, steps: int, step_seconds: float, other_seconds: float, yes: bool
) -> None:
    """Say how long references take, with all scores.

    Args:
        saes: How many are trained, which the store lacks.
        steps: Of each.
        step_seconds: What a step takes, over those that are trained side by side.
        other_seconds: What all else takes.
        yes: Whether it may take more than half an hour.

    Raises:
        UserError: It takes more than half an hour, and nobody agreed.
    """
    minutes = (saes * steps * step_seconds + other_seconds) / 60
    work = (
        f"training {saes} SAEs or more to compare it with, each for {steps} steps or "
    )
    work += "more, and scoring them"
    if saes == 0:
        work = "scoring; the trials of Top-k are in the store"
    time_text = "a minute or two" if minutes < 1.5 else f"about {minutes:.0f} minutes"
    progress.info("%s: %s", work, time_text)
    if minutes > MOST_MINUTES and not yes:
        raise UserError(
            f"this card takes about {minutes:.0f} minutes: say --yes (yes=True), take "
            "fewer embeddings, or --quick"
        )


def _check_r2(coder: Coder, images: CardImages) -> None:
    """Refuse an SAE that was trained on something else, or is dead."""
    embeddings = images.splits["val"].embeddings
    own_inputs = Inputs(embeddings, coder.input_norm, 1.0, "cpu")
    if not rows_differ(own_inputs, total_variance(own_inputs)):
        raise UserError(
            "R2 cannot be measured on validation: its images "
            f"({len(embeddings)}) have one embedding; give it images that differ"
        )
    r2 = r2_on(coder, embeddings)
    if r2 > 0:
        return
    is_silent = not _fires(coder, embeddings)
    tried = {}
    own_space = (coder.input_norm, coder.input_scale)
    for norm in NORMS:
        variance = total_variance(Inputs(embeddings, norm, 1.0, "cpu"))
        for scale in (1.0, variance**-0.5, coder.d**0.5):
            coder.input_norm, coder.input_scale = norm, scale
            # A constant reconstruction may look better than the mean in LayerNorm.
            if _fires(coder, embeddings):
                tried[norm, scale] = r2_on(coder, embeddings)
    coder.input_norm, coder.input_scale = own_space
    (norm, scale), best = max(
        tried.items(), key=lambda item: item[1], default=(own_space, r2)
    )
    if is_silent and best <= 0:
        raise UserError(
            f"no latent of this SAE fires on any of {len(embeddings)} validation "
            f"images with input_norm {own_space[0]}, input_scale {own_space[1]:.6g}, "
            "and no other input space helps: all are dead, and nothing can be said of "
            "it; train it anew"
        )
    texts = [
        f"{norm} x {scale:.3g}: {value:.3g}" for (norm, scale), value in tried.items()
    ]
    advice = (
        "none of these: it was trained on something else, perhaps on another backbone, "
        "or before other steps of preprocessing"
    )
    if best > 0:
        advice = (
            f"say --input-norm {norm} --input-scale {scale:.6g} (in Python: "
            "sae.models.convert.load(file, options=Options(input_norm=..., "
            "input_scale=...)))"
        )
    raise UserError(
        "the SAE reconstructs these embeddings worse than their mean does: R2 is "
        f"{r2:.3g} with input_norm {own_space[0]}, input_scale {own_space[1]:.6g}. "
        f"Tried as well, norm x scale: {'; '.join(texts)}. {advice[0].upper()}"
        f"{advice[1:]}"
    )


def _fires(coder: Coder, embeddings: Float[np.ndarray, "images dim"]) -> bool:
    """Return whether any latent fires on any of some images."""
    return bool((coder.encode(coder.open_inputs(embeddings)).values > 0).any())


def _trials(tuned: Mapping[str, Measured], k: int) -> pd.DataFrame:
    """Return what validation says of each trial of Top-k."""
    rows = []
    for trial, measured in tuned.items():
        scores = measured.on_val()
        row = {"trial": trial, "status": "ok", "k": k, "l0": float(scores["l0"])}
        rows.append({**row, **_on_validation([measured])})
    table = pd.DataFrame(rows)
    if table.empty:
        raise UserError(
            "every Top-k reference diverged: look at the embeddings, which may have "
            "outliers"
        )
    return table.assign(feasible=choice.feasible(table))


def _on_validation(saes: Iterable[Measured]) -> dict[str, float]:
    """Return R^2 and the scores that are compared, on validation, means over SAEs."""
    return {
        score: float(np.mean([value_of(sae.on_val(), score) for sae in saes]))
        for score in ("r2", *COMPARED)
    }


def _find_judges_at_chance(
    trials: pd.DataFrame, tuned: Mapping[str, Measured], judges: Iterable[str]
) -> list[str]:
    """Return the judges by which even the best Top-k may be at chance on test."""
    if trials[DETECTION].isna().all():
        return []
    best = tuned[trials.loc[trials[DETECTION].idxmax(), "trial"]]
    at_chance = []
    for judge in judges:
        of_all, *without_fold = (
            value_of(scores, DETECTION) for scores in best.detection_by(judge)
        )
        low, _ = cards.interval(of_all, without_fold, 0.0)
        if low <= CHANCE:
            at_chance.append(judge)
    return at_chance


def _all_readings(
    yours: Measured,
    topk: Sequence[Measured],
    controls: Mapping[str, list[Measured]],
) -> list[Reading]:
    """Read every score that there is, those of which a word is said first."""
    return [
        _reading(score, yours, topk, controls)
        for score in (*COMPARED, *BESIDE)
        if not isnan(value_of(yours.on_test(), score))
    ]


def _reading(
    score: str,
    yours: Measured,
    topk: Sequence[Measured],
    controls: Mapping[str, list[Measured]],
) -> Reading:
    value = value_of(yours.on_test(), score)
    untrained = _mean(controls.get(UNTRAINED, []), score)
    of_topk = np.array([value_of(sae.on_test(), score) for sae in topk])
    if not len(of_topk) or np.isnan(of_topk).any():
        word = cards.NOT_COMPARABLE if score in COMPARED else ""
        return Reading(score, value, untrained, word=word)

    mean = float(of_topk.mean())
    difference = value - mean
    if score not in COMPARED:
        return Reading(score, value, untrained, mean, difference)

    seed_variance = 0.0
    if len(of_topk) > 1:
        seed_variance = float(of_topk.var(ddof=1)) / len(of_topk)
    # One seed: what images vary is alike for all.
    without_fold = [
        value_of(yours.without_fold(fold), score)
        - value_of(topk[0].without_fold(fold), score)
        for fold in range(cards.FOLDS)
    ]
    low, high = cards.interval(difference, without_fold, seed_variance)
    word = cards.word_of(low, high)
    return Reading(score, value, untrained, mean, difference, low, high, word)


def value_of(scores: Mapping[str, Any], score: str) -> float:
    """Return a score by its name in `SCORES`, across groups where there are any."""
    numbers = {name: [value] for name, value in scores.items() if np.isscalar(value)}
    return float(SCORES[score].of(across_groups(pd.DataFrame(numbers))).iloc[0])


def _mean(saes: Iterable[Measured], score: str) -> float:
    values = [value_of(sae.on_test(), score) for sae in saes]
    return float(np.mean(values)) if values else nan


def _about_sae(coder: Coder) -> dict[str, Any]:
    return {
        "m": coder.m,
        "d": coder.d,
        "select": type(coder.select).__name__,
        "input_norm": coder.input_norm,
        "input_scale": coder.input_scale,
        "sha256": tensors_sha256(coder),
    }


def _about_images(images: CardImages) -> dict[str, Any]:
    about: dict[str, Any] = {
        split: len(activations.index) for split, activations in images.splits.items()
    }
    return {
        **about,
        "grouped": images.splits["test"].grouped,
        "judges": [*images.judges],
        "looks": bool(images.looks),
        "concepts": bool(images.concepts),
    }


def _sizes_and_r2(
    yours: Measured,
    trials: pd.DataFrame,
    topk: Iterable[Measured],
    controls: Mapping[str, list[Measured]],
) -> dict[str, Any]:
    on_test = yours.on_test()
    return {
        "r2": float(on_test["r2"]),
        "r2_val": float(yours.on_val()["r2"]),
        "r2_untrained": _mean(controls.get(UNTRAINED, []), "r2"),
        "r2_topk": _mean(topk, "r2"),
        "best_r2": choice.best_r2(trials),
        "l0": float(on_test["l0"]),
        "live_latents": int(on_test["m"] - on_test["dead_train"]),
        "m": int(on_test["m"]),
    }


def _as_dict(reading: Reading) -> dict[str, Any]:
    return {**asdict(reading), "way": reading.way}

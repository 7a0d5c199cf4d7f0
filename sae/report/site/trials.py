"""The blind trials of the view *Judge*: which latents and images a person is shown.

A file `judge/{cell}` has up to `POOL` latents of the baseline, of two methods and of
one control; a rater is asked about ten of each. A latent is drawn from those that are
measured and fire on enough images, a third from each of three bands of how often they
fire. A trial shows the nine test images on which it fires most and nine on which it is
silent; it asks about one further image of either kind, drawn among all of that kind. No
two of these 20 images are near-duplicates. In a catch trial one of the two is among
those shown, so that a rater who looks is right.
"""

import functools
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from sae.core import files
from sae.report.site import pack
from sae.report.site.latents import RankedCodes

FORMAT = 1
# Latents of a method, at most: a difference of .05 is found with no fewer, however many
# raters there are (bench/judging.py).
POOL = 192
BANDS = 3  # of how often latents fire; each has as many latents
SHOWN = 9  # images of either kind
METHODS = 2  # beside the baseline and the control
# What a trial is for, by number: it counts, it is answered for the rater, or it catches
# raters who do not look.
COUNTED = 0
PRACTICE = 1
CATCH = 2
PRACTICE_TRIALS = 5
CATCH_TRIALS = 6
# A latent that fires on fewer sets of near-duplicates has too few images to be asked
# about: nine are shown, and one is drawn out of the others.
FEWEST_GROUPS = SHOWN + 3
# Silent images are drawn among so many, since all that trials show need a thumbnail.
MOST_SILENT = 2000
SCORES = ("detection", "ms")


@dataclass(frozen=True)
class Trial:
    """One trial, and what was measured of its latent, which the page does not show.

    Attributes:
        kind: `COUNTED`, `PRACTICE` or `CATCH`.
        method: The place of its method.
        latent: The latent.
        n_active: On how many test images it fires.
        firing_images: (9,) rows of the images on which it fires most.
        silent_images: (9,) rows of images on which it is silent.
        fires: The row of an image that is asked about, on which it fires.
        silent: The row of the other one, on which it is silent.
        scores: By name, of `SCORES`; NaN where not measured.
    """

    kind: int
    method: int
    latent: int
    n_active: int
    firing_images: np.ndarray
    silent_images: np.ndarray
    fires: int
    silent: int
    scores: dict[str, float]

    def images(self) -> list[int]:
        """Return the rows of all images of the trial."""
        return [*self.firing_images, *self.silent_images, *self.queries()]

    def queries(self) -> list[int]:
        """Return the rows of the two images that are asked about."""
        return [self.fires, self.silent]


def choose_methods(
    methods: Sequence[str], baselines: Sequence[str], controls: Sequence[str]
) -> list[str]:
    """Choose whose latents are judged: a baseline, two methods, a control.

    Args:
        methods: Those that a cell has an SAE of, in the order of config.
        baselines: Those that others are compared with.
        controls: Those that say what a difference is worth.
    """
    plain = [method for method in methods if method not in controls]
    first = [method for method in plain if method in baselines][:1] or plain[:1]
    compared = [method for method in plain if method not in first][:METHODS]
    control = [method for method in methods if method in controls][:1]
    return [*first, *compared, *control]


def draw_trials(
    cell: tuple[Any, ...],
    codes_by_method: Mapping[str, RankedCodes],
    tables: Mapping[str, pd.DataFrame],
    controls: Collection[str],
    groups: np.ndarray,
) -> tuple[dict[str, Any] | None, np.ndarray]:
    """Draw the trials of a cell.

    Args:
        cell: (dataset, backbone, k).
        codes_by_method: The codes of the test images by each method's SAE, the
            baseline's first.
        tables: {method: (m rows by latent) scores, as far as they were measured}.
        controls: Those of the methods that are controls.
        groups: (images,) a number for each set of near-duplicates.

    Returns:
        What `judge/{cell}` holds, None if too few latents fire on enough images; and
        the rows of all images that a trial may show.
    """
    rng = np.random.default_rng(0)
    image_count = len(groups)
    often_shown = rng.permutation(image_count)[:MOST_SILENT]
    trials: list[Trial] = []
    for place, (method, codes) in enumerate(codes_by_method.items()):
        table = tables[method]
        latents = _judgeable(codes, table, groups)
        draw = functools.partial(
            _draw_trial, rng, codes, table, place, groups, often_shown
        )
        # What is practised is easy, and is not judged. The other methods leave out
        # their easiest latents as well, or the baseline would be the harder to judge.
        easiest = _easiest(codes, table, latents)[: PRACTICE_TRIALS + CATCH_TRIALS]
        if place == 0:
            for number, latent in enumerate(easiest):
                kind = PRACTICE if number < PRACTICE_TRIALS else CATCH
                # All raters see all of these, so no two ask about one image.
                asked_images = [image for trial in trials for image in trial.queries()]
                trials.append(draw(kind, latent, asked_images))
        for latent in _draw_latents(rng, codes, np.setdiff1d(latents, easiest)):
            trials.append(draw(COUNTED, latent))

    counts = np.bincount([trial.kind for trial in trials], minlength=3)
    if counts[COUNTED] < 1 or counts[CATCH] < CATCH_TRIALS:
        return None, np.zeros(0, int)
    images = np.unique([image for trial in trials for image in trial.images()])
    methods = [
        {"id": method, "control": method in controls} for method in codes_by_method
    ]
    return _payload(cell, methods, trials, image_count), images


def _payload(
    cell: tuple[Any, ...],
    methods: list[dict[str, Any]],
    trials: Sequence[Trial],
    image_count: int,
) -> dict[str, Any]:
    payload: dict[str, Any] = {
        "format": FORMAT,
        "dataset": cell[0],
        "backbone": cell[1],
        "k": cell[2],
        "methods": methods,
        "kind": pack.packed([trial.kind for trial in trials], "u8"),
        "method": pack.packed([trial.method for trial in trials], "u8"),
        "latent": pack.packed([trial.latent for trial in trials], "u32"),
        "n_active": pack.packed([trial.n_active for trial in trials], "u32"),
    }
    for name in ("firing_images", "silent_images", "fires", "silent"):
        rows = [getattr(trial, name) for trial in trials]
        payload[name] = pack.index(rows, image_count)
    for name in SCORES:
        payload[name] = pack.packed([trial.scores[name] for trial in trials], "f32")
    return {**payload, "hash": payload_hash(payload)}


def payload_hash(payload: dict[str, Any]) -> str:
    """Return the hash by which answers name the trials that they are of."""
    trials = {name: value for name, value in payload.items() if name != "hash"}
    return files.sha256_text(files.dumps(trials))[:16]


def _judgeable(
    codes: RankedCodes, table: pd.DataFrame, groups: np.ndarray
) -> np.ndarray:
    """Return the latents that are measured, and fire and are silent often enough."""
    group_count = len(np.unique(groups))
    latents = []
    for latent in range(len(codes.firing_counts)):
        firing_groups = len(np.unique(groups[codes.images_of(latent)]))
        silent_groups = group_count - firing_groups
        if min(firing_groups, silent_groups) >= FEWEST_GROUPS:
            latents.append(latent)
    is_measured = ~np.isnan(_scores_of(table, "detection"))
    if not is_measured.any():
        return np.array(latents, int)
    return np.array([latent for latent in latents if is_measured[latent]], int)


def _easiest(
    codes: RankedCodes, table: pd.DataFrame, latents: np.ndarray
) -> np.ndarray:
    """Return some latents in the order of how easy they are to judge, easiest first."""
    # Detection says it; where it was not measured, MS; else how often they fire.
    ease = codes.firing_counts.astype(float)
    for score in ("ms", "detection"):
        values = _scores_of(table, score)
        if not np.isnan(values).all():
            ease = values
    unknown_last = np.nan_to_num(-ease[latents], nan=np.inf)
    return latents[np.argsort(unknown_last, kind="stable")]


def _draw_latents(
    rng: np.random.Generator, codes: RankedCodes, latents: np.ndarray
) -> np.ndarray:
    """Draw up to `POOL` latents, as many from each band of how often they fire."""
    by_frequency = latents[np.argsort(codes.firing_counts[latents], kind="stable")]
    bands = np.array_split(by_frequency, BANDS)
    drawn = [rng.permutation(band)[: POOL // BANDS] for band in bands]
    return np.concatenate(drawn)


def _draw_trial(
    rng: np.random.Generator,
    codes: RankedCodes,
    table: pd.DataFrame,
    method: int,
    groups: np.ndarray,
    often_shown: np.ndarray,
    kind: int,
    latent: int,
    asked_images: Sequence[int] = (),
) -> Trial:
    """Draw the images of a trial; it asks about `asked_images` only if it must."""
    # The highest activation first; of each set of near-duplicates the highest image.
    firing = codes.images_of(latent)
    firing_images = firing[_first_of_each(groups[firing])][:SHOWN]
    is_shown = np.isin(groups, groups[firing_images])
    candidates = firing_images if kind == CATCH else firing[~is_shown[firing]]
    candidates = _preferred(candidates, asked_images)
    fires = int(candidates[0] if kind == CATCH else rng.choice(candidates))

    # A near-duplicate of an image on which the latent fires is in neither kind.
    is_silent = ~np.isin(groups, groups[firing])
    silent_rows = rng.permutation(often_shown[is_silent[often_shown]])
    one_of_each = silent_rows[_first_of_each(groups[silent_rows])]
    if len(one_of_each) <= SHOWN:
        silent_rows = rng.permutation(np.flatnonzero(is_silent))
        one_of_each = silent_rows[_first_of_each(groups[silent_rows])]
    silent = int(_preferred(one_of_each, asked_images)[0])
    silent_images = one_of_each[one_of_each != silent][:SHOWN]
    return Trial(
        kind=kind,
        method=method,
        latent=int(latent),
        n_active=int(codes.firing_counts[latent]),
        firing_images=firing_images,
        silent_images=silent_images,
        fires=fires,
        silent=silent,
        scores={name: float(_scores_of(table, name)[latent]) for name in SCORES},
    )


def _preferred(images: np.ndarray, asked_images: Sequence[int]) -> np.ndarray:
    not_asked = images[~np.isin(images, asked_images)]
    return not_asked if len(not_asked) else images


def _scores_of(table: pd.DataFrame, name: str) -> np.ndarray:
    """Return (m,) the scores of latents; NaN where not measured."""
    if name not in table:
        return np.full(len(table), np.nan)
    return table[name].to_numpy(float)


def _first_of_each(values: np.ndarray) -> np.ndarray:
    """Return the places at which each value stands first, ascending."""
    return np.sort(np.unique(values, return_index=True)[1])

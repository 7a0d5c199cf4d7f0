"""Score how well another model finds the images of a latent: an AUC, .5 by chance.

A judge, a backbone of another family, is shown training images on which the latent
fires, and as many random ones on which it does not. It ranks the images of a split
along the difference of the two means of its embeddings: of unit norm, centred, and
whitened by the principal axes of train. The score is the AUC of firing against not
firing, mean over draws of the random images, over the judges of a family, and over
families. Kin to the Machine Interpretability Score (Zimmermann et al. 2024) and to
detection scoring (Paulo et al. 2024, arXiv:2410.13928), whose judges are shown and
asked alike. docs/protocol.md says what is measured, and why. Of more than `MOST_TRAIN`
training images a seeded sample stands for all: whatever is read of training images, how
often a latent fires on them included, is read of the sample.

A latent has an AUC if it fires often enough to be measured, and not on nearly all
images. `detection` is the mean of two views of the whole dictionary:

- `detection_per_latent`: the mean over all latents. One that is not measured counts as
  .5. So does a copy (`sae.scoring.metrics._overlaps.find_copies`): of latents with
  nearly the same decoder row, or the same training images, only the one counts that
  fires on most training images.
- `detection_per_activation`: the mean over all that fires on the split: of each latent
  its AUC, .5 if it is not measured, weighted by the images on which it fires. A copy
  counts as what it is, since it takes the place of another activation.

Beside it:

- `usable`: the share of the dictionary with an AUC of `USABLE` or more; no copies;
- `detection_measured_auc`: the mean AUC over the latents that are measured;
- `coverage`: the share of the dictionary that is measured;
- curve `detection_by_frequency`: the mean AUC by the share of the images on which a
  latent fires, at the upper end of each of `FREQUENCY_BANDS`;
- per latent, on test: `detection`, its AUC, and `copy_of`, the latent that counts in
  its place if it is a copy.
"""

from collections.abc import Iterable, Iterator
from typing import Annotated, NamedTuple

import numpy as np
from jaxtyping import Float, Int
from scipy.sparse import csc_matrix

from sae.core.options import Count, FromExperiment, Seed, Share
from sae.core.options import Options as Base
from sae.data.store import rows_of
from sae.models.inputs import unit_rows
from sae.scoring.frequency import FREQUENCY_BANDS
from sae.scoring.metrics._overlaps import find_copies
from sae.scoring.subject import Curve, PerLatent, Scores, Subject

VERSION = 2
STAGE = "score"
SPLITS = ("val", "test")
READS = ("train", "others")
# The AUC by chance, which a latent counts as that is not measured, or is a copy.
CHANCE = 0.5
# The AUC from which on a latent is usable.
USABLE = 0.8
# Images, and latents, that are looked at at once.
CHUNK = 16_384
LATENTS = 256
# Training images; of more a seeded sample stands for all, as with probes.
MOST_TRAIN = 100_000
# What whitening adds to each variance, as a share of the largest one.
RIDGE = 1e-3


class ShownImages(NamedTuple):
    """The training images that a judge is shown in one draw, by number.

    Attributes:
        firing: for each latent, images on which it fires.
        silent: for each latent, images on which it does not.
    """

    firing: list[Int[np.ndarray, " shown"]]
    silent: list[Int[np.ndarray, " shown"]]


class Options(Base):
    """Options say what a judge is shown, and which latents are measured."""

    shown: Count = 10
    """Images on which the latent fires most, of each group one at most, and as many on
    which it does not fire."""
    draws: Count = 5
    """Draws of the images on which the latent does not fire; scores are their mean."""
    seed: Seed = 0
    """The seed of these draws."""
    least_train: Count = 20
    """Training images on which a latent has to fire to be measured."""
    least_test: Count = 5
    """Test images on which a latent has to fire to be measured; on validation in
    proportion to its size, but 2 at least."""
    most: Share = 0.5
    """The largest share of the training images on which a measured latent fires."""
    families: Annotated[dict[str, str] | None, FromExperiment("families")] = None
    """{backbone: its family}; by default as the backbones' entries say."""


def score(subject: Subject, split: str, options: Options) -> Scores:
    """Score the detection of one SAE's latents.

    Returns:
        Nothing where no backbone of another family sees the SAE's images.
    """
    auc = latent_aucs(subject, split, options)
    if auc is None:
        return {}
    of_sae = summarise(subject, split, auc)
    is_measured = ~np.isnan(auc)
    firing_share = subject.firing_counts(split) / len(subject.embeddings(split))
    scores: Scores = {
        **of_sae,
        "detection_measured_auc": auc[is_measured].mean()
        if is_measured.any()
        else np.nan,
        "coverage": is_measured.mean(),
        "detection_by_frequency": mean_by_frequency(auc, firing_share),
    }
    if split == "test":
        latents = range(subject.coder.m)
        copy_of = copies_of(subject)
        scores["detection"] = PerLatent(auc, of_sae["detection"])
        scores["copy_of"] = PerLatent(
            [None if copy_of[j] == j else int(copy_of[j]) for j in latents]
        )
    return scores


def latent_aucs(
    subject: Subject, split: str, options: Options
) -> Float[np.ndarray, " latents"] | None:
    """Return the AUC of each latent, NaN of one that is not measured.

    Returns:
        None where no backbone of another family sees the SAE's images.
    """
    judges = judges_by_family(subject, options.families or {})
    if not judges:
        return None

    train_images = subject.splits["train"].draw_rows(MOST_TRAIN)
    train_codes = subject.codes("train", MOST_TRAIN).by_latent()
    groups = subject.groups("train")
    train_groups = None if groups is None else groups[train_images]
    split_codes = subject.codes(split).by_latent()

    measured = measured_latents(train_codes, split_codes, split, options)
    measured_codes = split_codes[:, measured]
    draws = choose_shown_images(train_codes, measured, train_groups, options)
    auc_by_family = []
    for judges_of_family in judges.values():
        auc_by_judge = [
            judge_latents(subject, split, judge, train_images, draws, measured_codes)
            for judge in judges_of_family
        ]
        auc_by_family.append(np.mean(auc_by_judge, axis=0))
    auc = np.full(subject.coder.m, np.nan)
    auc[measured] = np.mean(auc_by_family, axis=0)
    return auc


def copies_of(subject: Subject) -> Int[np.ndarray, " latents"]:
    """Return the latent of which each is a copy, itself where it is none."""
    return subject.once(
        ("copies", MOST_TRAIN),
        lambda: find_copies(
            subject.coder.W_dec.detach().cpu().numpy(),
            subject.codes("train", MOST_TRAIN).by_latent(),
        ),
    )


def summarise(
    subject: Subject, split: str, auc: Float[np.ndarray, " latents"]
) -> dict[str, float]:
    """Return detection, its two views, and the share of usable latents.

    Args:
        auc: of each latent, NaN of one that is not measured.
    """
    above_chance = np.where(np.isnan(auc), 0, auc - CHANCE)
    counts = subject.firing_counts(split)
    firing_total = max(1, counts.sum())
    per_activation = CHANCE + (above_chance * counts).sum() / firing_total

    is_copy = copies_of(subject) != np.arange(len(auc))
    per_latent = CHANCE + np.where(is_copy, 0, above_chance).mean()
    return {
        "detection": (per_latent + per_activation) / 2,
        "detection_per_latent": per_latent,
        "detection_per_activation": per_activation,
        "usable": ((auc >= USABLE) & ~is_copy).mean(),
    }


def mean_by_frequency(
    auc: Float[np.ndarray, " latents"], firing_share: Float[np.ndarray, " latents"]
) -> Curve:
    """Return the mean AUC of the measured latents in each of `FREQUENCY_BANDS`.

    Args:
        firing_share: the share of the split's images on which each latent fires.
    """
    band = np.searchsorted(FREQUENCY_BANDS, firing_share)
    means = []
    for number in range(len(FREQUENCY_BANDS)):
        in_band = auc[(band == number) & ~np.isnan(auc)]
        means.append(in_band.mean() if len(in_band) else np.nan)
    return Curve(FREQUENCY_BANDS, means)


def judges_by_family(
    subject: Subject, families: dict[str, str]
) -> dict[str, list[str]]:
    """Return the judges of each family but that of the SAE's own backbone.

    Args:
        families: {backbone: family}; a backbone that is not in it is its own family.
    """
    own_family = families.get(subject.backbone, subject.backbone)
    judges: dict[str, list[str]] = {}
    for judge in subject.others:
        family = families.get(judge, judge)
        if family != own_family:
            judges.setdefault(family, []).append(judge)
    return judges


def measured_latents(
    train_codes: Float[csc_matrix, "train_images latents"],
    split_codes: Float[csc_matrix, "images latents"],
    split: str,
    options: Options,
) -> Int[np.ndarray, " measured"]:
    """Return the latents that fire often enough to be judged, and not on nearly all.

    On validation the least number of images is that of train in proportion to the size
    of the split, at least 2 and at most that of test.
    """
    train_count = train_codes.shape[0]
    split_count = split_codes.shape[0]
    fires_on_train = np.diff(train_codes.indptr)
    fires_on_split = np.diff(split_codes.indptr)

    least_on_split = options.least_test
    if split != "test":
        in_proportion = max(2, round(options.least_train * split_count / train_count))
        least_on_split = min(in_proportion, options.least_test)

    often_on_train = fires_on_train >= options.least_train
    often_on_split = fires_on_split >= least_on_split
    most_on_train = min(options.most * train_count, train_count - 1)
    rare_on_train = fires_on_train <= most_on_train
    silent_somewhere = fires_on_split < split_count
    return np.flatnonzero(
        often_on_train & often_on_split & rare_on_train & silent_somewhere
    )


def choose_shown_images(
    train_codes: Float[csc_matrix, "train_images latents"],
    latents: Int[np.ndarray, " measured"],
    groups: np.ndarray | None,
    options: Options,
) -> list[ShownImages]:
    """Choose the training images that a judge is shown, for each draw and latent.

    Args:
        train_codes: activations on the training images.
        latents: the columns to choose images for.
        groups: (train_images,) the group of each image. Of the firing images of a group
            one is shown at most; silent images are not limited. With None each image is
            a group of its own.
        options: how many images, and how many draws.

    Returns:
        The images of each draw; those on which a latent fires are always the same.
    """
    if groups is not None:
        # Each latent sorts them, and numbers sort faster than names.
        groups = np.unique(groups, return_inverse=True)[1]
    firing_images = [
        first_of_each_group(images, -activations, groups, options.shown)
        for images, activations in columns(train_codes, latents)
    ]
    draws: list[ShownImages] = []
    for draw in range(options.draws):
        # A draw is the same for every SAE, so that all are judged on the same images.
        generator = np.random.default_rng([options.seed, draw])
        in_random_order = np.argsort(generator.permutation(train_codes.shape[0]))
        silent_images = [
            first_silent(in_random_order, images, options.shown)
            for images, _ in columns(train_codes, latents)
        ]
        draws.append(ShownImages(firing_images, silent_images))
    return draws


def judge_latents(
    subject: Subject,
    split: str,
    judge: str,
    train_images: Int[np.ndarray, " train_images"],
    draws: list[ShownImages],
    codes: Float[csc_matrix, "images measured"],
) -> Float[np.ndarray, " measured"]:
    """Return the AUC of each latent by one judge, mean over draws.

    Args:
        train_images: the rows of train that the numbers in `draws` count.
        draws: what the judge is shown.
        codes: activations on the images of the split.
    """
    # What depends on the images alone is kept for all SAEs of the bank.
    embeddings = subject.others[judge]
    train = subject.once_for_all(
        ("detection", judge, "train"),
        lambda: rows_of(embeddings["train"], train_images),
    )
    axes = subject.once_for_all(("detection", judge), lambda: whitening(train))
    ranked = subject.once_for_all(
        ("detection", judge, split), lambda: whitened(embeddings[split], axes)
    )

    auc = np.zeros(codes.shape[1])
    for shown in draws:
        for start in range(0, len(auc), LATENTS):
            part = slice(start, start + LATENTS)
            difference = means(train, shown.firing[part])
            difference -= means(train, shown.silent[part])
            # Nothing is centred here: it would change neither a difference of means nor
            # the order of images.
            directions = (difference @ axes).astype(np.float32)
            auc[part] += aucs(ranked @ directions.T, codes[:, part]) / len(draws)
    return auc


def means(
    embeddings: Float[np.ndarray, "images dim"],
    images_by_latent: list[Int[np.ndarray, " shown"]],
) -> Float[np.ndarray, "latents dim"]:
    """Return the mean of each latent's images, their embeddings at unit norm."""
    counts = np.array([len(images) for images in images_by_latent])
    rows = unit_rows(embeddings[np.concatenate(images_by_latent)])
    starts = np.cumsum(counts) - counts
    return np.add.reduceat(rows, starts, axis=0) / counts[:, None]


def whitening(
    embeddings: Float[np.ndarray, "images dim"],
) -> Float[np.ndarray, "dim dim"]:
    """Return what whitens embeddings of unit norm, by their principal axes."""
    count = len(embeddings)
    mean = 0.0
    square = 0.0
    for start in range(0, count, CHUNK):
        rows = unit_rows(embeddings[start : start + CHUNK])
        mean = mean + rows.sum(axis=0) / count
        square = square + rows.T @ rows / count
    variances, axes = np.linalg.eigh(square - np.outer(mean, mean))
    return axes / np.sqrt(np.maximum(variances, 0) + RIDGE * variances[-1])


def whitened(
    embeddings: Float[np.ndarray, "images dim"], axes: Float[np.ndarray, "dim dim"]
) -> Float[np.ndarray, "images dim"]:
    """Bring embeddings to unit norm and multiply them by `axes`; float32."""
    parts = []
    for start in range(0, len(embeddings), CHUNK):
        rows = unit_rows(embeddings[start : start + CHUNK])
        parts.append((rows @ axes).astype(np.float32))
    return np.concatenate(parts)


def aucs(
    scores: Float[np.ndarray, "images latents"],
    firing: Float[csc_matrix, "images latents"],
) -> Float[np.ndarray, " latents"]:
    """Return how well the scores of each latent part the images on which it fires.

    Args:
        scores: higher where an image is more like those on which the latent fires.
        firing: the activations, which say where a latent fires.

    Returns:
        The area under the ROC curve; equal scores count half.
    """
    image_count = scores.shape[0]
    auc = []
    scores_by_latent = np.ascontiguousarray(scores.T)
    activations_by_latent = columns(firing, range(firing.shape[1]))
    for of_latent, (firing_images, _) in zip(
        scores_by_latent, activations_by_latent, strict=True
    ):
        ascending = np.sort(of_latent)
        of_firing = of_latent[firing_images]
        firing_count = len(of_firing)
        silent_count = image_count - firing_count

        # For each firing image: twice the images below it, and once those level with
        # it.
        lower = np.searchsorted(ascending, of_firing, "left")
        not_higher = np.searchsorted(ascending, of_firing, "right")
        doubled = (lower + not_higher).sum()
        # Among themselves the firing images add up to the square of their number.
        ahead_of_silent = (doubled - firing_count**2) / 2
        auc.append(ahead_of_silent / (firing_count * silent_count))
    return np.array(auc)


def columns(
    codes: Float[csc_matrix, "images latents"], latents: Iterable[int]
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield the images on which each latent fires, and its activations there."""
    for latent in latents:
        part = slice(codes.indptr[latent], codes.indptr[latent + 1])
        yield codes.indices[part], codes.data[part]


def first_of_each_group(
    images: Int[np.ndarray, " firing"],
    rank: Float[np.ndarray, " firing"],
    groups: np.ndarray | None,
    count: int,
) -> Int[np.ndarray, " shown"]:
    """Return the `count` images of the lowest rank, of each group one at most."""
    images = images[np.argsort(rank, kind="stable")]
    if groups is None:
        return images[:count]
    _, first = np.unique(groups[images], return_index=True)
    return images[np.sort(first)[:count]]


def first_silent(
    order: Int[np.ndarray, " images"],
    firing_images: Int[np.ndarray, " firing"],
    count: int,
) -> Int[np.ndarray, " shown"]:
    """Return the first `count` images of an order on which a latent does not fire.

    Args:
        order: all images.
        firing_images: those on which it fires, ascending; at least one.
    """
    # Most often they are among the very first.
    reach = 4 * count
    while True:
        candidates = order[:reach]
        place = np.searchsorted(firing_images, candidates)
        place = np.minimum(place, len(firing_images) - 1)
        silent = candidates[firing_images[place] != candidates]
        if len(silent) >= count or reach >= len(order):
            return silent[:count]
        reach *= 4

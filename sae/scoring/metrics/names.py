"""Name latents: a name is a promise about the pictures on which a latent is high.

On training images each latent gets a candidate: the keyword and the threshold on its
activation that have the best F1, among the thresholds from which on 60 % of the images
have the keyword; each group of near-duplicates weighs 1 there. On test images the
candidate becomes its name if, from that threshold on, half of the images or more have
the keyword, and half of the groups; if these are three groups or more; and if they have
it more often than chance gives: by a binomial test of these groups against the
keyword's share, with Holm's correction over the candidates of the SAE. A group counts
once, by the share of its images from that threshold on that have the keyword. Keywords
are those that the metric `concepts` reads on training images by default.

`names_share`: the share of the dictionary that has a name.

Per latent: `name`, with its `name_precision` and `name_recall` on test images and
`name_threshold`, an activation; they are empty without a name. Then `often` says which
keywords its ten highest training images have more than three times as often as others,
as "heart 40%, red 30%". Of more than `concepts.MOST_TRAIN` training images a seeded
sample stands for all.
"""

import numpy as np
import scipy.sparse
from jaxtyping import Bool, Float, Int

# SciPy's statistics take a second to import.
from scipy.special import bdtrc

from sae.core.options import Options
from sae.scoring import concept_matching as matching
from sae.scoring.metrics import concepts
from sae.scoring.metrics.concepts import Side
from sae.scoring.subject import PerLatent, Scores, Subject

VERSION = 2
STAGE = "chosen"
SPLITS = ("test",)
READS = ("train", "concepts")

# Of a candidate, on training images.
LEAST_TRAIN_PRECISION = 0.6
# Of a name, on test images.
LEAST_PRECISION = 0.5
LEAST_GROUPS = 3
LEVEL = 0.05
# Of what is often among the highest training images.
HIGHEST = 10
LEAST_LIFT = 3  # A keyword's share there, as a multiple of its share of all images.
LEAST_COUNT = 2  # One picture is not often.
MOST_WORDS = 3
# Latents whose images are looked at with all their keywords at once.
AT_ONCE = 1024
ROUNDING = 1e-9  # Sums of weights that differ by less are equal.


def score(subject: Subject, split: str, options: Options) -> Scores:
    """Name the latents of one SAE.

    Returns:
        Nothing where nobody says what people call the images, or no keyword counts.
    """
    if not {"train", split} <= subject.concepts.keys():
        return {}
    train = subject.once_for_all(("names", "train"), lambda: read_train(subject))
    if not len(train.concepts):
        return {}
    held_out = subject.once_for_all(
        ("names", split), lambda: read_held_out(subject, split, train)
    )
    names = np.array([train.annotations.names[c] for c in train.concepts], object)
    train_codes = subject.codes("train", concepts.MOST_TRAIN).by_latent()
    split_codes = subject.codes(split).by_latent()

    keywords, thresholds = find_candidates(train_codes, train)
    precision, recall, is_kept = check_candidates(
        split_codes, keywords, thresholds, held_out
    )
    often = describe_highest(train_codes, train, names)
    columns: dict[str, list[str | None] | list[str] | np.ndarray] = {
        "name": [
            names[keyword] if kept else None
            for keyword, kept in zip(keywords, is_kept, strict=True)
        ],
        "name_precision": np.where(is_kept, precision, np.nan),
        "name_recall": np.where(is_kept, recall, np.nan),
        "name_threshold": np.where(is_kept, thresholds, np.nan),
        "often": [
            "" if kept else words for words, kept in zip(often, is_kept, strict=True)
        ],
    }
    scores: Scores = {"names_share": float(is_kept.mean())}
    scores.update({name: PerLatent(values) for name, values in columns.items()})
    return scores


def read_train(subject: Subject) -> Side:
    """Read the training images; of keywords of the same images one is left."""
    train = concepts.training_side(
        subject.splits["train"], subject.concepts["train"], concepts.Options()
    )
    every_concept = np.arange(train.holds.shape[1])
    places = concepts.first_of_equal_columns(train.holds.tocsc(), every_concept)
    return concepts.make_side(train.annotations, train.concepts[places], train.groups)


def read_held_out(subject: Subject, split: str, train: Side) -> Side:
    """Read held-out images, with the keywords of the training images."""
    groups = concepts.group_numbers(subject.splits[split])
    return concepts.make_side(subject.concepts[split], train.concepts, groups)


def find_candidates(
    codes: scipy.sparse.csc_matrix, train: Side
) -> tuple[Int[np.ndarray, " latents"], Float[np.ndarray, " latents"]]:
    """Find for each latent the keyword and the threshold of the best F1.

    Args:
        codes: (images, latents) of the training images.
        train: these images.

    Returns:
        The keywords, by number, and the thresholds: the keyword is said to hold where
        the activation is at least that. They are -1 and NaN where no threshold is
        precise enough.
    """
    m = codes.shape[1]
    keywords = np.full(m, -1)
    thresholds = np.full(m, np.nan)
    keyword_weight = train.holds.T @ train.weights
    for start in range(0, m, AT_ONCE):
        latents, images, activations = highest_first(codes[:, start : start + AT_ONCE])
        fired = weight_from_highest(latents, activations, train.weights[images])

        # The best threshold for a keyword is at an image that has it, so pairs of an
        # activation and a keyword of its image are all that is looked at.
        pairs = train.holds[images].tocoo()
        owners = latents[pairs.row] * len(keyword_weight) + pairs.col
        order = np.argsort(owners, kind="stable")
        entries = pairs.row[order]
        keyword_of_pair = pairs.col[order]
        matched = weight_from_highest(
            owners[order], activations[entries], train.weights[images[entries]]
        )
        f1 = matching.f_score(
            matched, fired[entries], keyword_weight[keyword_of_pair], 1.0
        )
        precision = matched / fired[entries]
        # Of equal scores the first keyword counts, at its highest threshold.
        f1 = np.where(precision > LEAST_TRAIN_PRECISION - ROUNDING, f1.round(9), 0)

        latent_of_pair = latents[entries]
        best_first = np.lexsort((-f1, latent_of_pair))
        _, firsts = np.unique(latent_of_pair[best_first], return_index=True)
        best = best_first[firsts]
        best = best[f1[best] > 0]
        keywords[start + latent_of_pair[best]] = keyword_of_pair[best]
        thresholds[start + latent_of_pair[best]] = activations[entries[best]]
    return keywords, thresholds


def highest_first(
    codes: scipy.sparse.csc_matrix,
) -> tuple[
    Int[np.ndarray, " entries"],
    Int[np.ndarray, " entries"],
    Float[np.ndarray, " entries"],
]:
    """Return latent, image and activation, latent by latent, the highest first."""
    latents = np.repeat(np.arange(codes.shape[1]), np.diff(codes.indptr))
    order = np.lexsort((-codes.data, latents))
    return latents, codes.indices[order], codes.data[order]


def weight_from_highest(
    owners: Int[np.ndarray, " entries"],
    activations: Float[np.ndarray, " entries"],
    weights: Float[np.ndarray, " entries"],
) -> Float[np.ndarray, " entries"]:
    """Return the weight of its owner's entries that are as high as each, or higher.

    Args:
        owners: Whose each entry is; they lie side by side, the highest first.
        activations: Of the entries.
        weights: Of the entries.
    """
    total = np.cumsum(weights)
    is_first = np.diff(owners, prepend=-1) != 0
    before_owner = (total - weights)[is_first][np.cumsum(is_first) - 1]
    # All of several equal activations lie above a threshold, or none.
    is_last = np.ones(len(owners), dtype=bool)
    is_last[:-1] = is_first[1:] | (np.diff(activations) != 0)
    end_of_entry = np.flatnonzero(is_last)[np.cumsum(is_last) - is_last]
    return total[end_of_entry] - before_owner


def check_candidates(
    codes: scipy.sparse.csc_matrix,
    keywords: Int[np.ndarray, " latents"],
    thresholds: Float[np.ndarray, " latents"],
    held_out: Side,
) -> tuple[
    Float[np.ndarray, " latents"],
    Float[np.ndarray, " latents"],
    Bool[np.ndarray, " latents"],
]:
    """Check on held-out images which candidates are names.

    Args:
        codes: (images, latents) of these images.
        keywords: the candidate of each latent, -1 where there is none.
        thresholds: of the candidates.
        held_out: these images.

    Returns:
        Precision and recall over images, and whether the candidate is a name.
    """
    m = codes.shape[1]
    latents, images, activations = highest_first(codes)
    # No activation reaches the threshold NaN of a latent without a candidate.
    is_above = activations >= thresholds[latents]
    latents = latents[is_above]
    images = images[is_above]
    has_keyword = np.asarray(held_out.holds[images, keywords[latents]]).ravel()
    fired = np.bincount(latents, minlength=m)
    matched = np.bincount(latents, has_keyword, minlength=m)
    precision = matched / np.maximum(fired, 1)
    keyword_count = np.asarray(held_out.holds.sum(axis=0)).ravel()[keywords]
    recall = matched / np.maximum(keyword_count, 1)

    # Near-duplicates are no further evidence. So a group counts once, by the share of
    # its images above the threshold that have the keyword.
    group_limit = held_out.groups.max() + 1
    pairs, pair_of_image = np.unique(
        latents * group_limit + held_out.groups[images], return_inverse=True
    )
    hits = np.bincount(pair_of_image, has_keyword, minlength=len(pairs))
    share_of_pair = hits / np.bincount(pair_of_image, minlength=len(pairs))
    latent_of_pair = pairs // group_limit
    group_counts = np.bincount(latent_of_pair, minlength=m)
    matching_groups = np.bincount(latent_of_pair, share_of_pair, minlength=m)
    successes = np.floor(matching_groups + ROUNDING)
    share = (held_out.holds.T @ held_out.weights)[keywords] / held_out.weights.sum()
    p = bdtrc(successes - 1, group_counts, share)

    is_candidate = keywords >= 0
    is_kept = np.zeros(m, dtype=bool)
    is_kept[is_candidate] = pass_holm(p[is_candidate])
    is_kept &= precision > LEAST_PRECISION - ROUNDING
    is_kept &= matching_groups > LEAST_PRECISION * group_counts - ROUNDING
    is_kept &= group_counts >= LEAST_GROUPS
    return precision, recall, is_kept


def pass_holm(p: Float[np.ndarray, " tests"]) -> Bool[np.ndarray, " tests"]:
    """Return which of several tests find something at `LEVEL` (Holm, 1979)."""
    order = np.argsort(p, kind="stable")
    is_small = p[order] <= LEVEL / np.arange(len(p), 0, -1)
    passes = np.zeros(len(p), dtype=bool)
    passes[order] = np.logical_and.accumulate(is_small)
    return passes


def describe_highest(
    codes: scipy.sparse.csc_matrix,
    train: Side,
    names: np.ndarray,
) -> list[str]:
    """Say which keywords the highest images of each latent have often.

    Args:
        codes: (images, latents) of the training images.
        train: these images.
        names: (keywords,) of the keywords.

    Returns:
        (latents,) texts such as "heart 40%, red 30%". A text is empty where no keyword
        is often, or where the images lie in too few groups.
    """
    m = codes.shape[1]
    latents, images, _ = highest_first(codes)
    # One image of each group: the highest.
    group_limit = train.groups.max() + 1
    _, places = np.unique(
        latents * group_limit + train.groups[images], return_index=True
    )
    places.sort()
    latents = latents[places]
    images = images[places]
    starts = np.searchsorted(latents, np.arange(m))
    is_high = np.arange(len(latents)) - starts[latents] < HIGHEST
    latents = latents[is_high]
    images = images[is_high]

    is_highest = scipy.sparse.csr_matrix(
        (np.ones(len(latents)), (latents, images)), shape=codes.shape[::-1]
    )
    counts = (is_highest @ train.holds).tocsr()
    image_counts = np.bincount(latents, minlength=m)
    share_of_all = (train.holds.T @ train.weights) / train.weights.sum()
    texts = []
    for latent in range(m):
        entries = slice(counts.indptr[latent], counts.indptr[latent + 1])
        keywords = counts.indices[entries]
        shares = counts.data[entries] / max(image_counts[latent], 1)
        lift = shares / share_of_all[keywords]
        is_often = (lift > LEAST_LIFT) & (counts.data[entries] >= LEAST_COUNT)
        is_often &= image_counts[latent] >= LEAST_GROUPS
        # The most frequent first; of equals the one that is rarer elsewhere.
        order = np.lexsort((keywords, -lift, -shares))
        shown = order[is_often[order]][:MOST_WORDS]
        words = [f"{names[keywords[i]]} {100 * shares[i]:.0f}%" for i in shown]
        texts.append(", ".join(words))
    return texts

"""Match latents with concepts: which latents stand for a concept, and how well.

A concept is a set of images that people have given one keyword. All matrices are
sparse, (images, latents) or (images, concepts), with 1 where a latent fires or a
concept holds. Each image has a weight, 1 over the size of its group in its split, so
that each group of near-duplicates weighs 1.

Kin to matching with annotated concepts in arXiv:2606.24716; latents are chosen on one
split and scored on another one.
"""

from dataclasses import dataclass

import numpy as np
import scipy.sparse
from jaxtyping import Bool, Float, Int

# A gain of F0.5 below this is rounding.
LEAST_GAIN = 1e-9
# Concepts whose candidates, of all latents, are looked at at once.
AT_ONCE = 1024
SMALLEST = np.finfo(np.float64).tiny


@dataclass(frozen=True)
class ChosenLatents:
    """The latents that stand for each concept, in the order in which they were chosen.

    Attributes:
        latents: (steps, concepts) latent numbers, -1 where none was added.
        gains: (steps, concepts) by how much each raised F0.5.
    """

    latents: Int[np.ndarray, "steps concepts"]
    gains: Float[np.ndarray, "steps concepts"]

    def take(self, places: Int[np.ndarray, " some"]) -> "ChosenLatents":
        """Return the latents of some of the concepts."""
        return ChosenLatents(self.latents[:, places], self.gains[:, places])


def group_weights(groups: Int[np.ndarray, " images"]) -> Float[np.ndarray, " images"]:
    """Return each image's weight: 1 over the number of images in its group."""
    _, numbers, sizes = np.unique(groups, return_inverse=True, return_counts=True)
    return 1.0 / sizes[numbers]


def f_score(
    matched: np.ndarray, fired: np.ndarray, concept: np.ndarray, beta: float
) -> np.ndarray:
    """Return F-beta of "the latent fires" as a guess of "the concept holds".

    Args:
        matched: The weight of images on which the latent fires and the concept holds.
        fired: The weight of images on which the latent fires.
        concept: The weight of images for which the concept holds.
        beta: How much more recall counts than precision.

    Returns:
        The score, 0 where nothing fires. The three arguments are broadcast.
    """
    total = beta**2 * concept + fired
    # Where the total is 0, nothing is matched either, and the score is 0.
    return (1 + beta**2) * matched / np.maximum(total, SMALLEST)


def choose_latents(
    fires: scipy.sparse.csr_matrix,
    concepts: scipy.sparse.csr_matrix,
    weights: Float[np.ndarray, " images"],
    most: int = 3,
) -> ChosenLatents:
    """Choose for each concept the latents of which one fires where the concept holds.

    Greedily: each step adds the latent that most raises F0.5 of "one of the chosen
    fires". A concept ends with `most` latents, or where no latent raises it.

    Args:
        fires: (images, latents).
        concepts: (images, concepts).
        weights: Of the images.
        most: Latents for a concept at most.
    """
    columns = concepts.tocsc()
    weighted_fires = (scipy.sparse.diags_array(weights) @ fires).tocsr()
    parts = [
        _choose_at_once(
            fires, weighted_fires, columns[:, start : start + AT_ONCE], weights, most
        )
        for start in range(0, max(concepts.shape[1], 1), AT_ONCE)
    ]
    return ChosenLatents(
        np.hstack([part.latents for part in parts]),
        np.hstack([part.gains for part in parts]),
    )


def _choose_at_once(
    fires: scipy.sparse.csr_matrix,
    weighted_fires: scipy.sparse.csr_matrix,
    concepts: scipy.sparse.csc_matrix,
    weights: Float[np.ndarray, " images"],
    most: int,
) -> ChosenLatents:
    """Choose latents for so few concepts that (concepts, latents) fits into memory."""
    concept_count = concepts.shape[1]
    every_concept = np.arange(concept_count)
    concept_weight = (concepts.T @ weights)[:, None]

    # What a latent would add to what the chosen ones match and fire on.
    added_match = _weight_in_both(concepts, weighted_fires)
    added_fire = (fires.T @ weights)[None, :]
    alone_match = added_match
    alone_fire = added_fire

    latents = np.full((most, concept_count), -1)
    gains = np.zeros((most, concept_count))
    union_match = np.zeros((concept_count, 1))
    union_fire = np.zeros((concept_count, 1))
    score = np.zeros(concept_count)
    is_open = np.ones(concept_count, dtype=bool)
    for step in range(most):
        candidates = f_score(
            union_match + added_match, union_fire + added_fire, concept_weight, 0.5
        )
        best = candidates.argmax(axis=1)
        best_score = candidates[every_concept, best]
        is_open &= best_score > score + LEAST_GAIN

        latents[step, is_open] = best[is_open]
        gains[step, is_open] = (best_score - score)[is_open]
        score = np.where(is_open, best_score, score)
        if step == most - 1 or not is_open.any():
            break

        # What lies in the union already adds nothing. Concepts that chose the same
        # latents have the same union, so each is intersected with all latents once.
        sets, set_of_concept = np.unique(latents, axis=1, return_inverse=True)
        union_of_set = fires_for(ChosenLatents(sets, np.zeros(sets.shape)), fires)
        fire_of_set = union_of_set.T @ weights
        added_of_set = alone_fire - _weight_in_both(union_of_set, weighted_fires)
        union_fire = fire_of_set[set_of_concept][:, None]
        added_fire = added_of_set[set_of_concept]

        union = union_of_set[:, set_of_concept]
        matched = union.multiply(concepts).tocsr()
        union_match = (matched.T @ weights)[:, None]
        added_match = alone_match - _weight_in_both(matched, weighted_fires)
    return ChosenLatents(latents, gains)


def _weight_in_both(
    images: scipy.sparse.csr_matrix, weighted_fires: scipy.sparse.csr_matrix
) -> Float[np.ndarray, "sets latents"]:
    """Return for each column of `images` the weight of those that a latent fires on."""
    # Both are of compressed rows: else SciPy would sort the larger one anew.
    return (images.T.tocsr() @ weighted_fires).toarray()


def fires_for(
    chosen: ChosenLatents, fires: scipy.sparse.csr_matrix
) -> scipy.sparse.csr_matrix:
    """Return (images, concepts): 1 where one of a concept's latents fires."""
    steps, concept_count = chosen.latents.shape
    concept_numbers = np.tile(np.arange(concept_count), steps)
    latent_numbers = chosen.latents.ravel()
    is_chosen = latent_numbers >= 0
    membership = scipy.sparse.csr_matrix(
        (
            np.ones(is_chosen.sum()),
            (latent_numbers[is_chosen], concept_numbers[is_chosen]),
        ),
        shape=(fires.shape[1], concept_count),
    )
    union = (fires @ membership).tocsr()
    union.data[:] = 1.0
    return union


def f1_of_chosen(
    chosen: ChosenLatents,
    fires: scipy.sparse.csr_matrix,
    concepts: scipy.sparse.csr_matrix,
    weights: Float[np.ndarray, " images"],
) -> Float[np.ndarray, " concepts"]:
    """Return F1 of "one of the concept's latents fires", for each concept."""
    union = fires_for(chosen, fires)
    matched = union.multiply(concepts).tocsr().T @ weights
    return f_score(matched, union.T @ weights, concepts.T @ weights, 1.0)


def draw_moved_rows(
    groups: Int[np.ndarray, " images"], generator: np.random.Generator
) -> Int[np.ndarray, " images"]:
    """Draw for each image the one whose concepts it gets under chance.

    Concepts are moved between whole groups: the images of a group get those of one
    other group, in turn from a random one on. So near-duplicates stay together, and a
    concept keeps its weight on average, also one that only some images of a group have.
    """
    _, group_numbers, sizes = np.unique(groups, return_inverse=True, return_counts=True)
    rows_by_group = np.argsort(group_numbers, kind="stable")
    starts = np.cumsum(sizes) - sizes
    place_in_group = np.empty(len(groups), dtype=np.int64)
    place_in_group[rows_by_group] = np.arange(len(groups)) - np.repeat(starts, sizes)

    source_of_group = generator.permutation(len(sizes))
    first_place = generator.integers(0, sizes[source_of_group])
    source = source_of_group[group_numbers]
    place_in_source = (place_in_group + first_place[group_numbers]) % sizes[source]
    return rows_by_group[starts[source] + place_in_source]


def split_shared(
    chosen: ChosenLatents, first: int, second: int
) -> tuple[list[int], list[int]]:
    """Return the latents of two concepts, each latent in one list only.

    A latent that both chose goes to the one whose F0.5 it raised more.
    """
    gains_by_concept = []
    for concept in (first, second):
        numbers = chosen.latents[:, concept]
        gains = chosen.gains[:, concept]
        gains_by_concept.append(
            {int(n): float(g) for n, g in zip(numbers, gains, strict=True) if n >= 0}
        )
    first_gains, second_gains = gains_by_concept
    firsts = [n for n, gain in first_gains.items() if gain >= second_gains.get(n, -1.0)]
    seconds = [n for n in second_gains if n not in firsts]
    return firsts, seconds


def any_fires(
    fires: scipy.sparse.csr_matrix, latents: list[int]
) -> Bool[np.ndarray, " images"]:
    """Return on which images one of some latents fires."""
    return np.asarray(fires[:, latents].sum(axis=1)).ravel() > 0


def swap_rate(
    chosen: ChosenLatents,
    fires: scipy.sparse.csr_matrix,
    values: Int[np.ndarray, " images"],
    drawings: Int[np.ndarray, " images"],
) -> tuple[float, int]:
    """Return how surely latents switch where one attribute of a picture changes.

    For two pictures of one drawing, x of value a and y of value b, it is half of
    [(b's latents fire on y) - (on x) + (a's latents fire on x) - (on y)], each 0 or 1.
    It is averaged within a drawing, then over drawings: 1 if each change swaps the
    latents, 0 if none does.

    Args:
        chosen: The latents of each value, chosen on training images.
        fires: (images, latents).
        values: Each image's value of the attribute, -1 where it has none.
        drawings: Each image's drawing; the pictures of one differ in the attribute
            alone.

    Returns:
        The rate, NaN without a pair, and the number of drawings that have one.
    """
    sums: dict[int, float] = {}
    counts: dict[int, int] = {}
    value_count = chosen.latents.shape[1]
    for first in range(value_count):
        for second in range(first + 1, value_count):
            first_latents, second_latents = split_shared(chosen, first, second)
            first_fires = any_fires(fires, first_latents).astype(np.int64)
            second_fires = any_fires(fires, second_latents).astype(np.int64)
            # How much more the latents of `first` than those of `second` fire.
            leaning = first_fires - second_fires
            by_drawing: dict[int, list[int]] = {}
            for row in np.flatnonzero(values == second):
                by_drawing.setdefault(int(drawings[row]), []).append(int(row))
            for row in np.flatnonzero(values == first):
                drawing = int(drawings[row])
                for partner in by_drawing.get(drawing, []):
                    swapped = (leaning[row] - leaning[partner]) / 2
                    sums[drawing] = sums.get(drawing, 0.0) + float(swapped)
                    counts[drawing] = counts.get(drawing, 0) + 1
    if not sums:
        return float("nan"), 0
    rates = [sums[drawing] / counts[drawing] for drawing in sums]
    return float(np.mean(rates)), len(rates)

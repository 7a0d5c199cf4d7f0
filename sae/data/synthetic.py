"""Embeddings of the paper's shape whose structure is known.

They are an oracle, which no real dataset gives. Image i of class y_i has the embedding

    x_i = mu + sum_c s_ic D_c + noise

with D (concepts, d) random unit rows and s_ic >= 0 sparse. Concept c is active with
probability p_c, a power law in c, or with probability `SIGNATURE` if it is one of its
class's own concepts. The strength of an active concept is log-normal. Rows come in
seeded chunks, so that a smaller set is the beginning of a larger one.

How concepts go together is the world's `structure`:

- independent: given the class, they do not. What an SAE recovers is then an upper
  bound, and says nothing about features that split or absorb one another.
- correlated: concepts c, c + g, c + 2 g, ... (g = concepts / `GROUP`) share a normal
  factor per image, with correlation `CORRELATION` before the threshold that keeps p_c.
- hierarchical: the first quarter of the concepts are parents; concept c is a child of
  parent c modulo their number, and is active only where that is. p_c is kept.

A class's own concepts come on top, and bring their parents with them.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
import scipy.sparse
from jaxtyping import Bool, Float, Int

# Of the normal distribution; scipy.stats takes a second to import.
from scipy.special import ndtri

from sae.data.splits import SPLITS

# Images that are drawn at once.
CHUNK = 8192
# Concepts that a class has of its own (classes may share some).
OWN = 4
# The probability that an image shows one of them.
SIGNATURE = 0.8
# The mean number of other concepts on an image.
PER_IMAGE = 16.0
# Of the power law.
EXPONENT = 0.8
# The standard deviation of the log of a strength.
SPREAD = 0.5
# The length of mu.
MEAN = 3.0
# The expected length of the noise.
NOISE = 1.5
# Concepts that go together, if correlated.
GROUP = 8
CORRELATION = 0.6
Structure = Literal["independent", "correlated", "hierarchical"]


@dataclass(frozen=True)
class World:
    """A model of the embeddings of all splits: what images have in common.

    Attributes:
        dictionary: D, unit rows.
        probability: of each concept to be active on an image of a class that does not
            own it.
        concepts_of_class: the concepts that each class has of its own.
        mean: mu.
        seed: of this world and its images.
        structure: how concepts go together.
    """

    dictionary: Float[np.ndarray, "concepts d"]
    probability: Float[np.ndarray, " concepts"]
    concepts_of_class: Int[np.ndarray, "classes own"]
    mean: Float[np.ndarray, " d"]
    seed: int
    structure: Structure = "independent"


def world(
    d: int,
    concepts: int,
    classes: int,
    seed: int = 0,
    structure: Structure = "independent",
) -> World:
    """Draw a :class:`World`."""
    rng = np.random.default_rng([seed, 0])
    dictionary = rng.standard_normal((concepts, d), dtype=np.float32)
    dictionary /= np.linalg.norm(dictionary, axis=1, keepdims=True)
    power = np.arange(1, concepts + 1) ** -EXPONENT
    direction_of_mean = rng.standard_normal(d, dtype=np.float32)
    concepts_of_class = [
        rng.choice(concepts, OWN, replace=False) for _ in range(classes)
    ]
    return World(
        dictionary=dictionary,
        probability=np.minimum(0.5, PER_IMAGE * power / power.sum()),
        concepts_of_class=np.stack(concepts_of_class),
        mean=MEAN * direction_of_mean / np.linalg.norm(direction_of_mean),
        seed=seed,
        structure=structure,
    )


def chunks(
    world: World, split: str, count: int
) -> Iterator[tuple[Float[np.ndarray, "n d"], scipy.sparse.csr_matrix]]:
    """Yield the first `count` images of a split, chunk by chunk.

    Each chunk is the embeddings (n, d) float32, and the strengths of the concepts,
    sparse (n, concepts).
    """
    d = world.dictionary.shape[1]
    for number, start in enumerate(range(0, count, CHUNK)):
        labels, rng = _draw_labels(
            world.seed, len(world.concepts_of_class), split, number
        )
        is_active = _draw_active_concepts(world, labels, rng)
        rows, concepts = is_active.nonzero()
        strengths = np.exp(SPREAD * rng.standard_normal(len(rows))).astype(np.float32)
        strength_matrix = scipy.sparse.csr_matrix(
            (strengths, (rows, concepts)), shape=is_active.shape
        )
        noise = rng.standard_normal((CHUNK, d), dtype=np.float32)
        noise = noise * np.float32(NOISE / np.sqrt(d))
        embeddings = strength_matrix @ world.dictionary + world.mean + noise
        n = min(CHUNK, count - start)
        yield embeddings[:n], strength_matrix[:n]


def _draw_active_concepts(
    world: World, labels: Int[np.ndarray, " chunk"], rng: np.random.Generator
) -> Bool[np.ndarray, "chunk concepts"]:
    is_active = _draw_other_concepts(world, rng)
    own_concepts = world.concepts_of_class[labels]
    is_own_shown = rng.random(own_concepts.shape) < SIGNATURE
    rows = np.arange(CHUNK)[:, None]
    is_active[rows, own_concepts] = is_active[rows, own_concepts] | is_own_shown

    if world.structure == "hierarchical":
        # A class's own concepts bring their parents with them.
        concept_count = len(world.dictionary)
        parent_count = _parent_count(concept_count)
        for first in range(parent_count, concept_count, parent_count):
            children = is_active[:, first : first + parent_count]
            parents = is_active[:, : children.shape[1]]
            np.logical_or(parents, children, out=parents)
    return is_active


def _draw_other_concepts(
    world: World, rng: np.random.Generator
) -> Bool[np.ndarray, "chunk concepts"]:
    """Draw active concepts of the images of a chunk, the classes' own left out."""
    concepts = len(world.dictionary)
    probability = world.probability.astype(np.float32)
    if world.structure == "correlated":
        group_count = -(-concepts // GROUP)
        factor_of_group = rng.standard_normal((CHUNK, group_count), dtype=np.float32)
        own_part = rng.standard_normal((CHUNK, concepts), dtype=np.float32)
        shared_part = factor_of_group[:, np.arange(concepts) % group_count]
        normal = (
            np.sqrt(CORRELATION) * shared_part + np.sqrt(1 - CORRELATION) * own_part
        )
        return normal < ndtri(probability).astype(np.float32)

    uniform = rng.random((CHUNK, concepts), dtype=np.float32)
    if world.structure == "independent":
        return uniform < probability

    parent_count = _parent_count(concepts)
    parent = np.arange(concepts) % parent_count
    is_parent = np.arange(concepts) < parent_count
    # Of a child the probability where its parent is active, which is more frequent.
    conditional = np.where(is_parent, probability, probability / probability[parent])
    is_active = uniform < conditional
    is_active[:, parent_count:] &= is_active[:, parent[parent_count:]]
    return is_active


def _parent_count(concepts: int) -> int:
    return max(1, concepts // 4)


def labels_of(
    seed: int, classes: int, split: str, count: int
) -> Int[np.ndarray, " count"]:
    """Return the classes of a split's first images."""
    labels_of_chunks = [
        _draw_labels(seed, classes, split, number)[0]
        for number in range(-(-count // CHUNK))
    ]
    return np.concatenate(labels_of_chunks)[:count]


def _draw_labels(
    seed: int, classes: int, split: str, number: int
) -> tuple[Int[np.ndarray, " chunk"], np.random.Generator]:
    """Return the classes of a chunk's images, and the generator that draws the rest."""
    rng = np.random.default_rng([seed, 1 + SPLITS.index(split), number])
    return rng.integers(classes, size=CHUNK), rng

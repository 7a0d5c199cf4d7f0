"""Embeddings of the paper's shape that have a known structure: an oracle, which no real dataset gives.

Image i of class y_i has the embedding

    x_i = mu + sum_c s_ic D_c + noise

with D (concepts, d) random unit rows and s_ic >= 0 sparse. Concept c is active with probability p_c, a power law in c,
or with probability `SIGNATURE` if it is one of its class's own concepts. The strength of an active concept is
log-normal. Rows come in seeded chunks, so that a smaller set is the beginning of a larger one.

How concepts go together is the world's `structure`:

- independent: given the class, they do not. What an SAE recovers is then an upper bound, and says nothing about
  features that split or absorb one another.
- correlated: concepts c, c + g, c + 2 g, ... (g = concepts / `GROUP`) share a normal factor per image, with correlation
  `CORRELATION` before the threshold that keeps p_c.
- hierarchical: the first quarter of the concepts are parents; concept c is a child of parent c modulo their number, and
  is active only where that is. p_c is kept.

A class's own concepts come on top, and bring their parents with them.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
import scipy.sparse
from scipy.stats import norm

from sae.data.splits import SPLITS

CHUNK = 8192
OWN = 4  # concepts that a class has of its own (classes may share some)
SIGNATURE = 0.8  # probability that an image shows one of them
PER_IMAGE = 16.0  # mean number of other concepts on an image
EXPONENT = 0.8  # of the power law
SPREAD = 0.5  # standard deviation of the log of a strength
MEAN = 3.0  # length of mu
NOISE = 1.5  # expected length of the noise
GROUP = 8  # concepts that go together, if correlated
CORRELATION = 0.6
Structure = Literal["independent", "correlated", "hierarchical"]


@dataclass(frozen=True)
class World:
    """What all images have in common.

    Attributes:
        dictionary: D, (concepts, d) float32, unit rows.
        probability: (concepts,) of each concept to be active on an image of a class that does not own it.
        own: (classes, OWN) the concepts of each class.
        mean: mu, (d,).
        seed: of this world and its images.
        structure: how concepts go together.
    """

    dictionary: np.ndarray
    probability: np.ndarray
    own: np.ndarray
    mean: np.ndarray
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
    mean = rng.standard_normal(d, dtype=np.float32)
    return World(
        dictionary,
        np.minimum(0.5, PER_IMAGE * power / power.sum()),
        np.stack([rng.choice(concepts, OWN, replace=False) for _ in range(classes)]),
        MEAN * mean / np.linalg.norm(mean),
        seed,
        structure,
    )


def chunks(
    world: World, split: str, count: int
) -> Iterator[tuple[np.ndarray, scipy.sparse.csr_matrix]]:
    """Yield (embeddings (n, d) float32, strengths csr (n, concepts)) of the first `count` images of a split."""
    concepts, d = world.dictionary.shape
    for number, start in enumerate(range(0, count, CHUNK)):
        labels, rng = _labels(world.seed, len(world.own), split, number)
        active = _active(world, rng)
        own = world.own[labels]
        shown = rng.random(own.shape) < SIGNATURE
        active[np.arange(CHUNK)[:, None], own] |= shown
        if world.structure == "hierarchical":
            parents = _parents(concepts)
            for first in range(parents, concepts, parents):
                children = active[:, first : first + parents]
                active[:, : children.shape[1]] |= children
        rows, columns = active.nonzero()
        values = np.exp(SPREAD * rng.standard_normal(len(rows))).astype(np.float32)
        strengths = scipy.sparse.csr_matrix(
            (values, (rows, columns)), shape=active.shape
        )
        noise = rng.standard_normal((CHUNK, d), dtype=np.float32) * np.float32(
            NOISE / np.sqrt(d)
        )
        x = strengths @ world.dictionary + world.mean + noise
        n = min(CHUNK, count - start)
        yield x[:n], strengths[:n]


def _active(world: World, rng: np.random.Generator) -> np.ndarray:
    """Which concepts are active on the images of a chunk, (CHUNK, concepts) of bool, the classes' own left out."""
    concepts, p = len(world.dictionary), world.probability.astype(np.float32)
    if world.structure == "correlated":
        groups = -(-concepts // GROUP)
        factor = rng.standard_normal((CHUNK, groups), dtype=np.float32)
        own = rng.standard_normal((CHUNK, concepts), dtype=np.float32)
        shared = factor[:, np.arange(concepts) % groups]
        return np.sqrt(CORRELATION) * shared + np.sqrt(
            1 - CORRELATION
        ) * own < norm.ppf(p).astype(np.float32)
    drawn = rng.random((CHUNK, concepts), dtype=np.float32)
    if world.structure == "independent":
        return drawn < p
    parents = _parents(concepts)
    above = np.arange(concepts) % parents
    given = np.where(
        np.arange(concepts) < parents, p, p / p[above]
    )  # A parent is more frequent than its children.
    active = drawn < given
    active[:, parents:] &= active[:, above[parents:]]
    return active


def _parents(concepts: int) -> int:
    return max(1, concepts // 4)


def labels_of(seed: int, classes: int, split: str, count: int) -> np.ndarray:
    """The classes (count,) of a split's first images."""
    parts = [
        _labels(seed, classes, split, number)[0] for number in range(-(-count // CHUNK))
    ]
    return np.concatenate(parts)[:count]


def _labels(
    seed: int, classes: int, split: str, number: int
) -> tuple[np.ndarray, np.random.Generator]:
    """The class of each image of a chunk, and the generator that draws everything else of the chunk."""
    rng = np.random.default_rng([seed, 1 + SPLITS.index(split), number])
    return rng.integers(classes, size=CHUNK), rng

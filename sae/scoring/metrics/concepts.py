"""Score whether latents mean what people call pictures.

Keywords and attributes are the dataset's (`sae.data.concepts`). Latents are chosen for
a concept on training images and scored on the split (`sae.scoring.concept_matching`;
kin to arXiv:2606.24716). A concept counts with enough images and groups in both splits,
and with an image in each that it does not hold for; of concepts that hold for the same
images one counts.

`concepts_match`: the mean over concepts of F1 minus chance. `concepts_f1`,
`concepts_chance`: its two parts; chance moves keywords between whole groups in both
splits, and chooses latents again. `concepts_ceiling`: F1 of a linear probe on the
embeddings, its threshold chosen on train. `concepts_count`: concepts that count.
`concepts_pairs_{attribute}`: how surely latents switch where a picture changes in that
attribute alone, 1 if always; `concepts_drawings_{attribute}`: of how many drawings.
`concepts_pairs`: the mean of these over attributes.

On test, per latent: `stands_for`, the concepts that it was chosen for on training
images. Of more than `MOST_TRAIN` training images a seeded sample stands for all. What a
latent is called is another question, of the metric `names`.
"""

from dataclasses import dataclass

import numpy as np
import scipy.sparse
from jaxtyping import Float, Int

from sae.core.options import Count, Seed
from sae.core.options import Options as Base
from sae.data.concepts import SEPARATOR, SplitConcepts
from sae.data.store import Activations, rows_of
from sae.models.codes import Codes
from sae.scoring import concept_matching as matching
from sae.scoring.concept_matching import ChosenLatents
from sae.scoring.subject import PerLatent, Scores, Subject

VERSION = 3
STAGE = "score"
SPLITS = ("val", "test")
READS = ("train", "concepts")
MOST_TRAIN = 100_000  # training images; of more a seeded sample stands for all
RIDGE = 1e-2  # Of the probe, as a share of the mean variance of a dimension.
# Of the probe: what is looked at at once.
CONCEPTS_AT_ONCE = 64
ROWS_AT_ONCE = 16_384


class Options(Base):
    """Which concepts count, and how chance is drawn."""

    least_train: Count = 20
    """Training images of a concept at least."""
    least_train_groups: Count = 5
    """Groups in which these lie at least."""
    least_split: Count = 5
    """Images of a concept at least in the split that is scored."""
    least_split_groups: Count = 3
    """Groups in which these lie at least."""
    latents: Count = 3
    """Latents that may stand for a concept at most."""
    draws: Count = 20
    """Draws of chance."""
    seed: Seed = 0
    """The seed of the draws of chance."""


@dataclass(frozen=True)
class Side:
    """One split as this metric reads it; the same for all SAEs.

    Attributes:
        annotations: of its images.
        concepts: (concepts,) which of the dataset's concepts are read, by number.
        holds: (images, concepts) sparse, of these.
        groups: (images,) numbers of groups.
        weights: (images,) 1 over the size of an image's group.
    """

    annotations: SplitConcepts
    concepts: Int[np.ndarray, " concepts"]
    holds: scipy.sparse.csr_matrix
    groups: Int[np.ndarray, " images"]
    weights: Float[np.ndarray, " images"]


@dataclass(frozen=True)
class Task:
    """The concepts that count for one split; the same for all SAEs.

    Attributes:
        names: of the concepts.
        places: (concepts,) their places among the concepts of the training side.
        held_out: the split, with these concepts.
        ceiling: (concepts,) F1 of a linear probe on the embeddings.
    """

    names: list[str]
    places: Int[np.ndarray, " concepts"]
    held_out: Side
    ceiling: Float[np.ndarray, " concepts"]


@dataclass(frozen=True)
class Match:
    """The latents of one SAE that stand for concepts, chosen on training images.

    Attributes:
        fires: (images, latents) sparse, 1 where a latent fires on a training image.
        chosen: the latents of each concept of the training side.
        by_chance: those of each draw in which keywords are moved between groups.
    """

    fires: scipy.sparse.csr_matrix
    chosen: ChosenLatents
    by_chance: list[ChosenLatents]


def score(subject: Subject, split: str, options: Options) -> Scores:
    """Score the match of one SAE's latents with concepts.

    Returns:
        Nothing where nobody says what people call the images.
    """
    if not {"train", split} <= subject.concepts.keys():
        return {}
    options_text = options.model_dump_json()
    train = subject.once_for_all(
        ("concepts", "train", options_text),
        lambda: training_side(
            subject.splits["train"], subject.concepts["train"], options
        ),
    )
    task = subject.once_for_all(
        ("concepts", split, options_text),
        lambda: make_task(subject, split, train, options),
    )
    match = subject.once(
        ("concepts", options_text), lambda: match_on_train(subject, train, options)
    )
    split_fires = firing(subject.codes(split))

    scores: Scores = {"concepts_count": len(task.names)}
    if task.names:
        held_out = task.held_out
        chosen = match.chosen.take(task.places)
        f1 = matching.f1_of_chosen(
            chosen, split_fires, held_out.holds, held_out.weights
        )
        chance = chance_on_split(task, match, split_fires, options)
        scores["concepts_match"] = float((f1 - chance).mean())
        scores["concepts_f1"] = float(f1.mean())
        scores["concepts_chance"] = float(chance.mean())
        scores["concepts_ceiling"] = float(task.ceiling.mean())
        if split == "test":
            stands_for = concepts_of_latents(chosen, task.names, split_fires.shape[1])
            scores["stands_for"] = PerLatent(stands_for)

    rates = []
    for name in sorted(task.held_out.annotations.attributes):
        rate, drawings = pair_rate(
            name, train, task.held_out, match.fires, split_fires, options
        )
        if drawings:
            rates.append(rate)
            scores[f"concepts_pairs_{name}"] = rate
            scores[f"concepts_drawings_{name}"] = drawings
    if rates:
        scores["concepts_pairs"] = float(np.mean(rates))
    return scores


def firing(codes: Codes) -> scipy.sparse.csr_matrix:
    """Return (images, latents), 1.0 where a latent fires."""
    fires = codes.by_latent().tocsr()
    return scipy.sparse.csr_matrix(
        (np.ones(len(fires.data)), fires.indices, fires.indptr), shape=fires.shape
    )


def training_side(
    images: Activations, all_annotations: SplitConcepts, options: Options
) -> Side:
    """Read the training images, and the concepts that hold for enough of them.

    Args:
        images: the training images; their embeddings are not read.
        all_annotations: of these images.
        options: which concepts count.
    """
    rows = images.draw_rows(MOST_TRAIN)
    annotations = take_rows(all_annotations, rows)
    groups = group_numbers(images)[rows]
    is_enough = counts_enough(
        annotations.holds, groups, options.least_train, options.least_train_groups
    )
    return make_side(annotations, np.flatnonzero(is_enough), groups)


def make_side(
    annotations: SplitConcepts,
    concepts: Int[np.ndarray, " concepts"],
    groups: Int[np.ndarray, " images"],
) -> Side:
    """Return a split with some concepts."""
    holds = annotations.holds[:, concepts]
    return Side(annotations, concepts, holds, groups, matching.group_weights(groups))


def held_out_side(
    images: Activations, annotations: SplitConcepts, train: Side, options: Options
) -> tuple[Int[np.ndarray, " concepts"], Side]:
    """Read held-out images, and the concepts that count in both splits.

    Args:
        images: the held-out images; their embeddings are not read.
        annotations: of these images.
        train: the training images.
        options: which concepts count.

    Returns:
        The places of these concepts among those of `train`, and the split.
    """
    groups = group_numbers(images)
    is_enough = counts_enough(
        annotations.holds[:, train.concepts],
        groups,
        options.least_split,
        options.least_split_groups,
    )
    all_images = scipy.sparse.vstack(
        [train.holds, annotations.holds[:, train.concepts]]
    )
    places = first_of_equal_columns(all_images.tocsc(), np.flatnonzero(is_enough))
    return places, make_side(annotations, train.concepts[places], groups)


def make_task(subject: Subject, split: str, train: Side, options: Options) -> Task:
    """Find the concepts that count, and how well a linear probe finds them."""
    annotations = subject.concepts[split]
    places, held_out = held_out_side(subject.splits[split], annotations, train, options)
    rows = subject.splits["train"].draw_rows(MOST_TRAIN)
    ceiling = probe_ceiling(
        rows_of(subject.embeddings("train"), rows),
        train.holds[:, places],
        train.weights,
        subject.embeddings(split),
        held_out,
    )
    names = [annotations.names[number] for number in held_out.concepts]
    return Task(names, places, held_out, ceiling)


def match_on_train(subject: Subject, train: Side, options: Options) -> Match:
    """Choose the latents of each concept on training images, and by chance."""
    fires = firing(subject.codes("train", MOST_TRAIN))
    keywords = [train.holds]
    for draw in range(options.draws):
        generator = np.random.default_rng([options.seed, draw, 0])
        rows = matching.draw_moved_rows(train.groups, generator)
        keywords.append(train.holds[rows])

    # Concepts of all draws side by side: a call takes longer than a concept.
    all_chosen = matching.choose_latents(
        fires, scipy.sparse.hstack(keywords), train.weights, options.latents
    )
    concept_count = train.holds.shape[1]
    chosen, *by_chance = (
        all_chosen.take(np.arange(concept_count) + start * concept_count)
        for start in range(len(keywords))
    )
    return Match(fires, chosen, by_chance)


def take_rows(
    concepts: SplitConcepts, rows: Int[np.ndarray, " images"]
) -> SplitConcepts:
    """Return the annotations of some images of a split."""
    attributes = {
        name: type(attribute)(
            attribute.values,
            attribute.value_numbers[rows],
            attribute.drawing_numbers[rows],
        )
        for name, attribute in concepts.attributes.items()
    }
    return SplitConcepts(concepts.names, concepts.holds[rows], attributes)


def group_numbers(images: Activations) -> Int[np.ndarray, " images"]:
    """Return the number of each image's group; without groups each image is one."""
    if not images.grouped:
        return np.arange(len(images.index))
    return np.unique(images.index["group"].to_numpy(), return_inverse=True)[1]


def counts_enough(
    holds: scipy.sparse.csr_matrix,
    groups: Int[np.ndarray, " images"],
    least_images: int,
    least_groups: int,
) -> np.ndarray:
    """Return (concepts,) bool: whether a concept holds for enough images and groups.

    One that holds for every image says nothing of any latent.
    """
    columns = holds.tocsc()
    images_of_concept = np.diff(columns.indptr)
    groups_of_concept = [
        len(np.unique(groups[columns.indices[start:stop]]))
        for start, stop in zip(columns.indptr, columns.indptr[1:], strict=False)
    ]
    return (
        (images_of_concept >= least_images)
        & (images_of_concept < columns.shape[0])
        & (np.array(groups_of_concept, dtype=np.int64) >= least_groups)
    )


def first_of_equal_columns(
    columns: scipy.sparse.csc_matrix, numbers: Int[np.ndarray, " some"]
) -> Int[np.ndarray, " kept"]:
    """Return those numbers whose column differs from the column of each earlier one."""
    distinct_numbers: list[int] = []
    patterns: set[bytes] = set()
    for number in numbers:
        rows = columns.indices[columns.indptr[number] : columns.indptr[number + 1]]
        pattern = np.sort(rows).tobytes()
        if pattern not in patterns:
            patterns.add(pattern)
            distinct_numbers.append(int(number))
    return np.array(distinct_numbers, dtype=np.int64)


def chance_on_split(
    task: Task, match: Match, split_fires: scipy.sparse.csr_matrix, options: Options
) -> Float[np.ndarray, " concepts"]:
    """Return the mean F1 that chance gives: keywords are moved between whole groups."""
    held_out = task.held_out
    f1_sums = np.zeros(len(task.names))
    for draw, chosen_on_train in enumerate(match.by_chance):
        generator = np.random.default_rng([options.seed, draw, 1])
        rows = matching.draw_moved_rows(held_out.groups, generator)
        moved = held_out.holds[rows]

        chosen = chosen_on_train.take(task.places)
        f1_sums += matching.f1_of_chosen(chosen, split_fires, moved, held_out.weights)
    return f1_sums / options.draws


def concepts_of_latents(
    chosen: ChosenLatents, names: list[str], m: int
) -> list[str | None]:
    """Return for each of m latents the concepts that it was chosen to stand for.

    Returns:
        (m,) names joined by `SEPARATOR`, None of a latent that stands for no concept.
    """
    names_by_latent: list[list[str]] = [[] for _ in range(m)]
    for latents in chosen.latents:
        for name, latent in zip(names, latents, strict=True):
            if latent >= 0:
                names_by_latent[latent].append(name)
    return [SEPARATOR.join(sorted(of_latent)) or None for of_latent in names_by_latent]


def pair_rate(
    attribute_name: str,
    train: Side,
    held_out: Side,
    train_fires: scipy.sparse.csr_matrix,
    split_fires: scipy.sparse.csr_matrix,
    options: Options,
) -> tuple[float, int]:
    """Return how surely latents switch with an attribute, and of how many drawings.

    The latents of each value are chosen on those training images that have the
    attribute: what tells one value from the others is asked, not what tells such images
    from all.
    """
    on_train = train.annotations.attributes[attribute_name]
    on_split = held_out.annotations.attributes[attribute_name]
    has_value = np.flatnonzero(on_train.value_numbers >= 0)
    value_numbers = on_train.value_numbers[has_value]
    holds = scipy.sparse.csr_matrix(
        (np.ones(len(has_value)), (np.arange(len(has_value)), value_numbers)),
        shape=(len(has_value), len(on_train.values)),
    )
    weights = matching.group_weights(train.groups[has_value])
    # Nothing can stand for a value that no training image has.
    is_learned = np.isin(on_split.value_numbers, value_numbers)
    values_of_split = np.where(is_learned, on_split.value_numbers, -1)
    chosen = matching.choose_latents(
        train_fires[has_value], holds, weights, options.latents
    )
    return matching.swap_rate(
        chosen, split_fires, values_of_split, on_split.drawing_numbers
    )


def probe_ceiling(
    train_embeddings: np.ndarray,
    train_holds: scipy.sparse.csr_matrix,
    train_weights: Float[np.ndarray, " train_images"],
    split_embeddings: np.ndarray,
    held_out: Side,
) -> Float[np.ndarray, " concepts"]:
    """Return F1 of a linear probe on embeddings for each concept, by ridge regression.

    Its threshold is the one of highest F1 on the training images.
    """
    concept_count = train_holds.shape[1]
    if not concept_count:
        return np.zeros(0)
    train_rows = unit_rows_float32(train_embeddings)
    split_rows = unit_rows_float32(split_embeddings)
    mean = (train_weights.astype(np.float32) @ train_rows) / train_weights.sum()
    mean = mean.astype(np.float32)
    train_rows -= mean
    split_rows -= mean
    directions = ridge_directions(train_rows, train_holds, train_weights)

    f1 = np.zeros(concept_count)
    train_columns = train_holds.tocsc()
    split_columns = held_out.holds.tocsc()
    for start in range(0, concept_count, CONCEPTS_AT_ONCE):
        block = slice(start, min(start + CONCEPTS_AT_ONCE, concept_count))
        on_train = train_rows @ directions[:, block]
        on_split = split_rows @ directions[:, block]
        train_truths = train_columns[:, block].toarray() > 0
        split_truths = split_columns[:, block].toarray() > 0
        for place, concept in enumerate(range(block.start, block.stop)):
            threshold = best_threshold(
                on_train[:, place], train_truths[:, place], train_weights
            )
            guess = on_split[:, place] >= threshold
            truth = split_truths[:, place]
            f1[concept] = matching.f_score(
                held_out.weights[guess & truth].sum(),
                held_out.weights[guess].sum(),
                held_out.weights[truth].sum(),
                1.0,
            )
    return f1


def unit_rows_float32(
    embeddings: Float[np.ndarray, "images dim"],
) -> Float[np.ndarray, "images dim"]:
    """Return a copy of embeddings with rows of length 1; zeros stay zero.

    It is in float32: at ImageNet's size float64 takes gigabytes, and a threshold on a
    probe needs no more digits.
    """
    rows = np.array(embeddings, dtype=np.float32)
    lengths = np.sqrt(np.einsum("ij,ij->i", rows, rows))
    rows /= np.where(lengths > 0, lengths, 1)[:, None]
    return rows


def ridge_directions(
    rows: Float[np.ndarray, "images dim"],
    holds: scipy.sparse.csr_matrix,
    weights: Float[np.ndarray, " images"],
) -> Float[np.ndarray, "dim concepts"]:
    """Return the directions of ridge regression from embeddings to concepts.

    Args:
        rows: centred embeddings.
        holds: (images, concepts) sparse.
        weights: of the images.
    """
    dim = rows.shape[1]
    gram = np.zeros((dim, dim))
    targets = np.zeros((dim, holds.shape[1]))
    for start in range(0, len(rows), ROWS_AT_ONCE):
        block = slice(start, start + ROWS_AT_ONCE)
        block_rows = rows[block].astype(np.float64)
        weighted = block_rows * weights[block, None]
        gram += weighted.T @ block_rows
        targets += (holds[block].T @ weighted).T
    ridge = RIDGE * np.trace(gram) / dim
    return np.linalg.solve(gram + ridge * np.eye(dim), targets).astype(np.float32)


def best_threshold(
    value: Float[np.ndarray, " images"],
    truth: np.ndarray,
    weights: Float[np.ndarray, " images"],
) -> float:
    """Return the threshold from which on "the concept holds" has the highest F1."""
    order = np.argsort(-value, kind="stable")
    matched = np.cumsum((weights * truth)[order])
    fired = np.cumsum(weights[order])
    f1 = matching.f_score(matched, fired, np.sum(weights * truth), 1.0)
    return float(value[order[f1.argmax()]])

"""The metric `concepts` where the answer is known: latents that are the concepts, and
shuffled keywords.
"""

import numpy as np
import pandas as pd
import pytest
import scipy.sparse

from sae.data.concepts import Attribute, SplitConcepts
from sae.models.codes import Codes
from sae.scoring.metrics import concepts as metric

IMAGES = {"train": 400, "test": 200}


class FakeSubject:
    """A subject whose latents fire where they are told to, on images that are groups of
    two.
    """

    def __init__(self, fires, concepts):
        self.fires = fires
        self.concepts = concepts
        self.splits = {split: FakeSplit(len(fires[split])) for split in fires}

    def codes(self, split, at_most=None):
        rows, latents = np.nonzero(self.fires[split])
        offsets = np.concatenate([[0], self.fires[split].sum(axis=1).cumsum()])
        values = np.ones(len(rows), dtype=np.float32)
        m = self.fires[split].shape[1]
        return Codes(values, latents.astype(np.int32), offsets.astype(np.int64), m)

    def embeddings(self, split):
        holds = self.concepts[split].holds.toarray()
        return np.hstack([holds, np.ones((len(holds), 1))]).astype(np.float32)

    def once_for_all(self, key, make):
        return make()

    def once(self, key, make):
        return make()


class FakeSplit:
    """The images of a split, of which two are a group."""

    grouped = True

    def __init__(self, rows):
        self.index = pd.DataFrame({"group": np.arange(rows) // 2})

    def draw_rows(self, count):
        return np.arange(min(count, len(self.index)))


def annotated(seed=0, concept_count=6):
    """Random keywords, alike for the two images of a group, and an attribute in which
    these differ.
    """
    generator = np.random.default_rng(seed)
    split_concepts = {}
    for split, images in IMAGES.items():
        of_group = generator.random((images // 2, concept_count)) < 0.3
        holds = scipy.sparse.csr_matrix(np.repeat(of_group, 2, axis=0).astype(float))
        places = np.arange(images)
        attribute = Attribute(["day", "night"], places % 2, places // 2)
        names = [f"concept {number}" for number in range(concept_count)]
        split_concepts[split] = SplitConcepts(names, holds, {"time": attribute})
    return split_concepts


def latents_that_are(concepts):
    """Firing of latents that are the concepts, and two that are day and night."""
    fires = {}
    for split, annotations in concepts.items():
        values = annotations.attributes["time"].value_numbers
        holds = annotations.holds.toarray() > 0
        fires[split] = np.hstack([holds, np.eye(2)[values] > 0])
    return fires


def test_latents_that_are_the_concepts_score_one_minus_chance():
    concepts = annotated()
    subject = FakeSubject(latents_that_are(concepts), concepts)
    scores = metric.score(subject, "test", metric.Options())
    assert scores["concepts_count"] == 6
    assert scores["concepts_f1"] == pytest.approx(1)
    assert scores["concepts_match"] == pytest.approx(1 - scores["concepts_chance"])
    assert 0.1 < scores["concepts_chance"] < 0.6
    # The embeddings say the concepts, too.
    assert scores["concepts_ceiling"] > 0.95

    assert (scores["concepts_pairs_time"], scores["concepts_drawings_time"]) == (1, 100)

    assert scores["stands_for"].values == [*concepts["test"].names, None, None]


def test_shuffled_keywords_score_nothing():
    matches = []
    for seed in range(6):
        concepts = annotated()
        fires = latents_that_are(concepts)
        for split in fires:
            generator = np.random.default_rng(seed)
            order = generator.permutation(IMAGES[split] // 2)
            rows = (2 * order[:, None] + [0, 1]).ravel()
            fires[split] = fires[split][rows]
        scores = metric.score(FakeSubject(fires, concepts), "test", metric.Options())
        matches.append(scores["concepts_match"])
    error = np.std(matches, ddof=1) / len(matches) ** 0.5
    assert abs(np.mean(matches)) < 3 * error + 0.01


def test_rare_concepts_and_concepts_that_are_one_do_not_count():
    concepts = annotated(concept_count=4)
    for split in concepts:
        holds = concepts[split].holds.toarray()
        # The second is the first; the third holds for two groups only.
        holds[:, 1] = holds[:, 0]
        holds[:, 2] = np.arange(len(holds)) < 4
        concepts[split] = SplitConcepts(
            concepts[split].names, scipy.sparse.csr_matrix(holds), {}
        )
    subject = FakeSubject(
        {s: c.holds.toarray() > 0 for s, c in concepts.items()}, concepts
    )
    options = metric.Options()
    train = metric.training_side(
        subject.splits["train"], subject.concepts["train"], options
    )
    task = metric.make_task(subject, "test", train, options)
    assert task.names == ["concept 0", "concept 3"]


@pytest.mark.parametrize("split", ["train", "test"])
def test_a_keyword_that_every_image_has_gives_nothing(split):
    concepts = annotated()
    subject = FakeSubject(latents_that_are(concepts), concepts)
    expected = metric.score(subject, "test", metric.Options())
    for name, annotations in concepts.items():
        every = np.ones((IMAGES[name], 1))
        every[: 0 if name == split else 40] = 0
        holds = scipy.sparse.hstack([annotations.holds, every]).tocsr()
        names = [*annotations.names, "picture"]
        concepts[name] = SplitConcepts(names, holds, annotations.attributes)
    scores = metric.score(subject, "test", metric.Options())
    assert scores["concepts_count"] == expected["concepts_count"] == 6
    assert scores["concepts_f1"] == expected["concepts_f1"]


def test_without_annotations_there_is_no_score():
    subject = FakeSubject({}, {})
    assert metric.score(subject, "test", metric.Options()) == {}

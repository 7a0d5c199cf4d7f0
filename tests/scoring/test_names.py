"""The metric `names` by brute force over all thresholds, and where the answer is known."""

import numpy as np
import pandas as pd
import pytest
import scipy.sparse
import scipy.stats
from scoring.examples import coder as make_coder

from sae.data.concepts import SplitConcepts
from sae.data.store import Activations
from sae.models.codes import Codes
from sae.scoring.metrics import names as metric
from sae.scoring.subject import Subject

WORDS = ["cat", "dog", "red", "rare", "twin of cat"]


def grouped_images(groups):
    """Return the images of a split, of which nothing but their groups is read."""
    index = pd.DataFrame({"group": groups})
    embeddings = np.ones((len(index), 1), np.float32)
    return Activations(embeddings, index, {"dataset": {"grouped": True}})


class FakeSubject(Subject):
    """A subject whose latents have the activations that it is given.

    Args:
        activations: {split: (images, latents)}.
        holds: {split: (images, words) whether a word is an image's keyword}.
        groups: {split: (images,)}.
    """

    def __init__(self, activations, holds, groups, words=WORDS):
        splits = {split: grouped_images(groups[split]) for split in groups}
        concepts = {
            split: SplitConcepts(words, scipy.sparse.csr_matrix(of_split * 1.0), {})
            for split, of_split in holds.items()
        }
        super().__init__(make_coder(0), splits, concepts=concepts)
        self.activations = activations

    def codes(self, split, at_most=None):
        rows, latents = np.nonzero(self.activations[split])
        offsets = np.searchsorted(rows, np.arange(len(self.activations[split]) + 1))
        values = self.activations[split][rows, latents].astype(np.float32)
        m = self.activations[split].shape[1]
        return Codes(values, latents.astype(np.int32), offsets.astype(np.int64), m)


def random_subject(seed, latents=30):
    """Return latents that tell words more or less well, with ties, in groups."""
    generator = np.random.default_rng(seed)
    activations, holds, groups = {}, {}, {}
    for split, images in (("train", 240), ("test", 200)):
        groups[split] = np.sort(generator.integers(0, images // 3, images))
        holds[split] = generator.random((images, len(WORDS))) < [0.3, 0.2, 0.4, 0.02, 0]
        holds[split][:, 4] = holds[split][:, 0]
        told = holds[split][:, np.arange(latents) % 3] * (np.arange(latents) / latents)
        noise = generator.random((images, latents))
        is_silent = generator.random((images, latents)) < 0.6
        values = np.round(np.where(is_silent, 0, noise) + 2 * told * noise, 1)
        activations[split] = values
    return FakeSubject(activations, holds, groups)


def weights_of(groups):
    return [1 / list(groups).count(group) for group in groups]


def brute_candidate(activation, holds, groups, words):
    """Return (word, threshold) of the best F1 by trying all, or None."""
    weights = weights_of(groups)
    best = (0, None)
    for word in words:
        of_word = sum(w for w, has in zip(weights, holds[:, word], strict=True) if has)
        for threshold in sorted(set(activation[activation > 0]), reverse=True):
            fired = matched = 0.0
            for value, weight, has in zip(
                activation, weights, holds[:, word], strict=True
            ):
                if value >= threshold:
                    fired += weight
                    matched += weight if has else 0
            f1 = round(2 * matched / (fired + of_word), 9)
            if matched / fired >= 0.6 - 1e-9 and f1 > best[0]:
                best = (f1, (word, threshold))
    return best[1]


def brute_check(activation, candidate, holds, groups):
    """Return precision, recall, the groups' shares and p of a candidate on test."""
    word, threshold = candidate
    shares_by_group = {}
    for image in np.flatnonzero(activation >= threshold):
        shares_by_group.setdefault(groups[image], []).append(holds[image, word])
    shares = [np.mean(has) for has in shares_by_group.values()]
    hits = [has for of_group in shares_by_group.values() for has in of_group]
    precision = np.mean(hits) if hits else 0
    recall = sum(hits) / holds[:, word].sum()

    weights = np.array(weights_of(groups))
    share_of_word = weights[holds[:, word]].sum() / weights.sum()
    p = 1.0
    if shares:
        successes = int(sum(shares) + 1e-9)
        test = scipy.stats.binomtest(
            successes, len(shares), share_of_word, alternative="greater"
        )
        p = test.pvalue
    return precision, recall, shares, p


@pytest.mark.parametrize("seed", range(4))
def test_names_are_those_of_brute_force(seed, monkeypatch):
    monkeypatch.setattr(metric, "AT_ONCE", 7)  # Of thirty latents.
    subject = random_subject(seed)
    scores = metric.score(subject, "test", metric.Options())
    columns = {name: v.values for name, v in scores.items() if name != "names_share"}

    train, test = subject.activations["train"], subject.activations["test"]
    holds = {s: c.holds.toarray() > 0 for s, c in subject.concepts.items()}
    groups = {s: x.index["group"].to_numpy() for s, x in subject.splits.items()}
    # `rare` holds for too few images, and `twin of cat` for those of `cat`.
    candidates = {
        latent: brute_candidate(
            train[:, latent].astype(np.float32),
            holds["train"],
            groups["train"],
            [0, 1, 2],
        )
        for latent in range(30)
    }
    checks = {
        latent: brute_check(
            test[:, latent].astype(np.float32), candidate, holds["test"], groups["test"]
        )
        for latent, candidate in candidates.items()
        if candidate is not None
    }
    by_p = sorted(checks, key=lambda latent: checks[latent][3])
    significant = set()
    for rank, latent in enumerate(by_p):
        if checks[latent][3] > 0.05 / (len(by_p) - rank):
            break
        significant.add(latent)

    named = {
        latent
        for latent in significant
        if checks[latent][0] >= 0.5
        and len(checks[latent][2]) >= 3
        and np.mean(checks[latent][2]) >= 0.5
    }
    assert {j for j, name in enumerate(columns["name"]) if name is not None} == named
    assert 0 < len(named) < len(checks) < 31
    assert scores["names_share"] == len(named) / 30
    for latent in range(30):
        precision, recall, threshold = (
            columns[f"name_{part}"][latent]
            for part in ("precision", "recall", "threshold")
        )
        if latent not in named:
            assert np.isnan([precision, recall, threshold]).all()
            continue
        word, best_threshold = candidates[latent]
        assert columns["name"][latent] == WORDS[word]
        assert threshold == best_threshold
        assert (precision, recall) == pytest.approx(checks[latent][:2])
        assert columns["often"][latent] == ""


def told_on(hits, misses, count=400, cats=100):
    """Return a subject of one latent, which tells `cat` fully on training images.

    On test images it fires on `hits` that are cats and `misses` that are none, each
    a group. A second latent fires on cats alone, and a third never.
    """
    is_cat = np.arange(count) < cats
    on_test = np.zeros((count, 3))
    on_test[:hits, 0] = 1
    on_test[cats : cats + misses, 0] = 1
    on_test[:cats, 1] = 1
    on_train = np.stack([is_cat, is_cat, np.zeros(count)], axis=1) * 1.0
    holds = np.stack([is_cat], axis=1)
    return FakeSubject(
        {"train": on_train, "test": on_test},
        {"train": holds, "test": holds},
        {"train": np.arange(count), "test": np.arange(count)},
        words=["cat"],
    )


@pytest.mark.parametrize(
    ("hits", "misses", "is_named"),
    [
        (40, 40, True),
        # A precision of .4 beats chance (.25) by far: p is below .001.
        (40, 60, False),
        # Two groups are too few.
        (2, 0, False),
        (3, 0, True),
        # A precision of .6, but chance gives as much in a tenth of cases.
        (3, 2, False),
    ],
)
def test_a_name_holds_for_half_of_the_images_or_more(hits, misses, is_named):
    scores = metric.score(told_on(hits, misses), "test", metric.Options())
    assert scores["name"].values == ["cat" if is_named else None, "cat", None]
    if is_named:
        assert scores["name_precision"].values[0] == hits / (hits + misses)
        assert scores["name_recall"].values[0] == hits / 100


@pytest.mark.parametrize(
    ("group_of_image", "precision"),
    [
        (np.arange(400) // 2, 0.5),
        # All cats on which it fires are pictures of one thing: one group of 41.
        (np.maximum(np.arange(400), 39), np.nan),
    ],
)
def test_near_duplicates_count_as_one_image(group_of_image, precision):
    subject = told_on(40, 40)
    subject.splits["test"] = grouped_images(group_of_image)
    scores = metric.score(subject, "test", metric.Options())
    assert scores["name_precision"].values[0] == pytest.approx(precision, nan_ok=True)


def test_what_is_often_among_the_highest_training_images():
    # Groups of two; the latent rises with the number of the group.
    groups = np.arange(400) // 2
    words = ["heart", "red", "common"]
    holds = np.zeros((400, 3), dtype=bool)
    # Of the ten highest groups six are hearts and two are red; of all groups a tenth.
    holds[:, 0] = np.isin(groups, [*range(190, 196), *range(14)])
    holds[:, 1] = np.isin(groups, [*range(196, 198), *range(18)])
    holds[:, 2] = True
    activation = 1.0 + np.arange(400)[:, None] // 2
    # It is silent on no training image, so that no threshold is precise enough.
    test = np.zeros((400, 1))
    subject = FakeSubject(
        {"train": activation, "test": test},
        {"train": holds[:, :2], "test": holds[:, :2]},
        {"train": groups, "test": groups},
        words=words[:2],
    )
    scores = metric.score(subject, "test", metric.Options())
    assert scores["often"].values == ["heart 60%"]

    # A fifth is more than three times the share of all, once fewer others are red.
    holds[np.isin(groups, range(9)), 1] = False
    subject = FakeSubject(
        {"train": activation, "test": test},
        {"train": holds, "test": holds},
        {"train": groups, "test": groups},
        words=words,
    )
    scores = metric.score(subject, "test", metric.Options())
    assert scores["often"].values == ["heart 60%, red 20%"]


def test_without_keywords_there_is_no_name():
    subject = told_on(40, 40)
    subject.concepts = {}
    assert metric.score(subject, "test", metric.Options()) == {}

"""How many latents do different things, against the definitions written out."""

import numpy as np
import pytest
from scoring.examples import coder
from scoring.test_detection import give_codes

from sae.data import store
from sae.scoring.metrics import _overlaps, firing
from sae.scoring.subject import Subject

M = 12
COUNTS = {"train": 30, "val": 40}


def make_subject(dense):
    splits = {
        split: store.Activations(np.ones((len(codes), 6), np.float32), None, {})
        for split, codes in dense.items()
    }
    subject = Subject(coder(0, m=M), splits)
    give_codes(subject, dense)
    return subject


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("at_once", [5, 256])
def test_scores_are_those_of_the_definitions(seed, at_once, monkeypatch):
    monkeypatch.setattr(_overlaps, "LATENTS", at_once)
    rng = np.random.default_rng(seed)
    dense = {split: rng.random((n, M)) - 0.7 for split, n in COUNTS.items()}
    codes = dense["val"]
    codes[:, 0] = -1
    codes[:, 1] = np.eye(40)[5]  # On one image.
    codes[:, 2] = np.arange(40) < 10
    codes[:, 3] = np.arange(40) < 9  # A copy by just .9.
    codes[:, 4] = (np.arange(40) >= 3) & (np.arange(40) < 13)  # By less: 7 of 13.
    codes[:, 5] = np.arange(40) > 1  # 9 of the 10 of the one before lie within it.
    scores = firing.score(make_subject(dense), "val", firing.Options())

    fires = codes > 0
    images = [{i for i in range(40) if fires[i, j]} for j in range(M)]
    live = [j for j in range(M) if len(images[j]) >= 2]
    others = {j: [images[i] for i in range(M) if i != j] for j in live}
    nested = [
        j
        for j in live
        if any(10 * len(images[j] & o) >= 9 * len(images[j]) for o in others[j])
    ]
    copies = [
        j
        for j in live
        if any(10 * len(images[j] & o) >= 9 * len(images[j] | o) for o in others[j])
    ]
    assert {2, 3} <= set(copies) < set(nested) < set(live) and 4 in nested
    assert scores["alive"] == len(live)
    assert scores["nested"] == pytest.approx(len(nested) / len(live))
    assert scores["copies"] == pytest.approx(len(copies) / len(live))

    shares = [len(of) / fires.sum() for of in images if of]
    entropy = -sum(share * np.log(share) for share in shares)
    assert scores["effective"] == pytest.approx(np.exp(entropy) / M)


@pytest.mark.parametrize(("firing_latents", "effective"), [(0, 0), (1, 1), (4, 4)])
def test_effective_latents_of_equal_ones_are_their_number(firing_latents, effective):
    codes = np.tile(np.arange(M) < firing_latents, (40, 1)) * 1.0
    dense = {"train": codes[:30], "val": codes}
    scores = firing.score(make_subject(dense), "val", firing.Options())
    assert scores["effective"] == pytest.approx(effective / M)
    # Latents that all fire everywhere are copies; of none that is live nothing is known.
    share = {0: np.nan, 1: 0, 4: 1}[firing_latents]
    assert [scores["nested"], scores["copies"]] == pytest.approx(
        [share] * 2, nan_ok=True
    )

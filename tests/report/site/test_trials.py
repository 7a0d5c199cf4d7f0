"""The blind trials of a site: which images they show and ask about, by brute force."""

import numpy as np
import pandas as pd
import pytest
import scipy.sparse

from sae.report.site import pack, trials
from sae.report.site.latents import rank_codes

IMAGES = 240
LATENTS = 90


@pytest.fixture
def groups():
    """Return the numbers of groups: each three images are near-duplicates."""
    return np.arange(IMAGES) // 3


@pytest.fixture
def activations():
    """Return (images, latents) activations.

    Latent j fires on about j + 20 images; the last one on none.
    """
    rng = np.random.default_rng(0)
    dense = np.zeros((IMAGES, LATENTS))
    for latent in range(LATENTS - 1):
        images = rng.choice(IMAGES, latent + 20, replace=False)
        dense[images, latent] = rng.gamma(2, 1, len(images))
    return dense


@pytest.fixture
def draw(activations):
    """Return a function that draws trials of some methods, with the same SAE."""
    codes = rank_codes(scipy.sparse.csc_matrix(activations))
    fires = (activations > 0).any(axis=0)
    detection = np.where(fires, np.linspace(1, 0.5, LATENTS), np.nan)
    detection[5] = np.nan  # Not measured.
    table = pd.DataFrame({"detection": detection, "ms": 0.3})

    def draw(groups, methods=("topk", "untrained")):
        return trials.draw_trials(
            ("d", "b", 8),
            dict.fromkeys(methods, codes),
            dict.fromkeys(methods, table),
            ["untrained"],
            groups,
        )

    return draw


@pytest.fixture
def columns(draw, groups):
    """Return the trials as columns, those of images (trials, 9)."""
    payload, _ = draw(groups)
    assert payload["methods"] == [
        {"id": "topk", "control": False},
        {"id": "untrained", "control": True},
    ]
    names = ("kind", "method", "latent", "n_active", "fires", "silent", *trials.SCORES)
    table = {name: pack.unpacked(payload[name]) for name in names}
    for name in ("firing_images", "silent_images"):
        table[name] = pack.unpacked(payload[name]).reshape(-1, trials.SHOWN)
    return table


def test_trials_show_what_they_say(columns, activations, groups):
    for trial, latent in enumerate(columns["latent"]):
        activation = activations[:, latent]
        firing = columns["firing_images"][trial]
        silent = columns["silent_images"][trial]
        fires = columns["fires"][trial]
        # The nine highest of different sets of near-duplicates, found one by one.
        highest = []
        for image in np.argsort(-activation, kind="stable"):
            if groups[image] not in groups[highest]:
                highest.append(image)
        assert firing.tolist() == highest[:9]
        assert activation[fires] > 0
        is_catch = columns["kind"][trial] == trials.CATCH
        assert (groups[fires] in groups[firing]) == is_catch
        # Nothing that is silent has a near-duplicate on which the latent fires.
        for image in (*silent, columns["silent"][trial]):
            assert activation[groups == groups[image]].max() == 0
        shown_groups = groups[[*firing, *silent, columns["silent"][trial]]]
        assert len(set(shown_groups)) == 19


def test_what_is_judged(columns, activations):
    kinds = np.bincount(columns["kind"])
    assert kinds[trials.PRACTICE] == 5 and kinds[trials.CATCH] == 6
    # These are asked of every rater: no image twice.
    is_asked_of_all = columns["kind"] != trials.COUNTED
    queries = [columns[name][is_asked_of_all] for name in ("fires", "silent")]
    assert len(np.unique(queries)) == 22
    # Practice and catches are the baseline's best detected latents, and not judged.
    easiest = columns["latent"][columns["kind"] != trials.COUNTED]
    assert sorted(easiest) == [0, 1, 2, 3, 4, 6, 7, 8, 9, 10, 11]
    for method in (0, 1):
        is_judged = (columns["method"] == method) & (columns["kind"] == trials.COUNTED)
        latents = columns["latent"][is_judged]
        assert len(set(latents)) == len(latents)
        # The one that was not measured is left out, as the one that never fires.
        assert 5 not in latents and LATENTS - 1 not in latents
        # The control, which has the same latents here, leaves them out as well.
        assert set(latents) & set(easiest) == set()
        counts = (activations[:, latents] > 0).sum(axis=0)
        assert (counts == columns["n_active"][is_judged]).all()


def test_a_pool_has_as_many_latents_of_each_band(
    draw, groups, monkeypatch, activations
):
    monkeypatch.setattr(trials, "POOL", 30)
    payload, _ = draw(groups, ["topk"])
    kind = pack.unpacked(payload["kind"])
    drawn = pack.unpacked(payload["latent"])[kind == trials.COUNTED]
    # Those that may be drawn, one by one; the first eleven are practised.
    judgeable = []
    for latent in range(LATENTS):
        firing_groups = len(set(groups[activations[:, latent] > 0]))
        if latent != 5 and 12 <= firing_groups <= 80 - 12:
            judgeable.append(latent)
    # A latent fires on more images than the one before it.
    bands = np.array_split(judgeable[11:], 3)
    assert [len(set(band) & set(drawn)) for band in bands] == [10, 10, 10]


def test_the_same_trials_are_drawn_again(draw, groups):
    payload, _ = draw(groups)
    assert draw(groups)[0] == payload
    assert payload["hash"] == trials.payload_hash(payload)
    assert draw(groups, ["topk"])[0]["hash"] != payload["hash"]


def test_too_few_images_give_no_trials(draw):
    # Forty sets of near-duplicates, of which a latent would need twelve on either side.
    payload, images = draw(np.arange(IMAGES) // 12)
    assert payload is None and len(images) == 0


def test_methods_are_a_baseline_two_others_and_a_control():
    methods = ["untrained", "reg2", "topk", "reg1", "reg1_all", "raw"]
    chosen = trials.choose_methods(methods, ["topk"], ["untrained", "raw"])
    assert chosen == ["topk", "reg2", "reg1", "untrained"]
    # Any SAEs: the first of them is what others stand beside.
    assert trials.choose_methods(["a", "b"], ["a", "b"], []) == ["a", "b"]

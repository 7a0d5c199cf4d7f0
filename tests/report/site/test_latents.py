"""Codes, nearest latents and matches equal what is worked out by hand.

Names of any kind survive in a script.
"""

import numpy as np
import pandas as pd
import pytest
import torch
from report.site.reading import payload, unpacked

from sae.core.errors import UserError
from sae.models.coder import Coder, Threshold
from sae.report.site import images, latents, pack, start

N = 300  # images
D = 12  # dimensions
M = 40  # latents
K = 5


def make_coder(seed, select=None):
    coder = Coder(D, M, K, select)
    coder.initialise(torch.zeros(D), seed)
    return coder


@pytest.fixture
def x():
    return np.random.default_rng(0).normal(size=(N, D)).astype(np.float32)


def make_payload(sae, x, table=None, labels=None, *, cell_coders=(), siblings=()):
    """Return the payload of an SAE, and its ranked codes.

    Args:
        sae: The SAE.
        x: (images, dimensions) embeddings.
        table: A row for each latent; None is one of scores and a class made up.
        labels: (images) classes; None is two, by turns.
        cell_coders: The cell's other SAEs, numbered from 7.
        siblings: The same trial with other seeds.
    """
    if table is None:
        fires = sae.encode(sae.prepare(x)).firing_counts()
        table = pd.DataFrame(
            {"n_active": fires, "ms": np.where(fires, 0.5, np.nan), "top_class": "b"}
        )
    return latents.payload(
        sae,
        latents.encode(sae, x),
        table,
        classes=["a", "b"],
        labels=np.arange(N) % 2 if labels is None else labels,
        groups=None,
        cell_coders=dict(enumerate(cell_coders, 7)),
        siblings=siblings,
    )


@pytest.mark.parametrize("select", [None, Threshold(torch.full((M,), 0.9))])
def test_codes_are_those_of_the_sae_highest_first(x, select):
    sae = make_coder(0, select)
    a = np.maximum(x @ sae.W_enc.detach().numpy(), 0)  # Its biases are 0.
    is_selected = a > 0.9 if select else a >= np.sort(a, axis=1)[:, -K:][:, :1]
    a = np.where(is_selected, a, 0)

    sae_payload, ranked_codes = make_payload(sae, x)
    top = ranked_codes.highest_images()
    offsets, image, value = (
        unpacked(sae_payload["codes"][name]) for name in ("offsets", "image", "value")
    )
    assert offsets.tolist() == [0, *np.count_nonzero(a, axis=0).cumsum()]
    assert sae_payload["images"] == N
    for latent in range(M):
        fires = np.flatnonzero(a[:, latent])
        expected = fires[np.lexsort((fires, -a[fires, latent]))]
        part = slice(offsets[latent], offsets[latent + 1])
        assert image[part].tolist() == expected.tolist()
        np.testing.assert_allclose(value[part], a[expected, latent], rtol=1e-3)
        assert top[latent].tolist() == [*expected[:10], *[-1] * (10 - len(expected))]
    assert unpacked(sae_payload["latents"]["top_class"]).tolist() == [1] * M


def test_equal_activations_stand_by_image(x):
    sae_payload, _ = make_payload(make_coder(0), np.repeat(x[:1], N, axis=0))
    image = unpacked(sae_payload["codes"]["image"])
    assert np.array_equal(image, np.tile(np.arange(N), K))


def test_nearest_and_matches_are_those_of_all_pairs(x, monkeypatch):
    monkeypatch.setattr(latents, "CHUNK", 7)  # So that a chunk ends within the latents.
    coders = [make_coder(0), make_coder(1)]
    sae_payload, _ = make_payload(coders[0], x, cell_coders=coders[1:])
    rows, matched_rows = (coder.W_dec.detach().numpy() for coder in coders)
    cosine = rows @ rows.T
    np.fill_diagonal(cosine, -2)
    order = np.argsort(-cosine, axis=1)[:, :10]
    nearest = sae_payload["nearest"]
    assert np.array_equal(unpacked(nearest["latent"]).reshape(M, 10), order)
    np.testing.assert_allclose(
        unpacked(nearest["cosine"]).reshape(M, 10),
        np.take_along_axis(cosine, order, axis=1),
        atol=1e-3,
    )

    (match,) = sae_payload["matches"]
    assert match["sae"] == 7
    best_match = (rows @ matched_rows.T).argmax(axis=1)
    assert np.array_equal(unpacked(match["latent"]), best_match)

    # Fewer than are asked for.
    numbers, cosines = latents.nearest(Coder(2, 1, 1), Coder(2, 3, 1), 5)
    assert numbers[0, 3:].tolist() == [-1, -1] and np.isnan(cosines[0, 3:]).all()


def test_what_was_not_computed_is_not_there_and_a_foreign_table_is_refused(x):
    sae_payload, _ = make_payload(make_coder(0), x)
    assert set(sae_payload["latents"]) == {"n_active", "ms", "top_class"}

    siblings = [make_coder(0), make_coder(1)]
    sae_payload, _ = make_payload(make_coder(0), x, siblings=siblings)
    to_first, to_second = (
        latents.nearest(make_coder(0), sibling, 1)[1][:, 0] for sibling in siblings
    )
    np.testing.assert_allclose(
        unpacked(sae_payload["latents"]["stability"]), (to_first + to_second) / 2
    )

    with pytest.raises(UserError, match="3 rows of an SAE of 40 latents"):
        make_payload(make_coder(0), x, pd.DataFrame({"n_active": [1, 2, 3]}))


def test_purity_by_chance_is_that_of_the_metric(x):
    from sae.scoring.metrics import purity

    sae = make_coder(0)
    labels = np.arange(N) % 3
    codes = sae.encode(sae.prepare(x))
    fires = codes.firing_counts()
    table = pd.DataFrame({"n_active": fires, "purity": np.where(fires, 0.5, np.nan)})
    sae_payload, _ = make_payload(sae, x, table, labels)
    by_chance = unpacked(sae_payload["latents"]["purity_null"])
    expected = purity.of_codes(codes, labels)["binary_null"]
    assert np.nanmean(by_chance) == pytest.approx(expected)


HOSTILE = [
    "</script><script>alert(1)</script>",
    "\"'`\\",
    "a\u2028b\u2029c",
    "<!--",
    "&amp;",
    "$x$",
    "\u0627\u0644",
    "\ud800",
    "é" * 300,
]


def test_names_of_any_kind_survive_in_a_script(tmp_path):
    numbers = [float("nan"), np.float32(0.5), pd.NA, np.int64(3), float("inf")]
    written = {"names": HOSTILE, HOSTILE[0]: {"x": numbers}}
    pack.put(tmp_path, "images/0", written)
    assert payload(tmp_path, "images/0") == {
        "names": HOSTILE,
        HOSTILE[0]: {"x": [None, 0.5, None, 3, None]},
    }
    assert "\u2028" not in pack.script("a", written)
    address = start.address("latent", HOSTILE[0], "a/b ?", 8, "reg1", 3, a="&=#")
    assert address == (
        "#/latent/%3C%2Fscript%3E%3Cscript%3Ealert%281%29%3C%2Fscript%3E"
        "/a%2Fb%20%3F/8/reg1/3?a=%26%3D%23"
    )


def test_numbers_are_packed_as_narrow_as_they_are_said_to_be():
    halves = unpacked(pack.packed([1e9, -1e9, 0.5, np.nan], "f16"))
    assert halves.tolist()[:3] == [65504, -65504, 0.5]
    assert unpacked(pack.index([3, -1], 65535)).tolist() == [3, 65535]
    assert unpacked(pack.index([65535, -1], 65536)).tolist() == [65535, 2**32 - 1]


def test_which_images_have_a_thumbnail(monkeypatch):
    assert images.rows_with_thumbnail(4096, []).tolist() == list(range(4096))
    monkeypatch.setattr(images, "ALL", 4)
    monkeypatch.setattr(images, "MOST", 5)
    tops = [np.array([[9, 1, 2], [8, 3, -1]]), np.array([[9, 4, 5]])]
    # First each latent's highest, then each one's second.
    assert images.rows_with_thumbnail(10, tops).tolist() == [1, 3, 4, 8, 9]
    few_tops = [np.array([[9, -1]])]
    assert images.rows_with_thumbnail(10, few_tops).tolist() == [0, 2, 5, 8, 9]
    assert len(images.rows_with_thumbnail(10, [])) == 5

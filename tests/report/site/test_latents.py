"""Codes, nearest latents and matches equal what is worked out by hand; names of any
kind survive in a script.
"""

import json

import numpy as np
import pandas as pd
import pytest
import torch
from report.site.reading import payload, unpacked

from sae.core.errors import UserError
from sae.models.coder import Coder, Threshold
from sae.report.site import images, latents, pack, start

N, D, M, K = 300, 12, 40, 5


def coder(seed, select=None):
    made = Coder(D, M, K, select)
    made.initialise(torch.zeros(D), seed)
    return made


@pytest.fixture
def x():
    return np.random.default_rng(0).normal(size=(N, D)).astype(np.float32)


def of(sae, x, others=(), **more):
    fires = sae.encode(sae.prepare(x)).firing_counts()
    table = pd.DataFrame(
        {"n_active": fires, "ms": np.where(fires, 0.5, np.nan), "top_class": "b"}
    )
    given = {"classes": ["a", "b"], "labels": np.arange(N) % 2, "groups": None} | more
    return latents.payload(
        sae,
        latents.encode(sae, x),
        given.pop("table", table),
        cell_coders=dict(enumerate(others, 7)),
        **given,
    )


@pytest.mark.parametrize("select", [None, Threshold(torch.full((M,), 0.9))])
def test_codes_are_those_of_the_sae_highest_first(x, select):
    sae = coder(0, select)
    a = np.maximum(x @ sae.W_enc.detach().numpy(), 0)  # Its biases are 0.
    kept = a > 0.9 if select else a >= np.sort(a, axis=1)[:, -K:][:, :1]
    a = np.where(kept, a, 0)
    made, ranked_codes = of(sae, x)
    top = ranked_codes.highest_images()
    offsets, image, value = (
        unpacked(made["codes"][name]) for name in ("offsets", "image", "value")
    )
    assert (
        offsets.tolist() == [0, *np.count_nonzero(a, axis=0).cumsum()]
        and made["images"] == N
    )
    for latent in range(M):
        fires = np.flatnonzero(a[:, latent])
        expected = fires[np.lexsort((fires, -a[fires, latent]))]
        part = slice(offsets[latent], offsets[latent + 1])
        assert image[part].tolist() == expected.tolist()
        np.testing.assert_allclose(value[part], a[expected, latent], rtol=1e-3)
        assert top[latent].tolist() == [*expected[:10], *[-1] * (10 - len(expected))]
    assert unpacked(made["latents"]["top_class"]).tolist() == [1] * M


def test_equal_activations_stand_by_image(x):
    sae = coder(0)
    made, _ = of(sae, np.repeat(x[:1], N, axis=0))
    assert np.array_equal(unpacked(made["codes"]["image"]), np.tile(np.arange(N), K))


def test_nearest_and_matches_are_those_of_all_pairs(x, monkeypatch):
    monkeypatch.setattr(latents, "CHUNK", 7)  # So that a chunk ends within the latents.
    one, other = coder(0), coder(1)
    made, _ = of(one, x, [other])
    rows, theirs = (c.W_dec.detach().numpy() for c in (one, other))
    cosine = rows @ rows.T
    np.fill_diagonal(cosine, -2)
    order = np.argsort(-cosine, axis=1)[:, :10]
    assert np.array_equal(unpacked(made["nearest"]["latent"]).reshape(M, 10), order)
    found = unpacked(made["nearest"]["cosine"]).reshape(M, 10)
    np.testing.assert_allclose(
        found, np.take_along_axis(cosine, order, axis=1), atol=1e-3
    )
    (match,) = made["matches"]
    assert match["sae"] == 7 and np.array_equal(
        unpacked(match["latent"]), (rows @ theirs.T).argmax(axis=1)
    )
    found, cosines = latents.nearest(
        Coder(2, 1, 1), Coder(2, 3, 1), 5
    )  # Fewer than are asked for.
    assert found[0, 3:].tolist() == [-1, -1] and np.isnan(cosines[0, 3:]).all()


def test_what_was_not_computed_is_not_there_and_a_foreign_table_is_refused(x):
    made, _ = of(coder(0), x)
    assert set(made["latents"]) == {"n_active", "ms", "top_class"}
    made, _ = of(coder(0), x, siblings=[coder(0), coder(1)])
    own, other = (latents.nearest(coder(0), coder(seed), 1)[1][:, 0] for seed in (0, 1))
    np.testing.assert_allclose(
        unpacked(made["latents"]["stability"]), (own + other) / 2
    )
    with pytest.raises(UserError, match="3 rows of an SAE of 40 latents"):
        of(coder(0), x, table=pd.DataFrame({"n_active": [1, 2, 3]}))


def test_purity_by_chance_is_that_of_the_metric(x):
    sae, labels = coder(0), np.arange(N) % 3
    fires = sae.encode(sae.prepare(x)).firing_counts()
    made, _ = of(
        sae,
        x,
        labels=labels,
        table=pd.DataFrame({"n_active": fires, "purity": np.where(fires, 0.5, np.nan)}),
    )
    from sae.scoring.metrics import purity

    expected = purity.of_codes(sae.encode(sae.prepare(x)), labels)["binary_null"]
    assert np.nanmean(unpacked(made["latents"]["purity_null"])) == pytest.approx(
        expected
    )


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
    given = {
        "names": HOSTILE,
        HOSTILE[0]: {
            "x": [float("nan"), np.float32(0.5), pd.NA, np.int64(3), float("inf")]
        },
    }
    pack.put(tmp_path, "images/0", given)
    made = payload(tmp_path, "images/0")
    assert made == {"names": HOSTILE, HOSTILE[0]: {"x": [None, 0.5, None, 3, None]}}
    assert (
        "\u2028" not in pack.script("a", given)
        and json.loads(json.dumps(HOSTILE)) == HOSTILE
    )
    said = start.address("latent", HOSTILE[0], "a/b ?", 8, "reg1", 3, a="&=#")
    assert (
        said
        == "#/latent/%3C%2Fscript%3E%3Cscript%3Ealert%281%29%3C%2Fscript%3E/a%2Fb%20%3F/8/reg1/3?a=%26%3D%23"
    )


def test_numbers_are_packed_as_narrow_as_they_are_said_to_be():
    assert unpacked(pack.packed([1e9, -1e9, 0.5, np.nan], "f16")).tolist()[:3] == [
        65504,
        -65504,
        0.5,
    ]
    assert unpacked(pack.index([3, -1], 65535)).tolist() == [3, 65535]
    assert unpacked(pack.index([65535, -1], 65536)).tolist() == [65535, 2**32 - 1]


def test_which_images_have_a_thumbnail(monkeypatch):
    assert images.rows_with_thumbnail(4096, []).tolist() == list(range(4096))
    monkeypatch.setattr(images, "ALL", 4)
    monkeypatch.setattr(images, "MOST", 5)
    tops = [np.array([[9, 1, 2], [8, 3, -1]]), np.array([[9, 4, 5]])]
    assert images.rows_with_thumbnail(10, tops).tolist() == [
        1,
        3,
        4,
        8,
        9,
    ]  # First each latent's highest, then each one's second.
    assert images.rows_with_thumbnail(10, [np.array([[9, -1]])]).tolist() == [
        0,
        2,
        5,
        8,
        9,
    ]
    assert len(images.rows_with_thumbnail(10, [])) == 5

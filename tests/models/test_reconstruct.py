"""A reconstruction is in the space of what was given; what is given is checked."""

import numpy as np
import pytest
import torch
import yaml
from conftest import ROOT
from scoring.examples import coder

import sae
from sae.core.errors import UserError
from sae.models import apply, convert, inputs, saefile
from sae.models.apply import Encoder
from sae.models.coder import Coder
from sae.models.codes import Codes
from sae.scoring import alone

D, M, K = 6, 16, 4


def embeddings(count=50):
    """Return (N, d) embeddings of unlike lengths, the last of length 0."""
    generator = np.random.default_rng(0)
    x = generator.normal(size=(count, D)) * generator.uniform(1, 9, size=(count, 1))
    x[-1] = 0
    return x.astype(np.float32)


def encoder(input_norm, scale=2.62):
    made = Coder(D, M, K, input_norm=input_norm, input_scale=scale)
    made.initialise(torch.full((D,), 0.1), seed=0)
    return Encoder(made.requires_grad_(False))


@pytest.mark.parametrize("input_norm", saefile.NORMS)
@pytest.mark.parametrize("k", [None, 2])
def test_a_reconstruction_is_in_the_space_of_what_was_given(input_norm, k, monkeypatch):
    monkeypatch.setattr(apply, "CHUNK", 7)  # Several chunks, the last one short.
    model = encoder(input_norm)
    x = embeddings()

    # By hand, in float64: into the space of the weights, there and back again.
    length = np.linalg.norm(x.astype(float), axis=1, keepdims=True)
    factor = 2.62 / np.where(length > 0, length, 1) if input_norm != "none" else 2.62
    shift = 0.0
    spread = 1.0
    if input_norm == "unit_l2_layernorm":
        shift = (x * factor).mean(axis=1, keepdims=True)
        spread = (x * factor).std(axis=1, keepdims=True).clip(1e-8)
    weights = model.coder.W_dec.numpy().astype(float)
    bias = model.coder.b_dec.numpy().astype(float)
    activations = np.maximum(((x * factor - shift) / spread - bias) @ weights.T, 0)
    least = -np.sort(-activations, axis=1)[:, (k or K) - 1, None]
    kept = np.where(activations >= least, activations, 0)
    expected = ((kept @ weights + bias) * spread + shift) / factor

    found = model.reconstruct(x, k=k)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)
    # So can the codes of the same embeddings be decoded, as they are or edited.
    codes = model.encode(x, k=k)
    np.testing.assert_array_equal(model.reconstruct(x, codes=codes), found)
    half = Codes(codes.values / 2, codes.indices, codes.offsets, codes.m)
    expected = ((kept / 2 @ weights + bias) * spread + shift) / factor
    halved = model.reconstruct(x, codes=half)
    np.testing.assert_allclose(halved, expected, rtol=1e-4, atol=1e-5)


def test_what_is_decoded_is_scaled_and_what_is_reconstructed_is_not():
    model = encoder("unit_l2")
    x = embeddings()[:-1]
    prepared = model.coder.prepare(x).numpy()
    decoded = model.decode(model.encode(x))
    rebuilt = model.reconstruct(x)
    length = np.linalg.norm(x, axis=1, keepdims=True)
    np.testing.assert_allclose(decoded * length / 2.62, rebuilt, rtol=1e-4, atol=1e-5)
    # The same share of each row's length is lost in both spaces.
    lost = np.linalg.norm(prepared - decoded, axis=1) / 2.62
    raw_lost = np.linalg.norm(x - rebuilt, axis=1) / length[:, 0]
    np.testing.assert_allclose(raw_lost, lost, rtol=1e-4, atol=1e-6)
    with pytest.raises(UserError, match=r"use Encoder\.reconstruct\(embeddings, codes"):
        layer_norm = encoder("unit_l2_layernorm")
        layer_norm.decode(layer_norm.encode(x))


def test_undoing_is_the_inverse_of_preparing():
    x = embeddings()
    for input_norm in saefile.NORMS:
        prepared = inputs.prepare(x, input_norm, 3.0).numpy()
        back = inputs.undo(prepared, x, input_norm, 3.0)
        np.testing.assert_allclose(back, x, rtol=1e-5, atol=1e-6)


OTHER = Encoder(coder(0, d=D, m=8, k=K)).encode(embeddings())
CODES = Encoder(coder(0, d=D, m=M, k=K)).encode(embeddings())


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda e, x: e.encode(x, k=8.0), r"k is 8\.0, of type float; give a whole"),
        (lambda e, x: e.encode(x, k=True), "k is True, of type bool; give a whole"),
        (lambda e, x: e.encode(x, k="4"), "k is '4', of type str; give a whole number"),
        (lambda e, x: e.encode(x, k=np.array([4, 3])), r"k is array\(\[4, 3\]\), of"),
        (lambda e, x: e.encode(x, k=float("nan")), "k is nan, .* 1 to 16, the number"),
        (lambda e, x: e.encode(x, k=0), "k = 0; this SAE has 16 latents: give 1 to 16"),
        (lambda e, x: e.reconstruct(x, k=4.0), r"k is 4\.0, of type float"),
        (lambda e, x: e.reconstruct(x[:, 1:]), r"\(50, 5\); needed: .* \(N, 6\)"),
        (lambda e, x: e.reconstruct(x, 4, codes=CODES), "k and codes are both given"),
        (
            lambda e, x: e.reconstruct(x[1:], codes=CODES),
            "codes are of 50 samples, the",
        ),
        (lambda e, x: e.reconstruct(x, codes=OTHER), "of 8 latents, and this one has"),
        (
            lambda e, x: e.decode(OTHER),
            "codes are of an SAE of 8 latents, and this one",
        ),
        (
            lambda e, x: e.decode(x),
            "codes are ndarray, not sae.models.codes.Codes: give",
        ),
        (lambda e, x: e.decode(CODES.matrix()), "codes are csr_matrix, not"),
        (lambda e, x: e.decode(edited(indices=CODES.indices + 9)), "go from 9 to 24: "),
        (lambda e, x: e.decode(edited(indices=CODES.indices[1:])), "give a latent for"),
        (lambda e, x: e.decode(edited(values=[1.0])), "values of codes are list: give"),
        (
            lambda e, x: e.decode(edited(indices=CODES.values)),
            "indices .* float32: give",
        ),
        (
            lambda e, x: e.decode(edited(offsets=CODES.offsets[1:])),
            "offsets of codes do",
        ),
        (
            lambda e, x: e.decode(edited(offsets=CODES.offsets[:0])),
            "offsets of codes do",
        ),
        (lambda e, x: CODES.prefix(2.5), r"k is 2\.5, of type float; give a whole num"),
        (lambda e, x: CODES.prefix(-1), "k is -1; give 0 or more"),
        (lambda e, x: CODES.rows(-5, -1), "start is -5; give 0 to 50"),
        (lambda e, x: CODES.rows(51, 60), "start is 51; there are 50 samples: give 0"),
        (lambda e, x: CODES.rows(5, 2), "stop is 2; give 5 or more"),
        (
            lambda e, x: CODES.rows(1.0, 2),
            r"start is 1\.0, of type float; give a whole",
        ),
        (lambda e, x: Encoder(e.coder, "cuda:7"), "finds no cuda:7 on .* take cpu"),
        (
            lambda e, x: Encoder(e.coder, "gpu"),
            "device 'gpu' is not known; allowed: auto",
        ),
        (lambda e, x: Encoder(e.coder, "meta"), "device 'meta' is not known; allowed"),
        (
            lambda e, x: Encoder(e.coder, 0),
            "device is 0; give the name of a device, such",
        ),
        (
            lambda e, x: Encoder(e.coder, None),
            "device is None; give the name of a device",
        ),
        (lambda e, x: sae.load("sae.safetensors", "gpu"), "device 'gpu' is not known"),
        (
            lambda e, x: sae.load("a\0b"),
            r"path of an SAE file is 'a\\x00b'; give the path",
        ),
        (
            lambda e, x: sae.load(""),
            "path of an SAE file is ''; give the path of a file",
        ),
        (
            lambda e, x: sae.load("n" * 300),
            r"nnn cannot be read \(File name too long\)",
        ),
        (
            lambda e, x: sae.load("/dev/null"),
            "null cannot be read .*device, not a file",
        ),
        (
            lambda e, x: convert.load(None),
            "place is None, of type NoneType; give a path",
        ),
        (
            lambda e, x: convert.load(ROOT / "nothing"),
            "nothing does not exist, and is no",
        ),
        (
            lambda e, x: convert.load("x", "auto", {"k": 3}),
            "options are .*; give sae.mod",
        ),
        (
            lambda e, x: convert.export(e, "saelens", "out"),
            "coder is Encoder; give a sae.",
        ),
        (lambda e, x: convert.export(e.coder, "saelens", ""), "folder is ''; give the"),
        (
            lambda e, x: saefile.save(e, "out"),
            "coder is Encoder; give a sae.models.cod",
        ),
        (lambda e, x: saefile.save(e.coder, 3), "path is 3, of type int; give a path"),
        (
            lambda e, x: saefile.save(e.coder, "no/x"),
            r"no/x cannot be written \(No such",
        ),
    ],
)
def test_an_argument_that_is_none_is_named(call, said, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=said) as raised:
        call(Encoder(coder(0, d=D, m=M, k=K)), embeddings())
    assert "\n" not in str(raised.value)
    assert not list(tmp_path.iterdir())


def edited(**parts):
    """Return codes with some parts in place of their own."""
    return Codes(**{**vars(CODES), **parts})


def test_whole_numbers_of_any_type_and_devices_of_any_form_are_taken(tmp_path):
    saefile.save(coder(0, d=D, m=M, k=K), str(tmp_path / "sae.safetensors"))
    x = embeddings()[:-1]
    expected = sae.load(tmp_path / "sae.safetensors").encode(x, k=3)
    for k in (np.int64(3), np.array(3), torch.tensor(3)):
        found = sae.load(tmp_path / "sae.safetensors", torch.device("cpu")).encode(x, k)
        np.testing.assert_array_equal(found.values, expected.values)
    sae.load(tmp_path / "sae.safetensors", "auto").encode(x)
    convert.export(coder(0, d=D, m=M, k=K), "saelens", str(tmp_path / "out"))
    assert convert.load(tmp_path / "out", check=x.tolist()).m == M
    for wrong in ("x.npy", x + 0j, [[1.0], [1.0, 2.0]]):
        with pytest.raises(
            UserError, match=r"expected numbers|cannot be read as an ar"
        ):
            convert.load(tmp_path / "out", check=wrong)


def test_the_columns_that_score_has_and_the_demo_has_not_are_said():
    metrics = yaml.safe_load((ROOT / "config.yaml").read_text())["metrics"]
    by_default = alone.default_metrics({})
    more = [name for name in by_default if (metrics[name] or {}).get("optional")]
    generator = np.random.default_rng(0)
    x = generator.normal(size=(300, D))
    given = Encoder(coder(0, d=D, m=M, k=K)), x, np.arange(300) % 3
    columns = sae.score(*given, metrics=more)
    missing = {column.split("_")[0] for column in columns}

    for text in (sae.score.__doc__, (ROOT / "docs/api.md").read_text()):
        assert all(f"`{name}`" in text for name in more)
        assert all(f"`{prefix}" in text for prefix in missing)
    # Without them it has those of the demo alone.
    others = [name for name in by_default if name not in more]
    assert not set(sae.score(*given, metrics=others)) & set(columns)

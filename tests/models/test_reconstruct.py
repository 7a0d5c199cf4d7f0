"""A reconstruction is in the space of what was given; what is given is checked."""

import numpy as np
import pytest
import torch
from scoring.examples import coder as make_coder

import sae
from sae.core.errors import UserError
from sae.models import apply, convert, saefile
from sae.models import coder as coders
from sae.models.apply import Encoder
from sae.models.coder import Coder
from sae.models.codes import Codes

D, M, K = 6, 16, 4


def random_embeddings(count=50):
    """Return (N, d) embeddings of unlike lengths, the last of length 0."""
    generator = np.random.default_rng(0)
    x = generator.normal(size=(count, D)) * generator.uniform(1, 9, size=(count, 1))
    x[-1] = 0
    return x.astype(np.float32)


def make_encoder(input_norm, scale=2.62):
    coder = Coder(D, M, K, input_norm=input_norm, input_scale=scale)
    coder.initialise(torch.full((D,), 0.1), seed=0)
    return Encoder(coder.requires_grad_(False))


@pytest.mark.parametrize("input_norm", saefile.NORMS)
@pytest.mark.parametrize("k", [None, 2])
def test_a_reconstruction_is_in_the_space_of_what_was_given(input_norm, k, monkeypatch):
    # Several chunks, the last one short. Both cut alike: products of other sizes need
    # not be equal to the bit.
    for module in (apply, coders):
        monkeypatch.setattr(module, "CHUNK", 7)
    encoder = make_encoder(input_norm)
    x = random_embeddings()

    # By hand, in float64: into the space of the weights, there and back again.
    length = np.linalg.norm(x.astype(float), axis=1, keepdims=True)
    factor = 2.62 / np.where(length > 0, length, 1) if input_norm != "none" else 2.62
    shift = 0.0
    spread = 1.0
    if input_norm == "unit_l2_layernorm":
        shift = (x * factor).mean(axis=1, keepdims=True)
        spread = (x * factor).std(axis=1, keepdims=True).clip(1e-8)
    W_dec = encoder.coder.W_dec.numpy().astype(float)
    b_dec = encoder.coder.b_dec.numpy().astype(float)
    activations = np.maximum(((x * factor - shift) / spread - b_dec) @ W_dec.T, 0)
    least_kept = -np.sort(-activations, axis=1)[:, (k or K) - 1, None]
    dense_codes = np.where(activations >= least_kept, activations, 0)

    def expected(dense_codes):
        return ((dense_codes @ W_dec + b_dec) * spread + shift) / factor

    reconstructions = encoder.reconstruct(x, k=k)
    assert reconstructions.dtype == np.float32
    np.testing.assert_allclose(
        reconstructions, expected(dense_codes), rtol=1e-4, atol=1e-5
    )
    # So can the codes of the same embeddings be decoded, as they are or edited.
    codes = encoder.encode(x, k=k)
    np.testing.assert_array_equal(encoder.reconstruct(x, codes=codes), reconstructions)
    halved = Codes(codes.values / 2, codes.indices, codes.offsets, codes.m)
    np.testing.assert_allclose(
        encoder.reconstruct(x, codes=halved),
        expected(dense_codes / 2),
        rtol=1e-4,
        atol=1e-5,
    )


def test_what_is_decoded_is_scaled_and_what_is_reconstructed_is_not():
    encoder = make_encoder("unit_l2")
    x = random_embeddings()[:-1]
    prepared = encoder.coder.prepare(x).numpy()
    decoded = encoder.decode(encoder.encode(x))
    reconstructed = encoder.reconstruct(x)
    length = np.linalg.norm(x, axis=1, keepdims=True)
    np.testing.assert_allclose(
        decoded * length / 2.62, reconstructed, rtol=1e-4, atol=1e-5
    )
    # The same share of each row's length is lost in both spaces.
    share_lost = np.linalg.norm(prepared - decoded, axis=1) / 2.62
    raw_share_lost = np.linalg.norm(x - reconstructed, axis=1) / length[:, 0]
    np.testing.assert_allclose(raw_share_lost, share_lost, rtol=1e-4, atol=1e-6)
    with pytest.raises(UserError, match=r"use Encoder\.reconstruct\(embeddings, codes"):
        layer_norm = make_encoder("unit_l2_layernorm")
        layer_norm.decode(layer_norm.encode(x))


OTHER_CODES = Encoder(make_coder(0, d=D, m=8, k=K)).encode(random_embeddings())
CODES = Encoder(make_coder(0, d=D, m=M, k=K)).encode(random_embeddings())


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda encoder, x: encoder.encode(x, k=True),
            "k is True, of type bool; give a whole",
        ),
        (
            lambda encoder, x: encoder.encode(x, k=0),
            "k = 0; this SAE has 16 latents: give 1 to 16",
        ),
        (
            lambda encoder, x: encoder.reconstruct(x[1:], codes=CODES),
            "codes are of 50 samples, the",
        ),
        (
            lambda encoder, x: encoder.reconstruct(x, codes=OTHER_CODES),
            "of 8 latents, and this one has",
        ),
        (
            lambda encoder, x: encoder.decode(x),
            "codes are ndarray, not sae.models.codes.Codes: give",
        ),
        (
            lambda encoder, x: encoder.decode(edited_codes(indices=CODES.indices + 9)),
            "go from 9 to 24: ",
        ),
        (
            lambda encoder, x: encoder.decode(edited_codes(indices=CODES.values)),
            "indices .* float32: give",
        ),
        (
            lambda encoder, x: CODES.rows(51, 60),
            "start is 51; there are 50 samples: give 0",
        ),
        (
            lambda encoder, x: sae.load(""),
            "path of an SAE file is ''; give the path of a file",
        ),
    ],
)
def test_an_argument_that_is_none_is_named(call, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    encoder = Encoder(make_coder(0, d=D, m=M, k=K))
    with pytest.raises(UserError, match=message) as raised:
        call(encoder, random_embeddings())
    assert "\n" not in str(raised.value)
    assert not list(tmp_path.iterdir())


def edited_codes(**arrays):
    """Return codes with some arrays in place of their own."""
    return Codes(**{**vars(CODES), **arrays})


def test_whole_numbers_of_any_type_and_devices_of_any_form_are_taken(tmp_path):
    sae_file = tmp_path / "sae.safetensors"
    saefile.save(make_coder(0, d=D, m=M, k=K), str(sae_file))
    x = random_embeddings()[:-1]
    expected = sae.load(sae_file).encode(x, k=3)
    for k in (np.int64(3), np.array(3), torch.tensor(3)):
        codes = sae.load(sae_file, torch.device("cpu")).encode(x, k)
        np.testing.assert_array_equal(codes.values, expected.values)
    sae.load(sae_file, "auto").encode(x)


def test_embeddings_to_check_with_may_be_a_list_and_must_be_numbers(tmp_path):
    out = tmp_path / "out"
    convert.export(make_coder(0, d=D, m=M, k=K), "saelens", str(out))
    x = random_embeddings()[:-1]
    assert convert.load(out, check=x.tolist()).m == M
    for no_embeddings in ("x.npy", x + 0j, [[1.0], [1.0, 2.0]]):
        with pytest.raises(
            UserError, match=r"expected numbers|cannot be read as an ar"
        ):
            convert.load(out, check=no_embeddings)

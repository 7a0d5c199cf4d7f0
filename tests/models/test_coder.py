"""The one form of all SAEs: selections, codes, decoding and the file.

They are compared with dense formulas in float64.
"""

import json
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from support.errors import refused_naming

from sae.core import seals
from sae.core.errors import UserError
from sae.models import coder as coders
from sae.models import convert, saefile
from sae.models.coder import Coder, Threshold, TopK

N, D, M, K = 50, 6, 20, 4


def random_theta():
    """Return thresholds (m,), of which one admits no zero and one nothing at all."""
    theta = torch.rand(M, generator=torch.Generator().manual_seed(5)) * 0.3
    theta[3] = -1.0
    theta[4] = float("inf")
    return theta


def make_coder(select=None, **options):
    coder = Coder(D, M, K, select, **options)
    coder.initialise(torch.full((D,), 0.1), seed=0)
    with torch.no_grad():
        b_enc = 0.1 * torch.randn(M, generator=torch.Generator().manual_seed(1))
        coder.b_enc.copy_(b_enc)
        if options.get("tied"):
            coder.W_dec[7] = 0
    return coder.requires_grad_(False)


def random_inputs():
    return torch.randn(N, D, generator=torch.Generator().manual_seed(2))


@dataclass(frozen=True)
class DenseForward:
    """What a coder computes, by the formula in float64.

    Attributes:
        activations: (N, m) before the selection.
        codes: (N, m) after it.
        reconstructions: (N, d) in the space of the inputs.
    """

    activations: np.ndarray
    codes: np.ndarray
    reconstructions: np.ndarray


def dense_forward(coder, inputs):
    x = inputs.double().numpy()
    shift = 0.0
    scale = 1.0
    if coder.input_norm == "unit_l2_layernorm":
        shift = x.mean(axis=1, keepdims=True)
        scale = x.std(axis=1, keepdims=True)
    W_enc = coder.W_enc.double().numpy()
    b_enc = coder.b_enc.double().numpy()
    W_dec = coder.W_dec.double().numpy()
    b_dec = coder.b_dec.double().numpy()

    activations = np.maximum(((x - shift) / scale - b_dec) @ W_enc + b_enc, 0)
    if isinstance(coder.select, TopK):
        is_kept = descending_ranks(activations) < coder.select.k
    else:
        is_kept = activations > coder.select.theta.numpy()
    codes = activations * is_kept
    return DenseForward(activations, codes, (codes @ W_dec + b_dec) * scale + shift)


def descending_ranks(rows):
    """Return for each value its place in its row, 0 for the largest."""
    return np.argsort(np.argsort(-rows, axis=1, kind="stable"), axis=1)


@pytest.mark.parametrize("tied", [False, True])
def test_a_coder_takes_over_tensors_by_their_names_and_no_others(tied):
    source = make_coder(Threshold(random_theta()), tied=tied)
    coder = Coder(D, M, K, Threshold(torch.zeros(M)), tied=tied)
    coder.fill(source.tensors())
    for name, tensor in coder.tensors().items():
        assert torch.equal(tensor, source.tensors()[name])
    with pytest.raises(KeyError, match="encoder"):
        coder.fill({"encoder": source.W_enc.T})
    with pytest.raises(KeyError, match="theta"):
        make_coder().fill({"theta": random_theta()})
    with pytest.raises(RuntimeError, match="b_dec"):
        coder.fill({"b_dec": torch.zeros(())})


@pytest.fixture(params=["topk", "topk of all", "threshold"])
def select(request):
    """Return a selection; None for the coder's own Top-k."""
    return {
        "topk": None,
        "topk of all": TopK(M),
        "threshold": Threshold(random_theta()),
    }[request.param]


OPTIONS = [{}, {"tied": True, "input_norm": "unit_l2_layernorm"}]


@pytest.mark.parametrize("options", OPTIONS)
def test_codes_and_reconstruction_are_the_formula_in_any_chunk(
    select, options, monkeypatch
):
    monkeypatch.setattr(coders, "CHUNK", 7)
    coder = make_coder(select, **options)
    x = random_inputs()
    expected = dense_forward(coder, x)

    codes = coder.encode(x)
    np.testing.assert_allclose(
        codes.matrix().toarray(), expected.codes, rtol=1e-4, atol=1e-6
    )
    np.testing.assert_allclose(
        coder.reconstruct(x, codes).numpy(),
        expected.reconstructions,
        rtol=1e-4,
        atol=1e-5,
    )
    firing_counts = (expected.codes > 0).sum(axis=0)
    np.testing.assert_array_equal(codes.firing_counts(), firing_counts)
    np.testing.assert_array_equal(coder.firing_counts(x), firing_counts)
    # A coder has no state that an evaluation could change.
    assert not list(coder.buffers()) or isinstance(select, Threshold)


@pytest.mark.parametrize("options", OPTIONS)
def test_the_largest_activations_do_not_depend_on_the_selection(
    select, options, monkeypatch
):
    monkeypatch.setattr(coders, "CHUNK", 7)
    coder = make_coder(select, **options)
    activations = dense_forward(coder, random_inputs()).activations
    values, latents = coder.largest(random_inputs(), 9)
    np.testing.assert_allclose(
        values.numpy(), -np.sort(-activations, axis=1)[:, :9], rtol=1e-4, atol=1e-6
    )
    np.testing.assert_allclose(
        np.take_along_axis(activations, latents.numpy(), 1),
        values.numpy(),
        rtol=1e-4,
        atol=1e-6,
    )


@pytest.mark.parametrize("options", OPTIONS)
def test_codes_have_rows_of_any_length_with_the_largest_value_first(select, options):
    coder = make_coder(select, **options)
    dense_codes = dense_forward(coder, random_inputs()).codes
    codes = coder.encode(random_inputs())
    assert codes.values.dtype == np.float32
    assert codes.indices.dtype == np.int32
    assert codes.offsets.dtype == np.int64
    assert len(codes) == N
    assert (codes.values > 0).all()
    assert codes.l0() == pytest.approx((dense_codes > 0).sum(axis=1).mean())
    for row in range(N):
        values = codes.values[codes.offsets[row] : codes.offsets[row + 1]]
        assert (np.diff(values) <= 0).all()
        np.testing.assert_array_equal(codes.rows(row, row + 1).values, values)

    two_largest = np.where(descending_ranks(dense_codes) < 2, dense_codes, 0)
    np.testing.assert_allclose(
        codes.prefix(2).matrix().toarray(), two_largest, rtol=1e-4, atol=1e-6
    )
    assert len(codes.prefix(2)) == N
    assert codes.prefix(M).values is not codes.values


def test_gradients_stay_on_for_a_consumer_that_stops_early(monkeypatch):
    monkeypatch.setattr(coders, "CHUNK", 7)
    chunks = Coder(D, M, K).activations_by_chunk(random_inputs())
    assert not next(chunks).requires_grad
    assert torch.is_grad_enabled()


def test_a_threshold_is_strict_and_a_row_may_be_empty():
    select = Threshold(torch.tensor([1.0, 0.0, 2.0]))
    activations = [[1.0, 0.0, 2.0], [1.5, 0.5, 3.0], [0.0, 0.5, 0.0]]
    codes = select(torch.tensor(activations))
    assert codes.offsets.tolist() == [0, 0, 3, 4]
    assert codes.indices.tolist() == [2, 0, 1, 1]
    assert codes.values.tolist() == [3.0, 1.5, 0.5, 0.5]

    coder = Coder(2, 3, 1, Threshold(torch.full((3,), 9.0)))
    codes = coder.encode(torch.zeros(4, 2))
    assert codes.matrix().nnz == 0
    assert coder.reconstruct(torch.zeros(4, 2), codes).shape == (4, 2)


@pytest.mark.parametrize("threshold", [False, True])
def test_a_file_holds_all_of_a_coder(threshold, tmp_path):
    metadata = {"method": "mine", "trial": {"lambda": 0.1}, "seed": 3}
    input_space = {"input_norm": "unit_l2_layernorm", "input_scale": 2.5}
    select = Threshold(random_theta()) if threshold else None
    coder = make_coder(select, tied=True, metadata=metadata, **input_space)
    for name in "ab":
        saefile.save(coder, tmp_path / name)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()

    loaded = saefile.load(tmp_path / "a")
    selection = "threshold" if threshold else "topk"
    assert loaded.metadata == metadata | input_space | {"select": selection, "k": K}
    assert loaded.k == K
    assert loaded.input_norm == "unit_l2_layernorm"
    assert loaded.input_scale == 2.5
    assert not loaded.tied
    assert not any(parameter.requires_grad for parameter in loaded.parameters())
    codes = loaded.encode(random_inputs())
    expected = coder.encode(random_inputs())
    np.testing.assert_array_equal(codes.indices, expected.indices)
    np.testing.assert_allclose(codes.values, expected.values, rtol=1e-6)
    saefile.save(loaded, tmp_path / "c")
    assert (tmp_path / "a").read_bytes() == (tmp_path / "c").read_bytes()


@pytest.mark.parametrize(
    ("change", "parts"),
    [
        ({"select": TopK(2)}, ["k = 4", "TopK(2)"]),
        ({"select": torch.nn.Identity()}, ["Identity", "TopK or Threshold"]),
        ({"k": 0, "select": TopK(0)}, ["k = 0"]),
        ({"input_norm": "foo"}, ["input_norm", "'foo'"]),
        ({"metadata": {"a": [float("nan")]}}, ["'a' in the metadata"]),
        ({"metadata": {"a": object()}}, ["'a' in the metadata", "object"]),
        ({"b_dec": torch.nn.Parameter(torch.tensor([np.nan] * D))}, ["b_dec", "NaN"]),
        ({"b_dec": torch.nn.Parameter(torch.zeros(D + 1))}, ["b_dec", "(7,)"]),
        ({"W_dec": torch.nn.Parameter(torch.zeros(M, D).half())}, ["W_dec", "float16"]),
    ],
)
def test_what_a_file_would_give_back_as_another_sae_is_not_saved(
    change, parts, tmp_path
):
    coder = make_coder()
    for name, value in change.items():
        setattr(coder, name, value)
    with refused_naming(*parts):
        saefile.save(coder, tmp_path / "sae.safetensors")
    with refused_naming(*parts):
        convert.export(coder, "saelens", tmp_path / "exported")
    assert not list(tmp_path.iterdir())


def test_what_is_no_sae_file_is_said_and_nobody_is_told_to_delete_it(tmp_path):
    saefile.save(make_coder(), tmp_path / "whole")
    content = (tmp_path / "whole").read_bytes()
    (tmp_path / "cut").write_bytes(content[:-8])
    (tmp_path / "text").write_text("hello")
    save_file({"encoder.weight": torch.zeros(2, 3)}, tmp_path / "other")
    # Sealed files: with tensors of other shapes, another selection, no thresholds.
    metadata = saefile.load(tmp_path / "whole").metadata
    tensors = {name: torch.zeros(2, 3) for name in saefile.TENSORS}
    changes = {
        "shapes": {},
        "select": {"select": "magic"},
        "theta": {"select": "threshold"},
    }
    for name, change in changes.items():
        header = json.dumps(metadata | change | {"seal": seals.BLANK})
        save_file(tensors, tmp_path / name, metadata={"sae": header})
        seals.seal_file(tmp_path / name)

    for name in ("cut", "text", "other", *changes):
        with pytest.raises(
            UserError, match=f"{name} (is not a whole SAE file|was altered)"
        ) as caught:
            saefile.load(tmp_path / name)
        assert "delete" not in str(caught.value)
    with pytest.raises(UserError, match="is a folder, not an SAE file"):
        saefile.load(tmp_path)
    with pytest.raises(UserError, match="nothing does not exist"):
        saefile.load(tmp_path / "nothing")

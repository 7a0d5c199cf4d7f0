"""One form for all: selections, codes, decoding, and the file, against dense formulas."""

import json

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from sae.core import seals
from sae.core.errors import UserError
from sae.models import coder as coders
from sae.models import saefile
from sae.models.coder import Coder, Threshold, TopK

N, D, M, K = 50, 6, 20, 4


def theta():
    values = torch.rand(M, generator=torch.Generator().manual_seed(5)) * 0.3
    values[3], values[4] = (
        -1.0,
        float("inf"),
    )  # A threshold below 0 admits no zero; an infinite one nothing.
    return values


def make_coder(select=None, **options):
    coder = Coder(D, M, K, select, **options)
    coder.initialise(torch.full((D,), 0.1), seed=0)
    with torch.no_grad():
        coder.b_enc.copy_(
            0.1 * torch.randn(M, generator=torch.Generator().manual_seed(1))
        )
        coder.W_dec[7] = 0 if options.get("tied") else coder.W_dec[7]
    return coder.requires_grad_(False)


def inputs():
    return torch.randn(N, D, generator=torch.Generator().manual_seed(2))


def dense(coder, x):
    """a, z and xhat (N, m), (N, m), (N, d) in float64."""
    x = x.double().numpy()
    shift, scale = 0.0, 1.0
    if coder.input_norm == "unit_l2_layernorm":
        shift, scale = x.mean(axis=1, keepdims=True), x.std(axis=1, keepdims=True)
    w = {
        name: getattr(coder, name).double().numpy()
        for name in ("W_dec", "b_dec", "b_enc")
    }
    a = np.maximum(
        ((x - shift) / scale - w["b_dec"]) @ coder.W_enc.double().numpy() + w["b_enc"],
        0,
    )
    if isinstance(coder.select, TopK):
        kept = (
            np.argsort(np.argsort(-a, axis=1, kind="stable"), axis=1) < coder.select.k
        )
    else:
        kept = a > coder.select.theta.numpy()
    z = a * kept
    return a, z, (z @ w["W_dec"] + w["b_dec"]) * scale + shift


@pytest.mark.parametrize("tied", [False, True])
def test_a_coder_takes_over_tensors_by_their_names_and_no_others(tied):
    select, like = Threshold(torch.zeros(M)), make_coder(Threshold(theta()), tied=tied)
    coder = Coder(D, M, K, select, tied=tied)
    coder.fill(like.tensors())
    assert all(
        torch.equal(found, like.tensors()[name])
        for name, found in coder.tensors().items()
    )
    with pytest.raises(KeyError, match="encoder"):
        coder.fill({"encoder": like.W_enc.T})
    with pytest.raises(KeyError, match="theta"):
        make_coder().fill({"theta": theta()})
    with pytest.raises(RuntimeError, match="b_dec"):
        coder.fill({"b_dec": torch.zeros(())})


@pytest.mark.parametrize("select", ["topk", "topk of all", "threshold"])
@pytest.mark.parametrize(
    "options", [{}, {"tied": True, "input_norm": "unit_l2_layernorm"}]
)
def test_codes_and_reconstruction_are_the_formula_in_any_chunk(
    select, options, monkeypatch
):
    monkeypatch.setattr(coders, "CHUNK", 7)
    select = {"topk": None, "topk of all": TopK(M), "threshold": Threshold(theta())}[
        select
    ]
    coder, x = make_coder(select, **options), inputs()
    a, z, x_hat = dense(coder, x)
    codes = coder.encode(x)
    np.testing.assert_allclose(codes.matrix().toarray(), z, rtol=1e-4, atol=1e-6)
    assert (codes.values.dtype, codes.indices.dtype, codes.offsets.dtype) == (
        np.float32,
        np.int32,
        np.int64,
    )
    assert (
        len(codes) == N
        and (codes.values > 0).all()
        and codes.l0() == pytest.approx((z > 0).sum(axis=1).mean())
    )
    for row in range(N):
        values = codes.values[codes.offsets[row] : codes.offsets[row + 1]]
        assert (np.diff(values) <= 0).all()
        np.testing.assert_array_equal(codes.rows(row, row + 1).values, values)
    np.testing.assert_array_equal(codes.firing_counts(), (z > 0).sum(axis=0))
    np.testing.assert_array_equal(coder.firing_counts(x), (z > 0).sum(axis=0))
    np.testing.assert_allclose(
        coder.reconstruct(x, codes).numpy(), x_hat, rtol=1e-4, atol=1e-5
    )
    top = np.where(np.argsort(np.argsort(-z, axis=1, kind="stable"), axis=1) < 2, z, 0)
    np.testing.assert_allclose(
        codes.prefix(2).matrix().toarray(), top, rtol=1e-4, atol=1e-6
    )
    assert len(codes.prefix(2)) == N and codes.prefix(M).values is not codes.values
    values, indices = coder.largest(x, 9)
    np.testing.assert_allclose(
        values.numpy(), -np.sort(-a, axis=1)[:, :9], rtol=1e-4, atol=1e-6
    )
    np.testing.assert_allclose(
        np.take_along_axis(a, indices.numpy(), 1), values.numpy(), rtol=1e-4, atol=1e-6
    )
    assert not list(coder.buffers()) or isinstance(
        select, Threshold
    )  # No state that an evaluation could change.


def test_a_threshold_is_strict_and_a_row_may_be_empty():
    codes = Threshold(torch.tensor([1.0, 0.0, 2.0]))(
        torch.tensor([[1.0, 0.0, 2.0], [1.5, 0.5, 3.0], [0.0, 0.5, 0.0]])
    )
    assert codes.offsets.tolist() == [0, 0, 3, 4]
    assert codes.indices.tolist() == [2, 0, 1, 1] and codes.values.tolist() == [
        3.0,
        1.5,
        0.5,
        0.5,
    ]
    coder = Coder(2, 3, 1, Threshold(torch.full((3,), 9.0)))
    assert coder.encode(torch.zeros(4, 2)).matrix().nnz == 0
    assert coder.reconstruct(
        torch.zeros(4, 2), coder.encode(torch.zeros(4, 2))
    ).shape == (4, 2)


@pytest.mark.parametrize("threshold", [False, True])
def test_a_file_holds_all_of_a_coder(threshold, tmp_path):
    made = {"method": "mine", "trial": {"lambda": 0.1}, "seed": 3}
    norm = {"input_norm": "unit_l2_layernorm", "input_scale": 2.5}
    coder = make_coder(
        Threshold(theta()) if threshold else None, tied=True, metadata=made, **norm
    )
    for name in "ab":
        saefile.save(coder, tmp_path / name)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    loaded = saefile.load(tmp_path / "a")
    select = "threshold" if threshold else "topk"
    assert loaded.metadata == made | norm | {"select": select, "k": K}
    assert (loaded.k, loaded.input_norm, loaded.input_scale, loaded.tied) == (
        K,
        *norm.values(),
        False,
    )
    got, expected = (c.encode(inputs()) for c in (loaded, coder))
    np.testing.assert_array_equal(got.indices, expected.indices)
    np.testing.assert_allclose(got.values, expected.values, rtol=1e-6)
    assert not any(p.requires_grad for p in loaded.parameters())
    saefile.save(loaded, tmp_path / "c")
    assert (tmp_path / "a").read_bytes() == (tmp_path / "c").read_bytes()


def test_what_is_no_sae_file_is_said_and_nobody_is_told_to_delete_it(tmp_path):
    saefile.save(make_coder(), tmp_path / "whole")
    content = (tmp_path / "whole").read_bytes()
    (tmp_path / "cut").write_bytes(content[:-8])
    (tmp_path / "text").write_text("hello")
    save_file({"encoder.weight": torch.zeros(2, 3)}, tmp_path / "other")
    metadata = saefile.load(tmp_path / "whole").metadata
    tensors = {name: torch.zeros(2, 3) for name in saefile.TENSORS}
    for name, change in (
        ("shapes", {}),
        ("select", {"select": "magic"}),
        ("theta", {"select": "threshold"}),
    ):
        sealed = json.dumps(metadata | change | {"seal": seals.BLANK})
        save_file(tensors, tmp_path / name, metadata={"sae": sealed})
        seals.seal(tmp_path / name)
    for name in ("cut", "text", "other", "shapes", "select", "theta"):
        with pytest.raises(
            UserError, match=f"{name} (is not a whole SAE file|was altered)"
        ) as caught:
            saefile.load(tmp_path / name)
        assert "delete" not in str(caught.value)
    with pytest.raises(UserError, match="is a folder, not an SAE file"):
        saefile.load(tmp_path)
    with pytest.raises(UserError, match="nothing does not exist"):
        saefile.load(tmp_path / "nothing")

"""Inputs are normalised and scaled; the scale of lambda rests on that."""

import numpy as np
import pytest
import torch
from support.errors import refused_naming

from sae.models import inputs


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
def test_prepare_and_total_variance_equal_numpy_across_chunks(dtype, monkeypatch):
    monkeypatch.setattr(inputs, "_CHUNK", 7)
    monkeypatch.setattr(inputs, "_IN_CACHE", 35)
    stored = (np.random.default_rng(0).normal(size=(40, 5)) + 20).astype(dtype)
    stored[3] = 0
    rows = stored.astype(np.float64)
    norms = np.linalg.norm(rows, axis=1, keepdims=True)
    expected = rows / np.where(norms > 0, norms, 1)
    np.testing.assert_allclose(
        inputs.prepare(stored, "unit_l2", 3.0).numpy(), 3 * expected, rtol=1e-6
    )
    np.testing.assert_array_equal(
        inputs.prepare(stored, "none").numpy(), rows.astype(np.float32)
    )
    assert inputs.total_variance(expected) == pytest.approx(
        expected.var(axis=0).sum(), rel=1e-12
    )
    with refused_naming("N at least 1"):
        inputs.total_variance(expected[:0])


def test_a_norm_that_there_is_not_is_refused():
    rows = np.ones((3, 2), np.float32)
    with refused_naming("'foo'", "unit_l2_layernorm"):
        inputs.prepare(rows, "foo")
    with refused_naming("'foo'", "unit_l2_layernorm"):
        inputs.undo(rows, rows, "foo")


@pytest.mark.parametrize("norm", ["none", "unit_l2"])
def test_inputs_that_stay_on_disk_are_the_prepared_ones(norm, tmp_path, monkeypatch):
    stored = np.random.default_rng(0).normal(size=(50, 6)).astype(np.float16)
    np.save(tmp_path / "x.npy", stored)
    on_disk = np.load(tmp_path / "x.npy", mmap_mode="r")
    prepared = inputs.open_inputs(on_disk, norm, 1.7)
    assert isinstance(prepared, torch.Tensor)

    monkeypatch.setattr(inputs, "RESIDENT", 4 * 50 * 6 - 1)
    lazy = inputs.open_inputs(on_disk, norm, 1.7)
    assert isinstance(lazy, inputs.Inputs)
    assert len(lazy) == 50
    assert lazy.shape == (50, 6)
    rows = torch.tensor([3, 49, 0, 3])
    assert torch.equal(lazy[rows], prepared[rows])
    assert torch.equal(lazy[5:9], prepared[5:9])
    chunk_pairs = zip(lazy.split(16), prepared.split(16), strict=True)
    assert all(torch.equal(chunk, expected) for chunk, expected in chunk_pairs)
    assert inputs.total_variance(lazy) == inputs.total_variance(prepared)


@pytest.mark.parametrize("norm", ["none", "unit_l2"])
def test_a_part_of_a_map_is_not_read_as_the_files_own_rows(norm, tmp_path):
    stored = np.random.default_rng(0).normal(size=(50, 6)).astype(np.float16)
    prepared = inputs.prepare(stored, norm, 1.7)
    np.save(tmp_path / "rows.npy", stored)
    np.save(tmp_path / "columns.npy", np.asfortranarray(stored))
    last_rows = np.load(tmp_path / "rows.npy", mmap_mode="r")[20:]
    by_column = np.load(tmp_path / "columns.npy", mmap_mode="r")
    rows = torch.tensor([3, 19, 0, 3])
    for embeddings, first_row in ((last_rows, 20), (by_column, 0)):
        lazy = inputs.Inputs(embeddings, norm, 1.7, "cpu")
        assert torch.equal(lazy[rows], prepared[first_row + rows])


def test_inputs_of_a_file_that_was_cut_short_are_an_error(tmp_path):
    np.save(tmp_path / "x.npy", np.ones((50, 6), dtype=np.float16))
    on_disk = np.load(tmp_path / "x.npy", mmap_mode="r")
    lazy = inputs.Inputs(on_disk, "none", 1.0, "cpu")
    header_bytes, row_bytes = 128, 12
    with open(tmp_path / "x.npy", "rb+") as file:
        file.truncate(header_bytes + 49 * row_bytes)
    assert torch.equal(lazy[torch.tensor([48])], torch.ones(1, 6))
    for rows in (torch.tensor([49]), slice(40, 50)):
        with pytest.raises(OSError, match="ends before row 50"):
            lazy[rows]

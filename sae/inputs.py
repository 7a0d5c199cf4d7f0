"""From stored embeddings to the space the SAE works in."""

import numpy as np
import torch

_CHUNK = 65_536


def prepare(embeddings, input_norm, input_scale=1.0):
    """Normalise and scale embeddings: the model's input space.

    Args:
        embeddings: (N, d) array, any float type; read in chunks, so a memory map stays on disk.
        input_norm: 'none', 'unit_l2' or 'unit_l2_layernorm' (unit l2 here; the LayerNorm is part of the model).
        input_scale: the factor that every vector is multiplied with, after the norm.

    Returns:
        (N, d) float32 tensor.
    """
    out = torch.empty(embeddings.shape, dtype=torch.float32)
    for start in range(0, len(embeddings), _CHUNK):
        chunk = np.asarray(embeddings[start : start + _CHUNK], dtype=np.float64)
        if input_norm != "none":
            chunk = unit_rows(chunk)
        out[start : start + _CHUNK] = torch.from_numpy(chunk * input_scale)
    return out


def unit_rows(x):
    """(N, d) with every row divided by its l2 norm, in float64; a row of zeros stays zero."""
    x = np.asarray(x, dtype=np.float64)
    norm = np.linalg.norm(x, axis=1, keepdims=True)
    return x / np.where(norm > 0, norm, 1)


def total_variance(x):
    """sum over dimensions of the variance of (N, d), in float64: E || x - E x ||^2."""
    count, mean, square = 0, 0.0, 0.0
    for start in range(0, len(x), _CHUNK):
        chunk = np.asarray(x[start : start + _CHUNK], dtype=np.float64)
        # Chan et al. 1983: the pairwise update does not cancel, unlike E x^2 - (E x)^2.
        delta = chunk.mean(axis=0) - mean
        total = count + len(chunk)
        square += ((chunk - chunk.mean(axis=0)) ** 2).sum() + (delta**2).sum() * count * len(chunk) / total
        mean = mean + delta * len(chunk) / total
        count = total
    return square / count

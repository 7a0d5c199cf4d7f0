"""How an SAE behaves at other k than it was trained with (arXiv:2606.27321, Figs. 4 and 5)."""

import numpy as np
import torch

from sae.models.coder import gather_sum
from sae.scoring.metrics.reconstruction import from_sums

_CHUNK = 2048


def k_grid(k, m):
    """Inference-time k, ascending: half octaves from k/8 to 4k, as whole numbers from 1 to m, k among them."""
    return sorted({min(m, max(1, round(k * 2 ** (j / 2)))) for j in range(-6, 5)})


@torch.no_grad()
def nmse_by_k(sae, x, ks):
    """Normalised error 1 - R^2 at each inference-time k, from one encoding and one incremental decode.

    Args:
        x: (N, d) prepared inputs.
        ks: ascending.

    Returns:
        (len(ks),) float64.
    """
    mean = sum(part.cpu().double().sum(dim=0) for part in x.split(_CHUNK)) / len(x)
    residual = torch.zeros(len(ks), x.shape[1], dtype=torch.float64)
    variance = torch.zeros(x.shape[1], dtype=torch.float64)
    for part in x.split(_CHUNK):
        _, scale, shift = sae.standardise(part)
        values, indices = sae.encode(part, ks[-1])
        x_hat, done = sae.b_dec.expand_as(part), 0
        exact = part.cpu().double()
        variance += (exact - mean).square().sum(dim=0)
        for row, k in enumerate(ks):
            # Largest first: going from one k to the next only adds what lies between.
            x_hat = x_hat + gather_sum(values[:, done:k].contiguous(), indices[:, done:k].contiguous(), sae.W_dec)
            done = k
            undone = x_hat if scale is None else x_hat * scale + shift
            residual[row] += (exact - undone.cpu().double()).square().sum(dim=0)
    return np.array([from_sums(r.numpy(), variance.numpy(), 0.0).nmse for r in residual])


def ranks(k, m, count=64):
    """Ranks to report of a profile: about `count` of 1 to m, evenly on a log scale, and k."""
    return np.unique(np.append(np.geomspace(1, m, count).round().astype(int), k))


@torch.no_grad()
def rank_profile(sae, x):
    """Mean activation by rank: each sample's m activations sorted, largest first, then averaged. (m,) float64."""
    total = torch.zeros(len(sae.W_dec), dtype=torch.float64)
    for part in x.split(_CHUNK):
        a = sae.activations(sae.standardise(part)[0])
        total += a.sort(dim=1, descending=True).values.cpu().double().sum(dim=0)
    return (total / len(x)).numpy()

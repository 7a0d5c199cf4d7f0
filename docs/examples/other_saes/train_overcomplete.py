"""Train a Top-k SAE with Overcomplete on stored embeddings.

python train_overcomplete.py EMBEDDINGS.npy FILE.pt
"""

import sys

import numpy as np
import torch
from overcomplete.sae import TopKSAE, train_sae

torch.manual_seed(0)
x = torch.from_numpy(np.load(sys.argv[1]).astype(np.float32))
x = x / x.norm(dim=1, keepdim=True)  # `input_norm: unit_l2` of its method says so.
sae = TopKSAE(x.shape[1], nb_concepts=512, top_k=16, device="cpu")


def error(x, x_hat, pre_codes, codes, dictionary):
    """Return the mean squared error."""
    return (x - x_hat).square().mean()


loader = torch.utils.data.DataLoader(
    torch.utils.data.TensorDataset(x), batch_size=512, shuffle=True
)
train_sae(
    sae,
    loader,
    error,
    torch.optim.Adam(sae.parameters(), lr=5e-4),
    nb_epochs=40,
    device="cpu",
)
torch.save(sae.eval().state_dict(), sys.argv[2])

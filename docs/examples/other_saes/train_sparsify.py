"""Train a Top-k SAE of eai-sparsify on stored embeddings.

Its own trainer takes a language model, so the loop is ours. The model and the loss are
theirs, and so are Adam, its rate and the decoder's norm. Of their three optimisers the
default, sign descent with averaged weights, is not taken: its rate grows as dictionaries
shrink, and with 512 latents each step moves a weight by half of its size or more.

python train_sparsify.py EMBEDDINGS.npy FOLDER [STEPS]
"""

import sys

import numpy as np
import torch
from sparsify import SparseCoder, SparseCoderConfig

BATCH, LATENTS, K = 512, 512, 16
STEPS = int(sys.argv[3]) if len(sys.argv) > 3 else 1000

torch.manual_seed(0)
x = torch.from_numpy(np.load(sys.argv[1]).astype(np.float32))
sae = SparseCoder(x.shape[1], SparseCoderConfig(num_latents=LATENTS, k=K))
sae.b_dec.data = x.mean(0)
optimiser = torch.optim.Adam(sae.parameters(), lr=2e-4 / (LATENTS / 2**14) ** 0.5)
for _ in range(STEPS):
    sae.set_decoder_norm_to_unit_norm()
    sae(x[torch.randint(len(x), (BATCH,))]).fvu.backward()
    sae.remove_gradient_parallel_to_decoder_directions()
    optimiser.step()
    optimiser.zero_grad()
sae.set_decoder_norm_to_unit_norm()
sae.save_to_disk(sys.argv[2])

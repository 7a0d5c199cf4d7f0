"""Train a Top-k SAE of eai-sparsify on stored embeddings.

Its own trainer takes a language model, so the loop is ours: the model and the loss are
theirs, and so are the optimiser, its rate and the norm of the decoder by default.

python train_sparsify.py EMBEDDINGS.npy FOLDER
"""

import sys

import numpy as np
import torch
from schedulefree import ScheduleFreeWrapper
from sparsify import SparseCoder, SparseCoderConfig
from sparsify.sign_sgd import SignSGD

BATCH, STEPS, LATENTS, K = 512, 400, 512, 16

torch.manual_seed(0)
x = torch.from_numpy(np.load(sys.argv[1]).astype(np.float32))
sae = SparseCoder(x.shape[1], SparseCoderConfig(num_latents=LATENTS, k=K))
sae.b_dec.data = x.mean(0)
rate = 5e-3 / (LATENTS / 2**14) ** 0.5
optimiser = ScheduleFreeWrapper(SignSGD(sae.parameters(), lr=rate), momentum=0.95)
optimiser.train()
for _ in range(STEPS):
    sae.set_decoder_norm_to_unit_norm()
    sae(x[torch.randint(len(x), (BATCH,))]).fvu.backward()
    sae.remove_gradient_parallel_to_decoder_directions()
    optimiser.step()
    optimiser.zero_grad()
optimiser.eval()
sae.save_to_disk(sys.argv[2])

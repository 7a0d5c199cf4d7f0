"""Train a Top-k SAE with SAELens 6 on stored embeddings.

python train_saelens.py EMBEDDINGS.npy FOLDER
"""

import sys

import numpy as np
import torch
from sae_lens import TopKTrainingSAE, TopKTrainingSAEConfig
from sae_lens.config import LoggingConfig, SAETrainerConfig
from sae_lens.training.sae_trainer import SAETrainer

BATCH, STEPS, LATENTS, K = 512, 400, 512, 16


def batches(x):
    """Yield random batches without end."""
    while True:
        yield x[torch.randint(len(x), (BATCH,))]


torch.manual_seed(0)
x = torch.from_numpy(np.load(sys.argv[1]).astype(np.float32))
normalised = {"normalize_activations": "constant_norm_rescale"}
sae = TopKTrainingSAE(
    TopKTrainingSAEConfig(d_in=x.shape[1], d_sae=LATENTS, k=K, **normalised)
)
config = SAETrainerConfig(
    total_training_samples=BATCH * STEPS,
    train_batch_size_samples=BATCH,
    lr=1e-3,
    lr_end=1e-4,
    device="cpu",
    logger=LoggingConfig(log_to_wandb=False),
)
SAETrainer(config, sae, batches(x)).fit().save_inference_model(sys.argv[2])

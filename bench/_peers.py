"""Training steps of other libraries, one process each: `ENV/bin/python bench/_peers.py LIBRARY N D M K THREADS`.

`bench/train_step.py` starts it with the Python of an environment that holds the library. For each line on stdin it
makes one step and prints its milliseconds. Steps are those of the library's own trainer on batches in memory: no
logging, no saving. Only what is timed is imported from the library.
"""

import os
import sys
import time
from collections.abc import Callable

import torch

REQUIREMENTS = {
    "eai-sparsify": "eai-sparsify==1.3.3",
    "dictionary-learning": "dictionary-learning==0.1.0",
    "sae-lens": "sae-lens==6.54.0",
}
Step = Callable[[], object]


def eai_sparsify(x: torch.Tensor, m: int, k: int) -> Step:
    """Forward, FVU, backward, as `sparsify.trainer.Trainer.fit`; Adam, fused, which is faster than its default."""
    os.environ["SPARSIFY_DISABLE_TRITON"] = "1"
    from sparsify import SparseCoder
    from sparsify.config import SparseCoderConfig

    coder = SparseCoder(x.shape[1], SparseCoderConfig(num_latents=m, k=k))
    optimiser = torch.optim.Adam(coder.parameters(), lr=1e-4, fused=True)

    def step() -> None:
        if coder.cfg.normalize_decoder:
            coder.set_decoder_norm_to_unit_norm()
        out = coder(x)
        out.fvu.backward()
        if coder.cfg.normalize_decoder:
            coder.remove_gradient_parallel_to_decoder_directions()
        optimiser.step()
        optimiser.zero_grad()

    return step


def dictionary_learning(x: torch.Tensor, m: int, k: int) -> Step:
    """`TopKTrainer.update`; its AuxK bookkeeping is within."""
    from dictionary_learning.trainers.top_k import TopKTrainer

    trainer = TopKTrainer(steps=100_000, activation_dim=x.shape[1], dict_size=m, k=k, layer=0, lm_name="", device="cpu")
    return lambda: trainer.update(1, x)


def sae_lens(x: torch.Tensor, m: int, k: int, autocast: bool = False) -> Step:
    """`SAETrainer._train_step` of a Top-k SAE; its AuxK bookkeeping is within."""
    from sae_lens.config import LoggingConfig, SAETrainerConfig
    from sae_lens.saes.topk_sae import TopKTrainingSAE, TopKTrainingSAEConfig
    from sae_lens.training.sae_trainer import SAETrainer

    config = SAETrainerConfig(
        total_training_samples=10**9,
        train_batch_size_samples=len(x),
        lr=1e-4,
        lr_end=1e-5,
        autocast=autocast,
        logger=LoggingConfig(log_to_wandb=False),
    )
    sae = TopKTrainingSAE(TopKTrainingSAEConfig(d_in=x.shape[1], d_sae=m, k=k))
    trainer = SAETrainer(config, sae, iter(()))
    return lambda: trainer._train_step(sae, x)


STEPS: dict[str, Callable[[torch.Tensor, int, int], Step]] = {
    "eai-sparsify": eai_sparsify,
    "dictionary-learning": dictionary_learning,
    "sae-lens": sae_lens,
    "sae-lens autocast": lambda x, m, k: sae_lens(x, m, k, autocast=True),
}


def batch(n: int, d: int) -> torch.Tensor:
    """(n, d) unit rows: the same for all."""
    return torch.nn.functional.normalize(torch.randn(n, d, generator=torch.Generator().manual_seed(0)), dim=1)


def main(name: str, *numbers: str) -> None:
    """One step for each line on stdin."""
    n, d, m, k, threads = map(int, numbers)
    torch.set_num_threads(threads)
    answers, sys.stdout = sys.stdout, sys.stderr  # Libraries greet.
    step = STEPS[name](batch(n, d), m, k)
    for _ in sys.stdin:
        started = time.perf_counter()
        step()
        print(1e3 * (time.perf_counter() - started), file=answers, flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])

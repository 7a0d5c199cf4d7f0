"""Other libraries' training steps, one process each, with the Python of an environment that holds the library:

    ENV/bin/python bench/_peers.py time LIBRARY N D M K THREADS
    ENV/bin/python bench/_peers.py fit LIBRARY DATA M K THREADS BATCH STEPS LR

`time` makes one step for each line on stdin and prints its milliseconds (`bench/train_step.py`). `fit` trains on DATA
and prints, as JSON, seconds of training and the validation FVU after them, every few steps, and the share of latents
that then never fire on training images (`bench/time_to_fvu.py`). Steps are those of the library's own trainer on
batches in memory: no logging, no saving. Only what is timed is imported from the library.
"""

import functools
import json
import os
import sys
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import torch

REQUIREMENTS = {
    "eai-sparsify": "eai-sparsify==1.3.3",
    "dictionary-learning": "dictionary-learning==0.1.0",
    "sae-lens": "sae-lens==6.54.0",
}
EVERY = 10  # steps between looks at the validation FVU
DECAY = 0.2  # the share of steps, at the end, over which lr falls to 0, whoever trains


class Trainer(NamedTuple):
    """What trains: a step on a batch (N, d); of some rows their reconstruction, and which latents fire on them."""

    step: Callable[[torch.Tensor], object]
    reconstruct: Callable[[torch.Tensor], torch.Tensor]
    fires: Callable[[torch.Tensor], torch.Tensor]
    optimiser: torch.optim.Optimizer


def eai_sparsify(x: torch.Tensor, m: int, k: int, lr: float) -> Trainer:
    """Forward, FVU, backward, as `sparsify.trainer.Trainer.fit`; Adam, fused: about as fast as its default."""
    os.environ["SPARSIFY_DISABLE_TRITON"] = "1"
    from sparsify import SparseCoder
    from sparsify.config import SparseCoderConfig

    coder = SparseCoder(x.shape[1], SparseCoderConfig(num_latents=m, k=k))
    coder.b_dec.data = x.mean(dim=0)
    optimiser = torch.optim.Adam(coder.parameters(), lr=lr, fused=True)

    def step(x: torch.Tensor) -> None:
        if coder.cfg.normalize_decoder:
            coder.set_decoder_norm_to_unit_norm()
        out = coder(x)
        out.fvu.backward()
        if coder.cfg.normalize_decoder:
            coder.remove_gradient_parallel_to_decoder_directions()
        optimiser.step()
        optimiser.zero_grad()

    def fires(x: torch.Tensor) -> torch.Tensor:
        codes = coder.encode(x)
        return (
            torch.zeros(m).index_add(
                0, codes.top_indices.flatten(), codes.top_acts.flatten()
            )
            > 0
        )

    return Trainer(step, lambda x: coder(x).sae_out, fires, optimiser)


def dictionary_learning(x: torch.Tensor, m: int, k: int, lr: float) -> Trainer:
    """`TopKTrainer.update`; its AuxK bookkeeping is within."""
    from dictionary_learning.trainers.top_k import TopKTrainer

    names: dict[str, Any] = {
        "layer": 0,
        "lm_name": "",
        "device": "cpu",
        "warmup_steps": 0,
    }
    trainer = TopKTrainer(
        steps=100_000, activation_dim=x.shape[1], dict_size=m, k=k, lr=lr, **names
    )
    trainer.update(0, x)  # Its first step also sets the decoder's bias.
    ae, step = trainer.ae, functools.partial(trainer.update, 1)
    return Trainer(step, ae, lambda x: (ae.encode(x) > 0).any(dim=0), trainer.optimizer)


def sae_lens(
    x: torch.Tensor, m: int, k: int, lr: float, autocast: bool = False
) -> Trainer:
    """`SAETrainer._train_step` of a Top-k SAE; its AuxK bookkeeping is within."""
    from sae_lens.config import LoggingConfig, SAETrainerConfig
    from sae_lens.saes.topk_sae import TopKTrainingSAE, TopKTrainingSAEConfig
    from sae_lens.training.sae_trainer import SAETrainer

    config = SAETrainerConfig(
        total_training_samples=10**9,
        train_batch_size_samples=len(x),
        lr=lr,
        lr_end=lr,  # Asked for, whatever the schedule.
        autocast=autocast,
        logger=LoggingConfig(log_to_wandb=False),
    )
    sae = TopKTrainingSAE(TopKTrainingSAEConfig(d_in=x.shape[1], d_sae=m, k=k))
    trainer = SAETrainer(config, sae, iter(()))
    step = functools.partial(trainer._train_step, sae)
    return Trainer(
        step, sae, lambda x: (sae.encode(x) > 0).any(dim=0), trainer.optimizer
    )


MAKERS: dict[str, Callable[[torch.Tensor, int, int, float], Trainer]] = {
    "eai-sparsify": eai_sparsify,
    "dictionary-learning": dictionary_learning,
    "sae-lens": sae_lens,
    "sae-lens autocast": lambda x, m, k, lr: sae_lens(x, m, k, lr, autocast=True),
}


def batch(n: int, d: int) -> torch.Tensor:
    """(n, d) unit rows: the same for all."""
    return torch.nn.functional.normalize(
        torch.randn(n, d, generator=torch.Generator().manual_seed(0)), dim=1
    )


def timed(
    make: Callable[[torch.Tensor, int, int, float], Trainer], *numbers: str
) -> None:
    """One step for each line on stdin."""
    n, d, m, k, threads = map(int, numbers)
    torch.set_num_threads(threads)
    answers, sys.stdout = sys.stdout, sys.stderr  # Libraries greet.
    x = batch(n, d)
    trainer = make(x, m, k, 1e-4)
    for _ in sys.stdin:
        started = time.perf_counter()
        trainer.step(x)
        print(1e3 * (time.perf_counter() - started), file=answers, flush=True)


def fit(
    make: Callable[[torch.Tensor, int, int, float], Trainer], data: str, *numbers: str
) -> None:
    """Train for some steps; time that is spent looking does not count."""
    m, k, threads, size, steps = map(int, numbers[:-1])
    torch.set_num_threads(threads)
    answers, sys.stdout = sys.stdout, sys.stderr
    splits = torch.load(data)
    train, val = splits["train"], splits["val"]
    variance = (val - train.mean(dim=0)).square().sum()
    generator = torch.Generator().manual_seed(0)
    order = torch.cat(
        [
            torch.randperm(len(train), generator=generator)
            for _ in range(1 + size * steps // len(train))
        ]
    )
    lr = float(numbers[-1])
    trainer = make(train[order[:size]], m, k, lr)
    seen, seconds = [], 0.0
    for step, rows in enumerate(order.split(size)[:steps], 1):
        for group in trainer.optimiser.param_groups:
            group["lr"] = lr * min(1.0, (steps - step + 1) / (DECAY * steps))
        started = time.perf_counter()
        trainer.step(train[rows])
        seconds += time.perf_counter() - started
        if step % EVERY == 0 or step == steps:
            with torch.no_grad():
                seen.append(
                    (
                        seconds,
                        (
                            (val - trainer.reconstruct(val)).square().sum() / variance
                        ).item(),
                    )
                )
    with torch.no_grad():
        fired = torch.stack([trainer.fires(part) for part in train.split(2048)]).any(
            dim=0
        )
    print(
        json.dumps({"curve": seen, "dead": 1 - fired.float().mean().item()}),
        file=answers,
        flush=True,
    )


KINDS: dict[str, Callable[..., None]] = {"time": timed, "fit": fit}

if __name__ == "__main__":
    KINDS[sys.argv[1]](MAKERS[sys.argv[2]], *sys.argv[3:])

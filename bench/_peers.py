"""Other libraries' training steps, one process each.

The Python is that of an environment that holds the library:

    ENV/bin/python bench/_peers.py time LIBRARY N D M K THREADS
    ENV/bin/python bench/_peers.py fit LIBRARY DATA M K THREADS BATCH STEPS LR

`time` makes one step for each line on stdin and prints its milliseconds
(`performance_training.py step`). `fit` trains on DATA and prints, as JSON, seconds of
training and the validation FVU after them, every few steps, and the share of latents
that then never fire on training images (`performance_training.py time-to-fvu`). Steps
are those of the library's own trainer on batches in memory: no logging, no saving. Only
what is timed is imported from the library.
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
# The share of steps, at the end, over which lr falls to 0, whoever trains.
DECAY = 0.2


class Trainer(NamedTuple):
    """A trainer of an SAE.

    Attributes:
        step: Takes a batch (n, d), and makes a step.
        reconstruct: Takes rows (n, d), and returns their reconstruction.
        fires: Takes rows (n, d), and returns (m,) which latents fire on some.
        set_rate: Takes the learning rate of the next step, which a schedule says.
    """

    step: Callable[[torch.Tensor], object]
    reconstruct: Callable[[torch.Tensor], torch.Tensor]
    fires: Callable[[torch.Tensor], torch.Tensor]
    set_rate: Callable[[float], None]


def set_rate_of(optimiser: torch.optim.Optimizer, rate: float) -> None:
    """Set the learning rate of an optimiser of PyTorch."""
    for group in optimiser.param_groups:
        group["lr"] = rate


def eai_sparsify(x: torch.Tensor, m: int, k: int, lr: float) -> Trainer:
    """Make a step of eai-sparsify, as `sparsify.trainer.Trainer.fit`.

    Its optimiser is Adam, fused: about as fast as the library's default.
    """
    os.environ["SPARSIFY_DISABLE_TRITON"] = "1"
    from sparsify import SparseCoder
    from sparsify.config import SparseCoderConfig

    coder = SparseCoder(x.shape[1], SparseCoderConfig(num_latents=m, k=k))
    coder.b_dec.data = x.mean(dim=0)
    optimiser = torch.optim.Adam(coder.parameters(), lr=lr, fused=True)

    def step(x: torch.Tensor) -> None:
        if coder.cfg.normalize_decoder:
            coder.set_decoder_norm_to_unit_norm()
        forward_output = coder(x)
        forward_output.fvu.backward()
        if coder.cfg.normalize_decoder:
            coder.remove_gradient_parallel_to_decoder_directions()
        optimiser.step()
        optimiser.zero_grad()

    def fires(x: torch.Tensor) -> torch.Tensor:
        codes = coder.encode(x)
        indices = codes.top_indices.flatten()
        total = torch.zeros(m).index_add(0, indices, codes.top_acts.flatten())
        return total > 0

    set_rate = functools.partial(set_rate_of, optimiser)
    return Trainer(step, lambda x: coder(x).sae_out, fires, set_rate)


def dictionary_learning(x: torch.Tensor, m: int, k: int, lr: float) -> Trainer:
    """Make a step of `TopKTrainer.update`, with its AuxK bookkeeping."""
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
    ae = trainer.ae
    step = functools.partial(trainer.update, 1)
    set_rate = functools.partial(set_rate_of, trainer.optimizer)
    return Trainer(step, ae, lambda x: (ae.encode(x) > 0).any(dim=0), set_rate)


def sae_lens(
    x: torch.Tensor, m: int, k: int, lr: float, autocast: bool = False
) -> Trainer:
    """Make a step of `SAETrainer._train_step`, a Top-k SAE, with AuxK's bookkeeping."""
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
    set_rate = functools.partial(set_rate_of, trainer.optimizer)
    return Trainer(step, sae, lambda x: (sae.encode(x) > 0).any(dim=0), set_rate)


MAKERS: dict[str, Callable[[torch.Tensor, int, int, float], Trainer]] = {
    "eai-sparsify": eai_sparsify,
    "dictionary-learning": dictionary_learning,
    "sae-lens": sae_lens,
    "sae-lens autocast": lambda x, m, k, lr: sae_lens(x, m, k, lr, autocast=True),
}


def draw_batch(n: int, d: int) -> torch.Tensor:
    """Draw (n, d) unit rows, the same for all."""
    generator = torch.Generator().manual_seed(0)
    return torch.nn.functional.normalize(torch.randn(n, d, generator=generator), dim=1)


def time_steps(
    make: Callable[[torch.Tensor, int, int, float], Trainer], *numbers: str
) -> None:
    """Make one step for each line on stdin, and print its milliseconds.

    Args:
        make: Takes a batch, m, k and the learning rate.
        numbers: n, d, m, k, threads.
    """
    n, d, m, k, threads = map(int, numbers)
    torch.set_num_threads(threads)
    # Libraries greet on stdout.
    answers = sys.stdout
    sys.stdout = sys.stderr
    x = draw_batch(n, d)
    trainer = make(x, m, k, 1e-4)
    for _ in sys.stdin:
        started = time.perf_counter()
        trainer.step(x)
        print(1e3 * (time.perf_counter() - started), file=answers, flush=True)


def fit(
    make: Callable[[torch.Tensor, int, int, float], Trainer],
    embeddings_file: str,
    *numbers: str,
) -> None:
    """Train for some steps, and print the curve; time spent on looking does not count.

    Args:
        make: Takes a batch, m, k and the learning rate.
        embeddings_file: {"train": (rows, d), "val": (rows, d)}, saved by torch.
        numbers: m, k, threads, images a step, steps, learning rate.
    """
    m, k, threads, batch_size, steps = map(int, numbers[:-1])
    peak_rate = float(numbers[-1])
    torch.set_num_threads(threads)
    # Libraries greet on stdout.
    answers = sys.stdout
    sys.stdout = sys.stderr
    splits = torch.load(embeddings_file)
    train = splits["train"]
    val = splits["val"]
    variance = (val - train.mean(dim=0)).square().sum()

    generator = torch.Generator().manual_seed(0)
    epochs = 1 + batch_size * steps // len(train)
    order = torch.cat(
        [torch.randperm(len(train), generator=generator) for _ in range(epochs)]
    )
    trainer = make(train[order[:batch_size]], m, k, peak_rate)
    curve = []
    seconds = 0.0
    for step, rows in enumerate(order.split(batch_size)[:steps], 1):
        share_of_peak = min(1.0, (steps - step + 1) / (DECAY * steps))
        trainer.set_rate(peak_rate * share_of_peak)
        started = time.perf_counter()
        trainer.step(train[rows])
        seconds += time.perf_counter() - started
        if step % EVERY == 0 or step == steps:
            with torch.no_grad():
                residual = (val - trainer.reconstruct(val)).square().sum()
            curve.append((seconds, (residual / variance).item()))

    with torch.no_grad():
        parts = [trainer.fires(part) for part in train.split(2048)]
    dead = 1 - torch.stack(parts).any(dim=0).float().mean().item()
    print(json.dumps({"curve": curve, "dead": dead}), file=answers, flush=True)


KINDS: dict[str, Callable[..., None]] = {"time": time_steps, "fit": fit}

if __name__ == "__main__":
    KINDS[sys.argv[1]](MAKERS[sys.argv[2]], *sys.argv[3:])

"""What is timed, one process each: training steps, trainings, and loops that embed.

The Python is that of an environment that holds the library:

    ENV/bin/python bench/_workers.py step LIBRARY N D M K THREADS
    ENV/bin/python bench/_workers.py fit LIBRARY DATA M K THREADS BATCH STEPS LR
    python bench/_workers.py embed LOOP MODEL PIXELS FOLDER CORES

`step` and `embed` do what they do once for each line on stdin, and print its seconds.
`fit` trains on DATA and prints, as JSON, seconds of training and the validation FVU
after them, every few steps, and the share of latents that then never fire on training
images. Steps are those of the library's own trainer on batches in memory: no logging,
no saving. Ours are named "METHOD PRECISION", or "METHOD PRECISION former" with the
recipe of before. Only what is timed is imported from a library.
"""

import functools
import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import torch

REQUIREMENTS = {
    "eai-sparsify": "eai-sparsify==1.3.3",
    "dictionary-learning": "dictionary-learning==0.1.0",
    "sae-lens": "sae-lens==6.54.0",
}
ANSWERS = sys.stdout
EVERY = 10  # steps between looks at the validation FVU
# The share of steps, at the end, over which lr falls to 0, whoever trains.
DECAY = 0.2
# The values of the recipe `study` of before.
FORMER = {
    "encoder_scale": 1.0,
    "adam_beta1": 0.9,
    "adam_beta2": 0.999,
    "auxk_alpha": 0.125,
    "dead_after": 5000,
}


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


def ours(
    x: torch.Tensor, m: int, k: int, lr: float, method: str, recipe: str, **changed: Any
) -> Trainer:
    """Make the step of `sae.training.loop.train`, with AuxK's bookkeeping.

    Args:
        x: (n, d) a batch, which decides d and the initial bias.
        m: Latents.
        k: The budget.
        lr: The learning rate.
        method: One of the config's methods.
        recipe: One of its recipes.
        changed: Options of the recipe with other values.
    """
    from sae.config.load import read_config
    from sae.core import registry
    from sae.models.coder import Coder
    from sae.training.loop import Adam, update
    from sae.training.recipe import Settings

    torch.set_deterministic_debug_mode("error")
    deterministic: Any = torch.utils.deterministic
    deterministic.fill_uninitialized_memory = False

    config = read_config(Path(__file__).parent.parent / "config.yaml")
    entry = config.methods[method]
    options = {
        **config.training[recipe].model_dump(),
        **entry.recipe,
        **changed,
        "m": m,
        "k": k,
        "lr": lr,
        "seed": 0,
        "options": entry.options,
        "objective": entry.objective,
        "penalty": entry.penalty,
        "mask": entry.mask,
    }
    options["auxk_k"] = min(options["auxk_k"], m)
    penalty = None
    if entry.penalty:
        options["lam"] = 1e-3
        penalty = registry.load("penalty", entry.penalty)
    settings = Settings(**options)
    coder = Coder(x.shape[1], m, k)
    coder.initialise(x.mean(dim=0), seed=0, encoder_scale=settings.encoder_scale)
    optimiser = Adam(coder.parameters(), settings)
    objective_entry = registry.load("objective", entry.objective)
    objective = objective_entry.Objective(
        coder, settings, settings.of(objective_entry), penalty
    )

    def step(x: torch.Tensor) -> None:
        loss, _ = objective.loss(x, 1)
        update(coder, optimiser, loss)

    def fires(x: torch.Tensor) -> torch.Tensor:
        return torch.from_numpy(coder.firing_counts(x) > 0)

    def set_rate(rate: float) -> None:
        optimiser.lr = rate

    return Trainer(step, lambda x: coder.decode(coder.encode(x)), fires, set_rate)


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

    names: dict[str, Any] = {"layer": 0, "lm_name": "", "device": "cpu"}
    sizes = {"activation_dim": x.shape[1], "dict_size": m, "k": k}
    trainer = TopKTrainer(steps=100_000, warmup_steps=0, lr=lr, **sizes, **names)
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


OTHERS: dict[str, Callable[[torch.Tensor, int, int, float], Trainer]] = {
    "eai-sparsify": eai_sparsify,
    "dictionary-learning": dictionary_learning,
    "sae-lens": sae_lens,
    "sae-lens autocast": functools.partial(sae_lens, autocast=True),
}


def time_steps(library: str, *numbers: str) -> None:
    """Make a step for each line on stdin, on the same batch of unit rows.

    Args:
        library: One of `OTHERS`, or ours.
        numbers: n, d, m, k, threads.
    """
    n, d, m, k, threads = map(int, numbers)
    torch.set_num_threads(threads)
    generator = torch.Generator().manual_seed(0)
    x = torch.nn.functional.normalize(torch.randn(n, d, generator=generator), dim=1)
    if library in OTHERS:
        trainer = OTHERS[library](x, m, k, 1e-4)
    else:
        method, precision, *_ = library.split()
        # As long as no latent is dead.
        changed = {"precision": precision, "dead_after": 10**9}
        trainer = ours(x, m, k, 1e-4, method, "paper", **changed)
    time_each_line(lambda: trainer.step(x))


def time_each_line(work: Callable[[], object]) -> None:
    """Work for each line on stdin, and print the seconds that it took."""
    for _ in sys.stdin:
        started = time.perf_counter()
        work()
        print(time.perf_counter() - started, file=ANSWERS, flush=True)


def fit(library: str, embeddings_file: str, *numbers: str) -> None:
    """Train for some steps, and print the curve; time spent on looking does not count.

    Args:
        library: One of `OTHERS`, or ours.
        embeddings_file: {"train": (rows, d), "val": (rows, d)}, saved by torch.
        numbers: m, k, threads, images a step, steps, learning rate.
    """
    m, k, threads, batch_size, steps = map(int, numbers[:-1])
    peak_rate = float(numbers[-1])
    torch.set_num_threads(threads)
    splits = torch.load(embeddings_file)
    train = splits["train"]
    val = splits["val"]
    variance = (val - train.mean(dim=0)).square().sum()

    generator = torch.Generator().manual_seed(0)
    epochs = 1 + batch_size * steps // len(train)
    order = torch.cat(
        [torch.randperm(len(train), generator=generator) for _ in range(epochs)]
    )
    first = train[order[:batch_size]]
    if library in OTHERS:
        trainer = OTHERS[library](first, m, k, peak_rate)
    else:
        method, precision, *former = library.split()
        changed = {"precision": precision, **(FORMER if former else {})}
        trainer = ours(first, m, k, peak_rate, method, "study", **changed)
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
    print(json.dumps({"curve": curve, "dead": dead}), file=ANSWERS, flush=True)


def embed(loop: str, model_name: str, *words: str) -> None:
    """Embed all images of a folder for each line on stdin; write them to LOOP.npy.

    Weights are random: times do not depend on them.

    Args:
        loop: "ours", `sae.data.forward.embed_images` in batches of 16 on as many
            threads as cores, what it does to the model before its first batch included;
            or "plain", the loop one writes first: Pillow, float32, batches of 128,
            decoding in between, the model as timm makes it, all cores.
        model_name: Of timm.
        words: Pixels of the input (a ViT keeps its own), folder of images, cores.
    """
    import numpy as np
    import timm
    from PIL import Image

    from sae.data import archives
    from sae.data.backbone import Backbone
    from sae.data.backbones.timm import preprocessing
    from sae.data.forward import embed_images

    pixels, folder, cores = words
    torch.set_num_threads(int(cores))
    torch.manual_seed(0)
    model = timm.create_model(model_name, num_classes=0).eval()
    transform = preprocessing(model, None if "vit" in model_name else int(pixels))
    names = sorted(
        path.name for path in Path(folder).iterdir() if path.suffix != ".npy"
    )

    def embed_as_ours() -> np.ndarray:
        # Made anew, so that folding it counts.
        backbone = Backbone(model, transform)
        opener = archives.opener(folder)
        batches = embed_images(
            backbone, opener, names, batch_size=16, device="cpu", workers=0
        )
        return np.concatenate(list(batches))

    @torch.no_grad()
    def embed_plainly() -> np.ndarray:
        parts = []
        for start in range(0, len(names), 128):
            images = [
                Image.open(f"{folder}/{name}").convert("RGB")
                for name in names[start : start + 128]
            ]
            parts.append(model(torch.stack([*map(transform, images)])).numpy())
        return np.concatenate(parts)

    embed_all = embed_as_ours if loop == "ours" else embed_plainly
    time_each_line(lambda: np.save(Path(folder) / f"{loop}.npy", embed_all()))


KINDS: dict[str, Callable[..., None]] = {"step": time_steps, "fit": fit, "embed": embed}

if __name__ == "__main__":
    # Libraries greet on stdout, some when they are imported.
    sys.stdout = sys.stderr
    KINDS[sys.argv[1]](*sys.argv[2:])

"""A paper-sized step on an accelerator: `python bench/gpu.py`.

For the baseline, both regularizers and BatchTopK at N = 2048, d = 1024, m = 8192: ms a step and samples/s in float32,
in bfloat16 and, with `--compile`, compiled. The inputs are prepared and lie on the device. On CUDA it also checks that
a step never waits for the device. Then it times the forward pass of the paper's largest timm backbone (random weights)
in images/s, and works out from both the hours that the whole paper takes. So it measures what
workflow/resources/costs.yaml assumes.
"""

import argparse
import statistics
import time
from typing import Any, cast

import timm
import torch
from sae_workflow import costs
from train_step import METHODS, ROOT, settings_of

from sae.config.load import read_config
from sae.models.coder import Coder
from sae.training import step as stepping
from sae.training.loop import update

TINY = [
    "--device",
    "cpu",
    "--n",
    "32",
    "--d",
    "16",
    "--m",
    "64",
    "--k",
    "4",
    "--steps",
    "2",
    "--rows",
    "200",
]
TINY += ["--backbone", "test_vit", "--batch", "2", "--size", "160"]


def main() -> None:
    """Print all figures."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--device", default="cuda", help="cuda, mps or cpu")
    for name, default in (
        ("n", 2048),
        ("d", 1024),
        ("m", 8192),
        ("k", 64),
        ("steps", 50),
        ("rows", 200_000),
    ):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument(
        "--compile", action="store_true", help="also through torch.compile"
    )
    parser.add_argument("--backbone", default="vit_large_patch16_224")
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--size", type=int, default=224, help="pixels of an image")
    parser.add_argument(
        "--tiny", action="store_true", help="seconds on a CPU, to see that it runs"
    )
    a = parser.parse_args()
    a = parser.parse_args(TINY) if a.tiny else a
    card = torch.cuda.get_device_name() if a.device == "cuda" else a.device
    print(
        f"{card}, torch {torch.__version__}, N {a.n}, d {a.d}, m {a.m}, k {a.k}; median of {a.steps} steps"
    )
    x = torch.nn.functional.normalize(torch.randn(a.rows, a.d, device=a.device), dim=1)
    ms = {}
    for precision in ("float32", "bfloat16"):
        for compiled in (False, True) if a.compile else (False,):
            for method in METHODS:
                ms[precision, compiled, method] = step(
                    a, x, method, precision, compiled
                )
                name = f"{precision}{', compiled' if compiled else ''}"
                print(
                    f"  {name:20} {method:15} {1e3 * ms[precision, compiled, method]:8.2f} ms",
                    end="",
                )
                print(
                    f" {a.n / ms[precision, compiled, method]:10,.0f} samples/s",
                    flush=True,
                )
    rate = embed(a)
    print(f"  {a.backbone}, bfloat16, batch {a.batch}: {rate:,.0f} images/s")
    own = [
        method
        for method in METHODS
        if method in read_config(ROOT / "config.yaml").experiments["paper"].methods
    ]
    whole_paper(
        {
            p: statistics.mean(ms[p, False, m] for m in own)
            for p in ("float32", "bfloat16")
        },
        rate,
    )


def wait(device: str) -> None:
    """Until the device has done what it was given."""
    if device == "cuda":
        torch.cuda.synchronize()
    elif device == "mps":
        torch.mps.synchronize()


def step(
    a: argparse.Namespace, x: torch.Tensor, method: str, precision: str, compiled: bool
) -> float:
    """Median seconds of a training step, as `sae.training.loop.train` makes it."""
    s, entries = settings_of(method, "paper", m=a.m, k=a.k, precision=precision)
    coder = Coder(a.d, a.m, a.k).to(a.device)
    coder.initialise(x[:1000].mean(dim=0), seed=0)
    optimiser = torch.optim.Adam(coder.parameters(), lr=1e-4, eps=6.25e-10, fused=True)
    objective = stepping.start(coder, s, *entries)
    loss_of = torch.compile(objective.loss) if compiled else objective.loss
    order = torch.randperm(a.rows, device=a.device).split(a.n)
    seconds = []
    for number in range(a.steps + 5):
        batch = x[order[number % (len(order) - 1)]]
        wait(a.device)
        started = time.perf_counter()
        watched = a.device == "cuda" and number >= 5
        if watched:
            torch.cuda.set_sync_debug_mode(
                "error"
            )  # A step that waits for the device is an error.
        loss, _ = loss_of(batch, 0)
        update(coder, optimiser, loss)
        if watched:
            torch.cuda.set_sync_debug_mode("default")
        wait(a.device)
        seconds.append(time.perf_counter() - started)
    return statistics.median(seconds[5:])


@torch.inference_mode()
def embed(a: argparse.Namespace) -> float:
    """Images per second of a backbone's forward pass."""
    model = cast(
        Any, timm.create_model(a.backbone, num_classes=0).eval()
    )  # torch's stub lacks `memory_format`.
    model.to(a.device, memory_format=torch.channels_last)
    images = torch.randn(a.batch, 3, a.size, a.size, device=a.device).contiguous(
        memory_format=torch.channels_last
    )
    seconds = []
    for _ in range(8):
        wait(a.device)
        started = time.perf_counter()
        with torch.autocast(a.device, torch.bfloat16):
            model(images)
        wait(a.device)
        seconds.append(time.perf_counter() - started)
    return a.batch / statistics.median(seconds[3:])


def whole_paper(seconds_a_step: dict[str, float], images_a_second: float) -> None:
    """The hours of the experiment `paper` at these rates."""
    config = read_config(ROOT / "config.yaml")
    embeddings, _ = costs.list_embeddings(config, "paper")
    recipe = config.training[config.experiments["paper"].training]
    steps = sum(
        costs.count_saes(plan) * recipe.steps_on(embedding.images_by_split["train"])
        for embedding in embeddings
        for plan in costs.list_plans_on(config, "paper", embedding)
    )
    images = sum(embedding.dataset.image_count for embedding in embeddings)
    for precision, seconds in seconds_a_step.items():
        print(
            f"  paper, {precision}: {steps:,} steps, {steps * seconds / 3600:,.1f} hours of training",
            end="",
        )
        print(
            f"; {images:,} embeddings, {images / images_a_second / 3600:,.1f} hours if all took as long as this one's"
        )


if __name__ == "__main__":
    main()

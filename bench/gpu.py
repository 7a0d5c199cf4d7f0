"""A paper-sized step on an accelerator: `python bench/gpu.py`.

For the baseline and both regularizers at N = 2048, d = 1024, m = 8192: ms a step and samples/s in float32, in bfloat16
and compiled, on prepared inputs that lie on the device; on CUDA also that a step never waits for the device. Then the
forward pass of the paper's largest timm backbone (random weights) in images/s, and from both the hours that the whole
paper takes: what is assumed in workflow/resources/costs.yaml, measured.
"""

import argparse
import statistics
import time

import timm
import torch
import yaml
from sae_workflow import plan

from sae.core import registry
from sae.models.coder import TopKSAE
from sae.training.loop import Settings, objective, update

METHODS = ("none", "off_support_l1", "l1_l2_ratio")


def main():
    """Print all figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda", help="cuda, mps or cpu")
    for name, default in (("n", 2048), ("d", 1024), ("m", 8192), ("k", 64), ("steps", 50), ("rows", 200_000)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--compile", action="store_true", help="also through torch.compile")
    parser.add_argument("--backbone", default="vit_large_patch16_224")
    parser.add_argument("--batch", type=int, default=256)
    a = parser.parse_args()
    card = torch.cuda.get_device_name() if a.device == "cuda" else a.device
    print(f"{card}, torch {torch.__version__}, N {a.n}, d {a.d}, m {a.m}, k {a.k}; median of {a.steps} steps")
    x = torch.nn.functional.normalize(torch.randn(a.rows, a.d, device=a.device), dim=1)
    ms = {}
    for precision in ("float32", "bfloat16"):
        for compiled in (False, True) if a.compile else (False,):
            for method in METHODS:
                ms[precision, compiled, method] = step(a, x, method, precision, compiled)
                name = f"{precision}{', compiled' if compiled else ''}"
                print(f"  {name:20} {method:15} {1e3 * ms[precision, compiled, method]:8.2f} ms", end="")
                print(f" {a.n / ms[precision, compiled, method]:10,.0f} samples/s", flush=True)
    rate = embed(a)
    print(f"  {a.backbone}, bfloat16, batch {a.batch}: {rate:,.0f} images/s")
    whole_paper({p: statistics.mean(ms[p, False, m] for m in METHODS) for p in ("float32", "bfloat16")}, rate)


def wait(device):
    """Until the device has done what it was given."""
    if device == "cuda":
        torch.cuda.synchronize()
    elif device == "mps":
        torch.mps.synchronize()


def step(a, x, method, precision, compiled):
    """Median seconds of a training step, as `sae.training.loop.train` makes it."""
    settings = dict(m=a.m, k=a.k, lam=1e-3, mask="batch_active", seed=0, epochs=1, batch_size=a.n, lr=1e-4)
    settings |= dict(adam_eps=6.25e-10, decay_fraction=0.2, auxk_alpha=1 / 32, auxk_k=512, dead_after=10**6)
    settings = Settings(**settings, input_norm="unit_l2", tied=False, log_every=100, precision=precision)
    penalty = None if method == "none" else registry.load("sae.training.penalties", method).penalty
    sae = TopKSAE(a.d, a.m, a.k).to(a.device)
    sae.initialise(x[:1000].mean(dim=0), seed=0)
    optimiser = torch.optim.Adam(sae.parameters(), lr=1e-4, eps=6.25e-10, fused=True)
    loss_of = torch.compile(objective) if compiled else objective
    since = torch.zeros(a.m, dtype=torch.int64, device=a.device)
    order = torch.randperm(a.rows, device=a.device).split(a.n)
    seconds = []
    for number in range(a.steps + 5):
        batch = x[order[number % (len(order) - 1)]]
        wait(a.device)
        started = time.perf_counter()
        watched = a.device == "cuda" and number >= 5
        if watched:
            torch.cuda.set_sync_debug_mode("error")  # A step that waits for the device is an error.
        loss, _, since = loss_of(sae, batch, settings, penalty, since)
        update(sae, optimiser, loss)
        if watched:
            torch.cuda.set_sync_debug_mode("default")
        wait(a.device)
        seconds.append(time.perf_counter() - started)
    return statistics.median(seconds[5:])


@torch.inference_mode()
def embed(a):
    """Images per second of a backbone's forward pass."""
    model = timm.create_model(a.backbone, num_classes=0).eval().to(a.device, memory_format=torch.channels_last)
    images = torch.randn(a.batch, 3, 224, 224, device=a.device).contiguous(memory_format=torch.channels_last)
    seconds = []
    for _ in range(8):
        wait(a.device)
        started = time.perf_counter()
        with torch.autocast(a.device, torch.bfloat16):
            model(images)
        wait(a.device)
        seconds.append(time.perf_counter() - started)
    return a.batch / statistics.median(seconds[3:])


def whole_paper(seconds_a_step, images_a_second):
    """The hours of the experiment `paper` at these rates."""
    with open("config.yaml") as file:
        config = yaml.safe_load(file)
    cells, _ = plan.cells(config, "paper")
    steps = sum(
        sum(plan.saes(bank)) * bank["training"]["epochs"] * (cell.rows["train"] // bank["training"]["batch_size"])
        for cell in cells
        for bank in plan.plans_of(cell, config, "paper")
    )
    images = sum(sum(cell.rows.values()) for cell in cells)
    for precision, seconds in seconds_a_step.items():
        print(f"  paper, {precision}: {steps:,} steps, {steps * seconds / 3600:,.1f} hours of training", end="")
        print(
            f"; {images:,} embeddings, {images / images_a_second / 3600:,.1f} hours if all took as long as this one's"
        )


if __name__ == "__main__":
    main()

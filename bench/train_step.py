"""Time one training step against a plain one: dense decode, dense autograd penalties, the same optimiser.

`python bench/train_step.py [--threads 1] [--m 512 --d 320 --n 512]`. The two are timed in turn, step by step, so that a
machine whose speed drifts slows both; the ratio of the medians is the figure to quote.
"""

import argparse
import statistics
import time
from pathlib import Path

import torch
import yaml

from sae.core import registry
from sae.models.coder import TopKSAE
from sae.training.loop import Settings, objective, update

ROOT = Path(__file__).parent.parent


def plain_objective(sae, x, s, name):
    """The loss as the formulas stand: a dense code, dense products, autograd for all."""
    a = torch.relu((x - sae.b_dec) @ sae.W_enc + sae.b_enc)
    values, indices = a.topk(s.k, dim=1)
    z = torch.zeros_like(a).scatter(1, indices, values)
    loss = (x - z @ sae.W_dec - sae.b_dec).square().sum(dim=1).mean()
    mask = (z > 0).any(dim=0).float()
    if name == "off_support_l1":
        loss = loss + s.lam * (mask * (a - z)).abs().sum(dim=1).mean()
    elif name == "l1_l2_ratio":
        masked = mask * a
        loss = loss + s.lam * (masked.abs().sum(dim=1) / masked.norm(dim=1).clamp_min(1e-12)).mean()
    return loss


def main():
    """Print a row per k and method: median ms of both steps, and their ratio."""
    parser = argparse.ArgumentParser(description=__doc__)
    for name, default in (("threads", 1), ("n", 512), ("m", 512), ("d", 320), ("steps", 60)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--k", type=int, nargs="+", default=[8, 32])
    a = parser.parse_args()
    torch.set_num_threads(a.threads)
    recipe = yaml.safe_load((ROOT / "config.yaml").read_text())["training"]["small"]
    recipe = {key: recipe[key] for key in Settings.__dataclass_fields__ if key in recipe}
    x = torch.nn.functional.normalize(torch.randn(a.n, a.d, generator=torch.Generator().manual_seed(0)), dim=1)
    print(f"N {a.n}, d {a.d}, m {a.m}, {a.threads} thread(s), torch {torch.__version__}; median of {a.steps} steps")
    print(f"{'k':>4} {'method':15} {'plain ms':>9} {'ours ms':>9} {'plain/ours':>11}")
    for k in a.k:
        for name in ("none", "off_support_l1", "l1_l2_ratio"):
            s = Settings(**(recipe | {"m": a.m, "k": k}), lam=1e-3, mask="batch_active", seed=0)
            penalty = None if name == "none" else registry.load("sae.training.penalties", name).penalty
            times = {"plain": [], "ours": []}
            models = {which: TopKSAE(a.d, a.m, k) for which in times}
            optimisers = {}
            for which, sae in models.items():
                sae.initialise(x.mean(dim=0), seed=0)
                optimisers[which] = torch.optim.Adam(sae.parameters(), lr=1e-4, fused=which == "ours")
            since = torch.zeros(a.m, dtype=torch.int64)
            for _ in range(a.steps + 5):
                for which, sae in models.items():
                    start = time.perf_counter()
                    if which == "ours":
                        loss, _, since = objective(sae, x, s, penalty, since.clamp_max(0))
                    else:
                        loss = plain_objective(sae, x, s, name)
                    update(sae, optimisers[which], loss)
                    times[which].append(1e3 * (time.perf_counter() - start))
            plain, ours = (statistics.median(times[which][5:]) for which in ("plain", "ours"))
            print(f"{k:4d} {name:15} {plain:9.2f} {ours:9.2f} {plain / ours:11.2f}")


if __name__ == "__main__":
    main()

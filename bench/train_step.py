"""Time one training step of each method against a plain one: dense decode, dense autograd penalties, Adam not fused.

`python bench/train_step.py [--threads 1] [--m 512 --d 320 --n 512]`. The two are timed in turn, step by step, so that a
machine whose speed drifts slows both. Quote the ratio of the medians. `--tiny` takes seconds, to see that it runs.
"""

import argparse
import statistics
import time
from pathlib import Path
from types import ModuleType

import torch

from sae.config.load import read
from sae.core import registry
from sae.models.coder import Coder
from sae.training import step
from sae.training.loop import update
from sae.training.settings import Settings

ROOT = Path(__file__).parent.parent
METHODS = ("topk", "reg1", "reg2", "batch_topk")
TINY = ["--n", "32", "--m", "64", "--d", "16", "--steps", "3", "--k", "4"]
Entries = tuple[ModuleType, ModuleType | None]  # An objective and a penalty.


def settings_of(name: str, recipe: str, **changed: object) -> tuple[Settings, Entries]:
    """Settings of a method of config.yaml, by one of its recipes, and the modules of its entries."""
    config = read(ROOT / "config.yaml")
    method = config.methods[name]
    values = config.training[recipe].model_dump() | method.recipe | {"seed": 0, "options": method.options}
    values |= {"objective": method.objective, "penalty": method.penalty, "mask": method.mask}
    s = Settings(**values | ({"lam": 1e-3} if method.penalty else {}) | changed)
    return s, (registry.load("objective", s.objective), registry.load("penalty", s.penalty) if s.penalty else None)


def plain_loss(coder: Coder, x: torch.Tensor, s: Settings) -> torch.Tensor:
    """The loss as the formulas stand: a dense code, dense products, autograd for all."""
    a = torch.relu((x - coder.b_dec) @ coder.W_enc + coder.b_enc)
    rows, k = (a.flatten()[None], s.k * len(a)) if s.objective == "batch_topk" else (a, s.k)
    values, indices = rows.topk(k, dim=1)
    z = torch.zeros_like(rows).scatter(1, indices, values).reshape(a.shape)
    loss = (x - z @ coder.W_dec - coder.b_dec).square().sum(dim=1).mean()
    mask, lam = (z > 0).any(dim=0).float(), s.lam or 0.0
    if s.penalty == "off_support_l1":
        loss = loss + lam * (mask * (a - z)).abs().sum(dim=1).mean()
    elif s.penalty == "l1_l2_ratio":
        masked = mask * a
        loss = loss + lam * (masked.abs().sum(dim=1) / masked.norm(dim=1).clamp_min(1e-12)).mean()
    return loss


def compare(x: torch.Tensor, s: Settings, entries: Entries, steps: int) -> list[float]:
    """Median milliseconds of a plain step and of ours."""
    times: dict[str, list[float]] = {"plain": [], "ours": []}
    coders = {which: Coder(x.shape[1], s.m, s.k) for which in times}
    optimisers = {}
    for which, coder in coders.items():
        coder.initialise(x.mean(dim=0), seed=0)
        optimisers[which] = torch.optim.Adam(coder.parameters(), lr=1e-4, fused=which == "ours")
    objective = step.start(coders["ours"], s, *entries)
    for number in range(steps + 5):
        for which, coder in coders.items():
            start = time.perf_counter()
            if which == "ours":
                loss, _ = objective.loss(x, number)
                objective.since_fired.zero_()  # The plain step has no AuxK.
            else:
                loss = plain_loss(coder, x, s)
            update(coder, optimisers[which], loss)
            times[which].append(1e3 * (time.perf_counter() - start))
    return [statistics.median(times[which][5:]) for which in ("plain", "ours")]


def main() -> None:
    """Print a row per k and method: median ms of both steps, and their ratio."""
    parser = argparse.ArgumentParser(description=__doc__)
    for name, default in (("threads", 1), ("n", 512), ("m", 512), ("d", 320), ("steps", 60)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--k", type=int, nargs="+", default=[8, 32])
    parser.add_argument("--tiny", action="store_true", help="seconds, to see that it runs")
    a = parser.parse_args()
    a = parser.parse_args(TINY) if a.tiny else a
    torch.set_num_threads(a.threads)
    x = torch.nn.functional.normalize(torch.randn(a.n, a.d, generator=torch.Generator().manual_seed(0)), dim=1)
    print(f"N {a.n}, d {a.d}, m {a.m}, {a.threads} thread(s), torch {torch.__version__}; median of {a.steps} steps")
    print(f"{'k':>4} {'method':15} {'plain ms':>9} {'ours ms':>9} {'plain/ours':>11}")
    for k in a.k:
        for name in METHODS:
            s, entries = settings_of(name, "small", m=a.m, k=k)
            plain, ours = compare(x, s, entries, a.steps)
            print(f"{k:4d} {name:15} {plain:9.2f} {ours:9.2f} {plain / ours:11.2f}")


if __name__ == "__main__":
    main()

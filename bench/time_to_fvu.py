"""Seconds to the same validation FVU, ours and other libraries': `python bench/time_to_fvu.py`.

A fast step is worth little if it learns little. So each library trains a Top-k SAE, without a regularizer, on the same
generated embeddings (total variance 1) in the same batches, at two shapes, at each of a list of learning rates, with
the same schedule: constant, then to 0 over the last fifth. Chosen is the rate with the lowest validation FVU at the
end; of ours only among rates at which at most a tenth of the latents never fire on training images. The FVU to reach is
the worst of those, in any round; the seconds are medians of rounds in turn at the chosen rates. Time spent on looking
at the FVU does not count. Ours trains by the recipe `study`, once more with bfloat16 products, and once more by its
values of before. The curves go to FIGURE. `--short` takes the small shape and few rates; `--tiny` seconds, to see that
it runs, beside a plain loop in PyTorch instead of other libraries.
"""

import argparse
import itertools
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

import _peers as peers
import _record as record
import numpy as np
import torch
from train_step import PAGES, environment

from sae.data import synthetic
from sae.report import style


class Shape(NamedTuple):
    """What is trained on, and how long."""

    rows: int
    d: int
    m: int
    k: int
    batch: int
    steps: int


class Fit(NamedTuple):
    """Rows of seconds and validation FVU (looks, 2), and the share of latents that never fire on training images."""

    curve: np.ndarray
    dead: float


SHAPES = [
    Shape(6000, 320, 1024, 32, 512, 200),
    Shape(100_000, 768, 8192, 32, 512, 195),
]  # The second: an epoch.
TINY = Shape(300, 16, 64, 4, 50, 20)
RATES = [
    [0.003, 0.005, 0.01, 0.02, 0.05],
    [0.001, 0.002, 0.003, 0.005, 0.01],
]  # Of each shape.
MOST_DEAD = 0.1
TARGET = 0.6  # of the fastest peer's seconds
OURS = {
    "ours": "topk float32",
    "ours, bfloat16": "topk bfloat16",
    "ours, former recipe": "topk float32 former",
}


def main() -> None:
    """Print a row per shape and library, write the comparisons with the fastest, and draw the curves."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--out", type=Path, default=record.OUT)
    parser.add_argument(
        "--figure", type=Path, help="a PNG; by default OUT/time_to_fvu.png"
    )
    parser.add_argument(
        "--chosen",
        type=json.loads,
        default=[],
        help="the best rates that a run before printed, a shape each",
    )
    parser.add_argument("--short", action="store_true", help="two minutes")
    parser.add_argument(
        "--tiny", action="store_true", help="seconds, to see that it runs"
    )
    a = parser.parse_args()
    shapes, rates = (
        ([TINY], [[0.001]])
        if a.tiny
        else (SHAPES[:1], [[0.005, 0.01]])
        if a.short
        else (SHAPES, RATES)
    )
    rounds = 1 if a.tiny or a.short else a.rounds
    own = [
        sys.executable,
        str(Path(__file__).with_name("train_step.py")),
        "--worker",
        "fit",
    ]
    commands = {name: [*own, variant] for name, variant in OURS.items()}
    if a.tiny:
        commands["plain"] = [*own, "plain"]
    else:
        script = str(Path(__file__).with_name("_peers.py"))
        commands |= {
            name: [str(environment(name)), script, "fit", name]
            for name in peers.REQUIREMENTS
        }
    if lacking := {
        name for known in a.chosen for name in commands.keys() - known.keys()
    }:
        parser.error(f"--chosen lacks {', '.join(sorted(lacking))}")
    where, rows, drawn = record.machine(a.threads), [], []
    print(where)
    for shape, listed, known in itertools.zip_longest(
        shapes, rates, a.chosen[: len(shapes)]
    ):
        again, chosen = measured(shape, commands, known or listed, rounds, a.threads)
        rows += report(shape, again, chosen, where)
        drawn.append(
            (
                shape,
                {
                    name: np.median([fit.curve for fit in fits], axis=0)
                    for name, fits in again.items()
                },
            )
        )
    record.write(a.out, "time_to_fvu", rows)
    figure = a.figure or a.out / "time_to_fvu.png"
    draw(drawn, figure.parent, figure.stem)


def measured(
    shape: Shape,
    commands: dict[str, list[str]],
    rates: list[float] | dict[str, float],
    rounds: int,
    threads: int,
) -> tuple[dict[str, list[Fit]], dict[str, float]]:
    """Of each library the fits at its best rate of those given, or at its own where that is known; and that rate."""
    with tempfile.NamedTemporaryFile(suffix=".pt") as data:
        torch.save(embeddings(shape.rows, shape.d), data.name)
        numbers = [
            data.name,
            *map(str, (shape.m, shape.k, threads, shape.batch, shape.steps)),
        ]

        def run(name: str, rate: float) -> Fit:
            environment_of = os.environ | (PAGES if name in OURS else {})
            command = [*commands[name], *numbers, str(rate)]
            done = subprocess.run(
                command, env=environment_of, stdout=subprocess.PIPE, text=True
            )
            if done.returncode:
                sys.exit(f"{name}: the process ended; its message is above")
            found = json.loads(done.stdout)
            return Fit(np.array(found["curve"]), found["dead"])

        def best(name: str, rates: list[float]) -> float:
            return min(rates, key=lambda rate: worth(name, run(name, rate)))

        def worth(name: str, fit: Fit) -> tuple[bool, float]:
            end = fit.curve[-1, 1]
            return name in OURS and fit.dead > MOST_DEAD, end if np.isfinite(
                end
            ) else np.inf

        chosen = (
            rates
            if isinstance(rates, dict)
            else {name: best(name, rates) for name in commands}
        )
        print(
            f"best rates: {json.dumps(chosen)}; now the rounds that are timed",
            flush=True,
        )
        again: dict[str, list[Fit]] = {name: [] for name in commands}
        for _ in range(rounds):
            for name, rate in chosen.items():
                again[name].append(run(name, rate))
    return again, chosen


def embeddings(rows: int, d: int) -> dict[str, torch.Tensor]:
    """Generated embeddings of two splits, scaled as the trainer scales them: unit rows, total variance 1."""
    world = synthetic.world(d, 4 * d, classes=10)
    splits = {}
    for split, count in (("train", rows), ("val", min(rows // 5, 2000))):
        x = np.concatenate(
            [part for part, _ in synthetic.chunks(world, split, count)]
        ).astype(np.float64)
        splits[split] = x / np.linalg.norm(x, axis=1, keepdims=True)
    scale = np.sqrt(splits["train"].var(axis=0).sum())
    return {split: torch.from_numpy(x / scale).float() for split, x in splits.items()}


def seconds(fit: Fit, goal: float) -> float:
    """Seconds of training until the FVU is `goal` or less; infinite if it never is."""
    return next(
        (spent for spent, fvu in fit.curve.tolist() if fvu <= goal), float("inf")
    )


def report(
    shape: Shape, again: dict[str, list[Fit]], chosen: dict[str, float], where: str
) -> list[dict]:
    """Print a row per library; the rows that compare ours with the best other one."""
    goal = max(fit.curve[-1, 1] for fits in again.values() for fit in fits)
    at = f"N {shape.rows}, d {shape.d}, m {shape.m}, k {shape.k}, {shape.steps} steps of {shape.batch}"
    print(f"{at}; FVU to reach {goal:.4f}")
    spent = {
        name: float(np.median([seconds(fit, goal) for fit in fits]))
        for name, fits in again.items()
    }
    end = {
        name: float(np.median([fit.curve[-1, 1] for fit in fits]))
        for name, fits in again.items()
    }
    for name, fits in again.items():
        dead = float(np.median([fit.dead for fit in fits]))
        print(
            f"  {name:22}lr {chosen[name]:<6g}{spent[name]:7.2f} s; at the end {end[name]:.4f}, {dead:.1%} dead"
        )
    others = [name for name in again if name not in OURS]
    rows = []
    for name in OURS:
        fastest, lowest = (
            min(others, key=spent.__getitem__),
            min(others, key=end.__getitem__),
        )
        to = f"s to a validation FVU of {goal:.4f}, {at}, {name}"
        rows.append(
            record.row("1", to, spent[name], fastest, spent[fastest], TARGET, where)
        )
        rows.append(
            record.row(
                "1",
                f"FVU at the end, {at}, {name}",
                end[name],
                lowest,
                end[lowest],
                1.0,
                where,
            )
        )
    return rows


def draw(
    shapes: list[tuple[Shape, dict[str, np.ndarray]]], out: Path, name: str
) -> None:
    """FVU against seconds, a panel per shape."""
    with style.plt.rc_context(style.RC):
        figure, axes = style.plt.subplots(
            1,
            len(shapes),
            figsize=(style.WIDTH, 3.2),
            squeeze=False,
            layout="constrained",
        )
        looks = dict(
            zip(shapes[0][1], ("k", "C3", "k", "C0", "C1", "C2"), strict=False)
        )
        for ax, (shape, curves) in zip(axes[0], shapes, strict=True):
            for library, curve in curves.items():
                ax.plot(
                    *curve.T, ":" if "former" in library else "-", color=looks[library]
                )
            ax.set(
                title=f"{shape.rows:,} images, d = {shape.d}, m = {shape.m:,}",
                xlabel="seconds",
                xscale="log",
            )
        axes[0, 0].set_ylabel("validation FVU")
        style.legend(
            figure,
            [
                style.reference(n, color=c, linestyle=":" if "former" in n else "-")
                for n, c in looks.items()
            ],
        )
        style.save(figure, out, name)


if __name__ == "__main__":
    main()

"""What jobs take in memory, against what they would ask for: `python bench/memory.py`, from the project's root.

Runs the workflow's own commands on generated embeddings of several sizes and prints peak memory in MB, and the formulas
of `sae_workflow.needs` (before their margin) divided by it. Then the same at ImageNet's size, where no step may take
over 4 GiB: there most steps are stopped after CAP seconds, since their peak comes early, and what follows takes the SAE
of a smaller size. `--imagenet` does that alone (about 15 minutes and 3 GB of disk); `--short` the smallest size alone;
`--tiny` takes seconds, to see that it works.
"""

import argparse
import functools
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import _record as record
import pandas as pd
from _cell import PROBE, RECIPE, bank_plan, commands, measured, write_command
from sae_workflow import costs, needs

from sae.bank.plan import Plan
from sae.core import files, registry
from sae.data import concepts
from sae.data.splits import SPLITS

CAP = 150.0  # seconds
LIMIT = 4.0  # GiB, at ImageNet's size


class Size(NamedTuple):
    """Rows of train, of val and of test; the rest as everywhere."""

    rows: int
    held_out: int
    d: int
    m: int
    batch: int
    k: int


SIZES = [
    Size(2_000, 500, 320, 512, 512, 16),
    Size(20_000, 2_000, 768, 2048, 1024, 32),
    Size(60_000, 4_000, 1024, 8192, 2048, 32),
    Size(60_000, 4_000, 1024, 2048, 2048, 64),
    Size(20_000, 2_000, 320, 4096, 512, 32),
    Size(20_000, 10_000, 1024, 8192, 512, 128),
]
IMAGENET = Size(1_281_167, 51_246, 1024, 8192, 2048, 32)
TINY = Size(1_000, 100, 16, 64, 256, 4)


def main() -> None:
    """Every size, every step."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--threads",
        type=int,
        default=os.cpu_count(),
        help="at ImageNet's size; elsewhere one",
    )
    parser.add_argument("--out", type=Path, default=record.OUT)
    parser.add_argument("--imagenet", action="store_true", help="ImageNet's size alone")
    parser.add_argument("--short", action="store_true", help="the smallest size alone")
    parser.add_argument(
        "--tiny", action="store_true", help="seconds, to see that it works"
    )
    a = parser.parse_args()
    classes, folder = (
        (10, a.out / "memory_tiny") if a.tiny else (1000, a.out / "memory")
    )
    print(
        f"{'rows':>8}{'held out':>9}{'d':>6}{'m':>6}{'k':>5}  {'job':<18}{'MB':>6}{'formula / MB':>14}{'s':>8}"
    )
    sizes = [TINY] if a.tiny else [] if a.imagenet else SIZES[: 1 if a.short else None]
    for size in sizes:
        list(peaks(size, classes, folder, 1))
    if a.short:
        return
    largest = TINY if a.tiny else IMAGENET
    found = list(peaks(largest, classes, folder, a.threads, capped=True))
    where, shape = (
        record.machine(a.threads),
        f"{largest.rows:,} rows, d = {largest.d}, m = {largest.m}",
    )
    rows = [
        record.row("9", f"GiB, {step}, {shape}", gib, "a limit", LIMIT, 1.0, where)
        for step, gib in found
    ]
    record.write(a.out, folder.name, rows)


def peaks(
    size: Size, classes: int, out: Path, threads: int, capped: bool = False
) -> Iterator[tuple[str, float]]:
    """(step, its peak in GiB) of each step, which are printed too.

    Args:
        capped: stop a step after CAP seconds; those after `train` then work on an SAE of fewer images.
    """
    rows, held_out, d, m, batch_size, k = size
    folder = out / "_".join(map(str, size))
    recipe = RECIPE | {
        "m": m,
        "batch_size": batch_size,
        "auxk_k": min(m, RECIPE["auxk_k"]),
    }
    plan, probe = bank_plan(k, recipe, {"reg2": "l1_l2_ratio"}), PROBE | {"largest": k}
    fit = costs.ProbeFit(probe["max_train"], len(probe["C"]), k)
    most_images = registry.head("metric", "detection").constants["MOST_TRAIN"]
    images = {"train": rows, "val": held_out, "test": held_out}
    embedding = costs.Embedding(
        costs.DatasetFigures("synthetic", images, classes, decoded_per_second=1),
        costs.BackboneFigures("synthetic", d),
    )
    options, store = ["--threads", str(threads)], folder / "store"
    if capped:
        few = folder / "few"
        measured(write_command([4 * batch_size, batch_size, d, 2 * d, classes], few))
        measured(dict(commands(folder, few, plan, probe, options))["train"])
    sizes = [rows, held_out, d, 4 * d if capped else 2 * d, classes]
    every = dict(
        [
            ("cache", write_command(sizes, store)),
            *commands(folder, store, plan, probe, options),
        ]
    )
    # These by themselves, since they come last in `score`. A judge, here with the same
    # embeddings, looks for each latent's images; and latents are matched with concepts,
    # a class and its ten ancestors for each image.
    alone = functools.partial(metric_alone, every["score"], folder)
    every["detection"] = [*alone("detection"), "--others", f"judge={store}"]
    every["concepts"] = [*alone("concepts"), "--concepts", str(folder / "concepts")]
    for rule, command in every.items():
        if rule == "concepts":
            write_concepts(store, folder / "concepts")
        has_end = rule in ("cache", "detection", "concepts")
        taken = measured(command, CAP if capped and not has_end else None)
        width, used, of = (
            d if rule == "probe_embeddings" else m,
            taken["peak_gib"] * 1024,
            "",
        )
        if rule != "cache":
            bank, probes = (
                needs.bank_sizes(embedding, Plan.model_validate(plan)),
                needs.probe_sizes(embedding, width, fit),
            )
            is_metric = rule in ("detection", "concepts")
            has_figures_of_score = is_metric or rule == "robustness"
            figures_of = "score" if has_figures_of_score else rule
            read = (
                needs.ranking_sizes(
                    embedding, k, judge_count=1, most_images=most_images
                )
                if rule == "detection"
                else {}
            )
            expected = needs.estimate_memory(figures_of, bank | probes | read)
            of = f"{expected / used:.2f}"
        seconds = f"{taken['seconds']:.0f}" + ("+" if taken["stopped"] else "")
        print(
            f"{rows:>8}{held_out:>9}{d:>6}{m:>6}{k:>5}  {rule:<18}{used:>6.0f}{of:>14}{seconds:>8}",
            flush=True,
        )
        yield rule, taken["peak_gib"]


def metric_alone(words: list[str], folder: Path, metric: str) -> list[str]:
    """Return the command of the stage `score` with one metric.

    Args:
        words: The command with all of them.
    """
    replaced = {
        "--settings": json.dumps({"metrics": {metric: {}}}),
        "--out": str(folder / "scores" / metric),
    }
    return [
        replaced.get(option, word)
        for option, word in zip(["", *words], words, strict=False)
    ]


def write_concepts(store: Path, folder: Path) -> None:
    """Write annotations of generated images: the class of each, and ten ancestors.

    Two classes have one parent, two parents one grandparent, and so on.
    """
    tables = []
    for split in SPLITS:
        index = pd.read_parquet(store / split / "index.parquet")
        for level in range(11):
            ancestor = index["label"].astype("int64") // 2**level
            names = f"level {level}: " + ancestor.astype("str")
            table = {"image_id": index["image_id"], "concept": names}
            tables.append(pd.DataFrame(table))
    keywords = pd.concat(tables, ignore_index=True)

    names = (concepts.KEYWORD_FILE, concepts.ATTRIBUTE_FILE)
    files.write_parquet(folder / names[0], keywords)
    files.write_parquet(folder / names[1], concepts.no_attributes())
    sums = {name: files.sha256(folder / name) for name in names}
    files.write_json(folder / concepts.MANIFEST, {"sha256": sums})


if __name__ == "__main__":
    main()

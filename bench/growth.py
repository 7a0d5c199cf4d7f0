"""How cost grows with images and with SAEs: `python bench/growth.py`, from the project's root.

Per number of training images it writes a store of generated embeddings (d = 320; val and test have 1/25 of its rows
each) and runs every step of the workflow on a bank of 3 SAEs and on one of 30: one epoch, m = 512, k = 16. The 3 are
the baseline, Reg. 1 and Reg. 2; the 30 are two seeds of the baseline and of both regularizers at 7 lambdas. Each step
is the workflow's own command. It draws OUT/growth.png and judges, beyond what a step takes on 1,000 rows (its start):

- images: the seconds at the largest size, against those of the size before in proportion to the rows;
- SAEs: the seconds for 30, against ten times those for 3.

A step of chosen SAEs is judged per chosen SAE. Starts vary from run to run, so what takes less than three times its
start where it is shorter is not judged. A probe reads at most 100,000 training images, so its cost does not grow
beyond; it is run for 3 SAEs only.

The whole takes about two hours on 2 cores, half of it for 30 SAEs on a million images. Every step is written to
OUT/growth/times.csv when it ends, and one that is there is not run again: a run that was stopped goes on. Delete the
folder to measure anew. `--rows`, `--saes`, `--steps` and `--rounds` run a part. `--short`: up to 20,000 rows, without
the steps of chosen SAEs. `--tiny`: seconds, to see that it runs.
"""

import argparse
import itertools
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import _record as record
import numpy as np
import pandas as pd
from _cell import PROBE, bank_plan, commands, measured, write_command
from matplotlib.ticker import EngFormatter

from sae.config.load import read_config
from sae.report import style

ROOT = Path(__file__).parent.parent
START = 1_000  # rows of the run that tells a step's start
SHARE = 25  # rows for each row of val, and of test, as ImageNet has
# SAEs: seeds, lambdas of each regularizer.
BANKS: dict[int, tuple[int, list[float]]] = {
    3: (1, []),
    30: (2, [0.0001, 0.0003, 0.001, 0.003, 0.01, 0.03, 0.1]),
}
OF_CHOSEN = ("robustness", "probe")
STEPS = ("cache", "train", "score", *OF_CHOSEN, "probe_embeddings")
PROBES = ("probe", "probe_embeddings")
TARGET = 1.1  # of proportional
LEAST = 3.0  # times its start: what takes less tells little
SHORT = {"rows": [2_000, 20_000], "steps": STEPS[:4], "rounds": 1}
TINY = {"rows": [2_000], "saes": [3], "steps": (*STEPS[:4], "robustness"), "rounds": 1}
LOOK = {"cache": "#999999", "train": "#D55E00", "score": "#0072B2"}
LOOK |= {
    "robustness": "#CC79A7",
    "probe": "#E69F00",
    "probe_embeddings": "#000000",
}  # Okabe and Ito 2008.


def main() -> None:
    """Run what is not in the CSV, print it, judge it, draw it."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--rows", type=int, nargs="+", default=[10_000, 100_000, 1_000_000]
    )
    parser.add_argument(
        "--saes", type=int, nargs="+", default=list(BANKS), choices=list(BANKS)
    )
    parser.add_argument(
        "--steps",
        nargs="+",
        default=list(STEPS),
        choices=STEPS,
        help="those that they need must be named too, or have run",
    )
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--out", type=Path, default=record.OUT)
    parser.add_argument(
        "--short", action="store_true", help="about a minute and a half"
    )
    parser.add_argument(
        "--tiny", action="store_true", help="seconds, to see that it runs"
    )
    a = parser.parse_args()
    # d, concepts, classes, k; and the width.
    a.shape, a.changed = (320, 1024, 100, 16), {}
    if a.tiny:
        a.shape, a.changed = (16, 32, 5, 4), {"m": 32, "batch_size": 256, "auxk_k": 8}
    for name, value in ((TINY if a.tiny else {}) | (SHORT if a.short else {})).items():
        setattr(a, name, value)
    folder = a.out / (
        "growth_tiny" if a.tiny else "growth_short" if a.short else "growth"
    )
    times = run(a, folder)
    print(times.to_string(index=False))
    start = times[times["rows"] == START].set_index(["step", "saes"])["seconds"]
    where = record.machine(a.threads)
    record.write(
        a.out,
        folder.name,
        [*by_rows(times, start, where), *by_saes(times, start, where)],
    )
    draw(times, a.out, folder.name)


def run(a: argparse.Namespace, folder: Path) -> pd.DataFrame:
    """A row per size, bank and step: seconds (median), CPU seconds, peak memory, bytes; `chosen`, how many SAEs."""
    file = folder / "times.csv"
    found = pd.read_csv(file).to_dict("records") if file.exists() else []
    done = {(row["rows"], row["saes"], row["step"], row["round"]) for row in found}
    for rows, saes, number, step, command in todo(a, folder):
        if step not in a.steps or (rows, saes, step, number) in done:
            continue
        row = {
            "rows": rows,
            "saes": saes,
            "step": step,
            "round": number,
            "threads": a.threads,
        } | measured(command)
        found.append(row | {"chosen": chosen(folder, rows, saes, number)})
        print(found[-1], flush=True)
        pd.DataFrame(found).to_csv(file, index=False)
    by = ["rows", "saes", "step"]
    return (
        pd.DataFrame(found)
        .groupby(by, sort=False, as_index=False)
        .median()
        .drop(columns=["round", "stopped"])
    )


def todo(
    a: argparse.Namespace, folder: Path
) -> Iterator[tuple[int, int, int, str, list[str]]]:
    """(rows, SAEs, round, step, command); all sizes in turn, round after round, since a machine's speed drifts."""
    d, concepts, classes, k = a.shape
    recipe = (
        read_config(ROOT / "config.yaml").training["small"].model_dump()
        | {"epochs": 1}
        | a.changed
    )
    for number, rows in itertools.product(range(a.rounds), [START, *sorted(a.rows)]):
        store = folder / str(rows) / "store"
        yield (
            rows,
            0,
            number,
            "cache",
            write_command([rows, rows // SHARE, d, concepts, classes], store),
        )
        for saes in a.saes:
            seeds, lambdas = BANKS[saes]
            plan = bank_plan(k, recipe, seeds=seeds, lambdas=lambdas)
            place, options = (
                place_of(folder, rows, saes, number),
                ["--threads", str(a.threads)],
            )
            for step, command in commands(
                place, store, plan, PROBE | {"largest": k}, options
            ):
                if step not in PROBES or saes == min(BANKS):
                    yield rows, saes, number, step, command


def place_of(folder: Path, rows: int, saes: int, number: int) -> Path:
    """Where a bank lies; each round has one of its own, since what is there is not made again."""
    return folder / str(rows) / f"{saes}_{number}"


def chosen(folder: Path, rows: int, saes: int, number: int) -> int:
    """How many SAEs of a bank validation chose."""
    selection = place_of(folder, rows, saes, number) / "scores/selection.parquet"
    return (
        int(pd.read_parquet(selection)["trial"].notna().sum())
        if selection.exists()
        else 0
    )


def by_rows(
    times: pd.DataFrame, start: pd.Series, where: str
) -> Iterator[dict[str, Any]]:
    """The comparisons of the two largest sizes of each step and bank."""
    for (step, saes), table in times[~times["step"].isin(PROBES)].groupby(
        ["step", "saes"], sort=False
    ):
        of_step = table.sort_values("rows")
        each = of_step["chosen"] if step in OF_CHOSEN else 1
        work = ((of_step["seconds"] - start[step, saes]) / each).to_list()
        *smaller, before, last = of_step["rows"]
        if not smaller or of_step["seconds"].iloc[-2] < LEAST * start[step, saes]:
            continue
        what = f"s beyond the start, {step}{f', {saes} SAEs' if saes else ''}, {last:,} rows"
        expected = work[-2] * (last - START) / (before - START)
        yield record.row(
            "9",
            what,
            work[-1],
            f"in proportion to {before:,} rows",
            expected,
            TARGET,
            where,
        )


def by_saes(
    times: pd.DataFrame, start: pd.Series, where: str
) -> Iterator[dict[str, Any]]:
    """The comparison of the two banks at the largest size that both have."""
    few, many = BANKS
    for step in ("train", "score"):
        table = times[times["step"] == step].pivot_table(
            index="rows", columns="saes", values="seconds"
        )
        both = table.reindex(columns=[few, many]).dropna()
        if both.empty or both[few].iloc[-1] < LEAST * start[step, few]:
            continue
        less, more = both.iloc[-1] - start[step, few]
        what, peer = (
            f"s beyond the start, {step}, {both.index[-1]:,} rows, {many} SAEs",
            f"{many // few} x {few} SAEs",
        )
        yield record.row("9", what, more, peer, many / few * less, TARGET, where)


def draw(times: pd.DataFrame, out: Path, name: str) -> None:
    """Seconds against rows, a panel per bank; dashed: in proportion to the rows."""
    shown = times[times["rows"] > START]
    banks = [saes for saes in BANKS if saes in set(shown["saes"])]
    with style.plt.rc_context(style.RC):
        figure, axes = style.plt.subplots(
            1,
            len(banks),
            figsize=(style.WIDTH, 3.4),
            sharey=True,
            squeeze=False,
            layout="constrained",
        )
        for ax, saes in zip(axes[0], banks, strict=True):
            for step in STEPS:
                line = shown[
                    (shown["step"] == step) & shown["saes"].isin([0, saes])
                ].sort_values("rows")
                ax.plot(
                    line["rows"], line["seconds"], "o-", color=LOOK[step], label=step
                )
            rows = np.array([1e3, 1e7])
            for at in (1e-5, 1e-4, 1e-3, 1e-2):
                ax.plot(
                    rows, rows * at, "--", color=style.GREY, linewidth=0.6, zorder=0
                )
            ax.set(
                title=f"{saes} SAEs",
                xlabel="training images",
                xscale="log",
                yscale="log",
            )
            ax.set(xlim=(0.8 * shown["rows"].min(), 1.25 * shown["rows"].max()))
            ax.set(ylim=(0.8 * shown["seconds"].min(), 1.5 * shown["seconds"].max()))
            ax.xaxis.set_major_formatter(EngFormatter(sep=""))
        axes[0, 0].set_ylabel("seconds")
        entries = [
            style.reference(step, color=LOOK[step], marker="o")
            for step in STEPS
            if step in set(shown["step"])
        ]
        style.legend(
            figure, [*entries, style.reference("in proportion", linestyle="--")]
        )
        style.save(figure, out, name)


if __name__ == "__main__":
    main()

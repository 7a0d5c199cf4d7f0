"""The paper's tables from the tidy metrics, as csv, md and tex."""

from math import isnan, nan
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from sae import files, labels
from sae.selection import chosen

DEAD_LIMIT = 0.05


class Column(NamedTuple):
    """A column: which metric, how it is written, and a second metric to subtract from it, if any."""

    source: str
    style: str = ".3f"
    minus: str | None = None


class Table(NamedTuple):
    """One of the paper's tables: its title, columns and notes."""

    title: str
    columns: dict[str, Column]
    notes: str


TABLES = {
    1: Table(
        "reconstruction and monosemanticity",
        {
            "R2": Column("r2"),
            "MS_mean": Column("ms_mean"),
            "MS_median": Column("ms_median"),
            "MS_mean_alive": Column("ms_mean_alive"),
            "MS_median_alive": Column("ms_median_alive"),
            "MS_across": Column("ms_mean_alive_across_groups"),
            "dead": Column("dead", ".0f"),
            "dead_train": Column("dead_train", ".0f"),
            "floor": Column("ms_floor"),
            "n_k_over_m": Column("n_k_over_m", ".0f"),
        },
        """\
MS_mean and MS_median count latents without a score as 0; the _alive columns leave them out (a score needs two images
that activate the latent). MS compares only within a backbone: floor is the mean cosine of two test images. MS_across is
MS_mean_alive without pairs of near-duplicates, where the dataset knows them. dead: latents never active on the test
images; dead_train: on the training images. n_k_over_m: activations per latent on the test images.""",
    ),
    2: Table(
        "class purity",
        {
            "binary": Column("purity_binary"),
            "weighted": Column("purity_weighted"),
            "binary-null": Column("purity_binary", minus="purity_binary_null"),
            "weighted-null": Column("purity_weighted", minus="purity_weighted_null"),
            "binary_min10": Column("purity_binary_min10"),
            "binary_coarse": Column("purity_binary_coarse"),
            "binary_coarse-null": Column("purity_binary_coarse", minus="purity_binary_null_coarse"),
        },
        """\
Share of a latent's images (weighted: of its activation) that are of its most frequent class, mean over active latents.
-null: minus the same after permuting the labels, which is what latents that fire as rarely reach by chance; a claim
about purity rests on it. binary_min10: over latents that fire on 10 test images or more. coarse: by the dataset's
coarse labels.""",
    ),
}
GENERAL_NOTES = """\
Test split; means over {seeds} seed(s). lambda is chosen on the validation split: the largest whose R2 is at least the
baseline's. `-`: not defined for this dataset.

Marks: `>` the choice is the largest lambda of the grid, so a larger one might do too; `=` no lambda was acceptable, and
the row repeats the baseline's numbers (after a mark: in how many of the seeds); `!` the baseline leaves 5 % or more of
its latents dead on the training images: it is not well trained."""
NOTES_EFFECTS = """\
Mean over the cells (lowest to highest), and in how many cells it is higher than the baseline's."""


def measured(number, metrics):
    """The rows of table `number`: one per (backbone, dataset, k, method), means over seeds, on the test split."""
    rows = chosen(metrics, "test")
    out = []
    for (backbone, dataset, k), cell in rows.groupby(["backbone", "dataset", "k"], sort=False):
        for regularizer in labels.method_order(cell["regularizer"].unique()):
            runs = cell[cell["regularizer"] == regularizer]
            row = {"encoder": backbone, "data": dataset, "k": k, "method": labels.method(regularizer)}
            row |= {name: _mean(runs, column) for name, column in TABLES[number].columns.items()}
            row["lambda"] = " ".join(format(v, "g") for v in sorted(runs["lambda"].unique()))
            row["mark"] = _marks(runs)
            row["seeds"] = len(runs)
            out.append(row)
    return pd.DataFrame(out)


def _mean(runs, column):
    if column.source not in runs:
        return nan
    values = runs[column.source] if column.minus is None else runs[column.source] - runs[column.minus]
    return values.mean()


def effects(number, table):
    """Each method's difference from the baseline over the cells of :func:`measured`, as text.

    Per column: the mean over cells, the lowest and the highest, and in how many cells it is above the baseline's.
    """
    cell = ["encoder", "data", "k"]
    baseline = table[table["method"] == labels.method("none")]
    out = []
    for method, rows in table[table["method"] != labels.method("none")].groupby("method", sort=False):
        both = rows.merge(baseline, on=cell, suffixes=("", "_base"))
        line = {"method": method}
        for name, column in TABLES[number].columns.items():
            d = (both[name] - both[f"{name}_base"]).dropna()
            low, mean, high = (format(v, "+" + column.style) for v in (d.min(), d.mean(), d.max()))
            line[name] = f"{mean} ({low} to {high}), {(d > 0).sum()}/{len(d)}" if len(d) else "-"
        out.append(line)
    return pd.DataFrame(out)


def _marks(runs):
    counts = {">": (runs["selection"] == "edge").sum(), "=": (runs["selection"] == "fallback").sum()}
    marks = [mark if n == len(runs) else f"{mark}{n}/{len(runs)}" for mark, n in counts.items() if n]
    baseline = runs[runs["regularizer"] == "none"]
    badly = (baseline["dead_train"] >= DEAD_LIMIT * baseline["m"]).any()
    return " ".join(marks + (["!"] if badly else []))


def write(number, metrics_file, published_file, out):
    """Write `out`/table{number}.csv, .md and .tex; md and tex end in the published table, for the paper's own cells."""
    metrics = pd.read_parquet(metrics_file)
    table = measured(number, metrics)
    spec, name = TABLES[number], f"table{number}"
    with files.atomic_file(Path(out) / f"{name}.csv") as temporary:
        table.to_csv(temporary, index=False)
    notes = spec.notes + "\n" + GENERAL_NOTES.format(seeds=metrics["seed"].nunique())
    shown, theirs = _as_text(spec, table), pd.read_csv(published_file, dtype=str)
    title, their_title = f"Table {number}: {spec.title}", f"Published (arXiv:2606.27321, Table {number})"
    their_notes = "The paper's numbers, for its own datasets and backbones at m = 8192."
    difference = effects(number, table).set_index("method").T.reset_index(names="difference from the baseline")
    parts = [f"# {title}", markdown(shown), notes, markdown(difference), NOTES_EFFECTS]
    parts += [f"# {their_title}", their_notes, markdown(theirs)]
    files.write_text(Path(out) / f"{name}.md", "\n\n".join(parts) + "\n")
    tex = latex(shown, title + ". " + notes) + "\n" + latex(theirs, their_title + ". " + their_notes)
    files.write_text(Path(out) / f"{name}.tex", tex)


def _as_text(spec, table):
    shown = {"encoder": table["encoder"].map(labels.name), "data": table["data"].map(labels.name)}
    shown |= {"k": table["k"].astype(str), "method": table["method"]}
    for name, column in spec.columns.items():
        shown[name] = ["-" if isnan(v) else format(v, column.style) for v in table[name]]
    shown["lambda"] = (table["lambda"] + " " + table["mark"]).str.strip()
    return pd.DataFrame(shown)


def markdown(table):
    """A pipe table of a DataFrame of text, padded so that it reads as it stands."""
    widths = [max(len(c), *(len(v) for v in table[c])) for c in table.columns]
    lines = [[c.ljust(w) for c, w in zip(table.columns, widths, strict=True)], ["-" * w for w in widths]]
    lines += [[v.ljust(w) for v, w in zip(row, widths, strict=True)] for row in table.to_numpy()]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def latex(table, caption):
    """A `longtable` with booktabs rules, one rule between cells of the first three columns."""
    escape = str.maketrans({"_": r"\_", "%": r"\%", "&": r"\&", "#": r"\#", "<": r"$<$", ">": r"$>$"})
    head = " & ".join(c.translate(escape) for c in table.columns)
    body, previous = [], None
    for row in table.to_numpy():
        if previous is not None and tuple(row[:3]) != previous and "method" in table.columns:
            body.append(r"\addlinespace")
        previous = tuple(row[:3])
        body.append(" & ".join(v.translate(escape) for v in row) + r" \\")
    caption = " ".join(caption.replace("`", "").split()).translate(escape)
    return "\n".join(
        [
            r"% needs \usepackage{booktabs,longtable}",
            rf"\begin{{longtable}}{{{'l' * len(table.columns)}}}",
            rf"\caption{{{caption}}} \\",
            r"\toprule",
            head + r" \\",
            r"\midrule \endhead",
            *body,
            r"\bottomrule",
            r"\end{longtable}",
            "",
        ]
    )

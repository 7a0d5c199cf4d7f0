"""The paper's tables from the tidy metrics, as csv, md and tex."""

from math import isnan, nan
from pathlib import Path

import pandas as pd

from sae import files, labels
from sae.selection import chosen

TABLE1 = {
    "R2": ("r2", ".3f"),
    "MS_mean": ("ms_mean", ".3f"),
    "MS_median": ("ms_median", ".3f"),
    "MS_mean_alive": ("ms_mean_alive", ".3f"),
    "MS_median_alive": ("ms_median_alive", ".3f"),
    "MS_across": ("ms_mean_alive_across_groups", ".3f"),
    "dead": ("dead", ".0f"),
    "dead_train": ("dead_train", ".0f"),
}
NOTES1 = """\
Test split; means over {seeds} seed(s). lambda is chosen on the validation split: the largest whose R2 is at least the
baseline's. MS_mean and MS_median count latents without a score as 0; the _alive columns leave them out (a score needs
two images that activate the latent). MS compares only within a backbone: floor is the mean cosine of two test images.
MS_across is MS_mean_alive without pairs of near-duplicates, where the dataset knows them (`-`: it does not). dead:
latents never active on the test images; dead_train: on the training images. n k/m: activations per latent on the test
images.

Marks: `>` the choice is the largest lambda of the grid, so a larger one might do too; `=` no lambda was acceptable, and
the row repeats the baseline's numbers (after a mark: in how many of the seeds); `!` the baseline leaves 5 % or more of
its latents dead on the training images: it is not well trained."""
NOTES_EFFECTS = """\
Mean over the cells (lowest to highest), and in how many cells it is higher than the baseline's."""
DEAD_LIMIT = 0.05


def table1(metrics):
    """Table 1, reconstruction and monosemanticity: one row per (backbone, dataset, k, method), means over seeds."""
    rows = chosen(metrics, "test")
    out = []
    for (backbone, dataset, k), cell in rows.groupby(["backbone", "dataset", "k"], sort=False):
        for regularizer in labels.method_order(cell["regularizer"].unique()):
            runs = cell[cell["regularizer"] == regularizer]
            row = {"encoder": backbone, "data": dataset, "k": k, "method": labels.method(regularizer)}
            row |= {column: runs[source].mean() if source in runs else nan for column, (source, _) in TABLE1.items()}
            row["floor"] = runs["ms_floor"].mean()
            row["n_k_over_m"] = runs["n_k_over_m"].mean()
            row["lambda"] = " ".join(format(v, "g") for v in sorted(runs["lambda"].unique()))
            row["mark"] = _marks(runs)
            row["seeds"] = len(runs)
            out.append(row)
    return pd.DataFrame(out)


def effects(table):
    """Each method's difference from the baseline over the cells of :func:`table1`, as text.

    Per column: the mean over cells, the lowest and the highest, and in how many cells it is above the baseline's.
    """
    cell = ["encoder", "data", "k"]
    baseline = table[table["method"] == labels.method("none")]
    out = []
    for method, rows in table[table["method"] != labels.method("none")].groupby("method", sort=False):
        both = rows.merge(baseline, on=cell, suffixes=("", "_base"))
        line = {"method": method}
        for column, (_, style) in TABLE1.items():
            d = (both[column] - both[f"{column}_base"]).dropna()
            low, mean, high = (format(v, "+" + style) for v in (d.min(), d.mean(), d.max()))
            line[column] = f"{mean} ({low} to {high}), {(d > 0).sum()}/{len(d)}" if len(d) else "-"
        out.append(line)
    return pd.DataFrame(out)


def _marks(runs):
    counts = {">": (runs["selection"] == "edge").sum(), "=": (runs["selection"] == "fallback").sum()}
    marks = [mark if n == len(runs) else f"{mark}{n}/{len(runs)}" for mark, n in counts.items() if n]
    baseline = runs[runs["regularizer"] == "none"]
    badly = (baseline["dead_train"] >= DEAD_LIMIT * baseline["m"]).any()
    return " ".join(marks + (["!"] if badly else []))


def write_table1(metrics_file, published_file, out):
    """Write `out`/table1.csv, .md and .tex; md and tex end in the published table, for the paper's own cells."""
    metrics = pd.read_parquet(metrics_file)
    table = table1(metrics)
    published = pd.read_csv(published_file)
    notes = NOTES1.format(seeds=metrics["seed"].nunique())
    with files.atomic_file(Path(out) / "table1.csv") as temporary:
        table.to_csv(temporary, index=False)
    shown = _format1(table)
    title = "Table 1: reconstruction and monosemanticity"
    their_title = "Published (arXiv:2606.27321, Table 1)"
    their_notes = "The paper's numbers, for its own datasets and backbones at m = 8192."
    theirs = published.astype(str)
    difference = markdown(effects(table).set_index("method").T.reset_index(names="difference from the baseline"))
    parts = [f"# {title}", markdown(shown), notes, difference, NOTES_EFFECTS]
    parts += [f"# {their_title}", their_notes, markdown(theirs)]
    files.write_text(Path(out) / "table1.md", "\n\n".join(parts) + "\n")
    tex = latex(shown, title + ". " + notes) + "\n" + latex(theirs, their_title + ". " + their_notes)
    files.write_text(Path(out) / "table1.tex", tex)


def _format1(table):
    shown = pd.DataFrame(
        {
            "encoder": table["encoder"].map(labels.name),
            "data": table["data"].map(labels.name),
            "k": table["k"].astype(str),
            "method": table["method"],
        }
    )
    for column, (_, style) in TABLE1.items():
        shown[column] = ["-" if isnan(v) else format(v, style) for v in table[column]]
    shown["floor"] = [format(v, ".3f") for v in table["floor"]]
    shown["n k/m"] = [format(v, ".0f") for v in table["n_k_over_m"]]
    shown["lambda"] = (table["lambda"] + " " + table["mark"]).str.strip()
    return shown


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

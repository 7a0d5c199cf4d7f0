"""The paper's tables from the tidy metrics, as csv, md and tex."""

from math import isnan, nan
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from sae.core import files
from sae.report import labels, published
from sae.scoring.selection import CELL, chosen

DEAD_LIMIT = 0.05
_NAMES = ("encoder", "data", "k", "method")


class Column(NamedTuple):
    """A column: which metric, how it is written, a second metric to subtract from it, whether methods compare in it."""

    source: str
    style: str = ".3f"
    minus: str | None = None
    compare: bool = True


class Table(NamedTuple):
    """One of the paper's tables: its title, columns and notes; whether it compares methods with the baseline."""

    title: str
    columns: dict[str, Column]
    notes: str
    against_baseline: bool = True


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
            "MS_independent": Column("ms_mean_alive_independent"),
            "dead": Column("dead", ".0f"),
            "dead_train": Column("dead_train", ".0f"),
            "floor": Column("ms_floor", compare=False),
            "n_k_over_m": Column("n_k_over_m", ".0f", compare=False),
        },
        """\
MS_mean and MS_median count latents without a score as 0; the _alive columns leave them out (a score needs two images
that activate the latent). MS compares only within a backbone: floor is the mean cosine of two test images. MS_across is
MS_mean_alive without pairs of near-duplicates, where the dataset knows them. MS_independent is MS_mean_alive as the
experiment's other backbones see it, mean over these: as independent as they are. dead: latents never active on the test
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
    3: Table(
        "linear probes on truncated codes",
        {
            "AUC": Column("probe_auc"),
            "AUC_above_1": Column("probe_auc_above_1"),
            "top1": Column("probe_top1"),
            "top1_raw": Column("probe_top1_raw", compare=False),
            "edges": Column("probe_edges", ".1f", compare=False),
            "unconverged": Column("probe_unconverged", ".1f", compare=False),
        },
        """\
Each sample's k' largest activations, a multinomial logistic regression on the training codes, top-1 on test. AUC: area
under top-1 over k' from 1 to K, divided by K (at most (K-1)/K); AUC_above_1: divided by K-1. K is the smallest training
k of the experiment; top1: at k' = K. top1_raw: the same probe on the embedding itself. C is chosen on the validation
split for every SAE and k'; edges: for how many of the k' it is the first or last value of the grid; unconverged: for
how many the chosen fit stopped at its limit of iterations.""",
    ),
    4: Table(
        "mask ablation",
        {
            "dead": Column("dead", ".0f"),
            "dead_no_mask": Column("dead_no_mask", ".0f"),
            "dead_added": Column("dead_no_mask", ".0f", minus="dead"),
            "dead_train_added": Column("dead_train_no_mask", ".0f", minus="dead_train"),
            "MS_mean_alive": Column("ms_mean_alive"),
            "MS_mean_alive_added": Column("ms_mean_alive_no_mask", minus="ms_mean_alive"),
            "MS_mean_added": Column("ms_mean_no_mask", minus="ms_mean"),
            "R2_added": Column("r2_no_mask", minus="r2"),
        },
        """\
The chosen SAEs, and the same trained with the penalty on all latents instead of the batch-active ones (no_mask; same
lambda and seed). _added: what leaving out the mask adds. MS and dead as in Table 1.""",
        against_baseline=False,
    ),
}
GENERAL_NOTES = """\
Test split; means over {seeds} seed(s). lambda is chosen on the validation split: the largest whose R2 is at least the
baseline's. `-`: not defined here. Where the paper has the very cell, ours (published, difference).

Marks: `>` the choice is the largest lambda of the grid, so a larger one might do too; `=` no lambda was acceptable, and
the row repeats the baseline's numbers (after a mark: in how many of the seeds); `!` the baseline leaves 5 % or more of
its latents dead on the training images: it is not well trained."""
_PUBLISHED_NOTE = "Published: the paper's mean, and in how many of its own cells it goes up or down."
NOTES_EFFECTS = {
    True: "Difference from the baseline: mean over cells (lowest to highest), and in how many it is above 0.\n"
    + _PUBLISHED_NOTE,
    False: "Mean over cells (lowest to highest), and in how many it is above 0.\n" + _PUBLISHED_NOTE,
}


def measured(number, metrics):
    """The rows of table `number`: one per (backbone, dataset, k, method), means over seeds, on the test split."""
    rows = _with_ablation(chosen(metrics, "test"), metrics)
    out = []
    for (backbone, dataset, k), cell in rows.groupby(["backbone", "dataset", "k"], sort=False):
        for regularizer in labels.method_order(cell["regularizer"].unique()):
            if regularizer == "none" and not TABLES[number].against_baseline:
                continue
            runs = cell[cell["regularizer"] == regularizer]
            if not TABLES[number].against_baseline:  # The ablation: only of the runs that have one.
                runs = runs[runs["dead_no_mask"].notna()]
                if runs.empty:
                    continue
            row = dict(zip(_NAMES, (backbone, dataset, k, labels.method(regularizer)), strict=True))
            row |= {name: _mean(runs, column) for name, column in TABLES[number].columns.items()}
            row["lambda"] = " ".join(format(v, "g") for v in sorted(runs["lambda"].unique()))
            row["mark"] = _marks(runs, cell)
            row["seeds"] = len(runs)
            out.append(row)
    return pd.DataFrame(out, columns=None if out else [*_NAMES, *TABLES[number].columns, "lambda", "mark", "seeds"])


def _with_ablation(picked, metrics):
    """The mask ablation's metrics beside those of the SAEs that it ablates, as `{metric}_no_mask`."""
    run = [*CELL, "seed", "regularizer"]
    ablated = metrics[(metrics["mask"] == "all") & (metrics["split"] == "test")].set_index(run)
    ablated = ablated[["dead", "dead_train", "ms_mean", "ms_mean_alive", "r2"]].add_suffix("_no_mask")
    return picked.merge(ablated.reset_index(), on=run, how="left")


def beside_published(number, table, tables):
    """`table` with `{column}_published` and `{column}_difference` where the paper has that very cell.

    Args:
        table: what :func:`measured` returned.
        tables: what `sae.report.published.read` returned.
    """
    out = table.copy()
    cell = [out["encoder"].map(labels.name), out["data"].map(labels.name), out["k"], out["method"]]
    keys = list(zip(*cell, strict=True))
    for name, column in TABLES[number].columns.items():
        metric = column.source.removesuffix("_no_mask")
        if column.minus is not None or metric not in tables:
            continue
        masked = tables["mask"] == ("all" if column.source.endswith("_no_mask") else "batch_active")
        theirs = tables[masked].assign(method=tables["regularizer"].map(labels.method))
        theirs = theirs.set_index(["encoder", "data", "k", "method"])[metric].to_dict()
        values = [theirs.get(key, nan) for key in keys]
        if any(not isnan(v) for v in values):
            out[f"{name}_published"] = values
            out[f"{name}_difference"] = out[name] - out[f"{name}_published"]
    return out


def _mean(runs, column):
    if column.source not in runs:
        return nan
    values = runs[column.source] if column.minus is None else runs[column.source] - runs[column.minus]
    return values.astype(float).mean()


def effects(number, table, tables):
    """Each method's effect over the cells of :func:`measured`, as text, the published one in the column after it.

    An effect is the difference from the baseline; in a table that is not against the baseline, a column that is a
    difference already. Per line: the mean over cells, the lowest and the highest, and in how many it is above 0.
    """
    spec, cell = TABLES[number], ["encoder", "data", "k"]
    columns = {n: c for n, c in spec.columns.items() if c.compare and (spec.against_baseline or c.minus is not None)}
    baseline = table[table["method"] == labels.method("none")]
    out = {"difference": list(columns)}
    for method, rows in table[table["method"] != labels.method("none")].groupby("method", sort=False):
        both = rows.merge(baseline, on=cell, suffixes=("", "_base")) if spec.against_baseline else rows
        out[method], out[f"{method}, published"] = [], []
        for name, column in columns.items():
            d = (both[name] - both[f"{name}_base"] if spec.against_baseline else both[name]).dropna()
            low, mean, high = (format(v, "+" + column.style) for v in (d.min(), d.mean(), d.max()))
            out[method].append(f"{mean} ({low} to {high}), {(d > 0).sum()}/{len(d)}" if len(d) else "-")
            out[f"{method}, published"].append(_published_effect(tables, method, column))
    return pd.DataFrame(out)


def _published_effect(tables, method, column):
    regularizer = {labels.method(r): r for r in tables["regularizer"].unique()}.get(method)
    if column.source.endswith("_no_mask"):
        return published.effect(tables, regularizer, column.source.removesuffix("_no_mask"), regularizer, "all")
    return published.effect(tables, regularizer, column.source) if column.minus is None else "-"


def _marks(runs, cell):
    counts = {">": (runs["selection"] == "edge").sum(), "=": (runs["selection"] == "fallback").sum()}
    marks = [mark if n == len(runs) else f"{mark}{n}/{len(runs)}" for mark, n in counts.items() if n]
    baseline = cell[cell["regularizer"] == "none"]
    badly = (baseline["dead_train"] >= DEAD_LIMIT * baseline["m"]).any()
    return " ".join(marks + (["!"] if badly and (runs["regularizer"] == "none").all() else []))


def write(number, metrics_file, published_folder, out):
    """Write `out`/table{number}.csv, .md and .tex; md and tex end in the published table, for the paper's own cells."""
    metrics, tables = files.read_parquet(metrics_file), published.read(published_folder)
    table = beside_published(number, measured(number, metrics), tables)
    spec, name = TABLES[number], f"table{number}"
    with files.atomic_file(Path(out) / f"{name}.csv") as temporary:
        table.to_csv(temporary, index=False)
    notes = spec.notes + "\n" + GENERAL_NOTES.format(seeds=metrics["seed"].nunique())
    shown = as_text(number, table)
    theirs = pd.read_csv(Path(published_folder) / published.FILES[number], dtype=str)
    title, their_title = f"Table {number}: {spec.title}", f"Published (arXiv:2606.27321, Table {number})"
    their_notes = "The paper's numbers, for its own datasets and backbones at m = 8192."
    parts = [f"# {title}", markdown(shown), notes, markdown(effects(number, table, tables))]
    parts += [NOTES_EFFECTS[spec.against_baseline], f"# {their_title}", their_notes, markdown(theirs)]
    files.write_text(Path(out) / f"{name}.md", "\n\n".join(parts) + "\n")
    tex = latex(shown, title + ". " + notes) + "\n" + latex(theirs, their_title + ". " + their_notes)
    files.write_text(Path(out) / f"{name}.tex", tex)


def as_text(number, table):
    """A table for reading; a cell that the paper has too shows 'ours (published, difference)'."""
    shown = {"encoder": table["encoder"].map(labels.name), "data": table["data"].map(labels.name)}
    shown |= {"k": table["k"].astype(str), "method": table["method"]}
    for name, column in TABLES[number].columns.items():
        values = ["-" if isnan(v) else format(v, column.style) for v in table[name]]
        if f"{name}_published" in table:
            both = zip(values, table[f"{name}_published"], table[f"{name}_difference"], strict=True)
            values = [
                v if isnan(p) else f"{v} ({format(p, column.style)}, {format(d, '+' + column.style)})"
                for v, p, d in both
            ]
        shown[name] = values
    shown["lambda"] = (table["lambda"] + " " + table["mark"]).str.strip()
    return pd.DataFrame(shown)


def markdown(table):
    """A pipe table of a DataFrame of text, padded so that it reads as it stands."""
    widths = [max(map(len, (c, *table[c]))) for c in table.columns]
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

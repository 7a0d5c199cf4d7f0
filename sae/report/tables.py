"""The paper's tables from the tidy metrics, as csv (with ids), md and tex (with labels)."""

import re
from collections.abc import Iterable
from math import isnan, nan
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from sae.comparison import controls, fronts, intervals, published
from sae.comparison.fronts import Rule as FrontRule
from sae.comparison.scores import RUN, across_groups, diverged, values
from sae.config.rule import Rule
from sae.core import files
from sae.report import controls as of_controls
from sae.report import fronts as of_fronts
from sae.report.names import Names
from sae.scoring.selection import chosen, under

DEAD_LIMIT = 0.05
_CELL = ["encoder", "data", "k"]
# Behind a metric: that of the ablation of the method in whose row it stands.
_OF_ABLATION = "_no_mask"


class Settings(Names):
    """How things are printed, the rule of intervals, and that of fronts."""

    claims: Rule
    fronts: FrontRule = FrontRule()


class Column(NamedTuple):
    """A column of a table.

    Attributes:
        source: the metric.
        style: how it is written.
        minus: a second metric to subtract from it.
        compare: whether methods compare in it.
        worth: whether the controls say what it is worth: more is better.
    """

    source: str
    style: str = ".3f"
    minus: str | None = None
    compare: bool = True
    worth: bool = False


class Table(NamedTuple):
    """One of the paper's tables: its title, columns and notes; whether its rows are a method and its ablation each."""

    title: str
    columns: dict[str, Column]
    notes: str
    of_pairs: bool = False


TABLES = {
    1: Table(
        "reconstruction and monosemanticity",
        {
            "R2": Column("r2", worth=True),
            "MS_mean": Column("ms_mean", worth=True),
            "MS_median": Column("ms_median"),
            "MS_mean_alive": Column("ms_mean_alive", worth=True),
            "MS_median_alive": Column("ms_median_alive"),
            "MS_across": Column("ms_mean_alive_across_groups", worth=True),
            "MS_independent": Column("ms_mean_alive_independent", worth=True),
            "MS_independent_across": Column("ms_mean_alive_independent_across_groups", worth=True),
            "dead": Column("dead", ".0f"),
            "dead_train": Column("dead_train", ".0f"),
            "floor": Column("ms_floor", compare=False),
            "n_k_over_m": Column("n_k_over_m", ".0f", compare=False),
        },
        """\
MS_mean and MS_median count latents without a score as 0; the _alive columns leave them out (a score needs two images
that activate the latent). MS compares only within a backbone: floor is the mean cosine of two test images. MS_across
is MS_mean_alive without pairs of near-duplicates, where the dataset knows them. MS_independent is MS_mean_alive as
the experiment's backbones of other families see it, mean over these; _across: likewise. dead: latents never active
on the test images; dead_train: on the training images. n_k_over_m: activations per latent on the test images.""",
    ),
    2: Table(
        "class purity",
        {
            "R2": Column("r2", compare=False),
            "binary": Column("purity_binary"),
            "weighted": Column("purity_weighted"),
            "binary-null": Column("purity_binary", minus="purity_binary_null", worth=True),
            "weighted-null": Column("purity_weighted", minus="purity_weighted_null", worth=True),
            "binary_min10": Column("purity_binary_min10", worth=True),
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
            "R2": Column("r2", compare=False),
            "AUC": Column("probe_auc", worth=True),
            "AUC_above_1": Column("probe_auc_above_1"),
            "top1": Column("probe_top1", worth=True),
            "top1_raw": Column("probe_top1_raw", compare=False),
            "edges": Column("probe_edges", ".1f", compare=False),
            "unconverged": Column("probe_unconverged", ".1f", compare=False),
        },
        """\
Each sample's k' largest activations, a multinomial logistic regression on the training codes, top-1 on test. AUC: area
under top-1 over k' from 1 to K, divided by K (at most (K-1)/K); AUC_above_1: divided by K-1. K is the smallest training
k of the experiment; top1: at k' = K. top1_raw: the same probe on the embedding itself. C is chosen on the validation
split for every SAE and k'; edges: for how many of the k' it is the first or last value of the grid; unconverged: for
how many a fit stopped at its limit of passes over the codes, short of its tolerance.""",
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
            "MS_across_added": Column("ms_mean_alive_across_groups_no_mask", minus="ms_mean_alive_across_groups"),
            "MS_mean_added": Column("ms_mean_no_mask", minus="ms_mean"),
            "R2_added": Column("r2_no_mask", minus="r2"),
        },
        """\
The chosen SAEs of a method, and of the ablation that is trained as it was chosen: with the same trial and seed, in the
paper with the penalty on all latents instead of the batch-active ones (no_mask). _added: what the ablation adds. MS and
dead as in Table 1.""",
        of_pairs=True,
    ),
}
# {name: (metric, what is subtracted)} of the scores whose worth the controls say.
SCORES = {name: (c.source, c.minus) for spec in TABLES.values() for name, c in spec.columns.items() if c.worth}
GENERAL_NOTES = """\
Test split; means over {seeds} seed(s). lambda is chosen on the validation split: the largest whose R2 is at least that
of the method compared with (the baseline). Controls ({controls}) are not tuned and stand at their own R2. `-`: not
defined here. Where the paper has the very cell, ours (published,
difference).

Marks: `>` the choice is the largest lambda of the sweep, so a larger one might do too; `=` nothing was acceptable, and
the row repeats the numbers of the method compared with (after a mark: in how many of the seeds); `!` the baseline
leaves 5 % or more of its latents dead on the training images: it is not well trained; `x` so many of the SAEs among
which was chosen diverged: none of these can be chosen."""
_THEIR_NOTES = "The paper's numbers, for its own datasets and backbones at m = 8192."
NO_CONTROLS = "Empty: no method of this experiment is a control (`control` in config.yaml)."
_EFFECTS_NOTES = "Mean over cells (lowest to highest), and in how many it is above 0."
_PUBLISHED_NOTE = "Published: the paper's mean, and in how many of its own cells it goes up or down."
_NO_PAIRS = "Empty: no method of this experiment is trained at the choice of another one (`at` in config.yaml)."
_NO_EFFECTS = "No effects: no method of this experiment is compared with another one (`against` in config.yaml)."


def measured(number: int, metrics: pd.DataFrame, names: Names) -> pd.DataFrame:
    """The rows of table `number` on the test split, means over seeds.

    Returns:
        A row per backbone (`encoder`), dataset (`data`), k and method; in a table of pairs a row per such method and
        `ablation`. Then the table's columns, `lambda`, `trial`, `mark`, `seeds`. Names are ids.
    """
    spec, by = TABLES[number], ["backbone", "dataset", "k"]
    lost, out = diverged(metrics, [*by, "method"]), []
    for place, cell in chosen(metrics, "test", names.compared).groupby(by, sort=False):
        for key, runs in _rows(spec, cell, metrics, names):
            row = dict(zip(_CELL, place, strict=True)) | key
            row |= {name: values(runs, column.source, column.minus).mean() for name, column in spec.columns.items()}
            row["lambda"] = " ".join(format(v, "g") for v in sorted(values(runs, "lambda").dropna().unique()))
            row["trial"] = " ".join(sorted(runs["trial"].unique()))
            row["mark"] = _marks(runs, lost.get((*place, key["method"])), names)
            out.append(row | {"seeds": len(runs)})
    keys = [*_CELL, "method", *(["ablation"] if spec.of_pairs else [])]
    return pd.DataFrame(out, columns=[*keys, *spec.columns, "lambda", "trial", "mark", "seeds"])


def _rows(
    spec: Table, cell: pd.DataFrame, metrics: pd.DataFrame, names: Names
) -> Iterable[tuple[dict[str, str], pd.DataFrame]]:
    """What identifies a row within a cell, and its runs."""
    if not spec.of_pairs:
        for method in names.order(cell["method"]):
            yield {"method": method}, cell[cell["method"] == method]
        return
    for base, method in names.pairs:
        rows = metrics[(metrics["method"] == method) & (metrics["split"] == "test")]
        # Where the base fell back on another method there is nothing to ablate.
        own = cell[(cell["method"] == base) & ~cell["fallback"]]
        runs = own.merge(rows, on=RUN, suffixes=("", _OF_ABLATION))
        if len(runs):
            yield {"method": base, "ablation": method}, runs


def _marks(runs: pd.DataFrame, lost: str | None, names: Names) -> str:
    """What is said of a row: of its runs, and of how many of the SAEs among which was chosen diverged."""
    counts = {">": (runs["selection"] == "edge").sum(), "=": (runs["selection"] == "fallback").sum()}
    marks = [mark if n == len(runs) else f"{mark}{n}/{len(runs)}" for mark, n in counts.items() if n]
    badly = (values(runs, "dead_train") >= DEAD_LIMIT * runs["m"]).any()
    marks += ["!"] if badly and runs["method"].iloc[0] in names.baselines else []
    marks += [f"x{lost.replace(' of ', '/')}"] if lost else []
    return " ".join(marks)


def beside_published(number: int, table: pd.DataFrame, tables: pd.DataFrame) -> pd.DataFrame:
    """`table` with `{column}_published` and `{column}_difference` where the paper has that very cell.

    Args:
        table: what :func:`measured` returned.
        tables: what `sae.report.published.read` returned.
    """
    out, theirs = table.copy(), tables.set_index(published.KEY)
    for name, column in TABLES[number].columns.items():
        metric = column.source.removesuffix(_OF_ABLATION)
        if column.minus is not None or metric not in theirs:
            continue
        known, method = theirs[metric].to_dict(), out["method" if metric == column.source else "ablation"]
        found = [known.get(key, nan) for key in zip(*(out[c] for c in _CELL), method, strict=True)]
        if not all(map(isnan, found)):
            out[f"{name}_published"] = found
            out[f"{name}_difference"] = out[name] - found
    return out


def effects(number: int, table: pd.DataFrame, tables: pd.DataFrame, names: Names) -> pd.DataFrame:
    """Each method's effect over the cells of :func:`measured`, as text, the published one in the column after it.

    An effect is the difference from the method that it is `against`; in a table of pairs, a column that is a difference
    already. Per line: the mean over cells, the lowest and the highest, and in how many it is above 0. Empty where no
    method is compared.
    """
    spec, compared = TABLES[number], _compared(TABLES[number], table, names)
    columns = {n: c for n, c in spec.columns.items() if c.compare and (c.minus is not None or not spec.of_pairs)}
    # Not a mapping: what is a title here, a label may be too.
    found = [("difference", list(columns) if compared else [])]
    for title, method, other in compared:
        if spec.of_pairs:
            differences = table[(table["method"] == other) & (table["ablation"] == method)]
        else:
            ours, theirs = (table[table["method"] == m].set_index(_CELL)[list(columns)] for m in (method, other))
            differences = ours - theirs.reindex(ours.index)
        found.append((title, [_effect(differences[name].dropna(), column) for name, column in columns.items()]))
        of_paper = [_published_effect(tables, method, other, column) for column in columns.values()]
        found.append((f"{title}, published", of_paper))
    texts = {number: lines for number, (_, lines) in enumerate(found)}
    return pd.DataFrame(texts).set_axis([title for title, _ in found], axis=1)


def _compared(spec: Table, table: pd.DataFrame, names: Names) -> list[tuple[str, str, str]]:
    """What effects are of: the title, the method, the method whose numbers are subtracted."""
    there = set(table["ablation" if spec.of_pairs else "method"])
    if spec.of_pairs:
        pairs = [(method, base) for base, method in names.pairs if method in there]
        # The ablation is named only where a method has several.
        several = len({base for _, base in pairs}) < len(pairs)
        return [(names.method(method if several else base), method, base) for method, base in pairs]
    against = {m: other for m, other in names.compared.items() if m in there and other is not None and other in there}
    several = len(set(against.values())) > 1
    return [(names.method(m) + (f" against {names.method(o)}" if several else ""), m, o) for m, o in against.items()]


def _effect(differences: pd.Series, column: Column) -> str:
    if differences.empty:
        return "-"
    found = (differences.mean(), differences.min(), differences.max())
    mean, low, high = (format(v, "+" + column.style) for v in found)
    return f"{mean} ({low} to {high}), {(differences > 0).sum()}/{len(differences)}"


def _published_effect(tables: pd.DataFrame, method: str, other: str, column: Column) -> str:
    metric = column.source.removesuffix(_OF_ABLATION)
    if column.minus is not None and metric == column.source:
        return "-"
    return published.effect(tables, method, metric, other)


def effects_notes(number: int, effects: pd.DataFrame) -> str:
    """What a reader must know of :func:`effects`."""
    spec = TABLES[number]
    if effects.empty:
        return _NO_PAIRS if spec.of_pairs else _NO_EFFECTS
    first = "" if spec.of_pairs else "Difference from the method compared with (the baseline). "
    return f"{first}{_EFFECTS_NOTES}\n{_PUBLISHED_NOTE}"


def write(metrics_file: str | Path, published_folder: str | Path, settings: Settings, out: str | Path) -> None:
    """Write all tables: `out`/table{1,2,3,4}.csv, .md and .tex; md and tex end in the published table.

    And `out`/controls.csv and .md, what the scores of these tables are worth (`sae.comparison.controls`);
    `out`/fronts.csv and .md and front_means.csv, how methods compare at the same R^2 (`sae.comparison.fronts`).

    Args:
        metrics_file: metrics.parquet.
        published_folder: the paper's tables as CSV.
        out: the folder to write into.
        settings: :class:`Settings`.
    """
    names, out = Settings.model_validate(settings), Path(out)
    metrics, tables = under(files.read_parquet(metrics_file), "paper"), published.read(published_folder)
    about, controlled = training(metrics, names), ", ".join(map(names.method, names.controls)) or "none here"
    general = GENERAL_NOTES.format(seeds=metrics["seed"].nunique(), controls=controlled)
    made = {}
    for number, spec in TABLES.items():
        table = beside_published(number, measured(number, metrics, names), tables)
        shown, compared = as_text(number, table, names), effects(number, table, tables, names)
        theirs = pd.read_csv(Path(published_folder) / published.FILES[number], dtype=str)
        title, their_title = f"Table {number}: {spec.title}", f"Published (arXiv:2606.27321, Table {number})"
        notes = f"{spec.notes}\n{general}"
        parts = [f"# {title}", about, markdown(shown), notes, markdown(compared), effects_notes(number, compared)]
        parts += [f"# {their_title}", _THEIR_NOTES, markdown(theirs)]
        caption, their_caption = f"{title}. {about} {notes}", f"{their_title}. {_THEIR_NOTES}"
        made[f"table{number}.csv"] = table.to_csv(index=False, lineterminator="\n")
        made[f"table{number}.md"] = "\n\n".join(parts) + "\n"
        made[f"table{number}.tex"] = latex(shown, caption) + "\n" + latex(theirs, their_caption)
    worth = controls.compare(chosen(metrics, "test", names.compared), names, SCORES, names.claims)
    said = [markdown(of_controls.as_text(worth, names)), of_controls.NOTES] if len(worth) else [NO_CONTROLS]
    made["controls.csv"] = worth.to_csv(index=False, lineterminator="\n")
    made["controls.md"] = "\n\n".join(["# What the scores are worth", about, *said]) + "\n"
    made |= _fronts(across_groups(files.read_parquet(metrics_file)), names)
    for name, text in made.items():
        files.write_text(out / name, text)
    files.write_sums(out / "tables.sums.json", [out / name for name in made])


def _fronts(metrics: pd.DataFrame, names: Settings) -> dict[str, str]:
    found = fronts.effects(fronts.of_rule(metrics, names.fronts), names.tuned, names.fronts)
    cells, means = fronts.by_cell(found), intervals.means(found)
    shown = of_fronts.as_text(means, names)
    parts = ["# Fronts: each method beside its baseline at the same R2"]
    parts += [markdown(shown), of_fronts.NOTES] if len(shown) else [of_fronts.NONE]
    made = {"fronts.csv": cells, "front_means.csv": means}
    found = {name: table.to_csv(index=False, lineterminator="\n") for name, table in made.items()}
    return found | {"fronts.md": "\n\n".join(parts) + "\n"}


def training(metrics: pd.DataFrame, names: Names) -> str:
    """How the baseline was trained, which decides what a difference is worth, and what diverged: a table's head."""
    said = []
    for baseline in names.baselines[:1]:
        rows = metrics[(metrics["method"] == baseline) & (metrics["split"] == "test")]
        for dataset, of in rows[rows["selected"]].groupby("dataset", sort=False):
            steps, images = (_range(values(of, column)) for column in ("steps", "images_per_latent"))
            said.append(f"{names.dataset(str(dataset))}: {steps} steps, {images} training images per latent")
        trials = int(rows.groupby(RUN)["trial"].nunique().max()) if len(rows) else 0
        plain = "it has the recipe as it is given, not tuned"
        tuned = f"validation chose among {trials} trials" if trials > 1 else plain
        said.append(f"{names.method(baseline)}: {tuned}")
    said += [f"{names.method(name)}: {count} SAEs diverged" for name, count in diverged(metrics).items()]
    return "; ".join(said) + "." if said else ""


def _range(values: pd.Series) -> str:
    low, high = ("-" if isnan(v) else format(round(v, 1), ",g") for v in (values.min(), values.max()))
    return low if low == high else f"{low} to {high}"


def read(file: str | Path) -> pd.DataFrame:
    """A table as :func:`write` wrote its csv; a text that is empty, or looks like 'NA', stays a text."""
    ids = (*_CELL, "method", "ablation", "lambda", "trial", "mark", "dataset", "score", "control")
    text = dict.fromkeys(ids, str) | {"k": int}
    table = pd.read_csv(file, keep_default_na=False, na_values={}, dtype=text)
    numbers = [name for name in table if name not in text]
    return table.assign(**{name: pd.to_numeric(table[name]) for name in numbers})


def as_text(number: int, table: pd.DataFrame, names: Names) -> pd.DataFrame:
    """A table for reading, with labels; a cell that the paper has too shows 'ours (published, difference)'."""
    shown = {"encoder": table["encoder"].map(names.backbone), "data": table["data"].map(names.dataset)}
    shown |= {"k": table["k"].astype(str), "method": table["method"].map(names.method)}
    if TABLES[number].of_pairs:
        shown["ablation"] = table["ablation"].map(names.method)
    for name, column in TABLES[number].columns.items():
        numbers = table.reindex(columns=[name, f"{name}_published", f"{name}_difference"])
        shown[name] = [_written(column.style, *row) for row in numbers.to_numpy(float)]
    # What was chosen: lambda alone where nothing else is swept.
    trials = " ".join(table["trial"]).split()
    plain = all(re.fullmatch(r"default|lambda\d[\d.]*(e[+-]\d+)?", trial) for trial in trials)
    choice = "lambda" if plain else "trial"
    shown[choice] = (table[choice].replace("", "-") + " " + table["mark"]).str.strip()
    return pd.DataFrame(shown)


def _written(style: str, value: float, theirs: float, difference: float) -> str:
    text = "-" if isnan(value) else format(value, style)
    return text if isnan(theirs) else f"{text} ({format(theirs, style)}, {format(difference, '+' + style)})"


def markdown(table: pd.DataFrame) -> str:
    """A pipe table of a DataFrame of text, padded so that it reads as it stands."""
    rows = [[_cell(v) for v in row] for row in (table.columns, *table.to_numpy())]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    rows.insert(1, ["-" * width for width in widths])
    padded = [[v.ljust(w) for v, w in zip(row, widths, strict=True)] for row in rows]
    return "\n".join("| " + " | ".join(row) + " |" for row in padded)


# What would be markup: but a _ within a word, and an & that begins no entity, are themselves.
_MARKUP = re.compile(r"[\\`*|~$<]|\](?=\()|(?<![^\W_])_|_(?![^\W_])|&(?=#?\w+;)")
_ENTITIES = {"<": "&lt;", "&": "&amp;"}  # Some readers of markdown take \< for the beginning of a tag.


def _cell(text: str) -> str:
    return _MARKUP.sub(lambda found: _ENTITIES.get(found[0], f"\\{found[0]}"), " ".join(text.split()))


# A row that begins with [ or * would be an option of the line break before it.
_TEX = str.maketrans(
    {c: rf"\{c}" for c in "_%&#${}"}
    | {"<": r"$<$", ">": r"$>$", "\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"}
    | {"|": r"\textbar{}", "[": "{[}", "*": "{*}"}
)


def latex(table: pd.DataFrame, caption: str) -> str:
    """A `longtable` with booktabs rules, a space between cells (the first three columns)."""
    head, *rows = ([v.translate(_TEX) for v in row] for row in (table.columns, *table.to_numpy()))
    body = ""
    for number, row in enumerate(rows):
        if number and row[:3] != rows[number - 1][:3] and "method" in table:
            body += "\\addlinespace\n"
        body += " & ".join(row) + " \\\\\n"
    caption = " ".join(caption.replace("`", "").split()).translate(_TEX)
    return rf"""% needs \usepackage{{booktabs,longtable}}
\begin{{longtable}}{{{"l" * len(head)}}}
\caption{{{caption}}} \\
\toprule
{" & ".join(head)} \\
\midrule \endhead
{body}\bottomrule
\end{{longtable}}
"""

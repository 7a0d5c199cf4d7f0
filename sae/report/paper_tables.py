"""The paper's four tables for reading, each with notes and the published table."""

from collections.abc import Mapping
from dataclasses import dataclass
from math import isnan
from pathlib import Path
from typing import Any

import pandas as pd

from sae.comparison import published
from sae.comparison.paper_tables import TABLES, beside_published, effects, measured
from sae.comparison.scores import RUN, diverged, values
from sae.core.paths import trial_name
from sae.report.markup import (
    column_key,
    column_key_in_line,
    latex,
    markdown,
    prose,
    wrapped,
)
from sae.report.names import Names


@dataclass(frozen=True)
class TableText:
    """The text around one of the paper's tables.

    Attributes:
        title: Its title, without the number.
        columns: {columns, with commas between them: what they mean}.
        effects_notes: What the numbers say in the table of effects below it.
        no_effects: What stands below it where nothing is compared.
        notes: What else its numbers rest on.
    """

    title: str
    columns: Mapping[str, str]
    effects_notes: str
    no_effects: str
    notes: str = ""


_EFFECTS_OF_PAIRS = (
    "A number is the mean over cells (lowest to highest); then follows in how many of "
    "the cells it is above 0. *Published* is the paper's mean, and in how many of its "
    "own cells it goes up or down."
)
_EFFECTS_OF_METHODS = (
    "Effects are differences from the method compared with (the baseline). "
    f"{_EFFECTS_OF_PAIRS}"
)
_NO_METHODS = (
    "No effects: no method of this experiment is compared with another one (`against` "
    "in config.yaml)."
)
_NO_PAIRS = (
    "Empty: no method of this experiment is trained at the choice of another one (`at` "
    "in config.yaml)."
)
TEXTS = {
    1: TableText(
        title="reconstruction and monosemanticity",
        columns={
            "MS_mean, MS_median": (
                "over all latents. One without a score counts as 0; a score needs two "
                "test images that activate the latent"
            ),
            "MS_mean_alive, MS_median_alive": (
                "over the latents that have a score. MS compares only within a backbone"
            ),
            "MS_across": (
                "MS_mean_alive without pairs of near-duplicates, where the dataset "
                "knows them"
            ),
            "MS_independent, MS_independent_across": (
                "MS_mean_alive and MS_across as the experiment's backbones of other "
                "families see them, the mean over these backbones"
            ),
            "dead, dead_train": (
                "latents that are never active on the test images, and on the training "
                "images"
            ),
            "floor": "the mean cosine of two test images",
            "n_k_over_m": "activations per latent on the test images",
        },
        effects_notes=_EFFECTS_OF_METHODS,
        no_effects=_NO_METHODS,
    ),
    2: TableText(
        title="class purity",
        columns={
            "binary": (
                "the share of a latent's images that are of its most frequent class, "
                "mean over active latents"
            ),
            "weighted": "the share of a latent's activation instead of its images",
            "binary-null": (
                "what is left of binary after subtracting the purity under permuted "
                "labels, which latents that fire as rarely reach by chance. Claims "
                "about purity rest on it"
            ),
            "binary_min10": "over latents that fire on 10 test images or more",
        },
        effects_notes=_EFFECTS_OF_METHODS,
        no_effects=_NO_METHODS,
    ),
    3: TableText(
        title="linear probes on truncated codes",
        notes=(
            "A multinomial logistic regression is fitted on the k' largest activations "
            "of each training image. Its C is chosen on the validation split, for "
            "every SAE and k'. K is the smallest training k of the experiment."
        ),
        columns={
            "AUC": (
                "the area under top-1 on test over k' from 1 to K, divided by K (at "
                "most (K-1)/K)"
            ),
            "AUC_above_1": "that area divided by K-1",
            "top1": "top-1 on test at k' = K",
            "top1_raw": "top-1 of such a probe on the embedding itself",
            "edges": (
                "for how many of the k' the chosen C is the first or last value of the "
                "grid"
            ),
            "unconverged": (
                "for how many of the k' a fit stopped at its limit of passes over the "
                "codes, short of its tolerance"
            ),
        },
        effects_notes=_EFFECTS_OF_METHODS,
        no_effects=_NO_METHODS,
    ),
    4: TableText(
        title="mask ablation",
        notes=(
            "A row has the chosen SAEs of a method beside those of its ablation, which "
            "have the same trial and seed. In the paper the ablation has the penalty "
            "on all latents instead of the batch-active ones. MS and dead are as in "
            "Table 1."
        ),
        columns={
            "dead_no_mask": "of the ablation",
            "..._added": "what the ablation adds to the column of that name",
        },
        effects_notes=_EFFECTS_OF_PAIRS,
        no_effects=_NO_PAIRS,
    ),
}
_GENERAL_NOTES = (
    "Test split; means over {seeds} seed(s). Lambda is chosen on the validation split: "
    "it is the largest whose R2 is at least that of the method compared with (the "
    "baseline). Controls ({controls}) are not tuned and stand at their own R2. Where "
    "the paper reports the same cell, a number is: ours (published, difference)."
)
_MARKS = {
    "-": "not defined here",
    ">": "the choice is the largest lambda of the sweep, so a larger one might do too",
    "=": (
        "nothing was acceptable, and the row repeats the numbers of the baseline "
        "(after a mark: in how many of the seeds)"
    ),
    "!": (
        "the baseline leaves 5 % or more of its latents dead on the training images: "
        "it is not well trained"
    ),
    "x": (
        "so many of the SAEs among which was chosen diverged: none of these can be "
        "chosen"
    ),
}
_PUBLISHED_NOTES = (
    "The paper's numbers, for its own datasets and backbones at m = 8192."
)


def table_files(
    metrics: pd.DataFrame, published_folder: Path, names: Names
) -> dict[str, str]:
    """Print the four tables, each as csv, md and tex.

    Args:
        metrics: The rows of metrics.parquet under protocol `paper`.
        published_folder: The paper's tables as CSV.
        names: How methods, datasets and backbones are printed.

    Returns:
        {file name: text}; csv has ids, md and tex have labels and end in the published
        table.
    """
    published_tables = published.read(published_folder)
    # Labels are no markup: notes and captions are paragraphs of it.
    head = prose(describe_training(metrics, names))
    controls = prose(", ".join(map(names.method, names.controls)))
    general_notes = _GENERAL_NOTES.format(
        seeds=metrics["seed"].nunique(), controls=controls or "none here"
    )

    texts = {}
    for number, text in TEXTS.items():
        table = measured(number, metrics, names)
        table = beside_published(number, table, published_tables)
        table_effects = effects(number, table, published_tables, names)
        published_rows = pd.read_csv(
            published_folder / published.FILES[number], dtype=str
        )
        title = f"Table {number}: {text.title}"
        table_text = as_text(number, table, names)
        notes = f"{general_notes} {text.notes}"
        meanings = {**text.columns, **_MARKS}
        effects_notes = text.effects_notes
        if table_effects.empty:
            effects_notes = text.no_effects
        published_title = f"Published (arXiv:2606.27321, Table {number})"
        paragraphs = [
            f"# {title}",
            head,
            markdown(table_text),
            wrapped(notes),
            column_key(meanings),
            markdown(effects_as_text(number, table_effects, names)),
            wrapped(effects_notes),
            f"# {published_title}",
            _PUBLISHED_NOTES,
            markdown(published_rows),
        ]
        # LaTeX has no effects.
        caption = f"{title}. {head} {notes} {column_key_in_line(meanings)}"
        tex_tables = [
            latex(table_text, caption),
            latex(published_rows, f"{published_title}. {_PUBLISHED_NOTES}"),
        ]

        csv = table.to_csv(index=False, lineterminator="\n")
        texts[f"table{number}.csv"] = csv
        texts[f"table{number}.md"] = "\n\n".join(paragraphs) + "\n"
        texts[f"table{number}.tex"] = "\n".join(tex_tables)
    return texts


# -- the table itself


def as_text(number: int, table: pd.DataFrame, names: Names) -> pd.DataFrame:
    """Print a table with labels.

    A cell that the paper has too shows "ours (published, difference)".

    Args:
        number: The table's number in the paper.
        table: What :func:`sae.comparison.paper_tables.beside_published` returned.
        names: How methods, datasets and backbones are printed.
    """
    texts = {
        "encoder": table["encoder"].map(names.backbone),
        "data": table["data"].map(names.dataset),
        "k": table["k"].astype(str),
        "method": table["method"].map(names.method),
    }
    if TABLES[number].of_pairs:
        texts["ablation"] = table["ablation"].map(names.method)
    for column in TABLES[number].columns:
        heading = column.heading
        numbers = table.reindex(
            columns=[heading, f"{heading}_published", f"{heading}_difference"]
        )
        texts[heading] = [
            _number_beside_published(column.about.style, *row)
            for row in numbers.to_numpy(float)
        ]

    choice = "lambda" if _sweeps_lambda_alone(table) else "trial"
    chosen = table[choice].replace("", "-")
    texts[choice] = (chosen + " " + table["mark"]).str.strip()
    return pd.DataFrame(texts)


def _number_beside_published(
    style: str, value: float, published_value: float, difference: float
) -> str:
    text = "-" if isnan(value) else format(value, style)
    if isnan(published_value):
        return text
    published_text = format(published_value, style)
    return f"{text} ({published_text}, {format(difference, '+' + style)})"


def _sweeps_lambda_alone(table: pd.DataFrame) -> bool:
    for trials, lambdas in zip(table["trial"], table["lambda"], strict=True):
        names = {trial_name({"lambda": float(value)}) for value in lambdas.split()}
        if not names.union({trial_name({})}).issuperset(trials.split()):
            return False
    return True


# -- effects


def effects_as_text(
    number: int, table_effects: pd.DataFrame, names: Names
) -> pd.DataFrame:
    """Print differences between methods: a line for each column of the table.

    Args:
        number: The table's number in the paper.
        table_effects: What :func:`sae.comparison.paper_tables.effects` returned.
        names: How methods are printed.

    Returns:
        `difference`, the heading; then two columns for each pair of methods: the effect
        and the published one. Titles of columns may repeat.
    """
    headings = {column.heading: column for column in TABLES[number].compared}
    pairs = table_effects.groupby(["method", "against"], sort=False)
    titles = _pair_titles(number, [pair for pair, _ in pairs], names)

    # No mapping from title to lines: two methods may have the same label.
    column_titles = ["difference"]
    columns = [list(headings) if len(table_effects) else []]
    for pair, rows in pairs:
        effects_text = [
            _effect(row, headings[row["column"]].about.style)
            for row in rows.to_dict("records")
        ]
        column_titles += [titles[pair], f"{titles[pair]}, published"]
        columns += [effects_text, rows["published"].tolist()]
    by_place = dict(enumerate(columns))
    return pd.DataFrame(by_place).set_axis(column_titles, axis=1)


def _pair_titles(
    number: int, pairs: list[tuple[str, str]], names: Names
) -> dict[tuple[str, str], str]:
    """Return {(method, against): title}, which names no more than tells pairs apart."""
    compared_with = [against for _, against in pairs]
    different = len(set(compared_with))
    titles = {}
    for method, against in pairs:
        if TABLES[number].of_pairs:
            # A method may have several ablations.
            repeats = different < len(compared_with)
            title = names.method(method if repeats else against)
        else:
            title = names.method(method)
            if different > 1:
                title += f" against {names.method(against)}"
        titles[method, against] = title
    return titles


def _effect(row: Mapping[str, Any], style: str) -> str:
    if not row["cells"]:
        return "-"
    signed = "+" + style
    mean = format(row["mean"], signed)
    low = format(row["low"], signed)
    high = format(row["high"], signed)
    return f"{mean} ({low} to {high}), {row['up']}/{row['cells']}"


# -- how the baseline was trained


def describe_training(metrics: pd.DataFrame, names: Names) -> str:
    """Say how the first baseline was trained, and how many SAEs diverged.

    How well the baseline is trained decides what a difference from it is worth.
    """
    sentences = []
    for baseline in names.baselines[:1]:
        rows = metrics[(metrics["method"] == baseline) & (metrics["split"] == "test")]
        chosen = rows[rows["selected"]]
        for dataset, dataset_rows in chosen.groupby("dataset", sort=False):
            steps = _range(values(dataset_rows, "steps"))
            images = _range(values(dataset_rows, "images_per_latent"))
            sentences.append(
                f"{names.dataset(str(dataset))}: {steps} steps, {images} training "
                "images per latent"
            )

        trials = 0
        if len(rows):
            trials = int(rows.groupby(RUN)["trial"].nunique().max())
        choice = "it has the recipe as it is given, not tuned"
        if trials > 1:
            choice = f"validation chose among {trials} trials"
        sentences.append(f"{names.method(baseline)}: {choice}")

    for method, count in diverged(metrics).items():
        sentences.append(f"{names.method(method)}: {count} SAEs diverged")
    return "; ".join(sentences) + "." if sentences else ""


def _range(numbers: pd.Series) -> str:
    low = _short_number(numbers.min())
    high = _short_number(numbers.max())
    return low if low == high else f"{low} to {high}"


def _short_number(number: float) -> str:
    return "-" if isnan(number) else format(round(number, 1), ",g")

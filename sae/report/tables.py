"""The paper's tables from the tidy metrics, as csv (with ids), md and tex (with labels)."""

import re
from collections.abc import Sequence
from math import isnan
from pathlib import Path

import pandas as pd
from pydantic import Field

from sae.comparison import (
    controls,
    detection,
    fronts,
    outcomes,
    published,
    readings,
)
from sae.comparison.fronts import FrontRule
from sae.comparison.intervals import IntervalRule
from sae.comparison.pairs import COLUMNS as PAIR_COLUMNS
from sae.comparison.paper_tables import TABLES, beside_published, effects, measured
from sae.comparison.scores import RUN, SCORES, across_groups, diverged, values
from sae.config.rule import ClaimRule
from sae.core import files
from sae.report import board
from sae.report import controls as of_controls
from sae.report import detection as of_detection
from sae.report import fronts as of_fronts
from sae.report.markup import latex, markdown, prose
from sae.report.names import Names
from sae.scoring.front import ENDPOINTS
from sae.scoring.selection import chosen_rows, rows_under


class ComparisonSettings(Names):
    """How things are printed, and by which rules methods are compared.

    Attributes:
        claims: The rule of the paper's claims; its confidence and fewest blocks hold for
            fronts, too.
        fronts: The rule of fronts.
        families: {backbone: its family}.
    """

    claims: ClaimRule
    fronts: FrontRule = FrontRule()
    families: dict[str, str] = Field({})

    @property
    def intervals(self) -> IntervalRule:
        """How wide the intervals of fronts are."""
        rule = self.claims
        return IntervalRule(confidence=rule.confidence, min_blocks=rule.min_blocks)


TITLES = {
    1: "reconstruction and monosemanticity",
    2: "class purity",
    3: "linear probes on truncated codes",
    4: "mask ablation",
}
NOTES = {
    1: """\
MS_mean and MS_median count latents without a score as 0; the _alive columns leave them out (a score needs two images
that activate the latent). MS compares only within a backbone: floor is the mean cosine of two test images. MS_across
is MS_mean_alive without pairs of near-duplicates, where the dataset knows them. MS_independent is MS_mean_alive as
the experiment's backbones of other families see it, mean over these; _across: likewise. dead: latents never active
on the test images; dead_train: on the training images. n_k_over_m: activations per latent on the test images.""",
    2: """\
Share of a latent's images (weighted: of its activation) that are of its most frequent class, mean over active latents.
-null: minus the same after permuting the labels, which is what latents that fire as rarely reach by chance; a claim
about purity rests on it. binary_min10: over latents that fire on 10 test images or more. coarse: by the dataset's
coarse labels.""",
    3: """\
Each sample's k' largest activations, a multinomial logistic regression on the training codes, top-1 on test. AUC: area
under top-1 over k' from 1 to K, divided by K (at most (K-1)/K); AUC_above_1: divided by K-1. K is the smallest training
k of the experiment; top1: at k' = K. top1_raw: the same probe on the embedding itself. C is chosen on the validation
split for every SAE and k'; edges: for how many of the k' it is the first or last value of the grid; unconverged: for
how many a fit stopped at its limit of passes over the codes, short of its tolerance.""",
    4: """\
The chosen SAEs of a method, and of the ablation that is trained as it was chosen: with the same trial and seed, in the
paper with the penalty on all latents instead of the batch-active ones (no_mask). _added: what the ablation adds. MS and
dead as in Table 1.""",
}
_NO_PAIRS_READ = pd.DataFrame(columns=PAIR_COLUMNS)
WORTH = [name for name, score in SCORES.items() if score.worth]
GENERAL_NOTES = """\
Test split; means over {seeds} seed(s). lambda is chosen on the validation split: the largest whose R2 is at least that
of the method compared with (the baseline). Controls ({controls}) are not tuned and stand at their own R2. `-`: not
defined here. Where the paper reports the same cell: ours (published,
difference).

Marks: `>` the choice is the largest lambda of the sweep, so a larger one might do too; `=` nothing was acceptable, and
the row repeats the numbers of the method compared with (after a mark: in how many of the seeds); `!` the baseline
leaves 5 % or more of its latents dead on the training images: it is not well trained; `x` so many of the SAEs among
which was chosen diverged: none of these can be chosen."""
_THEIR_NOTES = "The paper's numbers, for its own datasets and backbones at m = 8192."
NO_CONTROLS = (
    "Empty: no method of this experiment is a control (`control` in config.yaml)."
)
_EFFECTS_NOTES = "Mean over cells (lowest to highest), and in how many it is above 0."
_PUBLISHED_NOTE = (
    "Published: the paper's mean, and in how many of its own cells it goes up or down."
)
_NO_PAIRS = "Empty: no method of this experiment is trained at the choice of another one (`at` in config.yaml)."
_NO_EFFECTS = "No effects: no method of this experiment is compared with another one (`against` in config.yaml)."


def effects_as_text(number: int, found: pd.DataFrame, names: Names) -> pd.DataFrame:
    """What :func:`effects` returned, for reading: a line a column, each method's effect beside the published one."""
    spec, columns = (
        TABLES[number],
        {column.heading: column for column in TABLES[number].compared},
    )
    by = found.groupby(["method", "against"], sort=False)
    # What else must be named, where a method has several ablations, or methods are against different ones.
    others = [other for (_, other), _ in by]
    several = len(set(others)) < len(others) if spec.of_pairs else len(set(others)) > 1
    # Not a mapping: what is a title here, a label may be too.
    shown = [("difference", list(columns) if len(found) else [])]
    for (method, other), rows in by:
        title = names.method(method if several or not spec.of_pairs else other)
        title += (
            f" against {names.method(other)}" if several and not spec.of_pairs else ""
        )
        styles = [columns[heading].about.style for heading in rows["column"]]
        shown.append((title, list(map(_effect, rows.to_dict("records"), styles))))
        shown.append((f"{title}, published", rows["published"].tolist()))
    texts = {number: lines for number, (_, lines) in enumerate(shown)}
    return pd.DataFrame(texts).set_axis([title for title, _ in shown], axis=1)


def _effect(row: dict, style: str) -> str:
    if not row["cells"]:
        return "-"
    mean, low, high = (
        format(row[name], "+" + style) for name in ("mean", "low", "high")
    )
    return f"{mean} ({low} to {high}), {row['up']}/{row['cells']}"


def effects_notes(number: int, found: pd.DataFrame) -> str:
    """What a reader must know of :func:`effects`."""
    spec = TABLES[number]
    if found.empty:
        return _NO_PAIRS if spec.of_pairs else _NO_EFFECTS
    first = (
        ""
        if spec.of_pairs
        else "Difference from the method compared with (the baseline). "
    )
    return f"{first}{_EFFECTS_NOTES}\n{_PUBLISHED_NOTE}"


def write(
    metrics_file: Path,
    latents_file: Path,
    published_folder: Path,
    settings: ComparisonSettings,
    out: Path,
    *,
    beside: Sequence[Path] = (),
) -> None:
    """Write all tables: `out`/table{1,2,3,4}.csv, .md and .tex; md and tex end in the published table.

    And `out`/controls.csv and .md, what the scores of these tables are worth (`sae.comparison.controls`);
    `out`/fronts.csv and .md, front_means.csv and other front_*.csv, how methods compare at the same R^2
    (`sae.comparison.fronts`); detection.csv and .md (`sae.comparison.detection`); leaderboard.csv and .md, all methods
    on one board (`sae.comparison.board`).

    Args:
        metrics_file: metrics.parquet; made_by.json lies beside it.
        latents_file: latents.parquet.
        published_folder: the paper's tables as CSV.
        out: the folder to write into.
        settings: :class:`ComparisonSettings`.
        beside: folders of other experiments' results, whose methods stand on the board too.
    """
    metrics, tables = (
        rows_under(files.read_parquet(metrics_file), "paper"),
        published.read(published_folder),
    )
    # Both hold labels, which are no markup: notes and captions are paragraphs of it.
    about = prose(training(metrics, settings))
    controlled = prose(", ".join(map(settings.method, settings.controls)))
    controlled = controlled or "none here"
    general = GENERAL_NOTES.format(seeds=metrics["seed"].nunique(), controls=controlled)
    made = {}
    for number in TABLES:
        table = beside_published(number, measured(number, metrics, settings), tables)
        shown, found = (
            as_text(number, table, settings),
            effects(number, table, tables, settings),
        )
        theirs = pd.read_csv(published_folder / published.FILES[number], dtype=str)
        title, their_title = (
            f"Table {number}: {TITLES[number]}",
            f"Published (arXiv:2606.27321, Table {number})",
        )
        notes = f"{NOTES[number]}\n{general}"
        parts = [
            f"# {title}",
            about,
            markdown(shown),
            notes,
            markdown(effects_as_text(number, found, settings)),
        ]
        parts += [
            effects_notes(number, found),
            f"# {their_title}",
            _THEIR_NOTES,
            markdown(theirs),
        ]
        caption, their_caption = (
            f"{title}. {about} {notes}",
            f"{their_title}. {_THEIR_NOTES}",
        )
        made[f"table{number}.csv"] = table.to_csv(index=False, lineterminator="\n")
        made[f"table{number}.md"] = "\n\n".join(parts) + "\n"
        made[f"table{number}.tex"] = (
            latex(shown, caption) + "\n" + latex(theirs, their_caption)
        )
    picked = chosen_rows(metrics, "test", settings.compared)
    worth = controls.compare(picked, settings, WORTH, settings.claims)
    said = (
        [markdown(of_controls.as_text(worth, settings)), of_controls.NOTES]
        if len(worth)
        else [NO_CONTROLS]
    )
    made["controls.csv"] = worth.to_csv(index=False, lineterminator="\n")
    made["controls.md"] = (
        "\n\n".join(["# What the scores are worth", about, *said]) + "\n"
    )
    made |= _fronts(across_groups(files.read_parquet(metrics_file)), picked, settings)
    found = detection.by_cell(picked, files.read_parquet(latents_file), settings)
    shown = of_detection.as_text(detection.differences(found, settings), settings)
    said = [markdown(shown), of_detection.NOTES] if len(found) else [of_detection.NONE]
    made["detection.csv"] = found.to_csv(index=False, lineterminator="\n")
    made["detection.md"] = (
        "\n\n".join(["# Detection by how often latents fire", *said]) + "\n"
    )
    made |= board.render([metrics_file.parent, *beside])
    for name, text in made.items():
        files.write_text(out / name, text)
    files.write_sums(out / "tables.sums.json", [out / name for name in made])


def _fronts(
    metrics: pd.DataFrame, picked: pd.DataFrame, names: ComparisonSettings
) -> dict[str, str]:
    """Return the tables of fronts and their page, {file name: text}.

    Args:
        metrics: All SAEs, MS across groups.
        picked: Those that protocol `paper` chose, on test, for the controls.
        names: How things are printed, and the rules.
    """
    found = readings.read(metrics, names.tuned, names.fronts)
    means = outcomes.means(found, names.families, names.intervals)
    datasets = outcomes.by_dataset(found.fronts, names.families)
    scale = _scale(picked, names)
    imported = controls.imported_beside(
        across_groups(picked), names, ("r2", *of_fronts.JUDGED, "measured")
    )
    sensitivity = _sensitivity(metrics, names)

    parts = ["# Fronts: each method beside its baseline at the same R2"]
    parts += of_fronts.page(
        means,
        names,
        names.fronts,
        names.intervals,
        datasets=datasets if len(datasets["dataset"].unique()) > 1 else None,
        controls=scale,
    )
    if len(imported):
        beside = of_fronts.imported_table(imported, names)
        parts += ["## Made elsewhere", markdown(beside), of_fronts.IMPORTED]
    if len(of_fronts.judged_table(means, names)):
        what_if = of_fronts.what_if(sensitivity, names)
        parts += ["## What if", markdown(what_if), of_fronts.WHAT_IF]
    made = {
        "fronts.csv": fronts.by_cell(found.fronts),
        "front_means.csv": means,
        "front_datasets.csv": datasets,
        "front_pairs.csv": found.pairs,
        "front_controls.csv": scale,
        "front_sensitivity.csv": sensitivity,
        "front_imported.csv": imported,
    }
    texts = {
        name: table.to_csv(index=False, lineterminator="\n")
        for name, table in made.items()
    }
    return texts | {"fronts.md": "\n\n".join(parts) + "\n"}


def _scale(picked: pd.DataFrame, names: ComparisonSettings) -> pd.DataFrame:
    """Return the controls' differences in what methods are judged by.

    They are over all datasets together, where there are several, with MS across groups.
    """
    judged = of_fronts.JUDGED
    worth = controls.compare(across_groups(picked), names, judged, names.claims)
    several = worth["dataset"] == controls.ALL
    return worth[several] if several.any() else worth


def _sensitivity(metrics: pd.DataFrame, names: ComparisonSettings) -> pd.DataFrame:
    """Return the means of the endpoints under other bounds of what is feasible."""
    parts = []
    of_protocol = fronts.of_protocol(metrics, names.fronts)
    for asked, table in fronts.sensitivity(of_protocol, names.tuned, names.fronts):
        found = readings.Readings(table, table[:0], _NO_PAIRS_READ)
        means = outcomes.means(found, names.families, names.intervals)
        parts.append(means[means["score"].isin(ENDPOINTS)].assign(asked=asked))
    return pd.concat(parts)


def training(metrics: pd.DataFrame, names: Names) -> str:
    """How the baseline was trained, which decides what a difference is worth, and what diverged: a table's head."""
    said = []
    for baseline in names.baselines[:1]:
        rows = metrics[(metrics["method"] == baseline) & (metrics["split"] == "test")]
        for dataset, of in rows[rows["selected"]].groupby("dataset", sort=False):
            steps, images = (
                _range(values(of, column)) for column in ("steps", "images_per_latent")
            )
            said.append(
                f"{names.dataset(str(dataset))}: {steps} steps, {images} training images per latent"
            )
        trials = int(rows.groupby(RUN)["trial"].nunique().max()) if len(rows) else 0
        plain = "it has the recipe as it is given, not tuned"
        tuned = f"validation chose among {trials} trials" if trials > 1 else plain
        said.append(f"{names.method(baseline)}: {tuned}")
    said += [
        f"{names.method(name)}: {count} SAEs diverged"
        for name, count in diverged(metrics).items()
    ]
    return "; ".join(said) + "." if said else ""


def _range(values: pd.Series) -> str:
    low, high = (
        "-" if isnan(v) else format(round(v, 1), ",g")
        for v in (values.min(), values.max())
    )
    return low if low == high else f"{low} to {high}"


def as_text(number: int, table: pd.DataFrame, names: Names) -> pd.DataFrame:
    """A table for reading, with labels; a cell that the paper has too shows 'ours (published, difference)'."""
    shown = {
        "encoder": table["encoder"].map(names.backbone),
        "data": table["data"].map(names.dataset),
    }
    shown |= {"k": table["k"].astype(str), "method": table["method"].map(names.method)}
    if TABLES[number].of_pairs:
        shown["ablation"] = table["ablation"].map(names.method)
    for column in TABLES[number].columns:
        name = column.heading
        numbers = table.reindex(
            columns=[name, f"{name}_published", f"{name}_difference"]
        )
        shown[name] = [
            _written(column.about.style, *row) for row in numbers.to_numpy(float)
        ]
    # What was chosen: lambda alone where nothing else is swept.
    trials = " ".join(table["trial"]).split()
    plain = all(
        re.fullmatch(r"default|lambda\d[\d.]*(e[+-]\d+)?", trial) for trial in trials
    )
    choice = "lambda" if plain else "trial"
    shown[choice] = (table[choice].replace("", "-") + " " + table["mark"]).str.strip()
    return pd.DataFrame(shown)


def _written(style: str, value: float, theirs: float, difference: float) -> str:
    text = "-" if isnan(value) else format(value, style)
    return (
        text
        if isnan(theirs)
        else f"{text} ({format(theirs, style)}, {format(difference, '+' + style)})"
    )

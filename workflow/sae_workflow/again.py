"""Make one cell of a submission again, and compare: what `make again` does.

    python -m sae_workflow.again mine
    python -m sae_workflow.again mine emoji efficientnet_lite0 32

The files are checked against their hashes; the cell (dataset, backbone, k) is run here
by the submitted config, by default that of the fewest training images; and each SAE's
scores are compared with the submitted ones. Where code, machine, threads and versions
are those of the submission, they must be the same to the bit. Elsewhere floats differ,
so that validation may choose other trials: half of the SAEs at least must be the same,
of each method that is tuned, on each split and with each seed; and their scores differ
by no more than `TOLERANCE`, the means of methods on a split by no more than
`TOLERANCE_OF_MEAN`, what the leaderboard averages over cells by no more than
`TOLERANCE_OF_EFFECT`. The tables are made anew from the rows in any case.
If all is well, docs/results/mine.made_again.json says what was made and by which of the
two rules, and `python bench/leaderboard.py` marks the rows.

Entries of somebody else's are code, which runs here: they are named, and nothing starts
before `--read` says that they were read.

Snakemake lacks it: it runs jobs again, and does not compare what comes out.
"""

import json
import shutil
from collections.abc import Collection
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from sae.comparison import leaderboard
from sae.comparison.scores import SCORES, across_groups
from sae.comparison.verdicts import NEGLIGIBLE
from sae.config.extends import write_out_sections
from sae.config.models import Config
from sae.config.problems import Problems
from sae.config.yaml_file import parse_file
from sae.core import files, paths
from sae.core.errors import UserError, describe_unknown
from sae.report.names import Names
from sae.report.site.build import versions
from sae.scoring.choice import DETECTION, ENDPOINTS, MS
from sae.scoring.rows import CELL, KEY
from sae_workflow import settings, submission
from sae_workflow.command_line import run_command, say
from sae_workflow.run import free_the_folder, run_snakemake
from sae_workflow.settings import Cell

# {score: by how much that of an SAE may differ}. Another processor rounds otherwise,
# which training makes nearly as much of as of another seed. No three seeds of one trial
# differ by more in any kept result.
TOLERANCE = {"r2": 0.02, DETECTION: 0.03, "detection_per_latent": 0.04, MS: 0.03}
# And by how much the mean over the SAEs of a method that is tuned, on a split: what the
# leaderboard calls equivalent. A control has too few SAEs for it.
TOLERANCE_OF_MEAN = NEGLIGIBLE
# And by how much the difference from the baseline, which the leaderboard averages over
# cells. An SAE that was not trained here is seen in nothing else. No three seeds give
# differences in a cell that are further apart in any kept result.
TOLERANCE_OF_EFFECT = 0.02
# Of a tuned method's SAEs on a split and with a seed, of the submitted ones and of those
# that were made here: new seeds on test are few, and are what the leaderboard reads.
LEAST_SHARED = 0.5
GROUP = ["method", "split", "seed"]
# How a cell is compared: to the bit where all that decides on the bits is the same.
TO_THE_BIT = "to the bit"
WITHIN_TOLERANCES = "within tolerances"
# What of made_by.json decides on how rows are read, and not on how they were made.
READING = {"methods", "intervals", "families"}
SECTIONS = ("methods", "training", "datasets", "backbones", "metrics", "protocols")


def main(experiment: str, *cell: str, read: bool = False) -> int | None:
    """Make a cell again, and record it if it is what was submitted.

    Returns:
        None if it is, else 1.
    """
    submission.check_name(experiment)
    folder = submission.KEPT / experiment
    record = submission.read(folder)
    _refuse_unread(folder, read)
    metrics_file = Path(paths.METRICS.format(experiment=experiment))
    if metrics_file.exists():
        raise UserError(
            f"{metrics_file} is here, so these rows were made in this checkout: make "
            "them again in another one"
        )
    commit = submission.clean_commit()
    submission.record_of_again(folder).unlink(missing_ok=True)
    # Code that was compiled elsewhere.
    for cache in folder.rglob("__pycache__"):
        shutil.rmtree(cache)

    config_file = folder / submission.CONFIG
    config = settings.read_config("config.yaml", config_file)
    if experiment not in config.experiments:
        raise UserError(f"{config_file} has no experiment {experiment}: submit again")
    rows = leaderboard.read(folder)
    refuse_other_claims(config, record, rows, folder)
    made_cell = choose_cell(config, experiment, record.training_images, cell)
    machine = submission.machine(config)
    differing = differences_of_origin(record, commit, machine)
    for line in differences_of_config(config, folder) + differing:
        say(line)

    made, made_selection = _make(experiment, made_cell, config_file)
    submission.make_tables("rebuild", folder, "--config", config_file)
    submitted, submitted_selection = (
        table[(table[CELL] == list(made_cell.wildcards.values())).all(axis=1)]
        for table in (rows.metrics, rows.selection)
    )
    comparison = compare(submitted, made, rows.made_by.methods.tuned)
    say(describe(comparison))
    problems = refusals(comparison)
    problems += refusals_of_effects(
        leaderboard.ExperimentRows(submitted, submitted_selection, rows.made_by),
        leaderboard.ExperimentRows(made, made_selection, rows.made_by),
    )
    rule = WITHIN_TOLERANCES
    if not differing:
        rule = TO_THE_BIT
        problems += unequal_scores(submitted, made)
    say(f"compared {rule}")
    images = files.read_json(paths.DATASET.format(dataset=made_cell.dataset))["images"]
    said = record.training_images[made_cell.dataset]
    if said != images["train"]:
        problems.append(f"{said} training images were said, here are {images['train']}")
    cell_name = " / ".join(map(str, made_cell.wildcards.values()))
    if problems:
        for line in problems:
            say(f"{experiment}, {cell_name}: {line}")
        say("not made again: the rows stay as submitted")
        return 1

    largest = {score: row["difference"] for score, row in comparison["largest"].items()}
    found = {
        "submission": files.sha256(folder / submission.RECORD),
        "tables": submission.sums_of_tables(folder),
        "cell": made_cell.wildcards,
        "rows": comparison["shared"],
        "submitted_rows": comparison["submitted"],
        "rule": rule,
        "largest_difference": largest,
        "commit": commit,
        "machine": machine,
        "versions": versions(),
    }
    files.write_json(submission.record_of_again(folder), found)
    say(
        f"made again: {experiment}, {cell_name}. `python bench/leaderboard.py` marks it"
    )
    return None


def refuse_other_claims(
    config: Config,
    record: submission.Submission,
    rows: leaderboard.ExperimentRows,
    folder: Path,
) -> None:
    """Refuse a submission whose rows or words are not what its config gives.

    Args:
        config: The config with that of the submission laid over it.
        record: What the submission says of itself.
        rows: Its rows, and what made them.
        folder: Its folder.

    Raises:
        UserError: names what differs.
    """
    experiment = record.experiment
    advice = f"check out its commit, {record.commit[:8]}, if it is an older one"
    differing = READING & {*submission.differing_parts(config, experiment, folder)}
    if differing:
        raise UserError(
            f"{folder / leaderboard.MADE_BY} has other {', '.join(sorted(differing))} "
            f"than its config gives: {advice}"
        )
    spec = config.experiments[experiment]
    if record.training_images.keys() != {*spec.datasets}:
        raise UserError(
            f"{folder / submission.RECORD}: training_images: these are not of the "
            f"config's datasets, {', '.join(spec.datasets)}"
        )
    design = submission.design(config, experiment, rows, record.training_images)
    names = Names.model_validate(settings.printed_names(config, experiment))
    for key, value in {"design": design, "names": names}.items():
        if getattr(record, key) != value:
            raise UserError(
                f"{folder / submission.RECORD}: {key}: its config and rows give another "
                f"one, {value}: {advice}"
            )
    twice = rows.metrics[rows.metrics.duplicated(KEY)]
    if len(twice):
        row = " / ".join(map(str, twice[KEY].iloc[0]))
        raise UserError(f"{folder}: metrics.parquet has rows twice, such as {row}")
    cells = {
        tuple(cell.wildcards.values()) for cell in settings.cells(config, experiment)
    }
    differing_cells = cells ^ {*rows.metrics[CELL].itertuples(index=False, name=None)}
    if differing_cells:
        cell = " / ".join(map(str, min(differing_cells)))
        raise UserError(
            f"{folder}: its metrics.parquet and its config have other cells, such as "
            f"{cell}"
        )


def choose_cell(
    config: Config, experiment: str, training_images: dict[str, int], words: Any = ()
) -> Cell:
    """Return the cell that is named, else the one of the fewest images and least k.

    Args:
        config: The config.
        experiment: The experiment.
        training_images: {dataset: how many training images it has}.
        words: Dataset, backbone and k; none: choose.

    Raises:
        UserError: the experiment has no such cell.
    """
    cells = settings.cells(config, experiment)
    if not words:
        return min(cells, key=lambda cell: (training_images[cell.dataset], cell.k))
    cell_by_name = {" ".join(map(str, cell.wildcards.values())): cell for cell in cells}
    name = " ".join(words)
    if name not in cell_by_name:
        raise UserError(f"cell {describe_unknown(name, cell_by_name)}")
    return cell_by_name[name]


def differences_of_config(config: Config, folder: Path) -> list[str]:
    """Return lines on what may be looked at: entries, and what made the rows.

    Args:
        config: The config with that of the submission laid over it.
        folder: The submission's.
    """
    lines = differing_entries(folder / submission.CONFIG)
    differing = submission.differing_parts(config, folder.name, folder)
    if differing:
        lines.append(
            f"made_by.json differs here in {', '.join(differing)}: check out the "
            "submission's commit if the scores differ"
        )
    return lines


def differences_of_origin(
    record: submission.Submission, commit: str, machine: str
) -> list[str]:
    """Return a line for each of code, machine and libraries that differs.

    Args:
        record: What a submission says of itself.
        commit: Of this checkout.
        machine: This one, in words.
    """
    said = {**record.versions, "machine": record.machine}
    here = {**versions(), "machine": machine}
    lines = [
        f"{name}: {said.get(name)}, here {here.get(name)}"
        for name in said | here
        if said.get(name) != here.get(name)
    ]
    if not submission.is_code_of(record.commit):
        lines.append(f"code: of commit {record.commit[:8]}, here of {commit[:8]}")
    return lines


def differing_entries(config_file: Path) -> list[str]:
    """Return lines on a submitted config's entries that are not the project's."""
    raw, _ = settings.merge_config_files("config.yaml")
    # As a submitted config has them.
    usual = json.loads(json.dumps(write_out_sections(raw, Problems())))
    submitted = parse_file(config_file)
    lines = []
    for section in (*SECTIONS, "claims"):
        entries = submitted.get(section) or {}
        new = [name for name in entries if name not in usual[section]]
        other = [
            name
            for name, entry in entries.items()
            if name in usual[section] and entry != usual[section][name]
        ]
        if new:
            lines.append(f"{section} of the submitter's own: {', '.join(new)}")
        if other:
            lines.append(
                f"{section} that the submitter defines otherwise: {', '.join(other)}"
            )
    return lines


def compare(
    submitted: pd.DataFrame, made: pd.DataFrame, tuned: Collection[str]
) -> dict[str, Any]:
    """Compare the scores of the SAEs of a cell.

    Args:
        submitted: Tidy metrics of the cell.
        made: The same, made again.
        tuned: The methods that have several trials.

    Returns:
        `submitted`, `made` and `shared`, numbers of rows; `counts`, the same of each
        `GROUP` of the tuned methods, as a table; and `largest`, {score: the largest
        difference, with the SAE and split that has it, both values, and the largest
        mean difference of a tuned method on a split}. A score that one side alone has
        differs by infinity.
    """
    submitted = across_groups(submitted).set_index(KEY)
    made = across_groups(made).set_index(KEY)
    shared = submitted.index.intersection(made.index)
    rows = {"submitted": submitted, "made": made, "shared": submitted.loc[shared]}
    counts = pd.DataFrame({name: of.groupby(GROUP).size() for name, of in rows.items()})
    is_tuned = counts.index.get_level_values("method").isin(tuned)
    largest = {}
    for score in TOLERANCE:
        # Kept are seven digits.
        theirs = SCORES[score].of(submitted.loc[shared]).astype("float32")
        ours = SCORES[score].of(made.loc[shared]).astype("float32")
        signed = theirs - ours
        differences = signed.abs()
        differences[theirs.isna() != ours.isna()] = np.inf
        if differences.notna().any():
            place = differences.idxmax()
            means = signed.groupby(["method", "split"]).mean().dropna()
            means = means[means.index.get_level_values("method").isin(tuned)]
            method = means.abs().idxmax() if len(means) else None
            largest[score] = {
                "difference": float(differences[place]),
                "sae": " / ".join(map(str, place)),
                "submitted": float(theirs[place]),
                "made": float(ours[place]),
                "method": None if method is None else " on ".join(method),
                "mean": 0.0 if method is None else float(means[method]),
            }
    return {
        **{name: len(of) for name, of in rows.items()},
        "counts": counts[is_tuned].fillna(0).astype(int),
        "largest": largest,
    }


def describe(comparison: dict[str, Any]) -> str:
    """Return the largest difference of each score, as lines."""
    shared, submitted = comparison["shared"], comparison["submitted"]
    lines = [
        f"{shared} of the {submitted} submitted rows of the cell were made here; "
        f"{comparison['made'] - shared} that were made here were not submitted"
    ]
    for score, row in comparison["largest"].items():
        text = "no difference in seven digits"
        if row["difference"]:
            text = (
                f"differs by {row['difference']:.2g} at most ({row['submitted']:.5g} "
                f"submitted, {row['made']:.5g} here: {row['sae']}), of the means of "
                f"methods by {abs(row['mean']):.2g}"
            )
        lines.append(f"{SCORES[score].label}: {text}")
    return "\n".join(lines)


def refusals(comparison: dict[str, Any]) -> list[str]:
    """Return why a cell is not what was submitted; nothing if it is."""
    lines = []
    counts = comparison["counts"]
    if counts.empty:
        lines.append("it has no method that is tuned: name another one with CELL=")
    if DETECTION not in comparison["largest"]:
        lines.append("it has no detection: name another one with CELL=")
    needed = LEAST_SHARED * counts[["submitted", "made"]].max(axis="columns")
    for (method, split, seed), row in counts[counts["shared"] < needed].iterrows():
        lines.append(
            f"{method} on {split}, seed {seed}: {row['submitted']} SAEs were submitted "
            f"and {row['made']} made here, of which {row['shared']} are the same"
        )
    for score, row in comparison["largest"].items():
        if row["difference"] > TOLERANCE[score]:
            lines.append(
                f"{SCORES[score].label} differs by {row['difference']:.3g}, more than "
                f"{TOLERANCE[score]}: {row['sae']}"
            )
        if abs(row["mean"]) > TOLERANCE_OF_MEAN:
            lines.append(
                f"{SCORES[score].label}: the mean of {row['method']} differs by "
                f"{abs(row['mean']):.3g}, more than {TOLERANCE_OF_MEAN}"
            )
    return lines


def unequal_scores(submitted: pd.DataFrame, made: pd.DataFrame) -> list[str]:
    """Return what differs at all of rows that were made alike, a line a column.

    Args:
        submitted: Tidy metrics of a cell.
        made: The same, made again, without the columns of later stages.
    """
    ours = made.set_index(KEY)
    theirs = submitted.set_index(KEY)
    alone = theirs.index.symmetric_difference(ours.index)
    if len(alone):
        row = " / ".join(map(str, alone[0]))
        return [f"{len(alone)} rows are on one side alone, such as {row}"]
    theirs = theirs.reindex(index=ours.index, columns=ours.columns)
    lines = []
    for name in ours:
        values = pd.DataFrame({"submitted": theirs[name], "made": ours[name]})
        if ours[name].dtype.kind == "f":
            values = values.astype("float32")  # Kept are seven digits.
        is_other = values["submitted"] != values["made"]
        other = values[is_other & values.notna().any(axis="columns")]
        if len(other):
            row = other.iloc[0]
            lines.append(
                f"{name} is other in {len(other)} of {len(values)} rows, such as "
                f"{row['submitted']} submitted, {row['made']} here: "
                f"{' / '.join(map(str, other.index[0]))}"
            )
    return lines


def refusals_of_effects(
    submitted: leaderboard.ExperimentRows, made: leaderboard.ExperimentRows
) -> list[str]:
    """Return which methods differ from their baseline otherwise than was submitted.

    Args:
        submitted: The rows of a cell.
        made: The same, made again.
    """
    table = pd.DataFrame({"submitted": _effects(submitted), "made": _effects(made)})
    difference = (table["submitted"] - table["made"]).abs()
    is_other = difference > TOLERANCE_OF_EFFECT
    is_other |= table["submitted"].isna() != table["made"].isna()
    return [
        f"{SCORES[score].label}: {method} differs from its baseline by "
        f"{row['submitted']:+.3f} as submitted and by {row['made']:+.3f} here"
        for (method, score), row in table[is_other].iterrows()
    ]


def _effects(rows: leaderboard.ExperimentRows) -> pd.Series:
    """Return the effects of a cell that the leaderboard averages."""
    table = rows.effects()
    is_shown = table["score"].isin(ENDPOINTS)
    is_shown &= ~table["control"].astype(bool)
    return table[is_shown].set_index(["method", "score"])["effect"]


def _refuse_unread(folder: Path, read: bool) -> None:
    """Refuse to run entries of somebody else's that nobody has read."""
    entries = [
        file
        for file in sorted((folder / submission.EXTENSIONS).rglob("*"))
        if file.is_file()
    ]
    if entries and not read:
        raise UserError(
            "this would run code of the submitter's: "
            f"{', '.join(map(str, entries))}. Read it first; READ=1 (--read) says that "
            "you have"
        )


def _make(
    experiment: str, cell: Cell, config_file: Path
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Run a cell up to its scores; return these, and what was chosen."""
    files_of_config = ["--configfile", "config.yaml", str(config_file)]
    free_the_folder(files_of_config)
    place = {"experiment": experiment, **cell.wildcards}
    target = paths.STAGE_TABLE.format(**place, stage="score", table="metrics")
    run_snakemake(target, *files_of_config, "--logger", "sae")
    selection = files.read_parquet(paths.SELECTION.format(**place))
    return files.read_parquet(target), selection.assign(**cell.wildcards)


if __name__ == "__main__":
    run_command(main)

"""Make one cell of a submission again, and compare: what `make again` does.

    python -m sae_workflow.again mine
    python -m sae_workflow.again mine emoji efficientnet_lite0 32

The files are checked against their hashes; the cell (dataset, backbone, k) is run here
by the submitted config, by default that of the fewest training images; and each SAE's
scores are compared with the submitted ones. On one machine they are the same to the
bit. On another one floats differ, so that validation may choose other trials: half of
the SAEs at least must be the same, and their scores differ by no more than `TOLERANCE`,
the means of methods by no more than `TOLERANCE_OF_MEAN`. The tables are made anew from
the rows in any case. If all is well, made_again.json says what was made, and `python
bench/leaderboard.py` marks the rows.

Entries of somebody else's are code, which runs here: they are named, and nothing starts
before `--read` says that they were read.

Snakemake lacks it: it runs jobs again, and does not compare what comes out.
"""

from collections.abc import Collection
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml

from sae.comparison import leaderboard
from sae.comparison.outcomes import NEGLIGIBLE
from sae.comparison.scores import SCORES, across_groups
from sae.config.models import Config
from sae.core import files, paths
from sae.core.errors import UserError, describe_unknown
from sae.core.options import from_record
from sae.report.site.build import versions
from sae.scoring.front import DETECTION, MS
from sae.scoring.rows import CELL, KEY, read_metrics
from sae_workflow import settings, submission
from sae_workflow.command_line import run_command, say
from sae_workflow.run import run_snakemake
from sae_workflow.settings import Cell

# {score: by how much that of an SAE may differ}. Another processor rounds otherwise,
# which training makes nearly as much of as of another seed. No three seeds of one trial
# differ by more in any kept result.
TOLERANCE = {"r2": 0.02, DETECTION: 0.03, "detection_auc_all": 0.04, MS: 0.03}
# And by how much the mean over the SAEs of a method that is tuned: what the leaderboard
# calls equivalent. A control has too few SAEs for it.
TOLERANCE_OF_MEAN = NEGLIGIBLE
LEAST_SHARED = 0.5  # of the submitted rows, one for each SAE and split


def main(experiment: str, *cell: str, read: bool = False) -> int | None:
    """Make a cell again, and record it if it is what was submitted.

    Returns:
        None if it is, else 1.
    """
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
    config_file = folder / submission.CONFIG
    config = settings.read_config("config.yaml", config_file)
    made_cell = choose_cell(config, experiment, record["training_images"], cell)
    for line in differences_of_checkout(config, experiment, folder, record, commit):
        say(line)

    made = _make(experiment, made_cell, config_file)
    submission.make_tables("rebuild", folder, "--config", config_file)
    submitted = read_metrics(folder / "metrics.parquet")
    is_of_cell = (submitted[CELL] == list(made_cell.wildcards.values())).all(axis=1)
    tuned = from_record(
        leaderboard.MadeBy, files.read_json(folder / leaderboard.MADE_BY)
    ).methods.tuned
    comparison = compare(submitted[is_of_cell], made, tuned)
    say(describe(comparison))
    problems = refusals(comparison)
    cell_name = " / ".join(map(str, made_cell.wildcards.values()))
    if problems:
        (folder / submission.MADE_AGAIN).unlink(missing_ok=True)
        for line in problems:
            say(f"{experiment}, {cell_name}: {line}")
        say("not made again: the rows stay as submitted")
        return 1

    largest = {score: row["difference"] for score, row in comparison["largest"].items()}
    found = {
        "submission": files.sha256(folder / submission.RECORD),
        "cell": made_cell.wildcards,
        "rows": comparison["shared"],
        "submitted_rows": comparison["submitted"],
        "largest_difference": largest,
        "commit": commit,
        "machine": submission.machine(config),
        "versions": versions(),
    }
    files.write_json(folder / submission.MADE_AGAIN, found)
    say(
        f"made again: {experiment}, {cell_name}. `python bench/leaderboard.py` marks it"
    )
    return None


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


def differences_of_checkout(
    config: Config,
    experiment: str,
    folder: Path,
    record: dict[str, Any],
    commit: str,
) -> list[str]:
    """Return lines on what may be looked at: entries, code and libraries that differ.

    Args:
        config: The config with that of the submission laid over it.
        experiment: The experiment.
        folder: The submission's.
        record: What it says of itself.
        commit: Of this checkout.
    """
    lines = []
    usual, _ = settings.merge_config_files("config.yaml")
    submitted = yaml.safe_load((folder / submission.CONFIG).read_text("utf-8"))
    for section in ("methods", "datasets", "backbones", "metrics", "protocols"):
        new = [name for name in submitted[section] if name not in usual[section]]
        if new:
            lines.append(f"{section} of the submitter's own: {', '.join(new)}")
    if record["commit"] != commit:
        lines.append(f"commit: {record['commit'][:8]}, here {commit[:8]}")
    differing = submission.differing_parts(config, experiment, folder)
    if differing:
        lines.append(
            f"made_by.json differs here in {', '.join(differing)}: check out the "
            "submission's commit if the scores differ"
        )
    here = versions()
    for package, version in record["versions"].items():
        if here.get(package) != version:
            lines.append(f"{package}: {version}, here {here.get(package)}")
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
        `submitted` and `shared`, numbers of rows; and `largest`, {score: the largest
        difference, with the SAE and split that has it, both values, and the largest
        mean difference of a tuned method}. A score that one side alone has differs by
        infinity.
    """
    submitted = across_groups(submitted).set_index(KEY)
    made = across_groups(made).set_index(KEY)
    shared = submitted.index.intersection(made.index)
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
            means = signed.groupby("method").mean()
            means = means[means.index.isin(tuned)].dropna()
            method = means.abs().idxmax() if len(means) else None
            largest[score] = {
                "difference": float(differences[place]),
                "sae": " / ".join(map(str, place)),
                "submitted": float(theirs[place]),
                "made": float(ours[place]),
                "method": method,
                "mean": 0.0 if method is None else float(means[method]),
            }
    return {"submitted": len(submitted), "shared": len(shared), "largest": largest}


def describe(comparison: dict[str, Any]) -> str:
    """Return the largest difference of each score, as lines."""
    shared, submitted = comparison["shared"], comparison["submitted"]
    lines = [f"{shared} of the {submitted} submitted rows of the cell were made here"]
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
    shared, submitted = comparison["shared"], comparison["submitted"]
    if shared < LEAST_SHARED * submitted or not submitted:
        lines.append(f"{shared} of {submitted} rows are of SAEs that were trained here")
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


def _make(experiment: str, cell: Cell, config_file: Path) -> pd.DataFrame:
    """Run a cell up to its scores, and return these."""
    place = {"experiment": experiment, **cell.wildcards}
    target = paths.STAGE_TABLE.format(**place, stage="score", table="metrics")
    files_of_config = ["--configfile", "config.yaml", str(config_file)]
    run_snakemake(target, *files_of_config, "--logger", "sae")
    return files.read_parquet(target)


if __name__ == "__main__":
    run_command(main)

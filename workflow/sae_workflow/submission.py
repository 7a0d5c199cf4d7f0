"""Lay out the rows of an experiment for the leaderboard: what `make submit` does.

    python -m sae_workflow.submission mine mine.yaml

docs/results/mine gets the rows and their tables, as `make reference` keeps them,
config.yaml with all that the experiment uses, a copy of the entries of one's own, and
submission.json. That says which commit and machine made the rows, and holds the SHA-256
of each of these files. Tables have none: they are made anew from the rows
(`sae_workflow.again`). Nothing is uploaded.

Snakemake lacks it: its reports and archives are of a run, and name no commit.
"""

import json
import platform
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from sae.comparison import fronts, leaderboard
from sae.config.extends import write_out_sections
from sae.config.models import Config
from sae.config.problems import Problems
from sae.core import files, paths
from sae.core.errors import UserError
from sae.report.site.build import versions
from sae.scoring.front import DETECTION
from sae.scoring.rows import CELL
from sae_workflow import check, expected_files, missing_inputs, settings
from sae_workflow.command_line import run_command, say

# Where results are kept, a folder for each.
KEPT = Path("docs/results")
RECORD = "submission.json"
CONFIG = "config.yaml"
EXTENSIONS = "extensions"
# What says that a cell of it was made again.
MADE_AGAIN = "made_again.json"
ROWS = ("metrics.parquet", "curves.parquet", "latents.parquet", leaderboard.MADE_BY)
# What can change a number, and is not in the config that is submitted.
CODE = ("Snakefile", "sae", "workflow", "requirements.lock")


def main(experiment: str, *overlays: str) -> None:
    """Submit an experiment, and say what to do next."""
    folder = write(experiment, *overlays)
    say(
        f"{folder}: rows, tables, config and hashes of {experiment}. "
        "`python bench/leaderboard.py` shows them on docs/leaderboard.md, as "
        "submitted. Open a pull request with both"
    )


def write(experiment: str, *overlays: str) -> Path:
    """Write the folder of a submission; an earlier one of the same name goes.

    Args:
        experiment: The name of an experiment that was run here to its end.
        overlays: The files laid over config.yaml with which it was run.

    Returns:
        The folder.

    Raises:
        UserError: the code differs from its commit; the experiment is not finished, or
            was run with another config or other code; a file is damaged; there is no
            detection; or the project itself has results of this name.
    """
    config, raw, left_out = settings.read_files("config.yaml", *overlays)
    settings.warn_of_left_out(left_out)
    missing_inputs.refuse_unknown_experiment(config, experiment)
    folder = KEPT / experiment
    if folder.exists() and not (folder / RECORD).exists():
        raise UserError(
            f"{folder} holds results of the project: give your experiment another name"
        )
    commit = clean_commit()
    _refuse_unfinished(config, experiment)

    results = Path(paths.EXPERIMENT.format(experiment=experiment))
    rows = leaderboard.read(results)
    if DETECTION not in rows.metrics or not rows.metrics[DETECTION].notna().any():
        raise UserError(
            f"{experiment} has no detection, by which the leaderboard is ordered: name "
            "a backbone of another family under its `backbones` or `judges`"
        )
    images = {
        name: files.read_json(paths.DATASET.format(dataset=name))["images"]["train"]
        for name in config.experiments[experiment].datasets
    }

    with files.atomic_directory(folder, replace=True) as temporary:
        make_tables("keep", results, temporary, "--config", *overlays)
        if config.extensions:
            shutil.copytree(
                config.extensions,
                temporary / EXTENSIONS,
                ignore=shutil.ignore_patterns("__pycache__", ".*"),
            )
        used = used_config(config, raw, experiment)
        text = yaml.safe_dump(used, sort_keys=False, default_flow_style=None, width=100)
        files.write_text(temporary / CONFIG, text)
        sums = {
            name: files.sha256(temporary / name)
            for name in [*ROWS, CONFIG, *_files_of_extensions(temporary)]
        }
        record = {
            "experiment": experiment,
            "design": design(config, experiment, rows, images),
            "names": settings.printed_names(config, experiment),
            "training_images": images,
            "commit": commit,
            "machine": machine(config),
            "versions": versions(),
            "sha256": sums,
        }
        files.write_json(temporary / RECORD, record)
    return folder


def read(folder: Path) -> dict[str, Any]:
    """Return what a submission says of itself, after a check of its files.

    Raises:
        UserError: a file is missing, was altered or was added.
    """
    advice = "submit again (`make submit`), and edit nothing by hand"
    record = files.read_json(folder / RECORD, "submission", advice)
    for name, sha256 in record["sha256"].items():
        files.check_sum(folder / name, sha256, folder / RECORD, advice)
    for name in _files_of_extensions(folder):
        if name not in record["sha256"]:
            raise UserError(
                f"{folder / name} is not in {folder / RECORD}: delete it, or {advice}"
            )
    return record


def made_again(folder: Path) -> dict[str, Any] | None:
    """Return what `sae_workflow.again` found; None if it was of another submission."""
    file = folder / MADE_AGAIN
    if not file.exists():
        return None
    found = files.read_json(file, "record of what was made again")
    is_of_this = found["submission"] == files.sha256(folder / RECORD)
    return found if is_of_this else None


def make_tables(action: str, *words: str | Path) -> None:
    """Call bench/reference.py, which keeps rows and makes tables of them.

    Args:
        action: Its first word, `keep` or `rebuild`.
        words: Those that follow.

    Raises:
        UserError: it fails; it has said why.
    """
    command = [sys.executable, "bench/reference.py", action, *map(str, words)]
    if subprocess.run(command).returncode:
        raise UserError(f"bench/reference.py {action} failed, see above")


def clean_commit() -> str:
    """Return the commit of this checkout.

    Raises:
        UserError: its code is not that of the commit, or there is none.
    """

    def git(*words: str) -> str:
        process = subprocess.run(["git", *words], capture_output=True, text=True)
        if process.returncode:
            raise UserError(
                "this folder is no git checkout, so nobody could say by which code "
                f"rows were made: {process.stderr.strip()}; clone the repository"
            )
        return process.stdout.strip()

    commit = git("rev-parse", "HEAD")
    changed = git("status", "--porcelain", "--", *CODE).splitlines()
    if changed:
        more = f" and {len(changed) - 1} more" if len(changed) > 1 else ""
        raise UserError(
            f"the code is not that of commit {commit[:8]}: {changed[0][2:].strip()}"
            f"{more}; move what is yours to a folder of `extensions` "
            "(docs/extending.md), or commit it, and run again"
        )
    return commit


def machine(config: Config) -> str:
    """Return this machine in words: processor, Python, threads and device."""
    cpu_file = Path("/proc/cpuinfo")
    cpu_lines = cpu_file.read_text().splitlines() if cpu_file.exists() else []
    names = [line for line in cpu_lines if line.startswith("model name")]
    processor = names[0].partition(": ")[2] if names else platform.machine()
    threads = config.compute.threads
    noun = "thread" if threads == 1 else "threads"
    python = f"Python {platform.python_version()}"
    device = config.compute.device
    return f"{processor}, {python}, {threads} {noun} a job, device {device}"


def used_config(config: Config, raw: dict[str, Any], experiment: str) -> dict[str, Any]:
    """Return what of a config decides on an experiment's rows, as YAML has it.

    Entries say all that they take over, so that a later config.yaml changes nothing.

    Args:
        config: The config.
        raw: The same as YAML gives it.
        experiment: The experiment, which is its only one.
    """
    spec = config.experiments[experiment]
    places = settings.embedded_datasets(config, experiment)
    methods = list(spec.methods)
    for name in methods:  # It grows as they name others.
        for key in ("extends", "against", "at"):
            other = raw["methods"][name].get(key)
            if other and other not in methods:
                methods.append(other)
    names_by_section = {
        "experiments": [experiment],
        "methods": methods,
        "training": [spec.training],
        "datasets": spec.datasets,
        "backbones": dict.fromkeys(place["backbone"] for place in places),
        # That of `fair` says where every front is read.
        "protocols": dict.fromkeys([*spec.protocols, "fair"]),
    }
    written_out = write_out_sections(raw, Problems())
    used: dict[str, Any] = {}
    if config.extensions:
        used["extensions"] = (KEPT / experiment / EXTENSIONS).as_posix()
    for section, names in names_by_section.items():
        used[section] = {name: written_out[section][name] for name in names}
    used["metrics"] = raw["metrics"]
    used["claims"] = raw["claims"]
    decides_on_bits = {"threads", "embed_batch_size"}
    used["compute"] = config.compute.model_dump(include=decides_on_bits)
    # Nothing stands there twice, which YAML would join.
    return json.loads(json.dumps(used))


def design(
    config: Config,
    experiment: str,
    rows: leaderboard.ExperimentRows,
    training_images: dict[str, int],
) -> str:
    """Say what an experiment compared: data, backbones, sizes and trials.

    Args:
        config: The config.
        experiment: The experiment.
        rows: Its rows.
        training_images: {dataset: how many training images it has}.
    """
    names = settings.printed_names(config, experiment)
    datasets = [
        f"{names['datasets'][name]} ({count:,} training images)"
        for name, count in training_images.items()
    ]
    backbones = [
        names["backbones"][name] for name in config.experiments[experiment].backbones
    ]
    metrics = fronts.of_protocol(rows.metrics, rows.made_by.fronts)
    metrics = metrics[metrics["method"].isin(rows.made_by.methods.tuned)]
    trials = metrics.groupby([*CELL, "method"])["trial"].nunique()
    description = config.experiments[experiment].description
    parts = [
        *([description.rstrip(".")] if description else []),
        _join(datasets),
        _join(backbones),
        f"m = {_range(metrics['m'])}, k = {_range(metrics['k'])}",
        f"{_range(trials)} trials a method",
    ]
    return "; ".join(parts)


def _join(words: list[str]) -> str:
    if len(words) == 1:
        return words[0]
    return f"{', '.join(words[:-1])} and {words[-1]}"


def _range(numbers: pd.Series) -> str:
    lowest, highest = int(numbers.min()), int(numbers.max())
    return f"{lowest:,}" if lowest == highest else f"{lowest:,} to {highest:,}"


def _refuse_unfinished(config: Config, experiment: str) -> None:
    """Refuse an experiment that is not as a run with this config leaves it."""
    expected = expected_files.expected_files(config, experiment)
    missing = [file for file in expected if not Path(file).exists()]
    if missing:
        raise UserError(
            f"{experiment} is not finished, it lacks "
            f"{expected_files.name_missing_files(missing)}: `make run "
            f"EXPERIMENT={experiment}` first, with the same CONFIG"
        )
    damage = check.Check(experiment).problems
    if damage:
        raise UserError(damage[0])
    differing = differing_parts(config, experiment, Path(paths.RESULTS) / experiment)
    if differing:
        raise UserError(
            f"the rows of {experiment} were made with other {', '.join(differing)}: "
            f"`make run EXPERIMENT={experiment}` again, with the same CONFIG"
        )


def differing_parts(config: Config, experiment: str, folder: Path) -> list[str]:
    """Return in what a config and this code differ from what made a folder's rows."""
    made_by = files.read_json(folder / leaderboard.MADE_BY)
    planned = json.loads(files.dumps(settings.made_by(config, experiment)))
    return [name for name in planned if planned[name] != made_by.get(name)]


def _files_of_extensions(folder: Path) -> list[str]:
    """Return the files in a submission's copy of entries, relative to its folder."""
    return sorted(
        file.relative_to(folder).as_posix()
        for file in (folder / EXTENSIONS).rglob("*")
        if file.is_file() and "__pycache__" not in file.parts
    )


if __name__ == "__main__":
    run_command(main)

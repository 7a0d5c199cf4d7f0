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
import os
import platform
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import pandas as pd
import yaml
from pydantic import ValidationError

from sae.comparison import leaderboard
from sae.config.extends import write_out_sections
from sae.config.models import Config
from sae.config.problems import Problems
from sae.config.yaml_file import parse_file
from sae.core import files, outputs, paths
from sae.core.errors import UserError
from sae.core.options import (
    NAME,
    NAMES,
    Count,
    Name,
    Options,
    describe_problems,
    from_record,
    like,
)
from sae.report.names import Names
from sae.report.site.build import versions
from sae.scoring.choice import DETECTION
from sae.scoring.rows import CELL
from sae.scoring.selection import rows_under
from sae_workflow import check, expected_files, missing_inputs, settings
from sae_workflow.command_line import run_command, say

# Where results are kept, a folder for each.
KEPT = Path("docs/results")
COMMAND = "submit"
RECORD = "submission.json"
CONFIG = "config.yaml"
EXTENSIONS = "extensions"
ROWS = (
    *("metrics.parquet", "selection.parquet", "curves.parquet", "latents.parquet"),
    leaderboard.MADE_BY,
)
# What can change a number, and is not in the config that is submitted.
CODE = ("Snakefile", "sae", "workflow", "bench", "requirements.lock")
# What of a config's `compute` decides on the bits of scores.
COMPUTE = {"threads", "embed_batch_size"}

# What a page prints, and a terminal.
Line = Annotated[
    str, like(r"[^\x00-\x1f\x7f-\x9f\u2028\u2029]*", "write one line of plain text")
]


class Submission(Options):
    """What a submission says of itself.

    Attributes:
        experiment: Its name, and that of its folder.
        design: What it compared, in words.
        names: How its methods, datasets and backbones are printed.
        training_images: {dataset: how many training images it has}.
        commit: What made its rows.
        machine: What it ran on, in words.
        versions: {library: its version}.
        sha256: {file of its folder: SHA-256}, of all but tables.
    """

    experiment: Name
    design: Line
    names: Names
    training_images: dict[str, Count]
    commit: Annotated[str, like("[0-9a-f]{40}", "write all 40 digits of a commit")]
    machine: Line
    versions: dict[Line, Line]
    sha256: dict[str, str]


def main(experiment: str, *overlays: str) -> None:
    """Submit an experiment, and say what to do next."""
    folder = write(experiment, *overlays)
    read(folder)
    say(
        f"{folder}: rows, tables, config and hashes of {experiment}. "
        "`python bench/leaderboard.py` shows them on docs/leaderboard.md, as "
        "submitted. Open a pull request with both"
    )


def write(experiment: str, *overlays: str) -> Path:
    """Write the folder of a submission; an earlier one of the same name goes.

    Other files in it stay, such as a page about it.

    Args:
        experiment: The name of an experiment that was run here to its end.
        overlays: The files laid over config.yaml with which it was run.

    Returns:
        The folder.

    Raises:
        UserError: the code differs from its commit; the experiment is not finished, or
            was run with another config or other code; a file is damaged; nothing is
            compared by detection; the project itself has this name; or the folder
            holds other files of these names.
    """
    check_name(experiment)
    config, raw, left_out = settings.read_files("config.yaml", *overlays)
    settings.warn_of_left_out(left_out)
    missing_inputs.refuse_unknown_experiment(config, experiment)
    folder = KEPT / experiment
    names = [*ROWS, CONFIG, RECORD, *_files_in(folder, EXTENSIONS)]
    outputs.check_folder(folder, COMMAND, names)
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

    with outputs.replacing_folder(folder, COMMAND, RECORD) as temporary:
        make_tables("keep", results, temporary, "--config", *overlays)
        means = pd.read_csv(temporary / "tables/comparison.csv")
        if not means.loc[means["score"] == DETECTION, "effect"].notna().any():
            raise UserError(
                f"{experiment} compares no method with another by detection, so the "
                "leaderboard has no row for it: name protocol `tuned`, and a method "
                "beside the baseline"
            )
        if config.extensions:
            _refuse_links(Path(config.extensions))
            shutil.copytree(
                config.extensions,
                temporary / EXTENSIONS,
                ignore=shutil.ignore_patterns("__pycache__", ".*"),
            )
        used = used_config(config, raw, experiment)
        text = yaml.safe_dump(used, sort_keys=False, default_flow_style=None, width=100)
        files.write_text(temporary / CONFIG, text)
        record = {
            "experiment": experiment,
            "design": design(config, experiment, rows, images),
            "names": settings.printed_names(config, experiment),
            "training_images": images,
            "commit": commit,
            "machine": machine(config),
            "versions": versions(),
            "sha256": {
                name: files.sha256(temporary / name)
                for name in _files_with_hashes(temporary)
            },
        }
        files.write_json(temporary / RECORD, record)
    for line in doubts(used, rows):
        say(f"warning: {line}", sys.stderr)
    return folder


def doubts(used: dict[str, Any], rows: leaderboard.ExperimentRows) -> list[str]:
    """Return what of a submission others cannot repeat or compare, a line each.

    Args:
        used: The config that is submitted.
        rows: Its rows.
    """
    lines = [
        f"{key}: {text} is a place on this machine: say in the experiment's "
        "`description` where others get what lies there"
        for section in ("datasets", "backbones", "methods")
        for key, text in _texts(used[section], section)
        if text.startswith(("/", "~")) or os.path.exists(text)
    ]
    fast = [
        name
        for name, backbone in used["backbones"].items()
        if backbone.get("precision") == "auto"
    ]
    if fast:
        lines.append(
            f"{_join(fast)}: embeddings are of another precision on other processors "
            "(precision: auto), so that nobody can compare them: name backbones "
            "without it"
        )
    trials = _trial_counts(rows)
    if trials.groupby(CELL).nunique().max() > 1:
        by_method = trials.groupby("method").agg(_range)
        counts = _join([f"{name} {count}" for name, count in by_method.items()])
        lines.append(
            f"methods have unequal numbers of trials ({counts}), and more of them find "
            "a better one: give all as many, as `points` of protocol `tuned` does"
        )
    usual, _ = settings.merge_config_files("config.yaml")
    of_project = write_out_sections(usual, Problems())["methods"]
    if all(of_project.get(name) == entry for name, entry in used["methods"].items()):
        lines.append("all methods are the project's own: no row will be of a new one")
    return lines


def _texts(value: Any, key: str) -> Iterator[tuple[str, str]]:
    """Yield each text in a part of a config, with its key."""
    if isinstance(value, str):
        yield key, value
    elif isinstance(value, dict | list):
        parts = value.items() if isinstance(value, dict) else enumerate(value)
        for name, part in parts:
            yield from _texts(part, f"{key}.{name}")


def check_name(experiment: str) -> None:
    """Raise a `UserError` if it is no name, or that of an experiment of the project."""
    if not re.fullmatch(NAME, experiment):
        raise UserError(f"{experiment!r} is no name of an experiment: {NAMES}")
    usual, _ = settings.merge_config_files("config.yaml")
    if experiment in usual["experiments"]:
        raise UserError(
            f"{experiment} is an experiment of the project: give yours another name, "
            "in a file of your own (CONFIG=mine.yaml)"
        )


def read(folder: Path) -> Submission:
    """Return what a submission says of itself, after a check of its files.

    None of its code runs.

    Raises:
        UserError: a file is missing, was altered or was added, or is a link; the record
            is not right or of another experiment; or the config asks for more than
            its own rows need.
    """
    advice = "submit again (`make submit`), and edit nothing by hand"
    record_file = folder / RECORD
    if not record_file.exists():
        raise UserError(f"{folder} is no submission: it has no {RECORD}")
    _refuse_links(folder)
    try:
        content = files.read_json(record_file, "submission", advice)
        record = from_record(Submission, content)
    except ValidationError as error:
        problems = describe_problems(error)
        raise UserError(f"{record_file} is not right: {problems}; {advice}") from None

    expected = _files_with_hashes(folder)
    differing = sorted(record.sha256.keys() ^ {*expected})
    if differing:
        raise UserError(
            f"{folder / differing[0]} has a hash in {record_file} or is in the folder, "
            f"and not both: {advice}"
        )
    for name in expected:
        files.check_sum(folder / name, record.sha256[name], record_file, advice)
    made_by = files.read_json(folder / leaderboard.MADE_BY)
    for experiment in (record.experiment, made_by.get("experiment")):
        if experiment != folder.name:
            raise UserError(
                f"{folder} has rows or a record of {experiment!r}: {advice}"
            )
    _refuse_config(folder)
    return record


def _refuse_links(folder: Path) -> None:
    """Refuse links, which would lead to files that nobody hashed or read."""
    for path in [folder, *folder.rglob("*")]:
        if path.is_symlink():
            raise UserError(f"{path} is a link: put what it leads to in its place")


def _refuse_config(folder: Path) -> None:
    """Refuse a submitted config that says where code or finished SAEs lie."""
    config = parse_file(folder / CONFIG)
    own = (KEPT / folder.name / EXTENSIONS).as_posix()
    extensions = config.get("extensions")
    if extensions not in (None, own):
        raise UserError(
            f"{folder / CONFIG}: config key extensions: {extensions!r}, where a "
            f"submission has {own}, or nothing"
        )
    compute = config.get("compute", {})
    if not isinstance(compute, dict) or compute.keys() - COMPUTE:
        raise UserError(
            f"{folder / CONFIG}: config key compute: a submission has "
            f"{' and '.join(sorted(COMPUTE))} alone"
        )


def record_of_again(folder: Path) -> Path:
    """Return where a maintainer's `make again` records what it found of a submission.

    It lies beside the folder: what is in that, anybody may have written.
    """
    return folder.with_name(f"{folder.name}.made_again.json")


def made_again(folder: Path) -> dict[str, Any] | None:
    """Return what `sae_workflow.again` found; None if of other rows or tables."""
    file = record_of_again(folder)
    if not file.exists():
        return None
    found = files.read_json(file, "record of what was made again")
    is_of_these = found["submission"] == files.sha256(folder / RECORD) and found[
        "tables"
    ] == sums_of_tables(folder)
    return found if is_of_these else None


def sums_of_tables(folder: Path) -> dict[str, str]:
    """Return {table of a submission: SHA-256}."""
    return {name: files.sha256(folder / name) for name in _files_in(folder, "tables")}


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


def is_code_of(commit: str) -> bool:
    """Return whether the code here is that of a commit, which may be an earlier one."""
    command = ["git", "diff", "--quiet", commit, "--", *CODE]
    return subprocess.run(command, capture_output=True).returncode == 0


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
        "protocols": spec.protocols,
    }
    written_out = write_out_sections(raw, Problems())
    used: dict[str, Any] = {}
    if config.extensions:
        used["extensions"] = (KEPT / experiment / EXTENSIONS).as_posix()
    for section, names in names_by_section.items():
        used[section] = {name: written_out[section][name] for name in names}
    used["metrics"] = raw["metrics"]
    used["claims"] = raw["claims"]
    used["compute"] = config.compute.model_dump(include=COMPUTE)
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
    spec = config.experiments[experiment]
    datasets = [
        f"{names['datasets'][name]} ({training_images[name]:,} training images)"
        for name in spec.datasets
    ]
    backbones = [names["backbones"][name] for name in spec.backbones]
    trials = _trial_counts(rows)
    metrics = rows.metrics[rows.metrics["method"].isin(rows.made_by.methods.tuned)]
    if trials.empty or metrics.empty:
        raise UserError(f"{experiment} has no rows of methods that are tuned")
    description = spec.description
    parts = [
        *([description.rstrip(".")] if description else []),
        _join(datasets),
        _join(backbones),
        f"m = {_range(metrics['m'])}, k = {_range(metrics['k'])}",
        f"{_range(trials)} trials a method",
    ]
    return "; ".join(parts)


def _trial_counts(rows: leaderboard.ExperimentRows) -> pd.Series:
    """Count the trials that were chosen among, of each tuned method in each cell."""
    trials = rows_under(rows.selection, "tuned")
    trials = trials[trials["method"].isin(rows.made_by.methods.tuned)]
    return trials.groupby([*CELL, "method"])["trial"].nunique()


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


def _files_with_hashes(folder: Path) -> list[str]:
    """Return the files that a submission's record must have, and no others."""
    return [*ROWS, CONFIG, *_files_in(folder, EXTENSIONS)]


def _files_in(folder: Path, name: str) -> list[str]:
    """Return the files in a folder of a submission, relative to the latter's."""
    return sorted(
        file.relative_to(folder).as_posix()
        for file in (folder / name).rglob("*")
        if file.is_file() and "__pycache__" not in file.parts
    )


if __name__ == "__main__":
    run_command(main)

"""What of results/ no experiment refers to: `make unused` lists it, `make prune` deletes.

Experiments are those of config.yaml and of every other configuration that made results
here (`recorded_configs`). What they can make is theirs, SAEs of the store are the banks'
that stay. A folder that holds a file of a name that the workflow does not give is left
whole, and so is everything behind a link, which may be shared with others.

Snakemake lacks it: `--list-untracked` and `--delete-all-output` know of one target and
of declared outputs, not of other experiments and of the store.
"""

import os
import re
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path, PurePosixPath

from sae.config.models import Config
from sae.core import files, paths, registry
from sae.core.errors import UserError
from sae_workflow import lock, recorded_configs, settings
from sae_workflow.command_line import run_command

_ARTIFACT_FOLDER = str(PurePosixPath(paths.ARTIFACT).parent)
_FIRST_LOOK_FOLDER = str(PurePosixPath(paths.FIRST_LOOK).parent)
_STORED_SAE = f"{paths.STORE}/{{key}}"
# {pattern of what is deleted as a whole or not at all: why it is unused}
UNITS = {
    _ARTIFACT_FOLDER: "no experiment uses this artifact",
    paths.WEIGHTS: "no experiment uses this backbone",
    paths.IMPORTED: "no experiment has this method",
    paths.IMPORTED_SUMS: "no experiment has this method",
    paths.DATASETS: "no experiment uses this dataset",
    paths.ACTIVATIONS: "no experiment has this dataset with this backbone",
    _FIRST_LOOK_FOLDER: "the experiment has its report",
    paths.PROBE_OF_EMBEDDINGS: "the experiment has no such cell",
    paths.BANK_FOLDER: "the experiment has no such cell",
    paths.SCORES: "the experiment has no such cell",
}
LOG_ENDINGS = ("log", "tsv", "progress.json")
# A file or folder that is being written, or was when its process was killed.
TEMPORARY = re.compile(r"\..+\.tmp")
# Names of the files that list the SAEs of a cell.
SAE_LISTS = [Path(pattern).name for pattern in (paths.BANK, paths.UNFINISHED)]


def written_files(figures: Iterable[str]) -> re.Pattern[str]:
    """Return what the paths of all files match that the workflow writes.

    Args:
        figures: The names of figures, also of the user's own.
    """
    suffixes = {"csv", "md", *paths.TABLE_SUFFIXES, *paths.FIGURE_SUFFIXES}
    # {wildcard: what it may stand for}; others stand for any one name.
    names = {
        "below": ".+",
        "figure": "|".join(figures),
        "suffix": "|".join(suffixes),
        "number": r"\d+",
    }
    patterns = [
        pattern
        for pattern in vars(paths).values()
        # Other patterns are of folders.
        if isinstance(pattern, str) and "." in pattern.rpartition("/")[2]
    ]
    patterns += [
        *paths.CONCEPT_TABLES,
        *paths.NOTED_TABLES,
        *paths.COMPARISON_TABLES,
        paths.SHARD,
        *(f"{_STORED_SAE}/{file}" for file in paths.STORED),
        *(f"{paths.BANK_FOLDER}/{link}" for link in (paths.SAE, paths.TRAINING_LOG)),
        f"{paths.ACTIVATIONS}/.embedding-{{key}}/{{below}}",
        f"{paths.HUB}/{{below}}",
        f"{PurePosixPath(paths.SITE).parent}/{{below}}",
        f"{_FIRST_LOOK_FOLDER}/{{below}}",
        *(f"{paths.EXPERIMENT_LOGS}/{{below}}.{ending}" for ending in LOG_ENDINGS),
        f"{paths.EXPERIMENT_LOGS}/times.json",
        f"{paths.EXPERIMENT_WARNINGS}/{{below}}.json",
    ]
    regexes = []
    for pattern in patterns:
        # Every second piece is the name of a wildcard.
        pieces = re.split(r"\{(\w+)\}", pattern)
        pieces[::2] = map(re.escape, pieces[::2])
        pieces[1::2] = [f"(?:{names.get(name, '[^/]+')})" for name in pieces[1::2]]
        regexes.append("".join(pieces))
    return re.compile("|".join(regexes))


class Survey:
    """A list of what in results/ nothing refers to; to make it changes nothing.

    Attributes:
        unused: {path: why} of what `prune` deletes.
        kept: {path: why} of what nothing refers to either, and what cannot be judged.
        records: The recorded configurations, whose experiments count as those of
            config.yaml do.
    """

    def __init__(self, config: Config) -> None:
        """Look through results/.

        Args:
            config: Of config.yaml.

        Raises:
            UserError: a recorded configuration cannot be read.
        """
        self.unused: dict[Path, str] = {}
        self.kept: dict[Path, str] = {}
        self.records = list(recorded_configs.read_records())
        known_names = paths.shared_folders()
        used: set[str] = set()
        figures: set[str] = set()
        for known_config in [*(record.config for record in self.records), config]:
            registry.extend(known_config.extensions)
            figures.update(registry.names("figure"))
            for experiment in known_config.experiments:
                known_names.add(experiment)
                used.update(_paths_of(known_config, experiment))
        self._is_written = written_files(figures)

        results = Path(paths.RESULTS)
        if results.is_symlink():
            self._judge(results, "")
            return
        for folder, folder_names, file_names in os.walk(results):
            for name in (*folder_names, *file_names):
                path = Path(folder, name)
                if files.is_left_over(path):
                    self.unused[path] = "left by a process that is gone"
        for saes in sorted(results.glob("*/saes")):
            if saes.parent.name not in known_names:
                self._judge(saes.parent, "no configuration known here has it")
        for pattern, reason in UNITS.items():
            for path in sorted(Path().glob(re.sub(r"\{\w+\}", "*", pattern))):
                of_experiment = pattern.startswith(paths.EXPERIMENT)
                if of_experiment and path.parts[1] not in known_names:
                    continue
                if str(path) not in used and not TEMPORARY.fullmatch(path.name):
                    self._judge(path, reason)
        # Last: every bank that stays keeps its SAEs, also in a folder left alone.
        self._judge_store()
        for path in list(self.unused):
            if self.unused.keys() & set(path.parents):
                del self.unused[path]  # It goes with the folder.

    def _judge(self, path: Path, reason: str) -> None:
        """List a path that nothing refers to as unused, or say why it is kept."""
        links = [folder for folder in (path, *path.parents) if folder.is_symlink()]
        if links:
            self.kept[links[-1]] = f"a link to {os.readlink(links[-1])}"
            return
        held = [path]
        if not path.is_file():
            held = [
                file
                for file in _files_below(path)
                # But for what dead processes left.
                if not self.unused.keys() & {file, *file.parents}
            ]
        fetched: Iterable[str] = ()
        manifest = path / "artifact.json"
        try:
            if manifest.exists():
                fetched = files.read_json(manifest, "artifact's manifest")["files"]
        except (UserError, KeyError) as error:
            self.kept[path] = f"it cannot be read: {error}"
            return
        ours = {path / name for name in fetched}
        foreign = [
            file
            for file in held
            if file not in ours and not self._is_written.fullmatch(str(file))
        ]
        if foreign:
            self.kept[path] = f"not only ours: it holds {min(foreign)}"
        elif held:
            self.unused[path] = reason

    def _judge_store(self) -> None:
        """List the SAEs of the store that no bank or link names which stays."""
        keys: set[str] = set()
        for folder in sorted(Path(paths.RESULTS).glob("*/saes")):
            if folder == Path(paths.STORE):
                continue
            for path in _files_below(folder):
                if self.unused.keys() & set(path.parents):
                    continue
                if path.is_symlink():
                    keys.add(PurePosixPath(os.readlink(path)).parent.name)
                elif path.name in SAE_LISTS:
                    try:
                        bank = files.read_json(path, "bank")
                        keys.update(bank.get("keys", ()))
                        for entry in bank.get("saes", ()):
                            # One with thresholds was trained under another key.
                            keys.update((entry["key"], entry["trained"]))
                    except (UserError, KeyError, TypeError) as error:
                        self.kept[path] = f"it cannot be read: {error}"
                        self.kept[Path(paths.STORE)] = (
                            "whole, till that bank can be read"
                        )
        if Path(paths.STORE) in self.kept:
            return
        for path in sorted(Path(paths.STORE).glob("[0-9a-f]*")):
            if len(path.name) == 32 and path.name not in keys:
                self._judge(path, "no bank lists it, no unfinished job asked for it")


def _paths_of(config: Config, experiment: str) -> Iterator[str]:
    """Yield the paths of units that an experiment uses."""
    for cell in settings.cells(config, experiment):
        for pattern in (
            paths.DATASETS,
            paths.BANK_FOLDER,
            paths.SCORES,
            paths.PROBE_OF_EMBEDDINGS,
        ):
            yield pattern.format(experiment=experiment, **cell.wildcards)
    for place in settings.embedded_datasets(config, experiment):
        yield paths.ACTIVATIONS.format(**place)
        yield paths.WEIGHTS.format(**place)
    for artifact in settings.artifacts_of(config, experiment):
        yield _ARTIFACT_FOLDER.format(artifact=artifact)
    for method in settings.imported_methods(config, experiment):
        yield paths.IMPORTED.format(method=method)
        yield paths.IMPORTED_SUMS.format(method=method)
    # Once there is a report, nothing shows it any more.
    if not Path(paths.SITE.format(experiment=experiment)).exists():
        yield _FIRST_LOOK_FOLDER.format(experiment=experiment)


def _files_below(path: Path) -> Iterator[Path]:
    """Yield every file and link below a path; links are not followed."""
    for folder, folder_names, names in os.walk(path):
        links = [name for name in folder_names if Path(folder, name).is_symlink()]
        for name in (*names, *links):
            yield Path(folder, name)


@contextmanager
def no_run() -> Iterator[None]:
    """Let no run of this folder start on this machine while this is held.

    That none is alive, and no job of one, is proven before.

    Raises:
        UserError: it is not proven; the message says why.
    """
    has_traces = any(Path(".snakemake/locks").glob("*.lock")) or any(
        Path(".snakemake").glob("alive-*")
    )
    with lock.alone(make_file=not has_traces) as obstacle:
        # Where no run has left a trace, only one that starts now can be in the way.
        is_excused = not has_traces and obstacle == lock.NO_LOCKS
        problem = None if is_excused else obstacle
        queued_jobs = lock.queued_jobs()
        if queued_jobs:
            problem = f"Slurm jobs {', '.join(queued_jobs)} are in the queue"
        if problem is not None:
            raise UserError(
                f"a run of this folder may be alive: {problem}. Nothing was deleted. "
                "Wait for it or stop it; if you are sure that it is gone, run "
                "`.venv/bin/snakemake --unlock`, delete .snakemake/alive-*, and try "
                "again."
            )
        yield


def prune(unused: Iterable[Path]) -> None:
    """Delete some paths, and the folders that are empty for it.

    SAEs of the store go last, so links before what they lead to. Each path vanishes at
    once: a kill leaves nothing half deleted, and no broken link.

    Raises:
        UserError: a path cannot be deleted.
    """
    for path in sorted(
        unused, key=lambda path: (path.is_relative_to(paths.STORE), path)
    ):
        if not path.exists():
            continue
        try:
            # Moved first: what is deleted by half must not pass for a result.
            with files.scratch_directory(path) as doomed:
                os.replace(path, doomed / path.name)
        except OSError as error:
            raise UserError(f"{path} cannot be deleted: {error}") from None
        if doomed.exists():
            raise UserError(f"{path} cannot be deleted wholly; the rest is in {doomed}")
        # results/NAME stays.
        for folder in path.parents[:-3]:
            with suppress(OSError):  # It holds something.
                folder.rmdir()


def _describe(survey: Survey) -> Iterator[str]:
    yield (
        "Unused: no experiment of config.yaml, or of another configuration that made "
        "results here, refers to it"
    )
    total = 0.0
    for path, reason in survey.unused.items():
        held = [path, *_files_below(path)]
        size = sum(file.lstat().st_size for file in held if file.is_file()) / 1e6
        total += size
        yield f"{size:>14,.2f} MB  {path}: {reason}"
    yield f"{total:>14,.2f} MB  in all"
    if survey.records:
        yield "\nOther configurations, whose experiments count till their file is deleted"
    for record in survey.records:
        yield f"  {record.file}: {' + '.join(record.configfiles)}"
    if survey.kept:
        yield "\nLeft alone"
    for path, reason in survey.kept.items():
        yield f"  {path}: {reason}"


def main(command: str, *overlays: str, yes: bool = False) -> None:
    """Print what of results/ is `unused`; `prune` also deletes that.

    Args:
        command: One of these.
        overlays: Files that are laid over config.yaml.
        yes: Whether `prune` deletes without asking.

    Raises:
        UserError: there is no such command, a config cannot be read, or nothing can be
            deleted now.
    """
    if command not in ("unused", "prune"):
        raise UserError(f"there is no command {command!r}; there are: unused, prune")
    config, _, left_out = settings.read_files("config.yaml", *overlays)
    if left_out:
        lines = [*left_out.values(), "till then nobody can say what of it is unused"]
        raise UserError("\n".join(lines))
    survey = Survey(config)
    print("\n".join(_describe(survey)), flush=True)
    if command == "unused" or not survey.unused:
        return
    if not yes and not sys.stdin.isatty():
        raise UserError(
            "nothing was deleted, since there is no terminal to ask in: `make prune "
            "YES=1` does not ask"
        )
    answer = "y" if yes else ""
    if not yes:
        with suppress(EOFError):
            question = f"Delete these {len(survey.unused)} files and folders? [y/N] "
            answer = input(f"\n{question}").strip().lower()
    if answer not in ("y", "yes"):
        print("Nothing was deleted.")
        return
    with no_run():
        # A run may have come and gone since the question was asked.
        unused = survey.unused.keys() & Survey(config).unused.keys()
        prune(unused)
    print(f"\nDeleted: {len(unused)} files and folders")


if __name__ == "__main__":
    run_command(main)

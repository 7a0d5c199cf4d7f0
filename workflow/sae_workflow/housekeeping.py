"""What results/ holds, and what of it no experiment refers to.

`make sizes`, `make unused` and `make prune` call it. Experiments are those of
config.yaml and of every other configuration that made results here
(`recorded_configs`). Only what the workflow is known to write (`sae.core.paths`) is
ever deleted: a folder that holds one file of another name is left whole, and so is
everything behind a link, which may be shared with others.
"""

import functools
import os
import re
import sys
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from sae.config.models import Config
from sae.config.named_experiment import NamedExperiment
from sae.core import files, paths, registry
from sae.core.errors import UserError
from sae.data.splits import SPLITS
from sae_workflow import lock, missing_inputs, recorded_configs, settings
from sae_workflow.command_line import run_command

COMMANDS = ("sizes", "unused", "prune")
RESULTS = Path(paths.RESULTS)
# The pattern of an SAE in the store.
STORED_SAE = f"{paths.STORE}/{{key}}"
_SUFFIXES = {"csv", "md", "json", *paths.TABLE_SUFFIXES, *paths.FIGURE_SUFFIXES}
# {wildcard of a pattern: regular expression of what it may stand for}; a wildcard
# without a line here stands for any one name.
REGEX_OF_WILDCARD = {
    "below": ".+",
    "key": "[0-9a-f]{32}",
    "configuration": "[0-9a-f]{16}",
    "split": "|".join(SPLITS),
    "table": "|".join(paths.TABLES_OF_STAGE),
    "suffix": "|".join(_SUFFIXES),
    "part": "|".join([r"\d+", *paths.GALLERY_PARTS]),
    "k": r"\d+",
    "seed": r"\d+",
    "number": r"\d+",
    "parts": r"\d+",
    "shard": r"\d+",
    "shards": r"\d+",
}
# Names of the files that list the SAEs of a cell.
SAE_LISTS = tuple(
    PurePosixPath(pattern).name for pattern in (paths.BANK, paths.UNFINISHED)
)
# What `sizes` prints beside the experiments: folders of results/.
KINDS = ("artifacts", "weights", "imported", "datasets", "activations", "store/saes")
OTHER_KIND = "anything else"
LEFT_OVER = "left by a process that is gone"
# What a broken or foreign file may raise.
UNREADABLE = (UserError, OSError, KeyError, TypeError, ValueError)


# What the workflow writes.


def _written_patterns() -> list[str]:
    """Return the patterns of all files that the workflow writes.

    These are the patterns of `sae.core.paths`, and of what lies undeclared beside them.
    """
    patterns = [
        value
        for value in vars(paths).values()
        if isinstance(value, str) and value.startswith(f"{paths.RESULTS}/")
    ]
    patterns += [
        *paths.NOTED_TABLES,
        *paths.FRONT_MEANS,
        *(f"{STORED_SAE}/{file}" for file in paths.STORED),
        *(f"{paths.BANK_FOLDER}/{link}" for link in (paths.SAE, paths.TRAINING_LOG)),
        f"{paths.ACTIVATIONS}/.embedding-{{part_key}}/{{below}}",
        f"{paths.HUB}/{{below}}",
        f"{PurePosixPath(paths.SITE).parent}/{{below}}",
        f"{PurePosixPath(paths.FIRST_LOOK).parent}/{{below}}",
        f"{paths.EXPERIMENT_LOGS}/{{below}}.log",
        f"{paths.EXPERIMENT_LOGS}/times.json",
        f"{paths.EXPERIMENT_LOGS}/{{below}}.tsv",
        f"{paths.EXPERIMENT_LOGS}/{{below}}.progress.json",
        f"{paths.RESULTS}/README.md",
    ]
    # Some patterns of `sae.core.paths` are of folders.
    folders = set(_folders_of(patterns))
    return [pattern for pattern in patterns if pattern not in folders]


def _folders_of(patterns: Iterable[str]) -> list[str]:
    """Return the patterns of the folders that lead to files of some patterns."""
    return [
        folder.as_posix()
        for pattern in patterns
        for folder in PurePosixPath(pattern).parents
    ]


def _path_matcher(
    patterns: Iterable[str], regex_of_wildcard: Mapping[str, str]
) -> Callable[[Path], bool]:
    """Return a function that says whether a path fits one of some patterns.

    Args:
        patterns: Paths with {wildcards}.
        regex_of_wildcard: As :data:`REGEX_OF_WILDCARD`.
    """

    def to_regex(pattern: str) -> str:
        regex = ""
        # Every second piece is the name of a wildcard.
        for position, piece in enumerate(re.split(r"\{(\w+)\}", pattern)):
            is_wildcard = position % 2 == 1
            if is_wildcard:
                regex += f"(?:{regex_of_wildcard.get(piece, '[^/]+')})"
            else:
                regex += re.escape(piece)
        return regex

    any_pattern = re.compile("|".join(map(to_regex, dict.fromkeys(patterns))))
    return lambda path: any_pattern.fullmatch(path.as_posix()) is not None


# What experiments refer to.


@dataclass(frozen=True)
class Unit:
    """A pattern of paths, each of which is deleted as a whole or not at all.

    An example is the pattern of the folders of embeddings.

    Attributes:
        pattern: Of its path.
        used_paths: The paths of this pattern that are in use; None if all are.
        why_unused: What is said of another path. It may have the place {experiment}.
    """

    pattern: str
    used_paths: set[str] | None
    why_unused: str = ""


def _list_units(experiments: Sequence[NamedExperiment]) -> list[Unit]:
    """Return the units of results/; where a path fits several, the first counts.

    Args:
        experiments: Of all configurations that made results here.
    """
    units = [Unit(paths.LOGS, None), Unit(paths.EXPERIMENT_LOGS, None)]

    def add(pattern: str, places: Iterable[Mapping[str, Any]], why_unused: str) -> None:
        """Add a unit, of which `places` ({wildcard: value}) are in use."""
        used_paths = {pattern.format(**place) for place in places}
        units.append(Unit(pattern, used_paths, why_unused))

    # {wildcard: value} of each thing that some experiment uses.
    cells: list[dict[str, Any]] = []
    embeddings: list[dict[str, Any]] = []
    artifacts: list[dict[str, Any]] = []
    imported: list[dict[str, Any]] = []
    for experiment in experiments:
        config = experiment.config
        name = experiment.name
        for cell in settings.cells(config, name):
            cells.append({"experiment": name, **cell.wildcards})
        for place in settings.embedded_datasets(config, name):
            embeddings.append(place.wildcards)
        for artifact in missing_inputs.artifacts_of(config, name):
            artifacts.append({"artifact": artifact})
        for method in settings.imported_methods(config, name):
            imported.append({"method": method})

    add(
        PurePosixPath(paths.ARTIFACT).parent.as_posix(),
        artifacts,
        "no experiment uses this artifact",
    )
    add(paths.WEIGHTS, embeddings, "no experiment uses this backbone")
    add(paths.IMPORTED, imported, "no experiment has this method")
    add(paths.DATASETS, cells, "no experiment uses this dataset")
    add(
        paths.ACTIVATIONS,
        embeddings,
        "no experiment has this dataset with this backbone",
    )

    names_of_experiments = {experiment.name for experiment in experiments}
    known_names = names_of_experiments | paths.shared_folders()
    names_with_saes = {folder.parent.name for folder in RESULTS.glob("*/saes")}
    for name in names_with_saes - known_names:
        add(
            f"{RESULTS}/{name}",
            [],
            "no configuration that is known here has this experiment",
        )

    # Once there is a report, nothing shows it any more.
    first_looks = [
        {"experiment": experiment.name}
        for experiment in experiments
        if not Path(paths.SITE.format(experiment=experiment.name)).exists()
    ]
    first_look_folder = PurePosixPath(paths.FIRST_LOOK).parent.as_posix()
    add(first_look_folder, first_looks, "{experiment} has its report")

    for pattern in (paths.PROBE_OF_EMBEDDINGS, paths.BANK_FOLDER, paths.SCORES):
        add(pattern, cells, "{experiment} has no such cell")
    return units


# Sizes.


def sizes(config: Config) -> dict[str, int]:
    """Return {kind: bytes} of results/.

    A file with several hard links counts once; links count nothing. Kinds are
    :data:`KINDS`, experiments, and :data:`OTHER_KIND`, which comes last.
    """
    kind_of_folder = {kind.split("/")[0]: kind for kind in KINDS}
    counted_files: set[tuple[int, int]] = set()
    bytes_of_kind = dict.fromkeys(KINDS, 0)
    bytes_of_other_kind = 0
    for folder in _children(RESULTS):
        size = _count_bytes(folder, counted_files)
        kind = kind_of_folder.get(folder.name)
        if kind is None:
            is_experiment = (
                folder.name in config.experiments or (folder / "saes").is_dir()
            )
            if not is_experiment:
                bytes_of_other_kind += size
                continue
            kind = folder.name
        bytes_of_kind[kind] = bytes_of_kind.get(kind, 0) + size
    return {**bytes_of_kind, OTHER_KIND: bytes_of_other_kind}


def _count_bytes(path: Path, counted_files: set[tuple[int, int]]) -> int:
    """Return the bytes of the files under a path.

    Args:
        path: A file or folder.
        counted_files: (device, inode) of files that were counted before, and are not
            counted again; those of this call are added.
    """
    total = 0
    for file in _files_and_links(path):
        with suppress(FileNotFoundError):  # A run goes on meanwhile.
            stat = file.lstat()
            identity = (stat.st_dev, stat.st_ino)
            if not file.is_symlink() and identity not in counted_files:
                counted_files.add(identity)
                total += stat.st_size
    return total


# What is unused.


class Survey:
    """A list of what in results/ nothing refers to; to make it changes nothing.

    Attributes:
        unused: {path: why} of what `prune` deletes.
        records: The recorded configurations, whose experiments count as those of
            config.yaml do.
        shared: Links, behind which nothing was looked at.
        foreign: {path: why} of what the workflow does not write.
        unreadable: {path: why} of what cannot be judged and is kept.
    """

    def __init__(self, config: Config) -> None:
        """Look through results/.

        Args:
            config: Of config.yaml.

        Raises:
            UserError: a recorded configuration cannot be read.
        """
        self.unused: dict[Path, str] = {}
        self.shared: list[Path] = []
        self.foreign: dict[Path, str] = {}
        self.unreadable: dict[Path, str] = {}
        self.records = list(recorded_configs.read_records())

        configs = [*(record.config for record in self.records), config]
        experiments = []
        figures: set[str] = set()
        for known_config in configs:
            for name in known_config.experiments:
                experiments.append(NamedExperiment(known_config, name))
            # Figures may be the user's own.
            registry.extend(known_config.extensions)
            figures.update(registry.names("figure"))
        of_any_experiment = {**REGEX_OF_WILDCARD, "figure": "|".join(figures)}
        of_known_experiments = {
            **of_any_experiment,
            "experiment": "|".join(
                re.escape(experiment.name) for experiment in experiments
            ),
        }

        patterns = _written_patterns()
        self._is_written = _path_matcher(patterns, of_any_experiment)
        self._leads_to_written = _path_matcher(
            _folders_of(patterns), of_known_experiments
        )
        self._is_stored_sae = _path_matcher([STORED_SAE], of_any_experiment)
        # What has the form of a unit, and the unit.
        self._units = [
            (_path_matcher([unit.pattern], of_known_experiments), unit)
            for unit in _list_units(experiments)
        ]
        self._look_at(RESULTS)

    def _look_at(self, path: Path) -> None:
        """Put a path into the list where it belongs, or else look at what it holds.

        What is used, and what the workflow writes beside it, stands in no list.
        """
        if path.is_symlink():
            self.shared.append(path)
            return
        if files.is_left_over(path):
            self.unused[path] = LEFT_OVER
            return
        if _is_temporary(path.name):
            self.foreign[path] = "of a process that is alive, or of another machine"
            return

        unit = self._unit_of(path)
        if unit is not None:
            self._judge(path, unit)
        elif path.is_dir() and self._leads_to_written(path):
            # The store last: every bank that stays keeps its SAEs, also in a folder
            # that is left alone.
            children = _children(path)
            for child in sorted(children, key=lambda child: child.name == "store"):
                self._look_at(child)
        elif path.exists() and not self._is_written(path):
            self.foreign[path] = ""

    def _unit_of(self, path: Path) -> Unit | None:
        """Return the unit that a path is; None if the path is none."""
        if self._is_stored_sae(path):
            return self._stored_saes
        for fits, unit in self._units:
            if fits(path):
                return unit
        return None

    @functools.cached_property
    def _stored_saes(self) -> Unit:
        """The SAEs of the store, of which those of banks that stay are in use.

        A bank's file or a link leads to each of them. Where a bank's file cannot be
        read all count as used. This is asked for when the store is looked at, which is
        last: by then `unused` has all else.
        """
        keys: set[str] = set()
        is_complete = True
        for path in self._files_of_banks_that_stay():
            if path.is_symlink():
                keys.add(PurePosixPath(os.readlink(path)).parent.name)
            elif path.name in SAE_LISTS:
                try:
                    keys.update(_keys_listed_in(path))
                except UNREADABLE as error:
                    is_complete = False
                    self.unreadable[path] = (
                        f"{_explain_unreadable(error)}; while it is so, no SAE of the "
                        "store counts as unused"
                    )
        used_paths = {STORED_SAE.format(key=key) for key in keys}
        return Unit(
            STORED_SAE,
            used_paths if is_complete else None,
            "no bank lists it, no unfinished job asked for it",
        )

    def _files_of_banks_that_stay(self) -> Iterator[Path]:
        """Yield the files and links in folders of SAEs, but for unused ones.

        The store itself, results/store/saes, is passed over.
        """
        for folder in sorted(RESULTS.glob("*/saes/*")):
            if self._is_stored_sae(folder):
                continue
            for path in _files_and_links(folder):
                if self.unused.keys().isdisjoint(path.parents):
                    yield path

    def _judge(self, path: Path, unit: Unit) -> None:
        """Keep a path if it is used; else list it as unused.

        A path that holds anything that the workflow does not write is listed as
        foreign.
        """
        if unit.used_paths is None or path.as_posix() in unit.used_paths:
            self._list_left_overs_in(path)
            return

        manifest = path / PurePosixPath(paths.ARTIFACT).name
        try:
            fetched_names = _names_of_fetched_files(manifest)
        except UNREADABLE as error:
            self.unreadable[manifest] = _explain_unreadable(error)
            self._list_left_overs_in(path)
            return

        names = []
        foreign_names = []
        for file in _files_and_links(path):
            name = file.relative_to(path).as_posix()
            names.append(name)
            is_ours = (
                _is_temporary(name) or name in fetched_names or self._is_written(file)
            )
            if not is_ours:
                foreign_names.append(name)
        if foreign_names:
            self.foreign[path] = f"it holds {min(foreign_names)}"
        elif not names:
            self.foreign[path] = "it is empty"
        else:
            # The folder of an experiment lies in results/.
            experiment = path.parts[1]
            self.unused[path] = unit.why_unused.format(experiment=experiment)

    def _list_left_overs_in(self, path: Path) -> None:
        """List what processes that are gone left in a folder that is kept."""
        if path.is_symlink():
            return
        for child in _children(path):
            if files.is_left_over(child):
                self.unused[child] = LEFT_OVER
            else:
                self._list_left_overs_in(child)


def _names_of_fetched_files(manifest: Path) -> Collection[str]:
    """Return the names that an artifact's files have, which its manifest lists.

    A folder without such a manifest holds no artifact, and no files of such names.
    """
    if not manifest.exists():
        return ()
    return files.read_json(manifest, "manifest of artifact")["files"]


def _keys_listed_in(file: Path) -> set[str]:
    """Return the keys of the SAEs that the file of a bank, or of a job, lists."""
    content = files.read_json(file, "bank")
    keys = set(content.get("keys", ()))
    for entry in content.get("saes", ()):
        # An SAE with thresholds was trained under another key (`sae.bank.train`).
        keys.update((entry["key"], entry["trained"]))
    return keys


def _explain_unreadable(error: Exception) -> str:
    if isinstance(error, UserError | OSError):
        return str(error)
    return f"it is not what the workflow writes ({error!r})"


def _is_temporary(name: str) -> bool:
    """Return whether a part of a path is that of a file which is being written."""
    return any(re.fullmatch(r"\..+\.tmp", part) for part in name.split("/"))


def _children(path: Path) -> list[Path]:
    """Return what a folder holds, sorted; nothing if it is none, or went meanwhile."""
    try:
        return sorted(path.iterdir())
    except (FileNotFoundError, NotADirectoryError):
        return []


def _files_and_links(path: Path) -> Iterator[Path]:
    """Yield every file and link under a path, or the path itself if it is one.

    Links are not followed.
    """
    if path.is_symlink() or not path.is_dir():
        yield path
        return
    for child in _children(path):
        yield from _files_and_links(child)


# What is deleted.


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
    in_order = sorted(unused, key=lambda path: (path.is_relative_to(paths.STORE), path))
    for path in in_order:
        if path.exists():
            _delete(path)
            _remove_empty_folders_above(path)


def _delete(path: Path) -> None:
    try:
        # Moved first: what is deleted by half must not pass for a result.
        with files.scratch_directory(path) as doomed:
            os.replace(path, doomed / path.name)
    except OSError as error:
        raise UserError(f"{path} cannot be deleted: {error}") from None
    if doomed.exists():
        raise UserError(f"{path} cannot be deleted wholly; what is left is in {doomed}")


def _remove_empty_folders_above(path: Path) -> None:
    """Remove the folders above a path that are empty, but for results/NAME."""
    for folder in path.parents:
        if len(folder.parts) < 3 or any(folder.iterdir()):
            return
        folder.rmdir()


# What is printed.


def _describe_sizes(config: Config) -> Iterator[str]:
    bytes_of_kind = sizes(config)
    total = sum(bytes_of_kind.values())
    yield f"{'results/':<32}{'MB':>14}"
    for kind, size in [*bytes_of_kind.items(), ("total", total)]:
        yield f"  {kind:<30}{_in_mb(size):>14}"
    for path in (RESULTS, *_children(RESULTS), Path(paths.STORE)):
        if path.is_symlink():
            yield f"{path} is a link to {os.readlink(path)}"


def _describe_unused(survey: Survey) -> Iterator[str]:
    counted_files: set[tuple[int, int]] = set()
    bytes_of_path = {path: _count_bytes(path, counted_files) for path in survey.unused}
    yield (
        "Unused: no experiment of config.yaml, or of another configuration that made "
        "results here, refers to it"
    )
    for path, size in bytes_of_path.items():
        yield f"{_in_mb(size):>14} MB  {path}: {survey.unused[path]}"
    yield f"{_in_mb(sum(bytes_of_path.values())):>14} MB  in all"

    configfiles = {
        record.file: " + ".join(record.configfiles) for record in survey.records
    }
    targets = {path: os.readlink(path) for path in survey.shared}
    yield from _describe_section(
        "Other configurations, whose experiments count too (delete a line's file, and "
        "they do not)",
        configfiles,
    )
    yield from _describe_section(
        "Links, perhaps to what others share: left alone", targets
    )
    yield from _describe_section("Not ours: left alone", survey.foreign)
    yield from _describe_section("Cannot be read: kept", survey.unreadable)


def _describe_section(title: str, notes: Mapping[Path, str]) -> Iterator[str]:
    """Yield a title, and a line for each {path: note}; nothing where there is none."""
    if notes:
        yield f"\n{title}"
    for path, note in notes.items():
        yield f"  {path}: {note}" if note else f"  {path}"


def _in_mb(size: int) -> str:
    return f"{size / 1e6:,.2f}"


def _is_agreed(count: int) -> bool:
    """Ask whether to delete so many files and folders.

    Raises:
        UserError: there is nobody to ask.
    """
    if not sys.stdin.isatty():
        raise UserError(
            "nothing was deleted, since there is no terminal to ask in: `make prune "
            "YES=1` does not ask"
        )
    answer = ""
    with suppress(EOFError):
        answer = input(f"\nDelete these {count} files and folders? [y/N] ")
    if answer.strip().lower() in ("y", "yes"):
        return True
    print("Nothing was deleted.")
    return False


def main(command: str, *overlays: str, yes: bool = False) -> None:
    """Print the `sizes` of results/, or what is `unused`; `prune` also deletes that.

    Args:
        command: One of these.
        overlays: Files that are laid over config.yaml.
        yes: Whether `prune` deletes without asking.

    Raises:
        UserError: there is no such command, a config cannot be read, or nothing can be
            deleted now.
    """
    if command not in COMMANDS:
        raise UserError(
            f"there is no command {command!r}; there are: {', '.join(COMMANDS)}"
        )
    if command == "sizes":
        config = settings.read_config("config.yaml", *overlays)
        print("\n".join(_describe_sizes(config)), flush=True)
        return

    config, _, left_out = settings.read_files("config.yaml", *overlays)
    if left_out:
        lines = [*left_out.values(), "till then nobody can say what of it is unused"]
        raise UserError("\n".join(lines))
    survey = Survey(config)
    print("\n".join(_describe_unused(survey)), flush=True)
    if command == "unused" or not survey.unused:
        return
    if yes or _is_agreed(len(survey.unused)):
        with no_run():
            # A run may have come and gone since the question was asked.
            unused = survey.unused.keys() & Survey(config).unused.keys()
            prune(unused)
        print(f"\nDeleted: {len(unused)} files and folders")


if __name__ == "__main__":
    run_command(main)

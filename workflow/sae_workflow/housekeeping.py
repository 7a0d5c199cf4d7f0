"""What results/ holds, and what of it no experiment refers to: `make sizes`, `unused` and `prune`.

Experiments are those of config.yaml and of every other configuration that made results here (`recorded`). Only what
the workflow is known to write (`sae.core.paths`) is ever deleted: a folder that holds one file of another name is left
whole, and so is everything behind a link, which may be shared with others.
"""

import functools
import os
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path, PurePosixPath

from sae.config.models import Config
from sae.core import files, paths, registry
from sae.core.errors import UserError
from sae.data.splits import SPLITS
from sae_workflow import lock, missing, recorded, settings
from sae_workflow.start import start

RESULTS = Path(paths.RESULTS)
STORED = f"{paths.STORE}/{{key}}"
# What may stand for a wildcard of a pattern; without a line here, any one name.
WILDCARDS = {
    "below": ".+",
    "key": "[0-9a-f]{32}",
    "configuration": "[0-9a-f]{16}",
    "split": "|".join(SPLITS),
    "table": "|".join(paths.TABLES_OF_STAGE),
    "suffix": "|".join(
        {"csv", "md", "json", *paths.TABLE_SUFFIXES, *paths.FIGURE_SUFFIXES}
    ),
    "part": "|".join([r"\d+", *paths.GALLERY_PARTS]),
    **dict.fromkeys(("k", "seed", "number", "parts", "shard", "shards"), r"\d+"),
}
LISTS = tuple(
    PurePosixPath(pattern).name for pattern in (paths.BANK, paths.UNFINISHED)
)  # of a cell's SAEs
KINDS = ("artifacts", "weights", "imported", "datasets", "activations", "store/saes")
LEFT_OVER = "left by a process that is gone"
# What a broken or foreign file may raise.
UNREADABLE = (UserError, OSError, KeyError, TypeError, ValueError)


def _written() -> list[str]:
    """The patterns of all files that the workflow writes: `sae.core.paths`, and what lies beside it undeclared."""
    patterns = [
        p
        for p in vars(paths).values()
        if isinstance(p, str) and p.startswith(f"{paths.RESULTS}/")
    ]
    patterns += [
        *paths.NOTED_TABLES,
        *paths.FRONT_MEANS,
        *(f"{STORED}/{file}" for file in paths.STORED),
        *(f"{paths.BANK_FOLDER}/{link}" for link in (paths.SAE, paths.TRAINING_LOG)),
        f"{paths.ACTIVATIONS}/.embedding-{{part_key}}/{{below}}",
        f"{paths.HUB}/{{below}}",
        f"{PurePosixPath(paths.SITE).parent}/{{below}}",
        f"{paths.EXPERIMENT_LOGS}/{{below}}.log",
        f"{paths.EXPERIMENT_LOGS}/times.json",
        f"{paths.EXPERIMENT_LOGS}/{{below}}.tsv",
        f"{paths.EXPERIMENT_LOGS}/{{below}}.progress.json",
        f"{paths.RESULTS}/README.md",
    ]
    folders = set(_above(patterns))
    return [pattern for pattern in patterns if pattern not in folders]


def _above(patterns: Iterable[str]) -> list[str]:
    """The folders that lead to what fits the patterns."""
    return [
        parent.as_posix()
        for pattern in patterns
        for parent in PurePosixPath(pattern).parents
    ]


def _matcher(
    patterns: Iterable[str], wildcards: dict[str, str]
) -> Callable[[Path], bool]:
    """A function that says whether a path fits one of the patterns."""

    def regex(pattern: str) -> str:
        texts = re.split(
            r"\{(\w+)\}", pattern
        )  # Every second one is the name of a wildcard.
        return "".join(
            f"(?:{wildcards.get(t, '[^/]+')})" if i % 2 else re.escape(t)
            for i, t in enumerate(texts)
        )

    joined = re.compile("|".join(map(regex, dict.fromkeys(patterns))))
    return lambda path: joined.fullmatch(path.as_posix()) is not None


def _units(
    experiments: list[tuple[Config, str]],
) -> dict[str, tuple[set[str] | None, str]]:
    """{pattern of what is deleted whole or not at all: (the paths in use, None for all; why others are unused)}.

    Where a path fits several patterns, the first counts.
    """
    cells = [
        {"experiment": e} | cell
        for c, e in experiments
        for cell in settings.banks(c, e)
    ]
    embedded = [place for c, e in experiments for place in settings.embedded(c, e)]
    artifacts = [
        {"artifact": name}
        for c, e in experiments
        for name in missing.artifacts_of(c, e)
    ]
    imported = [
        {"method": name} for c, e in experiments for name in settings.imported(c, e)
    ]
    known, no_cell = (
        paths.shared_folders() | {e for _, e in experiments},
        "{experiment} has no such cell",
    )
    gone = {top.parent.name for top in RESULTS.glob("*/saes")} - known
    units = {
        PurePosixPath(paths.ARTIFACT).parent.as_posix(): (
            artifacts,
            "no experiment uses this artifact",
        ),
        paths.WEIGHTS: (embedded, "no experiment uses this backbone"),
        paths.IMPORTED: (imported, "no experiment has this method"),
        paths.DATASETS: (cells, "no experiment uses this dataset"),
        paths.ACTIVATIONS: (
            embedded,
            "no experiment has this dataset with this backbone",
        ),
        **{
            f"{RESULTS}/{name}": (
                [],
                "no configuration that is known here has this experiment",
            )
            for name in gone
        },
        **dict.fromkeys(
            (paths.PROBE_OF_EMBEDDINGS, paths.BANK_FOLDER, paths.SCORES),
            (cells, no_cell),
        ),
    }
    found = {
        pattern: ({pattern.format(**place) for place in used}, why)
        for pattern, (used, why) in units.items()
    }
    return {paths.LOGS: (None, ""), paths.EXPERIMENT_LOGS: (None, ""), **found}


def sizes(config: Config) -> dict[str, int]:
    """{kind: bytes} of results/; a file with several hard links counts once, links count nothing."""
    seen: set[tuple[int, int]] = set()
    found, kinds = dict.fromkeys(KINDS, 0), {kind.split("/")[0]: kind for kind in KINDS}
    for top in _children(RESULTS):
        is_experiment = top.name in config.experiments or (top / "saes").is_dir()
        kind = kinds.get(top.name, top.name if is_experiment else "anything else")
        found[kind] = found.get(kind, 0) + _bytes(top, seen)
    rest = found.pop("anything else", 0)
    return found | {"anything else": rest}


class Survey:
    """What of results/ nothing refers to; made by looking, changes nothing.

    Attributes:
        unused: {path: why} of what `prune` deletes.
        records: {path: config files} of the recorded configurations, whose experiments count as those of config.yaml.
        shared: links, behind which nothing was looked at.
        foreign: {path: why} of what the workflow does not write.
        unreadable: {path: why} of what cannot be judged and is kept.

    Raises:
        UserError: a recorded configuration cannot be read.
    """

    def __init__(self, config: Config) -> None:
        self.unused: dict[Path, str] = {}
        self.shared: list[Path] = []
        self.foreign: dict[Path, str] = {}
        self.unreadable: dict[Path, str] = {}
        found = list(recorded.read())
        self.records = {path: configfiles for path, configfiles, _ in found}
        configs, figures = [*(other for _, _, other in found), config], set[str]()
        for each in configs:
            registry.extend(each.extensions)
            figures |= set(registry.names("figure"))
        wildcards = WILDCARDS | {"figure": "|".join(figures)}
        experiments = [(c, e) for c in configs for e in c.experiments]
        ours = wildcards | {
            "experiment": "|".join(re.escape(e) for _, e in experiments)
        }
        self._is_written = _matcher(_written(), wildcards)
        self._leads_on = _matcher(_above(_written()), ours)
        self._units = {
            _matcher([pattern], ours): unit
            for pattern, unit in _units(experiments).items()
        }
        self._is_stored = _matcher([STORED], wildcards)
        self._look(RESULTS)

    def _look(self, path: Path) -> None:
        if path.is_symlink():
            self.shared.append(path)
        elif files.is_left_over(path):
            self.unused[path] = LEFT_OVER
        elif _is_temporary(path.name):
            self.foreign[path] = "of a process that is alive, or of another machine"
        elif self._is_stored(path):
            self._judge(
                path, self._listed, "no bank lists it, no unfinished job asked for it"
            )
        elif unit := next(
            (unit for fits, unit in self._units.items() if fits(path)), None
        ):
            self._judge(path, *unit)
        elif path.is_dir() and self._leads_on(path):
            # The store last, since every bank that stays keeps its SAEs, also in a folder that is left alone.
            for child in sorted(
                _children(path), key=lambda child: child.name == "store"
            ):
                self._look(child)
        elif path.exists() and not self._is_written(path):
            self.foreign[path] = ""

    @functools.cached_property
    def _listed(self) -> set[str] | None:
        """The SAEs of the store that a bank's file or a link leads to, of those that stay; None: all may be."""
        keys: set[str] = set()
        whole = True
        for path in (
            e
            for top in sorted(RESULTS.glob("*/saes/*"))
            if not self._is_stored(top)
            for e in _entries(top)
        ):
            if not self.unused.keys().isdisjoint(path.parents):
                continue
            if path.is_symlink():
                keys.add(PurePosixPath(os.readlink(path)).parent.name)
            elif path.name in LISTS:
                try:
                    content = files.read_json(path, "bank")
                    keys.update(content.get("keys", ()))
                    # An SAE with thresholds was trained under another key (`sae.bank.train`).
                    keys.update(
                        entry[key]
                        for entry in content.get("saes", ())
                        for key in ("key", "trained")
                    )
                except UNREADABLE as error:
                    whole = False
                    self.unreadable[path] = (
                        f"{_said(error)}; while it is so, no SAE of the store counts as unused"
                    )
        return {STORED.format(key=key) for key in keys} if whole else None

    def _judge(self, path: Path, used: set[str] | None, why: str) -> None:
        """Keep `path` if it is used; else list it as unused, if it holds only what the workflow writes."""
        if used is None or path.as_posix() in used:
            self._keep(path)
            return
        manifest = path / PurePosixPath(paths.ARTIFACT).name
        try:
            fetched = (
                files.read_json(manifest, "manifest of artifact")["files"]
                if manifest.exists()
                else {}
            )
        except UNREADABLE as error:
            self.unreadable[manifest] = _said(error)
            self._keep(path)
            return
        held = {entry.relative_to(path).as_posix(): entry for entry in _entries(path)}
        known = (
            name
            for name, e in held.items()
            if _is_temporary(name) or name in fetched or self._is_written(e)
        )
        strange = sorted(set(held) - set(known))
        if strange or not held:
            self.foreign[path] = f"it holds {strange[0]}" if strange else "it is empty"
        else:
            self.unused[path] = why.format(experiment=path.parts[1])

    def _keep(self, path: Path) -> None:
        for child in [] if path.is_symlink() else _children(path):
            if files.is_left_over(child):
                self.unused[child] = LEFT_OVER
            else:
                self._keep(child)


def _said(error: Exception) -> str:
    return (
        str(error)
        if isinstance(error, (UserError, OSError))
        else f"it is not what the workflow writes ({error!r})"
    )


def _is_temporary(name: str) -> bool:
    return any(re.fullmatch(r"\..+\.tmp", part) for part in name.split("/"))


def _children(path: Path) -> list[Path]:
    """What a folder holds, sorted; nothing if it is none, or went meanwhile."""
    try:
        return sorted(path.iterdir())
    except (FileNotFoundError, NotADirectoryError):
        return []


def _entries(path: Path) -> Iterator[Path]:
    """Every file and link under `path`, or `path` itself; links are not followed."""
    if path.is_symlink() or not path.is_dir():
        yield path
        return
    for child in _children(path):
        yield from _entries(child)


def _bytes(path: Path, seen: set[tuple[int, int]]) -> int:
    """Bytes under `path`, of files that are not in `seen`, which then holds them too."""
    total = 0
    for entry in _entries(path):
        with suppress(FileNotFoundError):  # A run goes on meanwhile.
            stat = entry.lstat()
            if not entry.is_symlink() and (stat.st_dev, stat.st_ino) not in seen:
                seen.add((stat.st_dev, stat.st_ino))
                total += stat.st_size
    return total


@contextmanager
def no_run() -> Iterator[None]:
    """While this is held no run of this folder starts, and it is proven that none, and no job of one, is alive.

    Raises:
        UserError: it is not proven; the message says why.
    """
    traces = [
        *Path(".snakemake/locks").glob("*.lock"),
        *Path(".snakemake").glob("alive-*"),
    ]
    with lock.alone() as (gone, why):
        gone, queued = gone or not traces, lock.queued()
        if queued:
            gone, why = False, f"Slurm jobs {', '.join(queued)} are in the queue"
        if not gone:
            raise UserError(
                f"a run of this folder may be alive: {why}. Nothing was deleted. Wait for it or stop it; if you are "
                "sure that it is gone, run `.venv/bin/snakemake --unlock`, delete .snakemake/alive-*, and try again."
            )
        yield


def prune(unused: Iterable[Path]) -> None:
    """Delete the paths, SAEs of the store last, and the folders that are empty for it.

    Each vanishes at once, and links before what they lead to: a kill leaves nothing half deleted, and no broken link.

    Raises:
        UserError: a path cannot be deleted.
    """
    for path in filter(
        Path.exists,
        sorted(unused, key=lambda path: (path.is_relative_to(paths.STORE), path)),
    ):
        try:
            # Moved first: what is deleted by half must not pass for a result.
            with files.scratch_directory(path) as doomed:
                os.replace(path, doomed / path.name)
        except OSError as error:
            raise UserError(f"{path} cannot be deleted: {error}") from None
        if doomed.exists():
            raise UserError(
                f"{path} cannot be deleted wholly; what is left is in {doomed}"
            )
        for parent in path.parents:
            if len(parent.parts) < 3 or any(parent.iterdir()):
                break
            parent.rmdir()


def _sizes_text(config: Config) -> Iterator[str]:
    found = sizes(config)
    yield f"{'results/':<32}{'MB':>14}"
    for kind, count in [*found.items(), ("total", sum(found.values()))]:
        yield f"  {kind:<30}{_mb(count):>14}"
    links = (RESULTS, *_children(RESULTS), Path(paths.STORE))
    yield from (
        f"{path} is a link to {os.readlink(path)}"
        for path in links
        if path.is_symlink()
    )


def _unused_text(survey: Survey) -> Iterator[str]:
    seen: set[tuple[int, int]] = set()
    counts = {path: _bytes(path, seen) for path in survey.unused}
    yield "Unused: no experiment of config.yaml, or of another configuration that made results here, refers to it"
    for path, count in counts.items():
        yield f"{_mb(count):>14} MB  {path}: {survey.unused[path]}"
    yield f"{_mb(sum(counts.values())):>14} MB  in all"
    configurations = "Other configurations, whose experiments count too (delete a line's file, and they do not)"
    sections: dict[str, Mapping[Path, str]] = {
        configurations: {
            path: " + ".join(configfiles)
            for path, configfiles in survey.records.items()
        },
        "Links, perhaps to what others share: left alone": {
            path: os.readlink(path) for path in survey.shared
        },
        "Not ours: left alone": survey.foreign,
        "Cannot be read: kept": survey.unreadable,
    }
    for title, found in sections.items():
        if found:
            yield f"\n{title}"
            yield from (
                f"  {path}" + (f": {why}" if why else "") for path, why in found.items()
            )


def _mb(count: int) -> str:
    return f"{count / 1e6:,.2f}"


def _agreed(count: int) -> bool:
    """Ask whether to delete so many files and folders.

    Raises:
        UserError: there is nobody to ask.
    """
    if not sys.stdin.isatty():
        raise UserError(
            "nothing was deleted, since there is no terminal to ask in: `make prune YES=1` does not ask"
        )
    with suppress(EOFError):
        if input(
            f"\nDelete these {count} files and folders? [y/N] "
        ).strip().lower() in ("y", "yes"):
            return True
    print("Nothing was deleted.")
    return False


def main(command: str, *overlays: str, yes: bool = False) -> None:
    """Print the `sizes` of results/, or what is `unused`; `prune` then deletes that, after asking unless told `--yes`.

    Raises:
        UserError: there is no such command, a config cannot be read, or nothing can be deleted now.
    """
    if command not in ("sizes", "unused", "prune"):
        raise UserError(
            f"there is no command {command!r}; there are: sizes, unused, prune"
        )
    config = settings.read("config.yaml", *overlays)
    survey = None if command == "sizes" else Survey(config)
    print(
        "\n".join(_unused_text(survey) if survey else _sizes_text(config)), flush=True
    )
    if (
        survey
        and survey.unused
        and command == "prune"
        and (yes or _agreed(len(survey.unused)))
    ):
        with no_run():
            # A run may have come and gone since the question was asked.
            unused = survey.unused.keys() & Survey(config).unused.keys()
            prune(unused)
        print(f"\nDeleted: {len(unused)} files and folders")


if __name__ == "__main__":
    start(main)

"""What results/ holds, and what of it no experiment refers to: `make sizes`, `unused` and `prune`.

Experiments are those of config.yaml and of every other configuration that made results here (`recorded`). Only what
the workflow is known to write (`sae.core.paths`) is ever deleted: a folder that holds one file of another name is left
whole, and so is everything behind a link, which may be shared with others.
"""

import os
import re
import sys
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

from sae.config.models import Config
from sae.core import files, paths, registry
from sae.core.errors import UserError
from sae.data.splits import SPLITS
from sae_workflow import lock, missing, recorded, settings

RESULTS = Path(paths.RESULTS)
STORED = f"{paths.STORE}/{{key}}"
# What may stand for a wildcard of a pattern; without a line here, any one name.
WILDCARDS = {
    "below": ".+",
    "key": "[0-9a-f]{32}",
    "configuration": "[0-9a-f]{16}",
    "split": "|".join(SPLITS),
    "table": "|".join(paths.TABLES_OF_STAGE),
    "suffix": "|".join({"csv", "md", "json", *paths.TABLE_SUFFIXES, *paths.FIGURE_SUFFIXES}),
    "part": "|".join([r"\d+", *paths.GALLERY_PARTS]),
    **dict.fromkeys(("k", "seed", "number", "parts", "shard", "shards"), r"\d+"),
}
LISTS = tuple(PurePosixPath(pattern).name for pattern in (paths.BANK, paths.UNFINISHED))  # of a cell's SAEs
# What a broken or foreign file may raise.
UNREADABLE = (UserError, OSError, KeyError, TypeError, ValueError)


def _written() -> list[str]:
    """The patterns of all files that the workflow writes: `sae.core.paths`, and what lies beside it undeclared."""
    patterns = [p for p in vars(paths).values() if isinstance(p, str) and p.startswith(f"{paths.RESULTS}/")]
    patterns += [
        *(f"{STORED}/{file}" for file in paths.STORED),
        *(f"{paths.BANK_FOLDER}/{link}" for link in (paths.SAE, paths.TRAINING_LOG)),
        f"{paths.ACTIVATIONS}/.embedding-{{part_key}}/{{below}}",
        f"{paths.HUB}/{{below}}",
        f"{paths.EXPERIMENT_LOGS}/{{below}}.log",
        f"{paths.EXPERIMENT_LOGS}/times.json",
        f"{paths.EXPERIMENT_LOGS}/{{below}}.tsv",
    ]
    folders = set(_above(patterns))
    return [pattern for pattern in patterns if pattern not in folders]


def _matcher(patterns: Iterable[str], wildcards: dict[str, str]) -> Callable[[Path], bool]:
    """A function that says whether a path fits one of the patterns."""

    def regex(pattern: str) -> str:
        texts = re.split(r"\{(\w+)\}", pattern)  # Every second one is the name of a wildcard.
        return "".join(f"(?:{wildcards.get(t, '[^/]+')})" if i % 2 else re.escape(t) for i, t in enumerate(texts))

    joined = re.compile("|".join(map(regex, dict.fromkeys(patterns))))
    return lambda path: joined.fullmatch(path.as_posix()) is not None


def _above(patterns: Iterable[str]) -> list[str]:
    """The folders that lead to what fits the patterns."""
    return [parent.as_posix() for pattern in patterns for parent in PurePosixPath(pattern).parents]


def _top(pattern: str) -> str:
    """What of a pattern comes before its first wildcard, below results/."""
    return pattern.split("/{")[0].removeprefix(f"{paths.RESULTS}/")


KINDS = tuple(map(_top, (paths.ARTIFACT, paths.WEIGHTS, paths.IMPORTED, paths.DATASET, paths.EMBEDDINGS, STORED)))


def sizes(config: Config) -> dict[str, int]:
    """{kind: bytes} of results/; a file with several hard links counts once, links count nothing."""
    seen: set[tuple[int, int]] = set()
    found = dict.fromkeys(KINDS, 0)
    for top in _children(RESULTS):
        named = top.name in config.experiments or (top / "saes").is_dir()
        for path in _entries(top):
            inside = f"{path.relative_to(RESULTS).as_posix()}/"
            of_kind = (kind for kind in KINDS if inside.startswith(f"{kind}/"))
            kind = next(of_kind, top.name if named else "anything else")
            found[kind] = found.get(kind, 0) + _bytes(path, seen)
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
        self.records: dict[Path, list[str]] = {}
        self.shared: list[Path] = []
        self.foreign: dict[Path, str] = {}
        self.unreadable: dict[Path, str] = {}
        self.configs = [config]
        figures = set(registry.names("figure"))
        for path, configfiles, other in recorded.read():
            self.records[path] = configfiles
            self.configs.append(other)
            figures |= set(registry.names("figure"))
        registry.extend(config.extensions)
        self.experiments = {e for c in self.configs for e in c.experiments}
        self.banks = [
            {"experiment": e, **bank} for c in self.configs for e in c.experiments for bank in settings.banks(c, e)
        ]
        self.embedded = [place for c in self.configs for e in c.experiments for place in settings.embedded(c, e)]
        wildcards = WILDCARDS | {"figure": "|".join(figures)}
        self.stored: list[Path] = []
        rules = self._rules()
        self.rules = [(_matcher([pattern], wildcards), judge) for pattern, judge in rules.items()]
        self.is_written = _matcher(_written(), wildcards)
        ours = [pattern.replace("{experiment}", e) for e in self.experiments for pattern in _written()]
        self.is_ours = _matcher(ours, wildcards)
        self.leads_on = _matcher(_above([*rules, *ours]), wildcards)
        self._look(RESULTS)
        # Last, since every bank that stays keeps its SAEs, also in a folder that is left alone.
        listed = self._listed() if self.stored else set()
        for path in self.stored:
            self._sae(path, listed)

    def _listed(self) -> set[str] | None:
        """The keys of the SAEs that a bank's file or a link lists, of those that stay; None: nobody knows them all."""
        found: set[str] = set()
        whole = True
        for top in sorted(set(RESULTS.glob("*/saes")) - {Path(paths.STORE)}):
            for folder, inside, names in os.walk(top):
                here = Path(folder)
                if not self.unused.keys().isdisjoint({here, *here.parents}):
                    inside.clear()
                    continue
                for name in names:
                    path = here / name
                    if path.is_symlink():
                        found.add(PurePosixPath(os.readlink(path)).parent.name)
                    elif name in LISTS:
                        try:
                            content = files.read_json(path, "bank")
                            found |= {*content.get("keys", ())}
                            for entry in content.get("saes", ()):
                                # An SAE with thresholds was trained under another key (`sae.bank.train`).
                                found |= {entry["key"], entry["trained"]}
                        except UNREADABLE as error:
                            whole = False
                            why = "while it is so, no SAE of the store counts as unused"
                            self.unreadable[path] = f"{_said(error)}; {why}"
        return found if whole else None

    def _rules(self) -> dict[str, Callable[[Path], None]]:
        """{pattern: what becomes of a path that fits it}; of several that fit, the first counts."""

        def unless(pattern: str, why: str) -> Callable[[Path], None]:
            """Unused is what the pattern gives for no bank of any experiment, and no judge."""
            places = self.embedded if pattern in (paths.WEIGHTS, paths.ACTIVATIONS) else self.banks
            used = {pattern.format(**place) for place in places}
            return lambda path: self._judge(path, path.as_posix() in used, why)

        artifacts = {name for c in self.configs for e in c.experiments for name in missing.artifacts_of(c, e)}
        imported = {name for c in self.configs for e in c.experiments for name in settings.imported(c, e)}
        folders = {_top(pattern).split("/")[0] for pattern in _written()}  # Such as `store`, which holds `saes` too.
        gone = {place.parent.name for place in RESULTS.glob("*/saes")} - folders - self.experiments
        rules = {
            f"{paths.RESULTS}/README.md": self._keep,
            paths.LOGS: self._keep,
            PurePosixPath(paths.ARTIFACT).parent.as_posix(): lambda path: self._artifact(path, path.name in artifacts),
            paths.WEIGHTS: unless(paths.WEIGHTS, "no experiment uses this backbone"),
            paths.IMPORTED: lambda path: self._judge(path, path.stem in imported, "no experiment has this method"),
            paths.DATASETS: unless(paths.DATASETS, "no experiment uses this dataset"),
            paths.ACTIVATIONS: unless(paths.ACTIVATIONS, "no experiment has this dataset with this backbone"),
            STORED: self.stored.append,
        }
        for experiment in gone:
            rules[paths.EXPERIMENT.format(experiment=experiment)] = unless(
                paths.EXPERIMENT, "no configuration that is known here has this experiment"
            )
        for experiment in self.experiments:
            rules[paths.EXPERIMENT_LOGS.format(experiment=experiment)] = self._keep
            for pattern in (paths.PROBE_OF_EMBEDDINGS, paths.BANK_FOLDER, paths.SCORES):
                own = pattern.replace("{experiment}", experiment)
                rules[own] = unless(pattern, f"{experiment} has no such cell")
        return rules

    def _look(self, path: Path) -> None:
        if path.is_symlink():
            self.shared.append(path)
        elif files.is_left_over(path):
            self.unused[path] = "left by a process that is gone"
        elif _is_temporary(path.name):
            self.foreign[path] = "of a process that is alive, or of another machine"
        elif judge := next((judge for fits, judge in self.rules if fits(path)), None):
            judge(path)
        elif path.is_dir() and self.leads_on(path):
            for child in _children(path):
                self._look(child)
        elif path.exists() and not self.is_ours(path):
            self.foreign[path] = ""

    def _keep(self, path: Path) -> None:
        for child in [] if path.is_symlink() else _children(path):
            if files.is_left_over(child):
                self.unused[child] = "left by a process that is gone"
            else:
                self._keep(child)

    def _judge(self, path: Path, used: bool, why: str, also: Collection[str] = ()) -> None:
        """Keep `path`, or list it as unused if it holds only what the workflow writes, or `also` these names in it."""
        if used:
            self._keep(path)
            return
        held = {entry.relative_to(path).as_posix(): entry for entry in _entries(path)}
        known = (name for name, e in held.items() if _is_temporary(name) or name in also or self.is_written(e))
        strange = sorted(set(held) - set(known))
        if strange or not held:
            self.foreign[path] = f"it holds {strange[0]}" if strange else "it is empty"
        else:
            self.unused[path] = why

    def _artifact(self, path: Path, used: bool) -> None:
        fetched: Collection[str] = ()
        manifest = Path(paths.ARTIFACT.format(artifact=path.name))
        if not used and manifest.exists():
            try:
                fetched = files.read_json(manifest, "manifest of artifact")["files"]
            except UNREADABLE as error:
                self.unreadable[manifest] = _said(error)
                used = True
        self._judge(path, used, "no experiment uses this artifact", fetched)

    def _sae(self, path: Path, listed: Collection[str] | None) -> None:
        self._judge(path, listed is None or path.name in listed, "no bank lists it, no unfinished job asked for it")


def _said(error: Exception) -> str:
    return str(error) if isinstance(error, (UserError, OSError)) else f"it is not what the workflow writes ({error!r})"


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
        try:
            stat = entry.lstat()
        except FileNotFoundError:  # A run goes on meanwhile.
            continue
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
    traces = [*Path(".snakemake/locks").glob("*.lock"), *Path(".snakemake").glob("alive-*")]
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
    for path in filter(Path.exists, sorted(unused, key=lambda path: (path.is_relative_to(paths.STORE), path))):
        try:
            # Moved first: what is deleted by half must not pass for a result.
            with files.scratch_directory(path) as doomed:
                os.replace(path, doomed / path.name)
        except OSError as error:
            raise UserError(f"{path} cannot be deleted: {error}") from None
        if doomed.exists():
            raise UserError(f"{path} cannot be deleted wholly; what is left is in {doomed}")
        for parent in path.parents:
            if len(parent.parts) < 3 or any(parent.iterdir()):
                break
            parent.rmdir()


def _sizes_text(config: Config) -> Iterator[str]:
    found = sizes(config)
    yield f"{'results/':<32}{'MB':>14}"
    for kind, count in [*found.items(), ("total", sum(found.values()))]:
        yield f"  {kind:<30}{_mb(count):>14}"
    links = (RESULTS, *(path for pattern in ("*", "store/saes") for path in sorted(RESULTS.glob(pattern))))
    yield from (f"{path} is a link to {os.readlink(path)}" for path in links if path.is_symlink())


def _unused_text(survey: Survey) -> Iterator[str]:
    seen: set[tuple[int, int]] = set()
    counts = {path: _bytes(path, seen) for path in survey.unused}
    yield "Unused: no experiment of config.yaml, or of another configuration that made results here, refers to it"
    for path, count in counts.items():
        yield f"{_mb(count):>14} MB  {path}: {survey.unused[path]}"
    yield f"{_mb(sum(counts.values())):>14} MB  in all"
    for title, found in (
        (
            "Other configurations, whose experiments count too (delete a line's file, and they do not)",
            {path: " + ".join(configfiles) for path, configfiles in survey.records.items()},
        ),
        ("Links, perhaps to what others share: left alone", {p: os.readlink(p) for p in survey.shared}),
        ("Not ours: left alone", survey.foreign),
        ("Cannot be read: kept", survey.unreadable),
    ):
        if found:
            yield f"\n{title}"
            yield from (f"  {path}" + (f": {why}" if why else "") for path, why in found.items())


def _mb(count: int) -> str:
    return f"{count / 1e6:,.2f}"


def _agreed(count: int) -> bool:
    """Ask whether to delete so many files and folders.

    Raises:
        UserError: there is nobody to ask.
    """
    if not sys.stdin.isatty():
        raise UserError("nothing was deleted, since there is no terminal to ask in: `make prune YES=1` does not ask")
    try:
        return input(f"\nDelete these {count} files and folders? [y/N] ").strip().lower() in ("y", "yes")
    except EOFError:
        return False


def main(command: str = "", *words: str) -> None:
    """Print the sizes of results/, or what is unused; `prune` then deletes that, after asking unless told `--yes`."""
    overlays = [word for word in words if not word.startswith("-")]
    options = [word for word in words if word.startswith("-")]
    if (command, *options) not in (("sizes",), ("unused",), ("prune",), ("prune", "--yes")):
        sys.exit("usage: python -m sae_workflow.housekeeping sizes|unused|prune [--yes] [CONFIG ...]")
    try:
        config = settings.read("config.yaml", *overlays)
        if command == "sizes":
            print("\n".join(_sizes_text(config)))
            return
        survey = Survey(config)
        print("\n".join(_unused_text(survey)), flush=True)
        if command == "unused" or not survey.unused:
            return
        if not options and not _agreed(len(survey.unused)):
            print("Nothing was deleted.")
            return
        with no_run():
            # A run may have come and gone since the question was asked.
            unused = survey.unused.keys() & Survey(config).unused.keys()
            prune(unused)
        print(f"\nDeleted: {len(unused)} files and folders")
    except (UserError, OSError) as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main(*sys.argv[1:])

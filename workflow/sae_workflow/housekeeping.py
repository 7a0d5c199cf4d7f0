"""What results/ holds, and what of it no experiment of config.yaml refers to: `make sizes`, `unused` and `prune`.

Only what the workflow is known to write is ever deleted: a folder that holds one file of another name is left alone,
and so is everything behind a link, which may be shared with others.
"""

import functools
import glob
import os
import re
import sys
from contextlib import contextmanager
from dataclasses import asdict
from fnmatch import fnmatchcase
from pathlib import Path

import yaml

from sae.core import files, registry
from sae.core.codehash import code_hash
from sae.core.errors import UserError
from sae.data.splits import SPLITS
from sae.report.figures import FIGURES
from sae_workflow import lock, missing, settings

RESULTS = Path("results")
KINDS = ("artifacts", "weights", "datasets", "activations", "store/saes")
BANKS = ("bank.json", "bank_all.json")
# Names of the files in what may be deleted; `*` stands for slashes too.
DATASET = ("index.parquet", "manifest.json", "download.json")
ACTIVATIONS = (
    *(f"{split}/{file}" for split in SPLITS for file in ("embeddings.npy", "index.parquet", "manifest.json")),
    ".embedding-*/*",
    ".shards/*",
)
STORED = ("sae.safetensors", "train.parquet", "result.json")
EXPERIMENT = (
    *(f"saes/*/*/k[0-9]*/{bank}" for bank in BANKS),
    *(f"saes/*/*/k[0-9]*/*/lambda*/*/seed*/{file}" for file in ("sae.safetensors", "train.parquet")),
    "saes/*/*/k[0-9]*/.parts/*",
    "scores/*/*/embeddings.json",
    "scores/*/*/k[0-9]*/*.parquet",
    "metrics.csv",
    *(f"{table}.parquet" for table in ("metrics", "curves", "latents", "gallery/images", "gallery/sample")),
    "claims.csv",
    "claims.md",
    "tables/table[0-9].*",
    *(f"figures/{figure}.{suffix}" for figure in FIGURES for suffix in ("png", "pdf")),
    "report/index.html",
    "logs/*.log",
    "benchmarks/*.tsv",
)
# What a broken or foreign file may raise.
UNREADABLE = (UserError, OSError, KeyError, TypeError, ValueError)


def sizes(config):
    """{kind: bytes} of results/; a file with several hard links counts once, links count nothing."""
    seen, found = set(), dict.fromkeys(KINDS, 0)
    for top in _children(RESULTS):
        for path in _entries(top):
            kind = _kind(path.relative_to(RESULTS).parts, config)
            found[kind] = found.get(kind, 0) + _bytes(path, seen)
    rest = found.pop("anything else", 0)
    return found | {"anything else": rest}


def _kind(parts, config):
    if parts[:2] == ("store", "saes"):
        return "store/saes"
    known = parts[0] in KINDS or parts[0] in config["experiments"] or (RESULTS / parts[0] / "saes").is_dir()
    return parts[0] if known else "anything else"


class Survey:
    """What of results/ nothing refers to; made by looking, changes nothing.

    Attributes:
        unused: {path: why} of what `prune` deletes.
        shared: links, behind which nothing was looked at.
        foreign: {path: why} of what the workflow does not write.
        unreadable: {path: why} of what cannot be judged and is kept.
    """

    def __init__(self, config):
        self.config, self.experiments = config, config["experiments"]
        self.unused, self.shared, self.foreign, self.unreadable = {}, [], {}, {}
        cells = [{"experiment": e} | bank for e in self.experiments for bank in settings.banks(config, e)]
        self.artifacts = {name for e in self.experiments for name in missing.artifacts_of(config, e)}
        self.datasets = {cell["dataset"] for cell in cells}
        self.pairs = {(cell["dataset"], cell["backbone"]) for cell in cells}
        self.cells = {(c["experiment"], c["dataset"], c["backbone"], f"k{c['k']}") for c in cells}
        self.listed = set()
        for experiment, dataset, backbone, k in sorted(self.cells):
            for name in BANKS:
                self._read_bank(RESULTS / experiment / "saes" / dataset / backbone / k / name)
        self.banks_are_whole = not self.unreadable
        self._look(RESULTS)

    def _read_bank(self, path):
        if path.exists():
            try:
                self.listed |= {entry["key"] for entry in files.read_json(path, "bank")["saes"]}
            except UNREADABLE as error:
                self.unreadable[path] = f"{_said(error)}; while it is so, no SAE of the store counts as unused"

    def _look(self, path):
        if path.is_symlink():
            self.shared.append(path)
            return
        if files.is_left_over(path):
            self.unused[path] = "left by a process that is gone"
            return
        if _is_temporary(path.name):
            self.foreign[path] = "of a process that is alive, or of another machine"
            return
        match path.relative_to(RESULTS).parts:
            case (
                ()
                | ("artifacts" | "weights" | "datasets" | "activations" | "store",)
                | ("store", "saes")
                | ("activations", _)
            ):
                self._open(path)
            case ("README.md",):
                pass
            case ("logs" | "benchmarks",):
                self._keep(path)
            case ("artifacts", name):
                self._artifact(path, name in self.artifacts)
            case ("weights", name):
                used = path.stem in {backbone for _, backbone in self.pairs}
                self._judge(path, used, "no experiment uses this backbone", ("*.json",), path.parent)
            case ("datasets", name):
                self._judge(path, name in self.datasets, "no experiment uses this dataset", DATASET)
            case ("activations", dataset, backbone):
                used = (dataset, backbone) in self.pairs
                self._judge(path, used, "no experiment has this dataset with this backbone", ACTIVATIONS)
            case ("store", "saes", key) if re.fullmatch(r"[0-9a-f]{32}", key):
                self._sae(path, key)
            case ("store", *_):
                self.foreign[path] = ""
            case (name,) if name in self.experiments:
                self._open(path)
            case (_,) if (path / "saes").is_dir():
                self._judge(path, False, "no such experiment", EXPERIMENT)
            case (_, "saes" | "scores") | (_, "saes" | "scores", _) | (_, "saes" | "scores", _, _):
                self._open(path)
            case (name, "scores", dataset, backbone, "embeddings.json"):
                used = any(cell[:3] == (name, dataset, backbone) for cell in self.cells)
                self._judge(path, used, f"{name} has no such cells", EXPERIMENT, RESULTS / name)
            case (name, "saes" | "scores", *cell):
                used = (name, *cell) in self.cells
                self._judge(path, used, f"{name} has no such cell", EXPERIMENT, RESULTS / name)
            case (_, name) if any(name == pattern.split("/")[0] for pattern in EXPERIMENT):
                self._keep(path)
            case _:
                self.foreign[path] = ""

    def _open(self, path):
        if path.is_dir():
            for child in _children(path):
                self._look(child)
        elif path.exists():
            self.foreign[path] = ""

    def _keep(self, path):
        for child in [] if path.is_symlink() else _children(path):
            if files.is_left_over(child):
                self.unused[child] = "left by a process that is gone"
            else:
                self._keep(child)

    def _judge(self, path, used, why, names, base=None):
        """Keep `path` or list it as unused, if it holds nothing but files of these names, relative to `base`."""
        if used:
            self._keep(path)
            return
        held = [entry.relative_to(base or path).as_posix() for entry in _entries(path)]
        strange = [name for name in held if not (_is_temporary(name) or any(fnmatchcase(name, n) for n in names))]
        if strange or not held:
            self.foreign[path] = f"it holds {strange[0]}" if strange else "it is empty"
        else:
            self.unused[path] = why

    def _artifact(self, path, used):
        names = ()
        if not used and (path / "artifact.json").exists():
            try:
                fetched = files.read_json(path / "artifact.json", "manifest of artifact")["files"]
                names = ("artifact.json", *map(glob.escape, fetched))
            except UNREADABLE as error:
                self.unreadable[path / "artifact.json"] = _said(error)
                used = True
        self._judge(path, used, "no experiment uses this artifact", names)

    def _sae(self, path, key):
        used = key in self.listed or not self.banks_are_whole
        if not used:
            planned, data = self.planned, self.data  # Here, since what they may raise does not speak of this SAE.
            try:
                made_by = files.read_json(path / "result.json", "result of SAE")["made_by"]
                used = self._would_be_made(made_by, planned, data)
            except UNREADABLE as error:
                self.unreadable[path] = _said(error)
                used = True
        self._judge(path, used, "no bank lists it, and no experiment would train it", STORED)

    def _would_be_made(self, made_by, planned, data):
        """Whether a bank of an experiment would train this very SAE: a killed run's is in no bank.json yet."""
        identity, scale = _identity(made_by), made_by["input_scale"]
        return data.get((made_by["dataset"], made_by["backbone"])) in (
            made_by["data"],
            None,
        ) and not planned.isdisjoint({(identity, scale), (identity, None)})

    @functools.cached_property
    def planned(self):
        """{(identity, input_scale)} of the SAEs of all banks and of their ablations; a scale of None may be any."""
        from sae.bank.train import REGULARIZERS, members  # Imports torch, which takes 2 s.

        found = set()
        for experiment in self.experiments:
            for bank in settings.banks(self.config, experiment):
                plan = settings.bank_plan(self.config, experiment, **bank)
                scale = None if plan["training"]["unit_variance"] else 1.0
                for mask in ("batch_active", "all"):
                    for regularizer, options in members(plan | {"mask": mask}):
                        modules = [] if regularizer == "none" else [registry.module(REGULARIZERS, regularizer)]
                        made_by = {
                            "dataset": bank["dataset"],
                            "backbone": bank["backbone"],
                            "regularizer": regularizer,
                            "settings": asdict(options),
                            "code": _code(*modules),
                        }
                        found.add((_identity(made_by), scale))
        return found

    @functools.cached_property
    def data(self):
        """{(dataset, backbone): the hashes of the embeddings that a bank would read}, of those that are there."""
        found = {}
        for dataset, backbone in sorted(self.pairs):
            path = RESULTS / "activations" / dataset / backbone / "train/manifest.json"
            if path.exists():
                try:
                    found[dataset, backbone] = files.read_json(path, "manifest of activations")["sha256"]
                except UNREADABLE as error:
                    self.unreadable[path] = _said(error)
        return found


def _said(error):
    return str(error) if isinstance(error, (UserError, OSError)) else f"it is not what the workflow writes ({error!r})"


def _identity(made_by):
    keys = ("dataset", "backbone", "regularizer", "settings", "code")
    return files.dumps({key: made_by[key] for key in keys})


@functools.cache
def _code(*modules):
    return code_hash("sae.training.loop", *modules)


def _is_temporary(name):
    return any(re.fullmatch(r"\..+\.tmp", part) for part in name.split("/"))


def _children(path):
    """What a folder holds, sorted; nothing if it is none, or went meanwhile."""
    try:
        return sorted(path.iterdir())
    except (FileNotFoundError, NotADirectoryError):
        return []


def _entries(path):
    """Every file and link under `path`, or `path` itself; links are not followed."""
    if path.is_symlink() or not path.is_dir():
        yield path
        return
    for child in _children(path):
        yield from _entries(child)


def _bytes(path, seen):
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
def no_run():
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


def prune(unused):
    """Delete the paths, and the folders that are empty for it.

    Raises:
        UserError: a path cannot be deleted.
    """
    for path in filter(Path.exists, unused):
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


def _sizes_text(config):
    found = sizes(config)
    yield f"{'results/':<32}{'MB':>14}"
    for kind, count in [*found.items(), ("total", sum(found.values()))]:
        yield f"  {kind:<30}{_mb(count):>14}"
    links = (RESULTS, *(path for pattern in ("*", "store/saes") for path in sorted(RESULTS.glob(pattern))))
    yield from (f"{path} is a link to {os.readlink(path)}" for path in links if path.is_symlink())


def _unused_text(survey):
    seen = set()
    counts = {path: _bytes(path, seen) for path in survey.unused}
    yield "Unused: no experiment of config.yaml refers to it (other config files are not looked at)"
    for path, count in counts.items():
        yield f"{_mb(count):>14} MB  {path}: {survey.unused[path]}"
    yield f"{_mb(sum(counts.values())):>14} MB  in all"
    for title, found in (
        ("Links, perhaps to what others share: left alone", {p: os.readlink(p) for p in survey.shared}),
        ("Not ours: left alone", survey.foreign),
        ("Cannot be read: kept", survey.unreadable),
    ):
        if found:
            yield f"\n{title}"
            yield from (f"  {path}" + (f": {why}" if why else "") for path, why in found.items())


def _mb(count):
    return f"{count / 1e6:,.2f}"


def main(command="", *rest):
    """Print the sizes of results/, or what is unused; with `prune`, delete that."""
    if command not in ("sizes", "unused", "prune") or rest:
        sys.exit("usage: python workflow/housekeeping.py sizes|unused|prune")
    config = yaml.safe_load(Path("config.yaml").read_text())
    try:
        settings.check(config)
        if command == "sizes":
            print("\n".join(_sizes_text(config)))
            return
        survey = Survey(config)
        print("\n".join(_unused_text(survey)), flush=True)
        if command == "prune":
            with no_run():
                prune(survey.unused)
            print(f"\nDeleted: {len(survey.unused)} files and folders")
    except (UserError, OSError) as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main(*sys.argv[1:])

"""Run one stage of scoring over a bank: every metric of the stage on every SAE that it is for, computed once.

A metric's rows lie in a store of their own, `.rows/{stage}/{metric}.parquet` beside the stage's folder. A row's key
hashes all that decides it: the SAE, the embeddings and indices that were read, what the metric's code means, its
options. A row whose key stands is kept bit for bit, so that a new SAE or an edited metric computes its own rows alone.
"""

import functools
import itertools
import logging
import math
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any, TypeVar

import numpy as np
import pandas as pd
import pyarrow as pa

from sae.bank.read import open_sae
from sae.config.entries import head_of
from sae.core import files, registry
from sae.core.codehash import code_hash
from sae.core.errors import UserError
from sae.core.options import Options
from sae.core.paths import trial_name
from sae.data import store
from sae.data.splits import SPLITS
from sae.models.coder import Coder
from sae.scoring import rows as tables
from sae.scoring.rows import FAIR, KEY
from sae.scoring.rowstore import RowStore
from sae.scoring.subject import Curve, PerLatent, Subject

log = logging.getLogger(__name__)
progress = logging.getLogger("sae.progress")
T = TypeVar("T")


@dataclass(frozen=True)
class Bank:
    """A bank file, and which of its SAEs a stage scores with which metrics.

    Attributes:
        file, content: bank.json or another of the bank's files, and what it holds.
        entries: SAEs of it.
        metrics: names of metrics.
    """

    file: Path
    content: dict[str, Any]
    entries: list[dict[str, Any]]
    metrics: list[str]


@dataclass(frozen=True)
class Data:
    """Where the activations of a bank's images lie.

    Attributes:
        splits: {split: its folder}.
        others: {backbone: folder of its test split}, of the experiment's other backbones.
    """

    splits: dict[str, Path]
    others: dict[str, Path] = field(default_factory=dict)


@dataclass(frozen=True)
class Scored:
    """What a stage gives.

    Attributes:
        found: per SAE and split: what describes it, beginning with `KEY`, and what each metric gave: {metric: {scalars,
            curves, latents}}, by column name each.
        owners: which metric gave a name: {scalars, curves, latents}, {name: metric} each.
        said: how much of it was computed, the rest being kept.
    """

    found: list[tuple[dict[str, Any], dict[str, dict[str, Any]]]]
    owners: dict[str, dict[str, str]]
    said: str


def run(
    stage: str,
    bank_file: Path,
    activations_dir: Path,
    settings: dict[str, Any],
    out: Path,
    *,
    chosen: Path | None = None,
    shortlist: Path | None = None,
    selection: Path | None = None,
    others: Mapping[str, Path] | None = None,
    device: str = "cpu",
) -> None:
    """Score a bank; write `out`/metrics.parquet, curves.parquet and latents.parquet, maybe without rows.

    Stage `score` runs over all SAEs of the bank and of `shortlist`, the others over those that `selection` chose.
    `score_chosen` also runs the metrics of stage `score` over the SAEs of `chosen`. The candidates of protocol `fair`
    among these get every stage's own metrics too. A diverged SAE has rows without scores.

    Args:
        bank_file: bank.json.
        activations_dir: folder of the splits of this (dataset, backbone).
        settings: {metrics: {name: options or None}}; those of other stages are passed over.
        chosen: bank_chosen.json.
        shortlist: bank_shortlist.json.
        selection: selection.parquet of the bank.
        others: {backbone: folder of its splits} of the experiment's other backbones.

    Raises:
        UserError: a file is missing or damaged, a metric unknown or what it gives not right, or another backbone's
            images are other ones.
    """
    bank = files.read_json(bank_file, "bank")
    options = {name: options_of(name, given) for name, given in settings["metrics"].items()}
    of_stage = {name: head_of("metric", name).constants["STAGE"] for name in options}
    own = [name for name in options if of_stage[name] == stage]
    entries = bank["saes"] if selection is None else _selected(bank, files.read_parquet(selection))
    banks = [Bank(Path(bank_file), bank, entries, own)]
    if shortlist is not None:
        content = files.read_json(shortlist, "bank")
        banks.append(Bank(Path(shortlist), content, content["saes"], own))
    if chosen is not None:
        content = files.read_json(chosen, "bank")
        everywhere = [name for name in options if of_stage[name] == "score"] if stage == "score_chosen" else []
        for candidates, metrics in ((False, everywhere), (True, everywhere + own)):
            entries = [e for e in content["saes"] if (e["protocol"] == FAIR) == candidates]
            banks.append(Bank(Path(chosen), content, entries if metrics else [], metrics))
    data = Data(
        {split: Path(activations_dir) / split for split in SPLITS},
        {name: Path(folder) / "test" for name, folder in (others or {}).items()},
    )
    scored = score(banks, options, data, Path(out).parent / ".rows" / stage, device)
    for name, table in zip(("metrics", "curves", "latents"), as_tables(scored), strict=True):
        files.write_parquet(Path(out) / f"{name}.parquet", table)
    done = f"{stage} of {sum(len(b.entries) for b in banks)} SAEs: {scored.said}"
    progress.info("%s / %s / k%d: %s", bank["dataset"], bank["backbone"], bank["k"], done)


def options_of(name: str, given: Mapping[str, Any] | None) -> Options:
    """The options of a metric, complete with its defaults."""
    return registry.head("metric", name).options(**(given or {}))


def score(
    banks: list[Bank],
    options: Mapping[str, Options],
    data: Data,
    rows_folder: Path,
    device: str,
    splits: tuple[str, ...] = SPLITS,
) -> Scored:
    """What a stage gives, in the order of the banks; computed where the store of rows lacks it.

    Args:
        banks: what to score with what.
        options: {metric: its options}, of all metrics of `banks`, in the order of their columns.
        data: the activations.
        rows_folder: of the row store.
        splits: a metric's other splits are left out.

    Raises:
        UserError: what a metric gives is not right, or has the name of another column.
    """
    scorer = _Scorer(options, data, rows_folder, device)
    swept = tables.columns(entry["trial"] for bank in banks for entry in bank.content["saes"])
    found: list[tuple[dict[str, Any], dict[str, dict[str, Any]]]] = []
    owners: dict[str, dict[str, str]] = {kind: {} for kind in tables.RESERVED}
    try:
        for bank in banks:
            for entry in bank.entries:
                about = _about(bank.content, entry, swept)
                for split, results in scorer.of_sae(bank, entry, splits).items():
                    for (metric, parts), kind in itertools.product(results.items(), owners):
                        reserved = tables.RESERVED[kind] + (tuple(about) if kind == "scalars" else ())
                        tables.claim(owners[kind], metric, parts[kind], reserved)
                    found.append((about | {"split": split}, results))
    except BaseException:
        # A job that was stopped keeps what it has.
        scorer.write(prune=False)
        raise
    scorer.write()
    return Scored(found, owners, f"{scorer.computed} of {scorer.asked} rows computed")


class _Scorer:
    """The metrics of a stage, and their rows, computed as they are asked for.

    Attributes:
        asked, computed: how many rows were asked for, and how many of them were computed.
    """

    def __init__(self, options: Mapping[str, Options], data: Data, rows_folder: Path, device: str) -> None:
        # Code and its hash are read together: an edit while the stage runs belongs to the next run.
        self._metrics: dict[str, ModuleType] = {name: registry.load("metric", name) for name in options}
        self._code = {name: code_hash(registry.module("metric", name)) for name in options}
        self._options, self._data, self._device = options, data, device
        self._stored = {name: RowStore(rows_folder / f"{name}.parquet") for name in options}
        self._hashes: dict[Path, dict[str, str]] = {}
        self._splits, self._others = _open(data)
        self._shared: dict[Hashable, Any] = {}
        self.asked = self.computed = 0

    def of_sae(self, bank: Bank, entry: dict[str, Any], splits: tuple[str, ...]) -> dict[str, dict[str, Any]]:
        """{split: {metric of the bank: what it gave}}, of the splits that one of them has; none if it diverged."""

        @functools.cache
        def subject() -> Subject:
            log.info("score %s", entry["path"])
            coder = open_sae(bank.file, bank.content, entry).to(self._device)
            siblings = _Siblings(bank, _siblings(bank, entry), self._device)
            return Subject(coder, self._splits, self._others, self._shared, bank.content["backbone"], siblings)

        found = {}
        for split in splits:
            names = [name for name in bank.metrics if split in self._metrics[name].SPLITS]
            if names:
                rows = ((n, self._key(n, split, bank, entry)) for n in names if entry["status"] == "ok")
                found[split] = {n: self._row(n, split, key, subject) for n, key in rows}
        return found

    def write(self, prune: bool = True) -> None:
        """Write the rows of every metric; see :meth:`RowStore.write`."""
        for rows in self._stored.values():
            rows.write(prune)

    def _row(self, name: str, split: str, key: str, subject: Callable[[], Subject]) -> dict[str, Any]:
        stored = self._stored[name]
        self.asked += 1
        if key not in stored:
            reads = self._metrics[name].READS
            limited = subject().limited({split, *reads})
            scores = self._metrics[name].score(limited, split, self._options[name])
            stored.add(key, _parts(name, scores, subject().coder.m))
            self.computed += 1
        return stored.use(key)

    def _key(self, name: str, split: str, bank: Bank, entry: dict[str, Any]) -> str:
        """The key of a row: a hash of all that decides it."""
        reads = self._metrics[name].READS
        read = {s: self._hashes_of(self._data.splits[s]) for s in {split, *reads} - {"others", "siblings"}}
        others = self._data.others if "others" in reads else {}
        # A name decides only who is a judge of whom.
        judged: dict[str, Any] = {"backbone": bank.content["backbone"]} if "others" in reads else {}
        made_by = {
            "sae": entry["sha256"],
            "split": split,
            "data": read,
            "others": {judge: self._hashes_of(folder) for judge, folder in others.items()},
            "code": self._code[name],
            "options": self._options[name].model_dump(mode="json"),
            "device": self._device.split(":")[0],
        }
        if "siblings" in reads:
            judged["siblings"] = sorted(sibling["sha256"] for sibling in _siblings(bank, entry))
        return files.sha256_text(files.dumps(made_by | judged))

    def _hashes_of(self, folder: Path) -> dict[str, str]:
        if folder not in self._hashes:
            self._hashes[folder] = files.read_json(folder / "manifest.json", "manifest of activations")["sha256"]
        return self._hashes[folder]


def _siblings(bank: Bank, entry: dict[str, Any]) -> list[dict[str, Any]]:
    """The SAEs of a bank's file that differ from one of it in the seed alone."""
    same = [e for e in bank.content["saes"] if (e["method"], e["trial"]) == (entry["method"], entry["trial"])]
    return [e for e in same if e["seed"] != entry["seed"] and e["status"] == "ok"]


class _Siblings(Sequence[Coder]):
    """Coders, each opened when it is asked for."""

    def __init__(self, bank: Bank, entries: list[dict[str, Any]], device: str) -> None:
        self._bank, self._entries, self._device = bank, entries, device

    def __getitem__(self, number: Any) -> Any:
        return open_sae(self._bank.file, self._bank.content, self._entries[number]).to(self._device)

    def __len__(self) -> int:
        return len(self._entries)


class _Opened(Mapping[str, T]):
    """Values by name, each made when it is first asked for."""

    def __init__(self, makers: Mapping[str, Callable[[], T]]) -> None:
        self._makers = makers
        self._made: dict[str, T] = {}

    def __getitem__(self, name: str) -> T:
        if name not in self._made:
            self._made[name] = self._makers[name]()
        return self._made[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._makers)

    def __len__(self) -> int:
        return len(self._makers)


def _open(data: Data) -> tuple[Mapping[str, store.Activations], Mapping[str, np.ndarray]]:
    splits = _Opened({split: functools.partial(store.read, folder) for split, folder in data.splits.items()})

    def of_same_images(folder: Path) -> np.ndarray:
        other = store.read(folder)
        if not other.index["image_id"].equals(splits["test"].index["image_id"]):
            raise UserError(f"{folder} holds other images than the split it is to judge; delete it and run again")
        return other.embeddings

    return splits, _Opened({name: functools.partial(of_same_images, folder) for name, folder in data.others.items()})


def _selected(bank: dict[str, Any], selection: pd.DataFrame) -> list[dict[str, Any]]:
    """The SAEs of a bank that its selection chose."""
    there = selection[selection["trial"].notna()]
    picked = set(zip(there["method"], there["trial"], there["seed"], strict=True))
    return [e for e in bank["saes"] if (e["method"], trial_name(e["trial"]), e["seed"]) in picked]


def _about(bank: dict[str, Any], entry: dict[str, Any], swept: list[str]) -> dict[str, Any]:
    """What describes an SAE in a table of scores: its key without the split, what trained it, the swept options."""
    settings = entry["settings"]
    key = {name: bank[name] for name in ("dataset", "backbone", "k")}
    key |= {"method": entry["method"], "trial": trial_name(entry["trial"]), "seed": entry["seed"], "split": None}
    made_by = {"protocol": entry["protocol"]} | {n: settings.get(n) for n in ("objective", "penalty", "mask")}
    every = settings.get("options", {}) | settings
    made_by |= {name: every.get(name) for name in ("lambda", *sorted(set(swept) - {"lambda"}))}
    # As planned, where the plan counts steps: a diverged SAE took fewer.
    steps = settings.get("steps") or entry["step"] + 1
    return key | made_by | {"status": entry["status"], "m": settings["m"], "steps": steps}


def _parts(metric: str, scores: Any, m: int) -> dict[str, dict[str, Any]]:
    """Scores as JSON can hold them, by the table they belong to."""
    if not isinstance(scores, dict):
        raise _wrong(metric, f"score returns {_kind(scores)}, not a dict")
    parts: dict[str, dict[str, Any]] = {"scalars": {}, "curves": {}, "latents": {}}
    for name, value in scores.items():
        if isinstance(value, Curve):
            curve = {axis: _values(metric, f"{name}: {axis}", getattr(value, axis)) for axis in ("x", "y")}
            if len(curve["x"]) != len(curve["y"]):
                raise _wrong(metric, f"{name}: x has {len(curve['x'])} values, y {len(curve['y'])}")
            parts["curves"][name] = curve
        elif isinstance(value, PerLatent):
            parts["latents"][name] = _values(metric, name, value.values)
            if len(parts["latents"][name]) != m:
                raise _wrong(metric, f"{name}: {len(parts['latents'][name])} values for {m} latents")
        else:
            parts["scalars"][name] = _values(metric, name, [value])[0]
    return parts


def _values(metric: str, name: str, values: Any) -> list[Any]:
    given = list(values) if isinstance(values, Iterable) else [values]
    plain = [value.item() if isinstance(value, np.generic) else value for value in given]
    for value in plain:
        if not (value is None or isinstance(value, str | int | float)):
            raise _wrong(metric, f"{name} is or holds {_kind(value)}")
        if isinstance(value, int) and not -(2**63) <= value < 2**63:
            raise _wrong(metric, f"{name} is or holds an integer of more than 64 bits")
        if isinstance(value, float) and math.isinf(value):
            raise _wrong(metric, f"{name} is or holds infinity, as where all embeddings of a split are the same")
    return plain


def _kind(value: Any) -> str:
    return f"a value of type {type(value).__name__}"


def _wrong(metric: str, what: str) -> UserError:
    return UserError(
        f"metric {metric}: {what}; allowed is a dict of numbers, texts, None, Curve(x, y) with x and y of one length, "
        "and PerLatent(values) with a value for each of the m latents"
    )


def as_tables(scored: Scored) -> tuple[pa.Table, pa.Table, pa.Table]:
    """metrics, curves and latents of a stage: a row per SAE and split, per point of a curve, per latent."""
    metrics, curves, latents = [], [], [tables.table([], (*KEY, "latent"))]
    for about, results in scored.found:
        key, row = {name: about[name] for name in KEY}, dict(about)
        by_latent: dict[str, list[Any]] = {}
        for result in results.values():
            row |= result["scalars"]
            by_latent |= result["latents"]
            for name, curve in result["curves"].items():
                points = zip(curve["x"], curve["y"], strict=True)
                curves += [key | {"curve": name, "x": x, "y": y} for x, y in points]
        metrics.append(row)
        if by_latent:
            count = len(next(iter(by_latent.values())))
            columns = {name: [value] * count for name, value in key.items()} | {"latent": range(count)} | by_latent
            latents.append(pa.table({name: pa.array(values, from_pandas=False) for name, values in columns.items()}))
    return (
        tables.owned(tables.table(metrics, [*KEY, *tables.ABOUT]), scored.owners["scalars"]),
        tables.owned(tables.table(curves, (*KEY, "curve", "x", "y")), scored.owners["curves"]),
        tables.owned(tables.joined(latents), scored.owners["latents"]),
    )

"""Run one stage of scoring over a bank: every metric of the stage on every SAE that it is for, computed once.

A metric's rows lie in a store of their own, `.rows/{stage}/{metric}.parquet` beside the stage's folder. A row's key
hashes all that decides it: the SAE, the embeddings and indices that were read, the metric's version and options. A row
whose key stands is kept bit for bit, so that a new SAE or an edited metric computes its own rows alone.
"""

import functools
import itertools
import json
import logging
import math
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from sae.bank.read import Bank, Entry
from sae.bank.read import read as read_bank
from sae.config.entries import head_of, splits_of_others
from sae.core import files, headway, registry, versions
from sae.core.errors import UserError
from sae.core.options import Options
from sae.core.paths import TABLES_OF_STAGE
from sae.data import store
from sae.data.splits import SPLITS
from sae.models.coder import Coder
from sae.scoring import rows as tables
from sae.scoring.rows import KEY
from sae.scoring.rowstore import RowStore
from sae.scoring.subject import Curve, PerLatent, Subject

VERSION = 1
log = logging.getLogger(__name__)
progress = logging.getLogger("sae.progress")


class Settings(Options):
    """What is asked of a stage: {name: options or None} of metrics; those of other stages are passed over."""

    metrics: dict[str, dict[str, Any] | None]


def run(
    stage: str,
    bank_file: Path,
    activations_dir: Path,
    settings: Settings,
    out: Path,
    *,
    others: dict[str, Path] | None = None,
    device: str = "cpu",
) -> None:
    """Score a bank; write `out`/metrics.parquet, curves.parquet and latents.parquet, maybe without rows.

    A metric of `score` runs on every SAE. One whose file says `JUDGED`, or of another stage, runs only on the SAEs that
    a protocol chose to be judged. A diverged SAE has rows without scores.

    Args:
        stage: score, robustness or probe.
        bank_file: bank.json.
        activations_dir: folder of the splits of this (dataset, backbone).
        settings: metrics with their options; those of other stages are passed over.
        out: the folder to write into.
        others: {backbone: folder of its splits} of the experiment's other backbones.
        device: of PyTorch: cpu, cuda, cuda:1, mps, or auto for the best there is.

    Raises:
        UserError: a file is missing or damaged, a metric unknown or what it gives not right, or another backbone's
            images are other ones.
    """
    bank, metrics = read_bank(bank_file), settings.metrics
    heads = {name: head_of("metric", name).constants for name in metrics}
    own = [name for name in metrics if heads[name]["STAGE"] == stage]
    judged = [name for name in own if stage != "score" or heads[name].get("JUDGED")]
    everywhere = [name for name in own if name not in judged]
    options = {name: options_of(name, metrics[name]) for name in everywhere + judged}
    scorer = Scorer(
        options, activations_dir, others or {}, out.parent / ".rows" / stage, device
    )
    work = [
        (entry, everywhere + (judged if entry.judged else [])) for entry in bank.saes
    ]
    work = [(entry, names) for entry, names in work if names]
    with scorer.kept():
        scored = scorer.score(bank, work)
    for name, table in zip(TABLES_OF_STAGE, scored, strict=True):
        files.write_parquet(out / f"{name}.parquet", table)
    said = f"{scorer.computed} of {scorer.asked} rows computed"
    progress.info(
        "%s / %s / k%d: %s of %d SAEs: %s",
        bank.dataset,
        bank.backbone,
        bank.k,
        stage,
        len(work),
        said,
    )


def options_of(name: str, record: Mapping[str, Any] | None) -> Options:
    """Return the options of a metric.

    Args:
        name: The metric.
        record: Its options as a plan has them (`sae.core.options.Options.identity`); with
            None all are at their defaults.
    """
    form = registry.head("metric", name).options
    return form() if record is None else form.of_record(record)


class Scorer:
    """Metrics, and their rows, computed where the store of rows lacks them.

    Attributes:
        asked, computed: how many rows were asked for, and how many of them were computed.

    Args:
        options: {metric: its options}, in the order of their columns.
        activations: folder of the splits of the bank's images.
        others: {backbone: folder of its splits}, of the experiment's other backbones.
        folder: of the row store.
        splits: a metric's other splits are left out.
    """

    def __init__(
        self,
        options: Mapping[str, Options],
        activations: Path,
        others: Mapping[str, Path],
        folder: Path,
        device: str,
        splits: Sequence[str] = SPLITS,
    ) -> None:
        # Code and its version are read together: an edit while the stage runs belongs to the next run.
        self._metrics = {name: registry.load("metric", name) for name in options}
        self._versions = {
            name: versions.joined([("metric", name), ("models", "inputs")])
            for name in options
        }
        self._options, self._device, self._which = options, device, splits
        read = {
            *splits,
            *(part for module in self._metrics.values() for part in module.READS),
        }
        self._folders, self._others = (
            {split: activations / split for split in SPLITS if split in read},
            others,
        )
        self._stored = {name: RowStore(folder / f"{name}.parquet") for name in options}
        self._hashes_of = functools.cache(_hashes_of)
        self._shared: dict[Hashable, Any] = {}
        self.asked = self.computed = 0

    @contextmanager
    def kept(self) -> Iterator[None]:
        """Write the rows at the end, without those that were not asked for; a job that was stopped keeps all it has."""
        whole = False
        try:
            yield
            whole = True
        finally:
            self.write(prune=whole)

    def write(self, prune: bool = False) -> None:
        """Write the rows; `prune`: without those that were not asked for."""
        for rows in self._stored.values():
            rows.write(prune)

    def score(
        self, bank: Bank, work: Sequence[tuple[Entry, list[str]]]
    ) -> tuple[pa.Table, pa.Table, pa.Table]:
        """What the metrics give of SAEs of a bank, each with the metrics that it is to have, in that order.

        Returns:
            metrics, curves and latents: a row per SAE and split, per point of a curve, per latent. Each table says
            which metric gave what.

        Raises:
            UserError: what a metric gives is not right, or has the name of another column.
        """
        swept = tables.columns(entry.trial for entry in bank.saes)
        metrics, curves, latents = [], [], [tables.table([], (*KEY, "latent"))]
        owners: dict[str, dict[str, str]] = {kind: {} for kind in tables.RESERVED}
        for number, (entry, names) in enumerate(work):
            headway.tell(number, len(work), "SAEs scored")
            about = _about(bank, entry, swept)
            for split, results in self._of_sae(bank, entry, names).items():
                row = about | {"split": split}
                key, columns = {name: row[name] for name in KEY}, dict[str, list[Any]]()
                for metric, parts in results.items():
                    parts["latents"] |= (
                        parts.get("of_judged", {}) if entry.judged else {}
                    )
                    for kind, of_kind in owners.items():
                        reserved = tables.RESERVED[kind] + (
                            tuple(about) if kind == "scalars" else ()
                        )
                        tables.claim(of_kind, metric, parts[kind], reserved)
                    row |= parts["scalars"]
                    columns |= parts["latents"]
                    for name, curve in parts["curves"].items():
                        points = zip(curve["x"], curve["y"], strict=True)
                        curves += [
                            key | {"curve": name, "x": x, "y": y} for x, y in points
                        ]
                metrics.append(row)
                if columns:
                    m = entry.settings["m"]
                    of_key = {name: [value] * m for name, value in key.items()} | {
                        "latent": [*range(m)]
                    }
                    latents.append(pa.table(of_key | columns))
        points_of = tables.table(curves, (*KEY, "curve", "x", "y"))
        made = (
            tables.table(metrics, [*KEY, *tables.ABOUT]),
            points_of,
            tables.joined(latents),
        )
        said = [{"metrics": json.dumps(of_kind)} for of_kind in owners.values()]
        return tuple(
            table.replace_schema_metadata(about)
            for table, about in zip(made, said, strict=True)
        )

    def _of_sae(
        self, bank: Bank, entry: Entry, metrics: list[str]
    ) -> dict[str, dict[str, Any]]:
        """{split: {metric: what it gave}}, of the splits that one of the metrics has; nothing in it if it diverged."""
        subject, found = None, dict[str, dict[str, Any]]()
        for split, name in itertools.product(self._which, metrics):
            module, stored = self._metrics[name], self._stored[name]
            if split not in module.SPLITS:
                continue
            results = found.setdefault(split, {})
            if not entry.ok:
                continue
            key = self._key(name, split, bank, entry)
            self.asked += 1
            if key not in stored:
                if subject is None:
                    log.info("score %s", entry.path)
                    coder = bank.open(entry).to(self._device)
                    subject = Subject(coder, *self._images, self._shared, bank.backbone)
                view = subject.limited({split, *module.READS})
                if "siblings" in module.READS:
                    view.siblings = _Siblings(bank, bank.siblings(entry), self._device)
                stored.add(
                    key,
                    _parts(
                        name,
                        module.score(view, split, self._options[name]),
                        subject.coder.m,
                    ),
                )
                self.computed += 1
            results[name] = stored.use(key)
        return found

    def _key(self, name: str, split: str, bank: Bank, entry: Entry) -> str:
        """The key of a row: a hash of all that decides it."""
        reads = self._metrics[name].READS
        made_by: dict[str, Any] = {
            "sae": entry.sha256,
            "split": split,
            "data": {
                s: self._hashes_of(folder)
                for s, folder in self._folders.items()
                if s in (split, *reads)
            },
            "others": {},
            "versions": self._versions[name],
            "options": self._options[name].identity(mode="json"),
            "device": self._device.split(":")[0],
        }
        if "others" in reads:
            every = splits_of_others([name], [split])
            made_by["others"] = {
                n: {s: self._hashes_of(at / s) for s in every}
                for n, at in self._others.items()
            }
            made_by["backbone"] = (
                bank.backbone
            )  # A name decides only who is a judge of whom.
        if "siblings" in reads:
            made_by["siblings"] = sorted(
                str(sibling.sha256) for sibling in bank.siblings(entry)
            )
        return files.sha256_text(files.dumps(made_by))

    @functools.cached_property
    def _images(
        self,
    ) -> tuple[dict[str, store.Activations], dict[str, dict[str, np.ndarray]]]:
        """{split: its activations}, {backbone: {split: its embeddings of the same images}}."""
        splits = {split: store.read(folder) for split, folder in self._folders.items()}
        others: dict[str, dict[str, np.ndarray]] = {name: {} for name in self._others}
        for (name, of), split in itertools.product(
            self._others.items(), splits_of_others(self._options, self._which)
        ):
            others[name][split], manifest = store.opened(of / split)
            own, index = splits[split], "index.parquet"
            # Most often the indices have the same bytes, and need not be compared row by row.
            alike = manifest["sha256"][index] == own.manifest["sha256"][index]
            if not alike and not files.read_parquet(of / split / index)[
                "image_id"
            ].equals(own.index["image_id"]):
                said = "holds other images than the split it is to judge; delete it and run again"
                raise UserError(f"{of / split} {said}")
        return splits, others


def _hashes_of(folder: Path) -> dict[str, str]:
    return files.read_json(folder / "manifest.json", "manifest of activations")[
        "sha256"
    ]


class _Siblings(Sequence[Coder]):
    """Coders, each opened when it is asked for."""

    def __init__(self, bank: Bank, entries: list[Entry], device: str) -> None:
        self._bank, self._entries, self._device = bank, entries, device

    def __getitem__(self, number: Any) -> Any:
        return self._bank.open(self._entries[number]).to(self._device)

    def __len__(self) -> int:
        return len(self._entries)


def _about(bank: Bank, entry: Entry, swept: list[str]) -> dict[str, Any]:
    """What describes an SAE in a table of scores: its key without the split, what trained it, the swept options."""
    settings = entry.settings
    key = {"dataset": bank.dataset, "backbone": bank.backbone, "k": bank.k}
    key |= {
        "method": entry.method,
        "trial": entry.name,
        "seed": entry.seed,
        "split": None,
    }
    made_by = {"protocol": entry.protocol} | {
        n: settings.get(n) for n in ("objective", "penalty", "mask")
    }
    every = settings.get("options", {}) | settings
    made_by |= {
        name: every.get(name) for name in ("lambda", *sorted(set(swept) - {"lambda"}))
    }
    # As planned, where the plan counts steps: a diverged SAE took fewer.
    steps = settings.get("steps") or entry.step + 1
    return key | made_by | {"status": entry.status, "m": settings["m"], "steps": steps}


def _parts(metric: str, scores: Any, m: int) -> dict[str, dict[str, Any]]:
    """Scores as JSON can hold them, by the table they belong to."""
    if not isinstance(scores, dict):
        raise _wrong(
            f"{metric}: score returns a value of type {type(scores).__name__}, not a dict"
        )
    parts: dict[str, dict[str, Any]] = {
        "scalars": {},
        "curves": {},
        "latents": {},
        "of_judged": {},
    }
    for name, value in scores.items():
        where = f"{metric}: {name}"
        if isinstance(value, Curve):
            x, y = _values(f"{where}: x", value.x), _values(f"{where}: y", value.y)
            if len(x) != len(y):
                raise _wrong(f"{where}: x has {len(x)} values, y {len(y)}")
            parts["curves"][name] = {"x": x, "y": y}
        elif isinstance(value, PerLatent):
            kind = "of_judged" if value.of_judged else "latents"
            parts[kind][value.name or name] = values = _values(where, value.values)
            if len(values) != m:
                raise _wrong(f"{where}: {len(values)} values for {m} latents")
        else:
            (parts["scalars"][name],) = _values(where, [value])
    return parts


def _values(where: str, values: Any) -> list[Any]:
    given = list(values) if isinstance(values, Iterable) else [values]
    plain = [
        value.item() if isinstance(value, np.generic) else value for value in given
    ]
    for value in plain:
        if not (value is None or isinstance(value, str | int | float)):
            raise _wrong(f"{where} is or holds a value of type {type(value).__name__}")
        if isinstance(value, int) and not -(2**63) <= value < 2**63:
            raise _wrong(f"{where} is or holds an integer of more than 64 bits")
        if isinstance(value, float) and math.isinf(value):
            raise _wrong(
                f"{where} is or holds infinity, as where all embeddings of a split are the same"
            )
    return plain


def _wrong(what: str) -> UserError:
    return UserError(
        f"metric {what}; allowed is a dict of numbers, texts, None, Curve(x, y) with x and y of one length, "
        "and PerLatent(values) with a value for each of the m latents"
    )

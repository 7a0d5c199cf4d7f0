"""Run one stage of scoring over a bank: each of its metrics on every SAE it is for.

A metric's rows lie in a store of their own, `.rows/{stage}/{metric}.parquet` beside the
stage's folder. A row's key hashes all that decides it: the SAE, the embeddings and
indices that were read, the metric's version and options. A row whose key stands is kept
bit for bit, so that a new SAE or an edited metric computes its own rows alone.
"""

import functools
import json
import logging
import math
from collections.abc import Collection, Hashable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import Field

from sae.bank.read import Bank
from sae.bank.read import read as read_bank
from sae.bank.sae import Sae
from sae.config import entries
from sae.config.entries import backbones_named, head_of, splits_of_others
from sae.core import files, registry, versions
from sae.core.errors import UserError
from sae.core.options import Options, as_record, from_record
from sae.core.paths import TABLES_OF_STAGE
from sae.core.progress import report_progress
from sae.data import concepts, store
from sae.data.splits import SPLITS
from sae.models.coder import Coder
from sae.scoring import rows
from sae.scoring.judges import check_judge
from sae.scoring.rows import KEY
from sae.scoring.rowstore import MetricScores, RowStore, Scalar
from sae.scoring.subject import Curve, PerLatent, Subject

VERSION = 3
log = logging.getLogger(__name__)
progress = logging.getLogger("sae.progress")


class StageSettings(Options):
    """Settings of a stage say which metrics it is asked for.

    Attributes:
        metrics: {name: its options, or None for the defaults}; metrics of other stages
            are passed over.
        tested: {metric: the methods whose test scores it computes}; of a metric that is
            not named, those of all methods.
    """

    metrics: dict[str, dict[str, Any] | None]
    tested: dict[str, list[str]] = Field({})


class StageTables(NamedTuple):
    """The tables that a stage writes; the metadata of each says which metric gave what.

    Attributes:
        metrics: a row for each SAE and split.
        curves: a row for each point of a curve.
        latents: a row for each latent.
    """

    metrics: pa.Table
    curves: pa.Table
    latents: pa.Table


def run(
    stage: str,
    bank_file: Path,
    activations_dir: Path,
    settings: StageSettings,
    out: Path,
    *,
    others: dict[str, Path] | None = None,
    concepts_dir: Path | None = None,
    device: str = "cpu",
) -> None:
    """Score a bank; write `out`/metrics.parquet, curves.parquet and latents.parquet.

    A metric whose file says `STAGE = "score"` runs on every SAE, others only on those
    that a protocol chose to get every score. A diverged SAE has rows without scores. A
    table may be without rows.

    Args:
        stage: score, robustness or probe.
        bank_file: bank.json.
        activations_dir: folder of the splits of this (dataset, backbone).
        settings: metrics with their options; those of other stages are passed over.
        out: the folder to write into.
        others: {backbone: folder of its splits} of the experiment's other backbones,
            and of those that metrics name themselves.
        concepts_dir: folder of the dataset's annotations (`sae.data.concepts`).
        device: of PyTorch: cpu, cuda, cuda:1, mps, or auto for the best there is.

    Raises:
        UserError: a file is missing or damaged, a metric unknown or what it gives not
            right, or another backbone's images are other ones.
    """
    bank = read_bank(bank_file)

    heads = {name: head_of("metric", name).constants for name in settings.metrics}
    of_stage = [
        name for name in settings.metrics if entries.stage_of(heads[name]) == stage
    ]
    for_all = [name for name in of_stage if heads[name]["STAGE"] == "score"]
    for_chosen = [*for_all, *(name for name in of_stage if name not in for_all)]

    work = []
    for banked_sae in bank.saes:
        names = for_chosen if banked_sae.chosen else for_all
        if names:
            work.append((banked_sae, names))

    options = {name: options_of(name, settings.metrics[name]) for name in for_chosen}
    row_folder = out.parent / ".rows" / stage
    scorer = Scorer(
        options,
        activations_dir,
        others or {},
        row_folder,
        device,
        concepts_dir=concepts_dir,
        tested=settings.tested,
    )
    with scorer.kept():
        stage_tables = scorer.score(bank, work)
    for name, table in zip(TABLES_OF_STAGE, stage_tables, strict=True):
        files.write_parquet(out / f"{name}.parquet", table)
    own_metrics = [
        name for name in sorted(scorer.scored_by) if registry.is_own("metric", name)
    ]
    _tell_of_no_scores(bank, own_metrics, stage_tables)

    progress.info(
        "%s / %s / k%d: %s of %d SAEs: %d of %d rows computed",
        bank.dataset,
        bank.backbone,
        bank.k,
        stage,
        len(work),
        scorer.computed,
        scorer.row_count,
    )


def _tell_of_no_scores(
    bank: Bank, metrics: Collection[str], tables: StageTables
) -> None:
    """Warn of metrics that gave nothing, or a score that is NaN for all SAEs.

    Args:
        bank: What was scored.
        metrics: Of one's own; what the project's need is said before a run.
        tables: What all metrics gave.
    """
    # {metric: its scores without a value}; a metric that gave nothing is not in it.
    empty: dict[str, list[str]] = {}
    for table in tables:
        for name, metric in rows.owners_of(table).items():
            if metric not in metrics:
                continue
            empty_of_metric = empty.setdefault(metric, [])
            if table is tables.curves:
                values = table.filter(pc.equal(table["curve"], name))["y"]
            elif name in table.column_names:
                values = table.column(name)
            else:
                continue
            # A latent without a text has no name, say.
            is_of_numbers = len(values) and not pa.types.is_string(values.type)
            if is_of_numbers and pc.all(pc.is_null(values, nan_is_null=True)).as_py():
                empty_of_metric.append(name)

    place = f"{bank.dataset} / {bank.backbone} / k{bank.k}"
    for metric in metrics:
        if metric not in empty:
            progress.warning("%s: metric %s gives no score of any SAE", place, metric)
        elif empty[metric]:
            names = ", ".join(dict.fromkeys(empty[metric]))
            progress.warning(
                "%s: metric %s gives NaN for every SAE: %s", place, metric, names
            )


def options_of(name: str, record: Mapping[str, Any] | None) -> Options:
    """Return the options of a metric.

    Args:
        name: The metric.
        record: Its options as a plan has them (`sae.core.options.as_record`);
            with None all are at their defaults.
    """
    form = registry.head("metric", name).options
    return form() if record is None else from_record(form, record)


class Scorer:
    """Metrics and the stores of their rows: a row that a store lacks is computed.

    Attributes:
        row_count: the number of rows that were asked for.
        computed: the number of those that were computed.
        scored_by: the metrics of these rows.

    Args:
        options: {metric: its options}, in the order of their columns.
        activations: folder of the splits of the bank's images.
        others: {backbone: folder of its splits}, as :func:`run` takes them.
        folder: of the row stores.
        device: of PyTorch.
        splits: a metric's other splits are left out.
        concepts_dir: folder of the annotations of the bank's images.
        tested: as in :class:`StageSettings`.
    """

    def __init__(
        self,
        options: Mapping[str, Options],
        activations: Path,
        others: Mapping[str, Path],
        folder: Path,
        device: str,
        splits: Sequence[str] = SPLITS,
        *,
        concepts_dir: Path | None = None,
        tested: Mapping[str, Sequence[str]] | None = None,
    ) -> None:
        # Code and its version are read together: an edit while the stage runs belongs
        # to the next run.
        self._modules: dict[str, ModuleType] = {
            name: registry.load("metric", name) for name in options
        }
        self._versions = {
            name: versions.joined([("metric", name), ("models", "inputs")])
            for name in options
        }
        self._row_stores = {
            name: RowStore(folder / f"{name}.parquet") for name in options
        }
        self._options = options
        self._device = device
        self._splits = splits

        splits_read = set(splits)
        for module in self._modules.values():
            splits_read.update(module.READS)
        self._split_folders = {
            split: activations / split for split in SPLITS if split in splits_read
        }
        self._other_folders = others
        # {metric: the backbones that it names itself}
        self._named_backbones = {
            name: backbones_named(head_of("metric", name).constants) for name in options
        }
        self._concepts_dir = concepts_dir
        self._tested = tested or {}
        self._sums_of = functools.cache(_sums_of)
        self._kept_for_all: dict[Hashable, Any] = {}
        self.row_count = 0
        self.computed = 0
        self.scored_by: set[str] = set()

    @contextmanager
    def kept(self) -> Iterator[None]:
        """Write the rows at the end, without those that were not asked for.

        A job that is stopped keeps all rows that it has.
        """
        has_ended = False
        try:
            yield
            has_ended = True
        finally:
            self.write(prune=has_ended)

    def write(self, prune: bool = False) -> None:
        """Write the rows; with `prune`, without those that were not asked for."""
        for row_store in self._row_stores.values():
            row_store.write(prune)

    def score(self, bank: Bank, work: Sequence[tuple[Sae, list[str]]]) -> StageTables:
        """Score SAEs of a bank.

        Args:
            bank: the bank.
            work: each SAE with the names of the metrics that it is to have, in the
                order of their columns.

        Raises:
            UserError: what a metric gives is not right, or has the name of another
                column.
        """
        swept = rows.columns(banked_sae.trial for banked_sae in bank.saes)
        table_rows = _TableRows()
        for number, (banked_sae, metrics) in enumerate(work):
            report_progress(number, len(work), "SAEs scored")
            description = _describe(bank, banked_sae, swept)
            for split, scores in self._score_sae(bank, banked_sae, metrics).items():
                table_rows.add(banked_sae, description, split, scores)
        return table_rows.to_tables()

    def _score_sae(
        self, bank: Bank, banked_sae: Sae, metrics: list[str]
    ) -> dict[str, dict[str, MetricScores]]:
        """Return {split: {metric: its scores}}; of a diverged SAE without metrics."""
        # It is opened only where a row is to be computed.
        subject: Subject | None = None
        scores_by_split: dict[str, dict[str, MetricScores]] = {}
        for split in self._splits:
            for name in metrics:
                if split not in self._modules[name].SPLITS:
                    continue
                tested_methods = self._tested.get(name, [banked_sae.method])
                if split == "test" and banked_sae.method not in tested_methods:
                    continue
                scores = scores_by_split.setdefault(split, {})
                if not banked_sae.ok:
                    continue

                key = self._key(name, split, bank, banked_sae)
                row_store = self._row_stores[name]
                self.row_count += 1
                self.scored_by.add(name)
                if key not in row_store:
                    if subject is None:
                        subject = self._open(bank, banked_sae)
                    computed = self._compute(name, split, bank, banked_sae, subject)
                    row_store.add(key, computed)
                    self.computed += 1
                scores[name] = row_store.use(key)
        return scores_by_split

    def _open(self, bank: Bank, banked_sae: Sae) -> Subject:
        log.info("score %s", banked_sae.path)
        return Subject(
            bank.open(banked_sae).to(self._device),
            self._activations,
            self._other_embeddings,
            self._kept_for_all,
            bank.backbone,
            self._concepts,
        )

    def _compute(
        self, name: str, split: str, bank: Bank, banked_sae: Sae, subject: Subject
    ) -> MetricScores:
        module = self._modules[name]
        backbones = self._backbones_read_by(name)
        view = subject.limited({split, *module.READS, *backbones} - {"others"})
        if "siblings" in module.READS:
            view.siblings = _Siblings(bank, bank.siblings(banked_sae), self._device)
        scores = view.score(module, split, self._options[name])
        return checked_scores(name, scores, subject.coder.m)

    def _key(self, name: str, split: str, bank: Bank, banked_sae: Sae) -> str:
        """Return the key of a row: a hash of all that decides it."""
        reads = self._modules[name].READS
        identity: dict[str, Any] = {
            "sae": banked_sae.sha256,
            "split": split,
            "data": {
                split_read: self._sums_of(folder)
                for split_read, folder in self._split_folders.items()
                if split_read in (split, *reads)
            },
            "others": {},
            "versions": self._versions[name],
            "options": as_record(self._options[name], mode="json"),
            "device": self._device.split(":")[0],
        }
        if "others" in reads or self._named_backbones[name]:
            splits_read = splits_of_others([name], [split])
            identity["others"] = {
                backbone: {
                    split_read: self._sums_of(
                        self._other_folders[backbone] / split_read
                    )
                    for split_read in splits_read
                }
                for backbone in self._backbones_read_by(name)
            }
            # A name decides only who is a judge of whom.
            identity["backbone"] = bank.backbone
        if "concepts" in reads and self._concepts_dir is not None:
            identity["concepts"] = concepts.sums(self._concepts_dir)
        if "siblings" in reads:
            siblings = bank.siblings(banked_sae)
            identity["siblings"] = sorted(str(sibling.sha256) for sibling in siblings)
        return files.sha256_text(files.dumps(identity))

    def _backbones_read_by(self, name: str) -> list[str]:
        """Return the backbones beside the bank's own whose embeddings a metric reads."""
        # `others` are the experiment's: none that some metric names itself.
        named_by_any = set().union(*self._named_backbones.values())
        reads_others = "others" in self._modules[name].READS
        return [
            backbone
            for backbone in self._other_folders
            if backbone in self._named_backbones[name]
            or (reads_others and backbone not in named_by_any)
        ]

    @functools.cached_property
    def _activations(self) -> dict[str, store.Activations]:
        return {
            split: store.read(folder) for split, folder in self._split_folders.items()
        }

    @functools.cached_property
    def _concepts(self) -> dict[str, concepts.SplitConcepts]:
        if self._concepts_dir is None:
            return {}
        annotations = concepts.load_annotations(self._concepts_dir)
        return {
            split: concepts.of_images(annotations, images.index["image_id"])
            for split, images in self._activations.items()
        }

    @functools.cached_property
    def _other_embeddings(self) -> dict[str, dict[str, np.ndarray]]:
        embeddings: dict[str, dict[str, np.ndarray]] = {
            backbone: {} for backbone in self._other_folders
        }
        for backbone, splits_folder in self._other_folders.items():
            for split in splits_of_others(self._options, self._splits):
                folder = splits_folder / split
                embeddings[backbone][split], manifest = store.open_embeddings(folder)
                _check_same_images(folder, manifest, self._activations[split])
                # One split shows whether it may judge.
                own = self._activations[split]
                if len(embeddings[backbone]) == 1 and self._is_judge(backbone, own):
                    judge = embeddings[backbone][split]
                    check_judge(str(folder), judge, own.embeddings)
        return embeddings

    def _is_judge(self, backbone: str, own: store.Activations) -> bool:
        """Say whether a backbone is of another family, and not a metric's own."""
        families: dict[str, str] = {}
        for options in self._options.values():
            families |= getattr(options, "families", None) or {}
        family = families.get(backbone)
        own_family = families.get(own.manifest["backbone"]["name"])
        named_by_any = set().union(*self._named_backbones.values())
        return family not in (None, own_family) and backbone not in named_by_any


class _TableRows:
    """The rows of a stage's tables, gathered SAE by SAE and split by split."""

    def __init__(self) -> None:
        self._metrics: list[dict[str, Any]] = []
        # The first table of each has the columns of one without SAEs.
        self._curves = [rows.table([], (*KEY, "curve", "x", "y"))]
        self._latents = [rows.table([], (*KEY, "latent"))]
        # {table: {column or curve: the metric that gives it}}
        self._owners: dict[str, dict[str, str]] = {kind: {} for kind in rows.RESERVED}

    def add(
        self,
        banked_sae: Sae,
        description: dict[str, Any],
        split: str,
        scores_by_metric: dict[str, MetricScores],
    ) -> None:
        """Add what all metrics gave of one SAE on one split."""
        row = description | {"split": split}
        key = {name: row[name] for name in KEY}
        latent_columns: dict[str, pa.Array] = {}
        for metric, scores in scores_by_metric.items():
            self._claim("scalars", metric, scores.scalars, tuple(description))
            self._claim("curves", metric, scores.curves)
            self._claim("latents", metric, scores.latents)

            row.update(scores.scalars)
            if banked_sae.chosen:
                latent_columns.update(scores.latents)
            for curve, points in scores.curves.items():
                if len(points.x):
                    key_of_curve = key | {"curve": curve}
                    self._curves.append(_with_key(key_of_curve, points._asdict()))

        self._metrics.append(row)
        if latent_columns:
            number = {"latent": pa.array(range(banked_sae.settings.m))}
            self._latents.append(_with_key(key, number | latent_columns))

    def _claim(
        self,
        kind: str,
        metric: str,
        names: Iterable[str],
        described: tuple[str, ...] = (),
    ) -> None:
        """Note what a metric gives to a table, which no name in `described` may be."""
        reserved = rows.RESERVED[kind] + described
        rows.claim(self._owners[kind], metric, names, reserved)

    def to_tables(self) -> StageTables:
        metrics = rows.table(self._metrics, [*KEY, *rows.ABOUT])
        curves = rows.joined(self._curves)
        latents = rows.joined(self._latents)
        return StageTables(
            self._with_owners(metrics, "scalars"),
            self._with_owners(curves, "curves"),
            self._with_owners(latents, "latents"),
        )

    def _with_owners(self, table: pa.Table, kind: str) -> pa.Table:
        owners = json.dumps(self._owners[kind])
        return table.replace_schema_metadata({"metrics": owners})


def _with_key(key: Mapping[str, Any], columns: Mapping[str, pa.Array]) -> pa.Table:
    """Return a table of columns, before them those of a key that all rows have."""
    row_count = len(next(iter(columns.values())))
    key_columns = {name: pa.repeat(value, row_count) for name, value in key.items()}
    return pa.table({**key_columns, **columns})


class _Siblings(Sequence[Coder]):
    """The coders of an SAE's siblings, each opened when it is asked for."""

    def __init__(self, bank: Bank, saes: list[Sae], device: str) -> None:
        self._bank = bank
        self._saes = saes
        self._device = device

    def __getitem__(self, number: Any) -> Any:
        return self._bank.open(self._saes[number]).to(self._device)

    def __len__(self) -> int:
        return len(self._saes)


def _sums_of(folder: Path) -> dict[str, str]:
    """Return {file: its SHA-256}, as the manifest of a split says it."""
    manifest = files.read_json(folder / "manifest.json", "manifest of activations")
    return manifest["sha256"]


def _check_same_images(
    folder: Path, manifest: dict[str, Any], images: store.Activations
) -> None:
    """Check that another backbone's embeddings are of the images of a split."""
    # Most often the indices have the same bytes, and need not be compared row by row.
    index = "index.parquet"
    if manifest["sha256"][index] == images.manifest["sha256"][index]:
        return
    image_ids = files.read_parquet(folder / index)["image_id"]
    if not image_ids.equals(images.index["image_id"]):
        raise UserError(
            f"{folder} holds other images than the split it is to judge; delete it and "
            "run again"
        )


def _describe(bank: Bank, banked_sae: Sae, swept: list[str]) -> dict[str, Any]:
    """Return the columns that describe an SAE in a table of scores."""
    settings = banked_sae.settings.model_dump(by_alias=True)
    description: dict[str, Any] = {
        "dataset": bank.dataset,
        "backbone": bank.backbone,
        "k": bank.k,
        "method": banked_sae.method,
        "trial": banked_sae.name,
        "seed": banked_sae.seed,
        "split": None,
        "protocol": banked_sae.protocol,
        "swept": " ".join(sorted(banked_sae.trial)),
    }
    for name in ("objective", "penalty", "mask"):
        description[name] = settings[name]

    all_options = settings["options"] | settings
    for name in ("lambda", *sorted(set(swept) - {"lambda"})):
        description[name] = all_options.get(name)

    description["status"] = banked_sae.status
    description["m"] = settings["m"]
    # As planned, where the plan counts steps: a diverged SAE took fewer.
    description["steps"] = settings["steps"] or banked_sae.step + 1
    return description


def checked_scores(metric: str, scores: Any, m: int) -> MetricScores:
    """Return what a metric gave, in a form that the row store can hold.

    Raises:
        UserError: it is not what a metric may give of an SAE of m latents.
    """
    if not isinstance(scores, dict):
        kind = type(scores).__name__
        raise _not_allowed(
            f"{metric}: score returns a value of type {kind}, not a dict"
        )
    checked = MetricScores()
    for name, value in scores.items():
        if not isinstance(name, str) or not name.strip() or not name.isprintable():
            raise _not_allowed(f"{metric}: {name!r} is no name of a column")
        score = f"{metric}: {name}"
        if isinstance(value, Curve):
            x = _to_array(f"{score}: x", value.x)
            y = _to_array(f"{score}: y", value.y)
            if len(x) != len(y):
                raise _not_allowed(f"{score}: x has {len(x)} values, y {len(y)}")
            has_missing = x.is_null(nan_is_null=True).true_count > 0
            if has_missing or len(set(x.to_pylist())) < len(x):
                raise _not_allowed(f"{score}: x holds NaN or one value twice")
            checked.curves[name] = Curve(x, y)
        elif isinstance(value, PerLatent):
            column = _to_array(score, value.values)
            if len(column) != m:
                raise _not_allowed(f"{score}: {len(column)} values for {m} latents")
            checked.latents[name] = column
            if value.of_sae is not None:
                (checked.scalars[name],) = _plain_values(score, [value.of_sae])
        else:
            (checked.scalars[name],) = _plain_values(score, [value])
    return checked


def _to_array(score: str, values: Any) -> pa.Array:
    """Return a metric's values, or its one value, in an array of their type."""
    plain = _plain_values(score, values)
    try:
        return pa.array(plain)
    except pa.ArrowException:
        raise _not_allowed(f"{score} holds values of different kinds") from None


def _plain_values(score: str, values: Any) -> list[Scalar]:
    """Return a value, or those of a sequence, as Python's own numbers and texts."""
    sequence = list(values) if isinstance(values, Iterable) else [values]
    plain = [
        value.item() if isinstance(value, np.generic) else value for value in sequence
    ]
    for place, value in enumerate(plain):
        if not (value is None or isinstance(value, str | int | float)):
            raise _not_allowed(
                f"{score} is or holds a value of type {type(value).__name__}"
            )
        if isinstance(value, int) and not -(2**63) <= value < 2**63:
            raise _not_allowed(f"{score} is or holds an integer of more than 64 bits")
        if isinstance(value, float) and math.isinf(value):
            raise _not_allowed(
                f"{score} is or holds infinity, as where all embeddings of a split are "
                "the same"
            )
        if isinstance(value, float) and math.isnan(value):
            # All NaN have the same bits, so that tables of them do.
            plain[place] = math.nan
    return plain


def _not_allowed(problem: str) -> UserError:
    return UserError(
        f"metric {problem}; allowed is a dict of numbers, texts, None, Curve(x, y) "
        "with x and y of one length, and PerLatent(values) with a value for each of "
        "the m latents"
    )

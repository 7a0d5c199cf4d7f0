"""Score an SAE from Python, without files or a workflow: what `sae.score` does."""

import reprlib
import warnings
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from sae.core import registry
from sae.core.errors import UserError
from sae.data.store import Activations
from sae.models.apply import Encoder, check_embeddings
from sae.models.coder import Coder
from sae.models.convert import doubt
from sae.models.inputs import Inputs, differ, total_variance
from sae.scoring.stage import options_of
from sae.scoring.subject import Curve, PerLatent, Subject

_OF_A_BANK = {"val": "a validation split", "siblings": "SAEs of other seeds"}
_BY_GROUP = (
    "purity_binary_null",
    "purity_weighted_null",
)  # Chance moves labels between whole groups.


def score(
    sae: Encoder | Coder,
    embeddings: np.ndarray,
    labels: ArrayLike | None = None,
    *,
    groups: ArrayLike | None = None,
    judges: Mapping[str, np.ndarray] | None = None,
    train: np.ndarray | None = None,
    train_judges: Mapping[str, np.ndarray] | None = None,
    train_labels: ArrayLike | None = None,
    metrics: Iterable[str] | None = None,
) -> dict[str, Any]:
    """The columns that metrics give of one SAE on held-out embeddings, as in metrics.csv.

    What is given decides which columns come back. `labels` bring those of classes. `groups` bring MS across groups, and
    with labels the purity that chance gives (`purity_binary_null`). `judges` bring MS by other backbones, `train` what
    needs training images. A column that needs what is not given is left out, never computed on something else.

    Three of these metrics are `optional` in config.yaml, and the demo does not name them:
    `density`, `redundancy` and `uniqueness`. So its metrics.csv lacks their columns
    (`dense_*`, `redundancy_*`, `uniqueness*`), which are here since they need nothing
    but the embeddings. Write `metrics: { density: {}, redundancy: {}, uniqueness: {} }`
    in an experiment to have them there too; leave them out of `metrics` here to have
    the demo's alone.

    In turn metrics.csv has what one SAE and held-out embeddings do not say: which SAE a
    row is of, its training, its validation split, and metrics that read these or SAEs
    of other seeds. `r2` is that of the SAE's own input space, as in metrics.csv, not
    that of raw embeddings.

    An example::

        sae.score(sae.load("sae.safetensors"), embeddings, labels, groups=index["group"], judges={"dinov2": others})

    Args:
        embeddings: (N, d) of any float type, as the backbone gave them; N is 2 or more.
        labels: (N,) classes, numbers or texts.
        groups: (N,) numbers or texts, equal for near-duplicates (images of one thing). `range(N)` says that there are
            none.
        judges: {backbone: (N, d') its embeddings of the same images}, d' of its own. All count as independent: name
            none of the family of the SAE's own backbone.
        train_judges: {backbone: (N', d') its embeddings of the images of `train`}, of the same judges, for `detection`.
        train, train_labels: (N', d) and (N',), what the SAE was trained on, for metrics that read it (`firing`,
            `sparse_probe`, ...).
        metrics: names of `sae.scoring.metrics`; by default those whose file says `ALONE` and whose `READS` is given:
            all of them need held-out embeddings, `firing` also `train`, `independent` also `judges`, and `detection`
            `train`, `judges` and `train_judges`.

    Raises:
        UserError: something is of a wrong type or shape, not finite or missing, all embeddings are the same after the
            SAE's norm, a metric is unknown, or one that was asked for by name reads what is not given.
    """
    if not isinstance(sae, Encoder | Coder):
        raise UserError(
            f"sae.score takes an SAE, not {type(sae).__name__}: open a file with sae.load(path)"
        )
    coder = sae.coder if isinstance(sae, Encoder) else sae
    splits = {"test": data("embeddings", embeddings, groups, coder.d, coder.input_norm)}
    if train is not None:
        splits["train"] = data("train", train, None, coder.d, coder.input_norm)
    elif train_labels is not None:
        raise UserError("train_labels are given without train: give both")
    seen = _judges(splits, {"test": judges, "train": train_judges})
    given = {
        "train": train is not None,
        "others": bool(seen),
        "train_judges": bool(train_judges),
    }
    _set_labels(
        splits, {"test": ("labels", labels), "train": ("train_labels", train_labels)}
    )
    subject = Subject(coder, splits, seen)
    found: dict[str, Any] = {}
    for name in default_metrics(given) if metrics is None else _names(metrics):
        module = registry.load("metric", name)
        if never := [
            _OF_A_BANK.get(part, part) for part in module.READS if part not in given
        ]:
            said = "which sae.score does not take: it is of the workflow alone"
            raise UserError(f"metric {name} needs {' and '.join(never)}, {said}")
        lacking = [part for part in _needed(module.READS) if not given.get(part)]
        if lacking or "test" not in module.SPLITS:
            reads = (
                ", ".join({"others": "judges"}.get(part, part) for part in lacking)
                or "no held-out split"
            )
            raise UserError(f"metric {name} reads {reads}, which is not given here")
        scores = module.score(
            subject.limited({"test", *module.READS}), "test", options_of(name, None)
        )
        columns = {
            key: _plain(value)
            for key, value in scores.items()
            if not isinstance(value, PerLatent)
        }
        if metrics is not None and not columns:
            said = "it may need labels or train_labels, or what sae.score does not take"
            raise UserError(
                f"metric {name} gives no column of what is given here: {said}"
            )
        found |= columns
    if said := doubt(coder, found.get("r2", 1), "these embeddings"):
        warnings.warn(f"the SAE {said}", stacklevel=2)
    return {
        key: value
        for key, value in found.items()
        if groups is not None or key not in _BY_GROUP
    }


def default_metrics(given: Mapping[str, bool]) -> list[str]:
    """Return the metrics that :func:`score` gives by itself: entries that say `ALONE`.

    Args:
        given: {"train", "others" or "train_judges": whether the caller gave it}.
    """
    names = []
    for name in registry.names("metric"):
        constants = registry.head("metric", name).constants
        is_given = all(given.get(part) for part in _needed(constants["READS"]))
        if constants.get("ALONE") and is_given:
            names.append(name)
    return names


def _needed(reads: Iterable[str]) -> list[str]:
    """What a metric with these `READS` needs here: judges of training images come apart."""
    train_judges = ["train_judges"] if {"train", "others"} <= {*reads} else []
    return [*reads, *train_judges]


def _set_labels(
    splits: dict[str, Activations], given: Mapping[str, tuple[str, Any]]
) -> None:
    """Number the classes of all splits together, so that a class has one number in all of them."""
    coded = {
        s: _coded(name, values, len(splits[s].index))
        for s, (name, values) in given.items()
        if values is not None
    }
    if len({classes.dtype.kind in "iufb" for classes, _ in coded.values()}) > 1:
        raise UserError(
            "labels and train_labels are numbers on one side and texts on the other; give one kind"
        )
    for split, (classes, numbers) in coded.items():
        every = np.unique(np.concatenate([of_split for of_split, _ in coded.values()]))
        index = splits[split].index
        index["label"] = pd.array(np.searchsorted(every, classes)[numbers], "Int64")
        index["label_name"] = classes[numbers].astype(str)


def _names(metrics: Any) -> list[str]:
    several = isinstance(metrics, Iterable) and not isinstance(metrics, str | Mapping)
    names = list(metrics) if several else []
    if not several or not all(isinstance(name, str) for name in names):
        said = "give a list of names, as ['purity']; options of metrics are not taken"
        raise UserError(f"metrics is {reprlib.repr(metrics)}; {said}")
    return names


def _plain(value: Any) -> Any:
    if isinstance(value, Curve):
        return dict(
            zip(np.asarray(value.x).tolist(), np.asarray(value.y).tolist(), strict=True)
        )
    return value.item() if isinstance(value, np.generic) else value


def _judges(
    splits: Mapping[str, Activations],
    judges: Mapping[str, Mapping[str, np.ndarray] | None],
) -> dict[str, dict[str, np.ndarray]]:
    found: dict[str, dict[str, np.ndarray]] = {}
    for (split, of), word in zip(
        judges.items(), ("judges", "train_judges"), strict=True
    ):
        if of is not None and (
            not isinstance(of, Mapping) or not all(isinstance(n, str) and n for n in of)
        ):
            raise UserError(
                f"{word} must be a mapping {{name of a backbone: its embeddings (N, d')}}"
            )
        for name, given in (of or {}).items():
            said, rows = (
                f"{word}[{name!r}]",
                len(splits[split].index) if split in splits else 0,
            )
            seen = found.setdefault(name, {})[split] = check_embeddings(
                given, None, said
            )
            if len(seen) != rows:
                raise UserError(
                    f"{said} has {len(seen)} rows for {rows} embeddings; give the same images"
                )
            _check_variance(said, seen)
    if lacking := [
        name for name, of in found.items() if judges["train"] and len(of) < len(judges)
    ]:
        raise UserError(
            f"judges and train_judges are not of the same backbones: {lacking[0]} is in one of them alone"
        )
    return found


def _check_variance(name: str, embeddings: np.ndarray, norm: str = "none") -> None:
    x = Inputs(embeddings, norm, 1.0, "cpu")
    if not differ(x, total_variance(x)):
        after = "" if norm == "none" else f" after the norm {norm}"
        why = (
            f"all its rows are the same{after}"
            if len(embeddings) > 1
            else "it has one row"
        )
        raise UserError(
            f"{name} has no variance to explain ({why}); give the embeddings of several images"
        )


def data(
    name: str, embeddings: Any, groups: Any, d: int, norm: str = "none"
) -> Activations:
    """Embeddings (N, d) with an index without labels, as :func:`score` takes them, for an SAE of the norm `norm`.

    Raises:
        UserError: they are of another form, or have no variance.
    """
    embeddings = check_embeddings(embeddings, d, name).astype(np.float32, copy=False)
    _check_variance(name, embeddings, norm)
    rows = len(embeddings)
    number, unknown = np.arange(rows), pd.array([pd.NA] * rows, dtype="Int64")
    index = pd.DataFrame(
        {
            "image_id": number,
            "label": unknown,
            "label_name": None,
            "label_coarse": unknown,
        }
    )
    index["group"] = number if groups is None else _coded("groups", groups, rows)[1]
    about = {
        "dataset": {"name": "", "grouped": not index["group"].is_unique},
        "backbone": {"name": ""},
    }
    return Activations(embeddings, index, about)


def _coded(name: str, values: Any, rows: int) -> tuple[np.ndarray, np.ndarray]:
    """The distinct values, sorted, and of each row the number of its own (N,)."""
    # Of a list that mixes kinds, numpy alone would make texts.
    try:
        column = (
            np.asarray(values) if np.ndim(values) != 1 else pd.Series(values).to_numpy()
        )
    except (ValueError, TypeError, RuntimeError) as error:  # As in `check_embeddings`.
        raise UserError(f"{name} cannot be read as an array: {error}") from None
    if column.shape != (rows,):
        raise UserError(
            f"{name} are of shape {column.shape} for {rows} embeddings; give one for each"
        )
    if (missing := pd.isna(column)).any():
        raise UserError(
            f"{name} has nothing in row {int(missing.argmax())} (from 0); give one for each"
        )
    try:
        return np.unique(column, return_inverse=True)
    except TypeError:
        raise UserError(
            f"{name} mixes kinds that have no order, such as numbers and texts; give one kind"
        ) from None

"""Score an SAE from Python, without files or a workflow: what `sae.score` does."""

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
from sae.scoring.stage import options_of
from sae.scoring.subject import Curve, PerLatent, Subject

# Those that need held-out embeddings alone, and perhaps labels.
METRICS = ("reconstruction", "monosemanticity", "purity", "density", "redundancy", "uniqueness")
_BY_GROUP = ("purity_binary_null", "purity_weighted_null")  # Chance moves labels between whole groups.


def score(
    sae: Encoder | Coder,
    embeddings: np.ndarray,
    labels: ArrayLike | None = None,
    *,
    groups: ArrayLike | None = None,
    judges: Mapping[str, np.ndarray] | None = None,
    train: np.ndarray | None = None,
    train_labels: ArrayLike | None = None,
    metrics: Iterable[str] | None = None,
) -> dict[str, Any]:
    """The columns that metrics give of one SAE on held-out embeddings, as in metrics.csv.

    What is given decides which columns come back: `labels` those of classes, `groups` the purity that chance gives
    (`purity_binary_null`) and MS across groups, `judges` MS by other backbones, `train` those of training images. A
    column that needs what is not given is left out, never computed on something else. An example::

        sae.score(sae.load("sae.safetensors"), embeddings, labels, groups=index["group"], judges={"dinov2": others})

    Args:
        embeddings: (N, d) of any float type, as the backbone gave them; N is 2 or more.
        labels: (N,) classes, numbers or texts.
        groups: (N,) numbers or texts, equal for near-duplicates (images of one thing). `range(N)` says that there are
            none.
        judges: {backbone: (N, d') its embeddings of the same images}, d' of its own. All count as independent: name
            none of the family of the SAE's own backbone.
        train, train_labels: (N', d) and (N',), what the SAE was trained on, for metrics that read it (`firing`,
            `sparse_probe`, ...).
        metrics: entries of `sae.scoring.metrics`; by default `METRICS`, `firing` with `train`, and `independent` with
            `judges`.

    Raises:
        UserError: something is of a wrong type or shape, not finite or missing, all embeddings are the same, a metric
            is unknown, or one that was asked for by name reads what is not given.
    """
    if not isinstance(sae, Encoder | Coder):
        raise UserError(f"sae.score takes an SAE, not {type(sae).__name__}: open a file with sae.load(path)")
    if isinstance(metrics, str):
        raise UserError(f"metrics is the text {metrics!r}; give a list of names, as [{metrics!r}]")
    coder = sae.coder if isinstance(sae, Encoder) else sae
    splits = {"test": _data("", embeddings, labels, groups, coder.d)}
    given = {"train": train is not None, "others": judges is not None and len(judges) > 0}
    if train is not None:
        splits["train"] = _data("train_", train, train_labels, None, coder.d)
    elif train_labels is not None:
        raise UserError("train_labels are given without train: give both")
    names = (*METRICS, *(["firing"] * given["train"]), *(["independent"] * given["others"]))
    subject = Subject(coder, splits, _judges({} if judges is None else judges, len(splits["test"].index)))
    found: dict[str, Any] = {}
    for name in names if metrics is None else metrics:
        module = registry.load("metric", name)
        lacking = [part for part in module.READS if not given.get(part)]
        if lacking or "test" not in module.SPLITS:
            raise UserError(f"metric {name} reads {', '.join(lacking) or 'no held-out split'}, which is not given here")
        scores = module.score(subject.limited({"test", *module.READS}), "test", options_of(name, None))
        found |= {key: _plain(value) for key, value in scores.items() if not isinstance(value, PerLatent)}
    return {key: value for key, value in found.items() if groups is not None or key not in _BY_GROUP}


def _plain(value: Any) -> Any:
    if isinstance(value, Curve):
        return dict(zip(np.asarray(value.x).tolist(), np.asarray(value.y).tolist(), strict=True))
    return value.item() if isinstance(value, np.generic) else value


def _judges(judges: Mapping[str, np.ndarray], rows: int) -> dict[str, np.ndarray]:
    if not isinstance(judges, Mapping) or not all(isinstance(name, str) and name for name in judges):
        raise UserError("judges must be a mapping {name of a backbone: its embeddings (N, d')}")
    found = {name: check_embeddings(given, None, f"judges[{name!r}]") for name, given in judges.items()}
    for name, given in found.items():
        if len(given) != rows:
            raise UserError(f"judges[{name!r}] has {len(given)} rows for {rows} embeddings; give the same images")
    return found


def _data(prefix: str, embeddings: Any, labels: Any, groups: Any, d: int) -> Activations:
    name = prefix.rstrip("_") or "embeddings"
    embeddings = check_embeddings(embeddings, d, name).astype(np.float32, copy=False)
    rows = len(embeddings)
    if rows < 2 or (embeddings == embeddings[0]).all():
        why = "all its rows are the same" if rows > 1 else "it has one row"
        raise UserError(f"{name} has no variance to explain ({why}); give the embeddings of several images")
    number = np.arange(rows)
    classes, codes = (None, None) if labels is None else _coded(f"{prefix}labels", labels, rows)
    index = pd.DataFrame({"image_id": number, "label": pd.array([pd.NA] * rows if codes is None else codes, "Int64")})
    index["label_name"] = None if classes is None else classes[codes].astype(str)
    index["label_coarse"] = pd.array([pd.NA] * rows, dtype="Int64")
    index["group"] = number if groups is None else _coded("groups", groups, rows)[1]
    about = {"dataset": {"name": "", "grouped": not index["group"].is_unique}, "backbone": {"name": ""}}
    return Activations(embeddings, index, about)


def _coded(name: str, values: Any, rows: int) -> tuple[np.ndarray, np.ndarray]:
    """The distinct values, sorted, and of each row the number of its own (N,)."""
    # Of a list that mixes kinds, numpy alone would make texts.
    column = np.asarray(values) if np.ndim(values) != 1 else pd.Series(values).to_numpy()
    if column.shape != (rows,):
        raise UserError(f"{name} are of shape {column.shape} for {rows} embeddings; give one for each")
    if (missing := pd.isna(column)).any():
        raise UserError(f"{name} has nothing in row {int(missing.argmax())} (from 0); give one for each")
    try:
        return np.unique(column, return_inverse=True)
    except TypeError:
        raise UserError(f"{name} mixes kinds that have no order, such as numbers and texts; give one kind") from None

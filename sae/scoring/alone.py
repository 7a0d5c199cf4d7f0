"""Score an SAE from Python, without files or a workflow: what `sae.score` does."""

from collections.abc import Iterable
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from sae.core import registry
from sae.core.errors import UserError
from sae.data.store import Activations
from sae.models.apply import Encoder
from sae.models.coder import Coder
from sae.scoring.stage import options_of
from sae.scoring.subject import Curve, PerLatent, Subject

# Those that need held-out embeddings alone, and perhaps labels.
METRICS = ("reconstruction", "monosemanticity", "purity", "density", "redundancy", "uniqueness")


def score(
    sae: Encoder | Coder,
    embeddings: np.ndarray,
    labels: ArrayLike | None = None,
    *,
    train: np.ndarray | None = None,
    train_labels: ArrayLike | None = None,
    groups: ArrayLike | None = None,
    metrics: Iterable[str] | None = None,
) -> dict[str, Any]:
    """The columns that metrics give of one SAE on held-out embeddings, as in metrics.csv.

    Args:
        embeddings: (N, d) of any float type, as the backbone gave them.
        labels: (N,) classes, of any kind; without, metrics of classes give nothing.
        train, train_labels: what the SAE was trained on, for metrics that read it (`firing`, `sparse_probe`, ...).
        groups: (N,) of near-duplicates; MS is then also given across groups.
        metrics: entries of `sae.scoring.metrics`; by default `METRICS`, and `firing` with `train`.

    Raises:
        UserError: shapes do not fit, a metric is unknown, or reads what is not given.
    """
    encoder = sae if isinstance(sae, Encoder) else None
    coder = sae.coder if isinstance(sae, Encoder) else sae
    if encoder is not None:
        encoder.encode(embeddings[:1])  # Says what is wrong with them.
    splits = {"test": _data(embeddings, labels, groups, coder.d)}
    if train is not None:
        splits["train"] = _data(train, train_labels, None, coder.d)
    names = list(metrics) if metrics is not None else [*METRICS, *(["firing"] if train is not None else [])]
    subject, found = Subject(coder, splits), dict[str, Any]()
    for name in names:
        module = registry.load("metric", name)
        lacking = [part for part in module.READS if part not in splits]
        if lacking or "test" not in module.SPLITS:
            raise UserError(f"metric {name} reads {', '.join(lacking) or 'no held-out split'}, which is not given here")
        scores = module.score(subject.limited({"test", *module.READS}), "test", options_of(name, None))
        found |= {key: _plain(value) for key, value in scores.items() if not isinstance(value, PerLatent)}
    return found


def _plain(value: Any) -> Any:
    if isinstance(value, Curve):
        return dict(zip(np.asarray(value.x).tolist(), np.asarray(value.y).tolist(), strict=True))
    return value.item() if isinstance(value, np.generic) else value


def _data(embeddings: np.ndarray, labels: ArrayLike | None, groups: ArrayLike | None, d: int) -> Activations:
    embeddings = np.asarray(embeddings)
    if embeddings.ndim != 2 or embeddings.shape[1] != d or embeddings.dtype.kind != "f":
        raise UserError(
            f"embeddings hold {embeddings.dtype} of shape {embeddings.shape}; this SAE takes floats (N, {d})"
        )
    rows = len(embeddings)
    index = pd.DataFrame({"image_id": np.arange(rows)})
    for name, values in (("label", labels), ("group", groups)):
        if values is not None and len(np.asarray(values)) != rows:
            raise UserError(f"{len(np.asarray(values))} {name}s for {rows} embeddings")
    classes, codes = (None, None) if labels is None else np.unique(np.asarray(labels), return_inverse=True)
    index["label"] = pd.array([pd.NA] * rows if codes is None else codes, dtype="Int64")
    index["label_name"] = None if classes is None else classes[codes].astype(str)
    index["label_coarse"] = pd.array([pd.NA] * rows, dtype="Int64")
    index["group"] = np.arange(rows) if groups is None else np.asarray(groups)
    about = {"dataset": {"name": "", "grouped": groups is not None}, "backbone": {"name": ""}}
    return Activations(embeddings.astype(np.float32, copy=False), index, about)

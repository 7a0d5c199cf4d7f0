"""Sparse autoencoders on frozen vision embeddings: how they are trained, what they are worth.

`core` holds what all rooms use. `config` describes config.yaml. `data` turns images into embeddings. `models` is what a
trained SAE is; `training` makes one, `bank` many. `scoring` says what they are worth, `protocols` which train and
count, `comparison` what methods differ in; `report` prints and draws it. `steps` is what there is to run.

The package is lazy on purpose: importing it imports nothing else, so that the command line starts fast.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from typing import Any

    from numpy import ndarray
    from numpy.typing import ArrayLike

    from sae.models.apply import Encoder
    from sae.models.coder import Coder

__version__ = "1.0.0"


def load(path: str, device: str = "cpu") -> Encoder:
    """Load a trained SAE to apply it: `sae.load(path).encode(embeddings)`; see :class:`sae.models.apply.Encoder`."""
    from sae.models.apply import Encoder

    return Encoder(path, device)


def score(
    sae: Encoder | Coder,
    embeddings: ndarray,
    labels: ArrayLike | None = None,
    *,
    groups: ArrayLike | None = None,
    judges: Mapping[str, ndarray] | None = None,
    train: ndarray | None = None,
    train_judges: Mapping[str, ndarray] | None = None,
    train_labels: ArrayLike | None = None,
    metrics: Iterable[str] | None = None,
) -> dict[str, Any]:
    """What an SAE is worth on held-out embeddings (N, d): columns of metrics.csv by name.

    What is given decides which of them: (N,) `labels`; (N,) `groups` of near-duplicates, `range(N)` where there are
    none; `judges`, {backbone: (N, d') embeddings}; `train` (N', d), and what the
    judges see of it. See :func:`sae.scoring.alone.score`.
    """
    from sae.scoring.alone import score

    return score(
        sae,
        embeddings,
        labels,
        groups=groups,
        judges=judges,
        train=train,
        train_judges=train_judges,
        train_labels=train_labels,
        metrics=metrics,
    )

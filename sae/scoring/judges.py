"""Refuse a judge that judges nothing: a constant one, or the SAE's own embeddings.

A judge is a backbone that looks at the latents of another one. Whatever takes one calls
this: `sae.score`, cards and the stages of an experiment.
"""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from jaxtyping import Float

from sae.core import arguments
from sae.core.errors import UserError
from sae.data.store import rows_of
from sae.models.apply import check_embeddings, check_variance
from sae.models.inputs import unit_rows

# A judge is a copy above this R^2. Of the demo's backbones no pair has more than .50, two
# sizes of one network included. Copies have .99 to 1: in float16, scaled, shifted,
# standardised, at unit norm; with more images than dimensions also rotated or projected.
COPY_R2 = 0.95
# Images of which it is computed; of more a seeded sample stands for all.
MOST_ROWS = 4000
# With fewer images a linear map fits anything.
LEAST_ROWS = 20
# What a regression adds to each variance, as a share of their mean.
RIDGE = 1e-8


def named_judges(argument: str, judges: Any) -> Mapping[str, Any]:
    """Return judges as a mapping from names of backbones, empty of None.

    Raises:
        UserError: they are something else.
    """
    judges = {} if judges is None else judges
    if not isinstance(judges, Mapping) or not all(
        isinstance(backbone, str) and backbone for backbone in judges
    ):
        raise UserError(
            f"{argument} must be a mapping {{name of a backbone: its embeddings "
            "(N, d')}"
        )
    return judges


def check_judges(
    judges: Mapping[str, Any], own: Float[np.ndarray, "images dim"]
) -> dict[str, np.ndarray]:
    """Return a user's embeddings by judges as arrays, if they may judge.

    Args:
        judges: {what messages call it: (N, d') its embeddings of the same images}.
        own: the embeddings that the SAE takes.

    Raises:
        UserError: they are of another form or number of rows, two are equal, or what
            :func:`check_judge` raises.
    """
    checked: dict[str, np.ndarray] = {}
    for name, values in judges.items():
        array = check_embeddings(values, None, name)
        if len(array) != len(own):
            raise UserError(
                f"{name} has {len(array)} rows for {len(own)} embeddings: give its "
                "embeddings of the same images, in the same order"
            )
        for other, embeddings in checked.items():
            if np.array_equal(array, embeddings):
                raise UserError(
                    f"{name} is equal to {other}: each judge is another backbone; "
                    "leave one out"
                )
        check_judge(name, array, own)
        arguments.tell_of_zero_rows(name, array)
        checked[name] = array
    return checked


def check_judge(
    name: str,
    judge: Float[np.ndarray, "images judge_dim"],
    own: Float[np.ndarray, "images dim"],
) -> None:
    """Refuse a judge that sees no difference, or what the SAE sees.

    Args:
        name: what the message calls it.
        judge: its embeddings.
        own: the embeddings that the SAE takes, of the same images.

    Raises:
        UserError: they are constant, or a linear map of `own` and perhaps of unit norm.
    """
    rows = np.random.default_rng(0).permutation(len(own))[:MOST_ROWS]
    own_rows, judge_rows = rows_of(own, rows), rows_of(judge, rows)
    check_variance(name, judge_rows, "unit_l2")
    # Of repeated images the judge is known without any map.
    _, firsts = np.unique(own_rows, axis=0, return_index=True)
    firsts.sort()
    r2 = r2_from(own_rows[firsts], judge_rows[firsts])
    if r2 > COPY_R2:
        raise UserError(
            f"{name} is a copy of the SAE's own embeddings, from which a linear map "
            f"gives it with an R2 of {r2:.3f}: a judge is another backbone; leave it "
            "out"
        )


def r2_from(
    own: Float[np.ndarray, "images dim"], judge: Float[np.ndarray, "images judge_dim"]
) -> float:
    """Return the R^2 of a linear map from embeddings to a judge's, on held-out images.

    It is the best of the maps from `own` as they are, at unit norm, and centred at unit
    norm. What is left is compared with what the mean leaves, or the most similar image
    of those that are fitted, if that leaves less: where images have near-duplicates any
    backbone is known from these.

    Args:
        own: in random order, each row once.
        judge: of the same images.

    Returns:
        1 of equal embeddings, else 0 of fewer than `LEAST_ROWS`.
    """
    if np.array_equal(own, judge):
        return 1.0
    if len(own) < LEAST_ROWS:
        return 0.0
    held_out = slice(None, len(own) // 5)
    fitted = slice(len(own) // 5, None)
    x, y = own.astype(np.float64), judge.astype(np.float64)
    x -= x[fitted].mean(axis=0)
    y -= y[fitted].mean(axis=0)
    similarity = 2 * x[held_out] @ x[fitted].T - np.square(x[fitted]).sum(axis=1)
    nearest = y[fitted][similarity.argmax(axis=1)]
    known = min(np.square(y[held_out]).sum(), np.square(y[held_out] - nearest).sum())
    if known == 0:
        return 0.0

    maps: list[Callable[..., np.ndarray]] = [_map_of_all]
    if x.shape == y.shape:
        # It is known from few images.
        maps.append(_map_by_dimension)
    left = []
    for form in (x, unit_rows(own), unit_rows(x)):
        inputs = form - form[fitted].mean(axis=0)
        for fit in maps:
            guess = fit(inputs[fitted], y[fitted], inputs[held_out])
            left.append(np.square(y[held_out] - guess).sum())
    return float(1 - min(left) / known)


def _map_of_all(
    x: Float[np.ndarray, "fitted dim"],
    y: Float[np.ndarray, "fitted judge_dim"],
    asked: Float[np.ndarray, "held_out dim"],
) -> Float[np.ndarray, "held_out judge_dim"]:
    gram = x.T @ x
    ridge = RIDGE * np.trace(gram) / len(gram)
    return asked @ np.linalg.solve(gram + ridge * np.eye(len(gram)), x.T @ y)


def _map_by_dimension(
    x: Float[np.ndarray, "fitted dim"],
    y: Float[np.ndarray, "fitted dim"],
    asked: Float[np.ndarray, "held_out dim"],
) -> Float[np.ndarray, "held_out dim"]:
    squares = np.square(x).sum(axis=0)
    return asked * (x * y).sum(axis=0) / np.where(squares > 0, squares, 1)

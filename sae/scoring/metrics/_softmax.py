"""Multinomial logistic regression to a stated optimality, on a CPU or an accelerator.

Shapes: N images, m features, q classes. What is minimised is scikit-learn's `LogisticRegression`, with its C:

    f(W, b) = C sum_i -log softmax(x_i W + b)[y_i] + ||W||^2 / 2

with W (m, q); the intercepts b (q,) are not penalised. A fit ends where ||grad f|| <= tol ||W||, in Frobenius norms. So
the weights are within that share of the optimum's, whatever C, N and the scale of the features: f - ||W||^2 / 2 is
convex, hence

    ||W - W*||^2 <= <grad f, (W - W*, b - b*)>,  f - f* <= ||grad_W f||^2 / 2 + <grad_b f, b - b*>

or ||W - W*|| <= ||grad f|| where grad_b f = 0. A fit leaves little of that, and what it leaves is the gradient of
slightly other class counts: g more of it is g / C more images of a class. scikit-learn bounds the largest entry of
grad f / (C N) instead. With its default of 1e-4, ||grad f|| is 1.5 ||W|| at C = 100 on codes of the demo, and f 6 to
12 % above its minimum.

Two classes are two columns here; scikit-learn makes them one, and its C is then twice this one.

Method: Newton's. Each step is made by preconditioned conjugate gradients, as exactly as the gradient deserves (Dembo,
Eisenstat, Steihaug 1982), and halved until f falls (Armijo). A product with the Hessian is

    H V = V + C X^T A,  A = P * Z - P * rowsum(P * Z),  Z = X V + v

with P (N, q) the probabilities. Its block of one feature is I + L, with L = C sum_i x_i^2 (diag(p_i) - p_i p_i^T). The
rows of L add up to 0, which a diagonal would not see. The preconditioner takes diag(e) - e e^T / sum(e) for L, with e
such that its diagonal is about that of L. The inverse of the block is then diag(1 / (1 + e)) + u u^T / sum(u), with
u = e / (1 + e) (Sherman, Morrison). For the intercepts, which have no penalty, diag(1 / e) does.

Sparse X costs a gather for X V and another, in the order of the features, for X^T A; both sum in a fixed order, on a
GPU as well.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import scipy.sparse
import torch

from sae.models.coder import gather_sum

# A Newton step ends when its residual is at most FORCING of the gradient; near the optimum, at most ||grad f|| / ||W||
# of it. It need not go below ENOUGH of what `tol` allows.
FORCING, ENOUGH = 0.5, 0.9
ARMIJO = 1e-4  # of the slope: how much a step has to gain
SMALLEST_STEP = 2.0**-20
ROUNDING = 4 * torch.finfo(torch.float32).eps  # of f: what its sum cannot resolve
TINY = 1e-6  # the least degree; a class that is certain everywhere has none
# Numbers (rows x classes) worked on at once: on a CPU what fits its cache.
PART = {"cpu": 2**17}
PART_ELSEWHERE = 2**26


class Sparse:
    """X in compressed rows, float32."""

    def __init__(self, x: scipy.sparse.csr_matrix, device: str | torch.device) -> None:
        self.shape: tuple[int, int] = x.shape
        self.device = torch.device(device)
        self._rows, self._columns = (
            _compressed(x, device),
            _compressed(x.T.tocsr(), device),
        )
        self._offsets = x.indptr.tolist()

    def times(self, weights: torch.Tensor, rows: slice) -> torch.Tensor:
        """Those rows of X times `weights` (m, q)."""
        values, indices, starts = self._rows
        first, last = self._offsets[rows.start], self._offsets[rows.stop]
        return gather_sum(
            values[first:last], indices[first:last], weights, starts[rows] - first
        )

    def transposed(self, scores: torch.Tensor, squared: bool = False) -> torch.Tensor:
        """X^T times `scores` (N, q); X * X instead of X if `squared`."""
        values, indices, starts = self._columns
        return gather_sum(
            values.square() if squared else values, indices, scores, starts
        )


class Dense:
    """X as an array, float32.

    Products are written transposed: with few classes MKL takes a tenth of the time for them.
    """

    def __init__(self, x: np.ndarray, device: str | torch.device) -> None:
        self.shape: tuple[int, int] = x.shape
        self.device = torch.device(device)
        self._x = torch.from_numpy(x).to(device, torch.float32)

    def times(self, weights: torch.Tensor, rows: slice) -> torch.Tensor:
        """Those rows of X times `weights` (m, q)."""
        return (weights.T @ self._x[rows].T).T

    def transposed(self, scores: torch.Tensor, squared: bool = False) -> torch.Tensor:
        """X^T times `scores` (N, q); X * X instead of X if `squared`."""
        return (scores.T @ (self._x.square() if squared else self._x)).T


Features = Sparse | Dense  # X (N, m) as a linear map, on a device.


def features(x: Any, device: str | torch.device) -> Features:
    """X on a device, of a sparse matrix or an array (N, m)."""
    return Sparse(x.tocsr(), device) if scipy.sparse.issparse(x) else Dense(x, device)


def principal(x: dict[str, np.ndarray], of: str) -> dict[str, np.ndarray]:
    """{split: features (N, m)} around the mean of one split, along its principal axes; float32.

    The intercepts take up a shift, and the penalty does not see a rotation: probabilities and f stay what they are. But
    the Hessian gets nearly diagonal, which saves a fit on embeddings most of its passes.
    """
    mean = x[of].mean(axis=0, dtype=np.float64)
    centred = {split: (rows - mean).astype(np.float32) for split, rows in x.items()}
    # The axes need not be exact, but they must be at right angles, which float64 sees to.
    axes = np.linalg.eigh((centred[of].T @ centred[of]).astype(np.float64))[1].astype(
        np.float32
    )
    return {split: rows @ axes for split, rows in centred.items()}


def _compressed(
    x: scipy.sparse.csr_matrix, device: str | torch.device
) -> tuple[torch.Tensor, ...]:
    x.sort_indices()
    parts = (
        x.data.astype(np.float32),
        x.indices.astype(np.int64),
        x.indptr[:-1].astype(np.int64),
    )
    return tuple(torch.from_numpy(part).to(device) for part in parts)


class Fit(NamedTuple):
    """A fit, and where the next one may start.

    Attributes:
        weights: (m + 1, q), the intercepts last.
        converged: whether ||grad f|| <= tol ||W||.
        passes: how often X was read forth and back.
    """

    weights: torch.Tensor
    converged: bool
    passes: int

    def predict(self, x: Features) -> np.ndarray:
        """(N,) class numbers, of images with the features `x`."""
        scores = (
            x.times(self.weights[:-1], rows) + self.weights[-1]
            for rows in _parts(x, self.weights.shape[1])
        )
        return torch.cat([part.argmax(dim=1) for part in scores]).cpu().numpy()


@torch.no_grad()
def fit(
    x: Features,
    y: np.ndarray,
    classes: int,
    C: float,
    tol: float,
    max_passes: int,
    start: Fit | None = None,
) -> Fit:
    """Fit on X (N, m).

    Args:
        y: (N,) class numbers from 0 to `classes` - 1.
        C: inverse strength of the penalty.
        tol: see above.
        max_passes: a safety net: passes over X after which a fit ends unconverged.
        start: a fit of the same classes and features; zeros by default. It decides how long the fit takes.
    """
    objective = _Objective(x, y, classes, C)
    at = (
        start.weights.clone()
        if start
        else torch.zeros(x.shape[1] + 1, classes, device=x.device)
    )
    value, gradient = objective.value(at), objective.gradient(at)
    while True:
        length, size = _norm(gradient), _norm(at[:-1])
        if length <= tol * size or objective.passes >= max_passes:
            return Fit(at, length <= tol * size, objective.passes)
        residual = max(
            min(FORCING, length / size if size else 1.0) * length, ENOUGH * tol * size
        )
        step = _newton_step(objective, gradient, residual, max_passes)
        slope = float(_dot(gradient, step))
        share, reached = 1.0, objective.value(at + step)
        while (
            reached > value + ARMIJO * share * slope + ROUNDING * value
            and share > SMALLEST_STEP
        ):
            share /= 2
            reached = objective.value(at + share * step)
        at, value = at + share * step, reached
        gradient = objective.gradient(at)


def _newton_step(
    objective: "_Objective", gradient: torch.Tensor, enough: float, max_passes: int
) -> torch.Tensor:
    """An s with ||H s + gradient|| <= `enough`, by conjugate gradients."""
    inverse = objective.preconditioner()
    step, left = torch.zeros_like(gradient), -gradient
    direction = inverse(left)
    product = _dot(left, direction)
    while True:
        bent = objective.hessian(direction)
        length = product / _dot(direction, bent)
        step.addcmul_(direction, length)
        left.addcmul_(bent, -length)
        if _norm(left) <= enough or objective.passes >= max_passes:
            return step
        scaled = inverse(left)
        before, product = product, _dot(left, scaled)
        direction.mul_(product / before).add_(scaled)


class _Objective:
    """f, its gradient and Hessian at the weights (m + 1, q) that `value` was last asked of.

    Attributes:
        passes: how often X was read forth and back.
    """

    def __init__(self, x: Features, y: np.ndarray, classes: int, C: float) -> None:
        self.x, self.C, self.passes = x, C, 0
        self._y = torch.tensor(y, device=x.device)[:, None]
        self._probabilities = torch.empty(len(y), classes, device=x.device)
        self._scores = torch.empty_like(self._probabilities)
        self._parts = [
            (rows, self._probabilities[rows], self._scores[rows])
            for rows in _parts(x, classes)
        ]

    def value(self, at: torch.Tensor) -> float:
        losses = []
        for rows, probabilities, _ in self._parts:
            # By hand: `log_softmax` takes two to nine times as long.
            scores = self.x.times(at[:-1], rows).add_(at[-1])
            total = torch.exp(
                scores.sub_(scores.amax(dim=1, keepdim=True)), out=probabilities
            ).sum(dim=1, keepdim=True)
            losses.append((scores.gather(1, self._y[rows]) - total.log()).flatten())
            probabilities.div_(total)
        # On the CPU, since not every accelerator has float64.
        loss = -torch.cat(losses).cpu().sum(dtype=torch.float64).item()
        return self.C * loss + _norm(at[:-1]) ** 2 / 2

    def gradient(self, at: torch.Tensor) -> torch.Tensor:
        self.passes += 1
        for rows, probabilities, scores in self._parts:
            # Not by `scatter_add_`, which on a GPU is not deterministic.
            scores.copy_(probabilities).scatter_(
                1, self._y[rows], probabilities.gather(1, self._y[rows]) - 1
            )
        return self._back(at[:-1])

    def hessian(self, direction: torch.Tensor) -> torch.Tensor:
        self.passes += 1
        for rows, probabilities, scores in self._parts:
            torch.mul(
                self.x.times(direction[:-1], rows).add_(direction[-1]),
                probabilities,
                out=scores,
            )
            scores.addcmul_(probabilities, scores.sum(dim=1, keepdim=True), value=-1)
        return self._back(direction[:-1])

    def preconditioner(self) -> Callable[[torch.Tensor], torch.Tensor]:
        """V for about H V: see above."""
        for _, probabilities, scores in self._parts:
            torch.addcmul(
                probabilities, probabilities, probabilities, value=-1, out=scores
            )
        degrees = self._back(0, squared=True).clamp_(min=TINY)
        e = degrees / (1 - degrees / degrees.sum(dim=1, keepdim=True))
        inverse = (1 + e).reciprocal_()
        u = e * inverse
        inverse[-1], u[-1] = 1 / e[-1], 0
        total = u.sum(dim=1, keepdim=True).clamp_(min=TINY)
        return lambda x: (x * inverse).addcmul_(
            u, (x * u).sum(dim=1, keepdim=True) / total
        )

    def _back(
        self, penalty: torch.Tensor | float, squared: bool = False
    ) -> torch.Tensor:
        # C times X^T of the scores, and of the penalty what is added; C times their sum for the intercepts.
        found = torch.cat(
            [
                self.x.transposed(self._scores, squared),
                self._scores.sum(dim=0, keepdim=True),
            ]
        )
        found.mul_(self.C)[:-1] += penalty
        return found


def _parts(x: Features, classes: int) -> list[slice]:
    size = max(1, PART.get(x.device.type, PART_ELSEWHERE) // classes)
    return [
        slice(first, min(first + size, x.shape[0]))
        for first in range(0, x.shape[0], size)
    ]


def _dot(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    return torch.dot(a.flatten(), b.flatten())


def _norm(x: torch.Tensor) -> float:
    return float(torch.linalg.vector_norm(x))

"""Fit a multinomial logistic regression to a stated optimality, on any device.

Shapes: N images, m features, q classes. What is minimised is scikit-learn's
`LogisticRegression`, with its C:

    f(W, b) = C sum_i -log softmax(x_i W + b)[y_i] + ||W||^2 / 2

with W (m, q); the intercepts b (q,) are not penalised. A fit ends where ||grad f|| <=
tol ||W||, in Frobenius norms. So the weights are within that share of the optimum's,
whatever C, N and the scale of the features: f - ||W||^2 / 2 is convex, hence

    ||W - W*||^2 <= <grad f, (W - W*, b - b*)>
    f - f* <= ||grad_W f||^2 / 2 + <grad_b f, b - b*>

or ||W - W*|| <= ||grad f|| where grad_b f = 0. A fit leaves little of that, and what it
leaves is the gradient of slightly other class counts: g more of it is g / C more images
of a class. scikit-learn bounds the largest entry of grad f / (C N) instead. With its
default of 1e-4, ||grad f|| is 1.5 ||W|| at C = 100 on codes of the demo, and f 6 to 12
% above its minimum.

Two classes are two columns here; scikit-learn makes them one, and its C is then twice
this one.

Method: Newton's. Each step is made by preconditioned conjugate gradients, as exactly as
the gradient deserves (Dembo, Eisenstat, Steihaug 1982), and halved until f falls
(Armijo). A product with the Hessian is

    H V = V + C X^T A,  A = P * Z - P * rowsum(P * Z),  Z = X V + v

with P (N, q) the probabilities. Its block of one feature is I + L, with L = C sum_i
x_i^2 (diag(p_i) - p_i p_i^T). The rows of L add up to 0, which a diagonal would not
see. The preconditioner takes diag(e) - e e^T / sum(e) for L, with e such that its
diagonal is about that of L. The inverse of the block is then diag(1 / (1 + e)) + u u^T
/ sum(u), with u = e / (1 + e) (Sherman, Morrison). For the intercepts, which have no
penalty, diag(1 / e) does.

Sparse X costs a gather for X V and another, in the order of the features, for X^T A;
both sum in a fixed order, on a GPU as well.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import scipy.sparse
import torch
from jaxtyping import Float, Int
from torch import Tensor

from sae.models.coder import gather_sum

# A Newton step ends when its residual is at most FORCING of the gradient; near the
# optimum, at most ||grad f|| / ||W|| of it. It need not go below ENOUGH of what `tol`
# allows.
FORCING = 0.5
ENOUGH = 0.9
# How much a step has to gain, as a share of the slope.
ARMIJO = 1e-4
SMALLEST_STEP = 2.0**-20
# The share of f that its sum cannot resolve.
ROUNDING = 4 * torch.finfo(torch.float32).eps
# The least degree; a class that is certain everywhere has none.
TINY = 1e-6
# Numbers (rows x classes) worked on at once: on a CPU what fits its cache.
PART = {"cpu": 2**17}
PART_ELSEWHERE = 2**26


class Sparse:
    """Features X (N, m), sparse, float32, as a linear map.

    X is held by rows and by columns.
    """

    def __init__(
        self,
        x: Float[scipy.sparse.csr_matrix, "images features"],
        device: str | torch.device,
    ) -> None:
        self.shape: tuple[int, int] = x.shape
        self.device = torch.device(device)
        self._by_row = _compress(x, device)
        self._by_column = _compress(x.T.tocsr(), device)
        self._offsets = x.indptr.tolist()

    def times(
        self, weights: Float[Tensor, "features classes"], rows: slice
    ) -> Float[Tensor, "rows classes"]:
        """Return some rows of X times `weights`."""
        values, indices, starts = self._by_row
        first = self._offsets[rows.start]
        last = self._offsets[rows.stop]
        return gather_sum(
            values[first:last], indices[first:last], weights, starts[rows] - first
        )

    def transposed(
        self, scores: Float[Tensor, "images classes"], squared: bool
    ) -> Float[Tensor, "features classes"]:
        """Return X^T times `scores`; X * X instead of X if `squared`."""
        values, indices, starts = self._by_column
        if squared:
            values = values.square()
        return gather_sum(values, indices, scores, starts)


class Dense:
    """Features X (N, m), an array, float32, as a linear map.

    Products are written transposed: with few classes MKL takes a tenth of the time for
    them.
    """

    def __init__(
        self, x: Float[np.ndarray, "images features"], device: str | torch.device
    ) -> None:
        self.shape: tuple[int, int] = x.shape
        self.device = torch.device(device)
        self._x = torch.from_numpy(x).to(device, torch.float32)

    def times(
        self, weights: Float[Tensor, "features classes"], rows: slice
    ) -> Float[Tensor, "rows classes"]:
        """Return some rows of X times `weights`."""
        return (weights.T @ self._x[rows].T).T

    def transposed(
        self, scores: Float[Tensor, "images classes"], squared: bool
    ) -> Float[Tensor, "features classes"]:
        """Return X^T times `scores`; X * X instead of X if `squared`."""
        x = self._x.square() if squared else self._x
        return (scores.T @ x).T


# X (N, m) as a linear map, on a device.
Features = Sparse | Dense


def features(x: Any, device: str | torch.device) -> Features:
    """Put a sparse matrix or an array (N, m) on a device."""
    return Sparse(x.tocsr(), device) if scipy.sparse.issparse(x) else Dense(x, device)


def principal(
    x: dict[str, Float[np.ndarray, "images features"]], around: str
) -> dict[str, Float[np.ndarray, "images features"]]:
    """Turn features to the principal axes of one split, around its mean; float32.

    The intercepts take up a shift, and the penalty does not see a rotation:
    probabilities and f stay what they are. But the Hessian gets nearly diagonal, which
    saves a fit on embeddings most of its passes.

    Args:
        x: {split: features}.
        around: the split.
    """
    mean = x[around].mean(axis=0, dtype=np.float64)
    centred = {split: (rows - mean).astype(np.float32) for split, rows in x.items()}

    # The axes need not be exact, but they must be at right angles, which float64 sees
    # to.
    gram = (centred[around].T @ centred[around]).astype(np.float64)
    axes = np.linalg.eigh(gram)[1].astype(np.float32)
    return {split: rows @ axes for split, rows in centred.items()}


def _compress(
    x: Float[scipy.sparse.csr_matrix, "rows columns"], device: str | torch.device
) -> tuple[Float[Tensor, " nnz"], Int[Tensor, " nnz"], Int[Tensor, " rows"]]:
    """Return the values, the column of each, ascending, and where each row starts."""
    x.sort_indices()
    return (
        torch.from_numpy(x.data.astype(np.float32)).to(device),
        torch.from_numpy(x.indices.astype(np.int64)).to(device),
        torch.from_numpy(x.indptr[:-1].astype(np.int64)).to(device),
    )


class SoftmaxFit(NamedTuple):
    """A fit, and where the next one may start.

    Attributes:
        weights: (m + 1, q), the intercepts last.
        converged: whether ||grad f|| <= tol ||W||.
        passes: how often X was read forth and back.
    """

    weights: Float[Tensor, "features+1 classes"]
    converged: bool
    passes: int

    def predict(self, x: Features) -> Int[np.ndarray, " images"]:
        """Return the class number of each image with the features `x`."""
        predicted = []
        for rows in _row_slices(x, self.weights.shape[1]):
            scores = x.times(self.weights[:-1], rows) + self.weights[-1]
            predicted.append(scores.argmax(dim=1))
        return torch.cat(predicted).cpu().numpy()


@torch.no_grad()
def fit(
    x: Features,
    y: Int[np.ndarray, " images"],
    classes: int,
    C: float,
    tol: float,
    max_passes: int,
    start: SoftmaxFit | None = None,
) -> SoftmaxFit:
    """Fit on X (N, m), by Newton's method.

    Args:
        x: the features.
        y: class numbers from 0 to `classes` - 1.
        classes: their number.
        C: inverse strength of the penalty.
        tol: the share of ||W|| that ||grad f|| may have at the end.
        max_passes: a safety net: passes over X after which a fit ends unconverged.
        start: a fit of the same classes and features; zeros by default. It decides how
            long the fit takes.
    """
    objective = _Objective(x, y, classes, C)
    shape = (x.shape[1] + 1, classes)
    weights = start.weights.clone() if start else torch.zeros(shape, device=x.device)
    value = objective.value(weights)
    gradient = objective.gradient(weights)
    while True:
        gradient_norm = _norm(gradient)
        weight_norm = _norm(weights[:-1])
        has_converged = gradient_norm <= tol * weight_norm
        if has_converged or objective.passes >= max_passes:
            return SoftmaxFit(weights, has_converged, objective.passes)

        # The nearer the optimum, the more exact a step.
        forcing = min(FORCING, gradient_norm / weight_norm if weight_norm else 1.0)
        residual = max(forcing * gradient_norm, ENOUGH * tol * weight_norm)
        step = _newton_step(objective, gradient, residual, max_passes)

        # Halve the step until f falls enough.
        slope = float(_dot(gradient, step))
        share = 1.0
        reached = objective.value(weights + step)
        while (
            reached > value + ARMIJO * share * slope + ROUNDING * value
            and share > SMALLEST_STEP
        ):
            share /= 2
            reached = objective.value(weights + share * step)

        weights = weights + share * step
        value = reached
        gradient = objective.gradient(weights)


def _newton_step(
    objective: "_Objective",
    gradient: Float[Tensor, "features+1 classes"],
    tolerance: float,
    max_passes: int,
) -> Float[Tensor, "features+1 classes"]:
    """Return an s with ||H s + gradient|| <= `tolerance`, by conjugate gradients."""
    precondition = objective.preconditioner()
    step = torch.zeros_like(gradient)
    residual = -gradient
    direction = precondition(residual)
    product = _dot(residual, direction)
    while True:
        curvature = objective.hessian(direction)
        length = product / _dot(direction, curvature)
        step.addcmul_(direction, length)
        residual.addcmul_(curvature, -length)
        if _norm(residual) <= tolerance or objective.passes >= max_passes:
            return step
        preconditioned = precondition(residual)
        last_product = product
        product = _dot(residual, preconditioned)
        direction.mul_(product / last_product).add_(preconditioned)


class _Objective:
    """f, its gradient and Hessian at the weights that `value` was last asked of.

    Weights are (m + 1, q), the intercepts last.

    Attributes:
        x: the features.
        C: inverse strength of the penalty.
        passes: how often X was read forth and back.
    """

    def __init__(
        self, x: Features, y: Int[np.ndarray, " images"], classes: int, C: float
    ) -> None:
        self.x = x
        self.C = C
        self.passes = 0
        self._y = torch.tensor(y, device=x.device)[:, None]
        self._probabilities = torch.empty(len(y), classes, device=x.device)
        # What the next product with X^T is of.
        self._scores = torch.empty_like(self._probabilities)
        # Some images at once, with views of what is held of them.
        self._parts = [
            (rows, self._probabilities[rows], self._scores[rows])
            for rows in _row_slices(x, classes)
        ]

    def value(self, weights: Float[Tensor, "features+1 classes"]) -> float:
        """Return f, and keep the probabilities."""
        log_likelihoods = []
        for rows, probabilities, _ in self._parts:
            # By hand: `log_softmax` takes two to nine times as long.
            scores = self.x.times(weights[:-1], rows).add_(weights[-1])
            scores.sub_(scores.amax(dim=1, keepdim=True))
            total = torch.exp(scores, out=probabilities).sum(dim=1, keepdim=True)
            of_class = scores.gather(1, self._y[rows])
            log_likelihoods.append((of_class - total.log()).flatten())
            probabilities.div_(total)
        # On the CPU, since not every accelerator has float64.
        loss = -torch.cat(log_likelihoods).cpu().sum(dtype=torch.float64).item()
        return self.C * loss + _norm(weights[:-1]) ** 2 / 2

    def gradient(
        self, weights: Float[Tensor, "features+1 classes"]
    ) -> Float[Tensor, "features+1 classes"]:
        """Return the gradient of f at the weights that `value` was last asked of."""
        self.passes += 1
        for rows, probabilities, scores in self._parts:
            # Not by `scatter_add_`, which on a GPU is not deterministic.
            of_class = probabilities.gather(1, self._y[rows])
            scores.copy_(probabilities).scatter_(1, self._y[rows], of_class - 1)
        return self._multiply_back(weights[:-1])

    def hessian(
        self, direction: Float[Tensor, "features+1 classes"]
    ) -> Float[Tensor, "features+1 classes"]:
        """Return the product of the Hessian with a direction."""
        self.passes += 1
        for rows, probabilities, scores in self._parts:
            change = self.x.times(direction[:-1], rows).add_(direction[-1])
            torch.mul(change, probabilities, out=scores)
            scores.addcmul_(probabilities, scores.sum(dim=1, keepdim=True), value=-1)
        return self._multiply_back(direction[:-1])

    def preconditioner(self) -> Callable[[Tensor], Tensor]:
        """Return a function that gives V for about H V."""
        # The docstring of this file says how; e, u and their names are from there.
        # The diagonal of L, by feature and class.
        for _, probabilities, scores in self._parts:
            torch.addcmul(
                probabilities, probabilities, probabilities, value=-1, out=scores
            )
        degrees = self._multiply_back(0, squared=True).clamp_(min=TINY)

        e = degrees / (1 - degrees / degrees.sum(dim=1, keepdim=True))
        inverse = (1 + e).reciprocal_()
        u = e * inverse
        # Intercepts have no penalty.
        inverse[-1] = 1 / e[-1]
        u[-1] = 0
        u_sum = u.sum(dim=1, keepdim=True).clamp_(min=TINY)
        return lambda x: (x * inverse).addcmul_(
            u, (x * u).sum(dim=1, keepdim=True) / u_sum
        )

    def _multiply_back(
        self, penalty: Tensor | float, squared: bool = False
    ) -> Float[Tensor, "features+1 classes"]:
        """Return C X^T scores; `penalty` is added for features, not for intercepts."""
        of_features = self.x.transposed(self._scores, squared)
        of_intercepts = self._scores.sum(dim=0, keepdim=True)
        product = torch.cat([of_features, of_intercepts]).mul_(self.C)
        product[:-1] += penalty
        return product


def _row_slices(x: Features, classes: int) -> list[slice]:
    size = max(1, PART.get(x.device.type, PART_ELSEWHERE) // classes)
    count = x.shape[0]
    return [slice(first, min(first + size, count)) for first in range(0, count, size)]


def _dot(a: Tensor, b: Tensor) -> Float[Tensor, ""]:
    return torch.dot(a.flatten(), b.flatten())


def _norm(x: Tensor) -> float:
    return float(torch.linalg.vector_norm(x))

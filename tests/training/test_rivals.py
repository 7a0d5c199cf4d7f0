"""The rivals' losses and gradients against dense formulas in float64.

The formulas are written from the papers' equations.
"""

import types
from itertools import accumulate

import numpy as np
import pytest
import torch
from scoring.examples import ms_by_definition
from training.common import (
    KEPT_BY,
    data,
    dense_activations,
    dense_penalty,
    dense_rest,
    entries,
    kept_of_batch,
    kept_of_each,
    make_objective,
    settings,
)

from sae.core import registry
from sae.models import saefile
from sae.models.coder import Coder, Threshold, TopK
from sae.training import loop, step
from sae.training.loop import train
from sae.training.penalties import (
    decoder_orthogonality,
    monoloss,
)
from sae.training.picks import Picks, of_batch, of_each

K = 3
M = 24
# Options of the objectives that are trained to the end.
THRESHOLDS = {
    "jumprelu": {"sparsity": 1.0, "theta": 0.01, "bandwidth": 0.05},
    "relu_l1": {"weight": 0.3},
}
BUDGETS = {
    "matryoshka": {"momentum": 0.99, "shares": [0.25, 0.25, 0.5]},
    "multi_topk": {"ratio": 4.0, "weight": 0.125},
    "hierarchical_topk": {"budgets": None},
}


def dense_error(coder, x, z):
    """Compute the mean squared error of codes (N, m)."""
    return (x - z @ coder.W_dec - coder.b_dec).square().sum() / len(x)


def matryoshka_error(coder, x, shares=(0.0625, 0.0625, 0.125, 0.25, 0.5)):
    """Compute the mean of the errors of all levels."""
    a = dense_activations(coder, x)
    z = a * kept_of_batch(a.detach(), K)
    ends = {max(1, round(M * share)) for share in accumulate(shares)}
    errors = [
        dense_error(coder, x, z * (torch.arange(M) < end)) for end in sorted(ends)
    ]
    return sum(errors) / len(errors)


def multi_topk_error(coder, x, ratio=4.0, weight=0.125):
    """Compute the error at k, and add the weighted error at r k."""
    a = dense_activations(coder, x)
    error = dense_error(coder, x, a * kept_of_each(a.detach(), K))
    larger_k = round(ratio * K)
    error_of_more = dense_error(coder, x, a * kept_of_each(a.detach(), larger_k))
    return error + weight * error_of_more


def hierarchical_topk_error(coder, x, budgets=(1, 2, 3)):
    """Compute the mean of the errors at some budgets."""
    a = dense_activations(coder, x)
    errors = [dense_error(coder, x, a * kept_of_each(a.detach(), k)) for k in budgets]
    return sum(errors) / len(errors)


def assert_same_gradients(coder, loss, expected):
    """Compare two losses, and their gradients in the coder's parameters."""
    torch.testing.assert_close(loss, expected)
    names, parameters = zip(*coder.named_parameters(), strict=True)
    gradients = torch.autograd.grad(loss, parameters)
    expected_gradients = torch.autograd.grad(expected, parameters)
    for name, ours, dense in zip(names, gradients, expected_gradients, strict=True):
        torch.testing.assert_close(ours, dense, msg=name)


@pytest.mark.parametrize(
    ("objective", "options", "reference"),
    [
        (
            "matryoshka",
            {"momentum": 0.9, "shares": [0.0625, 0.0625, 0.125, 0.25, 0.5]},
            matryoshka_error,
        ),
        (
            "matryoshka",
            {"momentum": None, "shares": [0.5, 0.5]},
            lambda coder, x: matryoshka_error(coder, x, (0.5, 0.5)),
        ),
        ("multi_topk", {"ratio": 4.0, "weight": 0.125}, multi_topk_error),
        (
            "multi_topk",
            {"ratio": 100.0, "weight": 1.0},
            lambda coder, x: multi_topk_error(coder, x, M / K, 1.0),
        ),
        ("hierarchical_topk", {"budgets": None}, hierarchical_topk_error),
        (
            "hierarchical_topk",
            {"budgets": [9, 2]},
            lambda coder, x: hierarchical_topk_error(coder, x, (2, 3)),
        ),
    ],
)
@pytest.mark.parametrize("penalty", [None, "off_support_l1", "l1_l2_ratio"])
@pytest.mark.parametrize("dead", [False, True])
def test_loss_and_gradients_equal_the_dense_reference(
    objective, options, reference, penalty, dead
):
    x = data().double()
    method = {"penalty": penalty, "mask": "batch_active", "lam": 0.3} if penalty else {}
    s = settings(objective=objective, options=options, dead_after=500, **method)
    objective_at_work = make_objective(x, s)
    coder = objective_at_work.coder
    if dead:  # Half the latents do not fire in this batch, nor did for long.
        objective_at_work.since_fired[: M // 2] = 1000
        with torch.no_grad():
            coder.b_enc[: M // 2] -= 0.9
    since_fired_before = objective_at_work.since_fired.clone()
    loss, parts = objective_at_work.loss(x, 0)

    kept_by = kept_of_batch if objective == "matryoshka" else kept_of_each
    a = dense_activations(coder, x)
    z = a * kept_by(a.detach(), K)
    residual = x - z @ coder.W_dec - coder.b_dec
    error = residual.square().sum() / len(x)
    torch.testing.assert_close(parts["reconstruction"], error)
    assert (parts["aux"] > 0) == dead
    # AuxK and the penalty see the code of the whole dictionary, with all k.
    rest = dense_rest(coder, s, a, z, residual, since_fired_before)
    assert_same_gradients(coder, loss, reference(coder, x) + rest)


def monoloss_by_pairs(a, z, x, coder):
    """Compute one minus MonoLoss' score of a batch, pair by pair of images."""
    e = torch.nn.functional.normalize(x, dim=1)
    apart = 1 - torch.eye(len(x), dtype=x.dtype)
    scaled = [
        (column - column.min()) / (column.max() - column.min())
        for column in z.T
        if (column > 0).sum() > 1
    ]
    weights = [apart * torch.outer(column, column) for column in scaled]
    return 1 - sum((w * (e @ e.T)).sum() / w.sum() for w in weights) / len(weights)


def mean_squared_highest_cosine(a, z, x, coder):
    """Compute the mean over latents of their highest cosine with another, squared."""
    rows = coder.W_dec / coder.W_dec.norm(dim=1, keepdim=True)
    highest = [max(rows[i] @ rows[j] for j in range(M) if j != i) for i in range(M)]
    return sum(cosine**2 for cosine in highest) / M


def both_regularizers(a, z, x, coder):
    """Compute Reg. 1 and a quarter of Reg. 2, over the latents active in the batch."""
    mask = (z > 0).any(dim=0).double()
    reg1 = dense_penalty("off_support_l1", a, z, mask)
    reg2 = dense_penalty("l1_l2_ratio", a, z, mask)
    return (reg1 + 0.25 * reg2).mean()


@pytest.mark.parametrize("objective", ["topk", "batch_topk"])
@pytest.mark.parametrize(
    ("penalty", "options", "reference"),
    [
        ("monoloss", {}, monoloss_by_pairs),
        ("decoder_orthogonality", {"chunk": M}, mean_squared_highest_cosine),
        ("both", {"ratio_weight": 0.25}, both_regularizers),
    ],
)
def test_a_loss_with_a_penalty_equals_the_dense_reference(
    objective, penalty, options, reference
):
    x = data().double()
    if objective == "batch_topk":
        options = options | {"momentum": None}
    s = settings(
        objective=objective,
        options=options,
        penalty=penalty,
        mask="batch_active",
        lam=0.3,
        dead_after=500,
    )
    objective_at_work = make_objective(x, s)
    coder = objective_at_work.coder
    loss, _ = objective_at_work.loss(x, 0)

    a = dense_activations(coder, x)
    z = a * KEPT_BY[objective](a.detach(), K)
    expected = dense_error(coder, x, z) + 0.3 * reference(a, z, x, coder)
    assert_same_gradients(coder, loss, expected)


@pytest.mark.parametrize(
    ("k", "budgets"),
    [
        (32, [4, 8, 12, 16, 20, 24, 28, 32]),
        (3, [1, 2, 3]),
        (10, [2, 3, 4, 5, 7, 8, 9, 10]),
    ],
)
def test_budgets_are_the_eighths_of_k(k, budgets):
    s = settings(objective="hierarchical_topk", options={"budgets": None}, m=64, k=k)
    assert make_objective(data().double(), s).budgets == budgets


@pytest.mark.parametrize(("theta", "bandwidth"), [(0.2, 0.15), (0.01, 0.05)])
def test_jumprelu_is_the_papers_loss_with_its_estimated_gradients(theta, bandwidth):
    """With the default options, the second ones here, the window reaches below 0.

    Latents that are silent do not move thresholds all the same.
    """
    x = data().double()
    options = {"sparsity": 0.7, "theta": theta, "bandwidth": bandwidth}
    s = settings(objective="jumprelu", options=options, dead_after=500)
    objective = make_objective(x, s)
    coder = objective.coder
    theta = objective.theta
    with torch.no_grad():
        generator = torch.Generator().manual_seed(2)
        theta.mul_(1 + 0.5 * torch.rand(M, generator=generator, dtype=theta.dtype))
    loss, parts = objective.loss(x, 0)
    names, parameters = zip(*coder.named_parameters(), ("theta", theta), strict=True)
    gradients = dict(zip(names, torch.autograd.grad(loss, parameters), strict=True))

    a = dense_activations(coder, x)
    is_active = (a > theta).detach()
    z = a * is_active
    z.retain_grad()
    l0 = is_active.sum() / len(x)
    error = dense_error(coder, x, z)
    torch.testing.assert_close(loss, error + 0.7 * (l0 / K - 1) ** 2)
    assert parts["l0"] == l0
    assert parts["sparsity"] > 0

    # Other parameters have the gradients of the error alone.
    error.backward()
    for name, parameter in coder.named_parameters():
        torch.testing.assert_close(gradients[name], parameter.grad, msg=name)

    pi = (x - coder.b_dec) @ coder.W_enc + coder.b_enc
    in_window = ((pi > 0) & ((pi - theta).abs() / bandwidth < 0.5)).detach()
    assert in_window.sum() > 10
    assert (a == 0).any()
    through_z = (z.grad * -(theta / bandwidth) * in_window).sum(dim=0).detach()
    l0_gradient = -1 / bandwidth * in_window.sum(dim=0) / len(x)
    through_l0 = 2 * 0.7 * (l0 / K - 1) / K * l0_gradient
    torch.testing.assert_close(gradients["theta"], through_z + through_l0)


def test_the_l1_norm_has_the_weight_of_its_option():
    x = data().double()
    s = settings(objective="relu_l1", options={"weight": 0.05}, dead_after=500)
    objective = make_objective(x, s)
    coder = objective.coder
    loss, _ = objective.loss(x, 0)
    a = dense_activations(coder, x)
    l1_norm = (a * coder.W_dec.norm(dim=1)).sum() / len(x)
    assert_same_gradients(coder, loss, dense_error(coder, x, a) + 0.05 * l1_norm)


@pytest.mark.parametrize(
    ("objective", "size"), [("jumprelu", 1e-3), ("jumprelu", 1e3), ("relu_l1", 1e3)]
)
def test_all_gradients_together_have_at_most_norm_1(objective, size, monkeypatch):
    """They do at each step, also where a part is frozen."""
    entry = registry.load("objective", objective)
    gradients_by_step = []

    class Scaled(entry.Objective):
        def loss(self, x, step):
            loss, parts = super().loss(x, step)
            parameters = [*self.coder.parameters(), *self.parameters()]
            learned = [p for p in parameters if p.requires_grad]
            gradients = torch.autograd.grad(loss, learned, retain_graph=True)
            gradients_by_step.append([size * g for g in gradients])
            return size * loss, parts

    def step(self):
        gradients = gradients_by_step[-1]
        norm = sum(g.square().sum() for g in gradients) ** 0.5
        assert (norm > 1) == (size > 1)
        for p, g in zip(self.parameters, gradients, strict=True):
            torch.testing.assert_close(p.grad, g / max(1, norm), rtol=1e-4, atol=1e-9)

    monkeypatch.setattr(loop.Adam, "step", step)
    monkeypatch.setattr(loop, "remove_parallel", lambda weight: None)
    s = settings(
        objective=objective,
        options=THRESHOLDS[objective],
        dead_after=500,
        steps=2,
        frozen="encoder",
    )
    train(data(), s, types.SimpleNamespace(Objective=Scaled, Options=entry.Options))
    assert len(gradients_by_step) == 2


def test_a_threshold_below_0_is_raised_to_0():
    """At 0 no latent that is silent counts as active."""
    x = data().double()
    options = THRESHOLDS["jumprelu"]
    s = settings(objective="jumprelu", options=options, dead_after=500)
    objective = make_objective(x, s)
    with torch.no_grad():
        objective.theta[:5] = -0.03
    _, parts = objective.loss(x, 0)
    assert (objective.theta[:5] == 0).all()
    assert objective.theta.requires_grad
    l0 = (dense_activations(objective.coder, x) > objective.theta).sum() / len(x)
    assert parts["l0"] == l0
    assert parts["sparsity"].item() == pytest.approx((l0.item() / K - 1) ** 2)


@pytest.mark.parametrize(
    ("objective", "options"), [*THRESHOLDS.items(), *BUDGETS.items()]
)
def test_a_trained_coder_reconstructs_and_keeps_its_budget_in_its_file_too(
    objective, options, tmp_path
):
    x = data(n=400, d=12)
    s = settings(objective=objective, options=options, epochs=10)
    coder, rows = train(x, s, *entries(s))
    assert rows[-1]["r2"] > max(0.3, rows[0]["r2"])
    saefile.save(coder, tmp_path / "sae.safetensors")
    loaded = saefile.load(tmp_path / "sae.safetensors")
    codes = loaded.encode(x)
    if objective in ("multi_topk", "hierarchical_topk"):
        assert isinstance(loaded.select, TopK)
        assert (codes.lengths() <= K).all()
    else:
        assert isinstance(loaded.select, Threshold)
        assert abs(codes.l0() - K) <= 0.005 * K
    # The loss alone brings it near, before thresholds are set to the budget.
    if objective in THRESHOLDS:
        assert rows[-1]["l0"] < 2.5 * K
    if objective == "jumprelu":
        assert loaded.select.theta.unique().numel() > 1


@pytest.mark.parametrize(
    "shares", [[0.9, 0.9], [0.1, 0.1], [-0.5, 1.5], [0.0, 1.0], [0.5, 0.50001]]
)
def test_the_shares_of_levels_are_positive_and_sum_to_one(shares):
    options = registry.load("objective", "matryoshka").Options
    with pytest.raises(ValueError, match=r"they must sum to 1|greater than 0"):
        options(shares=shares)
    assert len(options(shares=[1 / 3] * 3).shares) == 3


def make_batch(a, picks, x=None, coder=None, number=0, options=None):
    """Return what a penalty sees of activations at a step; every latent counts."""
    batch = step.Batch(coder or Coder(1, 1, 1), a if x is None else x, number)
    batch.a = a
    batch.picks = picks
    batch.mask = torch.ones(a.shape[1]).double()
    batch.options = options
    return batch


@pytest.mark.parametrize("select", [of_each, of_batch])
def test_monoloss_is_one_minus_the_mean_score_of_the_batch(select):
    generator = torch.Generator().manual_seed(0)
    sizes = torch.rand(20, 9, dtype=torch.float64, generator=generator)
    a = sizes * (torch.rand(20, 9, generator=generator) < 0.6)
    a[:, 4] = 0
    # Latent 5 fires on few images, and on one strongly.
    a[3:, 5] = 0
    a[0, 5] = 9.0
    x = torch.randn(20, 6, dtype=torch.float64, generator=generator)
    picks = select(a, 4)
    z = picks.dense()
    kept_by = kept_of_each if select is of_each else kept_of_batch
    torch.testing.assert_close(z, a * kept_by(a, 4))

    expected = 1 - np.nanmean(ms_by_definition(z.numpy(), x.numpy()))
    options = monoloss.Options()
    values = monoloss.penalty(make_batch(a, picks, x, options=options))
    assert values.shape == (20,)
    assert values.unique().numel() == 1
    assert values[0].item() == pytest.approx(expected, rel=1e-6)

    def penalty_of_values(values):
        changed = Picks(values, picks.indices, 9, picks.starts)
        return monoloss.penalty(make_batch(a, changed, x, options=options))[0]

    # Away from ties and zeros, where a latent's extremes are functions with a slope.
    shifted = picks.values + 0.01 * torch.rand_like(picks.values)
    smooth = torch.where(picks.values > 0, shifted, 0.3)
    assert torch.autograd.gradcheck(penalty_of_values, smooth.requires_grad_())


def orthogonality(a, coder, chunk, number=0):
    """Return the penalty of a step, one number."""
    options = decoder_orthogonality.Options(chunk=chunk)
    batch = make_batch(a, None, coder=coder, number=number, options=options)
    values = decoder_orthogonality.penalty(batch)
    assert values.shape == (len(a),)
    assert values.unique().numel() == 1
    return values[0]


def test_chunks_of_latents_are_drawn_anew_at_each_step():
    x = data().double()
    coder = make_objective(x, settings()).coder
    a = dense_activations(coder, x).detach()
    at_step_0 = orthogonality(a, coder, chunk=6, number=0)
    at_step_1 = orthogonality(a, coder, chunk=6, number=1)
    assert orthogonality(a, coder, chunk=6, number=0) == at_step_0
    assert at_step_0 != at_step_1
    # In a chunk a latent meets fewer others.
    in_one_chunk = orthogonality(a, coder, chunk=99)
    assert at_step_0 <= in_one_chunk
    assert at_step_1 <= in_one_chunk

"""The loss of one batch and its gradients.

They are compared with plain dense formulas in float64 and with values by hand.
"""

import re
import types
from dataclasses import replace

import pytest
import torch
from support.errors import refused_naming
from torch.nn.functional import cosine_similarity
from training.common import (
    REG1,
    REG2,
    data,
    dense_activations,
    dense_loss,
    dense_penalty,
    kept_of_each,
    make_objective,
    settings,
)

from sae.core.errors import UserError
from sae.core.options import Options
from sae.models.coder import Coder
from sae.training import step
from sae.training.objectives import topk
from sae.training.penalties import l1_l2_ratio, off_support_l1
from sae.training.picks import Picks, largest, of_batch, of_each
from sae.training.step import auxk_loss, dead_picks_masked


def make_batch(a, picks, mask):
    """Return what a penalty sees of activations, with some inputs and some coder."""
    batch = step.Batch(Coder(1, 1, 1), a, 0)
    batch.a = a
    batch.picks = picks
    batch.mask = mask
    return batch


@pytest.mark.parametrize("objective", ["topk", "batch_topk"])
@pytest.mark.parametrize("dead", [False, True, "without asking which"])
@pytest.mark.parametrize("method", [{}, REG1, REG2])
@pytest.mark.parametrize(
    ("mask", "norm", "tied"),
    [("batch_active", "none", False), ("all", "unit_l2_layernorm", True)],
)
def test_loss_and_gradients_equal_the_dense_reference(
    objective, method, mask, norm, tied, dead, monkeypatch
):
    if dead == "without asking which":  # As on a GPU.
        monkeypatch.setattr(step, "dead_picks", dead_picks_masked)
    some_are_dead = bool(dead)
    x = data().double()
    if method:
        method = method | {"lam": 0.3, "mask": mask}
    s = settings(
        objective=objective, input_norm=norm, tied=tied, dead_after=500, **method
    )
    objective_at_work = make_objective(x, s)
    coder = objective_at_work.coder
    if some_are_dead:  # Half the latents do not fire in this batch, nor did for long.
        objective_at_work.since_fired[: s.m // 2] = 1000
        with torch.no_grad():
            coder.b_enc[: s.m // 2] -= 0.4
    since_fired_before = objective_at_work.since_fired.clone()

    loss, parts = objective_at_work.loss(x, 0)
    loss.backward()
    gradients = {n: p.grad.clone() for n, p in coder.named_parameters()}
    assert (parts["aux"] > 0) == some_are_dead
    assert (parts["penalty"] > 0) == bool(method)

    coder.zero_grad()
    expected, _ = dense_loss(coder, x, s, since_fired_before)
    expected.backward()
    torch.testing.assert_close(loss, expected)
    for n, p in coder.named_parameters():
        torch.testing.assert_close(gradients[n], p.grad, msg=n)


def test_picks_of_a_batch_are_its_largest_whichever_samples_have_them():
    a = torch.tensor(
        [[0.0, 5.0, 4.0, 3.0], [0.0, 0.0, 0.0, 0.0], [2.0, 0.0, 6.0, 0.5]],
        requires_grad=True,
    )
    picks = of_batch(a, 2)
    assert picks.starts.tolist() == [0, 3, picks.starts[2]]
    assert len(picks.values) == 6
    assert picks.sums().tolist() == [12.0, 0.0, 8.5]
    dense = torch.zeros(3, 4)
    dense[0, 1:] = torch.tensor([5.0, 4.0, 3.0])
    dense[2, [0, 2, 3]] = torch.tensor([2.0, 6.0, 0.5])
    weight = torch.randn(4, 2)
    torch.testing.assert_close(picks.decode(weight), dense @ weight)
    assert picks.fired().tolist() == [True, True, True, True]
    assert of_batch(a, 1).fired().tolist() == [False, True, True, False]


def test_the_ratio_equals_values_by_hand_and_is_0_for_a_row_of_zeros():
    a = torch.tensor([[3.0, 4.0, 12.0], [0.0, 0.0, 5.0]], requires_grad=True)
    mask = torch.tensor([1.0, 1.0, 0.0])
    ratios = l1_l2_ratio.penalty(make_batch(a, None, mask))
    torch.testing.assert_close(ratios, torch.tensor([7 / 5, 0.0]))
    ratios.sum().backward()
    expected = torch.tensor(
        [[1 / 5 - 3 * 7 / 125, 1 / 5 - 4 * 7 / 125, 0.0], [0.0, 0.0, 0.0]]
    )
    torch.testing.assert_close(a.grad, expected)


@pytest.mark.parametrize(
    ("penalty", "description"),
    [
        (
            lambda batch: batch.a.sum(dim=1, keepdim=True),
            r"torch.float32 of shape \(64, 1\)",
        ),
        (lambda batch: (batch.a > 0).sum(dim=1), r"torch.int64 of shape \(64,\)"),
        (lambda batch: 0.0, "float"),
    ],
)
def test_a_penalty_has_to_return_one_float_a_sample(penalty, description):
    s = settings(**REG1)
    entry = types.ModuleType("sae_extensions.penalties.mine")
    entry.penalty = penalty
    entry.__file__ = "penalties/mine.py"
    with pytest.raises(UserError) as caught:
        topk.Objective(Coder(8, s.m, s.k), s, Options(), entry).loss(data(), 0)
    assert re.fullmatch(
        rf"penalty mine \(penalties/mine\.py\) returned {description}; .* "
        r"floats of shape \(64,\), .*",
        str(caught.value),
    )


@pytest.mark.parametrize(
    ("change", "name"),
    [
        (lambda batch: batch.x.sub_(1), "x"),
        (lambda batch: batch.a.data.add_(1), "a"),
        (lambda batch: batch.picks.values.data.zero_(), "picks.values"),
        (lambda batch: batch.coder.W_dec.data.div_(2), "W_dec"),
    ],
)
def test_a_penalty_that_changes_what_training_reads_is_named(change, name):
    entry = types.ModuleType("sae_extensions.penalties.mine")
    entry.penalty = lambda batch: (change(batch), batch.a.sum(dim=1))[1]
    entry.__file__ = "penalties/mine.py"
    s = settings(**REG1)
    coder = Coder(8, s.m, s.k)
    coder.initialise(data().mean(dim=0), 0)
    with refused_naming("penalties/mine.py", f"changes {name} in place"):
        topk.Objective(coder, s, Options(), entry).loss(data(), 0)


def test_an_objective_that_changes_the_activations_is_named():
    class Centred(step.Objective):
        def pick(self, a):
            return of_each(a.sub_(a.mean(dim=0)), self.settings.k)

    s = settings(objective="centred")
    for number in (0, 1):
        with refused_naming("objective centred", "pick()", "changes a"):
            Centred(Coder(8, s.m, s.k), s, Options()).loss(data(), number)


@pytest.mark.parametrize("missing", ["mask", "lambda"])
def test_a_penalty_has_a_lambda_and_a_mask(missing):
    s = settings(**REG1 | {"lam" if missing == "lambda" else missing: None})
    with pytest.raises(UserError, match=f"penalty off_support_l1 has no {missing}"):
        topk.Objective(Coder(8, s.m, s.k), s, Options(), off_support_l1)


def test_a_penalty_that_the_settings_name_is_not_left_out():
    s = settings(**REG1)
    with refused_naming("penalty off_support_l1", "not given", "sae.train"):
        topk.Objective(Coder(8, s.m, s.k), s, Options())


def test_picks_of_one_sample_are_not_taken_for_all():
    class OfOne(step.Objective):
        def pick(self, a):
            return of_each(a[:1], self.settings.k)

    s = settings(objective="of_one")
    with refused_naming("objective of_one", "pick()", "picks of 1 samples", "64"):
        OfOne(Coder(8, s.m, s.k), s, Options()).loss(data(), 0)


def test_picked_values_that_are_no_activations_are_refused():
    """Their gradients would be wrong."""

    class Doubled(step.Objective):
        def pick(self, a):
            picks = of_each(a, self.settings.k)
            return replace(picks, values=2 * picks.values)

    coder = make_objective(data(), settings()).coder
    s = settings(objective="doubled")
    with pytest.raises(
        UserError,
        match=r"objective doubled: pick\(\) returned values that are neither",
    ):
        Doubled(coder, s, Options()).loss(data().double(), 0)


@pytest.mark.parametrize("method", [{}, REG1 | {"lam": 0.3, "mask": "all"}])
def test_picks_may_be_of_the_first_latents_and_leave_places_empty(method):
    class LargeOfTheFirst(step.Objective):
        def pick(self, a):
            picks = of_each(a[:, :12], self.settings.k)
            values = torch.where(picks.values > 0.3, picks.values, 0)
            return replace(picks, values=values)

    x = data().double()
    s = settings(dead_after=10**9, **method)
    coder = make_objective(x, s).coder
    penalty = off_support_l1 if method else None
    loss, _ = LargeOfTheFirst(coder, s, Options(), penalty).loss(x, 0)

    a = dense_activations(coder, x)
    first = a * (torch.arange(24) < 12)
    z = first * kept_of_each(first.detach(), s.k) * (first > 0.3)
    assert len(set((z > 0).sum(dim=1).tolist())) > 1
    expected = (x - z @ coder.W_dec - coder.b_dec).square().sum(dim=1).mean()
    if method:
        penalties = dense_penalty(s.penalty, a, z, torch.ones(24))
        expected = expected + s.lam * penalties.mean()
    assert_same_gradients(coder, loss, expected)


def make_random_coder(**options):
    """Return a coder with random weights, and random inputs."""
    generator = torch.Generator().manual_seed(0)
    coder = Coder(4, 10, 3, **options).double()
    for parameter in coder.parameters():
        parameter.data.copy_(torch.randn(parameter.shape, generator=generator))
    return coder, torch.randn(6, 4, dtype=torch.float64, generator=generator)


def assert_same_gradients(coder, sparse, dense):
    """Compare two tensors, and their gradients in the coder's parameters."""
    generator = torch.Generator().manual_seed(1)
    weight = torch.rand(sparse.shape, dtype=torch.float64, generator=generator)
    torch.testing.assert_close(sparse, dense)
    gradients = [
        torch.autograd.grad(
            (tensor * weight).sum(),
            tuple(coder.parameters()),
            retain_graph=True,
            materialize_grads=True,
        )
        for tensor in (sparse, dense)
    ]
    torch.testing.assert_close(*gradients)


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("starts", [None, [0, 3, 3, 7, 12, 12]])
def test_picks_have_the_gradients_of_the_dense_formula(starts, tied):
    coder, x = make_random_coder(tied=tied)
    latents = torch.arange(18) * 7 % 10
    samples = torch.arange(18) // 3
    shape = (6, 3)
    if starts is not None:
        starts = torch.tensor(starts)
        samples = torch.bucketize(torch.arange(18), starts, right=True) - 1
        shape = (18,)
    a = dense_activations(coder, x)
    z = torch.zeros_like(a).index_put((samples, latents), a[samples, latents])
    values = a.detach()[samples, latents].reshape(shape)
    picks = Picks(values, latents.reshape(shape), 10, starts).attach(coder, x)
    assert_same_gradients(coder, picks.decode(coder.W_dec), z @ coder.W_dec)
    assert_same_gradients(coder, picks.sums(), z.sum(dim=1))


def test_a_part_of_the_picks_has_gradients_of_its_own():
    """It does not take what the picks have sorted for theirs."""
    coder, x = make_random_coder()
    a = dense_activations(coder, x)
    picks = of_each(a.detach(), 4).attach(coder, x)
    part = replace(picks, values=picks.values[:, 1:3], indices=picks.indices[:, 1:3])
    z, z_of_part = (
        torch.zeros_like(a).scatter(1, p.indices, a.gather(1, p.indices))
        for p in (picks, part)
    )
    assert_same_gradients(
        coder,
        picks.decode(coder.W_dec) + part.decode(coder.W_dec),
        (z + z_of_part) @ coder.W_dec,
    )


@pytest.mark.parametrize(
    ("m", "k"), [(512, 16), (512, 17), (96, 3), (100, 3), (64, 64)]
)
def test_the_largest_are_those_of_a_sort(m, k):
    a = torch.randn(20, m, generator=torch.Generator().manual_seed(0))
    a[3] = 0.0
    a[5, 7:] = -1.0
    values, columns = largest(a, k)
    assert torch.equal(values, a.gather(1, columns))
    assert all(len(set(row)) == k for row in columns.tolist())
    assert torch.equal(values.sort(dim=1).values, a.sort(dim=1).values[:, -k:])


def test_zero_valued_picks_did_not_fire():
    picks = Picks(
        torch.tensor([[0.5, 0.0], [0.0, 0.0]]), torch.tensor([[1, 2], [3, 1]]), 5
    )
    assert picks.fired().tolist() == [False, True, False, False, False]


def test_auxk_and_its_gradients_equal_values_by_hand():
    coder = Coder(2, 3, 1)
    with torch.no_grad():
        coder.W_dec.copy_(torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.6, 0.8]]))
        coder.b_dec.copy_(torch.tensor([100.0, 100.0]))  # Takes no part.
    batch = step.Batch(coder, torch.tensor([[104.0, 100.0]]), 0)
    batch.a = torch.tensor([[9.0, 2.0, 1.0]])
    batch.residual = torch.tensor([[0.0, 3.0]], requires_grad=True)
    loss = auxk_loss(batch, torch.tensor([False, True, True]), 1)
    assert loss.item() == pytest.approx(1.0)  # (0, 3) - 2 (0, 1) = (0, 1)
    loss.backward()
    assert batch.residual.grad is None
    torch.testing.assert_close(coder.b_enc.grad, torch.tensor([0.0, -2.0, 0.0]))
    torch.testing.assert_close(
        coder.encoder.grad.T, torch.tensor([[0.0, -8.0, 0.0], [0.0, 0.0, 0.0]])
    )


def test_auxk_without_dead_latents_is_zero(monkeypatch):
    monkeypatch.setattr(step, "dead_picks", dead_picks_masked)
    coder = Coder(2, 3, 1)
    batch = step.Batch(coder, torch.rand(4, 2), 0)
    batch.a = torch.rand(4, 3)
    batch.residual = torch.rand(4, 2)
    nothing_is_dead = torch.zeros(3, dtype=torch.bool)
    loss = auxk_loss(batch, nothing_is_dead, 2)
    loss.backward()
    assert loss.item() == 0
    for parameter in (coder.encoder, coder.b_enc, coder.W_dec):
        assert not parameter.grad.any()


def test_bfloat16_rounds_the_products_and_keeps_the_weights():
    x = data()
    gradients = []
    for precision in ("float32", "bfloat16"):
        objective = make_objective(x, settings(precision=precision))
        coder = objective.coder.float()
        loss, _ = objective.loss(x, 0)
        loss.backward()
        gradients.append(coder.encoder.grad)
        assert coder.W_enc.dtype == coder.encoder.grad.dtype == torch.float32
    assert not torch.equal(*gradients)
    cosine = cosine_similarity(*(g.flatten() for g in gradients), dim=0)
    assert cosine > 0.995


@pytest.mark.parametrize("method", [{}, REG1, REG2])
def test_bfloat16_rounds_of_the_gradient_only_what_a_penalty_adds(method):
    x = data()
    s = settings(precision="bfloat16", dead_after=10**9, **method)
    objective = make_objective(x, s)
    coder = objective.coder.float()
    loss, _ = objective.loss(x, 0)
    loss.backward()
    rounded = coder.activations(x, torch.bfloat16).detach().double()

    coder = coder.double()
    x = x.double()
    gradients = {name: p.grad for name, p in coder.named_parameters()}
    coder.zero_grad(set_to_none=True)
    pre = (x - coder.b_dec) @ coder.W_enc + coder.b_enc
    # The values that the objective saw, with the gradients of exact ones.
    a = rounded + (pre - pre.detach()) * (rounded > 0)
    z = a * kept_of_each(rounded, s.k)
    penalty = 0 * a
    if method:
        mask = (z > 0).any(dim=0).double()
        penalty = s.lam * dense_penalty(s.penalty, a, z, mask)
    (gradient_of_penalty,) = torch.autograd.grad(
        penalty.mean(), coder.encoder, retain_graph=True, materialize_grads=True
    )
    error = (x - z @ coder.W_dec - coder.b_dec).square().sum(dim=1).mean()
    (error + penalty.mean()).backward()

    for name, p in coder.named_parameters():
        tolerance = 1e-6 * p.grad.norm()
        if name == "encoder":
            tolerance = tolerance + 2**-8 * gradient_of_penalty.norm()
        assert (gradients[name] - p.grad).norm() < tolerance, name


def test_a_latent_is_dead_as_soon_as_it_was_silent_for_dead_after_samples():
    x = data().double()
    objective = make_objective(x, settings(dead_after=len(x)))
    with torch.no_grad():
        objective.coder.b_enc[:5] -= 9.0
    _, parts = objective.loss(x, 0)
    assert parts["dead"] == (objective.since_fired == len(x)).sum() >= 5

"""The loss of one batch and its gradients, against plain dense formulas in float64 and hand-computed values."""

import re
import types
from dataclasses import replace

import pytest
import torch
from training.common import (
    REG1,
    REG2,
    data,
    dense_loss,
    dense_penalty,
    kept_of_each,
    make_objective,
    settings,
)

from sae.core.errors import UserError
from sae.core.options import Options
from sae.models.coder import Coder
from sae.training import auxk, step
from sae.training.auxk import auxk_loss, dead_picks_masked
from sae.training.objectives import topk
from sae.training.penalties import l1_l2_ratio, off_support_l1
from sae.training.picks import Picks, compute_activations, largest, of_batch, of_each
from sae.training.recipe import Settings

PENALTIES = {
    "off_support_l1": off_support_l1.penalty,
    "l1_l2_ratio": l1_l2_ratio.penalty,
}


def batch(a, picks, mask):
    return step.Batch(a, a, picks, mask, Coder(1, 1, 1), 0, Options())


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
        monkeypatch.setattr(auxk, "dead_picks", dead_picks_masked)
    dead = bool(dead)
    x = data().double()
    method = method | {"lam": 0.3, "mask": mask} if method else {}
    s = settings(
        objective=objective, input_norm=norm, tied=tied, dead_after=500, **method
    )
    made = make_objective(x, s)
    if dead:  # Half the latents never fire in this batch, and have not for long.
        made.since_fired[: s.m // 2] = 1000
        with torch.no_grad():
            made.coder.b_enc[: s.m // 2] -= 0.4
    since = made.since_fired.clone()
    loss, parts = made.loss(x, 0)
    loss.backward()
    gradients = {n: p.grad.clone() for n, p in made.coder.named_parameters()}
    assert (parts["aux"] > 0) == dead and (parts["penalty"] > 0) == bool(method)
    made.coder.zero_grad()
    expected, _ = dense_loss(made.coder, x, s, since)
    expected.backward()
    torch.testing.assert_close(loss, expected)
    for n, p in made.coder.named_parameters():
        torch.testing.assert_close(gradients[n], p.grad, msg=n)


def test_picks_of_a_batch_are_its_largest_whoever_has_them():
    a = torch.tensor(
        [[0.0, 5.0, 4.0, 3.0], [0.0, 0.0, 0.0, 0.0], [2.0, 0.0, 6.0, 0.5]],
        requires_grad=True,
    )
    picks = of_batch(a, 2)
    assert picks.starts.tolist() == [0, 3, picks.starts[2]] and len(picks.values) == 6
    assert picks.sums().tolist() == [12.0, 0.0, 8.5]
    dense = torch.zeros(3, 4)
    dense[0, 1:], dense[2, [0, 2, 3]] = (
        torch.tensor([5.0, 4.0, 3.0]),
        torch.tensor([2.0, 6.0, 0.5]),
    )
    weight = torch.randn(4, 2)
    torch.testing.assert_close(picks.decode(weight), dense @ weight)
    assert picks.fired().tolist() == [True, True, True, True]
    assert of_batch(a, 1).fired().tolist() == [False, True, True, False]


@pytest.mark.parametrize("name", PENALTIES)
@pytest.mark.parametrize("select", [of_each, of_batch])
def test_penalty_gradcheck(name, select):
    a = (
        torch.rand(
            5, 9, dtype=torch.float64, generator=torch.Generator().manual_seed(3)
        )
        + 0.1
    )
    mask = (torch.arange(9) % 3 > 0).double()
    places = select(a * mask, 2)  # Picks are batch-active, as in training.
    flat = places.indices if places.starts is not None else places.indices.reshape(-1)
    rows = (
        torch.arange(10) // 2
        if places.starts is None
        else torch.searchsorted(places.starts, torch.arange(10), right=True) - 1
    )

    def sparse(a):
        values = a[rows, flat].reshape(places.values.shape)
        return PENALTIES[name](
            batch(a, Picks(values, places.indices, 9, places.starts), mask)
        )

    z = torch.zeros_like(a)
    z[rows, flat] = a[rows, flat]
    torch.testing.assert_close(sparse(a), dense_penalty(name, a, z, mask))
    assert torch.autograd.gradcheck(sparse, a.requires_grad_())


def test_ratio_by_hand_and_zero_row():
    a = torch.tensor([[3.0, 4.0, 12.0], [0.0, 0.0, 5.0]], requires_grad=True)
    value = l1_l2_ratio.penalty(batch(a, None, torch.tensor([1.0, 1.0, 0.0])))
    torch.testing.assert_close(value, torch.tensor([7 / 5, 0.0]))
    value.sum().backward()
    expected = torch.tensor(
        [[1 / 5 - 3 * 7 / 125, 1 / 5 - 4 * 7 / 125, 0.0], [0.0, 0.0, 0.0]]
    )
    torch.testing.assert_close(a.grad, expected)


@pytest.mark.parametrize(
    ("returned", "found"),
    [
        (lambda batch: batch.a.sum(), r"torch.float32 of shape \(\)"),
        (
            lambda batch: batch.a.sum(dim=1, keepdim=True),
            r"torch.float32 of shape \(64, 1\)",
        ),
        (lambda batch: batch.a, r"torch.float32 of shape \(64, 24\)"),
        (lambda batch: (batch.a > 0).sum(dim=1), r"torch.int64 of shape \(64,\)"),
        (lambda batch: batch.a.sum(dim=1) * 1j, r"torch.complex64 of shape \(64,\)"),
        (lambda batch: 0.0, "float"),
    ],
)
def test_a_penalty_gives_one_value_a_sample(returned, found):
    s, mine = settings(**REG1), types.ModuleType("sae_extensions.penalties.mine")
    mine.penalty, mine.__file__ = returned, "penalties/mine.py"
    with pytest.raises(UserError) as caught:
        step.start(Coder(8, s.m, s.k), s, topk, mine).loss(data(), 0)
    assert re.fullmatch(
        rf"penalty mine \(penalties/mine\.py\) returned {found}; .* floats of shape \(64,\), .*",
        str(caught.value),
    )


@pytest.mark.parametrize("missing", ["mask", "lambda"])
def test_a_penalty_has_a_lambda_and_a_mask(missing):
    s = settings(**REG1 | {"lam" if missing == "lambda" else missing: None})
    with pytest.raises(UserError, match=f"penalty off_support_l1 has no {missing}"):
        step.start(Coder(8, s.m, s.k), s, topk, off_support_l1)


@pytest.mark.parametrize("option", ["k", "auxk_k"])
def test_no_more_latents_are_asked_for_than_there_are(option):
    given = settings().model_dump(by_alias=True)
    Settings(**given | {option: given["m"]})
    with pytest.raises(ValueError, match=f"{option}\n.* 25 is larger than m = 24"):
        Settings(**given | {option: 25})


def test_picks_of_one_sample_are_not_taken_for_all():
    class OfOne(step.Objective):
        def pick(self, a):
            return of_each(a[:1], self.settings.k)

    s = settings(objective="of_one")
    with pytest.raises(
        UserError,
        match=r"objective of_one: pick\(\) returned picks of 1 samples, not of 64",
    ):
        OfOne(Coder(8, s.m, s.k), s, Options()).loss(data(), 0)


def test_values_that_are_no_activations_would_get_wrong_gradients():
    class Doubled(step.Objective):
        def pick(self, a):
            picks = of_each(a, self.settings.k)
            return replace(picks, values=2 * picks.values)

    coder, s = make_objective(data(), settings()).coder, settings(objective="doubled")
    with pytest.raises(
        UserError,
        match=r"objective doubled: pick\(\) returned values that are neither activations",
    ):
        Doubled(coder, s, Options()).loss(data().double(), 0)


@pytest.mark.parametrize("method", [{}, REG1 | {"lam": 0.3, "mask": "all"}])
def test_picks_may_be_of_the_first_latents_and_leave_places_empty(method):
    class Own(step.Objective):
        def pick(self, a):
            picks = of_each(a[:, :12], self.settings.k)
            return replace(
                picks, values=torch.where(picks.values > 0.3, picks.values, 0)
            )

    x, s = data().double(), settings(dead_after=10**9, **method)
    coder = make_objective(x, s).coder
    made = step.start(
        coder,
        s,
        types.SimpleNamespace(Objective=Own),
        off_support_l1 if method else None,
    )
    a = torch.relu((x - coder.b_dec) @ coder.W_enc + coder.b_enc)
    first = a * (torch.arange(24) < 12)
    z = first * kept_of_each(first.detach(), s.k) * (first > 0.3)
    assert len(set((z > 0).sum(dim=1).tolist())) > 1
    loss = (x - z @ coder.W_dec - coder.b_dec).square().sum(dim=1).mean()
    if method:
        loss = loss + s.lam * dense_penalty(s.penalty, a, z, torch.ones(24)).mean()
    same_gradients(coder, made.loss(x, 0)[0], loss)


def random_coder(**options):
    generator, coder = (
        torch.Generator().manual_seed(0),
        Coder(4, 10, 3, **options).double(),
    )
    for parameter in coder.parameters():
        parameter.data.copy_(torch.randn(parameter.shape, generator=generator))
    return coder, torch.randn(6, 4, dtype=torch.float64, generator=generator)


def same_gradients(coder, sparse, dense):
    weight = torch.rand(
        sparse.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1)
    )
    torch.testing.assert_close(sparse, dense)
    found, expected = (
        torch.autograd.grad(
            (of * weight).sum(),
            tuple(coder.parameters()),
            retain_graph=True,
            materialize_grads=True,
        )
        for of in (sparse, dense)
    )
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("starts", [None, [0, 3, 3, 7, 12, 12]])
def test_picks_have_the_gradients_of_the_dense_formula(starts, tied):
    coder, x = random_coder(tied=tied)
    flat, rows, shape = torch.arange(18) * 7 % 10, torch.arange(18) // 3, (6, 3)
    if starts is not None:
        starts, shape = torch.tensor(starts), (18,)
        rows = torch.bucketize(torch.arange(18), starts, right=True) - 1
    a = torch.relu((x - coder.b_dec) @ coder.W_enc + coder.b_enc)
    z = torch.zeros_like(a).index_put((rows, flat), a[rows, flat])
    picks = Picks(
        a.detach()[rows, flat].reshape(shape), flat.reshape(shape), 10, starts
    ).attach(coder, x)
    same_gradients(coder, picks.decode(coder.W_dec), z @ coder.W_dec)
    same_gradients(coder, picks.sums(), z.sum(dim=1))


def test_a_part_of_the_picks_has_gradients_of_its_own():
    """What the one has sorted for its gradients is not taken for the other's."""
    coder, x = random_coder()
    a = torch.relu((x - coder.b_dec) @ coder.W_enc + coder.b_enc)
    picks = of_each(a.detach(), 4).attach(coder, x)
    part = replace(picks, values=picks.values[:, 1:3], indices=picks.indices[:, 1:3])
    whole, some = (
        torch.zeros_like(a).scatter(1, p.indices, a.gather(1, p.indices))
        for p in (picks, part)
    )
    same_gradients(
        coder,
        picks.decode(coder.W_dec) + part.decode(coder.W_dec),
        (whole + some) @ coder.W_dec,
    )


@pytest.mark.parametrize("tied", [False, True])
def test_dense_activations_have_the_gradients_of_the_formula(tied):
    coder, x = random_coder(tied=tied)
    a = torch.relu((x - coder.b_dec) @ coder.W_enc + coder.b_enc)
    same_gradients(
        coder,
        compute_activations(coder, x, torch.float32, differentiable=True).square(),
        a.square(),
    )
    assert not compute_activations(
        coder, x, torch.float32, differentiable=False
    ).requires_grad


@pytest.mark.parametrize(
    ("m", "k"), [(512, 16), (512, 17), (96, 3), (100, 3), (64, 64)]
)
def test_the_largest_are_those_of_a_sort(m, k):
    a = torch.randn(20, m, generator=torch.Generator().manual_seed(0))
    a[3], a[5, 7:] = 0.0, -1.0
    values, places = largest(a, k)
    assert torch.equal(values, a.gather(1, places)) and all(
        len(set(row)) == k for row in places.tolist()
    )
    assert torch.equal(values.sort(dim=1).values, a.sort(dim=1).values[:, -k:])


def test_zero_valued_picks_did_not_fire():
    picks = Picks(
        torch.tensor([[0.5, 0.0], [0.0, 0.0]]), torch.tensor([[1, 2], [3, 1]]), 5
    )
    assert picks.fired().tolist() == [False, True, False, False, False]


def test_auxk_by_hand():
    coder = Coder(2, 3, 1)
    with torch.no_grad():
        coder.W_dec.copy_(torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.6, 0.8]]))
        coder.b_dec.copy_(torch.tensor([100.0, 100.0]))  # Takes no part.
    a, x = torch.tensor([[9.0, 2.0, 1.0]]), torch.tensor([[104.0, 100.0]])
    residual = torch.tensor([[0.0, 3.0]], requires_grad=True)
    loss = auxk_loss(coder, x, a, residual, torch.tensor([False, True, True]), 1)
    assert loss.item() == pytest.approx(1.0)  # (0, 3) - 2 (0, 1) = (0, 1)
    loss.backward()
    assert residual.grad is None
    torch.testing.assert_close(coder.b_enc.grad, torch.tensor([0.0, -2.0, 0.0]))
    torch.testing.assert_close(
        coder.encoder.grad.T, torch.tensor([[0.0, -8.0, 0.0], [0.0, 0.0, 0.0]])
    )


def test_auxk_without_dead_latents_is_zero(monkeypatch):
    monkeypatch.setattr(auxk, "dead_picks", dead_picks_masked)
    coder = Coder(2, 3, 1)
    a, residual = torch.rand(4, 3), torch.rand(4, 2)
    loss = auxk_loss(coder, residual, a, residual, torch.zeros(3, dtype=torch.bool), 2)
    loss.backward()
    assert loss.item() == 0 and not any(
        p.grad.any() for p in (coder.encoder, coder.b_enc, coder.W_dec)
    )


def test_bfloat16_rounds_the_products_and_keeps_the_weights():
    x, gradients = data(), []
    for precision in ("float32", "bfloat16"):
        made = make_objective(x, settings(precision=precision))
        made.coder.float()
        made.loss(x, 0)[0].backward()
        gradients.append(made.coder.encoder.grad)
        assert made.coder.W_enc.dtype == made.coder.encoder.grad.dtype == torch.float32
    assert not torch.equal(*gradients)
    assert (
        torch.nn.functional.cosine_similarity(*(g.flatten() for g in gradients), dim=0)
        > 0.995
    )


@pytest.mark.parametrize("method", [{}, REG1, REG2])
def test_bfloat16_rounds_of_the_gradient_only_what_a_penalty_adds(method):
    x, s = data(), settings(precision="bfloat16", dead_after=10**9, **method)
    made = make_objective(x, s)
    made.coder.float()
    made.loss(x, 0)[0].backward()
    rounded = made.coder.activations(x, torch.bfloat16).detach().double()
    coder, x = made.coder.double(), x.double()
    found = {name: p.grad for name, p in coder.named_parameters()}
    coder.zero_grad(set_to_none=True)
    pre = (x - coder.b_dec) @ coder.W_enc + coder.b_enc
    a = rounded + (pre - pre.detach()) * (
        rounded > 0
    )  # Its values, with the gradients of exact ones.
    z = a * kept_of_each(rounded, s.k)
    penalty = 0 * a
    if method:
        penalty = s.lam * dense_penalty(s.penalty, a, z, (z > 0).any(dim=0).double())
    (added,) = torch.autograd.grad(
        penalty.mean(), coder.encoder, retain_graph=True, materialize_grads=True
    )
    (
        (x - z @ coder.W_dec - coder.b_dec).square().sum(dim=1).mean() + penalty.mean()
    ).backward()
    for name, p in coder.named_parameters():
        error = (found[name] - p.grad).norm()
        assert error < 1e-6 * p.grad.norm() + (
            2**-8 * added.norm() if name == "encoder" else 0
        ), name


def test_a_latent_is_dead_as_soon_as_it_was_silent_for_so_many_samples():
    x = data().double()
    made = make_objective(x, settings(dead_after=len(x)))
    with torch.no_grad():
        made.coder.b_enc[:5] -= 9.0
    _, parts = made.loss(x, 0)
    assert parts["dead"] == (made.since_fired == len(x)).sum() >= 5

"""The step, its gradients and the loop, against plain dense formulas and hand-computed values."""

from dataclasses import replace

import pytest
import torch
from torch.nn import functional

from sae.models import inputs, saefile
from sae.models.coder import TopKSAE, gather_sum
from sae.training import loop as training
from sae.training.loop import (
    Diverged,
    Settings,
    auxk_loss,
    batches,
    dead_picks_masked,
    fired_latents,
    objective,
    remove_parallel,
    train,
)
from sae.training.penalties import l1_l2_ratio, off_support_l1

SETTINGS = Settings(
    m=24,
    k=3,
    lam=0.01,
    mask="batch_active",
    seed=0,
    epochs=4,
    batch_size=16,
    lr=0.01,
    adam_eps=1e-8,
    decay_fraction=0.2,
    auxk_alpha=0.5,
    auxk_k=5,
    dead_after=32,
    input_norm="unit_l2",
    tied=False,
    log_every=2,
)


def data(n=64, d=8, seed=0):
    x = torch.randn(n, d, generator=torch.Generator().manual_seed(seed))
    return functional.normalize(x, dim=1)


def make_sae(x, input_norm="none", tied=False, seed=1):
    sae = TopKSAE(x.shape[1], SETTINGS.m, SETTINGS.k, input_norm, tied).double()
    sae.initialise(x.mean(dim=0), seed)
    with torch.no_grad():
        for parameter in sae.parameters():  # Away from the symmetric start, b_d and b_e away from zero.
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(seed)))
    return sae


def dense_penalty(name, a, z, mask):
    """The paper's formulas, with (N, m) arrays and nothing clever."""
    if name == "off_support_l1":
        return (mask * (a - z)).abs().sum(dim=1)
    l1, l2 = (mask * a).abs().sum(dim=1), (mask * a).square().sum(dim=1).sqrt()
    return torch.stack([p / q if q > 0 else p * 0 for p, q in zip(l1, l2, strict=True)])


def dense_objective(sae, x, s, name, since_fired):
    """The whole loss, dense, straight from docs/protocol.md."""
    shift, scale = 0, 1
    if sae.layernorm:
        shift, scale = x.mean(dim=1, keepdim=True), x.std(dim=1, keepdim=True, correction=0)
    pi = ((x - shift) / scale - sae.b_dec) @ sae.encoder_weight() + sae.b_enc
    a = pi.clamp_min(0)
    kept = torch.zeros_like(a, dtype=torch.bool)
    for i in range(len(a)):
        kept[i, a[i].argsort(descending=True)[: s.k]] = True
    z = a * kept
    x_hat = (z @ sae.W_dec + sae.b_dec) * scale + shift
    loss = (x - x_hat).square().sum() / len(x)
    active = (z > 0).any(dim=0)
    if name:
        mask = active.double() if s.mask == "batch_active" else torch.ones_like(active).double()
        loss = loss + s.lam * dense_penalty(name, a, z, mask.detach()).sum() / len(x)
    dead = torch.where(active, 0, since_fired + len(x)) >= s.dead_after
    if dead.any():
        a_dead = a * dead
        aux_kept = torch.zeros_like(kept)
        for i in range(len(a)):
            aux_kept[i, a_dead[i].argsort(descending=True)[: s.auxk_k]] = True
        e_hat = (a_dead * aux_kept) @ sae.W_dec * scale
        loss = loss + s.auxk_alpha * ((x - x_hat).detach() - e_hat).square().sum() / len(x)
    return loss


@pytest.mark.parametrize("dead", [False, True, "without asking which"])
@pytest.mark.parametrize("name", [None, "off_support_l1", "l1_l2_ratio"])
@pytest.mark.parametrize(
    ("mask", "norm", "tied"), [("batch_active", "none", False), ("all", "unit_l2_layernorm", True)]
)
def test_loss_and_gradients_equal_the_dense_reference(name, mask, norm, tied, dead, monkeypatch):
    if dead == "without asking which":  # As on a GPU.
        monkeypatch.setattr(training, "dead_picks", dead_picks_masked)
    dead = bool(dead)
    x = data().double()
    s = replace(SETTINGS, mask=mask, lam=0.3, input_norm=norm, tied=tied)
    penalty = {None: None, "off_support_l1": off_support_l1.penalty, "l1_l2_ratio": l1_l2_ratio.penalty}[name]
    since = torch.zeros(s.m, dtype=torch.int64)
    if dead:  # Half the latents never fire in this batch, and have not for long.
        since[: s.m // 2] = 1000
    sae = make_sae(x, norm, tied)
    with torch.no_grad():
        sae.b_enc[: s.m // 2] -= 0.4 * dead
    loss, parts, _ = objective(sae, x, s, penalty, since)
    loss.backward()
    gradients = {n: p.grad.clone() for n, p in sae.named_parameters()}
    assert (parts["aux"] > 0) == dead
    sae.zero_grad()
    expected = dense_objective(sae, x, s, name, since)
    expected.backward()
    torch.testing.assert_close(loss, expected)
    for n, p in sae.named_parameters():
        torch.testing.assert_close(gradients[n], p.grad, msg=n)


@pytest.mark.parametrize("name", ["off_support_l1", "l1_l2_ratio"])
def test_regularizer_gradcheck(name):
    penalty = {"off_support_l1": off_support_l1.penalty, "l1_l2_ratio": l1_l2_ratio.penalty}[name]
    a = torch.rand(5, 9, dtype=torch.float64, generator=torch.Generator().manual_seed(3)) + 0.1
    mask = (torch.arange(9) % 3 > 0).double()
    indices = (a * mask).topk(2, dim=1).indices  # Picks are batch-active, as in training.

    def sparse(a):
        return penalty(a, a.gather(1, indices), indices, mask)

    z = torch.zeros_like(a).scatter(1, indices, a.gather(1, indices))
    torch.testing.assert_close(sparse(a), dense_penalty(name, a, z, mask))
    assert torch.autograd.gradcheck(sparse, a.requires_grad_())


def test_ratio_by_hand_and_zero_row():
    a = torch.tensor([[3.0, 4.0, 12.0], [0.0, 0.0, 5.0]], requires_grad=True)
    mask = torch.tensor([1.0, 1.0, 0.0])
    value = l1_l2_ratio.penalty(a, None, None, mask)
    torch.testing.assert_close(value, torch.tensor([7 / 5, 0.0]))
    value.sum().backward()
    expected = torch.tensor([[1 / 5 - 3 * 7 / 125, 1 / 5 - 4 * 7 / 125, 0.0], [0.0, 0.0, 0.0]])
    torch.testing.assert_close(a.grad, expected)


def test_gather_sum_gradcheck():
    g = torch.Generator().manual_seed(0)
    values = torch.rand(6, 3, dtype=torch.float64, generator=g, requires_grad=True)
    weight = torch.rand(10, 4, dtype=torch.float64, generator=g, requires_grad=True)
    indices = torch.stack([torch.randperm(10, generator=g)[:3] for _ in range(6)])
    assert torch.autograd.gradcheck(gather_sum, (values, indices, weight))


def test_zero_valued_picks_did_not_fire():
    values = torch.tensor([[0.5, 0.0], [0.0, 0.0]])
    indices = torch.tensor([[1, 2], [3, 1]])
    assert fired_latents(values, indices, 5).tolist() == [False, True, False, False, False]


def test_auxk_by_hand():
    sae = TopKSAE(2, 3, 1)
    with torch.no_grad():
        sae.W_dec.copy_(torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.6, 0.8]]))
        sae.b_dec.copy_(torch.tensor([100.0, 100.0]))  # Takes no part.
    a = torch.tensor([[9.0, 2.0, 1.0]], requires_grad=True)
    residual = torch.tensor([[0.0, 3.0]], requires_grad=True)
    loss = auxk_loss(sae, a, residual, None, torch.tensor([False, True, True]), 1)
    assert loss.item() == pytest.approx(1.0)  # (0, 3) - 2 (0, 1) = (0, 1)
    loss.backward()
    assert residual.grad is None
    torch.testing.assert_close(a.grad, torch.tensor([[0.0, -2.0, 0.0]]))


def test_auxk_without_dead_latents_is_zero(monkeypatch):
    monkeypatch.setattr(training, "dead_picks", dead_picks_masked)
    sae = TopKSAE(2, 3, 1)
    a, residual = torch.rand(4, 3, requires_grad=True), torch.rand(4, 2)
    loss = auxk_loss(sae, a, residual, None, torch.zeros(3, dtype=torch.bool), 2)
    loss.backward()
    assert loss.item() == 0 and not a.grad.any() and not sae.W_dec.grad.any()


def test_inputs_on_disk_train_the_same_sae(monkeypatch):
    stored, trained = data(n=200).numpy().astype("float16"), []
    for resident in (1 << 30, 0):
        monkeypatch.setattr(inputs, "RESIDENT", resident)
        x = inputs.open_inputs(stored, "unit_l2", 2.0)
        trained.append(train(x, replace(SETTINGS, input_norm="unit_l2_layernorm"), off_support_l1.penalty))
    assert isinstance(x, inputs.Inputs)
    (one, rows), (two, again) = trained
    assert all(torch.equal(p, q) for p, q in zip(one.parameters(), two.parameters(), strict=True)) and rows == again


def test_bfloat16_rounds_the_products_and_keeps_the_weights(monkeypatch):
    x, gradients = data(), []
    for precision in ("float32", "bfloat16"):
        sae = make_sae(x).float()
        loss, _, _ = objective(sae, x, replace(SETTINGS, precision=precision), None, torch.zeros(24, dtype=torch.int64))
        loss.backward()
        gradients.append(sae.W_enc.grad)
        assert sae.W_enc.dtype == sae.W_enc.grad.dtype == torch.float32
    assert not torch.equal(*gradients)
    assert functional.cosine_similarity(*(g.flatten() for g in gradients), dim=0) > 0.995


def test_every_epoch_is_a_fresh_permutation():
    epochs = {}
    for epoch, rows in batches(10, 3, 4, seed=5):
        epochs.setdefault(epoch, []).extend(rows.tolist())
    assert all(len(rows) == 9 == len(set(rows)) for rows in epochs.values())
    assert len({tuple(rows) for rows in epochs.values()}) == 4


def test_training_keeps_unit_rows_and_learns():
    x = data(n=400)
    sae, rows = train(x, replace(SETTINGS, epochs=20), off_support_l1.penalty)
    torch.testing.assert_close(sae.W_dec.norm(dim=1), torch.ones(SETTINGS.m))
    assert rows[-1]["r2"] > rows[0]["r2"] + 0.2
    assert rows[-1]["lr"] < rows[0]["lr"] / 10


def test_parallel_gradient_is_removed():
    weight = functional.normalize(torch.randn(4, 3), dim=1).requires_grad_()
    weight.grad = torch.randn(4, 3)
    remove_parallel(weight)
    torch.testing.assert_close((weight.grad * weight).sum(dim=1), torch.zeros(4), atol=1e-6, rtol=0)


def test_same_seed_same_bytes_and_evaluation_changes_nothing(tmp_path):
    x, files = data(), []
    for run in range(2):
        sae, _ = train(x, SETTINGS, l1_l2_ratio.penalty)
        if run:
            sae.encode(x)
        assert not list(sae.buffers())  # Nothing that an evaluation could count up.
        sae.metadata = {"k": 3, "input_norm": "unit_l2", "z": 1, "a": 2}
        saefile.save(sae, tmp_path / f"{run}.safetensors")
        files.append((tmp_path / f"{run}.safetensors").read_bytes())
    assert files[0] == files[1]
    assert not torch.equal(sae.W_dec, train(x, replace(SETTINGS, seed=1), l1_l2_ratio.penalty)[0].W_dec)


def test_tied_encoder_survives_saving(tmp_path):
    sae, _ = train(data(), replace(SETTINGS, tied=True))
    sae.metadata = {"k": 3, "input_norm": "unit_l2"}
    saefile.save(sae, tmp_path / "sae.safetensors")
    loaded = saefile.load(tmp_path / "sae.safetensors")
    for got, expected in zip(loaded.encode(data()), sae.encode(data()), strict=True):
        torch.testing.assert_close(got, expected)


def test_divergence_is_reported_with_its_step():
    with pytest.raises(Diverged) as caught:
        train(data(), replace(SETTINGS, lr=1e30))
    assert 0 < caught.value.step < 16
    assert len(caught.value.rows) >= 1

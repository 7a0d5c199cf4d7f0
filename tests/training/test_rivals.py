"""The rivals' losses and gradients against dense formulas in float64, written from the papers' equations."""

import types
from itertools import accumulate

import numpy as np
import pytest
import torch
from scoring.examples import ms_by_definition
from training.common import (
    data,
    dense_penalty,
    dense_rest,
    entries,
    kept_of_batch,
    kept_of_each,
    make_objective,
    settings,
)

from sae.core import registry
from sae.core.options import Options
from sae.models import saefile
from sae.models.coder import Threshold, TopK
from sae.training import loop, step
from sae.training.loop import train
from sae.training.penalties import (
    both,
    decoder_orthogonality,
    l1_l2_ratio,
    monoloss,
    off_support_l1,
)
from sae.training.picks import Picks, of_batch, of_each

K, M = 3, 24


def dense(coder, x):
    """(N, m) activations."""
    return ((x - coder.b_dec) @ coder.W_enc + coder.b_enc).clamp_min(0)


def error(coder, x, z):
    """The mean squared error of codes (N, m)."""
    return (x - z @ coder.W_dec - coder.b_dec).square().sum() / len(x)


def matryoshka(coder, x, shares=(0.0625, 0.0625, 0.125, 0.25, 0.5)):
    a = dense(coder, x)
    z = a * kept_of_batch(a.detach(), K)
    ends = [max(1, round(M * share)) for share in accumulate(shares)]
    return sum(
        error(coder, x, z * (torch.arange(M) < end)) for end in sorted(set(ends))
    ) / len(set(ends))


def multi_topk(coder, x, ratio=4.0, weight=0.125):
    a = dense(coder, x)
    at_k, more = (
        error(coder, x, a * kept_of_each(a.detach(), k)) for k in (K, round(ratio * K))
    )
    return at_k + weight * more


def hierarchical_topk(coder, x, budgets=(1, 2, 3)):
    a = dense(coder, x)
    return sum(error(coder, x, a * kept_of_each(a.detach(), k)) for k in budgets) / len(
        budgets
    )


def assert_same_gradients(coder, loss, expected):
    torch.testing.assert_close(loss, expected)
    names, parameters = zip(*coder.named_parameters(), strict=True)
    found, wanted = (
        torch.autograd.grad(value, parameters) for value in (loss, expected)
    )
    for name, ours, theirs in zip(names, found, wanted, strict=True):
        torch.testing.assert_close(ours, theirs, msg=name)


@pytest.mark.parametrize(
    ("objective", "options", "reference"),
    [
        (
            "matryoshka",
            {"momentum": 0.9, "shares": [0.0625, 0.0625, 0.125, 0.25, 0.5]},
            matryoshka,
        ),
        (
            "matryoshka",
            {"momentum": None, "shares": [0.5, 0.5]},
            lambda c, x: matryoshka(c, x, (0.5, 0.5)),
        ),
        ("multi_topk", {"ratio": 4.0, "weight": 0.125}, multi_topk),
        (
            "multi_topk",
            {"ratio": 100.0, "weight": 1.0},
            lambda c, x: multi_topk(c, x, M / K, 1.0),
        ),
        ("hierarchical_topk", {"budgets": None}, hierarchical_topk),
        (
            "hierarchical_topk",
            {"budgets": [9, 2]},
            lambda c, x: hierarchical_topk(c, x, (2, 3)),
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
    made = make_objective(x, s)
    coder = made.coder
    if dead:  # Half the latents never fire in this batch, and have not for long.
        made.since_fired[: M // 2] = 1000
        with torch.no_grad():
            coder.b_enc[: M // 2] -= 0.9
    since = made.since_fired.clone()
    loss, parts = made.loss(x, 0)
    a = dense(coder, x)
    z = a * (kept_of_batch if objective == "matryoshka" else kept_of_each)(
        a.detach(), K
    )
    residual = x - z @ coder.W_dec - coder.b_dec
    torch.testing.assert_close(
        parts["reconstruction"], residual.square().sum() / len(x)
    )
    assert (parts["aux"] > 0) == dead
    # Of the whole dictionary: AuxK and the penalty see the code of all levels, budgets or ks.
    assert_same_gradients(
        coder, loss, reference(coder, x) + dense_rest(coder, s, a, z, residual, since)
    )


def pairs_of_images(a, z, x, coder):
    """One minus MonoLoss' score of a batch, pair by pair of images."""
    e = torch.nn.functional.normalize(x, dim=1)
    apart = 1 - torch.eye(len(x), dtype=x.dtype)
    scaled = [
        (column - column.min()) / (column.max() - column.min())
        for column in z.T
        if (column > 0).sum() > 1
    ]
    weights = [apart * torch.outer(column, column) for column in scaled]
    return 1 - sum((w * (e @ e.T)).sum() / w.sum() for w in weights) / len(weights)


def nearest_rows(a, z, x, coder):
    """The mean over latents of their highest cosine with another, squared."""
    rows = coder.W_dec / coder.W_dec.norm(dim=1, keepdim=True)
    return (
        sum(max(rows[i] @ rows[j] for j in range(M) if j != i) ** 2 for i in range(M))
        / M
    )


def two_regularizers(a, z, x, coder):
    """Off-support l1 and a quarter of the ratio, over the latents that are active in the batch."""
    mask = (z > 0).any(dim=0).double()
    return (
        dense_penalty("off_support_l1", a, z, mask)
        + 0.25 * dense_penalty("l1_l2_ratio", a, z, mask)
    ).mean()


@pytest.mark.parametrize("objective", ["topk", "batch_topk"])
@pytest.mark.parametrize(
    ("penalty", "options", "reference"),
    [
        ("monoloss", {}, pairs_of_images),
        ("decoder_orthogonality", {"chunk": M}, nearest_rows),
        ("both", {"ratio_weight": 0.25}, two_regularizers),
    ],
)
def test_a_penalty_within_the_whole_loss(objective, penalty, options, reference):
    x = data().double()
    options = options | ({"momentum": None} if objective == "batch_topk" else {})
    s = settings(
        objective=objective,
        options=options,
        penalty=penalty,
        mask="batch_active",
        lam=0.3,
        dead_after=500,
    )
    made = make_objective(x, s)
    coder = made.coder
    loss, _ = made.loss(x, 0)
    a = dense(coder, x)
    z = a * (kept_of_batch if objective == "batch_topk" else kept_of_each)(
        a.detach(), K
    )
    assert_same_gradients(
        coder, loss, error(coder, x, z) + 0.3 * reference(a, z, x, coder)
    )


@pytest.mark.parametrize(
    ("k", "budgets"),
    [
        (32, [4, 8, 12, 16, 20, 24, 28, 32]),
        (3, [1, 2, 3]),
        (10, [2, 3, 4, 5, 7, 8, 9, 10]),
    ],
)
def test_budgets_are_the_eighths_of_k(k, budgets):
    x = data().double()
    made = make_objective(
        x, settings(objective="hierarchical_topk", options={"budgets": None}, m=64, k=k)
    )
    assert made.budgets == budgets


@pytest.mark.parametrize(("theta", "bandwidth"), [(0.2, 0.15), (0.01, 0.05)])
def test_jumprelu_is_the_papers_loss_with_its_estimated_gradients(theta, bandwidth):
    """With the second, the defaults, the window reaches below 0: latents that are silent do not move thresholds."""
    x = data().double()
    options = {"sparsity": 0.7, "theta": theta, "bandwidth": bandwidth}
    made = make_objective(
        x, settings(objective="jumprelu", options=options, dead_after=500)
    )
    coder, theta = made.coder, made.theta
    with torch.no_grad():
        theta.mul_(
            1
            + 0.5
            * torch.rand(
                M, generator=torch.Generator().manual_seed(2), dtype=theta.dtype
            )
        )
    loss, parts = made.loss(x, 0)
    names, parameters = zip(*coder.named_parameters(), ("theta", theta), strict=True)
    gradients = dict(zip(names, torch.autograd.grad(loss, parameters), strict=True))
    a = dense(coder, x)
    above = (a > theta).detach()
    z = a * above
    z.retain_grad()
    l0 = above.sum() / len(x)
    torch.testing.assert_close(loss, error(coder, x, z) + 0.7 * (l0 / K - 1) ** 2)
    assert parts["l0"] == l0 and parts["sparsity"] > 0
    error(coder, x, z).backward()
    for n, p in coder.named_parameters():
        torch.testing.assert_close(gradients[n], p.grad, msg=n)
    pi = (x - coder.b_dec) @ coder.W_enc + coder.b_enc
    window = ((pi > 0) & ((pi - theta).abs() / bandwidth < 0.5)).detach()
    assert window.sum() > 10 and (a == 0).any()
    of_z = (z.grad * -(theta / bandwidth) * window).sum(dim=0)
    of_l0 = 2 * 0.7 * (l0 / K - 1) / K * (-1 / bandwidth) * window.sum(dim=0) / len(x)
    torch.testing.assert_close(gradients["theta"], of_z.detach() + of_l0)


def test_the_l1_norm_is_weighed():
    x = data().double()
    coder = (
        made := make_objective(
            x, settings(objective="relu_l1", options={"weight": 0.05}, dead_after=500)
        )
    ).coder
    a = dense(coder, x)
    expected = error(coder, x, a) + 0.05 * (a * coder.W_dec.norm(dim=1)).sum() / len(x)
    assert_same_gradients(coder, made.loss(x, 0)[0], expected)


@pytest.mark.parametrize(
    ("objective", "size"), [("jumprelu", 1e-3), ("jumprelu", 1e3), ("relu_l1", 1e3)]
)
def test_all_gradients_together_have_at_most_norm_1(objective, size, monkeypatch):
    """At each step, also where a part is frozen."""
    entry, seen = registry.load("objective", objective), []

    class Scaled(entry.Objective):
        def loss(self, x, step):
            loss, parts = super().loss(x, step)
            learning = [
                p
                for p in (*self.coder.parameters(), *self.parameters())
                if p.requires_grad
            ]
            seen.append(
                [
                    size * g
                    for g in torch.autograd.grad(loss, learning, retain_graph=True)
                ]
            )
            return size * loss, parts

    def step(self):
        for p, g in zip(self.param_groups[0]["params"], seen[-1], strict=True):
            norm = sum(g.square().sum() for g in seen[-1]) ** 0.5
            torch.testing.assert_close(p.grad, g / max(1, norm), rtol=1e-4, atol=1e-9)
            assert (norm > 1) == (size > 1)

    monkeypatch.setattr(torch.optim.Adam, "step", step)
    monkeypatch.setattr(loop, "remove_parallel", lambda weight: None)
    s = settings(
        objective=objective,
        options=THRESHOLDS[objective],
        dead_after=500,
        steps=2,
        frozen="encoder",
    )
    train(data(), s, types.SimpleNamespace(Objective=Scaled, Options=entry.Options))
    assert len(seen) == 2


def test_a_threshold_below_0_comes_back():
    """There no latent that is silent counts as active."""
    x = data().double()
    made = make_objective(
        x,
        settings(objective="jumprelu", options=THRESHOLDS["jumprelu"], dead_after=500),
    )
    with torch.no_grad():
        made.theta[:5] = -0.03
    _, parts = made.loss(x, 0)
    assert (made.theta[:5] == 0).all() and made.theta.requires_grad
    l0 = (dense(made.coder, x) > made.theta).sum() / len(x)
    assert parts["l0"] == l0
    assert parts["sparsity"].item() == pytest.approx((l0.item() / K - 1) ** 2)


THRESHOLDS = {
    "jumprelu": {"sparsity": 1.0, "theta": 0.01, "bandwidth": 0.05},
    "relu_l1": {"weight": 0.3},
}
BUDGETS = {
    "matryoshka": {"momentum": 0.99, "shares": [0.25, 0.25, 0.5]},
    "multi_topk": {"ratio": 4.0, "weight": 0.125},
    "hierarchical_topk": {"budgets": None},
}


@pytest.mark.parametrize(
    ("objective", "options"), [*THRESHOLDS.items(), *BUDGETS.items()]
)
def test_trained_it_reconstructs_keeps_its_budget_and_survives_its_file(
    objective, options, tmp_path
):
    x = data(n=800, d=12)
    s = settings(objective=objective, options=options, epochs=40)
    coder, rows = train(x, s, *entries(s))
    assert rows[-1]["r2"] > max(0.3, rows[0]["r2"])
    saefile.save(coder, tmp_path / "sae.safetensors")
    loaded = saefile.load(tmp_path / "sae.safetensors")
    codes = loaded.encode(x)
    if objective in ("multi_topk", "hierarchical_topk"):
        assert isinstance(loaded.select, TopK) and (codes.lengths() <= K).all()
    else:
        assert isinstance(loaded.select, Threshold) and abs(codes.l0() - K) <= 0.005 * K
    if objective in THRESHOLDS:
        assert (
            rows[-1]["l0"] < 2.5 * K
        )  # The loss alone has brought it near, before thresholds are set to the budget.
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


def batch(a, picks, x=None, coder=None, number=0, options=None):
    return step.Batch(
        x,
        a,
        picks,
        torch.ones(a.shape[1]).double(),
        coder,
        number,
        options or Options(),
    )


@pytest.mark.parametrize("select", [of_each, of_batch])
def test_monoloss_is_one_minus_the_mean_score_of_the_batch(select):
    generator = torch.Generator().manual_seed(0)
    a = torch.rand(20, 9, dtype=torch.float64, generator=generator) * (
        torch.rand(20, 9, generator=generator) < 0.6
    )
    a[:, 4] = 0
    a[3:, 5], a[0, 5] = 0, 9.0  # Fires on few images, on one strongly.
    x = torch.randn(20, 6, dtype=torch.float64, generator=generator)
    picks = select(a, 4)
    z = picks.dense()
    kept = (kept_of_each if select is of_each else kept_of_batch)(a, 4)
    torch.testing.assert_close(z, a * kept)
    expected = 1 - np.nanmean(ms_by_definition(z.numpy(), x.numpy()))
    options = monoloss.Options()
    value = monoloss.penalty(batch(a, picks, x, options=options))
    assert value.shape == (20,) and value.unique().numel() == 1
    assert value[0].item() == pytest.approx(expected, rel=1e-6)

    def of_values(values):
        return monoloss.penalty(
            batch(a, Picks(values, picks.indices, 9, picks.starts), x, options=options)
        )[0]

    # Away from ties and zeros, where the extremes of a latent are no functions with a slope.
    inside = torch.where(
        picks.values > 0, picks.values + 0.01 * torch.rand_like(picks.values), 0.3
    )
    assert torch.autograd.gradcheck(of_values, inside.requires_grad_())


def test_orthogonality_by_brute_force():
    x = data().double()
    coder = make_objective(x, settings()).coder
    a = dense(coder, x).detach()
    whole = decoder_orthogonality.penalty(
        batch(a, None, coder=coder, options=decoder_orthogonality.Options(chunk=99))
    )
    expected = nearest_rows(a, None, x, coder)
    assert whole.shape == (len(x),)
    torch.testing.assert_close(whole[0], expected)
    ours, theirs = (
        torch.autograd.grad(value, coder.W_dec, retain_graph=True)[0]
        for value in (whole[0], expected)
    )
    torch.testing.assert_close(ours, theirs)
    # In chunks, drawn anew at each step, a latent meets fewer others.
    chunks = [
        decoder_orthogonality.penalty(
            batch(
                a,
                None,
                coder=coder,
                number=n,
                options=decoder_orthogonality.Options(chunk=6),
            )
        )
        for n in (0, 0, 1)
    ]
    assert chunks[0][0] == chunks[1][0] != chunks[2][0] and all(
        c[0] <= whole[0] for c in chunks
    )


def test_both_regularizers_are_their_weighted_sum():
    a = torch.rand(
        5, 9, dtype=torch.float64, generator=torch.Generator().manual_seed(3)
    )
    seen = batch(a, of_each(a, 2), options=both.Options(ratio_weight=0.25))
    torch.testing.assert_close(
        both.penalty(seen),
        off_support_l1.penalty(seen) + 0.25 * l1_l2_ratio.penalty(seen),
    )

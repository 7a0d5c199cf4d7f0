"""BatchTopK: the threshold in training and after it; the loss is tested in test_step.py."""

import logging

import numpy as np
import pytest
import torch
from torch.nn import functional
from training.common import data, dense_loss, entries, make_objective, settings

from sae.models import saefile
from sae.models.coder import Coder, Threshold
from sae.training.calibrate import calibrate
from sae.training.loop import train


@pytest.mark.parametrize("momentum", [None, 0.9])
def test_the_estimate_is_the_mean_of_the_smallest_kept_and_evaluation_leaves_it_alone(
    momentum,
):
    s = settings(objective="batch_topk", options={"momentum": momentum})
    x = data(n=320).double()
    made, smallest = make_objective(x, s), []
    assert made.threshold.dtype == torch.float64
    for step, part in enumerate(x.split(16)):
        smallest.append(dense_loss(made.coder, part, s, made.since_fired)[1])
        made.loss(part, step)
    expected = 0.0
    for n, value in enumerate(smallest, 1):
        expected += (value - expected) * (
            1 / n if momentum is None else max(1 / n, 0.1)
        )
    assert (
        made.threshold.item() == pytest.approx(expected, rel=1e-12) and made.seen == 20
    )
    before = {
        name: value.clone()
        for name, value in vars(made).items()
        if isinstance(value, torch.Tensor)
    }
    coder = made.finish(x)
    coder.encode(x), coder.largest(x, 5), coder.reconstruct(x, coder.encode(x))
    assert before.keys() == {"since_fired", "threshold", "seen"}
    assert all(
        torch.equal(getattr(made, name), value) for name, value in before.items()
    )
    assert coder.metadata["threshold_uncalibrated"] == pytest.approx(
        expected, rel=1e-12
    )
    with torch.no_grad():  # No positive activation in the batch: the estimate stays.
        coder.b_enc.fill_(-100)
    made.loss(x[:16], 20)
    assert (
        made.threshold.item() == pytest.approx(expected, rel=1e-12) and made.seen == 20
    )


@pytest.mark.parametrize("norm", ["unit_l2", "unit_l2_layernorm"])
def test_trained_finished_and_saved_it_codes_an_image_alone_as_in_any_batch(
    norm, tmp_path
):
    x = data(n=600)
    s = settings(objective="batch_topk", input_norm=norm, epochs=10)
    coder, rows = train(x, s, *entries(s))
    assert rows[-1]["threshold"] == coder.metadata["threshold_uncalibrated"] > 0
    saefile.save(coder, tmp_path / "sae.safetensors")
    loaded = saefile.load(tmp_path / "sae.safetensors")
    assert (
        isinstance(loaded.select, Threshold)
        and loaded.metadata["select"] == "threshold"
        and loaded.k == 3
    )
    assert (
        torch.equal(loaded.select.theta, coder.select.theta)
        and (loaded.select.theta > 0).all()
    )
    whole = loaded.encode(x)
    assert abs(whole.l0() - 3) <= 0.005 * 3 and len(set(whole.lengths())) > 1
    new = data(n=50, seed=7)
    together = coder.encode(torch.cat([x[:13], new]))
    for i in range(50):
        alone, among = loaded.encode(new[i : i + 1]), together.rows(13 + i, 14 + i)
        np.testing.assert_array_equal(alone.indices, among.indices)
        np.testing.assert_allclose(alone.values, among.values, rtol=1e-5)


def coder_of(m=40, d=12, k=5, seed=0):
    coder = Coder(d, m, k)
    coder.initialise(torch.zeros(d), seed)
    return coder


@pytest.mark.parametrize("k", [1, 5, 11.3])
def test_calibration_equals_brute_force(k):
    coder, x = (
        coder_of(),
        functional.normalize(
            torch.randn(5000, 12, generator=torch.Generator().manual_seed(1)), dim=1
        ),
    )
    a = torch.cat(list(coder.activations_by_chunk(x)))
    values = a[a > 0].sort(descending=True).values
    wanted = round(k * 5000)
    theta = calibrate(coder, x, torch.ones(40), k)
    assert (
        theta.unique().numel() == 1 and values[wanted] <= theta[0] < values[wanted - 1]
    )
    assert int((a > theta).sum()) == wanted
    assert len(coder.encode(x, Threshold(theta)).values) == wanted
    # A threshold for each latent keeps its proportions.
    each = torch.rand(40, generator=torch.Generator().manual_seed(2)) + 0.1
    scaled = calibrate(coder, x, each, k)
    torch.testing.assert_close(scaled / each, (scaled / each)[:1].expand(40))
    ratios = (a.double() / each.double()).flatten().sort(descending=True).values
    assert (
        ratios[wanted] <= (scaled / each).max() * (1 + 1e-6)
        and (scaled / each).min() * (1 - 1e-6) < ratios[wanted - 1]
    )
    assert abs(int((a > scaled).sum()) - wanted) <= 1
    # No factor moves a zero: it counts as the smallest, and all as equal ones.
    least = each[8:].min()
    some = calibrate(coder, x, torch.cat([torch.zeros(8), each[8:]]), k)
    assert torch.equal(
        some, calibrate(coder, x, torch.cat([least.expand(8), each[8:]]), k)
    )
    assert abs(int((a > some).sum()) - wanted) <= 1
    assert torch.equal(calibrate(coder, x, torch.zeros(40), k), theta)


def test_calibration_of_equal_and_of_too_few_activations(caplog):
    coder = coder_of(m=4, d=2)
    with torch.no_grad():
        coder.W_enc.copy_(torch.tensor([[1.0, 0.0, -1.0, -2.0], [0.0, 1.0, 0.0, -2.0]]))
    x = torch.tensor(
        [[2.0, 1.0], [1.0, 1.0], [1.0, 3.0], [0.0, 0.0]]
    )  # Active: 3, 2 and four times 1.
    budgets = (0.25, 0.5, 0.75, 1.0, 1.25, 1.5)
    with caplog.at_level(logging.WARNING):
        kept = [
            int((x > calibrate(coder, x, torch.ones(4), k)[0]).sum()) for k in budgets
        ]
    assert kept == [1, 2, 2, 6, 6, 6]
    assert "equal activations" in caplog.text
    assert (
        calibrate(coder, x, torch.ones(4), 2).tolist() == [0.0] * 4
        and "fewer than k = 2" in caplog.text
    )

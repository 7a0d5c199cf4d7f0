"""The threshold of BatchTopK, in training and after it, and calibration.

The loss of BatchTopK is tested in test_step.py.
"""

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
    objective = make_objective(x, s)
    assert objective.threshold.dtype == torch.float64
    smallest_kept = []
    for step, batch in enumerate(x.split(16)):
        _, smallest = dense_loss(objective.coder, batch, s, objective.since_fired)
        smallest_kept.append(smallest)
        objective.loss(batch, step)

    expected = 0.0
    for n, smallest in enumerate(smallest_kept, 1):
        rate = 1 / n if momentum is None else max(1 / n, 0.1)
        expected += (smallest - expected) * rate
    assert objective.threshold.item() == pytest.approx(expected, rel=1e-12)
    assert objective.batch_count == 20

    # Evaluation changes nothing.
    before = {
        name: value.clone()
        for name, value in vars(objective).items()
        if isinstance(value, torch.Tensor)
    }
    assert before.keys() == {"since_fired", "threshold", "batch_count"}
    coder = objective.finish(x)
    coder.largest(x, 5)
    coder.reconstruct(x, coder.encode(x))
    for name, value in before.items():
        assert torch.equal(getattr(objective, name), value)
    uncalibrated = coder.metadata["threshold_uncalibrated"]
    assert uncalibrated == pytest.approx(expected, rel=1e-12)

    # A batch without a positive activation leaves the estimate as it is.
    with torch.no_grad():
        coder.b_enc.fill_(-100)
    objective.loss(x[:16], 20)
    assert objective.threshold.item() == pytest.approx(expected, rel=1e-12)
    assert objective.batch_count == 20


@pytest.mark.parametrize("norm", ["unit_l2", "unit_l2_layernorm"])
def test_a_trained_and_saved_coder_encodes_an_image_alone_as_in_any_batch(
    norm, tmp_path
):
    x = data(n=600)
    s = settings(objective="batch_topk", input_norm=norm, epochs=4)
    coder, rows = train(x, s, *entries(s))
    assert rows[-1]["threshold"] == coder.metadata["threshold_uncalibrated"] > 0
    saefile.save(coder, tmp_path / "sae.safetensors")
    loaded = saefile.load(tmp_path / "sae.safetensors")
    assert isinstance(loaded.select, Threshold)
    assert loaded.metadata["select"] == "threshold"
    assert loaded.k == 3
    assert torch.equal(loaded.select.theta, coder.select.theta)
    assert (loaded.select.theta > 0).all()
    codes = loaded.encode(x)
    assert abs(codes.l0() - 3) <= 0.005 * 3
    assert len(set(codes.lengths())) > 1

    new = data(n=50, seed=7)
    codes_of_batch = coder.encode(torch.cat([x[:13], new]))
    for i in range(50):
        alone = loaded.encode(new[i : i + 1])
        in_batch = codes_of_batch.rows(13 + i, 14 + i)
        np.testing.assert_array_equal(alone.indices, in_batch.indices)
        np.testing.assert_allclose(alone.values, in_batch.values, rtol=1e-5)


def make_coder(m=40, d=12, k=5, seed=0):
    """Return a coder as it is initialised, whose biases are 0."""
    coder = Coder(d, m, k)
    coder.initialise(torch.zeros(d), seed)
    return coder


@pytest.mark.parametrize("k", [1, 5, 11.3])
def test_calibration_equals_brute_force(k):
    coder = make_coder()
    generator = torch.Generator().manual_seed(1)
    x = functional.normalize(torch.randn(5000, 12, generator=generator), dim=1)
    a = torch.cat(list(coder.activations_by_chunk(x)))
    values = a[a > 0].sort(descending=True).values
    target = round(k * 5000)

    theta = calibrate(coder, x, torch.ones(40), k)
    assert theta.unique().numel() == 1
    assert values[target] <= theta[0] < values[target - 1]
    assert int((a > theta).sum()) == target
    assert len(coder.encode(x, Threshold(theta)).values) == target

    # Thresholds that differ keep their proportions.
    unequal = torch.rand(40, generator=torch.Generator().manual_seed(2)) + 0.1
    scaled = calibrate(coder, x, unequal, k)
    factors = scaled / unequal
    torch.testing.assert_close(factors, factors[:1].expand(40))
    ratios = (a.double() / unequal.double()).flatten().sort(descending=True).values
    assert ratios[target] <= factors.max() * (1 + 1e-6)
    assert factors.min() * (1 - 1e-6) < ratios[target - 1]
    assert abs(int((a > scaled).sum()) - target) <= 1

    # No factor moves a zero: it counts as the smallest, and all as equal ones.
    positive = unequal[8:]
    with_zeros = torch.cat([torch.zeros(8), positive])
    with_smallest = torch.cat([positive.min().expand(8), positive])
    scaled = calibrate(coder, x, with_zeros, k)
    assert torch.equal(scaled, calibrate(coder, x, with_smallest, k))
    assert abs(int((a > scaled).sum()) - target) <= 1
    assert torch.equal(calibrate(coder, x, torch.zeros(40), k), theta)


def test_calibration_warns_of_equal_and_of_too_few_activations(caplog):
    coder = make_coder(m=4, d=2)
    with torch.no_grad():
        coder.W_enc.copy_(torch.tensor([[1.0, 0.0, -1.0, -2.0], [0.0, 1.0, 0.0, -2.0]]))
    # The activations above 0 are 3, 2 and four times 1.
    x = torch.tensor([[2.0, 1.0], [1.0, 1.0], [1.0, 3.0], [0.0, 0.0]])
    kept_counts = []
    with caplog.at_level(logging.WARNING):
        for k in (0.25, 0.5, 0.75, 1.0, 1.25, 1.5):
            threshold = calibrate(coder, x, torch.ones(4), k)[0]
            kept_counts.append(int((x > threshold).sum()))
    assert kept_counts == [1, 2, 2, 6, 6, 6]
    assert "equal activations" in caplog.text
    assert calibrate(coder, x, torch.ones(4), 2).tolist() == [0.0] * 4
    assert "fewer than k = 2" in caplog.text

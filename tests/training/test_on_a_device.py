"""Training elsewhere than on the CPU: on `support/pretend_device.py`.

On a CPU two things are done in another way. `picks.largest` looks at groups of latents
first, so that picks come in another order, and AuxK touches the columns of dead latents
alone. Both change the order of sums, and so the last digits.
"""

import functools
from collections import Counter
from dataclasses import dataclass
from itertools import pairwise
from unittest import mock

import pytest
import torch
from support.pretend_device import (
    CUDA,
    DEVICE,
    MPS,
    TO_DEVICE,
    pretend_device,
)
from training.common import data, entries, settings

from sae.core import registry
from sae.models import inputs
from sae.models.coder import Threshold
from sae.training import loop, picks
from sae.training import step as training_step
from sae.training.calibrate import calibrate

OPTIONS = {"axes": {"basis": "principal"}}
# Nothing is computed for what was made elsewhere.
OBJECTIVES = [
    name
    for name in registry.names("objective")
    if not registry.head("objective", name).constants.get("MADE_ELSEWHERE")
]
TRAINED = [
    name
    for name in OBJECTIVES
    if registry.head("objective", name).constants.get("TRAINS", True)
]
METHODS = [(name, None) for name in OBJECTIVES]
METHODS += [("topk", name) for name in registry.names("penalty")]
# Theirs is a mean over steps in float64, and on MPS in float32.
ESTIMATING_A_THRESHOLD = ["batch_topk", "matryoshka"]
PRECISIONS = ["float32", "bfloat16"]
# What an entry waits for in each step. All others wait for nothing.
WAITS_OF_A_STEP = {
    # Their codes have any length, and the host asks how long they are.
    "jumprelu": Counter(nonzero=1),
    "relu_l1": Counter(nonzero=1),
    # It draws its chunks on the CPU, so that they are the same on every device.
    "decoder_orthogonality": Counter({TO_DEVICE: 1}),
}
IMAGES = 12
STEPS = 6


def recipe(objective, penalty=None, **changes):
    """Return settings of two epochs; a latent that is silent in one batch is dead."""
    values = {"m": 64, "k": 4, "epochs": 2, "batch_size": 4, "log_every": 3}
    values |= {"dead_after": 4, "input_norm": "unit_l2_layernorm"}
    if penalty is not None:
        values |= {"penalty": penalty, "mask": "batch_active", "lam": 0.1}
    options = OPTIONS.get(objective, {})
    return settings(objective=objective, options=options, **values | changes)


def tensors_and_log(x, s):
    """Train on prepared inputs; return the coder's tensors, on the CPU, and the log."""
    coder, rows = loop.train(x, s, *entries(s))
    return coder.tensors(), rows


@dataclass
class DeviceRun:
    """An SAE that was trained on the device.

    Attributes:
        tensors: of the coder, by name.
        rows: of the log.
        waits_for_rows: for each step what is waited for until its images are chosen.
        waits_in_step: for each step what is waited for in the rest of it.
    """

    tensors: dict
    rows: list
    waits_for_rows: list
    waits_in_step: list


@functools.cache
def train_on_device(objective, penalty, precision, place):
    """Train on a device, once for all tests; returns a `DeviceRun`."""
    counts = []

    def watch(*arguments):
        counts.append(Counter(device.waits))
        for batch in draw_batches(*arguments):
            counts.append(Counter(device.waits))
            yield batch
            counts.append(Counter(device.waits))

    draw_batches = loop.batches
    with pretend_device(place) as device, mock.patch.object(loop, "batches", watch):
        x = data(n=IMAGES).to(place)
        trained = tensors_and_log(x, recipe(objective, penalty, precision=precision))
    waits = [after - before for before, after in pairwise(counts)]
    return DeviceRun(*trained, waits[::2], waits[1::2])


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize(("objective", "penalty"), METHODS)
def test_a_device_trains_the_sae_of_a_cpu(objective, penalty, precision, monkeypatch):
    x = data(n=IMAGES)
    s = recipe(objective, penalty, precision=precision)
    run = train_on_device(objective, penalty, precision, MPS)
    on_cpu, cpu_rows = tensors_and_log(x, s)
    if precision == "float32":
        torch.testing.assert_close(run.tensors, on_cpu, rtol=0, atol=1e-5)
        for row, cpu_row in zip(run.rows, cpu_rows, strict=True):
            assert row == pytest.approx(cpu_row, rel=1e-5, abs=1e-5)
    else:
        # A weight's last digit may decide to which bfloat16 it is rounded.
        assert run.rows[-1]["r2"] == pytest.approx(cpu_rows[-1]["r2"], abs=0.01)
    if objective in TRAINED:
        assert max(row["dead"] for row in run.rows) > 0
        assert max(row["aux"] for row in run.rows) > 0

    # Where a CPU goes the device's way, nothing differs.
    monkeypatch.setattr(picks, "_GROUP", s.m * s.batch_size + 1)
    monkeypatch.setattr(training_step, "dead_picks", training_step.dead_picks_masked)
    same_way, same_rows = tensors_and_log(x, s)
    torch.testing.assert_close(run.tensors, same_way, rtol=0, atol=0)
    for row, same_row in zip(run.rows, same_rows, strict=True):
        if objective in ESTIMATING_A_THRESHOLD:
            estimate, same_estimate = row["threshold"], same_row["threshold"]
            assert estimate == pytest.approx(same_estimate, rel=1e-6)
            row = row | {"threshold": same_estimate}
        assert row == same_row


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize(
    ("objective", "penalty"),
    [method for method in METHODS if method[0] in TRAINED],
)
def test_a_step_waits_for_the_device_only_where_it_is_logged(
    objective, penalty, precision
):
    run = train_on_device(objective, penalty, precision, MPS)
    assert len(run.waits_in_step) == len(run.waits_for_rows) == STEPS
    expected = WAITS_OF_A_STEP.get(penalty or objective, Counter())
    logged = {row["step"] for row in run.rows}
    assert logged == {0, 3, 5}
    for step, waits in enumerate(run.waits_in_step):
        if step in logged:
            assert waits["_local_scalar_dense"] >= 5
        else:
            assert waits == expected, f"step {step}"
    # Three batches are an epoch, whose order comes from the CPU as a whole.
    for step, waits in enumerate(run.waits_for_rows):
        assert waits == (Counter({TO_DEVICE: 1}) if step % 3 == 0 else Counter())


@pytest.mark.parametrize("objective", ESTIMATING_A_THRESHOLD)
def test_on_cuda_a_threshold_is_estimated_in_double_precision_and_calibrated(
    objective, monkeypatch
):
    run = train_on_device(objective, None, "float32", CUDA)
    unlogged = {*range(STEPS)} - {row["step"] for row in run.rows}
    assert unlogged
    assert all(not run.waits_in_step[step] for step in unlogged)

    # Where a CPU goes the device's way, nothing differs, the estimate neither.
    s = recipe(objective)
    monkeypatch.setattr(picks, "_GROUP", s.m * s.batch_size + 1)
    monkeypatch.setattr(training_step, "dead_picks", training_step.dead_picks_masked)
    same_way, same_rows = tensors_and_log(data(n=IMAGES), s)
    assert run.rows == same_rows
    torch.testing.assert_close(run.tensors, same_way, rtol=0, atol=0)


@pytest.mark.parametrize("tied", [False, True])
def test_inputs_that_stay_on_disk_train_the_same_sae(tied, monkeypatch):
    stored = data(n=IMAGES).numpy().astype("float16")
    s = recipe("batch_topk", "l1_l2_ratio", tied=tied)
    trained = []
    for resident in (inputs.RESIDENT, 0):
        monkeypatch.setattr(inputs, "RESIDENT", resident)
        with pretend_device():
            x = inputs.open_inputs(stored, "unit_l2", 2.0, DEVICE)
            trained.append(tensors_and_log(x, s))
    assert isinstance(x, inputs.Inputs)
    torch.testing.assert_close(*trained, rtol=0, atol=0)


@pytest.mark.parametrize("place", [CUDA, MPS], ids=str)
@pytest.mark.parametrize("open_inputs", [inputs.prepare, inputs.Inputs])
def test_thresholds_are_calibrated_on_a_device(open_inputs, place):
    x = data(n=200)
    s = recipe("jumprelu")
    coder, _ = loop.train(x, s, *entries(s))
    assert isinstance(coder.select, Threshold)
    theta = torch.linspace(0, 1, s.m)
    expected = calibrate(coder, x, theta, 3)
    with pretend_device(place):
        x_there = open_inputs(x.numpy(), "none", 1.0, place)
        got = calibrate(coder.to(place), x_there, theta.to(place), 3)
        assert got.device == place
        got = got.cpu()
    torch.testing.assert_close(got, expected, rtol=0, atol=0)

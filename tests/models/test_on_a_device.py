"""An SAE works elsewhere than on the CPU: on `support/pretend_device.py`."""

import numpy as np
import pytest
import torch
from support.pretend_device import DEVICE, pretend_device

from sae.models import inputs
from sae.models.apply import Encoder
from sae.models.coder import Coder, Threshold


@pytest.mark.parametrize("resident", [True, False])
@pytest.mark.parametrize("threshold", [None, 0.1])
def test_an_encoder_gives_the_same_on_a_device(threshold, resident, monkeypatch):
    embeddings = np.random.default_rng(0).normal(size=(50, 6)).astype(np.float16)
    select = None if threshold is None else Threshold(torch.full((16,), threshold))
    coder = Coder(6, 16, 4, select, input_norm="unit_l2", input_scale=2.0)
    coder.initialise(torch.full((6,), 0.1), seed=0)
    encoder = Encoder(coder.requires_grad_(False))

    def arrays_of_use():
        codes = encoder.encode(embeddings)
        two_largest = encoder.encode(embeddings, 2)
        return [
            codes.values,
            codes.indices,
            codes.offsets,
            two_largest.values,
            two_largest.indices,
            encoder.decode(codes),
            encoder.reconstruct(embeddings),
        ]

    on_cpu = arrays_of_use()
    if not resident:
        monkeypatch.setattr(inputs, "RESIDENT", 0)
    with pretend_device():
        # By hand, since the name of this device is none that a user may give.
        encoder.coder.to(DEVICE)
        assert encoder.coder.W_dec.device == DEVICE
        on_device = arrays_of_use()
    for array, expected in zip(on_device, on_cpu, strict=True):
        np.testing.assert_array_equal(array, expected)

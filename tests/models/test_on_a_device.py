"""An SAE elsewhere than on the CPU: on `support/pretend_device.py`."""

import contextlib
from unittest import mock

import numpy as np
import pytest
import torch
from support.pretend_device import CUDA, MPS, pretend_device

from sae.models import inputs
from sae.models.apply import Encoder
from sae.models.coder import Coder, Threshold


def no_room(place):
    """Leave no room for embeddings on a device, for the time of a context."""
    if place == CUDA:
        # Half of what is free.
        return mock.patch.object(torch.cuda, "mem_get_info", lambda _: (0, 0))
    return mock.patch.object(inputs, "RESIDENT", 0)


@pytest.mark.parametrize("resident", [True, False])
@pytest.mark.parametrize("threshold", [None, 0.1])
@pytest.mark.parametrize("place", [CUDA, MPS], ids=str)
def test_an_encoder_gives_the_same_on_a_device(place, threshold, resident):
    embeddings = np.random.default_rng(0).normal(size=(50, 6)).astype(np.float16)
    select = None if threshold is None else Threshold(torch.full((16,), threshold))
    coder = Coder(6, 16, 4, select, input_norm="unit_l2", input_scale=2.0)
    coder.initialise(torch.full((6,), 0.1), seed=0)
    encoder = Encoder(coder.requires_grad_(False))

    def arrays_of_use():
        codes = encoder.encode(embeddings)
        fewer = encoder.encode(embeddings, 2)
        arrays = [codes.values, codes.indices, codes.offsets]
        arrays += [fewer.values, fewer.indices, encoder.decode(codes)]
        return [*arrays, encoder.reconstruct(embeddings)]

    on_cpu = arrays_of_use()
    with pretend_device(place), contextlib.ExitStack() as changes:
        if not resident:
            changes.enter_context(no_room(place))
        # By hand, since a user can only give a device that is there.
        encoder.coder.to(place)
        assert encoder.coder.W_dec.device == place
        opened = encoder.coder.open_inputs(embeddings)
        assert isinstance(opened, torch.Tensor) is resident
        on_device = arrays_of_use()
    for array, expected in zip(on_device, on_cpu, strict=True):
        np.testing.assert_array_equal(array, expected)

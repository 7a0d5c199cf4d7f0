"""The pretend device refuses and counts what a real one refuses and waits for."""

import pytest
import torch
from support.pretend_device import (
    CUDA,
    DEVICE,
    MPS,
    TO_CPU,
    TO_DEVICE,
    CopyNotAwaited,
    DevicesMixed,
    TypeLacking,
    pretend_device,
)

WAITING = {
    "_local_scalar_dense": lambda x: x.sum().item(),
    "allclose": lambda x: torch.allclose(x, x),
    "bincount": lambda x: x.long().bincount(),
    "equal": torch.equal,
    "index": lambda x: x[x > 1],
    "index_put_": lambda x: x.__setitem__(x > 1, x[:1]),
    "masked_select": lambda x: x.masked_select(x > 1),
    "nonzero": torch.nonzero,
    TO_CPU: lambda x: x.tolist(),
    TO_DEVICE: lambda x: torch.tensor([1.0], device=x.device),
}
MIXING = {
    "a tensor": lambda x: x + torch.arange(3),
    "row numbers": lambda x: x[torch.tensor([0, 1])],
    "its generator": lambda x: x.normal_(generator=torch.Generator()),
}
NEEDING_FLOAT64 = {
    "moving": lambda x: x.cpu().double().to(x.device),
    "converting": lambda x: x.double(),
    "making": lambda x: torch.zeros(3, dtype=torch.float64, device=x.device),
    "summing": lambda x: x.sum(dtype=torch.float64),
}


@pytest.fixture
def numbers():
    return torch.tensor([0.0, 1.0, 2.0])


@pytest.mark.parametrize("name", WAITING)
def test_what_the_host_waits_for_is_counted(name, numbers):
    with pretend_device() as device:
        x = numbers.to(DEVICE)
        device.waits.clear()
        operation = WAITING[name]
        operation(*(x, x) if name == "equal" else (x,))
    assert device.waits[name] == 1


@pytest.mark.parametrize("name", MIXING)
def test_what_is_the_cpus_is_refused_on_the_device(name, numbers):
    with pretend_device(), pytest.raises(DevicesMixed):
        MIXING[name](numbers.to(DEVICE))


@pytest.mark.parametrize("place", [CUDA, MPS])
def test_a_copy_that_may_be_read_too_early_is_refused(place, numbers):
    with pretend_device(place):
        x = numbers.to(place)
        with pytest.raises(CopyNotAwaited):
            x.to("cpu", non_blocking=True)
        with pytest.raises(CopyNotAwaited):
            numbers.copy_(x, non_blocking=True)
        numbers.copy_(x)


def test_a_copy_of_memory_that_may_be_used_again_is_refused_on_mps(numbers):
    with pretend_device(MPS), pytest.raises(CopyNotAwaited):
        numbers.to(MPS, non_blocking=True)


@pytest.mark.parametrize("name", NEEDING_FLOAT64)
def test_float64_is_refused_on_mps_alone(name, numbers):
    operation = NEEDING_FLOAT64[name]
    with pretend_device(CUDA):
        assert operation(numbers.to(CUDA)).dtype == torch.float64
    with pretend_device(MPS):
        x = numbers.to(MPS)
        assert x.cpu().double().dtype == torch.float64
        with pytest.raises(TypeLacking):
            operation(x)

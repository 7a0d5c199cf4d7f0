"""The pretend device refuses and counts what a real one refuses and waits for."""

import pytest
import torch
from support.pretend_device import (
    DEVICE,
    TO_CPU,
    TO_DEVICE,
    DevicesMixed,
    PretendTensor,
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


def test_what_stays_on_the_device_is_not_waited_for(numbers):
    with pretend_device() as device:
        x = numbers.to(DEVICE, non_blocking=True).requires_grad_()
        y = torch.where(x > 1, 0, x * 2 + torch.ones(3, device=DEVICE))
        y[torch.arange(2, device=DEVICE)].square().sum().backward()
        assert not device.waits
        assert isinstance(y, PretendTensor) and y.device == DEVICE
        assert (x.grad.tolist(), y.tolist()) == ([4, 12, 0], [1, 3, 0])


@pytest.mark.parametrize("name", MIXING)
def test_what_is_the_cpus_is_refused_on_the_device(name, numbers):
    with pretend_device(), pytest.raises(DevicesMixed):
        MIXING[name](numbers.to(DEVICE))


def test_nothing_of_it_stays():
    replaced = (torch.tensor, torch.autocast, torch.inference_mode)
    with pretend_device():
        assert torch.tensor is not replaced[0]
    assert (torch.tensor, torch.autocast, torch.inference_mode) == replaced
    assert not torch.__future__.get_swap_module_params_on_conversion()
    assert type(torch.ones(2, device=DEVICE)) is torch.Tensor

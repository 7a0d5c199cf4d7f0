"""A cell trained elsewhere than on the CPU: on `support/pretend_device.py`."""

import torch
from bank.common import METHODS, plan, write_activations
from support.pretend_device import DEVICE, TO_CPU, pretend_device

from sae.bank.read import read
from sae.bank.train import Place
from sae.protocols import _cell


def test_a_cell_trains_scores_and_chooses_on_a_device_as_on_a_cpu(tmp_path):
    # The thresholds of `batch_topk` are fixed once more on validation images.
    methods = {name: METHODS[name] for name in ("topk", "batch_topk")}
    activations = write_activations(tmp_path / "activations")

    banks = []
    for device in ("cpu", DEVICE.type):
        place = Place(tmp_path / device / "store", tmp_path / device / "bank.json")
        scores = tmp_path / device / "scores"
        with pretend_device() as pretended:
            _cell.train(plan(methods), activations, place, scores, device=device)
        assert (pretended.waits[TO_CPU] > 0) is (device != "cpu")
        banks.append(read(place.bank))

    cpu_bank, device_bank = banks
    assert len(device_bank.saes) == 2
    for cpu_sae, device_sae in zip(cpu_bank.saes, device_bank.saes, strict=True):
        # The class of the device is part of a key: neither stands for the other.
        assert device_sae.key != cpu_sae.key
        assert (device_sae.method, device_sae.status) == (cpu_sae.method, "ok")
        torch.testing.assert_close(
            device_bank.open(device_sae).tensors(),
            cpu_bank.open(cpu_sae).tensors(),
            rtol=0,
            atol=1e-5,
        )

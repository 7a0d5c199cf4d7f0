"""The paper's methods train as they did when every product was dense and left to autograd (`frozen_step.py`)."""

import pytest
import torch
from torch.nn import functional
from training import frozen_step

from sae.core import registry
from sae.training.loop import train
from sae.training.recipe import Settings

RECIPE = {
    "m": 96,
    "k": 4,
    "seed": 3,
    "epochs": 5,
    "batch_size": 64,
    "lr": 0.003,
    "adam_eps": 6.25e-10,
}
RECIPE |= {
    "decay_fraction": 0.2,
    "auxk_alpha": 0.125,
    "auxk_k": 16,
    "dead_after": 150,
    "tied": False,
    "log_every": 7,
}
RECIPE |= {"input_norm": "unit_l2", "precision": "float32"}


@pytest.fixture(scope="module")
def x():
    """(700, 24) rows with structure, off centre, total variance 1, so that latents differ and some die."""
    torch.set_num_threads(1)
    generator = torch.Generator().manual_seed(0)
    z = torch.rand(700, 40, generator=generator) * (
        torch.rand(700, 40, generator=generator) < 0.1
    )
    x = functional.normalize(z @ torch.randn(40, 24, generator=generator) + 0.5, dim=1)
    return x / frozen_step.total_variance(x) ** 0.5


@pytest.mark.parametrize(
    ("penalty", "mask", "changed"),
    [
        (None, "batch_active", {}),
        (None, "batch_active", {"tied": True, "input_norm": "unit_l2_layernorm"}),
        (None, "batch_active", {"precision": "bfloat16"}),
        ("off_support_l1", "batch_active", {}),
        ("off_support_l1", "all", {"input_norm": "unit_l2_layernorm"}),
        ("l1_l2_ratio", "batch_active", {"tied": True}),
        ("l1_l2_ratio", "all", {}),
    ],
)
def test_a_cell_trains_as_the_plain_step_did(x, penalty, mask, changed):
    recipe, lam = RECIPE | changed, 0.003
    old = frozen_step.Settings(**recipe, lam=lam if penalty else 0.0, mask=mask)
    expected, expected_rows = frozen_step.train(
        x, old, penalty and getattr(frozen_step, penalty)
    )
    method = {"penalty": penalty, "mask": mask, "lam": lam} if penalty else {}
    settings = Settings(**recipe, **method, objective="topk", unit_variance=True)
    topk = registry.load("objective", "topk")
    coder, rows = train(
        x, settings, topk, penalty and registry.load("penalty", penalty)
    )
    assert (
        max(row["dead"] for row in rows) > 0 and max(row["aux"] for row in rows) > 0
    )  # AuxK was at work.
    if (
        settings.precision == "bfloat16"
    ):  # The plain step rounds the gradient of what is picked too.
        assert rows[-1]["r2"] == pytest.approx(expected_rows[-1]["r2"], abs=0.01)
        return
    for row, wanted in zip(rows, expected_rows, strict=True):
        assert row == pytest.approx(wanted, rel=1e-5, abs=1e-5)
    assert {
        "W_enc" if name == "encoder" else name for name, _ in coder.named_parameters()
    } == {*expected.state_dict()}
    for name, wanted in expected.named_parameters():
        torch.testing.assert_close(getattr(coder, name), wanted, rtol=0, atol=1e-4)

"""The paper's methods train as they did by an older step (`frozen_step.py`).

There every product was dense, and left to autograd.
"""

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
    "decay_fraction": 0.2,
    "auxk_alpha": 0.125,
    "auxk_k": 16,
    "dead_after": 150,
    "tied": False,
    "log_every": 7,
    "input_norm": "unit_l2",
    "precision": "float32",
}


@pytest.fixture(scope="module")
def x():
    """Return inputs (700, 24) of total variance 1.

    They have structure and are off centre, so that latents differ and some die.
    """
    torch.set_num_threads(1)
    generator = torch.Generator().manual_seed(0)
    sizes = torch.rand(700, 40, generator=generator)
    is_active = torch.rand(700, 40, generator=generator) < 0.1
    z = sizes * is_active
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
    recipe = RECIPE | changed
    lam = 0.003 if penalty else 0.0
    frozen_settings = frozen_step.Settings(**recipe, lam=lam, mask=mask)
    frozen_penalty = penalty and getattr(frozen_step, penalty)
    expected, expected_rows = frozen_step.train(x, frozen_settings, frozen_penalty)

    method = {"penalty": penalty, "mask": mask, "lam": lam} if penalty else {}
    settings = Settings(**recipe, **method, objective="topk", unit_variance=True)
    objective_entry = registry.load("objective", "topk")
    penalty_entry = penalty and registry.load("penalty", penalty)
    coder, rows = train(x, settings, objective_entry, penalty_entry)

    # AuxK was at work.
    assert max(row["dead"] for row in rows) > 0
    assert max(row["aux"] for row in rows) > 0
    # The plain step rounds the gradient of what is picked too.
    if settings.precision == "bfloat16":
        assert rows[-1]["r2"] == pytest.approx(expected_rows[-1]["r2"], abs=0.01)
        return
    for row, expected_row in zip(rows, expected_rows, strict=True):
        assert row == pytest.approx(expected_row, rel=1e-5, abs=1e-5)
    names = {name for name, _ in coder.named_parameters()}
    assert {name.replace("encoder", "W_enc") for name in names} == {
        *expected.state_dict()
    }
    for name, parameter in expected.named_parameters():
        torch.testing.assert_close(getattr(coder, name), parameter, rtol=0, atol=1e-4)

"""The loop: batches, schedule, log, divergence."""

import sys
import types

import numpy as np
import pytest
import torch
from torch.nn import functional
from training.common import REG1, REG2, data, entries, settings

from sae.core.errors import UserError
from sae.core.options import Options
from sae.models import inputs, saefile
from sae.models.coder import Coder
from sae.training.loop import (
    CHECK_EVERY,
    Diverged,
    adam,
    batches,
    remove_parallel,
    train,
)
from sae.training.objectives import topk


def run(x, s, **options):
    return train(x, s, *entries(s), **options)


@pytest.mark.parametrize("objective", ["topk", "batch_topk"])
def test_inputs_on_disk_train_the_same_sae(objective, monkeypatch):
    stored, trained = data(n=200).numpy().astype("float16"), []
    for resident in (1 << 30, 0):
        monkeypatch.setattr(inputs, "RESIDENT", resident)
        x = inputs.open_inputs(stored, "unit_l2", 2.0)
        trained.append(
            run(
                x, settings(objective=objective, input_norm="unit_l2_layernorm", **REG1)
            )
        )
    assert isinstance(x, inputs.Inputs)
    (one, rows), (two, again) = ((coder.state_dict(), rows) for coder, rows in trained)
    assert all(torch.equal(one[name], two[name]) for name in one) and rows == again


def test_every_epoch_is_a_fresh_permutation():
    epochs = {}
    for epoch, rows in batches(10, 3, 14, seed=5):
        epochs.setdefault(epoch, []).extend(rows.tolist())
    assert (
        len({tuple(rows) for rows in epochs.values()}) == 5 and len(epochs.pop(4)) == 6
    )
    assert all(len(rows) == 9 == len(set(rows)) for rows in epochs.values())


def test_steps_count_instead_of_epochs():
    assert settings(epochs=4, batch_size=50).steps_on(170) == 12
    assert settings(epochs=4, batch_size=500).steps_on(170) == 4
    assert settings(epochs=4, batch_size=50, steps=7).steps_on(170) == 7
    _, rows = run(data(n=200), settings(batch_size=50, steps=7))
    assert (rows[-1]["step"], rows[-1]["epoch"]) == (6, 1)
    # The schedule's end, lr 0 after the last step, is that of its own number of steps.
    assert rows[-1]["lr"] == pytest.approx(rows[0]["lr"] / (0.2 * 7))


def test_adam_forgets_as_its_betas_say():
    s = settings(lr=0.1, adam_eps=1e-3, adam_beta1=0.5, adam_beta2=0.9)
    weight, by_hand, mean, square = (
        torch.zeros(3, requires_grad=True),
        np.zeros(3),
        0,
        0,
    )
    optimiser = adam([weight], s)
    for t, gradient in enumerate(np.random.default_rng(0).normal(size=(6, 3)), 1):
        weight.grad = torch.tensor(gradient).float()
        optimiser.step()
        mean, square = 0.5 * mean + 0.5 * gradient, 0.9 * square + 0.1 * gradient**2
        by_hand -= 0.1 * (mean / (1 - 0.5**t)) / (np.sqrt(square / (1 - 0.9**t)) + 1e-3)
    torch.testing.assert_close(weight.detach(), torch.tensor(by_hand).float())


@pytest.mark.parametrize("objective", ["topk", "batch_topk"])
def test_training_keeps_unit_rows_and_learns(objective):
    coder, rows = run(data(n=400), settings(objective=objective, epochs=20, **REG1))
    torch.testing.assert_close(coder.W_dec.norm(dim=1), torch.ones(24))
    assert rows[-1]["r2"] > rows[0]["r2"] + 0.2
    assert rows[-1]["lr"] < rows[0]["lr"] / 10


@pytest.mark.parametrize(
    ("frozen", "kept"),
    [
        ("encoder", {"encoder", "b_enc"}),
        ("decoder", {"W_dec"}),
        ("all", {"encoder", "b_enc", "W_dec", "b_dec"}),
        (None, set()),
    ],
)
@pytest.mark.parametrize("objective", ["topk", "batch_topk"])
def test_what_is_frozen_stays_as_it_was_initialised(objective, frozen, kept):
    x = data(n=200)
    s = settings(objective=objective, frozen=frozen, dead_after=16, **REG1)
    coder, rows = run(x, s)
    start = Coder(8, s.m, s.k, input_norm=s.input_norm)
    start.initialise(x.mean(dim=0), s.seed)
    same = {
        n
        for n, p in start.named_parameters()
        if torch.allclose(p, coder.get_parameter(n), rtol=0, atol=1e-6)
    }
    assert same == kept
    if frozen == "all":
        (row,) = rows
        residual = x - coder.reconstruct(x, coder.encode(x))
        assert row["step"] == -1 and row["r2"] == pytest.approx(
            1 - (residual.square().sum() / (x - x.mean(dim=0)).square().sum()).item(),
            abs=1e-5,
        )
    else:
        assert rows[-1]["r2"] > rows[0]["r2"]


@pytest.mark.parametrize("norm", ["unit_l2", "unit_l2_layernorm"])
def test_axes_keep_the_largest_coordinates(norm):
    x, k = data(n=300) @ torch.diag(torch.arange(1.0, 9.0)) + 0.5, 3
    for basis in ("dimensions", "principal"):
        s = settings(objective="axes", options={"basis": basis}, input_norm=norm, k=k)
        coder, (row,) = run(x, s)
        z = coder.standardise(x)[0]
        centred = z - z.mean(dim=0)
        # By hand: coordinates along orthonormal axes, of which the k of the largest size are kept.
        axes = (
            np.eye(8)
            if basis == "dimensions"
            else np.linalg.svd(centred.double().numpy(), full_matrices=False)[2]
        )
        along = centred.double().numpy() @ axes.T
        along[
            np.arange(300)[:, None], np.argsort(np.abs(along), axis=1)[:, : 8 - k]
        ] = 0
        codes = coder.encode(x)
        torch.testing.assert_close(
            coder.decode(codes) - z.mean(dim=0),
            torch.tensor(along @ axes).float(),
            atol=1e-5,
            rtol=0,
        )
        assert (
            coder.m == 16 and (codes.values > 0).all() and row["l0"] == pytest.approx(k)
        )


def test_axes_keep_everything_where_k_is_above_their_number():
    coder, (row,) = run(
        data(n=60), settings(objective="axes", options={"basis": "principal"}, k=20)
    )
    assert (
        coder.m == coder.k == 16
        and row["l0"] == pytest.approx(8)
        and row["r2"] == pytest.approx(1, abs=1e-5)
    )


def test_parallel_gradient_is_removed():
    weight = functional.normalize(torch.randn(4, 3), dim=1).requires_grad_()
    weight.grad = torch.randn(4, 3)
    remove_parallel(weight)
    torch.testing.assert_close(
        (weight.grad * weight).sum(dim=1), torch.zeros(4), atol=1e-6, rtol=0
    )


def test_same_seed_same_bytes_whatever_is_logged(tmp_path):
    x, files = data(), []
    for log_every in (2, 4):
        s = settings(log_every=log_every, **REG2)
        coder, rows = run(x, s)
        assert [row["step"] for row in rows] == sorted({*range(0, 16, log_every), 15})
        saefile.save(coder, tmp_path / "sae.safetensors")
        files.append((s.identity(), (tmp_path / "sae.safetensors").read_bytes()))
    assert files[0] == files[1]
    assert not torch.equal(coder.W_dec, run(x, settings(seed=1, **REG2))[0].W_dec)


@pytest.mark.parametrize("log_every", [1, 1000])
def test_divergence_is_found_at_the_same_step_whatever_is_logged(log_every):
    x = data(n=16 * CHECK_EVERY)
    with pytest.raises(Diverged) as caught:
        run(x, settings(lr=1e30, log_every=log_every))
    assert caught.value.step == CHECK_EVERY
    assert [caught.value.rows[0]["step"], caught.value.rows[-1]["step"]] == [
        0,
        CHECK_EVERY,
    ]


def test_a_last_step_that_breaks_a_weight_diverged():
    class Breaks(topk.Objective):
        def loss(self, x, step):
            loss, parts = super().loss(x, step)
            return loss * (float("nan") if step == 15 else 1), parts

    broken = types.SimpleNamespace(Objective=Breaks)
    with pytest.raises(Diverged) as caught:
        train(data(), settings(), broken)
    assert caught.value.step == 15


def test_an_objective_from_outside_is_a_few_lines():
    """Top-k with a jittered k: what docs/extending.md shows."""
    mine = types.ModuleType("mine")
    sys.modules["mine"] = mine
    exec(
        """
import torch
from pydantic import Field
from sae.core.options import Options as Base
from sae.training import picks, step

class Options(Base):
    jitter: int = Field(1, ge=0)

class Objective(step.Objective):
    def start(self):
        self.generator = torch.Generator().manual_seed(self.settings.seed)
        self.seen = []

    def pick(self, a):
        shift = torch.randint(-self.options.jitter, self.options.jitter + 1, (), generator=self.generator)
        self.seen.append(self.settings.k + int(shift))
        return picks.of_each(a, self.seen[-1])

    def finish(self, x):
        self.coder.metadata["seen"] = sorted(set(self.seen))
        return self.coder
""",
        mine.__dict__,
    )
    coder, rows = train(data(), settings(options={"jitter": 2}), mine)
    assert (
        coder.metadata["seen"] == [1, 2, 3, 4, 5]
        and len({row["l0"] for row in rows}) > 1
    )
    assert coder.encode(data()).lengths().max() == 3


def test_a_penalty_sees_its_options_the_step_and_what_was_selected():
    class Own(Options):
        power: float = 2.0

    mine, seen = types.ModuleType("sae_extensions.penalties.mine"), []
    mine.Options = Own

    def penalty(batch):
        seen.append(batch)
        return batch.a.pow(batch.options.power).sum(dim=1)

    mine.penalty = penalty
    train(
        data(),
        settings(penalty="mine", mask="all", lam=0.1, options={"power": 3.0}),
        topk,
        mine,
    )
    assert [b.step for b in seen] == list(range(16)) and {
        b.options.power for b in seen
    } == {3.0}
    first = seen[0]
    assert (
        first.x.shape == (16, 8)
        and first.a.shape == (16, 24)
        and first.mask.tolist() == [1.0] * 24
    )
    assert first.picks.values.shape == (16, 3)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda loss, parts: (loss.expand(16), parts),
            r"the loss that .* is torch.float32 of shape \(16,\), not a tensor",
        ),
        (
            lambda loss, parts: (loss + 0j, parts),
            r"the loss that .* is torch.complex64 of shape \(\), not a tensor",
        ),
        (
            lambda loss, parts: (loss, parts | {"aux": torch.ones(16)}),
            r"the part 'aux' .* is torch.float32 of shape",
        ),
        (
            lambda loss, parts: (loss, parts | {"aux": 0.0}),
            "the part 'aux' .* is float, not a tensor",
        ),
        (lambda loss, parts: (loss, {"loss": loss}), "lack 'reconstruction'"),
    ],
)
def test_what_a_loss_has_to_return_is_said(change, message):
    class Mine(topk.Objective):
        def loss(self, x, step):
            return change(*super().loss(x, step))

    with pytest.raises(UserError, match=f"objective mine: .*{message}"):
        train(data(), settings(objective="mine"), types.SimpleNamespace(Objective=Mine))

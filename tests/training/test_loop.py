"""The loop of training: its batches, schedule, log and checks for divergence."""

import pathlib
import random
import subprocess
import sys
import types

import numpy as np
import pytest
import torch
from support.errors import assert_names, refused_naming
from training.common import REG1, REG2, data, entries, settings

from sae.core.errors import UserError
from sae.core.options import Options
from sae.core.seeding import seeded
from sae.models import inputs, saefile
from sae.models.coder import Coder
from sae.training.loop import (
    CHECK_EVERY,
    Adam,
    Diverged,
    batches,
    train,
)
from sae.training.objectives import topk


def train_by(x, s):
    """Train on prepared inputs by settings; return the coder and the log."""
    return train(x, s, *entries(s))


@pytest.mark.parametrize("objective", ["topk", "batch_topk"])
def test_inputs_on_disk_train_the_same_sae(objective, monkeypatch):
    stored = data(n=200).numpy().astype("float16")
    s = settings(objective=objective, input_norm="unit_l2_layernorm", **REG1)

    x = inputs.open_inputs(stored, "unit_l2", 2.0)
    assert isinstance(x, torch.Tensor)
    coder_in_memory, rows_in_memory = train_by(x, s)

    monkeypatch.setattr(inputs, "RESIDENT", 0)
    x = inputs.open_inputs(stored, "unit_l2", 2.0)
    assert isinstance(x, inputs.Inputs)
    coder_on_disk, rows_on_disk = train_by(x, s)

    on_disk = coder_on_disk.state_dict()
    for name, tensor in coder_in_memory.state_dict().items():
        assert torch.equal(tensor, on_disk[name])
    assert rows_in_memory == rows_on_disk


@pytest.mark.parametrize(
    ("x", "part"),
    [
        (data().numpy(), "not ndarray"),
        (data().half(), "torch.float16"),
        (data().double(), "torch.float64"),
        (data()[0], "(8,)"),
        (data()[:0], "(0, 8)"),
    ],
)
def test_what_are_no_prepared_inputs_is_refused(x, part):
    with refused_naming("prepared inputs", part, "sae.train"):
        train_by(x, settings())


def test_every_epoch_is_a_fresh_permutation():
    rows_by_epoch = {}
    for epoch, rows in batches(10, 3, 14, seed=5):
        rows_by_epoch.setdefault(epoch, []).extend(rows.tolist())
    assert len({tuple(rows) for rows in rows_by_epoch.values()}) == 5
    assert len(rows_by_epoch.pop(4)) == 6  # The last epoch ends early.
    for rows in rows_by_epoch.values():
        assert len(rows) == 9 == len(set(rows))


def test_steps_count_instead_of_epochs():
    assert settings(epochs=4, batch_size=50).steps_on(170) == 12
    assert settings(epochs=4, batch_size=500).steps_on(170) == 4
    assert settings(epochs=4, batch_size=50, steps=7).steps_on(170) == 7
    _, rows = train_by(data(n=200), settings(batch_size=50, steps=7))
    assert (rows[-1]["step"], rows[-1]["epoch"]) == (6, 1)
    # The schedule's end, lr 0 after the last step, is that of its own number of steps.
    assert rows[-1]["lr"] == pytest.approx(rows[0]["lr"] / (0.2 * 7))


def test_adam_forgets_as_its_betas_say():
    s = settings(lr=0.1, adam_eps=1e-3, adam_beta1=0.5, adam_beta2=0.9)
    weight = torch.zeros(3, requires_grad=True)
    optimiser = Adam([weight], s)
    by_hand = np.zeros(3)
    mean = square = 0
    for t, gradient in enumerate(np.random.default_rng(0).normal(size=(6, 3)), 1):
        weight.grad = torch.tensor(gradient).float()
        optimiser.step()
        mean = 0.5 * mean + 0.5 * gradient
        square = 0.9 * square + 0.1 * gradient**2
        by_hand -= 0.1 * (mean / (1 - 0.5**t)) / (np.sqrt(square / (1 - 0.9**t)) + 1e-3)
    torch.testing.assert_close(weight.detach(), torch.tensor(by_hand).float())


def test_adam_takes_the_steps_of_pytorchs_class_bit_for_bit():
    s = settings(lr=0.01, adam_eps=6.25e-10, adam_beta1=0.9, adam_beta2=0.999)
    generator = torch.Generator().manual_seed(0)
    start = [
        torch.randn(37, 5, generator=generator),
        torch.randn(7, generator=generator),
    ]
    ours = [tensor.clone().requires_grad_() for tensor in start]
    theirs = [tensor.clone().requires_grad_() for tensor in start]
    our_optimiser = Adam(ours, s)
    their_optimiser = torch.optim.Adam(
        theirs, s.lr, (0.9, 0.999), s.adam_eps, fused=True
    )
    for step in range(8):
        for our_tensor, their_tensor in zip(ours, theirs, strict=True):
            gradient = torch.randn(our_tensor.shape, generator=generator)
            # A parameter that a batch leaves out has no gradient.
            is_left_out = step == 3 and our_tensor is ours[1]
            our_tensor.grad = None if is_left_out else gradient.clone()
            their_tensor.grad = None if is_left_out else gradient.clone()
        rate = 0.01 / (1 + step)
        our_optimiser.lr = their_optimiser.param_groups[0]["lr"] = rate
        our_optimiser.step()
        their_optimiser.step()
    for our_tensor, their_tensor in zip(ours, theirs, strict=True):
        assert torch.equal(our_tensor, their_tensor)
    our_optimiser.zero_grad()
    assert [tensor.grad for tensor in ours] == [None, None]


def test_training_does_without_pytorchs_compiler():
    """It takes longer to load than a small SAE takes to train."""
    program = (
        "import sys\n"
        "from training.common import data, entries, settings\n"
        "from sae.training.loop import train\n"
        "s = settings(steps=2)\n"
        "train(data(), s, *entries(s))\n"
        "print('torch._dynamo' in sys.modules)\n"
    )
    tests = pathlib.Path(__file__).parents[1]
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, cwd=tests
    )
    assert done.stdout == "False\n", done.stderr


@pytest.mark.parametrize("objective", ["topk", "batch_topk"])
def test_training_keeps_unit_rows_and_learns(objective):
    s = settings(objective=objective, epochs=8, **REG1)
    coder, rows = train_by(data(n=400), s)
    torch.testing.assert_close(coder.W_dec.norm(dim=1), torch.ones(24))
    assert rows[-1]["r2"] > rows[0]["r2"] + 0.2
    assert rows[-1]["lr"] < rows[0]["lr"] / 10


@pytest.mark.parametrize(
    ("frozen", "frozen_parameters"),
    [
        ("encoder", {"encoder", "b_enc"}),
        ("decoder", {"W_dec"}),
        ("all", {"encoder", "b_enc", "W_dec", "b_dec"}),
        (None, set()),
    ],
)
@pytest.mark.parametrize("objective", ["topk", "batch_topk"])
def test_a_frozen_parameter_stays_as_it_was_initialised(
    objective, frozen, frozen_parameters
):
    x = data(n=200)
    s = settings(objective=objective, frozen=frozen, dead_after=16, **REG1)
    coder, rows = train_by(x, s)
    initial = Coder(8, s.m, s.k, input_norm=s.input_norm)
    initial.initialise(x.mean(dim=0), s.seed)
    unchanged = {
        name
        for name, parameter in initial.named_parameters()
        if torch.allclose(parameter, coder.get_parameter(name), rtol=0, atol=1e-6)
    }
    assert unchanged == frozen_parameters
    if frozen == "all":
        (row,) = rows
        assert row["step"] == -1
        residual = x - coder.reconstruct(x, coder.encode(x))
        fvu = residual.square().sum() / (x - x.mean(dim=0)).square().sum()
        assert row["r2"] == pytest.approx(1 - fvu.item(), abs=1e-5)
    else:
        assert rows[-1]["r2"] > rows[0]["r2"]


@pytest.mark.parametrize("norm", ["unit_l2", "unit_l2_layernorm"])
def test_axes_keep_the_largest_coordinates(norm):
    x = data(n=300) @ torch.diag(torch.arange(1.0, 9.0)) + 0.5
    k = 3
    for basis in ("dimensions", "principal"):
        s = settings(objective="axes", options={"basis": basis}, input_norm=norm, k=k)
        coder, (row,) = train_by(x, s)
        standard, _, _ = coder.standardise(x)
        mean = standard.mean(dim=0)
        centred = (standard - mean).double().numpy()

        # By hand: the k largest coordinates along orthonormal axes, by their size.
        axes = np.eye(8)
        if basis == "principal":
            axes = np.linalg.svd(centred, full_matrices=False)[2]
        coordinates = centred @ axes.T
        smallest = np.argsort(np.abs(coordinates), axis=1)[:, : 8 - k]
        coordinates[np.arange(300)[:, None], smallest] = 0
        expected = torch.tensor(coordinates @ axes).float()

        codes = coder.encode(x)
        reconstructed = coder.decode(codes) - mean
        torch.testing.assert_close(reconstructed, expected, atol=1e-5, rtol=0)
        assert coder.m == 16
        assert (codes.values > 0).all()
        assert row["l0"] == pytest.approx(k)


def test_axes_keep_everything_where_k_is_above_their_number():
    s = settings(objective="axes", options={"basis": "principal"}, k=20)
    coder, (row,) = train_by(data(n=60), s)
    assert coder.m == coder.k == 16
    assert row["l0"] == pytest.approx(8)
    assert row["r2"] == pytest.approx(1, abs=1e-5)


def test_the_same_seed_gives_the_same_bytes_whatever_is_logged(tmp_path):
    x = data()
    identities = []
    contents = []
    for log_every in (2, 4):
        s = settings(log_every=log_every, **REG2)
        coder, rows = train_by(x, s)
        assert [row["step"] for row in rows] == sorted({*range(0, 16, log_every), 15})
        saefile.save(coder, tmp_path / "sae.safetensors")
        identities.append(s.identity())
        contents.append((tmp_path / "sae.safetensors").read_bytes())
    assert identities[0] == identities[1]
    assert contents[0] == contents[1]

    of_another_seed, _ = train_by(x, settings(seed=1, **REG2))
    assert not torch.equal(coder.W_dec, of_another_seed.W_dec)


@pytest.mark.parametrize("log_every", [1, 1000])
def test_divergence_is_found_at_the_same_step_whatever_is_logged(log_every):
    x = data(n=16 * CHECK_EVERY)
    with pytest.raises(Diverged) as caught:
        train_by(x, settings(lr=1e30, log_every=log_every))
    assert caught.value.step == CHECK_EVERY
    assert caught.value.rows[0]["step"] == 0
    assert caught.value.rows[-1]["step"] == CHECK_EVERY


def test_a_training_whose_last_step_breaks_a_weight_diverged():
    class Breaks(topk.Objective):
        def loss(self, x, step):
            loss, parts = super().loss(x, step)
            return loss * (float("nan") if step == 15 else 1), parts

    entry = types.SimpleNamespace(Objective=Breaks)
    with pytest.raises(Diverged) as caught:
        train(data(), settings(), entry)
    assert caught.value.step == 15


@pytest.mark.parametrize("of_objective", ["computed", "the coder's"])
def test_what_no_step_can_change_is_refused(of_objective):
    class Learns(topk.Objective):
        def parameters(self):
            own = torch.ones(2, requires_grad=True)
            learned = {
                "computed": [2 * own],
                "the coder's": [own, self.coder.b_enc],
            }
            return learned[of_objective]

    names = "computed from another" if of_objective == "computed" else "twice"
    with refused_naming("objective topk", names):
        train(data(), settings(), types.SimpleNamespace(Objective=Learns))


def test_an_objective_from_outside_is_a_few_lines():
    """It is Top-k with a jittered k, which docs/extending.md shows."""
    entry = types.ModuleType("mine")
    sys.modules["mine"] = entry
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
        self.drawn = []

    def pick(self, a):
        jitter = self.options.jitter
        shift = torch.randint(-jitter, jitter + 1, (), generator=self.generator)
        self.drawn.append(self.settings.k + int(shift))
        return picks.of_each(a, self.drawn[-1])

    def finish(self, x):
        self.coder.metadata["drawn"] = sorted(set(self.drawn))
        return self.coder
""",
        entry.__dict__,
    )
    coder, rows = train(data(), settings(options={"jitter": 2}), entry)
    assert coder.metadata["drawn"] == [1, 2, 3, 4, 5]
    assert len({row["l0"] for row in rows}) > 1
    assert coder.encode(data()).lengths().max() == 3


def test_a_penalty_sees_its_options_the_step_and_what_was_selected():
    class PowerOptions(Options):
        power: float = 2.0

    batches_seen = []

    def penalty(batch):
        batches_seen.append(batch)
        return batch.a.pow(batch.options.power).sum(dim=1)

    entry = types.ModuleType("sae_extensions.penalties.mine")
    entry.__file__ = "penalties/mine.py"
    entry.Options = PowerOptions
    entry.penalty = penalty
    s = settings(penalty="mine", mask="all", lam=0.1, options={"power": 3.0})
    train(data(), s, topk, entry)

    assert [batch.step for batch in batches_seen] == list(range(16))
    assert {batch.options.power for batch in batches_seen} == {3.0}
    first = batches_seen[0]
    assert first.x.shape == (16, 8)
    assert first.a.shape == (16, 24)
    assert first.mask.tolist() == [1.0] * 24
    assert first.picks.values.shape == (16, 3)


def draw():
    """Draw a number from each generator that a process has."""
    return random.random(), np.random.random(), torch.rand(()).item()  # noqa: NPY002


def test_an_entry_draws_by_the_seed_whatever_was_drawn_before():
    draws = []

    def penalty(batch):
        draws.append(draw())
        return sum(draws[-1]) * batch.a.sum(dim=1)

    entry = types.ModuleType("sae_extensions.penalties.mine")
    entry.__file__ = "penalties/mine.py"
    entry.penalty = penalty

    def draws_of(**change):
        draws.clear()
        s = settings(penalty="mine", mask="all", **{"lam": 0.1} | change)
        return train(data(), s, topk, entry)[1], [*draws]

    with seeded("a caller"):
        drawn_without_training = draw()
    with seeded("a caller"):
        first = draws_of()
        assert draw() == drawn_without_training
    assert draws_of() == first
    assert draws_of(lam=0.2)[1] == first[1] != draws_of(seed=1)[1]
    assert len(set(first[1])) == 16


@pytest.mark.parametrize(
    ("penalty", "warns"),
    [
        (lambda batch: batch.a.detach().sum(dim=1), True),
        (lambda batch: batch.a.round().sum(dim=1), True),
        (lambda batch: batch.a.sum(dim=1), False),
        (lambda batch: batch.coder.W_dec.pow(4).mean().expand(len(batch.a)), False),
        # It warms up.
        (lambda batch: batch.a.sum(dim=1) * max(0, batch.step - 9), False),
    ],
    ids=["detached", "rounded", "of activations", "of the decoder", "later"],
)
def test_a_penalty_that_never_has_a_gradient_is_warned_of(penalty, warns, caplog):
    entry = types.ModuleType("sae_extensions.penalties.mine")
    entry.__file__ = "penalties/mine.py"
    entry.penalty = penalty
    with_penalty, _ = train(
        data(), settings(penalty="mine", mask="all", lam=0.1), topk, entry
    )
    without, _ = train(data(), settings(), topk)

    # Up to rounding: a penalty gives all activations gradients.
    assert torch.allclose(with_penalty.W_enc, without.W_enc, atol=1e-5) == warns
    messages = [record.getMessage() for record in caplog.records]
    assert len(messages) == warns
    if warns:
        assert_names(messages[0], "penalty mine (penalties/mine.py)", "no gradient in")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda loss, parts: (loss.expand(16), parts),
            r"the loss that .* is torch.float32 of shape \(16,\), not a tensor",
        ),
        (
            lambda loss, parts: (loss, parts | {"aux": torch.ones(16)}),
            r"the part 'aux' .* is torch.float32 of shape",
        ),
        (lambda loss, parts: (loss, {"loss": loss}), "lack 'reconstruction'"),
    ],
)
def test_an_error_says_what_a_loss_has_to_return(change, message):
    class Changed(topk.Objective):
        def loss(self, x, step):
            return change(*super().loss(x, step))

    entry = types.SimpleNamespace(Objective=Changed)
    with pytest.raises(UserError, match=f"objective mine: .*{message}"):
        train(data(), settings(objective="mine"), entry)

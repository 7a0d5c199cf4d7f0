"""A backbone made ready for inference embeds as the model that its library runs."""

import copy
import logging
import os
import platform
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import open_clip
import pytest
import timm
import torch
from PIL import Image
from sklearn.datasets import load_sample_images
from timm.data import create_transform
from torch import nn
from torchvision.transforms import Compose, Normalize, ToTensor

from sae.core.errors import UserError
from sae.data import folding
from sae.data.backbone import Backbone
from sae.data.forward import embed_images


def untrained(model):
    """Draw weights, and statistics and scales of BatchNorm other than at the start."""
    torch.manual_seed(0)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            for values in (module.running_mean, module.bias.data):
                values.normal_(std=0.2)
            for values in (module.running_var, module.weight.data):
                values.uniform_(0.5, 1.5)
    return model.eval().requires_grad_(False)


def normalised(model):
    return sum(isinstance(module, nn.BatchNorm2d) for module in model.modules())


class Odd(nn.Module):
    """A model that must not be folded everywhere.

    Two modules read the output of one convolution, one convolution is applied twice,
    and a BatchNorm comes before a convolution.
    """

    def __init__(self):
        super().__init__()
        self.first = nn.Conv2d(3, 8, 3)
        self.twice = nn.Conv2d(8, 8, 1, bias=False)
        self.a = nn.BatchNorm2d(8)
        self.b = nn.BatchNorm2d(8)
        self.c = nn.BatchNorm2d(8)
        self.last = nn.Conv2d(8, 4, 3, padding=1)

    def forward(self, x):
        x = self.first(x)
        x = self.a(x) * x
        x = self.b(self.twice(x)) + self.twice(x)
        return self.last(self.c(x)).mean(dim=(2, 3))


# EfficientNet-Lite pads as TensorFlow does: at 33 and 50 pixels some layers get unequal
# numbers of zeros, at 32 others.
@pytest.mark.parametrize(
    "size",
    [
        32,
        33,
    ],
)
@pytest.mark.parametrize(
    ("make", "norms_left"),
    [
        (lambda: timm.create_model("tf_efficientnet_lite0", num_classes=0), 0),
        (lambda: timm.create_model("test_resnet", num_classes=0), 0),
        (lambda: timm.create_model("test_efficientnet", num_classes=0), 0),
        (Odd, 3),
    ],
)
def test_folded_models_compute_the_same(make, norms_left, size):
    model = untrained(make())
    before = {name: value.clone() for name, value in model.state_dict().items()}
    exact = copy.deepcopy(model).double()
    folded = folding.fold(model).to(memory_format=torch.channels_last)
    assert normalised(folded) == norms_left
    with torch.inference_mode():
        for count in (4, 1):
            x = torch.randn(count, 3, size, size)
            expected = exact(x.double()).float()
            got = folded(x.contiguous(memory_format=torch.channels_last))
            assert (got - expected).norm() < 1e-5 * expected.norm()
            with torch.autocast("cpu", torch.bfloat16):
                half = folded(x)
            assert (
                1e-5 * expected.norm()
                < (half - expected).norm()
                < 0.1 * expected.norm()
            )
    torch.testing.assert_close(model.state_dict(), before, rtol=0, atol=0)


class Untraceable(nn.Module):
    """A model whose way depends on the values."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)
        self.norm = nn.BatchNorm2d(4)

    def forward(self, x):
        x = self.norm(self.conv(x))
        return (x if x.sum() > 0 else -x).mean(dim=(2, 3))


def test_what_cannot_be_folded_stays_and_the_log_says_why(caplog):
    caplog.set_level(logging.INFO, logger="sae.progress")
    vit = timm.create_model("test_vit")
    # There is nothing to fold.
    assert folding.fold(vit.eval()) is vit
    assert not caplog.messages
    model = Untraceable().eval()
    assert folding.fold(model) is model
    assert (
        "BatchNorm is not folded, the model cannot be traced: TraceError" in caplog.text
    )


@pytest.fixture(scope="module")
def photographs():
    """40 crops of two photographs."""
    sources = [Image.fromarray(image) for image in load_sample_images().images]
    rng = np.random.default_rng(0)
    places = rng.integers(300, size=(40, 2))
    return {
        str(i): sources[i % 2].crop((x, y, x + 100, y + 90))
        for i, (x, y) in enumerate(places)
    }


def test_normalised_bytes_are_the_transform_bit_for_bit(photographs):
    timms = create_transform(
        (3, 48, 48), mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225)
    )
    for transform in (timms, open_clip.image_transform(48, is_train=False)):
        split = folding.pixel_transform(transform)
        got = split.normalise(
            torch.stack([split(image) for image in photographs.values()])
        )
        expected = torch.stack([transform(image) for image in photographs.values()])
        assert got.is_contiguous(memory_format=torch.channels_last) and torch.equal(
            got, expected
        )
    assert folding.pixel_transform(lambda image: torch.zeros(3, 8, 8)) is None
    assert (
        folding.pixel_transform(Compose([ToTensor(), Normalize(0.5, 0.5), torch.neg]))
        is None
    )


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("name", ["tf_efficientnet_lite0", "test_vit"])
def test_an_embedding_depends_neither_on_threads_nor_on_what_came_before(
    name, precision, photographs
):
    model = untrained(timm.create_model(name, num_classes=0))
    size = model.pretrained_cfg["input_size"][1] if name == "test_vit" else 64
    transform = create_transform((3, size, size))
    options = {
        "batch_size": 8,
        "device": "cpu",
        "workers": 0,
        "precision": precision,
    }
    paths = list(photographs)[:36]  # The last batch is smaller.
    threads_before = torch.get_num_threads()
    batches_by_threads = {}
    with torch.inference_mode():  # As its library runs it: images alone, NCHW, float32.
        expected = np.concatenate(
            [model(transform(photographs[path])[None]).numpy() for path in paths]
        )
    try:
        for threads in (1, 3):
            torch.set_num_threads(threads)
            batches_by_threads[threads] = list(
                embed_images(
                    Backbone(model, transform), photographs.get, paths, **options
                )
            )
            assert torch.get_num_threads() == threads
        again = list(
            embed_images(
                Backbone(model, transform), photographs.get, paths[32:], **options
            )
        )
        again += embed_images(
            Backbone(model, transform), photographs.get, paths[16:], **options
        )
    finally:
        torch.set_num_threads(threads_before)
    alone = batches_by_threads[1]
    side_by_side = batches_by_threads[3]
    assert [len(batch) for batch in side_by_side] == [8, 8, 8, 8, 4]
    np.testing.assert_array_equal(np.concatenate(side_by_side), np.concatenate(alone))
    for batch, equal_batch in zip(again[1:], alone[2:], strict=True):
        np.testing.assert_array_equal(batch, equal_batch)
    np.testing.assert_array_equal(again[0], alone[4])

    distance = np.linalg.norm(np.concatenate(side_by_side) - expected, axis=1)
    distance /= np.linalg.norm(expected, axis=1)
    if precision == "float32":
        assert (distance < 1e-5).all()
    else:
        assert (distance > 1e-5).all()
        assert (distance < 0.1).all()


def test_a_processor_that_emulates_bfloat16_does_not_have_it(monkeypatch):
    asks = folding.has_bfloat16.__wrapped__
    monkeypatch.setattr(folding.platform, "machine", lambda: "x86_64")
    monkeypatch.setattr(
        folding, "_ONEDNN", SimpleNamespace(_is_mkldnn_bf16_supported=lambda: True)
    )
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "AVX512")
    for native in (True, False):  # oneDNN says yes of either.
        monkeypatch.setattr(
            torch.cpu,
            "_is_avx512_bf16_supported",
            lambda native=native: native,
            raising=False,
        )
        assert asks("cpu") is native
    # ATEN_CPU_CAPABILITY=avx2 on a processor that has it: emulated, and slow.
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: True)
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "AVX2")
    assert asks("cpu") is False
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "AVX512")
    # An older PyTorch does not say.
    monkeypatch.delattr(torch.cpu, "_is_avx512_bf16_supported")
    assert asks("cpu") is False
    monkeypatch.setattr(folding.platform, "machine", lambda: "aarch64")
    monkeypatch.setattr(
        torch.cuda, "is_bf16_supported", lambda including_emulation: including_emulation
    )
    assert asks("cpu") is True and not asks("cuda") and not asks("mps")


@pytest.mark.skipif(
    platform.machine() not in ("x86_64", "AMD64"), reason="asks x86 processors"
)
def test_a_processor_that_is_told_to_have_avx2_alone_has_no_bfloat16():
    """Products in bfloat16 are hundreds of times slower there."""
    asks = "from sae.data.folding import has_bfloat16; print(has_bfloat16('cpu'))"
    environment = {**os.environ, "ATEN_CPU_CAPABILITY": "avx2"}
    answer = subprocess.check_output(
        [sys.executable, "-c", asks], env=environment, text=True
    )
    assert answer == "False\n"


def test_batches_before_a_broken_image_are_kept(photographs):
    def open_image(path):
        if path == "20":
            raise OSError("it is gone")
        return photographs[path]

    backbone = Backbone(nn.Flatten(), create_transform((3, 8, 8)))
    batches = []
    threads_before = torch.get_num_threads()
    options = {"batch_size": 4, "device": "cpu", "workers": 0}
    try:
        torch.set_num_threads(2)
        with pytest.raises(UserError, match="image 20 cannot be read: it is gone"):
            for batch in embed_images(
                backbone, open_image, list(photographs), **options
            ):
                batches.append(batch)
    finally:
        torch.set_num_threads(threads_before)
    assert len(batches) == 5

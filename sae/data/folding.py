"""A backbone made ready for inference: its forward pass and its transform cost less, and compute the same.

BatchNorm of a trained network is a scale and a shift of each channel, which the convolution before it can do. Where
that convolution's output goes is read from a graph (torch.fx), not guessed from the order of the modules. On a CPU
oneDNN, which PyTorch brings, then adds the activation within the convolution, from weights that it laid out once.
"""

import functools
import logging
import platform
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, cast

import numpy as np
import torch
from PIL import Image
from torch import fx, nn
from torch.nn import functional as F
from torch.nn.utils.fusion import fuse_conv_bn_eval

from sae.core.errors import in_one_line

progress = logging.getLogger("sae.progress")
# What torch.compile calls on a CPU. Not every build of PyTorch has it.
_ONEDNN = (
    torch.ops.mkldnn if hasattr(torch.ops.mkldnn, "_convolution_pointwise") else None
)
# Its own names of the activations that it can add.
_FUSED: dict[type[nn.Module], tuple[str, list[float]]] = {
    nn.Identity: ("none", []),
    nn.ReLU: ("relu", []),
    nn.ReLU6: ("hardtanh", [0.0, 6.0]),
}
# oneDNN lays weights out for one batch size. It is always this one, so the first batch does not matter.
_PACKED_FOR = 16


@functools.cache
def has_bfloat16(device: str) -> bool:
    """Whether a device computes in bfloat16 itself, and does not emulate it."""
    kind = torch.device(device).type
    if kind != "cpu" or _ONEDNN is None:
        return kind == "cuda" and torch.cuda.is_bf16_supported(
            including_emulation=False
        )
    if platform.machine() in (
        "x86_64",
        "AMD64",
    ):  # Of these oneDNN says yes wherever it can emulate.
        return getattr(torch.cpu, "_is_avx512_bf16_supported", bool)()
    return _ONEDNN._is_mkldnn_bf16_supported()


def fold(model: nn.Module) -> nn.Module:
    """A model that computes the same to rounding, its BatchNorm folded into its convolutions.

    A model without BatchNorm is returned as it is. So is one whose graph cannot be traced; the log says why.

    Args:
        model: in eval mode; maps images (N, 3, H, W) to embeddings (N, d). It is left as it is.
    """
    if not any(isinstance(module, nn.BatchNorm2d) for module in model.modules()):
        return model
    try:
        graph = _Tracer().trace(model)
    except (
        Exception
    ) as error:  # Models are other people's code: tracing them raises anything.
        said = "BatchNorm is not folded, the model cannot be traced: %s: %s"
        progress.info(said, type(error).__name__, in_one_line(error))
        return model
    folded = fx.GraphModule(model, graph)
    modules = dict(folded.named_modules())
    calls = Counter(node.target for node in graph.nodes if node.op == "call_module")
    for node in list(graph.nodes):
        found = _normalised(node, modules, calls)
        if found is None:
            continue
        before, conv, norm = found
        activation = getattr(norm, "act", None) or nn.Identity()
        folded.set_submodule(
            str(before.target), _Convolution(fuse_conv_bn_eval(conv, norm), activation)
        )
        node.replace_all_uses_with(before)
        graph.erase_node(node)
    folded.delete_all_unused_submodules()
    folded.recompile()
    return folded.eval()


class _Tracer(fx.Tracer):
    """Keeps convolutions and BatchNorm whole, timm's variants among them."""

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return isinstance(m, nn.Conv2d | nn.BatchNorm2d) or super().is_leaf_module(
            m, module_qualified_name
        )


def _normalised(
    node: fx.Node, modules: dict[str, nn.Module], calls: Counter[Any]
) -> tuple[fx.Node, nn.Conv2d, nn.BatchNorm2d] | None:
    """The convolution (its node and module) whose output goes into the BatchNorm of a node, and nowhere else."""
    norm = modules.get(str(node.target)) if node.op == "call_module" else None
    before = node.args[0] if node.args else None
    if (
        not isinstance(before, fx.Node)
        or before.op != "call_module"
        or len(before.users) > 1
    ):
        return None
    conv = modules.get(str(before.target))
    # timm's variant normalises, then activates; its dropout does nothing in eval mode. What others do is not known.
    known = type(norm) is nn.BatchNorm2d or type(norm).__name__ == "BatchNormAct2d"
    whole = isinstance(norm, nn.BatchNorm2d) and norm.running_mean is not None
    if (
        not known
        or not whole
        or not _is_plain(conv)
        or calls[node.target] + calls[before.target] > 2
    ):
        return None
    return before, cast(nn.Conv2d, conv), cast(nn.BatchNorm2d, norm)


def _is_plain(conv: nn.Module | None) -> bool:
    if type(conv).__name__ == "Conv2dSame":  # timm's: pads as TensorFlow does.
        return cast(nn.Conv2d, conv).dilation == (1, 1)
    return (
        type(conv) is nn.Conv2d
        and conv.padding_mode == "zeros"
        and not isinstance(conv.padding, str)
    )


class _Convolution(nn.Module):
    """A convolution with bias, and an activation."""

    def __init__(self, conv: nn.Conv2d, activation: nn.Module) -> None:
        super().__init__()
        self.weight, self.bias, self.activation = conv.weight, conv.bias, activation
        self.stride, self.padding, self.dilation, self.groups = (
            conv.stride,
            conv.padding,
            conv.dilation,
            conv.groups,
        )
        self.same = type(conv).__name__ == "Conv2dSame"
        self.fused = _FUSED.get(type(activation))
        self.packed: dict[
            tuple[torch.dtype, torch.Size], tuple[torch.Tensor, tuple]
        ] = {}

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(N, C, H, W) to (N, C', H', W')."""
        known = (
            has_bfloat16("cpu")
            if x.dtype == torch.bfloat16
            else not torch.is_autocast_enabled("cpu")
        )
        known = known and x.dtype == self.weight.dtype and x.device.type == "cpu"
        if _ONEDNN is None or self.fused is None or not known:
            weight, padding = self.kernel(x)
            return self.activation(
                F.conv2d(
                    x,
                    weight,
                    self.bias,
                    self.stride,
                    padding,
                    self.dilation,
                    self.groups,
                )
            )
        # By the shape of an image alone, so that nothing depends on which batch came first.
        shape = x.shape[1:]
        if (x.dtype, shape) not in self.packed:
            weight, padding = self.kernel(x)
            how = (padding, self.stride, self.dilation, self.groups)
            self.packed[x.dtype, shape] = (
                _ONEDNN._reorder_convolution_weight(
                    weight, *how, [_PACKED_FOR, *shape]
                ),
                how,
            )
        weight, how = self.packed[x.dtype, shape]
        return _ONEDNN._convolution_pointwise(
            x, weight, self.bias, *how, *self.fused, ""
        )

    def kernel(self, x: torch.Tensor) -> tuple[torch.Tensor, list[int]]:
        """The weights and the zeros on each side, (rows, columns), with which an image is convolved.

        TensorFlow's padding may need one zero more at the bottom or on the right, for which PyTorch would copy the
        image. A kernel that begins with a row or column of zeros, and equal sides, compute the same.
        """
        if not self.same:
            return self.weight, list(cast(tuple[int, ...], self.padding))
        size, stride = self.weight.shape[2:], self.stride
        zeros = [
            max(
                (-(-x.shape[i + 2] // stride[i]) - 1) * stride[i]
                + size[i]
                - x.shape[i + 2],
                0,
            )
            for i in (0, 1)
        ]
        return F.pad(self.weight, (zeros[1] % 2, 0, zeros[0] % 2, 0)), [
            -(-z // 2) for z in zeros
        ]


def pixels(transform: Callable[[Image.Image], torch.Tensor]) -> "Pixels | None":
    """The parts of a transform that ends by scaling an image's bytes and normalising them; None of another one."""
    from torchvision.transforms import Normalize, ToTensor

    steps = getattr(transform, "transforms", [])
    if (
        len(steps) < 2
        or not isinstance(steps[-2], ToTensor)
        or not isinstance(steps[-1], Normalize)
    ):
        return None
    return Pixels(
        steps[:-2], torch.as_tensor(steps[-1].mean), torch.as_tensor(steps[-1].std)
    )


@dataclass(frozen=True)
class Pixels:
    """A transform in two parts: an image stays bytes until its batch lies on the device.

    Attributes:
        steps: from PIL images to PIL images.
        mean, std: (3) float32, of pixels between 0 and 1.
    """

    steps: Sequence[Callable[[Image.Image], Image.Image]]
    mean: torch.Tensor
    std: torch.Tensor

    def to(self, device: str | torch.device) -> "Pixels":
        """Return the same transform with its mean and std on a device."""
        return replace(self, mean=self.mean.to(device), std=self.std.to(device))

    def __call__(self, image: Image.Image) -> torch.Tensor:
        """An image as bytes (H, W, 3)."""
        for step in self.steps:
            image = step(image)
        return torch.from_numpy(np.array(image))

    def normalise(self, batch: torch.Tensor) -> torch.Tensor:
        """Return bytes (N, H, W, 3) as (N, 3, H, W) float32 in channels_last, bit for bit what the transform gives.

        Args:
            batch: On the device of `mean` and `std`.
        """
        n, height, width, channels = batch.shape
        # Row by row: three channels alone are too short a loop.
        mean, std = (
            value.to(torch.float32).repeat(width) for value in (self.mean, self.std)
        )
        rows = (
            batch.view(n * height, width * channels)
            .float()
            .div_(255)
            .sub_(mean)
            .div_(std)
        )
        return rows.view(n, height, width, channels).permute(0, 3, 1, 2)

"""A backbone made ready for inference: it costs less, and computes the same.

BatchNorm of a trained network is a scale and a shift of each channel, which the
convolution before it can do. Where that convolution's output goes is read from a graph
(torch.fx), not guessed from the order of the modules. On a CPU oneDNN, which PyTorch
brings, then adds the activation within the convolution, from weights that it laid out
once. :func:`fold` does this.

The end of a transform, which scales and normalises pixels, is done for a whole batch on
the device (:func:`pixel_transform`).
"""

import functools
import logging
import platform
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple, cast

import numpy as np
import torch
from jaxtyping import Float, UInt8
from PIL import Image
from torch import Tensor, fx, nn
from torch.nn import functional as F
from torch.nn.utils.fusion import fuse_conv_bn_eval

from sae.core.errors import in_one_line

progress = logging.getLogger("sae.progress")
# What torch.compile calls on a CPU. Not every build of PyTorch has it.
_ONEDNN = None
if hasattr(torch.ops.mkldnn, "_convolution_pointwise"):
    _ONEDNN = torch.ops.mkldnn
# {an activation that oneDNN can add: its name there, and its numbers}
_FUSED: dict[type[nn.Module], tuple[str, list[float]]] = {
    nn.Identity: ("none", []),
    nn.ReLU: ("relu", []),
    nn.ReLU6: ("hardtanh", [0.0, 6.0]),
}
# oneDNN lays weights out for one batch size. It is always this one, so the first batch
# does not matter.
_PACKED_FOR = 16


@functools.cache
def has_bfloat16(device: str) -> bool:
    """Say whether a device computes in bfloat16 itself, and does not emulate it."""
    device_type = torch.device(device).type
    if device_type != "cpu" or _ONEDNN is None:
        return device_type == "cuda" and torch.cuda.is_bf16_supported(
            including_emulation=False
        )
    # Of these machines oneDNN says yes wherever it can emulate.
    if platform.machine() in ("x86_64", "AMD64"):
        # Products without AVX-512, as ATEN_CPU_CAPABILITY may ask for, emulate it too.
        uses_avx512 = torch.backends.cpu.get_cpu_capability().startswith("AVX512")
        return uses_avx512 and getattr(torch.cpu, "_is_avx512_bf16_supported", bool)()
    return _ONEDNN._is_mkldnn_bf16_supported()


def fold(model: nn.Module) -> nn.Module:
    """Fold a model's BatchNorm into its convolutions; it computes the same to rounding.

    Args:
        model: in eval mode; maps images (N, 3, H, W) to embeddings (N, d). It is left
            as it is.

    Returns:
        Another model. A model without BatchNorm is returned itself. So is one whose
        graph cannot be traced; the log says why.
    """
    if not any(isinstance(module, nn.BatchNorm2d) for module in model.modules()):
        return model
    try:
        graph = _Tracer().trace(model)
    # Models are other people's code: tracing them raises anything.
    except Exception as error:
        progress.info(
            "BatchNorm is not folded, the model cannot be traced: %s: %s",
            type(error).__name__,
            in_one_line(error),
        )
        return model

    folded = fx.GraphModule(model, graph)
    modules = dict(folded.named_modules())
    call_counts = Counter(
        node.target for node in graph.nodes if node.op == "call_module"
    )
    for node in list(graph.nodes):
        pair = _foldable_pair(node, modules, call_counts)
        if pair is None:
            continue
        conv_node, conv, norm = pair
        activation = getattr(norm, "act", None) or nn.Identity()
        folded.set_submodule(
            str(conv_node.target),
            _Convolution(fuse_conv_bn_eval(conv, norm), activation),
        )
        node.replace_all_uses_with(conv_node)
        graph.erase_node(node)
    folded.delete_all_unused_submodules()
    folded.recompile()
    return folded.eval()


class _Tracer(fx.Tracer):
    """A tracer that keeps convolutions and BatchNorm whole, timm's variants too."""

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return isinstance(m, nn.Conv2d | nn.BatchNorm2d) or super().is_leaf_module(
            m, module_qualified_name
        )


def _foldable_pair(
    node: fx.Node, modules: dict[str, nn.Module], call_counts: Counter[Any]
) -> tuple[fx.Node, nn.Conv2d, nn.BatchNorm2d] | None:
    """Return a convolution's node, the convolution, and the BatchNorm behind it."""
    if node.op != "call_module":
        return None
    norm = modules.get(str(node.target))
    conv_node = node.args[0] if node.args else None
    if not isinstance(conv_node, fx.Node) or conv_node.op != "call_module":
        return None
    conv = modules.get(str(conv_node.target))

    if not _is_foldable_norm(norm) or not _is_plain_convolution(conv):
        return None
    is_read_elsewhere = len(conv_node.users) > 1
    is_called_twice = call_counts[node.target] + call_counts[conv_node.target] > 2
    if is_read_elsewhere or is_called_twice:
        return None
    return conv_node, cast(nn.Conv2d, conv), cast(nn.BatchNorm2d, norm)


def _is_foldable_norm(module: nn.Module | None) -> bool:
    # timm's variant normalises, then activates; its dropout does nothing in eval mode.
    # What others do is not known.
    is_known = (
        type(module) is nn.BatchNorm2d or type(module).__name__ == "BatchNormAct2d"
    )
    return (
        is_known
        and isinstance(module, nn.BatchNorm2d)
        and module.running_mean is not None
    )


def _is_plain_convolution(module: nn.Module | None) -> bool:
    # timm's: pads as TensorFlow does.
    if type(module).__name__ == "Conv2dSame":
        return cast(nn.Conv2d, module).dilation == (1, 1)
    return (
        type(module) is nn.Conv2d
        and module.padding_mode == "zeros"
        and not isinstance(module.padding, str)
    )


class _Kernel(NamedTuple):
    """The numbers with which an image is convolved.

    Attributes:
        weight: (C', C / groups, rows, columns).
        padding: zeros above and below the image, and on its left and right.
    """

    weight: Float[Tensor, "out in rows columns"]
    padding: list[int]


class _Convolution(nn.Module):
    """A convolution with bias, and an activation."""

    def __init__(self, conv: nn.Conv2d, activation: nn.Module) -> None:
        super().__init__()
        self.weight = conv.weight
        self.bias = conv.bias
        self.activation = activation
        self.stride = conv.stride
        self.padding = conv.padding
        self.dilation = conv.dilation
        self.groups = conv.groups
        self.pads_as_tensorflow = type(conv).__name__ == "Conv2dSame"
        self.fused_activation = _FUSED.get(type(activation))
        # {(type, shape of an image): the kernel as oneDNN lays it out}
        self.packed_kernels: dict[tuple[torch.dtype, torch.Size], _Kernel] = {}

    def forward(
        self, images: Float[Tensor, "N C H W"]
    ) -> Float[Tensor, "N C_out H_out W_out"]:
        """Convolve images, and apply the activation."""
        fused_activation = self.fused_activation
        if (
            _ONEDNN is None
            or fused_activation is None
            or not self._suits_onednn(images)
        ):
            weight, padding = self.kernel(images)
            convolved = F.conv2d(
                images,
                weight,
                self.bias,
                self.stride,
                padding,
                self.dilation,
                self.groups,
            )
            return self.activation(convolved)

        # By the shape of an image alone, so that nothing depends on which batch came
        # first.
        image_shape = images.shape[1:]
        key = (images.dtype, image_shape)
        if key not in self.packed_kernels:
            weight, padding = self.kernel(images)
            packed_weight = _ONEDNN._reorder_convolution_weight(
                weight,
                padding,
                self.stride,
                self.dilation,
                self.groups,
                [_PACKED_FOR, *image_shape],
            )
            self.packed_kernels[key] = _Kernel(packed_weight, padding)
        packed = self.packed_kernels[key]
        return _ONEDNN._convolution_pointwise(
            images,
            packed.weight,
            self.bias,
            packed.padding,
            self.stride,
            self.dilation,
            self.groups,
            *fused_activation,
            "",
        )

    def _suits_onednn(self, images: Tensor) -> bool:
        """Say whether oneDNN computes with images as they are."""
        if images.dtype != self.weight.dtype or images.device.type != "cpu":
            return False
        if images.dtype == torch.bfloat16:
            return has_bfloat16("cpu")
        return not torch.is_autocast_enabled("cpu")

    def kernel(self, images: Float[Tensor, "N C H W"]) -> _Kernel:
        """Return the weights and the padding with which images of a size are convolved.

        TensorFlow's padding may need one zero more at the bottom or on the right, for
        which PyTorch would copy the image. A kernel that begins with a row or column of
        zeros, and equal sides, compute the same.
        """
        if not self.pads_as_tensorflow:
            return _Kernel(self.weight, list(cast(tuple[int, ...], self.padding)))
        # How many zeros rows and columns need, both sides together.
        zeros = []
        for axis in (0, 1):
            image_size = images.shape[2 + axis]
            kernel_size = self.weight.shape[2 + axis]
            output_size = -(-image_size // self.stride[axis])
            covered = (output_size - 1) * self.stride[axis] + kernel_size
            zeros.append(max(covered - image_size, 0))
        row_zeros, column_zeros = zeros
        weight = F.pad(self.weight, (column_zeros % 2, 0, row_zeros % 2, 0))
        return _Kernel(weight, [-(-row_zeros // 2), -(-column_zeros // 2)])


def pixel_transform(
    transform: Callable[[Image.Image], Tensor],
) -> "PixelTransform | None":
    """Part a transform that ends by scaling an image's bytes and normalising them.

    Returns:
        None for a transform that ends otherwise.
    """
    from torchvision.transforms import Normalize, ToTensor

    steps = getattr(transform, "transforms", [])
    if len(steps) < 2:
        return None
    scale, normalise = steps[-2:]
    if not isinstance(scale, ToTensor) or not isinstance(normalise, Normalize):
        return None
    return PixelTransform(
        steps[:-2], torch.as_tensor(normalise.mean), torch.as_tensor(normalise.std)
    )


@dataclass(frozen=True)
class PixelTransform:
    """A transform in two parts: an image stays bytes until its batch is on the device.

    Attributes:
        steps: from PIL images to PIL images.
        mean: (3) float32, of pixels between 0 and 1.
        std: (3) float32, of pixels between 0 and 1.
    """

    steps: Sequence[Callable[[Image.Image], Image.Image]]
    mean: Float[Tensor, "3"]
    std: Float[Tensor, "3"]

    def to(self, device: str | torch.device) -> "PixelTransform":
        """Return the same transform with its mean and std on a device."""
        return replace(self, mean=self.mean.to(device), std=self.std.to(device))

    def __call__(self, image: Image.Image) -> UInt8[Tensor, "H W 3"]:
        """Return an image as bytes."""
        for step in self.steps:
            image = step(image)
        return torch.from_numpy(np.array(image))

    def normalise(self, batch: UInt8[Tensor, "N H W 3"]) -> Float[Tensor, "N 3 H W"]:
        """Normalise images, bit for bit as the whole transform does.

        Args:
            batch: bytes, on the device of `mean` and `std`.

        Returns:
            float32 in channels_last.
        """
        image_count, height, width, channels = batch.shape
        # Row by row: three channels alone are too short a loop.
        row_mean = self.mean.to(torch.float32).repeat(width)
        row_std = self.std.to(torch.float32).repeat(width)
        rows = batch.view(image_count * height, width * channels)
        rows = rows.float().div_(255).sub_(row_mean).div_(row_std)
        return rows.view(image_count, height, width, channels).permute(0, 3, 1, 2)

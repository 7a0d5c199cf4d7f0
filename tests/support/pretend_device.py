"""A pretend accelerator: code for devices is tested where there is none.

Its tensors say that they lie on another device, and hold their numbers on the CPU. So
an operation gives what it gives on the CPU, and a difference comes from code that asks
which device it is on. What a real device refuses is refused, as is a copy that may be
read too early, and what makes the host wait for the device is counted::

    with pretend_device() as device:
        coder, rows = train(x.to(DEVICE), settings, *entries)
    print(device.waits)

The device says that it is MPS, or CUDA: with `pretend_device(CUDA)` what stands behind
`device.type == "cuda"` runs. MPS refuses more: float64, and any copy that does not wait.

Not seen here:

- the speed, memory and kernels of a real device, and operations that it lacks;
- waits inside an operation that PyTorch does not mark;
- float64 within one operation, as in a copy to the CPU that widens on its way;
- how much memory is free (`sae.models.inputs.open_inputs` on CUDA): it is `FREE`;
- whether memory is pinned: `sae.data.forward.embed_images` asks for it on CUDA, and
  PyTorch pins none without an accelerator. So a copy that would wait because its source
  is not pinned is not counted;
- whether copying back one batch late, as on CUDA, saves any time;
- what is asked about a device before it is used: `sae.core.workers.available_device` and
  `sae.data.folding.has_bfloat16`.

PyTorch can also register a device of Python code (`torch.utils.backend_registration`),
but never take it back: each later test of the process would find an accelerator.
"""

import contextlib
import warnings
from collections import Counter
from unittest import mock

import torch
from torch.optim import optimizer
from torch.overrides import TorchFunctionMode
from torch.utils import _foreach_utils
from torch.utils._python_dispatch import TorchDispatchMode

CUDA, MPS = torch.device("cuda"), torch.device("mps")
# Where a test asks for no other one: it refuses the most.
DEVICE = MPS
# What PyTorch takes it for. It is PyTorch's device without memory: of those that a
# build for CPUs knows, the one on which autograd needs no driver.
INNER = torch.device("meta")
TO_CPU, TO_DEVICE = "copy to the CPU", "copy to the device"
# Bytes of memory that CUDA says are free.
FREE = 1 << 30
LACKING = {CUDA: set(), MPS: {torch.float64, torch.complex128}}
# PyTorch marks operations of which the host reads a value or a size.
READ_BY_HOST = {torch.Tag.data_dependent_output, torch.Tag.dynamic_output_shape}
INDEXING = {"aten::index", "aten::index_put", "aten::index_put_"}
# PyTorch warns of its own ways on such a device.
WARNINGS = ["at::frobenius_norm is deprecated", "'pin_memory' argument is set as true"]


class DevicesMixed(RuntimeError):
    """An operation on the device got something that is the CPU's."""


class TypeLacking(TypeError):
    """A tensor on the device would have a type that the device does not have."""


class CopyNotAwaited(RuntimeError):
    """Numbers may be read, or their memory used again, before a copy of them ended."""


class PretendTensor(torch.Tensor):
    """A tensor on the pretend device; `numbers` is the CPU's tensor that holds them."""

    @staticmethod
    def __new__(cls, numbers, device):
        tensor = torch.Tensor._make_wrapper_subclass(
            cls,
            numbers.shape,
            strides=numbers.stride(),
            storage_offset=numbers.storage_offset(),
            dtype=numbers.dtype,
            layout=numbers.layout,
            device=INNER,
        )
        tensor.numbers = numbers
        tensor.place = device
        return tensor

    @property
    def device(self):
        """The device that the tensor says it lies on."""
        return self.place

    @classmethod
    def __torch_dispatch__(cls, operation, types, args=(), kwargs=None):
        # Only outside the context of a device: within it the mode is asked first.
        return PretendDevice().compute(operation, args, kwargs or {})

    def tolist(self):
        """Return nested lists. PyTorch's own method cannot read this class."""
        return self.cpu().tolist()


class PretendDevice(TorchDispatchMode):
    """Computes all operations of a context on the CPU, and counts those that wait.

    Attributes:
        place: CUDA or MPS, the device that new tensors lie on.
        waits: {operation: how often the host would have waited for the device}.
    """

    def __init__(self, place=DEVICE):
        super().__init__()
        self.place = place
        self.waits = Counter()

    def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
        return self.compute(operation, args, kwargs or {})

    def compute(self, operation, args, kwargs):
        """Compute an operation; its output lies where a real device would have it."""
        on_device = []
        on_cpu = []

        def take_numbers(tensor):
            if isinstance(tensor, PretendTensor):
                on_device.append(tensor)
                return tensor.numbers
            on_cpu.append(tensor)
            return tensor

        cpu_args = replace_tensors(args, take_numbers)
        cpu_kwargs = replace_tensors(kwargs, take_numbers)
        name = operation._schema.name

        place = on_device[0].device if on_device else self.place
        output_on_device = bool(on_device)
        if name == "aten::copy_":
            output_on_device = isinstance(args[0], PretendTensor)
        elif kwargs.get("device") is not None:
            output_on_device = torch.device(kwargs["device"]).type in (
                place.type,
                INNER.type,
            )
            cpu_kwargs["device"] = torch.device("cpu")

        if name in ("aten::copy_", "aten::_to_copy"):
            asynchronous = kwargs.get("non_blocking") or args[2:] == (True,)
            if on_device and not output_on_device:
                self._count_copy(TO_CPU, asynchronous, refused=True)
            elif on_cpu and output_on_device:
                self._count_copy(TO_DEVICE, asynchronous, refused=place == MPS)
        elif output_on_device:
            self._check(operation, on_cpu, kwargs)
            self._count_wait(operation, args)

        output = operation(*cpu_args, **cpu_kwargs)
        if name == "aten::copy_":
            return args[0]
        if not output_on_device:
            return output

        # An operation in place returns its argument, which lies on the device already.
        arguments = {id(tensor.numbers): tensor for tensor in on_device}

        def send(numbers):
            argument = arguments.get(id(numbers))
            if argument is not None:
                return argument
            if numbers.dtype in LACKING[place]:
                raise TypeLacking(f"{name}: {place.type} has no {numbers.dtype}")
            return PretendTensor(numbers, place)

        return replace_tensors(output, send)

    def _check(self, operation, on_cpu, kwargs):
        """Refuse what a real device refuses.

        Row numbers on the CPU are refused too: a real device takes them, by a copy that
        the host waits for. A single number may lie on the CPU.

        Raises:
            DevicesMixed: a tensor lies elsewhere, random numbers would come from the
                CPU's generator, or the operation is one of a library for CPUs.
        """
        name = operation._schema.name
        for tensor in on_cpu:
            shape = tuple(tensor.shape)
            if tensor.is_meta:
                raise DevicesMixed(
                    f"{name}: shape {shape}, of PyTorch's own meta device"
                )
            if tensor.dim():
                raise DevicesMixed(f"{name}: shape {shape}, on the CPU")
        if kwargs.get("generator") is not None:
            raise DevicesMixed(f"{name}: with the CPU's generator")
        if operation.namespace == "mkldnn":
            raise DevicesMixed(f"{name}: of a library for CPUs")

    def _count_copy(self, direction, asynchronous, refused):
        """Count a copy that the host waits for.

        Raises:
            CopyNotAwaited: the host does not wait, and that is refused. To the CPU it
                always is: nothing here sees whether the code waits before it reads.
        """
        if not asynchronous:
            self.waits[direction] += 1
        elif refused:
            raise CopyNotAwaited(f"{direction}, with non_blocking=True")

    def _count_wait(self, operation, args):
        """Count an operation on the device that the host waits for."""
        name = operation._schema.name
        if name in INDEXING:
            # By a mask; row numbers need no look at their values.
            waits = any(
                isinstance(index, torch.Tensor) and index.dtype == torch.bool
                for index in args[1]
            )
        else:
            waits = bool(READ_BY_HOST & set(operation.tags))
        if waits:
            self.waits[name.removeprefix("aten::")] += 1


class CallsWithoutDriver(TorchFunctionMode):
    """Calls PyTorch with `INNER` in place of a device.

    PyTorch looks for the driver of a device before it asks the :class:`PretendDevice`.
    """

    def __init__(self, place):
        super().__init__()
        self.names = (place, place.type)

    def __torch_function__(self, function, types, args=(), kwargs=None):
        options = kwargs or {}
        if function is torch.device:
            return function(*args, **options)
        options = {name: self.inner(value) for name, value in options.items()}
        return function(*map(self.inner, args), **options)

    def inner(self, value):
        """Return `INNER` in place of the device or its name; other values as they are."""
        is_device = isinstance(value, str | torch.device)
        return INNER if is_device and value in self.names else value


def replace_tensors(value, replace):
    """Return an operation's arguments or output with each tensor replaced."""
    if isinstance(value, torch.Tensor):
        return replace(value)
    if isinstance(value, list | tuple):
        return type(value)(replace_tensors(item, replace) for item in value)
    if isinstance(value, dict):
        return {key: replace_tensors(item, replace) for key, item in value.items()}
    return value


@contextlib.contextmanager
def pretend_device(place=DEVICE):
    """Give a context the pretend device.

    Args:
        place: CUDA or MPS, the device that it says it is.

    Yields:
        The :class:`PretendDevice`, which counts the waits.
    """
    fused = _foreach_utils._get_fused_kernels_supported_devices()
    tensor_of = torch.tensor
    arange = torch.arange
    autocast = torch.autocast
    calls = CallsWithoutDriver(place)

    def make_tensor(content, *, device=None, **options):
        # PyTorch itself would make one without numbers.
        made = tensor_of(content, **options)
        return made if device is None else made.to(device)

    def make_range(*arguments, device=None, **options):
        # `embedding_bag` calls it inside its own call, which `calls` does not see.
        return arange(*arguments, device=calls.inner(device), **options)

    def start_autocast(device_type, *arguments, **options):
        # PyTorch has none for this device.
        kind = "cpu" if device_type == place.type else device_type
        return autocast(kind, *arguments, **options)

    replacements = {
        "tensor": make_tensor,
        "arange": make_range,
        "autocast": start_autocast,
        # In inference mode PyTorch would hand over operations whole that it else parts.
        "inference_mode": torch.no_grad,
    }
    with contextlib.ExitStack() as changes:
        for module in (_foreach_utils, optimizer):
            change = mock.patch.object(
                module,
                "_get_fused_kernels_supported_devices",
                lambda: [*fused, INNER.type],
            )
            changes.enter_context(change)
        changes.enter_context(mock.patch.multiple(torch, **replacements))
        memory = {"mem_get_info": lambda device=None: (FREE, FREE)}
        changes.enter_context(mock.patch.multiple(torch.cuda, **memory))
        changes.enter_context(warnings.catch_warnings())
        for message in WARNINGS:
            warnings.filterwarnings("ignore", message)

        # A module's parameters become tensors of another class when it is moved.
        swaps = torch.__future__.get_swap_module_params_on_conversion()
        changes.callback(torch.__future__.set_swap_module_params_on_conversion, swaps)
        torch.__future__.set_swap_module_params_on_conversion(True)
        changes.enter_context(calls)
        yield changes.enter_context(PretendDevice(place))

"""Run a backbone over images: read, decode, transform and embed them, in batches."""

import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import torch
from jaxtyping import Float, Int
from PIL import Image
from torch import Tensor

from sae.core.errors import UserError
from sae.core.options import Precision
from sae.data import folding, pictures
from sae.data.backbone import Backbone

_Element = TypeVar("_Element")
# A batch of images; or a text that says why one of them cannot be read.
_Batch = Tensor | str


def embed_images(
    backbone: Backbone,
    open_image: Callable[[str], Image.Image],
    paths: Sequence[str],
    *,
    batch_size: int,
    device: str,
    workers: int,
    precision: Precision = "float32",
    digests: Int[np.ndarray, " images"] | None = None,
) -> Iterator[Float[np.ndarray, "n d"]]:
    """Yield the embeddings (n, d) float32 of images, batch by batch.

    Args:
        backbone: the model and its transform.
        open_image: returns the PIL image of one of `paths`.
        paths: the images.
        batch_size: images in one forward pass.
        device: of PyTorch. On "cpu" each of PyTorch's threads embeds batches of its
            own, which changes no bit. On a GPU batches come one late.
        workers: number of processes that open and transform images; with 0, this
            process does.
        precision: of the network. With bfloat16 the weights of `backbone` itself are
            that from then on.
        digests: the `sae.data.pictures.digest` that each image must have; None: not
            checked.

    Raises:
        UserError: an image cannot be read or is another one, or the backbone gives
            complex numbers.
    """
    torch_device = torch.device(device)
    is_cuda = torch_device.type == "cuda"
    lane_count = 1
    if torch_device.type == "cpu":
        lane_count = torch.get_num_threads()

    weights_dtype = torch.bfloat16 if precision == "bfloat16" else None
    model = backbone.folded.to(  # type: ignore[call-overload]
        device, weights_dtype, memory_format=torch.channels_last
    )
    pixel_transform = folding.pixel_transform(backbone.transform)
    forward_pass = _ForwardPass(
        model,
        torch_device,
        weights_dtype,
        pixel_transform.to(torch_device) if pixel_transform else None,
    )
    loader: torch.utils.data.DataLoader = torch.utils.data.DataLoader(
        _Images(open_image, paths, pixel_transform or backbone.transform, digests),
        batch_size=batch_size,
        num_workers=workers,
        multiprocessing_context="fork" if workers else None,
        collate_fn=_collate,
        worker_init_fn=_silence_threads,
        pin_memory=is_cuda,
    )

    # On a GPU a batch is copied back while the next one is computed.
    lag = 1 if is_cuda else 0
    for embeddings in _lagging(_in_lanes(forward_pass, loader, lane_count), lag):
        yield embeddings.cpu().numpy()


@dataclass(frozen=True)
class _ForwardPass:
    """A function from a batch to its embeddings, which stay on the device.

    Attributes:
        model: maps images (n, 3, H, W) to embeddings (n, d).
        device: where the model is.
        weights_dtype: the type of its weights, if it is not float32.
        pixel_transform: the second part of the transform, where images come as bytes;
            None where they come transformed.
    """

    model: torch.nn.Module
    device: torch.device
    weights_dtype: torch.dtype | None
    pixel_transform: folding.PixelTransform | None

    def __call__(self, batch: _Batch) -> Float[Tensor, "n d"]:
        """Return the embeddings (n, d) float32 of a batch.

        Raises:
            UserError: the batch is a text, or the model gives complex numbers.
        """
        if isinstance(batch, str):
            raise UserError(batch)
        # Not on MPS: there the copy may read memory that is given back meanwhile.
        is_cuda = self.device.type == "cuda"
        images = batch.to(self.device, non_blocking=is_cuda)
        # Autocast beside weights in bfloat16: a model may make float32 on its way.
        autocast = torch.autocast(
            self.device.type, torch.bfloat16, enabled=self.weights_dtype is not None
        )
        with torch.inference_mode(), autocast:
            if self.pixel_transform:
                images = self.pixel_transform.normalise(images)
            images = images.to(
                dtype=self.weights_dtype, memory_format=torch.channels_last
            )
            embeddings = self.model(images)
            if embeddings.is_complex():
                raise UserError(
                    f"the backbone gave {embeddings.dtype}; embeddings are real numbers"
                )
            return embeddings.float()


def _lagging(elements: Iterable[_Element], lag: int) -> Iterator[_Element]:
    """Yield elements in their order, each after `lag` further ones were taken."""
    # So what makes them works ahead. At the end the last ones come without waiting.
    pending: deque[_Element] = deque()
    for element in elements:
        pending.append(element)
        if len(pending) > lag:
            yield pending.popleft()
    yield from pending


def _in_lanes(
    forward_pass: Callable[[_Batch], Tensor],
    batches: Iterable[_Batch],
    lane_count: int,
) -> Iterator[Tensor]:
    """Map batches to embeddings in their order, by several threads side by side."""
    # Each thread has one thread of PyTorch's. Small batches side by side keep cores
    # busier than a small batch that they share. This thread decodes meanwhile.
    if lane_count == 1:
        yield from map(forward_pass, batches)
        return
    torch.set_num_threads(1)
    try:
        with ThreadPoolExecutor(
            lane_count, initializer=torch.set_num_threads, initargs=(1,)
        ) as pool:
            futures = (pool.submit(forward_pass, batch) for batch in batches)
            for future in _lagging(futures, 2 * lane_count):
                yield future.result()
    finally:
        torch.set_num_threads(lane_count)


@dataclass
class _Images(torch.utils.data.Dataset):
    """Images as tensors. In place of one that cannot be read comes a text that says so.

    Attributes:
        open_image: returns the PIL image of one of `paths`.
        paths: the images.
        transform: maps a PIL image to a tensor.
        digests: the digest that each image must have; None: not checked.
    """

    open_image: Callable[[str], Image.Image]
    paths: Sequence[str]
    transform: Callable[[Image.Image], Tensor]
    digests: Int[np.ndarray, " images"] | None

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, number: int) -> Tensor | str:
        path = self.paths[number]
        try:
            image = self.open_image(path)
            is_indexed_one = (
                self.digests is None or pictures.digest(image) == self.digests[number]
            )
            if is_indexed_one:
                return self.transform(image)
            return (
                f"image {path} is not what it was when the dataset was indexed (or "
                "another version of Pillow decodes it otherwise): delete the dataset's "
                "manifest.json and run again"
            )
        except UserError as error:
            return str(error)
        except pictures.UNREADABLE as error:
            return f"image {path} cannot be read: {error}"


def _collate(images: list[Tensor | str]) -> _Batch:
    """Join the images of a batch; return the first text if some cannot be read."""
    tensors = []
    for image in images:
        if isinstance(image, str):
            return image
        tensors.append(image)
    batch = torch.stack(tensors)
    is_worker = torch.utils.data.get_worker_info() is not None
    if is_worker:
        try:
            # Otherwise a thread of the queue does this. Its failure is not reported,
            # and the reader waits for ever.
            batch.share_memory_()
        except RuntimeError as error:
            return (
                f"processes that decode lack shared memory ({error}): make /dev/shm "
                "larger, or use fewer workers"
            )
    return batch


def _silence_threads(_worker: int) -> None:
    # When the reader was stopped, the thread that sends it a batch reports that through
    # this hook. A worker's own errors reach the reader in another way.
    sys.excepthook = lambda *_: None

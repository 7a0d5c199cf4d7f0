"""eai-sparsify (MIT): a folder with `sae.safetensors` and `cfg.json`; Top-k alone."""

from typing import Annotated, Literal

from jaxtyping import Float
from pydantic import Field
from torch import Tensor
from torch.nn import functional

from sae.models import checkpoints
from sae.models.coder import Coder

AXES = {"encoder.weight": "md", "encoder.bias": "m", "W_dec": "md", "b_dec": "d"}


class SparsifyConfig(checkpoints.CheckpointSettings):
    """The settings in cfg.json.

    Where `num_latents` is 0, there are d_in * expansion_factor latents.
    """

    activation: Literal["topk"] = "topk"
    d_in: checkpoints.Size | None = None
    num_latents: Annotated[int, Field(ge=0, lt=2**31)] | None = None
    expansion_factor: checkpoints.Size | None = None
    k: checkpoints.Size | None = None
    transcode: Literal[False] = False
    skip_connection: Literal[False] = False
    # Of earlier versions: the largest by absolute value were kept.
    signed: Literal[False] = False


def fits(checkpoint: checkpoints.Checkpoint) -> bool:
    """Return whether the tensors have eai-sparsify's names."""
    return AXES.keys() <= checkpoint.tensors.keys()


def read(checkpoint: checkpoints.Checkpoint, options: checkpoints.Options) -> Coder:
    """Return the SAE of a checkpoint as a coder."""
    config = checkpoint.read_settings(SparsifyConfig)
    stated_m: dict[str, float | None]
    if config.num_latents:
        stated_m = {"num_latents": config.num_latents}
    else:
        product = checkpoints.multiply_known(config.d_in, config.expansion_factor)
        stated_m = {"d_in * expansion_factor": product}
    t = checkpoint.take_tensors(AXES, {"d_in": config.d_in}, stated_m)

    tensors = checkpoints.CoderTensors(
        t["encoder.weight"].T, t["encoder.bias"], t["W_dec"], t["b_dec"]
    )
    settings = options.completed_by(checkpoint.read_made_by())
    return checkpoints.make_coder(checkpoint, settings, tensors, config.k)


def forward(
    checkpoint: checkpoints.Checkpoint, k: int, x: Float[Tensor, "samples d"]
) -> tuple[Float[Tensor, "samples m"], Float[Tensor, "samples d"]]:
    """Return codes and reconstructions, by the library's own steps."""
    t = checkpoint.tensors
    centred = x - t["b_dec"]
    activations = functional.linear(
        centred, t["encoder.weight"], t["encoder.bias"]
    ).relu()
    codes = checkpoints.select_dense(activations, k, theta=None)
    return codes, codes @ t["W_dec"] + t["b_dec"]

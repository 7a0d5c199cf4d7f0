"""This project's own files (`sae.models.saefile`), to score in another experiment."""

from jaxtyping import Float
from torch import Tensor

from sae.core.errors import UserError
from sae.models import checkpoints, saefile
from sae.models.coder import Coder


class SaeFileHeader(checkpoints.CoderSettings):
    """The header of a file, which states all that other checkpoints may leave open."""

    k: checkpoints.Size
    input_norm: checkpoints.Norm
    input_scale: checkpoints.Scale


def fits(checkpoint: checkpoints.Checkpoint) -> bool:
    """Return whether the file's header is that of this project."""
    header_keys = {"select", "input_norm", "input_scale", "seal"}
    return header_keys <= checkpoint.config.keys()


def read(checkpoint: checkpoints.Checkpoint, options: checkpoints.Options) -> Coder:
    """Return the SAE of a file, whose seal is checked."""
    header = checkpoint.read_settings(SaeFileHeader)
    sealed = saefile.load(checkpoint.path)
    t = sealed.tensors()
    tensors = checkpoints.CoderTensors(
        t["W_enc"], t["b_enc"], t["W_dec"], t["b_dec"], t.get("theta")
    )
    settings = options.completed_by(header)
    coder = checkpoints.make_coder(checkpoint, settings, tensors, header.k)
    coder.metadata = sealed.metadata
    return coder


def forward(
    checkpoint: checkpoints.Checkpoint, k: int, x: Float[Tensor, "samples d"]
) -> tuple[Float[Tensor, "samples m"], Float[Tensor, "samples d"]]:
    """Return codes and reconstructions, by the formula of `sae.models.coder`.

    Raises:
        UserError: the SAE standardises each input.
    """
    sealed = saefile.load(checkpoint.path)
    if sealed.input_norm == "unit_l2_layernorm":
        raise UserError(
            f"{checkpoint.path} is a file of this project: it needs no check, leave "
            "--check out"
        )
    t = sealed.tensors()
    activations = ((x - t["b_dec"]) @ t["W_enc"] + t["b_enc"]).relu()
    codes = checkpoints.select_dense(activations, k, t.get("theta"))
    return codes, codes @ t["W_dec"] + t["b_dec"]

"""dictionary_learning (MIT): a folder with `ae.pt`, a state dict, and `config.json`.

Top-k, BatchTopK, Matryoshka, JumpReLU, gated and plain SAEs have state dicts of their
own. A Top-k SAE of this library keeps `threshold` at -1; a threshold from 0 on makes
the same tensors a BatchTopK SAE.
"""

from typing import Annotated

import torch
from jaxtyping import Float
from torch import Tensor

from sae.core.errors import UserError
from sae.core.options import like
from sae.models import checkpoints
from sae.models.coder import Coder

LINEAR_AXES = {"encoder.weight": "md", "decoder.weight": "dm"}
TOPK_AXES = LINEAR_AXES | {"encoder.bias": "m", "b_dec": "d"}
JUMPRELU_AXES = {
    "W_enc": "dm",
    "b_enc": "m",
    "W_dec": "md",
    "b_dec": "d",
    "threshold": "m?",
}
GATED_AXES = LINEAR_AXES | {
    "gate_bias": "m",
    "mag_bias": "m",
    "r_mag": "m",
    "decoder_bias": "d",
}
# The tensors of each class of the library, by their axes.
AXES_BY_CLASS = {
    "AutoEncoderTopK": TOPK_AXES,
    "BatchTopKSAE": TOPK_AXES | {"threshold": "m?"},
    "MatryoshkaBatchTopKSAE": JUMPRELU_AXES,
    "JumpReluAutoEncoder": JUMPRELU_AXES,
    "GatedAutoEncoder": GATED_AXES,
    "AutoEncoder": LINEAR_AXES | {"encoder.bias": "m", "bias": "d"},
}
# The names that this project has for the library's tensors.
OUR_NAMES = {
    "encoder.weight": "W_enc",
    "encoder.bias": "b_enc",
    "decoder.weight": "W_dec",
    "bias": "b_dec",
    "decoder_bias": "b_dec",
    "mag_bias": "b_enc",
}
ClassName = Annotated[
    str, like("|".join(AXES_BY_CLASS), f"allowed: {', '.join(AXES_BY_CLASS)}")
]


class TrainerConfig(checkpoints.CheckpointSettings):
    """The settings of the trainer that made an SAE."""

    dict_class: ClassName | None = None
    activation_dim: checkpoints.Size | None = None
    dict_size: checkpoints.Size | None = None
    group_sizes: list[checkpoints.Size] | None = None
    k: checkpoints.Size | None = None


class DictionaryLearningConfig(checkpoints.CheckpointSettings):
    """The settings in config.json; `made_by` is in this project's exports."""

    trainer: TrainerConfig = TrainerConfig()
    made_by: checkpoints.CoderSettings = checkpoints.CoderSettings()


def fits(checkpoint: checkpoints.Checkpoint) -> bool:
    """Return whether settings or tensors are those of a class of the library."""
    names = checkpoint.tensors.keys()
    trainer = checkpoint.config.get("trainer")
    if isinstance(trainer, dict) and "dict_class" in trainer:
        return True
    if "group_sizes" in names:
        return True

    is_linear = LINEAR_AXES.keys() <= names
    has_decoder_bias = not names.isdisjoint({"b_dec", "bias", "decoder_bias"})
    # Settings that name an activation are another library's.
    return is_linear and has_decoder_bias and "activation" not in checkpoint.config


def _class_by_tensors(checkpoint: checkpoints.Checkpoint) -> str:
    names = checkpoint.tensors.keys()
    if "group_sizes" in names:
        return "MatryoshkaBatchTopKSAE"
    if "r_mag" in names:
        return "GatedAutoEncoder"
    if {"W_enc", "threshold"} <= names:
        return "JumpReluAutoEncoder"
    if "bias" in names:
        return "AutoEncoder"

    threshold = checkpoint.take_tensors({"threshold": ""})["threshold"]
    if float(threshold) >= 0:
        return "BatchTopKSAE"
    return "AutoEncoderTopK"


def _read_sae(
    checkpoint: checkpoints.Checkpoint, trainer: TrainerConfig
) -> tuple[str, checkpoints.Tensors]:
    """Return the class of the library, and its tensors by our names where we have one.

    `W_enc` is (d, m), `W_dec` (m, d).
    """
    class_name = trainer.dict_class or _class_by_tensors(checkpoint)
    stated_d = {"trainer.activation_dim": trainer.activation_dim}
    stated_m = {
        "trainer.dict_size": trainer.dict_size,
        "the sum of trainer.group_sizes": sum(trainer.group_sizes or []) or None,
    }
    their_tensors = checkpoint.take_tensors(
        AXES_BY_CLASS[class_name], stated_d, stated_m
    )

    tensors = {}
    for name, tensor in their_tensors.items():
        is_weight = name.endswith(".weight")
        tensors[OUR_NAMES.get(name, name)] = tensor.T if is_weight else tensor
    return class_name, tensors


def _stated_k(
    checkpoint: checkpoints.Checkpoint,
    config_k: int | None,
    options: checkpoints.Options,
) -> int | None:
    """Return the k of the tensor `k`, or `trainer.k`; options decide conflicts."""
    if "k" not in checkpoint.tensors:
        return config_k
    tensor_content = {"k": checkpoint.tensors["k"].tolist()}
    tensor_k = checkpoints.CoderSettings.parse(tensor_content, checkpoint.path).k
    if options.k is None and config_k not in (None, tensor_k):
        raise UserError(
            f"{checkpoint.settings_file}: trainer.k is {config_k}, its tensor k is "
            f"{tensor_k}: say which (--k)"
        )
    return tensor_k


def read(checkpoint: checkpoints.Checkpoint, options: checkpoints.Options) -> Coder:
    """Return the SAE of a checkpoint as a coder."""
    config = checkpoint.read_settings(DictionaryLearningConfig)
    class_name, t = _read_sae(checkpoint, config.trainer)
    W_enc = t["W_enc"]
    b_enc = t["b_enc"]
    b_dec = t["b_dec"]
    theta = t.get("threshold")

    if class_name == "JumpReluAutoEncoder":
        # This class does not subtract b_dec from its inputs.
        b_enc = b_enc + b_dec @ W_enc
    elif class_name == "GatedAutoEncoder":
        # The gate is open where the magnitude's pre-activation is above a threshold.
        magnitude = t["r_mag"].exp()
        W_enc = W_enc * magnitude
        theta = b_enc - magnitude * t["gate_bias"]
    elif class_name == "AutoEncoder":
        theta = torch.zeros_like(b_enc)

    tensors = checkpoints.CoderTensors(W_enc, b_enc, t["W_dec"], b_dec, theta)
    settings = options.completed_by(config.made_by)
    checkpoint_k = _stated_k(checkpoint, config.trainer.k, options)
    return checkpoints.make_coder(checkpoint, settings, tensors, checkpoint_k)


def forward(
    checkpoint: checkpoints.Checkpoint, k: int, x: Float[Tensor, "samples d"]
) -> tuple[Float[Tensor, "samples m"], Float[Tensor, "samples d"]]:
    """Return codes and reconstructions, by the library's own steps."""
    config = checkpoint.read_settings(DictionaryLearningConfig)
    class_name, t = _read_sae(checkpoint, config.trainer)
    if class_name != "JumpReluAutoEncoder":
        x = x - t["b_dec"]
    pre_activations = x @ t["W_enc"]

    if class_name == "GatedAutoEncoder":
        is_open = pre_activations + t["gate_bias"] > 0
        magnitudes = (t["r_mag"].exp() * pre_activations + t["b_enc"]).relu()
        codes = is_open * magnitudes
    else:
        codes = (pre_activations + t["b_enc"]).relu()
        if class_name != "AutoEncoder":
            codes = checkpoints.select_dense(codes, k, t.get("threshold"))
    return codes, codes @ t["W_dec"] + t["b_dec"]

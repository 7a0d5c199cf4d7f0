"""Small valid checkpoints of every format that can be imported, with random weights."""

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from scoring.examples import coder as make_coder

from sae.models import saefile

D, M, K = 6, 16, 4
GENERATOR = torch.Generator().manual_seed(0)


@dataclass(frozen=True)
class Example:
    """A checkpoint that an importer reads.

    Attributes:
        format: the importer.
        write: write the checkpoint into a folder that it makes, and return the folder.
        options: what `convert.Options` must say.
    """

    format: str
    write: Callable[[Path], Path]
    options: dict = field(default_factory=dict)


def random_tensor(*shape):
    return torch.randn(*shape, generator=GENERATOR)


def random_embeddings(count=200):
    generator = np.random.default_rng(0)
    return generator.normal(size=(count, D)).astype(np.float32)


def write_checkpoint(
    folder,
    tensors,
    config,
    tensor_file="sae_weights.safetensors",
    config_file="cfg.json",
):
    """Write a file of tensors and, unless it is None, a config; return the folder."""
    folder.mkdir(parents=True)
    contiguous = {name: tensor.contiguous() for name, tensor in tensors.items()}
    save = save_file if tensor_file.endswith("safetensors") else torch.save
    save(contiguous, folder / tensor_file)
    if config is not None:
        (folder / config_file).write_text(json.dumps(config))
    return folder


CODER_TENSORS = {
    "W_enc": random_tensor(D, M),
    "b_enc": random_tensor(M),
    "W_dec": random_tensor(M, D),
    "b_dec": random_tensor(D),
}
SAELENS_CONFIG = {
    "architecture": "topk",
    "k": K,
    "d_in": D,
    "d_sae": M,
    "apply_b_dec_to_input": True,
}
SAELENS_GATED_TENSORS = {
    "W_enc": CODER_TENSORS["W_enc"],
    "W_dec": CODER_TENSORS["W_dec"],
    "b_dec": CODER_TENSORS["b_dec"],
    "r_mag": 0.3 * random_tensor(M),
    "b_mag": random_tensor(M),
    "b_gate": random_tensor(M),
}
LINEAR_ENCODER = {
    "encoder.weight": random_tensor(M, D),
    "encoder.bias": random_tensor(M),
}
TOPK_STATE_DICT = LINEAR_ENCODER | {
    "decoder.weight": random_tensor(D, M),
    "b_dec": random_tensor(D),
    "k": torch.tensor(K),
}
GATED_STATE_DICT = {
    "encoder.weight": random_tensor(M, D),
    "decoder.weight": random_tensor(D, M),
    "gate_bias": random_tensor(M),
    "mag_bias": random_tensor(M),
    "r_mag": 0.3 * random_tensor(M),
    "decoder_bias": random_tensor(D),
}
OVERCOMPLETE_TENSORS = {
    "encoder.final_block.0.weight": random_tensor(M, D),
    "encoder.final_block.0.bias": random_tensor(M),
    # Three times unit rows: the importer has to normalise them.
    "dictionary._weights": 3
    * torch.nn.functional.normalize(random_tensor(M, D), dim=1),
    "dictionary.multiplier": torch.tensor(0.2),
}
SPARSIFY_TENSORS = LINEAR_ENCODER | {
    "W_dec": random_tensor(M, D),
    "b_dec": random_tensor(D),
}
VISAEBENCH_TENSORS = LINEAR_ENCODER | {
    "decoder.weight": random_tensor(M, D),
    "decoder.bias": random_tensor(D),
}


def saelens_writer(**changed_settings):
    """Return a function that writes a checkpoint of SAELens, some settings changed."""
    tensors = CODER_TENSORS | {"threshold": 0.5 + random_tensor(M).abs()}
    config = SAELENS_CONFIG | changed_settings
    return lambda folder: write_checkpoint(folder, tensors, config)


def dictionary_learning_writer(class_name, tensors):
    """Return a function that writes a checkpoint of a class of dictionary_learning."""
    config = {"trainer": {"dict_class": class_name, "k": K}}
    return lambda folder: write_checkpoint(
        folder, tensors, config, "ae.pt", "config.json"
    )


def overcomplete_writer(**more_tensors):
    """Return a function that writes a checkpoint of Overcomplete."""
    tensors = OVERCOMPLETE_TENSORS | more_tensors
    return lambda folder: write_checkpoint(folder, tensors, None, "state_dict.pt")


def visaebench_writer(activation):
    """Return a function that writes a checkpoint of ViSAEBench with an activation."""
    config = {"k": K, "threshold": 0.7, "activation": activation}
    return lambda folder: write_checkpoint(
        folder, VISAEBENCH_TENSORS, config, "sae.pt", "config.json"
    )


def saev_writer(activation):
    """Return a function that writes a checkpoint of saev with an activation."""
    header = {
        "schema": 5,
        "cfg": {"activation": {"cls": activation, "params": {"top_k": 2}}},
        "lib": "saev",
    }
    tensors = CODER_TENSORS | {"activation.threshold": torch.tensor(0.6)}

    def write(folder):
        folder.mkdir(parents=True)
        with open(folder / "sae.pt", "wb") as stream:
            stream.write((json.dumps(header) + "\n").encode())
            torch.save(tensors, stream)
        return folder

    return write


def our_file_writer(threshold):
    """Return a function that writes a file of this project; Top-k for None."""

    def write(folder):
        folder.mkdir(parents=True)
        coder = make_coder(0, d=D, m=M, k=K, threshold=threshold)
        with torch.no_grad():
            coder.b_enc.copy_(0.1 * random_tensor(M))
            coder.b_dec.copy_(random_tensor(D))
        saefile.save(coder, folder / "sae.safetensors")
        return folder

    return write


def _saelens(**changed_settings):
    return Example("saelens", saelens_writer(**changed_settings))


def _dictionary_learning(class_name, tensors):
    writer = dictionary_learning_writer(class_name, tensors)
    return Example("dictionary_learning", writer)


EXAMPLES = {
    "ours topk": Example("ours", our_file_writer(None)),
    "ours thresholds": Example("ours", our_file_writer(0.05)),
    "saelens topk": _saelens(),
    "saelens without b_dec": _saelens(apply_b_dec_to_input=False),
    "saelens rescaled": _saelens(rescale_acts_by_decoder_norm=True),
    "saelens of constant norm": _saelens(normalize_activations="constant_norm_rescale"),
    "saelens layer norm": _saelens(
        normalize_activations="layer_norm", architecture="jumprelu"
    ),
    "saelens jumprelu": _saelens(architecture="jumprelu"),
    "saelens standard": _saelens(architecture="standard"),
    "saelens gated": Example(
        "saelens",
        lambda folder: write_checkpoint(
            folder, SAELENS_GATED_TENSORS, SAELENS_CONFIG | {"architecture": "gated"}
        ),
    ),
    "dictionary_learning topk": _dictionary_learning(
        "AutoEncoderTopK", TOPK_STATE_DICT
    ),
    "dictionary_learning batch": _dictionary_learning(
        "BatchTopKSAE", TOPK_STATE_DICT | {"threshold": torch.tensor(0.7)}
    ),
    "dictionary_learning by tensors": Example(
        "dictionary_learning",
        lambda folder: write_checkpoint(
            folder, TOPK_STATE_DICT | {"threshold": torch.tensor(0.7)}, None, "ae.pt"
        ),
    ),
    "dictionary_learning matryoshka": _dictionary_learning(
        "MatryoshkaBatchTopKSAE",
        CODER_TENSORS
        | {"threshold": torch.tensor(0.4), "group_sizes": torch.tensor([8, 8])},
    ),
    "dictionary_learning jumprelu": _dictionary_learning(
        "JumpReluAutoEncoder", CODER_TENSORS | {"threshold": random_tensor(M).abs()}
    ),
    "dictionary_learning gated": _dictionary_learning(
        "GatedAutoEncoder", GATED_STATE_DICT
    ),
    "dictionary_learning relu": _dictionary_learning(
        "AutoEncoder",
        LINEAR_ENCODER
        | {"decoder.weight": random_tensor(D, M), "bias": random_tensor(D)},
    ),
    "sparsify": Example(
        "sparsify",
        lambda folder: write_checkpoint(
            folder, SPARSIFY_TENSORS, {"k": K, "d_in": D}, "sae.safetensors"
        ),
    ),
    "overcomplete": Example("overcomplete", overcomplete_writer(), {"k": K}),
    "overcomplete jump": Example(
        "overcomplete", overcomplete_writer(thresholds=random_tensor(M))
    ),
    "saev topk": Example("saev", saev_writer("TopK")),
    "saev batch": Example("saev", saev_writer("BatchTopK")),
    "saev relu": Example("saev", saev_writer("Relu")),
    "visaebench topk": Example("visaebench", visaebench_writer("topk")),
    "visaebench batch": Example("visaebench", visaebench_writer("batchtopk")),
    "visaebench jumprelu": Example("visaebench", visaebench_writer("jumprelu")),
}

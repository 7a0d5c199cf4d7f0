"""Small valid checkpoints of every format that can be imported, with random weights."""

import json

import numpy as np
import torch
from safetensors.torch import save_file
from scoring.examples import coder as make_coder

from sae.models import saefile

D, M, K = 6, 16, 4
GENERATOR = torch.Generator().manual_seed(0)


def random(*shape):
    return torch.randn(*shape, generator=GENERATOR)


def embeddings(n=200):
    return np.random.default_rng(0).normal(size=(n, D)).astype(np.float32)


def folder(
    path, tensors, config, name="sae_weights.safetensors", config_name="cfg.json"
):
    path.mkdir(parents=True)
    tensors = {key: t.contiguous() for key, t in tensors.items()}
    (save_file if name.endswith("safetensors") else torch.save)(tensors, path / name)
    if config is not None:
        (path / config_name).write_text(json.dumps(config))
    return path


OURS = {
    "W_enc": random(D, M),
    "b_enc": random(M),
    "W_dec": random(M, D),
    "b_dec": random(D),
}
LENS = {
    "architecture": "topk",
    "k": K,
    "d_in": D,
    "d_sae": M,
    "apply_b_dec_to_input": True,
}
GATED = {k: OURS[k] for k in ("W_enc", "W_dec", "b_dec")} | {
    "r_mag": 0.3 * random(M),
    "b_mag": random(M),
    "b_gate": random(M),
}
LINEAR = {"encoder.weight": random(M, D), "encoder.bias": random(M)}
LEARNED = LINEAR | {
    "decoder.weight": random(D, M),
    "b_dec": random(D),
    "k": torch.tensor(K),
}
GATES = {
    "gate_bias": random(M),
    "mag_bias": random(M),
    "r_mag": 0.3 * random(M),
    "decoder_bias": random(D),
}
UNITS = torch.nn.functional.normalize(random(M, D), dim=1)
OVER = {
    "encoder.final_block.0.weight": random(M, D),
    "encoder.final_block.0.bias": random(M),
    "dictionary._weights": 3 * UNITS,
    "dictionary.multiplier": torch.tensor(0.2),
}
VISAE = LINEAR | {"decoder.weight": random(M, D), "decoder.bias": random(D)}


def lens(**changed):
    return lambda p: folder(
        p, OURS | {"threshold": 0.5 + random(M).abs()}, LENS | changed
    )


def learned(name, tensors):
    return lambda p: folder(
        p, tensors, {"trainer": {"dict_class": name, "k": K}}, "ae.pt", "config.json"
    )


def visae(**config):
    return lambda p: folder(
        p, VISAE, {"k": K, "threshold": 0.7} | config, "sae.pt", "config.json"
    )


def saev(name):
    def write(path):
        path.mkdir(parents=True)
        header = {
            "schema": 5,
            "cfg": {"activation": {"cls": name, "params": {"top_k": 2}}},
            "lib": "saev",
        }
        with open(path / "sae.pt", "wb") as stream:
            stream.write((json.dumps(header) + "\n").encode())
            torch.save(OURS | {"activation.threshold": torch.tensor(0.6)}, stream)
        return path

    return write


def ours(threshold):
    def write(path):
        path.mkdir(parents=True)
        made = make_coder(0, d=D, m=M, k=K, threshold=threshold)
        with torch.no_grad():
            made.b_enc.copy_(0.1 * random(M)), made.b_dec.copy_(random(D))
        saefile.save(made, path / "sae.safetensors")
        return path

    return write


FORMATS = {
    "ours topk": ("ours", ours(None), {}),
    "ours thresholds": ("ours", ours(0.05), {}),
    "saelens topk": ("saelens", lens(), {}),
    "saelens without b_dec": ("saelens", lens(apply_b_dec_to_input=False), {}),
    "saelens rescaled": ("saelens", lens(rescale_acts_by_decoder_norm=True), {}),
    "saelens of constant norm": (
        "saelens",
        lens(normalize_activations="constant_norm_rescale"),
        {},
    ),
    "saelens layer norm": (
        "saelens",
        lens(normalize_activations="layer_norm", architecture="jumprelu"),
        {},
    ),
    "saelens jumprelu": ("saelens", lens(architecture="jumprelu"), {}),
    "saelens standard": ("saelens", lens(architecture="standard"), {}),
    "saelens gated": (
        "saelens",
        lambda p: folder(p, GATED, LENS | {"architecture": "gated"}),
        {},
    ),
    "dictionary_learning topk": (
        "dictionary_learning",
        learned("AutoEncoderTopK", LEARNED),
        {},
    ),
    "dictionary_learning batch": (
        "dictionary_learning",
        learned("BatchTopKSAE", LEARNED | {"threshold": torch.tensor(0.7)}),
        {},
    ),
    "dictionary_learning by tensors": (
        "dictionary_learning",
        lambda p: folder(p, LEARNED | {"threshold": torch.tensor(0.7)}, None, "ae.pt"),
        {},
    ),
    "dictionary_learning matryoshka": (
        "dictionary_learning",
        learned(
            "MatryoshkaBatchTopKSAE",
            OURS
            | {"threshold": torch.tensor(0.4), "group_sizes": torch.tensor([8, 8])},
        ),
        {},
    ),
    "dictionary_learning jumprelu": (
        "dictionary_learning",
        learned("JumpReluAutoEncoder", OURS | {"threshold": random(M).abs()}),
        {},
    ),
    "dictionary_learning gated": (
        "dictionary_learning",
        learned(
            "GatedAutoEncoder",
            {"encoder.weight": random(M, D), "decoder.weight": random(D, M)} | GATES,
        ),
        {},
    ),
    "dictionary_learning relu": (
        "dictionary_learning",
        learned(
            "AutoEncoder", LINEAR | {"decoder.weight": random(D, M), "bias": random(D)}
        ),
        {},
    ),
    "sparsify": (
        "sparsify",
        lambda p: folder(
            p,
            LINEAR | {"W_dec": random(M, D), "b_dec": random(D)},
            {"k": K, "d_in": D},
            "sae.safetensors",
        ),
        {},
    ),
    "overcomplete": (
        "overcomplete",
        lambda p: folder(p, OVER, None, "state_dict.pt"),
        {"k": K},
    ),
    "overcomplete jump": (
        "overcomplete",
        lambda p: folder(p, OVER | {"thresholds": random(M)}, None, "state_dict.pt"),
        {},
    ),
    "saev topk": ("saev", saev("TopK"), {}),
    "saev batch": ("saev", saev("BatchTopK"), {}),
    "saev relu": ("saev", saev("Relu"), {}),
    "visaebench topk": ("visaebench", visae(activation="topk"), {}),
    "visaebench batch": ("visaebench", visae(activation="batchtopk"), {}),
    "visaebench jumprelu": ("visaebench", visae(activation="jumprelu"), {}),
}

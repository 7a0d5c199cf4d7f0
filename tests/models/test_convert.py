"""Other libraries' formats: read as their own arithmetic has it, written and read back, refused where they do harm.

The libraries themselves are asked in test_libraries.py (`make test-libraries`).
"""

import json
import re

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from scoring.examples import coder as make_coder

import sae
from sae.__main__ import main
from sae.core import registry
from sae.core.errors import UserError
from sae.models import convert, foreign, saefile
from sae.models.coder import Threshold, TopK

D, M, K = 6, 16, 4
GENERATOR = torch.Generator().manual_seed(0)


def random(*shape):
    return torch.randn(*shape, generator=GENERATOR)


def embeddings(n=200):
    return np.random.default_rng(0).normal(size=(n, D)).astype(np.float32)


def folder(path, tensors, config, name="sae_weights.safetensors", config_name="cfg.json"):
    path.mkdir(parents=True)
    tensors = {key: t.contiguous() for key, t in tensors.items()}
    (save_file if name.endswith("safetensors") else torch.save)(tensors, path / name)
    if config is not None:
        (path / config_name).write_text(json.dumps(config))
    return path


OURS = {"W_enc": random(D, M), "b_enc": random(M), "W_dec": random(M, D), "b_dec": random(D)}
LENS = {"architecture": "topk", "k": K, "d_in": D, "d_sae": M, "apply_b_dec_to_input": True}
GATED = {k: OURS[k] for k in ("W_enc", "W_dec", "b_dec")} | {
    "r_mag": 0.3 * random(M),
    "b_mag": random(M),
    "b_gate": random(M),
}
LINEAR = {"encoder.weight": random(M, D), "encoder.bias": random(M)}
LEARNED = LINEAR | {"decoder.weight": random(D, M), "b_dec": random(D), "k": torch.tensor(K)}
GATES = {"gate_bias": random(M), "mag_bias": random(M), "r_mag": 0.3 * random(M), "decoder_bias": random(D)}
UNITS = torch.nn.functional.normalize(random(M, D), dim=1)
OVER = {
    "encoder.final_block.0.weight": random(M, D),
    "encoder.final_block.0.bias": random(M),
    "dictionary._weights": 3 * UNITS,
    "dictionary.multiplier": torch.tensor(0.2),
}
VISAE = LINEAR | {"decoder.weight": random(M, D), "decoder.bias": random(D)}


def lens(**changed):
    return lambda p: folder(p, OURS | {"threshold": 0.5 + random(M).abs()}, LENS | changed)


def learned(name, tensors):
    return lambda p: folder(p, tensors, {"trainer": {"dict_class": name, "k": K}}, "ae.pt", "config.json")


def visae(**config):
    return lambda p: folder(p, VISAE, {"k": K, "threshold": 0.7} | config, "sae.pt", "config.json")


def saev(name):
    def write(path):
        path.mkdir(parents=True)
        header = {"schema": 5, "cfg": {"activation": {"cls": name, "params": {"top_k": 2}}}, "lib": "saev"}
        with open(path / "sae.pt", "wb") as stream:
            stream.write((json.dumps(header) + "\n").encode())
            torch.save(OURS | {"activation.threshold": torch.tensor(0.6)}, stream)
        return path

    return write


FORMATS = {
    "saelens topk": ("saelens", lens(), {}),
    "saelens without b_dec": ("saelens", lens(apply_b_dec_to_input=False), {}),
    "saelens rescaled": ("saelens", lens(rescale_acts_by_decoder_norm=True), {}),
    "saelens of constant norm": ("saelens", lens(normalize_activations="constant_norm_rescale"), {}),
    "saelens layer norm": ("saelens", lens(normalize_activations="layer_norm", architecture="jumprelu"), {}),
    "saelens jumprelu": ("saelens", lens(architecture="jumprelu"), {}),
    "saelens standard": ("saelens", lens(architecture="standard"), {}),
    "saelens gated": ("saelens", lambda p: folder(p, GATED, LENS | {"architecture": "gated"}), {}),
    "dictionary_learning topk": ("dictionary_learning", learned("AutoEncoderTopK", LEARNED), {}),
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
        learned("MatryoshkaBatchTopKSAE", OURS | {"threshold": torch.tensor(0.4), "group_sizes": torch.tensor([8, 8])}),
        {},
    ),
    "dictionary_learning jumprelu": (
        "dictionary_learning",
        learned("JumpReluAutoEncoder", OURS | {"threshold": random(M).abs()}),
        {},
    ),
    "dictionary_learning gated": (
        "dictionary_learning",
        learned("GatedAutoEncoder", {"encoder.weight": random(M, D), "decoder.weight": random(D, M)} | GATES),
        {},
    ),
    "dictionary_learning relu": (
        "dictionary_learning",
        learned("AutoEncoder", LINEAR | {"decoder.weight": random(D, M), "bias": random(D)}),
        {},
    ),
    "sparsify": (
        "sparsify",
        lambda p: folder(
            p, LINEAR | {"W_dec": random(M, D), "b_dec": random(D)}, {"k": K, "d_in": D}, "sae.safetensors"
        ),
        {},
    ),
    "overcomplete": ("overcomplete", lambda p: folder(p, OVER, None, "state_dict.pt"), {"k": K}),
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


@pytest.mark.parametrize("name", FORMATS)
def test_a_checkpoint_codes_and_reconstructs_as_its_own_arithmetic_does(name, tmp_path, monkeypatch):
    format_, write, options = FORMATS[name]
    place, options = str(write(tmp_path / "theirs")), convert.Options(**options)
    found = convert.load_checked(place, "auto", options, embeddings())
    assert found.metadata["imported"] == format_
    # The comparison can fail.
    importer = registry.load("importer", format_)
    forward = importer.forward
    monkeypatch.setattr(importer, "forward", lambda *given: (forward(*given)[0], forward(*given)[1] + 0.1))
    with pytest.raises(UserError, match=r"reconstructions differ from the format's own by up to .*; nothing was"):
        convert.load_checked(place, "auto", options, embeddings())


def test_the_command_writes_a_file_that_encodes(tmp_path, caplog):
    np.save(tmp_path / "x.npy", embeddings())
    place = lens()(tmp_path / "theirs")
    command = [
        "import",
        str(place),
        "--out",
        str(tmp_path / "sae.safetensors"),
        "--check",
        str(tmp_path / "x.npy"),
    ]
    assert main(command) == 0
    (tmp_path / "x.npy").write_bytes(b"no array")
    assert main(command) == 1 and "x.npy cannot be read as embeddings" in caplog.text
    coder, loaded = saefile.load(tmp_path / "sae.safetensors"), sae.load(tmp_path / "sae.safetensors")
    assert coder.metadata["imported"] == "saelens" and coder.k == K
    x = torch.from_numpy(embeddings())
    pre = (x - OURS["b_dec"]) @ OURS["W_enc"] + OURS["b_enc"]
    values = pre.topk(K, dim=1).values.relu()
    np.testing.assert_allclose(loaded.encode(embeddings()).matrix().sum(axis=1).A1, values.sum(dim=1), rtol=1e-4)


@pytest.mark.parametrize("threshold", [None, 0.05])
@pytest.mark.parametrize("format_", registry.names("exporter"))
def test_what_is_exported_reads_back_as_the_same_sae(format_, threshold, tmp_path, monkeypatch):
    ours = make_coder(0, d=D, m=M, k=K, threshold=threshold)
    with torch.no_grad():
        ours.b_enc.copy_(0.1 * random(M)), ours.b_dec.copy_(0.1 * random(D))
    saefile.save(ours, tmp_path / "sae.safetensors")
    command = [
        "export",
        str(tmp_path / "sae.safetensors"),
        "--out",
        str(tmp_path / "out"),
        "--format",
        format_,
    ]
    if threshold is not None and format_ in ("sparsify", "overcomplete"):
        assert main(command) == 1 and not (tmp_path / "out").exists()
        return
    assert main(command) == 0
    file = {"overcomplete": tmp_path / "out/state_dict.pt"}.get(format_, tmp_path / "out")
    options = (
        convert.Options(k=K) if format_ == "saelens" else convert.Options(k=K, input_norm="unit_l2", input_scale=2.0)
    )
    if format_ == "saelens":  # It normalises itself: nothing that is said of its inputs would count.
        with pytest.raises(UserError, match=r"normalises its inputs itself .*: leave input_norm out"):
            convert.load(str(file), format_, convert.Options(input_norm="none"))
        options = convert.Options()
    back = convert.load(str(file), format_, options)
    x = embeddings()
    one, other = ours.encode(ours.prepare(x)), back.encode(back.prepare(x))
    np.testing.assert_array_equal(one.indices, other.indices)
    # SAELens takes raw embeddings: its codes are sqrt(d) / input_scale times ours.
    factor = D**0.5 / 2 if format_ == "saelens" else 1.0
    np.testing.assert_allclose(other.values, factor * one.values, rtol=1e-5, atol=1e-6)
    assert main(command) == 1  # Nothing is overwritten.


@pytest.mark.parametrize(
    ("write", "said"),
    [
        (
            lambda p: folder(p, OURS, LENS | {"architecture": "temporal"}),
            "architecture 'temporal' cannot be imported; allowed: 'topk'",
        ),
        (
            lambda p: folder(p, OURS, LENS | {"normalize_activations": "expected_average_only_in"}),
            "normalize_activations",
        ),
        (lambda p: folder(p, OURS, LENS | {"k": 99}), "k = 99 is not between 1 and the 16 latents"),
        (lambda p: folder(p, OURS | {"b_enc": random(3)}, LENS), r"b_enc is of shape \(3,\), expected \(16,\)"),
        (lambda p: folder(p, OURS | {"b_dec": torch.full((D,), torch.nan)}, LENS), "b_dec holds NaN"),
        (lambda p: folder(p, {"x": random(3)}, None), "its format is not plain .none fit; tensors: x.; say --format"),
        (lambda p: folder(p, OVER, None, "s.pt"), "does not say how many latents are kept: give --k"),
        (lambda p: folder(p, OVER | {"encoder.body.weight": random(3)}, None, "s.pt"), "its encoder is not linear"),
        (learned("GatedSomething", LEARNED), "dict_class 'GatedSomething' cannot be imported"),
        (
            lambda p: folder(p, LINEAR | {"W_dec": random(M, D), "b_dec": random(D)}, {"k": 2, "transcode": True}),
            "transcode True",
        ),
        (lambda p: folder(p, OURS, LENS | {"metadata": {"input_norm": "l7"}}), "input norm 'l7' is not known"),
    ],
)
def test_what_cannot_be_reduced_or_does_not_fit_is_refused_by_name(write, said, tmp_path):
    with pytest.raises(UserError, match=said):
        convert.load(str(write(tmp_path / "theirs")))


class Harmful:
    def __reduce__(self):
        return (open, ("harm", "w"))


def test_nothing_of_a_file_is_run_and_what_is_cut_short_is_said(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.save({"model": Harmful()}, tmp_path / "model.pt")
    with pytest.raises(UserError, match=r"(?s)holds a pickled object.*state_dict") as caught:
        convert.load(str(tmp_path / "model.pt"))
    assert "weights_only=False" in str(caught.value) and not (tmp_path / "harm").exists()
    for name in ("a.safetensors", "b.pt"):
        whole = folder(tmp_path / name, OURS, LENS, name) / name
        whole.write_bytes(whole.read_bytes()[:-40])
        with pytest.raises(UserError, match=re.escape(f"{whole} cannot be read as tensors")):
            convert.load(str(whole.parent))
    (tmp_path / "c.pt").write_bytes(b'{"schema"')
    with pytest.raises(UserError, match="cannot be read as tensors"):
        convert.load(str(tmp_path / "c.pt"))
    torch.save([1, 2], tmp_path / "d.pt")
    with pytest.raises(UserError, match="holds list, not a state dict"):
        convert.load(str(tmp_path / "d.pt"))
    two = folder(tmp_path / "two", OURS, LENS)
    save_file(OURS, two / "other.safetensors")
    with pytest.raises(UserError, match=r"must hold one file of tensors .*: name the file"):
        convert.load(str(two))
    with pytest.raises(UserError, match="does not exist, and is no repository"):
        convert.load(str(tmp_path / "nowhere"))


def test_a_repository_is_asked_for_its_folder_alone(tmp_path, monkeypatch):
    import huggingface_hub

    asked = []

    def download(repository, allow_patterns):
        asked.append((repository, allow_patterns))
        return str(tmp_path)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    lens()(tmp_path / "layer_3")
    assert convert.load("someone/saes:layer_3").m == M and asked == [("someone/saes", ["layer_3/*"])]
    with pytest.raises(UserError, match="the repository someone/saes has no folder layer_4"):
        convert.load("someone/saes:layer_4")

    def refuse(*_, **__):
        raise OSError("no network")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", refuse)
    with pytest.raises(UserError, match="the Hugging Face hub does not give it: no network"):
        foreign.read("someone/saes")


def test_selections_are_what_the_formats_say(tmp_path):
    kinds = {
        name: type(convert.load(str(write(tmp_path / str(i))), "auto", convert.Options(**options)).select)
        for i, (name, (_, write, options)) in enumerate(FORMATS.items())
    }
    topk = {name for name, kind in kinds.items() if kind is TopK}
    assert topk == {n for n in FORMATS if n.endswith("topk")} | {
        "saelens without b_dec",
        "saelens rescaled",
        "saelens of constant norm",
        "sparsify",
        "overcomplete",
    }
    assert set(kinds.values()) == {TopK, Threshold}

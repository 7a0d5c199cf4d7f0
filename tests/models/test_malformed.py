"""Checkpoints that are not what they say: each is refused in one line, which names the file and what is wrong in it."""

import json
import math
import os
import pickle
import re
import resource
import signal
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from models.checkpoints import (
    FORMATS,
    LENS,
    LINEAR,
    OURS,
    D,
    K,
    M,
    embeddings,
    folder,
    random,
)
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from scoring.examples import coder as make_coder

import sae
from sae.__main__ import main
from sae.core import seals
from sae.core.errors import UserError
from sae.models import convert
from sae.models.importers.dictionary_learning import DictionaryLearningConfig
from sae.models.importers.ours import SaeFileHeader
from sae.models.importers.saelens import SaelensConfig
from sae.models.importers.saev import SaevHeader
from sae.models.importers.sparsify import SparsifyConfig
from sae.models.importers.visaebench import VisaebenchConfig

NAN, INF = math.nan, math.inf
SETTINGS_CLASSES = {
    "dictionary_learning": DictionaryLearningConfig,
    "ours": SaeFileHeader,
    "saelens": SaelensConfig,
    "saev": SaevHeader,
    "sparsify": SparsifyConfig,
    "visaebench": VisaebenchConfig,
}
SPARSIFY = LINEAR | {"W_dec": random(M, D), "b_dec": random(D)}


@pytest.fixture
def refused(tmp_path, caplog):
    """Import a place; the one line that comes out. Nothing is written."""

    def refuse(place, *options):
        caplog.clear()
        out = tmp_path / "out.safetensors"
        assert (
            main(["import", str(place), "--out", str(out), *options]) == 1
            and not out.exists()
        )
        [record] = caplog.records
        line = record.getMessage()
        assert (
            line.startswith("error: ") and "\n" not in line and record.exc_info is None
        )
        return line

    return refuse


def tensor_file(place):
    """The file of tensors in a folder, its header and its tensors."""
    [file] = [
        path for path in place.iterdir() if path.suffix in (".pt", ".safetensors")
    ]
    if file.suffix == ".safetensors":
        with safe_open(file, framework="pt") as opened:
            return file, opened.metadata(), load_file(file)
    with open(file, "rb") as stream:
        header = stream.readline() if stream.peek(1)[:1] == b"{" else b""
        return file, header, torch.load(stream, weights_only=True)


def write(file, header, tensors):
    if file.suffix == ".safetensors":
        save_file(
            {name: t.contiguous() for name, t in tensors.items()}, file, metadata=header
        )
        return
    with open(file, "wb") as stream:
        stream.write(header)
        torch.save(tensors, stream)


def put(settings, keys, value):
    """Set a value at a dotted key."""
    *outer, last = keys.split(".")
    for key in outer:
        settings = settings.setdefault(key, {})
    settings[last] = value


def with_setting(place, keys, value):
    """Change a setting of a checkpoint, wherever its format keeps them; gives that file."""
    beside = [path for path in place.iterdir() if path.suffix == ".json"]
    if beside:
        settings = json.loads(beside[0].read_text())
        put(settings, keys, value)
        beside[0].write_text(json.dumps(settings))
        return beside[0]
    file, header, tensors = tensor_file(place)
    ours = isinstance(header, dict)
    settings = json.loads(header["sae"] if ours else header)
    put(settings, keys, value)
    if ours:
        put(settings, "seal", seals.BLANK)
    write(
        file,
        {"sae": json.dumps(settings)}
        if ours
        else json.dumps(settings).encode() + b"\n",
        tensors,
    )
    if ours:
        seals.seal(file)
    return file


def with_tensors(place, **changed):
    """Change tensors of a checkpoint, or leave them out (None); gives the file."""
    file, header, tensors = tensor_file(place)
    changed = {name.replace("__", "."): value for name, value in changed.items()}
    write(
        file,
        header,
        {name: t for name, t in (tensors | changed).items() if t is not None},
    )
    return file


def made(name, tmp_path):
    return FORMATS[name][1](tmp_path / "theirs")


@pytest.mark.parametrize(
    ("name", "keys", "value", "said"),
    [
        (
            "saelens topk",
            "metadata",
            None,
            "metadata: null should be a mapping of keys to values",
        ),
        (
            "saelens topk",
            "metadata",
            [1],
            "metadata: [1] should be a mapping of keys to values",
        ),
        (
            "saelens topk",
            "metadata.input_scale",
            "2",
            "metadata.input_scale: '2' should be a valid number",
        ),
        (
            "saelens topk",
            "metadata.input_scale",
            NAN,
            "metadata.input_scale: nan should be a finite number",
        ),
        (
            "saelens topk",
            "metadata.input_scale",
            -1,
            "metadata.input_scale: -1 should be greater than 1e-30",
        ),
        ("saelens topk", "metadata.input_scale", 1e300, "should be less than 1e+30"),
        (
            "saelens topk",
            "architecture",
            None,
            "architecture: null should be 'topk', 'jumprelu'",
        ),
        (
            "saelens topk",
            "apply_b_dec_to_input",
            None,
            "apply_b_dec_to_input: null should be a valid boolean",
        ),
        ("saelens topk", "k", True, "k: True should be a valid number"),
        (
            "saelens topk",
            "k",
            2.5,
            "k = 2.5; it should be a whole number from 1 to its 16 latents",
        ),
        ("saelens topk", "k", 10**400, "k: 1000"),
        ("saelens jumprelu", "k", [4], "k: [4] should be a valid number"),
        (
            "saelens jumprelu",
            "rescale_acts_by_decoder_norm",
            True,
            "with architecture 'jumprelu' cannot be imported",
        ),
        (
            "dictionary_learning topk",
            "trainer",
            [1],
            "trainer: [1] should be a mapping of keys to values",
        ),
        (
            "dictionary_learning topk",
            "trainer.dict_class",
            ["AutoEncoderTopK"],
            "dict_class: ['AutoEncoderTopK'] should",
        ),
        (
            "dictionary_learning relu",
            "trainer.k",
            "4",
            "trainer.k: '4' should be a valid integer",
        ),
        (
            "dictionary_learning relu",
            "made_by",
            None,
            "made_by: null should be a mapping of keys to values",
        ),
        ("sparsify", "k", True, "k: True should be a valid integer"),
        ("sparsify", "transcode", None, "transcode: null should be False"),
        (
            "saev topk",
            "cfg.activation",
            "TopK",
            "cfg.activation: 'TopK' should be a mapping of keys to values",
        ),
        (
            "saev topk",
            "cfg.activation.cls",
            None,
            "cfg.activation.cls: null should be 'TopK'",
        ),
        ("saev topk", "cfg.activation", {}, "cfg.activation.cls: this key is required"),
        (
            "saev topk",
            "cfg.activation.params",
            [2],
            "cfg.activation.params: [2] should be a mapping",
        ),
        (
            "saev topk",
            "cfg.activation.params.top_k",
            None,
            "does not say how many latents are kept: give --k",
        ),
        (
            "saev batch",
            "cfg.activation.params.top_k",
            "2",
            "cfg.activation.params.top_k: '2' should be",
        ),
        (
            "visaebench jumprelu",
            "threshold",
            "high",
            "threshold: 'high' should be a valid number",
        ),
        (
            "visaebench jumprelu",
            "threshold",
            INF,
            "threshold: inf should be a finite number",
        ),
        (
            "visaebench jumprelu",
            "threshold",
            None,
            "there is no threshold, in the tensors or in config.json",
        ),
        (
            "visaebench jumprelu",
            "threshold",
            1e39,
            "threshold: 1e+39 should be less than 1000000000000000000",
        ),
        (
            "visaebench batch",
            "threshold",
            -1e39,
            "threshold: -1e+39 should be greater than -1000000000000000000",
        ),
        (
            "visaebench topk",
            "expansion_factor",
            1e308,
            "expansion_factor: 1e+308 should be less than 2147483648",
        ),
        (
            "visaebench topk",
            "expansion_factor",
            INF,
            "expansion_factor: inf should be a finite number",
        ),
        ("saelens jumprelu", "k", 1e308, "k: 1e+308 should be less than 2147483648"),
        ("sparsify", "num_latents", -1, "num_latents: -1 should be greater than or"),
        ("sparsify", "expansion_factor", 10**30, "should be less than 2147483648"),
        ("ours topk", "k", "4", "k: '4' should be a valid integer"),
        (
            "ours topk",
            "k",
            17,
            "k = 17; it should be a whole number from 1 to its 16 latents",
        ),
        ("ours topk", "input_norm", None, "input_norm: null should be 'none'"),
        ("ours topk", "input_scale", NAN, "input_scale: nan should be a finite number"),
    ],
)
def test_a_setting_of_another_type_or_range_is_named(
    name, keys, value, said, tmp_path, refused
):
    place = made(name, tmp_path)
    file = with_setting(place, keys, value)
    line = refused(place)
    assert said in line and (str(file) in line or str(tensor_file(place)[0]) in line)


@pytest.mark.parametrize(
    ("name", "keys", "right", "needed"),
    [
        ("saelens topk", "d_in", D, D),
        ("saelens gated", "d_sae", M, M),
        ("dictionary_learning batch", "trainer.activation_dim", D, D),
        ("dictionary_learning matryoshka", "trainer.dict_size", M, M),
        ("sparsify", "d_in", D, D),
        ("sparsify", "num_latents", M, M),
        ("saev topk", "cfg.d_model", D, D),
        ("saev topk", "cfg.d_vit", D, D),
        ("saev relu", "cfg.d_sae", M, M),
        ("visaebench topk", "input_dim", D, D),
        ("visaebench jumprelu", "hidden_dim", M, M),
    ],
)
def test_a_size_that_the_settings_state_must_be_that_of_the_tensors(
    name, keys, right, needed, tmp_path, refused
):
    place = made(name, tmp_path)
    with_setting(place, keys, right)
    assert convert.load(str(place)).m == M
    file = with_setting(place, keys, 1024)
    assert (
        refused(place)
        == f"error: {file}: {keys} is 1024, expected {needed}, to fit {tensor_file(place)[0]}"
    )


@pytest.mark.parametrize(
    ("name", "settings", "said"),
    [
        # Latents that are not counted: those of eai-sparsify count where they are 0, those of ViSAEBench always.
        (
            "sparsify",
            {"num_latents": 0, "expansion_factor": 3},
            "d_in * expansion_factor is 18, expected 16",
        ),
        ("sparsify", {"num_latents": M, "expansion_factor": 3}, None),
        ("sparsify", {"expansion_factor": 3, "d_in": None}, None),
        (
            "visaebench topk",
            {"input_dim": D, "expansion_factor": 2},
            "input_dim * expansion_factor is 12",
        ),
        ("visaebench topk", {"input_dim": D, "expansion_factor": M / D}, None),
        # Of a factor that was rounded, the nearest whole number: 15.96 are 16 latents.
        ("visaebench topk", {"input_dim": D, "expansion_factor": 2.66}, None),
        (
            "visaebench topk",
            {"input_dim": D, "expansion_factor": 2.58},
            "input_dim * expansion_factor is 15, expected 16",
        ),
        (
            "saev relu",
            {"cfg.d_vit": D, "cfg.exp_factor": 16},
            "cfg.d_vit * exp_factor is 96, expected 16",
        ),
        (
            "dictionary_learning matryoshka",
            {"trainer.group_sizes": [8, 7]},
            "the sum of trainer.group_sizes is 15",
        ),
        ("dictionary_learning matryoshka", {"trainer.group_sizes": [8, 8]}, None),
    ],
)
def test_a_size_that_follows_from_the_settings_must_be_that_of_the_tensors(
    name, settings, said, tmp_path, refused
):
    place = made(name, tmp_path)
    for keys, value in settings.items():
        with_setting(place, keys, value)
    if said is None:
        assert convert.load(str(place)).m == M
    else:
        assert said in refused(place)


@pytest.mark.parametrize(
    ("name", "changed", "said"),
    [
        # The odd one out is blamed, also where two are, of four.
        (
            "saelens topk",
            {"W_enc": random(M, D)},
            "W_enc is of shape (16, 6), expected (6, 16), to fit the others",
        ),
        (
            "saelens topk",
            {"W_enc": random(M, D), "W_dec": random(D, M)},
            "W_enc is of shape (16, 6), expected (6, 16)",
        ),
        (
            "saelens topk",
            {"b_dec": random(D + 1)},
            "b_dec is of shape (7,), expected (6,)",
        ),
        (
            "saelens topk",
            {"W_dec": random(M)},
            "W_dec is of shape (16,), expected (16, 6)",
        ),
        (
            "saelens topk",
            {"b_enc": random(1, M)},
            "b_enc is of shape (1, 16), expected (16,)",
        ),
        (
            "saelens topk",
            {"b_enc": random(0)},
            "b_enc is of shape (0,), expected (16,)",
        ),
        (
            "saelens jumprelu",
            {"threshold": random(3)},
            "threshold is of shape (3,), expected (16,)",
        ),
        (
            "saelens jumprelu",
            {"threshold": torch.tensor(0.5)},
            "threshold is of shape (), expected (16,)",
        ),
        (
            "saelens gated",
            {"r_mag": random(M - 1)},
            "r_mag is of shape (15,), expected (16,)",
        ),
        (
            "saelens gated",
            {"r_mag": torch.full((M,), 1e3)},
            "W_enc comes out as NaN or beyond 1e+18",
        ),
        (
            "saelens gated",
            {"b_gate": torch.full((M,), 1e18)},
            "the threshold comes out as NaN or beyond 1e+18",
        ),
        (
            "dictionary_learning topk",
            {"decoder__weight": random(M, D)},
            "decoder.weight is of shape (16, 6), expected",
        ),
        (
            "dictionary_learning relu",
            {
                "encoder__weight": random(0, D),
                "encoder__bias": random(0),
                "decoder__weight": random(D, 0),
            },
            "encoder.weight is of shape (0, 6), expected (m, 6)",
        ),
        (
            "dictionary_learning by tensors",
            {"threshold": random(2)},
            "threshold is of shape (2,), expected ()",
        ),
        (
            "dictionary_learning topk",
            {"k": torch.tensor([1, 2])},
            "k: [1, 2] should be a valid integer",
        ),
        (
            "dictionary_learning topk",
            {"k": torch.tensor(True)},
            "k: True should be a valid integer",
        ),
        (
            "sparsify",
            {"encoder__weight": random(D, M)},
            "encoder.weight is of shape (6, 16), expected (16, 6)",
        ),
        (
            "overcomplete",
            {"dictionary__multiplier": random(2)},
            "dictionary.multiplier is of shape (2,), expected ()",
        ),
        (
            "overcomplete jump",
            {"thresholds": torch.full((M,), 1e3)},
            "the threshold comes out as NaN or beyond",
        ),
        (
            "saev batch",
            {"activation__threshold": random(4)},
            "activation.threshold is of shape (4,), expected (16,)",
        ),
        (
            "visaebench topk",
            {"encoder__bias": random(D)},
            "encoder.bias is of shape (6,), expected (16,)",
        ),
        (
            "ours thresholds",
            {"theta": torch.full((M,), NAN)},
            "the threshold comes out as NaN",
        ),
        (
            "saelens topk",
            {"b_dec": torch.full((D,), 1e300, dtype=torch.float64)},
            "b_dec holds NaN, infinity or numbers",
        ),
        (
            "saelens topk",
            {"W_enc": OURS["W_enc"].to(torch.int8)},
            "W_enc is of torch.int8, expected floats",
        ),
        (
            "saelens topk",
            {"W_enc": OURS["W_enc"].to(torch.complex64)},
            "W_enc is of torch.complex64, expected floats",
        ),
        (
            "saelens topk",
            {"W_enc": OURS["W_enc"] > 0},
            "W_enc is of torch.bool, expected floats",
        ),
        (
            "dictionary_learning topk",
            {"b_dec": torch.zeros(D, device="meta")},
            "b_dec is no dense tensor of numbers",
        ),
        (
            "dictionary_learning topk",
            {"b_dec": torch.zeros(D).to_sparse()},
            "b_dec is no dense tensor of numbers",
        ),
        (
            "visaebench topk",
            {"decoder__bias": None},
            "its format is not plain (none fit; tensors: decoder.weight, enc",
        ),
        (
            "sparsify",
            {"b_dec": None},
            "its format is not plain (none fit; tensors: W_dec, encoder.bias, encoder.weight)",
        ),
    ],
)
def test_a_tensor_that_does_not_fit_is_named(name, changed, said, tmp_path, refused):
    place = made(name, tmp_path)
    file = with_tensors(place, **changed)
    if name.startswith("ours"):
        with_setting(place, "seal", seals.BLANK)
    assert said in (line := refused(place)) and str(file) in line


@pytest.mark.parametrize(("k", "budget"), [(None, 9), (0.3, 1), (3.6, 4)])
def test_the_budget_of_thresholds_is_the_nearest_whole_number(k, budget, tmp_path):
    place = made("saelens jumprelu", tmp_path)
    with_setting(place, "k", k)
    with_setting(place, "metadata.k", 9)  # It counts where there is no k.
    assert convert.load(str(place)).k == budget
    assert convert.load(str(place), "auto", convert.Options(k=7)).k == 7


def test_where_two_k_contradict_each_other_an_option_decides(tmp_path, refused):
    place = made("dictionary_learning topk", tmp_path)
    with_setting(place, "trainer.k", 5)
    assert refused(place).endswith(
        "config.json: trainer.k is 5, its tensor k is 4: say which (--k)"
    )
    assert convert.load(str(place), "auto", convert.Options(k=3)).k == 3


@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors")
def test_a_nested_tensor_is_named(tmp_path, refused):
    place = made("dictionary_learning topk", tmp_path)
    with_tensors(
        place, b_dec=torch.nested.nested_tensor([torch.zeros(2), torch.zeros(3)])
    )
    said = refused(place)  # Under Python 3.13 PyTorch's reader takes it for an object.
    assert (
        "ae.pt: b_dec is no dense tensor of numbers" in said
        or "ae.pt holds a pickled object" in said
    )


@pytest.mark.parametrize("threshold", [torch.tensor([0.7]), torch.full((M,), 0.7)])
def test_one_threshold_may_be_written_as_one_or_as_many(threshold, tmp_path):
    place = made("dictionary_learning batch", tmp_path)
    before = convert.load(str(place)).select.theta
    with_tensors(place, threshold=threshold)
    assert torch.equal(
        convert.load(str(place)).select.theta, before
    ) and before.shape == (M,)


def test_floats_of_other_widths_are_read_as_float32(tmp_path):
    place = made("saelens topk", tmp_path)
    with_tensors(place, W_enc=OURS["W_enc"].double(), W_dec=OURS["W_dec"].bfloat16())
    found = convert.load(str(place))
    assert torch.equal(found.W_enc, OURS["W_enc"]) and torch.equal(
        found.W_dec, OURS["W_dec"].bfloat16().float()
    )


@pytest.fixture
def little_memory():
    """Let this process have a gigabyte more than it has now, and no more."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    before = resource.getrlimit(resource.RLIMIT_AS)
    most = pages * resource.getpagesize() + 2**30
    resource.setrlimit(resource.RLIMIT_AS, (most, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_AS, before)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.int64])
@pytest.mark.parametrize("name", ["saev topk", "visaebench topk", "sparsify"])
def test_a_tensor_that_was_expanded_is_refused_before_memory_is_asked_for(
    name, dtype, tmp_path, refused, little_memory
):
    place = made(name, tmp_path)
    file, header, tensors = tensor_file(place)
    if file.suffix == ".safetensors":  # Which writes them whole; PyTorch does not.
        file.unlink()
        file = place / "sae.pt"
    tensors["W_dec"] = torch.zeros(1, dtype=dtype).expand(40_000, 40_000)
    write(file, header if isinstance(header, bytes) else b"", tensors)
    assert file.stat().st_size < 10_000
    line = refused(place)
    size = 40_000**2 * dtype.itemsize
    assert f"{file}: W_dec was expanded: its shape (40000, 40000) takes" in line
    assert f"{size:,} bytes, of which the file holds {dtype.itemsize:,}" in line


def test_tensors_that_share_their_numbers_are_refused_where_they_are_many(
    tmp_path, refused, little_memory
):
    place = made("sparsify", tmp_path)
    (place / "sae.safetensors").unlink()
    half = torch.zeros(10**6, dtype=torch.float16)
    file = place / "sae.pt"
    torch.save(dict.fromkeys(map(str, range(1000)), half), file)
    assert f"{file}: its tensors share their numbers: they take" in refused(place)
    # A decoder that is the encoder's transpose is none of these.
    tied = {"encoder.weight": LINEAR["encoder.weight"]}
    tied |= {"encoder.bias": random(M), "b_dec": random(D)}
    torch.save(tied | {"W_dec": tied["encoder.weight"]}, file)
    assert convert.load(place).m == M


def test_a_file_that_unpacks_to_more_than_its_size_is_refused(
    tmp_path, refused, little_memory
):
    place = made("visaebench topk", tmp_path)
    file, _, tensors = tensor_file(place)
    torch.save(tensors | {"more": torch.zeros(10**8)}, tmp_path / "whole.pt")
    with (
        zipfile.ZipFile(tmp_path / "whole.pt") as whole,
        zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as packed,
    ):
        for member in whole.namelist():
            packed.writestr(member, whole.read(member))
    (tmp_path / "whole.pt").unlink()
    assert file.stat().st_size < 10**6
    assert re.search(f"{file} is compressed: its .* bytes unpack to 4", refused(place))


def sealed(file, tensors, **settings):
    """Write a file of this project, whatever its tensors and settings are."""
    stated = {"select": "topk", "k": K, "input_norm": "none", "input_scale": 1.0}
    header = json.dumps(stated | settings | {"seal": seals.BLANK})
    save_file(tensors, file, metadata={"sae": header})
    seals.seal(file)
    return file


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"W_enc": torch.zeros(0, 10**9)}, "W_enc is of shape (0, 1000000000)"),
        ({"W_enc": torch.zeros(10**9, 0)}, "W_enc is of shape (1000000000, 0)"),
        ({"W_enc": torch.zeros(0, 10**9), "W_dec": torch.zeros(10**9, 0)}, "(0, 10"),
        ({"b_dec": torch.zeros(D + 1)}, "b_dec is of shape (7,)"),
    ],
)
def test_an_sae_is_not_made_before_its_tensors_fit(
    changed, said, tmp_path, little_memory
):
    file = sealed(tmp_path / "sae.safetensors", OURS | changed)
    with pytest.raises(UserError) as raised:
        sae.load(file)
    assert f"{file} is not a whole SAE file" in str(raised.value)
    assert said in str(raised.value)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"k": "4"}, "k = '4'; it should be a whole number from 1 to its 16 latents"),
        ({"k": 17}, "k = 17; it should be a whole number"),
        ({"k": True}, "k = True; it should be a whole number"),
        ({"input_norm": "l2"}, "input_norm is 'l2'; it should be none, unit_l2, unit"),
        ({"input_norm": []}, "input_norm is []; it should be none"),
        ({"input_scale": "2"}, "input_scale is '2'; it should be a number above 0"),
        ({"input_scale": 0}, "input_scale is 0; it should be a number above 0"),
        ({"input_scale": NAN}, "input_scale is nan; it should be a number above 0"),
    ],
)
def test_a_file_is_not_loaded_with_settings_that_cannot_be(settings, said, tmp_path):
    sealed(tmp_path / "right.safetensors", OURS)
    assert sae.load(tmp_path / "right.safetensors").coder.k == K
    file = sealed(tmp_path / "sae.safetensors", OURS, **settings)
    with pytest.raises(UserError) as raised:
        sae.load(file)
    assert said in str(raised.value) and str(file) in str(raised.value)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "cfg.json cannot be read as settings in JSON: Expecting value"),
        (b"\xff\xfe", "cfg.json cannot be read as settings in JSON: 'utf-8' codec"),
        (
            b'{"a": ' * 100_000,
            "cfg.json cannot be read as settings in JSON: maximum recursion depth exceeded",
        ),
        (b"[]", "cfg.json holds list, not settings"),
        (
            None,
            "sae_weights.safetensors has no cfg.json beside it, where its format keeps the settings: put it there",
        ),
    ],
)
def test_settings_that_are_none_are_named(content, said, tmp_path, refused):
    place = made("saelens topk", tmp_path)
    (place / "cfg.json").unlink()
    if content is not None:
        (place / "cfg.json").write_bytes(content)
    assert f"{place}/{said}" in refused(place)


def test_what_is_missing_is_asked_for_by_its_name(tmp_path, refused):
    place = folder(
        tmp_path / "visaebench",
        tensor_file(made("visaebench topk", tmp_path))[2],
        None,
        "sae.pt",
    )
    assert f"{place}/sae.pt has no config.json beside it" in refused(place)
    place = folder(tmp_path / "sparsify", SPARSIFY, None, "sae.safetensors")
    assert "give --k (there is no cfg.json or config.json beside it)" in refused(place)
    place = folder(tmp_path / "saev", OURS, LENS, "sae.pt")
    assert "cfg: this key is required" in refused(place, "--format", "saev")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (
            {0: torch.zeros(2)},
            "x.pt holds Tensor under 0, not a state dict of tensors under names",
        ),
        (
            {"W_enc": [1.0]},
            "x.pt holds list under 'W_enc', not a state dict of tensors under names",
        ),
        (
            {"state_dict": {(1, 2): torch.zeros(2)}},
            "x.pt holds Tensor under (1, 2), not a state dict",
        ),
        (torch.zeros(2), "x.pt holds Tensor, not a state dict"),
        (
            b"",
            "x.pt cannot be read as tensors: no file that torch.save wrote, or cut short",
        ),
        (
            b"hello",
            "x.pt cannot be read as tensors: no file that torch.save wrote, or cut short",
        ),
        (
            b"garbage",
            "x.pt cannot be read as tensors: no file that torch.save wrote, or cut short",
        ),
        (
            b"PK\x03\x04",
            "x.pt cannot be read as tensors: no file that torch.save wrote, or cut short",
        ),
        (
            b'{"schema":' * 50_000 + b"\n",
            "x.pt cannot be read as settings in JSON: maximum recursion depth",
        ),
        (
            pickle.dumps({"a": np.zeros}, protocol=2),
            "x.pt holds a pickled object, which would have to be run",
        ),
    ],
)
def test_a_file_of_something_else_is_named(content, said, tmp_path, refused):
    file = tmp_path / "x.pt"
    if isinstance(content, bytes):
        file.write_bytes(content)
    else:
        torch.save(content, file)
    assert said in refused(file)


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        (
            np.zeros((0, D), np.float32),
            "holds an array of shape (0, 6), expected (N, 6) with at least one row",
        ),
        (np.zeros((3, D + 1)), "holds an array of shape (3, 7), expected (N, 6)"),
        (np.zeros(D), "holds an array of shape (6,), expected (N, 6)"),
        (np.full((3, D), "1.5"), "holds an array of <U3, expected numbers"),
        (np.full((3, D), 1j), "holds an array of complex128, expected numbers"),
        (
            np.full((3, D), 1.5, object),
            "holds Python objects, expected numbers: save it as floats",
        ),
        (
            np.full((3, D), NAN),
            "holds NaN, or numbers beyond 1e+18, in 3 rows that were looked at",
        ),
        (
            np.full((3, D), 1e300),
            "holds NaN, or numbers beyond 1e+18, in 3 rows that were looked at",
        ),
        (
            b"PK\x03\x04",
            "cannot be read as an array: cut short, or not written by numpy.save",
        ),
        (None, "is no file"),
    ],
)
def test_embeddings_to_check_with_are_named(rows, said, tmp_path, refused):
    file = tmp_path / "x.npy"
    if isinstance(rows, bytes):
        file.write_bytes(rows)
    elif rows is not None:
        np.save(file, rows)
    assert f"error: {file} {said}" in refused(
        made("saelens topk", tmp_path), "--check", str(file)
    )


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (
            ["--input-scale=nan"],
            "import options: input_scale: nan should be a finite number",
        ),
        (
            ["--input-scale=0"],
            "import options: input_scale: 0.0 should be greater than 1e-30",
        ),
        (["--k", "17"], "k = 17; it should be a whole number from 1 to its 16 latents"),
    ],
)
def test_options_beyond_their_range_are_named(options, said, tmp_path, refused):
    assert said in refused(made("saelens jumprelu", tmp_path), *options)
    for k in (True, 0, 2.0):
        with pytest.raises(UserError, match=f"import options: k: {k} should be"):
            convert.Options(k=k)


def test_a_place_that_cannot_be_written_is_named(tmp_path, caplog):
    place, file = made("saelens topk", tmp_path), tmp_path / "file"
    file.touch()
    tensors, settings, rows = (
        place / "sae_weights.safetensors",
        place / "cfg.json",
        tmp_path / "x.npy",
    )
    np.save(rows, embeddings())
    exported = made("ours topk", tmp_path / "ours") / "sae.safetensors"
    before = [path.read_bytes() for path in (tensors, settings, rows)]
    os.symlink(tensors, tmp_path / "link")
    for command, out, said in (
        ("import", tmp_path, "is a folder: name the file to write"),
        ("import", "", "is a folder: name the file to write"),
        ("import", file / "x", "cannot be written ([Errno 17] File exists"),
        ("export", file / "x", "cannot be written ([Errno 17] File exists"),
        ("import", "/proc/x", "cannot be written ([Errno 2] No such file"),
        ("export", "/proc/x", "cannot be written ([Errno 2] No such file"),
        *(
            ("import", out, "is what was given to read")
            for out in (tensors, settings, rows, tmp_path / "link")
        ),
    ):
        source, more = (
            (exported, []) if command == "export" else (place, ["--check", str(rows)])
        )
        caplog.clear()
        assert (
            main(
                [command, str(source), "--out", str(out), "--format", "saelens", *more]
            )
            == 1
        )
        assert (
            f"error: {out or '.'} {said}" in caplog.text
            and "Traceback" not in caplog.text
        )
    assert before == [path.read_bytes() for path in (tensors, settings, rows)]


@pytest.mark.parametrize("name", ["", "sae_weights.safetensors", "cfg.json"])
def test_a_pipe_is_refused_and_not_waited_for(name, tmp_path, refused):
    place = made("saelens topk", tmp_path) if name else tmp_path / "pipe"
    pipe = place / name
    pipe.unlink(missing_ok=True)
    os.mkfifo(tmp_path / "fifo")
    pipe.symlink_to(tmp_path / "fifo")
    signal.signal(signal.SIGALRM, lambda *_: pytest.fail("waits for ever"))
    signal.alarm(20)
    try:
        assert f"{pipe} is a folder, pipe, socket or device, not a file" in refused(
            place
        )
    finally:
        signal.alarm(0)


def test_what_lies_beside_an_export_is_read(tmp_path, refused):
    convert.export(make_coder(0), "overcomplete", tmp_path / "over")
    found = convert.load(str(tmp_path / "over"))
    assert (found.k, found.input_norm, found.input_scale) == (4, "unit_l2", 2.0)
    (tmp_path / "over/made_by.json").write_text('{"k": "4"}')
    assert f"{tmp_path}/over/made_by.json: k: '4' should be a valid integer" in refused(
        tmp_path / "over"
    )
    (tmp_path / "over/made_by.json").unlink()
    assert "does not say how many latents are kept: give --k" in refused(
        tmp_path / "over"
    )
    np.save(tmp_path / "over/b_dec.npy", np.zeros(D + 1))
    assert "b_dec.npy is of shape (7,), expected (6,), to fit the others" in refused(
        tmp_path / "over", "--k=4"
    )


@pytest.mark.parametrize(
    "name",
    [
        "ours topk",
        "saelens topk",
        "dictionary_learning batch",
        "sparsify",
        "saev batch",
        "visaebench batch",
    ],
)
def test_no_value_of_a_setting_ends_otherwise_than_in_an_sae_or_an_error(
    name, tmp_path
):
    place = made(name, tmp_path)
    [file] = [path for path in place.iterdir() if path.suffix == ".json"] or [
        tensor_file(place)[0]
    ]
    before = file.read_bytes()
    held = tensor_file(place)[1]
    settings = json.loads(
        before
        if file.suffix == ".json"
        else held["sae"]
        if isinstance(held, dict)
        else held
    )

    def keys_of(part, above=""):
        for key, value in part.items():
            yield above + key
            yield from (
                keys_of(value, f"{above}{key}.") if isinstance(value, dict) else ()
            )

    keys_read = [*keys_of(settings), *SETTINGS_CLASSES[FORMATS[name][0]].model_fields]
    values = (None, [], {}, "x", True, -1, 0, 0.5, NAN, INF, 10**30, 1e39, 1e308)
    for keys in dict.fromkeys(keys_read):
        for value in values:
            file.write_bytes(before)
            with_setting(place, keys, value)
            if name.startswith("visaebench") and keys != "input_dim":
                with_setting(place, "input_dim", D)  # What a factor multiplies.
            try:
                found = convert.load(str(place))
            except UserError:
                continue
            assert (
                all(t.isfinite().all() for t in found.state_dict().values())
                and type(found.k) is int
            )
            assert (
                1 <= found.k <= M
                and np.isfinite(found.encode(found.prepare(embeddings(4))).values).all()
            )

"""A checkpoint that is not what it says is refused in one line.

The line names the file, and what is wrong in it.
"""

import itertools
import json
import math
import os
import pickle
import re
import resource
import zipfile
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from models.checkpoints import (
    CODER_TENSORS,
    EXAMPLES,
    LINEAR_ENCODER,
    D,
    M,
    random_embeddings,
    random_tensor,
)
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from scoring.examples import coder as make_coder
from support.errors import assert_names, refused_naming

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


@pytest.fixture
def refusal(tmp_path, caplog):
    """Return a function that imports a place in vain, and returns the error's line.

    It checks that the error is one line, and that nothing is written.
    """

    def import_in_vain(place, *options):
        caplog.clear()
        out = tmp_path / "out.safetensors"
        assert main(["import", str(place), "--out", str(out), *options]) == 1
        assert not out.exists()
        [record] = caplog.records
        line = record.getMessage()
        assert line.startswith("error: ")
        assert "\n" not in line
        assert record.exc_info is None
        return line

    return import_in_vain


@dataclass(frozen=True)
class TensorFile:
    """The file of tensors of a checkpoint.

    Attributes:
        path: the file.
        header: what stands in front of its tensors: {key: text} or None of a
            safetensors file, a line of JSON or b"" of a file of PyTorch.
        tensors: {name: tensor}.
    """

    path: Path
    header: dict[str, str] | bytes | None
    tensors: dict[str, torch.Tensor]

    def write(self):
        """Write the file anew."""
        if self.path.suffix == ".safetensors":
            contiguous = {name: t.contiguous() for name, t in self.tensors.items()}
            save_file(contiguous, self.path, metadata=self.header)
            return
        with open(self.path, "wb") as stream:
            stream.write(self.header)
            torch.save(self.tensors, stream)

    def settings(self):
        """Return the settings in the header."""
        text = self.header["sae"] if isinstance(self.header, dict) else self.header
        return json.loads(text)


def read_tensor_file(place):
    """Read the one file of tensors in a folder."""
    [path] = [
        path for path in place.iterdir() if path.suffix in (".pt", ".safetensors")
    ]
    if path.suffix == ".safetensors":
        with safe_open(path, framework="pt") as opened:
            return TensorFile(path, opened.metadata(), load_file(path))
    with open(path, "rb") as stream:
        header = stream.readline() if stream.peek(1)[:1] == b"{" else b""
        return TensorFile(path, header, torch.load(stream, weights_only=True))


def set_dotted_key(settings, dotted_key, value):
    """Set a value of nested settings, at a key such as "trainer.k"."""
    *outer_keys, last_key = dotted_key.split(".")
    for key in outer_keys:
        settings = settings.setdefault(key, {})
    settings[last_key] = value


def change_setting(place, dotted_key, value):
    """Change a setting of a checkpoint, wherever its format keeps them.

    Returns:
        The file that has the settings.
    """
    settings_files = [path for path in place.iterdir() if path.suffix == ".json"]
    if settings_files:
        settings = json.loads(settings_files[0].read_text())
        set_dotted_key(settings, dotted_key, value)
        settings_files[0].write_text(json.dumps(settings))
        return settings_files[0]

    file = read_tensor_file(place)
    settings = file.settings()
    set_dotted_key(settings, dotted_key, value)
    if isinstance(file.header, dict):  # A file of this project.
        settings["seal"] = seals.BLANK
        replace(file, header={"sae": json.dumps(settings)}).write()
        seals.seal_file(file.path)
    else:
        replace(file, header=json.dumps(settings).encode() + b"\n").write()
    return file.path


def change_tensors(place, changed):
    """Change tensors of a checkpoint, or leave them out (None).

    Args:
        place: the folder of the checkpoint.
        changed: {name: tensor}.

    Returns:
        The file of tensors.
    """
    file = read_tensor_file(place)
    tensors = {
        name: tensor
        for name, tensor in (file.tensors | changed).items()
        if tensor is not None
    }
    replace(file, tensors=tensors).write()
    return file.path


def write_example(name, tmp_path):
    """Write a valid checkpoint, and return its folder."""
    return EXAMPLES[name].write(tmp_path / "theirs")


# (an example, changed settings, changed tensors, what the line names)
WRONG = [
    ("saelens topk", {"k": 2.5}, {}, "k = 2.5; it should be a whole number from 1 to"),
    ("ours topk", {"k": 17}, {}, "k = 17; it should be a whole number from 1 to its"),
    (
        "saelens jumprelu",
        {"rescale_acts_by_decoder_norm": True},
        {},
        "with architecture 'jumprelu' cannot be imported",
    ),
    (
        "saev topk",
        {"cfg.activation.params.top_k": None},
        {},
        "does not say how many latents are kept: give --k",
    ),
    (
        "dictionary_learning topk",
        {"trainer.k": 5},
        {},
        "config.json: trainer.k is 5, its tensor k is 4: say which (--k)",
    ),
    # Sizes that follow from the settings. The factor of eai-sparsify counts where the
    # number of latents is 0 or not there, that of ViSAEBench always.
    (
        "sparsify",
        {"num_latents": 0, "expansion_factor": 3},
        {},
        "d_in * expansion_factor is 18, expected 16",
    ),
    (
        "visaebench topk",
        {"input_dim": D, "expansion_factor": 2.58},
        {},
        "input_dim * expansion_factor is 15, expected 16",
    ),
    (
        "saev relu",
        {"cfg.d_vit": D, "cfg.exp_factor": 16},
        {},
        "cfg.d_vit * exp_factor is 96, expected 16",
    ),
    (
        "dictionary_learning matryoshka",
        {"trainer.group_sizes": [8, 7]},
        {},
        "the sum of trainer.group_sizes is 15",
    ),
    (
        "saelens topk",
        {},
        {"W_enc": random_tensor(M, D), "W_dec": random_tensor(D, M)},
        "W_enc is of shape (16, 6), expected (6, 16)",
    ),
    (
        "saelens gated",
        {},
        {"r_mag": torch.full((M,), 1e3)},
        "W_enc comes out as NaN or beyond 1e+18",
    ),
    (
        "dictionary_learning relu",
        {},
        {
            "encoder.weight": random_tensor(0, D),
            "encoder.bias": random_tensor(0),
            "decoder.weight": random_tensor(D, 0),
        },
        "encoder.weight is of shape (0, 6), expected (m, 6)",
    ),
    (
        "dictionary_learning topk",
        {},
        {"k": torch.tensor([1, 2])},
        "k: [1, 2] should be a valid integer",
    ),
    (
        "ours thresholds",
        {"seal": seals.BLANK},
        {"theta": torch.full((M,), NAN)},
        "the threshold comes out as NaN",
    ),
    (
        "saelens topk",
        {},
        {"b_dec": torch.full((D,), 1e300, dtype=torch.float64)},
        "b_dec holds NaN, infinity or numbers",
    ),
    (
        "saelens topk",
        {},
        {"W_enc": CODER_TENSORS["W_enc"].to(torch.int8)},
        "W_enc is of torch.int8, expected floats",
    ),
    (
        "dictionary_learning topk",
        {},
        {"b_dec": torch.zeros(D).to_sparse()},
        "b_dec is no dense tensor of numbers",
    ),
    (
        "visaebench topk",
        {},
        {"decoder.bias": None},
        "its format is not plain (none fit; tensors: decoder.weight, enc",
    ),
]


@pytest.mark.parametrize(("name", "settings", "tensors", "message"), WRONG)
def test_a_setting_or_tensor_that_is_wrong_is_named(
    name, settings, tensors, message, tmp_path, refusal
):
    place = write_example(name, tmp_path)
    if tensors:
        change_tensors(place, tensors)
    for key, value in settings.items():
        change_setting(place, key, value)
    assert_names(refusal(place), message, f"{place}/")


@pytest.mark.parametrize(
    ("name", "keys", "right"),
    [
        ("saelens topk", "d_in", D),
        ("dictionary_learning batch", "trainer.activation_dim", D),
        ("dictionary_learning matryoshka", "trainer.dict_size", M),
        ("sparsify", "num_latents", M),
        ("saev topk", "cfg.d_model", D),
        ("visaebench jumprelu", "hidden_dim", M),
    ],
)
def test_a_size_that_the_settings_state_must_be_that_of_the_tensors(
    name, keys, right, tmp_path, refusal
):
    place = write_example(name, tmp_path)
    change_setting(place, keys, right)
    assert convert.load(str(place)).m == M
    settings_file = change_setting(place, keys, 1024)
    tensor_file = read_tensor_file(place).path
    numbers = f"{keys} is 1024, expected {right}"
    assert_names(refusal(place), str(settings_file), numbers, str(tensor_file))


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("sparsify", {"expansion_factor": 3, "d_in": None}),
        # Of a factor that was rounded, the nearest whole number: 15.96 are 16 latents.
        ("visaebench topk", {"input_dim": D, "expansion_factor": 2.66}),
        ("dictionary_learning matryoshka", {"trainer.group_sizes": [8, 8]}),
    ],
)
def test_settings_whose_sizes_come_out_right_are_read(name, settings, tmp_path):
    place = write_example(name, tmp_path)
    for key, value in settings.items():
        change_setting(place, key, value)
    assert convert.load(str(place)).m == M


@pytest.mark.parametrize(("k", "budget"), [(None, 9), (0.3, 1), (3.6, 4)])
def test_the_budget_of_thresholds_is_the_nearest_whole_number(k, budget, tmp_path):
    place = write_example("saelens jumprelu", tmp_path)
    change_setting(place, "k", k)
    change_setting(place, "metadata.k", 9)  # It counts where there is no k.
    assert convert.load(str(place)).k == budget
    assert convert.load(str(place), "auto", convert.Options(k=7)).k == 7


def test_where_two_k_contradict_each_other_an_option_decides(tmp_path):
    place = write_example("dictionary_learning topk", tmp_path)
    change_setting(place, "trainer.k", 5)
    assert convert.load(str(place), "auto", convert.Options(k=3)).k == 3


@pytest.mark.parametrize("threshold", [torch.tensor([0.7]), torch.full((M,), 0.7)])
def test_one_threshold_may_be_written_as_one_or_as_many(threshold, tmp_path):
    place = write_example("dictionary_learning batch", tmp_path)
    theta = convert.load(str(place)).select.theta
    assert theta.shape == (M,)
    change_tensors(place, {"threshold": threshold})
    assert torch.equal(convert.load(str(place)).select.theta, theta)


def test_floats_of_other_widths_are_read_as_float32(tmp_path):
    place = write_example("saelens topk", tmp_path)
    W_enc = CODER_TENSORS["W_enc"]
    W_dec = CODER_TENSORS["W_dec"]
    change_tensors(place, {"W_enc": W_enc.double(), "W_dec": W_dec.bfloat16()})
    coder = convert.load(str(place))
    assert torch.equal(coder.W_enc, W_enc)
    assert torch.equal(coder.W_dec, W_dec.bfloat16().float())


@pytest.fixture
def little_memory():
    """Let this process have a gigabyte more than it has now, and no more."""
    page_count = int(Path("/proc/self/statm").read_text().split()[0])
    most_bytes = page_count * resource.getpagesize() + 2**30
    limits = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (most_bytes, limits[1]))
    yield
    resource.setrlimit(resource.RLIMIT_AS, limits)


def test_a_tensor_that_was_expanded_is_refused_before_memory_is_asked_for(
    tmp_path, refusal, little_memory
):
    place = write_example("saev topk", tmp_path)
    file = read_tensor_file(place)
    expanded = torch.zeros(1).expand(40_000, 40_000)
    replace(file, tensors=file.tensors | {"W_dec": expanded}).write()
    assert file.path.stat().st_size < 10_000
    line = refusal(place)
    assert f"{file.path}: W_dec was expanded: its shape (40000, 40000) takes" in line
    assert f"{40_000**2 * 4:,} bytes, of which the file holds 4" in line


def test_tensors_that_share_their_numbers_are_refused_where_they_are_many(
    tmp_path, refusal, little_memory
):
    place = write_example("sparsify", tmp_path)
    (place / "sae.safetensors").unlink()
    half = torch.zeros(10**6, dtype=torch.float16)
    file = place / "sae.pt"
    torch.save(dict.fromkeys(map(str, range(1000)), half), file)
    assert f"{file}: its tensors share their numbers: they take" in refusal(place)
    # A decoder that is the encoder's transpose is none of these.
    weight = LINEAR_ENCODER["encoder.weight"]
    tied_tensors = {
        "encoder.weight": weight,
        "encoder.bias": random_tensor(M),
        "b_dec": random_tensor(D),
        "W_dec": weight,
    }
    torch.save(tied_tensors, file)
    assert convert.load(place).m == M


def test_a_file_that_unpacks_to_more_than_its_size_is_refused(
    tmp_path, refusal, little_memory
):
    place = write_example("visaebench topk", tmp_path)
    file = read_tensor_file(place)
    plain = tmp_path / "plain.pt"
    torch.save(file.tensors | {"more": torch.zeros(10**7)}, plain)
    with (
        zipfile.ZipFile(plain) as archive,
        zipfile.ZipFile(file.path, "w", zipfile.ZIP_DEFLATED) as compressed,
    ):
        for member in archive.namelist():
            compressed.writestr(member, archive.read(member))
    plain.unlink()
    assert file.path.stat().st_size < 10**6
    line = refusal(place)
    assert re.search(f"{file.path} is compressed: its .* bytes unpack to 4", line)


@pytest.mark.parametrize(
    ("changed", "settings", "message"),
    [
        ({"W_enc": torch.zeros(0, 10**9)}, {}, "W_enc is of shape (0, 1000000000)"),
        ({"b_dec": torch.zeros(D + 1)}, {}, "b_dec is of shape (7,)"),
        ({}, {"select": "magic"}, "select is 'magic'; it should be topk or threshold"),
        ({}, {"k": "4"}, "k = '4'; it should be a whole number from 1 to its 16"),
    ],
)
def test_an_sae_is_not_made_before_its_tensors_and_settings_fit(
    changed, settings, message, tmp_path, little_memory
):
    place = write_example("ours topk", tmp_path)
    file = change_tensors(place, changed)
    for key, value in {"seal": seals.BLANK, **settings}.items():
        change_setting(place, key, value)
    with refused_naming(str(file), message):
        sae.load(file)


@pytest.mark.parametrize("content", [b"", b'{"a": ' * 100_000, None])
def test_settings_that_are_none_are_named(content, tmp_path, refusal):
    file = write_example("saelens topk", tmp_path) / "cfg.json"
    file.unlink()
    message = "sae_weights.safetensors has no cfg.json beside it"
    if content is not None:
        file.write_bytes(content)
        message = f"{file} cannot be read as settings in JSON"
    assert message in refusal(file.parent)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            {0: torch.zeros(2)},
            "x.pt holds Tensor under 0, not a state dict of tensors under names",
        ),
        (torch.zeros(2), "x.pt holds Tensor, not a state dict"),
        (
            b"hello",
            "x.pt cannot be read as tensors: no file that torch.save wrote",
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
def test_a_file_of_something_else_is_named(content, message, tmp_path, refusal):
    file = tmp_path / "x.pt"
    if isinstance(content, bytes):
        file.write_bytes(content)
    else:
        torch.save(content, file)
    assert message in refusal(file)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (np.zeros((3, D + 1)), "holds an array of shape (3, 7), expected (N, 6)"),
        (np.full((3, D), NAN), "holds NaN, or numbers beyond 1e+18, in 3 rows"),
    ],
)
def test_embeddings_to_check_with_are_named(rows, message, tmp_path, refusal):
    file = tmp_path / "x.npy"
    np.save(file, rows)
    place = write_example("saelens topk", tmp_path)
    assert f"error: {file} {message}" in refusal(place, "--check", str(file))


@pytest.fixture
def files_to_read(tmp_path):
    """Return the files that an import reads: tensors, settings, rows to check with."""
    place = write_example("saelens topk", tmp_path)
    np.save(tmp_path / "x.npy", random_embeddings())
    return [place / "sae_weights.safetensors", place / "cfg.json", tmp_path / "x.npy"]


def error_of(caplog, *command):
    """Run a command that fails with an error, and return what it logged."""
    caplog.clear()
    assert main([*map(str, command)]) == 1
    assert "Traceback" not in caplog.text
    return caplog.text


def test_an_import_replaces_no_folder_and_nothing_that_it_reads(
    files_to_read, tmp_path, caplog
):
    contents = [file.read_bytes() for file in files_to_read]
    os.symlink(files_to_read[0], tmp_path / "link")
    place = files_to_read[0].parent
    refusals = {
        tmp_path: "is a folder: name the file to write",
        "": "is a folder: name the file to write",
        tmp_path / "link": "is what was given to read",
    }
    refusals |= dict.fromkeys(files_to_read, "is what was given to read")
    for out, message in refusals.items():
        arguments = [place, "--out", out, "--check", files_to_read[2]]
        logged = error_of(caplog, "import", *arguments)
        assert f"error: {out or '.'} {message}" in logged
    assert contents == [file.read_bytes() for file in files_to_read]


def test_what_lies_beside_an_export_is_read(tmp_path, refusal):
    place = tmp_path / "over"
    convert.export(make_coder(0), "overcomplete", place)
    coder = convert.load(str(place))
    assert (coder.k, coder.input_norm, coder.input_scale) == (4, "unit_l2", 2.0)

    made_by = place / "made_by.json"
    made_by.write_text('{"k": "4"}')
    assert f"{made_by}: k: '4' should be a valid integer" in refusal(place)
    made_by.unlink()
    assert "does not say how many latents are kept: give --k" in refusal(place)
    np.save(place / "b_dec.npy", np.zeros(D + 1))
    assert "b_dec.npy is of shape (7,), expected (6,), to fit the others" in refusal(
        place, "--k=4"
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
    place = write_example(name, tmp_path)
    json_files = [path for path in place.iterdir() if path.suffix == ".json"]
    if json_files:
        settings_file = json_files[0]
        settings = json.loads(settings_file.read_text())
    else:
        tensor_file = read_tensor_file(place)
        settings_file = tensor_file.path
        settings = tensor_file.settings()
    valid_content = settings_file.read_bytes()

    settings_class = SETTINGS_CLASSES[EXAMPLES[name].format]
    dotted_keys = [*dotted_keys_of(settings), *settings_class.model_fields]
    # Nothing is of the type of the last one.
    values = (None, [], {}, "x", True, -1, 0, 0.5, NAN, INF, 10**30, 1e39, 1e308, [[]])
    for dotted_key, value in itertools.product(dict.fromkeys(dotted_keys), values):
        settings_file.write_bytes(valid_content)
        change_setting(place, dotted_key, value)
        if name.startswith("visaebench") and dotted_key != "input_dim":
            # What `expansion_factor` multiplies.
            change_setting(place, "input_dim", D)
        try:
            coder = convert.load(str(place))
        except UserError as error:
            assert str(place) in str(error)
            if value == [[]] and "format is not plain" not in str(error):
                assert dotted_key.rpartition(".")[2] in str(error)
            continue
        assert all(tensor.isfinite().all() for tensor in coder.state_dict().values())
        assert type(coder.k) is int
        assert 1 <= coder.k <= M
        codes = coder.encode(coder.prepare(random_embeddings(4)))
        assert np.isfinite(codes.values).all()


def dotted_keys_of(settings, prefix=""):
    """Yield the keys of nested settings, such as "trainer" and "trainer.k"."""
    for key, value in settings.items():
        yield prefix + key
        if isinstance(value, dict):
            yield from dotted_keys_of(value, f"{prefix}{key}.")

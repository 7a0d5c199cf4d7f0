"""Other libraries' formats are read by their own arithmetic, written and read back.

What would do harm is refused. The libraries themselves are asked in test_libraries.py
(`make test-libraries`).
"""

import re

import numpy as np
import pytest
import torch
from models.checkpoints import (
    CODER_TENSORS,
    EXAMPLES,
    LINEAR_ENCODER,
    OVERCOMPLETE_TENSORS,
    SAELENS_CONFIG,
    D,
    K,
    M,
    our_file_writer,
    random_embeddings,
    random_tensor,
    saelens_writer,
    write_checkpoint,
)
from safetensors.torch import save_file
from support.errors import refused_naming

import sae
from sae.__main__ import main
from sae.core import registry
from sae.core.errors import UserError
from sae.models import checkpoints, convert, saefile
from sae.models.apply import Encoder
from sae.models.coder import TopK


@pytest.mark.parametrize("name", EXAMPLES)
def test_a_checkpoint_codes_and_reconstructs_as_its_own_arithmetic_does(
    name, tmp_path, monkeypatch
):
    example = EXAMPLES[name]
    place = str(example.write(tmp_path / "theirs"))
    options = convert.Options(**example.options)
    coder = convert.load(place, "auto", options, random_embeddings())
    assert coder.metadata["imported"] == example.format

    # The comparison can fail.
    importer = registry.load("importer", example.format)
    forward = importer.forward

    def shifted_forward(*arguments):
        codes, reconstructions = forward(*arguments)
        return codes, reconstructions + 0.1

    monkeypatch.setattr(importer, "forward", shifted_forward)
    with refused_naming("reconstructions differ", "nothing was written"):
        convert.load(place, "auto", options, random_embeddings())


def test_the_command_writes_a_file_that_encodes(tmp_path, caplog):
    embeddings_file = tmp_path / "x.npy"
    np.save(embeddings_file, random_embeddings())
    place = saelens_writer()(tmp_path / "theirs")
    out = tmp_path / "sae.safetensors"
    command = ["import", str(place), "--out", str(out), "--check", str(embeddings_file)]
    assert main(command) == 0

    embeddings_file.write_bytes(b"no array")
    assert main(command) == 1
    assert "x.npy cannot be read as an array" in caplog.text

    coder = saefile.load(out)
    assert coder.metadata["imported"] == "saelens"
    assert coder.k == K
    x = torch.from_numpy(random_embeddings())
    pre_activations = (x - CODER_TENSORS["b_dec"]) @ CODER_TENSORS["W_enc"]
    pre_activations = pre_activations + CODER_TENSORS["b_enc"]
    largest = pre_activations.topk(K, dim=1).values.relu()
    for encoder in (sae.load(out), Encoder(convert.load(str(place)))):
        codes = encoder.encode(random_embeddings())
        np.testing.assert_allclose(
            codes.matrix().sum(axis=1).A1, largest.sum(dim=1), rtol=1e-4
        )

    # It is replaced as long as it is what was written.
    assert main(command[:4]) == 0
    out.write_bytes(b"mine")
    assert main(command[:4]) == 1
    assert f"{out} was changed since" in caplog.text and out.read_bytes() == b"mine"


@pytest.mark.parametrize("threshold", [None, 0.05])
def test_a_file_of_this_project_stays_what_it_is(threshold, tmp_path):
    file = our_file_writer(threshold)(tmp_path / "sae") / "sae.safetensors"
    saved = saefile.load(file)
    imported = convert.load(str(file), check=random_embeddings())
    assert imported.metadata["imported"] == "ours"
    assert saved.b_dec.abs().max() > 0.01
    for name, tensor in saved.state_dict().items():
        assert torch.equal(tensor, imported.state_dict()[name])
    assert (imported.k, imported.input_norm, imported.input_scale) == (
        K,
        "unit_l2",
        2.0,
    )
    assert saved.metadata.items() <= imported.metadata.items()


def test_an_input_space_that_cannot_be_right_is_told(tmp_path, caplog):
    place = str(saelens_writer()(tmp_path / "theirs"))
    embeddings_file = tmp_path / "x.npy"
    np.save(embeddings_file, random_embeddings())
    with caplog.at_level("WARNING", "sae.progress"):
        convert.import_(place, out=tmp_path / "sae.safetensors", check=embeddings_file)
    assert re.search(
        "worse than their mean does .*input_norm none, input_scale 1: say what",
        caplog.text,
    )
    with pytest.warns(UserWarning, match="worse than their mean does") as warned:
        sae.score(convert.load(place), np.load(embeddings_file))
    assert warned[0].filename == __file__
    assert convert.describe_doubt(convert.load(place), 0.1, "x") == ""


def test_the_input_space_is_what_the_options_say_else_what_the_checkpoint_says(
    tmp_path,
):
    stated = {"input_norm": "unit_l2", "input_scale": 3.0}
    place = str(saelens_writer(metadata=stated)(tmp_path / "theirs"))
    as_stated = convert.load(place)
    assert (as_stated.input_norm, as_stated.input_scale) == ("unit_l2", 3.0)
    with_option = convert.load(place, "auto", convert.Options(input_norm="none"))
    assert (with_option.input_norm, with_option.input_scale) == ("none", 3.0)


@pytest.mark.parametrize("threshold", [None, 0.05])
@pytest.mark.parametrize("format_", registry.names("exporter"))
def test_what_is_exported_reads_back_as_the_same_sae(format_, threshold, tmp_path):
    source = our_file_writer(threshold)(tmp_path / "ours") / "sae.safetensors"
    out = tmp_path / "out"
    command = ["export", str(source), "--out", str(out), "--format", format_]
    if threshold is not None and format_ in ("sparsify", "overcomplete"):
        assert main(command) == 1
        assert not out.exists()
        return

    assert main(command) == 0
    # Others may read the files, as any that this process makes.
    (tmp_path / "plain").touch()
    modes = {file.stat().st_mode for file in out.iterdir()}
    assert modes == {(tmp_path / "plain").stat().st_mode}
    if format_ == "saelens":
        # It normalises itself: nothing that is said of its inputs would count.
        with pytest.raises(
            UserError, match=r"normalises its inputs itself .*: leave input_norm out"
        ):
            convert.load(str(out), format_, convert.Options(input_norm="none"))

    ours = saefile.load(source)
    back = convert.load(str(out), "auto", convert.Options(), random_embeddings())
    assert (back.metadata["imported"], back.k) == (format_, K)
    our_inputs = ours.prepare(random_embeddings())
    back_inputs = back.prepare(random_embeddings())
    our_codes = ours.encode(our_inputs)
    back_codes = back.encode(back_inputs)
    np.testing.assert_array_equal(our_codes.indices, back_codes.indices)
    # SAELens takes raw embeddings: its codes are sqrt(d) / input_scale times ours.
    factor = D**0.5 / 2 if format_ == "saelens" else 1.0
    np.testing.assert_allclose(
        back_codes.values, factor * our_codes.values, rtol=1e-5, atol=1e-6
    )
    np.testing.assert_allclose(
        back.reconstruct(back_inputs, back_codes),
        factor * ours.reconstruct(our_inputs, our_codes),
        rtol=1e-4,
        atol=1e-5,
    )
    assert main(command) == 1  # Nothing is overwritten.


def saelens_with(tensors=CODER_TENSORS, **changed_settings):
    """Return a function that writes a checkpoint of SAELens with these tensors."""
    config = SAELENS_CONFIG | changed_settings
    return lambda folder: write_checkpoint(folder, tensors, config)


@pytest.mark.parametrize(
    ("write", "message"),
    [
        (
            saelens_with(architecture="temporal"),
            "architecture: 'temporal' should be 'topk'.* others cannot be imported",
        ),
        (
            saelens_with(architecture="standard", activation_fn_str="topk"),
            "activation_fn_str is 'topk' with architecture 'standard'.* write 'topk'",
        ),
        (saelens_with(finetuning_scaling_factor=True), "finetuning_scaling_factor"),
        (saelens_with(is_transcoder=True), "is_transcoder"),
        (saelens_with(d_out=99), "d_out"),
        (
            saelens_with(activation_fn_kwargs={"k": 9}),
            "k is 4 and activation_fn_kwargs.k 9: leave one out",
        ),
        (
            saelens_with(CODER_TENSORS | {"scaling_factor": 2 * torch.ones(M)}),
            "the tensor scaling_factor is none that its format has",
        ),
        (
            saelens_with(normalize_activations="expected_average_only_in"),
            "normalize_activations",
        ),
        (
            lambda folder: write_checkpoint(
                folder,
                OVERCOMPLETE_TENSORS | {"encoder.body.weight": random_tensor(3)},
                None,
                "s.pt",
            ),
            "its encoder is not linear",
        ),
        (
            lambda folder: write_checkpoint(
                folder,
                LINEAR_ENCODER
                | {"W_dec": random_tensor(M, D), "b_dec": random_tensor(D)},
                {"k": 2, "transcode": True},
            ),
            "transcode: True should be False",
        ),
    ],
)
def test_what_cannot_be_reduced_or_does_not_fit_is_refused_by_name(
    write, message, tmp_path
):
    with pytest.raises(UserError, match=message):
        convert.load(str(write(tmp_path / "theirs")))


def test_earlier_keys_of_saelens_that_change_nothing_are_passed_over(tmp_path):
    earlier = {
        "activation_fn_str": "relu",
        "activation_fn_kwargs": {},
        "finetuning_scaling_factor": False,
        "l1_coefficient": 5,
    }
    tensors = CODER_TENSORS | {"scaling_factor": torch.ones(M)}
    write = saelens_with(tensors, architecture="standard", **earlier)
    coder = convert.load(str(write(tmp_path / "theirs")))
    assert not isinstance(coder.select, TopK)


class Harmful:
    """An object that makes a file where it is unpickled."""

    def __reduce__(self):
        return (open, ("harm", "w"))


def test_nothing_of_a_file_is_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.save({"model": Harmful()}, tmp_path / "model.pt")
    with pytest.raises(
        UserError, match=r"holds a pickled object.*state_dict"
    ) as caught:
        convert.load(str(tmp_path / "model.pt"))
    assert "weights_only=False" in str(caught.value)
    assert not (tmp_path / "harm").exists()


def test_a_file_that_is_cut_short_or_holds_something_else_is_named(tmp_path):
    for name in ("a.safetensors", "b.pt"):
        folder = write_checkpoint(tmp_path / name, CODER_TENSORS, SAELENS_CONFIG, name)
        file = folder / name
        file.write_bytes(file.read_bytes()[:-40])
        with pytest.raises(
            UserError, match=re.escape(f"{file} cannot be read as tensors")
        ):
            convert.load(str(folder))

    two_files = write_checkpoint(tmp_path / "two", CODER_TENSORS, SAELENS_CONFIG)
    save_file(CODER_TENSORS, two_files / "other.safetensors")
    with pytest.raises(
        UserError, match=r"must hold one file of tensors .*: name the file"
    ):
        convert.load(str(two_files))
    with pytest.raises(UserError, match="does not exist, and is no repository"):
        convert.load(str(tmp_path / "nowhere"))


def test_a_repository_is_asked_for_its_folder_alone(tmp_path, monkeypatch):
    import huggingface_hub

    downloads = []

    def download(repository, allow_patterns):
        downloads.append((repository, allow_patterns))
        return str(tmp_path)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    saelens_writer()(tmp_path / "layer_3")
    assert convert.load("someone/saes:layer_3").m == M
    assert downloads == [("someone/saes", ["layer_3/*"])]
    with pytest.raises(
        UserError, match="the repository someone/saes has no folder layer_4"
    ):
        convert.load("someone/saes:layer_4")

    def refuse(*_, **__):
        raise OSError("no network")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", refuse)
    with pytest.raises(
        UserError, match="the Hugging Face hub does not give it: no network"
    ):
        checkpoints.read_checkpoint("someone/saes")


def test_a_closed_checkpoint_is_not_called_missing(tmp_path, monkeypatch):
    file = tmp_path / "sae.safetensors"
    file.touch()
    refused = pytest.raises(UserError, match="closed to this user: permission denied")
    with monkeypatch.context() as patched:  # Root may read everything.
        patched.setattr("os.access", lambda *_: False)
        with refused:
            convert.load(str(file))

    def refuse(path, **_):
        raise PermissionError(path)

    with monkeypatch.context() as patched:
        patched.setattr("os.stat", refuse)
        with refused:
            convert.load(str(file))

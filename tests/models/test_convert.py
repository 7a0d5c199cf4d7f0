"""Other libraries' formats: read as their own arithmetic has it, written and read back, refused where they do harm.

The libraries themselves are asked in test_libraries.py (`make test-libraries`).
"""

import re

import numpy as np
import pytest
import torch
from models.checkpoints import (
    FORMATS,
    LEARNED,
    LENS,
    LINEAR,
    OURS,
    OVER,
    D,
    K,
    M,
    embeddings,
    folder,
    learned,
    lens,
    ours,
    random,
)
from safetensors.torch import save_file

import sae
from sae.__main__ import main
from sae.core import registry
from sae.core.errors import UserError
from sae.models import convert, foreign, saefile
from sae.models.apply import Encoder
from sae.models.coder import Threshold, TopK


@pytest.mark.parametrize("name", FORMATS)
def test_a_checkpoint_codes_and_reconstructs_as_its_own_arithmetic_does(
    name, tmp_path, monkeypatch
):
    format_, write, options = FORMATS[name]
    place, options = str(write(tmp_path / "theirs")), convert.Options(**options)
    found = convert.load(place, "auto", options, embeddings())
    assert found.metadata["imported"] == format_
    # The comparison can fail.
    importer = registry.load("importer", format_)
    forward = importer.forward
    monkeypatch.setattr(
        importer,
        "forward",
        lambda *given: (forward(*given)[0], forward(*given)[1] + 0.1),
    )
    with pytest.raises(
        UserError,
        match=r"reconstructions differ from the format's own by up to .*; nothing was",
    ):
        convert.load(place, "auto", options, embeddings())


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
    assert main(command) == 1 and "x.npy cannot be read as an array" in caplog.text
    coder, loaded = (
        saefile.load(tmp_path / "sae.safetensors"),
        sae.load(tmp_path / "sae.safetensors"),
    )
    assert coder.metadata["imported"] == "saelens" and coder.k == K
    x = torch.from_numpy(embeddings())
    pre = (x - OURS["b_dec"]) @ OURS["W_enc"] + OURS["b_enc"]
    values = pre.topk(K, dim=1).values.relu()
    for found in (loaded, Encoder(convert.load(str(place)))):
        np.testing.assert_allclose(
            found.encode(embeddings()).matrix().sum(axis=1).A1,
            values.sum(dim=1),
            rtol=1e-4,
        )


@pytest.mark.parametrize("threshold", [None, 0.05])
def test_a_file_of_this_project_stays_what_it_is(threshold, tmp_path):
    file = ours(threshold)(tmp_path / "sae") / "sae.safetensors"
    before, found = saefile.load(file), convert.load(str(file), check=embeddings())
    assert found.metadata["imported"] == "ours" and before.b_dec.abs().max() > 0.01
    assert all(
        torch.equal(value, found.state_dict()[name])
        for name, value in before.state_dict().items()
    )
    assert (found.k, found.input_norm, found.input_scale) == (K, "unit_l2", 2.0)
    assert before.metadata.items() <= found.metadata.items()


def test_an_input_space_that_cannot_be_right_is_told(tmp_path, caplog):
    place, x = str(lens()(tmp_path / "theirs")), tmp_path / "x.npy"
    np.save(x, embeddings())
    with caplog.at_level("WARNING", "sae.progress"):
        convert.import_(place, out=tmp_path / "sae.safetensors", check=x)
    assert re.search(
        "worse than their mean does .*input_norm none, input_scale 1: say what",
        caplog.text,
    )
    with pytest.warns(UserWarning, match="worse than their mean does") as warned:
        sae.score(convert.load(place), np.load(x))
    assert warned[0].filename == __file__
    assert convert.doubt(convert.load(place), 0.1, "x") == ""


def test_the_input_space_is_what_the_options_say_else_what_the_checkpoint_says(
    tmp_path,
):
    place = str(
        lens(metadata={"input_norm": "unit_l2", "input_scale": 3.0})(
            tmp_path / "theirs"
        )
    )
    found, other = (
        convert.load(place),
        convert.load(place, "auto", convert.Options(input_norm="none")),
    )
    assert (found.input_norm, found.input_scale) == ("unit_l2", 3.0)
    assert (other.input_norm, other.input_scale) == ("none", 3.0)


@pytest.mark.parametrize("threshold", [None, 0.05])
@pytest.mark.parametrize("format_", registry.names("exporter"))
def test_what_is_exported_reads_back_as_the_same_sae(
    format_, threshold, tmp_path, monkeypatch
):
    source = ours(threshold)(tmp_path / "ours") / "sae.safetensors"
    made = saefile.load(source)
    command = [
        "export",
        str(source),
        "--out",
        str(tmp_path / "out"),
        "--format",
        format_,
    ]
    if threshold is not None and format_ in ("sparsify", "overcomplete"):
        assert main(command) == 1 and not (tmp_path / "out").exists()
        return
    assert main(command) == 0
    (tmp_path / "plain").touch()
    assert {file.stat().st_mode for file in (tmp_path / "out").iterdir()} == {
        (tmp_path / "plain").stat().st_mode
    }
    if (
        format_ == "saelens"
    ):  # It normalises itself: nothing that is said of its inputs would count.
        with pytest.raises(
            UserError, match=r"normalises its inputs itself .*: leave input_norm out"
        ):
            convert.load(
                str(tmp_path / "out"), format_, convert.Options(input_norm="none")
            )
    back = convert.load(str(tmp_path / "out"), "auto", convert.Options(), embeddings())
    assert (back.metadata["imported"], back.k) == (format_, K)
    x = embeddings()
    inputs, others = made.prepare(x), back.prepare(x)
    one, other = made.encode(inputs), back.encode(others)
    np.testing.assert_array_equal(one.indices, other.indices)
    # SAELens takes raw embeddings: its codes are sqrt(d) / input_scale times ours.
    factor = D**0.5 / 2 if format_ == "saelens" else 1.0
    np.testing.assert_allclose(other.values, factor * one.values, rtol=1e-5, atol=1e-6)
    rebuilt = back.reconstruct(others, other)
    np.testing.assert_allclose(
        rebuilt, factor * made.reconstruct(inputs, one), rtol=1e-4, atol=1e-5
    )
    assert main(command) == 1  # Nothing is overwritten.


@pytest.mark.parametrize(
    ("write", "said"),
    [
        (
            lambda p: folder(p, OURS, LENS | {"architecture": "temporal"}),
            "architecture: 'temporal' should be 'topk'.* others cannot be imported",
        ),
        (
            lambda p: folder(
                p, OURS, LENS | {"normalize_activations": "expected_average_only_in"}
            ),
            "normalize_activations",
        ),
        (
            lambda p: folder(p, OURS, LENS | {"k": 99}),
            "k = 99; it should be a whole number from 1 to its 16 latents",
        ),
        (
            lambda p: folder(p, OURS | {"b_enc": random(3)}, LENS),
            r"b_enc is of shape \(3,\), expected \(16,\)",
        ),
        (
            lambda p: folder(p, OURS | {"b_dec": torch.full((D,), torch.nan)}, LENS),
            "b_dec holds NaN",
        ),
        (
            lambda p: folder(p, {"x": random(3)}, None),
            "its format is not plain .none fit; tensors: x.; say --format",
        ),
        (
            lambda p: folder(p, OVER, None, "s.pt"),
            "does not say how many latents are kept: give --k",
        ),
        (
            lambda p: folder(
                p, OVER | {"encoder.body.weight": random(3)}, None, "s.pt"
            ),
            "its encoder is not linear",
        ),
        (
            learned("GatedSomething", LEARNED),
            "dict_class: 'GatedSomething': allowed: AutoEncoderTopK, ",
        ),
        (
            lambda p: folder(
                p,
                LINEAR | {"W_dec": random(M, D), "b_dec": random(D)},
                {"k": 2, "transcode": True},
            ),
            "transcode: True should be False",
        ),
        (
            lambda p: folder(p, OURS, LENS | {"metadata": {"input_norm": "l7"}}),
            "metadata.input_norm: 'l7' should be 'none'",
        ),
    ],
)
def test_what_cannot_be_reduced_or_does_not_fit_is_refused_by_name(
    write, said, tmp_path
):
    with pytest.raises(UserError, match=said):
        convert.load(str(write(tmp_path / "theirs")))


class Harmful:
    def __reduce__(self):
        return (open, ("harm", "w"))


def test_nothing_of_a_file_is_run_and_what_is_cut_short_is_said(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.save({"model": Harmful()}, tmp_path / "model.pt")
    with pytest.raises(
        UserError, match=r"holds a pickled object.*state_dict"
    ) as caught:
        convert.load(str(tmp_path / "model.pt"))
    assert (
        "weights_only=False" in str(caught.value) and not (tmp_path / "harm").exists()
    )
    for name in ("a.safetensors", "b.pt"):
        whole = folder(tmp_path / name, OURS, LENS, name) / name
        whole.write_bytes(whole.read_bytes()[:-40])
        with pytest.raises(
            UserError, match=re.escape(f"{whole} cannot be read as tensors")
        ):
            convert.load(str(whole.parent))
    (tmp_path / "c.pt").write_bytes(b'{"schema"')
    with pytest.raises(UserError, match=r"c\.pt cannot be read as settings in JSON"):
        convert.load(str(tmp_path / "c.pt"))
    torch.save([1, 2], tmp_path / "d.pt")
    with pytest.raises(UserError, match="holds list, not a state dict"):
        convert.load(str(tmp_path / "d.pt"))
    two = folder(tmp_path / "two", OURS, LENS)
    save_file(OURS, two / "other.safetensors")
    with pytest.raises(
        UserError, match=r"must hold one file of tensors .*: name the file"
    ):
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
    assert convert.load("someone/saes:layer_3").m == M and asked == [
        ("someone/saes", ["layer_3/*"])
    ]
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
        foreign.read_checkpoint("someone/saes")


def test_selections_are_what_the_formats_say(tmp_path):
    kinds = {
        name: type(
            convert.load(
                str(write(tmp_path / str(i))), "auto", convert.Options(**options)
            ).select
        )
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

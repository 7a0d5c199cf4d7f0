"""Round trips with the libraries themselves, each in an environment of its own.

`make test-libraries` runs them; the libraries are installed once.
"""

import re
import subprocess
import sys
import venv
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import ROOT
from models import their_side
from sae_workflow.publish import CARD
from torch.nn import functional

from sae.core import files
from sae.models import convert
from sae.models.coder import Coder, Threshold

pytestmark = pytest.mark.libraries
REQUIREMENTS = {
    "saelens": ["sae-lens==6.54.0"],
    "dictionary_learning": ["dictionary-learning==0.1.0"],
    "sparsify": ["eai-sparsify==1.3.3"],
    "overcomplete": ["overcomplete==0.3.0", "matplotlib<3.9"],
}
KINDS = [
    (library, kind)
    for library, side in their_side.LIBRARIES.items()
    for kind in side.KINDS
]


def python_of(library):
    """The Python of an environment that holds a library; made if it is not there."""
    folder = ROOT / ".cache/libraries" / library
    with files.locked(
        folder.with_suffix(".lock"), lambda: None
    ):  # Tests of two files may ask for it at once.
        if not (folder / ".complete").exists():
            venv.create(folder, with_pip=True, clear=True)
            same = f"torch=={torch.__version__.partition('+')[0]}"
            command = [
                folder / "bin/python",
                "-m",
                "pip",
                "install",
                "--quiet",
                same,
                *REQUIREMENTS[library],
            ]
            subprocess.run(command, check=True)
            (folder / ".complete").touch()
    return folder / "bin/python"


def theirs(library, *arguments):
    """What a library does (`their_side.py`): codes and reconstructions."""
    out = Path(arguments[-1])
    command = [
        python_of(library),
        Path(their_side.__file__),
        library,
        *map(str, arguments),
    ]
    done = subprocess.run(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        cwd=out.parent,
    )
    assert done.returncode == 0, done.stdout
    found = np.load(out)
    return found["codes"], found["rebuilt"]


@pytest.fixture
def x(tmp_path):
    """(400, 12) embeddings with structure, and their file."""
    rng = np.random.default_rng(0)
    z = rng.random((400, 30)) * (rng.random((400, 30)) < 0.15)
    embeddings = (z @ rng.normal(size=(30, 12)) + 0.3).astype(np.float32)
    np.save(tmp_path / "x.npy", embeddings)
    return embeddings


def our_coder(threshold=None, norm="none"):
    """A coder away from its start; its k is that of the other side."""
    generator = torch.Generator().manual_seed(1)
    select = (
        None if threshold is None else Threshold(torch.full((their_side.M,), threshold))
    )
    made = Coder(
        12,
        their_side.M,
        their_side.K,
        select,
        input_norm=norm,
        input_scale=1.0 if norm == "none" else 1.7,
    )
    with torch.no_grad():
        made.W_dec.copy_(
            functional.normalize(
                torch.randn(made.W_dec.shape, generator=generator), dim=1
            )
        )
        made.W_enc.copy_(
            made.W_dec.T + 0.1 * torch.randn(made.W_enc.shape, generator=generator)
        )
        made.b_enc.copy_(0.1 * torch.randn(made.b_enc.shape, generator=generator))
        made.b_dec.copy_(0.1 * torch.randn(made.b_dec.shape, generator=generator))
    return made.requires_grad_(False)


@pytest.mark.parametrize("norm", ["none", "unit_l2"])
@pytest.mark.parametrize(
    ("library", "threshold"),
    [
        *((library, None) for library in REQUIREMENTS),
        ("saelens", 0.2),
        ("dictionary_learning", 0.2),
    ],
)
def test_their_loader_reads_what_we_export_and_encodes_as_we_do(
    library, threshold, norm, x, tmp_path
):
    ours = our_coder(threshold, norm)
    convert.export(ours, library, tmp_path / "exported")
    inputs = ours.prepare(x)
    raw = library == "saelens" and norm == "unit_l2"  # It normalises itself.
    np.save(tmp_path / "inputs.npy", x if raw else inputs.numpy())
    codes, rebuilt = theirs(
        library,
        "encode",
        tmp_path / "exported",
        tmp_path / "inputs.npy",
        tmp_path / "out.npz",
    )
    mine = ours.encode(inputs)
    dense, expected = mine.matrix().toarray(), ours.reconstruct(inputs, mine).numpy()
    if raw:
        dense, expected = (
            dense * 12**0.5 / 1.7,
            expected * np.linalg.norm(x, axis=1, keepdims=True) / 1.7,
        )
    assert ((codes > 0) == (dense > 0)).all()
    np.testing.assert_allclose(codes, dense, rtol=1e-5, atol=1e-5 * np.abs(dense).max())
    np.testing.assert_allclose(
        rebuilt, expected, rtol=1e-4, atol=1e-5 * np.abs(expected).max()
    )


@pytest.mark.parametrize(("library", "kind"), KINDS)
def test_what_they_trained_and_saved_is_imported_as_it_encodes(
    library, kind, x, tmp_path
):
    codes, rebuilt = theirs(
        library,
        "train",
        kind,
        tmp_path / "x.npy",
        tmp_path / "theirs",
        tmp_path / "out.npz",
    )
    options = (
        convert.Options(k=their_side.K)
        if library == "overcomplete" and kind == "topk"
        else convert.Options()
    )
    found = convert.load(str(tmp_path / "theirs"), "auto", options, x)
    assert found.metadata["imported"] == library
    assert isinstance(found.select, Threshold) == (kind not in ("topk", "multitopk"))
    mine = found.encode(found.prepare(x))
    dense = mine.matrix().toarray()
    assert ((codes > 0) == (dense > 0)).all() and (codes > 0).any()
    np.testing.assert_allclose(codes, dense, rtol=1e-4, atol=1e-5 * codes.max())
    ours = found.reconstruct(found.prepare(x), mine).numpy()
    np.testing.assert_allclose(rebuilt, ours, rtol=1e-4, atol=1e-5 * np.abs(ours).max())


@pytest.mark.parametrize("library", ["sae", "saelens", "overcomplete"])
def test_the_lines_of_a_published_card_load_an_sae_and_encode_as_we_do(
    library, x, tmp_path
):
    ours = our_coder(norm="unit_l2")
    convert.export(ours, "saelens", tmp_path / "an-sae")
    block = dict(
        zip(
            ("sae", "saelens", "overcomplete"),
            re.findall(r"```python\n(.*?)```", CARD.read_text(), re.S),
            strict=True,
        )
    )
    lines = [
        "import numpy, torch",
        "embeddings = torch.from_numpy(numpy.load('x.npy'))",
    ]
    lines += [block[library].format(first="an-sae")]
    lines += [
        "codes = codes.matrix().toarray() if hasattr(codes, 'matrix') else codes.detach().numpy()"
    ]
    lines += ["numpy.save('codes.npy', codes)"]
    python = sys.executable if library == "sae" else python_of(library)
    done = subprocess.run(
        [python, "-c", "\n".join(lines)], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    codes, mine = (
        np.load(tmp_path / "codes.npy"),
        ours.encode(ours.prepare(x)).matrix().toarray(),
    )
    factor = codes.sum() / mine.sum()
    np.testing.assert_allclose(
        codes, factor * mine, rtol=1e-4, atol=1e-5 * np.abs(codes).max()
    )
    assert factor == pytest.approx(12**0.5 / 1.7, rel=1e-4)

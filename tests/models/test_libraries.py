"""SAEs go to the libraries themselves and back, each in an environment of its own.

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
from sae.models import apply, convert
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
    """Return the Python of an environment that holds a library, which is made once."""
    folder = ROOT / ".cache/libraries" / library
    python = folder / "bin/python"
    # Tests of two files may ask for it at once.
    with files.locked(folder.with_suffix(".lock"), lambda: None):
        if not (folder / ".complete").exists():
            venv.create(folder, with_pip=True, clear=True)
            torch_version = torch.__version__.partition("+")[0]
            requirements = [f"torch=={torch_version}", *REQUIREMENTS[library]]
            install = [python, "-m", "pip", "install", "--quiet", *requirements]
            subprocess.run(install, check=True)
            (folder / ".complete").touch()
    return python


def theirs(library, *arguments):
    """Run `their_side.py` in a library's environment.

    Args:
        library: a key of `REQUIREMENTS`.
        arguments: of `their_side.py`; the last one is its output file.

    Returns:
        The library's codes (N, m) and reconstructions (N, d).
    """
    out = Path(arguments[-1])
    script = Path(their_side.__file__)
    process = subprocess.run(
        [python_of(library), script, library, *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        cwd=out.parent,
    )
    assert process.returncode == 0, process.stdout
    arrays = np.load(out)
    return arrays["codes"], arrays["rebuilt"]


@pytest.fixture
def x(tmp_path):
    """Return embeddings (400, 12), sparse sums of 30 directions; x.npy has them, too."""
    generator = np.random.default_rng(0)
    magnitudes = generator.random((400, 30))
    is_active = generator.random((400, 30)) < 0.15
    directions = generator.normal(size=(30, 12))
    sums = (magnitudes * is_active) @ directions
    embeddings = (sums + 0.3).astype(np.float32)
    np.save(tmp_path / "x.npy", embeddings)
    return embeddings


def our_coder(threshold=None, norm="none"):
    """Return a coder away from its start; its m and k are those of the other side."""
    generator = torch.Generator().manual_seed(1)
    select = None
    if threshold is not None:
        select = Threshold(torch.full((their_side.M,), threshold))
    coder = Coder(
        12,
        their_side.M,
        their_side.K,
        select,
        input_norm=norm,
        input_scale=1.0 if norm == "none" else 1.7,
    )

    def random_like(tensor):
        return torch.randn(tensor.shape, generator=generator)

    with torch.no_grad():
        coder.W_dec.copy_(functional.normalize(random_like(coder.W_dec), dim=1))
        coder.W_enc.copy_(coder.W_dec.T + 0.1 * random_like(coder.W_enc))
        coder.b_enc.copy_(0.1 * random_like(coder.b_enc))
        coder.b_dec.copy_(0.1 * random_like(coder.b_dec))
    return coder.requires_grad_(False)


def check_same(codes, rebuilt, our_codes, our_reconstructions, rtol):
    """Check that a library's arrays are ours but for rounding, and fire as ours do."""
    assert ((codes > 0) == (our_codes > 0)).all()
    codes_atol = 1e-5 * np.abs(our_codes).max()
    np.testing.assert_allclose(codes, our_codes, rtol=rtol, atol=codes_atol)
    np.testing.assert_allclose(
        rebuilt,
        our_reconstructions,
        rtol=1e-4,
        atol=1e-5 * np.abs(our_reconstructions).max(),
    )


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
    coder = our_coder(threshold, norm)
    convert.export(coder, library, tmp_path / "exported")
    inputs = coder.prepare(x)
    sparse_codes = coder.encode(inputs)
    our_codes = sparse_codes.matrix().toarray()
    our_reconstructions = coder.reconstruct(inputs, sparse_codes).numpy()
    their_inputs = inputs.numpy()
    if library == "saelens" and norm == "unit_l2":
        # It takes raw embeddings, and normalises them to another length.
        their_inputs = x
        our_codes = our_codes * 12**0.5 / 1.7
        lengths = np.linalg.norm(x, axis=1, keepdims=True)
        our_reconstructions = our_reconstructions * lengths / 1.7

    inputs_file = tmp_path / "inputs.npy"
    np.save(inputs_file, their_inputs)
    codes, rebuilt = theirs(
        library, "encode", tmp_path / "exported", inputs_file, tmp_path / "out.npz"
    )
    check_same(codes, rebuilt, our_codes, our_reconstructions, rtol=1e-5)


@pytest.mark.parametrize(("library", "kind"), KINDS)
def test_what_they_trained_and_saved_is_imported_as_it_encodes(
    library, kind, x, tmp_path
):
    place = tmp_path / "theirs"
    codes, rebuilt = theirs(
        library, "train", kind, tmp_path / "x.npy", place, tmp_path / "out.npz"
    )
    options = convert.Options()
    if library == "overcomplete" and kind == "topk":
        options = convert.Options(k=their_side.K)
    coder = convert.load(str(place), "auto", options, x)
    assert coder.metadata["imported"] == library
    assert isinstance(coder.select, Threshold) == (kind not in ("topk", "multitopk"))

    inputs = coder.prepare(x)
    sparse_codes = coder.encode(inputs)
    our_codes = sparse_codes.matrix().toarray()
    our_reconstructions = coder.reconstruct(inputs, sparse_codes).numpy()
    assert (codes > 0).any()
    check_same(codes, rebuilt, our_codes, our_reconstructions, rtol=1e-4)


@pytest.mark.parametrize("library", ["sae", "saelens", "overcomplete"])
def test_the_lines_of_a_published_card_load_an_sae_and_encode_as_we_do(
    library, x, tmp_path
):
    coder = our_coder(norm="unit_l2")
    convert.export(coder, "saelens", tmp_path / "an-sae")
    blocks = re.findall(r"```python\n(.*?)```", CARD.read_text(), re.S)
    libraries = ("sae", "saelens", "overcomplete")
    block_of = dict(zip(libraries, blocks, strict=True))
    script = [
        "import numpy, torch",
        "embeddings = torch.from_numpy(numpy.load('x.npy'))",
        block_of[library].format(first="an-sae"),
        "is_sparse = hasattr(codes, 'matrix')",
        "codes = codes.matrix().toarray() if is_sparse else codes.detach().numpy()",
        "numpy.save('codes.npy', codes)",
    ]
    python = sys.executable if library == "sae" else python_of(library)
    process = subprocess.run(
        [python, "-c", "\n".join(script)], cwd=tmp_path, capture_output=True, text=True
    )
    assert process.returncode == 0, process.stderr

    codes = np.load(tmp_path / "codes.npy")
    our_codes = coder.encode(coder.prepare(x)).matrix().toarray()
    # SAELens normalises to another length.
    factor = codes.sum() / our_codes.sum()
    np.testing.assert_allclose(
        codes, factor * our_codes, rtol=1e-4, atol=1e-5 * np.abs(codes).max()
    )
    assert factor == pytest.approx(12**0.5 / 1.7, rel=1e-4)


def test_the_script_for_sparsify_gains_by_training(tmp_path):
    generator = np.random.default_rng(0)
    is_active = generator.random((4000, 200)) < 0.04
    sums = (is_active * generator.random((4000, 200))) @ generator.normal(
        size=(200, 64)
    )
    sums = sums.astype(np.float32)
    np.save(tmp_path / "x.npy", sums)
    script = ROOT / "docs/examples/other_saes/train_sparsify.py"
    r2 = []
    for steps in (100, 1000):
        folder = tmp_path / f"after_{steps}"
        command = [python_of("sparsify"), script, tmp_path / "x.npy", folder]
        subprocess.run([*command, str(steps)], check=True, stdout=subprocess.DEVNULL)
        coder = convert.load(str(folder), "auto", convert.Options(), sums)
        encoder = apply.Encoder(coder)
        residual = sums - encoder.reconstruct(sums)
        r2.append(1 - np.square(residual).sum() / np.square(sums - sums.mean(0)).sum())
    assert r2[1] > r2[0] + 0.05 and r2[1] > 0.6

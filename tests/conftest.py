"""What the tests share: a copy of the checkout with a tiny config on real images, and a way to run Snakemake in it."""

import json
import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

# Before NumPy and PyTorch start theirs: threads that wait for each other's cores take more time than they save.
for _name in ("OMP", "OPENBLAS", "MKL"):
    os.environ.setdefault(f"{_name}_NUM_THREADS", "1")

ROOT = Path(__file__).parent.parent
TINY = {"m": 32, "auxk_k": 32, "epochs": 4, "batch_size": 50, "log_every": 5}
# Of its own, not the default: which lambdas are acceptable, and so how many SAEs train, is not to change with that.
TINY |= {
    "lr": 0.001,
    "adam_beta1": 0.9,
    "adam_beta2": 0.999,
    "encoder_scale": 1,
    "auxk_alpha": 0.03125,
}
# The files whose tests take longest, in that order.
LONGEST = [
    "workflow/test_reruns.py",
    "workflow/test_extensions.py",
    "workflow/test_interrupt.py",
    "core/test_versions.py",
    "report/test_reference.py",
    "workflow/test_forecast.py",
]
PARTS = ("Snakefile", "config.yaml", "environment.yml", "workflow", "sae", "profiles")


def pytest_collection_modifyitems(items):
    """Begin with the files that take longest: else one worker ends alone with them."""
    places = {ROOT / "tests" / file: place for place, file in enumerate(LONGEST)}
    items.sort(key=lambda item: places.get(item.path, len(places)))


@pytest.fixture(scope="session")
def digits(tmp_path_factory):
    """scikit-learn's handwritten digits (real images, 8 x 8) as a folder of PNGs, and a small backbone's checkpoint."""
    import timm
    import torch
    from PIL import Image
    from safetensors.torch import save_file
    from sklearn.datasets import load_digits

    folder = tmp_path_factory.mktemp("digits")
    images, labels = load_digits(return_X_y=True)
    for i, (image, label) in enumerate(zip(images[:500], labels, strict=False)):
        split = "test" if i % 5 == 0 else "val" if i % 5 == 1 else "train"
        path = folder / split / str(label) / f"{i}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray((image.reshape(8, 8) * 15.9).astype("uint8")).save(path)
    torch.manual_seed(0)
    save_file(
        timm.create_model("test_efficientnet").state_dict(),
        folder / "backbone.safetensors",
    )
    return folder


@pytest.fixture(scope="session")
def fetched(tmp_path_factory):
    """A function that fetches artifacts by the project's own command, if they are not there; gives their folder."""

    def fetch(*names):
        root, known = (
            ROOT / "results/artifacts",
            yaml.safe_load((ROOT / "workflow/resources/artifacts.yaml").read_text()),
        )
        if not all((root / name / "artifact.json").exists() for name in names):
            root = tmp_path_factory.mktemp("artifacts")
        for name in names:
            command = [
                sys.executable,
                "-m",
                "sae",
                "fetch",
                "--name",
                name,
                "--root",
                str(root),
            ]
            subprocess.run(
                [*command, "--spec", json.dumps(known[name])], check=True, cwd=ROOT
            )
        return root

    return fetch


@pytest.fixture
def network(monkeypatch):
    """No network; the list of hosts and addresses that were asked for all the same."""
    asked = []

    def refuse(*arguments, **_):
        asked.append(arguments)
        raise OSError("no network")

    for name in ("connect", "connect_ex"):
        monkeypatch.setattr(socket.socket, name, refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    return asked


class Checkout:
    """A copy of the project with an experiment `tiny`: 1 dataset, 1 backbone, k = 4, the paper's methods, 2 lambdas."""

    def __init__(self, folder, digits):
        self.folder = folder
        for part in PARTS:
            source = ROOT / part
            copy = shutil.copytree if source.is_dir() else shutil.copy2
            copy(source, folder / part)
        os.symlink(digits, folder / "digits")
        self.config = yaml.safe_load((ROOT / "config.yaml").read_text())
        self.config["datasets"]["digits"] = {
            "type": "image_folder",
            "root": "digits",
            "image_size": 32,
        }
        checkpoint = {
            "model": "test_efficientnet",
            "checkpoint": "digits/backbone.safetensors",
        }
        self.config["backbones"]["tiny"] = {
            "loader": "timm",
            "family": "tiny",
        } | checkpoint
        recipe = self.config["training"]["smoke"]
        self.config["training"]["tiny"] = recipe | TINY
        self.config["figures"] = ["fig1", "fig5", "sweep"]
        self.experiment = {
            "datasets": ["digits"],
            "backbones": ["tiny"],
            "k": [4],
            "seeds": [0],
            "methods": ["topk", "reg1", "reg2", "reg1_all", "reg2_all"],
            "sweep": {
                "reg1": {"lambda": [0.0001, 0.001]},
                "reg2": {"lambda": [0.0001, 0.001]},
            },
            "training": "tiny",
        }
        self.config["experiments"]["tiny"] = self.experiment
        self.write()

    def write(self):
        plain = json.loads(
            json.dumps(self.config)
        )  # Without objects that stand there twice, which YAML would join.
        (self.folder / "config.yaml").write_text(yaml.safe_dump(plain))

    def command(self, *arguments):
        return [Path(sys.executable).with_name("snakemake"), *arguments]

    @property
    def environment(self):
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        # Under `make test` another `make` would say that it is one below.
        of_make = ("MAKELEVEL", "MAKEFLAGS", "MFLAGS", "MAKEOVERRIDES")
        outside = {k: value for k, value in os.environ.items() if k not in of_make}
        # The copy comes before the installed packages.
        return {
            **outside,
            "PATH": path,
            "PYTHONPATH": f"{self.folder}{os.pathsep}{self.folder / 'workflow'}",
        }

    def snakemake(self, *arguments, ok=True):
        """Run Snakemake here; returns what it printed."""
        done = subprocess.run(
            self.command(*arguments),
            cwd=self.folder,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        assert (done.returncode == 0) == ok, done.stdout
        return done.stdout

    def planned(self, target="tiny"):
        """{rule: jobs} of a dry run, the target `tiny` itself left out."""
        lines = self.snakemake("-n", target).splitlines()
        start = next(
            (i for i, line in enumerate(lines) if line.startswith("job  ")), None
        )
        if start is None:
            return {}
        rows = [line.split() for line in lines[start + 2 :]]
        rows = rows[: next(i for i, row in enumerate(rows) if row[:1] == ["total"])]
        return {rule: int(count) for rule, count in rows if rule != "tiny"}

    def edit(self, file, old, new):
        text = (self.folder / file).read_text()
        assert old in text, f"{file} has no {old!r}"
        (self.folder / file).write_text(text.replace(old, new, 1))

    def results(self, experiment="tiny"):
        """{relative path: content} of the SAEs, their scores and the metrics."""
        base = self.folder / "results" / experiment
        patterns = ["saes/**/*.safetensors", "saes/**/train.parquet", "metrics.*"]
        patterns += ["scores/*/*/k*/*.parquet", "scores/*/*/k*/[a-z]*/*.parquet"]
        found = [file for pattern in patterns for file in base.glob(pattern)]
        return {str(f.relative_to(base)): f.read_bytes() for f in found}


@pytest.fixture
def make_checkout(tmp_path, digits):
    """A function that makes one more copy."""

    def make(name="checkout"):
        (tmp_path / name).mkdir()
        return Checkout(tmp_path / name, digits)

    return make

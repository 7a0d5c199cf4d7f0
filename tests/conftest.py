"""Fixtures that the tests share.

The largest is a copy of the checkout with a tiny config on real images, and a way to
run Snakemake in it.
"""

import itertools
import json
import logging
import os
import re
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

# Before NumPy and PyTorch start theirs: threads that wait for each other's cores take
# more time than they save.
for _name in ("OMP", "OPENBLAS", "MKL"):
    os.environ.setdefault(f"{_name}_NUM_THREADS", "1")

ROOT = Path(__file__).parent.parent
TINY_RECIPE = {
    "m": 32,
    "auxk_k": 32,
    "epochs": 4,
    "batch_size": 50,
    "log_every": 5,
    # Not the defaults: when these change, the same lambdas stay acceptable, and as many
    # SAEs train.
    "lr": 0.001,
    "adam_beta1": 0.9,
    "adam_beta2": 0.999,
    "encoder_scale": 1,
    "auxk_alpha": 0.03125,
}
# The files whose tests take longest, in that order.
LONGEST = [
    "golden/test_planted.py",
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
    """Return a folder of scikit-learn's handwritten digits, as PNGs of 8 x 8 pixels.

    Beside them lies the checkpoint of a small backbone.
    """
    import timm
    import torch
    from PIL import Image
    from safetensors.torch import save_file
    from sklearn.datasets import load_digits

    folder = tmp_path_factory.mktemp("digits")
    images, labels = load_digits(return_X_y=True)
    split_by_remainder = {0: "test", 1: "val"}
    for i, (image, label) in enumerate(zip(images[:500], labels, strict=False)):
        split = split_by_remainder.get(i % 5, "train")
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
    """Return a function that fetches artifacts, and returns the folder of them all.

    It runs the project's own command, unless they are in the checkout already.
    """
    specs = yaml.safe_load((ROOT / "workflow/resources/artifacts.yaml").read_text())

    def fetch(*names):
        root = ROOT / "results/artifacts"
        if not all((root / name / "artifact.json").exists() for name in names):
            root = tmp_path_factory.mktemp("artifacts")
        for name in names:
            command = [sys.executable, "-m", "sae", "fetch", "--name", name]
            command += ["--root", str(root), "--spec", json.dumps(specs[name])]
            subprocess.run(command, check=True, cwd=ROOT)
        return root

    return fetch


@pytest.fixture
def network(monkeypatch):
    """Cut the network off; return the list of what was asked for all the same."""
    requests = []

    def refuse(*arguments, **_):
        requests.append(arguments)
        raise OSError("no network")

    for name in ("connect", "connect_ex"):
        monkeypatch.setattr(socket.socket, name, refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    return requests


def count_jobs(dry_run, target):
    """Return {rule: how many jobs} of what a dry run prints, without the target."""
    counts = dict(re.findall(r"^(\w+) +(\d+)$", dry_run, re.M))
    return {
        rule: int(count)
        for rule, count in counts.items()
        if rule not in (target, "total")
    }


def with_python(command):
    """Return the words of a command, of which "-m" at the start is for this Python."""
    return [sys.executable, *command] if command[0] == "-m" else command


class Checkout:
    """A copy of the project with an experiment `tiny`.

    It has one dataset, one backbone, k = 4, the paper's methods and two lambdas.

    Attributes:
        folder: the copy.
        config: its config.yaml, which :meth:`write` writes anew.
        experiment: the experiment in it.
    """

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
        self.config["backbones"]["tiny"] = {
            "loader": "timm",
            "family": "tiny",
            "model": "test_efficientnet",
            "checkpoint": "digits/backbone.safetensors",
        }
        recipe = self.config["training"]["smoke"]
        self.config["training"]["tiny"] = {**recipe, **TINY_RECIPE}
        self.config["figures"] = ["fig1", "fig5", "sweep"]
        # A job less in every run.
        self.config["metrics"]["pixels"] = {"optional": True}
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
        """Write config.yaml as `config` has it now."""
        # Without objects that stand there twice, which YAML would join.
        plain = json.loads(json.dumps(self.config))
        (self.folder / "config.yaml").write_text(yaml.safe_dump(plain))

    def command(self, *arguments):
        """Return the command that runs Snakemake with some arguments."""
        return [Path(sys.executable).with_name("snakemake"), *arguments]

    @property
    def environment(self):
        """The environment in which Snakemake runs the copy's code."""
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

    def start(self, *command, **options):
        """Start a command in the copy; all that it prints goes into one pipe.

        Args:
            command: its words; "-m" at the start stands for this Python and a module.
            options: of the process.
        """
        return subprocess.Popen(
            with_python(command),
            cwd=self.folder,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            **options,
        )

    def run(self, *command, **options):
        """Run a command in the copy, as `start` does, and return it with its output."""
        return subprocess.run(
            with_python(command),
            **{"cwd": self.folder, "env": self.environment} | options,
            capture_output=True,
            text=True,
        )

    def snakemake(self, *arguments, ok=True):
        """Run Snakemake in the copy, and return what it printed.

        Args:
            arguments: of its command line.
            ok: whether it must succeed; else it must fail.
        """
        process = self.start(*self.command(*arguments))
        output = process.communicate()[0]
        assert (process.returncode == 0) == ok, output
        return output

    def planned(self, target="tiny"):
        """Return {rule: how many jobs} of a dry run, without the target `tiny`."""
        return count_jobs(self.snakemake("-n", target), "tiny")

    def edit(self, file, old, new):
        """Replace the first `old` in a file of the copy, which must be there."""
        text = (self.folder / file).read_text()
        assert old in text, f"{file} has no {old!r}"
        (self.folder / file).write_text(text.replace(old, new, 1))

    def give_embeddings(self, train=9, held_out=9):
        """Let the experiment be of embeddings alone; return the folder that has them.

        Args:
            train: how many there are of training, of random numbers.
            held_out: how many of val, and of test.
        """
        import numpy as np

        folder = self.folder / "given"
        (folder / "ours").mkdir(parents=True)
        rng = np.random.default_rng(0)
        for split, count in (("train", train), ("val", held_out), ("test", held_out)):
            rows = rng.normal(size=(count, 12)).astype(np.float32)
            np.save(folder / f"ours/{split}.npy", rows)
            names = "\n".join(f"{split}{number}" for number in range(count))
            (folder / f"{split}.csv").write_text(f"image_id\n{names}\n")
        ours = {"loader": "precomputed", "family": "ours", "model": "ours"}
        self.config["datasets"]["given"] = {"type": "table", "root": "given"}
        self.config["backbones"]["ours"] = ours
        self.experiment.update(datasets=["given"], backbones=["ours"])
        self.write()
        return folder

    def results(self, experiment="tiny"):
        """Return {relative path: content} of the SAEs, their scores and the metrics."""
        folder = self.folder / "results" / experiment
        patterns = ["saes/**/*.safetensors", "saes/**/train.parquet", "metrics.*"]
        patterns += ["scores/*/*/k*/*.parquet", "scores/*/*/k*/[a-z]*/*.parquet"]
        return {
            str(file.relative_to(folder)): file.read_bytes()
            for pattern in patterns
            for file in folder.glob(pattern)
        }


@pytest.fixture
def run_step(capsys, monkeypatch):
    """Return a function that runs a step's command line in this process.

    It returns the exit code and what was written to the console.
    """
    from sae.__main__ import main

    def run(*words):
        # Handlers of other tests' commands write to streams that may be closed.
        monkeypatch.setattr(logging.getLogger("sae"), "handlers", [])
        return main([*map(str, words)]), capsys.readouterr().err

    return run


@pytest.fixture
def extend(tmp_path):
    """Return a function that makes a new folder of extensions known, {path: text}."""
    from sae.core import registry

    numbers = itertools.count()

    def make(files):
        folder = tmp_path / f"extensions{next(numbers)}"
        folder.mkdir()
        for name, text in files.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text(text)
        registry.extend(folder)
        return folder

    yield make
    registry.extend(None)


@pytest.fixture
def make_checkout(tmp_path, digits):
    """Return a function that makes one more copy of the checkout."""

    def make(name="checkout"):
        (tmp_path / name).mkdir()
        return Checkout(tmp_path / name, digits)

    return make

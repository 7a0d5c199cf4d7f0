"""Make what the tests of scoring share.

That is codes of a dense array, MS by definition, and tiny activations and banks on
disk.
"""

import itertools
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from support.embeddings import write_split

from sae.bank.read import Bank
from sae.bank.sae import Sae
from sae.core import files
from sae.core.paths import STAGES, trial_name
from sae.models import saefile
from sae.models.coder import Coder, Threshold
from sae.models.codes import Codes
from sae.training.recipe import Settings

COUNTS = {"train": 60, "val": 24, "test": 30}


def stages_of(scores):
    """Return the stages that were run, by the folders that they left."""
    return [stage for stage in STAGES if (scores / stage).exists()]


def codes_of(dense):
    """Return the codes of a dense (N, m) array."""
    order = np.argsort(-dense, axis=1, kind="stable")
    values = np.take_along_axis(dense, order, 1)
    offsets = np.concatenate([[0], (dense > 0).sum(axis=1).cumsum()])
    return Codes(
        values[values > 0].astype(np.float32),
        order[values > 0].astype(np.int32),
        offsets,
        dense.shape[1],
    )


def ms_by_definition(dense, embeddings, groups=None):
    """Compute MS by a double loop over pairs of images."""
    e = embeddings.astype(np.float64)
    e = e / np.linalg.norm(e, axis=1, keepdims=True)
    ms = []
    for column in dense.astype(np.float32).astype(np.float64).T:
        low, high = column.min(), column.max()
        if high == low:
            ms.append(np.nan)
            continue
        a = (column - low) / (high - low)
        pairs = [
            (i, j)
            for i, j in itertools.combinations(range(len(a)), 2)
            if a[i] > 0 and a[j] > 0
        ]
        pairs = [(i, j) for i, j in pairs if groups is None or groups[i] != groups[j]]
        weight = sum(a[i] * a[j] for i, j in pairs)
        similarity = sum(a[i] * a[j] * e[i] @ e[j] for i, j in pairs)
        ms.append(similarity / weight if pairs else np.nan)
    return np.array(ms)


def write_activations(folder, name, d=6, labels=True, grouped=False, seed=0):
    """Write splits of random embeddings (N, d).

    They are of the same images for every `name` and seed.
    """
    for number, (split, count) in enumerate(COUNTS.items()):
        rng = np.random.default_rng(number)
        label = rng.integers(0, 3, count)
        noise = np.random.default_rng([number, d, seed]).normal(size=(count, d))
        embeddings = noise + label[:, None] * np.arange(d) / d
        index = pd.DataFrame(
            {"image_id": [f"{split}{i}" for i in range(count)], "path": "x"}
        )
        index["label"] = pd.array(label if labels else [pd.NA] * count, dtype="Int64")
        index["label_name"] = [f"class {c}" if labels else None for c in label]
        index["group"] = [f"{split}{i // 2 if grouped else i}" for i in range(count)]
        made_by = {
            "dataset": {"name": "d", "grouped": grouped},
            "backbone": {"name": name},
        }
        write_split(
            Path(folder) / split, [embeddings.astype(np.float16)], index, made_by
        )


def coder(seed, d=6, m=16, k=4, threshold=None):
    """Make an untrained SAE."""
    select = None if threshold is None else Threshold(torch.full((m,), threshold))
    sae = Coder(d, m, k, select, input_norm="unit_l2", input_scale=2.0)
    sae.initialise(torch.zeros(d), seed)
    return sae.requires_grad_(False)


@dataclass
class TinyBank:
    """A bank file that is written anew with every SAE."""

    file: Path
    saes: list = field(default_factory=list)

    def add(
        self,
        method,
        trial=None,
        seed=0,
        *,
        coder=None,
        status="ok",
        protocol="paper",
        chosen=False,
        **settings,
    ):
        """Add an SAE, and write its file where its status is ok."""
        trial = trial or {}
        path = Path(method) / trial_name(trial) / f"seed{seed}" / "sae.safetensors"
        sha256 = None
        if status == "ok":
            (self.file.parent / path).parent.mkdir(parents=True, exist_ok=True)
            coder.metadata = {"method": method, "trial": trial, "seed": seed}
            saefile.save(coder, self.file.parent / path)
            sha256 = files.sha256(self.file.parent / path)
        values = {"objective": "topk", "m": 16} | trial | settings
        entry_options = {
            name: value
            for name, value in values.items()
            if name not in Settings.model_fields and name != "lambda"
        }
        sae = Sae(
            "d",
            "b",
            4,
            method=method,
            trial=trial,
            seed=seed,
            protocol=protocol,
            settings=Settings.model_construct(**{"options": entry_options} | values),
            key="x",
            trained="x",
            status=status,
            step=1,
            sha256=sha256,
            chosen=chosen,
        )
        self.saes.append(sae)
        self.write()

    def write(self):
        """Write the file, with what `saes` holds."""
        Bank(
            self.file,
            "d",
            "b",
            4,
            input_scale=2.0,
            store="store",
            saes=self.saes,
            facts={},
        ).write()

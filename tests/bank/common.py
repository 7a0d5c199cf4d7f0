"""A tiny bank: what the tests of sae/bank train."""

import numpy as np
import pandas as pd
from support.embeddings import write_split

from sae.bank.plan import Plan

RECIPE = {
    "m": 32,
    "epochs": 2,
    "batch_size": 50,
    "lr": 0.001,
    "adam_eps": 1e-9,
    "decay_fraction": 0.2,
}
RECIPE |= {
    "auxk_alpha": 0.03,
    "auxk_k": 8,
    "dead_after": 200,
    "input_norm": "unit_l2",
    "unit_variance": True,
}
RECIPE |= {"tied": False, "log_every": 5, "precision": "float32"}
MADE_BY = {
    "dataset": {"grouped": False, "fingerprint": "images"},
    "backbone": {"name": "tiny", "fingerprint": "weights"},
}


def method(objective="topk", **values):
    """A method as plans have it."""
    spec = {
        "objective": objective,
        "penalty": None,
        "mask": None,
        "lambda": None,
        "options": {},
        "recipe": {},
    }
    return spec | {"sweep": {}, "at": None, "against": None, "control": False} | values


def plan(methods, **values):
    """A plan of one cell."""
    given = {
        "dataset": "digits",
        "backbone": "tiny",
        "k": 4,
        "seeds": [0],
        "recipe": RECIPE,
        "methods": methods,
    }
    return Plan.model_validate(given | {"protocols": {"paper": {}}} | values)


REG1 = {"penalty": "off_support_l1", "mask": "batch_active", "against": "topk"}
METHODS = {
    "topk": method(),
    "reg1": method(**REG1, sweep={"lambda": [0.0001, 0.001]}),
    "reg1_all": method(**REG1 | {"mask": "all"}, at="reg1"),
    "batch_topk": method("batch_topk", against="topk", options={"momentum": 0.99}),
}


def write_activations(folder, n=200, d=8):
    """Embeddings of a train and a val split."""
    for split, seed in (("train", 0), ("val", 1)):
        x = np.random.default_rng(seed).normal(size=(n, d)).astype(np.float32) + 1
        index = pd.DataFrame(
            {
                "image_id": range(n),
                "path": [str(i) for i in range(n)],
                "label": 0,
                "group": range(n),
            }
        )
        write_split(folder / split, [x], index, MADE_BY)
    return folder

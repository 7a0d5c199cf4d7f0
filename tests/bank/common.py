"""A tiny cell: plans of it, and the embeddings that its SAEs are trained on."""

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
    "auxk_alpha": 0.03,
    "auxk_k": 8,
    "dead_after": 200,
    "input_norm": "unit_l2",
    "unit_variance": True,
    "tied": False,
    "log_every": 5,
    "precision": "float32",
}
MADE_BY = {
    "dataset": {"grouped": False, "fingerprint": "images"},
    "backbone": {"name": "tiny", "fingerprint": "weights"},
}


def method(objective="topk", **values):
    """Return a method as plans have it; `values` replace its other fields."""
    defaults = {
        "objective": objective,
        "penalty": None,
        "mask": None,
        "lambda": None,
        "options": {},
        "recipe": {},
        "sweep": {},
        "at": None,
        "against": None,
        "control": False,
    }
    return defaults | values


def plan(methods, **values):
    """Return the plan of a cell; `values` replace its fields other than methods."""
    defaults = {
        "dataset": "digits",
        "backbone": "tiny",
        "k": 4,
        "seeds": [0],
        "recipe": RECIPE,
        "methods": methods,
        "protocols": {"paper": {}},
    }
    return Plan.model_validate(defaults | values)


REG1 = {"penalty": "off_support_l1", "mask": "batch_active", "against": "topk"}
METHODS = {
    "topk": method(),
    "reg1": method(**REG1, sweep={"lambda": [0.0001, 0.001]}),
    "reg1_all": method(**REG1 | {"mask": "all"}, at="reg1"),
    "batch_topk": method("batch_topk", against="topk", options={"momentum": 0.99}),
}


def write_activations(folder, n=200, d=8):
    """Write random embeddings (n, d) of the splits train and val; return the folder."""
    for split, seed in (("train", 0), ("val", 1)):
        generator = np.random.default_rng(seed)
        embeddings = generator.normal(size=(n, d)).astype(np.float32) + 1
        index = pd.DataFrame(
            {
                "image_id": range(n),
                "path": [str(row) for row in range(n)],
                "label": 0,
                "group": range(n),
            }
        )
        write_split(folder / split, [embeddings], index, MADE_BY)
    return folder

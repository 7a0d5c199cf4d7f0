"""config.yaml with some values changed, and what is said of it."""

import copy

import pytest
from conftest import ROOT
from sae_workflow import settings

from sae.core.errors import UserError

RAW, _ = settings.merge_config_files(ROOT / "config.yaml")
REMOVED = object()
# A dataset without images.
GENERATED = {
    "type": "generated",
    "counts": {"train": 9, "val": 9, "test": 9},
    "classes": 3,
    "seed": 0,
}
# The files of a metric and of a figure, with all that they must hold.
METRIC = "STAGE = 'score'\nSPLITS = ['test']\nREADS = ()\ndef score(): ...\n"
FIGURE = "READS = ['gallery/images.parquet']\nCAPTION = 'C'\ndef draw(): ...\n"


def config_with(changes, raw=RAW):
    """Return what config.yaml says, or another config, with some values changed.

    Args:
        changes: {path: value}, such as {"experiments/demo/k": [8]}; `REMOVED` takes the
            key away.
        raw: the config.
    """
    raw = copy.deepcopy(raw)
    for path, value in changes.items():
        *parents, last = path.split("/")
        mapping = raw
        for parent in parents:
            mapping = mapping[parent]
        if value is REMOVED:
            del mapping[last]
        else:
            mapping[last] = value
    return raw


def refusal_of(raw):
    """Return the message of the error by which a config is refused."""
    with pytest.raises(UserError) as caught:
        settings.load(raw)
    return str(caught.value)

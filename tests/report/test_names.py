"""Methods are told apart by colour, for colour-blind eyes too, and in grey by markers
and dashes.
"""

import itertools

import numpy as np
import pytest

from sae.report.names import DARK, PALETTE, Names

# Machado et al. 2009: what a colour, in linear RGB, becomes without the cones for long
# or for middle wavelengths.
EYES = {
    "normal": np.eye(3),
    "protanope": [
        [0.152286, 1.052583, -0.204868],
        [0.114503, 0.786281, 0.099216],
        [-0.003882, -0.048116, 1.051998],
    ],
    "deuteranope": [
        [0.367322, 0.860646, -0.227968],
        [0.280085, 0.672501, 0.047413],
        [-0.011820, 0.042940, 0.968881],
    ],
}


def oklab(colour, eye):
    """Return a colour's perceptual coordinates (Ottosson 2020), as an eye sees it.

    Distances between them are those that eyes see; white is 1 away from black.
    """
    srgb = np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)]) / 255
    linear = np.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4)
    linear = np.clip(np.array(EYES[eye]) @ linear, 0, 1)
    to_lms = [
        [0.41222147, 0.53633254, 0.05144599],
        [0.21190350, 0.68069955, 0.10739696],
        [0.08830246, 0.28171884, 0.62997870],
    ]
    to_lab = [
        [0.21045426, 0.79361779, -0.00407205],
        [1.97799850, -2.42859221, 0.45059371],
        [0.02590404, 0.78277177, -0.80867577],
    ]
    return np.array(to_lab) @ np.cbrt(np.array(to_lms) @ linear)


@pytest.mark.parametrize("eye", EYES)
def test_colours_are_distinct(eye):
    assert len(PALETTE) >= 12
    for pair in itertools.combinations((*PALETTE, *DARK), 2):
        first, second = (oklab(colour, eye) for colour in pair)
        assert np.linalg.norm(first - second) > 0.06, pair


def test_labels_and_relations():
    methods = {
        "topk": {"label": "Baseline"},
        "reg1": {"against": "topk", "colour": "#123456"},
        "reg1_all": {"against": "topk", "at": "reg1"},
        "rival": {"against": "reg1"},
    }
    names = Names(methods=methods, datasets={"d": "Data"})
    labels = [names.method(m) for m in ("topk", "reg1", "other")]
    assert labels == ["Baseline", "reg1", "other"]
    assert (names.dataset("d"), names.backbone("b")) == ("Data", "b")
    assert names.colour("reg1") == "#123456"
    assert names.compared == {"topk": None, "reg1": "topk", "rival": "reg1"}
    assert names.pairs == [("reg1", "reg1_all")]
    assert names.baselines == ["topk"]
    assert names.order(["x", "rival", "topk"]) == ["topk", "rival", "x"]
    # A label is one line without what cannot be printed, and no other's.
    labels = {
        "a": "One\n\tline\x07 \u202e\ud800",
        "b": "One line",
        "c": "\x00",
        "d": None,
    }
    names = Names(datasets=labels)
    assert [names.dataset(name) for name in labels] == [
        "One line (a)",
        "One line (b)",
        "c",
        "d",
    ]
    # Alone, or where nothing is compared, the first is the baseline: it looks the same
    # everywhere.
    assert Names(methods={"topk": {}, "other": {}}).baselines == ["topk"]

"""Scores from Python alone are those of the workflow's stages."""

import numpy as np
import pytest
from scoring.examples import TinyBank, coder, write_activations

import sae
from sae.core import files
from sae.core.errors import UserError
from sae.data import store
from sae.scoring import alone, stage


def test_the_columns_are_those_of_metrics_csv(tmp_path):
    write_activations(tmp_path / "own", "b", grouped=True)
    bank = TinyBank(tmp_path / "bank.json")
    bank.add("topk", coder=coder(0))
    names = ("reconstruction", "firing", "monosemanticity", "purity", "density", "redundancy")
    stage.run("score", bank.file, tmp_path / "own", {"metrics": dict.fromkeys(names)}, tmp_path / "out")
    row = files.read_parquet(tmp_path / "out/metrics.parquet").query("split == 'test'").iloc[0]
    test, train = (store.read(tmp_path / "own" / split) for split in ("test", "train"))
    labels = [f"class {c}" for c in test.index["label"]]  # Of any kind.
    given = {"train": train.embeddings, "groups": test.index["group"], "metrics": names}
    found = sae.score(coder(0), test.embeddings, labels, **given)
    assert found.keys() <= set(row.index) and len(found) > 25
    for name, value in found.items():
        assert value == pytest.approx(row[name], rel=1e-6, nan_ok=True), name
    by_default = sae.score(sae.load(tmp_path / "topk/default/seed0/sae.safetensors"), test.embeddings)
    assert by_default["r2"] == found["r2"] and "purity_binary" not in by_default and "dead_train" not in by_default
    assert set(alone.METRICS) <= set(names) | {"uniqueness"}
    curve = sae.score(coder(0), test.embeddings, metrics=["robustness"])["robustness"]
    assert curve[4] == pytest.approx(found["nmse"])


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"embeddings": np.zeros((5, 9), np.float32)}, r"shape \(5, 9\); this SAE takes floats \(N, 6\)"),
        ({"labels": [1, 2]}, "2 labels for 30 embeddings"),
        ({"metrics": ["firing"]}, "metric firing reads train, which is not given"),
        ({"metrics": ["independent"]}, "metric independent reads others"),
        ({"metrics": ["nothing"]}, "nothing"),
    ],
)
def test_what_does_not_fit_is_said(change, said):
    given = {"embeddings": np.random.default_rng(0).normal(size=(30, 6)).astype(np.float32)} | change
    with pytest.raises(UserError, match=said):
        sae.score(coder(0), **given)

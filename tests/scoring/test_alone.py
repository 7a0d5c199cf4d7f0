"""Scores from Python alone are those of the workflow's stages."""

import numpy as np
import pandas as pd
import pytest
import torch
from scoring.examples import TinyBank, coder, write_activations
from support.errors import refused_naming

import sae
from sae.core import files
from sae.core.errors import UserError
from sae.data import store
from sae.scoring import stage
from sae.scoring.rows import ABOUT, KEY

TEST_ROWS, OTHER_ROWS = np.random.default_rng(5).random((2, 9, 6), dtype=np.float32)
NAMES = (
    "reconstruction",
    "firing",
    "monosemanticity",
    "purity",
    "density",
    "independent",
)


def test_the_same_arguments_give_the_numbers_of_metrics_csv(tmp_path):
    for name, d in (("b", 6), ("judge", 9)):
        write_activations(tmp_path / name, name, d, grouped=True)
    bank = TinyBank(tmp_path / "bank.json")
    bank.add("topk", coder=coder(0), chosen=True)
    others = {"judge": tmp_path / "judge"}
    metrics = stage.StageSettings(metrics=dict.fromkeys(NAMES))
    stage.run(
        "score", bank.file, tmp_path / "b", metrics, tmp_path / "out", others=others
    )
    table = files.read_parquet(tmp_path / "out/metrics.parquet")
    row = table.query("split == 'test'").iloc[0].to_dict()

    test, train, judge = (
        store.read(tmp_path / f) for f in ("b/test", "b/train", "judge/test")
    )
    labels = [f"class {c}" for c in test.index["label"]]  # Of any kind.
    # The metrics that it gives by itself are all of NAMES.
    columns = sae.score(
        coder(0),
        test.embeddings,
        labels,
        train=train.embeddings,
        groups=test.index["group"],
        judges={"judge": judge.embeddings},
    )
    described = {*KEY, *ABOUT, "status", "m", "steps", "lambda"}
    assert columns.keys() == set(row) - described and len(columns) > 30
    for name, value in columns.items():
        assert value == pytest.approx(row[name], rel=1e-6, nan_ok=True), name
    curve = sae.score(coder(0), test.embeddings, metrics=["robustness"])["robustness"]
    assert curve[4] == pytest.approx(columns["nmse"])


def test_what_is_given_decides_which_columns_come_back(tmp_path):
    write_activations(tmp_path / "own", "b", grouped=True)
    test = store.read(tmp_path / "own/test")
    sae_and_images = (coder(0), test.embeddings)
    labels = test.index["label"]
    groups = test.index["group"]
    grouped = sae.score(*sae_and_images, labels, groups=groups)
    ungrouped = sae.score(*sae_and_images, labels, groups=range(len(groups)))
    without_groups = sae.score(*sae_and_images, labels)
    without_labels = sae.score(*sae_and_images, groups=groups)

    # A null that ignores groups is another number, and is given only where it is said
    # that there are none.
    assert grouped["purity_binary_null"] != ungrouped["purity_binary_null"]
    assert ungrouped.keys() - without_groups.keys() == {"purity_binary_null"}
    assert grouped.keys() - ungrouped.keys() == {
        f"ms_{name}_across_groups"
        for name in ("mean", "median", "mean_alive", "median_alive")
    }
    for name, value in without_groups.items():
        assert grouped[name] == value
    of_labels = {name for name in grouped if name.startswith("purity")}
    assert grouped.keys() - without_labels.keys() == of_labels


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"sae": "sae.safetensors"},
            r"takes an SAE, not str: open a file with sae\.load\(path\)",
        ),
        ({"sae": coder(0).half()}, "is torch.float16, .* call coder.float"),
        ({"sae": coder(0).double()}, "is torch.float64, .* call coder.float"),
        (
            {"embeddings": np.zeros((5, 9), np.float32)},
            r"shape \(5, 9\); needed: embeddings, floats of shape \(N, 6\)",
        ),
        (
            {"embeddings": [[1.0, 2.0], [3.0]]},
            "embeddings cannot be read as an array: ",
        ),
        (
            {"embeddings": np.ones((1, 6), np.float32)},
            r"no variance to explain \(it has one row\)",
        ),
        (
            {"embeddings": np.ones((9, 6), np.float32)},
            r"no variance to explain \(all its rows are the same after",
        ),
        (
            {"embeddings": np.full((9, 6), np.nan, np.float32)},
            r"row 0 \(from 0\) of embeddings holds NaN",
        ),
        ({"train_groups": [1]}, "train_groups are given without train"),
        (
            {"labels": [1, 2]},
            r"labels are of shape \(2,\) for 30 embeddings; give one for each",
        ),
        ({"labels": [None] + [1] * 29}, r"labels has nothing in row 0"),
        ({"labels": ["a", 1] * 15}, "labels mixes kinds"),
        ({"judges": np.zeros((30, 4))}, "judges must be a mapping"),
        (
            {"judges": {"dinov2": np.zeros((29, 4))}},
            r"judges\['dinov2'\] has 29 rows for 30",
        ),
        (
            {"embeddings": np.ma.masked_array(np.eye(30, 6), np.eye(30, 6) > 0)},
            "embeddings is a masked array",
        ),
        (
            {"labels": torch.ones(30, requires_grad=True)},
            "labels cannot be read as an array: Can't call numpy",
        ),
        (
            {"metrics": {"purity": {"foo": 1}}},
            r"metrics is {'purity': {'foo': 1}}; give a list of names",
        ),
        (
            {"metrics": ["probe"]},
            "metric probe needs a validation split, which sae.score does not take: it is of the",
        ),
        ({"metrics": ["firing"]}, "metric firing reads train, which is not given"),
        (
            {"metrics": ["purity"]},
            "metric purity gives no column of what is given here: it may need labels",
        ),
        ({"metrics": ["nothing"]}, "nothing"),
    ],
)
def test_what_does_not_fit_is_said(change, message):
    arguments = {
        "sae": coder(0),
        "embeddings": np.random.default_rng(0).normal(size=(30, 6)).astype(np.float32),
    } | change
    with pytest.raises(UserError, match=message):
        sae.score(**arguments)


def test_held_out_rows_that_are_training_rows_are_counted(recwarn):
    train = np.random.default_rng(0).random((20, 6), dtype=np.float32)
    test = np.random.default_rng(1).random((9, 6), dtype=np.float32)
    sae.score(coder(0), test, train=train, metrics=["firing"])
    assert not [warning for warning in recwarn if "train" in str(warning.message)]
    test[[2, 5]] = train[[19, 0]]
    with pytest.warns(UserWarning, match="2 of 9 embeddings are in train too"):
        sae.score(coder(0), test, train=train.astype(np.float64), metrics=["firing"])


@pytest.mark.parametrize(
    ("more", "parts"),
    [
        (
            {"judges": {"j": TEST_ROWS}},
            ["judges['j'] is a copy of the SAE's own embeddings"],
        ),
        (
            {"judges": {"j": OTHER_ROWS, "k": OTHER_ROWS.astype(np.float64)}},
            ["judges['k'] is equal to judges['j']"],
        ),
        (
            {"labels": pd.Series(range(9)).iloc[::-1]},
            ["labels", "in another order", ".to_numpy()"],
        ),
        (
            {
                "train": OTHER_ROWS,
                "train_concepts": [["a"]] * 9,
                "concepts": pd.Series([["a"]] * 9).iloc[::-1],
            },
            ["concepts", "in another order", ".to_numpy()"],
        ),
    ],
)
def test_what_would_be_taken_for_something_else_is_refused(more, parts):
    with refused_naming(*parts):
        sae.score(coder(0), TEST_ROWS, **more)
    # What is in order is taken.
    labels = pd.Series(range(9), index=range(100, 109))
    sae.score(coder(0), TEST_ROWS, labels, judges={"j": OTHER_ROWS})

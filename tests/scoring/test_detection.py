"""Detection of a latent's images by a judge, against its definition written out."""

import numpy as np
import pandas as pd
import pytest
from scoring.examples import coder, codes_of, write_activations
from sklearn.metrics import roc_auc_score

import sae
from sae.core.errors import UserError
from sae.data import store
from sae.scoring.metrics import detection
from sae.scoring.metrics.detection import Options
from sae.scoring.subject import Subject

M = 12
SIZES = {"train": 200, "val": 40, "test": 80}
OPTIONS = Options(
    shown=4, draws=2, least_train=8, least_test=3, kinds=["highest", "random"]
)


def subject(seed=0, groups=None, others=("b", "c"), backbone="a"):
    """Images of some things; a latent fires on the images of one, a judge sees which one it is, with noise."""
    rng = np.random.default_rng(seed)
    splits, dense, seen = {}, {}, {name: {} for name in others}
    centres = {name: rng.normal(size=(M, 7 + i)) for i, name in enumerate(others)}
    for split, count in SIZES.items():
        thing = rng.integers(0, M, count)
        dense[split] = np.where(
            thing[:, None] == np.arange(M), rng.random((count, M)) + 0.1, 0
        )
        dense[split] *= rng.random((count, M)) < 0.8
        dense[split][:, 1] = rng.random(count)  # Fires on everything.
        dense[split][:, 2] = 0
        index = pd.DataFrame(
            {
                "image_id": range(count),
                "group": range(count) if groups is None else groups(count),
            }
        )
        about = {"dataset": {"grouped": groups is not None}}
        splits[split] = store.Activations(
            rng.normal(size=(count, 5)).astype(np.float32), index, about
        )
        for name in others:
            x = centres[name][thing] + 1.5 * rng.normal(
                size=(count, centres[name].shape[1])
            )
            seen[name][split] = x.astype(np.float32)
    found = Subject(coder(0, d=5, m=M, k=2), splits, seen, backbone=backbone)
    for split, values in dense.items():
        found.once(("codes", split, None), lambda values=values: codes_of(values))
    return found, dense, seen


def by_definition(dense, seen, split, latent, order, highest, groups=None):
    """AUC of one latent, one judge and one draw, all written out."""
    unit = {s: x / np.linalg.norm(x, axis=1, keepdims=True) for s, x in seen.items()}
    mean = unit["train"].mean(axis=0)
    variances, axes = np.linalg.eigh(np.cov(unit["train"].T, bias=True))
    train, here = (
        ((unit[s] - mean) @ axes) / np.sqrt(variances + 1e-3 * variances.max())
        for s in ("train", split)
    )
    active = dense["train"][:, latent]
    by = sorted(
        np.flatnonzero(active), key=lambda i: -active[i] if highest else order.index(i)
    )
    yes, met = [], set()
    for image in by:
        if len(yes) < 4 and (groups is None or groups[image] not in met):
            yes.append(image)
            met.add(None if groups is None else groups[image])
    no = [image for image in order if active[image] == 0][:4]
    scores = here @ (train[yes].mean(axis=0) - train[no].mean(axis=0))
    return roc_auc_score(dense[split][:, latent] > 0, scores)


@pytest.mark.parametrize("groups", [None, lambda count: np.arange(count) // 3])
@pytest.mark.parametrize("split", ["val", "test"])
def test_by_definition(split, groups):
    of, dense, seen = subject(groups=groups)
    got = detection.score(of, split, OPTIONS)
    fires = {s: (d > 0).sum(axis=0) for s, d in dense.items()}
    least = 3 if split == "test" else max(2, round(8 * 40 / 200))
    measured = [
        j
        for j in range(M)
        if 8 <= fires["train"][j] <= 100 and fires[split][j] >= least
    ]
    assert 5 < len(measured) < M - 1
    orders = []
    for draw in range(2):
        rank = np.random.default_rng([0, draw]).permutation(200)
        orders.append(np.argsort(rank).tolist())
    of_train = None if groups is None else groups(200)
    for name, highest in (("detection", True), ("detection_random", False)):
        expected = {
            j: np.mean(
                [
                    by_definition(dense, s, split, j, o, highest, of_train)
                    for s in seen.values()
                    for o in orders
                ]
            )
            for j in measured
        }
        mean = np.mean([*expected.values()])
        assert got[f"{name}_alive"] == pytest.approx(mean, abs=1e-6) and mean > 0.6
        assert got[f"{name}_measured"] == len(measured) / M
        assert got[name] == pytest.approx(
            sum(2 * v - 1 for v in expected.values()) / M, abs=1e-6
        )
        if split == "test":
            of_latent = got[f"{name}_of_latent"].values
            assert np.flatnonzero(~np.isnan(of_latent)).tolist() == measured
            np.testing.assert_allclose(
                of_latent[measured], [*expected.values()], atol=1e-6
            )
        curve = got[f"{name}_by_frequency"]
        band = [j for j in measured if 0.03 < fires[split][j] / SIZES[split] <= 0.1]
        assert curve.x[2] == 0.1 and curve.y[2] == pytest.approx(
            np.mean([expected[j] for j in band]), abs=1e-6
        )


def test_a_judge_whose_images_were_permuted_is_at_chance():
    found = []
    for seed in range(8):
        of, _, seen = subject(seed)
        rng = np.random.default_rng(100 + seed)
        for judge in seen.values():
            judge["test"][:] = judge["test"][rng.permutation(80)]
        found.append(
            detection.score(of, "test", Options(least_train=8, least_test=3))[
                "detection_alive"
            ]
        )
    assert abs(np.mean(found) - 0.5) < 0.03 and np.std(found) > 0


@pytest.mark.parametrize("groups", [None, lambda count: np.arange(count) // 3])
def test_a_sample_stands_for_many_training_images(groups, monkeypatch):
    monkeypatch.setattr(detection, "MOST_TRAIN", 120)
    of, dense, seen = subject(groups=groups)
    rows = of.splits["train"].drawn(120)
    assert len(rows) == 120 and (np.diff(rows) > 0).all()
    of.once(("codes", "train", 120), lambda: codes_of(dense["train"][rows]))
    alone, _, _ = subject(
        groups=groups
    )  # The same images, those of the sample being all that there are for training.
    train = alone.splits["train"]
    of_sample = train.index.iloc[rows].reset_index(drop=True)
    splits = {
        **alone.splits,
        "train": store.Activations(train.embeddings[rows], of_sample, train.manifest),
    }
    judges = {
        name: {**splits_of, "train": splits_of["train"][rows]}
        for name, splits_of in seen.items()
    }
    expected = Subject(alone.coder, splits, judges, backbone="a")
    for split, values in (
        {"test": dense["test"], "train": dense["train"][rows]}
    ).items():
        expected.once(("codes", split, None), lambda values=values: codes_of(values))
    got = [detection.score(one, "test", OPTIONS) for one in (of, expected)]
    assert (
        got[0]["detection_measured"] > 0.3
        and got[0]["detection_alive"] == got[1]["detection_alive"]
    )
    np.testing.assert_array_equal(*(one["detection_of_latent"].values for one in got))


def test_equal_scores_count_half():
    scores = np.array(
        [[1.0, 1.0], [1.0, 0.0], [0.0, 0.0], [0.0, 1.0]], dtype=np.float32
    )
    firing = codes_of(np.array([[1.0, 1.0], [0, 1.0], [0, 0], [1.0, 0]])).by_latent()
    assert detection.aucs(scores, firing).tolist() == [0.5, 0.5]


def test_judges_are_of_another_family_and_families_count_alike():
    families = {"a": "one", "b": "one", "c": "two", "d": "two", "e": "three"}
    of, _, seen = subject(others=("b", "c", "d", "e"))

    def alone(*judges):
        view = Subject(
            of.coder, of.splits, {name: seen[name] for name in judges}, backbone="a"
        )
        for split in SIZES:
            view.once(("codes", split, None), lambda split=split: of.codes(split))
        given = OPTIONS.model_copy(update={"families": families})
        return detection.score(view, "test", given).get("detection_alive")

    assert alone("b") is None
    expected = ((alone("c") + alone("d")) / 2 + alone("e")) / 2
    assert alone("b", "c", "d", "e") == pytest.approx(expected)


def test_from_python_alone(tmp_path):
    for name, d in (("own", 6), ("judge", 9)):
        write_activations(tmp_path / name, name, d)
    test, train, seen, shown = (
        store.read(tmp_path / f"{name}/{split}").embeddings
        for name in ("own", "judge")
        for split in ("test", "train")
    )
    both = {"train": train, "judges": {"judge": seen}, "train_judges": {"judge": shown}}
    assert {"detection", "detection_measured"} <= sae.score(
        coder(0), test, **both
    ).keys()
    for given, said in (
        (both | {"train_judges": None}, "metric detection reads train_judges"),
        (both | {"judges": {"other": seen}}, "other is in one of them alone"),
        (
            both | {"train_judges": {"judge": seen[:-1]}},
            r"train_judges\['judge'\] has .* rows for",
        ),
    ):
        with pytest.raises(UserError, match=said):
            sae.score(coder(0), test, metrics=["detection"], **given)

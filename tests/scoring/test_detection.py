"""Detection of a latent's images by a judge, against its definition written out."""

import itertools

import numpy as np
import pandas as pd
import pytest
import torch
from scoring.examples import coder, codes_of, write_activations
from sklearn.metrics import roc_auc_score

import sae
from sae.core.errors import UserError
from sae.data import store
from sae.scoring.metrics import _overlaps, detection, pixels
from sae.scoring.metrics.detection import Options
from sae.scoring.subject import Subject

M = 12
SIZES = {"train": 200, "val": 40, "test": 80}
OPTIONS = Options(shown=4, draws=2, least_train=8, least_test=3)


def make_subject(seed=0, groups=None, judges=("b", "c"), backbone="a"):
    """Make an SAE each of whose latents fires on the images of one thing.

    A judge sees which thing an image shows, with noise.

    Args:
        groups: returns the group of each of so many images; without it there are none.
        judges: names of the judges.
        backbone: the SAE's own.

    Returns:
        The subject, {split: its codes (N, M)}, {judge: {split: its embeddings}}.
    """
    rng = np.random.default_rng(seed)
    splits = {}
    dense = {}
    judge_embeddings = {name: {} for name in judges}
    centres = {name: rng.normal(size=(M, 7 + i)) for i, name in enumerate(judges)}
    for split, count in SIZES.items():
        shown_thing = rng.integers(0, M, count)
        dense[split] = np.where(
            shown_thing[:, None] == np.arange(M), rng.random((count, M)) + 0.1, 0
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
        manifest = {"dataset": {"grouped": groups is not None}}
        embeddings = rng.normal(size=(count, 5)).astype(np.float32)
        splits[split] = store.Activations(embeddings, index, manifest)
        for name in judges:
            noise = 1.5 * rng.normal(size=(count, centres[name].shape[1]))
            judge_embeddings[name][split] = (centres[name][shown_thing] + noise).astype(
                np.float32
            )
    subject = Subject(
        coder(0, d=5, m=M, k=2), splits, judge_embeddings, backbone=backbone
    )
    give_codes(subject, dense)
    return subject, dense, judge_embeddings


def give_codes(subject, dense):
    """Let a subject have these codes instead of the SAE's own.

    Args:
        dense: {split, or (split, size of its sample): (N, M) activations}.
    """
    for key, values in dense.items():
        split, at_most = key if isinstance(key, tuple) else (key, None)
        subject.once(("codes", split, at_most), lambda values=values: codes_of(values))


def auc_by_definition(dense, judge_embeddings, split, latent, order, groups=None):
    """Compute the AUC of one latent, one judge and one draw, all written out.

    Args:
        dense: {split: codes}.
        judge_embeddings: {split: the judge's embeddings}.
        order: the training images in the order of the draw.
        groups: the group of each training image.
    """
    unit = {
        s: x / np.linalg.norm(x, axis=1, keepdims=True)
        for s, x in judge_embeddings.items()
    }
    mean = unit["train"].mean(axis=0)
    variances, axes = np.linalg.eigh(np.cov(unit["train"].T, bias=True))
    scale = np.sqrt(variances + 1e-3 * variances.max())
    train = ((unit["train"] - mean) @ axes) / scale
    ranked = ((unit[split] - mean) @ axes) / scale

    active = dense["train"][:, latent]
    candidates = sorted(np.flatnonzero(active), key=lambda i: -active[i])
    firing = []
    groups_shown = set()
    for image in candidates:
        if len(firing) < 4 and (groups is None or groups[image] not in groups_shown):
            firing.append(image)
            groups_shown.add(None if groups is None else groups[image])
    silent = [image for image in order if active[image] == 0][:4]

    scores = ranked @ (train[firing].mean(axis=0) - train[silent].mean(axis=0))
    return roc_auc_score(dense[split][:, latent] > 0, scores)


def auc_of_measured(dense, judge_embeddings, split, groups=None):
    """Return {latent: its AUC, mean over judges and draws}, by definition."""
    fires = {s: (d > 0).sum(axis=0) for s, d in dense.items()}
    least = 3 if split == "test" else max(2, round(8 * 40 / 200))
    orders = []
    for draw in range(OPTIONS.draws):
        rank = np.random.default_rng([0, draw]).permutation(200)
        orders.append(np.argsort(rank).tolist())
    return {
        j: np.mean(
            [
                auc_by_definition(dense, of_judge, split, j, order, groups)
                for of_judge in judge_embeddings.values()
                for order in orders
            ]
        )
        for j in range(M)
        if 8 <= fires["train"][j] <= 100 and fires[split][j] >= least
    }


def copies_by_definition(decoder, codes):
    """Return {latent: the one that counts in its place}, of copies alone."""
    fires = codes > 0
    cluster = list(range(M))
    for i, j in itertools.combinations(range(M), 2):
        cosine = decoder[i] @ decoder[j]
        cosine /= np.linalg.norm(decoder[i]) * np.linalg.norm(decoder[j]) or 1
        in_either = (fires[:, i] | fires[:, j]).sum()
        jaccard = (fires[:, i] & fires[:, j]).sum() / in_either if in_either else 0
        if cosine >= 0.9 or jaccard >= 0.9:
            joined = {cluster[i]: cluster[j]}
            cluster = [joined.get(name, name) for name in cluster]
    counts = fires.sum(axis=0)
    copies = {}
    for j in range(M):
        members = [i for i in range(M) if cluster[i] == cluster[j]]
        counting = max(members, key=lambda i: (counts[i], -i))
        if counting != j:
            copies[j] = counting
    return copies


def views_by_definition(aucs, copies, counts):
    """Return detection per latent and per activation.

    Args:
        aucs: {latent: its AUC}, of measured ones.
        copies: latents that are copies.
        counts: (M,) the images of the split on which each fires.
    """
    per_latent = [0.5 if j in copies else aucs.get(j, 0.5) for j in range(M)]
    firings = [aucs.get(j, 0.5) for j in range(M) for _ in range(counts[j])]
    return np.mean(per_latent), np.mean(firings)


@pytest.mark.parametrize("groups", [None, lambda count: np.arange(count) // 3])
@pytest.mark.parametrize("split", ["val", "test"])
def test_scores_are_those_of_the_definition(split, groups):
    subject, dense, judge_embeddings = make_subject(groups=groups)
    scores = detection.score(subject, split, OPTIONS)

    train_groups = None if groups is None else groups(200)
    expected = auc_of_measured(dense, judge_embeddings, split, train_groups)
    measured = list(expected)
    assert 5 < len(measured) < M - 1
    fires = (dense[split] > 0).sum(axis=0)
    copies = copies_by_definition(subject.coder.W_dec.numpy(), dense["train"])
    per_latent, per_activation = views_by_definition(expected, copies, fires)
    mean = np.mean([*expected.values()])
    usable = [j for j in measured if expected[j] >= 0.8 and j not in copies]
    curve = scores.pop("detection_by_frequency")
    latents = {}
    if split == "test":
        latents = {"detection": scores["detection"], "copy_of": scores.pop("copy_of")}
        scores["detection"] = scores["detection"].of_sae
    assert scores == {
        "detection": pytest.approx((per_latent + per_activation) / 2, abs=1e-6),
        "detection_per_latent": pytest.approx(per_latent, abs=1e-6),
        "detection_per_activation": pytest.approx(per_activation, abs=1e-6),
        "detection_measured_auc": pytest.approx(mean, abs=1e-6),
        "coverage": len(measured) / M,
        "usable": len(usable) / M,
    }
    assert mean > 0.6 and 0 < len(usable) < len(measured)

    if split == "test":
        auc_of_latent = latents["detection"].values
        assert np.flatnonzero(~np.isnan(auc_of_latent)).tolist() == measured
        np.testing.assert_allclose(
            auc_of_latent[measured], [*expected.values()], atol=1e-6
        )
        assert latents["copy_of"].values == [copies.get(j) for j in range(M)]
    band = [j for j in measured if 0.03 < fires[j] / SIZES[split] <= 0.1]
    assert curve.x[2] == 0.1
    assert curve.y[2] == pytest.approx(np.mean([expected[j] for j in band]), abs=1e-6)


@pytest.mark.parametrize("at_once", [5, 256])
def test_of_latents_that_are_nearly_the_same_one_counts(at_once, monkeypatch):
    monkeypatch.setattr(_overlaps, "LATENTS", at_once)
    subject, dense, judge_embeddings = make_subject()
    plain, _ = detection_views(subject)
    # Latents of the same images, one of them on 9 of 10; and a chain of rows, each near
    # the next, of which the ends are far apart.
    train = dense["train"]
    for split in dense:
        dense[split][:, 5] = 0.5 * dense[split][:, 4]
    some = np.flatnonzero(train[:, 4])
    train[some[: len(some) // 10], 5] = 0
    decoder = subject.coder.W_dec
    angle = np.deg2rad([0, 20, 40])
    for latent, turn in zip((7, 8, 9), angle, strict=True):
        decoder[latent] = torch.tensor([np.cos(turn), np.sin(turn), 0, 0, 0]) * latent
    decoder[10] = 0  # No direction, and none that is near it.
    changed = Subject(subject.coder, subject.splits, judge_embeddings, backbone="a")
    give_codes(changed, dense)
    scores = detection.score(changed, "test", OPTIONS)

    copies = copies_by_definition(decoder.numpy(), train)
    fires = (train > 0).sum(axis=0)
    of_chain = max((7, 8, 9), key=lambda j: fires[j])
    of_each = {j: of_chain for j in (7, 8, 9) if j != of_chain}
    assert copies.items() >= {5: 4, **of_each}.items() and 10 not in copies
    assert scores["copy_of"].values == [copies.get(j) for j in range(M)]
    aucs = auc_of_measured(dense, judge_embeddings, "test")
    assert {5, *of_each} <= aucs.keys()
    counts = (dense["test"] > 0).sum(axis=0)
    views = views_by_definition(aucs, copies, counts)
    assert detection_views(changed) == pytest.approx(views, abs=1e-6)
    assert scores["detection_per_latent"] < plain


def detection_views(subject):
    scores = detection.score(subject, "test", OPTIONS)
    return scores["detection_per_latent"], scores["detection_per_activation"]


def test_pixels_are_judged_as_another_family_would_on_the_latents_that_it_measures():
    subject, dense, judge_embeddings = make_subject(judges=("thumbnail",))
    # The experiment's options, the families of its backbones among them.
    of_detection = OPTIONS.model_copy(update={"families": {"a": "one"}})
    options = pixels.Options(detection=of_detection.model_dump())
    scores = pixels.score(subject, "test", options)

    aucs = auc_of_measured(dense, judge_embeddings, "test")
    copies = copies_by_definition(subject.coder.W_dec.numpy(), dense["train"])
    counts = (dense["test"] > 0).sum(axis=0)
    expected = np.mean(views_by_definition(aucs, copies, counts))
    assert scores == {"detection_pixels": pytest.approx(expected, abs=1e-6)}

    # Images without thumbnails, and embeddings without images.
    subject.others = {}
    assert pixels.score(subject, "test", options) == {}


def test_a_judge_whose_images_were_permuted_is_at_chance():
    alive = []
    for seed in range(8):
        subject, _, judge_embeddings = make_subject(seed)
        rng = np.random.default_rng(100 + seed)
        for judge in judge_embeddings.values():
            judge["test"][:] = judge["test"][rng.permutation(80)]
        options = Options(least_train=8, least_test=3)
        scores = detection.score(subject, "test", options)
        alive.append(scores["detection_measured_auc"])
    assert abs(np.mean(alive) - 0.5) < 0.03 and np.std(alive) > 0


@pytest.mark.parametrize("groups", [None, lambda count: np.arange(count) // 3])
def test_a_sample_stands_for_many_training_images(groups, monkeypatch):
    monkeypatch.setattr(detection, "MOST_TRAIN", 120)
    subject, dense, judge_embeddings = make_subject(groups=groups)
    rows = subject.splits["train"].draw_rows(120)
    assert len(rows) == 120 and (np.diff(rows) > 0).all()
    give_codes(subject, {("train", 120): dense["train"][rows]})

    # These images, those of the sample being all that there are for training.
    whole_subject, _, _ = make_subject(groups=groups)
    train = whole_subject.splits["train"]
    index = train.index.iloc[rows].reset_index(drop=True)
    sample = store.Activations(train.embeddings[rows], index, train.manifest)
    judges = {
        name: {**splits_of, "train": splits_of["train"][rows]}
        for name, splits_of in judge_embeddings.items()
    }
    of_sample = Subject(
        whole_subject.coder,
        {**whole_subject.splits, "train": sample},
        judges,
        backbone="a",
    )
    give_codes(of_sample, {"test": dense["test"], "train": dense["train"][rows]})

    scores, expected = (
        detection.score(sae_and_images, "test", OPTIONS)
        for sae_and_images in (subject, of_sample)
    )
    assert scores["coverage"] > 0.3
    assert scores["detection"].of_sae == expected["detection"].of_sae
    np.testing.assert_array_equal(
        scores["detection"].values, expected["detection"].values
    )


def test_equal_scores_count_half():
    scores = np.array(
        [[1.0, 1.0], [1.0, 0.0], [0.0, 0.0], [0.0, 1.0]], dtype=np.float32
    )
    firing = codes_of(np.array([[1.0, 1.0], [0, 1.0], [0, 0], [1.0, 0]])).by_latent()
    assert detection.aucs(scores, firing).tolist() == [0.5, 0.5]


def test_judges_are_of_another_family_and_families_count_alike():
    families = {"a": "one", "b": "one", "c": "two", "d": "two", "e": "three"}
    options = OPTIONS.model_copy(update={"families": families})
    subject, dense, judge_embeddings = make_subject(judges=("b", "c", "d", "e"))

    def alive_by(*judges):
        embeddings = {name: judge_embeddings[name] for name in judges}
        view = Subject(subject.coder, subject.splits, embeddings, backbone="a")
        give_codes(view, dense)
        return detection.score(view, "test", options).get("detection_measured_auc")

    assert alive_by("b") is None
    expected = ((alive_by("c") + alive_by("d")) / 2 + alive_by("e")) / 2
    assert alive_by("b", "c", "d", "e") == pytest.approx(expected)


def test_sae_score_gives_it_where_judges_of_both_splits_are_given(tmp_path):
    for name, d in (("own", 6), ("judge", 9)):
        write_activations(tmp_path / name, name, d)
    test, train, judge_test, judge_train = (
        store.read(tmp_path / f"{name}/{split}").embeddings
        for name in ("own", "judge")
        for split in ("test", "train")
    )
    arguments = {
        "train": train,
        "judges": {"judge": judge_test},
        "train_judges": {"judge": judge_train},
    }
    columns = sae.score(coder(0), test, **arguments)
    views = [columns[f"detection_per_{of}"] for of in ("latent", "activation")]
    assert columns["detection"] == pytest.approx(np.mean(views))
    assert {"coverage", "usable"} <= columns.keys() and "copy_of" not in columns
    for change, message in (
        ({"train_judges": None}, "metric detection reads train_judges"),
        ({"judges": {"other": judge_test}}, "other is in one of them alone"),
        (
            {"train_judges": {"judge": judge_train[:-1]}},
            r"train_judges\['judge'\] has .* rows for",
        ),
    ):
        with pytest.raises(UserError, match=message):
            sae.score(coder(0), test, metrics=["detection"], **arguments | change)

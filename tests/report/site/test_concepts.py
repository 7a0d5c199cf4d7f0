"""What the site says of concepts equals what is worked out by hand.

It also equals what the metric scored.
"""

import numpy as np
import pandas as pd
import pytest
import scipy.sparse
import torch
from report.site.reading import payload, unpacked
from support.embeddings import write_split

from sae.core.errors import UserError
from sae.data.concepts import Annotations, Attribute, no_attributes, of_images
from sae.data.store import Activations
from sae.models import saefile
from sae.models.coder import Coder
from sae.report.site import concepts, latents
from sae.report.site.explore import explore, halve
from sae.scoring.metrics import concepts as metric
from sae.scoring.subject import PerLatent, Subject

D = 8  # dimensions
M = 24  # latents
K = 3
NONE = 2**16 - 1


def shown_concepts(names, holds, weights):
    """Return concepts of images, without attributes.

    Args:
        names: The concepts.
        holds: (images, concepts) 1 where an image has a concept.
        weights: (images) how much an image counts.
    """
    matrix = scipy.sparse.csc_matrix(np.array(holds, dtype=float))
    return concepts.ShownConcepts(names, matrix, np.array(weights), {}, "")


def test_f1_of_the_latents_that_stand_for_a_concept():
    # Images 0 and 1 are near-duplicates.
    cat_and_dog = shown_concepts(
        ["cat", "dog"],
        [[1, 0], [1, 0], [1, 0], [0, 1], [0, 1], [0, 0]],
        [0.5, 0.5, 1, 1, 1, 1],
    )
    fires = np.zeros((6, 3))
    fires[[2, 3], 0] = [0.3, 0.2]
    fires[[0, 1], 1] = 7
    codes = scipy.sparse.csc_matrix(fires)
    table = pd.DataFrame({"stands_for": ["cat | dog", "cat", None]})
    matches = concepts.stands_for_payload(table, codes, cat_and_dog)
    # Cat: matched 2 of the 3 that fire, and of 2. Dog: matched 1 of 2, and of 2.
    assert unpacked(matches["f1"]).tolist() == pytest.approx([0.8, 0.5])
    # Alone, latent 1 matches 1 of 1, and of 2; latent 0 matches 1 of 2, and of 2.
    assert unpacked(matches["latents"]).tolist() == [1, 0, 0, NONE]
    assert unpacked(matches["alone"])[:3].tolist() == pytest.approx([2 / 3, 0.5, 0.5])
    with pytest.raises(UserError, match="the concept 'cow', which does not count"):
        of_others = pd.DataFrame({"stands_for": ["cow", None, None]})
        concepts.stands_for_payload(of_others, codes, cat_and_dog)


def test_a_latent_has_a_name_no_name_or_is_not_scored():
    table = pd.DataFrame(
        {
            "name": ["dog\n", None, None],
            "name_precision": [0.62, np.nan, np.nan],
            "name_recall": [0.8, np.nan, np.nan],
            "name_threshold": [2.5, np.nan, np.nan],
            "often": ["", "cat 40%, dog 30%", ""],
        }
    )
    names = concepts.names_payload(table)
    assert names["name"] == ["dog", None, None]
    assert names["often"] == ["", "cat 40%, dog 30%", ""]
    assert unpacked(names["precision"])[0] == pytest.approx(0.62, abs=1e-3)
    assert unpacked(names["threshold"])[0] == 2.5
    assert concepts.is_named(table)
    assert not concepts.is_named(table.assign(often=None))
    assert not concepts.is_named(pd.DataFrame({"n_active": [1, 2]}))


def test_only_images_with_a_partner_have_an_attribute():
    # Drawing 7 in two tones; drawing 3 in one alone, twice; an image without a tone.
    tone = Attribute(
        ["dark", "light"], np.array([1, 0, 0, 0, -1]), np.array([7, 3, 3, 7, -1])
    )
    attribute = concepts.attribute_payload("tone", tone)
    assert (attribute["name"], attribute["values"]) == ("tone", ["dark", "light"])
    assert unpacked(attribute["drawing"]).tolist() == [0, NONE, NONE, 0, NONE]
    assert unpacked(attribute["value"]).tolist() == [1, NONE, NONE, 0, NONE]


def annotated_images(count, seed, first_number):
    """Return embeddings of three clusters, and a keyword of each image's cluster.

    The images are pairs of near-duplicates.
    """
    generator = np.random.default_rng(seed)
    cluster = np.repeat(generator.integers(0, 3, count // 2), 2)
    x = generator.normal(0, 0.3, (count, D)) + np.eye(3, D)[cluster]
    index = pd.DataFrame(
        {
            "image_id": [f"{first_number + n}.png" for n in range(count)],
            "label": pd.array([pd.NA] * count, "Int64"),
            "label_name": None,
            "label_coarse": pd.array([pd.NA] * count, "Int64"),
            "label_coarse_name": None,
            "group": first_number + np.arange(count) // 2,
        }
    )
    index["path"] = index["image_id"]
    keywords = pd.DataFrame(
        {
            "image_id": index["image_id"],
            "concept": np.array(["cat", "dog", "rare"])[cluster],
        }
    )
    manifest = {"dataset": {"name": "d", "grouped": True}, "backbone": {"name": "b"}}
    return Activations(x.astype(np.float32), index, manifest), keywords


@pytest.fixture
def splits():
    """Return train and test images, and keywords of both; the third one is rare."""
    train, of_train = annotated_images(240, 0, 0)
    test, of_test = annotated_images(120, 1, 1000)
    keywords = pd.concat([of_train, of_test], ignore_index=True)
    rare = keywords.index[keywords["concept"] == "rare"]
    keywords = keywords.drop(rare[6:]).reset_index(drop=True)
    return train, test, keywords


def make_coder():
    coder = Coder(D, M, K, metadata={"method": "topk"})
    coder.initialise(torch.zeros(D), 0)
    return coder


def test_f1_and_concepts_are_those_of_the_metric(splits):
    train, test, keywords = splits
    annotations = Annotations(keywords, no_attributes())
    by_split = {
        name: of_images(annotations, split.index["image_id"])
        for name, split in (("train", train), ("test", test))
    }
    sae = make_coder()
    subject = Subject(sae, {"train": train, "test": test}, concepts=by_split)
    scores = metric.score(subject, "test", metric.Options())
    table = pd.DataFrame(
        {name: v.values for name, v in scores.items() if isinstance(v, PerLatent)}
    )
    of_site = concepts.choose_shown(annotations, train, test, metric.Options(), "me")
    options = metric.Options()
    train_side = metric.training_side(
        subject.splits["train"], subject.concepts["train"], options
    )
    task = metric.make_task(subject, "test", train_side, options)
    assert of_site.names == task.names == ["cat", "dog"]
    matches = concepts.stands_for_payload(
        table, latents.encode(sae, test.embeddings), of_site
    )
    mean_f1 = unpacked(matches["f1"]).mean()
    assert mean_f1 == pytest.approx(scores["concepts_f1"], abs=1e-6)
    assert 0 < mean_f1 < 1


def test_explore_names_latents_by_keywords_of_one_s_own(splits, tmp_path, caplog):
    train, test, keywords = splits
    saefile.save(make_coder(), tmp_path / "mine.safetensors")
    file = tmp_path / "concepts.csv"
    keywords.rename(columns={"image_id": "image"}).to_csv(file, index=False)
    arguments = {"sae": [str(tmp_path / "mine.safetensors")], "concepts": file}
    folder = tmp_path / "activations"
    for name, split in (("train", train), ("test", test)):
        about = {k: split.manifest[k] for k in ("dataset", "backbone")}
        write_split(folder / name, [split.embeddings], split.index, about)

    explore(**arguments, activations=folder, out=tmp_path / "site")
    concepts_of_images = payload(tmp_path / "site", "images/0")["concepts"]
    assert concepts_of_images["names"] == ["cat", "dog"]
    sizes = np.diff(unpacked(concepts_of_images["offsets"]))
    of_test = keywords[keywords["image_id"].isin(test.index["image_id"])]
    counts = of_test["concept"].value_counts()
    assert sizes.tolist() == [counts["cat"], counts["dog"]]
    overview = payload(tmp_path / "site", "overview")
    assert overview["cells"][0]["concepts"]
    of_sae = payload(tmp_path / "site", "saes/0")["names"]
    assert {"cat", "dog"} >= {name for name in of_sae["name"] if name} != set()
    share = sum(name is not None for name in of_sae["name"]) / M
    assert f"{100 * share:.1f} % of its latents have a name." in overview["answer"][0]
    (matching,) = payload(tmp_path / "site", "concepts/0")["saes"]
    assert matching["sae"] == 0 and (unpacked(matching["f1"]) > 0.3).all()

    # One set of images is halved.
    is_train = keywords["image_id"].isin(train.index["image_id"])
    of_train = keywords[is_train].rename(columns={"image_id": "image"})
    of_train.to_csv(file, index=False)
    with caplog.at_level("INFO", "sae.progress"):
        explore(**arguments, activations=folder / "train", out=tmp_path / "half")
    assert len(payload(tmp_path / "half", "images/0")["ids"]) == 120
    assert "chosen on 120 images and tested on 120 others" in caplog.text
    first, second = halve(train)
    assert not set(first.index["group"]) & set(second.index["group"])
    assert len(first.index) + len(second.index) == len(train.index)


def test_what_names_lack_is_said(splits, tmp_path):
    _, test, keywords = splits
    saefile.save(make_coder(), tmp_path / "mine.safetensors")
    file = tmp_path / "concepts.csv"
    of_test = keywords[keywords["image_id"].isin(test.index["image_id"])]
    of_test = of_test.rename(columns={"image_id": "image"})
    of_test.iloc[:4].to_csv(file, index=False)
    about = {k: test.manifest[k] for k in ("dataset", "backbone")}
    write_split(tmp_path / "x/test", [test.embeddings], test.index, about)
    arguments = {
        "sae": [str(tmp_path / "mine.safetensors")],
        "concepts": file,
        "out": tmp_path / "site",
    }
    with pytest.raises(UserError, match="has no train beside test: names of latents"):
        explore(**arguments, activations=tmp_path / "x")
    with pytest.raises(UserError, match=r"none of the concepts of .*concepts.csv coun"):
        explore(**arguments, activations=tmp_path / "x/test")
    file.write_text("image,concept\nnowhere.png,cat\n")
    with pytest.raises(UserError, match=r"row 2 names the image 'nowhere.png'"):
        explore(**arguments, activations=tmp_path / "x/test")
    assert not (tmp_path / "site").exists()

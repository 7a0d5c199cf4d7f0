"""Concepts in the stage that scores a bank, and from Python alone."""

import pandas as pd
import pytest
from scoring.examples import COUNTS, TinyBank, coder, write_activations

import sae
from sae.core import files
from sae.core.errors import UserError
from sae.data import concepts, store
from sae.scoring import stage


def keywords_of(split):
    """Return keywords of a split's images: even or odd, and `third` of every third."""
    return [
        ["odd" if number % 2 else "even", *(["third"] if number % 3 == 0 else [])]
        for number in range(COUNTS[split])
    ]


@pytest.fixture
def dataset_dir(tmp_path):
    """Write annotations of the images of `write_activations`, as a rule leaves them."""
    rows = [
        (f"{split}{number}", word)
        for split in COUNTS
        for number, words in enumerate(keywords_of(split))
        for word in words
    ]
    write_annotations(tmp_path / "dataset", rows)
    return tmp_path / "dataset"


def write_annotations(folder, rows):
    keywords = pd.DataFrame(rows, columns=concepts.KEYWORDS, dtype="str")
    files.write_parquet(folder / concepts.KEYWORD_FILE, keywords)
    files.write_parquet(folder / concepts.ATTRIBUTE_FILE, concepts.no_attributes())
    names = (concepts.KEYWORD_FILE, concepts.ATTRIBUTE_FILE)
    sums = {name: files.sha256(folder / name) for name in names}
    files.write_json(folder / concepts.MANIFEST, {"sha256": sums})


@pytest.fixture
def bank(tmp_path):
    write_activations(tmp_path / "b", "b")
    bank = TinyBank(tmp_path / "bank.json")
    bank.add("topk", coder=coder(0), chosen=True)
    bank.add("reg1", coder=coder(1), chosen=True)
    return bank


def run(bank, dataset_dir, **settings):
    """Score the bank by the metrics `concepts` and `names`.

    Returns:
        The tables of metrics and of latents.
    """
    folder = bank.file.parent
    metrics = {"concepts": None, "names": None}
    stage_settings = stage.StageSettings(metrics=metrics, **settings)
    stage.run(
        "score",
        bank.file,
        folder / "b",
        stage_settings,
        folder / "scores/score",
        concepts_dir=dataset_dir,
    )
    tables = ("metrics", "latents")
    return [
        files.read_parquet(folder / f"scores/score/{name}.parquet") for name in tables
    ]


def test_the_same_keywords_give_the_numbers_of_metrics_csv(bank, dataset_dir):
    metrics, latents = run(bank, dataset_dir)
    row = metrics.query("split == 'test' and method == 'topk'").iloc[0]
    splits = {name: store.read(bank.file.parent / "b" / name) for name in COUNTS}
    columns = sae.score(
        coder(0),
        splits["test"].embeddings,
        train=splits["train"].embeddings,
        concepts=keywords_of("test"),
        train_concepts=keywords_of("train"),
        metrics=["concepts", "names"],
    )
    assert columns["concepts_count"] == 3 and len(columns) == 6
    for name, value in columns.items():
        assert value == pytest.approx(row[name]), name
    of_sae = latents[latents["method"] == "topk"]
    assert of_sae["name"].notna().mean() == row["names_share"]
    stands_for = (
        of_sae["stands_for"].dropna().str.split(concepts.SEPARATOR, regex=False)
    )
    assert set(stands_for.explode()) == {"even", "odd", "third"}


def test_test_scores_may_be_withheld_from_all_methods_but_some(bank, dataset_dir):
    tested = {"concepts": ["topk"], "names": ["topk"]}
    metrics, latents = run(bank, dataset_dir, tested=tested)
    has_score = metrics.set_index(["method", "split"])["concepts_match"].notna()
    assert has_score.to_dict() == {
        ("topk", "val"): True,
        ("topk", "test"): True,
        ("reg1", "val"): True,
    }
    assert set(latents["method"]) == {"topk"}


def test_other_keywords_are_scored_anew(bank, dataset_dir):
    before, _ = run(bank, dataset_dir)
    write_annotations(
        dataset_dir, [(f"{s}{i}", "one") for s in COUNTS for i in range(9)]
    )
    after, _ = run(bank, dataset_dir)
    assert before["concepts_count"].eq(3).all() and after["concepts_count"].eq(0).all()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            {"concepts": [["a"]] * 30},
            "give concepts, train_concepts and train together",
        ),
        ({"concepts": [["a"]] * 29}, "concepts has 29 entries for 30 embeddings"),
        (
            {"concepts": ["cat"] * 30},
            r"concepts\[0\] is 'cat'; give a list of keywords",
        ),
    ],
)
def test_keywords_of_another_form_are_refused(bank, arguments, message):
    images = {name: store.read(bank.file.parent / "b" / name) for name in COUNTS}
    if "together" not in message:
        arguments = arguments | {"train_concepts": [["a"]] * 60}
        arguments["train"] = images["train"].embeddings
    with pytest.raises(UserError, match=message):
        sae.score(coder(0), images["test"].embeddings, **arguments)

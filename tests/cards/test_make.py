"""The card of an SAE, end to end on generated embeddings."""

import shutil

import numpy as np
import pandas as pd
import pytest
import torch
from scoring.examples import TinyBank
from support.embeddings import write_split
from support.errors import assert_names, refused_naming

import sae
from sae.cards import images as images_of_cards
from sae.cards import make as making
from sae.cards import references
from sae.cards.images import SHARES, draw_splits, split_one_set, training_folder
from sae.cards.references import Effort
from sae.comparison import card as comparison
from sae.core import files
from sae.core.errors import UserError
from sae.models import saefile
from sae.models.coder import Coder
from sae.report.card import card
from sae.report.card_words import headline, notes, sentences
from sae.report.site.explore import explore
from sae.scoring import alone, choice, stage
from sae.scoring.repeats import join_repeats

N = 600
D = 8
M = 16
K = 2


def generate(dim=D):
    """Return embeddings that are sums of two of twelve directions, and keywords."""
    generator = np.random.default_rng(0)
    parts = np.array([generator.choice(12, 2, replace=False) for _ in range(N)])
    strengths = generator.uniform(1, 2, size=(N, 2, 1))
    directions = generator.normal(size=(12, dim))
    x = (strengths * directions[parts]).sum(axis=1)
    x += 0.05 * generator.normal(size=x.shape)
    keywords = [[f"part {part}" for part in of_image] for of_image in parts]
    return x.astype(np.float32), keywords


def half_trained(x):
    """Return an SAE that is no reference: untrained, with another seed."""
    coder = Coder(D, M, K, input_norm="unit_l2", metadata={"method": "topk"})
    mean = (x / np.linalg.norm(x, axis=1, keepdims=True)).mean(axis=0)
    coder.initialise(torch.from_numpy(mean), 5)
    return coder


@pytest.fixture
def quickly(monkeypatch):
    """Let references be few, small and short."""
    effort = Effort((0.3,), (1, 2), first_steps=20, most_steps=40)
    monkeypatch.setattr(making, "FULL", effort)
    monkeypatch.setattr(references, "RATES", (2.0, 1.0))
    monkeypatch.setattr(comparison, "FOLDS", 3)


def test_a_card_has_the_scores_of_the_metrics(tmp_path, quickly):
    x, keywords = generate()
    judge, _ = generate(dim=6)
    coder = half_trained(x)
    split = np.resize(["train", "train", "train", "val", "test"], N)
    arguments = {
        "judges": {"judge": judge},
        "concepts": keywords,
        "split": split,
        "store": tmp_path / "store",
    }
    content = sae.card(coder, x, **arguments)

    of = {name: split == name for name in ("train", "test")}
    expected = alone.score(
        coder,
        x[of["test"]],
        judges={"judge": judge[of["test"]]},
        train=x[of["train"]],
        train_judges={"judge": judge[of["train"]]},
        concepts=[keywords[row] for row in np.flatnonzero(of["test"])],
        train_concepts=[keywords[row] for row in np.flatnonzero(of["train"])],
        metrics=["reconstruction", "monosemanticity", "detection", "concepts", "names"],
    )
    for column, value in expected.items():
        if isinstance(value, float | int):
            assert content["columns"][column] == value, column

    readings = {reading["score"]: reading for reading in content["readings"]}
    assert readings["ms"]["value"] == expected["ms_mean_alive"]
    assert readings["names_share"]["word"] == ""
    # Shorter trainings are trials, too.
    trials = pd.DataFrame(content["references"]["trials"])
    steps = trials["trial"].str.partition("steps")[2]
    assert steps.tolist()[:4] == ["2", "5", "10", "20"]
    # It stands beside the best Top-k that reconstructs as well as it.
    as_well = trials[trials["r2"] >= content["scores"]["r2_val"] - 0.01]
    assert trials["feasible"].all() and len(as_well) > 1
    best = as_well.loc[as_well["detection"].idxmax(), "trial"]
    assert content["references"]["chosen"] == best
    detection = readings["detection"]
    assert detection["value"] == expected["detection"]
    assert detection["difference"] == detection["value"] - detection["topk"]
    assert detection["low"] < detection["difference"] < detection["high"]
    # All of its columns are of one set of SAEs.
    views = [readings[f"detection_per_{view}"] for view in ("latent", "activation")]
    for column in ("value", "topk", "untrained"):
        mean = np.mean([view[column] for view in views])
        assert detection[column] == pytest.approx(mean)

    # A second card finds its references in the store.
    kept = sorted(path.name for path in (tmp_path / "store/store").iterdir())
    assert sae.card(coder, x, **arguments) == content
    assert sorted(path.name for path in (tmp_path / "store/store").iterdir()) == kept

    # Scores that lie in the place of another SAE's, or part's, are not taken for them.
    scores = sorted((tmp_path / "store/scores").glob("*/test.json"))
    was = [file.read_bytes() for file in scores]
    for file, of_another in zip(scores, [*was[1:], was[0]], strict=True):
        file.write_bytes(of_another)
    scores[0].write_bytes(
        next((tmp_path / "store").rglob("without0.json")).read_bytes()
    )
    assert sae.card(coder, x, **arguments) == content
    assert [file.read_bytes() for file in scores] == was


def write_splits(folder, name, x, split):
    """Write embeddings as the store has them, in the splits train, val and test."""
    for part in ("train", "val", "test"):
        rows = np.flatnonzero(split == part)
        ids = [f"{part}{row}" for row in rows]
        index = pd.DataFrame({"image_id": ids, "path": ids, "group": rows // 2})
        index["label"] = pd.array([pd.NA] * len(rows), dtype="Int64")
        index["label_name"] = None
        made_by = {
            "dataset": {"name": "d", "fingerprint": "d", "grouped": True},
            "backbone": {"name": name, "fingerprint": name},
        }
        write_split(folder / name / part, [x[rows]], index, made_by)


def test_a_card_has_the_numbers_of_an_experiments_table(tmp_path, quickly):
    x, _ = generate()
    split = np.repeat(np.resize(["train", "train", "train", "val", "test"], N // 2), 2)
    write_splits(tmp_path, "own", x, split)
    write_splits(tmp_path, "judge", generate(dim=6)[0], split)
    bank = TinyBank(tmp_path / "bank.json")
    bank.add("topk", coder=half_trained(x), judged=True)
    metrics = ["reconstruction", "firing", "monosemanticity", "detection"]
    stage.run(
        "score",
        bank.file,
        tmp_path / "own",
        stage.StageSettings(metrics=dict.fromkeys(metrics)),
        tmp_path / "scores",
        others={"judge": tmp_path / "judge"},
    )
    table = files.read_parquet(tmp_path / "scores/metrics.parquet")
    of_test = table[table["split"] == "test"].iloc[0]

    card(
        sae=str(tmp_path / "topk/default/seed0"),  # Its folder.
        activations=tmp_path / "own",
        judge=[tmp_path / "judge"],
        store_dir=tmp_path / "store",
        at_once=1,
        out=tmp_path / "card",
    )
    columns = files.read_json(tmp_path / "card/card.json")["columns"]
    compared = [
        "r2",
        "l0",
        "dead_train",
        "ms_mean_alive",
        "ms_mean_alive_across_groups",
        "detection",
        "detection_per_latent",
        "detection_per_activation",
    ]
    assert [columns[name] for name in compared] == of_test[compared].tolist()


def test_keywords_that_do_not_count_are_said_or_refused(tmp_path, quickly):
    x, _ = generate()
    coder = half_trained(x)
    rare = [["rare"], *[[]] * (N - 1)]
    images = split_one_set(alone.data("x", x, None, D), {}, keywords=rare)
    assert_names(
        " ".join(images_of_cards.says_uncounted_concepts(images)),
        "no match with concepts",
        "no keyword counts on the test images",
        "5 or more of the 120 test images",
    )

    np.save(tmp_path / "x.npy", x)
    saefile.save(coder, tmp_path / "sae.safetensors")
    (tmp_path / "rare.csv").write_text("image,concept\n0,rare\n")
    with refused_naming("rare.csv", "no keyword counts on the test images"):
        card(
            sae=str(tmp_path / "sae.safetensors"),
            activations=tmp_path / "x.npy",
            concepts=tmp_path / "rare.csv",
            out=tmp_path / "card",
            store_dir=tmp_path / "store",
        )
    with refused_naming("concepts", "no keyword counts on the test images"):
        sae.card(coder, x, concepts=rare)


def test_above_what_topk_reaches_nothing_is_compared(tmp_path, quickly, monkeypatch):
    x, _ = generate()
    # As well is by .2 better, and then by 1. Yours has .37, and Top-k .87 at most.
    chosen = []
    for margin in (-0.2, -1.0):
        monkeypatch.setattr(choice, "MARGIN", margin)
        content = sae.card(half_trained(x), x, store=tmp_path / "store")
        chosen.append(content["references"]["chosen"] is not None)
    assert chosen == [True, False]
    assert {reading["topk"] for reading in content["readings"]} == {None}
    assert sentences(content)[1].startswith("MS: not comparable: no Top-k here")
    # Untrained SAEs and the best R2 of Top-k are said all the same.
    assert content["readings"][0]["untrained"] is not None
    assert content["scores"]["best_r2"] == max(
        trial["r2"] for trial in content["references"]["trials"]
    )


def test_beside_a_topk_of_which_a_seed_diverged_nothing_is_compared(
    tmp_path, quickly, monkeypatch
):
    x, _ = generate()
    retrained = references.References.retrained
    monkeypatch.setattr(
        references.References,
        "retrained",
        lambda self, trial: retrained(self, trial)[:1],
    )
    content = sae.card(half_trained(x), x, store=tmp_path / "store")
    assert content["references"]["chosen"] is not None
    assert {reading["topk"] for reading in content["readings"]} == {None}
    assert "Top-k diverged with other seeds" in sentences(content)[1]


def test_the_command_writes_a_card_with_which_a_site_begins(tmp_path, quickly, capsys):
    x, _ = generate()
    np.save(tmp_path / "x.npy", x)
    saefile.save(half_trained(x), tmp_path / "sae.safetensors")
    arguments = {
        "sae": str(tmp_path / "sae.safetensors"),
        "activations": tmp_path / "x.npy",
        "store_dir": tmp_path / "store",
        "at_once": 1,
    }
    card(**arguments, out=tmp_path / "card")
    printed = capsys.readouterr().out
    content = files.read_json(tmp_path / "card/card.json")
    assert "of its 16 latents fire on training images" in printed
    assert "--judge" in printed
    assert content["images"]["test"] == round(SHARES["test"] * N)
    page = (tmp_path / "card/index.html").read_text()
    assert "<svg" in page and "drawn by lot" in page and "best names" not in page

    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/plot.svg").write_text("mine")
    (tmp_path / "linked").symlink_to("card")
    for out, message in (("mine", "plot.svg was not written"), ("linked", "a link")):
        with pytest.raises(UserError, match=message):
            card(**{**arguments, "sae": "nowhere"}, out=tmp_path / out)
    assert (tmp_path / "mine/plot.svg").read_text() == "mine"
    (tmp_path / "card/notes.txt").write_text("mine")
    card(**arguments, out=tmp_path / "card")
    assert (tmp_path / "card/notes.txt").read_text() == "mine"
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        np.save(tmp_path / folder / "judge.npy", x[:, 1:])
    judges = [tmp_path / "a/judge.npy", tmp_path / "b/judge.npy"]
    with pytest.raises(UserError, match="two judges are called judge"):
        card(**arguments, judge=judges, out=tmp_path / "card")
    explore(
        sae=[arguments["sae"]],
        activations=tmp_path / "x.npy",
        out=tmp_path / "site",
        card=tmp_path / "card",
    )
    assert (
        "Is it any good?" in (tmp_path / "site/assets/505-overview-card.js").read_text()
    )
    assert "fire on training images" in (tmp_path / "site/data/overview.js").read_text()
    assert "data:image/svg" in (tmp_path / "site/data/overview.js").read_text()


def test_errors(tmp_path, quickly):
    x, keywords = generate()
    coder = half_trained(x)
    store = tmp_path / "store"
    with pytest.raises(UserError, match="has 499 rows, and a card needs 500"):
        sae.card(coder, x[:499], store=store)
    with pytest.raises(UserError, match=r"of shape \(600, 7\); needed"):
        sae.card(coder, x[:, 1:], store=store)
    with pytest.raises(UserError, match="judge other has 599 rows for 600"):
        sae.card(coder, x, judges={"other": x[1:, 1:]}, store=store)
    with pytest.raises(UserError, match="concepts has 599 entries"):
        sae.card(coder, x, concepts=keywords[1:], store=store)
    with pytest.raises(UserError, match=r"concepts\[0\] is 'part'"):
        sae.card(coder, x, concepts=["part"] * N, store=store)
    (tmp_path / "file").write_text("")
    with refused_naming("store", "file is a file"):
        sae.card(coder, x, store=tmp_path / "file")
    with refused_naming("store is None"):
        sae.card(coder, x, store=None)
    with refused_naming("device 'gpu' is not known"):
        sae.card(coder, x, store=store, device="gpu")
    with pytest.raises(UserError, match="are of 10 groups, and a card needs 50"):
        sae.card(coder, x, groups=np.arange(N) // 60, store=store)
    of_image = pd.Series(np.resize(["train", "val", "test"], N)).iloc[::-1]
    with refused_naming("split", "in another order", ".to_numpy()"):
        sae.card(coder, x, split=of_image, store=store)
    few_in_test = np.minimum(np.arange(N) // 2, 299 - 9)
    split = np.where(few_in_test % 2 == 0, "train", "val")
    split[few_in_test >= 282] = "test"
    with pytest.raises(UserError, match="the test images are of 9 groups"):
        sae.card(coder, x, groups=few_in_test, split=split, store=store)

    # It takes inputs of another space: which one it is, is said.
    coder.input_scale = 0.001
    with pytest.raises(UserError, match=r"unit_l2 x 1: 0\.4.*Say --input-norm"):
        sae.card(coder, x, store=store)


def test_what_is_wrong_is_not_taken_for_another_training(tmp_path):
    x, _ = generate()
    dead = half_trained(x)
    with torch.no_grad():
        dead.b_enc[:] = -1000.0
    with pytest.raises(UserError, match="all are dead"):
        sae.card(dead, x, store=tmp_path)
    split = np.where(np.arange(N) % 2 == 0, "train", "test")
    split[7] = "val"
    with pytest.raises(UserError, match=r"its images \(1\) have one embedding"):
        sae.card(half_trained(x), x, split=split, store=tmp_path)


def test_a_path_that_is_wrong_is_named_before_any_work(tmp_path):
    (tmp_path / "e.csv").write_text("1,2\n")
    np.save(tmp_path / "x.npy", generate()[0])
    for command, named in (
        ({"activations": "e.csv"}, "e.csv is neither a folder"),
        ({"judge": ["x.npy", "e.csv"]}, "e.csv is neither a folder"),
        ({"train": "gone"}, "gone is neither a folder"),
        ({"concepts": "gone.csv"}, "concepts .*gone.csv is no file"),
    ):
        arguments = {"activations": "x.npy", **command}
        places = {
            name: [tmp_path / one for one in place]
            if isinstance(place, list)
            else tmp_path / place
            for name, place in arguments.items()
        }
        with pytest.raises(UserError, match=named):
            card(sae="nowhere", out=tmp_path / "out", **places)
        if command.keys() <= {"activations", "concepts"}:
            with pytest.raises(UserError, match=named):
                explore(sae=["nowhere"], out=tmp_path / "out", **places)


def test_a_judge_that_judges_nothing_is_refused(tmp_path, quickly):
    x, _ = generate()
    coder = half_trained(x)
    store = tmp_path / "store"
    for judge, says in [
        (np.zeros((N, 5), np.float32), "judge j has no variance"),
        ((x * 2 + 1).astype(np.float16), "judge j is a copy of the SAE's own"),
    ]:
        with pytest.raises(UserError, match=says):
            sae.card(coder, x, judges={"j": judge}, store=store)
    with pytest.raises(UserError, match="judges must be a mapping"):
        sae.card(coder, x, judges=generate(dim=6)[0], store=store)

    split = np.repeat(np.resize(["train", "train", "train", "val", "test"], N // 2), 2)
    write_splits(tmp_path, "own", x, split)
    write_splits(tmp_path, "constant", np.ones((N, 5), np.float32), split)
    saefile.save(coder, tmp_path / "sae.safetensors")
    with pytest.raises(UserError, match="judge constant has no variance"):
        card(
            sae=str(tmp_path / "sae.safetensors"),
            activations=tmp_path / "own",
            judge=[tmp_path / "constant"],
            store_dir=store,
            out=tmp_path / "card",
        )


def test_there_is_no_verdict_by_a_judge_of_other_images(tmp_path, quickly):
    x, _ = generate()
    judge = generate(dim=6)[0]
    shuffled = judge[np.random.default_rng(0).permutation(N)]

    def verdicts(**judges):
        content = sae.card(half_trained(x), x, judges=judges, store=tmp_path / "store")
        words = {reading["score"]: reading["word"] for reading in content["readings"]}
        return content, words

    content, words = verdicts(right=judge)
    assert content["judges_at_chance"] == []
    assert words["detection"] not in ("", comparison.NO_VERDICT)
    # One of two is enough: their mean is not what it was.
    content, words = verdicts(right=judge, wrong=shuffled)
    assert content["judges_at_chance"] == ["wrong"]
    assert words["detection"] == comparison.NO_VERDICT
    assert words["ms"] not in ("", comparison.NO_VERDICT)
    says = "no verdict: the encoder wrong does not know these images, or its rows are"
    assert says in headline(content)
    assert any(says in sentence for sentence in sentences(content))


def test_identical_images_are_one_group(tmp_path, quickly):
    x, _ = generate()
    often = np.tile(x[:150], (4, 1))
    content = sae.card(half_trained(x), often, store=tmp_path / "store")
    assert content["images"]["grouped"]
    assert content["images"]["test"] == 30 * 4
    assert any(
        "450 of 600 images have the embedding" in note for note in notes(content)
    )

    # Groups that share an image are one, too.
    images = alone.data("x", x[[0, 1, 1, 2, 3, 4]], [5, 5, 6, 7, 7, 8], D)
    joined, repeats = join_repeats(images)
    assert joined.index["group"].tolist() == [0, 0, 0, 2, 2, 3]
    assert (joined.grouped, repeats) == (True, 1)
    # That groups know already.
    assert join_repeats(joined) == (joined, 0)


def test_images_in_several_splits_are_refused(tmp_path, quickly):
    x, _ = generate()
    coder = half_trained(x)
    store = tmp_path / "store"
    split = np.resize(["train", "train", "train", "val", "test"], N)
    often = x.copy()
    often[split == "test"] = x[split == "train"][: (split == "test").sum()]
    with pytest.raises(UserError, match="120 of 120 embeddings of test are in train"):
        sae.card(coder, often, split=split, store=store)
    with pytest.raises(UserError, match="60 of 60 embeddings of val are among those"):
        sae.card(coder, x, train=x, store=store)
    with pytest.raises(UserError, match="images of val are of groups that lie in trai"):
        sae.card(coder, x, groups=np.arange(N) // 2, split=split, store=store)

    saefile.save(coder, tmp_path / "sae.safetensors")
    write_splits(
        tmp_path, "own", x, np.resize(np.repeat(["train", "val", "test"], 2), N)
    )
    arguments = {
        "sae": str(tmp_path / "sae.safetensors"),
        "store_dir": store,
        "out": tmp_path / "card",
    }
    with pytest.raises(UserError, match="200 of 200 embeddings of val are among those"):
        np.save(tmp_path / "x.npy", x)
        card(activations=tmp_path / "own", train=tmp_path / "x.npy", **arguments)
    # A folder without val is not read for its test split.
    shutil.copytree(tmp_path / "own/train", tmp_path / "other/train")
    shutil.copytree(tmp_path / "own/test", tmp_path / "other/test")
    card(activations=tmp_path / "own", train=tmp_path / "other", at_once=1, **arguments)
    for path in (tmp_path / "own/test").iterdir():
        shutil.copy(tmp_path / "own/train" / path.name, path)
    with pytest.raises(UserError, match="200 of 200 embeddings of test are in train"):
        card(activations=tmp_path / "own", **arguments)


def test_two_cards_may_begin_on_the_same_embeddings(tmp_path, monkeypatch):
    images = split_one_set(alone.data("x", generate()[0], None, D), {})
    adopt, made = images_of_cards.store.adopt, []

    def adopt_after_another_card(folder, *args):
        if not made:
            made.append(None)
            with monkeypatch.context() as in_another_process:
                in_another_process.setattr(files.os, "getpid", lambda: 1)
                other = training_folder(images, tmp_path)
            made.append((other / "train/manifest.json").stat().st_ino)
        adopt(folder, *args)

    monkeypatch.setattr(images_of_cards.store, "adopt", adopt_after_another_card)
    folder = training_folder(images, tmp_path)
    # What the other one reads was not taken from under it.
    assert (folder / "train/manifest.json").stat().st_ino == made[1]


def test_an_sae_of_patch_tokens_needs_a_word(tmp_path):
    x, _ = generate()
    coder = half_trained(x)
    coder.metadata["imported"] = "saev"
    saefile.save(coder, tmp_path / "sae.safetensors")
    with pytest.raises(UserError, match="patch tokens"):
        sae.card(coder, x)
    with pytest.raises(UserError, match="patch tokens"):
        card(sae=str(tmp_path / "sae.safetensors"), activations=tmp_path / "x.npy")


def test_too_long_waits_for_a_word(tmp_path, quickly, monkeypatch):
    x, _ = generate()
    monkeypatch.setattr(making, "MOST_MINUTES", 0)
    with pytest.raises(UserError, match="--yes"):
        sae.card(half_trained(x), x, store=tmp_path / "store")


def test_groups_are_split_whole():
    x, _ = generate()
    groups = np.arange(N) // 4
    images = alone.data("x", x, groups, D)
    split = draw_splits(images)
    assert (split.reshape(-1, 4) == split[::4, None]).all()
    assert np.mean(split == "train") == pytest.approx(0.7, abs=0.01)
    # Small classes are not split one by one, which would leave val empty.
    images.index["label"] = np.arange(N) // 2
    assert np.mean(draw_splits(images) == "val") == pytest.approx(0.1, abs=0.01)

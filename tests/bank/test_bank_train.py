"""A bank: trained, taken from the store, restored, its names and its code kept apart from what it holds."""

import json
import logging
import re
import shutil

import numpy as np
import pandas as pd
import pytest
import torch
from bank.common import MADE_BY, METHODS, RECIPE, REG1, method, plan, write_activations
from support.embeddings import write_split

from sae.__main__ import main
from sae.bank import store
from sae.bank import train as train_module
from sae.bank.read import read
from sae.bank.train import Place, Trainer, cell_of
from sae.config.entries import splits_of_others
from sae.core import files, registry, versions, workers
from sae.core.errors import UserError
from sae.models import inputs, saefile
from sae.models.coder import Threshold, TopK
from sae.protocols import _cell, paper


@pytest.fixture
def cell(tmp_path):
    """Folder of activations; functions that train in `results/NAME` and read what the run said of each SAE."""
    torch.set_num_threads(1)
    return Cell(tmp_path)


class Cell:
    def __init__(self, folder):
        self.folder, self.activations = (
            folder,
            write_activations(folder / "activations"),
        )

    def train(self, name, plan, **options):
        """The bank of a plan, trained by protocol `paper`, as it is read again."""
        others = options.pop("others", None)
        place = Place(
            options.pop("store", self.folder / "store"),
            self.folder / name / "bank.json",
            **options,
        )
        _cell.train(
            plan,
            self.activations,
            place,
            self.folder / name / "scores",
            others=others,
            device="cpu",
        )
        return read(place.bank)

    def stored(self):
        return {f: f.stat().st_mtime_ns for f in self.folder.glob("store/*/*")}


def open_all(bank):
    return [bank.open(entry) for entry in bank.saes if entry.ok]


def test_a_bank_is_listed_linked_and_kept(cell, caplog):
    with caplog.at_level(logging.INFO, "sae.progress"):
        bank = cell.train("a", plan(METHODS))
    said = [r.getMessage() for r in caplog.records if r.name == "sae.progress"]
    assert said[2].startswith("digits / tiny / k4: 3/4 reg1 lambda0.0001 seed 0: R2 ")
    assert said[-1] == "digits / tiny / k4: protocol paper: 5 SAEs; 2 chosen, 1 edge"
    assert (bank.dataset, bank.backbone, bank.k, bank.store) == (
        "digits",
        "tiny",
        4,
        "../store",
    )
    paths = [
        "topk/default",
        "batch_topk/default",
        "reg1/lambda0.0001",
        "reg1/lambda0.001",
        "reg1_all/lambda0.001",
    ]
    assert [e.path for e in bank.saes] == [f"{p}/seed0/sae.safetensors" for p in paths]
    assert [(e.method, e.trial, e.status) for e in bank.saes[2:4]] == [
        ("reg1", {"lambda": 0.0001}, "ok"),
        ("reg1", {"lambda": 0.001}, "ok"),
    ]
    assert [e.judged for e in bank.saes] == [True, True, False, True, False]
    coders = open_all(bank)
    assert [type(c.select) for c in coders] == [TopK, Threshold, TopK, TopK, TopK]
    expected = {
        "method": "reg1",
        "trial": {"lambda": 0.001},
        "seed": 0,
        "dataset": "digits",
        "backbone": "tiny",
    }
    expected |= {
        "select": "topk",
        "k": 4,
        "input_norm": "unit_l2",
        "input_scale": bank.input_scale,
    }
    expected["embeddings"] = files.sha256(cell.activations / "train/embeddings.npy")
    expected["made_of"] = ["images", "weights"]
    assert coders[3].metadata == expected | {
        "versions": store.training_versions("topk", "off_support_l1")
    }
    assert coders[1].metadata["threshold_uncalibrated"] > 0
    links = [bank.file.parent / e.path for e in bank.saes]
    assert all(
        p.is_symlink() and not p.readlink().is_absolute()
        for link in links
        for p in (link, link.with_name("train.parquet"))
    )
    assert len(pd.read_parquet(links[3].with_name("train.parquet"))) > 1

    before = cell.stored()
    links[0].unlink()  # A reader restores it.
    open_all(bank)
    assert links[0].is_symlink()
    # Other names, another cadence of the log, other methods: nothing is trained.
    recipe = RECIPE | {"log_every": 3}
    renamed = {
        "base": METHODS["topk"],
        "mine": METHODS["batch_topk"] | {"against": "base"},
    }
    other = cell.train("b", plan(renamed, dataset="others", recipe=recipe))
    assert cell.stored() == before and other.dataset == "others"
    assert [e.key for e in other.saes] == [bank.saes[0].key, bank.saes[1].key]
    assert (
        open_all(other)[0].metadata["dataset"] == "digits"
    )  # As its first maker called it.
    cell.train("a", plan({"topk": METHODS["topk"]}))
    assert links[0].exists() and not links[1].exists()  # Of an earlier plan.
    assert not list(cell.folder.rglob(".unfinished.json"))


def test_side_by_side_gives_the_same_bytes(cell, monkeypatch):
    alone = cell.train("a", plan(METHODS, seeds=[0, 1]))
    place = Place(cell.folder / "store2", cell.folder / "a/bank.json")
    monkeypatch.setattr(
        workers, "_jobs", [workers.Job("train", None, (), cell.folder / "log")]
    )
    monkeypatch.setattr(workers, "_threads", [1])
    with workers.pool(2) as side_by_side:
        of = plan(METHODS)
        trainer = Trainer(of, cell_of(of, cell.activations, "cpu"), place, side_by_side)
        entries = trainer.bring(paper._trials(plan(METHODS, seeds=[0, 1])))
    assert [e.sha256 for e in entries] == [
        e.sha256 for e in alone.saes if e.method != "reg1_all"
    ] and len(entries) == 8
    assert (cell.folder / "log").read_text().count(": start ") == 8


def test_what_is_asked_for_is_noted_before_it_is_trained(cell, monkeypatch):
    def killed(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("sae.bank.train._train_or_take", killed)
    with pytest.raises(KeyboardInterrupt):
        cell.train("a", plan(METHODS))
    noted = files.read_json(cell.folder / "a/.unfinished.json")["keys"]
    monkeypatch.undo()
    bank = cell.train("a", plan(METHODS))
    assert set(noted) == {entry.trained for entry in bank.saes[:4]}


def test_damaged_is_trained_again_to_the_same_bytes_and_altered_is_refused(cell):
    bank = cell.train("a", plan(METHODS))
    stored = (bank.file.parent / bank.saes[0].path).resolve()
    content = stored.read_bytes()
    stored.write_bytes(content[:-8])
    with pytest.raises(
        UserError,
        match=r"was altered or cut short: .* delete .*/store/\w{32} and .*bank\.json, and run",
    ):
        bank.open(bank.saes[0])
    assert cell.train("a", plan(METHODS)) == bank and stored.read_bytes() == content


def test_shared_stores_are_taken_from_and_left_as_they_are(cell, tmp_path):
    bank = cell.train("a", plan(METHODS))
    before = cell.stored()
    shared = (tmp_path / "nowhere", tmp_path / "store")
    assert (
        cell.train("c", plan(METHODS), store=tmp_path / "mine", shared=shared).saes
        == bank.saes
    )
    assert cell.stored() == before


@pytest.mark.parametrize(
    "content",
    [{"dataset": "d", "saes": [{"path": "x"}]}, {"k": 4, "saes": []}, {"rows": []}],
)
def test_a_bank_of_another_version_and_what_is_none_are_refused(tmp_path, content):
    files.write_json(tmp_path / "bank.json", content)
    with pytest.raises(
        UserError,
        match=r"bank\.json is of another version of this .*; delete it and run again",
    ):
        read(tmp_path / "bank.json")


def test_a_diverged_sae_is_recorded_and_its_siblings_finish(cell):
    methods = METHODS | {
        "reg1": method(**REG1, sweep={"lambda": [0.001], "lr": [1e30, 0.001]})
    }
    bank = cell.train("a", plan(methods))
    lost = next(e for e in bank.saes if e.trial.get("lr") == 1e30)
    assert (lost.status, lost.path, lost.sha256, lost.judged) == (
        "diverged",
        None,
        None,
        False,
    ) and lost.step >= 0
    assert [e.status for e in bank.saes if e is not lost] == ["ok"] * (
        len(bank.saes) - 1
    )
    before = cell.stored()
    assert cell.train("a", plan(methods)) == bank and cell.stored() == before
    json.loads(
        (cell.folder / "store" / lost.key / "result.json").read_text(),
        parse_constant=pytest.fail,
    )
    with pytest.raises(
        UserError,
        match=r"digits / tiny / k4: the baseline diverged \(seed 0\): .* with reg0",
    ):
        methods = {
            "reg0": method(recipe={"lr": 1e30}),
            "reg1": METHODS["reg1"] | {"against": "reg0"},
        }
        cell.train("b", plan(methods))
    assert not (cell.folder / "b/bank.json").exists()


def test_the_key_follows_data_settings_and_versions(cell, tmp_path, monkeypatch):
    def key(**changed):
        return cell.train("a", plan({"topk": method()}, **changed)).saes[0].key

    known = key()
    recipe = RECIPE
    assert key(recipe=recipe | {"log_every": 1}) == key(backbone="other") == known
    others = [key(recipe=recipe | {"lr": 0.002}), key(seeds=[1]), key(k=3)]
    monkeypatch.setattr(versions, "of", lambda *_: "2")
    others.append(key())
    monkeypatch.undo()
    write_activations(tmp_path / "activations", n=201)
    assert len({known, *others, key()}) == 6


def test_entries_from_outside_train_with_their_options_and_their_code_is_in_the_key(
    cell, tmp_path
):
    (tmp_path / "own/penalties").mkdir(parents=True)
    source = (
        "def penalty(batch):\n    return batch.a.sum(dim=1) * batch.options.scale\n"
    )
    head = "from sae.core.options import Options as Base\n\nclass Options(Base):\n    scale: float = 1.0\n\n"
    (tmp_path / "own/penalties/mine.py").write_text(head + source)
    spec = method(penalty="mine", mask="all", options={"scale": 2.0}, **{"lambda": 0.1})
    try:
        registry.extend(tmp_path / "own")
        first = cell.train("a", plan({"mine": spec})).saes[0]
        (tmp_path / "own/penalties/mine.py").write_text(
            head + source.replace("sum(", "amax(")
        )
        registry.extend(tmp_path / "own")
        second = cell.train("a", plan({"mine": spec})).saes[0]
    finally:
        registry.extend(None)
    assert first.ok and second.ok and first.key != second.key
    assert first.settings["options"] == {"scale": 2.0} and first.sha256 != second.sha256


def test_two_names_of_one_sae_are_trained_once(cell, monkeypatch):
    trained, before = [], train_module._train_or_take
    monkeypatch.setattr(
        train_module,
        "_train_or_take",
        lambda member, of: trained.append(member) or before(member, of),
    )
    one, two = cell.train("a", plan({"topk": method(), "same": method()})).saes
    assert one.key == two.key and one.path != two.path and len(trained) == 1


JUDGED = """
METRICS = ("seen",)
from sae.protocols._history import Choice, Sizes

def next(history):
    return [history.plan.member("topk", {}, 0, "judged")]

def choose(history):
    row = history.validation.iloc[0]
    return Choice([{"method": "topk", "seed": 0, "trial": "default", "status": "chosen", "seen": row["seen"]}], set())

def at_most(plan, options):
    return Sizes(1, 0, {"topk": 1}, 0)
"""
SEEN = """
STAGE = "score"
SPLITS = ("val", "test")
READS = ("train", "others")

def score(subject, split, options):
    return {"seen": sum(float(of["train"].sum() + 2 * of[split].sum()) for of in subject.others.values())}
"""


def test_a_protocol_reads_what_other_backbones_see_of_train_and_val(cell, tmp_path):
    for kind, name, code in (
        ("protocols", "judged", JUDGED),
        ("metrics", "seen", SEEN),
    ):
        (tmp_path / f"own/{kind}").mkdir(parents=True)
        (tmp_path / f"own/{kind}/{name}.py").write_text(code)
    others = {"judge": write_activations(tmp_path / "judge", d=3)}
    try:
        registry.extend(tmp_path / "own")
        assert splits_of_others(["seen"], ("val",)) == ["train", "val"]
        cell.train(
            "a", plan({"topk": method()}, protocols={"judged": {}}), others=others
        )
    finally:
        registry.extend(None)
    of = {
        split: np.load(tmp_path / f"judge/{split}/embeddings.npy").sum()
        for split in ("train", "val")
    }
    chosen = files.read_parquet(cell.folder / "a/scores/selection.parquet")
    assert chosen["seen"].tolist() == pytest.approx([of["train"] + 2 * of["val"]])


def test_thresholds_admit_k_latents_of_held_out_images(cell):
    methods = {
        "topk": METHODS["topk"],
        "batch_topk": METHODS["batch_topk"],
        "relu_l1": method("relu_l1", against="topk"),
    }
    methods["jumprelu"] = method("jumprelu", against="topk")
    bank = cell.train("a", plan(methods))
    held_out = np.load(cell.activations / "val/embeddings.npy")
    x = inputs.open_inputs(held_out, "unit_l2", bank.input_scale, "cpu")
    topk, *others = open_all(bank)
    assert len(topk.encode(x).values) <= 4 * len(x)
    for coder, entry in zip(others, bank.saes[1:], strict=True):
        assert len(coder.encode(x).values) == 4 * len(x)
        # Of what training made, thresholds alone are other ones, by one factor.
        made_by = files.read_json(cell.folder / "store" / entry.key / "result.json")[
            "made_by"
        ]
        trained = saefile.load(
            cell.folder / "store" / made_by["thresholds"]["of"] / "sae.safetensors"
        )
        for name in ("W_enc", "b_enc", "W_dec", "b_dec"):
            assert torch.equal(getattr(coder, name), getattr(trained, name))
        factor = coder.select.theta / trained.select.theta
        assert torch.allclose(factor, factor[0]) and len(
            trained.encode(x).values
        ) != 4 * len(x)
    before = cell.stored()
    assert cell.train("a", plan(methods)) == bank and cell.stored() == before
    # Other held-out images: thresholds are fixed anew, and nothing is trained.
    index = pd.DataFrame({"image_id": range(200)})
    write_split(
        cell.activations / "val",
        [held_out[::-1] * 2 + 1],
        index,
        {"dataset": {"grouped": False}},
    )
    again = cell.train("a", plan(methods))
    changed = [
        e.method
        for e, old in zip(again.saes, bank.saes, strict=True)
        if e.key != old.key
    ]
    assert sorted(changed) == ["batch_topk", "jumprelu", "relu_l1"]
    added = {path.parent.name for path in cell.stored().keys() - before.keys()}
    assert added == {e.key for e in again.saes[1:]}


def test_an_sae_of_another_key_is_not_taken(cell):
    bank = cell.train("a", plan(METHODS))
    first, other = (cell.folder / "store" / bank.saes[i].key for i in (2, 3))
    content = (first / "sae.safetensors").read_bytes()
    shutil.rmtree(first)
    shutil.copytree(
        other, first
    )  # Whole, and each of its files as its maker sealed it.
    assert (
        cell.train("a", plan(METHODS)) == bank
        and (first / "sae.safetensors").read_bytes() == content
    )


RANDOM = np.random.default_rng(0).normal(size=(200, 8)) + 1
SAME = np.repeat(RANDOM[:1], 200, axis=0)
NAN = RANDOM.copy()
NAN[3, 2] = np.nan
LEARNT, DEFINED = (
    "so that nothing can be learnt",
    r"so that R\^2 on validation images is not defined",
)


@pytest.mark.parametrize(
    ("split", "x", "recipe", "said"),
    [
        (
            "train",
            RANDOM[:1],
            {},
            f"there is one embedding only: the variance is 0, {LEARNT}",
        ),
        (
            "train",
            SAME,
            {},
            f"all 200 embeddings are the same after the norm unit_l2: the variance is 0, {LEARNT}",
        ),
        (
            "train",
            SAME,
            {"unit_variance": False},
            f"all 200 embeddings are the same .*, {LEARNT}",
        ),
        (
            "train",
            SAME,
            {"input_norm": "none"},
            f"all 200 embeddings are the same after the norm none: .*, {LEARNT}",
        ),
        (
            "train",
            SAME * 0,
            {"input_norm": "none"},
            f"all 200 embeddings are zero after the norm none: .*, {LEARNT}",
        ),
        # They differ in length alone, which the norm takes away, up to rounding.
        (
            "train",
            SAME * np.arange(1, 201)[:, None],
            {},
            f"all 200 .* same .*: the variance is [.0-9]+e-1[5-9], {LEARNT}",
        ),
        (
            "train",
            RANDOM * 1e-42,
            {"input_norm": "none"},
            f"all 200 .*: the variance is [.0-9]+e-8[34], {LEARNT}",
        ),
        (
            "val",
            RANDOM[:1],
            {},
            f"there is one embedding only: the variance is 0, {DEFINED}",
        ),
        (
            "val",
            SAME,
            {},
            f"all 200 embeddings are the same after the norm unit_l2: the variance is 0, {DEFINED}",
        ),
        (
            "val",
            SAME * 0,
            {},
            f"all 200 embeddings are zero after the norm unit_l2: the variance is 0, {DEFINED}",
        ),
    ],
)
def test_embeddings_without_variance_are_told_before_training(
    cell, monkeypatch, capsys, split, x, recipe, said
):
    write_anew(cell.activations / split, x)
    code, text = train_by_command(cell, monkeypatch, capsys, recipe)
    assert code == 1 and re.fullmatch(
        rf"error: {cell.activations / split}: {said}: look at .*\n", text
    ), text
    assert not (cell.folder / "store").exists()


@pytest.mark.parametrize(
    "x",
    [
        np.where(np.arange(8) < 6, 1, RANDOM),  # Most dimensions are constant.
        SAME + 1e-4 * RANDOM,
        RANDOM[:2],
        np.concatenate([SAME[:-1] * 0, RANDOM[:1]]),  # All but one are zero.
    ],
)
def test_embeddings_with_a_little_variance_are_trained_on(cell, monkeypatch, capsys, x):
    for split in ("train", "val"):
        write_anew(cell.activations / split, x)
    assert train_by_command(cell, monkeypatch, capsys, {})[0] == 0


def write_anew(folder, x):
    index = pd.DataFrame(
        {"image_id": range(len(x)), "label": 0, "group": range(len(x))}
    )
    write_split(folder, [x.astype(np.float32)], index, MADE_BY)


def train_by_command(cell, monkeypatch, capsys, recipe):
    """The exit code of the step `train`, and what it said."""
    monkeypatch.setattr(logging.getLogger("sae"), "handlers", [])
    monkeypatch.setattr(
        torch, "set_deterministic_debug_mode", lambda mode: None
    )  # It would outlive the test.
    settings = plan({"topk": method()}, recipe=RECIPE | recipe).model_dump_json()
    place = [
        "--store",
        str(cell.folder / "store"),
        "--bank",
        str(cell.folder / "a/bank.json"),
    ]
    place += ["--scores", str(cell.folder / "a")]
    code = main(
        [
            "train",
            "--activations",
            str(cell.activations),
            *place,
            "--settings",
            settings,
        ]
    )
    return code, capsys.readouterr().err

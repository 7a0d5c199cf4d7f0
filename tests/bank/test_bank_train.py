"""A bank: its SAEs are trained, found in the store, linked, restored and listed."""

import json
import logging
import re
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from bank.common import MADE_BY, METHODS, RECIPE, REG1, method, plan, write_activations
from support.embeddings import write_split
from support.errors import assert_names, refused_naming

from sae.__main__ import main
from sae.bank import store
from sae.bank import train as train_module
from sae.bank.read import read
from sae.bank.train import Place, Trainer, cell_data_of
from sae.config.entries import splits_of_others
from sae.core import files, registry, versions, workers
from sae.core.errors import UserError
from sae.models import inputs, saefile
from sae.models.coder import Threshold, TopK
from sae.protocols import _cell, _sweep


class Workspace:
    """A folder with embeddings, a store of SAEs, and a folder for each bank.

    Attributes:
        folder: The folder.
        activations: Folder of the embeddings of its one cell.
    """

    def __init__(self, folder):
        self.folder = folder
        self.activations = write_activations(folder / "activations")

    def train(self, name, cell_plan, *, store_folder=None, shared=(), others=None):
        """Train the SAEs of a plan, and return the bank as it is read again.

        Args:
            name: Folder of the bank.
            store_folder: Store of SAEs, if not that of the workspace.
            shared: Stores that are only read.
            others: {backbone: folder of its embeddings}, of other backbones.
        """
        place = Place(
            store_folder or self.folder / "store",
            self.folder / name / "bank.json",
            shared,
        )
        scores = self.folder / name / "scores"
        _cell.train(
            cell_plan, self.activations, place, scores, others=others, device="cpu"
        )
        return read(place.bank)

    def stored_files(self):
        """Return {file of the store: when it was written}."""
        return {file: file.stat().st_mtime_ns for file in self.folder.glob("store/*/*")}


@pytest.fixture
def workspace(tmp_path):
    """Return a workspace in which nothing is trained yet."""
    torch.set_num_threads(1)
    return Workspace(tmp_path)


def open_all(bank):
    """Return the coders of a bank's SAEs."""
    return [bank.open(sae) for sae in bank.saes if sae.ok]


def links_of(bank):
    """Return the paths of a bank's SAEs."""
    return [bank.file.parent / sae.path for sae in bank.saes]


def test_a_bank_lists_every_sae_and_the_console_says_what_was_trained(
    workspace, caplog
):
    caplog.set_level(logging.INFO, "sae.progress")
    caplog.set_level(logging.INFO, "sae.progress.details")  # Cards raise it.
    bank = workspace.train("a", plan(METHODS))

    messages = [
        record.getMessage()
        for record in caplog.records
        if record.name.startswith("sae.progress")
    ]
    third_sae = "digits / tiny / k4: 3/4 reg1 lambda0.0001 seed 0: R2 "
    assert messages[2].startswith(third_sae)
    assert (
        messages[-1] == "digits / tiny / k4: protocol paper: 5 SAEs; 2 chosen, 1 edge"
    )

    assert (bank.dataset, bank.backbone, bank.k) == ("digits", "tiny", 4)
    assert bank.store == "../store"
    assert [sae.path for sae in bank.saes] == [
        "topk/default/seed0/sae.safetensors",
        "batch_topk/default/seed0/sae.safetensors",
        "reg1/lambda0.0001/seed0/sae.safetensors",
        "reg1/lambda0.001/seed0/sae.safetensors",
        "reg1_all/lambda0.001/seed0/sae.safetensors",
    ]
    assert [(sae.method, sae.trial, sae.status) for sae in bank.saes[2:4]] == [
        ("reg1", {"lambda": 0.0001}, "ok"),
        ("reg1", {"lambda": 0.001}, "ok"),
    ]
    assert [sae.chosen for sae in bank.saes] == [True, True, False, True, False]
    assert not list(workspace.folder.rglob(".unfinished.json"))


def test_the_file_of_an_sae_says_what_it_is_and_what_made_it(workspace):
    bank = workspace.train("a", plan(METHODS))
    coders = open_all(bank)
    selections = [type(coder.select) for coder in coders]
    assert selections == [TopK, Threshold, TopK, TopK, TopK]

    embeddings = workspace.activations / "train/embeddings.npy"
    assert coders[3].metadata == {
        "method": "reg1",
        "trial": {"lambda": 0.001},
        "seed": 0,
        "dataset": "digits",
        "backbone": "tiny",
        "select": "topk",
        "k": 4,
        "input_norm": "unit_l2",
        "input_scale": bank.input_scale,
        "embeddings": files.sha256(embeddings),
        "made_of": ["images", "weights"],
        "versions": store.training_versions("topk", "off_support_l1"),
    }
    assert coders[1].metadata["threshold_uncalibrated"] > 0


def test_a_bank_that_is_read_and_written_again_has_the_same_bytes(workspace):
    bank = workspace.train("a", plan(METHODS))
    content = bank.file.read_bytes()
    bank.write()
    assert bank.file.read_bytes() == content


def test_a_bank_links_each_sae_and_its_log_relatively_and_restores_a_link(workspace):
    bank = workspace.train("a", plan(METHODS))
    links = links_of(bank)
    for sae_link in links:
        for link in (sae_link, sae_link.with_name("train.parquet")):
            assert link.is_symlink()
            assert not link.readlink().is_absolute()
    assert len(pd.read_parquet(links[3].with_name("train.parquet"))) > 1

    links[0].unlink()
    open_all(bank)
    assert links[0].is_symlink()


def test_other_names_and_another_cadence_of_the_log_train_nothing(workspace):
    bank = workspace.train("a", plan(METHODS))
    stored_before = workspace.stored_files()

    renamed_methods = {
        "base": METHODS["topk"],
        "mine": METHODS["batch_topk"] | {"against": "base"},
    }
    recipe = RECIPE | {"log_every": 3}
    renamed = workspace.train(
        "b", plan(renamed_methods, dataset="others", recipe=recipe)
    )

    assert workspace.stored_files() == stored_before
    assert renamed.dataset == "others"
    assert [sae.key for sae in renamed.saes] == [sae.key for sae in bank.saes[:2]]
    # The file has the name that its first maker gave it.
    assert open_all(renamed)[0].metadata["dataset"] == "digits"


def test_links_to_saes_of_an_earlier_plan_are_removed(workspace):
    links = links_of(workspace.train("a", plan(METHODS)))
    workspace.train("a", plan({"topk": METHODS["topk"]}))
    assert links[0].exists()
    assert not links[1].exists()


def test_saes_trained_side_by_side_have_the_bytes_of_those_trained_one_by_one(
    workspace, monkeypatch
):
    both_seeds = plan(METHODS, seeds=[0, 1])
    trained_alone = workspace.train("a", both_seeds)

    log = workspace.folder / "log"
    monkeypatch.setattr(
        workers, "_steps", [workers.RunningStep("train", None, (), log)]
    )
    monkeypatch.setattr(workers, "_threads", [1])
    place = Place(workspace.folder / "store2", workspace.folder / "a/bank.json")
    with workers.pool(2) as side_by_side:
        cell_plan = plan(METHODS)
        cell_data = cell_data_of(cell_plan, workspace.activations, "cpu")
        trainer = Trainer(cell_plan, cell_data, place, side_by_side)
        saes = trainer.bring(_sweep.swept_members(both_seeds, "paper"))

    assert len(saes) == 8
    assert [sae.sha256 for sae in saes] == [
        sae.sha256 for sae in trained_alone.saes if sae.method != "reg1_all"
    ]
    assert log.read_text().count(": start ") == 8


def test_the_keys_that_a_cell_asks_for_are_noted_before_it_trains(
    workspace, monkeypatch
):
    def be_killed(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(train_module, "_train_or_take", be_killed)
    with pytest.raises(KeyboardInterrupt):
        workspace.train("a", plan(METHODS))
    noted = files.read_json(workspace.folder / "a/.unfinished.json")["keys"]

    monkeypatch.undo()
    bank = workspace.train("a", plan(METHODS))
    assert set(noted) == {sae.trained for sae in bank.saes[:4]}


def test_an_altered_sae_is_not_opened_and_is_trained_again_to_the_same_bytes(
    workspace,
):
    bank = workspace.train("a", plan(METHODS))
    stored_file = links_of(bank)[0].resolve()
    content = stored_file.read_bytes()
    stored_file.write_bytes(content[:-8])

    message = (
        r"was altered or cut short: "
        r".* delete .*/store/\w{32} and .*bank\.json, and run"
    )
    with pytest.raises(UserError, match=message):
        bank.open(bank.saes[0])

    assert workspace.train("a", plan(METHODS)) == bank
    assert stored_file.read_bytes() == content


def test_saes_of_a_shared_store_are_taken_and_left_there_as_they_are(
    workspace, tmp_path
):
    bank = workspace.train("a", plan(METHODS))
    stored_before = workspace.stored_files()
    taken = workspace.train(
        "c",
        plan(METHODS),
        store_folder=tmp_path / "mine",
        shared=(tmp_path / "nowhere", tmp_path / "store"),
    )
    assert taken.saes == bank.saes
    assert workspace.stored_files() == stored_before


def test_a_file_that_is_no_bank_of_this_version_is_refused(tmp_path):
    files.write_json(tmp_path / "bank.json", {"k": 4, "saes": []})
    with refused_naming("bank.json", "another version", "delete it and run again"):
        read(tmp_path / "bank.json")


def test_a_diverged_sae_is_recorded_and_its_siblings_finish(workspace):
    diverging = method(**REG1, sweep={"lambda": [0.001], "lr": [1e30, 0.001]})
    methods = METHODS | {"reg1": diverging}
    bank = workspace.train("a", plan(methods))

    diverged = next(sae for sae in bank.saes if sae.trial.get("lr") == 1e30)
    assert diverged.status == "diverged"
    assert (diverged.sha256, diverged.chosen) == (None, False)
    assert diverged.step >= 0
    assert all(sae.status == "ok" for sae in bank.saes if sae is not diverged)

    # Its result is kept, as JSON without NaN, and it is not trained again.
    result_file = workspace.folder / "store" / diverged.key / "result.json"
    json.loads(result_file.read_text(), parse_constant=pytest.fail)
    stored_before = workspace.stored_files()
    assert workspace.train("a", plan(methods)) == bank
    assert workspace.stored_files() == stored_before


def test_a_diverged_baseline_fails_its_cell(workspace):
    methods = {
        "reg0": method(recipe={"lr": 1e30}),
        "reg1": METHODS["reg1"] | {"against": "reg0"},
    }
    message = r"digits / tiny / k4: the baseline diverged \(seed 0\): .* with reg0"
    with pytest.raises(UserError, match=message):
        workspace.train("b", plan(methods))
    assert not (workspace.folder / "b/bank.json").exists()


def test_the_key_follows_data_settings_and_versions_and_no_names(
    workspace, monkeypatch
):
    def trained_key(**plan_values):
        bank = workspace.train("a", plan({"topk": method()}, **plan_values))
        return bank.saes[0].key

    key = trained_key()
    assert trained_key(recipe=RECIPE | {"log_every": 1}) == key
    assert trained_key(backbone="other") == key

    other_keys = [
        trained_key(recipe=RECIPE | {"lr": 0.002}),
        trained_key(seeds=[1]),
        trained_key(k=3),
    ]
    monkeypatch.setattr(versions, "version_of", lambda *_: "2")
    other_keys.append(trained_key())
    monkeypatch.undo()
    write_activations(workspace.activations, n=201)
    other_keys.append(trained_key())
    assert len({key, *other_keys}) == 6


def test_a_penalty_of_ones_own_trains_with_its_options_and_its_code_is_in_the_key(
    workspace, tmp_path
):
    extensions = tmp_path / "own"
    (extensions / "penalties").mkdir(parents=True)
    file = extensions / "penalties/mine.py"
    code = """
from sae.core.options import Options as Base

class Options(Base):
    scale: float = 1.0

def penalty(batch):
    return batch.a.sum(dim=1) * batch.options.scale
"""
    methods = {
        "mine": method(
            penalty="mine", mask="all", options={"scale": 2.0}, **{"lambda": 0.1}
        )
    }
    saes = []
    try:
        for edited_code in (code, code.replace("sum(", "amax(")):
            file.write_text(edited_code)
            registry.extend(extensions)
            saes += workspace.train("a", plan(methods)).saes
    finally:
        registry.extend(None)

    before_edit, after_edit = saes
    assert before_edit.ok and after_edit.ok
    assert before_edit.key != after_edit.key
    assert before_edit.sha256 != after_edit.sha256
    assert before_edit.settings.options == {"scale": 2.0}


@pytest.mark.parametrize("at_once", [1, 2])
def test_what_training_warned_of_stays_with_its_saes(
    workspace, extend, run_step, monkeypatch, at_once
):
    code = "def penalty(batch):\n    return batch.a.detach().sum(dim=1)\n"
    extensions = extend({"penalties/mine.py": code})
    lambdas = {"lambda": [0.1, 0.2]}
    mine = method(penalty="mine", mask="all", against="topk", sweep=lambdas)
    cell_plan = plan({"topk": method(), "mine": mine})
    monkeypatch.chdir(workspace.folder)
    bank = Path("results/x/saes/digits/tiny/k4/bank.json")
    kept = Path("results/x/warnings/train/digits/tiny/k4.json")

    def train(with_store):
        """Run the job, as in a folder where nothing but the store is left."""
        shutil.rmtree("results", ignore_errors=True)
        words = ["--store", with_store, "--scores", "results/x/scores", "--bank", bank]
        words += ["--activations", workspace.activations, "--at-once", at_once]
        words += ["--settings", cell_plan.model_dump_json(), "--log"]
        log = "results/x/logs/train/digits/tiny/k4.log"
        code, console = run_step("--extensions", extensions, "train", *words, log)
        assert code == 0, console
        return files.read_json(kept)["warnings"] if kept.exists() else []

    (text,) = train("store")
    assert_names(text, "mine lambda0.1 seed 0 and 1 more: penalty mine", "no gradient")
    assert train("store") == [text]
    assert "warnings" not in files.read_json(bank)["saes"][0]
    # In the same place, what warns of nothing leaves no file.
    cell_plan = plan({"topk": method()})
    assert train("store") == []


def test_an_sae_with_two_names_is_trained_once(workspace, monkeypatch):
    train_or_take = train_module._train_or_take
    trained_members = []

    def train_and_note(member, cell):
        trained_members.append(member)
        return train_or_take(member, cell)

    monkeypatch.setattr(train_module, "_train_or_take", train_and_note)
    bank = workspace.train("a", plan({"topk": method(), "same": method()}))
    first, second = bank.saes
    assert first.key == second.key
    assert first.path != second.path
    assert len(trained_members) == 1


PROTOCOL_THAT_READS_SEEN = """
METRICS = ("seen",)
from sae.protocols._history import Choice, Sizes

def next(history):
    return [history.plan.member("topk", {}, 0, "judged")]

def choose(history):
    row = history.validation.iloc[0]
    chosen = {"method": "topk", "seed": 0, "trial": "default", "status": "chosen"}
    return Choice([chosen | {"seen": row["seen"]}], set())

def at_most(plan, options):
    return Sizes(1, 0, {"topk": 1}, 0)
"""
METRIC_SEEN = """
STAGE = "score"
SPLITS = ("val", "test")
READS = ("train", "others")

def score(subject, split, options):
    seen = 0.0
    for embeddings in subject.others.values():
        seen += float(embeddings["train"].sum() + 2 * embeddings[split].sum())
    return {"seen": seen}
"""


def test_a_protocol_reads_what_other_backbones_see_of_train_and_val(
    workspace, tmp_path
):
    extensions = tmp_path / "own"
    (extensions / "protocols").mkdir(parents=True)
    (extensions / "protocols/judged.py").write_text(PROTOCOL_THAT_READS_SEEN)
    (extensions / "metrics").mkdir(parents=True)
    (extensions / "metrics/seen.py").write_text(METRIC_SEEN)
    judge = write_activations(tmp_path / "judge", d=3)

    cell_plan = plan({"topk": method()}, protocols={"judged": {}})
    try:
        registry.extend(extensions)
        assert splits_of_others(["seen"], ("val",)) == ["train", "val"]
        workspace.train("a", cell_plan, others={"judge": judge})
    finally:
        registry.extend(None)

    sum_on_train = np.load(judge / "train/embeddings.npy").sum()
    sum_on_val = np.load(judge / "val/embeddings.npy").sum()
    chosen = files.read_parquet(workspace.folder / "a/scores/selection.parquet")
    assert chosen["seen"].tolist() == pytest.approx([sum_on_train + 2 * sum_on_val])


METHODS_WITH_THRESHOLDS = {
    "topk": METHODS["topk"],
    "batch_topk": METHODS["batch_topk"],
    "relu_l1": method("relu_l1", against="topk"),
    "jumprelu": method("jumprelu", against="topk"),
}


def test_thresholds_are_scaled_so_that_k_latents_of_held_out_images_are_active(
    workspace,
):
    bank = workspace.train("a", plan(METHODS_WITH_THRESHOLDS))
    held_out = np.load(workspace.activations / "val/embeddings.npy")
    x = inputs.open_inputs(held_out, "unit_l2", bank.input_scale, "cpu")

    topk, *coders_with_thresholds = open_all(bank)
    assert len(topk.encode(x).values) <= 4 * len(x)
    for coder, sae in zip(coders_with_thresholds, bank.saes[1:], strict=True):
        assert len(coder.encode(x).values) == 4 * len(x)

        # Nothing but the thresholds differs from what was trained, by one factor.
        result = files.read_json(workspace.folder / f"store/{sae.key}/result.json")
        assert result["made_by"]["thresholds"]["of"] == sae.trained
        trained = saefile.load(
            workspace.folder / f"store/{sae.trained}/sae.safetensors"
        )
        assert len(trained.encode(x).values) != 4 * len(x)
        for name in ("W_enc", "b_enc", "W_dec", "b_dec"):
            assert torch.equal(getattr(coder, name), getattr(trained, name))
        factors = coder.select.theta / trained.select.theta
        assert torch.allclose(factors, factors[0])


def test_other_held_out_images_fix_thresholds_anew_and_train_nothing(workspace):
    cell_plan = plan(METHODS_WITH_THRESHOLDS)
    bank = workspace.train("a", cell_plan)
    stored_before = workspace.stored_files()
    assert workspace.train("a", cell_plan) == bank
    assert workspace.stored_files() == stored_before

    held_out = np.load(workspace.activations / "val/embeddings.npy")
    index = pd.DataFrame({"image_id": range(200)})
    made_by = {"dataset": {"grouped": False}}
    write_split(workspace.activations / "val", [held_out[::-1] * 2 + 1], index, made_by)
    bank_after = workspace.train("a", cell_plan)

    rescaled_methods = [
        after.method
        for after, before in zip(bank_after.saes, bank.saes, strict=True)
        if after.key != before.key
    ]
    assert sorted(rescaled_methods) == ["batch_topk", "jumprelu", "relu_l1"]
    new_files = workspace.stored_files().keys() - stored_before.keys()
    new_keys = {file.parent.name for file in new_files}
    assert new_keys == {sae.key for sae in bank_after.saes[1:]}


def test_an_sae_of_another_key_is_not_taken(workspace):
    bank = workspace.train("a", plan(METHODS))
    folder = workspace.folder / "store" / bank.saes[2].key
    other_folder = workspace.folder / "store" / bank.saes[3].key
    content = (folder / "sae.safetensors").read_bytes()

    # The copy is whole, and each of its files is as its maker sealed it.
    shutil.rmtree(folder)
    shutil.copytree(other_folder, folder)
    assert workspace.train("a", plan(METHODS)) == bank
    assert (folder / "sae.safetensors").read_bytes() == content


RANDOM = np.random.default_rng(0).normal(size=(200, 8)) + 1
SAME = np.repeat(RANDOM[:1], 200, axis=0)
NOT_LEARNT = "so that nothing can be learnt"
NOT_DEFINED = r"so that R\^2 on validation images is not defined"


@pytest.mark.parametrize(
    ("split", "embeddings", "recipe", "message"),
    [
        (
            "train",
            RANDOM[:1],
            {},
            f"there is one embedding only: the variance is 0, {NOT_LEARNT}",
        ),
        (
            "train",
            SAME,
            {"unit_variance": False},
            f"all 200 embeddings are the same .*, {NOT_LEARNT}",
        ),
        (
            "train",
            SAME * 0,
            {"input_norm": "none"},
            f"all 200 embeddings are zero after the norm none: .*, {NOT_LEARNT}",
        ),
        (
            "train",
            SAME * np.arange(1, 201)[:, None],
            {},
            f"all 200 .* same .*: the variance is [.0-9]+e-1[5-9], {NOT_LEARNT}",
        ),
        (
            "train",
            RANDOM * 1e-42,
            {"input_norm": "none"},
            f"all 200 .*: the variance is [.0-9]+e-8[34], {NOT_LEARNT}",
        ),
        (
            "val",
            SAME,
            {},
            "all 200 embeddings are the same after the norm unit_l2: "
            f"the variance is 0, {NOT_DEFINED}",
        ),
    ],
)
def test_embeddings_without_variance_are_refused_before_training(
    workspace, monkeypatch, capsys, split, embeddings, recipe, message
):
    folder = workspace.activations / split
    replace_split(folder, embeddings)
    code, stderr = train_by_command(workspace, monkeypatch, capsys, recipe)
    assert code == 1
    assert re.fullmatch(rf"error: {folder}: {message}: look at .*\n", stderr), stderr
    assert not (workspace.folder / "store").exists()


@pytest.mark.parametrize(
    "embeddings",
    [
        SAME + 1e-4 * RANDOM,
        RANDOM[:2],
    ],
)
def test_embeddings_with_a_little_variance_are_trained_on(
    workspace, monkeypatch, capsys, embeddings
):
    for split in ("train", "val"):
        replace_split(workspace.activations / split, embeddings)
    code, _ = train_by_command(workspace, monkeypatch, capsys, {})
    assert code == 0


def replace_split(folder, embeddings):
    """Write embeddings (n, d) in the place of those of a split."""
    rows = range(len(embeddings))
    index = pd.DataFrame({"image_id": rows, "label": 0, "group": rows})
    write_split(folder, [embeddings.astype(np.float32)], index, MADE_BY)


def train_by_command(workspace, monkeypatch, capsys, recipe):
    """Run the step `train` as the workflow does; return its exit code and its stderr.

    Args:
        recipe: {option: value} in which its recipe differs from `RECIPE`.
    """
    monkeypatch.setattr(logging.getLogger("sae"), "handlers", [])
    # The mode would outlive the test.
    monkeypatch.setattr(torch, "set_deterministic_debug_mode", lambda mode: None)
    cell_plan = plan({"topk": method()}, recipe=RECIPE | recipe)
    code = main(
        [
            "train",
            *("--activations", str(workspace.activations)),
            *("--store", str(workspace.folder / "store")),
            *("--bank", str(workspace.folder / "a/bank.json")),
            *("--scores", str(workspace.folder / "a")),
            *("--settings", cell_plan.model_dump_json()),
        ]
    )
    return code, capsys.readouterr().err


def test_a_cell_goes_without_an_sae_of_another_dataset(workspace, caplog):
    bank = workspace.train("a", plan({"topk": method()}))
    (coder,) = open_all(bank)
    with torch.no_grad():
        coder.b_dec += 9  # As if it came of embeddings that lie elsewhere.
    file = workspace.folder / "theirs.safetensors"
    saefile.save(coder, file)

    def with_theirs(**options):
        theirs = method("imported", options={"file": str(file), **options})
        return plan({"topk": method(), "theirs": theirs})

    # Where the experiment has no other dataset, the import is wrong.
    with pytest.raises(UserError, match=r"input_norm: .* dataset: "):
        workspace.train("b", with_theirs())
    with caplog.at_level(logging.WARNING, "sae.progress"):
        left_out = workspace.train("c", with_theirs(other_datasets=True))
    assert [sae.method for sae in left_out.saes] == ["topk"]
    assert "theirs is left out: it reconstructs the training" in caplog.text
    assert list(left_out.facts["left_out"]) == ["theirs"]
    # One that fits is there all the same.
    with torch.no_grad():
        coder.b_dec -= 9
    saefile.save(coder, file)
    fits = workspace.train("d", with_theirs(other_datasets=True))
    assert {sae.method for sae in fits.saes} == {"topk", "theirs"}

"""What reruns after which change: proven on the real workflow, with a tiny config. The tests run in order."""

import itertools
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from conftest import ROOT, Checkout
from report.site.reading import payload, unpacked
from sae_workflow import recorded
from sae_workflow.housekeeping import Survey

from sae.bank.read import read as read_bank
from sae.config import load as configuration
from sae.core import files, paths
from sae.data import store

pytestmark = pytest.mark.workflow


@pytest.fixture(scope="module")
def done(tmp_path_factory, digits):
    """One finished run of `tiny`, which the tests change step by step."""
    checkout = Checkout(tmp_path_factory.mktemp("done"), digits)
    checkout.snakemake("tiny")
    return checkout


# In the order of the stages.
ORDER = ["dataset", "embed", "train", "score", "robustness", "probe"]
ORDER += ["collect", "tables", "claims", "gallery", "plot", "site"]
# Jobs of one bank, and of all that follows it.
AFTER_TRAINING = dict.fromkeys(ORDER[ORDER.index("train") :], 1) | {"plot": 3}
FINAL = {
    rule: AFTER_TRAINING[rule]
    for rule in ("collect", "tables", "claims", "plot", "site")
}

# What the tests run again: all but tables, figures and the site.
METRICS = "results/tiny/metrics.csv"
CELL = {"experiment": "tiny", "dataset": "digits", "backbone": "tiny", "k": 4}
BANK = paths.BANK.format(**CELL)


def documented(change):
    """The rules that docs/reruns.md says run after a change."""
    rows = re.findall(
        r"^\| (.+?) \| (.*?) \| (.*?) ?\|$", (ROOT / "docs/reruns.md").read_text(), re.M
    )
    ((said,),) = [[jobs] for name, jobs, _ in rows if name.replace("`", "") == change]
    rules = set()
    for part in said.replace("none", "").split(", ") if said != "none" else []:
        first = re.match(r"from (\w+) on", part)
        rules |= set(ORDER[ORDER.index(first[1]) :]) if first else {part}
    return rules


def stored(checkout):
    return {f.name for f in (checkout.folder / "results/store/saes").iterdir()}


def trained(checkout, bank=BANK):
    """Keys of a bank's SAEs."""
    return {
        entry["key"]
        for entry in yaml.safe_load((checkout.folder / bank).read_text())["saes"]
    }


def test_nothing_changed_nothing_runs(done):
    assert set(done.planned()) == documented("nothing") == set()


def test_a_deleted_manifest_of_a_dataset_is_made_again(done):
    manifest = done.folder / paths.DATASET.format(dataset="digits")
    manifest.rename(done.folder / "aside")
    assert set(done.planned()) == documented("a deleted manifest of a dataset")
    (done.folder / "aside").rename(manifest)


def test_housekeeping_knows_every_file_of_a_run(done, monkeypatch):
    monkeypatch.chdir(done.folder)
    survey = Survey(configuration.load(done.config))
    assert (survey.unused, survey.foreign) == ({}, {})
    survey = Survey(
        configuration.load(
            done.config
            | {"experiments": {"smoke": done.config["experiments"]["smoke"]}}
        )
    )
    assert {path.parts[1] for path in survey.unused} == {
        "activations",
        "datasets",
        "store",
        "tiny",
    }
    assert (survey.foreign, survey.unreadable) == ({}, {})


def test_the_site_says_what_the_tables_say(done):
    results, site = done.folder / "results/tiny", done.folder / "results/tiny/report"
    about, sums = (
        payload(site, "overview"),
        json.loads((site / "index.sums.json").read_text()),
    )
    made = {
        path.relative_to(site).as_posix() for path in site.rglob("*") if path.is_file()
    }
    assert made - {"index.sums.json"} == sums.keys() - {"seal"}
    files.check_sums(site / "index.sums.json")
    metrics, trials = (
        pd.read_parquet(results / "metrics.parquet"),
        pd.DataFrame(about["trials"]),
    )
    methods = [method["id"] for method in about["methods"]]
    keys = ["method", "trial", "seed"]
    for split in ("val", "test"):
        rows = metrics[metrics["split"] == split].set_index(keys)
        theirs = trials.assign(
            method=[methods[place] for place in trials["method"]]
        ).set_index(keys)
        for name, column in (
            ("r2", "r2"),
            ("ms", "ms_mean_alive"),
            ("dead_train", "dead_train"),
        ):
            ours = theirs[f"{name}_{split}"].astype(float)
            pd.testing.assert_series_equal(
                ours, rows[column].astype(float).reindex(ours.index), check_names=False
            )
    purity = metrics[metrics["split"] == "test"].set_index(keys)
    assert theirs["purity_test"].to_numpy() == pytest.approx(
        purity["purity_binary"] - purity["purity_binary_null"]
    )
    latents = pd.read_parquet(results / "latents.parquet")
    bank = read_bank(done.folder / BANK)
    test = store.read(done.folder / "results/activations/digits/tiny/test")
    names = payload(site, "images/0")["classes"]
    for number in about["cells"][0]["saes"]:
        sae = about["saes"][number]
        made, key = (
            payload(site, f"saes/{number}"),
            (methods[sae["method"]], sae["trial"], sae["seed"]),
        )
        if not sae["chosen"]:
            # No trial of Reg. 1 reached the baseline's R^2: what is shown has no scores.
            assert methods[sae["method"]] == "reg1" and "ms" not in made["latents"]
            continue
        rows = latents.set_index(keys).loc[[key]].sort_values("latent")
        for name in ("n_active", "ms", "purity"):
            kept = unpacked(made["latents"][name]).astype(float)
            np.testing.assert_array_equal(
                kept, rows[name].to_numpy(np.float32 if name != "n_active" else int)
            )
        assert sae["scores"]["ms"] == purity.loc[key, "ms_mean_alive"]
        places = unpacked(made["latents"]["top_class"])
        classes = [None if place == 2**16 - 1 else names[place] for place in places]
        assert classes == [
            None if pd.isna(name) else name for name in rows["top_class"]
        ]
        # The images of each latent, by codes that are worked out here.
        entry = next(e for e in bank.saes if (e.method, e.name, e.seed) == key)
        coder = bank.open(entry)
        codes = coder.encode(coder.open_inputs(test.embeddings)).by_latent().toarray()
        offsets, image = (
            unpacked(made["codes"]["offsets"]),
            unpacked(made["codes"]["image"]),
        )
        for latent, (start, stop) in enumerate(itertools.pairwise(offsets)):
            fires = np.flatnonzero(codes[:, latent])
            assert (
                image[start:stop].tolist()
                == fires[np.argsort(-codes[fires, latent], kind="stable")].tolist()
            )
    assert {claim["verdict"] for claim in about["claims"]} == {
        "not tested"
    }  # One block.
    assert [row["kind"] for row in about["downloads"]].count(
        "figure"
    ) == AFTER_TRAINING["plot"]
    assert all(
        (site / file["href"]).exists()
        for row in about["downloads"]
        for file in row["files"]
    )
    training = payload(site, "cells/0")["training"]
    assert {(row["method"], row["trial"]) for row in training} == set(
        zip(trials["method"], trials["trial"], strict=True)
    )
    before = {path: path.read_bytes() for path in site.rglob("*") if path.is_file()}
    done.snakemake("results/tiny/report/index.html", "--forcerun", "site")
    assert before == {
        path: path.read_bytes() for path in site.rglob("*") if path.is_file()
    }


def rows_of(checkout):
    """{stage/metric: keys of its stored rows}."""
    folder = (
        checkout.folder
        / Path(paths.ROWS.format(**CELL, stage="score", metric="x")).parent.parent
    )
    files = folder.glob("*/*.parquet")
    return {
        f"{f.parent.name}/{f.stem}": set(pd.read_parquet(f, columns=["key"])["key"])
        for f in files
    }


def test_selection_is_a_file_and_the_ablation_trains_what_it_chose(done):
    selection = pd.read_parquet(done.folder / paths.SELECTION.format(**CELL))
    assert list(selection["method"]) == ["topk", "reg1", "reg2"] and set(
        selection["protocol"]
    ) == {"paper"}
    expected = {
        (f"{row.method}_all", row.trial) for row in selection[1:].dropna().itertuples()
    }
    bank = files.read_json(done.folder / BANK)
    at = [e for e in bank["saes"] if e["method"].endswith("_all")]
    assert (
        expected
        and {(e["method"], paths.trial_name(e["trial"])) for e in at} == expected
    )
    assert {e["settings"]["mask"] for e in at} == {"all"}
    metrics = pd.read_parquet(done.folder / "results/tiny/metrics.parquet")
    ablated = metrics[metrics["method"].str.endswith("_all")]
    assert (
        len(ablated) == 2 * len(expected)
        and ablated["r2"].notna().all()
        and ablated["selected"].all()
    )
    # The largest lambda whose validation R^2 is at least the baseline's, by hand.
    val = metrics[(metrics["split"] == "val") & ~metrics["method"].str.endswith("_all")]
    bar = val.loc[val["method"] == "topk", "r2"].item()
    for method, rows in val[val["method"] != "topk"].groupby("method"):
        acceptable = rows.loc[rows["r2"] >= bar, "lambda"]
        assert rows.loc[rows["selected"], "lambda"].tolist() == (
            [acceptable.max()] if len(acceptable) else []
        ), method


def test_a_comment_and_a_touched_file_rerun_nothing(done):
    done.edit("sae/training/loop.py", "def train(", "# A remark.\ndef train(")
    for file in (
        "sae/training/loop.py",
        "config.yaml",
        "results/activations/digits/tiny/train/embeddings.npy",
    ):
        os.utime(done.folder / file)
    assert (
        set(done.planned())
        == documented("a comment, a docstring, a touched file")
        == set()
    )


def test_a_moved_and_renamed_module_reruns_nothing(done):
    (done.folder / "sae/training/auxk.py").rename(done.folder / "sae/models/dead.py")
    done.edit(
        "sae/training/step.py",
        "from sae.training.auxk import",
        "from sae.models.dead import",
    )
    assert set(done.planned()) == documented("a module moved or renamed") == set()


def test_what_errors_and_logs_say_and_the_core_rerun_nothing(done):
    for file in (done.folder / "sae/core").glob("*.py"):
        said = re.sub(r"(Error\(\s*f?\")", r"\1So: ", file.read_text())
        file.write_text(f"{said}\n\nADDED = 1\n")
    done.edit("sae/training/step.py", 'raise UserError(f"', 'raise UserError(f"So: ')
    done.edit(
        "sae/training/calibrate.py", '"equal activations', '"So: equal activations'
    )
    assert (
        set(done.planned())
        == documented("what an error or a log says; anything in sae/core/")
        == set()
    )


def test_code_is_another_one_until_it_is_recorded(done):
    done.edit(
        "sae/scoring/metrics/firing.py", "VERSION = 1\n", "VERSION = 1\nADDED = 1\n"
    )
    done.edit(
        "sae/training/penalties/off_support_l1.py",
        "VERSION = 1\n",
        "VERSION = 1\nADDED = 1\n",
    )
    assert (
        set(done.planned()) == documented("code of a penalty")
        and done.planned() == AFTER_TRAINING
    )
    command = [
        sys.executable,
        "-m",
        "sae_workflow.versions",
        "metric firing",
        "penalty off_support_l1",
    ]
    said = subprocess.run(
        command,
        cwd=done.folder,
        env=done.environment,
        check=True,
        capture_output=True,
        text=True,
    )
    assert said.stdout.startswith(
        "penalty both: its code is not the one recorded for version 1: if its numbers"
    )
    assert (
        set(done.planned())
        == documented("code that was edited and recorded (make versions)")
        == set()
    )


def test_an_unrelated_key_reruns_nothing(done):
    done.config["experiments"]["demo"]["seeds"] = [7]
    done.config["datasets"]["emoji"]["image_size"] = 32
    done.config["compute"] |= {
        "time_limit": 60,
        "memory_factor": 2,
        "shared": ["elsewhere"],
    }  # Where and how fast.
    done.write()
    assert (
        set(done.planned())
        == documented("a key of config.yaml that the experiment does not use")
        == set()
    )


def test_another_image_makes_its_dataset_anew(done):
    images = done.folder / "digits"
    original = images.resolve()
    images.unlink()
    shutil.copytree(original, images)  # With their times: these are the same.
    shutil.copy(next(images.glob("train/1/*.png")), images / "train/1/one_more.png")
    change = "an image touched, added, removed or replaced by one of another size or time, below a dataset's root"
    assert set(done.planned()) == documented(change)
    shutil.rmtree(images)
    images.symlink_to(original)


@pytest.mark.slow
def test_another_version_of_a_library_reruns_nothing(done):
    newer = done.folder / "torch-99.0.dist-info"  # Found before the real one.
    newer.mkdir()
    (newer / "METADATA").write_text(
        "Metadata-Version: 2.1\nName: torch\nVersion: 99.0\n"
    )
    assert set(done.planned()) == documented("another version of a library") == set()
    before = stored(done)
    done.snakemake(BANK, "--forcerun", "train")
    assert stored(done) == before
    shutil.rmtree(newer)


def changed(done, edit):
    """What would run after a change of the config, which is then taken back."""
    before = yaml.safe_dump(done.config)
    edit(done.config, done.config["experiments"]["tiny"])
    done.write()
    planned = done.planned()
    done.config = yaml.safe_load(before)
    done.experiment = done.config["experiments"]["tiny"]
    done.write()
    return planned


def test_one_more_k_backbone_or_dataset_makes_its_cells(done):
    def k(_, experiment):
        experiment["k"] = [4, 8]

    one = {rule: 1 for rule in AFTER_TRAINING if rule not in ("gallery", "plot")}
    found = changed(done, k)
    assert {rule: found[rule] for rule in one} == one
    assert set(found) == documented("one more k")

    def backbone(config, experiment):
        config["backbones"]["second"] = config["backbones"]["tiny"]
        experiment["backbones"] = ["tiny", "second"]

    found = changed(done, backbone)
    assert {rule: found[rule] for rule in one} == one | {"score": 2} and found[
        "embed"
    ] == 1
    assert set(found) == documented("one more backbone")

    def judge(config, experiment):
        config["backbones"]["second"] = config["backbones"]["tiny"]
        experiment["judges"] = ["second"]

    assert set(changed(done, judge)) == documented("one more judge")

    def dataset(config, experiment):
        config["datasets"]["larger"] = config["datasets"]["digits"] | {"image_size": 40}
        experiment["datasets"] = ["digits", "larger"]

    found = changed(done, dataset)
    assert {rule: found[rule] for rule in one} == one and (
        found["dataset"],
        found["embed"],
    ) == (1, 1)
    assert set(found) == documented("one more dataset")


def test_a_value_of_the_recipe_a_method_and_the_number_of_jobs(done):
    def recipe(config, _):
        config["training"]["tiny"]["lr"] = 0.002

    assert set(changed(done, recipe)) == documented("a value of the training recipe")

    def method(_, experiment):
        experiment["methods"].append("batch_topk")

    assert set(changed(done, method)) == documented("one more method")

    def at_once(config, _):
        config["compute"]["saes_at_once"] = 2

    assert set(changed(done, at_once)) == documented("saes_at_once") == set()


def test_a_figures_code_redraws_that_figure_only(done):
    done.edit("sae/report/figures/sweep.py", "alpha=0.85", "alpha=0.8")
    assert done.planned() == {"plot": 1, "site": 1}
    assert documented("code of a figure") == {"plot", "site"}


def test_the_rule_of_the_claims_judges_again(done):
    done.config["claims"]["margin_r2"] = 0.01
    done.write()
    assert done.planned() == {
        "claims": 1,
        "tables": 1,
        "site": 1,
        "plot": 1,
    }  # The plot is that of the test before.
    assert documented("claims") == {"claims", "tables", "site"}


def test_the_probes_settings_run_the_probes(done):
    done.config["metrics"]["probe"]["max_passes"] = 50
    done.write()
    assert done.planned() == {"probe": 1, "probe_embeddings": 1} | FINAL | {
        "plot": 2
    }  # All but the gallery.
    assert documented("options of the metric probe") == {
        "probe",
        "probe_embeddings",
        *FINAL,
    }


def test_a_metrics_code_computes_that_metric_alone(done):
    done.snakemake(METRICS)
    before, files = rows_of(done), done.results()
    done.edit(
        "sae/scoring/metrics/purity.py", "_PERMUTATIONS = 20", "_PERMUTATIONS = 19"
    )
    assert done.planned(METRICS) == {"score": 1, "collect": 1}
    assert set(done.planned()) == documented(
        "code of a metric of all SAEs, such as purity"
    )
    done.snakemake(METRICS)
    after = rows_of(done)
    assert {name for name in after if after[name] != before[name]} == {"score/purity"}
    name = "scores/digits/tiny/k4/probe/metrics.parquet"
    assert done.results()[name] == files[name]


@pytest.mark.slow
def test_a_new_metric_computes_itself_alone(done):
    (done.folder / "mine/metrics").mkdir(parents=True)
    (done.folder / "mine/metrics/width.py").write_text(WIDTH)
    done.config |= {
        "extensions": "mine",
        "metrics": done.config["metrics"] | {"width": {"factor": 2.0}},
    }
    done.write()
    assert set(done.planned()) == documented("one more metric")
    before = rows_of(done)
    done.snakemake(METRICS)
    after = rows_of(done)
    assert {name: after.pop(name) for name in before} == before
    assert set(after) == {"score/width"}
    metrics = pd.read_csv(done.folder / METRICS)
    assert (metrics["width"] == 64).all()  # 2.0 x m


WIDTH = '''"""The size of the dictionary."""

from sae.core.options import Options as Base

STAGE = "score"
SPLITS = ("val", "test")
READS = ()


class Options(Base):
    factor: float


def score(subject, split, options):
    return {"width": options.factor * subject.coder.m}
'''


@pytest.mark.slow
def test_one_more_lambda_trains_one_sae(done):
    before, files = trained(done), done.results()
    rows = rows_of(done)
    done.experiment["sweep"]["reg1"]["lambda"] = [0.0001, 0.001, 0.01]
    done.write()
    assert done.planned() == AFTER_TRAINING
    assert documented("one more value of a sweep") == set(AFTER_TRAINING)
    done.snakemake(METRICS)
    assert len(trained(done) - before) == 1 and before <= trained(done)
    assert all(
        rows[name] <= found
        for name, found in rows_of(done).items()
        if name.startswith("score/")
    )
    kept = {
        name: content
        for name, content in files.items()
        if name.startswith("saes/") and "_all/" not in name
    }
    assert kept and {name: done.results()[name] for name in kept} == kept


@pytest.mark.slow
def test_one_more_seed_trains_its_saes_only(done, monkeypatch):
    monkeypatch.chdir(done.folder)
    before = trained(done)
    done.experiment["seeds"] = [0, 1]
    done.write()
    assert set(done.planned()) == documented("one more seed") == set(AFTER_TRAINING)
    (done.folder / "mine.yaml").write_text("experiments: {tiny: {description: mine}}")
    done.snakemake(BANK, "--configfile", "mine.yaml")
    assert len(trained(done) - before) == 6 and before <= trained(done)
    # What is not config.yaml alone is recorded, for `make prune` to know.
    ((_, configfiles, config),) = recorded.read()
    assert "mine.yaml" in configfiles and config.experiments["tiny"].seeds == [0, 1]
    assert config.experiments["tiny"].description == "mine"


@pytest.mark.slow
def test_a_deleted_link_is_restored_and_a_damaged_sae_is_named(done):
    sae = next((done.folder / "results/tiny/saes").glob("**/topk/**/sae.safetensors"))
    assert sae.is_symlink() and not os.path.isabs(os.readlink(sae))
    sae.unlink()
    scores = paths.STAGE_TABLE.format(**CELL, stage="score", table="metrics")
    shutil.rmtree(
        (done.folder / scores).parent.parent / ".rows/score"
    )  # Else no SAE is read.
    done.snakemake(scores, "--forcerun", "score")
    assert sae.exists()
    content = sae.read_bytes()
    sae.resolve().write_bytes(content[:-8])
    shutil.rmtree((done.folder / scores).parent.parent / ".rows/score")
    output = done.snakemake(scores, "--forcerun", "score", ok=False)
    assert re.search(r"error: .*sae\.safetensors was altered or cut short", output)
    (done.folder / BANK).unlink()
    done.snakemake(scores)  # As the message says; the damaged SAE is trained again.
    assert sae.read_bytes() == content


@pytest.mark.slow
def test_deleted_embeddings_are_made_again_when_needed_and_nothing_is_retrained(done):
    before = stored(done)
    folder = done.folder / "results/activations/digits/tiny/train"
    content = (folder / "embeddings.npy").read_bytes()
    (folder / "embeddings.npy").unlink()
    assert done.planned(BANK) == {}
    (folder / "manifest.json").unlink()
    done.snakemake(str((folder / "manifest.json").relative_to(done.folder)), BANK)
    assert (folder / "embeddings.npy").read_bytes() == content and stored(
        done
    ) == before


def test_training_code_retrains_and_touches_no_embedding(done):
    done.edit("sae/training/loop.py", "DIVERGED_AT = 100.0", "DIVERGED_AT = 101.0")
    assert set(done.planned()) == documented("code of training")
    assert done.planned() == AFTER_TRAINING


@pytest.mark.slow
def test_a_diverged_sae_is_recorded_and_its_siblings_finish(done):
    done.experiment |= {
        "methods": ["topk", "reg1"],
        "sweep": {"reg1": {"lambda": [0.001], "lr": [0.005, 10.0]}},
        "seeds": [0],
    }
    done.write()
    output = done.snakemake(METRICS)
    assert re.search(r"reg1 lambda0.001-lr10 seed 0: DIVERGED by step \d+", output)
    bank = files.read_json(done.folder / BANK)
    assert [s["status"] for s in bank["saes"]] == ["ok", "ok", "diverged"]


@pytest.mark.slow
def test_an_experiment_without_any_regularizer_goes_the_whole_way(done):
    done.experiment |= {"methods": ["topk", "batch_topk"], "sweep": {}}
    done.write()
    done.snakemake("tiny")
    metrics = pd.read_csv(done.folder / METRICS)
    assert (
        set(metrics["method"]) == {"topk", "batch_topk"}
        and metrics["penalty"].isna().all()
    )
    assert (abs(metrics.loc[metrics["method"] == "batch_topk", "l0"] - 4) < 1).all()

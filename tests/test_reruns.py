"""What reruns after which change: proven on the real workflow, with a tiny config. The tests run in order."""

import os
import re
import shutil

import pandas as pd
import pytest
import yaml
from conftest import ROOT, Checkout
from sae_workflow.housekeeping import Survey

pytestmark = pytest.mark.workflow


@pytest.fixture(scope="module")
def done(tmp_path_factory, digits):
    """One finished run of `tiny`, which the tests change step by step."""
    checkout = Checkout(tmp_path_factory.mktemp("done"), digits)
    checkout.snakemake("tiny")
    return checkout


AFTER_TRAINING = {"train": 1, "score": 1, "ablate": 1, "evaluate": 1, "collect": 1}
AFTER_TRAINING |= {"table": 4, "claims": 1, "gallery": 1, "plot": 7, "page": 1}


# What the tests run again: all but tables, figures and the page.
METRICS = "results/tiny/metrics.csv"
BANK = "results/tiny/saes/digits/tiny/k4/bank.json"


ORDER = [
    "dataset",
    "embed",
    "train",
    "score",
    "ablate",
    "evaluate",
    "collect",
    "table",
    "claims",
    "gallery",
    "plot",
    "page",
]


def documented(change):
    """The rules that docs/reruns.md says run after a change."""
    rows = re.findall(r"^\| (.+?) \| (.*?) \| (.*?) ?\|$", (ROOT / "docs/reruns.md").read_text(), re.M)
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
    return {entry["key"] for entry in yaml.safe_load((checkout.folder / bank).read_text())["saes"]}


def test_nothing_changed_nothing_runs(done):
    assert set(done.planned()) == documented("nothing") == set()


def test_housekeeping_knows_every_file_of_a_run(done, monkeypatch):
    monkeypatch.chdir(done.folder)
    survey = Survey(done.config)
    assert (survey.unused, survey.foreign) == ({}, {})
    survey = Survey(done.config | {"experiments": {}})
    assert {path.parts[1] for path in survey.unused} == {"activations", "datasets", "store", "tiny"}
    assert (survey.foreign, survey.unreadable) == ({}, {})


def test_the_page_shows_everything_and_loads_nothing(done):
    page = (done.folder / "results/tiny/report/index.html").read_text()
    assert not re.search(r"(src|href)=.(?!data:|#)", page) and "url(" not in page and "@import" not in page
    assert page.count("data:image/png;base64,") == AFTER_TRAINING["plot"]
    titles = re.findall(r"<h3>(Table \d)", page)
    assert titles == [f"Table {n}" for n in range(1, 5)]
    assert page.count("not tested here") >= 20  # one block: no claim can be judged
    assert "Reg. 2 raises mean MS" in page and "test_efficientnet" in page


def test_the_ablation_trains_the_chosen_saes_without_the_mask(done):
    bank = yaml.safe_load((done.folder / BANK.replace("bank", "bank_all")).read_text())
    metrics = pd.read_parquet(done.folder / "results/tiny/metrics.parquet")
    chosen = metrics[(metrics["split"] == "val") & metrics["selected"] & (metrics["mask"] == "batch_active")]
    chosen = chosen[chosen["regularizer"] != "none"]
    expected = set(zip(chosen["regularizer"], chosen["lambda"], strict=True))
    assert expected and {(e["regularizer"], e["lambda"]) for e in bank["saes"]} == expected
    assert {e["mask"] for e in bank["saes"]} == {"all"}
    ablated = metrics[metrics["mask"] == "all"]
    assert len(ablated) == 2 * len(expected) and ablated["r2"].notna().all() and ablated["selected"].all()


def test_a_comment_and_a_touched_file_rerun_nothing(done):
    done.edit("sae/train.py", "def train(x,", "# A remark.\ndef train(x,")
    for file in ("sae/train.py", "config.yaml", "results/activations/digits/tiny/train/embeddings.npy"):
        os.utime(done.folder / file)
    assert set(done.planned()) == documented("a comment, a docstring, a touched file") == set()


def test_an_unrelated_key_reruns_nothing(done):
    done.config["experiments"]["demo"]["seeds"] = [7]
    done.config["datasets"]["emoji"]["image_size"] = 32
    done.config["compute"] |= {"time_limit": 60, "memory_factor": 2, "shared": ["elsewhere"]}  # Where and how fast.
    done.write()
    assert set(done.planned()) == documented("a key of config.yaml that the experiment does not use") == set()


def test_another_version_of_a_library_reruns_nothing(done):
    newer = done.folder / "torch-99.0.dist-info"  # Found before the real one.
    newer.mkdir()
    (newer / "METADATA").write_text("Metadata-Version: 2.1\nName: torch\nVersion: 99.0\n")
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

    one = {rule: 1 for rule in ("train", "score", "ablate", "evaluate", "collect", "claims", "page")}
    found = changed(done, k)
    assert {rule: found[rule] for rule in one} == one and found["table"] == 4
    assert set(found) == documented("one more k")

    def backbone(config, experiment):
        config["backbones"]["second"] = config["backbones"]["tiny"]
        experiment["backbones"] = ["tiny", "second"]

    found = changed(done, backbone)
    assert {rule: found[rule] for rule in one} == one | {"evaluate": 2} and found["embed"] == 1
    assert set(found) == documented("one more backbone")

    def dataset(config, experiment):
        config["datasets"]["larger"] = config["datasets"]["digits"] | {"image_size": 40}
        experiment["datasets"] = ["digits", "larger"]

    found = changed(done, dataset)
    assert {rule: found[rule] for rule in one} == one and (found["dataset"], found["embed"]) == (1, 1)
    assert set(found) == documented("one more dataset")


def test_a_value_of_the_recipe_and_the_number_of_jobs(done):
    def recipe(config, _):
        config["training"]["tiny"]["lr"] = 0.002

    assert set(changed(done, recipe)) == documented("a value of the training recipe")

    def parts(config, _):
        config["compute"]["saes_per_job"] = 2

    found = changed(done, parts)
    assert found["train_part"] == 3
    assert set(found) - {"train_part"} == documented("more saes_per_job or embed_shards")


def test_a_plots_code_redraws_that_figure_only(done):
    done.edit("sae/plots/lambda_sweep.py", "alpha=0.85", "alpha=0.8")
    assert done.planned() == {"plot": 1, "page": 1}
    assert documented("code of a figure") == {"plot", "page"}


def test_the_rule_of_the_claims_judges_again(done):
    done.config["claims"]["margin_r2"] = 0.01
    done.write()
    assert done.planned() == {"plot": 1, "claims": 1, "page": 1}
    assert documented("claims") == {"plot", "claims", "page"}


def test_the_probes_settings_train_nothing(done):
    done.config["probe"]["max_iter"] = 50
    done.write()
    evaluated = {"evaluate": 1, "probe_embeddings": 1, "collect": 1}
    made = {
        name: count for name, count in AFTER_TRAINING.items() if name in ("table", "claims", "gallery", "plot", "page")
    }
    assert done.planned() == evaluated | made
    assert documented("probe") == set(evaluated | made)


def test_one_more_lambda_trains_one_sae(done):
    before, files = trained(done), done.results()
    done.experiment["lambdas"]["off_support_l1"] = [0.0001, 0.001, 0.01]
    done.write()
    assert done.planned() == AFTER_TRAINING | {"probe_embeddings": 1}
    assert documented("one more lambda") == set(AFTER_TRAINING)
    done.snakemake(METRICS)
    assert len(trained(done) - before) == 1 and before <= trained(done)
    kept = {name: content for name, content in files.items() if "/batch_active/" in name}
    assert kept and {name: done.results()[name] for name in kept} == kept


def test_one_more_seed_trains_its_saes_only(done):
    before = trained(done)
    done.experiment["seeds"] = [0, 1]
    done.write()
    assert set(done.planned()) == documented("one more seed") == set(AFTER_TRAINING)
    done.snakemake(METRICS)
    assert len(trained(done) - before) == 6 and before <= trained(done)


def test_a_deleted_link_is_restored_and_a_damaged_sae_is_named(done):
    sae = next((done.folder / "results/tiny/saes").glob("**/none/**/sae.safetensors"))
    assert sae.is_symlink() and not os.path.isabs(os.readlink(sae))
    sae.unlink()
    scores = "results/tiny/scores/digits/tiny/k4/scores.parquet"
    done.snakemake(scores, "--forcerun", "score")
    assert sae.exists()
    content = sae.read_bytes()
    sae.resolve().write_bytes(content[:-8])
    output = done.snakemake(scores, "--forcerun", "score", ok=False)
    assert re.search(r"error: .*sae\.safetensors was altered or cut short", output)
    (done.folder / BANK).unlink()
    done.snakemake(scores)  # As the message says; the damaged SAE is trained again.
    assert sae.read_bytes() == content


def test_deleted_embeddings_are_made_again_when_needed_and_nothing_is_retrained(done):
    before = stored(done)
    folder = done.folder / "results/activations/digits/tiny/train"
    content = (folder / "embeddings.npy").read_bytes()
    (folder / "embeddings.npy").unlink()
    assert done.planned(BANK) == {}
    (folder / "manifest.json").unlink()
    done.snakemake(str((folder / "manifest.json").relative_to(done.folder)), BANK)
    assert (folder / "embeddings.npy").read_bytes() == content and stored(done) == before


def test_training_code_retrains_and_touches_no_embedding(done):
    done.edit("sae/train.py", "DIVERGED_AT = 100.0", "DIVERGED_AT = 101.0")
    assert set(done.planned()) == documented("code of training")
    assert done.planned() == AFTER_TRAINING
    before = stored(done)
    done.snakemake(BANK)
    assert len(trained(done) - before) == 12 == len(trained(done))  # 2 seeds x (1 baseline + 3 + 2 lambdas)


def test_a_diverged_sae_is_recorded_and_its_siblings_finish(done):
    done.experiment |= {"lambdas": {"off_support_l1": [0.001, 1.0e39]}, "seeds": [0]}
    done.write()
    output = done.snakemake(METRICS)
    assert re.search(r"off_support_l1 lambda 1e\+39 .*DIVERGED by step \d+", output)
    bank = yaml.safe_load((done.folder / BANK).read_text())
    assert [s["status"] for s in bank["saes"]] == ["ok", "ok", "diverged"]
    log = (done.folder / "results/tiny/logs/train/digits/tiny/k4.log").read_text()
    assert '"lam":1e+39' in log

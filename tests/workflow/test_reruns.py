"""Hold every row of the table in docs/reruns.md: what reruns after which change.

Most rows are held without a run: a change is made to the config, the code or a file of
a checkout, and all that Snakemake compares of each job is read before and after it
(`support.planned_jobs`). The others, and that this derivation agrees with Snakemake,
are held on copies of one finished run. No test depends on another one.
"""

import copy
import itertools
import json
import os
import re
import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from conftest import ROOT, Checkout
from report.site.reading import payload, unpacked
from sae_workflow import recorded_configs
from sae_workflow.housekeeping import Survey
from support.planned_jobs import jobs_that_run, read_jobs, reader

from sae.bank.read import read as read_bank
from sae.config.load import load_config
from sae.core import files, paths
from sae.data import store

pytestmark = pytest.mark.workflow

# In the order of the stages.
ORDER = [
    *("dataset", "embed", "train", "score", "robustness", "probe"),
    *("collect", "tables", "claims", "gallery", "plot", "site"),
]
# Jobs of one bank, and of all that follows it.
AFTER_TRAINING = {**dict.fromkeys(ORDER[ORDER.index("train") :], 1), "plot": 3}

# What is run again here: all but tables, figures and the site.
METRICS = "results/tiny/metrics.csv"
CELL = {"experiment": "tiny", "dataset": "digits", "backbone": "tiny", "k": 4}
BANK = paths.BANK.format(**CELL)
SCORES = paths.STAGE_TABLE.format(**CELL, stage="score", table="metrics")
CHECKPOINT = "digits/backbone.safetensors"


# The table


def documented_rows():
    """Read {change: the jobs that run, in words} from the table in docs/reruns.md."""
    table = (ROOT / "docs/reruns.md").read_text().partition("\n| change |")[2]
    rows = re.findall(r"^\| (.+?) \| (.*?) \| .*\|$", table.partition("\n\n")[0], re.M)
    return {change.replace("`", ""): jobs for change, jobs in rows}


def rules_in(words):
    """Read the rules that a cell of the table names."""
    if words == "none":
        return set()
    rules = set()
    for part in words.split(", "):
        first = re.fullmatch(r"from (\w+) on", part)
        if first:
            rules.update(ORDER[ORDER.index(first[1]) :])
        else:
            rules.add(part)
    return rules


def documented_rules(change):
    """Return the rules that docs/reruns.md says run after a change."""
    return rules_in(documented_rows()[change])


# Changes of the config


def change_a_claim(config, experiment):
    config["claims"]["margin_r2"] = 0.01


def change_the_confidence(config, experiment):
    config["claims"]["confidence"] = 0.9


def change_the_probe(config, experiment):
    config["metrics"]["probe"]["max_passes"] = 50


def change_what_the_experiment_does_not_use(config, experiment):
    config["experiments"]["demo"]["seeds"] = [7]
    config["datasets"]["emoji"]["image_size"] = 32
    # Where and how fast.
    config["compute"]["time_limit"] = 60
    config["compute"]["memory_factor"] = 2
    config["compute"]["shared"] = ["elsewhere"]


def change_the_recipe(config, experiment):
    config["training"]["tiny"]["lr"] = 0.002


def add_a_lambda(config, experiment):
    experiment["sweep"]["reg1"]["lambda"].append(0.01)


def add_a_method(config, experiment):
    experiment["methods"].append("batch_topk")


def add_a_seed(config, experiment):
    experiment["seeds"] = [0, 1]


def add_a_k(config, experiment):
    experiment["k"] = [4, 8]


def add_a_backbone(config, experiment):
    config["backbones"]["second"] = config["backbones"]["tiny"]
    experiment["backbones"] = ["tiny", "second"]


def add_a_judge(config, experiment):
    config["backbones"]["second"] = config["backbones"]["tiny"]
    experiment["judges"] = ["second"]


def add_a_dataset(config, experiment):
    config["datasets"]["larger"] = {**config["datasets"]["digits"], "image_size": 40}
    experiment["datasets"] = ["digits", "larger"]


def train_two_at_once(config, experiment):
    config["compute"]["saes_at_once"] = 2


def embed_in_two_jobs(config, experiment):
    config["compute"]["embed_shards"] = 2


CONFIG_CHANGES = [
    ("claims", change_a_claim),
    ("claims.confidence", change_the_confidence),
    ("options of the metric probe", change_the_probe),
    (
        "a key of config.yaml that the experiment does not use",
        change_what_the_experiment_does_not_use,
    ),
    ("a value of the training recipe", change_the_recipe),
    ("one more value of a sweep", add_a_lambda),
    ("one more method", add_a_method),
    ("one more seed", add_a_seed),
    ("one more k", add_a_k),
    ("one more backbone", add_a_backbone),
    ("one more judge", add_a_judge),
    ("one more dataset", add_a_dataset),
    ("saes_at_once", train_two_at_once),
    ("embed_shards", embed_in_two_jobs),
]


@pytest.fixture(scope="module")
def config_reader():
    """Start a process that reads code once, for checkouts whose code is as it was."""
    with reader() as process:
        yield process


@pytest.fixture(scope="module")
def code_reader():
    """Start processes that each read the code of one checkout."""
    with reader(calls_per_process=1) as process:
        yield process


@pytest.fixture(scope="module")
def unchanged(tmp_path_factory, digits):
    """Make a checkout without results, of which only the config is written anew."""
    return Checkout(tmp_path_factory.mktemp("unchanged"), digits)


@pytest.fixture(scope="module")
def jobs_with(unchanged, config_reader):
    """Return a function that reads the jobs of `tiny` after a change of the config."""
    as_it_is = copy.deepcopy(unchanged.config)

    def jobs_with(change):
        unchanged.config = copy.deepcopy(as_it_is)
        change(unchanged.config, unchanged.config["experiments"]["tiny"])
        unchanged.write()
        return config_reader.submit(read_jobs, unchanged.folder, "tiny").result()

    return jobs_with


@pytest.fixture(scope="module")
def jobs_by_files(config_reader):
    """Return a function that reads the jobs of a checkout whose code is as it was."""

    def jobs_by_files(checkout):
        return config_reader.submit(read_jobs, checkout.folder, "tiny").result()

    return jobs_by_files


@pytest.fixture(scope="module")
def jobs_before(jobs_with):
    """Read the jobs of `tiny` by the config and the code as they are."""
    return jobs_with(lambda config, experiment: None)


def rules_of(jobs):
    return {job.rule for job in jobs}


def count_rules(jobs):
    return Counter(job.rule for job in jobs)


@pytest.mark.parametrize(("row", "change"), CONFIG_CHANGES)
def test_a_change_of_the_config(row, change, jobs_with, jobs_before):
    running = jobs_that_run(jobs_before, jobs_with(change))
    assert rules_of(running) == documented_rules(row)


def test_other_concepts_are_scored_anew_and_nothing_is_trained(jobs_with, tmp_path):
    file = tmp_path / "mine.csv"

    def score_concepts(config, experiment):
        config["metrics"]["concepts"] = {}
        config["datasets"]["digits"]["concepts"] = str(file)

    file.write_text("image,concept\n")
    before = jobs_with(score_concepts)
    row = "another source of a dataset's concepts, or another CSV"
    file.write_text("image,concept\n0/a.png,round\n")
    assert rules_of(jobs_that_run(before, jobs_with(score_concepts))) == (
        documented_rules(row)
    )

    def score_classes(config, experiment):
        config["metrics"]["concepts"] = {}

    after = jobs_with(score_classes)
    assert rules_of(jobs_that_run(before, after)) == documented_rules(row)


def test_what_is_added_makes_its_own_cells_and_leaves_the_others(
    jobs_with, jobs_before
):
    in_a_cell = ("train", "score", "robustness", "probe")
    for change, also in (
        (add_a_k, {}),
        (add_a_backbone, {"score": 2, "embed": 1}),  # The other cell has a judge more.
        (add_a_dataset, {"dataset": 1, "embed": 1}),
    ):
        running = jobs_that_run(jobs_before, jobs_with(change))
        once = dict.fromkeys((*in_a_cell, "collect", "tables", "site"), 1)
        expected = {**once, **also}
        counts = count_rules(running)
        assert {rule: counts[rule] for rule in expected} == expected


# Changes of the code


def append_code(checkout, *files):
    """Append a statement to files of code."""
    for file in files:
        path = checkout.folder / file
        path.write_text(f"{path.read_text()}\n\nADDED = 1\n")


A_METRICS_CODE = "code of a metric of all SAEs, such as purity"
CODE_CHANGES = {
    "code of training": "sae/training/loop.py",
    "code of a protocol": "sae/protocols/paper.py",
}


@pytest.fixture(scope="module")
def jobs_of(code_reader):
    """Return a function that reads the jobs of a checkout whose code was changed."""

    def jobs_of(checkout):
        return code_reader.submit(read_jobs, checkout.folder, "tiny").result()

    return jobs_of


@pytest.mark.parametrize("row", CODE_CHANGES)
def test_a_change_of_the_code(row, make_checkout, jobs_of, jobs_before):
    checkout = make_checkout()
    append_code(checkout, CODE_CHANGES[row])
    running = jobs_that_run(jobs_before, jobs_of(checkout))
    assert rules_of(running) == documented_rules(row)


def test_the_code_of_a_figure_redraws_that_figure_alone(
    make_checkout, jobs_of, jobs_before
):
    checkout = make_checkout()
    append_code(checkout, "sae/report/figures/sweep.py")
    running = jobs_that_run(jobs_before, jobs_of(checkout))
    assert sorted(job.rule for job in running) == ["plot", "site"]
    assert documented_rules("code of a figure") == {"plot", "site"}


def test_code_that_says_the_same_reruns_nothing(make_checkout, jobs_of, jobs_before):
    """Hold three rows: comments and docstrings, a moved module, words and sae/core."""
    checkout = make_checkout()
    checkout.edit("sae/training/loop.py", "def train(", "# A remark.\ndef train(")
    checkout.edit("sae/training/loop.py", '"""', '"""Oh! ')

    module = checkout.folder / "sae/models/sizes.py"
    module.rename(checkout.folder / "sae/data/amounts.py")
    readers = [f"sae/models/{name}.py" for name in ("apply", "coder", "inputs")]
    for file in [*readers, "workflow/sae_workflow/forecast.py"]:
        checkout.edit(
            file,
            "from sae.models.sizes import",
            "from sae.data.amounts import",
        )

    for file in (checkout.folder / "sae/core").glob("*.py"):
        text = re.sub(r"(Error\(\s*f?\")", r"\1So: ", file.read_text())
        file.write_text(f"{text}\n\nADDED = 1\n")
    checkout.edit(
        "sae/training/step.py", 'raise UserError(f"', 'raise UserError(f"So: '
    )
    checkout.edit(
        "sae/training/calibrate.py", '"equal activations', '"So: equal activations'
    )

    assert jobs_that_run(jobs_before, jobs_of(checkout)) == []
    for row in (
        "a comment, a docstring, a touched file",
        "a module moved or renamed",
        "what an error or a log says; anything in sae/core/",
    ):
        assert documented_rules(row) == set()


@pytest.mark.slow
def test_code_that_was_edited_counts_until_it_is_recorded(
    make_checkout, jobs_of, jobs_before
):
    checkout = make_checkout()
    append_code(
        checkout,
        "sae/scoring/metrics/firing.py",
        "sae/training/penalties/off_support_l1.py",
    )
    running = jobs_that_run(jobs_before, jobs_of(checkout))
    assert count_rules(running) == AFTER_TRAINING
    assert documented_rules("code of a penalty") == set(AFTER_TRAINING)

    names = ("metric firing", "penalty off_support_l1")
    recording = checkout.run("-m", "sae_workflow.versions", *names)
    assert recording.returncode == 0, recording.stderr
    # What uses it waits for a word of its own.
    assert recording.stdout.startswith(
        "penalty both: its code is not the one recorded for version 1: if its numbers"
    )
    assert jobs_that_run(jobs_before, jobs_of(checkout)) == []
    row = "code that was edited and recorded (make versions)"
    assert documented_rules(row) == set()


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


def add_a_metric(checkout):
    (checkout.folder / "mine/metrics").mkdir(parents=True)
    (checkout.folder / "mine/metrics/width.py").write_text(WIDTH)
    checkout.config["extensions"] = "mine"
    checkout.config["metrics"]["width"] = {"factor": 2.0}
    checkout.write()


def test_one_more_metric(make_checkout, jobs_by_files):
    checkout = make_checkout()
    before = jobs_by_files(checkout)
    add_a_metric(checkout)
    running = jobs_that_run(before, jobs_by_files(checkout))
    assert rules_of(running) == documented_rules("one more metric")


# Changes of files from elsewhere

AN_IMAGE = (
    "an image touched, added, removed or replaced by one of another size or time,"
    " below a dataset's root"
)
LOCAL_WEIGHTS = (
    "given embeddings or local weights touched or replaced by ones of another size or"
    " time"
)
AN_IMPORTED_SAE = "an imported SAE touched or replaced by one of another size or time"
# Of a dataset without images.
GIVEN_FILES = [
    (LOCAL_WEIGHTS, "ours/train.npy"),
    ("another validation split, the training images unchanged", "ours/val.npy"),
    ("a table's CSV touched or replaced by one of another size or time", "test.csv"),
]


def copy_images(checkout):
    """Give a checkout a copy of the images, with their times; returns its folder."""
    images = checkout.folder / "digits"
    shared = images.resolve()
    images.unlink()
    return shutil.copytree(shared, images)


def test_an_image_below_a_datasets_root(make_checkout, jobs_of, jobs_before):
    checkout = make_checkout()
    image = next(copy_images(checkout).glob("train/1/*.png"))
    shutil.copy(image, image.with_name("one_more.png"))
    running = jobs_that_run(jobs_before, jobs_of(checkout))
    assert rules_of(running) == documented_rules(AN_IMAGE)


def test_local_weights(make_checkout, jobs_by_files):
    checkout = make_checkout()
    shutil.copy(checkout.folder / CHECKPOINT, checkout.folder / "mine.safetensors")
    checkout.config["backbones"]["tiny"]["checkpoint"] = "mine.safetensors"
    checkout.write()
    before = jobs_by_files(checkout)
    os.utime(checkout.folder / "mine.safetensors", (1, 1))
    running = jobs_that_run(before, jobs_by_files(checkout))
    assert rules_of(running) == documented_rules(LOCAL_WEIGHTS)


@pytest.mark.parametrize(("row", "file"), GIVEN_FILES)
def test_given_files(row, file, make_checkout, jobs_by_files):
    checkout = make_checkout()
    folder = checkout.give_embeddings()
    before = jobs_by_files(checkout)
    os.utime(folder / file, (1, 1))
    running = jobs_that_run(before, jobs_by_files(checkout))
    # Without images there is no gallery.
    assert rules_of(running) == documented_rules(row) - {"gallery"}


def test_an_imported_sae(make_checkout, jobs_by_files):
    checkout = make_checkout()
    (checkout.folder / "theirs.safetensors").write_bytes(b"")
    checkout.config["methods"]["theirs"] = {"import": "theirs.safetensors"}
    checkout.experiment["methods"].append("theirs")
    checkout.write()
    before = jobs_by_files(checkout)
    os.utime(checkout.folder / "theirs.safetensors", (1, 1))
    running = jobs_that_run(before, jobs_by_files(checkout))
    assert rules_of(running) == documented_rules(AN_IMPORTED_SAE)


# On a finished run


@pytest.fixture(scope="module")
def finished_run(tmp_path_factory, digits):
    """Finish a run of `tiny`, which no test changes."""
    checkout = Checkout(tmp_path_factory.mktemp("finished"), digits)
    checkout.snakemake("tiny", "--cores", "2")
    return checkout


@pytest.fixture
def run_copy(finished_run, make_checkout):
    """Copy the finished run, to change it."""
    checkout = make_checkout("run_copy")
    for folder in ("results", ".snakemake"):
        source = finished_run.folder / folder
        shutil.copytree(source, checkout.folder / folder, symlinks=True)
    return checkout


def stored(checkout):
    return {file.name for file in (checkout.folder / "results/store/saes").iterdir()}


def trained(checkout, bank=BANK):
    """Return the keys of a bank's SAEs."""
    entries = yaml.safe_load((checkout.folder / bank).read_text())["saes"]
    return {entry["key"] for entry in entries}


def rows_of(checkout):
    """Read {stage/metric: keys of its stored rows}."""
    row_file = Path(paths.ROWS.format(**CELL, stage="score", metric="x"))
    folder = checkout.folder / row_file.parent.parent
    keys_by_metric = {}
    for file in folder.glob("*/*.parquet"):
        keys = pd.read_parquet(file, columns=["key"])["key"]
        keys_by_metric[f"{file.parent.name}/{file.stem}"] = set(keys)
    return keys_by_metric


def change_config(checkout, change):
    change(checkout.config, checkout.experiment)
    checkout.write()


@pytest.mark.parametrize(
    "change",
    [change_the_probe, pytest.param(add_a_backbone, marks=pytest.mark.slow)],
)
def test_snakemake_runs_what_is_derived(change, run_copy, jobs_with, jobs_before):
    running = jobs_that_run(jobs_before, jobs_with(change))
    change_config(run_copy, change)
    assert run_copy.planned() == count_rules(running)


def test_nothing_runs_where_nothing_changed_or_a_link_or_embeddings_are_gone(run_copy):
    embeddings = run_copy.folder / "results/activations/digits/tiny"
    touched = ("sae/training/loop.py", "config.yaml", embeddings / "val/embeddings.npy")
    for file in touched:
        os.utime(run_copy.folder / file)
    link = next((run_copy.folder / "results/tiny/saes").glob("**/sae.safetensors"))
    link.unlink()
    (embeddings / "train/embeddings.npy").unlink()
    assert run_copy.planned() == {}
    touched_file = "a comment, a docstring, a touched file"
    for row in ("nothing", touched_file, "a deleted SAE link"):
        assert documented_rules(row) == set()
    assert documented_rows()["deleted embeddings"].startswith("none; ")


DELETED_FILES = [
    ("a deleted manifest of a dataset", paths.DATASET.format(dataset="digits")),
    ("a deleted bank.json", BANK),
]


@pytest.mark.parametrize(("row", "file"), DELETED_FILES)
def test_a_deleted_file(row, file, run_copy):
    (run_copy.folder / file).unlink()
    assert set(run_copy.planned()) == documented_rules(row)


@pytest.mark.slow
def test_a_metrics_code_computes_that_metric_alone(run_copy, jobs_of, jobs_before):
    rows_before = rows_of(run_copy)
    results_before = run_copy.results()
    run_copy.edit(
        "sae/scoring/metrics/purity.py", "_PERMUTATIONS = 20", "_PERMUTATIONS = 19"
    )

    running = jobs_that_run(jobs_before, jobs_of(run_copy))
    assert rules_of(running) == documented_rules(A_METRICS_CODE)
    assert run_copy.planned() == count_rules(running)

    run_copy.snakemake(METRICS)
    rows = rows_of(run_copy)
    changed = {name for name in rows if rows[name] != rows_before[name]}
    assert changed == {"score/purity"}
    name = "scores/digits/tiny/k4/probe/metrics.parquet"
    assert run_copy.results()[name] == results_before[name]


@pytest.mark.slow
def test_a_new_metric_computes_itself_alone(run_copy):
    before = rows_of(run_copy)
    add_a_metric(run_copy)
    run_copy.snakemake(METRICS)
    after = rows_of(run_copy)
    assert {name: after.pop(name) for name in before} == before
    assert set(after) == {"score/width"}
    metrics = pd.read_csv(run_copy.folder / METRICS)
    assert (metrics["width"] == 64).all()  # 2.0 x m


@pytest.mark.slow
def test_one_more_lambda_trains_one_sae(run_copy):
    trained_before = trained(run_copy)
    results_before = run_copy.results()
    rows_before = rows_of(run_copy)
    change_config(run_copy, add_a_lambda)
    assert run_copy.planned() == AFTER_TRAINING
    run_copy.snakemake(METRICS)
    assert trained_before < trained(run_copy)
    assert len(trained(run_copy)) == len(trained_before) + 1
    for name, rows in rows_of(run_copy).items():
        if name.startswith("score/"):
            assert rows_before[name] <= rows
    # The ablations may train at another lambda.
    tuned_before = {
        name: content
        for name, content in results_before.items()
        if name.startswith("saes/") and "_all/" not in name
    }
    assert tuned_before
    results_after = run_copy.results()
    assert {name: results_after[name] for name in tuned_before} == tuned_before


@pytest.mark.slow
def test_one_more_seed_trains_its_saes_only(run_copy, monkeypatch):
    monkeypatch.chdir(run_copy.folder)
    trained_before = trained(run_copy)
    change_config(run_copy, add_a_seed)
    (run_copy.folder / "mine.yaml").write_text(
        "experiments: {tiny: {description: mine}}"
    )
    run_copy.snakemake(BANK, "--configfile", "mine.yaml")
    bank = files.read_json(run_copy.folder / BANK)
    seeds = {entry["key"]: entry["seed"] for entry in bank["saes"]}
    assert trained_before < seeds.keys()
    assert {seeds[key] for key in seeds.keys() - trained_before} == {1}
    # What is not config.yaml alone is recorded, for `make prune` to know.
    (record,) = recorded_configs.read_records()
    assert "mine.yaml" in record.configfiles
    experiment = record.config.experiments["tiny"]
    assert experiment.seeds == [0, 1]
    assert experiment.description == "mine"


@pytest.mark.slow
def test_a_deleted_link_is_restored_and_a_damaged_sae_is_named(run_copy):
    sae = next(
        (run_copy.folder / "results/tiny/saes").glob("**/topk/**/sae.safetensors")
    )
    assert sae.is_symlink()
    assert not os.path.isabs(os.readlink(sae))
    content = sae.read_bytes()
    # Without its rows, since no SAE is read for those that are there.
    rows = (run_copy.folder / SCORES).parent.parent / ".rows/score"

    sae.unlink()
    shutil.rmtree(rows)
    run_copy.snakemake(SCORES, "--forcerun", "score")
    assert sae.read_bytes() == content

    sae.resolve().write_bytes(content[:-8])
    shutil.rmtree(rows)
    output = run_copy.snakemake(SCORES, "--forcerun", "score", ok=False)
    assert re.search(r"error: .*sae\.safetensors was altered or cut short", output)

    # As the message says; the damaged SAE is trained again.
    (run_copy.folder / BANK).unlink()
    run_copy.snakemake(SCORES)
    assert sae.read_bytes() == content


@pytest.mark.slow
def test_deleted_embeddings_are_made_again_when_needed_and_nothing_is_retrained(
    run_copy,
):
    saes_before = stored(run_copy)
    folder = run_copy.folder / "results/activations/digits/tiny/train"
    content = (folder / "embeddings.npy").read_bytes()
    alone, with_manifest = documented_rows()["deleted embeddings"].split(
        "; where their manifest is gone too, "
    )
    (folder / "embeddings.npy").unlink()
    assert set(run_copy.planned()) == rules_in(alone)
    (folder / "manifest.json").unlink()
    assert set(run_copy.planned()) == rules_in(with_manifest)

    manifest = (folder / "manifest.json").relative_to(run_copy.folder)
    run_copy.snakemake(str(manifest), BANK)
    assert (folder / "embeddings.npy").read_bytes() == content
    assert stored(run_copy) == saes_before


@pytest.mark.slow
def test_another_version_of_a_library_reruns_nothing(run_copy):
    # Found before the one that is installed.
    newer = run_copy.folder / "torch-99.0.dist-info"
    newer.mkdir()
    metadata = "Metadata-Version: 2.1\nName: torch\nVersion: 99.0\n"
    (newer / "METADATA").write_text(metadata)
    row = "another version of a library"
    assert set(run_copy.planned()) == documented_rules(row) == set()
    saes_before = stored(run_copy)
    run_copy.snakemake(BANK, "--forcerun", "train")
    assert stored(run_copy) == saes_before


# Rows with a test of their own, here or where it is said.
HELD_BY_OWN_TESTS = {
    "another source of a dataset's concepts, or another CSV",
    "nothing",
    "a comment, a docstring, a touched file",
    "code edited while a run goes on, then put back",  # test_workflow.py
    "a module moved or renamed",
    "what an error or a log says; anything in sae/core/",
    "code that was edited and recorded (make versions)",
    A_METRICS_CODE,
    "code of a penalty",
    "one more metric",
    "code of a figure",
    AN_IMAGE,
    AN_IMPORTED_SAE,
    "a deleted SAE link",
    "deleted embeddings",
    "results copied without .snakemake, with new times",  # test_sharing.py
    "another version of a library",
}


def test_every_row_of_the_table_is_held():
    in_tables = [row for row, _ in (*CONFIG_CHANGES, *GIVEN_FILES, *DELETED_FILES)]
    held = {*in_tables, *CODE_CHANGES, *HELD_BY_OWN_TESTS}
    assert documented_rows().keys() == held


# What else a finished run shows


def test_housekeeping_knows_every_file_of_a_run(finished_run, monkeypatch):
    monkeypatch.chdir(finished_run.folder)
    survey = Survey(load_config(finished_run.config))
    assert (survey.unused, survey.kept) == ({}, {})
    smoke = finished_run.config["experiments"]["smoke"]
    without_tiny = {**finished_run.config, "experiments": {"smoke": smoke}}
    survey = Survey(load_config(without_tiny))
    folders = {path.parts[1] for path in survey.unused}
    assert folders == {"activations", "datasets", "store", "tiny"}
    assert survey.kept == {}


def test_the_site_says_what_the_tables_say(run_copy):
    folder = run_copy.folder / "results/tiny"
    site = folder / "report"
    about = payload(site, "overview")
    sums = json.loads((site / "index.sums.json").read_text())
    site_files = {
        path.relative_to(site).as_posix() for path in site.rglob("*") if path.is_file()
    }
    assert site_files - {"index.sums.json"} == sums.keys() - {"seal"}
    files.check_sums(site / "index.sums.json")

    # The trials have the scores of the metrics.
    metrics = pd.read_parquet(folder / "metrics.parquet")
    methods = [method["id"] for method in about["methods"]]
    keys = ["method", "trial", "seed"]
    trials = pd.DataFrame(about["trials"])
    names_of_methods = [methods[place] for place in trials["method"]]
    trials_by_key = trials.assign(method=names_of_methods).set_index(keys)
    for split in ("val", "test"):
        rows = metrics[metrics["split"] == split].set_index(keys)
        for name, column in (
            ("r2", "r2"),
            ("ms", "ms_mean_alive"),
            ("dead_train", "dead_train"),
        ):
            of_site = trials_by_key[f"{name}_{split}"].astype(float)
            of_metrics = rows[column].astype(float).reindex(of_site.index)
            pd.testing.assert_series_equal(of_site, of_metrics, check_names=False)
    on_test = metrics[metrics["split"] == "test"].set_index(keys)
    assert trials_by_key["purity_test"].to_numpy() == pytest.approx(
        on_test["purity_binary"] - on_test["purity_binary_null"]
    )

    # The latents have those of the table.
    latents = pd.read_parquet(folder / "latents.parquet")
    bank = read_bank(run_copy.folder / BANK)
    test = store.read(run_copy.folder / "results/activations/digits/tiny/test")
    names = payload(site, "images/0")["classes"]
    for number in about["cells"][0]["saes"]:
        sae = about["saes"][number]
        sae_payload = payload(site, f"saes/{number}")
        columns = sae_payload["latents"]
        key = (methods[sae["method"]], sae["trial"], sae["seed"])
        if not sae["chosen"]:
            # No trial of Reg. 1 reached the baseline's R^2: it is shown without scores.
            assert methods[sae["method"]] == "reg1" and "ms" not in columns
            continue
        rows = latents.set_index(keys).loc[[key]].sort_values("latent")
        for name in ("n_active", "ms", "purity"):
            of_table = rows[name].to_numpy(np.float32 if name != "n_active" else int)
            of_site = unpacked(columns[name]).astype(float)
            np.testing.assert_array_equal(of_site, of_table)
        assert sae["scores"]["ms"] == on_test.loc[key, "ms_mean_alive"]
        places = unpacked(columns["top_class"])
        classes = [None if place == 2**16 - 1 else names[place] for place in places]
        assert classes == [
            None if pd.isna(name) else name for name in rows["top_class"]
        ]
        # The images of each latent, by codes that are worked out here.
        entry = next(e for e in bank.saes if (e.method, e.name, e.seed) == key)
        coder = bank.open(entry)
        codes = coder.encode(coder.open_inputs(test.embeddings)).by_latent().toarray()
        offsets = unpacked(sae_payload["codes"]["offsets"])
        image = unpacked(sae_payload["codes"]["image"])
        for latent, (start, stop) in enumerate(itertools.pairwise(offsets)):
            fires = np.flatnonzero(codes[:, latent])
            highest_first = fires[np.argsort(-codes[fires, latent], kind="stable")]
            assert image[start:stop].tolist() == highest_first.tolist()

    # With one block no claim is tested.
    assert {claim["verdict"] for claim in about["claims"]} == {"not tested"}
    kinds = [row["kind"] for row in about["downloads"]]
    assert kinds.count("figure") == AFTER_TRAINING["plot"]
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
    run_copy.snakemake("results/tiny/report/index.html", "--forcerun", "site")
    after = {path: path.read_bytes() for path in site.rglob("*") if path.is_file()}
    assert after == before


def test_selection_is_a_file_and_the_ablation_trains_what_it_chose(finished_run):
    selection = pd.read_parquet(finished_run.folder / paths.SELECTION.format(**CELL))
    assert list(selection["method"]) == ["topk", "reg1", "reg2"]
    assert set(selection["protocol"]) == {"paper"}
    expected = {
        (f"{row.method}_all", row.trial) for row in selection[1:].dropna().itertuples()
    }
    bank = files.read_json(finished_run.folder / BANK)
    ablations = [e for e in bank["saes"] if e["method"].endswith("_all")]
    assert expected
    assert {(e["method"], paths.trial_name(e["trial"])) for e in ablations} == expected
    assert {e["settings"]["mask"] for e in ablations} == {"all"}
    metrics = pd.read_parquet(finished_run.folder / "results/tiny/metrics.parquet")
    is_ablation = metrics["method"].str.endswith("_all")
    ablated = metrics[is_ablation]
    assert len(ablated) == 2 * len(expected)
    assert ablated["r2"].notna().all() and ablated["selected"].all()
    # The largest lambda whose validation R^2 is at least the baseline's, by hand.
    on_val = metrics[(metrics["split"] == "val") & ~is_ablation]
    bar = on_val.loc[on_val["method"] == "topk", "r2"].item()
    for method, rows in on_val[on_val["method"] != "topk"].groupby("method"):
        acceptable = rows.loc[rows["r2"] >= bar, "lambda"]
        assert rows.loc[rows["selected"], "lambda"].tolist() == (
            [acceptable.max()] if len(acceptable) else []
        ), method


@pytest.mark.slow
def test_a_diverged_sae_is_recorded_and_its_siblings_finish(run_copy):
    run_copy.experiment.update(
        methods=["topk", "reg1"],
        sweep={"reg1": {"lambda": [0.001], "lr": [0.005, 10.0]}},
        seeds=[0],
    )
    run_copy.write()
    output = run_copy.snakemake(METRICS)
    assert re.search(r"reg1 lambda0.001-lr10 seed 0: DIVERGED by step \d+", output)
    bank = files.read_json(run_copy.folder / BANK)
    assert [s["status"] for s in bank["saes"]] == ["ok", "ok", "diverged"]


@pytest.mark.slow
def test_an_experiment_without_any_regularizer_goes_the_whole_way(run_copy):
    run_copy.experiment["methods"] = ["topk", "batch_topk"]
    run_copy.experiment["sweep"] = {}
    run_copy.write()
    run_copy.snakemake("tiny")
    metrics = pd.read_csv(run_copy.folder / METRICS)
    assert set(metrics["method"]) == {"topk", "batch_topk"}
    assert metrics["penalty"].isna().all()
    assert (abs(metrics.loc[metrics["method"] == "batch_topk", "l0"] - 4) < 1).all()

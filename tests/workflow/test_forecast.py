"""The forecast agrees with Snakemake, and with numbers computed by hand."""

import copy
import importlib
import os
import re
import resource
import subprocess
import sys
from pathlib import Path

import conftest
import pytest
import yaml
from conftest import PARTS, ROOT
from sae_workflow import (
    forecast,
    missing_inputs,
    planned_run,
    settings,
)
from sae_workflow.command_line import run_command
from sae_workflow.stages import Job
from support.errors import assert_names
from support.larger import enlarge_paper

from sae.core import files

CONFIG, _ = settings.merge_config_files(ROOT / "config.yaml")


@pytest.fixture
def empty(tmp_path, monkeypatch):
    """Return a working directory with the project's code, no data and no results."""
    for part in PARTS:
        os.symlink(ROOT / part, tmp_path / part)
    (tmp_path / "config.yaml").unlink()
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(CONFIG))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(
        "PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    )
    return tmp_path


def count_jobs(config, experiment):
    """Return {rule: jobs} of the forecast."""
    jobs = forecast.list_jobs(config, experiment)
    return {rule: len(of_rule) for rule, of_rule in jobs.items()}


def snakemake(*arguments):
    """Return what a dry run prints on stdout and on stderr."""
    process = subprocess.run(
        ["snakemake", "-n", *arguments], capture_output=True, text=True
    )
    assert process.returncode == 0, process.stdout + process.stderr
    return process.stdout, process.stderr


def dry_run(experiment):
    """Return {rule: jobs} by Snakemake, and what it prints on stderr."""
    streams = snakemake(experiment)
    return conftest.count_jobs("\n".join(streams), experiment), streams[1]


@pytest.mark.slow
def test_jobs_and_missing_data_are_what_snakemake_says(empty, monkeypatch):
    counts, output = dry_run("paper")
    assert count_jobs(settings.load(CONFIG), "paper") == counts
    assert (
        "paper: dataset imagenet: data/imagenet does not exist (docs/data.md)\n"
        in output
    )
    # A process that Snakemake starts for a job says nothing.
    monkeypatch.setenv(planned_run.RUN_VARIABLE, "this")
    planned_run.write_planned_run(CONFIG)
    assert "does not exist" not in "".join(snakemake("paper", "--mode", "subprocess"))
    (empty / "data/imagenet").mkdir(parents=True)
    lines = missing_inputs.missing_files(settings.load(CONFIG), "paper")
    (line,) = [line for line in lines if "imagenet" in line]
    assert "data/imagenet has none of the layouts" in line


def test_downloads_are_jobs_of_what_is_not_pinned_or_local(empty):
    counts = dry_run("laptop")[0]
    assert count_jobs(settings.load(CONFIG), "laptop") == counts
    assert (counts["download"], counts["weights"]) == (2, 3)


@pytest.mark.slow
def test_jobs_of_parts_and_without_some_metrics_are_what_snakemake_says(empty):
    config = copy.deepcopy(CONFIG)
    config["experiments"]["smoke"]["judges"] = ["efficientnet_lite2"]
    for experiment in ("photographs", "smoke"):
        config["compute"]["embed_shards"] = 3
        (empty / "config.yaml").write_text(yaml.safe_dump(config))
        counts = count_jobs(settings.load(config), experiment)
        assert counts == dry_run(experiment)[0]
    config["experiments"] = {"smoke": config["experiments"]["smoke"]}
    config["experiments"]["smoke"]["methods"] = ["topk", "reg1"]
    config["experiments"]["smoke"]["sweep"].pop("reg2")
    for metric in ("probe", "robustness", "rank_profile"):
        del config["metrics"][metric]
    (empty / "config.yaml").write_text(yaml.safe_dump(config))
    counts = count_jobs(settings.load(config), "smoke")
    assert counts == dry_run("smoke")[0]
    assert not {"probe", "probe_embeddings", "robustness"} & set(counts)


@pytest.mark.slow
def test_ten_times_the_lambdas_and_seeds_are_no_more_jobs(empty):
    """The plan has 68,040 SAEs; a job each would be 68,040 jobs."""
    larger = enlarge_paper(CONFIG, 10)
    config = settings.load(larger)
    sizes = [
        size
        for cell in settings.cells(config, "paper")
        for size in forecast.protocol_sizes(settings.bank_plan(config, "paper", cell))
    ]
    assert sum(size.trials for size in sizes) == 18 * 30 * (6 + 2 * 60)
    (empty / "config.yaml").write_text(yaml.safe_dump(larger))
    before = memory_of_largest_child()
    assert dry_run("paper")[0] == count_jobs(settings.load(CONFIG), "paper")
    assert memory_of_largest_child() < max(2**20, before + 1)


def memory_of_largest_child():
    """Return the memory of the largest child process so far, in KiB."""
    return resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss


def on(device, config=CONFIG):
    """Return a config whose jobs compute on a device."""
    changed = copy.deepcopy(config)
    changed["compute"]["device"] = device
    return settings.load(changed)


def test_the_paper_by_hand(empty):
    """The counts are products.

    18 banks x (1 + 2 x 6 + 5) x 3 seeds; 18 x 2 x 3; ImageNet 1,331,167 x 1024 x 2
    bytes; SAEs of m = 8192.
    """
    on_slurm = settings.read_config(
        ROOT / "config.yaml", ROOT / "profiles/slurm/compute.yaml"
    )
    shown = "\n".join(forecast.describe_plan(on_slurm, "paper"))
    assert (
        "SAEs: 972 in 18 cells, and up to 108 more at settings that validation chooses"
        in shown
    )
    size = float(re.search(r"  total ([\d.]+) GB", shown)[1])
    hours = re.search(r"  total  +\d+ +0 +(\d+)", shown)[1]
    page = " ".join((ROOT / "docs/paper.md").read_text().split())
    assert (
        f"SAEs take {size:.0f} GB. The plan estimates {hours} hours of one H100 with 8 "
    ) in page
    assert len(shown.splitlines()) < 70 and max(map(len, shown.splitlines())) <= 120
    # (972 + 108) / 6 SAEs of 2 x 8192 x 1024 + 8192 + 1024 float32.
    row = next(line for line in shown.splitlines() if "imagenet / vit_l16" in line)
    assert row.split()[3:] == ["1,331,167", "1024", "2.73", "12.09"]
    # One bank without a GPU, 9 of 54 SAEs without a step: 45 x 50 epochs x 601 steps x
    # 4 x 2048 x 1024 x 8224 FLOP.
    cell = {
        "experiment": "paper",
        "dataset": "imagenet",
        "backbone": "vit_l16",
        "k": 32,
    }
    config = on("cpu")
    step = 68_987.6 / 1000 / forecast.rate("cpu")
    # And 6 at what validation chose; val of all.
    choosing = 60 * 50_000 * 2 * 8192 * 1024 / 1e9 / forecast.rate("cpu")
    seconds = forecast.estimate_seconds(Job("train", config, cell))
    assert seconds == pytest.approx(51 * 50 * 601 * step + choosing, rel=1e-4)
    # Of 24 chosen SAEs, 2 x 8192 x 1024 FLOP an image: twice test.
    expected = 24 * 100_000 * 2 * 8192 * 1024 / 1e9 / forecast.rate("cpu")
    seconds = forecast.estimate_seconds(Job("robustness", config, cell))
    assert seconds == pytest.approx(expected + forecast.rate("start"))


def test_the_estimate_is_near_what_the_demo_took(empty):
    """The demo took 414 to 474 s on 2 cores, of which setting up was some 60."""
    jobs_of_rule = forecast.list_jobs(on("cpu"), "demo")
    hours = sum(forecast.estimate_hours(jobs) for jobs in jobs_of_rule.values())
    assert 2 * 400 / 3600 / 1.5 < hours < 2 * 400 / 3600 * 1.5


def test_jobs_that_ended_here_correct_those_that_are_left(empty):
    banks = forecast.list_jobs(on("cpu"), "demo")["train"]
    before = forecast.estimate_hours(banks)
    first = forecast.estimate_seconds(banks[0])
    log = empty / "results/demo/logs/train/emoji/efficientnet_lite0_fast/k8.log"
    assert log == empty / banks[0].log
    log.parent.mkdir(parents=True)
    log.with_suffix(".tsv").write_text(f"s\tcpu_time\tmax_rss\n9999\t{3 * first}\t2\n")
    assert forecast.estimate_hours(banks) == pytest.approx(3 * before)


def test_a_backbone_costs_what_its_own_size_does(empty):
    job = {"dataset": "imagenet", "backbone": "vit_l16"}
    spent = {}
    for size in (None, 224, 448):
        config = copy.deepcopy(CONFIG)
        config["datasets"]["imagenet"]["image_size"] = 112
        config["backbones"]["vit_l16"]["image_size"] = size
        sizes = forecast.JobSizes(Job("embed", on("cuda", config), job))
        spent[size] = sizes.embedding() - sizes.decoding()
    ratios = [spent[224] / spent[None], spent[448] / spent[None]]
    assert ratios == pytest.approx([4, 16])


def test_what_nobody_knows_is_named_and_left_out(empty):
    config = copy.deepcopy(CONFIG)
    ours = {
        "loader": "timm",
        "family": "ours",
        "model": "resnet18",
        "checkpoint": "weights/ours.pt",
    }
    config["backbones"]["ours"] = ours
    config["datasets"]["birds"] = {"type": "image_folder", "root": "birds"}
    paper = config["experiments"]["paper"]
    paper["backbones"] = ["vit_l16", "ours"]
    paper["datasets"] = ["imagenet", "birds", "cifar100"]
    config = settings.load(config)
    shown = "\n".join(forecast.describe_plan(config, "paper"))
    assert "backbone ours: checkpoint weights/ours.pt does not exist" in shown
    assert_names(
        shown,
        "not counted in disk and hours: backbone ours: workflow/resources/costs.yaml has "
        "no figures of its model resnet18",
        "no number of images of dataset birds: it is known once its index is made, "
        "`snakemake results/",
        "cifar100: what data/torchvision lacks will be downloaded by torchvision, "
        "which needs the internet",
    )
    disk = shown[shown.index("\nDisk") : shown.index("\nJobs")]
    counted = re.findall(r"^  (\w+) / (\w+) +([\d,]+)", disk, re.MULTILINE)
    assert counted == [
        ("imagenet", "vit_l16", "1,331,167"),
        ("imagenet", "thumbnail", "1,331,167"),
        ("cifar100", "vit_l16", "60,000"),
        ("cifar100", "thumbnail", "60,000"),
    ]


def test_a_plan_counts_a_folder_and_says_where_too_little_is_trained(empty):
    for number in range(200):
        picture = empty / f"birds/{number % 2}/{number}.jpg"
        picture.parent.mkdir(parents=True, exist_ok=True)
        picture.touch()
    (empty / "birds/0/notes.txt").touch()
    config = copy.deepcopy(CONFIG)
    fractions = {"train": 0.7, "val": 0.1, "test": 0.2}
    birds = {"type": "image_folder", "root": "birds", "fractions": fractions}
    config["datasets"]["birds"] = birds
    config["training"]["mine"] = {
        "extends": "demo",
        "m": 40,
        "auxk_k": 8,
        "batch_size": 32,
    }
    mine = {"extends": "demo", "datasets": ["birds"], "training": "mine", "k": [8]}
    config["experiments"]["mine"] = mine

    def plan(**recipe):
        config["training"]["mine"].update(recipe)
        return "\n".join(forecast.describe_plan(settings.load(config), "mine"))

    # 140 images: 3.5 for each of 40 latents, 4 batches in each of 10 epochs.
    line = r"dataset birds: 3\.5 training images a latent \(m = 40\) and 40 steps"
    assert re.search(line, plan())
    assert re.search(r"  birds / efficientnet_lite0_fast +200 ", plan())
    assert "dataset birds: 10.0 training images a latent (m = 14) and 49 steps" in plan(
        m=14, steps=49
    )
    assert "dataset birds:" not in plan(steps=50)


def test_a_download_is_told_until_it_ended_also_below_a_root_that_others_share(
    empty,
):
    config = settings.load(copy.deepcopy(CONFIG))
    (empty / "data/torchvision").mkdir(parents=True)

    def lacking():
        lines = missing_inputs.missing_files(config, "laptop")
        return [line.split(":")[0] for line in lines if "downloaded" in line]

    assert lacking() == ["dataset cifar100", "dataset imagenette"]
    ended = empty / "results/datasets/cifar100/download.json"
    ended.parent.mkdir(parents=True)
    ended.write_text("{}")
    assert lacking() == ["dataset imagenette"]


def test_weights_in_the_hubs_cache_are_not_missing(empty, monkeypatch):
    import huggingface_hub

    name = "vit_large_patch16_224.augreg_in21k_ft_in1k"

    def load_from_cache(repo, file, revision):
        return file if repo == f"timm/{name}" else None

    monkeypatch.setattr(huggingface_hub, "try_to_load_from_cache", load_from_cache)
    config = settings.load(CONFIG)
    lines = list(missing_inputs.missing_downloads(config, "paper"))
    lines = [line for line in lines if "Hugging Face hub" in line]
    assert len(lines) == 2 and not any(name in line for line in lines)


def test_a_plan_that_nobody_reads_on_says_nothing(empty):
    command = [sys.executable, "-m", "sae_workflow.forecast", "paper"]
    plan = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    plan.stdout.close()
    # By whether all of it was in the buffer.
    assert plan.wait() in (0, 141)
    assert plan.stderr.read() == b""


def test_what_is_there_is_done(empty):
    config = settings.load(CONFIG)
    file = empty / "results/activations/imagenet/vit_l16/train/manifest.json"
    file.parent.mkdir(parents=True)
    files.write_json(file, {"shape": [10, 1024]})
    plan = "\n".join(forecast.describe_plan(config, "paper"))
    assert re.search(r"^  embed +8 +1 ", plan, re.MULTILINE)


@pytest.mark.parametrize(
    "name",
    [
        "check",
        "forecast",
        "housekeeping",
        "publish",
        "run",
        "schema",
        "show",
        "times",
        "versions",
    ],
)
def test_every_command_says_what_it_takes(name, capsys):
    module = importlib.import_module(f"sae_workflow.{name}")
    function = {"schema": "write", "show": "show"}.get(name, "main")
    with pytest.raises(SystemExit, match="0"):
        run_command(getattr(module, function), "--help")
    output = capsys.readouterr().out
    assert output.startswith(f"usage: python -m sae_workflow.{name} [-h]")
    assert module.__doc__.splitlines()[0] in output

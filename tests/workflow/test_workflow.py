"""The real workflow: what a user sees when something is wrong or new."""

import os
import re

import numpy as np
import pandas as pd
import pytest
from report.site.reading import payload, unpacked

pytestmark = pytest.mark.workflow


@pytest.mark.slow
def test_a_diverged_baseline_fails_the_cell(make_checkout):
    checkout = make_checkout()
    checkout.config["training"]["tiny"]["lr"] = 10.0
    checkout.write()
    output = checkout.snakemake("tiny", ok=False)
    pattern = (
        r"error: digits / tiny / k4: the baseline diverged \(seed 0\): "
        "nothing can be compared with topk; lower lr"
    )
    assert re.search(pattern, output)
    assert not (checkout.folder / "results/tiny/saes/digits/tiny/k4/bank.json").exists()


def test_a_wrong_config_stops_before_any_job(make_checkout):
    checkout = make_checkout()
    checkout.experiment["k"] = [33]
    checkout.write()
    output = checkout.snakemake("tiny", ok=False)
    assert "config key experiments.tiny.k: k = 33 is larger than m = 32" in output
    assert not (checkout.folder / "results").exists()
    # Snakemake alone would keep the last one in silence.
    (checkout.folder / "mine.yaml").write_text(
        "compute: {threads: 1}\ncompute: {device: cpu}\n"
    )
    output = checkout.snakemake("-n", "tiny", "--configfile", "mine.yaml", ok=False)
    assert (
        "mine.yaml line 2 is not right: the key 'compute' is there twice, "
        "first in line 1"
    ) in output


@pytest.mark.slow
def test_code_edited_during_a_run_is_an_error_until_it_is_put_back(
    make_checkout, monkeypatch
):
    checkout = make_checkout()
    target = "results/datasets/digits/manifest.json"
    (checkout.folder / "edit.sh").write_text(
        "sed -i 's/^import/X = 1\\nimport/' sae/data/dataset.py\n"
    )
    before = (checkout.folder / "sae/data/dataset.py").read_text()
    # The shell of a job reads it first.
    monkeypatch.setenv("BASH_ENV", str(checkout.folder / "edit.sh"))
    output = checkout.snakemake(target, ok=False)
    assert (
        "error: the code of the step dataset was edited after this run was planned"
        in output
    )
    assert not (checkout.folder / target).exists()
    monkeypatch.delenv("BASH_ENV")
    assert (checkout.folder / "sae/data/dataset.py").read_text() != before
    (checkout.folder / "sae/data/dataset.py").write_text(before)
    assert checkout.planned(target) == {"dataset": 1}


@pytest.mark.slow
def test_embedding_in_several_jobs_and_nothing_twice(make_checkout):
    checkout = make_checkout()
    store = "results/activations/digits/tiny/test/manifest.json"
    checkout.config["compute"]["embed_shards"] = 2
    checkout.config["compute"]["decode_workers"] = 1
    checkout.write()
    checkout.snakemake(store)
    several = contents(checkout)
    assert len(several) == 9
    checkout.config["compute"]["embed_shards"] = 1
    checkout.config["compute"]["decode_workers"] = 0
    checkout.write()
    assert checkout.planned(store) == {"embed": 1}
    # Neither for another number of shards, nor where Snakemake did not see the end of a
    # job.
    output = checkout.snakemake(store)
    assert output.count("digits / tiny: was finished before") == 1
    assert not re.search(r"\d images", output)
    assert contents(checkout) == several


def contents(checkout):
    files = checkout.folder.glob("results/activations/digits/tiny/[a-z]*/*")
    return {str(f.relative_to(checkout.folder)): f.read_bytes() for f in files}


@pytest.mark.slow
def test_embeddings_alone_without_images_or_labels_go_the_whole_way(make_checkout):
    checkout = make_checkout()
    checkout.config["metrics"]["pixels"] = None
    train = checkout.give_embeddings(200, 60) / "ours/train.npy"
    checkout.snakemake("tiny")
    metrics = pd.read_parquet(checkout.folder / "results/tiny/metrics.parquet")
    assert metrics["r2"].notna().all() and metrics["ms_mean"].notna().all()
    assert "detection_pixels" not in metrics
    images = payload(checkout.folder / "results/tiny/report", "images/0")
    assert images["sheets"] == 0 and images["classes"] == []
    assert len(images["ids"]) == 60
    assert set(unpacked(images["place"])) == {2**32 - 1}
    assert not (checkout.folder / "results/tiny/gallery").exists()
    assert not (checkout.folder / "results/tiny/figures/fig1.png").exists()
    assert checkout.planned() == {}
    # Files replaced by others with an older time, as `cp -p` and `tar x` do; the first
    # change is a time alone.
    os.utime(train, (1, 1))
    bank = checkout.folder / "results/tiny/saes/given/ours/k4/bank.json"
    before = bank.read_bytes()
    checkout.snakemake("tiny")
    assert bank.read_bytes() == before and checkout.planned() == {}
    np.save(train, np.load(train)[::-1])
    os.utime(train, (2, 2))
    checkout.snakemake(str(bank.relative_to(checkout.folder)))
    assert bank.read_bytes() != before

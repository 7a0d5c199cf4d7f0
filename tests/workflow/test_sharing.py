"""Several people, several machines, one store."""

import os
import re
import shutil

import pytest
import yaml

pytestmark = pytest.mark.slow

BANK = "results/tiny/saes/digits/tiny/k4/bank.json"


def content(folder):
    """Return {path: (bytes, time of change)} of everything in a folder."""
    files = [f for f in folder.rglob("*") if f.is_file()]
    return {
        f.relative_to(folder): (f.read_bytes(), f.stat().st_mtime_ns) for f in files
    }


def run_both(checkouts, *arguments):
    runs = [c.start(*c.command(*arguments)) for c in checkouts]
    printed = [run.communicate()[0] for run in runs]
    assert [run.returncode for run in runs] == [0, 0], printed
    return printed


def test_two_runs_on_one_store_and_then_others_results_are_taken_and_left_as_they_are(
    make_checkout, tmp_path
):
    ours = make_checkout("ours")
    theirs = make_checkout("theirs")
    third = make_checkout("third")
    (tmp_path / "lab/store").mkdir(parents=True)
    for checkout in (ours, theirs):
        (checkout.folder / "results").mkdir()
        os.symlink(tmp_path / "lab/store", checkout.folder / "results/store")
    run_both([ours, theirs], "tiny", "--until", "train")
    assert ours.results() == theirs.results()
    assert len(ours.results()) == 14  # 6 SAEs, their logs, the selection
    banks = [yaml.safe_load((c.folder / BANK).read_text()) for c in (ours, theirs)]
    assert banks[0] == banks[1]
    stored = [f for f in (tmp_path / "lab").rglob("*") if f.is_file()]
    assert len(stored) == 18
    # Others may read them.
    assert all(f.stat().st_mode & 0o044 == 0o044 for f in stored)

    shutil.move(ours.folder / "results/activations", tmp_path / "lab/activations")
    before = content(tmp_path / "lab")
    third.config["compute"]["shared"] = [str(tmp_path / "lab")]
    third.write()
    printed = third.snakemake("tiny", "--until", "train")
    activations = tmp_path / "lab/activations/digits/tiny"
    assert f"was finished before, in {activations}" in printed
    log = (third.folder / "results/tiny/logs/train/digits/tiny/k4.log").read_text()
    assert log.count("was taken from") == 6 and ": start " not in log
    assert third.results() == ours.results() and content(tmp_path / "lab") == before


def test_results_can_be_moved_and_nothing_is_made_again(make_checkout):
    old = make_checkout("old")
    new = make_checkout("new")
    old.snakemake("results/tiny/metrics.csv")
    before = old.results()
    path = str(old.folder).encode()
    files_with_path = [
        f
        for f in (old.folder / "results").rglob("*")
        if f.is_file() and path in f.read_bytes()
    ]
    assert not files_with_path
    # Without Snakemake's own records, and with new times: what a plain copy leaves.
    shutil.copytree(
        old.folder / "results",
        new.folder / "results",
        symlinks=True,
        copy_function=shutil.copyfile,
    )
    shutil.rmtree(old.folder)
    store = content(new.folder / "results/store")
    printed = new.snakemake("results/tiny/metrics.csv")
    assert not re.search(r"\d images", printed)
    assert content(new.folder / "results/store") == store
    assert new.results() == before
    assert new.planned("results/tiny/metrics.csv") == {}

"""profiles/default: what of it limits the jobs of this machine."""

import re

import pytest

pytestmark = pytest.mark.slow


def test_jobs_on_an_accelerator_run_one_at_a_time(make_checkout):
    checkout = make_checkout()
    checkout.config["compute"]["device"] = "auto"
    checkout.experiment["k"] = [4, 8]
    checkout.write()
    checkout.snakemake("tiny", "--until", "train", "--cores", "4")
    spans = [times(checkout.folder / f"results/tiny/logs/train/digits/tiny/k{k}.log") for k in (4, 8)]
    (_, first), (second, _) = sorted(spans)
    assert first < second


def times(log):
    """When the first and the last line of a log were written."""
    found = re.findall(r"^\d{4}-\d\d-\d\d (\S+) ", log.read_text(), re.M)
    return found[0], found[-1]

"""The profiles and the examples of configs fit the rules."""

import re

import pytest
import yaml
from conftest import ROOT
from sae_workflow import settings
from sae_workflow.stages import STAGES


def test_the_slurm_profile_sends_just_the_rules_that_ask_for_a_gpu_to_gpus():
    profile = yaml.safe_load((ROOT / "profiles/slurm/profile.yaml").read_text())
    asking = {rule for rule, stage in STAGES.items() if stage.computes}
    assert set(profile["set-resources"]) == asking and "robustness" in asking


def test_the_configs_that_docs_offer_are_right():
    for name, experiment in (("s3", "from_s3"), ("other_saes", "mine")):
        raw = yaml.safe_load((ROOT / "config.yaml").read_text())
        laid_over = yaml.safe_load(
            (ROOT / f"docs/examples/{name}/config.yaml").read_text()
        )
        # As Snakemake lays one config over another.
        for key, value in laid_over.items():
            if isinstance(value, dict):
                raw[key].update(value)
            else:
                raw[key] = value
        assert experiment in settings.load(raw).experiments


@pytest.mark.slow
def test_jobs_on_an_accelerator_run_one_at_a_time(make_checkout):
    checkout = make_checkout()
    checkout.config["compute"]["device"] = "auto"
    checkout.experiment["k"] = [4, 8]
    checkout.write()
    checkout.snakemake("tiny", "--until", "train", "--cores", "4")
    spans = [
        times(checkout.folder / f"results/tiny/logs/train/digits/tiny/k{k}.log")
        for k in (4, 8)
    ]
    (_, first), (second, _) = sorted(spans)
    assert first < second


def times(log):
    """Return when the first and the last line of a log were written."""
    clock_times = re.findall(r"^\d{4}-\d\d-\d\d (\S+) ", log.read_text(), re.M)
    return clock_times[0], clock_times[-1]

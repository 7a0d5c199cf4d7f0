"""The project as a module of another workflow, as Snakemake's catalog deploys it."""

import shutil

import pytest
from conftest import ROOT

pytestmark = pytest.mark.workflow
THEIRS = """
configfile: "config/config.yaml"


module sae:
    snakefile:
        "{folder}/workflow/Snakefile"
    config:
        config


use rule * from sae as sae_*


rule own:
    default_target: True
    input:
        rules.sae_all.input,
"""


@pytest.mark.slow
def test_another_workflow_uses_it_and_says_only_what_differs(make_checkout, tmp_path):
    checkout = make_checkout()
    theirs = tmp_path / "theirs"
    shutil.copytree(ROOT / "config", theirs / "config")
    (theirs / "Snakefile").write_text(THEIRS.format(folder=checkout.folder))
    with open(theirs / "config/config.yaml", "a") as config:
        config.write("    k: [4]\n")
    process = checkout.run(*checkout.command("-n", "--quiet", "host"), cwd=theirs)
    output = process.stdout + process.stderr
    assert process.returncode == 0, output
    # Its own k, the project's dataset; the published tables lie in the project.
    assert (
        "results/mine/saes/fashion_mnist_smoke/efficientnet_lite0/k4/bank.json"
        in output
    )
    assert (
        "/workflow/resources/paper/table1" in output
        and "sae_train" in output
        and "k8" not in output
    )

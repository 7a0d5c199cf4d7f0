"""The experiment `smoke`, real images and a real backbone, says what it said before."""

import shutil

import pytest
from conftest import Checkout

pytestmark = [pytest.mark.workflow, pytest.mark.slow]
RESULTS = {
    "rows": [
        f"{name}.parquet" for name in ("metrics", "selection", "curves", "latents")
    ],
    "tables": ["tables/comparison.md", "tables/controls.md", "tables/table?.md"],
    "claims": ["claims.md"],
}


@pytest.fixture(scope="module")
def run(tmp_path_factory, digits, fetched, same_products):
    """Return the folder of the experiment's results."""
    folder = tmp_path_factory.mktemp("smoke")
    checkout = Checkout(folder, digits)
    names = ("efficientnet_lite0", "fashion_mnist")
    artifacts = fetched(*names)
    for name in names:
        shutil.copytree(artifacts / name, folder / "results/artifacts" / name)
    checkout.snakemake("smoke", "--cores", "2")
    return folder / "results/smoke"


@pytest.mark.parametrize("name", RESULTS)
def test_results_are_as_they_were(run, name, compare):
    compare(run, RESULTS[name], name)

"""A run of a small world says what it said before: each table, page and data file.

After a change that is meant to alter results, look at what differs, then keep it with
`pytest -n 0 tests/golden --regen-all`.
"""

import pytest
from golden import planted

pytestmark = pytest.mark.workflow

RESULTS = {
    "rows": [
        "results/tiny/metrics.parquet",
        "results/tiny/selection.parquet",
        "results/tiny/curves.parquet",
        "results/tiny/latents.parquet",
        "results/datasets/planted/*.parquet",
        "results/tiny/gallery/sample.parquet",
    ],
    "tables": ["results/tiny/tables/[ct]*.csv", "results/tiny/tables/*.md"],
    "claims": ["results/tiny/claims.csv", "results/tiny/claims.md"],
    "site": ["results/tiny/report/index.html", "results/tiny/report/data/overview.js"],
    "cells": ["results/tiny/report/data/cells/*.js"],
    "latents": [
        "results/tiny/report/data/saes/*.js",
        "results/tiny/report/data/where/*.js",
    ],
    "images": [
        "results/tiny/report/data/images/*.js",
        "results/tiny/report/data/concepts/*.js",
        "results/tiny/report/data/judge/*.js",
    ],
    "card": ["card.txt", "card/card.json", "card/index.html"],
    "explored": ["explore/index.html", "explore/data/**/*.js"],
}


@pytest.fixture(scope="module")
def run(tmp_path_factory, digits, same_products):
    """Return the folder of a finished run, as `planted.run` leaves it."""
    return planted.run(tmp_path_factory.mktemp("planted"), digits)


@pytest.mark.parametrize("name", RESULTS)
def test_results_are_as_they_were(run, name, compare):
    compare(run, RESULTS[name], name)

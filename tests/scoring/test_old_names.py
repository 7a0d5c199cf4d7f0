"""Scores of `detection` under names of before are renamed as rows, refused in tables.

Before, `detection` was the mean of 2 AUC - 1 over all latents, and `detection_alive` the
mean AUC over measured ones.
"""

import json

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from scoring.test_stage import Cell, choose_judged
from support.errors import refused_naming

from sae.comparison import outcomes
from sae.core import files
from sae.scoring import rows
from sae.scoring.rowstore import MetricScores, RowStore

NAME_BEFORE = {"detection_auc": "detection_alive", "detection_auc_all": "detection"}
# What the old code wrote, and what it is today.
ROW_BEFORE = {
    "detection_alive": 0.8,
    "detection_measured": 0.5,
    "detection": 0.3,
    "detection_random_alive": float("nan"),
    "detection_random_measured": 0.0,
    "detection_random": 0.0,
}
ROW_TODAY = {
    "detection_auc": 0.8,
    "detection_measured": 0.5,
    "detection_auc_all": 0.65,
    "detection_random_auc": float("nan"),
    "detection_random_measured": 0.0,
    "detection_random_auc_all": 0.5,
}
AUC_OF_LATENT = [0.8, None]


def store_as_before(file, as_json):
    """Write a store as an older version did, with a row whose key is `before`."""
    if as_json:
        row = {
            "scalars": ROW_BEFORE,
            "curves": {"detection_by_frequency": {"x": [0.1], "y": [0.8]}},
            "latents": {},
            "of_judged": {"detection": AUC_OF_LATENT},
        }
        table = pa.table({"key": ["before"], "row": [json.dumps(row)]})
        files.write_parquet(file, table)
        return
    row = MetricScores(dict(ROW_BEFORE), latents={"detection": pa.array([0.8, None])})
    row_store = RowStore(file)
    row_store.add("before", row)
    row_store.write(prune=False)
    table = pq.read_table(file)
    kinds = [
        "of_judged" if kind == "latents" else kind
        for kind in table["table"].to_pylist()
    ]
    place = table.schema.get_field_index("table")
    files.write_parquet(file, table.set_column(place, "table", pa.array(kinds)))


@pytest.mark.parametrize("as_json", [False, True])
def test_a_store_of_before_is_read_under_the_names_of_today(tmp_path, as_json):
    file = tmp_path / "detection.parquet"
    store_as_before(file, as_json)
    before = file.read_bytes()
    row = RowStore(file).use("before")
    assert list(row.scalars) == list(ROW_TODAY)
    assert row.scalars == pytest.approx(ROW_TODAY, nan_ok=True)
    assert row.latents["detection"].to_pylist() == AUC_OF_LATENT
    # Whoever only reads, as in a folder that is closed to them, writes nothing.
    assert file.read_bytes() == before

    # Rows of today beside it stay as they are; the file has one set of names then.
    row_store = RowStore(file)
    row_store.add("today", MetricScores(dict(ROW_TODAY)))
    row_store.write(prune=False)
    records = pq.read_table(file).to_pylist()
    scores = {record["name"] for record in records if record["table"] == "scalars"}
    assert scores == ROW_TODAY.keys()
    for key in ("before", "today"):
        scalars = RowStore(file).use(key).scalars
        assert scalars == pytest.approx(ROW_TODAY, nan_ok=True)


def test_a_score_of_that_name_of_another_metric_stays(tmp_path):
    file = tmp_path / "mine.parquet"
    store_as_before(file, as_json=False)
    assert RowStore(file).use("before").scalars.keys() == ROW_BEFORE.keys()


def test_rows_of_before_are_not_scored_anew(tmp_path, monkeypatch):
    cell = Cell(tmp_path)
    options = {"least_train": 10, "least_test": 2}
    arguments = {"metrics": {"detection": options}, **choose_judged(cell, at=False)}
    tables = cell.run(**arguments)
    metrics = tables["metrics"]
    written = cell.written()

    # By hand: the mean over all latents, of which those without an AUC count as .5.
    is_judged = (metrics["method"] == "topk") & (metrics["split"] == "test")
    (mean,) = metrics.loc[is_judged, "detection_auc_all"]
    latents = tables["latents"]
    auc = latents.loc[latents["method"] == "topk", "detection"].to_numpy()
    assert len(auc) == 16 and 0 < np.isnan(auc).sum() < 16
    assert mean == pytest.approx(np.where(np.isnan(auc), 0.5, auc).mean())

    # The store as the old code left it.
    file = cell.scores / ".rows/score/detection.parquet"
    records = pq.read_table(file).to_pylist()
    for record in records:
        if record["table"] == "scalars" and record["name"] in NAME_BEFORE:
            record["name"] = NAME_BEFORE[record["name"]]
            if record["name"] == "detection":
                record["floats"] = [2 * record["floats"][0] - 1]
    schema = pq.read_schema(file).remove_metadata()
    files.write_parquet(file, pa.Table.from_pylist(records, schema))

    monkeypatch.setattr("sae.bank.read.Bank.open", lambda *_: pytest.fail("opened"))
    again = cell.run(**arguments)["metrics"]
    assert list(again) == list(metrics)
    pd.testing.assert_frame_equal(again, metrics)
    assert cell.written().keys() == written.keys()


def test_tables_of_before_are_refused_with_what_helps(tmp_path):
    metrics = pd.DataFrame({"r2": [0.9], "detection": [0.3], "detection_alive": [0.8]})
    files.write_parquet(tmp_path / "metrics.parquet", metrics)
    metrics.to_csv(tmp_path / "metrics.csv", index=False)
    for name in ("metrics.parquet", "metrics.csv"):
        with refused_naming(
            *(str(tmp_path / name), "detection_alive", "detection_auc_all"),
            *("again", f"python bench/reference.py rename {tmp_path}"),
        ):
            rows.read_metrics(tmp_path / name)

    # Of a metric of one's own it is no old name.
    columns = {"detection": "mine", "detection_alive": "mine", "r2": "reconstruction"}
    files.write_json(tmp_path / "made_by.json", {"columns": columns})
    pd.testing.assert_frame_equal(
        rows.read_metrics(tmp_path / "metrics.parquet"), metrics
    )

    file = tmp_path / "tables/front_means.parquet"
    file.parent.mkdir()
    for score in ("detection", "detection_alive"):
        files.write_parquet(file, pd.DataFrame({"score": ["ms", score]}))
        with refused_naming(str(file), score, f"reference.py rebuild {tmp_path}"):
            outcomes.read_table(file)
    files.write_parquet(file, pd.DataFrame({"score": ["ms", "detection_auc"]}))
    assert len(outcomes.read_table(file)) == 2

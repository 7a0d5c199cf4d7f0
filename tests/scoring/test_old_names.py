"""Tables with scores under names of before are refused, with what helps."""

import pandas as pd
import pytest
from support.errors import refused_naming

from sae.core import files
from sae.scoring import rows
from sae.scoring.old_names import RENAMED


@pytest.mark.parametrize("suffix", ["parquet", "csv"])
@pytest.mark.parametrize("name", RENAMED)
def test_tables_of_before_are_refused_with_what_helps(tmp_path, name, suffix):
    file = tmp_path / f"study/metrics.{suffix}"
    file.parent.mkdir()
    metrics = pd.DataFrame({"r2": [0.9], name: [0.8]})
    if suffix == "csv":
        metrics.to_csv(file, index=False)
    else:
        files.write_parquet(file, metrics)
    help_of_name = (name, RENAMED[name], "`make run EXPERIMENT=study`")
    with refused_naming(str(file), *help_of_name):
        rows.read_metrics(file)

    # Of a metric of one's own it is no old name.
    columns = {name: "mine", "r2": "reconstruction"}
    files.write_json(file.with_name("made_by.json"), {"columns": columns})
    pd.testing.assert_frame_equal(rows.read_metrics(file), metrics)

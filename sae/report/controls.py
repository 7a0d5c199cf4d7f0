"""The controls beside the trained baseline, for reading."""

import pandas as pd

from sae.comparison import published
from sae.comparison.scores import SCORES
from sae.report.names import Names

NOTES = """\
Per dataset, then over all of them: the baseline's mean over cells, and each control's difference from it, with the
wider of two intervals: a bootstrap over (dataset, backbone) blocks, seeds inside them, and Student's t of the blocks'
means; none with fewer blocks than the claims ask for. `?`: the interval reaches 0. There the score cannot tell a
trained SAE from what was not trained, or only in part. Controls are not tuned and stand at their own R2."""


def as_text(table: pd.DataFrame, names: Names) -> pd.DataFrame:
    """What :func:`compare` returned, for reading: a row per dataset and score, a column per control."""
    shown = []
    for (dataset, score), rows in table.groupby(["dataset", "score"], sort=False):
        said = SCORES[str(score)].label or SCORES[str(score)].heading
        line = {
            "data": names.dataset(str(dataset)),
            "score": said,
            "baseline": f"{rows['baseline'].iloc[0]:.3f}",
        }
        for row in rows.to_dict("records"):
            text = published.interval(
                row["difference"], row["low"], row["high"], "{:+.3f}".format
            )
            line[names.method(row["control"])] = text + (
                " ?" if row["tells_nothing"] else ""
            )
        shown.append(line)
    columns = [
        "data",
        "score",
        "baseline",
        *(names.method(name) for name in names.controls),
    ]
    return pd.DataFrame(shown, columns=columns).fillna("-")

"""What the scores of the paper's tables are worth, for reading."""

import pandas as pd

from sae.comparison import published
from sae.comparison.scores import SCORES
from sae.report.markup import column_key, markdown, wrapped
from sae.report.names import Names

NOTES = (
    "Each dataset has its rows; the last are over all datasets. The baseline's mean "
    "over cells stands beside each control's difference from it. In brackets is the "
    "wider of two intervals: a bootstrap over (dataset, backbone) blocks, with seeds "
    "inside them, and Student's t of the blocks' means. There is none with fewer "
    "blocks than the claims ask for. Controls are not tuned and stand at their own R2."
)
MARKS = {
    "?": (
        "the interval reaches 0. There the score cannot tell a trained SAE from what "
        "was not trained, or only in part"
    )
}
NO_CONTROLS = (
    "Empty: no method of this experiment is a control (`control` in config.yaml)."
)


def page(table: pd.DataFrame, head: str, names: Names) -> str:
    """Return the page of controls.

    Args:
        table: What :func:`sae.comparison.controls.compare` returned.
        head: A paragraph that stands first.
        names: How methods and datasets are printed.
    """
    paragraphs = ["# What the scores are worth", head]
    if table.empty:
        paragraphs.append(NO_CONTROLS)
    else:
        paragraphs += [
            markdown(as_text(table, names)),
            wrapped(NOTES),
            column_key(MARKS),
        ]
    return "\n\n".join(paragraphs) + "\n"


def as_text(table: pd.DataFrame, names: Names) -> pd.DataFrame:
    """Print differences: a row for each dataset and score, a column for each control.

    Args:
        table: What :func:`sae.comparison.controls.compare` returned.
        names: How methods and datasets are printed.
    """
    lines = []
    for (dataset, score_name), rows in table.groupby(["dataset", "score"], sort=False):
        score = SCORES[str(score_name)]
        line = {
            "data": names.dataset(str(dataset)),
            "score": score.label or score.heading,
            "baseline": f"{rows['baseline'].iloc[0]:.3f}",
        }
        for row in rows.to_dict("records"):
            difference = published.interval(
                row["difference"], row["low"], row["high"], "{:+.3f}".format
            )
            mark = " ?" if row["tells_nothing"] else ""
            line[names.method(row["control"])] = difference + mark
        lines.append(line)
    control_labels = [names.method(name) for name in names.controls]
    columns = ["data", "score", "baseline", *control_labels]
    return pd.DataFrame(lines, columns=columns).fillna("-")

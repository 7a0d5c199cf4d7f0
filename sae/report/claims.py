"""The claims for reading: csv, and a page of markdown."""

from math import isnan
from pathlib import Path

import pandas as pd

from sae.comparison import published
from sae.comparison.claims import COLUMNS, Evidence, claims, decide
from sae.comparison.scores import across_groups
from sae.config.rule import ClaimRule
from sae.core import files
from sae.report.markup import column_key, markdown, wrapped
from sae.report.tables import ComparisonSettings
from sae.scoring.rows import read_metrics
from sae.scoring.selection import CELL, rows_under

_COLUMNS = {
    "measured": (
        "the mean over cells, with the {confidence:.0%} interval of a bootstrap over "
        "(dataset, backbone) blocks, {seed_draws}"
    ),
    "published": (
        "the paper's mean effect on its own datasets and backbones, and in how many of "
        "its cells it goes up or down"
    ),
    "detection": (
        "of a claim about MS, the effect on detection, the AUC with which encoders of "
        "another family find a latent's images"
    ),
    "?": (
        "on a dataset a control has the score as high as the baseline, so that there "
        "the score does not tell a trained SAE from it (column `controls` of "
        "claims.csv; tables/controls.md)"
    ),
}
_VERDICTS = (
    "A claim *holds* if the interval lies beyond its bound and at least "
    "{agreement:.0%} of the cells that differ agree. It *holds in part* if only the "
    "interval does, or if the sign of its mean turns when dead latents count as 0. "
    "Else it is *not shown*. 'No loss' and 'the same' ask the interval alone. The "
    "rule's numbers are `claims` in config.yaml."
)
_CELLS = (
    "Test split, {cells} cells (dataset, backbone, k), {seeds} seed(s). MS is over "
    "latents that fire on two test images or more; where a dataset knows "
    "near-duplicates, pairs of them do not count."
)


def write(
    metrics_file: Path,
    curves_file: Path,
    published_folder: Path,
    settings: ComparisonSettings,
    out: Path,
) -> None:
    """Write the claims into a folder, as .csv and .parquet (`COLUMNS`) and as .md.

    Args:
        metrics_file: metrics.parquet.
        curves_file: curves.parquet.
        published_folder: The paper's tables as CSV.
        settings: How things are printed, and the rule of claims.
        out: The folder to write into.
    """
    metrics = across_groups(rows_under(read_metrics(metrics_file), "paper"))
    curves = files.read_parquet(curves_file)
    published_tables = published.read(published_folder)
    evidence = Evidence(metrics, curves, published_tables, settings.claims, settings)
    verdicts = [decide(claim, evidence) for claim in claims(evidence)]
    table = pd.DataFrame(verdicts, columns=COLUMNS)

    csv = table.to_csv(index=False, lineterminator="\n")
    files.write_text(out / "claims.csv", csv)
    files.write_parquet(out / "claims.parquet", table)
    seed_count = metrics["seed"].nunique()
    cell_count = metrics.groupby(CELL).ngroups
    page = _page(table, settings.claims, seed_count, cell_count)
    files.write_text(out / "claims.md", page)
    files.write_sums(out / "claims.sums.json", [out / "claims.csv", out / "claims.md"])


def as_text(table: pd.DataFrame) -> pd.DataFrame:
    """Print the claims: effect with interval, cells for and against, verdict.

    Args:
        table: The columns `COLUMNS`.
    """
    lines = []
    for row in table.to_dict("records"):
        detection = ""
        if not isnan(row["detection"]):
            detection = published.signed(row["detection"])
        mark = " ?" if row["controls"] else ""
        # A ratio has no sign.
        is_ratio = row["claim"] in ("baseline_rises_above_k", "reg2_flat_above_k")
        write = "{:.3f}".format if is_ratio else published.signed
        measured = published.interval(
            row["measured"], row["ci_low"], row["ci_high"], write
        )
        origin = "ours, not the paper's" if row["ours"] else ""
        notes = [note for note in (origin, row["note"]) if note]
        line = {
            "claim": row["statement"],
            "published": row["published"],
            "measured": measured,
            "detection": detection,
            "for / against": f"{row['cells_for']} / {row['cells_against']}",
            "verdict": row["verdict"] + mark,
            "note": "; ".join(notes),
        }
        lines.append(line)
    return pd.DataFrame(lines)


def _page(
    table: pd.DataFrame, rule: ClaimRule, seed_count: int, cell_count: int
) -> str:
    seed_draws = "one seed, so across blocks only"
    if seed_count > 1:
        seed_draws = "seeds inside them"
    meanings = {
        column: meaning.format(confidence=rule.confidence, seed_draws=seed_draws)
        for column, meaning in _COLUMNS.items()
    }
    paragraphs = [
        "# Claims of the paper, and what was measured here",
        markdown(as_text(table)),
        wrapped(_CELLS.format(cells=cell_count, seeds=seed_count)),
        wrapped(_VERDICTS.format(agreement=rule.agreement)),
        column_key(meanings),
    ]
    return "\n\n".join(paragraphs) + "\n"

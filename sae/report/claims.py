"""The claims for reading: csv, and a page of markdown."""

from math import isnan
from pathlib import Path
from typing import Any

import pandas as pd

from sae.comparison import published
from sae.comparison.claims import COLUMNS, Evidence, claims, judge
from sae.comparison.scores import across_groups
from sae.config.rule import ClaimRule
from sae.core import files
from sae.report.markup import markdown
from sae.report.tables import ComparisonSettings
from sae.scoring.selection import CELL, rows_under


def write(
    metrics_file: Path,
    curves_file: Path,
    published_folder: Path,
    settings: ComparisonSettings,
    out: Path,
) -> None:
    """Write `out`/claims.csv (columns `COLUMNS`) and `out`/claims.md.

    Args:
        metrics_file, curves_file: metrics.parquet and curves.parquet.
        published_folder: the paper's tables as CSV.
        out: the folder to write into.
        settings: :class:`ComparisonSettings`.
    """
    metrics = across_groups(rows_under(files.read_parquet(metrics_file), "paper"))
    tables = published.read(published_folder)
    evidence = Evidence(
        metrics, files.read_parquet(curves_file), tables, settings.claims, settings
    )
    table = pd.DataFrame(
        [judge(claim, evidence) for claim in claims(evidence)], columns=COLUMNS
    )
    files.write_text(out / "claims.csv", table.to_csv(index=False, lineterminator="\n"))
    seeds, cells = metrics["seed"].nunique(), metrics.groupby(CELL).ngroups
    files.write_text(out / "claims.md", _page(table, settings.claims, seeds, cells))
    files.write_sums(out / "claims.sums.json", [out / "claims.csv", out / "claims.md"])


def as_text(table: pd.DataFrame) -> pd.DataFrame:
    """The claims table for reading: effect with interval, cells for and against."""
    shown = []
    for row in table.to_dict("records"):
        notes = ["ours, not the paper's" if row["ours"] else "", row["note"]]
        line = {
            "claim": row["statement"],
            "published": row["published"],
            "measured": _measured(row),
        }
        line |= {
            "detection": ""
            if isnan(row["detection"])
            else published.signed(row["detection"])
        }
        line |= {"for / against": f"{row['cells_for']} / {row['cells_against']}"}
        line |= {"verdict": row["verdict"] + (" ?" if row["controls"] else "")}
        shown.append(line | {"note": "; ".join(filter(None, notes))})
    return pd.DataFrame(shown)


def _measured(row: dict[str, Any]) -> str:
    is_ratio = row["claim"] in ("baseline_rises_above_k", "reg2_flat_above_k")
    write = "{:.3f}".format if is_ratio else published.signed
    return published.interval(row["measured"], row["ci_low"], row["ci_high"], write)


def _page(table: pd.DataFrame, rule: ClaimRule, seeds: int, cells: int) -> str:
    drawn = "seeds inside them" if seeds > 1 else "one seed, so across blocks only"
    return f"""\
# Claims of the paper, and what was measured here

{markdown(as_text(table))}

Test split, {cells} cells (dataset, backbone, k), {seeds} seed(s). Measured: mean over cells, with the
{rule.confidence:.0%} interval of a bootstrap over (dataset, backbone) blocks, {drawn}. A claim holds if
the interval lies beyond its bound and at least {rule.agreement:.0%} of the cells that differ agree. It holds in part
if only the interval does, or if the sign of its mean turns when dead latents count as 0. Else it is not shown.
'No loss' and 'the same' ask the interval alone. MS is over latents that fire on two test images or more;
where a dataset knows near-duplicates, pairs of them do not count. Published:
the paper's own datasets and backbones, mean effect, and in how many of its cells it goes up or down. Detection: of a
claim about MS the same effect on the AUC with which other models find a latent's images, over live latents. The rule's
numbers: `claims` in config.yaml.

`?`: on a dataset a control has the score as high as the baseline, so that there the score does not tell a trained SAE
from it (column `controls` of claims.csv; tables/controls.md).
"""

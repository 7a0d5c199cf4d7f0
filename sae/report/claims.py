"""The paper's claims (arXiv:2606.27321) against an experiment: effect, interval and verdict, by a rule set beforehand.

Every claim is about a value per (dataset, backbone, k, seed), most often a difference from the baseline of the same
seed. Measured is its mean over cells; the interval is a percentile bootstrap over (dataset, backbone) blocks, with
seeds drawn again inside each block, since most of an effect's variance lies between blocks. The rule's numbers are
`claims` in config.yaml.
"""

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from sae.core import files
from sae.report import labels, published
from sae.report.tables import markdown
from sae.scoring.selection import CELL, chosen, of_chosen

COLUMNS = ["claim", "statement", "published", "measured", "ci_low", "ci_high", "cells_for", "cells_against", "verdict"]
HOLDS, IN_PART, NOT, UNTESTED = "holds", "holds in part", "does not hold", "not tested here"
REG1, REG2 = "off_support_l1", "l1_l2_ratio"
_RUN = [*CELL, "seed"]
RATIOS = ("baseline_rises_above_k", "reg2_flat_above_k")


class Claim(NamedTuple):
    """One claim.

    Attributes:
        name, statement: for the table.
        value: from `Evidence` to a Series indexed by (dataset, backbone, k, seed); empty where nothing was measured.
        published: what the paper reports, from the tables of `sae.report.published`, as text.
        sign: +1 if the claim says that the value lies above `bound`, -1 below.
        bound: what the value is compared with: 0 for a difference, minus the margin for 'no loss'.
        agreement: whether two thirds of the cells must agree too.
        beside: the same value with dead latents counted as 0: if its sign differs, the claim holds in part.
        methods: the regularizers it is about: where one fell back on the baseline, the cell counts for neither side.
        ours: not a claim of the paper.
        caveat: what a reader must know beside the numbers.
    """

    name: str
    statement: str
    value: Callable
    published: Callable
    sign: int = 1
    bound: float = 0.0
    agreement: bool = True
    beside: Callable | None = None
    methods: tuple = ()
    ours: bool = False
    caveat: str = ""


class Evidence:
    """An experiment's results on test: the chosen SAEs, their mask ablation and their curves.

    Args:
        metrics, points: metrics.parquet and curves.parquet.
    """

    def __init__(self, metrics, points):
        self.picked = chosen(metrics, "test")
        self.ablated = metrics[(metrics["mask"] == "all") & (metrics["split"] == "test")]
        self.points = of_chosen(self.picked, points)

    def of(self, regularizer, metric, minus=None, ablated=False):
        """A metric of one method, per run; what is not defined is left out."""
        rows = self.ablated if ablated else self.picked
        rows = rows[rows["regularizer"] == regularizer].set_index(_RUN)
        if metric not in rows:
            return pd.Series(dtype=float)
        values = rows[metric] if minus is None else rows[metric] - rows[minus]
        return values.astype(float).dropna()

    def difference(self, regularizer, metric, other="none", minus=None):
        """A metric of one method minus another's, paired by run."""
        return (self.of(regularizer, metric, minus) - self.of(other, metric, minus)).dropna()

    def unmasked(self, regularizer, metric):
        """What leaving out the batch-active mask adds to a metric; 0 where there is no SAE to ablate."""
        added = self.of(regularizer, metric, ablated=True) - self.of(regularizer, metric)
        added[added.index.isin(self.fallen(regularizer))] = 0.0
        return added.dropna()

    def fallen(self, regularizer):
        """The runs in which no lambda of a regularizer was acceptable."""
        rows = self.picked[(self.picked["regularizer"] == regularizer) & self.picked["fallback"]]
        return rows.set_index(_RUN).index

    def error(self, regularizer):
        """NMSE of one method by run (rows) and inference-time k relative to the training k (columns)."""
        p = self.points
        p = p[(p["curve"] == "robustness") & (p["regularizer"] == regularizer)]
        return p.assign(relative=p["x"] / p["k"]).pivot_table(index=_RUN, columns="relative", values="y")

    def error_below(self, regularizer):
        """Mean over the k below the training k of log(NMSE / the baseline's)."""
        ours, theirs = self.error(regularizer), self.error("none")
        if ours.empty:
            return pd.Series(dtype=float)
        ratio = np.log(ours / theirs)
        return ratio.loc[:, ratio.columns < 1].mean(axis=1).dropna()

    def rise(self, regularizer):
        """NMSE at four times the training k, divided by that at the training k."""
        error = self.error(regularizer)
        return (error[4.0] / error[1.0]).dropna() if {1.0, 4.0} <= set(error.columns) else pd.Series(dtype=float)

    def rise_where_the_baseline_rises(self, regularizer, threshold):
        """:meth:`rise`, of the cells in which the baseline's (mean over seeds) reaches `threshold`."""
        ours = self.rise(regularizer)
        if ours.empty:
            return ours
        cells = self.rise("none").groupby(CELL).mean()
        rising = cells.index[cells >= threshold]
        return ours[pd.MultiIndex.from_arrays([ours.index.get_level_values(c) for c in CELL]).isin(rising)]


def claims(rule, regularizers=()):
    """All claims; further `regularizers` get the two that any regularizer is tried for."""
    names = {REG1: "Reg. 1", REG2: "Reg. 2"}
    extra = [r for r in regularizers if r not in (*names, "none")]
    found = []
    for r, said in (names | {r: labels.method(r) for r in extra}).items():
        ours = r in extra
        stem = {REG1: "reg1", REG2: "reg2"}.get(r, r)
        found += [
            Claim(
                f"{stem}_raises_ms",
                f"{said} raises mean MS",
                lambda e, r=r: e.difference(r, "ms_mean_alive"),
                lambda p, r=r: published.effect(p, r, "ms_mean"),
                beside=lambda e, r=r: e.difference(r, "ms_mean"),
                methods=(r,),
                ours=ours,
            ),
            Claim(
                f"{stem}_keeps_r2",
                f"... at no loss of R² (difference above -{rule['margin_r2']:g})",
                lambda e, r=r: e.difference(r, "r2"),
                lambda p, r=r: published.effect(p, r, "r2"),
                bound=-rule["margin_r2"],
                agreement=False,
                methods=(r,),
                ours=ours,
            ),
        ]
    found.append(
        Claim(
            "reg1_ms_above_reg2",
            "Reg. 1 raises mean MS more than Reg. 2",
            lambda e: e.difference(REG1, "ms_mean_alive", REG2),
            lambda p: published.effect(p, REG1, "ms_mean", other=REG2),
            beside=lambda e: e.difference(REG1, "ms_mean", REG2),
            methods=(REG1, REG2),
        )
    )
    for r, said in names.items():
        found.append(
            Claim(
                f"{'reg1' if r == REG1 else 'reg2'}_raises_purity",
                f"{said} raises class purity (minus its permutation null)",
                lambda e, r=r: e.difference(r, "purity_binary", minus="purity_binary_null"),
                lambda p, r=r: published.effect(p, r, "purity_binary") + ", no null taken off",
                methods=(r,),
            )
        )
    found += [
        Claim(
            "reg2_error_below_k",
            "Reg. 2 reconstructs better than the baseline below the training k (mean log NMSE ratio)",
            lambda e: e.error_below(REG2),
            lambda p: "lower (Fig. 5)",
            sign=-1,
            methods=(REG2,),
        ),
        Claim(
            "baseline_rises_above_k",
            f"The baseline's error rises above the training k (NMSE(4k)/NMSE(k) at least {rule['rises']:g})",
            lambda e: e.rise("none"),
            lambda p: "rises (Fig. 5)",
            bound=rule["rises"],
        ),
        Claim(
            "reg2_flat_above_k",
            f"Where it does, Reg. 2's stays flat (at most {rule['flat']:g})",
            lambda e: e.rise_where_the_baseline_rises(REG2, rule["rises"]),
            lambda p: "flat (Fig. 5)",
            sign=-1,
            bound=rule["flat"],
            methods=(REG2,),
        ),
        Claim(
            "reg2_raises_probe_auc",
            "Reg. 2 raises the truncated probe's normalised AUC",
            lambda e: e.difference(REG2, "probe_auc"),
            lambda p: published.effect(p, REG2, "probe_auc"),
            methods=(REG2,),
        ),
        Claim(
            "reg2_keeps_probe_top1",
            f"... at the same top-1 at the largest k' (difference above -{rule['margin_top1']:g})",
            lambda e: e.difference(REG2, "probe_top1"),
            lambda p: published.effect(p, REG2, "probe_top1"),
            bound=-rule["margin_top1"],
            agreement=False,
            methods=(REG2,),
        ),
    ]
    for r, said in names.items():
        stem = "reg1" if r == REG1 else "reg2"
        found += [
            Claim(
                f"mask_prevents_dead_{stem}",
                f"Without the batch-active mask {said} leaves more latents dead",
                lambda e, r=r: e.unmasked(r, "dead"),
                lambda p, r=r: published.effect(p, r, "dead", mask="all", other=r),
                methods=(r,),
            ),
            Claim(
                f"mask_raises_ms_{stem}",
                f"... and mean MS is lower without it ({said})",
                lambda e, r=r: e.unmasked(r, "ms_mean_alive"),
                lambda p: "lower (text)",
                sign=-1,
                beside=lambda e, r=r: e.unmasked(r, "ms_mean"),
                methods=(r,),
            ),
        ]
    found += [
        Claim(
            "reg2_more_dead",
            "Reg. 2 tends to raise the number of dead latents",
            lambda e: e.difference(REG2, "dead"),
            lambda p: published.effect(p, REG2, "dead"),
            methods=(REG2,),
        ),
        Claim(
            "reg1_fewer_dead",
            "Reg. 1 tends to lower it",
            lambda e: e.difference(REG1, "dead"),
            lambda p: published.effect(p, REG1, "dead"),
            sign=-1,
            methods=(REG1,),
        ),
    ]
    for r, said in names.items():
        found.append(
            Claim(
                f"{'reg1' if r == REG1 else 'reg2'}_raises_independent_ms",
                f"{said} raises mean MS as other backbones see it",
                lambda e, r=r: e.difference(r, "ms_mean_alive_independent"),
                lambda p: "-",
                methods=(r,),
                ours=True,
                caveat="as independent as the experiment's backbones are",
            )
        )
    return found


def judge(claim, evidence, rule):
    """One row of the claims table, and a note."""
    values = claim.value(evidence)
    row = {"claim": claim.name, "statement": claim.statement, "cells_for": 0, "cells_against": 0, "verdict": UNTESTED}
    notes = [text for text in ("ours, not the paper's" if claim.ours else "", claim.caveat) if text]
    if values.empty:
        return row | {"note": "; ".join([*notes, "not measured"])}
    cells = values.groupby(CELL).mean()
    row["measured"] = cells.mean()
    # Neither side: rounding errors of a difference, and cells in which a method fell back on the baseline in every run.
    beyond = claim.sign * (cells - claim.bound)
    for method in claim.methods:
        runs = values.groupby(CELL).size()
        fallen = pd.Series(1, evidence.fallen(method)).groupby(CELL).size().reindex(runs.index).fillna(0)
        beyond = beyond[fallen < runs]
    row["cells_for"], row["cells_against"] = int((beyond > 1e-12).sum()), int((beyond < -1e-12).sum())
    total = evidence.picked.groupby(CELL).ngroups
    if len(cells) < total:
        notes.append(f"{len(cells)} of {total} cells")
    blocks = values.groupby(["dataset", "backbone"]).ngroups
    if blocks < rule["min_blocks"]:
        notes.append(f"{blocks} (dataset, backbone), {rule['min_blocks']} needed")
        return row | {"note": "; ".join(notes)}
    low, high = interval(values, rule)
    row |= {"ci_low": low, "ci_high": high}
    decided = row["cells_for"] + row["cells_against"]
    certain = low > claim.bound if claim.sign > 0 else high < claim.bound
    agrees = not claim.agreement or (decided > 0 and row["cells_for"] >= rule["agreement"] * decided)
    row["verdict"] = (HOLDS if agrees else IN_PART) if certain else NOT
    if claim.beside:
        other = claim.beside(evidence).groupby(CELL).mean().mean()
        notes.append(f"dead as 0: {published.signed(other)}")
        if row["verdict"] == HOLDS and np.sign(other) != np.sign(row["measured"]):
            row["verdict"] = IN_PART
    if len(values.index.unique("seed")) == 1:
        notes.append("interval across blocks only")
    return row | {"note": "; ".join(notes)}


def interval(values, rule):
    """Percentile bootstrap interval of the mean over cells.

    Args:
        values: Series indexed by (dataset, backbone, k, seed).
        rule: confidence, resamples, bootstrap_seed.

    Blocks (dataset, backbone) are drawn with replacement; in each drawn block, so are its seeds. With one seed the
    interval speaks of blocks only.
    """
    frame = values.rename("value").reset_index()
    block = frame.groupby(["dataset", "backbone"], sort=False).ngroup()
    totals = frame.groupby([block, "seed"], sort=True)["value"].agg(["sum", "count"])
    per_block = [rows.to_numpy(dtype=float) for _, rows in totals.groupby(level=0)]
    rng = np.random.default_rng(rule["bootstrap_seed"])
    drawn = rng.integers(len(per_block), size=(rule["resamples"], len(per_block)))
    sums = np.zeros((rule["resamples"], 2))
    for number, rows in enumerate(per_block):
        # Each of the times this block was drawn, draw as many seeds as it has.
        times = (drawn == number).sum(axis=1)
        for time in range(times.max(initial=0)):
            seeds = rng.integers(len(rows), size=(rule["resamples"], len(rows)))
            sums += rows[seeds].sum(axis=1) * (times > time)[:, None]
    means = sums[:, 0] / sums[:, 1]
    tail = (1 - rule["confidence"]) / 2
    return tuple(float(v) for v in np.quantile(means, [tail, 1 - tail]))


def write(metrics_file, curves_file, published_folder, rule, out):
    """Write `out`/claims.csv (columns `COLUMNS`, and `note`) and `out`/claims.md."""
    metrics = files.read_parquet(metrics_file)
    evidence, tables = Evidence(metrics, files.read_parquet(curves_file)), published.read(published_folder)
    rows = []
    for claim in claims(rule, metrics["regularizer"].unique()):
        rows.append(judge(claim, evidence, rule) | {"published": claim.published(tables)})
    table = pd.DataFrame(rows, columns=[*COLUMNS, "note"])
    with files.atomic_file(Path(out) / "claims.csv") as temporary:
        table.to_csv(temporary, index=False)
    seeds, cells = metrics["seed"].nunique(), len(metrics.groupby(CELL))
    files.write_text(Path(out) / "claims.md", _page(table, rule, seeds, cells))


def as_text(table):
    """The claims table for reading: effect with interval, cells for and against."""
    shown = []
    for row in table.fillna({"note": ""}).to_dict("records"):
        measured = "-"
        write = "{:.3f}".format if row["claim"] in RATIOS else published.signed
        if not np.isnan(row["measured"]):
            measured = write(row["measured"])
        if not np.isnan(row["ci_low"]):
            measured += f" [{write(row['ci_low'])}, {write(row['ci_high'])}]"
        shown.append(
            {
                "claim": row["statement"],
                "published": row["published"],
                "measured": measured,
                "for / against": f"{row['cells_for']} / {row['cells_against']}",
                "verdict": row["verdict"],
                "note": row["note"],
            }
        )
    return pd.DataFrame(shown)


def _page(table, rule, seeds, cells):
    drawn = "seeds inside them" if seeds > 1 else "one seed, so across blocks only"
    return f"""\
# Claims of the paper, and what was measured here

{markdown(as_text(table))}

Test split, {cells} cells (dataset, backbone, k), {seeds} seed(s). Measured: mean over cells, with the
{rule["confidence"]:.0%} interval of a bootstrap over (dataset, backbone) blocks, {drawn}. A claim holds if
the interval lies beyond its bound and at least {rule["agreement"]:.0%} of the cells that differ agree. It holds in part
if only the interval does, or if the sign of its mean turns when dead latents count as 0. Else it does not hold.
'No loss' and 'the same' ask the interval alone. MS is over latents that fire on two test images or more. Published:
the paper's own datasets and backbones, mean effect, and in how many of its cells it goes up or down. The rule's
numbers: `claims` in config.yaml.
"""

"""The paper's claims (arXiv:2606.27321) against an experiment: effect, interval and verdict, by a rule set beforehand.

Every claim is about a value per (dataset, backbone, k, seed), most often a difference from another method of the same
seed. Measured is its mean over cells; the interval is a percentile bootstrap over (dataset, backbone) blocks, with
seeds drawn again inside each block, since most of an effect's variance lies between blocks. The rule's numbers are
`claims` in config.yaml.
"""

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from sae.core import files
from sae.report import bootstrap, controls, published
from sae.report.names import Names
from sae.report.published import BASELINE, REG1, REG1_ALL, REG2, REG2_ALL
from sae.report.scores import across_groups, diverged
from sae.report.tables import markdown
from sae.scoring.selection import CELL, chosen, of_chosen, under

COLUMNS = ["claim", "statement", "published", "measured", "ci_low", "ci_high", "cells_for", "cells_against", "verdict"]
COLUMNS += ["ours", "note"]
HOLDS, IN_PART, NOT, UNTESTED = "holds", "holds in part", "does not hold", "not tested here"
RATIOS = ("baseline_rises_above_k", "reg2_flat_above_k")
_RUN = [*CELL, "seed"]
_NOTHING = pd.Series(dtype=float, index=pd.MultiIndex.from_arrays([[]] * len(_RUN), names=_RUN))


class Evidence:
    """An experiment's results on test: the chosen SAEs, the SAEs trained at their choice, curves.

    Args:
        picked: the chosen SAEs, as :func:`sae.scoring.selection.chosen` gives them. MS is across groups, where a
            dataset has groups (:func:`sae.report.scores.across_groups`).
        metrics: metrics.parquet under protocol `paper`, MS likewise.
        points: curves.parquet.
    """

    def __init__(self, picked: pd.DataFrame, metrics: pd.DataFrame, points: pd.DataFrame, names: Names) -> None:
        self.picked = picked
        at = metrics[(metrics["split"] == "test") & metrics["method"].isin([method for _, method in names.pairs])]
        self._rows = pd.concat([self.picked, at]) if len(at) else self.picked
        self._points = of_chosen(self.picked, points[points["curve"] == "robustness"])
        self._names, self._worth = names, dict[tuple[str, str | None], list[str]]()
        self._diverged = diverged(metrics)

    def of(self, method: str, metric: str, minus: str | None = None) -> pd.Series:
        """A metric of one method, by run; what is not defined is left out."""
        rows = self._rows[self._rows["method"] == method].set_index(_RUN)
        if rows.empty or metric not in rows:
            return _NOTHING
        values = rows[metric] if minus is None else rows[metric] - rows[minus]
        return values.astype(float).dropna()

    def difference(self, method: str, other: str, metric: str, minus: str | None = None) -> pd.Series:
        """A metric of one method minus another's, paired by run."""
        return (self.of(method, metric, minus) - self.of(other, metric, minus)).dropna()

    def added(self, method: str, base: str, metric: str) -> pd.Series:
        """What a method that is trained at the choice of `base` adds to a metric; 0 in runs where `base` had no choice.

        Nothing if no run has an SAE of the method: it is not in the experiment, or `base` never had a choice.
        """
        own = self.of(method, metric)
        if own.empty:
            return _NOTHING
        added = own - self.of(base, metric)
        added[added.index.isin(self.fallen(base))] = 0.0
        return added.dropna()

    def fallen(self, method: str) -> pd.Index:
        """The runs in which no trial of a method was acceptable."""
        return self.picked[(self.picked["method"] == method) & self.picked["fallback"]].set_index(_RUN).index

    def error(self, method: str) -> pd.DataFrame:
        """NMSE of one method by run (rows) and inference-time k relative to the training k (columns)."""
        points = self._points[self._points["method"] == method]
        points = points.assign(relative=points["x"] / points["k"])
        return points.pivot_table(index=_RUN, columns="relative", values="y")

    def error_below(self, method: str, other: str) -> pd.Series:
        """Mean over the k below the training k of log(NMSE / the other method's)."""
        ours, theirs = self.error(method), self.error(other)
        if ours.empty or theirs.empty:
            return _NOTHING
        ratio = np.log(ours / theirs)
        return ratio.loc[:, ratio.columns < 1].mean(axis=1).dropna()

    def rise(self, method: str) -> pd.Series:
        """NMSE at four times the training k, divided by that at the training k."""
        error = self.error(method)
        return (error[4.0] / error[1.0]).dropna() if {1.0, 4.0} <= set(error.columns) else _NOTHING

    def rise_where(self, method: str, other: str, threshold: float) -> pd.Series:
        """:meth:`rise`, of the cells in which the other method's (mean over seeds) reaches `threshold`."""
        ours, cells = self.rise(method), self.rise(other).groupby(CELL).mean()
        rising = cells.index[cells >= threshold]
        return ours[ours.index.droplevel("seed").isin(rising)]

    def lost(self, methods: Iterable[str]) -> list[str]:
        """How many SAEs of some methods diverged, in words; nothing where none did."""
        lost = [name for name in methods if name in self._diverged]
        return [f"{self._names.method(name)}: {self._diverged[name]} SAEs diverged" for name in lost]

    def of_controls(self, score: tuple[str, str | None], rule: dict[str, Any]) -> list[str]:
        """Where a score tells nothing, in words, with the controls that have it as high as the baseline."""
        if score in self._worth:  # Several claims are about one score.
            return self._worth[score]
        found = controls.compare(self.picked, self._names, {"": score}, rule)
        found, said = found[found["tells_nothing"]], self._worth.setdefault(score, [])
        for dataset, rows in found.groupby("dataset", sort=False):
            reached = ", ".join(self._names.method(name) for name in rows["control"])
            said.append(f"tells nothing on {self._names.dataset(str(dataset))}: {reached} as high as the baseline")
        return said


Value = Callable[[Evidence], pd.Series]


class Claim(NamedTuple):
    """One claim.

    Attributes:
        name, statement: for the table.
        value: from `Evidence` to a Series indexed by (dataset, backbone, k, seed); empty where nothing was measured.
        published: what the paper reports, from the tables of `sae.report.published`, as text.
        methods: the methods it is about: where one fell back on another, the cell counts for neither side.
        sign: +1 if the claim says that the value lies above `bound`, -1 below.
        bound: what the value is compared with: 0 for a difference, minus the margin for 'no loss'.
        agreement: whether two thirds of the cells must agree too.
        beside: the same value with dead latents counted as 0: if its sign differs, the claim holds in part.
        ours: not a claim of the paper.
        score: (metric, what is subtracted or None) that it is about, which controls may have as high.
    """

    name: str
    statement: str
    value: Value
    published: Callable[[pd.DataFrame], str]
    methods: tuple[str, ...] = ()
    sign: int = 1
    bound: float = 0.0
    agreement: bool = True
    beside: Value | None = None
    ours: bool = False
    score: tuple[str, str | None] | None = None


def claims(rule: dict[str, Any], names: Names) -> list[Claim]:
    """The paper's claims, and for each other method that is compared with one the two that any method is tried for."""
    found = _of_the_paper(rule)
    for method, other in names.compared.items():
        if other is not None and method not in (REG1, REG2):
            found += _of_any(method, other, names.method(method), rule)
    return found


def _of_the_paper(rule: dict[str, Any]) -> list[Claim]:
    r, rises, flat = rule, rule["rises"], rule["flat"]
    said = {REG1: "Reg. 1", REG2: "Reg. 2"}  # As the paper calls them.
    return [
        *_of_any(REG1, BASELINE, said[REG1], r, ours=False),
        *_of_any(REG2, BASELINE, said[REG2], r, ours=False),
        _ms("reg1_ms_above_reg2", "Reg. 1 raises mean MS more than Reg. 2", REG1, REG2, methods=(REG1, REG2)),
        *(_purity(method, said[method]) for method in said),
        Claim(
            "reg2_error_below_k",
            "Reg. 2 reconstructs better than the baseline below the training k (mean log NMSE ratio)",
            lambda e: e.error_below(REG2, BASELINE),
            _text("lower (Fig. 5)"),
            methods=(REG2,),
            sign=-1,
        ),
        Claim(
            "baseline_rises_above_k",
            f"The baseline's error rises above the training k (NMSE(4k)/NMSE(k) at least {rises:g})",
            lambda e: e.rise(BASELINE),
            _text("rises (Fig. 5)"),
            bound=rises,
        ),
        Claim(
            "reg2_flat_above_k",
            f"Where it does, Reg. 2's stays flat (at most {flat:g})",
            lambda e: e.rise_where(REG2, BASELINE, rises),
            _text("flat (Fig. 5)"),
            methods=(REG2,),
            sign=-1,
            bound=flat,
        ),
        _difference("reg2_raises_probe_auc", "Reg. 2 raises the truncated probe's normalised AUC", REG2, "probe_auc"),
        _difference(
            "reg2_keeps_probe_top1",
            f"... at the same top-1 at the largest k' (difference above -{r['margin_top1']:g})",
            REG2,
            "probe_top1",
            bound=-r["margin_top1"],
            agreement=False,
        ),
        *_mask(REG1_ALL, REG1, said[REG1]),
        *_mask(REG2_ALL, REG2, said[REG2]),
        _difference("reg2_more_dead", "Reg. 2 tends to raise the number of dead latents", REG2, "dead", score=None),
        _difference("reg1_fewer_dead", "Reg. 1 tends to lower it", REG1, "dead", sign=-1, score=None),
        *(_independent(method, said[method]) for method in said),
    ]


def _difference(name: str, statement: str, method: str, metric: str, other: str = BASELINE, **more: Any) -> Claim:
    return Claim(
        name,
        statement,
        lambda e: e.difference(method, other, metric),
        lambda p: published.effect(p, method, metric, other),
        **{"methods": (method,), "score": (metric, None), **more},
    )


def _ms(name: str, statement: str, method: str, other: str, **more: Any) -> Claim:
    """MS is judged over latents that have a score; the paper reports it with the others as 0."""
    claim = _difference(name, statement, method, "ms_mean", other, **more)
    judged = claim._replace(value=lambda e: e.difference(method, other, "ms_mean_alive"), beside=claim.value)
    return judged._replace(score=("ms_mean_alive", None))


def _of_any(method: str, other: str, said: str, rule: dict[str, Any], ours: bool = True) -> list[Claim]:
    margin = rule["margin_r2"]
    statement = f"... at no loss of R² (difference above -{margin:g})"
    keeps = {"bound": -margin, "agreement": False, "ours": ours}
    return [
        _ms(f"{method}_raises_ms", f"{said} raises mean MS", method, other, ours=ours),
        _difference(f"{method}_keeps_r2", statement, method, "r2", other, **keeps),
    ]


def _purity(method: str, said: str) -> Claim:
    return Claim(
        f"{method}_raises_purity",
        f"{said} raises class purity (minus its permutation null)",
        lambda e: e.difference(method, BASELINE, "purity_binary", minus="purity_binary_null"),
        lambda p: published.effect(p, method, "purity_binary") + ", no null taken off",
        methods=(method,),
        score=("purity_binary", "purity_binary_null"),
    )


def _mask(method: str, base: str, said: str) -> list[Claim]:
    dead = f"Without the batch-active mask {said} leaves more latents dead"
    return [
        Claim(
            f"mask_prevents_dead_{base}",
            dead,
            lambda e: e.added(method, base, "dead"),
            lambda p: published.effect(p, method, "dead", base),
            methods=(base,),
        ),
        Claim(
            f"mask_raises_ms_{base}",
            f"... and mean MS is lower without it ({said})",
            lambda e: e.added(method, base, "ms_mean_alive"),
            _text("lower (text)"),
            methods=(base,),
            sign=-1,
            beside=lambda e: e.added(method, base, "ms_mean"),
            score=("ms_mean_alive", None),
        ),
    ]


def _independent(method: str, said: str) -> Claim:
    return _difference(
        f"{method}_raises_independent_ms",
        f"{said} raises mean MS as backbones of other families see it",
        method,
        "ms_mean_alive_independent",
        ours=True,
    )


def _text(text: str) -> Callable[[pd.DataFrame], str]:
    return lambda _: text


def judge(claim: Claim, evidence: Evidence, rule: dict[str, Any]) -> dict[str, Any]:
    """One row of the claims table, without what was published."""
    values = claim.value(evidence)
    row: dict[str, Any] = {"claim": claim.name, "statement": claim.statement, "cells_for": 0, "cells_against": 0}
    row |= {"verdict": UNTESTED, "ours": claim.ours}
    notes = evidence.lost(claim.methods)
    if values.empty:
        return row | {"note": "; ".join([*notes, "not measured"])}
    cells = values.groupby(CELL).mean()
    row["measured"] = cells.mean()
    row["cells_for"], row["cells_against"] = _sides(claim, evidence, values)
    total = evidence.picked.groupby(CELL).ngroups
    if len(cells) < total:
        notes.append(f"{len(cells)} of {total} cells")
    blocks = values.groupby(["dataset", "backbone"]).ngroups
    if blocks < rule["min_blocks"]:
        notes.append(f"{blocks} (dataset, backbone), {rule['min_blocks']} needed")
        return row | {"note": "; ".join(notes)}
    low, high = bootstrap.interval(values, rule)
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
    if claim.score:
        notes += evidence.of_controls(claim.score, rule)
    return row | {"note": "; ".join(notes)}


def _sides(claim: Claim, evidence: Evidence, values: pd.Series) -> tuple[int, int]:
    """How many cells are for and against a claim.

    On neither side: differences that are rounding errors, and cells in which a method fell back in every run.
    """
    beyond = claim.sign * (values.groupby(CELL).mean() - claim.bound)
    runs = values.groupby(CELL).size()
    for method in claim.methods:
        fallen = pd.Series(1, evidence.fallen(method)).groupby(CELL).size().reindex(runs.index).fillna(0)
        beyond = beyond[(fallen < runs).reindex(beyond.index)]
    return int((beyond > 1e-12).sum()), int((beyond < -1e-12).sum())


def write(
    metrics_file: str | Path,
    curves_file: str | Path,
    published_folder: str | Path,
    settings: dict[str, Any],
    out: str | Path,
) -> None:
    """Write `out`/claims.csv (columns `COLUMNS`) and `out`/claims.md.

    Args:
        metrics_file, curves_file: metrics.parquet and curves.parquet.
        published_folder: the paper's tables as CSV.
        out: the folder to write into.
        settings: `claims`, the rule; and those of :class:`sae.report.names.Names`.
    """
    metrics = across_groups(under(files.read_parquet(metrics_file), "paper"))
    points = files.read_parquet(curves_file)
    rule, names = settings["claims"], Names(settings)
    picked, tables = chosen(metrics, "test", names.compared), published.read(published_folder)
    evidence = Evidence(picked, metrics, points, names)
    rows = [judge(claim, evidence, rule) | {"published": claim.published(tables)} for claim in claims(rule, names)]
    table = pd.DataFrame(rows, columns=COLUMNS)
    with files.atomic_file(Path(out) / "claims.csv") as temporary:
        table.to_csv(temporary, index=False)
    seeds, cells = metrics["seed"].nunique(), metrics.groupby(CELL).ngroups
    files.write_text(Path(out) / "claims.md", _page(table, rule, seeds, cells))
    files.write_sums(Path(out) / "claims.sums.json", [Path(out) / "claims.csv", Path(out) / "claims.md"])


def as_text(table: pd.DataFrame) -> pd.DataFrame:
    """The claims table for reading: effect with interval, cells for and against."""
    shown = []
    for row in table.fillna({"note": ""}).to_dict("records"):
        notes = ["ours, not the paper's" if row["ours"] else "", row["note"]]
        line = {
            "claim": row["statement"],
            "published": row["published"],
            "measured": _measured(row),
            "for / against": f"{row['cells_for']} / {row['cells_against']}",
            "verdict": row["verdict"],
            "note": "; ".join(filter(None, notes)),
        }
        shown.append(line)
    return pd.DataFrame(shown)


def _measured(row: dict[str, Any]) -> str:
    write = "{:.3f}".format if row["claim"] in RATIOS else published.signed
    value, low, high = (row[name] for name in ("measured", "ci_low", "ci_high"))
    if np.isnan(value):
        return "-"
    return write(value) + ("" if np.isnan(low) else f" [{write(low)}, {write(high)}]")


def _page(table: pd.DataFrame, rule: dict[str, Any], seeds: int, cells: int) -> str:
    drawn = "seeds inside them" if seeds > 1 else "one seed, so across blocks only"
    return f"""\
# Claims of the paper, and what was measured here

{markdown(as_text(table))}

Test split, {cells} cells (dataset, backbone, k), {seeds} seed(s). Measured: mean over cells, with the
{rule["confidence"]:.0%} interval of a bootstrap over (dataset, backbone) blocks, {drawn}. A claim holds if
the interval lies beyond its bound and at least {rule["agreement"]:.0%} of the cells that differ agree. It holds in part
if only the interval does, or if the sign of its mean turns when dead latents count as 0. Else it does not hold.
'No loss' and 'the same' ask the interval alone. MS is over latents that fire on two test images or more;
where a dataset knows near-duplicates, pairs of them do not count. Published:
the paper's own datasets and backbones, mean effect, and in how many of its cells it goes up or down. A score 'tells
nothing' where the interval of a control's difference from the baseline reaches 0 (tables/controls.md). The rule's
numbers: `claims` in config.yaml.
"""

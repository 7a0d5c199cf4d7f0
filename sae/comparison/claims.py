"""The paper's claims (arXiv:2606.27321) against an experiment: effect, interval and verdict, by a rule set beforehand.

Every claim is about a value per (dataset, backbone, k, seed), most often a difference from another method of the same
seed. Measured is its mean over cells; the interval is a percentile bootstrap over (dataset, backbone) blocks, with
seeds drawn again inside each block, since most of an effect's variance lies between blocks. The rule's numbers are
`claims` in config.yaml.
"""

import functools
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from sae.comparison import bootstrap, controls, published
from sae.comparison.methods import Methods
from sae.comparison.published import BASELINE, REG1, REG1_ALL, REG2, REG2_ALL
from sae.comparison.scores import RUN, SCORES, by_run, diverged
from sae.config.rule import Rule
from sae.scoring.selection import CELL, chosen, of_chosen

COLUMNS = [
    "claim",
    "statement",
    "published",
    "measured",
    "ci_low",
    "ci_high",
    "cells_for",
    "cells_against",
    "verdict",
]
COLUMNS += ["ours", "detection", "controls", "note"]
VERDICTS = HOLDS, IN_PART, NOT, UNTESTED = (
    "holds",
    "holds in part",
    "not shown",
    "not tested",
)


class Evidence:
    """An experiment's results on test, beside what the paper reports: all that its verdicts rest on.

    Args:
        metrics: metrics.parquet under protocol `paper`. MS is across groups, where a dataset has groups
            (:func:`sae.comparison.scores.across_groups`).
        points: curves.parquet.
        tables: what `sae.comparison.published.read` returned.
    """

    def __init__(
        self,
        metrics: pd.DataFrame,
        points: pd.DataFrame,
        tables: pd.DataFrame,
        rule: Rule,
        names: Methods,
    ) -> None:
        self.picked = chosen(metrics, "test", names.compared)
        self.tables, self.rule, self.names = tables, rule, names
        at = metrics["method"].isin([method for _, method in names.pairs])
        self._rows = pd.concat(
            [self.picked, metrics[(metrics["split"] == "test") & at]]
        )
        points = of_chosen(self.picked, points[points["curve"] == "robustness"])
        self._points = points.assign(relative=points["x"] / points["k"])
        self._diverged = diverged(metrics)
        self.of_controls = functools.cache(
            self._of_controls
        )  # Several claims are about one score.

    def of(self, method: str, score: str) -> pd.Series:
        """A score of one method, by run; what is not defined is left out."""
        return by_run(self._rows[self._rows["method"] == method], score).dropna()

    def difference(self, method: str, other: str, score: str) -> pd.Series:
        """A score of one method minus another's, paired by run.

        If `method` trains at the other one's choice, it is 0 in runs where that had none. It is empty if no run has an
        SAE of `method`: it is not in the experiment, or the other one never had a choice.
        """
        own = self.of(method, score)
        found = own - self.of(other, score)
        if len(own) and self.names.of(method).at == other:
            found[found.index.isin(self.fallen(other))] = 0.0
        return found.dropna()

    def fallen(self, method: str) -> pd.Index:
        """The runs in which no trial of a method was acceptable."""
        return (
            self.picked[(self.picked["method"] == method) & self.picked["fallback"]]
            .set_index(RUN)
            .index
        )

    def error(self, method: str) -> pd.DataFrame:
        """NMSE of one method by run (rows) and inference-time k relative to the training k (columns)."""
        return self._points[self._points["method"] == method].pivot_table(
            index=RUN, columns="relative", values="y"
        )

    def error_below(self, method: str, other: str) -> pd.Series:
        """Mean over the k below the training k of log(NMSE / the other method's)."""
        ratio = np.log(self.error(method) / self.error(other))
        return ratio.loc[:, ratio.columns < 1].mean(axis=1).dropna()

    def rise(self, method: str) -> pd.Series:
        """NMSE at four times the training k, divided by that at the training k."""
        error = self.error(method).reindex(columns=[1.0, 4.0])
        return (error[4.0] / error[1.0]).dropna()

    def rise_where(self, method: str, other: str, threshold: float) -> pd.Series:
        """:meth:`rise`, of the cells in which the other method's (mean over seeds) reaches `threshold`."""
        ours, cells = self.rise(method), self.rise(other).groupby(CELL).mean()
        rising = cells.index[cells >= threshold]
        return ours[ours.index.droplevel("seed").isin(rising)]

    def lost(self, methods: Iterable[str]) -> list[str]:
        """How many SAEs of some methods diverged, in words; nothing where none did."""
        lost = [name for name in methods if name in self._diverged]
        return [
            f"{self.names.of(name).label or name}: {self._diverged[name]} SAEs diverged"
            for name in lost
        ]

    def _of_controls(self, score: str) -> list[str]:
        """'dataset: controls' of each dataset on which controls have a score as high as the baseline."""
        found = controls.compare(self.picked, self.names, [score], self.rule)
        nothing = found[found["tells_nothing"] & (found["dataset"] != controls.ALL)]
        by_dataset = nothing.groupby("dataset", sort=False)["control"]
        return [f"{dataset}: {', '.join(names)}" for dataset, names in by_dataset]


class Claim(NamedTuple):
    """One claim.

    Attributes:
        name, statement: for the table.
        values: a Series indexed by (dataset, backbone, k, seed); empty where nothing was measured.
        published: what the paper reports, as text.
        methods: the methods it is about: where one fell back on another, the cell counts for neither side.
        sign: +1 if the claim says that the value lies above `bound`, -1 below.
        bound: what the value is compared with: 0 for a difference, minus the margin for 'no loss'.
        agreement: whether two thirds of the cells must agree too.
        beside: the same values with dead latents counted as 0: if their sign differs, the claim holds in part.
        ours: not a claim of the paper.
        score: of `SCORES`, that it is about; which controls may have as high.
        detection: of a claim about MS the same values of `detection_alive`, which tells a trained SAE from an untrained
            one.
    """

    name: str
    statement: str
    values: pd.Series
    published: str
    methods: tuple[str, ...] = ()
    sign: int = 1
    bound: float = 0.0
    agreement: bool = True
    beside: pd.Series | None = None
    ours: bool = False
    score: str | None = None
    detection: pd.Series | None = None


def claims(e: Evidence) -> list[Claim]:
    """The paper's claims, and for each other method that is compared with one the two that any method is tried for."""
    found = _of_the_paper(e)
    for method, other in e.names.compared.items():
        if other is not None and method not in (REG1, REG2):
            found += _of_any(e, method, other, e.names.of(method).label or method)
    return found


def _of_the_paper(e: Evidence) -> list[Claim]:
    rises, flat, top1 = e.rule.rises, e.rule.flat, e.rule.margin_top1
    below = "Reg. 2 reconstructs better than the baseline below the training k (mean log NMSE ratio)"
    above = f"The baseline's error rises above the training k (NMSE(4k)/NMSE(k) at least {rises:g})"
    where = f"Where it does, Reg. 2's stays flat (at most {flat:g})"
    auc = "Reg. 2 raises the truncated probe's normalised AUC"
    same = f"... at the same top-1 at the largest k' (difference above -{top1:g})"
    by_others = "raises mean MS as backbones of other families see it"
    both = {REG1: "Reg. 1", REG2: "Reg. 2"}  # As the paper calls them.
    return [
        *_of_any(e, REG1, BASELINE, both[REG1], ours=False),
        *_of_any(e, REG2, BASELINE, both[REG2], ours=False),
        _ms(
            e,
            "reg1_ms_above_reg2",
            "Reg. 1 raises mean MS more than Reg. 2",
            REG1,
            REG2,
            methods=(REG1, REG2),
        ),
        *(_purity(e, method, said) for method, said in both.items()),
        Claim(
            "reg2_error_below_k",
            below,
            e.error_below(REG2, BASELINE),
            "lower (Fig. 5)",
            (REG2,),
            -1,
        ),
        Claim(
            "baseline_rises_above_k",
            above,
            e.rise(BASELINE),
            "rises (Fig. 5)",
            bound=rises,
        ),
        Claim(
            "reg2_flat_above_k",
            where,
            e.rise_where(REG2, BASELINE, rises),
            "flat (Fig. 5)",
            (REG2,),
            -1,
            flat,
        ),
        _difference(e, "reg2_raises_probe_auc", auc, REG2, "probe_auc"),
        _difference(
            e,
            "reg2_keeps_probe_top1",
            same,
            REG2,
            "probe_top1",
            bound=-top1,
            agreement=False,
        ),
        *_mask(e, REG1_ALL, REG1, both[REG1]),
        *_mask(e, REG2_ALL, REG2, both[REG2]),
        _difference(
            e,
            "reg2_more_dead",
            "Reg. 2 tends to raise the number of dead latents",
            REG2,
            "dead",
        ),
        _difference(
            e, "reg1_fewer_dead", "Reg. 1 tends to lower it", REG1, "dead", sign=-1
        ),
        _difference(
            e,
            "reg1_raises_independent_ms",
            f"Reg. 1 {by_others}",
            REG1,
            "ms_independent",
            ours=True,
        ),
        _difference(
            e,
            "reg2_raises_independent_ms",
            f"Reg. 2 {by_others}",
            REG2,
            "ms_independent",
            ours=True,
        ),
    ]


def _difference(
    e: Evidence,
    name: str,
    statement: str,
    method: str,
    score: str,
    other: str = BASELINE,
    **more: Any,
) -> Claim:
    effect = published.effect(e.tables, method, SCORES[score].column, other)
    values = e.difference(method, other, score)
    return Claim(
        name,
        statement,
        values,
        effect,
        **{"methods": (method,), "score": score, **more},
    )


def _ms(
    e: Evidence, name: str, statement: str, method: str, other: str, **more: Any
) -> Claim:
    """MS is judged over latents that have a score; the paper reports it with the others as 0."""
    claim = _difference(e, name, statement, method, "ms_all", other, **more)
    values, seen = (
        e.difference(method, other, score) for score in ("ms", "detection_alive")
    )
    return claim._replace(
        values=values, beside=claim.values, score="ms", detection=seen
    )


def _of_any(
    e: Evidence, method: str, other: str, said: str, ours: bool = True
) -> list[Claim]:
    margin = e.rule.margin_r2
    statement = f"... at no loss of R² (difference above -{margin:g})"
    keeps = {"bound": -margin, "agreement": False, "ours": ours}
    return [
        _ms(
            e, f"{method}_raises_ms", f"{said} raises mean MS", method, other, ours=ours
        ),
        _difference(e, f"{method}_keeps_r2", statement, method, "r2", other, **keeps),
    ]


def _purity(e: Evidence, method: str, said: str) -> Claim:
    said = f"{said} raises class purity (minus its permutation null)"
    claim = _difference(e, f"{method}_raises_purity", said, method, "purity")
    return claim._replace(published=f"{claim.published}, no null taken off")


def _mask(e: Evidence, method: str, base: str, said: str) -> list[Claim]:
    dead = f"Without the batch-active mask {said} leaves more latents dead"
    lower = f"... and mean MS is lower without it ({said})"
    ms = _ms(e, f"mask_raises_ms_{base}", lower, method, base, methods=(base,), sign=-1)
    return [
        _difference(
            e, f"mask_prevents_dead_{base}", dead, method, "dead", base, methods=(base,)
        ),
        ms._replace(published="lower (text)"),
    ]


def read(file: Path) -> pd.DataFrame:
    """The claims table in a csv file; a text of which there is none is empty."""
    return pd.read_csv(file, converters={"note": str, "controls": str})


def judge(claim: Claim, e: Evidence) -> dict[str, Any]:
    """One row of the claims table."""
    row: dict[str, Any] = {
        "claim": claim.name,
        "statement": claim.statement,
        "published": claim.published,
    }
    row |= {
        "cells_for": 0,
        "cells_against": 0,
        "verdict": UNTESTED,
        "ours": claim.ours,
        "controls": "",
    }
    if claim.detection is not None and len(claim.detection):
        row["detection"] = claim.detection.groupby(CELL).mean().mean()
    notes = e.lost(claim.methods)
    if claim.values.empty:
        return row | {"note": "; ".join([*notes, "not measured"])}
    cells = claim.values.groupby(CELL).mean()
    row["measured"] = cells.mean()
    row["cells_for"], row["cells_against"] = _sides(claim, e, cells)
    total = e.picked.groupby(CELL).ngroups
    if len(cells) < total:
        notes.append(f"{len(cells)} of {total} cells")
    blocks = cells.groupby(["dataset", "backbone"]).ngroups
    if blocks < e.rule.min_blocks:
        notes.append(f"{blocks} (dataset, backbone), {e.rule.min_blocks} needed")
        return row | {"note": "; ".join(notes)}
    low, high = bootstrap.interval(claim.values, e.rule)
    row |= {"ci_low": low, "ci_high": high}
    decided = row["cells_for"] + row["cells_against"]
    certain = low > claim.bound if claim.sign > 0 else high < claim.bound
    agrees = not claim.agreement or (
        decided > 0 and row["cells_for"] >= e.rule.agreement * decided
    )
    row["verdict"] = (HOLDS if agrees else IN_PART) if certain else NOT
    if claim.beside is not None:
        other = claim.beside.groupby(CELL).mean().mean()
        notes.append(f"dead as 0: {published.signed(other)}")
        if row["verdict"] == HOLDS and np.sign(other) != np.sign(row["measured"]):
            row["verdict"] = IN_PART
    if len(claim.values.index.unique("seed")) == 1:
        notes.append("interval across blocks only")
    row["controls"] = (
        "; ".join(e.of_controls(claim.score))
        if claim.score and SCORES[claim.score].worth
        else ""
    )
    return row | {"note": "; ".join(notes)}


def _sides(claim: Claim, e: Evidence, cells: pd.Series) -> tuple[int, int]:
    """How many cells are for and against a claim.

    On neither side: differences that are rounding errors, and cells in which a method fell back in every run.
    """
    beyond = claim.sign * (cells - claim.bound)
    runs = claim.values.groupby(CELL).size()
    for method in claim.methods:
        fallen = (
            pd.Series(1, e.fallen(method))
            .groupby(CELL)
            .size()
            .reindex(runs.index)
            .fillna(0)
        )
        beyond = beyond[(fallen < runs).reindex(beyond.index)]
    return int((beyond > 1e-12).sum()), int((beyond < -1e-12).sum())

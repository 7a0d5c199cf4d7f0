"""The paper's claims (arXiv:2606.27321) against an experiment: effects and verdicts.

Every claim is about a value for each run (dataset, backbone, k, seed), most often the
difference from another method with the same seed. The measured effect is the mean over
cells. Its interval is a percentile bootstrap over (dataset, backbone) blocks, with
seeds drawn again inside each block, since most of an effect's variance lies between
blocks. The rule by which a claim holds was set beforehand; its numbers are `claims` in
config.yaml.
"""

import dataclasses
from collections.abc import Iterable
from dataclasses import dataclass
from math import nan

import numpy as np
import pandas as pd

from sae.comparison import bootstrap, controls, published
from sae.comparison.methods import Methods
from sae.comparison.published import BASELINE, REG1, REG1_ALL, REG2, REG2_ALL
from sae.comparison.scores import RUN, SCORES, by_run, diverged
from sae.config.rule import ClaimRule
from sae.scoring.selection import CELL, chosen_rows, curves_of_chosen

HOLDS = "holds"
IN_PART = "holds in part"
NOT_SHOWN = "not shown"
UNTESTED = "not tested"
VERDICTS = (HOLDS, IN_PART, NOT_SHOWN, UNTESTED)

ROUNDING_ERROR = 1e-12  # a cell that lies this close to a bound is on neither side


class Evidence:
    """An experiment's results on test, beside what the paper reports.

    All verdicts rest on these.

    Attributes:
        picked: One row for each cell, method and seed: the SAE that was chosen
            (:func:`sae.scoring.selection.chosen_rows`).
        tables: The paper's numbers.
        rule: The rule of intervals and verdicts.
        names: The experiment's methods.
    """

    def __init__(
        self,
        metrics: pd.DataFrame,
        curves: pd.DataFrame,
        tables: pd.DataFrame,
        rule: ClaimRule,
        names: Methods,
    ) -> None:
        """Gather the rows of the chosen SAEs and of those trained at their choice.

        Args:
            metrics: metrics.parquet under protocol `paper`, with MS across groups where
                a dataset has groups (:func:`sae.comparison.scores.across_groups`).
            curves: curves.parquet.
            tables: What :func:`sae.comparison.published.read` returned.
            rule: The rule of intervals and verdicts.
            names: The experiment's methods.
        """
        self.picked = chosen_rows(metrics, "test", names.compared)
        self.tables = tables
        self.rule = rule
        self.names = names

        is_trained_at_a_choice = metrics["method"].isin(
            [method for _, method in names.pairs]
        )
        ablations = metrics[(metrics["split"] == "test") & is_trained_at_a_choice]
        self._rows = pd.concat([self.picked, ablations])

        # NMSE (y) of codes that are cut to another k at inference (x).
        robustness = curves_of_chosen(
            self.picked, curves[curves["curve"] == "robustness"]
        )
        relative_k = robustness["x"] / robustness["k"]
        self._robustness = robustness.assign(relative=relative_k)

        self._diverged = diverged(metrics)
        # Several claims are about one score, and a comparison takes a bootstrap.
        self._controls_as_high: dict[str, str] = {}

    def scores_by_run(self, method: str, score: str) -> pd.Series:
        """Return a score of one method by run, without runs where it is not defined."""
        return by_run(self._rows[self._rows["method"] == method], score).dropna()

    def difference(self, method: str, against: str, score: str) -> pd.Series:
        """Return a score of one method minus another's, paired by run.

        Where `method` trains at the choice of `against`, the difference is 0 in runs in
        which `against` had no choice. It is empty if no run has an SAE of `method`: the
        method is not in the experiment, or `against` never had a choice.
        """
        scores = self.scores_by_run(method, score)
        difference = scores - self.scores_by_run(against, score)
        if len(scores) and self.names.of(method).at == against:
            difference[difference.index.isin(self.fallback_runs(against))] = 0.0
        return difference.dropna()

    def fallback_runs(self, method: str) -> pd.Index:
        """Return the runs in which no trial of a method was acceptable."""
        fell_back = (self.picked["method"] == method) & self.picked["fallback"]
        return self.picked[fell_back].set_index(RUN).index

    def error_by_relative_k(self, method: str) -> pd.DataFrame:
        """Return the NMSE of one method when its codes are cut to another k.

        Returns:
            A row for each run, a column for each k at inference divided by the k of
            training.
        """
        of_method = self._robustness[self._robustness["method"] == method]
        return of_method.pivot_table(index=RUN, columns="relative", values="y")

    def log_error_ratio_below_k(self, method: str, against: str) -> pd.Series:
        """Return log(NMSE / NMSE of `against`) by run, mean over k below training's."""
        log_ratio = np.log(
            self.error_by_relative_k(method) / self.error_by_relative_k(against)
        )
        below_k = log_ratio.loc[:, log_ratio.columns < 1]
        return below_k.mean(axis=1).dropna()

    def error_rise(self, method: str) -> pd.Series:
        """Return NMSE at four times the k of training over that at k itself, by run."""
        error = self.error_by_relative_k(method).reindex(columns=[1.0, 4.0])
        return (error[4.0] / error[1.0]).dropna()

    def error_rise_where(
        self, method: str, decider: str, threshold: float
    ) -> pd.Series:
        """Return the error rise of a method, in cells where that of another is large.

        Args:
            method: The method whose :meth:`error_rise` is returned.
            decider: The method that decides on the cells, by its mean over seeds.
            threshold: The smallest error rise of `decider` in a cell that counts.
        """
        rise = self.error_rise(method)
        rise_by_cell = self.error_rise(decider).groupby(CELL).mean()
        rising_cells = rise_by_cell.index[rise_by_cell >= threshold]
        return rise[rise.index.droplevel("seed").isin(rising_cells)]

    def divergence_notes(self, methods: Iterable[str]) -> list[str]:
        """Say how many SAEs diverged, for each of these methods that lost any."""
        notes = []
        for method in methods:
            if method in self._diverged:
                label = self.names.of(method).label or method
                notes.append(f"{label}: {self._diverged[method]} SAEs diverged")
        return notes

    def controls_as_high(self, score: str) -> str:
        """Name the controls whose score is as high as the baseline's.

        Returns:
            "dataset: control, control; ..." of the datasets that have such controls.
        """
        if score not in self._controls_as_high:
            compared = controls.compare(self.picked, self.names, [score], self.rule)
            of_a_dataset = compared["dataset"] != controls.ALL
            as_high = compared[compared["tells_nothing"] & of_a_dataset]
            by_dataset = as_high.groupby("dataset", sort=False)["control"]
            texts = [f"{dataset}: {', '.join(names)}" for dataset, names in by_dataset]
            self._controls_as_high[score] = "; ".join(texts)
        return self._controls_as_high[score]


@dataclass(frozen=True, eq=False)
class Claim:
    """One claim, and what was measured of it.

    Attributes:
        name: Its id in the claims table.
        statement: What it says, for print.
        values: A value for each run, indexed by (dataset, backbone, k, seed); empty
            where nothing was measured.
        published: What the paper reports, as text.
        methods: The methods that it is about. Where one of them fell back on another,
            the cell counts for neither side.
        sign: +1 if the claim says that the value lies above `bound`, -1 if below.
        bound: What the value is compared with: 0 for a difference, minus the margin for
            "no loss".
        needs_agreement: Whether most cells must agree, too, for the claim to hold.
        values_with_dead_as_0: The values with dead latents counted as 0. If their mean
            has another sign, the claim holds in part.
        ours: Whether it is not a claim of the paper.
        score: The name in `SCORES` of the score that it is about, if it is about one.
        detection: For a claim about MS, the same difference in `detection`, which
            tells a trained SAE from an untrained one.
    """

    name: str
    statement: str
    values: pd.Series
    published: str
    methods: tuple[str, ...] = ()
    sign: int = 1
    bound: float = 0.0
    needs_agreement: bool = True
    values_with_dead_as_0: pd.Series | None = None
    ours: bool = False
    score: str | None = None
    detection: pd.Series | None = None


@dataclass(frozen=True)
class ClaimRow:
    """One row of the claims table.

    Attributes:
        claim: The claim's name.
        statement: What it says.
        published: What the paper reports, as text.
        measured: The mean over cells; NaN where nothing was measured.
        ci_low: The lower end of the interval; NaN with too few blocks.
        ci_high: The upper end.
        cells_for: How many cells lie on the claim's side of its bound.
        cells_against: How many lie on the other side.
        verdict: One of `VERDICTS`.
        ours: Whether it is not a claim of the paper.
        detection: For a claim about MS, the mean difference in detection, else NaN.
        controls: The controls whose score is as high as the baseline's, by dataset.
        note: What else a reader must know.
    """

    claim: str
    statement: str
    published: str
    measured: float = nan
    ci_low: float = nan
    ci_high: float = nan
    cells_for: int = 0
    cells_against: int = 0
    verdict: str = UNTESTED
    ours: bool = False
    detection: float = nan
    controls: str = ""
    note: str = ""


COLUMNS = [field.name for field in dataclasses.fields(ClaimRow)]


def claims(evidence: Evidence) -> list[Claim]:
    """Return the paper's claims, and two claims of ours for each other method.

    A method of one's own is tried for more MS at no loss of R², beside the method that
    it is compared with.
    """
    all_claims = _paper_claims(evidence)
    for method, against in evidence.names.compared.items():
        if against is not None and method not in (REG1, REG2):
            label = evidence.names.of(method).label or method
            all_claims += _claims_of_any_method(
                evidence, method, against, label, ours=True
            )
    return all_claims


def _paper_claims(evidence: Evidence) -> list[Claim]:
    labels = {REG1: "Reg. 1", REG2: "Reg. 2"}  # as the paper calls them
    paper_claims: list[Claim] = []
    for method, label in labels.items():
        paper_claims += _claims_of_any_method(
            evidence, method, BASELINE, label, ours=False
        )
    paper_claims.append(
        _ms_claim(
            evidence,
            "reg1_ms_above_reg2",
            "Reg. 1 raises mean MS more than Reg. 2",
            REG1,
            REG2,
            methods=(REG1, REG2),
        )
    )
    for method, label in labels.items():
        raises_purity = _difference_claim(
            evidence,
            f"{method}_raises_purity",
            f"{label} raises class purity (minus its permutation null)",
            method,
            "purity",
        )
        of_paper = f"{raises_purity.published}, no null taken off"
        paper_claims.append(dataclasses.replace(raises_purity, published=of_paper))
    paper_claims += _error_claims(evidence)
    paper_claims += _probe_claims(evidence)
    paper_claims += _mask_claims(evidence, REG1_ALL, REG1, labels[REG1])
    paper_claims += _mask_claims(evidence, REG2_ALL, REG2, labels[REG2])
    paper_claims.append(
        _difference_claim(
            evidence,
            "reg2_more_dead",
            "Reg. 2 tends to raise the number of dead latents",
            REG2,
            "dead",
        )
    )
    paper_claims.append(
        _difference_claim(
            evidence,
            "reg1_fewer_dead",
            "Reg. 1 tends to lower it",
            REG1,
            "dead",
            sign=-1,
        )
    )
    for method, label in labels.items():
        paper_claims.append(
            _difference_claim(
                evidence,
                f"{method}_raises_independent_ms",
                f"{label} raises mean MS as backbones of other families see it",
                method,
                "ms_independent",
                ours=True,
            )
        )
    return paper_claims


def _claims_of_any_method(
    evidence: Evidence, method: str, against: str, label: str, *, ours: bool
) -> list[Claim]:
    """Return the two claims that any method is tried for: more MS, at no loss of R²."""
    margin = evidence.rule.margin_r2
    raises_ms = _ms_claim(
        evidence,
        f"{method}_raises_ms",
        f"{label} raises mean MS",
        method,
        against,
        ours=ours,
    )
    keeps_r2 = _difference_claim(
        evidence,
        f"{method}_keeps_r2",
        f"... at no loss of R² (difference above -{margin:g})",
        method,
        "r2",
        against=against,
        bound=-margin,
        needs_agreement=False,
        ours=ours,
    )
    return [raises_ms, keeps_r2]


def _error_claims(evidence: Evidence) -> list[Claim]:
    """Return the claims about the error when codes are cut to another k (Fig. 5)."""
    rises = evidence.rule.rises
    flat = evidence.rule.flat
    lower_below_k = Claim(
        "reg2_error_below_k",
        "Reg. 2 reconstructs better than the baseline below the training k "
        "(mean log NMSE ratio)",
        evidence.log_error_ratio_below_k(REG2, BASELINE),
        "lower (Fig. 5)",
        methods=(REG2,),
        sign=-1,
    )
    baseline_rises = Claim(
        "baseline_rises_above_k",
        "The baseline's error rises above the training k "
        f"(NMSE(4k)/NMSE(k) at least {rises:g})",
        evidence.error_rise(BASELINE),
        "rises (Fig. 5)",
        bound=rises,
    )
    stays_flat = Claim(
        "reg2_flat_above_k",
        f"Where it does, Reg. 2's stays flat (at most {flat:g})",
        evidence.error_rise_where(REG2, BASELINE, rises),
        "flat (Fig. 5)",
        methods=(REG2,),
        sign=-1,
        bound=flat,
    )
    return [lower_below_k, baseline_rises, stays_flat]


def _probe_claims(evidence: Evidence) -> list[Claim]:
    margin = evidence.rule.margin_top1
    raises_auc = _difference_claim(
        evidence,
        "reg2_raises_probe_auc",
        "Reg. 2 raises the truncated probe's normalised AUC",
        REG2,
        "probe_auc",
    )
    keeps_top1 = _difference_claim(
        evidence,
        "reg2_keeps_probe_top1",
        f"... at the same top-1 at the largest k' (difference above -{margin:g})",
        REG2,
        "probe_top1",
        bound=-margin,
        needs_agreement=False,
    )
    return [raises_auc, keeps_top1]


def _mask_claims(
    evidence: Evidence, unmasked: str, masked: str, label: str
) -> list[Claim]:
    """Return the claims about what a method loses without the batch-active mask."""
    leaves_dead = _difference_claim(
        evidence,
        f"mask_prevents_dead_{masked}",
        f"Without the batch-active mask {label} leaves more latents dead",
        unmasked,
        "dead",
        against=masked,
        methods=(masked,),
    )
    lowers_ms = _ms_claim(
        evidence,
        f"mask_raises_ms_{masked}",
        f"... and mean MS is lower without it ({label})",
        unmasked,
        masked,
        methods=(masked,),
        sign=-1,
    )
    return [leaves_dead, dataclasses.replace(lowers_ms, published="lower (text)")]


def _ms_claim(
    evidence: Evidence,
    name: str,
    statement: str,
    method: str,
    against: str,
    *,
    methods: tuple[str, ...] | None = None,
    sign: int = 1,
    ours: bool = False,
) -> Claim:
    # MS is taken over latents that have a score. The paper reports it with the others
    # counted as 0, so that stands beside it.
    with_dead_as_0 = _difference_claim(
        evidence,
        name,
        statement,
        method,
        "ms_all",
        against=against,
        methods=methods,
        sign=sign,
        ours=ours,
    )
    return dataclasses.replace(
        with_dead_as_0,
        values=evidence.difference(method, against, "ms"),
        values_with_dead_as_0=with_dead_as_0.values,
        score="ms",
        detection=evidence.difference(method, against, "detection"),
    )


def _difference_claim(
    evidence: Evidence,
    name: str,
    statement: str,
    method: str,
    score: str,
    *,
    against: str = BASELINE,
    methods: tuple[str, ...] | None = None,
    sign: int = 1,
    bound: float = 0.0,
    needs_agreement: bool = True,
    ours: bool = False,
) -> Claim:
    return Claim(
        name,
        statement,
        values=evidence.difference(method, against, score),
        published=published.effect(
            evidence.tables, method, SCORES[score].column, against
        ),
        methods=methods or (method,),
        sign=sign,
        bound=bound,
        needs_agreement=needs_agreement,
        ours=ours,
        score=score,
    )


def decide(claim: Claim, evidence: Evidence) -> ClaimRow:
    """Measure a claim and say whether it holds.

    A claim without values is not measured. One of too few (dataset, backbone) blocks is
    measured, but has neither interval nor verdict.
    """
    notes = evidence.divergence_notes(claim.methods)
    row = ClaimRow(
        claim=claim.name,
        statement=claim.statement,
        published=claim.published,
        ours=claim.ours,
    )
    if claim.detection is not None and len(claim.detection):
        row = dataclasses.replace(row, detection=_mean_over_cells(claim.detection))
    if claim.values.empty:
        notes.append("not measured")
        return dataclasses.replace(row, note="; ".join(notes))

    effects = claim.values.groupby(CELL).mean()
    cells_for, cells_against = _count_sides(claim, evidence, effects)
    row = dataclasses.replace(
        row,
        measured=effects.mean(),
        cells_for=cells_for,
        cells_against=cells_against,
    )
    cell_count = evidence.picked.groupby(CELL).ngroups
    if len(effects) < cell_count:
        notes.append(f"{len(effects)} of {cell_count} cells")
    block_count = effects.groupby(["dataset", "backbone"]).ngroups
    fewest_blocks = evidence.rule.min_blocks
    if block_count < fewest_blocks:
        notes.append(f"{block_count} (dataset, backbone), {fewest_blocks} needed")
        return dataclasses.replace(row, note="; ".join(notes))

    low, high = bootstrap.interval(claim.values, evidence.rule)
    row = dataclasses.replace(row, ci_low=low, ci_high=high)
    if claim.values_with_dead_as_0 is not None:
        with_dead_as_0 = _mean_over_cells(claim.values_with_dead_as_0)
        notes.append(f"dead as 0: {published.signed(with_dead_as_0)}")
    if len(claim.values.index.unique("seed")) == 1:
        notes.append("interval across blocks only")
    controls_as_high = ""
    if claim.score is not None and SCORES[claim.score].worth:
        controls_as_high = evidence.controls_as_high(claim.score)
    return dataclasses.replace(
        row,
        verdict=_verdict(claim, row, evidence.rule),
        controls=controls_as_high,
        note="; ".join(notes),
    )


def _verdict(claim: Claim, row: ClaimRow, rule: ClaimRule) -> str:
    """Return the verdict on a claim whose interval is known."""
    # A claim is shown if its interval lies beyond the bound. It then holds, unless too
    # few of the cells agree, or counting dead latents as 0 turns the sign of its mean.
    is_above = claim.sign > 0 and row.ci_low > claim.bound
    is_below = claim.sign < 0 and row.ci_high < claim.bound
    if not (is_above or is_below):
        return NOT_SHOWN

    if claim.needs_agreement:
        decided_cells = row.cells_for + row.cells_against
        if not decided_cells or row.cells_for < rule.agreement * decided_cells:
            return IN_PART

    if claim.values_with_dead_as_0 is not None:
        with_dead_as_0 = _mean_over_cells(claim.values_with_dead_as_0)
        if np.sign(with_dead_as_0) != np.sign(row.measured):
            return IN_PART
    return HOLDS


def _mean_over_cells(values: pd.Series) -> float:
    return values.groupby(CELL).mean().mean()


def _count_sides(
    claim: Claim, evidence: Evidence, effects: pd.Series
) -> tuple[int, int]:
    beyond_bound = claim.sign * (effects - claim.bound)
    # Cells in which a method fell back in every run are on neither side, and neither
    # are differences that are rounding errors.
    runs = claim.values.groupby(CELL).size()
    for method in claim.methods:
        fallbacks = pd.Series(1, evidence.fallback_runs(method)).groupby(CELL).size()
        fallbacks = fallbacks.reindex(runs.index).fillna(0)
        has_a_choice = fallbacks < runs
        beyond_bound = beyond_bound[has_a_choice.reindex(beyond_bound.index)]
    cells_for = int((beyond_bound > ROUNDING_ERROR).sum())
    cells_against = int((beyond_bound < -ROUNDING_ERROR).sum())
    return cells_for, cells_against

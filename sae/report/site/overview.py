"""What the first view shows: the answer, every trial, fronts and board, claims, what words mean, where it is from."""

import ast
import itertools
from collections.abc import Iterable, Mapping
from typing import Any

import pandas as pd
from matplotlib.colors import to_hex

from sae.comparison import fronts, published
from sae.comparison.outcomes import headline, is_shown
from sae.comparison.scores import COMPARED, OWN_FRONTS, SCORES, values
from sae.core import registry
from sae.report.fronts import JUDGED, SCALE
from sae.report.names import Names
from sae.scoring import front
from sae.scoring.front import ENDPOINTS
from sae.scoring.metrics import concepts
from sae.scoring.rows import CELL

KEY = [*CELL, "method", "trial", "seed"]
MARKERS = "os^vDPX*"
MOST_METHODS = 2  # of which the answer speaks
MOST_PRICED = (
    4  # methods: of more the price of those is named of which the answer speaks
)
GLOSSARY = {
    "SAE": "A sparse autoencoder writes an embedding as a sum of few directions out of many.",
    "latent": "One of an SAE's directions, and how strongly an image has it.",
    "MS": "Monosemanticity score: how alike the images are on which a latent fires, weighted by how strongly it does. "
    "Claims and the board read its mean over live latents, without pairs of near-duplicates where the data know them.",
    "detection": "A backbone of another family is shown some images on which a latent fires, and ranks the others: the "
    "AUC of those on which it fires, 0.5 by chance.",
    "R²": "The share of the variance of the test embeddings that the SAE's reconstruction explains.",
    "k": "How many latents an image may have: exactly so many under Top-k, on average with thresholds.",
    "m": "How many latents an SAE has, the live and the dead.",
    "L0": "How many latents are active on an image, on average.",
    "λ": "The weight of a penalty in the training loss.",
    "live": "A latent that fires on two test images or more, so that its images can be compared.",
    "dead": "A latent that never fires; on training images, if nothing else is said.",
    "purity": "The share of a latent's images that are of its most frequent class.",
    "chance": "What a score is where nothing was learned, such as with shuffled labels.",
    "cell": "A dataset, a backbone and a k: methods are compared within one.",
    "front": "The best score that a method's trials have at each R², as the hull of their points.",
    "window": "The R² just below the baseline's best in which methods are compared, so that none gains by "
    "reconstructing less. It does not reach left of where the baseline's score is highest.",
    "feasible": "A trial counts if it has no more active latents than the budget, and enough of its latents fire.",
    "decoder cosine": "How alike the directions of two latents are: 1 of the same, 0 of unrelated ones.",
    "effect": "A method's front less the baseline's, mean over the window, chosen on validation and read on test.",
    "higher in these cells": "The effect differs from 0 after Holm's correction over methods, and each "
    "dataset and the other readings have its sign. It speaks of other families of backbones on these datasets. "
    "Detection is tested first; MS only where detection is shown.",
    "equivalent": "The interval of the effect lies within 0.01 of 0, uncorrected.",
    "undecided": "Neither: the interval is too wide, or the readings disagree.",
    "measured": "A latent is measured if it fires often enough for detection.",
    "control": "Not trained, or only in part: a score that it has as high says nothing about what was learned.",
    "concept": "A keyword that people gave images; it counts with enough images in "
    "training and test.",
    "name": "The concept that a latent's firing tells best on test, by F1, where "
    "chance seldom tells one as well.",
    "stands for": "Up to three latents stand for a concept: where it holds, one of "
    "them should fire. They are chosen on training images and scored on test.",
    "stability": "How alike a latent's direction is to the most alike one of other seeds.",
}
PAPER = {
    published.BASELINE: "Top-k alone: the k largest activations of an image are kept.",
    published.REG1: "Top-k with a penalty on the activations that were not kept (off-support l1).",
    published.REG2: "Top-k with a penalty on how evenly activations are spread (l1/l2 ratio).",
}


def empty() -> dict[str, Any]:
    """All keys, with nothing in them."""
    lists = (
        "answer",
        "datasets",
        "backbones",
        "methods",
        "cells",
        "saes",
        "fronts",
        "windows",
        "board",
        "claims",
    )
    found: dict[str, Any] = {"format": 1, "experiment": "", "description": ""}
    more = ("effects", "start", "downloads", "latent_scores")
    found |= {name: [] for name in (*lists, *more)}
    return found | {
        "scores": scores(),
        "trials": {},
        "glossary": GLOSSARY,
        "provenance": {},
    }


def of_paper(names: Names) -> dict[str, str]:
    """{label: what it is} of the paper's methods that an experiment has."""
    return {
        names.method(name): said
        for name, said in PAPER.items()
        if name in names.methods
    }


def first_sentence(metric: str) -> str:
    """Return the first sentence of the docstring of a metric's file."""
    file = registry.locate(registry.module_name("metric", metric))
    text = ast.get_docstring(registry.parse(file)) if file else None
    return " ".join((text or "").split("\n\n")[0].split()).partition(". ")[0]


def own_metrics(columns: Mapping[str, str]) -> dict[str, str]:
    """Return {column of the metrics: what it says} of metrics of one's own.

    Args:
        columns: {column: the metric that gave it}, as made_by.json has it.
    """
    own = {
        name
        for name in registry.names("metric")
        if registry.module_name("metric", name).startswith(registry.EXTENSIONS)
    }
    return {
        column: first_sentence(metric)
        for column, metric in columns.items()
        if metric in own
    }


def own_latent_scores(
    latents: pd.DataFrame, own: Mapping[str, str]
) -> list[dict[str, str]]:
    """Return the columns of latents.parquet that metrics of one's own gave.

    Args:
        latents: Rows of latents.parquet.
        own: {column of the metrics: what it says}, of these metrics.

    Returns:
        A row of `id`, `label` and `what` for each numeric column that the library lacks.
    """
    known = ("ms", "detection", "purity", "n_active", "top_class", *concepts.SHOWN)
    about = {*KEY, "split", "latent", "selected"}
    columns = [
        name
        for name in latents.select_dtypes("number")
        if name not in about and not name.startswith(known)
    ]
    sentences = list(dict.fromkeys(own.values()))
    only = sentences[0] if len(sentences) == 1 else ""
    return [
        {"id": name, "label": name, "what": own.get(name, only)} for name in columns
    ]


def scores(own: Mapping[str, str] = {}) -> list[dict[str, Any]]:
    """Return what can be compared, and which of it methods are judged by.

    Args:
        own: {column: what it says} of metrics of one's own, which follow.
    """
    rows = []
    for name in COMPARED:
        score = SCORES[name]
        row: dict[str, Any] = {"id": name, "label": score.label, "what": score.what}
        row |= {"better": score.better, "chance": score.chance}
        rows.append(row | {"endpoint": name in ENDPOINTS, "judged": name in JUDGED})
    for column, what in own.items():
        row = {"id": column, "label": column, "what": what, "better": 1, "chance": None}
        rows.append(row | {"endpoint": False, "judged": False})
    return rows


def methods(names: Names) -> list[dict[str, Any]]:
    """An experiment's methods, in the order of its config."""
    found = []
    for name in names.order(names.methods):
        of, marker = names.of(name), names.marker(name)
        look = {
            "colour": to_hex(names.colour(name)),
            "marker": marker if marker in MARKERS else "*",
        }
        row: dict[str, Any] = {"id": name, "label": names.method(name)} | look
        found.append(
            row | of.model_dump(include={"against", "at", "control", "imported"})
        )
    return found


class Numbers:
    """The places of cells, methods and SAEs in the site's lists."""

    def __init__(
        self, cells: Iterable[tuple[Any, ...]], methods: Iterable[str]
    ) -> None:
        self.cells = {cell: place for place, cell in enumerate(cells)}
        self.methods = {method: place for place, method in enumerate(methods)}
        self.saes: dict[tuple[Any, ...], int] = {}

    def of(self, rows: pd.DataFrame) -> dict[str, list[Any]]:
        """The columns `cell`, if the rows have one, and `method` as places."""
        found = {"method": [self.methods.get(name) for name in rows["method"]]}
        if set(CELL) <= set(rows):
            found["cell"] = [
                self.cells.get(cell)
                for cell in rows[CELL].itertuples(index=False, name=None)
            ]
        return found


def trials(
    metrics: pd.DataFrame,
    points: pd.DataFrame,
    judged: set[tuple[Any, ...]],
    numbers: Numbers,
    own: Iterable[str] = (),
) -> dict[str, Any]:
    """Every SAE of an experiment as columns.

    Args:
        metrics: tidy metrics, MS across groups.
        points: of :func:`sae.comparison.fronts.validation_trials`.
        judged: `KEY` of those that a protocol chose to be judged.
        own: columns of metrics of one's own.
    """
    saes = metrics.drop_duplicates(KEY)
    keys = list(saes[KEY].itertuples(index=False, name=None))
    feasible = dict(
        zip(
            points[fronts.TRIAL].itertuples(index=False, name=None),
            points["feasible"],
            strict=True,
        )
    )
    of = zip(saes["selected"], keys, strict=True)
    roles = [
        "chosen" if selected else "judged" if key in judged else "trial"
        for selected, key in of
    ]
    found: dict[str, Any] = numbers.of(saes) | {
        name: saes[name] for name in ("trial", "seed", "status")
    }
    found |= {"role": roles, "feasible": [feasible.get(key[:-1]) for key in keys]}
    found |= {"sae": [numbers.saes.get(key) for key in keys]}
    for split in ("val", "test"):
        rows = (
            metrics[metrics["split"] == split]
            .set_index(KEY)
            .reindex(pd.MultiIndex.from_tuples(keys, names=KEY))
        )
        found |= {f"{name}_{split}": of for name, of in scores_of(rows, own).items()}
        if split == "val":
            found |= {"l0": values(rows, "l0"), "dead": values(rows, "dead_train")}
            found["firing"] = 1 - found["dead"] / values(rows, "m")
    return found


def scores_of(rows: pd.DataFrame, own: Iterable[str] = ()) -> dict[str, pd.Series]:
    """Return R², every score of rows of metrics, and columns of one's own metrics."""
    compared = {name: SCORES[name].of(rows) for name in COMPARED}
    of_own = {name: values(rows, name) for name in own}
    return {"r2": values(rows, "r2")} | compared | of_own


def of_fronts(
    points: pd.DataFrame, names: Names, rule: fronts.FrontRule, numbers: Numbers
) -> dict[str, Any]:
    """Return `fronts` and `windows`: each method's vertices, and where they are read.

    Args:
        points: Of :func:`sae.comparison.fronts.validation_trials`.
        names: Which methods have fronts.
        rule: Where fronts are read; the first width is shown.
        numbers: The places of cells and methods.
    """
    vertices: list[dict[str, Any]] = []
    windows: list[dict[str, Any]] = []
    width = rule.widths[0]
    for cell, tried in points.groupby(CELL, sort=False):
        by_method = dict(iter(tried.groupby("method", sort=False)))
        for score, method in itertools.product(ENDPOINTS, names.tuned):
            if method not in by_method:
                continue
            baseline = fronts.root(method, names.tuned)
            window = None
            if baseline in by_method:
                window = front.window(by_method[baseline], score, width)
            own = front.vertices(by_method[method], score)
            weights: list[float | None] = [None] * len(own)
            if window is not None and len(own):
                reach = front.best_r2(by_method[method])
                r2 = own["r2"].to_numpy(float)
                weights = front.weights(r2, window._replace(reach=reach)).tolist()
            about = {"cell": numbers.cells[cell], "score": score}
            of_method = about | {"method": numbers.methods[method]}
            columns = (own["r2"], own[score], weights, own["trial"])
            for r2, value, weight, trial in zip(*columns, strict=True):
                vertex = {"r2": r2, "value": value, "weight": weight, "trial": trial}
                vertices.append(of_method | vertex)
            if window is not None and method in names.baselines[:1]:
                start = max(window.low, window.floor)
                window_row = {"from": start, "best": window.high, "width": width}
                windows.append(about | window_row)
    return {"fronts": vertices, "windows": windows}


def board(
    means: pd.DataFrame, cells: pd.DataFrame, controls: pd.DataFrame, numbers: Numbers
) -> dict[str, Any]:
    """Return `board` and `effects`.

    Args:
        means: front_means.csv.
        cells: fronts.csv.
        controls: front_controls.csv; its rows stand on the board, too.
        numbers: The places of cells and methods.
    """
    shown = ["score", "front", "width", "level", "effect", "low", "high", "low_seeds"]
    shown += ["high_seeds", "equal_r2", "pairs", "up", "cells", "infeasible"]
    shown += ["out_of_reach", "r2_difference", "shortfall", "gain", "outcome"]
    shown += ["at_lower_r2"]
    columns = numbers.of(means) | {name: means[name] for name in shown}
    rows = pd.DataFrame(columns, columns=["method", *shown]).to_dict("records")
    widths = dict.fromkeys(means["width"])
    scale = list(dict.fromkeys(controls["control"]))[:SCALE]
    beside = controls[controls["control"].isin(scale)].to_dict("records")
    rows += [_of_control(row, width, numbers) for row in beside for width in widths]

    head = headline(cells)
    read = ["score", "status", "effect", "reach", "shortfall", "gain", "r2_difference"]
    effects = pd.DataFrame(numbers.of(head) | {name: head[name] for name in read})
    return {"board": rows, "effects": effects.to_dict("records")}


def _of_control(row: dict[str, Any], width: float, numbers: Numbers) -> dict[str, Any]:
    """Return the board's row of a control, which is not at the same R²."""
    return {
        "method": numbers.methods[row["control"]],
        "score": row["score"],
        "front": row["score"],
        "width": width,
        "level": row["baseline"],
        "effect": row["difference"],
        "low": row["low"],
        "high": row["high"],
        "outcome": "control, at its own R²",
    }


def answer(
    means: pd.DataFrame,
    controls: pd.DataFrame,
    imported: pd.DataFrame,
    claims: pd.DataFrame,
    names: Names,
) -> list[str]:
    """Return sentences: the two methods of highest detection, what that is worth, and its price.

    Args:
        means: front_means.csv.
        controls: front_controls.csv.
        imported: front_imported.csv.
        claims: claims.csv.
        names: How methods are printed.
    """
    head = headline(means)
    known = head.dropna(subset="effect").set_index(["method", "score"])
    measured = [name for name in ENDPOINTS if name in known.index.get_level_values(1)]
    made_elsewhere = _made_elsewhere(imported, names)
    if not measured and made_elsewhere:
        return made_elsewhere
    if not measured:
        sentences = [
            "No method here has feasible trials beside a baseline's: nothing compares at the same R²."
        ]
        papers = claims[~claims["ours"].astype(bool)] if len(claims) else claims
        if len(papers):
            count = (papers["verdict"] == "holds").sum()
            sentences.append(f"Of the paper's {len(papers)} claims {count} hold here.")
        return sentences

    # Those with a word come first, then those of the highest mean.
    of_first = known.xs(measured[0], level="score")
    of_first = of_first.assign(has_word=of_first["outcome"].map(is_shown))
    order = of_first.sort_values(["has_word", "effect"], ascending=False, kind="stable")
    best = list(order.index[:MOST_METHODS])
    sentences = [_gains(method, known, names) for method in best]
    scale = _scale(controls, measured[0], names)
    sentences += [scale] if scale else []
    priced = list(order.index) if len(order) <= MOST_PRICED else best
    return [*sentences, _price(priced, known, measured[0], names), *made_elsewhere]


def _gains(method: str, known: pd.DataFrame, names: Names) -> str:
    """Say what a method has beside its baseline in each endpoint."""
    parts = []
    for score in ENDPOINTS:
        if (method, score) in known.index:
            row = known.loc[(method, score)]
            effect = published.signed(row["effect"])
            parts.append(f"{effect} {SCORES[score].label} ({row['outcome']})")
    baseline = names.method(fronts.root(method, names.tuned))
    gains = " and ".join(parts)
    return f"{names.method(method)} has {gains} beside {baseline} at the same R²."


def _scale(controls: pd.DataFrame, score: str, names: Names) -> str:
    """Say what the controls have, so that a reader sees what an effect is worth."""
    rows = controls[controls["score"] == score].head(SCALE)
    parts = [
        f"{names.method(row.control)} {published.signed(row.difference)}"
        for row in rows.itertuples()
    ]
    if not parts:
        return ""
    label = SCORES[score].label
    return f"For scale, controls at their own R² in {label}: {', '.join(parts)}."


def _made_elsewhere(imported: pd.DataFrame, names: Names) -> list[str]:
    """Say what each SAE that was made elsewhere scores, with the baseline beside it."""
    sentences = []
    for method, rows in imported.groupby("method", sort=False):
        parts = [
            f"{SCORES[row.score].label} {row.value:.3f} ({published.plain(row.baseline)})"
            for row in rows.itertuples()
            if row.score in ("r2", *ENDPOINTS)
        ]
        baseline = names.method(names.baselines[0]) if names.baselines else "baseline"
        sentences.append(
            f"{names.method(str(method))}, made elsewhere (and {baseline}): {', '.join(parts)}. "
            "They are not compared at the same R²."
        )
    return sentences


def _price(best: list[str], known: pd.DataFrame, score: str, names: Names) -> str:
    """Name every score of some methods whose interval lies on the wrong side of 0."""
    parts = []
    for method in best:
        row = known.loc[(method, score)]
        costs = [f"R² {published.signed(row['r2_difference'])}"]
        for other in OWN_FRONTS:
            if (method, other) in known.index and known.loc[
                (method, other), "high"
            ] < 0:
                cost = known.loc[(method, other)]
                text = published.interval(cost["effect"], cost["low"], cost["high"])
                costs.append(f"{SCORES[other].label} {text}")
        if len(costs) == 1:
            costs.append("no score's interval lies below 0")
        parts.append(f"{names.method(method)}: {', '.join(costs)}")
    rows = [known.loc[(method, score)] for method in best]
    left_out = max(int(row["infeasible"] + row["out_of_reach"]) for row in rows)
    cells = max(
        int(row["infeasible"] + row["out_of_reach"] + row["cells"]) for row in rows
    )
    parts += (
        [f"in {left_out} of {cells} cells there is no comparison"] if left_out else []
    )
    return f"What it costs: {'; '.join(parts)}."


def claims(table: pd.DataFrame) -> list[dict[str, Any]]:
    """The rows of claims.csv."""
    return table.rename(
        columns={"claim": "id", "ci_low": "low", "ci_high": "high"}
    ).to_dict("records")

"""What the first view shows: the answer, every trial, fronts and board, claims, what words mean, where it is from."""

from collections.abc import Iterable
from typing import Any

import pandas as pd
from matplotlib.colors import to_hex

from sae.comparison import fronts, published
from sae.comparison.intervals import headline
from sae.comparison.scores import ENDPOINTS, READ, values
from sae.report.names import Names
from sae.scoring import front
from sae.scoring.rows import CELL

KEY = [*CELL, "method", "trial", "seed"]
MARKERS = "os^vDPX*"
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
    "reconstructing less.",
    "feasible": "A trial counts if it has no more active latents than the budget, and enough of its latents fire.",
    "decoder cosine": "How alike the directions of two latents are: 1 of the same, 0 of unrelated ones.",
    "effect": "A method's front less the baseline's, mean over the window, chosen on validation and read on test.",
    "shown": "The effect differs from 0 with p < .05 after Holm's correction over methods and scores.",
    "equivalent": "The 95 % interval of the effect lies within 0.01 of 0.",
    "undecided": "Neither shown nor equivalent: the interval is too wide.",
    "control": "Not trained, or only in part: a score that it has as high says nothing about what was learned.",
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
    found |= {name: [] for name in (*lists, "effects", "start", "downloads")}
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


def scores() -> list[dict[str, Any]]:
    """What can be compared."""
    fields = ("label", "what", "better", "chance")
    about = {
        name: {field: getattr(score, field) for field in fields}
        for name, score in READ.items()
    }
    return [
        {"id": name} | row | {"endpoint": name in ENDPOINTS}
        for name, row in about.items()
    ]


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
) -> dict[str, Any]:
    """Every SAE of an experiment as columns.

    Args:
        metrics: tidy metrics, MS across groups.
        points: of :func:`sae.comparison.fronts.points`.
        judged: `KEY` of those that a protocol chose to be judged.
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
        found |= {f"{name}_{split}": of for name, of in scores_of(rows).items()}
        if split == "val":
            found |= {"l0": values(rows, "l0"), "dead": values(rows, "dead_train")}
            found["firing"] = 1 - found["dead"] / values(rows, "m")
    return found


def scores_of(rows: pd.DataFrame) -> dict[str, pd.Series]:
    """R² and every score of rows of metrics."""
    return {"r2": values(rows, "r2")} | {
        name: score.of(rows) for name, score in READ.items()
    }


def of_fronts(
    points: pd.DataFrame, names: Names, rule: fronts.Rule, numbers: Numbers
) -> dict[str, Any]:
    """`fronts` and `windows`: the vertices of each method in each cell, and where its baseline's window is."""
    vertices, windows = [], []
    for cell, tried in points.groupby(CELL, sort=False):
        for name in ENDPOINTS:
            hulls = {
                m: fronts.vertices(tried[tried["method"] == m], name)
                for m in names.tuned
            }
            for method, hull in hulls.items():
                star = hulls.get(fronts.root(method, names.tuned), hull)["r2"].max()
                window = star - rule.widths[0], star
                known = len(hull) and star == star
                weights = (
                    front.weights(hull["r2"].to_numpy(float), *window)
                    if known
                    else [None] * len(hull)
                )
                about = {
                    "cell": numbers.cells[cell],
                    "method": numbers.methods[method],
                    "score": name,
                }
                rows = zip(hull["r2"], hull[name], weights, hull["trial"], strict=True)
                vertices += [
                    about | {"r2": r2, "value": v, "weight": w, "trial": t}
                    for r2, v, w, t in rows
                ]
                if (
                    name == ENDPOINTS[0]
                    and method in names.baselines[:1]
                    and star == star
                ):
                    windows.append(
                        {
                            "cell": numbers.cells[cell],
                            "best": star,
                            "width": rule.widths[0],
                        }
                    )
    return {"fronts": vertices, "windows": windows}


def board(means: pd.DataFrame, cells: pd.DataFrame, numbers: Numbers) -> dict[str, Any]:
    """`board` and `effects`, of front_means.csv and fronts.csv."""
    shown = [
        "score",
        "width",
        "level",
        "effect",
        "low",
        "high",
        "low_seeds",
        "high_seeds",
        "up",
        "cells",
        "infeasible",
    ]
    shown += ["r2_difference", "shortfall", "gain", "outcome", "at_lower_r2"]
    rows = pd.DataFrame(
        numbers.of(means) | {name: means[name] for name in shown},
        columns=["method", *shown],
    )
    head = headline(cells)
    read = ["score", "status", "effect", "reach", "shortfall", "gain", "r2_difference"]
    effects = pd.DataFrame(numbers.of(head) | {name: head[name] for name in read})
    return {"board": rows.to_dict("records"), "effects": effects.to_dict("records")}


def answer(means: pd.DataFrame, claims: pd.DataFrame, names: Names) -> list[str]:
    """Up to three sentences, by rule: the two methods of highest MS at the same R², and what they cost.

    Args:
        means: front_means.csv; claims: claims.csv.
    """
    head = headline(means)
    known = head.dropna(subset="effect").sort_values(
        "effect", ascending=False, kind="stable"
    )
    effects = known.set_index(["method", "score"])
    best = [method for method, score in effects.index if score == ENDPOINTS[0]][:2]
    said = (
        []
        if best
        else [
            "No method here has feasible trials beside a baseline's: nothing compares at the same R²."
        ]
    )
    for method in best:
        seen = {
            name: effects.loc[(method, name)]
            for name in ENDPOINTS
            if (method, name) in effects.index
        }
        parts = [
            f"{published.signed(of['effect'])} {READ[name].label} ({of['outcome']})"
            for name, of in seen.items()
        ]
        baseline = names.method(fronts.root(method, names.tuned))
        said.append(
            f"{names.method(method)} has {' and '.join(parts)} beside {baseline} at the same R²."
        )
    if best:
        of_best = [effects.loc[(method, ENDPOINTS[0])] for method in best]
        reach = [
            f"{names.method(m)} reaches {_reach(of)}"
            for m, of in zip(best, of_best, strict=True)
        ]
        lost, every = (
            max(of["infeasible"] + more * of["cells"] for of in of_best)
            for more in (0, 1)
        )
        left_out = (
            f"; in {lost:g} of {every:g} cells there is no comparison" if lost else ""
        )
        said.append(f"What it costs: {', '.join(reach)}{left_out}.")
    papers = claims[~claims["ours"].astype(bool)] if len(claims) else claims
    if len(said) < 3 and len(papers):
        said.append(
            f"Of the paper's {len(papers)} claims {(papers['verdict'] == 'holds').sum()} hold here."
        )
    return said


def _reach(row: pd.Series) -> str:
    change = round(row["gain"] - row["shortfall"], 3)
    return (
        f"{abs(change):.3f} {'more' if change > 0 else 'less'} R²"
        if change
        else "the same R²"
    )


def claims(table: pd.DataFrame) -> list[dict[str, Any]]:
    """The rows of claims.csv."""
    return table.rename(
        columns={"claim": "id", "ci_low": "low", "ci_high": "high"}
    ).to_dict("records")

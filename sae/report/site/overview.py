"""The file `overview` of the site: what its first view shows, and lists of all else.

Rows of these lists name cells, methods and SAEs by their places in the lists of cells,
methods and SAEs (:class:`Places`).
"""

import ast
import itertools
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import pandas as pd
from matplotlib.colors import to_hex

from sae.comparison import fronts
from sae.comparison.outcomes import headline
from sae.comparison.scores import COMPARED, SCORES, values
from sae.core import registry
from sae.report import outcomes
from sae.report.fronts import HEADLINE, SHOWN_CONTROLS
from sae.report.names import Names
from sae.report.site.concepts import WORDS
from sae.report.site.glossary import GLOSSARY
from sae.scoring import front
from sae.scoring.front import ENDPOINTS
from sae.scoring.rows import CELL

KEY = [*CELL, "method", "trial", "seed"]
# Columns of front_means.csv that the leaderboard shows, and those among them that it
# does not show of a method that is out of reach.
LEADERBOARD_COLUMNS = [
    "score",
    "front",
    "width",
    "level",
    "effect",
    "low",
    "high",
    "low_seeds",
    "high_seeds",
    "equal_r2",
    "pairs",
    "pairs_r2",
    "up",
    "cells",
    "infeasible",
    "out_of_reach",
    "r2_difference",
    "shortfall",
    "gain",
    "outcome",
    "at_lower_r2",
]
MEANS = ["effect", "low", "high", "low_seeds", "high_seeds", "equal_r2", "pairs"]
# Columns of fronts.csv that the site shows for each cell.
EFFECT_COLUMNS = [
    "score",
    "effect",
    "shortfall",
    "gain",
    "r2_difference",
]

Row = dict[str, Any]


@dataclass
class Overview:
    """The contents of the file `overview`, in this order.

    Attributes:
        format: The format of the site's files.
        experiment: The name of the experiment.
        description: What it is for.
        answer: Sentences of :func:`sae.report.site.answer.answer`.
        datasets, backbones: Rows of id and label.
        methods: Rows of :func:`methods`.
        cells: A row for each cell, with the SAEs that are shown.
        saes: A row for each SAE that is shown, with its scores.
        fronts, windows: Of :func:`vertices_and_windows`.
        outcomes: How the column of outcomes is headed
            (:func:`sae.report.outcomes.heading`).
        leaderboard: Rows of :func:`leaderboard_rows`.
        claims: Rows of :func:`claim_rows`.
        effects: Rows of :func:`effect_rows`.
        first_panel: Of :func:`sae.report.site.start.first_panel`.
        start: Rows of :func:`sae.report.site.start.views`.
        downloads: Rows of :func:`sae.report.site.downloads.write`.
        latent_scores: Of :func:`extension_latent_scores`.
        scores: Rows of :func:`scores`.
        trials: Columns of :func:`trials`.
        glossary: {word: what it means}.
        provenance: What all of it was made from.
    """

    format: int = 1
    experiment: str = ""
    description: str = ""
    answer: list[str] = field(default_factory=list)
    datasets: list[Row] = field(default_factory=list)
    backbones: list[Row] = field(default_factory=list)
    methods: list[Row] = field(default_factory=list)
    cells: list[Row] = field(default_factory=list)
    saes: list[Row] = field(default_factory=list)
    fronts: list[Row] = field(default_factory=list)
    windows: list[Row] = field(default_factory=list)
    outcomes: str = "outcome"
    leaderboard: list[Row] = field(default_factory=list)
    claims: list[Row] = field(default_factory=list)
    effects: list[Row] = field(default_factory=list)
    first_panel: Row | None = None
    start: list[Row] = field(default_factory=list)
    downloads: list[Row] = field(default_factory=list)
    latent_scores: list[dict[str, str]] = field(default_factory=list)
    scores: list[Row] = field(default_factory=lambda: scores())
    trials: dict[str, Any] = field(default_factory=dict)
    glossary: dict[str, str] = field(default_factory=lambda: dict(GLOSSARY))
    provenance: dict[str, Any] = field(default_factory=dict)


class Places:
    """The places of cells and methods in the site's lists.

    Attributes:
        cells: {(dataset, backbone, k): place}.
        methods: {method: place}.
    """

    def __init__(
        self, cells: Iterable[tuple[Any, ...]], methods: Iterable[str]
    ) -> None:
        self.cells = {cell: place for place, cell in enumerate(cells)}
        self.methods = {method: place for place, method in enumerate(methods)}

    def columns(self, rows: pd.DataFrame) -> dict[str, list[Any]]:
        """Return the columns `method` and, if the rows have one, `cell` as places."""
        columns = {"method": [self.methods.get(name) for name in rows["method"]]}
        if set(CELL) <= set(rows):
            cells = rows[CELL].itertuples(index=False, name=None)
            columns["cell"] = [self.cells.get(cell) for cell in cells]
        return columns


# -- scores


def scores(extension_metrics: Mapping[str, str] = {}) -> list[Row]:
    """Return what can be compared, and which of it methods are judged by.

    Args:
        extension_metrics: {column: what it says}, of :func:`extension_metrics`; these
            scores come last.
    """
    rows = []
    for name in COMPARED:
        score = SCORES[name]
        row = {
            "id": name,
            "label": score.label,
            "what": score.what,
            "better": score.better,
            "chance": score.chance,
            "endpoint": name in ENDPOINTS,
            "judged": name in HEADLINE,
        }
        rows.append(row)
    for column, sentence in extension_metrics.items():
        row = {
            "id": column,
            "label": column,
            "what": sentence,
            "better": 1,
            "chance": None,
            "endpoint": False,
            "judged": False,
        }
        rows.append(row)
    return rows


def score_columns(
    rows: pd.DataFrame, extension_columns: Iterable[str] = ()
) -> dict[str, pd.Series]:
    """Return R², every score, and columns of extension metrics.

    Args:
        rows: Rows of metrics.
        extension_columns: The columns that extension metrics gave.
    """
    columns = {"r2": values(rows, "r2")}
    for name in COMPARED:
        columns[name] = SCORES[name].of(rows)
    for name in extension_columns:
        columns[name] = values(rows, name)
    return columns


def extension_metrics(metric_by_column: Mapping[str, str]) -> dict[str, str]:
    """Return {column of the metrics: what it says} of metrics in a user's folder.

    Args:
        metric_by_column: {column: the metric that gave it}, as made_by.json has it.
    """
    extensions = {
        name for name in registry.names("metric") if registry.is_own("metric", name)
    }
    return {
        column: _first_sentence(metric)
        for column, metric in metric_by_column.items()
        if metric in extensions
    }


def _first_sentence(metric: str) -> str:
    """Return the first sentence of the docstring of a metric's file."""
    file = registry.locate(registry.module_name("metric", metric))
    docstring = ast.get_docstring(registry.parse(file)) if file else None
    if docstring is None:
        return ""
    first_paragraph = docstring.split("\n\n")[0]
    on_one_line = " ".join(first_paragraph.split())
    return on_one_line.partition(". ")[0]


def extension_latent_scores(
    latents: pd.DataFrame, sentence_by_column: Mapping[str, str]
) -> list[dict[str, str]]:
    """Return the columns of latents.parquet that extension metrics gave.

    Args:
        latents: Rows of latents.parquet.
        sentence_by_column: Of :func:`extension_metrics`.

    Returns:
        A row of `id`, `label` and `what` for each numeric column that the library does
        not have.
    """
    library_prefixes = ("ms", "detection", "purity", "n_active", "top_class", "spread")
    no_scores = {*KEY, "split", "latent", "selected", *WORDS}
    columns = [
        name
        for name in latents.select_dtypes("number")
        if name not in no_scores and not name.startswith(library_prefixes)
    ]
    # Where one metric alone was added, a column without a sentence is of that one.
    sentences = list(dict.fromkeys(sentence_by_column.values()))
    default = sentences[0] if len(sentences) == 1 else ""
    return [
        {"id": name, "label": name, "what": sentence_by_column.get(name, default)}
        for name in columns
    ]


# -- methods, trials and fronts


def methods(names: Names) -> list[Row]:
    """Return an experiment's methods, in the order of its config."""
    rows = []
    for name in names.order(names.methods):
        relations = names.of(name)
        row = {
            "id": name,
            "label": names.method(name),
            "colour": to_hex(names.colour(name)),
            "marker": names.marker(name),
            "against": relations.against,
            "control": relations.control,
        }
        rows.append(row)
    return rows


def trials(
    metrics: pd.DataFrame,
    points: pd.DataFrame,
    judged: set[tuple[Any, ...]],
    places: Places,
    extension_columns: Iterable[str] = (),
) -> dict[str, Any]:
    """Return every SAE of an experiment, as columns.

    Args:
        metrics: Tidy metrics, MS across groups.
        points: Of :func:`sae.comparison.fronts.validation_trials`.
        judged: `KEY` of the SAEs that a protocol chose to be judged.
        places: The places of cells and methods.
        extension_columns: Columns of metrics in a user's folder.
    """
    saes = metrics.drop_duplicates(KEY)
    keys = list(saes[KEY].itertuples(index=False, name=None))
    trial_keys = points[fronts.TRIAL].itertuples(index=False, name=None)
    feasible_by_trial = dict(zip(trial_keys, points["feasible"], strict=True))

    roles = []
    for selected, key in zip(saes["selected"], keys, strict=True):
        if selected:
            roles.append("chosen")
        else:
            roles.append("judged" if key in judged else "trial")

    columns: dict[str, Any] = {
        **places.columns(saes),
        "trial": saes["trial"],
        "seed": saes["seed"],
        "status": saes["status"],
        "role": roles,
        # The key of a trial is that of an SAE without the seed.
        "feasible": [feasible_by_trial.get(key[:-1]) for key in keys],
    }
    in_order = pd.MultiIndex.from_tuples(keys, names=KEY)
    extension_columns = list(extension_columns)
    for split in ("val", "test"):
        rows = metrics[metrics["split"] == split].set_index(KEY).reindex(in_order)
        for name, column in score_columns(rows, extension_columns).items():
            columns[f"{name}_{split}"] = column
        if split == "val":
            dead = values(rows, "dead_train")
            columns["l0"] = values(rows, "l0")
            columns["dead"] = dead
            columns["firing"] = 1 - dead / values(rows, "m")
    return columns


def vertices_and_windows(
    points: pd.DataFrame, names: Names, rule: fronts.FrontRule, places: Places
) -> tuple[list[Row], list[Row]]:
    """Return each method's vertices, and the windows in which fronts are read.

    Args:
        points: Of :func:`sae.comparison.fronts.validation_trials`.
        names: Which methods have fronts.
        rule: Where fronts are read; the first width is shown.
        places: The places of cells and methods.

    Returns:
        A row for each vertex, with its weight in the window (None without a window);
        and a row for each window, that of the first baseline.
    """
    vertices: list[Row] = []
    windows: list[Row] = []
    width = rule.widths[0]
    for cell, cell_points in points.groupby(CELL, sort=False):
        by_method = dict(iter(cell_points.groupby("method", sort=False)))
        for score, method in itertools.product(ENDPOINTS, names.tuned):
            if method not in by_method:
                continue
            baseline = fronts.root(method, names.tuned)
            window = None
            if baseline in by_method:
                window = front.window(by_method[baseline], score, width)

            about_front = {
                "cell": places.cells[cell],
                "score": score,
                "method": places.methods[method],
            }
            for vertex in _weighed_vertices(by_method[method], score, window):
                vertices.append({**about_front, **vertex})

            if window is not None and method in names.baselines[:1]:
                window_row = {
                    "cell": places.cells[cell],
                    "score": score,
                    "from": max(window.low, window.floor),
                    "best": window.high,
                    "width": width,
                }
                windows.append(window_row)
    return vertices, windows


def _weighed_vertices(
    points: pd.DataFrame, score: str, window: front.Window | None
) -> list[Row]:
    vertices = front.vertices(points, score)
    weights: list[float | None] = [None] * len(vertices)
    if window is not None and len(vertices):
        own_window = window._replace(reach=front.reach(points))
        r2 = vertices["r2"].to_numpy(float)
        weights = front.weights(r2, own_window).tolist()
    columns = zip(
        vertices["r2"], vertices[score], weights, vertices["trial"], strict=True
    )
    return [
        {"r2": r2, "value": value, "weight": weight, "trial": trial}
        for r2, value, weight, trial in columns
    ]


# -- tables


def leaderboard_rows(
    means: pd.DataFrame, controls: pd.DataFrame, places: Places
) -> list[Row]:
    """Return the rows of the leaderboard: methods, then the first controls.

    Args:
        means: front_means.csv.
        controls: front_controls.csv.
        places: The places of methods.
    """
    leaderboard = means[LEADERBOARD_COLUMNS].assign(
        method=places.columns(means)["method"],
        says=[outcomes.say(row) for row in means.to_dict("records")],
    )
    is_out_of_reach = [
        outcomes.is_out_of_reach(row) for row in means.to_dict("records")
    ]
    leaderboard.loc[is_out_of_reach, MEANS] = None
    rows = leaderboard.to_dict("records")

    shown_controls = list(dict.fromkeys(controls["control"]))[:SHOWN_CONTROLS]
    is_shown = controls["control"].isin(shown_controls)
    control_rows = controls[is_shown].to_dict("records")
    widths = list(dict.fromkeys(means["width"]))
    for row in control_rows:
        rows += [_control_row(row, width, places) for width in widths]
    return rows


def _control_row(row: Row, width: float, places: Places) -> Row:
    return {
        "method": places.methods[row["control"]],
        "score": row["score"],
        "front": row["score"],
        "width": width,
        "level": row["baseline"],
        "effect": row["difference"],
        "low": row["low"],
        "high": row["high"],
        "outcome": None,
        "says": "control, at its own R²",
    }


def effect_rows(cells: pd.DataFrame, places: Places) -> list[Row]:
    """Return each effect at the first width.

    Args:
        cells: fronts.csv.
        places: The places of cells and methods.
    """
    first_width = headline(cells)
    columns = places.columns(first_width)
    for name in EFFECT_COLUMNS:
        columns[name] = first_width[name]
    return pd.DataFrame(columns).to_dict("records")


def claim_rows(claims: pd.DataFrame) -> list[Row]:
    """Return the rows of claims.csv, with the names that the site reads."""
    site_names = {"claim": "id", "ci_low": "low", "ci_high": "high"}
    return claims.rename(columns=site_names).to_dict("records")

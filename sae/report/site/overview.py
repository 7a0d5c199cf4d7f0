"""The file `overview` of the site: what its first view shows, and lists of all else.

Rows of these lists name cells, methods and SAEs by their places in the lists of cells,
methods and SAEs (:class:`Places`).
"""

import ast
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import pandas as pd
from matplotlib.colors import to_hex

from sae.comparison.effects import OUT_OF_REACH
from sae.comparison.scores import COMPARED, SCORES, values
from sae.comparison.verdicts import ALL_FAMILIES
from sae.core import registry
from sae.report import comparison
from sae.report.names import Names
from sae.report.site.concepts import WORDS
from sae.report.site.glossary import GLOSSARY
from sae.scoring.choice import DETECTION, ENDPOINTS, MARGIN, MS
from sae.scoring.rows import CELL
from sae.scoring.selection import rows_under

KEY = [*CELL, "method", "trial", "seed"]
# The scores that the comparison shows at first, in this order.
MAIN = (
    *(DETECTION, "detection_per_latent", "detection_per_activation", "coverage"),
    *("usable", "effective", "nested", "copies", MS, "names_share", "concepts_match"),
    *("probe_auc", "r2"),
)

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
        first_cell: The cell that views open on (`cell`, its place), and by which
            `rule` it was chosen (:func:`sae.report.site.start.first_cell`).
        which: Sentences that say of which SAEs a row of `comparison` is.
        comparison: Rows of :func:`comparison_rows`.
        by_cell: Rows of :func:`rows_by_cell`.
        claims: Rows of :func:`claim_rows`.
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
    first_cell: Row = field(default_factory=lambda: {"cell": 0, "rule": ""})
    which: list[str] = field(default_factory=list)
    comparison: list[Row] = field(default_factory=list)
    by_cell: list[Row] = field(default_factory=list)
    claims: list[Row] = field(default_factory=list)
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
    """Return what can be compared: the main scores, the others, those of extensions.

    Args:
        extension_metrics: {column: what it says}, of :func:`extension_metrics`.
    """
    rows = []
    for name in dict.fromkeys([*MAIN, *COMPARED]):
        score = SCORES[name]
        row = {
            "id": name,
            "label": score.label,
            "what": score.what,
            "better": score.better,
            "chance": score.chance,
            "endpoint": name in ENDPOINTS,
            "main": name in MAIN,
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
            "main": True,
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
    no_scores = {*KEY, "split", "latent", "selected", "copy_of", *WORDS}
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


# -- methods and trials


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
    selection: pd.DataFrame,
    tuning_seed: int | None,
    places: Places,
    extension_columns: Iterable[str] = (),
) -> dict[str, Any]:
    """Return every SAE of an experiment, as columns.

    Args:
        metrics: Tidy metrics, MS across groups.
        selection: selection.parquet.
        tuning_seed: The seed of the trials of protocol `tuned`; None without it.
        places: The places of cells and methods.
        extension_columns: Columns of metrics in a user's folder.
    """
    saes = metrics.drop_duplicates(KEY)
    keys = list(saes[KEY].itertuples(index=False, name=None))
    feasible, roles = _choices_of_trials(selection, tuning_seed)
    # Without protocol `tuned` what is chosen is what protocol `paper` chose.
    of_paper = "paper's choice" if roles else "chosen"

    columns: dict[str, Any] = {
        **places.columns(saes),
        "trial": saes["trial"],
        "seed": saes["seed"],
        "status": saes["status"],
        "role": [
            roles.get(key) or (of_paper if selected else "trial")
            for key, selected in zip(keys, saes["selected"], strict=True)
        ],
        "feasible": [feasible.get(key) for key in keys],
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


def _choices_of_trials(
    selection: pd.DataFrame, tuning_seed: int | None
) -> tuple[dict[Any, bool], dict[Any, str]]:
    """Return what protocol `tuned` says of SAEs: whether each trial is feasible; roles.

    Both are by `KEY`. The role of the trial that was chosen is "chosen", of those that
    trained again "fresh seed"; other SAEs have none.
    """
    feasible: dict[Any, bool] = {}
    roles: dict[Any, str] = {}
    if tuning_seed is None:
        return feasible, roles
    for row in rows_under(selection, "tuned").to_dict("records"):
        trial = tuple(row[name] for name in KEY[:-1])
        feasible[*trial, tuning_seed] = row["status"] != "not feasible"
        if row["role"] == "chosen":
            seeds = [int(seed) for seed in row["seeds"].split()]
            roles |= {(*trial, seed): "fresh seed" for seed in seeds}
            roles[*trial, tuning_seed] = row["status"]
    return feasible, roles


def reconstructs_as_well(selection: pd.DataFrame, baseline: str) -> float | None:
    """Return the R^2 on validation from which on a trial reconstructs as well.

    Args:
        selection: The rows of one cell.
        baseline: Whose best trial counts.
    """
    trials = rows_under(selection, "tuned")
    bars = trials.loc[trials["method"] == baseline, "bar"].dropna()
    return float(bars.iloc[0]) - MARGIN if len(bars) else None


# -- tables


def comparison_rows(means: pd.DataFrame, places: Places) -> list[Row]:
    """Return the rows of the comparison: baselines, then methods, then controls.

    Args:
        means: comparison.parquet.
        places: The places of methods.

    Returns:
        A row for each method and family of backbones, and one for their mean; where
        there is one family, that alone. `values` are a baseline's own scores; `effects`
        what another method has beside it, `low` and `high` their intervals, `verdicts`
        what is said of them.
    """
    if means["family"].nunique() == 2:  # One family and its mean are the same.
        means = means[means["family"] == ALL_FAMILIES]
    rows = []
    for (baseline, family), of_baseline in means.groupby(
        ["baseline", "family"], sort=False
    ):
        levels = of_baseline.drop_duplicates("score").set_index("score")["level"]
        rows.append(
            {
                "method": places.methods[str(baseline)],
                "family": family,
                "values": levels.dropna().to_dict(),
            }
        )
    in_order = means.sort_values("control", kind="stable")
    for (method, family), of_method in in_order.groupby(
        ["method", "family"], sort=False
    ):
        by_score = of_method.set_index("score")
        effects = by_score.dropna(subset="effect")
        intervals = effects.dropna(subset="low")
        first = of_method.iloc[0]
        rows.append(
            {
                "method": places.methods[str(method)],
                "family": family,
                "control": bool(first["control"]),
                **{
                    name: int(first[name])
                    for name in ("cells", "datasets", "out_of_reach")
                },
                "up": by_score["up"].to_dict(),
                "effects": effects["effect"].to_dict(),
                "low": intervals["low"].to_dict(),
                "high": intervals["high"].to_dict(),
                "verdicts": _verdicts(by_score),
            }
        )
    return rows


def _verdicts(by_score: pd.DataFrame) -> dict[str, str]:
    """Return {endpoint: its verdict in words}, of those that have one."""
    return {
        score: comparison.say(row)
        for score, row in by_score.to_dict("index").items()
        if score in ENDPOINTS
        and (isinstance(row["verdict"], str) or row["reason"] == OUT_OF_REACH)
    }


def rows_by_cell(cells: pd.DataFrame, places: Places) -> list[Row]:
    """Return what each method has in each cell, all scores of the same SAEs.

    Args:
        cells: comparison_cells.parquet.
        places: The places of cells and methods.

    Returns:
        A row for each cell and method: what was chosen (`trial`, `seeds`), or the
        `reason` why it is out of reach and the `shortfall` of its R^2; `values`, means
        over these seeds on test; `effects`, these minus the baseline's.
    """
    rows = []
    for key, of_method in cells.groupby([*CELL, "method"], sort=False):
        first = of_method.iloc[0]
        by_score = of_method.set_index("score")
        rows.append(
            {
                "cell": places.cells[key[:-1]],
                "method": places.methods[key[-1]],
                "control": bool(first["control"]),
                **{
                    name: first[name]
                    for name in ("trial", "seeds", "reason", "shortfall")
                },
                "values": by_score["value"].dropna().to_dict(),
                "effects": by_score["effect"].dropna().to_dict(),
            }
        )
    return rows


def claim_rows(claims: pd.DataFrame) -> list[Row]:
    """Return the rows of claims.csv, with the names that the site reads."""
    site_names = {"claim": "id", "ci_low": "low", "ci_high": "high"}
    return claims.rename(columns=site_names).to_dict("records")

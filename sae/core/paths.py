"""Where everything lies under results/.

These are patterns, whose {wildcards} the rules, housekeeping and tests fill in.
"""

from pathlib import Path
from typing import Any

RESULTS = "results"
ARTIFACTS = f"{RESULTS}/artifacts"
ARTIFACT = f"{ARTIFACTS}/{{artifact}}/artifact.json"
WEIGHTS = f"{RESULTS}/weights/{{backbone}}.json"
IMPORTED = f"{RESULTS}/imported/{{method}}.safetensors"
# Undeclared: its hash, beside it (`sae.core.outputs`).
IMPORTED_SUMS = f"{IMPORTED}.sums.json"

DATASETS = f"{RESULTS}/datasets/{{dataset}}"
DOWNLOAD = f"{DATASETS}/download.json"
INDEX = f"{DATASETS}/index.parquet"
DATASET = f"{DATASETS}/manifest.json"
# What people call the images: its hashes and source, then the tables.
CONCEPTS = f"{DATASETS}/concepts.json"
CONCEPT_TABLES = [f"{DATASETS}/{name}.parquet" for name in ("concepts", "attributes")]

ACTIVATIONS = f"{RESULTS}/activations/{{dataset}}/{{backbone}}"
EMBEDDINGS = f"{ACTIVATIONS}/{{split}}/embeddings.npy"
EMBEDDINGS_INDEX = f"{ACTIVATIONS}/{{split}}/index.parquet"
EMBEDDINGS_MANIFEST = f"{ACTIVATIONS}/{{split}}/manifest.json"
SHARD = f"{ACTIVATIONS}/.shards/{{shard}}-of-{{shards}}"

STORE = f"{RESULTS}/store/saes"
STORED = ("sae.safetensors", "train.parquet", "result.json")

EXPERIMENT = f"{RESULTS}/{{experiment}}"
_CELL = "{dataset}/{backbone}/k{k}"
BANK_FOLDER = f"{EXPERIMENT}/saes/{_CELL}"
BANK = f"{BANK_FOLDER}/bank.json"
# Undeclared, and gone when the bank is there: what a job that trains has asked for.
UNFINISHED = f"{BANK_FOLDER}/.unfinished.json"
# Relative to the bank's folder.
SAE = "{method}/{trial}/seed{seed}/sae.safetensors"
TRAINING_LOG = "{method}/{trial}/seed{seed}/train.parquet"

SCORES = f"{EXPERIMENT}/scores/{_CELL}"
VALIDATION = f"{SCORES}/validation.parquet"
SELECTION = f"{SCORES}/selection.parquet"
STAGES = ("score", "robustness", "probe")
TABLES_OF_STAGE = ("metrics", "curves", "latents")
STAGE = f"{SCORES}/{{stage}}"
STAGE_TABLE = f"{STAGE}/{{table}}.parquet"
# Where in their highest pictures the latents of the chosen SAEs fire: the maps, and
# tables of a stage.
HEATMAPS = f"{SCORES}/heatmaps/maps.parquet"
# Undeclared: what a stage has computed, one file a metric, of which it keeps the rows
# that still hold.
ROWS = f"{SCORES}/.rows/{{stage}}/{{metric}}.parquet"
# Undeclared: what a protocol has computed on validation, one file a metric. Only
# housekeeping, which knows every pattern of this module, looks at this one.
PROTOCOL_ROWS = f"{SCORES}/.rows/train/{{protocol}}/{{metric}}.parquet"
PROBE_OF_EMBEDDINGS = f"{EXPERIMENT}/scores/{{dataset}}/{{backbone}}/embeddings.json"

# What `make publish` lays out for the Hugging Face hub.
HUB = f"{EXPERIMENT}/hub"
METRICS = f"{EXPERIMENT}/metrics.parquet"
METRICS_CSV = f"{EXPERIMENT}/metrics.csv"
MADE_BY = f"{EXPERIMENT}/made_by.json"
# The SHA-256 of files that cannot hold a seal (`sae.core.seals`).
METRICS_SUMS = f"{EXPERIMENT}/metrics.sums.json"
CURVES = f"{EXPERIMENT}/curves.parquet"
LATENTS = f"{EXPERIMENT}/latents.parquet"
ALL_SELECTIONS = f"{EXPERIMENT}/selection.parquet"
GALLERY = f"{EXPERIMENT}/gallery/{{part}}.parquet"
GALLERY_PARTS = ("images", "sample")
TABLE = f"{EXPERIMENT}/tables/table{{number}}.{{suffix}}"
NOTED_TABLES = [
    f"{EXPERIMENT}/tables/{name}.{{suffix}}"
    for name in ("controls", "comparison", "leaderboard")
]
COMPARISON_TABLES = [
    f"{EXPERIMENT}/tables/comparison_{name}.csv" for name in ("cells", "imported")
]
# What the site and the summary of a run read: the same rows as the csv, with types.
TYPED_TABLES = ("comparison", "comparison_cells", "comparison_imported")
TYPED_TABLE = f"{EXPERIMENT}/tables/{{typed_table}}.parquet"
TYPED_CLAIMS = f"{EXPERIMENT}/claims.parquet"
TABLES_SUMS = f"{EXPERIMENT}/tables/tables.sums.json"
TABLE_NUMBERS = (1, 2, 3, 4)
TABLE_SUFFIXES = ("csv", "md", "tex")
CLAIMS = f"{EXPERIMENT}/claims.{{suffix}}"
CLAIMS_SUMS = f"{EXPERIMENT}/claims.sums.json"
FIGURE = f"{EXPERIMENT}/figures/{{figure}}.{{suffix}}"
FIGURE_SUMS = f"{EXPERIMENT}/figures/{{figure}}.sums.json"
FIGURE_SUFFIXES = ("png", "pdf", "svg")
SITE = f"{EXPERIMENT}/report/index.html"
SITE_SUMS = f"{EXPERIMENT}/report/index.sums.json"
# Undeclared: the site of one cell, which `make show` writes before there is a report.
FIRST_LOOK = f"{EXPERIMENT}/first_look/index.html"
# Undeclared: a configuration other than config.yaml that the experiment was run with.
CONFIGURATION = f"{EXPERIMENT}/configurations/{{configuration}}.json"

# What a job says goes to a log; what it took, as .tsv beside the log.
LOGS = f"{RESULTS}/logs"
EXPERIMENT_LOGS = f"{EXPERIMENT}/logs"
# What a job warned of lies as its log does. It belongs to what the job made, and stays
# where logs are deleted.
WARNINGS = f"{RESULTS}/warnings"
EXPERIMENT_WARNINGS = f"{EXPERIMENT}/warnings"


def trial_name(trial: dict[str, Any]) -> str:
    """Return a trial as paths name it.

    Args:
        trial: {swept option: its value}.

    Returns:
        `lambda0.001-lr0.002`, names sorted; `default` where nothing is swept.
    """
    parts = [f"{name}{value_in_path(value)}" for name, value in sorted(trial.items())]
    return "-".join(parts) or "default"


def value_in_path(value: Any) -> str:
    """Return a swept value as paths print it."""
    if isinstance(value, float):
        return format(value, "g")
    return value if isinstance(value, str) else str(value).lower()


def warnings_file(log: Path) -> Path | None:
    """Return the file for what a job with this log warned of; None of other logs."""
    folder, is_in_logs, name = log.as_posix().partition("/logs/")
    if not is_in_logs or not folder.startswith(RESULTS):
        return None
    return Path(f"{folder}/warnings/{name}").with_suffix(".json")


def shared_folders() -> set[str]:
    """Return the names of the folders of results/ that are no experiment's."""
    folders = set()
    for pattern in globals().values():
        if isinstance(pattern, str) and pattern.startswith(f"{RESULTS}/"):
            folders.add(pattern.split("/")[1])
    experiment_folder = EXPERIMENT.split("/")[1]
    return folders - {experiment_folder}

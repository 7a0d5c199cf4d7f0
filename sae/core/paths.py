"""Where everything lies under results/: patterns whose {wildcards} the rules, housekeeping and tests fill in."""

from typing import Any

RESULTS = "results"
ARTIFACTS = f"{RESULTS}/artifacts"
ARTIFACT = f"{ARTIFACTS}/{{artifact}}/artifact.json"
WEIGHTS = f"{RESULTS}/weights/{{backbone}}.json"
IMPORTED = f"{RESULTS}/imported/{{method}}.safetensors"

DATASETS = f"{RESULTS}/datasets/{{dataset}}"
DOWNLOAD = f"{DATASETS}/download.json"
INDEX = f"{DATASETS}/index.parquet"
DATASET = f"{DATASETS}/manifest.json"

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
BANK_CHOSEN = f"{BANK_FOLDER}/bank_chosen.json"
# Protocol `fair` has two rounds more: the baseline at several lengths, and the shortlist with more tuning seeds.
BANK_LENGTHS = f"{BANK_FOLDER}/bank_lengths.json"
BANK_SHORTLIST = f"{BANK_FOLDER}/bank_shortlist.json"
# {stem of a bank's file: itself; the step that makes it}
BANKS = {
    "bank_lengths": BANK_LENGTHS,
    "bank": BANK,
    "bank_shortlist": BANK_SHORTLIST,
    "bank_chosen": BANK_CHOSEN,
}
TRAINS = {
    "bank_lengths": "lengths",
    "bank": "train",
    "bank_shortlist": "train_shortlist",
    "bank_chosen": "train_chosen",
}
# Marks of jobs that trained a part of a bank; `bank` is the stem of the bank's file.
PART = f"{BANK_FOLDER}/.parts/{{bank}}/{{part}}-of-{{parts}}"
# Relative to the bank's folder.
SAE = "{method}/{trial}/seed{seed}/sae.safetensors"
TRAINING_LOG = "{method}/{trial}/seed{seed}/train.parquet"

SCORES = f"{EXPERIMENT}/scores/{_CELL}"
VALIDATION = f"{SCORES}/validation.parquet"
SELECTION = f"{SCORES}/selection.parquet"
SHORTLIST = f"{SCORES}/shortlist.parquet"
STAGES = ("score", "score_chosen", "robustness", "probe")
TABLES_OF_STAGE = ("metrics", "curves", "latents")
STAGE = f"{SCORES}/{{stage}}"
STAGE_TABLE = f"{STAGE}/{{table}}.parquet"
# Undeclared: what a stage has computed, one file a metric, of which it keeps the rows that still hold.
ROWS = f"{SCORES}/.rows/{{stage}}/{{metric}}.parquet"
PROBE_OF_EMBEDDINGS = f"{EXPERIMENT}/scores/{{dataset}}/{{backbone}}/embeddings.json"

HUB = f"{EXPERIMENT}/hub"  # What `make publish` lays out for the Hugging Face hub.
METRICS = f"{EXPERIMENT}/metrics.parquet"
METRICS_CSV = f"{EXPERIMENT}/metrics.csv"
# The SHA-256 of files that cannot hold a seal (`sae.core.seals`).
METRICS_SUMS = f"{EXPERIMENT}/metrics.sums.json"
CURVES = f"{EXPERIMENT}/curves.parquet"
LATENTS = f"{EXPERIMENT}/latents.parquet"
ALL_SELECTIONS = f"{EXPERIMENT}/selection.parquet"
GALLERY = f"{EXPERIMENT}/gallery/{{part}}.parquet"
GALLERY_PARTS = ("images", "sample")
TABLE = f"{EXPERIMENT}/tables/table{{number}}.{{suffix}}"
CONTROLS = f"{EXPERIMENT}/tables/controls.{{suffix}}"
FAIR = f"{EXPERIMENT}/tables/fair.{{suffix}}"
FAIR_EFFECTS = f"{EXPERIMENT}/tables/fair_effects.csv"
FAIR_SUMS = f"{EXPERIMENT}/tables/fair.sums.json"
LEADERBOARD = f"{EXPERIMENT}/tables/leaderboard.{{suffix}}"
LEADERBOARD_SUMS = f"{EXPERIMENT}/tables/leaderboard.sums.json"
TABLES_SUMS = f"{EXPERIMENT}/tables/tables.sums.json"
TABLE_NUMBERS = (1, 2, 3, 4)
TABLE_SUFFIXES = ("csv", "md", "tex")
CLAIMS = f"{EXPERIMENT}/claims.{{suffix}}"
CLAIMS_SUMS = f"{EXPERIMENT}/claims.sums.json"
FIGURE = f"{EXPERIMENT}/figures/{{figure}}.{{suffix}}"
FIGURE_SUMS = f"{EXPERIMENT}/figures/{{figure}}.sums.json"
FIGURE_SUFFIXES = ("png", "pdf")
PAGE = f"{EXPERIMENT}/report/index.html"
PAGE_SUMS = f"{EXPERIMENT}/report/index.sums.json"
# Undeclared: a configuration other than config.yaml that the experiment was run with.
CONFIGURATION = f"{EXPERIMENT}/configurations/{{configuration}}.json"

# What a job said, and as .tsv beside it what it took.
LOGS, EXPERIMENT_LOGS = f"{RESULTS}/logs", f"{EXPERIMENT}/logs"


def trial_name(trial: dict[str, Any]) -> str:
    """A trial in paths: `lambda0.001-lr0.002`, names sorted; `default` where nothing is swept."""
    return "-".join(f"{name}{written(value)}" for name, value in sorted(trial.items())) or "default"


def written(value: Any) -> str:
    """A swept value as paths print it."""
    if isinstance(value, float):
        return format(value, "g")
    return value if isinstance(value, str) else str(value).lower()


def rounded(value: Any) -> Any:
    """A swept value as it is trained: what the path prints, so that the two never differ."""
    return float(written(value)) if isinstance(value, float) else value


def shared() -> set[str]:
    """The folders of results/ that are no experiment's."""
    patterns = [p for p in globals().values() if isinstance(p, str) and p.startswith(f"{RESULTS}/")]
    return {pattern.split("/")[1] for pattern in patterns} - {EXPERIMENT.split("/")[1]}

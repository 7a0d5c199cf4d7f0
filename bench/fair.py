"""Numbers that the pages of `fair` state beside its tables; `rivals` and `sizes` too.

    python bench/fair.py frequency docs/results/fair
    python bench/fair.py rate docs/results/fair
    python bench/fair.py mask docs/results/fair
    python bench/fair.py draws docs/results/fair
    python bench/fair.py agree docs/results/fair docs/results/rivals
    python bench/fair.py thresholds BANK

All but the last read the rows that are kept in docs/results.
"""

import argparse
import json
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from _command import add_command, run_script
from _comparison import Experiment, over_blocks, read_experiment

from sae.comparison import outcomes, readings
from sae.comparison.fronts import TRIAL
from sae.comparison.scores import across_groups
from sae.core import files, paths
from sae.scoring.frequency import FREQUENCY_BANDS
from sae.scoring.front import DETECTION, ENDPOINTS
from sae.scoring.rows import CELL, read_metrics

BACKBONE = ["dataset", "backbone"]
METHOD = [*CELL, "method"]
OPTIONS = ["lr", "encoder_scale", "auxk_alpha"]  # of a common point
PENALTIES = ["reg1", "reg2"]


def add_commands(commands: "argparse._SubParsersAction") -> None:
    """Add every command of this script."""
    command = add_command(commands, "frequency", print_frequency, tiny=False)
    command.add_argument(
        "results", type=Path, help="folder of a run with protocol fair"
    )
    command.add_argument("--experiment", help="its name, where the folder has another")
    command.add_argument(
        "--config", nargs="*", default=[], help="laid over config.yaml"
    )
    command.add_argument("--out", type=Path, help="a CSV")

    command = add_command(commands, "rate", print_rates, tiny=False)
    command.add_argument(
        "results", type=Path, help="folder of a run with protocol fair"
    )

    command = add_command(commands, "mask", print_mask, tiny=False)
    command.add_argument("results", type=Path, help="folder of a run without the mask")

    command = add_command(commands, "draws", print_draws, tiny=False)
    command.add_argument(
        "results", type=Path, help="folder of a run with protocol fair"
    )
    command.add_argument(
        "--config", nargs="*", default=[], help="laid over config.yaml"
    )
    command.add_argument("--draws", type=int, default=40)
    command.add_argument("--by-dataset", action="store_true")

    command = add_command(commands, "agree", print_agreement, tiny=False)
    command.add_argument("results", type=Path, nargs=2, help="folders named like these")

    command = add_command(commands, "thresholds", print_thresholds)
    command.add_argument("bank", type=Path, nargs="?", help="a bank's file")


# The gain in detection by how often latents fire.


def print_frequency(arguments: argparse.Namespace) -> None:
    """Print the gain in detection by how often latents fire.

    It is behind "The gain is in latents that fire rarely" of docs/results/fair, and
    behind docs/results/rivals/frequency.md.

    Rare latents are easier to find, so that a method whose latents are rarer may owe
    them its mean. Read are the vertices of detection's fronts, with fresh seeds on
    test: the mean AUC in each band of frequency minus the baseline's there, mean over
    blocks, with its interval. Where the folder has every latent of the judged SAEs
    (results of a run, not those that are kept in docs), `reweighted` is the gain as if
    latents fired as often as the baseline's.
    """
    experiment = read_experiment(
        arguments.results, *arguments.config, experiment=arguments.experiment
    )
    gains = gains_by_seed(arguments.results, experiment)
    table = gains_over_blocks(gains, experiment).set_index("method").round(3)
    print(table.to_string())
    if arguments.out:
        files.write_text(arguments.out, table.to_csv(lineterminator="\n"))


def gains_by_seed(run_folder: Path, experiment: Experiment) -> pd.DataFrame:
    """Return the gain of each method in each cell, with each seed that is read.

    Args:
        run_folder: The folder of the run, with curves.parquet and latents.parquet.
        experiment: Its rows, or some of them; cells without rows have no gain.

    Returns:
        Columns method, `CELL`, effect (all bands together), reweighted (as if latents
        fired as often as the baseline's; NaN where the folder lacks latents), and a
        column for each band.
    """
    effects = experiment.effects()
    effects = effects[(effects["score"] == DETECTION) & (effects["status"] == "ok")]

    curves = files.read_parquet(run_folder / "curves.parquet")
    is_by_frequency = curves["curve"] == "detection_by_frequency"
    curves = curves[is_by_frequency & (curves["split"] == "test")]
    auc_by_sae = {
        sae: points.set_index("x")["y"]
        for sae, points in curves.groupby([*TRIAL, "seed"])
    }

    latents = files.read_parquet(run_folder / "latents.parquet")
    latents = latents[latents["dataset"].isin(experiment.metrics["dataset"])]
    counts_by_sae = count_measured_latents(latents, experiment.metrics)
    gains = [
        gain_by_band(effect, auc_by_sae, counts_by_sae)
        for effect in effects.itertuples()
    ]
    return pd.DataFrame(gains)


def gains_over_blocks(gains: pd.DataFrame, experiment: Experiment) -> pd.DataFrame:
    """Return each method's mean gains over blocks, with their intervals.

    Args:
        gains: Of :func:`gains_by_seed`.
        experiment: With the families of backbones.

    Returns:
        A row for each method: the columns of gains, and of each its low and high end.
        Columns that no cell has are left out.
    """
    if gains.empty:
        return gains
    lines = []
    for method, rows in gains.groupby("method", sort=False):
        line: dict[str, object] = {"method": method}
        cells = rows.groupby(CELL).mean(numeric_only=True)
        for column in ("effect", "reweighted", *map(column_of_band, FREQUENCY_BANDS)):
            gain_by_cell = cells[column].dropna()
            if gain_by_cell.empty:
                continue
            mean, half, _ = over_blocks(gain_by_cell, experiment.names)
            line[column] = mean
            line[f"{column}, low"] = mean - half
            line[f"{column}, high"] = mean + half
        lines.append(line)
    return pd.DataFrame(lines)


def column_of_band(band: float) -> str:
    """Return the column of a band, which is named by its upper end."""
    return f"gain up to {band:.0%}"


def count_measured_latents(
    latents: pd.DataFrame, metrics: pd.DataFrame
) -> dict[tuple, np.ndarray]:
    """Return {(trial, seed): how many measured latents lie in each band}."""
    images = metrics[metrics["split"] == "test"].groupby("dataset")["n_images"].max()
    measured = latents[(latents["split"] == "test") & latents["detection"].notna()]
    frequency = measured["n_active"] / measured["dataset"].map(images)
    rows = measured.assign(band=np.searchsorted(FREQUENCY_BANDS, frequency))
    return {
        sae: np.bincount(latents_of_sae["band"], minlength=len(FREQUENCY_BANDS))
        for sae, latents_of_sae in rows.groupby([*TRIAL, "seed"])
    }


def gain_by_band(
    effect: Any,
    auc_by_sae: Mapping[tuple, pd.Series],
    counts_by_sae: Mapping[tuple, np.ndarray],
) -> dict[str, object]:
    """Return a method's gain with one seed in each band, and reweighted.

    Args:
        effect: A row of `sae.comparison.fronts.effects`, of detection.
        auc_by_sae: {(trial, seed): the mean AUC by band}.
        counts_by_sae: Of :func:`count_measured_latents`.
    """
    sides = []
    for method, vertices in (
        (effect.method, effect.vertices),
        (effect.baseline, effect.baseline_vertices),
    ):
        weights = weights_of_vertices(effect, method, vertices)
        sides.append(average_front(weights, auc_by_sae, counts_by_sae))
    (method_auc, _), (baseline_auc, baseline_counts) = sides

    gain = method_auc - baseline_auc
    line = {
        "method": effect.method,
        "dataset": effect.dataset,
        "backbone": effect.backbone,
        "k": effect.k,
        "effect": effect.effect,
        "reweighted": np.nan,
    }
    is_known = ~np.isnan(gain) & (baseline_counts > 0)
    if is_known.any():
        mean_gain = np.average(gain[is_known], weights=baseline_counts[is_known])
        line["reweighted"] = float(mean_gain)
    for band, gain_there in zip(FREQUENCY_BANDS, gain, strict=True):
        line[column_of_band(band)] = gain_there
    return line


def weights_of_vertices(
    effect: Any, method: str, vertices: str
) -> list[tuple[tuple, float]]:
    """Return (SAE, weight) of each vertex that an effect was read at.

    Args:
        effect: A row of `sae.comparison.fronts.effects`.
        method: The method, or its baseline.
        vertices: As the row has them: "TRIAL: WEIGHT; TRIAL: WEIGHT".
    """
    weights = []
    for vertex in vertices.split("; "):
        trial, weight = vertex.rsplit(": ", 1)
        sae = (effect.dataset, effect.backbone, effect.k, method, trial, effect.seed)
        weights.append((sae, float(weight)))
    return weights


def average_front(
    weights: list[tuple[tuple, float]],
    auc_by_sae: Mapping[tuple, pd.Series],
    counts_by_sae: Mapping[tuple, np.ndarray],
) -> tuple[np.ndarray, np.ndarray]:
    """Return the mean AUC of a front in each band, and how many latents it has there.

    In a band the vertices that have latents there weigh as they do on the front.
    """
    total = np.zeros(len(FREQUENCY_BANDS))
    total_weight = np.zeros(len(FREQUENCY_BANDS))
    counts = np.zeros(len(FREQUENCY_BANDS))
    for sae, weight in weights:
        auc = auc_by_sae[sae].reindex(FREQUENCY_BANDS).to_numpy(float)
        is_known = ~np.isnan(auc)
        total[is_known] += weight * auc[is_known]
        total_weight[is_known] += weight
        counts += weight * counts_by_sae.get(sae, np.zeros(len(FREQUENCY_BANDS)))
    with np.errstate(invalid="ignore"):
        return total / total_weight, counts


# The learning rate.

RATE_SCORES = ["ms_mean_alive", "detection_auc", "r2"]
POINT = [*CELL, *OPTIONS, "steps"]
RATE_BANDS = [0, 0.0008, 0.0016, 0.004, 1]
MOST_DEAD = 0.1  # of the baseline's latents


def print_rates(arguments: argparse.Namespace) -> None:
    """Print what a penalty adds to the same trial, by its learning rate.

    It is behind "The learning rate" of docs/results/fair and docs/results/sizes.

    Trials of protocol fair that differ from the baseline's in the penalty alone: the
    common points of each cell, with one lambda. On test, with the seed of the tuning,
    where 90 % of the baseline's latents fire; MS without near-duplicates. Last, over
    Top-k's own trials of a cell, the rank correlation of rate and MS.
    """
    metrics = read_metrics(arguments.results / "metrics.parquet")
    rows = across_groups(metrics).query(
        "split == 'test' and protocol == 'fair' and seed == 0 and steps.notna()"
    )
    is_alive = rows["dead_train"] <= MOST_DEAD * rows["m"]
    baseline = rows[(rows["method"] == "topk") & is_alive].drop_duplicates(POINT)

    gains = gains_over_twins(rows, baseline)
    for columns in (["dataset", "rate up to", "method"], ["rate up to", "method"]):
        means = gains.groupby(columns, sort=False, observed=True).mean(
            numeric_only=True
        )
        trial_counts = gains.groupby(columns, observed=True).size()
        table = means.assign(trials=trial_counts).sort_index().round(3)
        print(table.to_string(), "\n")
    for cell, trials in baseline.groupby(CELL):
        correlation = trials["lr"].corr(trials["ms_mean_alive"], method="spearman")
        print(*cell, f"{correlation:+.2f}")


def gains_over_twins(rows: pd.DataFrame, baseline: pd.DataFrame) -> pd.DataFrame:
    """Return what a penalty adds to each trial of the baseline.

    Args:
        rows: Trials of all methods.
        baseline: Those of Top-k, one at each point.

    Returns:
        A row for each trial of a penalty that has a twin: the gain in each score,
        dataset, method, "ms_mean_alive of Top-k", and the band of its rate.
    """
    twins = rows[rows["method"].isin(PENALTIES)].merge(
        baseline[[*POINT, *RATE_SCORES]], on=POINT, suffixes=("", " of Top-k")
    )
    # Trials at the common points have one lambda in a cell, the others each their own.
    lambdas = twins.groupby(METHOD)["lambda"]
    common_lambda = lambdas.transform(lambda values: values.mode().iloc[0])
    twins = twins[twins["lambda"] == common_lambda]

    gains = pd.DataFrame(
        {score: twins[score] - twins[f"{score} of Top-k"] for score in RATE_SCORES}
    )
    gains = gains.assign(**twins[["dataset", "method", "ms_mean_alive of Top-k"]])
    labels = [f"{rate:g}" for rate in RATE_BANDS[1:]]
    gains["rate up to"] = pd.cut(twins["lr"], RATE_BANDS, labels=labels)
    return gains


# The mask.

MASK_SCORES = ["detection_auc", "ms_mean_alive", "dead", "r2"]


def print_mask(arguments: argparse.Namespace) -> None:
    """Print what the mask does.

    It is behind the table of docs/results/fair/mask.md.

    The same trials and seeds of protocol fair, with the penalty on all latents minus
    with it on those that are active in the batch: the mean, half of its 95 % interval
    over (dataset, family of backbones) blocks, and the cells above and below 0. MS is
    that without near-duplicates; `dead` is on test images.
    """
    experiment = read_experiment(arguments.results)
    metrics = experiment.metrics
    rows = metrics[metrics["split"] == "test"]
    lines = []
    for method in PENALTIES:
        masked, unmasked = (
            rows[rows["method"] == name].set_index([*CELL, "trial", "seed"])[
                MASK_SCORES
            ]
            for name in (method, f"{method}_all")
        )
        differences = (unmasked - masked).dropna().groupby(CELL).mean()
        for score, by_cell in differences.items():
            mean, half, _ = over_blocks(by_cell, experiment.names)
            cells_above = int((by_cell > 0).sum())
            cells_below = int((by_cell < 0).sum())
            lines.append([method, score, mean, half, cells_above, cells_below])
    columns = ["method", "score", "without the mask", "half", "up", "down"]
    print(pd.DataFrame(lines, columns=columns).round(4).to_string())


# The draw of trials.


def print_draws(arguments: argparse.Namespace) -> None:
    """Print what the draw of trials is worth.

    It is behind "Drawing the trials anew from themselves" of docs/results/fair and of
    docs/results/sizes (there with --by-dataset).

    Trials are drawn anew from themselves, with replacement, and effects are read with
    the seed of the tuning. Common points are drawn together for all methods and all k
    of a (dataset, backbone), as the protocol draws them; a method's other trials, for
    itself in each cell. Printed are the mean over blocks as drawn, and the mean and the
    standard deviation over the new draws. It cannot show what a trial outside of these
    would change.
    """
    experiment = read_experiment(arguments.results, *arguments.config)
    rows = experiment.tuning
    columns = ["score", "method"]
    if arguments.by_dataset:
        columns.append("dataset")

    rng = np.random.default_rng(0)
    trials = with_unit(rows)
    means = []
    for _ in range(arguments.draws):
        drawn_trials = draw_trials(trials, rng)
        means.append(mean_endpoints(experiment, rows.merge(drawn_trials), columns))
    table = pd.DataFrame(means)
    summary = {
        "as drawn": mean_endpoints(experiment, rows, columns),
        "mean": table.mean(),
        "sd": table.std(),
    }
    print(pd.DataFrame(summary).round(4).to_string())


def mean_endpoints(
    experiment: Experiment, rows: pd.DataFrame, columns: list[str]
) -> pd.Series:
    """Return the mean effect over blocks of the endpoints, by these columns."""
    effects = experiment.effects(rows)
    effects = effects[effects["score"].isin(ENDPOINTS)]
    datasets = outcomes.by_dataset(effects, experiment.names.families)
    if "dataset" in columns:
        return datasets.set_index(columns)["effect"]
    # Every dataset has the same families, so that its mean weighs as much.
    return datasets.groupby(columns)["effect"].mean()


def with_unit(rows: pd.DataFrame) -> pd.DataFrame:
    """Return each trial with the unit that is drawn: its common point, or itself.

    A point is common if every method of the cell has a trial there.

    Returns:
        Columns `METHOD`, trial, unit, and `common`: whether the unit is such a point.
    """
    trials = rows[[*METHOD, "trial", *OPTIONS]].drop_duplicates([*METHOD, "trial"])
    points = trials[OPTIONS].astype(str).agg(" ".join, axis=1)
    trials = trials.assign(point=points)
    method_count = trials.groupby([*CELL, "point"])["method"].transform("nunique")
    is_common = method_count == trials.groupby(CELL)["method"].transform("nunique")
    alone = trials["method"] + " " + trials["trial"] + " " + trials["k"].astype(str)
    return trials.assign(unit=trials["point"].where(is_common, alone), common=is_common)


def draw_trials(trials: pd.DataFrame, rng: np.random.Generator) -> pd.DataFrame:
    """Draw units with replacement, and return the trials that were drawn at all.

    Args:
        trials: Of :func:`with_unit`.
    """
    drawn = []
    common = trials[trials["common"]]
    for _, rows in common.groupby(BACKBONE, sort=False):
        drawn.append(rows[rows["unit"].isin(draw_units(rows["unit"], rng))])
    for _, rows in trials[~trials["common"]].groupby(METHOD, sort=False):
        drawn.append(rows[rows["unit"].isin(draw_units(rows["unit"], rng))])
    return pd.concat(drawn)[[*METHOD, "trial"]]


def draw_units(units: pd.Series, rng: np.random.Generator) -> np.ndarray:
    """Draw as many units as there are, with replacement."""
    distinct = units.unique()
    return rng.choice(distinct, len(distinct))


# Two experiments that have cells in common.

AGREE_SCORES = [*ENDPOINTS, "measured", "detection_auc_all"]
AGREE_COLUMNS = ["score", "method", "effect", "low", "high", "outcome", "up", "cells"]


def print_agreement(arguments: argparse.Namespace) -> None:
    """Print the effects that two experiments have of the same cells.

    It is behind "The cells that `fair` has too" of docs/results/rivals.

    First, of each cell, method and score that both have: the effect at the same R^2 and
    the baseline's score there, by either. They differ in the draw of trials and in its
    number, which no interval covers. Then, of each method of the second experiment, the
    mean effect: with the trials that it has; if the baseline, alone, is given those
    that it has in the first as well, which favours it; if all are given theirs. All of
    these are read with the seed of the tuning, since a few vertices have no fresh
    seeds. Trials of one name must be the same SAE in both experiments, as those of
    `fair` and `rivals` are.
    """
    first, second = (read_experiment(folder) for folder in arguments.results)
    by_experiment = [
        effects_by_cell(experiment).add_suffix(f" in {folder.name}")
        for experiment, folder in zip((first, second), arguments.results, strict=True)
    ]
    side_by_side = pd.concat(by_experiment, axis=1, join="inner")
    print(side_by_side.round(3).reset_index().to_string(index=False))

    shared = first.tuning.merge(second.tuning[CELL].drop_duplicates())
    baselines = [
        method for method, against in second.names.tuned.items() if against is None
    ]
    shared_of_baselines = shared[shared["method"].isin(baselines)]
    lent_trials = {
        "as drawn": [],
        "the baseline with its trials of both": [shared_of_baselines],
        "all with their trials of both": [shared],
    }
    for title, tables in lent_trials.items():
        trials = pd.concat([second.tuning, *tables])
        trials = trials.drop_duplicates([*TRIAL, "split"])
        print(f"\n{title}:\n{means_as_text(trials, second)}")


def effects_by_cell(experiment: Experiment) -> pd.DataFrame:
    """Return effect and baseline by score, cell and method."""
    effects = experiment.effects()
    effects = effects[effects["score"].isin(AGREE_SCORES)]
    by_cell = effects.groupby(["score", *CELL, "method"])
    return by_cell[["effect", "level"]].mean()


def means_as_text(trials: pd.DataFrame, experiment: Experiment) -> str:
    """Return the means over blocks of some trials as a table of text."""
    names = experiment.names
    rule = names.fronts.model_copy(update={"widths": names.fronts.widths[:1]})
    method_readings = readings.read(trials, names.tuned, rule)
    means = outcomes.means(method_readings, names.families, names.intervals)
    means = means[means["score"].isin(AGREE_SCORES)]
    means = means.sort_values(["score", "effect"], ascending=False)
    return means[AGREE_COLUMNS].round(3).to_string(index=False, na_rep="")


# Thresholds and the budget.


def print_thresholds(arguments: argparse.Namespace) -> None:
    """Print what fixing thresholds on held-out images changes.

    It is behind "Thresholds and the budget" of docs/protocol.md. Needed is a bank that
    was trained, such as
    results/rivals/saes/emoji_vendors_split1/efficientnet_lite0/k32/bank.json.

    A row for each method with thresholds: of its SAEs the mean L0 and R^2 on validation
    images, first with the thresholds that training fixed (k latents on training
    images), then with those that the bank has (k on validation). `--tiny` trains such a
    bank on generated embeddings first.
    """
    if arguments.tiny:
        with tempfile.TemporaryDirectory() as scratch:
            folder = Path(scratch)
            bank_file = train_tiny_bank(folder)
            table = read_thresholds(bank_file, folder / "store")
    elif arguments.bank:
        bank = files.read_json(arguments.bank, "bank")
        activations = Path(paths.ACTIVATIONS.format(**bank))
        table = read_thresholds(arguments.bank, activations)
    else:
        sys.exit("error: a bank is needed, or --tiny")
    print(table.groupby("method").mean().round(4).to_string())


def train_tiny_bank(folder: Path) -> Path:
    """Train a bank with thresholds in a folder, on generated embeddings in its `store`.

    Returns:
        The file of the bank.
    """
    from _cell import RECIPE, bank_plan, run_measured, write_command

    recipe = {**RECIPE, "m": 64, "auxk_k": 32, "batch_size": 64}
    plan = bank_plan(4, recipe, {"topk": None})
    plan["methods"]["batch_topk"] = {
        **plan["methods"]["topk"],
        "objective": "batch_topk",
        "against": "topk",
    }
    embeddings = folder / "store"
    bank_file = folder / "bank.json"
    run_measured(write_command([600, 120, 16, 64, 4], embeddings))
    command = [sys.executable, "-m", "sae", "train"]
    command += ["--activations", str(embeddings)]
    command += ["--store", str(folder / "saes")]
    command += ["--bank", str(bank_file)]
    command += ["--scores", str(folder / "scores")]
    command += ["--settings", json.dumps(plan)]
    run_measured(command)
    return bank_file


def read_thresholds(bank_file: Path, activations: Path) -> pd.DataFrame:
    """Score the SAEs of a bank that have thresholds, as trained and as they are.

    Args:
        bank_file: The bank.
        activations: The store of embeddings that it was trained on.

    Returns:
        A row for each SAE: method, "L0 as trained", "R2 as trained", L0, R2.
    """
    from sae.bank.read import read as read_bank
    from sae.data import store
    from sae.models import inputs, saefile

    bank = read_bank(bank_file)
    held_out = np.asarray(store.read(activations / "val").embeddings)
    sae_store = bank_file.parent / bank.store
    rows = []
    for entry in bank.saes:
        if not entry.ok:
            continue
        coder = bank.open(entry)
        made_by = files.read_json(sae_store / entry.key / "result.json")["made_by"]
        if "thresholds" not in made_by:
            continue
        x = inputs.open_inputs(held_out, coder.input_norm, coder.input_scale, "cpu")[:]
        key_as_trained = made_by["thresholds"]["of"]
        as_trained = saefile.load(sae_store / key_as_trained / "sae.safetensors")
        rows.append((entry.method, *l0_and_r2(as_trained, x), *l0_and_r2(coder, x)))
    columns = ["method", "L0 as trained", "R2 as trained", "L0", "R2"]
    return pd.DataFrame(rows, columns=columns)


def l0_and_r2(coder: Any, x: Any) -> tuple[float, float]:
    """Return the mean L0 of a coder, and its R^2.

    Args:
        coder: A `sae.models.coder.Coder`.
        x: (images, d) prepared inputs, a tensor.
    """
    codes = coder.encode(x)
    residual = (x - coder.reconstruct(x, codes)).square().sum()
    variance = (x - x.mean(dim=0)).square().sum()
    return len(codes.values) / len(x), 1 - (residual / variance).item()


if __name__ == "__main__":
    run_script(__doc__, add_commands)

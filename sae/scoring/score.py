"""Score a bank: every SAE on val and test, from one encoding a split, and its curves on test."""

import logging
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from sae.bank import read as bankfile
from sae.core import files
from sae.data import store
from sae.data.splits import SPLITS
from sae.models import codes as coding
from sae.scoring.metrics import monosemanticity, purity, reconstruction, robustness

log = logging.getLogger(__name__)
progress = logging.getLogger("sae.progress")


def score_bank(bank_file, activations_dir, out, curves_out, *, device):
    """Write two parquet files.

    `out`: one row per SAE of the bank and split (val, test), metrics NaN where diverged. `curves_out`: one row per SAE
    and point of its curves on test: `curve` ('robustness': NMSE `y` at inference-time k `x`; 'rank_profile': mean
    activation `y` at rank `x`).
    """
    bank = files.read_json(bank_file, "bank")
    splits = {split: store.read(Path(activations_dir) / split) for split in SPLITS}
    curves = []
    rows = score_bank_splits(bank_file, bank, splits, device, curves)
    cell = f"{bank['dataset']} / {bank['backbone']} / k{bank['k']}"
    progress.info("%s: scored %d SAEs on val and test", cell, len(bank["saes"]))
    with files.atomic_file(out) as temporary:
        pd.DataFrame(rows).to_parquet(temporary, index=False)
    with files.atomic_file(curves_out) as temporary:
        pd.concat(curves, ignore_index=True).to_parquet(temporary, index=False)


def score_bank_splits(bank_file, bank, splits, device, curves=None):
    """One row, a dict, per SAE of a bank and split (val, test).

    Args:
        bank_file, bank: bank.json and its content.
        splits: {split: `sae.data.store.Activations`}.
        curves: a list that takes the curves of each SAE on test, if given.
    """
    floors = {split: monosemanticity.floor(splits[split].embeddings) for split in ("val", "test")}
    prepared, rows = {}, []
    for entry in bank["saes"]:
        key = key_of(bank, entry)
        if entry["status"] != "ok":
            rows += [
                key | {"split": split, "status": entry["status"], "m": entry["settings"]["m"]}
                for split in ("val", "test")
            ]
            continue
        sae = bankfile.open_sae(bank_file, bank, entry)
        sae.to(device)
        if not prepared:  # The same norm and scale for the whole bank.
            prepared = {split: sae.open_inputs(data.embeddings) for split, data in splits.items()}
        counts = coding.firing_counts(sae, prepared["train"])
        for split in ("val", "test"):
            scores = score_split(sae, prepared[split], splits[split], float(floors[split]))
            rows.append(key | {"split": split, "status": "ok"} | scores | {"dead_train": int((counts == 0).sum())})
        if curves is not None:
            curves.append(_curves(sae, prepared["test"]).assign(**key, split="test"))
        log.info("%s: r2 %.4f, MS (alive) %.4f on test", entry["path"], scores["r2"], scores["ms_mean_alive"])
    return rows


def key_of(bank, entry):
    """The key columns of one SAE of a bank, without the split."""
    key = {name: bank[name] for name in ("dataset", "backbone", "k")}
    return key | {name: entry[name] for name in ("regularizer", "lambda", "mask", "seed")}


def _curves(sae, x):
    ks = robustness.k_grid(sae.k, len(sae.W_dec))
    ranks = robustness.ranks(sae.k, len(sae.W_dec))
    profile = robustness.rank_profile(sae, x)[ranks - 1]
    by_k = pd.DataFrame({"curve": "robustness", "x": ks, "y": robustness.nmse_by_k(sae, x, ks)})
    return pd.concat([by_k, pd.DataFrame({"curve": "rank_profile", "x": ranks, "y": profile})])


@torch.no_grad()
def score_split(sae, x, data, ms_floor):
    """Every score of one SAE on one split, by its column name in `metrics.parquet`.

    Args:
        x: (N, d) prepared inputs.
        data: the split (`sae.data.store.Activations`); its stored embeddings are the similarity encoder of MS.
        ms_floor: mean pairwise cosine of the split.
    """
    codes = coding.encode(sae, x)
    fit = reconstruction.score(sae, x, codes)
    counts = codes.firing_counts()
    scaled = monosemanticity.scale_activations(codes)
    ms = monosemanticity.scores(scaled, data.embeddings)
    scores = {
        "r2": fit.r2,
        "r2_dim_mean": fit.r2_dim_mean,
        "nmse": fit.nmse,
        "l0": fit.l0,
        "constant_dims": fit.constant_dims,
        "dead": int((counts == 0).sum()),
        "fires_1": int((counts == 1).sum()),
        "fires_below_10": int((counts < 10).sum()),
        "alive": int((counts >= 2).sum()),
        "n_active_median": float(np.median(counts)),
        "m": codes.m,
        "n_images": len(x),
        "n_k_over_m": len(x) * sae.k / codes.m,
        "ms_floor": ms_floor,
    }
    scores |= _named(monosemanticity.summary(ms), "")
    if data.grouped:
        across = monosemanticity.scores(scaled, data.embeddings, data.index["group"])
        scores |= _named(monosemanticity.summary(across), "_across_groups")
    for suffix, column in (("", "label"), ("_coarse", "label_coarse")):
        if not data.index[column].isna().any():
            pure = purity.score(codes, data.index[column].to_numpy(dtype=np.int64))
            scores |= {f"purity_{name}{suffix}": value for name, value in asdict(pure).items()}
    return scores


def _named(summary, suffix):
    return {
        f"ms_mean{suffix}": summary.mean,
        f"ms_median{suffix}": summary.median,
        f"ms_mean_alive{suffix}": summary.mean_alive,
        f"ms_median_alive{suffix}": summary.median_alive,
    }

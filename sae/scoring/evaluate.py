"""Evaluate a bank in depth: its chosen SAEs and their mask ablation, with what is too dear to compute for every lambda.

Probes under truncation, MS by other backbones' embeddings, one row per latent; and the usual scores of the ablation.
"""

import logging
from pathlib import Path

import numpy as np
import pandas as pd

from sae.bank import read as bankfile
from sae.core import files
from sae.core.errors import UserError
from sae.data import store
from sae.data.splits import SPLITS
from sae.models import codes as coding
from sae.scoring.metrics import monosemanticity, probe, purity
from sae.scoring.score import key_of, score_bank_splits
from sae.scoring.selection import chosen_entries

progress = logging.getLogger("sae.progress")


def evaluate_bank(bank_file, ablation_file, scores_file, activations_dir, judges, settings, out, *, device):
    """Write four parquet files into the folder `out`.

    `extras`: a row per chosen SAE, on test: `probe_auc`, `probe_auc_above_1` (over K-1), `probe_top1` and `probe_C` (at
    K), `probe_edges` (probes whose C is at the grid's edge), `probe_unconverged`, `ms_mean_alive_by_{backbone}`,
    `ms_mean_alive_independent` (the mean of those). `ablation`: the rows of `sae.scoring.score` for the ablation's SAEs.
    `probe`: the curve of top-1 against k'. `latents`: a row per latent of each chosen SAE, on test: `latent`, `ms`,
    `ms_by_{backbone}`, `n_active`, `purity`, `top_class`.

    Args:
        bank_file, ablation_file, scores_file: bank.json, bank_all.json, and the scores of the first.
        activations_dir: folder of the splits of this (dataset, backbone).
        judges: {backbone: folder of the splits} of the experiment's other backbones.
        settings: {largest: K, the experiment's smallest k; probe: {C: [...], max_iter, max_train: training images}}.
    """
    bank = files.read_json(bank_file, "bank")
    splits = {split: store.read(Path(activations_dir) / split) for split in SPLITS}
    probed = splits | {"train": splits["train"].sample(settings["probe"]["max_train"])}
    by_others = {name: _similarity(folder, splits["test"]) for name, folder in judges.items()}
    extras, curves, latents, x = [], [], [], None
    for entry in chosen_entries(bank, files.read_parquet(scores_file)):
        sae = bankfile.open_sae(bank_file, bank, entry).to(device)
        x = x or {split: sae.open_inputs(data.embeddings) for split, data in probed.items()}
        codes = {split: coding.encode(sae, x[split]) for split in SPLITS}
        key = key_of(bank, entry) | {"split": "test"}
        table, summary = _per_latent(codes["test"], splits["test"], by_others)
        latents.append(table.assign(**key))
        summary |= _probe(codes, probed, settings, curves, key)
        extras.append(key | summary)
    ablation = files.read_json(ablation_file, "bank")
    files_and_rows = {
        "extras": pd.DataFrame(extras),
        "ablation": pd.DataFrame(score_bank_splits(ablation_file, ablation, splits, device)),
        "probe": pd.concat(curves, ignore_index=True) if curves else pd.DataFrame(),
        "latents": pd.concat(latents, ignore_index=True),
    }
    for name, table in files_and_rows.items():
        with files.atomic_file(Path(out) / f"{name}.parquet") as temporary:
            table.to_parquet(temporary, index=False)
    cell = f"{bank['dataset']} / {bank['backbone']} / k{bank['k']}"
    progress.info("%s: evaluated %d chosen SAEs, %d ablated", cell, len(extras), len(ablation["saes"]))


def probe_embeddings(activations_dir, settings, out):
    """The probes' reference, the same on the embeddings themselves: writes JSON to `out`.

    Keys: dataset, backbone, top1. `top1` is null for a dataset without labels. Settings: {probe: as above}.
    """
    splits = {split: store.read(Path(activations_dir) / split) for split in SPLITS}
    splits["train"] = splits["train"].sample(settings["probe"]["max_train"])
    y = _labels(splits)
    found = None
    if y is not None:
        x = {split: np.array(data.embeddings, dtype=probe.precision(y["train"])) for split, data in splits.items()}
        scale = np.sqrt((x["train"] ** 2).mean())
        for features in x.values():
            features /= scale
        found = probe.fit(x, y, **_grid(settings)).top1
    provenance = splits["train"].manifest
    cell = {"dataset": provenance["dataset"]["name"], "backbone": provenance["backbone"]["name"]}
    files.write_json(out, cell | {"top1": found})


def _similarity(folder, test):
    """The test embeddings of another backbone; they must be of the same images, row for row."""
    other = store.read(Path(folder) / "test")
    if not other.index["image_id"].equals(test.index["image_id"]):
        raise UserError(f"{folder}/test holds other images than the split it is to judge; delete it and run again")
    return other.embeddings


def _per_latent(codes, test, by_others):
    scaled = monosemanticity.scale_activations(codes)
    table = pd.DataFrame({"latent": np.arange(codes.m), "ms": monosemanticity.scores(scaled, test.embeddings)})
    summary = {}
    for name, embeddings in by_others.items():
        ms = monosemanticity.scores(scaled, embeddings)
        table[f"ms_by_{name}"] = ms
        summary[f"ms_mean_alive_by_{name}"] = monosemanticity.summary(ms).mean_alive
    if by_others:
        summary["ms_mean_alive_independent"] = float(np.mean(list(summary.values())))
    table["n_active"] = codes.firing_counts()
    table["purity"], table["top_class"] = np.nan, None
    if not test.index["label"].isna().any():
        labels = test.index["label"].to_numpy(dtype=np.int64)
        table["purity"], _, dominant = purity.per_latent(codes.matrix(), labels)
        names = dict(zip(labels, test.index["label_name"], strict=True))
        table["top_class"] = [names[c] if n else None for c, n in zip(dominant, table["n_active"], strict=True)]
    return table, summary


def _probe(codes, splits, settings, curves, key):
    y = _labels(splits)
    if y is None:
        return {}
    found = probe.by_budget(codes, y, settings["largest"], **_grid(settings))
    budgets, top1 = [b for b, _ in found], [p.top1 for _, p in found]
    curves.append(pd.DataFrame({"curve": "probe", "x": budgets, "y": top1}).assign(**key))
    auc, auc_above_1 = probe.auc(budgets, top1)
    last = found[-1][1]
    return {
        "probe_auc": auc,
        "probe_auc_above_1": auc_above_1,
        "probe_top1": last.top1,
        "probe_C": last.C,
        "probe_edges": sum(p.at_edge for _, p in found),
        "probe_unconverged": sum(not p.converged for _, p in found),
    }


def _labels(splits):
    if any(data.index["label"].isna().any() for data in splits.values()):
        return None
    return {split: data.index["label"].to_numpy(dtype=np.int64) for split, data in splits.items()}


def _grid(settings):
    return {"grid": sorted(settings["probe"]["C"]), "max_iter": settings["probe"]["max_iter"]}

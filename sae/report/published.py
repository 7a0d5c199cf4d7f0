"""The paper's four tables as tidy numbers under this project's names (arXiv:2606.27321)."""

from pathlib import Path

import pandas as pd

FILES = {
    1: "table1_reconstruction_monosemanticity.csv",
    2: "table2_class_purity.csv",
    3: "table3_truncated_probe.csv",
    4: "table4_mask_ablation_dead.csv",
}
KEY = ["encoder", "data", "k", "regularizer", "mask"]
_METHODS = {"Baseline": "none", "Reg1": "off_support_l1", "Reg2": "l1_l2_ratio"}
_SUFFIXES = {"base": "none", "reg1": "off_support_l1", "reg2": "l1_l2_ratio"}
_METRICS = {"bin": "purity_binary", "wtd": "purity_weighted", "auc": "probe_auc", "top1_k32": "probe_top1"}


def read(folder):
    """All published numbers: one row per (encoder, data, k, regularizer, mask), a column per metric, else NaN.

    Args:
        folder: of the four CSV files.
    """
    one, two, three, four = (pd.read_csv(Path(folder) / name) for name in FILES.values())
    one = one.rename(columns={"R2": "r2", "MS_mean": "ms_mean", "MS_median": "ms_median"})
    one = one.assign(regularizer=one["method"].map(_METHODS), mask="batch_active").drop(columns="method")
    long = []
    for table in (two, three):  # On ImageNet alone.
        for column in table.columns.drop(["encoder", "k"]):
            metric, suffix = column.rsplit("_", 1)
            part = table[["encoder", "k"]].assign(data="ImageNet", mask="batch_active")
            long.append(part.assign(regularizer=_SUFFIXES[suffix], metric=_METRICS[metric], value=table[column]))
    # The masked half of Table 4 repeats Table 1.
    for column, data in (("imagenet_nomask", "ImageNet"), ("openimages_nomask", "OpenImages")):
        part = four[["encoder", "k"]].assign(data=data, mask="all", regularizer=four["method"].map(_METHODS))
        long.append(part.assign(metric="dead", value=four[column]))
    wide = pd.concat(long).pivot(index=KEY, columns="metric", values="value").reset_index()
    both = one.merge(wide, on=KEY, how="outer", suffixes=("", "_ablation"))
    both["dead"] = both["dead"].fillna(both.pop("dead_ablation"))
    return both


def effect(tables, regularizer, metric, other="none", mask="batch_active"):
    """A difference between two methods as text: its mean, and in how many cells it is above and below 0.

    Args:
        tables: what :func:`read` returned.
        regularizer, mask: the first method; `other` with mask 'batch_active' is subtracted.
    """
    if metric not in tables:
        return "-"
    cell = ["encoder", "data", "k"]
    first = tables[(tables["regularizer"] == regularizer) & (tables["mask"] == mask)].set_index(cell)[metric]
    second = tables[(tables["regularizer"] == other) & (tables["mask"] == "batch_active")].set_index(cell)[metric]
    d = (first - second).dropna().round(6)
    if d.empty:
        return "-"
    return f"{signed(d.mean())} (up {int((d > 0).sum())}, down {int((d < 0).sum())} of {len(d)})"


def signed(value):
    """A difference for print."""
    return f"{value:+.1f}" if abs(value) >= 10 else f"{value:+.3f}"

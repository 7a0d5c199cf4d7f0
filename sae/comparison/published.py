"""The paper's four tables (arXiv:2606.27321), tidy and under this project's ids.

Beside them stand the functions that write scores and differences for print.
"""

from collections.abc import Callable
from math import isnan, nan
from pathlib import Path

import pandas as pd

FILES = {
    1: "table1_reconstruction_monosemanticity.csv",
    2: "table2_class_purity.csv",
    3: "table3_truncated_probe.csv",
    4: "table4_mask_ablation_dead.csv",
}
KEY = ["encoder", "data", "k", "method"]
# The paper's methods; the last two without the batch-active mask.
BASELINE = "topk"
REG1 = "reg1"
REG2 = "reg2"
REG1_ALL = "reg1_all"
REG2_ALL = "reg2_all"

# What the files call them: {name in the files: id or column}.
_ENCODERS = {"CLIP": "clip_vit_l14", "SigLIP": "siglip2_so400m", "ViT": "vit_l16"}
_DATA = {"ImageNet": "imagenet", "OpenImages": "openimages"}
_METHODS = {"Baseline": BASELINE, "Reg1": REG1, "Reg2": REG2}
_METHOD_SUFFIXES = {"base": BASELINE, "reg1": REG1, "reg2": REG2}
_UNMASKED_DATA = {"imagenet_nomask": "ImageNet", "openimages_nomask": "OpenImages"}
_UNMASKED_METHODS = {"Reg1": REG1_ALL, "Reg2": REG2_ALL}
_METRICS = {
    "bin": "purity_binary",
    "wtd": "purity_weighted",
    "auc": "probe_auc",
    "top1_k32": "probe_top1",
}


def read(folder: Path) -> pd.DataFrame:
    """Read all published numbers.

    Args:
        folder: Of the four CSV files.

    Returns:
        A row for each (encoder, data, k, method), a column for each metric, NaN where
        the paper reports none. Backbones, datasets and methods are this project's ids.
        `reg1_all` and `reg2_all` have the number of dead latents alone.
    """
    table1, table2, table3, table4 = (
        pd.read_csv(folder / name) for name in FILES.values()
    )
    columns = {"R2": "r2", "MS_mean": "ms_mean", "MS_median": "ms_median"}
    table1 = table1.rename(columns=columns)
    table1 = table1.assign(method=table1["method"].map(_METHODS))

    # The masked half of Table 4 repeats Table 1.
    unmasked = table4.melt(["encoder", "k", "method"], list(_UNMASKED_DATA), "data")
    unmasked = unmasked.assign(
        metric="dead",
        method=unmasked["method"].map(_UNMASKED_METHODS),
        data=unmasked["data"].map(_UNMASKED_DATA),
    )
    long = pd.concat([_purity_and_probes(table2, table3), unmasked])
    wide = long.pivot(index=KEY, columns="metric", values="value").reset_index()
    numbers = table1.merge(wide, on=KEY, how="outer", suffixes=("", "_unmasked"))
    # Table 1 has the dead latents of methods with the mask, Table 4 of those without.
    unmasked_dead = numbers.pop("dead_unmasked")
    numbers["dead"] = numbers["dead"].fillna(unmasked_dead)
    return numbers.assign(
        encoder=numbers["encoder"].map(_ENCODERS), data=numbers["data"].map(_DATA)
    )


def _purity_and_probes(table2: pd.DataFrame, table3: pd.DataFrame) -> pd.DataFrame:
    """Return Tables 2 and 3, a row for each number: `KEY`, metric and value."""
    # They are about ImageNet alone. Their columns are called METRIC_METHOD.
    long = pd.concat([table.melt(["encoder", "k"]) for table in (table2, table3)])
    long = long.assign(data="ImageNet")
    parts = long.pop("variable").str.rsplit("_", n=1, expand=True)
    return long.assign(
        metric=parts[0].map(_METRICS), method=parts[1].map(_METHOD_SUFFIXES)
    )


def effect(
    tables: pd.DataFrame, method: str, metric: str, against: str | None = BASELINE
) -> str:
    """Return what the paper reports of a metric of one method minus that of another.

    Args:
        tables: What :func:`read` returned.
        method: The first method.
        metric: A column of the tables.
        against: The method whose numbers are subtracted.

    Returns:
        The mean difference, and in how many cells it is above and below 0, such as
        "+0.043 (up 18, down 0 of 18)"; "-" where the paper does not report both.
    """
    if metric not in tables:
        return "-"
    by_cell = tables.set_index(["encoder", "data", "k"])
    of_method = by_cell.loc[by_cell["method"] == method, metric]
    of_against = by_cell.loc[by_cell["method"] == against, metric]
    differences = (of_method - of_against).dropna().round(6)
    if differences.empty:
        return "-"
    up = int((differences > 0).sum())
    down = int((differences < 0).sum())
    return f"{signed(differences.mean())} (up {up}, down {down} of {len(differences)})"


def signed(value: float) -> str:
    """Write a difference, with its sign; 0 has none."""
    text = f"{value:+.1f}" if abs(value) >= 10 else f"{value:+.3f}"
    return text[1:] if text[1:] == "0.000" else text


def plain(value: float) -> str:
    """Write a score, "-" where there is none."""
    return "-" if isnan(value) else f"{value:.3f}"


def interval(
    value: float,
    low: float = nan,
    high: float = nan,
    write: Callable[[float], str] = signed,
) -> str:
    """Write a difference and its interval, such as "+0.031 [+0.020, +0.042]".

    Args:
        value: The difference; where it is NaN, "-" is written.
        low: The lower end; where it is NaN, the interval is left out.
        high: The upper end.
        write: What writes a number.
    """
    if isnan(value):
        return "-"
    if isnan(low):
        return write(value)
    return f"{write(value)} [{write(low)}, {write(high)}]"

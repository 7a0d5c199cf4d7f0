"""The paper's four tables as tidy numbers under this project's ids (arXiv:2606.27321)."""

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
BASELINE, REG1, REG2, REG1_ALL, REG2_ALL = (
    "topk",
    "reg1",
    "reg2",
    "reg1_all",
    "reg2_all",
)
_ENCODERS = {"CLIP": "clip_vit_l14", "SigLIP": "siglip2_so400m", "ViT": "vit_l16"}
_DATA = {"ImageNet": "imagenet", "OpenImages": "openimages"}
_METHODS = {"Baseline": BASELINE, "Reg1": REG1, "Reg2": REG2}
_SUFFIXES = {"base": BASELINE, "reg1": REG1, "reg2": REG2}
_NOMASK = {"imagenet_nomask": "ImageNet", "openimages_nomask": "OpenImages"}
_UNMASKED = {"Reg1": REG1_ALL, "Reg2": REG2_ALL}
_METRICS = {
    "bin": "purity_binary",
    "wtd": "purity_weighted",
    "auc": "probe_auc",
    "top1_k32": "probe_top1",
}


def read(folder: Path) -> pd.DataFrame:
    """All published numbers: one row per (encoder, data, k, method), a column per metric, else NaN.

    Args:
        folder: of the four CSV files.

    Returns:
        Backbones, datasets and methods are our ids; `reg1_all` and `reg2_all` have the number of dead latents alone.
    """
    one, two, three, four = (pd.read_csv(folder / name) for name in FILES.values())
    one = one.rename(
        columns={"R2": "r2", "MS_mean": "ms_mean", "MS_median": "ms_median"}
    )
    one = one.assign(method=one["method"].map(_METHODS))
    of_imagenet = pd.concat(
        [table.melt(["encoder", "k"]) for table in (two, three)]
    ).assign(data="ImageNet")
    parts = of_imagenet.pop("variable").str.rsplit("_", n=1, expand=True)
    of_imagenet = of_imagenet.assign(
        metric=parts[0].map(_METRICS), method=parts[1].map(_SUFFIXES)
    )
    # The masked half of Table 4 repeats Table 1.
    dead = four.melt(["encoder", "k", "method"], list(_NOMASK), "data").assign(
        metric="dead"
    )
    dead = dead.assign(
        method=dead["method"].map(_UNMASKED), data=dead["data"].map(_NOMASK)
    )
    wide = (
        pd.concat([of_imagenet, dead])
        .pivot(index=KEY, columns="metric", values="value")
        .reset_index()
    )
    both = one.merge(wide, on=KEY, how="outer", suffixes=("", "_unmasked"))
    both["dead"] = both["dead"].fillna(both.pop("dead_unmasked"))
    return both.assign(
        encoder=both["encoder"].map(_ENCODERS), data=both["data"].map(_DATA)
    )


def effect(
    tables: pd.DataFrame, method: str, metric: str, other: str | None = BASELINE
) -> str:
    """A metric of `method` minus that of `other` as text: its mean, and in how many cells it is above and below 0.

    Args:
        tables: what :func:`read` returned.

    Returns:
        '-' where the paper does not report both.
    """
    if metric not in tables:
        return "-"
    cells = tables.set_index(["encoder", "data", "k"])
    first, second = (
        cells.loc[cells["method"] == name, metric] for name in (method, other)
    )
    d = (first - second).dropna().round(6)
    if d.empty:
        return "-"
    return f"{signed(d.mean())} (up {int((d > 0).sum())}, down {int((d < 0).sum())} of {len(d)})"


def signed(value: float) -> str:
    """A difference for print."""
    return f"{value:+.1f}" if abs(value) >= 10 else f"{value:+.3f}"


def plain(value: float) -> str:
    """Return a score for print, `-` where there is none."""
    return "-" if isnan(value) else f"{value:.3f}"


def interval(
    value: float,
    low: float = nan,
    high: float = nan,
    write: Callable[[float], str] = signed,
) -> str:
    """A difference for print, `-` where there is none; and in brackets its interval, where that is known."""
    return (
        "-"
        if isnan(value)
        else write(value) + ("" if isnan(low) else f" [{write(low)}, {write(high)}]")
    )

"""Choose lambda on the validation split: the largest whose R^2 is at least the baseline's (arXiv:2606.27321)."""

import pandas as pd

CELL = ["dataset", "backbone", "k"]


def select(metrics):
    """Add `selected` and `selection` to the tidy metrics, per cell, regularizer and seed.

    `selection` is 'chosen'; 'edge' when the choice is the largest lambda of the grid, so that a larger one might have
    done too; 'fallback' on all rows of a regularizer of which no lambda is acceptable (the tables then use the
    baseline's numbers); 'not_selected' otherwise. An R^2 equal to the baseline's is acceptable; a diverged SAE is not.

    Args:
        metrics: rows of val and test with columns dataset, backbone, k, regularizer, lambda, mask, seed, split, r2,
            status.

    Returns:
        A copy; the rows of one SAE agree on both splits. Baselines and rows of the mask ablation are selected.
    """
    out = metrics.copy()
    out["selected"] = False
    out["selection"] = "not_selected"
    given = (out["regularizer"] == "none") | (out["mask"] == "all")
    out.loc[given, ["selected", "selection"]] = [True, "chosen"]
    val = out[(out["split"] == "val") & ~given]
    baseline = out[(out["split"] == "val") & (out["regularizer"] == "none")].set_index([*CELL, "seed"])["r2"]
    for cell, rows in val.groupby([*CELL, "regularizer", "seed"]):
        bar = baseline.loc[(*cell[:3], cell[4])]
        acceptable = rows[(rows["status"] == "ok") & (rows["r2"] >= bar)]
        here = ~given & pd.Series(True, out.index)
        for column, value in zip([*CELL, "regularizer", "seed"], cell, strict=True):
            here &= out[column] == value
        if acceptable.empty:
            out.loc[here, "selection"] = "fallback"
            continue
        lam = acceptable["lambda"].max()
        verdict = "edge" if lam == rows["lambda"].max() else "chosen"
        out.loc[here & (out["lambda"] == lam), ["selected", "selection"]] = [True, verdict]
    return out


def chosen(metrics, split):
    """One row per cell, regularizer and seed, of one split: the selected SAE, or on fallback the baseline's numbers.

    The mask ablation's rows are left out. Column `fallback` marks rows that carry the baseline's numbers.
    """
    rows = metrics[(metrics["split"] == split) & (metrics["mask"] == "batch_active")]
    picked = rows[rows["selected"]].assign(fallback=False)
    lost = rows[rows["selection"] == "fallback"].drop_duplicates([*CELL, "regularizer", "seed"])
    baseline = rows[rows["regularizer"] == "none"].drop(columns="regularizer")
    borrowed = lost[[*CELL, "seed", "regularizer"]].merge(baseline, on=[*CELL, "seed"])
    borrowed = borrowed.assign(fallback=True, selected=False, selection="fallback")
    return pd.concat([picked, borrowed[picked.columns]], ignore_index=True) if len(borrowed) else picked


def chosen_entries(bank, scores):
    """The entries of a bank (bank.json) that validation chose, baselines among them, given the bank's scores."""
    rows = select(scores)
    rows = rows[rows["selected"]]
    selected = set(zip(rows["regularizer"], rows["lambda"], rows["seed"], strict=True))
    return [entry for entry in bank["saes"] if (entry["regularizer"], entry["lambda"], entry["seed"]) in selected]


def of_chosen(picked, points):
    """The curves of chosen SAEs: rows of `points` (curves.parquet) under the method they stand for.

    Args:
        picked: what :func:`chosen` returned. On fallback the baseline's curve stands for the method, as its numbers do.

    Returns:
        Columns dataset, backbone, k, regularizer, lambda, mask, seed, curve, x, y.
    """
    sae = [*CELL, "lambda", "mask", "seed"]
    picked = picked.assign(source=picked["regularizer"].where(~picked["fallback"], "none"))
    points = points[[*sae, "regularizer", "curve", "x", "y"]].rename(columns={"regularizer": "source"})
    both = picked[[*sae, "regularizer", "source"]].merge(points, on=[*sae, "source"])
    return both[[*CELL, "regularizer", "lambda", "mask", "seed", "curve", "x", "y"]]

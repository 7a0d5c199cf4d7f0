"""Metrics of methods that are compared, of which each value is put in by hand."""

import itertools

import pandas as pd

MADE_BY = {
    "experiment": "e",
    "methods": {},
    "versions": {},
    "recipe": {},
    "protocols": {},
    "metrics": {},
}


def compared_rows(columns_of_method, datasets=("d",)):
    """Return metrics of SAEs that are equal but for some columns.

    Args:
        columns_of_method: {method: {column: its value, or one for each of the backbones
            a, b and c}}.
        datasets: Of which each has all of these SAEs.
    """
    rows = []
    for dataset, (number, backbone), method, split in itertools.product(
        datasets, enumerate("abc"), columns_of_method, ("val", "test")
    ):
        row = {
            "dataset": dataset,
            "backbone": backbone,
            "k": 4,
            "method": method,
            "trial": "default",
            "seed": 0,
            "split": split,
            "protocol": "paper",
            "mask": None,
            "status": "ok",
            "selected": True,
            "selection": "chosen",
            "lambda": None,
            "r2": 0.8,
            "l0": 4,
            "dead_train": 0,
            "m": 9,
        }
        for column, value in columns_of_method[method].items():
            row[column] = value[number] if isinstance(value, tuple) else value
        rows.append(row)
    return pd.DataFrame(rows)


def choices_of(metrics):
    """Return selection.parquet of `compared_rows`: every SAE is chosen, beside topk."""
    columns = ["dataset", "backbone", "k", "method", "trial", "r2"]
    of_validation = metrics.loc[metrics["split"] == "val", columns]
    return of_validation.assign(
        protocol="tuned", role="chosen", status="chosen", bar=0.8, seeds="0", fresh=True
    )

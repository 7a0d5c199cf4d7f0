"""Why a method is not compared: the sentence names what its trials lack, by cell."""

import pandas as pd
from sae.comparison.fronts import FrontRule, validation_trials

from sae.report import feasibility
from sae.report.names import Names

NAMES = Names.model_validate(
    {
        "methods": {
            "topk": {"label": "Top-k"},
            "reg1": {"label": "Reg. 1", "against": "topk"},
            "reg2": {"label": "Reg. 2", "against": "topk"},
            "untrained": {"control": True},
        }
    }
)


def validation_row(method, trial, *, dataset="birds", dead=0, l0=8.0, status="ok"):
    """Return the validation row of an SAE of 100 latents with k = 8."""
    return {
        "dataset": dataset,
        "backbone": "b",
        "k": 8,
        "method": method,
        "trial": trial,
        "seed": 0,
        "split": "val",
        "status": status,
        "r2": 0.7,
        "l0": l0,
        "m": 100,
        "dead_train": dead,
    }


def sentences_about(rows):
    """Return what is said of the trials of some validation rows."""
    trials = validation_trials(pd.DataFrame(rows), FrontRule())
    return feasibility.explain(trials, NAMES, FrontRule())


def test_each_method_without_a_feasible_trial_says_what_is_the_matter():
    rows = [
        # Dead latents: the best of two trials is named, of the one cell that is lost.
        validation_row("topk", "lr0.1", dead=60),
        validation_row("topk", "lr0.2", dead=31),
        validation_row("topk", "lr0.1", dataset="emoji", dead=10),
        validation_row("topk", "lr0.2", dataset="emoji", dead=90),
        validation_row("reg1", "lr0.1", l0=8.8),
        validation_row("reg2", "lr0.1", status="diverged"),
        validation_row("untrained", "default", dead=99),  # A control is not tuned.
    ]
    assert sentences_about(rows) == [
        "Top-k has no feasible trial in 1 of 2 cells: at most 69% of its latents fire "
        "on training images, and 90% must; fewer latents (m), more steps or more "
        "images help.",
        "Reg. 1 has no feasible trial in 1 of 1 cells: its L0 on validation is 1.10 k "
        "at least, and may be 1.02 k at most.",
        "Reg. 2 has no feasible trial in 1 of 1 cells: all its SAEs diverged there.",
    ]


def test_nothing_is_said_where_every_cell_has_a_feasible_trial():
    rows = [validation_row("topk", "lr0.1"), validation_row("topk", "lr0.2", dead=60)]
    assert sentences_about(rows) == []

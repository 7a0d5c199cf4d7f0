"""Protocol `listed`: further trials beside another protocol's, none of them chosen."""

from bank.common import METHODS, plan, write_activations

from sae.bank.read import read
from sae.bank.train import Place
from sae.core import files
from sae.protocols import _cell

LISTED_TRIALS = {
    "topk": [{"lr": 0.003}, {"lr": 0.01, "auxk_alpha": 0.1}],
    "reg1": [{"lambda": 0.01, "lr": 0.003}],
}


def train_cell(folder, activations, protocols):
    """Train a tiny cell; return its SAEs and the tables selection and validation."""
    place = Place(folder / "store", folder / "bank.json")
    _cell.train(plan(METHODS, protocols=protocols), activations, place, folder)
    selection = files.read_parquet(folder / "selection.parquet")
    validation = files.read_parquet(folder / "validation.parquet")
    return read(place.bank).saes, selection, validation


def test_listed_trials_change_nothing_of_what_protocol_paper_trains_and_chooses(
    tmp_path,
):
    activations = write_activations(tmp_path / "activations")
    saes_alone, selection_alone, validation_alone = train_cell(
        tmp_path / "alone", activations, {"paper": {}}
    )
    saes, selection, validation = train_cell(
        tmp_path / "both",
        activations,
        {"paper": {}, "listed": {"trials": LISTED_TRIALS}},
    )
    assert saes[: len(saes_alone)] == saes_alone
    assert selection.equals(selection_alone)
    assert validation.equals(validation_alone)

    listed_saes = saes[len(saes_alone) :]
    assert [(e.method, e.name, e.protocol, e.chosen) for e in listed_saes] == [
        ("topk", "lr0.003", "listed", False),
        ("topk", "auxk_alpha0.1-lr0.01", "listed", False),
        ("reg1", "lambda0.01-lr0.003", "listed", False),
    ]
    assert len({sae.sha256 for sae in saes}) == len(saes)

"""Protocol `listed`: further trials beside another protocol's, of which nothing is chosen."""

from bank.common import METHODS, plan, write_activations

from sae.bank.read import read
from sae.bank.train import Place
from sae.core import files
from sae.protocols import _cell


def test_listed_trials_train_beside_what_protocol_paper_chooses_and_change_nothing_of_it(
    tmp_path,
):
    def run(name, **protocols):
        place = Place(tmp_path / name / "store", tmp_path / name / "bank.json")
        of, activations = (
            plan(METHODS, protocols={"paper": {}} | protocols),
            write_activations(tmp_path / "activations"),
        )
        _cell.train(of, activations, place, tmp_path / name)
        return read(place.bank).saes, *(
            files.read_parquet(tmp_path / name / f"{t}.parquet") for t in tables
        )

    tables = ("selection", "validation")
    trials = {
        "topk": [{"lr": 0.003}, {"lr": 0.01, "auxk_alpha": 0.1}],
        "reg1": [{"lambda": 0.01, "lr": 0.003}],
    }
    alone, chosen, validation = run("alone")
    both, same, scored = run("both", listed={"trials": trials})
    assert both[: len(alone)] == alone and same.equals(chosen)
    assert [(e.method, e.name, e.protocol, e.judged) for e in both[len(alone) :]] == [
        ("topk", "lr0.003", "listed", False),
        ("topk", "auxk_alpha0.1-lr0.01", "listed", False),
        ("reg1", "lambda0.01-lr0.003", "listed", False),
    ]
    assert len({e.sha256 for e in both}) == len(both)
    assert scored.equals(validation)

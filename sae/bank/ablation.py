"""The mask ablation (arXiv:2606.27321, Table 4): chosen SAEs again, with the penalty on all latents (mask 'all')."""

from pathlib import Path

from sae.bank import train as banks
from sae.core import files
from sae.data import store as activations
from sae.models import inputs
from sae.scoring.selection import chosen_entries
from sae.training.loop import Settings


def ablate_bank(bank_file, scores_file, activations_dir, place, *, device):
    """Train the ablation of a bank.

    Args:
        bank_file, scores_file: the bank, and its scores, of which the validation split chooses lambda. Where no lambda
            was acceptable there is nothing to ablate.
        activations_dir, place: as for `sae.bank.train_bank`.
    """
    bank = files.read_json(bank_file, "bank")
    todo = [
        (entry["regularizer"], Settings(**entry["settings"] | {"mask": "all"}))
        for entry in chosen_entries(bank, files.read_parquet(scores_file))
        if entry["regularizer"] != "none"
    ]
    data = activations.read(Path(activations_dir) / "train")
    x = inputs.open_inputs(data.embeddings, bank["saes"][0]["settings"]["input_norm"], bank["input_scale"], device)
    bank = {key: bank[key] for key in ("dataset", "backbone", "k", "input_scale")}
    banks.train_all(todo, bank, data, x, place)

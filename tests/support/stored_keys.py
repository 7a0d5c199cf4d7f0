"""Print the keys under which the code of a folder would store what its configs ask for.

`python stored_keys.py FOLDER CONFIG ...` is run in a process of its own, since it
imports the folder's code. The folder is a `Checkout` (tests/conftest.py).
"""

import json
import os
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

EXPERIMENT = "tiny"
CELL = ("digits", "tiny", 4)


def stored_keys(config_file: str) -> dict[str, object]:
    """Return what names and describes the results of the experiment `tiny`.

    Args:
        config_file: A config of the working directory.

    Returns:
        {"sae", "row", "embedding" or "dataset": a key or a list of keys;
        "made_by": what results elsewhere are compared by;
        "jobs": the parameters of jobs that hold options}.
    """
    from sae_workflow import settings

    from sae.bank.train import CellData, Place, Trainer
    from sae.core import files
    from sae.core.options import from_record
    from sae.data import dataset as datasets
    from sae.data import extraction
    from sae.scoring import stage

    config = settings.read_config(config_file)
    plan = settings.bank_plan(config, EXPERIMENT, settings.Cell(*CELL))
    # As a job gets it: text goes over the command line.
    plan_text = plan.model_dump_json()
    plan = from_record(type(plan), json.loads(plan_text))

    with tempfile.TemporaryDirectory() as scratch_name:
        scratch = Path(scratch_name)

        dataset_spec = config.datasets["digits"].spec
        datasets.build("digits", dataset_spec, None, scratch / "dataset")
        manifest = files.read_json(scratch / "dataset/manifest.json")
        backbone_spec = config.backbones["tiny"].spec
        job = extraction.Job(
            scratch / "dataset", "tiny", backbone_spec, None, scratch, 16
        )
        embedding_key = extraction.prepare(job).folder.name

        sums = {"embeddings.npy": "e" * 64, "index.parquet": "i" * 64}
        for split in ("train", "val", "test"):
            path = scratch / "activations" / split / "manifest.json"
            files.write_json(path, {"sha256": sums})
        input_norm = plan.recipe["input_norm"]
        cell_data = CellData(scratch / "activations", input_norm, 1.0, "cpu")
        place = Place(scratch / "store", scratch / "bank/bank.json")
        trainer = Trainer(plan, cell_data, place)
        saes = [
            plan.member(name, trial, 0, "paper")
            for name, method in plan.methods.items()
            if method.at is None
            for trial in method.trials()
        ]
        sae_keys = [trainer._with_key(sae).key for sae in saes]

        records = settings.metrics_by_stage(config, EXPERIMENT)["score"]
        options = {name: stage.options_of(name, of) for name, of in records.items()}
        scorer = stage.Scorer(options, cell_data.folder, {}, scratch / "rows", "cpu")
        trained_sae = replace(plan.member("topk", {}, 0, "paper"), sha256="s" * 64)
        row_keys = {
            name: scorer._key(name, "test", trainer.bank, trained_sae)
            for name in options
        }

    report = settings.report_settings(config, EXPERIMENT)["config"]
    return {
        "dataset": manifest["fingerprint"],
        "embedding": embedding_key,
        "sae": sae_keys,
        "row": row_keys,
        "made_by": settings.made_by(config, EXPERIMENT),
        "jobs": [plan_text, dataset_spec, backbone_spec, records, report],
    }


if __name__ == "__main__":
    checkout, *config_files = sys.argv[1:]
    os.chdir(checkout)
    sys.path[:0] = [checkout, str(Path(checkout, "workflow"))]
    print(json.dumps([stored_keys(file) for file in config_files]))

"""SAEs made elsewhere: our own, by way of another format, scores as it did."""

import os

import numpy as np
import pandas as pd
import pytest
from report.site.reading import payload

from sae.models import convert, saefile

pytestmark = [pytest.mark.workflow, pytest.mark.slow]
BANK = "results/tiny/saes/digits/tiny/k4"
SAME = [
    "r2",
    "l0",
    "dead",
    "ms_mean",
    "ms_mean_alive",
    "purity_binary",
    "probe_auc",
    "n_active_median",
]


def test_an_exported_sae_comes_back_with_the_scores_that_it_had(make_checkout):
    checkout = make_checkout()
    checkout.experiment["methods"] = ["topk", "reg1"]
    del checkout.experiment["sweep"]["reg2"]
    checkout.write()
    checkout.snakemake("tiny", "--cores", "2")
    topk_file = f"{BANK}/topk/default/seed0/sae.safetensors"
    export = ("-m", "sae", "export", topk_file, "--format", "saelens")
    checkout.run(*export, "--out", "theirs").check_returncode()
    checkout.config["methods"]["theirs"] = {"import": "theirs", "label": "Theirs"}
    checkout.config["methods"]["again"] = {"import": topk_file}
    checkout.experiment["methods"] += ["theirs", "again"]
    checkout.write()
    planned = checkout.planned()
    assert planned["imported"] == 2 and "embed" not in planned
    checkout.snakemake("tiny", "--cores", "2")
    # Copied anew, with older times.
    for file in (checkout.folder / "theirs").iterdir():
        os.utime(file, (1, 1))
    assert checkout.planned()["imported"] == 1
    checkout.snakemake("tiny", "--cores", "2")
    metrics = pd.read_parquet(checkout.folder / "results/tiny/metrics.parquet")
    test = metrics[(metrics["split"] == "test") & metrics["selected"]].set_index(
        "method"
    )
    for method in ("theirs", "again"):
        assert test.loc[method, "objective"] == "imported"
        pd.testing.assert_series_equal(
            test.loc[method, SAME].astype(float),
            test.loc["topk", SAME].astype(float),
            rtol=1e-4,
            check_names=False,
        )
    methods = payload(checkout.folder / "results/tiny/report", "overview")["methods"]
    assert "Theirs" in [method["label"] for method in methods]
    assert checkout.planned() == {}
    # What is laid out for the hub: the chosen SAEs that were trained here, each as it
    # is, and once.
    command = ("-m", "sae_workflow.publish", "tiny")
    output = checkout.run(*command).stdout
    hub = checkout.folder / "results/tiny/hub"
    names = sorted(path.name for path in hub.iterdir() if path.is_dir())
    # Validation may choose no lambda.
    chosen = [method for method in ("reg1", "topk") if method in test.index]
    assert names == [f"digits-tiny-k4-{method}-seed0" for method in chosen]
    assert f"{len(chosen)} SAEs" in output
    card = (hub / "README.md").read_text()
    assert card.startswith("---\nlibrary_name: saelens")
    assert f"{test.loc['topk', 'r2']:.3f}"[:5].rstrip("0") in card
    x = np.load(checkout.folder / "results/activations/digits/tiny/test/embeddings.npy")
    codes = [
        sae.encode(sae.prepare(x))
        for sae in (
            convert.load(str(hub / names[-1])),
            saefile.load(checkout.folder / topk_file),
        )
    ]
    np.testing.assert_array_equal(codes[0].indices, codes[1].indices)
    again = checkout.run(*command)
    assert again.returncode == 1 and "is there already: move it away" in again.stderr
    # Another file in its place is another SAE: it is brought in, taken and scored anew.
    reg1_file = next((checkout.folder / BANK / "reg1").glob("*/seed0/sae.safetensors"))
    checkout.config["methods"]["again"] = {
        "import": str(reg1_file.relative_to(checkout.folder))
    }
    checkout.write()
    checkout.snakemake("tiny", "--cores", "2")
    after = pd.read_parquet(checkout.folder / "results/tiny/metrics.parquet")
    after = after[(after["split"] == "test") & (after["method"] == "again")].iloc[0]
    is_trial = metrics["trial"] == reg1_file.parent.parent.name
    trial = metrics[is_trial & (metrics["split"] == "test")].iloc[0]
    assert after["r2"] == trial["r2"] != test.loc["topk", "r2"]

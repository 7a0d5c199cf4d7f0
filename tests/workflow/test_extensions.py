"""Entries of one's own outside the checkout, one of each kind, as docs/extending.md."""

import re
import shutil

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from conftest import ROOT, Checkout
from sae_workflow import settings

import sae
from sae.comparison import leaderboard
from sae.core import files, paths

pytestmark = pytest.mark.workflow
CELL = {"experiment": "tiny", "dataset": "colours", "backbone": "mean_colour", "k": 4}
KINDS = (
    "penalties",
    "objectives",
    "metrics",
    "protocols",
    "figures",
    "datasets",
    "annotations",
    "backbones",
)


def documented():
    """Return what docs/extending.md shows: {path: code} of files, and a config."""
    text = (ROOT / "docs/extending.md").read_text()
    code = dict(
        re.findall(r"<!-- file: (\S+\.py) -->\n```python\n(.*?)```", text, re.S)
    )
    config = {}
    for block in re.findall(r"```yaml\n(.*?)```", text, re.S):
        for key, value in yaml.safe_load(block).items():
            if isinstance(value, dict):
                config.setdefault(key, {}).update(value)
            else:
                config[key] = value
    return code, config


@pytest.fixture(scope="module")
def run(tmp_path_factory, digits):
    """Return a checkout in which a run with an entry of each kind has finished."""
    folder = tmp_path_factory.mktemp("extensions")
    code, config = documented()
    assert {path.split("/")[0] for path in code} == set(KINDS)
    for path, content in code.items():
        (folder / "mine" / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / "mine" / path).write_text(content)
    (folder / "checkout").mkdir()
    checkout = Checkout(folder / "checkout", digits)
    checkout.config["extensions"] = config["extensions"]
    for kind, names in {
        "methods": ["runner_up", "jittered"],
        "metrics": ["concentration"],
        "protocols": ["better"],
        "datasets": ["colours"],
        "backbones": ["mean_colour"],
    }.items():
        for name in names:
            checkout.config[kind][name] = config[kind][name]
    checkout.config["figures"] = ["fig5", "firing"]
    checkout.config["metrics"]["concepts"] = {}
    checkout.experiment.update(
        datasets=["colours"],
        backbones=["mean_colour"],
        methods=["topk", "runner_up", "jittered"],
        sweep={},
        protocols={"paper": {}, "better": {}},
    )
    checkout.write()
    checkout.snakemake("tiny")
    return checkout


def test_a_method_against_the_leaderboard(run):
    page = (ROOT / "docs/extending.md").read_text()
    block = re.search(r"<!-- file: contender.yaml -->\n```yaml\n(.*?)```", page, re.S)
    (run.folder / "contender.yaml").write_text(block[1])
    config, file_of_key = settings.merge_config_files(
        ROOT / "config.yaml", run.folder / "contender.yaml"
    )
    config["extensions"] = str(run.folder / config["extensions"])
    config = settings.load(config, file_of_key)
    contender, demo = (
        leaderboard.MadeBy.model_validate(settings.made_by(config, experiment))
        for experiment in ("contender", "demo")
    )
    assert config.experiments["contender"].leaderboard == ["results/demo"]
    cells = pd.DataFrame(
        [
            {**cell.wildcards, "method": "topk"}
            for cell in settings.cells(config, "demo")
        ]
    )
    is_shared = (cells["dataset"] == "emoji") & (cells["k"] == 32)
    comparable, omissions = leaderboard._comparable_rows(
        leaderboard.ExperimentRows(cells, cells, demo),
        leaderboard.ExperimentRows(cells[is_shared], cells[is_shared], contender),
    )
    assert omissions == ["demo: cells left out, which contender does not have: 6"]
    assert len(comparable.metrics) == len(comparable.selection) == 2


def read_results(run):
    """Return the folder of the experiment, its bank and its metrics."""
    bank = files.read_json(run.folder / paths.BANK.format(**CELL))
    return (
        run.folder / "results/tiny",
        bank,
        pd.read_csv(run.folder / "results/tiny/metrics.csv"),
    )


def test_a_dataset_and_a_backbone(run):
    manifest = files.read_json(run.folder / paths.DATASET.format(**CELL))
    assert manifest["images"] == {"train": 120, "val": 40, "test": 40}
    assert manifest["classes"] == 2
    embeddings = np.load(run.folder / paths.EMBEDDINGS.format(**CELL, split="test"))
    assert embeddings.shape == (40, 12)
    # The first test image is red/4.
    basis = torch.randn(3, 12, generator=torch.Generator().manual_seed(0)).numpy()
    np.testing.assert_allclose(
        embeddings[0], np.array([150, 8, 0]) / 255 @ basis, rtol=1e-5
    )


def test_a_penalty(run):
    folder, _, metrics = read_results(run)
    rows = metrics[metrics["method"] == "runner_up"]
    assert set(rows["penalty"]) == {"runner_up"}
    assert sorted(rows["lambda"].unique()) == [0.001, 0.003, 0.01, 0.03]
    assert rows["r2"].notna().all() and rows["r2"].nunique() > 2
    assert "Runner-up raises mean MS" in (folder / "claims.md").read_text()
    assert re.search(r"\| Runner-up +\|", (folder / "tables/table1.md").read_text())


def test_an_objective(run):
    _, bank, metrics = read_results(run)
    (entry,) = [e for e in bank["saes"] if e["method"] == "jittered"]
    assert entry["settings"]["options"] == {"spread": 0.25}
    assert entry["path"].startswith("jittered/default/")
    row = metrics[(metrics["method"] == "jittered") & (metrics["split"] == "test")]
    assert row["l0"].item() <= 4 and row["objective"].item() == "jittered_topk"


def test_a_metric(run):
    folder, bank, metrics = read_results(run)
    metrics = metrics[metrics["protocol"] == "paper"]
    (entry,) = [
        e for e in bank["saes"] if e["method"] == "topk" and e["protocol"] == "paper"
    ]
    model = sae.load(folder / "saes/colours/mean_colour/k4" / entry["path"])
    embeddings = np.load(run.folder / paths.EMBEDDINGS.format(**CELL, split="val"))
    codes = model.encode(embeddings).matrix().toarray()
    expected = np.sort(codes, axis=1)[:, -3:].sum() / codes.sum()
    row = metrics[(metrics["method"] == "topk") & (metrics["split"] == "val")]
    assert row["concentration"].item() == pytest.approx(expected, rel=1e-6)
    curve = pd.read_parquet(folder / "curves.parquet").query(
        "curve == 'concentration_by_k' and method == 'topk' and selected"
    )
    at_3 = curve.loc[(curve["split"] == "val") & (curve["x"] == 3), "y"]
    assert at_3.item() == row["concentration"].item()
    latents = pd.read_parquet(folder / "latents.parquet").query(
        "method == 'topk' and split == 'test' and selected"
    )
    assert len(latents) == 32
    assert latents["share_of_activation"].sum() == pytest.approx(1)
    assert latents["n_active"].notna().all()


def test_a_protocol(run):
    _, bank, metrics = read_results(run)
    of_better = [e for e in bank["saes"] if e["protocol"] == "better"]
    assert [e["seed"] for e in of_better] == [0, 0, 1]
    assert [e["judged"] for e in of_better] == [False, False, True]
    of_val = metrics[
        (metrics["protocol"] == "better")
        & (metrics["split"] == "val")
        & (metrics["seed"] == 0)
    ]
    best_trial = of_val.set_index("trial")["r2"].idxmax()
    assert paths.trial_name(of_better[2]["trial"]) == best_trial


def test_a_figure(run):
    folder, _, _ = read_results(run)
    assert (folder / "figures/firing.png").stat().st_size > 5000
    assert (
        "Latents of the chosen SAEs by the number"
        in (folder / "report/data/overview.js").read_text()
    )


def test_its_latents_can_be_seen_before_there_is_a_report(run):
    report = run.folder / "results/tiny/report"
    report.rename(run.folder / "report")
    try:
        without_screen = {**run.environment, "DISPLAY": "", "WAYLAND_DISPLAY": ""}
        process = run.run("-m", "sae_workflow.show", "tiny", env=without_screen)
    finally:
        (run.folder / "report").rename(report)
    assert process.returncode == 0, process.stderr
    assert "colours / mean_colour / k4 alone" in process.stdout
    assert "results/tiny/first_look/index.html: open it" in process.stdout
    site = run.folder / "results/tiny/first_look"
    overview = (site / "data/overview.js").read_text()
    assert "Runner-up" in overview and list(site.glob("data/**/*.js"))


def test_a_wrong_file_is_named_before_any_job(run):
    path = run.folder.parent / "mine/penalties/off_support_l1.py"
    path.touch()
    output = run.snakemake("-n", "tiny", ok=False)
    path.unlink()
    assert "has the name of a penalty of the project; rename the file" in output


@pytest.mark.slow
def test_the_folder_may_move_and_helpers_and_data_files_count(run):
    mine = run.folder.parent / "mine"
    shutil.move(mine, run.folder.parent / "elsewhere")
    run.config["extensions"] = "../elsewhere"
    run.write()
    assert run.planned() == {}
    (run.folder.parent / "elsewhere/table.json").write_text("{}")
    assert {"train", "score", "plot", "embed"} <= set(run.planned())

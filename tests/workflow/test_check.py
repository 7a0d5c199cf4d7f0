"""`make check`: what it says of an experiment that is incomplete."""

import shutil
from pathlib import Path

import pandas as pd
import pytest
import yaml
from conftest import ROOT
from sae_workflow import check, expected_files, recorded_configs, settings

from sae.bank import store
from sae.config.yaml_file import parse_file
from sae.core import files, paths
from sae.data.splits import SPLITS


@pytest.fixture
def finished(tmp_path, monkeypatch):
    """Return a folder with each file that `smoke` ends in, tables with their sums."""
    monkeypatch.chdir(tmp_path)
    shutil.copy(ROOT / "config.yaml", tmp_path)
    names = expected_files.expected_files(settings.read_config("config.yaml"), "smoke")
    for file in map(Path, names):
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("{}")
    return [*map(Path, names)]


def test_a_check_names_the_files_that_an_experiment_lacks(
    finished, tmp_path, monkeypatch, capsys
):
    # What else is wrong with files that were written by hand is not asked here.
    monkeypatch.setattr(check, "report_damage", lambda experiment, missing: 0)
    assert check.main("smoke") == 0 and capsys.readouterr().err == ""
    tables = [file for file in finished if file.parent.name == "tables"]
    for folder in ("tables", "figures"):
        shutil.rmtree(tmp_path / "results/smoke" / folder)
    for name in ("metrics.csv", "metrics.parquet", "gallery/images.parquet"):
        (tmp_path / "results/smoke" / name).unlink()
    assert check.main("smoke") == 1
    output = capsys.readouterr().err
    assert output.startswith("error: smoke is incomplete, ") and output.count("\n") == 1
    for name in (
        "results/smoke/metrics.csv",
        "results/smoke/metrics.parquet",
        "results/smoke/gallery/images.parquet",
        f"results/smoke/tables/ ({len(tables)} files)",
        "results/smoke/figures/ (",
    ):
        assert name in output, output
    assert "sample.parquet" not in output


def test_of_several_configurations_that_which_lacks_least_counts(
    finished, tmp_path, capsys
):
    config = yaml.safe_load(Path("config.yaml").read_text())
    experiment = config["experiments"]["smoke"]
    recorded_configs.write_records(config, {"smoke"}, ["mine.yaml"], {})
    assert not list(Path("results/smoke").glob("configurations/*"))
    experiment["k"] = [*experiment["k"], 16]
    recorded_configs.write_records(config, {"smoke"}, ["mine.yaml"], {})
    assert list(Path("results/smoke").glob("configurations/*"))
    assert expected_files.missing_files("smoke") == []
    # Without config.yaml's, the one that was recorded is asked for.
    del config["experiments"]["smoke"]
    Path("config.yaml").write_text(yaml.safe_dump(config))
    assert any("k16" in file for file in expected_files.missing_files("smoke"))
    assert expected_files.missing_files("nowhere") is None


def test_the_record_of_an_experiment_of_fewer_k_is_read_again(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    config = parse_file(ROOT / "config.yaml")
    config["experiments"]["mine"] = {"extends": "demo", "k": [8]}
    recorded_configs.write_records(config, {"mine"}, ["mine.yaml"], {})
    (record,) = recorded_configs.read_records("mine")
    experiment = record.config.experiments["mine"]
    assert record.configfiles == ["mine.yaml"] and experiment.k == [8]
    # What it took over about k = 32 is not in the record.
    assert set(experiment.sweep["reg1"]["lambda"]) == {"k8"}


@pytest.fixture
def checked(tmp_path, monkeypatch):
    """Return the files of an experiment `mine` of one cell and one SAE, by hand."""
    monkeypatch.chdir(tmp_path)
    cell = {"experiment": "mine", "dataset": "d", "backbone": "b", "k": 4}
    table = pd.DataFrame({"image_id": ["a"]})

    def write_listed(manifest, *names):
        folder = Path(manifest).parent
        for name in names:
            files.write_parquet(folder / name, table)
        return {name: files.sha256(folder / name) for name in names}

    for split in SPLITS:
        manifest = paths.EMBEDDINGS_MANIFEST.format(**cell, split=split)
        sums = write_listed(manifest, "embeddings.npy", "index.parquet")
        files.write_json(manifest, {"sha256": sums})
    dataset = paths.DATASET.format(**cell)
    sums = write_listed(dataset, "index.parquet")
    files.write_json(dataset, {"sha256": sums["index.parquet"]})
    concepts = paths.CONCEPTS.format(**cell)
    sums = write_listed(concepts, "concepts.parquet", "attributes.parquet")
    files.write_json(concepts, {"sha256": sums})

    made_by = {"settings": {"k": 4}}
    stored = Path(paths.STORE) / store.store_key(made_by)
    result = stored / store.RESULT_FILE
    sums = write_listed(result, store.SAE_FILE, store.LOG_FILE)
    sha256 = sums[store.SAE_FILE]
    files.write_json(result, {"made_by": made_by, "sha256": sha256})
    bank = Path(paths.BANK.format(**cell))
    entry = {"path": "sae.safetensors", "sha256": sha256, "key": stored.name}
    files.write_json(bank, {**cell, "saes": [entry]})
    store.link_sae(stored, bank.parent / entry["path"])
    assert check.Check("mine").problems == []
    return [
        file
        for file in Path("results").rglob("*")
        if file.is_file() and not file.is_symlink()
    ]


def test_a_damaged_byte_of_any_file_is_seen(checked):
    for file in checked:
        content = file.read_bytes()
        for place in (len(content) // 3, len(content) - 1):
            damaged = bytearray(content)
            damaged[place] ^= 1
            file.write_bytes(damaged)
            problems = check.Check("mine").problems
            assert any(file.name in line for line in problems), (file, place)
        file.write_bytes(content)
    assert check.Check("mine").problems == []


def test_what_the_store_says_of_another_sae_is_seen(checked):
    (result,) = (file for file in checked if file.name == store.RESULT_FILE)
    content = files.read_json(result)
    files.write_json(result, {**content, "made_by": {"settings": {"k": 8}}})
    (problem,) = check.Check("mine").problems
    assert str(result) in problem and "another SAE" in problem

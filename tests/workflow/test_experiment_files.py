"""The files in config/experiments: they always go with config.yaml."""

import shutil
from pathlib import Path

import pytest
import yaml
from conftest import ROOT
from sae_workflow import housekeeping, recorded_configs, settings

from sae.core import registry
from sae.core.errors import UserError

THEIRS = "config/experiments/theirs.yaml"


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Change to a folder with the project's config.yaml and files of experiments."""
    shutil.copy(ROOT / "config.yaml", tmp_path)
    experiments = tmp_path / "config/experiments"
    experiments.mkdir(parents=True)
    for name in ("laptop", "study"):
        shutil.copy(ROOT / f"config/experiments/{name}.yaml", experiments)
    pilot = "experiments: {pilot: {extends: study, methods: [topk]}}"
    (experiments / "pilot.yaml").write_text(pilot)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("text", "names"),
    [
        (
            "experiments: {laptop: {extends: demo}}",
            ("experiments.laptop", "/laptop.yaml"),
        ),
        ("datasets: {emoji: {split_seed: 1}}", ("datasets.emoji", "config.yaml")),
    ],
)
def test_a_name_that_is_said_twice_is_an_error_that_names_both_files(
    folder, text, names
):
    Path(THEIRS).write_text(text)
    with pytest.raises(UserError) as caught:
        settings.read_config("config.yaml")
    for name in (THEIRS, *names):
        assert name in str(caught.value)


@pytest.mark.parametrize(
    ("was", "becomes", "problem"),
    [
        ("experiments:", "experiments: [", "study.yaml line"),
        ("training: study", "training: stdy", "experiments.study.training: 'stdy'"),
        ("k: [16, 32, 64]", "k: [16, 0]", "experiments.study.k"),
        ("experiments:", "compute: {threads: 9}\nexperiments:", "key compute"),
        ("experiments:", "experiments: [1]\nx:", "key experiments"),
    ],
)
def test_a_broken_file_stops_its_experiments_and_those_that_extend_them(
    folder, capsys, was, becomes, problem
):
    whole = settings.read_config("config.yaml")
    assert {"study", "pilot", "laptop", "demo"} <= whole.experiments.keys()
    assert capsys.readouterr().err == ""

    file = Path("config/experiments/study.yaml")
    file.write_text(file.read_text().replace(was, becomes))
    config = settings.read_config("config.yaml")
    assert config.experiments.keys() == whole.experiments.keys() - {"study", "pilot"}
    assert config.experiments["laptop"] == whole.experiments["laptop"]
    assert config.compute == whole.compute
    of_study, of_pilot = capsys.readouterr().err.splitlines()
    assert "config/experiments/study.yaml" in of_study and problem in of_study
    assert "config/experiments/pilot.yaml" in of_pilot and "'study'" in of_pilot

    # What needs it says why; and nothing is deleted as nobody's.
    Path("mine.yaml").write_text("experiments: {mine: {extends: study}}")
    with pytest.raises(UserError) as caught:
        settings.read_config("config.yaml", "mine.yaml")
    assert "mine.yaml: config key experiments.mine.extends" in str(caught.value)
    assert problem in str(caught.value)
    with pytest.raises(UserError, match=r"study\.yaml(.|\n)*unused"):
        housekeeping.main("unused")


def test_a_mistake_elsewhere_stops_all(folder):
    # The grids of study.yaml, which are for k = 16, 32 and 64, do not go with it.
    Path("mine.yaml").write_text("experiments: {study: {k: [8]}}")
    with pytest.raises(UserError, match=r"experiments\.study\.sweep"):
        settings.read_config("config.yaml", "mine.yaml")
    Path("mine.yaml").write_text("experiments: {study: {k: [0]}}")
    with pytest.raises(
        UserError, match=r"mine\.yaml: config key experiments\.study\.k"
    ):
        settings.read_config("config.yaml", "mine.yaml")
    config = yaml.safe_load(Path("config.yaml").read_text())
    config["training"]["small"]["lr"] = 0
    Path("config.yaml").write_text(yaml.safe_dump(config))
    with pytest.raises(
        UserError, match=r"config\.yaml: config key training\.small\.lr"
    ):
        settings.read_config("config.yaml")


def test_a_file_of_the_folder_is_not_laid_over_once_more(folder):
    Path("mine.yaml").write_text("experiments: {study: {seeds: [7]}}")
    study = str(folder / "config/experiments/study.yaml")
    for overlays in (["mine.yaml"], [study, "mine.yaml"], ["mine.yaml", study]):
        config = settings.read_config("config.yaml", *overlays)
        assert config.experiments["study"].seeds == [7]
    options = ["smoke", "--configfile", "config.yaml", study, "mine.yaml"]
    assert settings.overlays_of(options) == ["mine.yaml"]


def test_experiments_of_the_folder_are_recorded_as_those_of_config_yaml(folder):
    def records_after(*overlays):
        _, raw, _ = settings.read_files("config.yaml", *overlays)
        recorded_configs.write_records(raw, {"study"}, ["config.yaml", *overlays], {})
        return [record.configfiles for record in recorded_configs.read_records("study")]

    assert records_after() == records_after("config/experiments/study.yaml") == []
    Path("mine.yaml").write_text("experiments: {study: {seeds: [7]}}")
    assert records_after("mine.yaml") == [["mine.yaml"]]
    # It says the same as the files that always go with config.yaml.
    Path("mine.yaml").write_text("experiments: {study: {seeds: [0]}}")
    assert records_after("mine.yaml") == []


@pytest.mark.workflow
def test_experiments_of_the_folder_are_targets_without_a_flag(make_checkout):
    checkout = make_checkout()
    (checkout.folder / "config/experiments").mkdir(parents=True)
    (checkout.folder / THEIRS).write_text(
        "experiments: {theirs: {extends: tiny, k: [2]}}"
    )
    (checkout.folder / "config/experiments/broken.yaml").write_text("experiments: [")
    for flag in ([], ["--configfile", "config.yaml", THEIRS]):
        output = checkout.snakemake("-n", "theirs", *flag)
        assert "results/theirs/saes/digits/tiny/k2/bank.json" in output
        assert "config/experiments/broken.yaml line" in output
    output = checkout.snakemake("-n", "broken", ok=False)
    assert "broken.yaml line" in output and "'broken'" in output


def test_a_record_of_files_of_ones_own_leaves_their_entries_known(folder, extend):
    code = "def penalty(batch):\n    return batch.a.amax(dim=1)\n"
    own = extend({"penalties/largest.py": code})
    Path("mine.yaml").write_text(
        f"extensions: {own}\n"
        "methods: {largest: {extends: topk, penalty: largest, lambda: 0.1}}\n"
        "experiments: {mine: {extends: smoke, methods: [topk, largest]}}\n"
    )
    _, raw, _ = settings.read_files("config.yaml", "mine.yaml")
    recorded_configs.write_records(raw, {"mine"}, ["config.yaml", "mine.yaml"], {})
    assert "largest" in registry.names("penalty")

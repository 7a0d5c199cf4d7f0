"""A run says before its first job over which names and folders jobs would stumble."""

import copy
import re
import subprocess
import sys

import pytest
from conftest import ROOT
from sae_workflow import missing_inputs, settings

from sae.core.errors import UserError
from sae.data.splits import SPLITS

RAW, _ = settings.merge_config_files(ROOT / "config.yaml")
CELL = {"dataset": "mine", "backbone": "own"}


def config(dataset=None, backbone=None):
    """Return the config with a dataset and a backbone of one's own."""
    raw = copy.deepcopy(RAW)
    raw["datasets"]["mine"] = dataset or raw["datasets"]["emoji"]
    vit = {"loader": "timm", "model": RAW["backbones"]["vit_b16"]["model"]}
    raw["backbones"]["own"] = {**(backbone or vit), "family": "own"}
    raw["experiments"]["ours"] = {
        "extends": "smoke",
        "datasets": ["mine"],
        "backbones": ["own"],
    }
    return settings.load(raw)


def refused(config, rule):
    """Return why a run of one job is refused at its start, as a dry run says it too."""
    with pytest.raises(UserError, match="Nothing was started: correct") as caught:
        missing_inputs.refuse_lost_inputs(config, [(rule, CELL)])
    (line,) = missing_inputs.missing_files(config, "ours")
    assert str(caught.value).startswith(f"{line}. Nothing was started")
    return line


@pytest.mark.parametrize("rule", ["weights", "embed", "embed_shard"])
@pytest.mark.parametrize(
    ("backbone", "expected"),
    [
        (
            {"loader": "timm", "model": "vit_base_patch16_225"},
            "timm has no model 'vit_base_patch16_225'; "
            ".*did you mean 'vit_base_patch16",
        ),
        (
            {"loader": "timm", "model": "vit_base_patch16_224.no_such_tag"},
            "timm has no model 'vit_base_patch16_224.no_such_tag'",
        ),
        (
            {"loader": "open_clip", "model": "ViT-B-33", "pretrained": "openai"},
            "open_clip has no model 'ViT-B-33'; .*did you mean 'ViT-B-32'",
        ),
        (
            {"loader": "open_clip", "model": "ViT-B-32", "pretrained": "laion2b"},
            r"pretrained: laion2b is neither a tag of ViT-B-32 \(there are: openai",
        ),
    ],
)
def test_a_model_that_the_library_does_not_know_is_refused_before_any_job(
    tmp_path, monkeypatch, backbone, expected, rule
):
    monkeypatch.chdir(tmp_path)
    line = refused(config(backbone=backbone), rule)
    assert re.match(f"backbone own: {expected}", line), line


def test_a_model_that_the_library_knows_is_not_refused(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for backbone in (
        {"loader": "timm", "model": "resnet18"},
        {"loader": "timm", "model": "hf-hub:org/name"},
        {"loader": "open_clip", "model": "RN50", "pretrained": "openai"},
    ):
        missing_inputs.refuse_lost_inputs(config(backbone=backbone), [("embed", CELL)])


def test_what_is_no_name_of_a_repository_is_told():
    backbone = {"loader": "timm", "model": "hf-hub:a/b/c"}
    lines = missing_inputs.missing_downloads(config(backbone=backbone), "ours")
    assert any(
        line.startswith("backbone own: a/b/c is no name of a repository: ")
        for line in lines
    )


def make_folders(root, *names):
    for name in names:
        (root / name).mkdir(parents=True)


IMAGE_FOLDER = {"type": "image_folder", "image_size": 64}
SHARDS = {"type": "shards", "splits": {part: f"{part}*.tar" for part in SPLITS}}
IMAGENET = {"type": "imagenet", "val_per_class": 1, "split_seed": 0}


@pytest.mark.parametrize(
    ("dataset", "folders", "expected"),
    [
        (IMAGE_FOLDER, ["train/a"], "expected train/, val/ and test/ in it; missing"),
        (IMAGE_FOLDER, SPLITS, "train: no class folder in it: put one there for each"),
        (
            IMAGE_FOLDER,
            [f"{split}/a" for split in SPLITS],
            r"train: no picture in the class folders \['a'\]: put some there",
        ),
        (
            {**IMAGE_FOLDER, "fractions": {"train": 0.8, "val": 0.1, "test": 0.1}},
            ["a"],
            r"no picture in the class folders \['a'\]",
        ),
        (SHARDS, ["train"], r"key splits.train: no file matches 'train\*.tar' below"),
        (IMAGENET, ["train"], r"has none of the layouts train/ \+ val/ \(no val/\);"),
        ({"type": "open_images"}, ["train"], "annotations has none of oidv7-class"),
        (
            {
                "type": "torchvision",
                "name": "CIFAR11",
                "train": {},
                "test": {},
                "val_fraction": 0.1,
                "split_seed": 0,
                "download": True,
            },
            [],
            "torchvision has no dataset 'CIFAR11'; it .*did you mean 'CIFAR10'",
        ),
    ],
)
def test_a_folder_without_pictures_is_refused_before_any_job(
    tmp_path, monkeypatch, dataset, folders, expected
):
    monkeypatch.chdir(tmp_path)
    make_folders(tmp_path / "pictures", *folders)
    mine = config({**dataset, "root": str(tmp_path / "pictures")})
    output = refused_dataset(mine) if "name" in dataset else refused(mine, "dataset")
    assert re.match(f"dataset mine: .*{expected}", output), output


def refused_dataset(config):
    """Return what :func:`refused` does of a dataset that a run would download."""
    with pytest.raises(UserError, match="Nothing was started: correct") as caught:
        missing_inputs.refuse_lost_inputs(config, [("download", CELL)])
    return str(caught.value)


def test_folders_that_are_made_in_time_or_hold_pictures_deeper_are_not_refused(
    tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    root = tmp_path / "pictures"
    make_folders(root, *(f"{split}/a/deeper" for split in SPLITS))
    mine = config({**IMAGE_FOLDER, "root": str(root)})
    missing_inputs.refuse_lost_inputs(mine, [("dataset", CELL)])
    for split in SPLITS:
        (root / split / "a/deeper").rmdir()
    missing_inputs.refuse_lost_inputs(
        mine, [("dataset", CELL)], [str(root / "train/a/1.png")]
    )
    with pytest.raises(UserError, match="no picture in the class folders"):
        missing_inputs.refuse_lost_inputs(mine, [("dataset", CELL)])


def test_a_plan_imports_no_library_of_models_for_backbones_of_the_project(tmp_path):
    """All names of the config are known, so that a dry run does not wait for torch."""
    known_names = settings.costs()["hub"]
    for name, backbone in RAW["backbones"].items():
        if backbone.get("loader") in ("timm", "open_clip"):
            names = [backbone["model"], backbone.get("pretrained")]
            assert " ".join(filter(None, names)) in known_names, name
    code = (
        "import sys; from sae_workflow import missing_inputs, settings; "
        f"config = settings.read_config({str(ROOT / 'config.yaml')!r}); "
        "print(*(line for name in config.experiments for line in "
        "missing_inputs.missing_files(config, name)), sep='\\n'); "
        "sys.exit(bool({'torch', 'timm', 'open_clip'} & {*sys.modules}))"
    )
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=True)


def test_a_plan_says_how_to_have_a_repository_or_that_it_is_there(
    tmp_path, monkeypatch
):
    config = settings.read_config(ROOT / "config.yaml")
    monkeypatch.chdir(tmp_path)
    line_of_artifact = {}
    for line in missing_inputs.missing_downloads(config, "photographs"):
        line_of_artifact[line.split()[1].rstrip(":")] = line
    place = "results/artifacts/caltech101/repository"
    line = line_of_artifact["caltech101"]
    assert "about 137 MB" in line and "git clone --bare https://" in line
    assert line.endswith(place)

    (tmp_path / place).mkdir(parents=True)
    lines = list(missing_inputs.missing_downloads(config, "photographs"))
    commit = settings.artifacts()["caltech101"]["version"]
    assert f"artifact caltech101: will be made from {place}, commit {commit}" in lines

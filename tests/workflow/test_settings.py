"""Settings of jobs: each has all that it needs, and nothing that others are about."""

import copy
import json
import pickle
import subprocess
from pathlib import Path

import jsonschema
import pytest
import yaml
from conftest import ROOT
from sae_workflow import (
    external_files,
    forecast,
    missing_inputs,
    publish,
    run,
    schema,
    settings,
)
from sae_workflow.settings import Cell
from sae_workflow.stages import STAGES, Job
from support.errors import assert_names, refused_naming

from sae.core import registry
from sae.core.options import later_options, without_absent
from sae.data import entries
from sae.protocols import _sweep
from sae.training.recipe import Recipe

RAW, _ = settings.merge_config_files(ROOT / "config.yaml")
CONFIG = settings.load(RAW)
CELL = ("emoji", "efficientnet_lite0")


def with_changes(change):
    raw = copy.deepcopy(RAW)
    change(raw)
    return settings.load(raw)


def test_a_plan_is_complete_and_survives_json():
    plan = settings.bank_plan(CONFIG, "demo", Cell(*CELL, 32))
    assert type(plan).model_validate_json(plan.model_dump_json()) == plan
    recipe = {
        **RAW["training"]["small"],
        **RAW["training"]["demo"],
        "precision": "float32",
    }
    del recipe["extends"]
    assert without_absent(plan.recipe, later_options(Recipe)) == recipe
    assert plan.methods["topk"].model_dump(by_alias=True) == {
        "objective": "topk",
        "penalty": None,
        "mask": None,
        "lambda": None,
        "options": {},
        "recipe": {},
        "sweep": {},
        "at": None,
        "against": None,
        "control": False,
    }
    reg1 = plan.methods["reg1"]
    assert (reg1.penalty, reg1.mask) == ("off_support_l1", "batch_active")
    assert reg1.against == "topk"
    sweep = RAW["experiments"]["demo"]["sweep"]["reg1"]
    assert reg1.sweep == {"lambda": sweep["lambda"]["k32"]}
    reg1_all = plan.methods["reg1_all"]
    assert (reg1_all.penalty, reg1_all.mask) == ("off_support_l1", "all")
    assert reg1_all.at == "reg1"
    assert reg1_all.sweep == {} and reg1_all.lam is None
    assert len(settings.cells(CONFIG, "demo")) == 8


@pytest.mark.parametrize("kind", ["dataset", "backbone"])
def test_a_job_parses_what_the_config_parsed(kind):
    for entry in getattr(CONFIG, f"{kind}s").values():
        in_job = entries.parse(kind, json.loads(json.dumps(entry.spec)))
        assert type(in_job) is type(entry) and in_job.spec == entry.spec
        # As a process gets it that decodes images.
        assert pickle.loads(pickle.dumps(in_job)) == in_job


def test_a_dataset_may_have_another_recipe_and_the_others_keep_theirs():
    def give_fewer_latents(raw):
        raw["experiments"]["demo"]["by_dataset"] = {"emoji": {"m": 128, "steps": 60}}

    changed = with_changes(give_fewer_latents)
    before, after = (
        settings.bank_plan(config, "demo", Cell(*CELL, 32))
        for config in (CONFIG, changed)
    )
    assert after.recipe == {**before.recipe, "m": 128, "steps": 60}
    sae = after.member("topk", {"steps": 7}, 0, "paper")  # A trial's own word holds.
    assert (sae.settings.m, sae.settings.steps) == (128, 7)

    # Plans, and so the keys of stored SAEs, of other datasets are what they were.
    cell = Cell("fashion_mnist", CELL[1], 32)
    plan_before = settings.bank_plan(CONFIG, "demo", cell)
    assert settings.bank_plan(changed, "demo", cell) == plan_before

    assert "by_dataset" not in settings.made_by(CONFIG, "demo")
    assert settings.made_by(changed, "demo")["by_dataset"] == {
        "emoji": {"m": 128, "steps": 60}
    }
    # So is the width that `make plan` reckons with.
    cell = Cell("emoji", CELL[1], 32)
    widths = [
        forecast.largest_width(settings.bank_plan(config, "demo", cell))
        for config in (CONFIG, changed)
    ]
    assert widths == [512, 128]


def test_a_dataset_may_have_another_k_and_then_has_no_cell_of_the_experiments():
    def give_own_k(raw):
        demo = raw["experiments"]["demo"]
        demo["by_dataset"] = {"emoji": {"m": 128, "k": [4]}}
        for sweep in demo["sweep"].values():
            sweep["lambda"]["k4"] = [0.5, 0.25]

    changed = with_changes(give_own_k)
    cells = settings.cells(changed, "demo")
    assert {(cell.dataset, cell.k) for cell in cells} == {
        ("emoji", 4),
        ("fashion_mnist", 8),
        ("fashion_mnist", 32),
    }
    assert len(cells) == 6
    embedded_before = settings.embedded_datasets(CONFIG, "demo")
    assert settings.embedded_datasets(changed, "demo") == embedded_before

    plan = settings.bank_plan(changed, "demo", Cell(*CELL, 4))
    assert plan.k == plan.member("topk", {}, 0, "paper").settings.k == 4
    assert plan.methods["reg1"].sweep == {"lambda": [0.25, 0.5]}
    plan_before = settings.bank_plan(CONFIG, "demo", Cell(*CELL, 8))
    assert plan.recipe == {**plan_before.recipe, "m": 128}
    # k is no option of the recipe, in which experiments on one leaderboard must agree.
    assert settings.made_by(changed, "demo")["by_dataset"] == {"emoji": {"m": 128}}
    probe = settings.metrics_by_stage(changed, "demo")["probe"]["probe"]
    assert probe["largest"] == 4
    assert settings.gallery_cell(changed, "demo").k == 4
    probed = STAGES["probe_embeddings"].jobs(changed, "demo")
    assert len(probed) == len({tuple(job.values()) for job in probed}) == 4

    # Where k alone is said, recipes are those of the experiment.
    def give_k_alone(raw):
        give_own_k(raw)
        raw["experiments"]["demo"]["by_dataset"] = {"emoji": {"k": [4]}}

    assert "by_dataset" not in settings.made_by(with_changes(give_k_alone), "demo")


SCALES = {"encoder_scale": 0.1, "auxk_alpha": 0.3}
LISTED = {
    "points": [
        {"lr": 0.001, **SCALES},
        {"lr": 0.002, **SCALES},
        {"lr": 0.004, **SCALES, "alone": True},
        {"lr": 0.008, **SCALES, "alone": True},
    ],
    "own_values": {
        "reg1": {"lambda": [0.001, 0.003]},
        "reg2": {"lambda": {"k8": [0.01, 0.02], "k32": [0.02, 0.03]}},
    },
}
DRAWN = {
    "points": 6,
    "ranges": {
        "reg1": {"lambda": [0.001, 0.01]},
        "reg2": {"lambda": {"k8": [0.01, 0.1], "k32": [0.02, 0.1]}},
    },
}


@pytest.mark.parametrize(
    ("protocols", "sizes"),
    [
        # Of paper 1 + 2 x 2 trials and 5 controls, then two methods at what it chose.
        # tuned adds 3 + 1 + 1 trials, and three methods' chosen one with three seeds.
        (RAW["experiments"]["demo"]["protocols"], [(10, 2), (5, 9)]),
        ({"paper": {}, "tuned": {}}, [(10, 2), (0, 9)]),
        # With another seed no trial is one of paper's.
        ({"paper": {}, "tuned": {"tuning": 7}}, [(10, 2), (1 + 2 * 2, 9)]),
        # Without paper the controls have the fresh seeds.
        ({"tuned": {"fresh": [1, 2]}}, [(1 + 2 * 2 + 5 * 2, 3 * 2)]),
        ({"paper": {}, "tuned": LISTED}, [(10, 2), (4 + 2 * 2 + 2 * 2, 9)]),
        ({"paper": {}, "tuned": DRAWN}, [(10, 2), (3 * 6, 9)]),
    ],
)
def test_a_plan_counts_what_tuned_adds(protocols, sizes):
    config = with_changes(
        lambda raw: raw["experiments"]["demo"].update(protocols=protocols)
    )
    plan = settings.bank_plan(config, "demo", Cell(*CELL, 32))
    counted = forecast.protocol_sizes(plan)
    assert [(size.trials, size.after) for size in counted] == sizes
    # A record says by which rule trials are chosen, not which trials there are.
    record = settings.made_by(config, "demo")["protocols"]["tuned"]
    assert not {"trials", "ranges", "own_values"} & record.keys()
    assert {"fresh", "tuning"} <= record.keys()


def test_an_experiments_sweep_is_laid_over_the_methods_own():
    def change(raw):
        raw["methods"]["reg1"]["sweep"] = {
            "lambda": [0.5, 0.25],
            "lr": [0.01, 0.003000000001],
        }
        raw["methods"]["topk"]["lr"] = 0.02
        smoke = raw["experiments"]["smoke"]
        smoke["sweep"] = {
            "reg1": {"lambda": {"k8": [1, 0.1]}},
            "reg2": smoke["sweep"]["reg2"],
            "topk": {"lr": [0.1]},
        }

    plan = settings.bank_plan(
        with_changes(change), "smoke", Cell("fashion_mnist_smoke", CELL[1], 8)
    )
    assert plan.methods["reg1"].sweep == {"lambda": [0.1, 1.0], "lr": [0.003, 0.01]}
    assert plan.methods["topk"].sweep == {"lr": [0.1]}
    assert plan.methods["reg2"].recipe == {"lr": 0.02}
    paths = [member.path for member in _sweep.swept_members(plan, "paper")]
    # Baselines first, then by name. A control takes over no sweep.
    assert paths[:2] == [
        "topk/lr0.1/seed0/sae.safetensors",
        "batch_topk/default/seed0/sae.safetensors",
    ]
    assert "reg1/lambda0.1-lr0.003/seed0/sae.safetensors" in paths
    assert "untrained/default/seed0/sae.safetensors" in paths


def test_the_order_of_a_grid_and_labels_change_no_plan():
    def change(raw):
        raw["experiments"]["smoke"]["sweep"]["reg1"]["lambda"].reverse()
        for section in ("methods", "datasets", "backbones"):
            for entry in raw[section].values():
                entry["label"] = "another"

    changed = with_changes(change)
    cell = Cell("fashion_mnist_smoke", CELL[1], 8)
    plan_before = settings.bank_plan(CONFIG, "smoke", cell)
    assert settings.bank_plan(changed, "smoke", cell) == plan_before
    assert changed.datasets[cell.dataset].spec == CONFIG.datasets[cell.dataset].spec
    assert changed.backbones[cell.backbone].spec == CONFIG.backbones[cell.backbone].spec
    names_before = settings.printed_names(CONFIG, "smoke")
    assert settings.printed_names(changed, "smoke") != names_before


def test_what_decides_a_cells_saes_is_no_more_than_it_uses():
    training = set(
        settings.training_names(settings.bank_plan(CONFIG, "demo", Cell(*CELL, 8)))
    )
    assert {
        ("training", "loop"),
        ("objective", "topk"),
        ("penalty", "off_support_l1"),
    } < training
    assert {("protocol", "paper"), ("metric", "reconstruction")} < training
    assert not training & {
        ("objective", "batch_topk"),
        ("metric", "monosemanticity"),
        ("metric", "purity"),
    }
    assert {("protocol", "tuned"), ("metric", "detection")} < training
    of_paper = settings.training_names(
        settings.bank_plan(CONFIG, "paper", Cell("imagenet", "vit_l16", 32))
    )
    assert not {("protocol", "tuned"), ("metric", "detection")} & set(of_paper)


def test_concepts_on_test_may_be_those_of_baselines_and_controls_alone():
    controls = ["untrained", "frozen_decoder", "frozen_encoder", "pca", "raw"]
    raw = copy.deepcopy(RAW)
    raw["experiments"]["demo"]["concepts"] = {"test": "baselines"}
    withholding_config = settings.load(raw)
    score = settings.stage_settings(withholding_config, "demo", "score")
    tested = ["topk", *controls]
    assert score["tested"] == {"concepts": tested, "names": tested}
    probe = settings.stage_settings(withholding_config, "demo", "probe")
    assert "tested" not in probe
    for experiment in CONFIG.experiments:
        score = settings.stage_settings(CONFIG, experiment, "score")
        assert "tested" not in score
    # Nothing of an experiment without the metric is another than it was.
    assert settings.stage_settings(CONFIG, "paper_tuned", "score") == {
        "metrics": settings.metrics_by_stage(CONFIG, "paper_tuned")["score"]
    }
    assert settings.annotated_datasets(CONFIG, "paper_tuned") == []


def test_metrics_are_sorted_into_stages_with_all_their_options():
    stages = settings.metrics_by_stage(CONFIG, "paper")
    assert list(stages) == ["score", "robustness", "probe"]
    of_all = ["reconstruction", "firing", "monosemanticity", "purity", "recovery"]
    assert list(stages["score"]) == [
        *of_all,
        "concepts",
        "names",
        "independent",
        "detection",
        "pixels",
        "latents",
    ]
    expected = {
        "C": [0.1, 1.0, 10.0],
        "tol": 0.01,
        "max_passes": 5000,
        "max_train": 100000,
        "largest": 32,
    }
    assert stages["probe"] == {"probe": expected}
    assert settings.probe_settings(CONFIG, "paper") == expected
    assert settings.probe_settings(CONFIG, "demo")["largest"] == 8
    assert settings.scoring_names(CONFIG, "demo", "probe") == [
        ("models", "inputs"),
        ("metric", "probe"),
    ]
    # Judges of an SAE's own family are not independent.
    metrics_of_demo = settings.metrics_by_stage(CONFIG, "demo")["score"]
    assert metrics_of_demo["independent"]["families"] == {
        name: CONFIG.backbones[name].family
        for name in RAW["experiments"]["demo"]["backbones"]
    }
    # What is optional is for those experiments alone that name it.
    naming_it = with_changes(
        lambda raw: raw["experiments"]["smoke"].update(metrics={"density": {}})
    )
    assert "density" in settings.metrics_by_stage(naming_it, "smoke")["score"]
    assert "density" not in metrics_of_demo
    # Without a metric, its stage has nothing to do.

    def without_probes(raw):
        del raw["metrics"]["probe"]
        for experiment in raw["experiments"].values():
            experiment.pop("metrics", None)

    config = with_changes(without_probes)
    assert "probe" not in settings.metrics_by_stage(config, "demo")
    assert settings.probe_settings(config, "demo") == {}


def test_a_judge_is_embedded_and_asked_and_no_sae_is_trained_on_it():
    config = with_changes(
        lambda raw: raw["experiments"]["smoke"].update(judges=["dinov2_vit_s14"])
    )
    dataset = "fashion_mnist_smoke"
    assert settings.cells(config, "smoke") == [Cell(dataset, "efficientnet_lite0", 8)]
    assert settings.embedded_datasets(config, "smoke") == [
        {"dataset": dataset, "backbone": backbone}
        for backbone in ("efficientnet_lite0", "dinov2_vit_s14", "thumbnail")
    ]
    assert settings.other_backbones(config, "smoke", "efficientnet_lite0") == [
        "dinov2_vit_s14"
    ]
    assert settings.splits_of_other_backbones(config, "smoke", "score") == [
        "train",
        "val",
        "test",
    ]
    # Protocol tuned chooses by detection on validation; paper reads no judge.
    splits = settings.splits_of_other_backbones(config, "smoke", "train")
    assert splits == ["train", "val"]
    assert settings.splits_of_other_backbones(config, "paper", "train") == []
    metrics = settings.metrics_by_stage(config, "smoke")["score"]
    families = metrics["independent"]["families"]
    assert len(families) == len(set(families.values())) == 2
    shown = "\n".join(forecast.describe_plan(config, "smoke"))
    assert "fashion_mnist_smoke / dinov2_vit_s14" in shown and "in 1 cells" in shown
    card = "\n".join(publish._sources(config, "smoke"))
    assert card.count("- judge dinov2_vit_s14") == 1
    assert card.count("- backbone efficientnet_lite0") == 1


def test_pixels_judge_as_detection_does_and_are_no_backbone_of_the_experiment():
    pixels = settings.metrics_by_stage(CONFIG, "demo")["score"]["pixels"]
    detection = settings.metrics_by_stage(CONFIG, "demo")["score"]["detection"]
    assert pixels == {"detection": detection} and detection["draws"] == 1
    assert settings.backbones_of_metrics(CONFIG, "demo", "emoji") == ["thumbnail"]
    assert "thumbnail" not in {
        *settings.other_backbones(CONFIG, "demo", "efficientnet_lite0_fast"),
        *settings.families(CONFIG, "demo"),
        *detection["families"],
        *settings.printed_names(CONFIG, "demo")["backbones"],
    }
    # Reading each image once more, where nothing is known of it: about as decoding it.
    place = {"dataset": "imagenet", "backbone": "thumbnail"}
    seconds = forecast.estimate_seconds(Job("embed", CONFIG, place))
    images = sum(CONFIG.datasets["imagenet"].spec["images"].values())
    assert seconds == pytest.approx(images / forecast.rate("decode"), rel=0.1)

    def leave_out(raw):
        raw["metrics"]["pixels"] = {"optional": True}

    without = with_changes(leave_out)
    assert settings.backbones_of_metrics(without, "demo", "emoji") == []

    def embeddings_alone(raw):
        raw["datasets"]["world"] = {
            "type": "generated",
            "counts": {"train": 9, "val": 9, "test": 9},
            "classes": 3,
            "seed": 0,
        }

    generated = with_changes(embeddings_alone)
    assert settings.backbones_of_metrics(generated, "demo", "world") == []


def test_names_are_of_the_experiment_alone():
    def change(raw):
        unused = {"objective": "topk", "colour": "#000000"}
        raw["methods"] = {"unused": unused, **raw["methods"]}
        raw["experiments"]["smoke"].update(
            methods=["topk", "reg2"], sweep={"reg2": {"lambda": [0.1]}}
        )

    names = settings.printed_names(with_changes(change), "smoke")
    methods = names["methods"]
    positions = {name: method["position"] for name, method in methods.items()}
    assert positions == {"topk": 0, "reg2": 1}
    assert methods["reg2"]["label"] == "Reg. 2"
    assert methods["reg2"]["against"] == "topk"
    assert names["datasets"] == {"fashion_mnist_smoke": "Fashion-MNIST (smoke)"}


def test_what_extends_a_dataset_has_its_pictures():
    def say_otherwise(raw):
        raw["datasets"]["fashion_mnist"]["pictures"] = "clothes"

    said = with_changes(say_otherwise)
    for record in (
        settings.made_by(said, "study"),
        settings.claims_settings(said, "study"),
    ):
        assert record["pictures"] == {
            "emoji_vendors": "emoji",
            "fashion_mnist_55k": "clothes",
            "openclipart": "openclipart",
        }
    # It decides nothing that a job makes.
    name = "fashion_mnist_55k"
    assert said.datasets[name].spec == CONFIG.datasets[name].spec


def test_galleries_show_what_protocol_paper_chose():
    config = with_changes(
        lambda raw: raw["experiments"]["photographs"]["protocols"].pop("paper")
    )
    assert settings.gallery_cell(config, "photographs") is None
    assert "fig2" not in settings.shown_figures(config, "photographs")


def test_given_embeddings_have_no_galleries_and_name_their_files(tmp_path, monkeypatch):
    def change(raw):
        raw["datasets"]["given"] = {"type": "table", "root": "here"}
        raw["backbones"]["ours"] = {
            "loader": "precomputed",
            "family": "clip",
            "model": "clip",
        }
        raw["experiments"]["smoke"].update(datasets=["given"], backbones=["ours"])

    config = with_changes(change)
    assert settings.gallery_cell(config, "smoke") is None
    assert settings.shown_figures(config, "smoke") == [
        "effects",
        "detection",
        "fig4",
        "fig5",
        "fig5_probe",
        "sweep",
    ]
    assert external_files.dataset_files(config, "given") == [
        "here/train.csv",
        "here/val.csv",
        "here/test.csv",
    ]
    embeddings = external_files.given_embeddings(config, "given", "ours")
    assert embeddings[0] == "here/clip/train.npy"
    assert external_files.given_embeddings(config, "emoji", CELL[1]) == []
    assert external_files.dataset_files(config, "emoji") == []
    assert not external_files.is_from_hub(config, "ours")
    monkeypatch.chdir(tmp_path)
    Path("here/clip").mkdir(parents=True)
    for name in ("train.npy", "test.npz"):
        Path("here/clip", name).touch()
    lines = list(missing_inputs.missing_files(config, "smoke"))
    assert lines[0] == "dataset given: here/clip/val.npy does not exist"
    assert lines[1].startswith(
        "dataset given: here/clip/test.npy does not exist (save each array of the .npz"
    )


def test_a_run_that_would_find_no_images_or_weights_is_refused(tmp_path):
    gone = tmp_path / "gone"

    def change(raw):
        mine = {"type": "image_folder", "root": str(gone), "image_size": 64}
        raw["datasets"]["lost"] = mine
        own = {"loader": "timm", "model": "m", "family": "f", "checkpoint": str(gone)}
        raw["backbones"]["own"] = own

    config = with_changes(change)
    cell = {"dataset": "lost", "backbone": "own"}
    missing_inputs.refuse_lost_inputs(config, [("train", cell)])
    with refused_naming("backbone own: checkpoint", f"{gone} does not exist"):
        missing_inputs.refuse_lost_inputs(config, [("embed", cell)])
    # What a job of the run makes, say from a bucket, is there in time.
    for made, is_there in (
        ([], False),
        ([f"{gone}/train.csv"], True),
        ([f"{tmp_path}/other", str(gone)], True),
        ([f"{gone}.csv"], False),
    ):
        dataset = ("dataset", cell)
        if is_there:
            missing_inputs.refuse_lost_inputs(config, [dataset], made)
        else:
            with refused_naming("dataset lost", "Nothing was started"):
                missing_inputs.refuse_lost_inputs(config, [dataset], made)


def test_an_imported_sae_is_not_lost_with_the_place_that_it_came_from(
    tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)

    def change(raw):
        raw["methods"]["local"] = {"import": "saes/"}
        raw["methods"]["either"] = {"import": "saes/theirs"}
        raw["experiments"]["smoke"]["methods"] += ["local", "either"]

    config = with_changes(change)
    either = [("imported", {"method": "either"})]
    assert list(missing_inputs.missing_files(config, "smoke")) == [
        "method local: saes/ does not exist, and is no owner/name[:folder] "
        "of the Hugging Face hub",
        "method either: saes/theirs does not exist here; "
        "it is looked for on the Hugging Face hub",
    ]
    with refused_naming("method local", "saes/", "Nothing was started"):
        missing_inputs.refuse_lost_inputs(config, [("imported", {"method": "local"})])
    Path("results/imported").mkdir(parents=True)
    Path("results/imported/either.safetensors").touch()
    missing_inputs.refuse_lost_inputs(config, either)
    Path("saes").mkdir()
    with refused_naming(
        "method either", "saes/theirs", "results/imported/either.safetensors"
    ):
        missing_inputs.refuse_lost_inputs(config, either)
    missing_inputs.refuse_lost_inputs(config, either, ["saes/theirs"])


@pytest.mark.parametrize(
    ("section", "name", "key", "value", "line"),
    [
        (
            *("datasets", "fashion_mnist_smoke", "concepts", "HERE/mine.csv"),
            "dataset fashion_mnist_smoke: concepts HERE/mine.csv does not exist "
            "(docs/data.md)",
        ),
        (
            *("compute", None, "shared", ["HERE", "HERE/gone"]),
            "compute.shared: HERE/gone does not exist; nothing is taken from it",
        ),
        (
            *("experiments", "smoke", "leaderboard"),
            ["docs/results/studdy", "results/demo", str(ROOT / "docs/results/study")],
            "leaderboard: docs/results/studdy has no made_by.json",
        ),
    ],
)
def test_what_a_plan_misses_has_a_line(tmp_path, section, name, key, value, line):
    def here(text):
        return text.replace("HERE", str(tmp_path))

    def change(raw):
        entry = raw[section] if name is None else raw[section][name]
        entry[key] = here(value) if isinstance(value, str) else [*map(here, value)]

    config = with_changes(change)
    assert here(line) in missing_inputs.missing_files(config, "smoke")
    if key == "leaderboard":
        for target in ("smoke", "results/smoke/metrics.csv"):
            with refused_naming(f"experiments.smoke.{line}"):
                missing_inputs.refuse_unknown_targets(
                    config, ["snakemake", target], ["smoke"].__contains__
                )


def test_an_experiment_whose_backbones_are_of_one_family_says_that_nobody_judges():
    def change(raw):
        experiments = raw["experiments"]
        experiments["photographs"]["backbones"] = [
            "efficientnet_lite0",
            "efficientnet_lite2",
        ]
        # Its protocol does not choose by detection.
        experiments["paper"]["backbones"] = ["vit_l16"]
        experiments["paper_tuned"]["backbones"] = ["dinov2_vit_s14"]
        experiments["paper_tuned"]["judges"] = ["efficientnet_lite0"]

    config = with_changes(change)
    (line,) = missing_inputs.missing_judges(config, "photographs")
    assert_names(
        line,
        "all backbones are of the family efficientnet, so nobody judges `detection`",
        "the trial of highest R2 is chosen",
        "as `judges`",
    )
    assert [*missing_inputs.missing_judges(config, "smoke")] == [line]
    for experiment in ("paper", "paper_tuned"):
        assert not list(missing_inputs.missing_judges(config, experiment))


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ({"loader": "timm", "model": "hf-hub:someone/vit"}, True),
        ({"loader": "timm", "checkpoint": "nowhere.pt"}, False),
        ({"loader": "open_clip", "pretrained": "openai"}, True),
        ({"loader": "open_clip", "pretrained": "nowhere.pt"}, False),
        ({"loader": "open_clip", "pretrained": "a/folder"}, False),
    ],
)
def test_weights_from_the_hub(spec, expected):
    config = with_changes(
        lambda raw: raw["backbones"].update(b={"family": "b", "model": "m", **spec})
    )
    assert external_files.is_from_hub(config, "b") == expected
    of_hub = {key: value for key, value in spec.items() if key != "checkpoint"}
    assert settings.weights_settings(config, "b") == {"model": "m", **of_hub}


def test_config_files_are_looked_at_before_snakemake_reads_them(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("mine.yaml").write_text("a: [1\nb: 2\n")
    for file, problem in (("mine.yaml", "line 2"), ("gone.yaml", "cannot be read")):
        with pytest.raises(SystemExit, match=rf"^error: {file} {problem}"):
            run.check_configfiles(["-n", "--configfile", file, "--cores", "2"])


def test_files_are_merged_as_snakemake_merges_them(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name, text in (
        ("a", "x: {y: 1, z: [1, 2]}\nv: 1"),
        ("b", "x: {z: [3]}\nv: {w: 2}"),
        ("c", "x: {y: {u: 1}}"),
    ):
        Path(f"{name}.yaml").write_text(text)
    expected = {"x": {"y": {"u": 1}, "z": [3]}, "v": {"w": 2}}
    file_of_key = {
        "x": "c.yaml",
        "x.y": "c.yaml",
        "x.y.u": "c.yaml",
        "x.z": "b.yaml",
        "v": "b.yaml",
        "v.w": "b.yaml",
    }
    assert settings.merge_config_files("a.yaml", "b.yaml", "c.yaml") == (
        expected,
        file_of_key,
    )
    Path("d.yaml").write_text("x: null\nv: 2")
    assert settings.merge_config_files("a.yaml", "b.yaml", "d.yaml")[1] == {
        "x": "d.yaml",
        "v": "d.yaml",
    }
    assert settings.merge_config_files("a.yaml") == (
        {"x": {"y": 1, "z": [1, 2]}, "v": 1},
        {},
    )


def test_keys_are_not_laid_over_an_entry_of_another_type(tmp_path):
    file = tmp_path / "mine.yaml"
    for section, name, words, taken in (
        ("datasets", "imagenette", "type: image_folder, root: x", "torchvision"),
        # It takes its type over from imagenette.
        ("datasets", "cifar100", "type: image_folder, root: x", "torchvision"),
        ("backbones", "vit_b16", "loader: open_clip, model: ViT-B-32", "timm"),
    ):
        file.write_text(f"{section}: {{ {name}: {{ {words} }} }}")
        with refused_naming("mine.yaml", f"{section}.{name}", taken, "another name"):
            settings.merge_config_files(ROOT / "config.yaml", file)
    file.write_text("datasets: { imagenette: { type: torchvision, root: x } }")
    config, _ = settings.merge_config_files(ROOT / "config.yaml", file)
    assert config["datasets"]["imagenette"]["root"] == "x"


def test_every_target_of_make_that_reads_the_config_takes_config():
    def command(target, *words):
        process = subprocess.run(
            ["make", "--no-print-directory", "-n", "-o", "setup", target, *words],
            cwd=ROOT,
            capture_output=True,
            text=True,
        )
        assert process.returncode == 0, process.stderr
        return " ".join(process.stdout.splitlines()[-1].split())

    for target in ("plan", "publish", "unused", "prune"):
        assert command(target, "CONFIG=a.yaml b.yaml").endswith(" a.yaml b.yaml"), (
            target
        )
    for target in ("run", "demo", "smoke"):
        assert command(target, "CONFIG=a.yaml b.yaml").endswith(
            " --configfile config.yaml a.yaml b.yaml"
        ), target
    on_a_cluster = command(
        "run", "EXPERIMENT=x", "PROFILE=profiles/slurm", "CONFIG=a.yaml"
    )
    files = "config.yaml profiles/slurm/compute.yaml a.yaml"
    assert on_a_cluster.endswith(f"run x --configfile {files} --profile profiles/slurm")


def test_the_schema_is_current():
    registry.extend(None)
    assert schema.PATH.read_text() == schema.schema_text(), "run `make schema`"
    assert schema.README.read_text() == schema.readme_text(), "run `make schema`"
    first = Path(ROOT / "config.yaml").read_text().splitlines()[0]
    assert first == f"# yaml-language-server: $schema={schema.PATH.relative_to(ROOT)}"
    of_overlays = "../../workflow/schemas/config.schema.json"
    for file in (ROOT / "config/experiments").glob("*.yaml"):
        first = file.read_text().splitlines()[0]
        assert first == f"# yaml-language-server: $schema={of_overlays}"


def test_the_schema_refuses_what_it_knows_and_admits_entries_from_outside():
    validator = jsonschema.Draft202012Validator(schema.schema())
    validator.check_schema(validator.schema)

    def errors(change):
        raw = copy.deepcopy(RAW)
        change(raw)
        return [
            ".".join(map(str, error.absolute_path))
            for error in validator.iter_errors(raw)
        ]

    assert errors(lambda raw: None) == []
    for file in (
        *(ROOT / "config/experiments").glob("*.yaml"),
        *(ROOT / "docs/examples").glob("*/config.yaml"),
    ):
        assert list(validator.iter_errors(yaml.safe_load(file.read_text()))) == [], file
    mine = {"type": "mine", "whatever": 1}

    def add_entries_from_outside(raw):
        raw["datasets"]["x"] = mine
        raw["metrics"]["mine"] = {"a": 1}
        raw["methods"]["x"] = {"objective": "mine", "wobble": 1}

    assert errors(add_entries_from_outside) == []
    assert errors(lambda raw: raw["datasets"]["emoji"].update(image_sise=1)) == [
        "datasets.emoji"
    ]
    assert errors(lambda raw: raw["metrics"]["probe"].update(D=1)) == ["metrics.probe"]
    assert errors(lambda raw: raw["methods"]["topk"].update(lr="fast")) == [
        "methods.topk.lr"
    ]
    assert errors(
        lambda raw: raw["experiments"].update({"A": raw["experiments"]["demo"]})
    ) == ["experiments"]


def test_an_extension_that_nothing_names_is_said(tmp_path, capsys, request):
    request.addfinalizer(lambda: registry.extend(None))
    for file in ("metrics/mine.py", "penalties/reins.py", "metrics/_helper.py"):
        (tmp_path / "ext" / file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "ext" / file).touch()
    overlay = tmp_path / "mine.yaml"
    overlay.write_text(f"extensions: {tmp_path / 'ext'}")
    config = settings.read_config(ROOT / "config.yaml", overlay)
    settings.warn_of_unnamed_extensions(config)
    assert capsys.readouterr().err.splitlines() == [
        f"warning: extensions: {entry} is not used, since {section} of the config does "
        "not name it"
        for entry, section in (("metric mine", "metrics"), ("penalty reins", "methods"))
    ]

"""A stage computes what is missing, and keeps what stands bit for bit.

It believes no damaged row.
"""

import json
import logging
import shutil
from collections import defaultdict
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from scoring.examples import (
    TinyBank,
    coder,
    codes_of,
    ms_by_definition,
    stages_of,
    write_activations,
)

from sae.bank.read import Bank
from sae.core import files, registry
from sae.core.errors import UserError
from sae.data import store
from sae.scoring import rows, stage
from sae.scoring.collect import collect
from sae.scoring.metrics import firing, independent, latents
from sae.scoring.subject import Subject

QUICK = {
    name: None for name in ("reconstruction", "firing", "monosemanticity", "purity")
}
PROBE = {"probe": {"C": [1.0], "max_passes": 20, "max_train": 50, "largest": 2}}
ALL = (
    QUICK
    | dict.fromkeys(("independent", "latents", "robustness", "rank_profile"))
    | PROBE
)


class Cell:
    """A tiny cell on disk, and ways to run the steps.

    It has activations, another backbone's, and a bank of four SAEs.

    Attributes:
        folder: of all of it.
        scores: folder of the cell's scores.
        bank: the bank.
        opened: paths of the SAEs that the last run opened, where `cell` made it.
    """

    def __init__(self, folder):
        self.folder = folder
        self.scores = folder / "scores/k4"
        self.opened = []
        write_activations(folder / "own", "b", grouped=True)
        write_activations(folder / "judge", "judge", d=5)
        self.bank = TinyBank(folder / "bank.json")
        self.bank.add("topk", coder=coder(0))
        self.bank.add(
            "reg1", {"lambda": 0.001}, coder=coder(1), penalty="l1", mask="all"
        )
        self.bank.add(
            "reg1", {"lambda": 0.003}, coder=coder(2), penalty="l1", mask="all"
        )
        self.bank.add(
            "reg1", {"lambda": 0.01}, status="diverged", penalty="l1", mask="all"
        )

    def run(self, name="score", metrics=QUICK, **options):
        """Run a stage; return {table: what it wrote}."""
        self.opened.clear()
        out = self.scores / name
        stage.run(
            name,
            self.bank.file,
            self.folder / "own",
            stage.StageSettings(metrics=metrics),
            out,
            **options,
        )
        return {
            table: files.read_parquet(out / f"{table}.parquet")
            for table in ("metrics", "curves", "latents")
        }

    def stored(self, name="score"):
        """Return {metric: {key: its records as text}} of the row stores of a stage."""
        stored = {}
        for file in (self.scores / ".rows" / name).glob("*.parquet"):
            rows_of_metric = stored[file.stem] = defaultdict(str)
            for record in pq.read_table(file).to_pylist():
                # Numbers are printed with all their digits, NaN as `nan`.
                rows_of_metric[record.pop("key")] += f"{record}\n"
        return stored

    def store_as_json(self, name="score"):
        """Replace the row stores of a stage by those of an earlier version.

        Each row was JSON in a cell of its own.
        """
        for file in (self.scores / ".rows" / name).glob("*.parquet"):
            json_rows = {}
            for record in pq.read_table(file).to_pylist():
                kinds = ("scalars", "curves", "latents")
                row = json_rows.setdefault(record["key"], {kind: {} for kind in kinds})
                lists = [record[of] for of in ("flags", "integers", "floats", "texts")]
                values = next((values for values in lists if values is not None), None)
                kind, score = record["table"], record["name"]
                if kind == "scalars":
                    row[kind][score] = values[0] if values else None
                elif kind == "curves":
                    row[kind].setdefault(score, {})[record["axis"]] = values
                elif kind is not None:
                    row[kind][score] = values
            texts = [json.dumps(row) for row in json_rows.values()]
            table = pa.table({"key": list(json_rows), "row": texts})
            files.write_parquet(file, table)

    def store_times(self):
        """Return {metric: when the row store of a metric of `score` was written}."""
        return {
            file.stem: file.stat().st_mtime_ns
            for file in (self.scores / ".rows/score").iterdir()
        }

    def written(self, name="score"):
        """Return {file: its bytes} of what a stage wrote."""
        return {file.name: file.read_bytes() for file in (self.scores / name).iterdir()}


@pytest.fixture
def cell(tmp_path, monkeypatch):
    """A cell that notes which SAEs are opened."""
    cell = Cell(tmp_path)
    open_sae = Bank.open

    def note_and_open(bank, sae):
        cell.opened.append(sae.path)
        return open_sae(bank, sae)

    monkeypatch.setattr(Bank, "open", note_and_open)
    return cell


def test_one_row_per_sae_and_split_with_what_made_it_and_its_scores(cell):
    metrics = cell.run()["metrics"]
    first = [*rows.KEY, "protocol", "swept", "objective", "penalty", "mask"]
    assert metrics.columns[:12].tolist() == first
    set_by_a_trial = metrics.drop_duplicates("method").set_index("method")["swept"]
    assert set_by_a_trial["topk"] == "" and set_by_a_trial["reg1"] == "lambda"
    assert len(metrics) == 8
    assert not metrics[["method", "trial", "split"]].duplicated().any()
    assert metrics["lambda"].isna().tolist() == [True] * 2 + [False] * 6

    diverged = metrics[metrics["status"] == "diverged"]
    assert len(diverged) == 2 and diverged["m"].eq(16).all()
    scores = diverged.drop(columns=metrics.columns[:16])
    assert scores.isna().all(axis=None)

    is_topk_on_test = (metrics["method"] == "topk") & (metrics["split"] == "test")
    row = metrics[is_topk_on_test].iloc[0]
    test = store.read(cell.folder / "own/test")
    sae = coder(0)
    dense = sae.encode(sae.open_inputs(test.embeddings)).matrix().toarray()
    ms = ms_by_definition(dense, test.embeddings)
    across = ms_by_definition(dense, test.embeddings, test.index["group"].to_numpy())
    assert row["ms_mean_alive"] == pytest.approx(np.nanmean(ms))
    assert row["ms_mean"] == pytest.approx(np.nansum(ms) / 16)
    assert row["ms_mean_alive_across_groups"] == pytest.approx(np.nanmean(across))
    fires = (dense > 0).sum(axis=0)
    assert row["dead"] == (fires == 0).sum()
    assert row["fires_below_10"] == (fires < 10).sum()
    assert row["n_images"] == 30
    assert row["n_k_over_m"] == 30 * 4 / 16
    assert row["images_per_latent"] == 60 / 16
    assert row["l0"] == fires.sum() / 30
    assert 0 < row["purity_binary"] <= 1


def test_what_stands_is_not_computed_again_and_is_kept_bit_for_bit(cell, monkeypatch):
    cell.run()
    assert len(cell.opened) == 3
    before = cell.written()
    stored = cell.stored()
    with monkeypatch.context() as patched:
        patched.setattr(store, "read", lambda folder: pytest.fail(f"{folder} is read"))
        cell.run()
    assert cell.opened == [] and cell.written() == before

    cell.bank.add("reg1", {"lambda": 0.0001}, coder=coder(3))
    metrics = cell.run()["metrics"]
    assert cell.opened == ["reg1/lambda0.0001/seed0/sae.safetensors"]
    assert len(metrics) == 10
    for metric, rows_now in cell.stored().items():
        assert len(rows_now) == len(stored[metric]) + 2
        assert stored[metric].items() <= rows_now.items()

    # Rows of what is gone go too.
    cell.bank.saes.pop(1)
    cell.bank.add("reg2", coder=coder(4))
    cell.run()
    assert {len(rows_now) for rows_now in cell.stored().values()} == {8}


def test_an_edited_metric_and_other_options_compute_their_own_rows_alone(
    cell, tmp_path
):
    extensions = tmp_path / "extensions"
    (extensions / "metrics").mkdir(parents=True)
    text = (
        "from sae.core.options import Options as Base\n"
        "STAGE, SPLITS, READS = None, None, None\n"
        "STAGE = 'score'\nSPLITS = ('test',)\nREADS = ()\n"
        "class Options(Base):\n    plus: int = 0\n"
        "def score(subject, split, options):\n"
        "    return {'mine': len(subject.codes(split)) + options.plus}\n"
    )
    (extensions / "metrics/mine.py").write_text(text)
    try:
        registry.extend(extensions)
        metrics = cell.run(metrics=QUICK | {"mine": None})["metrics"]
        assert metrics["mine"].dropna().unique().tolist() == [30]
        stored = cell.stored()
        edited = text.replace("+ options", "+ 1 + options")
        for plus, expected in ((0, 31), (5, 36)):
            (extensions / "metrics/mine.py").write_text(edited)
            registry.extend(extensions)
            times = cell.store_times()
            metrics = cell.run(metrics=QUICK | {"mine": {"plus": plus}})["metrics"]
            assert metrics["mine"].dropna().unique().tolist() == [expected]
            assert len(cell.opened) == 3

            stored_now = cell.stored()
            for name in QUICK:
                assert stored_now[name] == stored[name]
            times_now = cell.store_times()
            written = {name for name in times_now if times_now[name] != times[name]}
            assert written == {"mine"}
            assert not stored_now["mine"].keys() & stored["mine"].keys()
            stored = stored_now
    finally:
        registry.extend(None)


def changed_metrics(stored, stored_now):
    """Return the metrics whose rows have other keys now."""
    return {
        metric
        for metric, rows_now in stored_now.items()
        if rows_now.keys() != stored[metric].keys()
    }


def test_other_embeddings_are_other_rows_of_what_reads_them(cell):
    cell.run()
    stored = cell.stored()
    shutil.rmtree(cell.folder / "own")
    write_activations(cell.folder / "own", "b", grouped=True)
    manifest = files.read_json(cell.folder / "own/val/manifest.json")
    write_activations(cell.folder / "new", "b", grouped=True, seed=1)
    shutil.rmtree(cell.folder / "own/train")
    (cell.folder / "new/train").rename(cell.folder / "own/train")
    assert files.read_json(cell.folder / "own/val/manifest.json") == manifest
    cell.run()
    # It alone reads the training split.
    assert changed_metrics(stored, cell.stored()) == {"firing"}


def test_a_flipped_byte_in_the_row_store_never_gives_another_number(cell, caplog):
    cell.run()
    file = cell.scores / ".rows/score/purity.parquet"
    before = cell.written()
    content = file.read_bytes()
    size = len(content)
    for position in [*range(0, size, size // 20), size - 5, size - 1]:
        flipped = bytes([content[position] ^ 0x10])
        file.write_bytes(content[:position] + flipped + content[position + 1 :])
        caplog.clear()
        with caplog.at_level(logging.WARNING, "sae"):
            cell.run()
        assert "purity.parquet was altered" in caplog.text
        assert cell.written() == before
    file.write_bytes(content[: size // 2])
    cell.run()
    assert cell.written() == before and len(cell.opened) == 3


def test_a_row_that_was_edited_well_is_still_not_believed(cell):
    cell.run()
    file = cell.scores / ".rows/score/purity.parquet"
    before = cell.written()
    table = pd.read_parquet(file)
    is_edited = table["name"] == "purity_binary"
    assert is_edited.any()
    table.loc[is_edited, "floats"] = pd.Series([[1.0]] * len(table))
    table.to_parquet(file)
    cell.run()
    assert cell.written() == before and len(cell.opened) == 3


def test_rows_of_an_earlier_version_are_read_and_kept_as_columns(cell):
    judges = choose_judged(cell)
    stages = ("score", "robustness")
    for name in stages:
        cell.run(name, ALL, **judges)
    before = {name: (cell.written(name), cell.stored(name)) for name in stages}
    for name in stages:
        cell.store_as_json(name)
        assert cell.stored(name) != before[name][1]
        cell.run(name, ALL, **judges)
        assert cell.opened == []
        assert (cell.written(name), cell.stored(name)) == before[name]


def test_a_job_that_stops_keeps_what_it_has(cell, monkeypatch):
    score = registry.load("metric", "purity").score
    calls = []

    def score_three_times(*arguments):
        calls.append(arguments)
        if len(calls) > 3:
            raise KeyboardInterrupt
        return score(*arguments)

    with monkeypatch.context() as patched:
        patched.setattr("sae.scoring.metrics.purity.score", score_three_times)
        with pytest.raises(KeyboardInterrupt):
            cell.run()
    assert len(cell.stored()["purity"]) == 3
    cell.run()
    assert cell.opened == [cell.bank.saes[1].path, cell.bank.saes[2].path]


def choose_judged(cell, trial="lambda0.001", at=True):
    """Let a baseline and one trial be chosen, so that they are judged.

    Args:
        trial: of `reg1`; with None it falls back.
        at: whether an `at` method follows.

    Returns:
        What a stage needs to be told of the judge.
    """
    head = {
        "dataset": "d",
        "backbone": "b",
        "k": 4,
        "seed": 0,
        "protocol": "paper",
        "tolerance": 0.0,
        "bar": 0.5,
        "r2": 0.5,
    }
    baseline = {"method": "topk", "trial": "default", "status": "chosen"}
    status = "chosen" if trial else "fallback"
    choices = [
        head | baseline,
        head | {"method": "reg1", "trial": trial, "status": status},
    ]
    files.write_parquet(cell.scores / "selection.parquet", rows.table(choices, ()))
    if at:
        cell.bank.add("reg1_all", {"lambda": 0.001}, coder=coder(7))
    chosen = {(choice["method"], choice["trial"]) for choice in choices}
    cell.bank.saes[:] = [
        replace(sae, chosen=(sae.method, sae.name) in chosen) for sae in cell.bank.saes
    ]
    cell.bank.write()
    return {"others": {"judge": cell.folder / "judge"}}


def test_judged_saes_get_the_dear_metrics_too(cell):
    judges = choose_judged(cell)
    tables = cell.run("score", ALL, **judges)
    metrics = tables["metrics"]
    assert len(cell.opened) == 4
    scored = metrics.groupby("method")["r2"].count().to_dict()
    assert scored == {"reg1": 4, "reg1_all": 2, "topk": 2}
    sae_and_split = metrics.set_index(["method", "trial", "split"])
    independent_ms = sae_and_split["ms_mean_alive_independent"].dropna()
    assert set(independent_ms.index) == {
        ("topk", "default", "test"),
        ("reg1", "lambda0.001", "test"),
    }
    latent_rows = tables["latents"]
    assert latent_rows.groupby("method").size().to_dict() == {"reg1": 16, "topk": 16}
    assert latent_rows.columns.tolist() == [
        *rows.KEY,
        "latent",
        "ms",
        "ms_across_groups",
        "ms_by_judge",
        "n_active",
        "purity",
        "top_class",
    ]

    # A judge of the same family is named, and is no independent one.
    relatives = {"independent": {"families": {"b": "conv", "judge": "conv"}}}
    row = cell.run("score", relatives, **judges)["metrics"].iloc[0]
    assert row["ms_mean_alive_by_judge"] > 0 and "ms_mean_alive_independent" not in row

    curves = cell.run("robustness", ALL)["curves"]
    assert curves.groupby(["method", "curve"]).size().index.tolist() == [
        (method, curve)
        for method in ("reg1", "topk")
        for curve in ("rank_profile", "robustness")
    ]
    probes = cell.run("probe", ALL)
    assert probes["curves"]["x"].tolist() == [1, 2] * 2
    assert probes["metrics"]["probe_top1"].notna().all()


@pytest.fixture
def join(cell, tmp_path):
    """A function that joins what a cell's stages gave.

    Its argument is the reference of the probe. It returns a function that reads one of
    the tables.
    """

    def write(top1):
        reference = tmp_path / "embeddings.json"
        files.write_json(reference, {"dataset": "d", "backbone": "b", "top1": top1})
        collect([cell.scores], stages_of(cell.scores), [reference], tmp_path / "out")
        return lambda table: pd.read_parquet(tmp_path / f"out/{table}.parquet")

    return write


def test_other_embeddings_of_a_judge_are_other_rows_of_what_reads_it(cell):
    judges = choose_judged(cell)
    cell.run("score", ALL, **judges)
    stored = cell.stored("score")
    write_activations(cell.folder / "judge", "judge", d=5, seed=1)
    cell.run("score", ALL, **judges)
    changed = changed_metrics(stored, cell.stored("score"))
    assert changed == {"independent", "latents"}


def test_what_a_metric_sees_itself_is_no_judge_of_any_other(cell):
    judges = choose_judged(cell)["others"]
    of_detection = {"least_train": 2, "least_test": 2}
    metrics = {"independent": None, "latents": None, "detection": of_detection}
    with_pixels = {**metrics, "pixels": {"detection": of_detection}}
    before = cell.run("score", metrics, others=judges)
    stored = cell.stored()
    write_activations(cell.folder / "seen", "thumbnail", d=7)
    seen = {**judges, "thumbnail": cell.folder / "seen"}
    tables = cell.run("score", with_pixels, others=seen)

    # What was there stays as it was, number for number.
    stored_now = cell.stored()
    pixels = stored_now.pop("pixels")
    assert stored_now == stored and len(pixels) == 2
    metrics_now = tables["metrics"]
    of_pixels = metrics_now.pop("detection_pixels")
    pd.testing.assert_frame_equal(metrics_now, before["metrics"])
    pd.testing.assert_frame_equal(tables["latents"], before["latents"])
    # Of the two judged SAEs on test, and another number than the judge's.
    judged = metrics_now["ms_mean_alive_independent"].notna()
    assert of_pixels.notna().equals(judged) and of_pixels.between(0, 1).sum() == 2
    assert not np.isclose(of_pixels, metrics_now["detection"]).any()

    # Where there are no images the column is absent.
    without_images = cell.run("score", with_pixels, others=judges)["metrics"]
    pd.testing.assert_frame_equal(without_images, before["metrics"])


def test_an_experiment_is_joined_into_tidy_tables(cell, join, tmp_path):
    judges = choose_judged(cell)
    cell.run("score", ALL, **judges)
    cell.run("robustness", ALL)
    cell.run("probe", ALL)
    joined = join(top1=0.75)

    metrics = joined("metrics")
    first = [
        *rows.KEY,
        "protocol",
        "swept",
        "objective",
        "penalty",
        "mask",
        "lambda",
        "status",
        "selected",
        "selection",
        "m",
        "steps",
    ]
    assert metrics.columns[: len(first)].tolist() == first
    methods = ["topk"] * 2 + ["reg1"] * 6 + ["reg1_all"] * 2
    assert metrics["method"].tolist() == methods
    selection = ["chosen"] * 4 + ["not_selected"] * 4 + ["chosen"] * 2
    assert metrics["selection"].tolist() == selection
    assert metrics["m"].dtype == metrics["seed"].dtype == np.int64
    assert metrics["lambda"].dtype == np.float64
    scored = files.read_parquet(cell.scores / "score/metrics.parquet")
    pd.testing.assert_frame_equal(metrics[scored.columns], scored, check_dtype=False)
    sae_and_split = metrics.set_index(["method", "trial", "split"])
    assert sae_and_split["probe_top1_raw"].dropna().to_dict() == {
        ("topk", "default", "test"): 0.75,
        ("reg1", "lambda0.001", "test"): 0.75,
    }
    csv = pd.read_csv(tmp_path / "out/metrics.csv")
    np.testing.assert_array_equal(csv["ms_mean"], metrics["ms_mean"])

    curves = joined("curves")
    assert curves.columns.tolist() == [*rows.KEY, "curve", "x", "y", "selected"]
    assert curves["selected"].all()
    assert set(curves["curve"]) == {"robustness", "rank_profile", "probe"}
    assert len(joined("latents")) == 32
    assert len(joined("selection")) == 2

    # Where every integer is known they stay integers.
    cell.bank.saes[:] = [sae for sae in cell.bank.saes if sae.ok]
    cell.bank.add("topk", seed=1, coder=coder(9))
    cell.run("score", QUICK)
    metrics = join(top1=0.75)("metrics")
    for name in ("dead", "dead_train", "n_images"):
        assert metrics[name].dtype == np.int64


def test_without_labels_there_is_no_column_that_needs_them_and_without_penalties_none_is_lost(
    cell, join
):
    write_activations(cell.folder / "own", "b", labels=False)
    cell.bank.saes.clear()
    cell.bank.add("other", coder=coder(0))
    choose_judged(cell, at=False)
    cell.run("score", ALL)
    cell.run("probe", ALL)
    joined = join(top1=None)
    metrics = joined("metrics")
    assert not [
        name
        for name in metrics
        if name.startswith(("purity", "probe")) or "independent" in name
    ]
    assert metrics["lambda"].dtype == np.float64
    assert metrics["lambda"].isna().all() and metrics["penalty"].isna().all()
    assert joined("curves").empty


def test_a_threshold_coder_is_scored_by_its_own_codes(cell):
    cell.bank.saes.clear()
    cell.bank.add("topk", coder=coder(0, threshold=0.4))
    choose_judged(cell, trial=None, at=False)
    row = cell.run("score", QUICK)["metrics"].set_index("split").loc["test"]
    curves = cell.run("robustness", ALL)["curves"].set_index("curve")
    assert (
        curves["x"]["robustness_own"] == row["l0"] != 4
        and curves["y"]["robustness_own"] == row["nmse"]
    )
    assert cell.run("probe", ALL)["curves"]["y"].between(0, 1).all()


def test_an_unknown_metric_and_a_judge_of_other_images_are_named(cell):
    with pytest.raises(UserError, match="no metric 'puriti'"):
        cell.run(metrics={"puriti": None})
    judges = choose_judged(cell)
    shutil.rmtree(cell.folder / "judge/test")
    shutil.copytree(cell.folder / "own/val", cell.folder / "judge/test")
    with pytest.raises(UserError, match="holds other images"):
        cell.run("score", ALL, **judges)


@pytest.fixture
def judged_latents():
    """An SAE of 6 latents on 40 images in groups of 4, and two judges, `b` and `c`.

    Latent 2 never fires.
    """
    rng = np.random.default_rng(1)
    dense = np.maximum(rng.normal(size=(40, 6)), 0) * (rng.random((40, 6)) < 0.3)
    dense[:, 2] = 0
    embeddings = rng.normal(size=(40, 5))
    seen_by_b = rng.normal(size=(40, 7))
    labels = rng.integers(0, 3, 40)
    seen_by_c = rng.normal(size=(40, 3))
    return JudgedLatents(dense, embeddings, {"b": seen_by_b, "c": seen_by_c}, labels)


@dataclass
class JudgedLatents:
    """Codes (40, 6), embeddings, {judge: its embeddings} and labels of 40 images."""

    dense: np.ndarray
    embeddings: np.ndarray
    judges: dict[str, np.ndarray]
    labels: np.ndarray

    def subject(self, groups=None):
        """Return the subject; with `groups`, (40,), its images are in groups."""
        index = pd.DataFrame(
            {
                "label": self.labels,
                "label_name": [f"class {label}" for label in self.labels],
                "group": range(40) if groups is None else groups,
            }
        )
        manifest = {"dataset": {"grouped": groups is not None}}
        images = store.Activations(self.embeddings, index, manifest)
        others = {judge: {"test": x} for judge, x in self.judges.items()}
        sae = coder(0, d=5, m=6, k=2)
        subject = Subject(sae, {"test": images}, others, backbone="a")
        subject.once(("codes", "test", None), lambda: codes_of(self.dense))
        return subject


def test_each_latent_has_its_ms_by_each_judge_its_purity_and_its_top_class(
    judged_latents,
):
    dense = judged_latents.dense
    labels = judged_latents.labels
    columns = latents.score(judged_latents.subject(), "test", None)
    table = pd.DataFrame({name: column.values for name, column in columns.items()})
    ms = ms_by_definition(dense, judged_latents.embeddings)
    np.testing.assert_allclose(table["ms"], ms, atol=1e-12)
    for judge, x in judged_latents.judges.items():
        ms = ms_by_definition(dense, x)
        np.testing.assert_allclose(table[f"ms_by_{judge}"], ms, atol=1e-12)
    assert table["n_active"].tolist() == (dense > 0).sum(axis=0).tolist()
    for latent in (0, 1, 3, 4, 5):
        counts = np.bincount(labels[dense[:, latent] > 0], minlength=3)
        assert table["top_class"][latent] == f"class {counts.argmax()}"
        assert table["purity"][latent] == pytest.approx(counts.max() / counts.sum())
    assert table["top_class"][2] is None or pd.isna(table["top_class"][2])


def test_judges_of_another_family_are_independent(judged_latents):
    subject = judged_latents.subject()
    by_b, by_c = (
        np.nanmean(ms_by_definition(judged_latents.dense, x))
        for x in judged_latents.judges.values()
    )
    for families, judges in (
        ({"a": "one", "b": "two", "c": "one"}, [by_b]),
        ({"a": "one", "b": "two", "c": "two"}, [by_b, by_c]),
        (None, [by_b, by_c]),
    ):
        options = independent.Options(families=families)
        scores = independent.score(subject, "test", options)
        assert scores["ms_mean_alive_by_b"] == pytest.approx(by_b)
        assert scores["ms_mean_alive_by_c"] == pytest.approx(by_c)
        mean = pytest.approx(np.mean(judges))
        assert scores["ms_mean_alive_independent"] == mean
    relatives = independent.Options(families=dict.fromkeys("abc", "one"))
    scores = independent.score(subject, "test", relatives)
    assert "ms_mean_alive_independent" not in scores


def test_across_groups_pairs_of_one_group_do_not_count(judged_latents):
    groups = np.arange(40) // 4
    subject = judged_latents.subject(groups)
    options = independent.Options(families={"a": "one", "b": "two", "c": "one"})
    scores = independent.score(subject, "test", options)
    by_b = ms_by_definition(judged_latents.dense, judged_latents.judges["b"], groups)
    mean = pytest.approx(np.nanmean(by_b))
    assert scores["ms_mean_alive_independent_across_groups"] == mean


def test_firing_counts_are_those_by_hand():
    dense = np.zeros((12, 5))
    for latent, images in enumerate((0, 1, 2, 9, 10)):
        dense[:images, latent] = 1.0
    data = store.Activations(np.zeros((12, 3)), pd.DataFrame(), {})
    subject = Subject(coder(0, d=3, m=5, k=2), {"train": data, "test": data})
    subject.once(("codes", "test", None), lambda: codes_of(dense))
    subject.once(("codes", "train", None), lambda: codes_of(dense[1:]))
    assert firing.score(subject, "test", None) == {
        "dead": 1,
        "fires_1": 1,
        "fires_below_10": 4,
        "alive": 3,
        "n_active_median": 2,
        "dead_train": 2,
        "n_images": 12,
        "n_k_over_m": 12 * 2 / 5,
        "images_per_latent": 12 / 5,
        # 1, 2, 9 and 10 of 22 firings; 9 of the 10 images are those of another.
        "effective": pytest.approx(0.5904307),
        "nested": 1,
        "copies": 2 / 3,
    }

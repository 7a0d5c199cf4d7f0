"""A stage computes what is missing, keeps what stands bit for bit, and believes no damaged row."""

import logging
import shutil
from dataclasses import replace

import numpy as np
import pandas as pd
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
    """A tiny cell on disk: activations, another backbone's, a bank of four SAEs, and ways to run the steps."""

    def __init__(self, folder):
        self.folder, self.scores = folder, folder / "scores/k4"
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
        self.opened.clear()
        out = self.scores / name
        stage.run(
            name,
            self.bank.file,
            self.folder / "own",
            stage.Settings(metrics=metrics),
            out,
            **options,
        )
        return {
            table: files.read_parquet(out / f"{table}.parquet")
            for table in ("metrics", "curves", "latents")
        }

    def stored(self, name="score"):
        """{metric: {key: row}} of the row store."""
        found = (self.scores / ".rows" / name).glob("*.parquet")
        return {
            file.stem: dict(pd.read_parquet(file)[["key", "row"]].to_numpy())
            for file in found
        }

    def written(self, name="score"):
        return {file.name: file.read_bytes() for file in (self.scores / name).iterdir()}


@pytest.fixture
def cell(tmp_path, monkeypatch):
    made, load = Cell(tmp_path), Bank.open

    def opening(bank, entry):
        made.opened.append(entry.path)
        return load(bank, entry)

    monkeypatch.setattr(Bank, "open", opening)
    return made


def test_one_row_per_sae_and_split_with_what_made_it_and_its_scores(cell):
    got = cell.run()["metrics"]
    assert got.columns[:11].tolist() == [
        *rows.KEY,
        "protocol",
        "objective",
        "penalty",
        "mask",
    ]
    assert (
        got[["method", "trial", "split"]].drop_duplicates().shape == (8, 3)
        and len(got) == 8
    )
    assert got["lambda"].isna().tolist() == [True] * 2 + [False] * 6
    lost = got[got["status"] == "diverged"]
    assert (
        len(lost) == 2
        and lost["m"].eq(16).all()
        and lost.drop(columns=got.columns[:15]).isna().all(axis=None)
    )
    row = got[(got["method"] == "topk") & (got["split"] == "test")].iloc[0]
    test, sae = store.read(cell.folder / "own/test"), coder(0)
    dense = sae.encode(sae.open_inputs(test.embeddings)).matrix().toarray()
    ms = ms_by_definition(dense, test.embeddings)
    across = ms_by_definition(dense, test.embeddings, test.index["group"].to_numpy())
    assert row["ms_mean_alive"] == pytest.approx(np.nanmean(ms)) and row[
        "ms_mean"
    ] == pytest.approx(np.nansum(ms) / 16)
    assert row["ms_mean_alive_across_groups"] == pytest.approx(np.nanmean(across))
    fires = (dense > 0).sum(axis=0)
    assert (row["dead"], row["fires_below_10"]) == (
        (fires == 0).sum(),
        (fires < 10).sum(),
    )
    assert (row["n_images"], row["n_k_over_m"], row["images_per_latent"]) == (
        30,
        30 * 4 / 16,
        60 / 16,
    )
    assert row["l0"] == fires.sum() / 30 and 0 < row["purity_binary"] <= 1


def test_what_stands_is_not_computed_again_and_is_kept_bit_for_bit(cell, monkeypatch):
    cell.run()
    assert len(cell.opened) == 3
    before, stored = cell.written(), cell.stored()
    with monkeypatch.context() as patched:
        patched.setattr(store, "read", lambda folder: pytest.fail(f"{folder} is read"))
        cell.run()
    assert cell.opened == [] and cell.written() == before
    cell.bank.add("reg1", {"lambda": 0.0001}, coder=coder(3))
    got = cell.run()["metrics"]
    assert cell.opened == ["reg1/lambda0.0001/seed0/sae.safetensors"] and len(got) == 10
    after = cell.stored()
    for metric, kept in stored.items():
        assert (
            len(after[metric]) == len(kept) + 2
            and kept.items() <= after[metric].items()
        )
    cell.bank.saes.pop(1)
    cell.bank.add("reg2", coder=coder(4))
    cell.run()
    assert {len(kept) for kept in cell.stored().values()} == {
        8
    }  # Rows of what is gone go too.


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
        "def score(subject, split, options):\n    return {'mine': len(subject.codes(split)) + options.plus}\n"
    )
    (extensions / "metrics/mine.py").write_text(text)
    try:
        registry.extend(extensions)
        got = cell.run(metrics=QUICK | {"mine": None})["metrics"]
        assert got["mine"].dropna().unique().tolist() == [30]
        stored = cell.stored()
        for edit, plus, expected in (
            (("+ options", "+ 1 + options"), 0, 31),
            (("", ""), 5, 36),
        ):
            text = text.replace(*edit) if edit[0] else text
            (extensions / "metrics/mine.py").write_text(text)
            registry.extend(extensions)
            times = {
                f.stem: f.stat().st_mtime_ns
                for f in (cell.scores / ".rows/score").iterdir()
            }
            got = cell.run(metrics=QUICK | {"mine": {"plus": plus}})["metrics"]
            assert (
                got["mine"].dropna().unique().tolist() == [expected]
                and len(cell.opened) == 3
            )
            after = cell.stored()
            assert {name: after[name] for name in QUICK} == {
                name: stored[name] for name in QUICK
            }
            now = {
                f.stem: f.stat().st_mtime_ns
                for f in (cell.scores / ".rows/score").iterdir()
            }
            assert {name for name in now if now[name] != times[name]} == {"mine"}
            assert not after["mine"].keys() & stored["mine"].keys()
            stored = after
    finally:
        registry.extend(None)


def test_other_embeddings_are_other_rows_of_what_reads_them(cell):
    cell.run()
    stored = cell.stored()
    shutil.rmtree(cell.folder / "own")
    write_activations(cell.folder / "own", "b", grouped=True)
    keep = files.read_json(cell.folder / "own/val/manifest.json")
    write_activations(cell.folder / "new", "b", grouped=True, seed=1)
    shutil.rmtree(cell.folder / "own/train")
    (cell.folder / "new/train").rename(cell.folder / "own/train")
    assert files.read_json(cell.folder / "own/val/manifest.json") == keep
    cell.run()
    changed = {
        name
        for name, of_metric in cell.stored().items()
        if of_metric.keys() != stored[name].keys()
    }
    assert changed == {"firing"}  # It alone reads the training split.


def test_a_flipped_byte_in_the_row_store_never_gives_another_number(cell, caplog):
    cell.run()
    file, before = cell.scores / ".rows/score/purity.parquet", cell.written()
    whole = file.read_bytes()
    for position in [
        *range(0, len(whole), len(whole) // 20),
        len(whole) - 5,
        len(whole) - 1,
    ]:
        file.write_bytes(
            whole[:position] + bytes([whole[position] ^ 0x10]) + whole[position + 1 :]
        )
        caplog.clear()
        with caplog.at_level(logging.WARNING, "sae"):
            cell.run()
        assert "purity.parquet was altered" in caplog.text and cell.written() == before
    file.write_bytes(whole[: len(whole) // 2])
    cell.run()
    assert cell.written() == before and len(cell.opened) == 3


def test_a_row_that_was_edited_well_is_still_not_believed(cell):
    cell.run()
    file, before = cell.scores / ".rows/score/purity.parquet", cell.written()
    table = pd.read_parquet(file)
    table["row"] = table["row"].str.replace('"purity_binary": 0', '"purity_binary": 1')
    table.to_parquet(file)
    cell.run()
    assert cell.written() == before and len(cell.opened) == 3


def test_a_job_that_stops_keeps_what_it_has(cell, monkeypatch):
    whole, count = registry.load("metric", "purity").score, []

    def stops(*arguments):
        count.append(1)
        if len(count) > 3:
            raise KeyboardInterrupt
        return whole(*arguments)

    with monkeypatch.context() as patched:
        patched.setattr("sae.scoring.metrics.purity.score", stops)
        with pytest.raises(KeyboardInterrupt):
            cell.run()
    assert len(cell.stored()["purity"]) == 3
    cell.run()
    assert cell.opened == [cell.bank.saes[1].path, cell.bank.saes[2].path]


def judge(cell, trial="lambda0.001", at=True):
    """Let a baseline and one trial be judged, and an `at` method follow; the selection, and where judges lie."""
    head = {
        "dataset": "d",
        "backbone": "b",
        "k": 4,
        "seed": 0,
        "protocol": "paper",
        "tolerance": 0.0,
        "bar": 0.5,
    }
    choice = [
        head | {"method": "topk", "trial": "default", "status": "chosen", "r2": 0.5}
    ]
    choice.append(
        head
        | {
            "method": "reg1",
            "trial": trial,
            "status": "chosen" if trial else "fallback",
            "r2": 0.5,
        }
    )
    files.write_parquet(cell.scores / "selection.parquet", rows.table(choice, ()))
    if at:
        cell.bank.add("reg1_all", {"lambda": 0.001}, coder=coder(7))
    chosen = {(row["method"], row["trial"]) for row in choice}
    cell.bank.saes[:] = [
        replace(e, judged=(e.method, e.name) in chosen) for e in cell.bank.saes
    ]
    cell.bank.write()
    return {"others": {"judge": cell.folder / "judge"}}


def test_judged_saes_get_the_dear_metrics_too(cell):
    judges = judge(cell)
    got = cell.run("score", ALL, **judges)
    assert len(cell.opened) == 4 and got["metrics"].groupby("method")[
        "r2"
    ].count().to_dict() == {
        "reg1": 4,
        "reg1_all": 2,
        "topk": 2,
    }
    independent = (
        got["metrics"]
        .set_index(["method", "trial", "split"])["ms_mean_alive_independent"]
        .dropna()
    )
    assert set(independent.index) == {
        ("topk", "default", "test"),
        ("reg1", "lambda0.001", "test"),
    }
    assert got["latents"].groupby("method").size().to_dict() == {"reg1": 16, "topk": 16}
    assert got["latents"].columns.tolist() == [
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
    siblings = {"independent": {"families": {"b": "conv", "judge": "conv"}}}
    row = cell.run("score", siblings, **judges)["metrics"].iloc[0]
    assert row["ms_mean_alive_by_judge"] > 0 and "ms_mean_alive_independent" not in row
    curves = cell.run("robustness", ALL)["curves"]
    assert curves.groupby(["method", "curve"]).size().index.tolist() == [
        (method, curve)
        for method in ("reg1", "topk")
        for curve in ("rank_profile", "robustness")
    ]
    probes = cell.run("probe", ALL)
    assert (
        probes["curves"]["x"].tolist() == [1, 2] * 2
        and probes["metrics"]["probe_top1"].notna().all()
    )


def test_an_experiment_is_joined_into_tidy_tables(cell, tmp_path):
    judges = judge(cell)
    cell.run("score", ALL, **judges)
    stored = cell.stored("score")
    write_activations(cell.folder / "judge", "judge", d=5, seed=1)
    cell.run("score", ALL, **judges)
    changed = {
        name
        for name, kept in cell.stored("score").items()
        if kept.keys() != stored[name].keys()
    }
    assert changed == {"independent", "latents"}
    cell.run("robustness", ALL)
    cell.run("probe", ALL)
    files.write_json(
        tmp_path / "embeddings.json", {"dataset": "d", "backbone": "b", "top1": 0.75}
    )
    collect(
        [cell.scores],
        stages_of(cell.scores),
        [tmp_path / "embeddings.json"],
        tmp_path / "out",
    )
    got = pd.read_parquet(tmp_path / "out/metrics.parquet")
    first = [
        *rows.KEY,
        "protocol",
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
    assert got.columns[: len(first)].tolist() == first
    assert got["method"].tolist() == ["topk"] * 2 + ["reg1"] * 6 + ["reg1_all"] * 2
    assert (
        got["selection"].tolist()
        == ["chosen"] * 4 + ["not_selected"] * 4 + ["chosen"] * 2
    )
    assert (
        got["m"].dtype == got["seed"].dtype == np.int64
        and got["lambda"].dtype == np.float64
    )
    scored = files.read_parquet(cell.scores / "score/metrics.parquet")
    pd.testing.assert_frame_equal(got[scored.columns], scored, check_dtype=False)
    raw = (
        got.set_index(["method", "trial", "split"])["probe_top1_raw"].dropna().to_dict()
    )
    assert raw == {
        ("topk", "default", "test"): 0.75,
        ("reg1", "lambda0.001", "test"): 0.75,
    }
    csv = pd.read_csv(tmp_path / "out/metrics.csv")
    np.testing.assert_array_equal(csv["ms_mean"], got["ms_mean"])
    curves = pd.read_parquet(tmp_path / "out/curves.parquet")
    assert (
        curves.columns.tolist() == [*rows.KEY, "curve", "x", "y", "selected"]
        and curves["selected"].all()
    )
    assert set(curves["curve"]) == {"robustness", "rank_profile", "probe"}
    assert len(pd.read_parquet(tmp_path / "out/latents.parquet")) == 32
    assert len(pd.read_parquet(tmp_path / "out/selection.parquet")) == 2
    # Where every integer is known they stay integers.
    cell.bank.saes[:] = [entry for entry in cell.bank.saes if entry.ok]
    cell.bank.add("topk", seed=1, coder=coder(9))
    cell.run("score", QUICK)
    collect(
        [cell.scores],
        stages_of(cell.scores),
        [tmp_path / "embeddings.json"],
        tmp_path / "out",
    )
    got = pd.read_parquet(tmp_path / "out/metrics.parquet")
    assert (
        got["dead"].dtype
        == got["dead_train"].dtype
        == got["n_images"].dtype
        == np.int64
    )


def test_without_labels_there_is_no_column_that_needs_them_and_without_penalties_none_is_lost(
    cell, tmp_path
):
    write_activations(cell.folder / "own", "b", labels=False)
    cell.bank.saes.clear()
    cell.bank.add("other", coder=coder(0))
    judge(cell, at=False)
    cell.run("score", ALL)
    cell.run("probe", ALL)
    files.write_json(
        tmp_path / "embeddings.json", {"dataset": "d", "backbone": "b", "top1": None}
    )
    collect(
        [cell.scores],
        stages_of(cell.scores),
        [tmp_path / "embeddings.json"],
        tmp_path / "out",
    )
    got = pd.read_parquet(tmp_path / "out/metrics.parquet")
    assert not [
        c for c in got if c.startswith(("purity", "probe")) or "independent" in c
    ]
    assert (
        got["lambda"].dtype == np.float64
        and got["lambda"].isna().all()
        and got["penalty"].isna().all()
    )
    assert pd.read_parquet(tmp_path / "out/curves.parquet").empty


def test_a_threshold_coder_is_scored_by_its_own_codes(cell):
    cell.bank.saes.clear()
    cell.bank.add("topk", coder=coder(0, threshold=0.4))
    judge(cell, trial=None, at=False)
    row = cell.run("score", QUICK)["metrics"].set_index("split").loc["test"]
    curves = cell.run("robustness", ALL)["curves"].set_index("curve")
    assert (
        curves["x"]["robustness_own"] == row["l0"] != 4
        and curves["y"]["robustness_own"] == row["nmse"]
    )
    assert cell.run("probe", ALL)["curves"]["y"].between(0, 1).all()


def test_mistakes_are_named(cell):
    with pytest.raises(UserError, match="no metric 'puriti'"):
        cell.run(metrics={"puriti": None})
    judges = judge(cell)
    shutil.rmtree(cell.folder / "judge/test")
    shutil.copytree(cell.folder / "own/val", cell.folder / "judge/test")
    with pytest.raises(UserError, match="holds other images"):
        cell.run("score", ALL, **judges)


def test_latents_are_judged_by_other_embeddings():
    rng = np.random.default_rng(1)
    dense = np.maximum(rng.normal(size=(40, 6)), 0) * (rng.random((40, 6)) < 0.3)
    dense[:, 2] = 0
    own, other = rng.normal(size=(40, 5)), rng.normal(size=(40, 7))
    labels = rng.integers(0, 3, 40)
    index = pd.DataFrame(
        {"label": labels, "label_name": [f"class {c}" for c in labels]}
    )
    data = store.Activations(own, index, {"dataset": {"grouped": False}})
    others = {"b": {"test": other}, "c": {"test": rng.normal(size=(40, 3))}}
    subject = Subject(coder(0, d=5, m=6, k=2), {"test": data}, others, backbone="a")
    subject.once(("codes", "test", None), lambda: codes_of(dense))
    table = pd.DataFrame(
        {
            name: column.values
            for name, column in latents.score(subject, "test", None).items()
        }
    )
    np.testing.assert_allclose(table["ms"], ms_by_definition(dense, own), atol=1e-12)
    expected = ms_by_definition(dense, other)
    np.testing.assert_allclose(table["ms_by_b"], expected, atol=1e-12)
    by_c = np.nanmean(ms_by_definition(dense, others["c"]["test"]))
    for families, judges in (
        ({"a": "one", "b": "two", "c": "one"}, [np.nanmean(expected)]),
        ({"a": "one", "b": "two", "c": "two"}, [np.nanmean(expected), by_c]),
        (None, [np.nanmean(expected), by_c]),
    ):
        summary = independent.score(
            subject, "test", independent.Options(families=families)
        )
        assert summary["ms_mean_alive_by_b"] == pytest.approx(np.nanmean(expected))
        assert summary["ms_mean_alive_by_c"] == pytest.approx(by_c)
        assert summary["ms_mean_alive_independent"] == pytest.approx(np.mean(judges))
    # Without pairs of one group, by hand.
    index["group"] = np.arange(40) // 4
    grouped = store.Activations(own, index, {"dataset": {"grouped": True}})
    of_groups = Subject(subject.coder, {"test": grouped}, others, backbone="a")
    of_groups.once(("codes", "test", None), lambda: codes_of(dense))
    summary = independent.score(
        of_groups,
        "test",
        independent.Options(families={"a": "one", "b": "two", "c": "one"}),
    )
    by_hand = np.nanmean(ms_by_definition(dense, other, index["group"].to_numpy()))
    assert summary["ms_mean_alive_independent_across_groups"] == pytest.approx(by_hand)
    relatives = independent.Options(families=dict.fromkeys("abc", "one"))
    assert "ms_mean_alive_independent" not in independent.score(
        subject, "test", relatives
    )
    assert table["n_active"].tolist() == (dense > 0).sum(axis=0).tolist()
    for latent in (0, 1, 3, 4, 5):
        counts = np.bincount(labels[dense[:, latent] > 0], minlength=3)
        assert table["top_class"][latent] == f"class {counts.argmax()}"
        assert table["purity"][latent] == pytest.approx(counts.max() / counts.sum())
    assert table["top_class"][2] is None or pd.isna(table["top_class"][2])


def test_firing_counts_by_hand():
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
    }

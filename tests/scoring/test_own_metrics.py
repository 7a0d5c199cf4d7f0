"""What a newcomer's metric gives is joined well.

What is wrong with it is said in one line.
"""

import logging
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from scoring.examples import coder, stages_of
from scoring.test_stage import Cell, choose_judged
from support.errors import refused_naming

import sae
from sae.core import files, registry
from sae.core.errors import UserError
from sae.data import store
from sae.scoring import rows
from sae.scoring.collect import collect

HEAD = {"STAGE": "score", "SPLITS": ("val", "test"), "READS": ()}
IMPORTS = "import random\nimport numpy as np\nimport torch\nfrom sae.scoring.subject import Curve, PerLatent\n"


@pytest.fixture
def cell(tmp_path):
    return Cell(tmp_path)


@pytest.fixture
def write_metrics(tmp_path):
    """Return a function that writes metrics of one's own.

    Its arguments are {name: what `score` returns, as code}, or that and other
    constants; a constant that is "missing" is left out. It returns the metrics for a
    stage.
    """
    folder = tmp_path / "extensions/metrics"
    folder.mkdir(parents=True)

    def write(**metrics):
        for name, definition in metrics.items():
            if isinstance(definition, str):
                definition = (definition, {})
            returned, constants = definition
            head = "".join(
                f"{key} = {value!r}\n"
                for key, value in (HEAD | constants).items()
                if value != "missing"
            )
            body = ""
            if returned:
                body = f"def score(subject, split, options):\n    return {returned}\n"
            (folder / f"{name}.py").write_text(IMPORTS + head + body)
        registry.extend(folder.parent)
        return dict.fromkeys(metrics)

    yield write
    registry.extend(None)


@pytest.mark.parametrize("gives", ["1", "Curve([1], [2])", "PerLatent([0] * 16)"])
def test_two_metrics_do_not_give_scores_of_one_name(cell, write_metrics, gives):
    metrics = write_metrics(first=f"{{'mine': {gives}}}", second=f"{{'mine': {gives}}}")
    for name in metrics:
        cell.run(metrics={name: None})
    with pytest.raises(UserError, match="metrics first and second both give 'mine'"):
        cell.run(metrics=metrics)
    stored_before = cell.stored()
    with pytest.raises(UserError, match="metrics first and second both give 'mine'"):
        cell.run(metrics=metrics)  # From the row store.
    assert cell.stored() == stored_before and all(stored_before.values())


@pytest.mark.parametrize("gives", ["1", "Curve([1], [2])", "PerLatent([0] * 16)"])
def test_two_metrics_of_two_stages_do_not_give_scores_of_one_name(
    cell, write_metrics, gives, tmp_path
):
    choose_judged(cell)
    late = {"STAGE": "probe", "SPLITS": ("test",)}
    metrics = write_metrics(
        first=f"{{'mine': {gives}}}", second=(f"{{'mine': {gives}}}", late)
    )
    cell.run("score", metrics)
    cell.run("probe", metrics)
    with pytest.raises(UserError, match="metrics first and second both give 'mine'"):
        collect([cell.scores], stages_of(cell.scores), [], tmp_path / "out")


def test_a_metric_that_draws_gives_the_same_whatever_is_computed_before(
    cell, write_metrics
):
    kept = "subject.once_for_all('kept', lambda: torch.rand(3).sum().item())"
    drawn = "random.random() + np.random.random() + torch.rand(()).item()"
    metrics = write_metrics(mine=f"{{'kept': {kept}, 'drawn': {drawn}}}")

    def scores():
        shutil.rmtree(cell.scores, ignore_errors=True)
        table = cell.run(metrics=metrics)["metrics"].dropna(subset="drawn")
        return table.set_index(["trial", "split"])[["kept", "drawn"]].sort_index()

    first = scores()
    cell.bank.saes.reverse()
    cell.bank.write()
    pd.testing.assert_frame_equal(scores(), first, check_exact=True)

    embeddings = store.read(cell.folder / "own/test").embeddings
    alone = sae.score(coder(0), embeddings, metrics=["mine"])
    assert alone == first.loc[("default", "test")].to_dict()


def test_metrics_that_give_nothing_or_nan_alone_are_warned_of(
    cell, write_metrics, caplog
):
    choose_judged(cell)
    none_of_latents = "{'b': PerLatent([np.nan] * 16), 'c': 1.0}"
    metrics = write_metrics(
        empty="{}",
        scalar="{'a': np.nan, 'd': None}",
        of_latents=none_of_latents,
        points="{'e': Curve([1], [np.nan])}",
        words="{'f': PerLatent([None] * 15 + ['x'])}",
        good="{'g': 0.0 if split == 'val' else np.nan}",
    )
    for _ in range(2):  # Then from the row store.
        caplog.clear()
        cell.run(metrics=metrics)
        texts = [
            record.getMessage().partition(": ")[2]
            for record in caplog.records
            if record.levelno == logging.WARNING
        ]
        assert texts == [
            "metric empty gives no score of any SAE",
            "metric of_latents gives NaN for every SAE: b",
            "metric points gives NaN for every SAE: e",
            "metric scalar gives NaN for every SAE: a, d",
        ]


def test_a_score_a_curve_and_a_column_of_latents_may_share_a_name(cell, write_metrics):
    choose_judged(cell)
    metrics = write_metrics(
        first="{'a': 1}",
        second="{'a': Curve([1], [2])}",
        third="{'a': PerLatent([3] * 16)}",
    )
    tables = cell.run(metrics=metrics)
    assert set(tables["metrics"]["a"].dropna()) == {1}
    assert set(tables["curves"]["y"]) == {2}
    assert set(tables["latents"]["a"]) == {3}


@pytest.mark.parametrize(
    "name",
    [
        *rows.KEY,
        "swept",
        "objective",
        "penalty",
        "mask",
        "lambda",
        "status",
        "m",
        "selected",
        "selection",
        "probe_top1_raw",
    ],
)
def test_a_score_has_no_name_of_what_describes_an_sae(cell, write_metrics, name):
    for _ in range(2):
        with pytest.raises(
            UserError, match=f"metric mine gives {name!r}, a name that is reserved"
        ):
            cell.run(metrics=write_metrics(mine=f"{{{name!r}: 1}}"))


def test_a_score_has_no_name_of_a_swept_option_nor_a_latent_s_column_one_of_a_key(
    cell, write_metrics
):
    cell.bank.add("reg1", {"lr": 0.5}, coder=coder(3))
    with pytest.raises(
        UserError, match="metric mine gives 'lr', a name that is reserved"
    ):
        cell.run(metrics=write_metrics(mine="{'lr': 1}"))
    for name in (*rows.KEY, "latent", "selected"):
        with pytest.raises(
            UserError, match=f"metric mine gives {name!r}, a name that is reserved"
        ):
            cell.run(metrics=write_metrics(mine=f"{{{name!r}: PerLatent([0] * 16)}}"))


@pytest.mark.parametrize(
    ("returned", "message"),
    [
        ("{'a': PerLatent([1, 2])}", "a: 2 values for 16 latents"),
        ("{3: 1}", "3 is no name of a column"),
        ("{'a\\nb': 1}", "'a\\nb' is no name of a column"),
        ("{'a': Curve([1, 2, 1], [1, 2, 3])}", "a: x holds NaN or one value twice"),
        ("{'a': Curve([1, 2], [3])}", "a: x has 2 values, y 1"),
        ("{'a': PerLatent([1, 'b'] * 8)}", "a holds values of different kinds"),
        (
            "{'a': float('inf')}",
            "a is or holds infinity, as where all embeddings of a split are the same",
        ),
        ("{'a': 10**400}", "a is or holds an integer of more than 64 bits"),
        ("{'a': subject.coder.b_dec.sum()}", "a is or holds a value of type Tensor"),
        ("None", "score returns a value of type NoneType, not a dict"),
    ],
)
def test_what_a_metric_may_not_return_is_named(cell, write_metrics, returned, message):
    with pytest.raises(UserError) as error:
        cell.run(metrics=write_metrics(mine=returned))
    assert str(error.value).startswith(
        f"metric mine: {message}; allowed is a dict of numbers, texts, None, Curve(x, y)"
    )
    assert "\n" not in str(error.value)


def test_a_number_on_one_split_and_a_text_on_another_are_named(cell, write_metrics):
    with refused_naming("column 'a'", "different kinds"):
        cell.run(metrics=write_metrics(mine="{'a': 1 if split == 'val' else 'b'}"))


def test_what_it_may_return_is_kept_as_it_is(cell, write_metrics):
    returned = (
        "{'a': np.int64(3), 'b': 'text', 'c': None, 'd': float('nan'), "
        "'e': np.bool_(True), 'f': np.float32(0.5)}"
    )
    metrics = write_metrics(mine=returned)
    # As it was computed, then as it was stored.
    for _ in range(2):
        row = cell.run(metrics=metrics)["metrics"].iloc[0]
        assert (row["a"], row["b"], row["e"], row["f"]) == (3, "text", True, 0.5)
        assert row["c"] is None and np.isnan(row["d"])


@pytest.mark.parametrize("as_json", [False, True])
def test_what_is_stored_has_the_types_of_what_was_given(cell, write_metrics, as_json):
    choose_judged(cell)
    nan = float("nan")
    columns = {
        "integers": [None, 3] * 8,
        "floats": [1, 2.5, nan, None] * 4,
        "texts": ["a", None] * 8,
        "flags": [True, None] * 8,
        "nothing": [None] * 16,
    }
    curves = {"rising": ([1, 2], [0.5, None]), "empty": ([], [])}
    given = [f"'{name}': PerLatent({column})" for name, column in columns.items()]
    given += [f"'{name}': Curve({x}, {y})" for name, (x, y) in curves.items()]
    returned = f"{{{', '.join(given)}}}".replace("nan", "np.nan")
    mine = write_metrics(mine=returned, gives_nothing="{}")

    cell.run(metrics=mine)
    before = cell.written()
    if as_json:
        cell.store_as_json()
    cell.run(metrics=mine)
    assert cell.written() == before

    latents = pq.read_table(cell.scores / "score/latents.parquet")
    types = {name: latents.schema.field(name).type for name in columns}
    assert types == {
        "integers": pa.int64(),
        "floats": pa.float64(),
        "texts": pa.string(),
        "flags": pa.bool_(),
        "nothing": pa.null(),
    }
    for name, column in columns.items():
        assert repr(latents[name].to_pylist()[:16]) == repr(
            [1.0 if (name, value) == ("floats", 1) else value for value in column]
        )
    points = pq.read_table(cell.scores / "score/curves.parquet").to_pylist()[:2]
    assert [(point["x"], point["y"]) for point in points] == [(1, 0.5), (2, None)]
    assert {point["curve"] for point in points} == {"rising"}


@pytest.mark.parametrize(
    ("constants", "returned", "message"),
    [
        ({"STAGE": "scores"}, "{}", "STAGE = 'scores'.*chosen, score, robustness"),
        ({"STAGE": "missing"}, "{}", "STAGE"),
        ({"SPLITS": ("valid",)}, "{}", "SPLITS = .*'valid'.*train, val, test"),
        ({"SPLITS": "test"}, "{}", "SPLITS = 'test'.*train, val, test"),
        ({}, "", "must define score"),
    ],
)
def test_what_a_metric_s_file_lacks_is_named(
    cell, write_metrics, constants, returned, message
):
    with pytest.raises(UserError, match=message) as error:
        cell.run(metrics=write_metrics(mine=(returned, constants)))
    assert "metrics/mine.py" in str(error.value) and "\n" not in str(error.value)


def test_a_latent_has_one_row_with_what_all_stages_gave_of_it(
    cell, write_metrics, tmp_path
):
    choose_judged(cell)
    mine = write_metrics(
        mine="{'number': PerLatent(range(16)), 'point': Curve([0], [1])}",
        late=(
            "{'late': PerLatent(range(16))}",
            {"STAGE": "probe", "SPLITS": ("test",)},
        ),
    )
    for name in ("score", "probe"):
        cell.run(name, mine)
    collect([cell.scores], stages_of(cell.scores), [], tmp_path / "out")
    latents = pd.read_parquet(tmp_path / "out/latents.parquet")
    assert len(latents) == 2 * 2 * 16  # Of the chosen SAEs alone.
    assert not latents.duplicated([*rows.KEY, "latent"]).any()
    assert latents["number"].dtype == np.int64
    assert latents["number"].equals(latents["latent"])

    # `selected` is that of the SAE.
    metrics = pd.read_parquet(tmp_path / "out/metrics.parquet")
    assert latents["selected"].dtype == bool
    assert metrics["selected"].tolist() == [True] * 4 + [False] * 4 + [True] * 2
    merged = latents.merge(
        metrics, on=rows.KEY, validate="many_to_one", suffixes=("", "_of_sae")
    )
    assert len(merged) == len(latents)
    assert merged["selected"].equals(merged["selected_of_sae"])

    # What only judged SAEs have: all of it, integers among it, on the rows that it is
    # of.
    judged = latents[latents["late"].notna()]
    assert judged["late"].equals(judged["number"].astype(judged["late"].dtype))
    assert len(judged) == 32
    assert set(zip(judged["method"], judged["split"], strict=True)) == {
        ("topk", "test"),
        ("reg1", "test"),
    }
    table = files.read_table(tmp_path / "out/latents.parquet")
    assert str(table.schema.field("late").type) == "int64"
    assert not table.schema.metadata
    curves = pd.read_parquet(tmp_path / "out/curves.parquet")
    assert curves.columns.tolist() == [*rows.KEY, "curve", "x", "y", "selected"]
    assert curves["selected"].tolist() == [True] * 4 + [False] * 2 + [True] * 2


def test_the_progress_says_how_much_was_computed(cell, caplog):
    metrics = {"reconstruction": None, "firing": None}

    def last_message():
        caplog.clear()
        with caplog.at_level(logging.INFO, "sae.progress"):
            cell.run(metrics=metrics)
        return caplog.messages[-1]

    assert last_message() == "d / b / k4: score of 4 SAEs: 12 of 12 rows computed"
    assert last_message().endswith(": 0 of 12 rows computed")
    cell.bank.add("reg1", {"lambda": 0.0001}, coder=coder(3))
    assert last_message() == "d / b / k4: score of 5 SAEs: 4 of 16 rows computed"


@pytest.mark.parametrize(
    "reads",
    [
        "codes('train').l0()",
        "inputs('train')[0, 0].item()",
        "firing_counts('train')[0]",
    ],
)
def test_a_metric_reads_only_what_it_declares(cell, write_metrics, reads):
    metrics = write_metrics(sneaky=f"{{'mine': subject.{reads}}}")
    with refused_naming("'train'", "SPLITS", "READS"):
        # Another metric has encoded that split before.
        cell.run(metrics={"firing": None, **metrics})
    cell.run(
        metrics=write_metrics(
            sneaky=(f"{{'mine': subject.{reads}}}", {"READS": ("train",)})
        )
    )


def test_what_an_earlier_run_left_of_another_stage_is_not_joined(
    cell, write_metrics, tmp_path
):
    choose_judged(cell)
    cell.run("score", write_metrics(mine="{'a': 1}"))
    cell.run("probe", write_metrics(late=("{'old': 2}", {"STAGE": "probe"})))
    collect([cell.scores], ["score"], [], tmp_path / "out")
    metrics = pd.read_parquet(tmp_path / "out/metrics.parquet")
    assert "a" in metrics and "old" not in metrics


@pytest.fixture
def process_settings(monkeypatch):
    """Put back what a metric changed for the whole process."""
    monkeypatch.chdir(Path())
    errors = np.geterr()
    yield
    torch.set_default_dtype(torch.float32)
    torch.set_grad_enabled(True)
    np.seterr(**errors)


WRITES = {
    "inputs": "x = subject.inputs('test'); x -= x.mean(dim=0)",
    "inputs as an array": "x = subject.inputs('test').numpy(); x -= x.mean(0)",
    "rows of the inputs": "subject.inputs('test')[0] = 0",
    "without gradients": "with torch.inference_mode(): subject.inputs('test').mul_(2)",
    "codes": "subject.codes('test').values[:] = 1",
    "codes as a tensor": "torch.from_numpy(subject.codes('test').values).mul_(2)",
    "labels": "subject.labels('test')[:] = 0",
    "groups": "subject.groups('test')[:] = 'a'",
    "another backbone": "subject.others['judge']['test'][:] = 0",
    "weights": "subject.coder.W_dec.data /= 2",
    "selection": "subject.coder.select = type(subject.coder.select)(1)",
    "type": "torch.set_default_dtype(torch.float64)",
    "gradients": "torch.set_grad_enabled(False)",
    "errors": "np.seterr(all='raise')",
    "folder": "import os; os.chdir('/')",
    "what is kept": "subject.once('own', lambda: np.ones(3))[0] = 2",
}


@pytest.mark.parametrize("statement", WRITES.values(), ids=WRITES.keys())
@pytest.mark.filterwarnings("ignore:The given NumPy array is not writable")
@pytest.mark.usefixtures("process_settings")
def test_a_metric_that_changes_what_others_read_is_named(
    cell, write_metrics, tmp_path, statement
):
    """The metric comes first, so that the others would read what it left."""
    constants = {"READS": ("others",), "SPLITS": ("test",)}
    write_metrics(mine=("{}", constants))
    file = tmp_path / "extensions/metrics/mine.py"
    body = f"import torch\ndef score(subject, split, options):\n    {statement}\n"
    file.write_text(file.read_text().replace("def score", f"{body}    return 1\ndef f"))
    registry.extend(file.parent.parent)
    metrics = {"mine": None, "reconstruction": None, "purity": None}
    with refused_naming(str(file), "copy"):
        cell.run(metrics=metrics, others={"judge": cell.folder / "judge"})
    assert "mine" not in cell.stored()


def test_a_changed_table_of_images_is_the_metric_s_own(cell, write_metrics):
    write_metrics(
        mine="{'mine': subject.splits[split].index.pop('label').sum()}",
    )
    alone = cell.run(metrics={"purity": None})["metrics"]
    beside = cell.run(metrics={"mine": None, "purity": None})["metrics"]
    pd.testing.assert_frame_equal(beside[alone.columns], alone)


@pytest.mark.parametrize(
    "written", ["subject.embeddings('test')", "subject.others['judge']['test']"]
)
def test_a_metric_cannot_change_the_arrays_of_who_calls_sae_score(
    write_metrics, written
):
    write_metrics(mine=(f"{{'mine': {written}.sort()}}", {"READS": ("others",)}))
    embeddings = np.random.default_rng(0).random((9, 6), dtype=np.float32)
    judge = 2 * embeddings
    with refused_naming("mine.py", "copy"):
        sae.score(coder(0, d=6), embeddings, judges={"judge": judge}, metrics=["mine"])
    assert np.array_equal(2 * embeddings, judge)
    embeddings[0] = 0  # They stay the caller's own.
    judge[0] = 0


@pytest.mark.parametrize("name", ["r2", "mine", "seed"])
def test_sae_score_takes_no_column_of_another_metric(write_metrics, name):
    """What came last would stand there, whichever metric gave it."""
    write_metrics(first="{'mine': 1}", second=f"{{{name!r}: 2}}")
    embeddings = np.random.default_rng(0).random((9, 6), dtype=np.float32)
    with refused_naming("second", repr(name), "rename"):
        sae.score(
            coder(0, d=6), embeddings, metrics=["reconstruction", "first", "second"]
        )

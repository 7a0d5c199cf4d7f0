"""Figures show what they must: all of every curve, the swept option, labels as they are
written.
"""

import io
import itertools
import xml.etree.ElementTree

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure
from PIL import Image
from report import hostile
from report.compared import MADE_BY, choices_of, compared_rows
from support.errors import refused_naming

from sae.core import files, registry
from sae.report import curves, style
from sae.report.names import Names
from sae.report.plot import plot

METHODS = hostile.METHODS
SETTINGS = {
    "methods": METHODS,
    "datasets": hostile.DATASETS,
    "backbones": {"b1": "$b_1$"},
}
NAMES = Names(**SETTINGS)
CREDIT = "Who drew these. Licence: CC-BY-SA-4.0."


@pytest.fixture
def results(tmp_path):
    """Write metrics, curves and galleries of two backbones, and return their folder.

    The second backbone's activations are a hundred times larger.
    """
    rows = []
    points = []
    trials = [
        ("topk", {}),
        ("reg1", {"lambda": 0.001}),
        ("reg1", {"lambda": 0.01}),
        ("batch", {"lr": 0.1, "epochs": 5.0}),
        ("batch", {"lr": 0.2, "epochs": 5.0}),
        ("batch", {"lr": 0.1, "epochs": 10.0}),
    ]
    for (method, trial), backbone, k, seed in itertools.product(
        trials, ("b1", "b2"), (4, 8), (0, 1)
    ):
        text = (
            "-".join(f"{name}{value:g}" for name, value in sorted(trial.items()))
            or "default"
        )
        key = {
            "dataset": "d",
            "backbone": backbone,
            "k": k,
            "method": method,
            "trial": text,
            "seed": seed,
        }
        chosen = text in ("default", "lambda0.01", "epochs5-lr0.1")
        row = {
            **key,
            "protocol": "paper",
            # Swept options stand between these two columns.
            "mask": None,
            **dict.fromkeys(("epochs", "lambda", "lr")),
            **trial,
            "status": "ok",
            "selected": chosen,
            "selection": "chosen" if chosen else "not_selected",
            "r2": 0.5 + trial.get("lambda", 0),
            "ms_mean_alive": 0.4,
            "probe_top1_raw": 0.9,
        }
        rows += [row | {"split": split} for split in ("val", "test")]
        if chosen:
            size = 100 if backbone == "b2" else 1
            points += [
                key | {"curve": "rank_profile", "x": x, "y": size / x}
                for x in range(1, 33)
            ]
            points += [
                key | {"curve": "robustness", "x": x, "y": 1 / x}
                for x in (k // 2, k, 2 * k)
            ]
            points += [key | {"curve": "probe", "x": x, "y": x / 10} for x in (1, 2, 4)]
            if method == "batch":
                points.append(
                    key | {"curve": "robustness_own", "x": k + 0.1 * seed, "y": 0.2}
                )
    files.write_parquet(tmp_path / "metrics.parquet", pd.DataFrame(rows))
    files.write_json(tmp_path / "made_by.json", MADE_BY)
    no_choices = pd.DataFrame(
        columns=["dataset", "backbone", "k", "method", "protocol"]
    )
    files.write_parquet(tmp_path / "selection.parquet", no_choices)
    files.write_parquet(
        tmp_path / "curves.parquet", pd.DataFrame(points).assign(split="test")
    )
    buffer = io.BytesIO()
    Image.new("RGB", (8, 8), "red").save(buffer, format="PNG")
    cell = {
        "dataset": "d",
        "backbone": "b1",
        "k": 4,
        "seed": 0,
        "png": buffer.getvalue(),
        "left_out": "batch",
        "credit": f"{CREDIT} Others. Licence: MIT.",
    }
    (tmp_path / "gallery").mkdir()
    shown = {
        "latent": 3,
        "ms": 0.5,
        "n_active": 40,
        "top_class": hostile.CLASS,
        "activation": 1.0,
        "rank": 0.0,
    }
    places = itertools.product(
        ("fig2", "fig3"), ("topk", "reg1"), ("top", "middle", "bottom"), range(2)
    )
    images = [
        {
            **cell,
            **shown,
            "figure": figure,
            "method": method,
            "part": part,
            "place": place,
        }
        for figure, method, part, place in places
    ]
    files.write_parquet(tmp_path / "gallery/images.parquet", pd.DataFrame(images))
    sample = [
        {
            **cell,
            "method": method,
            "rank": rank,
            "activation": 1 / rank,
            "kept": rank < 3,
        }
        for method, rank in itertools.product(("topk", "reg1"), (1, 2, 3))
    ]
    files.write_parquet(tmp_path / "gallery/sample.parquet", pd.DataFrame(sample))
    return tmp_path


@pytest.fixture
def as_text(monkeypatch):
    """Return a function that reads what a figure prints.

    SVG takes the place of the PDF, with its text as characters.
    """
    savefig = Figure.savefig

    def save(figure, file, **look):
        savefig(figure, file, **look if look["format"] == "png" else {"format": "svg"})

    def text(file):
        lines = xml.etree.ElementTree.parse(file).iterfind(
            ".//{http://www.w3.org/2000/svg}text"
        )
        return " ".join("".join(line.itertext()) for line in lines)

    monkeypatch.setattr(Figure, "savefig", save)
    monkeypatch.setitem(style.RC, "svg.fonttype", "none")
    return text


@pytest.mark.parametrize(
    "name", ["fig1", "fig2", "fig3", "fig4", "fig5", "fig5_probe", "sweep"]
)
def test_a_figure_prints_labels_as_they_are(results, name, as_text):
    head = registry.head("figure", name)
    reads = [results / file for file in head.constants["READS"]]
    assert head.constants["CAPTION"] and all(file.is_file() for file in reads)
    plot(name, results, NAMES, results / "figures")
    assert Image.open(results / f"figures/{name}.png").width > 1000
    text = as_text(results / f"figures/{name}.pdf")
    printed = [
        hostile.DATASET,
        "$b_1$",
        *hostile.LABELS,
        *(["40 images"] if name in ("fig2", "fig3") else []),
    ]
    assert [label for label in printed if label not in text] == []
    # No other text, such as the numbers of an axis, is written as mathematics.
    # The name of a class may be cut.
    for label in [
        *printed,
        *(hostile.CLASS[:n] for n in range(len(hostile.CLASS), 0, -1)),
    ]:
        text = text.replace(label, "")
    assert "$" not in text
    left_out = METHODS["batch"]["label"]
    for note in (
        f"Not shown, since no trial was acceptable here: {left_out}",
        f"Pictures: {CREDIT}",
    ):
        assert (note in as_text(results / f"figures/{name}.pdf")) == (
            name in ("fig1", "fig2", "fig3")
        )


def test_the_same_figure_gives_the_same_bytes(results):
    for folder in ("once", "again"):
        plot("fig4", results, NAMES, results / folder)
    for suffix in ("png", "pdf"):
        assert (results / f"once/fig4.{suffix}").read_bytes() == (
            results / f"again/fig4.{suffix}"
        ).read_bytes()
    assert (results / "once/fig4.pdf").read_bytes().startswith(b"%PDF")


@pytest.mark.parametrize("drawn", ["None", "plt.subplots()"])
def test_a_figure_that_returns_no_figure_is_named(results, extend, drawn):
    head = "from sae.report.style import plt\ndef draw(results, names):\n"
    extend({"figures/mine.py": f"{head}    return {drawn}\n"})
    with refused_naming("figure mine: draw must return a matplotlib figure, not "):
        plot("mine", results, NAMES, results / "figures")


def test_sweep_shows_what_diverged(results):
    metrics = pd.read_parquet(results / "metrics.parquet")
    lost = metrics[
        (metrics["method"] == "reg1") & (metrics["seed"] == 0) & metrics["selected"]
    ]
    lost = lost.assign(
        trial="lambda0.1",
        status="diverged",
        selected=False,
        **{"lambda": 0.1, "r2": np.nan},
    )
    files.write_parquet(results / "metrics.parquet", pd.concat([metrics, lost]))
    figure = registry.load("figure", "sweep").draw(results, NAMES)
    crosses = [line for line in figure.axes[0].get_lines() if line.get_marker() == "x"]
    assert {line.get_xdata()[0] for line in crosses} == {0.1}
    assert len(crosses) == 2  # One a k.
    shown = [text.get_text() for text in figure.legends[0].texts]
    assert f"{NAMES.method('reg1')} (4 of 20 diverged)" in shown and "diverged" in shown


def test_an_unknown_curve_lists_those_there_are(results):
    with refused_naming(
        "no curve prob", "rank_profile", "robustness_own", "optional=True"
    ):
        curves.chosen_curves(results, NAMES, "prob")
    assert curves.chosen_curves(results, NAMES, "prob", optional=True).empty
    # Without any curves, nothing tells a slip from a metric that is not measured.
    files.write_parquet(
        results / "curves.parquet", pd.read_parquet(results / "curves.parquet")[:0]
    )
    assert curves.chosen_curves(results, NAMES, "prob").empty


@pytest.mark.parametrize("name", ["effects", "fig4", "fig5", "fig5_probe", "sweep"])
def test_nothing_to_show_is_said(results, name):
    metrics = pd.read_parquet(results / "metrics.parquet")
    metrics = metrics[metrics["method"] == "topk"].drop(columns="probe_top1_raw")
    files.write_parquet(results / "metrics.parquet", metrics)
    files.write_parquet(
        results / "curves.parquet", pd.read_parquet(results / "curves.parquet")[:0]
    )
    figure = registry.load("figure", name).draw(results, NAMES)
    assert any(text.get_text() for text in figure.axes[0].texts)
    assert np.all([not ax.get_lines() for ax in figure.axes])


def write_compared(folder, gains):
    """Write results of six datasets and three backbones, of one seed; return its names.

    Args:
        folder: Where the files go.
        gains: {method: by how much it scores higher than topk, for each backbone}, in
            MS and in detection. That of `mine` is .05 higher in every second dataset,
            and as much lower in the others.
    """
    columns_of_method = {}
    for method, gain in {"topk": (0, 0, 0), **gains}.items():
        score = tuple(0.5 + of_backbone for of_backbone in gain)
        columns_of_method[method] = {"ms_mean_alive": score, "detection": score}
    metrics = compared_rows(columns_of_method, datasets="defghi")
    is_lower = metrics["dataset"].isin(list("dfh"))
    shift = np.where(is_lower, -0.05, 0.05) * (metrics["method"] == "mine")
    metrics["detection"] += shift
    files.write_parquet(folder / "metrics.parquet", metrics)
    selection = choices_of(metrics[metrics["method"] != "raw"])
    files.write_parquet(folder / "selection.parquet", selection)
    methods = {
        "topk": {},
        "mine": {"against": "topk"},
        "reg1": {"against": "topk", "label": "Reg. 1"},
        "raw": {"control": True},
    }
    made_by = MADE_BY | {"methods": {"methods": methods}}
    files.write_json(folder / "made_by.json", made_by)
    return Names(methods=methods)


def test_controls_alone_are_drawn_where_every_method_is_out_of_reach(tmp_path):
    gains = dict.fromkeys(("reg1", "raw"), (-0.005, -0.005, -0.005))
    names = write_compared(tmp_path, gains)
    file = tmp_path / "selection.parquet"
    selection = files.read_parquet(file)
    is_reg1 = selection["method"] == "reg1"
    status = selection["status"].mask(is_reg1, "fresh seed failed")
    files.write_parquet(file, selection.assign(status=status))
    ax = registry.load("figure", "effects").draw(tmp_path, names).axes[0]
    assert [text.get_text() for text in ax.texts] == ["out of reach"]
    assert ax.get_xlim() == pytest.approx((-0.0116, 0.0116))
    assert [
        line.get_marker() for line in ax.get_lines() if len(line.get_xdata()) == 1
    ] == ["s"]


def test_effects_are_drawn_by_family_with_intervals_cells_and_controls(tmp_path):
    gains = {"mine": (0.01, 0.02, 0.06), "reg1": (0.045, 0.05, 0.055)}
    names = write_compared(tmp_path, {**gains, "raw": (-0.5, -0.5, -0.5)})
    axes = registry.load("figure", "effects").draw(tmp_path, names).axes
    titles = [ax.get_title(loc="left") for ax in axes]
    assert titles == ["a", "b", "c", "mean of families", "cost"]
    assert axes[0].get_xlabel() == "detection, minus the baseline's"
    # Upwards, the best method on top.
    labels = [label.get_text() for label in axes[0].get_yticklabels()]
    assert labels == ["raw", "mine", "Reg. 1"]
    assert len({ax.get_xlim() for ax in axes[:4]}) == 1
    for ax in axes[:4]:
        assert [text.get_text() for text in ax.texts] == ["◂ -0.500"]

    ax = axes[3]
    lines = ax.get_lines()
    dots = [line.get_xdata() for line in lines if line.get_marker() == "."]
    assert [len(values) for values in dots] == [18, 18]
    np.testing.assert_allclose(np.sort(dots[1]), np.repeat(gains["reg1"], 6))
    means = [line for line in lines if line.get_marker() == "o"]
    np.testing.assert_allclose([line.get_xdata()[0] for line in means], [0.03, 0.05])
    # Reg. 1 has .05 in each dataset and is better; mine has -.02 and .08 in turn.
    faces = [line.get_markerfacecolor() for line in means]
    assert faces == ["white", names.colour("reg1")]
    half = (
        2.570582 * 0.05 * (6 / 5) ** 0.5 / 6**0.5
    )  # Student's t, 5 degrees of freedom
    (left, _), (right, _) = ax.collections[0].get_segments()[0]
    np.testing.assert_allclose([left, right], [0.03 - half, 0.03 + half], rtol=1e-5)

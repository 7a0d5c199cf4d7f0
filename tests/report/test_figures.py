"""Figures show what they must: all of every curve, the swept option, labels as they are written."""

import io
import itertools

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from sae.core import files, registry
from sae.core.errors import UserError
from sae.report import curves, style
from sae.report.names import Names
from sae.report.plot import plot
from sae.report.style import plt

METHODS = {
    "topk": {"label": "Top $k$ and $m$"},
    "reg1": {"label": "Reg. 1", "against": "topk"},
    "batch": {"label": "Batch_TopK", "against": "topk"},
}
SETTINGS = {"methods": METHODS, "datasets": {"d": "Data for $5 or $6"}, "backbones": {}}
NAMES = Names(SETTINGS)


@pytest.fixture
def results(tmp_path):
    """Metrics, curves and galleries of two backbones; the second one's activations are a hundred times larger."""
    rows, points = [], []
    trials = [
        ("topk", {}),
        ("reg1", {"lambda": 0.001}),
        ("reg1", {"lambda": 0.01}),
        ("batch", {"lr": 0.1, "epochs": 5.0}),
    ]
    trials += [("batch", {"lr": 0.2, "epochs": 5.0}), ("batch", {"lr": 0.1, "epochs": 10.0})]
    for (method, trial), backbone, k, seed in itertools.product(trials, ("b1", "b2"), (4, 8), (0, 1)):
        text = "-".join(f"{name}{value:g}" for name, value in sorted(trial.items())) or "default"
        key = {"dataset": "d", "backbone": backbone, "k": k, "method": method, "trial": text, "seed": seed}
        chosen = text in ("default", "lambda0.01", "epochs5-lr0.1")
        row = key | trial | {"selected": chosen, "selection": "chosen" if chosen else "not_selected"}
        row |= {"r2": 0.5 + trial.get("lambda", 0), "ms_mean_alive": 0.4, "probe_top1_raw": 0.9}
        rows += [row | {"split": split} for split in ("val", "test")]
        if chosen:
            size = 100 if backbone == "b2" else 1
            points += [key | {"curve": "rank_profile", "x": x, "y": size / x} for x in range(1, 33)]
            points += [key | {"curve": "robustness", "x": x, "y": 1 / x} for x in (k // 2, k, 2 * k)]
            points += [key | {"curve": "probe", "x": x, "y": x / 10} for x in (1, 2, 4)]
            if method == "batch":
                points.append(key | {"curve": "robustness_own", "x": k + 0.1 * seed, "y": 0.2})
    files.write_parquet(tmp_path / "metrics.parquet", pd.DataFrame(rows))
    files.write_parquet(tmp_path / "curves.parquet", pd.DataFrame(points).assign(split="test"))
    buffer = io.BytesIO()
    Image.new("RGB", (8, 8), "red").save(buffer, format="PNG")
    cell = {"dataset": "d", "backbone": "b1", "k": 4, "seed": 0, "png": buffer.getvalue()}
    (tmp_path / "gallery").mkdir()
    shown = {"latent": 3, "ms": 0.5, "n_active": 40, "top_class": "$a$", "activation": 1.0, "rank": 0.0}
    images = itertools.product(("fig2", "fig3"), ("topk", "reg1"), ("top", "middle", "bottom"), range(2))
    images = [cell | shown | dict(zip(("figure", "method", "part", "place"), row, strict=True)) for row in images]
    files.write_parquet(tmp_path / "gallery/images.parquet", pd.DataFrame(images))
    sample = [cell | {"method": m, "rank": r, "activation": 1 / r, "kept": r < 3} for m in METHODS for r in (1, 2, 3)]
    files.write_parquet(tmp_path / "gallery/sample.parquet", pd.DataFrame(sample))
    return tmp_path


def lines(ax):
    return [line for line in ax.get_lines() if len(line.get_xdata()) > 1]


@pytest.mark.parametrize("name", ["fig1", "fig2", "fig3", "fig4", "fig5", "fig5_probe", "sweep"])
def test_a_figure_is_drawn_with_its_labels(results, name):
    head = registry.head("figure", name)
    assert (
        head.doc and head.constants["CAPTION"] and all((results / file).is_file() for file in head.constants["READS"])
    )
    plot(name, results, SETTINGS, results / "figures")
    assert Image.open(results / f"figures/{name}.png").width > 1000
    assert (results / f"figures/{name}.pdf").read_bytes().startswith(b"%PDF")
    figure = registry.load("figure", name).draw(results, NAMES)
    texts = [t.get_text() for t in figure.findobj(lambda a: hasattr(a, "get_text"))]
    assert any("Data for" in text for text in texts)
    # Every $ of a label is escaped, so that none begins mathematics.
    assert all(r"\$" in text for text in texts if "Top " in text or "Data for" in text)


def test_the_same_figure_gives_the_same_bytes(results):
    for out in ("once", "again"):
        plot("sweep", results, SETTINGS, results / out)
    for suffix in ("png", "pdf"):
        assert (results / f"once/sweep.{suffix}").read_bytes() == (results / f"again/sweep.{suffix}").read_bytes()


@pytest.mark.parametrize("drawn", ["None", "plt.subplots()"])
def test_a_figure_that_returns_no_figure_is_named(results, tmp_path, drawn):
    (tmp_path / "own/figures").mkdir(parents=True)
    (tmp_path / "own/figures/mine.py").write_text(
        f"from sae.report.style import plt\ndef draw(results, names):\n    return {drawn}\n"
    )
    try:
        registry.extend(tmp_path / "own")
        with pytest.raises(UserError, match="figure mine: draw must return a matplotlib figure, not "):
            plot("mine", results, SETTINGS, results / "figures")
    finally:
        registry.extend(None)


@pytest.mark.parametrize("count", [3, 7])
def test_titles_of_fig1_do_not_overlap(results, count):
    label = "A method with a rather long name, $x$, at the choice of another"
    methods = {f"m{i}": {"label": label, "against": "m0" if i else None} for i in range(count)}
    shown = pd.read_parquet(results / "gallery/sample.parquet").query("method == 'topk'")
    shown = pd.concat([shown] * 40, ignore_index=True)  # 120 active.
    files.write_parquet(results / "gallery/sample.parquet", pd.concat([shown.assign(method=m) for m in methods]))
    with plt.rc_context(style.RC):
        figure = registry.load("figure", "fig1").draw(results, Names(SETTINGS | {"methods": methods}))
        figure.draw_without_rendering()
    texts = [text for ax in figure.axes for text in (ax.title, *ax.get_xticklabels(), ax.xaxis.label) if ax.get_title()]
    assert sum("120 active" in text.get_text() for text in texts) == count
    boxes = [text.get_window_extent() for text in texts if text.get_text() and text.get_visible()]
    titles = [ax.title.get_window_extent() for ax in figure.axes if ax.get_title()]
    assert all(sum(title.overlaps(box) for box in boxes) == 1 for title in titles)


def test_fig4_cuts_no_curve(results):
    figure = registry.load("figure", "fig4").draw(results, NAMES)
    for ax in figure.axes:
        assert ax.get_ylim()[0] == 0 and len(lines(ax)) >= 3
        assert max(line.get_ydata().max() for line in lines(ax) if len(line.get_xdata()) > 2) < ax.get_ylim()[1]


def test_fig5_stars_a_coder_with_thresholds_at_its_own_point(results):
    figure = registry.load("figure", "fig5").draw(results, NAMES)
    for ax, k in zip(figure.axes, (4, 8, 4, 8), strict=True):
        (star,) = [line for line in ax.get_lines() if line.get_marker() == "*"]
        assert (star.get_xdata()[0], star.get_ydata()[0]) == pytest.approx((k + 0.05, 0.2))
        assert star.get_color() == NAMES.colour("batch")


def test_sweep_draws_lambda_where_it_is_swept_else_the_first_option(results):
    figure = registry.load("figure", "sweep").draw(results, NAMES)
    drawn = {ax.get_xlabel() for ax in figure.axes}
    assert drawn == {"", r"$\lambda$", "epochs"}
    top = figure.axes[0]
    line = lines(top)[1]  # After the line at 0.
    assert line.get_xdata().tolist() == [0.001, 0.01] and line.get_ydata() == pytest.approx([0.001, 0.01])
    # Trials that differ in another option are not joined: epochs 5 and 10 at lr 0.1; and 5 alone at lr 0.2.
    xs = [line.get_xdata().tolist() for line in figure.axes[2].get_lines()[1:] if line.get_linestyle() != "None"]
    assert xs == [[5, 10], [5]] * 2


def test_an_unknown_curve_lists_those_there_are(results):
    with pytest.raises(UserError, match="no curve prob; there are: probe, rank_profile, robustness, robustness_own"):
        curves.chosen_curves(results, NAMES, "prob")
    assert curves.chosen_curves(results, NAMES, "prob", optional=True).empty
    # Without any curves, nothing tells a slip from a metric that is not measured.
    files.write_parquet(results / "curves.parquet", pd.read_parquet(results / "curves.parquet")[:0])
    assert curves.chosen_curves(results, NAMES, "prob").empty


@pytest.mark.parametrize(("name", "curve"), [("fig4", "rank_profile"), ("fig5", "robustness"), ("fig5_probe", "probe")])
def test_a_metric_that_is_left_out_is_said(results, name, curve):
    points = pd.read_parquet(results / "curves.parquet")
    files.write_parquet(results / "curves.parquet", points[points["curve"] != curve])
    figure = registry.load("figure", name).draw(results, NAMES)
    assert figure.axes[0].texts[0].get_text().startswith("not ") and not figure.axes[0].get_lines()


@pytest.mark.parametrize("name", ["fig4", "fig5", "fig5_probe", "sweep"])
def test_nothing_to_show_is_said(results, name):
    metrics = pd.read_parquet(results / "metrics.parquet")
    metrics = metrics[metrics["method"] == "topk"].drop(columns="probe_top1_raw")
    files.write_parquet(results / "metrics.parquet", metrics)
    files.write_parquet(results / "curves.parquet", pd.read_parquet(results / "curves.parquet")[:0])
    figure = registry.load("figure", name).draw(results, NAMES)
    assert any(text.get_text() for text in figure.axes[0].texts)
    assert np.all([not ax.get_lines() for ax in figure.axes])

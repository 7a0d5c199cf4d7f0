"""The tables of metrics: differences, marks, ablations, the paper's own cells.

Tables hold ids in csv, labels in md and tex.
"""

import html
import subprocess
import sys

import markdown_it
import pandas as pd
import pytest
import yaml
from conftest import ROOT
from report.compared import MADE_BY, choices_of, compared_rows

from sae.comparison import paper_tables, published
from sae.core import files
from sae.report import markup, tables
from sae.report import paper_tables as printed_tables
from sae.report.names import Names

PAPER = ROOT / "workflow/resources/paper"
PUBLISHED = published.read(PAPER)
METHODS = {
    "topk": {"label": "Baseline"},
    "reg1": {"label": "Reg. 1", "against": "topk"},
    "reg1_all": {"label": "Reg. 1, no mask", "against": "topk", "at": "reg1"},
}
NAMES = Names(methods=METHODS)
# What every SAE of `cell_metrics` has.
MS_SCORES = ("ms_mean", "ms_median", "ms_mean_alive", "ms_median_alive")
COUNTS = {"m": 20, "dead": 1, "dead_train": 0, "ms_floor": 0.3, "n_k_over_m": 20.0}
PAPER_CELL = {"dataset": "imagenet", "backbone": "clip_vit_l14", "k": 32}


def cell_metrics(r2, selection="chosen", seed=0, **columns):
    """Return the metrics of one cell, a row for each method and split.

    Args:
        r2: {method: its R^2 on test}; on validation it is 0.9, as MS is.
        selection: Of the methods that are regularised.
        columns: Values of other columns, or of those of the cell.
    """
    rows = []
    for method, value in r2.items():
        is_swept = method.startswith("reg")
        is_compared = METHODS.get(method, {}).get("against") is not None
        row = {
            "dataset": "d",
            "backbone": "b",
            "k": 4,
            "method": method,
            "seed": seed,
            "split": "test",
            "r2": value,
            "protocol": "paper",
            "trial": "lambda0.001" if is_swept else "default",
            "lambda": 0.001 if is_swept else None,
            "status": "ok",
            "selected": not (selection == "fallback" and is_compared),
            "selection": selection if is_swept else "chosen",
        }
        rows.append(row)
        rows.append({**row, "split": "val", "r2": 0.9})
    table = pd.DataFrame(rows)
    return table.assign(**dict.fromkeys(MS_SCORES, 0.9), **COUNTS).assign(**columns)


def table_by_method(number, metrics, names=NAMES):
    """Return a table of one cell, indexed by method."""
    return paper_tables.measured(number, metrics, names).set_index("method")


def effects_as_text(number, table, names=NAMES):
    """Return the effects of a table as printed, a row for each of its columns."""
    effects = paper_tables.effects(number, table, PUBLISHED, names)
    return printed_tables.effects_as_text(number, effects, names)


def test_a_row_is_the_mean_of_the_chosen_saes_over_seeds():
    seeds = [
        cell_metrics({"topk": 0.7, "reg1": 0.8}),
        cell_metrics({"topk": 0.5, "reg1": 0.7}, "edge", seed=1),
    ]
    table = table_by_method(1, pd.concat(seeds))
    assert table["R2"].to_dict() == pytest.approx({"topk": 0.6, "reg1": 0.75})
    assert table["mark"].to_dict() == {"topk": "", "reg1": ">1/2"}
    assert table["seeds"].tolist() == [2, 2]
    assert table["lambda"].to_dict() == {"topk": "", "reg1": "0.001"}


def test_a_method_that_fell_back_repeats_the_baseline_and_is_marked():
    table = table_by_method(1, cell_metrics({"topk": 0.7, "reg1": 0.2}, "fallback"))
    assert table["mark"].to_dict() == {"topk": "", "reg1": "="}
    assert table.loc["reg1", "R2"] == table.loc["topk", "R2"] == 0.7


def test_effects_are_differences_from_the_method_that_one_is_compared_with():
    cells = [
        cell_metrics({"topk": 0.7, "reg1": 0.71}),
        cell_metrics({"topk": 0.6, "reg1": 0.63}, k=8),
    ]
    table = paper_tables.measured(1, pd.concat(cells), NAMES)
    effects = effects_as_text(1, table).set_index("difference")
    assert effects.loc["R2", "Reg. 1"] == "+0.020 (+0.010 to +0.030), 2/2"
    assert effects.loc["R2", "Reg. 1, published"] == "+0.001 (up 11, down 0 of 18)"
    assert effects.loc["dead", "Reg. 1"] == "+0 (+0 to +0), 0/2"
    assert effects.loc["MS_across", "Reg. 1"] == "-"


def test_effects_name_what_methods_are_compared_with_where_that_differs():
    names = Names(methods=METHODS | {"rival": {"label": "Rival", "against": "reg1"}})
    metrics = cell_metrics({"topk": 0.7, "reg1": 0.71, "rival": 0.72})
    table = paper_tables.measured(1, metrics, names)
    row = effects_as_text(1, table, names).set_index("difference").loc["R2"]
    assert row["Reg. 1 against Baseline"].startswith("+0.010")
    assert row["Rival against Reg. 1"].startswith("+0.010")
    assert row["Rival against Reg. 1, published"] == "-"


def test_the_papers_own_cells_stand_beside_its_numbers():
    metrics = cell_metrics({"topk": 0.774, "reg1": 0.8}, **PAPER_CELL)
    measured = paper_tables.measured(1, metrics, NAMES)
    table = paper_tables.beside_published(1, measured, PUBLISHED)
    by_method = table.set_index("method")
    # Table 1: CLIP, ImageNet, k = 32: R2 0.774 both.
    published_r2 = by_method["R2_published"].to_dict()
    assert published_r2 == {"topk": 0.774, "reg1": 0.774}
    difference = by_method["R2_difference"].to_dict()
    assert difference == pytest.approx({"topk": 0.0, "reg1": 0.026})
    assert by_method["dead_published"].to_dict() == {"topk": 29, "reg1": 26}

    text = printed_tables.as_text(1, table, NAMES)
    assert text["R2"].tolist() == ["0.774 (0.774, +0.000)", "0.800 (0.774, +0.026)"]
    assert text["method"].tolist() == ["Baseline", "Reg. 1"]


def test_an_ablation_stands_beside_what_it_ablates():
    r2 = {"topk": 0.7, "reg1": 0.71, "reg1_all": 0.6}
    metrics = cell_metrics(r2, **PAPER_CELL)
    is_ablation = metrics["method"] == "reg1_all"
    metrics.loc[is_ablation, ["dead", "ms_mean_alive"]] = [7, 0.2]
    measured = paper_tables.measured(4, metrics, NAMES)
    table = paper_tables.beside_published(4, measured, PUBLISHED)
    (row,) = table.to_dict("records")
    assert (row["method"], row["ablation"]) == ("reg1", "reg1_all")
    assert (row["dead"], row["dead_no_mask"], row["dead_added"]) == (1, 7, 6)
    assert (row["dead_published"], row["dead_no_mask_published"]) == (26, 1052)
    assert row["MS_mean_alive_added"] == pytest.approx(0.2 - 0.9)
    effects = effects_as_text(4, table).set_index("difference")
    assert effects.loc["dead_added"].tolist() == [
        "+6 (+6 to +6), 1/1",
        "+722.3 (up 16, down 0 of 18)",
    ]
    assert "reg1_all" not in set(paper_tables.measured(1, metrics, NAMES)["method"])


def test_a_seed_in_which_the_base_fell_back_has_no_ablation():
    r2 = {"topk": 0.7, "reg1": 0.71, "reg1_all": 0.6}
    fell_back = cell_metrics({"topk": 0.7, "reg1": 0.2}, "fallback", seed=1)
    metrics = pd.concat([cell_metrics(r2), fell_back])
    assert paper_tables.measured(4, metrics, NAMES)["seeds"].tolist() == [1]


def test_a_badly_trained_baseline_is_marked():
    # 1 of 20 latents is 5 %.
    metrics = cell_metrics({"topk": 0.7, "reg1": 0.71}, dead_train=1)
    marks = table_by_method(1, metrics)["mark"]
    assert marks.to_dict() == {"topk": "!", "reg1": ""}


def test_saes_that_diverged_are_counted_in_the_row_and_in_the_head():
    diverged = cell_metrics({"reg1": float("nan")}).assign(
        status="diverged", selected=False, selection="not_selected"
    )
    parts = [cell_metrics({"topk": 0.7, "reg1": 0.71})]
    for strength in (1, 2):
        for seed in (0, 1):
            parts.append(diverged.assign(trial=f"lambda{strength}", seed=seed))
    parts.append(cell_metrics({"topk": 0.5, "reg1": 0.6}, "edge", k=8))
    metrics = pd.concat(parts)
    table = paper_tables.measured(1, metrics, NAMES).set_index(["k", "method"])
    assert table["mark"].to_dict() == {
        (4, "topk"): "",
        (4, "reg1"): "x4/5",
        (8, "topk"): "",
        (8, "reg1"): ">",
    }
    head = printed_tables.describe_training(metrics, NAMES)
    assert head.endswith("; Reg. 1: 4 of 6 SAEs diverged.")


def read_table(file):
    """Read a table's CSV; a text that is empty, or looks like 'NA', stays a text."""
    texts = (*paper_tables.CELL, "method", "ablation", "lambda", "trial", "mark")
    types = {**dict.fromkeys(texts, str), "k": int}
    table = pd.read_csv(file, keep_default_na=False, na_values={}, dtype=types)
    return table.assign(
        **{name: pd.to_numeric(table[name]) for name in table if name not in types}
    )


def write_tables(metrics, settings, folder):
    """Write all tables of metrics, and return {number: (its CSV, its Markdown)}."""
    files.write_parquet(folder / "metrics.parquet", metrics)
    files.write_parquet(folder / "selection.parquet", choices_of(metrics))
    made_by = MADE_BY | {"methods": {"methods": settings["methods"]}}
    files.write_json(folder / "made_by.json", made_by)
    rule = yaml.safe_load((ROOT / "config.yaml").read_text())["claims"]
    rule["resamples"] = 100
    tables.write(
        folder / "metrics.parquet",
        PAPER,
        tables.ComparisonSettings(**settings, claims=rule),
        folder,
    )
    return {
        n: (read_table(folder / f"table{n}.csv"), (folder / f"table{n}.md").read_text())
        for n in paper_tables.TABLES
    }


def test_files_hold_ids_in_csv_and_labels_elsewhere(tmp_path):
    methods = METHODS | {"NA": {"label": r"a|b_$\x$", "against": "topk"}}
    frame = cell_metrics({"topk": 0.7, "reg1": 0.71, "NA": 0.72})
    frame.loc[frame["method"] == "NA", "trial"] = "lr0.1"
    frame = frame.assign(steps=3, images_per_latent=2.0)
    settings = {"methods": methods, "datasets": {"d": "a_$d"}}
    csv, md = write_tables(frame, settings, tmp_path)[1]
    assert csv["method"].tolist() == ["topk", "reg1", "NA"]
    assert csv["data"].tolist() == ["d"] * 3
    assert csv.columns[:5].tolist() == ["encoder", "data", "k", "method", "R2"]
    pd.testing.assert_frame_equal(
        csv, paper_tables.measured(1, frame, Names(methods=methods)), check_dtype=False
    )
    assert r"| a\|b\_\$\\x\$ " in md and " lr0.1 " in md and " lambda0.001 " in md
    tex = (tmp_path / "table1.tex").read_text()
    assert r" & a\textbar{}b\_\$\textbackslash{}x\$ & " in tex
    # So is a label in a caption, and in what stands above a table.
    above = (md, (tmp_path / "controls.md").read_text(), tex)
    assert all(r"a\_\$d: 3 steps, 2 training" in text for text in above)


@pytest.mark.parametrize(
    "label", ["# a", "> *b* [c](d)", "- `e`", "+ f", "12. g", "12) h", "1.5 i", "---"]
)
def test_a_label_begins_nothing_at_the_start_of_a_paragraph(label):
    rendered = markdown_it.MarkdownIt().render(markup.prose(label))
    assert html.unescape(rendered) == f"<p>{label}</p>\n"


@pytest.mark.parametrize("methods", [["topk"], ["topk", "reg1"]])
def test_without_ablations_or_comparisons_tables_are_well_formed(tmp_path, methods):
    settings = {"methods": {m: METHODS[m] for m in methods}}
    metrics = cell_metrics(dict.fromkeys(methods, 0.7))
    tables_by_number = write_tables(metrics, settings, tmp_path)
    ablations, text = tables_by_number[4]
    assert ablations.empty
    assert {"method", "ablation", "dead_no_mask", "lambda"} <= set(ablations)
    assert "Empty: no method" in text
    table, text = tables_by_number[1]
    assert table["method"].tolist() == methods
    assert ("No effects:" in text) == (methods == ["topk"])


def test_the_comparison_is_written_with_its_numbers(tmp_path):
    methods = {
        "topk": {},
        "reg1": {"against": "topk", "label": "Reg. 1"},
        "raw": {"control": True, "label": "Raw"},
    }
    detection = {"topk": 0.70, "reg1": (0.73, 0.731, 0.732), "raw": 0.60}
    metrics = compared_rows(
        {name: {"detection": value} for name, value in detection.items()}, "de"
    )
    families = {"a": "one", "b": "one", "c": "two"}
    settings = {"methods": methods, "families": families, "datasets": {"d": "Data"}}
    write_tables(metrics, settings, tmp_path)

    # By hand: family one gains .0305, family two .032, on each dataset.
    means = pd.read_csv(tmp_path / "comparison.csv")
    means = means.set_index(["method", "score", "family"]).sort_index()
    of_reg1 = means.loc[("reg1", "detection"), "effect"]
    expected = {"one": 0.0305, "two": 0.032, "mean": 0.03125}
    assert of_reg1.to_dict() == pytest.approx(expected)
    of_raw = means.loc[("raw", "detection", "mean")]
    assert of_raw["effect"] == pytest.approx(-0.1) and of_raw["control"]
    cells = pd.read_csv(tmp_path / "comparison_cells.csv")
    is_reg1 = (cells["method"] == "reg1") & (cells["score"] == "detection")
    effects = [0.03, 0.031, 0.032]
    assert cells.loc[is_reg1, "effect"].tolist() == pytest.approx(effects * 2)

    page = (tmp_path / "comparison.md").read_text()
    assert page.startswith("# Comparison: the best that reconstructs as well\n")
    assert "Raw (control)" in page and "By dataset" in page
    assert (tmp_path / "leaderboard.md").read_text().startswith("# Leaderboard\n")
    for name in ("comparison", "comparison_cells", "comparison_imported"):
        typed = files.read_parquet(tmp_path / f"{name}.parquet")
        assert len(typed) == len(pd.read_csv(tmp_path / f"{name}.csv"))


def test_tables_claims_and_the_summary_of_a_run_start_without_torch():
    code = (
        "import sys; from sae.report import claims, tables\n"
        "from sae_workflow import summary\n"
        "print({'torch', 'sklearn', 'matplotlib'} & set(sys.modules) or 'light')"
    )
    process = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True
    )
    assert process.stdout == "light\n", process.stdout + process.stderr

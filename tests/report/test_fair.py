"""Protocol `fair` for readers: differences paired by seed, ties, undertrained cells, and claims that need their R^2."""

import itertools

import numpy as np
import pandas as pd
import pytest
from report.test_claims import BASE, CELLS, NAMES, PAPER, RULE

from sae.core import files
from sae.report import claims, fair
from sae.report.figures import fronts, recovered, regimes, same_recipe, tolerance, trials
from sae.report.names import Names
from sae.report.trials import at_one_recipe, effects, of_tuning
from sae.scoring.selection import CELL

RUN = ["dataset", "backbone", "k", "seed"]
TRIAL = {"topk": "encoder_scale0.5-lr0.001-steps9", "reg1": "encoder_scale0.5-lambda0.01-lr0.001-steps9"}
TRIAL["reg2"] = TRIAL["reg1"].replace("0.01", "0.02")
FRESH = (3, 4)

NOTHING_STORED = {
    "definitions": {},
    "protocol": {},
    "metrics": {},
    "most_steps": {},
    "manifests": {},
    "tolerance": 0.005,
}


def results(effect, ties=(), undertrained=()):
    """Metrics and a selection: `effect` {method: {score: added}}; reg2 has no candidate in the cells of `ties`."""
    rng, rows, choice, latents = np.random.default_rng(0), [], [], []
    for cell in CELLS:
        head = dict(zip(RUN[:3], cell, strict=True))
        shared = {seed: rng.normal() * 0.05 for seed in FRESH}
        for method, trial in TRIAL.items():
            lost = method == "reg2" and cell in ties
            for allowed, seed in itertools.product((0.002, 0.005), FRESH):
                said = {"tolerance": allowed, "trial": None if lost else trial, "status": "tie" if lost else "chosen"}
                said |= {"r2": 0.7, "ms": 0.5, "l0": 4.0, "firing": 1.0, "bar": 0.69, "steps": 9}
                said |= {"undertrained": cell in undertrained, "protocol": "fair", "method": method, "seed": seed}
                choice.append(head | said)
            for seed in () if lost else FRESH:
                values = {n: v + shared[seed] + effect.get(method, {}).get(n, 0) for n, v in BASE.items()}
                key = head | {"method": method, "trial": trial, "seed": seed, "split": "test", "protocol": "fair"}
                rows.append(
                    key | values | {"selected": False, "selection": "not_selected", "status": "ok", "lr": 0.001}
                )
                count = 3 if method == "topk" else 2  # Alive latents, and one that has no score.
                ms = [0.9, 0.7, *([0.1] if count == 3 else []), np.nan]
                latents += [key | {"latent": i, "ms": value} for i, value in enumerate(ms)]
    paper = [row | {"protocol": "paper", "seed": 0, "selected": True, "selection": "chosen"} for row in rows[::2]]
    metrics = pd.DataFrame([*rows, *paper]).assign(encoder_scale=0.5)
    return metrics, pd.DataFrame(choice), pd.DataFrame(latents)


def judged(tmp_path, effect, **planted):
    metrics, selection, _ = results(effect, **planted)
    points = pd.DataFrame(columns=[*RUN, "method", "trial", "split", "curve", "x", "y"])
    tables = {"metrics": metrics, "selection": selection, "curves": points.astype({"x": float, "y": float})}
    for name, table in tables.items():
        files.write_parquet(tmp_path / f"{name}.parquet", table)
    where = (tmp_path / "metrics.parquet", tmp_path / "curves.parquet", PAPER)
    settings = {"claims": RULE | {"resamples": 200}, "methods": METHODS}
    claims.write(*where, settings, tmp_path, selection_file=tmp_path / "selection.parquet")
    assert "fair: verdict" in (tmp_path / "claims.md").read_text()
    return pd.read_csv(tmp_path / "claims.csv").set_index("claim")


METHODS = {"topk": {"label": "Baseline"}, "reg1": {"against": "topk"}, "reg2": {"against": "topk"}}


def test_a_claim_is_judged_under_both_protocols_and_needs_its_r2(tmp_path):
    effect = {
        "reg1": {"ms_mean_alive": 0.03, "ms_mean": 0.03},
        "reg2": {"ms_mean_alive": 0.02, "ms_mean": 0.02, "r2": -0.01},
    }
    table = judged(tmp_path, effect, ties=CELLS[:2], undertrained=CELLS[3:5])
    assert table.loc["reg1_raises_ms", ["verdict", "fair_verdict"]].tolist() == ["holds", "holds"]
    assert table.loc["reg1_raises_ms", "fair_measured"] == pytest.approx(0.03)
    assert table.loc["reg1_raises_ms", "fair_cells_for"] == 16
    # Two cells of 16 are ties, which count as 0 and for neither side.
    assert table.loc["reg2_raises_ms", "fair_measured"] == pytest.approx(0.02 * 14 / 16)
    assert (table.loc["reg2_raises_ms", "fair_cells_for"], table.loc["reg2_raises_ms", "fair_cells_against"]) == (14, 0)
    assert table.loc["reg2_keeps_r2", "fair_verdict"] == "does not hold"
    assert table.loc["reg2_raises_ms", "fair_verdict"] == "does not hold"
    page = (tmp_path / "claims.md").read_text().splitlines()
    lines = {line.split("|")[1].strip(): line for line in page if line.startswith("|")}
    assert "R² is not kept (reg2), 2 undertrained cells left out" in lines["Reg. 2 raises mean MS"]
    both, alone = lines["Reg. 1 raises mean MS"].split("under fair: ")  # What the two notes share is said once.
    assert "interval across blocks only" in both
    assert "2 undertrained cells left out" in alone and "interval" not in alone


def test_where_every_cell_is_undertrained_nothing_is_tested(tmp_path):
    table = judged(tmp_path, {"reg1": {"ms_mean_alive": 0.03}}, undertrained=CELLS)
    assert (
        set(table["fair_verdict"]) == {"not tested here"}
        and table.loc["reg1_raises_ms", "verdict"] != "not tested here"
    )


def test_effects_cells_and_the_best_n(tmp_path):
    metrics, selection, latents = results(
        {"reg1": {"ms_mean_alive": 0.03, "dead": 2.0}}, ties=CELLS[:1], undertrained=CELLS[-1:]
    )
    picks = fair.evidence(metrics, selection, latents, NAMES)
    assert list(picks) == [0.002, 0.005]
    best = picks[0.002].groupby("method")["ms_best_n"].mean()
    assert best.to_dict() == pytest.approx(dict.fromkeys(TRIAL, 0.8))  # n = 2, the smallest number alive.
    both = fair.effects(picks, NAMES, RULE | {"resamples": 200})
    table, alone = (
        rows.set_index(["tolerance", "method", "data", "score"]) for _, rows in both.groupby("undertrained")
    )
    # The undertrained cell has a row of its own, and no part in the others.
    assert alone.loc[(0.002, "reg1", "all", "MS")]["cells_for"] == 1 and set(alone.reset_index()["data"]) == {
        "all",
        CELLS[-1][0],
    }
    row = table.loc[(0.002, "reg1", "all", "MS")]
    assert row["difference"] == pytest.approx(0.03) and (row["cells_for"], row["cells_against"]) == (17, 0)
    assert row["low"] <= 0.03 <= row["high"] and row["ties"] == 0
    assert table.loc[(0.002, "reg2", "all", "MS")]["ties"] == 1
    assert table.loc[(0.002, "reg1", "d1", "dead")]["difference"] == pytest.approx(2)
    # In one cell two seeds differ, by 0.03 and 0.05: Student's t has one degree of freedom.
    apart = picks[0.002].copy()
    apart.loc[(apart[RUN] == [*CELLS[1], 4]).all(axis=1) & (apart["method"] == "reg1"), "ms_mean_alive"] += 0.02
    spread = fair.cells(picks | {0.002: apart}, metrics, selection, NAMES, 0.95)
    wide = spread[spread["MS_half_width"] > 1e-9]
    assert wide[["method", *CELL]].to_numpy().tolist() == [["reg1", *CELLS[1]]]
    assert wide[["MS_difference", "MS_half_width"]].to_numpy() == pytest.approx(np.array([[0.04, 12.7062 * 0.01]]))
    assert fair.cells_text(wide, NAMES)["MS"].str.contains("(+0.040 ± 0.127)", regex=False).all()
    cells = fair.cells(picks, metrics, selection, NAMES, 0.95)
    assert len(cells) == 18 * 3 * 2 and cells["undertrained"].sum() == 6
    tie = cells[(cells["status"] == "tie") & (cells["tolerance"] == 0.002)].iloc[0]
    assert tie["method"] == "reg2" and tie["MS_difference"] == 0 and np.isnan(tie["MS_half_width"])
    assert fair.cells_text(tie.to_frame().T, NAMES)["MS"].str.endswith("(+0.000)").all()
    lost = metrics[(metrics["method"] == "reg2") & (metrics["protocol"] == "fair")].assign(trial="x", status="diverged")
    spoilt = fair.cells_text(fair.cells(picks, pd.concat([metrics, lost]), selection, NAMES, 0.95), NAMES)
    assert set(spoilt[spoilt["method"] == "Reg. 2"]["trial"]) == {f"{TRIAL['reg2']} (2 of 4 diverged)", "tie"}
    assert not spoilt[spoilt["method"] == "Reg. 1"]["trial"].str.contains("diverged").any()
    one = {tolerance: rows[rows["seed"] == 3] for tolerance, rows in picks.items()}
    assert fair.cells(one, metrics, selection, NAMES, 0.95)["MS_half_width"].isna().all()
    alone = fair.cells_text(cells.assign(steps=None), NAMES)["steps"]  # Every method sets its own.
    assert set(alone) == {"-", "- !"}
    points = pd.DataFrame(columns=[*RUN, "method", "trial", "split", "curve", "x", "y"]).astype(
        {"x": float, "y": float}
    )
    tables = {"metrics": metrics, "selection": selection, "latents": latents, "curves": points}
    for name, frame in tables.items():
        files.write_parquet(tmp_path / f"{name}.parquet", frame)
    fair.write(tmp_path, {"methods": METHODS, "claims": RULE | {"resamples": 200}} | NOTHING_STORED, tmp_path)
    files.check_sums(tmp_path / "fair.sums.json")
    files.check_sums(tmp_path / "leaderboard.sums.json")
    assert "Leaderboard" in (tmp_path / "leaderboard.md").read_text()
    text = (tmp_path / "fair.md").read_text()
    assert "1 of 18 cells undertrained" in text and "9 !" in text and "| tie" in text and "+0.030 [" in text


def trial_rows(method, points, seed=0):
    """{point: (r2, ms) on val}; on test both are 0.1 lower."""
    head = {"dataset": "d", "backbone": "b", "k": 4, "method": method, "seed": seed, "protocol": "fair", "status": "ok"}
    for point, (r2, ms) in points.items():
        about = head | {"trial": f"lr{point}", "lr": point / 1000, "encoder_scale": 1.0, "steps": 9, "selected": False}
        about["selection"] = "not_selected"
        yield about | {"split": "val", "r2": r2, "ms_mean_alive": ms}
        yield about | {"split": "test", "r2": r2 - 0.1, "ms_mean_alive": ms - 0.1}


def test_what_subsets_of_the_trials_give_and_the_figures(tmp_path):
    topk = {1: (0.60, 0.50), 2: (0.70, 0.52), 3: (0.699, 0.55)}
    reg1 = {1: (0.65, 0.60), 2: (0.699, 0.58), 3: (0.69, 0.70)}
    rows = [*trial_rows("topk", topk), *trial_rows("reg1", reg1), *trial_rows("topk", {2: (0.9, 0.9)}, seed=1)]
    files.write_parquet(tmp_path / "metrics.parquet", pd.DataFrame(rows))
    names = Names({"methods": {"topk": {}, "reg1": {"against": "topk"}}})
    found = of_tuning(tmp_path, names)
    assert len(found) == 6 and found["point"].tolist() == [1, 2, 3] * 2
    assert effects(found, names, 0.002)["ms"].tolist() == pytest.approx([0.58 - 0.55])
    assert effects(found, names, 0.02)[["ms", "r2"]].to_numpy().tolist() == [pytest.approx([0.70 - 0.55, 0.69 - 0.699])]
    assert effects(found, names, 0.002, [1, 3])["ms"].tolist() == [0]  # A tie: reg1 reaches 0.69 of 0.699.
    assert effects(found, names, 0.002, [1])["ms"].tolist() == pytest.approx([0.1])
    choice = {"dataset": "d", "backbone": "b", "k": 4, "protocol": "fair", "tolerance": 0.002, "undertrained": False}
    picks = [choice | {"method": m, "seed": 0, "trial": t} for m, t in (("topk", "lr3"), ("reg1", "lr2"))]
    files.write_parquet(tmp_path / "selection.parquet", pd.DataFrame(picks))
    drawn = {m.__name__.rpartition(".")[2]: m.draw(tmp_path, names) for m in (fronts, trials, tolerance)}
    lines = {name: figure.axes[0].get_lines() for name, figure in drawn.items()}
    dots = lines["fronts"][0]
    assert sorted(dots.get_xdata()) == pytest.approx([0.5, 0.599, 0.6]) and len(lines["trials"]) == 2
    (curve,) = [line for line in lines["tolerance"] if len(line.get_xdata()) == 21]
    assert curve.get_ydata()[2] == pytest.approx(0.03) and curve.get_ydata()[-1] == pytest.approx(0.15)
    assert not any("diverged" in text.get_text() for figure in drawn.values() for text in figure.legends[0].texts)
    lost = [row | {"status": "diverged"} for row in trial_rows("reg2", {2: (np.nan, np.nan), 3: (np.nan, np.nan)})]
    files.write_parquet(tmp_path / "metrics.parquet", pd.DataFrame([*rows, *lost]))
    names = Names({"methods": METHODS | {"reg2": {"label": "Reg. 2", "against": "topk"}}})
    for figure in (module.draw(tmp_path, names) for module in (fronts, trials, tolerance)):
        assert "Reg. 2 (2 of 2 diverged)" in [text.get_text() for text in figure.legends[0].texts]


def test_a_trial_is_compared_with_the_one_of_the_same_recipe(tmp_path):
    shared, rows = {"dataset": "d", "k": 4, "seed": 0, "protocol": "fair", "status": "ok", "steps": 9}, []
    for backbone, gain in (("b1", 0.03), ("b2", 0.05)):
        for method, lr, scale, r2, ms in (
            ("topk", 0.001, 1.0, 0.7, 0.5),
            ("topk", 0.002, 1.0, 0.8, 0.6),
            ("reg1", 0.001, 1.0, 0.69, 0.5 + gain),
            ("reg1", 0.002, 2.0, 0.9, 0.9),  # Of another scale than the baseline's.
        ):
            trial = shared | {
                "backbone": backbone,
                "method": method,
                "trial": f"lr{lr}",
                "lr": lr,
                "encoder_scale": scale,
            }
            rows.append(trial | {"split": "test", "r2": r2, "ms_mean_alive": ms})
            rows.append(trial | {"split": "val", "r2": 0.4 * r2, "ms_mean_alive": 0.3 * ms})
    files.write_parquet(tmp_path / "metrics.parquet", pd.DataFrame(rows))
    names = Names({"methods": {"topk": {}, "reg1": {"against": "topk"}}})
    found = at_one_recipe(of_tuning(tmp_path, names), names)
    assert found["backbone"].tolist() == ["b1", "b2"] and found["lr"].tolist() == [0.001] * 2
    assert found["ms"].tolist() == pytest.approx([0.03, 0.05]) and found["r2"].tolist() == pytest.approx([-0.01] * 2)
    above, below = same_recipe.draw(tmp_path, names).axes
    assert above.get_lines()[1].get_ydata() == pytest.approx([0.04])  # After the line at 0.
    assert below.get_lines()[1].get_ydata() == pytest.approx([-0.01])
    (band,) = above.collections
    assert set(band.get_paths()[0].vertices[:, 1].round(6)) == {0.03, 0.05}
    assert at_one_recipe(of_tuning(tmp_path, names), Names({"methods": {"topk": {}}})).empty


def test_regimes_places_each_cell_by_images_and_by_learning_rate_times_steps(tmp_path):
    metrics, selection, _ = results({"reg1": {"ms_mean_alive": 0.03}}, ties=CELLS[:1], undertrained=CELLS[:1])
    metrics = metrics.assign(steps=500, images_per_latent=np.where(metrics["dataset"] == "d1", 10.0, 50.0))
    of = dict(zip(CELL, CELLS[2], strict=True)) | {"method": "reg2", "tolerance": 0.005}
    at = (selection[list(of)] == pd.Series(of)).all(axis=1)
    selection.loc[at, ["trial", "status"]] = [None, "tie"]  # One more tie, at the other tolerance alone.
    for name, frame in {"metrics": metrics, "selection": selection}.items():
        files.write_parquet(tmp_path / f"{name}.parquet", frame)
    both = regimes.effects_by_cell(tmp_path, NAMES)
    assert both["tolerance"].unique().tolist() == [0.002, 0.005]
    found = both[both["tolerance"] == 0.002].set_index(["method", "dataset", "backbone", "k"])
    assert len(found) == 36 and found.loc[("reg1", *CELLS[0]), "mean"] == pytest.approx(0.03)
    assert found.loc[("reg2", *CELLS[0]), ["mean", "low", "high"]].tolist() == [0, 0, 0]
    assert found["lr_times_steps"].unique() == pytest.approx([0.5])
    assert set(found.loc["reg1"].groupby("dataset")["images_per_latent"].mean()) == {10, 50}
    assert found["undertrained"].sum() == 2 and found.index[found["tie"]].tolist() == [("reg2", *CELLS[0])]
    figure = regimes.draw(tmp_path, NAMES)
    for ax, ties in zip(figure.axes, (1, 1, 2, 2), strict=True):
        lines = ax.get_lines()
        crosses = [line.get_alpha() for line in lines if line.get_marker() == "x"]
        assert len(crosses) == ties and crosses.count(0.4) == 1
        assert len([line for line in lines if line.get_markerfacecolor() == "none"]) == 1
    # The two ties have the same images, learning rate and steps: they lie on each other, and are counted.
    assert [[text.get_text() for text in ax.texts] for ax in figure.axes] == [[], [], ["2"], ["2"]]
    places = {line.get_xdata()[0] for line in figure.axes[0].get_lines() if line.get_marker() not in ("", "None", "x")}
    assert len(places) == 4  # Two methods, side by side, at two numbers of images.


def test_recovered_sets_the_concepts_found_beside_r2_and_ms(tmp_path):
    # On test, of three trials of the tuning seed, R2 orders the shares found, and MS orders them the other way round.
    head = {"dataset": "d1", "backbone": "b1", "k": 4, "method": "topk", "status": "ok"}
    points = [("a", 0.001, 0.5, 0.9, 0.1), ("b", 0.002, 0.6, 0.8, 0.4), ("c", 0.003, 0.7, 0.7, 0.9)]
    rows = []
    for trial, lr, r2, ms, found in points:
        trained = head | {"trial": trial, "lr": lr, "seed": 0, "protocol": "fair", "encoder_scale": 1.0, "steps": 9}
        rows.append(trained | {"split": "test", "r2": r2, "ms_mean_alive": ms, "recovery_found": found})
        rows.append(trained | {"split": "val", "r2": 0.2, "ms_mean_alive": 0.3, "recovery_found": 0.3})
        rows.append(rows[-2] | {"protocol": "paper", "recovery_found": 0.7})
    rows.append(rows[0] | {"seed": 1, "recovery_found": 0.8})
    files.write_parquet(tmp_path / "metrics.parquet", pd.DataFrame(rows))
    left, right = recovered.draw(tmp_path, NAMES).axes
    assert (left.get_title()[-5:], right.get_title()[-5:]) == ("+1.00", "-1.00")
    (dots,) = left.get_lines()
    assert dots.get_xydata().tolist() == [[0.5, 0.1], [0.6, 0.4], [0.7, 0.9]]

"""Ranks and ties on planted scores."""

import itertools

import numpy as np
import pandas as pd
import pytest

from sae.core import files
from sae.core.errors import UserError
from sae.report import leaderboard, stored
from sae.report.figures import leaderboard as drawn
from sae.report.names import Names
from sae.report.stored import Rows

METHODS = {"topk": {}, "good": {"against": "topk"}, "same": {"against": "topk"}, "more": {"against": "good"}}
NAMES = Names({"methods": METHODS | {"control": {"control": True}}})
RULE = {"confidence": 0.95, "resamples": 400, "bootstrap_seed": 0}
ADDED = {"topk": 0.0, "good": 0.05, "same": 0.0, "more": 0.08}


def picks(lost=(), undertrained=()):
    rng, rows = np.random.default_rng(0), []
    for cell in itertools.product(("d1", "d2"), ("b1", "b2", "b3"), (4, 8)):
        level = rng.normal()  # Of the cell, the same for every method.
        for seed, (method, added) in itertools.product((3, 4), ADDED.items()):
            row = dict(zip(("dataset", "backbone", "k", "seed"), (*cell, seed), strict=True))
            row |= {"method": method, "fallback": method == "same" and cell in lost, "source": method, "trial": "t"}
            row |= {"ms_mean_alive_independent": level + added + 0.001 * rng.normal(), "dead": 10 - 100 * added}
            rows.append(row | {"undertrained": cell in undertrained})
    return pd.DataFrame(rows)


def untuned():
    """A control with one seed of its own: 0.2 below the baseline in every cell."""
    base = picks()
    rows = (
        base[base["method"] == "topk"]
        .groupby(["dataset", "backbone", "k"], as_index=False, sort=False)
        .mean(numeric_only=True)
    )
    rows["ms_mean_alive_independent"] -= 0.2
    return rows.assign(seed=0, method="control", fallback=False, source="control", trial="default").drop(columns="dead")


def test_ranks_and_ties():
    run = Rows(picks(lost=[("d1", "b1", 4)], undertrained=[("d2", "b3", 8)]), untuned(), NAMES)
    board = leaderboard.table([run], RULE)
    assert list(dict.fromkeys(board["score"])) == ["MS independent", "dead"]
    rows = board[board["score"] == "MS independent"].set_index("method")
    assert rows.index[:2].tolist() == ["more", "good"] and rows["rank"].loc[["more", "good"]].tolist() == [1, 2]
    assert rows.loc["more", ["rank_low", "rank_high"]].tolist() == [1, 1] and (rows["cells"] == 11).all()
    # From the tuned baseline, also where a method is compared with another one.
    assert rows.loc["more", "difference"] == pytest.approx(0.08, abs=0.002) and rows.loc["topk", "difference"] == 0
    assert rows[rows["tuned"]]["tie"].to_dict() == {"more": False, "good": False, "same": True, "topk": False}
    assert rows.loc["same", "lost"] == 1 and rows.loc["same", "rank_low"] == 3 and rows.loc["same", "rank_high"] == 4
    # What nobody tuned has no rank, and stands last; of cells that are trained long enough.
    control = rows.loc["control"]
    assert rows.index[-1] == "control" and not control["tuned"] and np.isnan(control["rank"]) and not control["tie"]
    assert control["difference"] == pytest.approx(-0.2) and control["cells"] == 11
    dead = board[board["score"] == "dead"].set_index("method")
    assert dead.index[0] == "more" and dead.loc["more", "rank"] == 1  # Fewer are better.
    assert dead.loc["topk", "rank"] == dead.loc["same", "rank"] == 3  # Equal values share the better rank.
    text = leaderboard.as_text(board)
    assert text["method"].tolist()[:2] == ["more", "good"] and "same (none in 1)" in text["method"].tolist()
    same = rows.loc["same"]
    cell = text.set_index("method").loc["same (none in 1)", "MS independent"]
    value, apart, low, high = same[["value", "difference", "low", "high"]]
    assert cell.startswith(f"{value:.3f} ({apart:+.3f} [{low:+.3f}, {high:+.3f}]) =; ")
    assert cell.endswith(f"; {same['rank']:.0f} (3 to 4)")
    assert "=" not in text.set_index("method").loc["good", "MS independent"]


def test_ranks_are_as_sure_as_the_seeds_are():
    """Two seeds of one block: `good` is .03 above the baseline on one of them, and .01 below it on the other."""
    rows = picks()[lambda all: (all[["dataset", "backbone", "k"]] == ["d1", "b1", 4]).all(axis=1)]
    rows = rows[rows["method"].isin(["topk", "good"])].assign(ms_mean_alive_independent=0.5)
    good = rows["method"] == "good"
    rows.loc[good, "ms_mean_alive_independent"] += np.where(rows.loc[good, "seed"] == 3, 0.03, -0.01)
    board = leaderboard.table([Rows(rows, untuned()[:0], NAMES)], RULE)
    ranks = board[board["score"] == "MS independent"].set_index("method")[["rank", "rank_low", "rank_high"]]
    assert ranks.T.to_dict("list") == {"good": [1, 1, 2], "topk": [2, 1, 2]}


def test_without_a_candidate_in_any_cell_there_is_no_rank():
    every = list(itertools.product(("d1", "d2"), ("b1", "b2", "b3"), (4, 8)))
    board = leaderboard.table([Rows(picks(lost=every), untuned(), NAMES)], RULE)
    rows = board[board["score"] == "dead"].set_index("method")
    assert np.isnan(rows.loc["same", "rank"]) and rows["lost"].to_dict() == {
        "more": 0,
        "good": 0,
        "topk": 0,
        "same": 12,
    }
    assert rows["rank"].dropna().to_dict() == {"more": 1, "good": 2, "topk": 3}  # It takes no place from others either.
    text = leaderboard.as_text(board).set_index("method")
    assert text.loc["same (none in 12)"].eq("-").all() and text.index[-2:].tolist() == ["same (none in 12)", "control"]


def test_the_rise_is_read_off_each_candidates_curve():
    own = picks()[:1]
    key = {name: own[name].iloc[0] for name in ("dataset", "backbone", "k", "seed", "trial", "method")}
    points = pd.DataFrame([key | {"curve": "robustness", "x": x, "y": y} for x, y in ((4, 0.2), (8, 0.21), (16, 0.3))])
    assert leaderboard.with_rise(own, points)["rise"].tolist() == [pytest.approx(1.5)]


def test_it_is_drawn_with_ties_hollow_and_what_nobody_can_rank_is_said(tmp_path):
    (tmp_path / "tables").mkdir()
    for frame in (picks(), picks(undertrained=list(itertools.product(("d1", "d2"), ("b1", "b2", "b3"), (4, 8))))):
        file = tmp_path / "tables/leaderboard.csv"
        leaderboard.table([Rows(frame, untuned(), NAMES)], RULE).to_csv(file, index=False)
        files.write_sums(tmp_path / "tables/leaderboard.sums.json", [file])
        figure = drawn.draw(tmp_path, NAMES)
        hollow = [line for line in figure.axes[0].get_lines() if line.get_markerfacecolor() == "white"]
        assert len(hollow) == (1 if frame["undertrained"].sum() == 0 else 0)
    assert figure.axes[0].texts[0].get_text() == "no cell that is trained long enough"


CELLS = ["/".join(map(str, cell)) for cell in itertools.product(("d1", "d2"), ("b1", "b2", "b3"), (4, 8))]
STARS = {f"{cell} topk": 0.8 for cell in CELLS}


def settings(folder, **changes):
    """What a run of two datasets and three backbones knows of itself, with changes."""
    said = {"claims": RULE, "protocol": {"trials": 4} | changes.get("protocol", {}), "manifests": {}}
    said |= {
        "definitions": changes.get("methods", {}) | {"topk": {"code": changes.get("topk", "a")}},
        "tolerance": 0.005,
        "most_steps": {"d1": changes.get("most", 100)},
    }
    said["metrics"] = {"independent": {"code": changes.get("code", "a"), "options": changes.get("options", {})}}
    said["metrics"] |= changes.get("metrics", {})
    for name in sorted({cell.rpartition("/")[0] for cell in CELLS}):
        manifest = {"dataset": {"fingerprint": changes.get("images", "x")}, "image_size": changes.get("size", 8)}
        said["manifests"][name] = str(folder / f"{name.replace('/', '-')}.json")
        files.write_json(said["manifests"][name], manifest | {"backbone": {"fingerprint": changes.get("weights", "y")}})
    return said


def own_run(**more):
    """A run on another machine, .001 higher, of the baseline and a method of one's own that is .02 above it."""
    rows = picks(**more)
    rows = rows[rows["method"].isin(["topk", "good"])].replace({"good": "mine"})
    rows["ms_mean_alive_independent"] += 0.001 - 0.03 * (rows["method"] == "mine")
    return Rows(rows, untuned()[:0], Names({"methods": {"topk": {}, "mine": {"against": "topk", "label": "Mine"}}}))


def stored_run(folder, rows=None):
    """The file of the planted methods, with a score more than others have."""
    rows = picks() if rows is None else rows
    rows = rows.assign(stability=0.5)
    leaderboard.write(Rows(rows, untuned(), NAMES), STARS, settings(folder), None, folder)
    return (folder / "leaderboard.json").rename(folder / "stored.json")


def test_a_method_of_ones_own_joins_a_stored_leaderboard(tmp_path):
    file = stored_run(tmp_path)
    # A metric of one's own gives no score of the leaderboard, and hinders nothing.
    said = settings(tmp_path, metrics={"concentration": {"code": "c", "options": {}}})
    leaderboard.write(own_run(), STARS | {f"{CELLS[0]} topk": 0.802}, said, file, tmp_path)
    board = leaderboard.read(tmp_path / "leaderboard.csv")
    rows = board[board["score"] == "MS independent"].set_index("method")
    assert rows.index.tolist() == ["more", "good", "mine", "topk", "same", "control"]
    assert rows["stored"].tolist() == [True, True, False, False, True, True] and rows.loc["mine", "rank"] == 3
    # Each from the baseline of its own run: the machines differ by .001.
    assert rows.loc["mine", "difference"] == pytest.approx(0.02, abs=0.002)
    assert rows.loc["good", "difference"] == pytest.approx(0.05, abs=0.002)
    assert rows.loc["control", "difference"] == pytest.approx(-0.2) and not rows.loc["control", "tuned"]
    # A method is of one run alone: the stored stability of the baseline is not this run's.
    assert set(board[board["score"] == "stability"]["method"]) == {"more", "good", "same"}
    text = (tmp_path / "leaderboard.md").read_text()
    assert "| good \\*" in text and "| Mine " in text and "differ by at most 0.0020" in text
    again = stored.read(tmp_path / "leaderboard.json", about(tmp_path))[0]
    assert set(again.tuned["method"]) == {"topk", "mine"}


def test_runs_are_compared_in_cells_that_both_have_trained(tmp_path):
    file = stored_run(tmp_path, picks(undertrained=[("d2", "b3", 8)]))
    leaderboard.write(own_run(undertrained=[("d1", "b1", 4)]), STARS, settings(tmp_path), file, tmp_path)
    board = leaderboard.read(tmp_path / "leaderboard.csv")
    assert set(board["cells"]) == {10}
    rows = board[board["score"] == "MS independent"].set_index("method")
    assert rows.index.tolist()[:3] == ["more", "good", "mine"] and rows.loc["mine", "rank"] == 3


def test_what_stands_in_few_cells_or_above_its_budget_says_so():
    far = untuned().assign(l0=[9.0, *[4.0] * 11])[:2]  # k is 4 and 8.
    board = leaderboard.table([Rows(picks(), far, NAMES)], RULE)
    assert "control (L0 6) (2 of 12 cells)" in leaderboard.as_text(board)["method"].tolist()


def about(folder, **changes):
    said, blocks = settings(folder, **changes), {}
    for name, file in said["manifests"].items():
        manifest = files.read_json(file)
        blocks[name] = {"images": manifest["dataset"]["fingerprint"], "weights": manifest["backbone"]["fingerprint"]}
        blocks[name] |= {"image size": manifest["image_size"], "most steps": said["most_steps"].get(name[:2])}
    return stored.About(said["protocol"], said["definitions"], said["metrics"], blocks, STARS, said["tolerance"])


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"protocol": {"trials": 5}}, "protocol: trials"),
        ({"protocol": {"new": 1}}, "protocol: new"),
        ({"code": "b"}, "metric independent: its code"),
        ({"options": {"families": 1}}, "metric independent: its options"),
        ({"images": "z"}, "d1/b1: its images; d1/b2: its images; .* and 2 more"),
        ({"weights": "z"}, "d1/b1: its weights"),
        ({"size": 9}, "d1/b1: its image size"),
        ({"most": 9}, "d1/b1: its most steps; d1/b2: its most steps; d1/b3: its most steps[.]"),
    ],
)
def test_what_is_not_compared_alike_is_not_joined(changes, said, tmp_path):
    file = stored_run(tmp_path)
    with pytest.raises(UserError, match=f"cannot be joined. Not the same as here: {said}"):
        leaderboard.write(own_run(), STARS, settings(tmp_path, **changes), file, tmp_path)


def test_another_cell_or_another_reconstruction_is_not_joined(tmp_path):
    file, here = stored_run(tmp_path), about(tmp_path)
    with pytest.raises(UserError, match="d1/b1/16 topk: it is not there; leave this k out"):
        stored.read(file, here._replace(stars={"d1/b1/16 topk": 0.8}))
    with pytest.raises(UserError, match="d9/b1: it is not there; leave this dataset"):
        stored.read(file, here._replace(blocks={"d9/b1": {"images": "x"}}))
    with pytest.raises(UserError, match=r"R\* of d1/b1/4 topk is 0.8000 there and 0.5000 here, further apart than"):
        stored.read(file, here._replace(stars={"d1/b1/4 topk": 0.5}))


def of(backbones, folder, methods=None, **changes):
    """A run of some backbones' cells, judged by all: its rows, R*, and settings."""
    rows, others = picks(), untuned()
    rows, others = (table[table["backbone"].isin(backbones)] for table in (rows, others))
    stars = {name: star for name, star in STARS.items() if name.split("/")[1] in backbones}
    known = {name: {} for name in dict.fromkeys([*rows["method"], *others["method"]])}
    said = settings(folder, methods=known if methods is None else methods, **changes)
    return Rows(rows, others, NAMES), stars, said


def test_the_cells_of_another_run_count_as_those_of_one_run(tmp_path):
    leaderboard.write(Rows(picks(), untuned(), NAMES), STARS, settings(tmp_path), None, tmp_path)
    whole = leaderboard.read(tmp_path / "leaderboard.csv")
    leaderboard.write(*of(["b1", "b3"], tmp_path), None, tmp_path)
    file = (tmp_path / "leaderboard.json").rename(tmp_path / "others.json")
    own = of(["b2"], tmp_path)
    leaderboard.write(*own, None, tmp_path, [file])
    both = leaderboard.read(tmp_path / "leaderboard.csv")
    pd.testing.assert_frame_equal(both.drop(columns="joined"), whole.drop(columns="joined"))
    said = f"d2/b1/4, d2/b1/8, d2/b3/4, d2/b3/8 from {file} (sha256 {files.sha256(file)[:12]})."
    assert said in (tmp_path / "leaderboard.md").read_text()
    # What it writes has all cells, and knows whence: the next run may count them all.
    grown = files.read_json(tmp_path / "leaderboard.json")
    assert grown["stars"] == STARS and len(grown["sources"][0]["cells"]) == 8
    leaderboard.check(own[2], own[1], None, [file])


def test_methods_that_were_run_apart_count_as_those_of_one_run(tmp_path):
    leaderboard.write(Rows(picks(), untuned(), NAMES), STARS, settings(tmp_path), None, tmp_path)
    whole = leaderboard.read(tmp_path / "leaderboard.csv")

    def run(*methods, changed=(), higher=0.0):
        """The rows of some methods, some of them of another definition, whose scores are higher."""
        known = {name: {"code": "b" if name in changed else "a"} for name in (*methods, "control")}
        said = settings(tmp_path, methods=known)
        rows = picks()[picks()["method"].isin(methods)]
        rows.loc[rows["method"].isin(changed), "ms_mean_alive_independent"] += higher
        return Rows(rows, untuned(), NAMES), STARS, said

    leaderboard.write(*run("topk", "good", "same", "more", changed=["more"], higher=-0.5), None, tmp_path)
    file = (tmp_path / "leaderboard.json").rename(tmp_path / "before.json")
    leaderboard.write(*run("topk", "more"), None, tmp_path, [file])
    both = leaderboard.read(tmp_path / "leaderboard.csv")
    pd.testing.assert_frame_equal(both.drop(columns="joined"), whole.drop(columns="joined"))
    assert f"(sha256 {files.sha256(file)[:12]}), without more." in (tmp_path / "leaderboard.md").read_text()
    assert files.read_json(tmp_path / "leaderboard.json")["definitions"]["more"] == {"code": "a"}
    # Elsewhere, too, no row is taken of a method that is another one now, or of one that is compared with it.
    own, stars, said = run("topk", "good")
    here = own.tuned["backbone"] == "b2"
    file = (tmp_path / "leaderboard.json").rename(tmp_path / "all.json")
    changed = files.read_json(file)
    changed["definitions"]["good"] = {"code": "c"}
    files.write_json(file, changed)
    own = own._replace(tuned=own.tuned[here], untuned=own.untuned[own.untuned["backbone"] == "b2"])
    leaderboard.write(own, {n: s for n, s in stars.items() if "/b2/" in n}, said, None, tmp_path, [file])
    cells = leaderboard.read(tmp_path / "leaderboard.csv").groupby("method")["cells"].max()
    assert cells.to_dict() == {"topk": 12, "same": 12, "good": 4, "control": 12}


def test_two_files_must_agree_on_a_method_that_the_run_lacks(tmp_path):
    names = []
    for code in ("old", "new"):
        known = {"good": {"code": "a"}, "more": {"code": code}, "same": {"code": "a"}}
        own, stars, said = of(["b1"] if code == "old" else ["b3"], tmp_path, methods=known)
        leaderboard.write(own, stars, said, None, tmp_path)
        names.append((tmp_path / "leaderboard.json").rename(tmp_path / f"{code}.json"))
    own, stars, said = of(["b2"], tmp_path, methods={"good": {"code": "a"}})
    own = own._replace(tuned=own.tuned[own.tuned["method"].isin(["topk", "good"])], untuned=own.untuned[:0])
    for files_of in (names, names[::-1]):
        with pytest.raises(
            UserError, match=f"{files_of[1].name} cannot .* more: it is another one in .*{files_of[0].name}"
        ):
            leaderboard.write(own, stars, said, None, tmp_path, files_of)
    # Of what config.yaml has, though this run lacks it, the code must be today's.
    leaderboard.write(own, stars, said | {"elsewhere": {"more": {"code": "new"}}}, None, tmp_path, names)
    assert "b1/8 from" in (text := (tmp_path / "leaderboard.md").read_text()) and "old.json" in text
    assert files.read_json(tmp_path / "leaderboard.json")["definitions"]["more"] == {"code": "new"}
    cells = leaderboard.read(tmp_path / "leaderboard.csv").groupby("method")[["cells", "rank"]].max()
    # What lacks blocks has no rank.
    assert cells["cells"].to_dict() == {"good": 12, "topk": 12, "same": 8, "more": 4}
    assert cells["rank"].notna().to_dict() == {"good": True, "topk": True, "same": False, "more": False}


def test_a_cell_with_other_scores_of_the_baseline_is_not_counted(tmp_path):
    leaderboard.write(*of(["b1"], tmp_path), None, tmp_path)
    file = (tmp_path / "leaderboard.json").rename(tmp_path / "b1.json")
    own, stars, said = of(["b1"], tmp_path)
    rows = own.tuned.copy()
    rows.loc[rows["method"] == "topk", "ms_mean_alive_independent"] += 1e-9
    with pytest.raises(UserError, match=r"has d1/b1/4 too, and other scores of topk there"):
        leaderboard.write(own._replace(tuned=rows), stars, said, None, tmp_path, [file])


def test_no_control_and_a_counted_cell_without_enough_steps(tmp_path):
    rows, stars, said = of(["b1"], tmp_path)
    short = rows.tuned.assign(undertrained=rows.tuned["k"] == 8)
    leaderboard.write(Rows(short, rows.untuned[:0], NAMES), stars, said, None, tmp_path)
    file = (tmp_path / "leaderboard.json").rename(tmp_path / "b1.json")
    leaderboard.write(*of(["b2"], tmp_path), None, tmp_path, [file])
    board = leaderboard.read(tmp_path / "leaderboard.csv")
    assert set(board[board["tuned"]]["cells"]) == {2 * 2 + 2} and set(board[~board["tuned"]]["cells"]) == {2 * 2}


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"protocol": {"trials": 5}}, "protocol: trials"),
        ({"code": "b"}, "metric independent: its code"),
        ({"metrics": {"stability": {"code": "c", "options": {}}}}, "metric stability: it is not there"),
        ({"topk": "b"}, "method topk: its code"),
        ({"weights": "z"}, "d1/b1: its weights; .* and 2 more"),
        ({"images": "z"}, "d1/b1: its images; .* and 2 more"),
    ],
)
def test_cells_of_a_run_of_something_else_are_not_counted(changes, said, tmp_path):
    leaderboard.write(*of(["b1"], tmp_path), None, tmp_path)
    file = (tmp_path / "leaderboard.json").rename(tmp_path / "b1.json")
    with pytest.raises(UserError, match=f"cannot be counted. Not the same as here: {said}"):
        leaderboard.write(*of(["b2"], tmp_path, **changes), None, tmp_path, [file])


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"weights": "z"}, "b1: its weights; b2: its weights; b3: its weights[.]"),
        ({"most": None}, "whether steps are found"),
        ({}, "backbone b3: it is in one of the two alone; name it under `judges`"),
    ],
)
def test_runs_that_share_no_dataset_are_held_to_the_same_backbones(changes, said, tmp_path):
    def of_dataset(dataset, **changes):
        rows, stars, plan = of(["b1", "b2", "b3"], tmp_path, **changes)
        kept = {name: file for name, file in plan["manifests"].items() if name.startswith(dataset)}
        if dataset == "d2" and not changes:
            del kept["d2/b3"]
        rows = rows._replace(tuned=rows.tuned[rows.tuned["dataset"] == dataset])
        steps = {"d1": 100, "d2": changes.get("most", 100)}
        plan |= {"manifests": kept, "most_steps": {name: most for name, most in steps.items() if most}}
        return rows, {name: star for name, star in stars.items() if name.startswith(dataset)}, plan

    leaderboard.write(*of_dataset("d1"), None, tmp_path)
    file = (tmp_path / "leaderboard.json").rename(tmp_path / "d1.json")
    with pytest.raises(UserError, match=f"cannot be counted. Not the same as here: {said}"):
        leaderboard.write(*of_dataset("d2", **changes), None, tmp_path, [file])


def test_what_cannot_be_counted_says_why(tmp_path):
    own, stars, said = of(["b2"], tmp_path)
    files.write_json(tmp_path / "other.json", {"a": 1})
    with pytest.raises(UserError, match="is no leaderboard of this project"):
        leaderboard.write(own, stars, said, None, tmp_path, [tmp_path / "other.json"])
    leaderboard.write(own, stars, said, None, tmp_path)
    old = files.read_json(tmp_path / "leaderboard.json")
    del old["definitions"]
    files.write_json(tmp_path / "old.json", old)
    with pytest.raises(UserError, match=r"old.json does not say what its methods are: .* Run it again"):
        leaderboard.write(own, stars, said, None, tmp_path, [tmp_path / "old.json"])

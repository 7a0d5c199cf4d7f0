"""Files of answers: what counts, what is left out, and what is refused in one line."""

import json

import numpy as np
import pandas as pd
import pytest
import scipy.sparse
from support.errors import refused_naming

from sae.core.errors import UserError
from sae.report import rating
from sae.report.site import pack, trials
from sae.report.site.latents import rank_codes

IMAGES = 400
LATENTS = 60


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """Write a site with the trials of one cell, and return its folder."""
    folder = tmp_path_factory.mktemp("site")
    rng = np.random.default_rng(0)
    fires = rng.random((IMAGES, LATENTS)) < 0.2
    codes = rank_codes(scipy.sparse.csc_matrix(fires * rng.gamma(2, 1, fires.shape)))
    table = pd.DataFrame({"detection": np.linspace(0.5, 1, LATENTS), "ms": 0.5})
    payload, _ = trials.draw_trials(
        ("d", "b", 8),
        {"topk": codes, "reg1": codes},
        {"topk": table, "reg1": table},
        controls=[],
        groups=np.arange(IMAGES),
    )
    pack.put(folder, "judge/0", payload)
    look = {"colour": "#444444", "marker": "o"}
    methods = [
        {"id": "topk", "label": "Top-k", **look},
        {"id": "reg1", "label": "Reg. 1", **look},
    ]
    pack.put(folder, "overview", {"methods": methods})
    return folder


@pytest.fixture(scope="module")
def study(site):
    (study,) = rating.read_studies(site).values()
    return study


def answer_file(site, study, rater, answer_trial, *, of_each=15):
    """Return what the page saves of a rater, as the content of the file.

    Args:
        site: The folder of the site.
        study: The study that the rater takes part in.
        rater: The rater's name.
        answer_trial: A function that answers a trial, a row of `study.trials`.
        of_each: How many trials of each method are answered, beside practice and
            catches.
    """
    (site_hash,) = rating.read_studies(site)
    table = study.trials
    numbers = [*table.index[table["kind"] != trials.COUNTED]]
    for method in study.methods:
        of_method = (table["method"] == method) & (table["kind"] == trials.COUNTED)
        numbers += [*table.index[of_method][:of_each]]
    answers = [
        {
            "trial": int(number),
            "latent": int(table.loc[number, "latent"]),
            "left_image": int(table.loc[number, "fires"]),
            "right_image": int(table.loc[number, "silent"]),
            "answer": answer_trial(table.loc[number]),
            "milliseconds": sum(map(ord, rater)),
        }
        for number in numbers
    ]
    return {
        "format": 1,
        "experiment": "demo",
        "site": site_hash,
        "dataset": "d",
        "backbone": "b",
        "k": 8,
        "rater": rater,
        "seed": sum(map(ord, rater)),
        "answers": answers,
    }


def saved(tmp_path, content, name="answers.json"):
    """Write content into a file, and return its path."""
    path = tmp_path / name
    path.write_text(json.dumps(content), encoding="utf-8")
    return path


def better_at_reg1(trial):
    """Answer rightly, but for every third latent of Top-k."""
    is_hard = trial["method"] == "topk" and trial["latent"] % 3 == 0
    return "right" if is_hard and trial["kind"] == trials.COUNTED else "left"


def test_answers_are_counted(site, study, tmp_path, capsys):
    names = ("Ada", "Bo", "Cy", "=HYPERLINK(1)")
    paths = [
        saved(tmp_path, answer_file(site, study, name, better_at_reg1), f"{name}.json")
        for name in names
    ]
    inattentive = answer_file(site, study, "Eve", lambda trial: "none")
    paths.append(saved(tmp_path, inattentive, "Eve.json"))
    short = answer_file(site, study, "Flo", better_at_reg1, of_each=2)
    paths.append(saved(tmp_path, short, "Flo.json"))
    rating.rated(site, paths, out=tmp_path / "out")
    page = capsys.readouterr().out

    latents = study.trials
    of_topk = latents[(latents["method"] == "topk") & (latents["kind"] == 0)][:15]
    share = 1 - (of_topk["latent"] % 3 == 0).mean()
    shares = pd.read_csv(tmp_path / "out/shares.csv").set_index("method")
    assert shares.loc["topk", "share"] == pytest.approx(share)
    assert shares.loc["reg1", "difference"] == pytest.approx(1 - share)
    assert list(shares["answers"]) == [60, 60] and list(shares["raters"]) == [4, 4]
    assert "Reg. 1" in page and f"{1 - share:+.3f} [" in page
    assert "Eve.json is left out: right in 0 of 6 catch trials." in page
    assert "Flo.json is left out: 4 answers that count, of 10 that are needed." in page
    raters = set(pd.read_csv(tmp_path / "out/answers.csv")["rater"])
    assert raters == {"Ada", "Bo", "Cy", "'=HYPERLINK(1)"}
    written = {path.name for path in (tmp_path / "out").iterdir()}
    assert {
        "judged.md",
        "correlations.csv",
        "answers.csv",
        "psychometric.png",
    } < written
    (tmp_path / "out/answers.csv").write_text("mine")
    with refused_naming("answers.csv"):
        rating.rated(site, paths, out=tmp_path / "out")
    assert (tmp_path / "out/answers.csv").read_text() == "mine"


def altered(content):
    content["answers"][7]["left_image"] += 1
    return content


def without_a_key(content):
    del content["answers"][3]["milliseconds"]
    return content


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (lambda content: json.dumps(content)[:-40], "is cut short or no file of"),
        (lambda content: content | {"site": "0123456789abcdef"}, "of another site"),
        (lambda content: content | {"format": 0}, "format 0; this version reads 1"),
        (
            lambda content: content | {"answers": content["answers"] * 2},
            "trial 0 is answered twice",
        ),
        (altered, "trial 7 is not one of the site's"),
        (without_a_key, "milliseconds"),
        (lambda content: [], "answers.json: "),
    ],
)
def test_what_is_refused(site, study, tmp_path, damage, says):
    content = answer_file(site, study, "Ada", better_at_reg1)
    damaged = damage(content)
    path = tmp_path / "answers.json"
    path.write_text(damaged if isinstance(damaged, str) else json.dumps(damaged))
    with pytest.raises(UserError, match=r"answers\.json") as caught:
        rating.read_ratings(site, [path])
    assert says in str(caught.value) and "\n" not in str(caught.value)


def test_an_alias_is_one_rater_and_a_latent_counts_once(site, study, tmp_path):
    first = answer_file(site, study, "Ada", better_at_reg1, of_each=12)
    again = answer_file(site, study, "Ada", better_at_reg1, of_each=15) | {"seed": 9}
    paths = [
        saved(tmp_path, content, f"{name}.json")
        for name, content in (("first", first), ("again", again))
    ]
    answers = rating.read_ratings(site, paths).answers
    assert list(answers["rater"].unique()) == ["Ada"] and len(answers) == 30
    # A copy under another seed is found by its answers.
    copy = first | {"seed": 10, "rater": "Bo"}
    with pytest.raises(UserError, match="the same rater's answers"):
        rating.read_ratings(site, [paths[0], saved(tmp_path, copy, "copy.json")])


def test_equal_answers_under_two_aliases_are_said(site, study, tmp_path):
    """With other words, times and sides beside them, they are no copy of a file."""
    first = answer_file(site, study, "Ada", better_at_reg1)
    same = answer_file(site, study, "Bo", better_at_reg1)
    other = answer_file(site, study, "Cy", lambda trial: "left")
    paths = [
        saved(tmp_path, content, f"{content['rater']}.json")
        for content in (first, same, other)
    ]
    (remark,) = rating.read_ratings(site, paths).remarks
    assert "Ada and Bo gave equal answers" in remark
    assert rating.read_ratings(site, [paths[0], paths[2]]).remarks == []


def test_what_is_no_site_and_who_is_left(site, study, tmp_path):
    with pytest.raises(UserError, match="is no site"):
        rating.read_ratings(tmp_path, [])
    with pytest.raises(UserError, match="at least one file"):
        rating.read_ratings(site, [])
    content = answer_file(site, study, "Eve", lambda trial: "none")
    with pytest.raises(UserError, match=r"no rater counts: answers\.json is left out"):
        rating.read_ratings(site, [saved(tmp_path, content)])


def test_altered_trials_are_refused(site, tmp_path):
    payload = pack.read_payload(site, "judge/0")
    pack.put(tmp_path, "overview", {"methods": []})
    pack.put(tmp_path, "judge/0", payload | {"k": 9})
    with pytest.raises(UserError, match=r"judge/0\.js was altered"):
        rating.read_studies(tmp_path)

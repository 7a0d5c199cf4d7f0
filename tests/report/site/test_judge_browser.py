"""The view Judge in a real browser: simulated raters answer its trials, and are read."""

import json

import numpy as np
import pandas as pd
import pytest
from report.site.test_browser import CELL, chromium, settled, site, visit  # noqa: F401

from sae.report import rating
from sae.report.site import trials

pytestmark = pytest.mark.browser
VIEW = f"#/judge/{CELL}"
KEYS = {"left": "1", "right": "2", "none": "0"}


def chance_of(trial):
    """How often a rater who is like the other backbones is right: as detection says."""
    return float(np.clip(trial["detection"], 0.5, 1.0))


class Rater:
    """Answers the trials of a page as a person would: by looking at the images.

    Args:
        study: The trials.
        chance: What the chance is that the answer to a trial is right.
        seed: Of the rater's luck.
    """

    def __init__(self, study, chance, seed=0):
        self.trials = study.trials
        self.chance = chance
        self.rng = np.random.default_rng(seed)

    def key(self, page):
        """The key that answers the trial that a page shows."""
        trial = self.trials.iloc[int(page.get_attribute("section.judge", "data-trial"))]
        left, right = [
            int(choice.get_attribute("data-image"))
            for choice in page.query_selector_all(".choice")
        ]
        assert {left, right} == {trial["fires"], trial["silent"]}
        is_left = left == trial["fires"]
        is_right_answer = self.rng.random() < self.chance(trial)
        return KEYS["left" if is_left == is_right_answer else "right"]


def opened(visit, seed):  # noqa: F811
    """The page of a session whose trials are drawn with a seed, the same in each run."""
    page = visit(VIEW)
    page.evaluate(
        """(seed) => {
            const key = `judge ${SITE.overview.cells[0].judge}`;
            localStorage.setItem(key, JSON.stringify({ seed, alias: "", answers: [] }));
        }""",
        seed,
    )
    page.reload()
    settled(page)
    return page


def begin(page, alias):
    """Begin, or go on."""
    page.fill("input[name=alias]", alias)
    page.keyboard.press("Enter")
    page.wait_for_selector(".choice")


def answer(page, rater, most=100):
    """Answer trials, `most` of them, with the keyboard alone; give how many there were."""
    for number in range(most):
        if page.query_selector(".choice") is None:
            return number
        page.keyboard.press(rater.key(page))
        if page.query_selector(".judge [role=status]"):
            page.keyboard.press("Enter")  # The button Next has the focus.
    return most


def saved(page, tmp_path):
    """The file that the page saves."""
    with page.expect_download() as download:
        page.click("text=Save answers")
    path = tmp_path / download.value.suggested_filename
    download.value.save_as(path)
    return path


@pytest.fixture
def study(site):  # noqa: F811
    (study,) = rating.read_studies(site[0]).values()
    return study


def test_simulated_raters_are_read_as_what_they_are(visit, site, study, tmp_path):  # noqa: F811
    seeing = Rater(study, lambda trial: 1.0)
    page = opened(visit, 7)
    begin(page, "sees all")
    asked = answer(page, seeing)
    assert asked == 5 + 20 + 6 and "Thank you" in page.inner_text("main")
    path = saved(page, tmp_path)
    people = rating.read_ratings(site[0], [path])
    assert (people.answers["correct"] == 1).all() and len(people.answers) == 20
    # No image is asked about twice, and no trial is.
    answers = json.loads(path.read_text())["answers"]
    queries = [
        image for each in answers for image in (each["left_image"], each["right_image"])
    ]
    assert len(set(queries)) == len(queries) and len(answers) == asked

    # Raters who are as good as detection says under the first method, and always right
    # under the second: the difference that is there is read.
    def known_chance(trial):
        is_plain = trial["kind"] == trials.CATCH or trial["method"] != study_methods[0]
        return 1.0 if is_plain else chance_of(trial)

    study_methods = list(study.methods)
    files = []
    for seed in range(4):
        page = opened(visit, seed)
        begin(page, f"rater {seed}")
        answer(page, Rater(study, known_chance, seed))
        files.append(saved(page, tmp_path))
    people = rating.read_ratings(site[0], files)
    asked_latents = people.answers.merge(people.scores, on=["method", "latent"])
    expected = asked_latents.apply(chance_of, axis=1)
    expected = expected[asked_latents["method"] == study_methods[0]]
    error = (expected * (1 - expected)).sum() ** 0.5 / len(expected)
    rating.rated(site[0], files, out=tmp_path / "out")
    shares = pd.read_csv(tmp_path / "out/shares.csv").set_index("method")
    difference = shares.loc[study_methods[1], "difference"]
    assert abs(difference - (1 - expected.mean())) < 3 * error
    assert (tmp_path / "out/psychometric.png").exists()

    guessing = Rater(study, lambda trial: 0.5, seed=1)
    page = opened(visit, 8)
    begin(page, "guesses")
    answer(page, guessing)
    with pytest.raises(rating.UserError, match="catch trials"):
        rating.read_ratings(site[0], [saved(page, tmp_path)])


def test_a_pause_keeps_the_place(visit, study, tmp_path):  # noqa: F811
    page = opened(visit, 7)
    begin(page, "Ada")
    answer(page, Rater(study, lambda trial: 1.0), most=9)
    shown = page.get_attribute("section.judge", "data-trial")
    page.reload()
    settled(page)
    assert "9 of 31 trials are answered" in page.inner_text("main")
    assert page.input_value("input[name=alias]") == "Ada"
    page.keyboard.press("1")  # No trial is shown: it answers none.
    # A key that is held writes on in the alias.
    held = "new KeyboardEvent('keydown', {key: 'a', repeat: true, bubbles: true, cancelable: true})"
    assert page.evaluate(
        f"document.querySelector('[name=alias]').dispatchEvent({held})"
    )
    begin(page, "Ada")
    assert page.get_attribute("section.judge", "data-trial") == shown
    answer(page, Rater(study, lambda trial: 1.0))
    content = json.loads(saved(page, tmp_path).read_text())
    assert content["rater"] == "Ada" and len(content["answers"]) == 31


def test_a_rater_who_stops_early_sees_when_answers_count(visit, site, study, tmp_path):  # noqa: F811
    page = opened(visit, 7)
    begin(page, "Ada")
    rater = Rater(study, lambda trial: 1.0)
    answered = answer(page, rater, most=1)
    while "1 trial to go until your answers count" not in page.inner_text("main"):
        answered += answer(page, rater, most=1)
    too_few = saved(page, tmp_path)
    with pytest.raises(rating.UserError, match="no rater counts"):
        rating.read_ratings(site[0], [too_few])
    answered += answer(page, rater, most=1)
    assert "Your answers are enough to count" in page.inner_text("main")
    enough = saved(page, tmp_path)
    assert rating.read_ratings(site[0], [enough]).remarks == []
    assert len(json.loads(enough.read_text())["answers"]) == answered < 31


def test_images_have_the_size_that_the_window_has_room_for(visit, study):  # noqa: F811
    page = opened(visit, 7)
    begin(page, "Ada")
    answer(page, Rater(study, lambda trial: 1.0), most=6)
    trial = page.get_attribute("section.judge", "data-trial")
    widths = """[".nine .thumb", ".choice .thumb"].map((images) =>
        [...document.querySelectorAll(images)].map(({ offsetWidth }) => offsetWidth))"""
    assert page.evaluate(widths) == [[96] * 18, [224] * 2]
    page.set_viewport_size({"width": 400, "height": 800})
    page.wait_for_function(f"{widths}[1][0] < 224")
    assert page.evaluate(widths) == [[52] * 18, [158] * 2]
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    assert page.get_attribute("section.judge", "data-trial") == trial
    # What is asked and its answer are those of before.
    answer(page, Rater(study, lambda trial: 1.0), most=1)
    assert page.get_attribute("section.judge", "data-trial") != trial
    page.set_viewport_size({"width": 1366, "height": 800})
    page.wait_for_function(f"{widths}[1][0] === 224")


def test_nothing_tells_the_answer(visit, study):  # noqa: F811
    page = visit(VIEW)
    begin(page, "")
    answer(page, Rater(study, lambda trial: 1.0), most=5)
    # Sides are as often right as left; images have neither names nor links.
    text = page.inner_text(".trial")
    assert "img_" not in text and page.query_selector(".trial a") is None
    alts = [
        image.get_attribute("alt") for image in page.query_selector_all(".trial img")
    ]
    assert alts[0] == "Image 1 of 9 that have it"
    assert alts[-2:] == ["The left image", "The right image"]
    assert not any("method" in text or "latent" in text for text in alts)


def test_another_session_has_other_trials(visit, study):  # noqa: F811
    page = visit(VIEW)
    begin(page, "Ada")
    answer(page, Rater(study, lambda trial: 1.0), most=1)
    first_seed = page.evaluate("JSON.parse(Object.values(localStorage)[0]).seed")
    page.reload()
    settled(page)
    page.on("dialog", lambda dialog: dialog.accept())
    page.click("text=begin anew")
    page.wait_for_function(
        "!document.querySelector('main').innerText.includes('answered')"
    )
    assert (
        page.evaluate("JSON.parse(Object.values(localStorage)[0]).seed") != first_seed
    )


def test_answers_in_another_tab_are_not_lost(visit, study):  # noqa: F811
    first = opened(visit, 7)
    begin(first, "Ada")
    second = first.context.new_page()
    second.goto(first.url)
    settled(second)
    begin(second, "Ada")
    answer(second, Rater(study, lambda trial: 1.0), most=8)
    # A browser tells its other tabs what one has stored a moment later.
    stored = "JSON.parse(Object.values(localStorage)[0]).answers.length"
    first.wait_for_function(f"{stored} === 8")
    first.keyboard.press("1")
    assert "went on in another tab" in first.inner_text("main")
    assert "8 of 31 trials are answered" in first.inner_text("main")
    begin(first, "Ada")
    shown = first.get_attribute("section.judge", "data-trial")
    assert shown == second.get_attribute("section.judge", "data-trial")

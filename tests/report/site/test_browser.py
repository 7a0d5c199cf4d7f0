"""The site in a real browser: what views show, what links reproduce, what a keyboard
and a reader of screens get.

`make test-browser` runs these tests: they need Debian's chromium, and playwright and axe of requirements-browser.lock.
"""

import json
import re
from pathlib import Path
from urllib.parse import quote

import numpy as np
import pytest
from report.site import sample
from report.site.test_assets import scripts_that_the_readme_adds

pytestmark = pytest.mark.browser

CHROMIUM = Path("/usr/bin/chromium")
ARGUMENTS = [
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
]
CELL = "d%2F1/b/4"  # dataset d/1, backbone b, k = 4
SECOND = quote("reg/1 & <b>", safe="")
VIEWS = {
    "overview": "#/",
    "cell": f"#/cell/{CELL}",
    "latents": f"#/latents/{CELL}/topk",
    "latent": f"#/latent/{CELL}/topk/0",
    "dead": f"#/latent/{CELL}/topk/47",
    "find": f"#/image/{CELL}",
    "image": f"#/image/{CELL}/0",
    "compare": f"#/compare/{CELL}",
    "concepts": f"#/concepts/{CELL}",
    "concept": f"#/concept/{CELL}/{quote(sample.CONCEPTS[0], safe='')}",
    "where": f"#/latent/{CELL}/topk/1?show=where",
    "pair": f"#/image/{CELL}/4?pair=5",
    "judge": f"#/judge/{CELL}",
    "no trials": "#/judge/e/b/8",
    "files": "#/files",
    "bare": "#/latent/e/b/8/topk/1",
    "nowhere": "#/nowhere",
    "missing": f"#/latent/{CELL}/topk/999",
}


@pytest.fixture(scope="session")
def chromium():
    from playwright.sync_api import sync_playwright

    assert CHROMIUM.exists(), (
        "Debian's: apt-get install -y --no-install-recommends chromium"
    )
    with sync_playwright() as playwright:
        options = {"executable_path": str(CHROMIUM), "chromium_sandbox": False}
        browser = playwright.chromium.launch(
            args=[*ARGUMENTS, "--disable-quic"], **options
        )
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def site(tmp_path_factory):
    """(folder, what it holds) of the sample."""
    folder = tmp_path_factory.mktemp("site")
    return folder, sample.write(folder)


@pytest.fixture(scope="session")
def plain(tmp_path_factory):
    """The folder of someone's SAE alone."""
    folder = tmp_path_factory.mktemp("plain")
    sample.write_plain(folder)
    return folder


@pytest.fixture
def visit(chromium, site):
    """A function that opens an address and gives the page; at the end nothing may have
    gone wrong in any of them.
    """
    wrong, contexts = [], []

    def opened(address="#/", folder=site[0], **options):
        context = chromium.new_context(
            **{"offline": True, "viewport": {"width": 1366, "height": 900}} | options
        )
        context.set_default_timeout(10_000)
        contexts.append(context)
        page = context.new_page()
        page.on(
            "console",
            lambda said: (
                wrong.append(said.text) if said.type in ("error", "warning") else None
            ),
        )
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.on("requestfailed", lambda asked: wrong.append(f"failed: {asked.url}"))
        start = (f"file://{folder}/", "data:", "about:")
        page.on(
            "request",
            lambda asked: (
                None if asked.url.startswith(start) else wrong.append(asked.url)
            ),
        )
        page.goto(f"file://{folder}/index.html{address}")
        settled(page)
        return page

    opened.wrong = wrong
    yield opened
    broken = [
        page.evaluate("window.broken")
        for context in contexts
        for page in context.pages
        if not page.is_closed()
    ]
    for context in contexts:
        context.close()
    assert wrong == [] and set(broken) <= {None}


def settled(page):
    """Wait until the view of the address is shown: the address changes before the page
    hears of it.
    """
    page.wait_for_function(
        "SITE.shown === location.hash && !document.querySelector('main').hasAttribute('aria-busy')"
    )


def go(page, address):
    """Follow a link within the site."""
    page.evaluate("(to) => { location.hash = to }", address)
    settled(page)


def column(page, label, number):
    """The texts of a column of a table."""
    return page.locator(
        f'table[aria-label="{label}"] tbody tr > :nth-child({number})'
    ).all_inner_texts()


def test_every_view_shows_itself(visit, plain):
    page = visit()
    titles = set()
    for name, address in VIEWS.items():
        go(page, address)
        heading = page.locator("h1")
        assert heading.count() == 1 and heading.inner_text(), name
        titles.add(page.title())
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), name
    assert len(titles) == len(VIEWS)
    other = visit(folder=plain)
    for address in (
        "#/",
        "#/cell",
        "#/latents",
        "#/latent/e/b/4/topk/1",
        "#/image",
        "#/image/e/b/4/2",
        "#/files",
    ):
        go(other, address)
        text = other.locator("main").inner_text()
        assert "This cannot be shown" not in text and not re.search(
            "undefined|NaN|Claims|Leaderboard", text
        ), address


def test_the_addresses_above_are_of_every_view(visit):
    views = visit().evaluate("[...SITE.views.keys()]")
    tested = {re.match(r"#/(\w*)", address)[1] for address in VIEWS.values()}
    assert set(views) - {"overview"} == tested - {"", "nowhere"}


def test_a_view_and_a_table_are_a_file_each_and_no_edit_of_another(visit, tmp_path):
    sample.write(tmp_path)
    for name, text in scripts_that_the_readme_adds().items():
        (tmp_path / "assets" / name).write_text(text)
    sample.shell(tmp_path, "sample", "", [])  # It lists the files that are there.
    page = visit(VIEWS["cell"], folder=tmp_path)
    assert page.locator("h2").all_inner_texts()[-1] == "Seeds"
    seeds = page.get_by_role("group", name="Seeds", exact=True)
    assert seeds.locator("thead").inner_text().split() == ["seed", "trials"]

    views = page.locator("#nav a").all_inner_texts()
    assert views[views.index("Dead") - 1 :] == ["Judge", "Dead", "Files"]
    page.locator(".links").get_by_role("link", name="Dead", exact=True).click()
    page.wait_for_url(f"**#/dead/{CELL}")
    settled(page)
    table = page.get_by_role("group", name="Dead latents")
    assert table.locator("td").all_inner_texts() == ["4", "4"]
    assert page.locator("nav a[aria-current=page]").inner_text() == "Dead"


def test_narrow_pages_do_not_scroll_sideways(visit):
    for width in (390, 820):
        page = visit(viewport={"width": width, "height": 844})
        for name, address in VIEWS.items():
            go(page, address)
            assert page.evaluate(
                "document.documentElement.scrollWidth <= innerWidth"
            ), (width, name)


def test_numbers_are_the_data(visit, site):
    _, held = site
    page = visit()
    assert column(page, "Comparison", 2) == [
        *("mean", f"family {sample.HOSTILE}", "mean", "mean")
    ]
    ms = column(page, "Comparison", 3)
    detection = column(page, "Comparison", 4)
    assert detection[0] == "0.700" and detection[1].startswith("+0.020")
    of_mean = ["+0.012", "[+0.004, +0.020]", "better"]
    assert detection[2].split("\n") == of_mean
    assert "inconclusive\na loss of .02 to a gain of .014" in ms[2]
    # The control has no MS here, and its R² is not marked.
    assert (detection[3], ms[3]) == ("-0.100", "–")
    assert column(page, "Comparison", 5) == ["0.600", "-0.001", "-0.012 !", "-0.500"]
    assert column(page, "Comparison", 6)[2:] == ["0 of 2\n1 out of reach", "0 of 2"]
    # Means over seeds where methods are compared, with the difference from the
    # baseline; of what is out of reach the scores of the SAE that is shown.
    assert column(page, "SAEs", 7) == ["0.700", "0.700", "–", "0.700\n-0.100"]
    assert column(page, "SAEs", 5) == ["0.600", "0.610", "0.620", "0.600"]
    assert [item.inner_text() for item in page.locator(".claim .badge").all()] == [
        "holds ?",
        "not shown",
    ]
    go(page, VIEWS["latents"])
    latents = held["payloads"][0]["latents"]
    # At first those that fire on ten images or more, by detection.
    often = np.diff(held["codes"][0]["offsets"]) >= 10
    order = [int(text) for text in column(page, "Latents", 1)]
    assert 0 < len(order) == often.sum() < len(often) and often[order].all()
    detection = sample.unpacked(latents["detection"])[order]
    known = detection[~np.isnan(detection)]
    assert list(known) == list(np.sort(known)[::-1])
    page.get_by_label("Show").select_option("alive")
    page.get_by_role("button", name="MS").click()
    ms = sample.unpacked(latents["ms"])
    known = np.sort(ms[~np.isnan(ms)])[::-1]
    shown = column(page, "Latents", 5)
    assert shown[: len(known)] == [f"{value:.3f}" for value in known]
    order = [int(text) for text in column(page, "Latents", 1)]
    assert list(ms[order[: len(known)]]) == list(known)


NOT_LOADED = """[...document.images]
    .filter(({ complete, naturalWidth }) => !(complete && naturalWidth))
    .map(({ alt }) => alt)"""


def test_every_picture_is_loaded_once_it_is_in_sight(visit):
    for name, address in VIEWS.items():
        page = visit(address)  # Another page may have loaded its sheets.
        begin = page.get_by_role("button", name="Begin")
        if begin.count():
            begin.click()
        height = page.evaluate("document.documentElement.scrollHeight")
        for top in range(0, height, 500):
            page.evaluate("(top) => scrollTo(0, top)", top)
            page.wait_for_timeout(50)
        assert page.evaluate(NOT_LOADED) == [], name


def test_a_picture_in_the_last_row_of_a_sheet_is_loaded(visit):
    # Its sheet lies far above the screen, and no other picture asks for it.
    page = visit(VIEWS["files"])
    page.evaluate(
        """async () => {
            const images = await SITE.loadImages(SITE.overview.cells[0]);
            const picture = SITE.thumbnail(images, 250, 224, "the picture");
            document.querySelector("main").replaceChildren(picture);
        }"""
    )
    page.wait_for_function("document.images[0].naturalWidth > 0", timeout=3000)
    assert page.evaluate(NOT_LOADED) == []


def test_what_was_not_chosen_says_so(visit):
    said = "reconstructs as well as the baseline's best here, so none was chosen"
    page = visit(f"#/cell/{CELL}")
    assert said in page.locator(".notice").first.inner_text()
    go(page, f"#/latents/{CELL}/topk")
    assert said not in page.locator("main").inner_text()
    go(page, f"#/latents/{CELL}/{SECOND}")
    assert said in page.locator("main").inner_text()
    go(page, "#/")
    assert "out of reach" in page.locator('table[aria-label="SAEs"]').inner_text()
    # An address of what is not there is not blamed on the folder.
    go(page, f"#/latents/{CELL}/nobody")
    text = page.locator("main").inner_text()
    assert "No SAE of this method" in text and "incomplete" not in text


def test_images_stand_in_the_order_of_the_codes(visit, site):
    code = site[1]["codes"][0]
    page = visit(VIEWS["latent"])
    strips = (
        page.locator("main section")
        .filter(has_text="Images that activate it most")
        .first
    )
    shown = [
        int(a.get_attribute("data-image"))
        for a in strips.locator("a[data-image]").all()
    ]
    assert shown == list(code["image"][: len(shown)]) and len(shown) == 15
    text = page.locator("main").inner_text()
    assert f"fires on {code['offsets'][1]} of 300 test images" in text
    # Each image lies in one interval.
    counts = [int(n) for n in re.findall(r"to [\d.]+\s+(\d+) images?,", text)]
    assert sum(counts) == code["offsets"][1] and len(counts) == 6


# Of the first images in a section: the row, the box, what lies in it.
SHOWN = """(section) => [...section.querySelectorAll("a[data-image]:has(img)")].map((a) => {
    const img = a.querySelector("img");
    const box = img.parentElement.getBoundingClientRect();
    return {
        image: Number(a.dataset.image), width: box.width, height: box.height,
        pixels: [img.naturalWidth, img.naturalHeight],
        left: -parseInt(img.style.left), top: -parseInt(img.style.top),
    };
})"""


def shown_images(page, title):
    """The images of a section once they are loaded."""
    section = page.locator("main section").filter(has_text=title).first
    section.locator("a[data-image]").last.scroll_into_view_if_needed()
    page.wait_for_function(
        "(section) => [...section.querySelectorAll('img')].every((img) => img.naturalWidth)",
        arg=section.element_handle(),
    )
    return section.evaluate(SHOWN)


def test_thumbnails_are_the_images(visit):
    page = visit(VIEWS["latent"])
    shown = shown_images(page, "Images by interval")
    thumbnails = [thumbnail for thumbnail in shown if thumbnail["image"] % 2]
    assert thumbnails  # The others have pictures.
    for thumbnail in thumbnails:
        image = thumbnail["image"]
        assert thumbnail["pixels"][0] == sample.ACROSS * sample.SIDE
        assert (thumbnail["width"], thumbnail["height"]) == (52, 52)
        assert thumbnail["left"] == image % 16 * 52
        assert thumbnail["top"] == image % 256 // 16 * 52


def test_a_latents_page_and_an_images_show_larger_pictures(visit):
    page = visit(VIEWS["latent"])
    shown = shown_images(page, "Images that activate it most")
    with_picture = [picture for picture in shown if picture["image"] % 2 == 0]
    assert 0 < len(with_picture) < len(shown)
    for picture in with_picture:
        assert picture["pixels"] == [160, 120]
        # What is drawn over the box lies on the picture alone.
        assert picture["width"] / picture["height"] == pytest.approx(4 / 3, rel=0.01)
        assert picture["width"] == 118
    for thumbnail in shown:
        if thumbnail not in with_picture:
            assert thumbnail["pixels"][0] == sample.ACROSS * sample.SIDE
            # Not blown up beside pictures.
            assert (thumbnail["width"], thumbnail["height"]) == (64, 64)

    go(page, VIEWS["image"])
    page.wait_for_function("document.querySelector('.bar img').naturalWidth === 160")


@pytest.mark.parametrize("width", [400, 1400])
def test_the_switch_shows_where_in_its_pictures_a_latent_fires(visit, width):
    options = {"viewport": {"width": width, "height": 900}}
    page = visit(VIEWS["latent"] + "?with=" + SECOND, **options)
    maps = page.locator("canvas.map")
    assert maps.count() == 0
    switch = page.get_by_role("combobox", name="Show", exact=True)
    switch.select_option(label="where")
    settled(page)
    assert "show=where" in page.url and "with=" in page.url
    assert (
        "5 x 6 positions. Before what is negative" in page.locator("main").inner_text()
    )
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")

    highest = page.locator("section", has_text="Images that activate it most")
    drawn = highest.first.locator(".strip li").evaluate_all(
        """items => items.map((item) => {
            const canvas = item.querySelector("canvas");
            const alpha = canvas.getContext("2d").getImageData(0, 0, 6, 5).data;
            const {x, y, width, height} = canvas.getBoundingClientRect();
            const box = item.querySelector(".thumb").getBoundingClientRect();
            return {
                image: Number(item.querySelector("a").dataset.image),
                lit: [...Array(30).keys()].filter((place) => alpha[4 * place + 3] === 0),
                place: [x - box.x, y - box.y, width, height],
                box: [box.width, box.height],
            };
        })"""
    )
    # Images of an even number have a picture, and are shown. Over the thumbnails of the
    # others, which have borders, a map would not fit.
    assert 5 <= len(drawn) < 10
    expected = f"These {len(drawn)} of its 15 highest have a heatmap."
    assert expected in highest.first.inner_text()
    assert all(map_["image"] % 2 == 0 for map_ in drawn)
    ranks = [rank for map_ in drawn for rank in map_["lit"]]
    assert len(ranks) == len(drawn) and ranks == sorted(ranks) and ranks[-1] < 15
    for map_ in drawn:
        # The square in the middle of the picture, which the network sees.
        across, down = map_["box"]
        side = min(across, down)
        expected = [(across - side) / 2, (down - side) / 2, side, side]
        assert map_["place"] == pytest.approx(expected, abs=0.5)
    assert all(map_["box"][0] > map_["box"][1] for map_ in drawn)

    # The address shows the same; the next latent is shown so, too.
    other = visit(page.url.split("index.html")[1], **options)
    assert other.locator("canvas.map").count() == maps.count() >= 5
    other.locator("a.button[rel=next]").click()
    other.wait_for_url("**/topk/1?show=where")
    settled(other)
    assert other.locator("canvas.map").count() > 0
    other.get_by_role("combobox", name="Show", exact=True).select_option("picture")
    settled(other)
    assert "show" not in other.url and other.locator("canvas.map").count() == 0

    # An SAE without maps has no switch; a backbone without positions says why.
    go(page, f"#/latent/{CELL}/{SECOND}/1?show=where")
    assert switch.count() == 0 and maps.count() == 0
    go(page, VIEWS["bare"])
    assert "No heatmaps: there is no grid." in page.locator("main").inner_text()


def test_filters_stand_in_the_address(visit):
    page = visit()
    page.get_by_role("combobox", name="Dataset", exact=True).select_option(index=1)
    page.locator("label.chip", has_text="Baseline").locator("input").uncheck()
    assert (
        "dataset=d%2F1" in page.url
        and "method=untrained" in page.url
        and "method=topk" not in page.url
    )
    shown = column(page, "SAEs", 2)
    other = visit(page.url.split("index.html")[1])
    assert column(other, "SAEs", 2) == shown and len(shown) == 2
    assert (
        not other.locator("label.chip", has_text="Baseline")
        .locator("input")
        .is_checked()
    )
    assert (
        other.get_by_role("combobox", name="Dataset", exact=True).input_value() == "d/1"
    )


def test_sorting_and_filters_of_latents(visit):
    page = visit(VIEWS["latents"])
    # They come by detection.
    down = [float(text) for text in column(page, "Latents", 6) if text != "–"]
    assert down == sorted(down, reverse=True)
    page.get_by_role("button", name="Detection").click()
    up = column(page, "Latents", 6)
    known = [float(text) for text in up if text != "–"]
    assert known == sorted(known) and up[: len(known)] == [
        f"{value:.3f}" for value in known
    ]  # None of them last.
    assert page.locator("th[aria-sort=ascending]").inner_text() == "Detection"
    page.get_by_label("Show").select_option("dead")
    assert "sort=detection-up" in page.url and "alive=no" in page.url
    assert page.get_by_role("status").inner_text() == "4 of 48 latents"
    other = visit(page.url.split("index.html")[1])
    assert column(other, "Latents", 1) == column(page, "Latents", 1)
    page.get_by_label("Show").select_option("all")
    page.get_by_label("Names").select_option("with a name")
    named = {str(latent) for latent in range(sample.NAMED)}
    assert "named=1" in page.url and set(column(page, "Latents", 1)) == named
    page.get_by_label("Names").select_option("any or none")
    page.get_by_label("Number, class or concept").fill("7")
    assert column(page, "Latents", 1) == ["7"]


def test_open_a_latent_and_walk(visit):
    page = visit(VIEWS["latents"])
    page.locator('table[aria-label="Latents"] tbody a').first.click()
    page.wait_for_url("**#/latent/**")
    settled(page)
    page.wait_for_function("document.activeElement.tagName === 'H1'")
    go(page, f"#/latent/{CELL}/topk/5")
    page.get_by_role("link", name="Next").click()
    page.wait_for_function(
        "document.querySelector('h1').innerText.startsWith('Latent 6 ')"
    )
    page.get_by_label("Jump to latent").fill("40")
    page.keyboard.press("Enter")
    page.wait_for_function(
        "document.querySelector('h1').innerText.startsWith('Latent 40 ')"
    )
    page.go_back()
    page.wait_for_function(
        "document.querySelector('h1').innerText.startsWith('Latent 6 ')"
    )
    go(page, VIEWS["dead"])
    assert "This latent is dead" in page.locator("main").inner_text()


def test_match_under_another_method(visit, site):
    page = visit(f"#/latent/{CELL}/topk/3?with={SECOND}")
    match = site[1]["payloads"][0]["matches"][0]
    latent, cosine = (
        sample.unpacked(match["latent"])[3],
        sample.unpacked(match["cosine"])[3],
    )
    section = page.locator(
        "section",
        has=page.get_by_role("heading", name="Its match under another method"),
    )
    assert (
        f"Latent {latent}" in section.inner_text()
        and f"cosine {cosine:.2f}" in section.inner_text()
    )


def test_image_to_latents(visit, site):
    code = site[1]["codes"][0]
    page = visit(f"#/image/{CELL}")
    page.get_by_label("Id, class or number").fill("img_12.png")
    page.locator("ul.strip a").first.click()
    page.wait_for_url(f"**#/image/{CELL}/12?**")
    settled(page)
    latents = np.repeat(np.arange(48), np.diff(code["offsets"]))
    firing = set(latents[code["image"] == 12])
    links = page.locator(".card h3 a").all()
    mine = [
        link.get_attribute("href")
        for link in links
        if "/topk/" in link.get_attribute("href")
    ]
    assert {int(href.rsplit("/", 1)[1]) for href in mine} == firing and len(
        mine
    ) == len(firing)
    # Where on this image, of latents whose highest images it is among.
    starts = code["offsets"]
    ranks = [
        list(code["image"][starts[latent] : starts[latent + 1]]).index(12)
        for latent in firing
    ]
    assert page.locator(".card figure.where canvas").count() == sum(
        rank < 15 for rank in ranks
    )
    links[0].click()
    page.wait_for_url("**#/latent/**")
    settled(page)
    # A name is its title, in which nothing is read as HTML.
    title = f"C{sample.CONCEPTS[0][1:]}, precision 0.75"
    assert page.locator("h1").inner_text() == title


def test_a_latent_is_titled_by_its_name(visit):
    page = visit(f"#/latent/{CELL}/topk/2")
    assert page.locator("h1").inner_text() == "Plain concept, precision 0.73"
    text = page.locator("main").inner_text()
    assert "Latent 2 of Baseline" in text
    assert "“plain concept”: 73 % of the test images with an activation of 0.2" in text
    go(page, f"#/latent/{CELL}/topk/3")
    assert page.locator("h1").inner_text() == "Latent 3 of Baseline, no name"
    text = page.locator("main").inner_text()
    assert "No name: no keyword is shared by enough of the images" in text
    # It was chosen for a concept all the same.
    assert f"to stand for {sample.CONCEPTS[0]}." in text
    # Another one has no name either, but what is often among its highest images.
    go(page, f"#/latent/{CELL}/topk/4")
    title = f"Latent 4 of Baseline, often: {sample.OFTEN}"
    assert page.locator("h1").inner_text() == title
    go(page, f"#/latent/{CELL}/{SECOND}/3")
    assert page.locator("h1").inner_text().endswith(", name not scored here")
    assert "No name" not in page.locator("main").inner_text()
    go(page, "#/latent/e/b/8/topk/1")
    assert page.locator("h1").inner_text() == "Latent 1 of Baseline"


def test_concepts_and_the_latents_that_stand_for_them(visit):
    page = visit(VIEWS["concepts"])
    assert column(page, "Concepts", 1) == sample.CONCEPTS
    assert column(page, "Concepts", 3) == ["0.700", "0.400", "0.000"]
    assert column(page, "Concepts", 4) == ["150", "100", "75"]
    notice = page.locator(".notice").inner_text()
    assert notice.startswith("Not scored here:") and sample.HOSTILE in notice
    page.get_by_role("button", name="F1, Baseline").click()
    assert column(page, "Concepts", 1) == sample.CONCEPTS[::-1]
    page.get_by_label("F1 under any method").select_option("0.3")
    assert len(column(page, "Concepts", 1)) == 2
    other = visit(page.url.split("index.html")[1])
    assert column(other, "Concepts", 1) == sample.CONCEPTS[1::-1]

    page.get_by_label("Concept", exact=True).fill("CONCEPT / <")
    page.locator('table[aria-label="Concepts"] tbody th a').click()
    page.wait_for_url("**#/concept/**")
    settled(page)
    links = page.locator(".card h3 a").all()
    latents = [int(link.get_attribute("href").rsplit("/", 1)[1]) for link in links]
    # What has its name comes first, though another one is better alone.
    assert latents == [0, 3] and sample.STANDING[0] == [3, 0]
    first, second = page.locator(".card").all()
    assert "precision 0.75, latent 0" in first.inner_text()
    assert "no name, F1 0.50 for it" in second.inner_text()

    # From a method's latents to those of every method.
    go(page, VIEWS["latents"])
    page.get_by_label("Number, class or concept").fill("plain con")
    page.get_by_label("Show").select_option("all")
    assert column(page, "Latents", 1) == ["2"]
    text = page.locator("main").inner_text()
    assert "6.3 % of the latents (3 of 48) have a name" in text
    page.get_by_role("link", name="plain concept").click()
    page.wait_for_url("**#/concept/**")
    settled(page)
    text = page.locator("main").inner_text()
    assert "No latent stands for it." in text and "These have it as their name." in text


def test_the_latents_that_switch_within_a_pair(visit, site):
    page = visit(f"#/image/{CELL}/4")
    partners = page.locator("section", has=page.get_by_text("in one attribute alone"))
    assert partners.locator("ul.strip a").count() == 1
    partners.locator("ul.strip a").click()
    page.wait_for_url("**pair=5")
    settled(page)
    switches = page.locator("section", has=page.get_by_text("Latents that switch"))
    for number, method in ((0, "topk"), (1, SECOND)):
        code = site[1]["codes"][number]
        latents = np.repeat(np.arange(48), np.diff(code["offsets"]))
        first, second = (set(latents[code["image"] == image]) for image in (4, 5))
        links = switches.locator(f'.card h3 a[href*="/{method}/"]').all()
        shown = [int(link.get_attribute("href").rsplit("/", 1)[1]) for link in links]
        assert sorted(shown) == sorted(first ^ second) and len(shown) > 0
    go(page, f"#/image/{CELL}/40")
    assert "one attribute alone" not in page.locator("main").inner_text()
    go(page, f"#/image/{CELL}/4?pair=6")
    assert "do not differ in one attribute" in page.locator("main").inner_text()


def test_compare(visit, site):
    code, payload = site[1]["codes"][0], site[1]["payloads"][0]
    page = visit(VIEWS["compare"])
    assert page.locator("h2").all_inner_texts() == [
        "Highest MS",
        "Rank 10 %",
        "Rank 25 %",
        "Rank 50 %",
    ]
    active, ms = np.diff(code["offsets"]), sample.unpacked(payload["latents"]["ms"])
    other = np.diff(site[1]["codes"][1]["offsets"])
    enough = max(3, min(30, np.sort(active)[-10], np.sort(other)[-10]))
    order = [
        j
        for j in np.argsort(-ms, kind="stable")
        if active[j] >= enough and not np.isnan(ms[j])
    ]
    expected = [order[int(rank * (len(order) - 1))] for rank in (0, 0.1, 0.25, 0.5)]
    assert [
        int(text.split()[1])
        for text in page.locator(".pair > :first-child h3 a").all_inner_texts()
    ] == expected
    page.get_by_role("combobox", name="Latents", exact=True).select_option("latent")
    page.wait_for_url("**by=latent")
    settled(page)
    pairs = page.locator(".card h3 a").all_inner_texts()
    assert pairs[::2] == pairs[1::2]


def test_points_are_reached_by_keyboard_and_say_their_numbers(visit):
    page = visit()
    point = page.locator("figure svg a[tabindex='0']").first
    point.focus()
    before = page.evaluate("document.activeElement.getAttribute('aria-label')")
    page.keyboard.press("ArrowRight")
    after = page.evaluate("document.activeElement.getAttribute('aria-label')")
    assert before != after and "R²" in after
    assert page.locator("#tip").inner_text() == after
    page.keyboard.press("Enter")
    page.wait_for_url("**#/cell/**")
    settled(page)
    assert page.locator("nav a[aria-current=page]").inner_text() == "Cell"


def test_training_of_a_run_that_diverged(visit):
    page = visit(VIEWS["cell"])
    page.get_by_role("combobox", name="Trial", exact=True).select_option(index=1)
    assert "This run diverged." in page.locator("main").inner_text()


def test_downloads_are_there(visit, site):
    folder, _ = site
    page = visit(VIEWS["files"])
    links = page.locator("a[download]").all()
    assert len(links) == 2 and all(
        (folder / link.get_attribute("href")).is_file() for link in links
    )
    # A licence's homepage that is no web address is no link.
    assert page.locator("a[href^='javascript']").count() == 0


def test_hostile_names_are_text(visit):
    page = visit()
    assert page.locator("h1").inner_text() == f"A sample of {sample.HOSTILE}"
    assert page.locator("main script, main img[src=x]").count() == 0
    for name, address in VIEWS.items():
        go(page, address)
        assert page.evaluate("window.broken") is None, name
    go(page, VIEWS["image"])
    text = page.locator("main").inner_text()
    assert f"{sample.HOSTILE}.png" in text and "&lt;" not in text
    go(page, f"#/image/{CELL}/1")
    assert sample.ARABIC in page.locator("h1").inner_text()
    go(page, f"#/image/{CELL}/2")
    assert sample.LONG in page.locator("h1").inner_text()
    go(page, VIEWS["latents"])
    options = page.get_by_label("Main class").locator("option").all_inner_texts()
    assert options[1:4] == [sample.HOSTILE, sample.ARABIC, sample.LONG]


def test_a_missing_file_is_said(visit, site, tmp_path):
    folder = tmp_path / "torn"
    folder.mkdir()
    for name in ("assets", "data", "index.html"):
        (folder / name).symlink_to(site[0] / name)
    page = visit(VIEWS["latent"], folder=folder)
    page.evaluate("SITE.overview.cells[0].saes.push(3)")
    go(page, f"#/latent/{CELL}/untrained/0")
    assert "data/saes/3.js is missing" in page.locator("main").inner_text()
    visit.wrong.clear()  # The browser says it too.


@pytest.mark.parametrize("width", [390, 1366])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_reports_nothing(visit, scheme, width):
    from axe_playwright_python.sync_playwright import Axe

    page = visit(
        color_scheme=scheme,
        viewport={"width": width, "height": 900},
        reduced_motion="reduce",
    )
    found = {}
    for name in (
        "overview",
        "cell",
        "latents",
        "latent",
        "find",
        "image",
        "compare",
        "files",
    ):
        go(page, VIEWS[name])
        for violation in (
            Axe().run(page, options={"preload": False}).response["violations"]
        ):
            nodes = [node["html"][:200] for node in violation["nodes"]]
            found[f"{name}: {violation['id']}"] = nodes[:3]
    assert found == {}, json.dumps(found, indent=1)


def test_the_overview_begins_with_words_then_effects_names_and_extremes(visit):
    page = visit()
    first = page.locator("main .first > *")
    assert first.evaluate_all("(all) => all.map(({ className }) => className)") == [
        *("answer", "forest")
    ]
    assert sample.LONG.strip() in first.nth(1).inner_text()  # Its caption.
    headings = page.locator("main h2").all_inner_texts()
    assert headings[:2] == ["Latents with a name", "Extremes"]
    assert "The nearest. " + sample.HOSTILE in page.locator("main").inner_text()
    page.wait_for_selector(".gained .strip img")
    strips = page.locator(".gained .strip")
    # The latent's, then its match's; an image without a thumbnail is left out.
    assert [strips.nth(at).locator("li").count() for at in (0, 1)] == [3, 2]
    # It is not among the cards as well.
    assert page.locator(".cards .card").count() == 2
    assert page.locator(".cards .strip li").count() == 2


def test_what_the_comparison_shows_stands_in_the_address(visit):
    page = visit()
    heads = page.locator('table[aria-label="Comparison"] thead')
    assert "dead latents" not in heads.inner_text()
    page.select_option("label:has-text('Scores') select", label="all")
    assert "scores=all" in page.evaluate("location.hash")
    page.reload()
    settled(page)
    assert "dead latents" in heads.inner_text()


def test_trials_are_shaded_where_they_reconstruct_as_well_and_ringed_if_chosen(
    visit, site
):
    page = visit(VIEWS["cell"])
    chart = page.locator("section", has_text="Trials: scores against R²").locator("svg")
    chart = chart.locator("visible=true").nth(3)  # After those of the legend.
    assert chart.locator("rect.band").count() == 1
    trials = site[1]["overview"]["trials"]
    in_axes = [
        row
        for row, role in enumerate(trials["role"])
        if role == "chosen" and trials["cell"][row] == 0 and trials["feasible"][row]
    ]
    assert chart.locator("circle.hollow").count() == len(in_axes) == 2
    methods = column(page, "SAEs of this cell", 1)
    assert "out of reach: reconstructs less, by 0.020 of R²" in methods[1]
    assert column(page, "SAEs of this cell", 3) == ["3 4 5", "0", "3 4 5"]
    # A control may have more latents than the cell's m.
    assert column(page, "SAEs of this cell", 4)[-1] == "48 of 96"


def test_views_open_on_the_cell_that_the_overview_says(visit, tmp_path):
    held = sample.write(tmp_path)["overview"]
    held["first_cell"]["cell"] = 1
    sample.put(tmp_path, "overview", held)
    page = visit("#/cell", folder=tmp_path)
    picker = page.get_by_role("combobox", name="k", exact=True)
    assert picker.input_value() == "8"
    # A view that has nothing of it opens on the first cell of which it has something.
    go(page, "#/compare")
    assert picker.input_value() == "4"


def test_arrow_keys_turn_latents(visit):
    page = visit(VIEWS["latent"])
    page.keyboard.press("ArrowRight")
    settled(page)
    page.wait_for_function("location.hash.endsWith('/topk/1')")
    page.keyboard.press("ArrowLeft")
    page.wait_for_function("location.hash.endsWith('/topk/0')")
    # In a field they move the cursor.
    page.focus("input[name=jump]")
    page.keyboard.press("ArrowRight")
    assert page.evaluate("location.hash").endswith("/topk/0")

"""Figures of the explorer in docs/performance.md, "The explorer in a browser".

    python bench/performance_site.py browser              # its table
    python bench/performance_site.py write --out FOLDER   # the site that is opened

The site is of generated data, as large as the paper's cells are: 2 SAEs of 8,192
latents, 50,000 images, k = 32. The first SAE's latents are the directions of classes
with noise, the second's too, in another order.
"""

import argparse
import statistics
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import _record as record
import numpy as np
import pandas as pd
import torch
from _command import add_command, run_script
from _record import Comparison
from PIL import Image

from sae.comparison.methods import MethodRelations
from sae.data.store import Activations
from sae.models.coder import Coder
from sae.report.names import Names
from sae.report.site import explore
from sae.report.site.build import ShownSae

D = 64
CLASSES = 200
K = 32
FULL_SIZE = (50_000, 8192)  # images, latents
TINY_SIZE = (300, 64)


def add_commands(commands: "argparse._SubParsersAction") -> None:
    """Add every command of this script."""
    add_command(commands, "browser", time_in_browser, writes=True)
    add_command(commands, "write", print_parts, writes=True)


# The site.


def print_parts(arguments: argparse.Namespace) -> None:
    """Write the site, and print how many MB each part has.

    It is the site of "The explorer in a browser" of docs/performance.md, to look at.
    """
    write_site(arguments.out, *(TINY_SIZE if arguments.tiny else FULL_SIZE))
    for part in ("data/saes", "data/images", "data", "."):
        paths = (arguments.out / part).rglob("*")
        size = sum(path.stat().st_size for path in paths if path.is_file())
        print(f"{part}: {size / 1e6:.1f} MB")


def write_site(out: Path, count: int, m: int) -> None:
    """Write a site of one cell with `count` images and 2 SAEs of `m` latents."""
    random = np.random.default_rng(0)
    label = random.integers(0, CLASSES, count)
    directions = random.normal(size=(CLASSES, D))
    embeddings = (directions[label] + random.normal(size=(count, D))).astype(np.float32)
    numbers = range(count)
    index = pd.DataFrame(
        {
            "image_id": [f"image {number:05}" for number in numbers],
            "label": label,
            "group": numbers,
            "path": list(map(str, numbers)),
            "label_name": [f"class {class_number}" for class_number in label],
        }
    )
    dataset = {"name": "generated", "grouped": False}
    test = Activations(embeddings, index, {"dataset": dataset})
    methods = {
        "topk": MethodRelations(label="Baseline"),
        "reg1": MethodRelations(label="Reg. 1", against="topk"),
    }
    names = Names(
        methods=methods,
        datasets={"generated": "Generated"},
        backbones={"generated": "Generated"},
    )
    saes = [
        generate_sae(number, method, random, directions, m, test)
        for number, method in enumerate(methods)
    ]
    metrics = pd.DataFrame(
        {
            "m": m,
            "l0": K,
            "r2": [0.8, 0.81],
            "ms_floor": 0.3,
            "ms_mean_alive": [0.5, 0.52],
            "detection_auc": [0.7, 0.75],
        }
    )
    explore.compose(out, names, saes, metrics, test, generate_image, "Generated.")


def generate_sae(
    number: int,
    method: str,
    random: np.random.Generator,
    directions: np.ndarray,
    m: int,
    test: Activations,
) -> ShownSae:
    """Generate an SAE, and a table of random scores.

    Args:
        number: Of the SAE.
        method: Its method.
        random: Draws noise and scores.
        directions: (CLASSES, D) to which the latents' directions add noise.
        m: Latents.
        test: The images.
    """
    coder = Coder(D, m, K)
    rows = directions[np.arange(m) % CLASSES] + 1.5 * random.normal(size=(m, D))
    weight = torch.from_numpy(random.permutation(rows).astype(np.float32))
    coder.W_dec.data.copy_(torch.nn.functional.normalize(weight, dim=1))
    coder.W_enc.data.copy_(coder.W_dec.data.T)
    firing_counts = coder.firing_counts(coder.open_inputs(test.embeddings))
    table = pd.DataFrame(
        {
            "n_active": firing_counts,
            "ms": random.uniform(0.3, 0.9, m),
            "detection": random.uniform(0.4, 1, m),
            "purity": random.uniform(0, 1, m),
            "top_class": [f"class {latent % CLASSES}" for latent in range(m)],
        }
    )
    table.loc[firing_counts < 2, ["ms", "detection", "purity"]] = np.nan
    return ShownSae(number, method, coder, table)


def generate_image(path: str) -> Image.Image:
    """Generate a gradient with noise, of two colours that the number decides."""
    random = np.random.default_rng(int(path))
    first, second = random.integers(0, 256, (2, 3))
    share = np.linspace(0, 1, 64)[:, None, None]
    gradient = first * (1 - share) + second * share
    pixels = gradient + random.normal(0, 12, (64, 64, 3))
    return Image.fromarray(pixels.clip(0, 255).astype(np.uint8))


# The site in a browser.

CHROMIUM = "/usr/bin/chromium"
CHROMIUM_OPTIONS = [
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
]
VIEWPORT = {"width": 1366, "height": 900}
ROUNDS = 10
FIRST_TARGET = 1000.0  # milliseconds until a first view
TARGET = 100.0  # milliseconds of an interaction
# When the first view is painted, noted by the page itself.
NOTE = """
const painted = () => requestAnimationFrame(
  () => requestAnimationFrame(() => { window.painted = performance.now() })
);
const look = () => {
  const main = document.querySelector("main");
  const isShown = main && typeof SITE === "object" && SITE.route;
  if (isShown && !main.hasAttribute("aria-busy")) painted();
  else requestAnimationFrame(look);
};
look();
"""
# Milliseconds from an action until its effect is painted.
TIMED = """async ([act, done]) => {
  const frame = () => new Promise((resolve) => requestAnimationFrame(resolve));
  const [doIt, isDone] = [new Function(act), new Function("return " + done)];
  await frame();
  const start = performance.now();
  doIt();
  while (!isDone()) await frame();
  await frame();
  return performance.now() - start;
}"""
IS_SHOWN = (
    "!document.querySelector('main').hasAttribute('aria-busy') && "
    "document.querySelector('h1').innerText.includes"
)
PRESS_SORT = "document.querySelectorAll('thead button')[{}].click()"
TYPE_FILTER = (
    "const box = document.querySelector('input[type=search]'); box.value = '{}'; "
    "box.dispatchEvent(new Event('input'))"
)
SCROLL = "document.querySelector('.windowed').scrollTop = {}"


class PaintTime(NamedTuple):
    """Milliseconds until something is painted.

    Attributes:
        wall: By the clock.
        of_page: Of them, what the page's own thread computed.
    """

    wall: float
    of_page: float


class Interaction(NamedTuple):
    """An action of a reader, the times of each round, and the target, if any."""

    name: str
    times: list[PaintTime]
    target: float | None


def time_in_browser(arguments: argparse.Namespace) -> None:
    """Time how fast a site is in a browser.

    It is behind the table of "The explorer in a browser" of docs/performance.md.

    It writes the site of generated data and opens it from disk in Debian's chromium. It
    prints milliseconds until what was asked for is painted: the first view, then each
    interaction, of several the median and the slowest. Targets: a first view in a
    second, an interaction in a tenth. Beside it stands what the page's own thread
    computed, which other work on the machine does not change. What loads an SAE for the
    first time is told apart. It needs what `make test-browser` needs; `--tiny` writes a
    site, and opens no browser.
    """
    images, m = TINY_SIZE if arguments.tiny else FULL_SIZE
    interactions = []
    with tempfile.TemporaryDirectory() as scratch:
        site = Path(scratch) / "site"
        write_site(site, images, m)
        sae_files = (site / "data/saes").iterdir()
        size = sum(path.stat().st_size for path in sae_files) / 2
        print(f"{m:,} latents, {images:,} images, k = {K}: {size / 1e6:.1f} MB an SAE")
        if not arguments.tiny:
            interactions = time_interactions(site, m, images)

    machine = record.machine(2)
    comparisons = []
    for name, times, target in interactions:
        median = statistics.median(paint.wall for paint in times)
        of_page = statistics.median(paint.of_page for paint in times)
        slowest = max(paint.wall for paint in times)
        print(
            f"{name:34} {median:6.0f} ms   slowest {slowest:6.0f}   "
            f"own {of_page:6.0f}   target {target or 0:.0f}"
        )
        if target:
            comparisons.append(
                Comparison(
                    goal="site in a browser",
                    quantity=name,
                    ours=median,
                    peer="the target",
                    peer_value=target,
                    target=1.0,
                    machine=machine,
                )
            )
    arguments.out.mkdir(parents=True, exist_ok=True)
    record.write(arguments.out, "site_browser", comparisons)


def time_interactions(site: Path, m: int, images: int) -> list[Interaction]:
    """Time the first view of a site, and what a reader does then.

    Args:
        site: The folder.
        m: Latents of an SAE.
        images: How many.
    """
    from playwright.sync_api import sync_playwright

    cell = f"generated/generated/{K}"
    topk = f"{cell}/topk"
    rounds = range(ROUNDS)
    with sync_playwright() as playwright:
        browser: Any = playwright.chromium.launch(
            executable_path=CHROMIUM, chromium_sandbox=False, args=CHROMIUM_OPTIONS
        )
        first_views = [time_first_view(browser, site) for _ in range(5)]
        page = browser.new_context(offline=True, viewport=VIEWPORT).new_page()
        page.goto(f"file://{site}/index.html")
        page.wait_for_function("SITE.route")
        page_clock = clock_of_page(page)

        def time_action(act: str, is_done: str = "true") -> PaintTime:
            before = page_clock()
            wall = float(page.evaluate(TIMED, [act, is_done]))
            return PaintTime(wall, page_clock() - before)

        def time_opening(address: str, title: str) -> PaintTime:
            is_done = f"{IS_SHOWN}({title!r})"
            return time_action(f"location.hash = '{address}'", is_done)

        def time_sorting(i: int) -> PaintTime:
            press = PRESS_SORT.format(1 + i % 3)
            return time_action(press, "document.querySelector('[aria-sort]')")

        def time_latent(i: int) -> PaintTime:
            latent = 1 + i * (m // 2) // ROUNDS
            return time_opening(f"#/latent/{topk}/{latent}", f"Latent {latent} ")

        def time_image(i: int) -> PaintTime:
            image = images // 2 + i * 97
            return time_opening(f"#/image/{cell}/{image}", f"image {image:05}")

        opening = time_opening(f"#/latents/{topk}", "Latents of")
        sorting = [time_sorting(i) for i in rounds]
        filtering = [time_action(TYPE_FILTER.format(i)) for i in rounds]
        scrolling = [time_action(SCROLL.format(i * 5000)) for i in rounds]
        time_opening(f"#/latent/{topk}/0", "Latent 0 ")  # Loads the other SAE.
        latents = [time_latent(i) for i in rounds]
        opened_images = [time_image(i) for i in rounds]
        comparing = time_opening(f"#/compare/{cell}", "Two methods")
        returning = time_opening("#/", "What Baseline")
        browser.close()
    return [
        Interaction("first view", first_views, FIRST_TARGET),
        Interaction("open the latents (loads the SAE)", [opening], None),
        Interaction(f"sort {m:,} rows", sorting, TARGET),
        Interaction(f"filter {m:,} rows", filtering, TARGET),
        Interaction("scroll the table", scrolling, TARGET),
        Interaction("open a latent", latents, TARGET),
        Interaction(f"open an image of {images:,}", opened_images, TARGET),
        Interaction("compare two methods", [comparing], TARGET),
        Interaction("back to the overview", [returning], TARGET),
    ]


def clock_of_page(page: Any) -> Callable[[], float]:
    """Return a function: the milliseconds that the page's thread has computed."""
    session = page.context.new_cdp_session(page)
    session.send("Performance.enable", {"timeDomain": "threadTicks"})

    def milliseconds() -> float:
        for metric in session.send("Performance.getMetrics")["metrics"]:
            if metric["name"] == "TaskDuration":
                return 1000 * float(metric["value"])
        raise LookupError("the browser has no TaskDuration")

    return milliseconds


def time_first_view(browser: Any, site: Path) -> PaintTime:
    """Time a site's first view, in a fresh context of the browser."""
    context = browser.new_context(offline=True, viewport=VIEWPORT)
    page = context.new_page()
    page.add_init_script(NOTE)
    page_clock = clock_of_page(page)
    page.goto(f"file://{site}/index.html")
    page.wait_for_function("window.painted")
    time_to_paint = PaintTime(float(page.evaluate("window.painted")), page_clock())
    context.close()
    return time_to_paint


if __name__ == "__main__":
    run_script(__doc__, add_commands)

"""How fast a site is in a browser: `python bench/site_browser.py`, from the project's root.

It writes a site of generated data (`generated_site.py`: 8,192 latents, 50,000 images, two SAEs) and opens it
from disk in Debian's chromium. It prints milliseconds until what was asked for is painted: the first view, then each
interaction, of several the median and the slowest. Targets: a first view in a second, an interaction in a tenth.
Beside it stands what the page's own thread computed, which other work on the machine does not change. What loads an
SAE for the first time is told apart. It needs what `make test-browser` needs.
"""

import argparse
import statistics
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import _record as record
import generated_site as site

CHROMIUM = "/usr/bin/chromium"
ARGUMENTS = [
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
]
ROUNDS = 10
Times = tuple[
    float, float
]  # milliseconds: until it is painted, and of them the page's own
FIRST, NEXT = 1000.0, 100.0  # milliseconds: targets
# When the first view is painted, noted by the page itself.
NOTE = """
const painted = () => requestAnimationFrame(() => requestAnimationFrame(() => { window.painted = performance.now() }));
const look = () => {
  const main = document.querySelector("main");
  if (main && typeof SITE === "object" && SITE.route && !main.hasAttribute("aria-busy")) painted();
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
SHOWN = "!document.querySelector('main').hasAttribute('aria-busy') && document.querySelector('h1').innerText.includes"


def main() -> None:
    """Write the site, measure, print a table, judge it."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=record.OUT)
    parser.add_argument(
        "--tiny",
        action="store_true",
        help="seconds, to see that it writes a site: without a browser",
    )
    args = parser.parse_args()
    images, m = (300, 64) if args.tiny else (50_000, 8192)
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "site"
        site.write(out, images, m)
        size = sum(path.stat().st_size for path in (out / "data/saes").iterdir()) / 2
        print(
            f"{m:,} latents, {images:,} images, k = {site.K}: {size / 1e6:.1f} MB an SAE"
        )
        found = {} if args.tiny else measure(out, m, images)
    rows, where = [], record.machine(2)
    for what, (times, target) in found.items():
        median, own = (statistics.median(values) for values in zip(*times, strict=True))
        slowest = max(wall for wall, _ in times)
        print(
            f"{what:34} {median:6.0f} ms   slowest {slowest:6.0f}   own {own:6.0f}   target {target or 0:.0f}"
        )
        if target:
            rows.append(
                record.row(
                    "site in a browser", what, median, "the target", target, 1.0, where
                )
            )
    args.out.mkdir(parents=True, exist_ok=True)
    record.write(args.out, "site_browser", rows)


def measure(
    folder: Path, m: int, images: int
) -> dict[str, tuple[list[Times], float | None]]:
    """{what: (times of each round, target or None)}."""
    from playwright.sync_api import sync_playwright

    found: dict[str, tuple[list[Times], float | None]] = {}
    cell = f"generated/generated/{site.K}"
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=CHROMIUM, chromium_sandbox=False, args=ARGUMENTS
        )
        first = [_first(browser, folder) for _ in range(5)]
        found["first view"] = first, FIRST
        page = browser.new_context(
            offline=True, viewport={"width": 1366, "height": 900}
        ).new_page()
        page.goto(f"file://{folder}/index.html")
        page.wait_for_function("SITE.route")

        own = _own(page)

        def timed(act: str, done: str) -> Times:
            before = own()
            wall = float(page.evaluate(TIMED, [act, done]))
            return wall, own() - before

        def opened(address: str, says: str) -> Times:
            return timed(f"location.hash = '{address}'", f"{SHOWN}({says!r})")

        found["open the latents (loads the SAE)"] = (
            [opened(f"#/latents/{cell}/topk", "Latents of")],
            None,
        )
        press = "document.querySelectorAll('thead button')[{}].click()"
        done = "document.querySelector('[aria-sort]')"
        found[f"sort {m:,} rows"] = (
            [timed(press.format(1 + i % 3), done) for i in range(ROUNDS)],
            NEXT,
        )
        find = "const box = document.querySelector('input[type=search]'); box.value = '{}'; "
        find += "box.dispatchEvent(new Event('input'))"
        found[f"filter {m:,} rows"] = (
            [timed(find.format(i), "true") for i in range(ROUNDS)],
            NEXT,
        )
        scroll = "document.querySelector('.windowed').scrollTop = {}"
        found["scroll the table"] = (
            [timed(scroll.format(i * 5000), "true") for i in range(ROUNDS)],
            NEXT,
        )
        opened(f"#/latent/{cell}/topk/0", "Latent 0 ")  # Loads the other SAE.
        some = [1 + i * (m // 2) // ROUNDS for i in range(ROUNDS)]
        found["open a latent"] = (
            [opened(f"#/latent/{cell}/topk/{j}", f"Latent {j} ") for j in some],
            NEXT,
        )
        places = [images // 2 + i * 97 for i in range(ROUNDS)]
        found[f"open an image of {images:,}"] = (
            [opened(f"#/image/{cell}/{i}", f"image {i:05}") for i in places],
            NEXT,
        )
        found["compare two methods"] = (
            [opened(f"#/compare/{cell}", "Two methods")],
            NEXT,
        )
        found["back to the overview"] = [opened("#/", "What Baseline")], NEXT
        browser.close()
    return found


def _own(page: Any) -> Callable[[], float]:
    """A function that gives the milliseconds which the page's thread has computed so far."""
    session = page.context.new_cdp_session(page)
    session.send("Performance.enable", {"timeDomain": "threadTicks"})

    def spent() -> float:
        metrics = session.send("Performance.getMetrics")["metrics"]
        return 1000 * next(
            float(one["value"]) for one in metrics if one["name"] == "TaskDuration"
        )

    return spent


def _first(browser: Any, folder: Path) -> Times:
    context = browser.new_context(offline=True, viewport={"width": 1366, "height": 900})
    page = context.new_page()
    page.add_init_script(NOTE)
    own = _own(page)
    page.goto(f"file://{folder}/index.html")
    page.wait_for_function("window.painted")
    took = float(page.evaluate("window.painted")), own()
    context.close()
    return took


if __name__ == "__main__":
    main()

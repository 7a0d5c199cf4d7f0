"""Picture the explorer for the documentation: its first page, and a page of latents.

`python docs/figures/explorer.py` makes docs/figures/explorer.png of a finished demo
(`make demo`), with what `make test-browser` installs.
"""

import io
from pathlib import Path

from PIL import Image
from playwright.sync_api import sync_playwright

SITE = Path("results/demo/report/index.html")
OUT = Path(__file__).with_suffix(".png")
LATENTS = "#/latents/emoji/efficientnet_lite0_fast/8/reg1?sort=name_precision"
WIDTH = 1100
ROWS = 434  # pixels of the table of latents
COLOURS = 256


def main() -> None:
    """Set the top of the first page above the latents with the most precise names."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path="/usr/bin/chromium")
        page = browser.new_page(viewport={"width": WIDTH, "height": 1400})
        page.goto(SITE.absolute().as_uri())
        page.wait_for_selector("main .first img")
        title = page.locator("main h1").bounding_box()
        answer = page.locator("main .first").bounding_box()
        assert title is not None and answer is not None
        top = page.screenshot(
            clip={
                "x": 0,
                "y": title["y"] - 10,
                "width": WIDTH,
                "height": answer["y"] + answer["height"] + 10 - title["y"],
            }
        )
        page.goto(SITE.absolute().as_uri() + LATENTS)
        page.wait_for_selector("main tbody img")
        page.wait_for_load_state("networkidle")
        table = page.locator("main .scroll").screenshot()
        browser.close()

    first = Image.open(io.BytesIO(top)).convert("RGB")
    latents = Image.open(io.BytesIO(table)).convert("RGB")
    latents = latents.crop((0, 0, latents.width, ROWS))
    picture = Image.new("RGB", (WIDTH, first.height + ROWS + 10), "white")
    picture.paste(first, (0, 0))
    picture.paste(latents, ((WIDTH - latents.width) // 2, first.height))
    picture.quantize(COLOURS).save(OUT, optimize=True)


if __name__ == "__main__":
    main()

"""What every page loads: small, plain, and without a way to read a name as HTML or to ask for what is elsewhere."""

import re

import pytest
from report.site import sample

ASSETS = sorted((sample.SITE / "assets").iterdir())
FORBIDDEN = r"innerHTML|outerHTML|insertAdjacent|document\.write|\beval\b|\bfetch\(|XMLHttpRequest|\bimport\b|Worker"


def test_size():
    assert sum(path.stat().st_size for path in ASSETS) <= 150_000


@pytest.mark.parametrize(
    "path", [*ASSETS, sample.SITE / "index.html"], ids=lambda path: path.name
)
def test_nothing_from_elsewhere(path):
    text = path.read_text(encoding="utf-8")
    assert re.findall(FORBIDDEN, text) == []
    # The name of SVG, and the test of whether a homepage is a web address.
    assert (
        re.findall(
            r"(?:https?:)?//[a-z][\w.]+\.[a-z]+[^\"]*",
            text.replace("http://www.w3.org/2000/svg", ""),
        )
        == []
    )


def test_the_shell_alone_says_the_answer(tmp_path):
    sample.shell(tmp_path, "<b>", "what & why", ["One </p> sentence."])
    page = (tmp_path / "index.html").read_text(encoding="utf-8")
    assert (
        "what &amp; why" in page
        and "One &lt;/p&gt; sentence." in page
        and ">&lt;b&gt;</b>" in page
    )
    loaded = re.findall(r'(?:src|href)="(assets/[^"]+)"', page)
    assert sorted(loaded) == [f"assets/{path.name}" for path in ASSETS] and all(
        (tmp_path / name).exists() for name in loaded
    )

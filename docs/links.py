"""Name the links of a built site that lead nowhere: `python docs/links.py docs/_build`.

Of links within the site it checks the file and the anchor; it asks nobody else's site.
"""

import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit


class Page(HTMLParser):
    """What a page links to, and the anchors that it has."""

    def __init__(self, file: Path) -> None:
        super().__init__()
        self.links: set[str] = set()
        self.anchors: set[str] = set()
        self.feed(file.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note the links and the anchor of a tag."""
        for name, value in attrs:
            if name in ("href", "src") and value:
                self.links.add(value)
            elif name == "id" and value:
                self.anchors.add(value)


def dead_links(site: Path) -> list[str]:
    """Return "page: link" of each link in a site's pages that leads nowhere."""
    site = site.resolve()
    pages = {file: Page(file) for file in sorted(site.rglob("*.html"))}
    dead = []
    for file, page in pages.items():
        for link in sorted(page.links):
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                continue
            target = file
            if parts.path:
                target = (file.parent / unquote(parts.path)).resolve()
            if target.is_dir():
                target /= "index.html"
            is_there = target.is_file() and target.is_relative_to(site)
            # The explorer reads an anchor that begins with / as the address of a view.
            is_view = parts.fragment.startswith("/")
            if is_there and parts.fragment and target in pages and not is_view:
                is_there = unquote(parts.fragment) in pages[target].anchors
            if not is_there:
                dead.append(f"{file.relative_to(site)}: {link}")
    return dead


if __name__ == "__main__":
    dead = dead_links(Path(sys.argv[1]))
    if dead:
        sys.exit("\n".join(["links that lead nowhere:", *dead]))

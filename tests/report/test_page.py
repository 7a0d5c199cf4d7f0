"""The page is whole, prints labels as they are, and shows the times that it is given."""

import html.parser
import re

import pandas as pd
import pytest
from conftest import ROOT
from PIL import Image
from report import hostile

from sae.core import files
from sae.core.errors import UserError
from sae.report import claims, page, tables

PAPER = ROOT / "workflow/resources/paper"
METHODS = hostile.METHODS | {"raw": {"label": "<i>R&D</i>", "control": True}}
DESCRIPTION = "</h1></pre><script>&amp;{{ 1 }}"


class Texts(html.parser.HTMLParser):
    """What the elements of a page print: (tag, text)."""

    def __init__(self, page):
        super().__init__()
        self.found, self._open = [], ""
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self._open = tag

    def handle_data(self, data):
        self.found.append((self._open, data))


def test_page(tmp_path):
    key = {
        "dataset": "d",
        "backbone": "b",
        "k": 4,
        "trial": "default",
        "seed": 0,
        "split": "test",
        "protocol": "paper",
        "status": "ok",
    }
    scores = {"r2": 0.5, "dead": 1, "dead_train": 0, "m": 20, "selected": True, "selection": "chosen"}
    metrics, curves = tmp_path / "metrics.parquet", tmp_path / "curves.parquet"
    files.write_parquet(metrics, pd.DataFrame([key | scores | {"method": method} for method in METHODS]))
    files.write_parquet(curves, pd.DataFrame([key | {"method": "topk", "curve": "robustness", "x": 4, "y": 0.5}]))
    names = {"methods": METHODS, "datasets": hostile.DATASETS, "backbones": {"b": "<i>Back"}}
    rule = {"confidence": 0.95, "resamples": 100, "bootstrap_seed": 0, "min_blocks": 3, "agreement": 0.6}
    rule |= {"margin_r2": 0.005, "margin_top1": 0.01, "rises": 1.1, "flat": 1.05}
    latents, made_by = tmp_path / "latents.parquet", {"experiment": "e", "methods": {"methods": METHODS}}
    files.write_parquet(latents, pd.DataFrame({"latent": []}))
    empty = {part: {} for part in ("fronts", "versions", "recipe", "protocols", "metrics")}
    files.write_json(tmp_path / "made_by.json", made_by | empty)
    tables.write(metrics, latents, PAPER, names | {"claims": rule}, tmp_path / "tables")
    claims.write(metrics, curves, PAPER, names | {"claims": rule}, tmp_path)
    (tmp_path / "figures").mkdir()
    for figure in ("fig2", "fig5_probe"):
        png = tmp_path / f"figures/{figure}.png"
        Image.new("RGB", (2, 2)).save(png)
        files.write_sums(png.with_name(f"{figure}.sums.json"), [png])
    about = {"name": "d", "fingerprint": "f" * 8}
    manifest = {
        "dataset": about,
        "backbone": about | {"name": "b"},
        "shape": [9, 3],
        "sha256": {"embeddings.npy": "ab"},
    }
    manifest["artifacts"] = [dict.fromkeys(("name", "version", "citation", "licence", "homepage"), "an artifact")]
    files.write_json(tmp_path / "manifest.json", manifest)
    row = {"step": "train", "jobs": 7, "minutes": "1.5", "longest": "20 s", "memory": "300 MiB"}
    files.write_json(tmp_path / "times.json", {"jobs": [row]})
    settings = names | {"experiment": "x", "figures": ["fig2", "fig5_probe"]}
    settings["config"] = {"experiment": {"description": DESCRIPTION}}
    for times in (tmp_path / "times.json", None):
        page.write(tmp_path, [tmp_path / "manifest.json"], PAPER, settings, tmp_path / "index.html", times=times)
        text = (tmp_path / "index.html").read_text()
        galleries, figures = text.split('<h2 id="galleries">')[1].split('<h2 id="figures">')
        assert "<h3>Fig. 2</h3>" in galleries and "<h3>Fig. 5, probe</h3>" in figures
        assert "src=" not in text.replace('src="data:', "")
        printed = Texts(text).found
        # A control that scores as the baseline does, its label printed as it is.
        assert ("th", "<i>R&D</i>") in printed and ("td", "+0.000") in printed
        assert {("td", label) for label in (*hostile.LABELS, hostile.DATASET, "<i>Back")} <= set(printed)
        assert {("th", label) for label in hostile.LABELS[1:]} <= set(printed)
        claims_of = [said for tag, said in printed if tag == "td" and said.endswith(" raises mean MS")]
        assert claims_of[-1] == f"{hostile.LABELS[2]} raises mean MS"
        assert ("h1", DESCRIPTION) in printed
        badges = [re.match(r"(\d+) (?:holds|not shown|not tested)", said) for tag, said in printed if tag == "span"]
        rows = len(pd.read_csv(tmp_path / "claims.csv"))
        assert sum(int(badge[1]) for badge in badges if badge) == rows  # Every row is counted, once.
        assert any(tag == "td" and said.endswith("needed") for tag, said in printed)  # A claim's note.
        assert any(tag == "pre" and DESCRIPTION in said for tag, said in printed)
        assert ("300 MiB" in text) == (times is not None) and "ours, not the paper&#39;s" in text
    png.write_bytes(png.read_bytes()[:-1])
    with pytest.raises(UserError, match=r"fig5_probe.png was altered"):
        page.write(tmp_path, [tmp_path / "manifest.json"], PAPER, settings, tmp_path / "index.html")

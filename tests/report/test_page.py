"""The page is whole, prints labels, escapes them, and shows the times that it is given."""

import pandas as pd
import pytest
from conftest import ROOT
from PIL import Image

from sae.core import files
from sae.core.errors import UserError
from sae.report import claims, page, tables

PAPER = ROOT / "workflow/resources/paper"
METHODS = {"topk": {"label": "<b>Base</b>"}, "mine": {"label": "Mine & ours", "against": "topk"}}


def test_page(tmp_path):
    key = {"dataset": "d", "backbone": "b", "k": 4, "trial": "default", "seed": 0, "split": "test"}
    scores = {"r2": 0.5, "dead": 1, "dead_train": 0, "m": 20, "selected": True, "selection": "chosen"}
    metrics, curves = tmp_path / "metrics.parquet", tmp_path / "curves.parquet"
    files.write_parquet(metrics, pd.DataFrame([key | scores | {"method": method} for method in METHODS]))
    files.write_parquet(curves, pd.DataFrame([key | {"method": "topk", "curve": "robustness", "x": 4, "y": 0.5}]))
    names = {"methods": METHODS, "datasets": {"d": "Data"}, "backbones": {"b": "Back"}}
    rule = {"confidence": 0.95, "resamples": 10, "bootstrap_seed": 0, "min_blocks": 3, "agreement": 0.6}
    rule |= {"margin_r2": 0.005, "margin_top1": 0.01, "rises": 1.1, "flat": 1.05}
    tables.write(metrics, PAPER, names, tmp_path / "tables")
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
    settings = {"experiment": "x", "figures": ["fig2", "fig5_probe"], "config": {"experiment": {}}} | names
    for times in (tmp_path / "times.json", None):
        page.write(tmp_path, [tmp_path / "manifest.json"], PAPER, settings, tmp_path / "index.html", times=times)
        html = (tmp_path / "index.html").read_text()
        galleries, figures = html.split('<h2 id="galleries">')[1].split('<h2 id="figures">')
        assert (
            "<h3>Fig. 2</h3>" in galleries
            and "<h3>Fig. 5, probe</h3>" in figures
            and "src=" not in html.replace('src="data:', "")
        )
        assert "<td>&lt;b&gt;Base&lt;/b&gt;</td>" in html and "<b>Base</b>" not in html and "Mine &amp; ours" in html
        assert ("300 MiB" in html) == (times is not None) and "ours, not the paper&#39;s" in html
    png.write_bytes(png.read_bytes()[:-1])
    with pytest.raises(UserError, match=r"fig5_probe.png was altered"):
        page.write(tmp_path, [tmp_path / "manifest.json"], PAPER, settings, tmp_path / "index.html")

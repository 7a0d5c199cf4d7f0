"""A small site in the format of docs/explorer.md.

It is of random codes and plain-coloured images, and has hostile names.
"""

import base64
import gzip
import json
import shutil
from pathlib import Path
from typing import Any

import jinja2
import numpy as np
import pandas as pd
from PIL import Image

from sae.report.site.latents import RankedCodes
from sae.report.site.trials import draw_trials

SITE = Path(__file__).parents[3] / "sae/report/site"
HOSTILE = (
    "<script>window.broken = 1</script> \"quoted\" 'single' & $dollar$ {{ 1 }} \\x "
    "<img src=x onerror=window.broken=1>"
)
ARABIC = "قطة <b>على</b> السجادة"
LONG = (
    "a name of three hundred characters " * 8 + "and so it ends, after all that &amp;"
)
SIDE = 8  # pixels of a thumbnail
ACROSS = 16  # thumbnails in a row of a sheet
PICTURE = (160, 120)  # width and height of a picture
MAP = (5, 6)  # height and width of a heatmap
_TYPES = {"f16": "<f2", "f32": "<f4", "u8": "u1", "u16": "<u2", "u32": "<u4"}

METHODS = [
    {
        "id": "topk",
        "label": "Baseline",
        "colour": "#444444",
        "marker": "o",
        "against": None,
        "control": False,
    },
    {
        "id": "reg/1 & <b>",
        "label": HOSTILE,
        "colour": "#0072b2",
        "marker": "s",
        "against": "topk",
        "control": False,
    },
    {
        "id": "untrained",
        "label": LONG,
        "colour": "#aaaaaa",
        "marker": "X",
        "against": None,
        "control": True,
    },
]


def packed(values: Any, kind: str) -> dict[str, str]:
    """Pack an array as the format does."""
    raw = np.ascontiguousarray(values, dtype=_TYPES[kind]).tobytes()
    return {
        "type": kind,
        "data": base64.b64encode(gzip.compress(raw, 5, mtime=0)).decode(),
    }


def unpacked(array: dict[str, str]) -> np.ndarray:
    """Return the array that was packed, flat."""
    return np.frombuffer(
        gzip.decompress(base64.b64decode(array["data"])), _TYPES[array["type"]]
    )


def put(folder: Path, name: str, payload: Any) -> None:
    """Write data/{name}.js."""
    path = folder / f"data/{name}.js"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(
        f"SITE.put({json.dumps(name)},{json.dumps(payload)});\n", encoding="utf-8"
    )


def shell(folder: Path, experiment: str, description: str, answer: list[str]) -> None:
    """Write index.html and assets/."""
    ignored = shutil.ignore_patterns("*.md")
    assets = folder / "assets"
    shutil.copytree(SITE / "assets", assets, ignore=ignored, dirs_exist_ok=True)
    names = sorted(path.name for path in assets.iterdir())
    page = jinja2.Environment(autoescape=True).from_string(
        (SITE / "index.html").read_text(encoding="utf-8")
    )
    text = page.render(
        experiment=experiment,
        description=description,
        answer=answer,
        scripts=[name for name in names if name.endswith(".js")],
        styles=[name for name in names if name.endswith(".css")],
    )
    (folder / "index.html").write_text(text, encoding="utf-8")


def codes(
    rng: np.random.Generator, m: int, images: int, k: int
) -> dict[str, np.ndarray]:
    """Draw random codes, k latents an image; a twelfth of the latents is dead.

    Args:
        rng: The source of randomness.
        m: How many latents there are.
        images: How many images there are.
        k: How many latents fire on an image, or fewer, where one is drawn twice.

    Returns:
        Images and values by latent, highest activation first, and the offsets at which
        a latent's begin.
    """
    live = m - m // 12
    # Frequencies that fall as those of real latents do.
    weights = 1 / np.arange(1, live + 1) ** 0.6
    latent = rng.choice(live, size=images * k, p=weights / weights.sum())
    image = np.repeat(np.arange(images), k)
    latent, image = np.divmod(np.unique(latent * images + image), images)
    value = rng.gamma(2, 1, len(image)).astype(np.float16)
    order = np.lexsort((-value, latent))
    offsets = np.concatenate([[0], np.cumsum(np.bincount(latent, minlength=m))])
    return {"offsets": offsets, "image": image[order], "value": value[order]}


def sae(
    rng: np.random.Generator,
    m: int,
    code: dict[str, np.ndarray],
    images: int,
    classes: int,
    matched_saes: list[int],
) -> Any:
    """Make the payload of one SAE.

    Args:
        rng: The source of randomness.
        m: How many latents it has.
        code: Its codes, as `codes` draws them.
        images: How many images these are of.
        classes: How many classes the images have; with 0 it has no scores of classes
            and no detection either.
        matched_saes: The numbers of the SAEs that its latents are matched with.
    """
    active = np.diff(code["offsets"])
    ids = "u16" if m < 65535 else "u32"

    def score(low: float, high: float) -> np.ndarray:
        return np.where(active >= 2, rng.uniform(low, high, m), np.nan)

    latents = {"n_active": packed(active, "u32"), "ms": packed(score(0.2, 0.9), "f32")}
    if classes:
        latents["detection"] = packed(score(0.4, 1), "f32")
        latents["purity"] = packed(score(0.2, 1), "f32")
        latents["purity_null"] = packed(score(0.1, 0.2), "f32")
        latents["top_class"] = packed(
            np.where(active > 0, rng.integers(0, classes, m), 65535), "u16"
        )
    nearest = (np.arange(m)[:, None] + rng.integers(1, m, (m, 10))) % m
    return {
        "m": m,
        "images": images,
        "latents": latents,
        "codes": {
            "offsets": packed(code["offsets"], "u32"),
            "image": packed(code["image"], "u16" if images < 65535 else "u32"),
            "value": packed(code["value"], "f16"),
        },
        "nearest": {
            "latent": packed(nearest, ids),
            "cosine": packed(-np.sort(-rng.uniform(0, 0.9, (m, 10)), axis=1), "f16"),
        },
        "matches": [
            {
                "sae": sae_number,
                "latent": packed(rng.permutation(m), ids),
                "cosine": packed(rng.uniform(0.3, 1, m), "f16"),
            }
            for sae_number in matched_saes
        ],
    }


CONCEPTS = [f"concept / {HOSTILE}", ARABIC, "plain concept"]
# Of each concept the latents that stand for it, under the first method: two, one, none.
STANDING = [[3, 0], [1], []]
NAMED = 3  # Latents that have a name: latent j that of concept j.
OFTEN = f"{ARABIC} 40%, {HOSTILE} 30%"  # Said of each other latent with an even number.
IN_TWO_TONES = 20  # Images, of which each two are a pair.


def named(latent_count: int) -> dict[str, Any]:
    """Return what latents are called: the first ones have a name."""
    latents = np.arange(latent_count)
    is_named = latents < NAMED
    return {
        "name": [CONCEPTS[j] if j < NAMED else None for j in latents],
        "often": ["" if j < NAMED or j % 2 else OFTEN for j in latents],
        "precision": packed(np.where(is_named, 0.75 - 0.01 * latents, np.nan), "f16"),
        "recall": packed(np.where(is_named, 0.4, np.nan), "f16"),
        "threshold": packed(np.where(is_named, 0.2, np.nan), "f32"),
    }


def heatmaps(code: dict[str, np.ndarray], m: int) -> dict[str, Any]:
    """Make maps of the 15 highest images: at rank r only position r is lit."""
    image = np.full((m, 15), 2**16 - 1)
    maps = np.zeros((m, 15, MAP[0] * MAP[1]))
    for latent in range(m):
        firing = code["image"][slice(*code["offsets"][latent : latent + 2])][:15]
        image[latent, : len(firing)] = firing
        maps[latent, range(len(firing)), range(len(firing))] = 255
    return {"image": packed(image, "u16"), "maps": packed(maps, "u8")}


def matching(sae_number: int) -> dict[str, Any]:
    """Say how the latents of one SAE match the concepts."""
    latents = np.full((len(CONCEPTS), 2), 2**16 - 1)
    for concept, standing in enumerate(STANDING):
        latents[concept, : len(standing)] = standing
    alone = np.where(latents < 2**16 - 1, [[0.5, 0.25]], np.nan)
    return {
        "sae": sae_number,
        "f1": packed([0.7, 0.4, 0], "f32"),
        "latents": packed(latents, "u16"),
        "alone": packed(alone, "f32"),
    }


def annotated(images: int) -> dict[str, Any]:
    """Return the concepts that people give to images, and the pairs of images.

    Concept c is given to every image whose number c + 2 divides.
    """
    holding = [np.arange(0, images, c + 2) for c in range(len(CONCEPTS))]
    image_counts = [len(images_of_concept) for images_of_concept in holding]
    offsets = np.concatenate([[0], np.cumsum(image_counts)])
    number = np.arange(images)
    in_pair = number < IN_TWO_TONES
    return {
        "concepts": {
            "names": CONCEPTS,
            "offsets": packed(offsets, "u32"),
            "image": packed(np.concatenate(holding), "u16"),
        },
        "attributes": [
            {
                "name": f"tone {HOSTILE}",
                "values": ["light", ARABIC],
                "value": packed(np.where(in_pair, number % 2, 65535), "u16"),
                "drawing": packed(np.where(in_pair, number // 2, 65535), "u16"),
            }
        ],
        "concept_credit": f"Keywords of someone. Licence: {HOSTILE}",
    }


def pictures(
    folder: Path,
    number: int,
    rng: np.random.Generator,
    images: int,
    classes: list[str],
    thumbnails: int,
) -> None:
    """Write data/images/{number}.js, its sheets and its pictures.

    An image is of one plain colour; those after `thumbnails` have no thumbnail. Of
    those that have one, every second has a picture.
    """
    colours = rng.integers(0, 255, (images, 3), dtype=np.uint8)
    sheets = -(-thumbnails // ACROSS**2)
    name = f"images/{number}"
    ids = [f"img_{i}.png" for i in range(images)]
    ids[: len(HOSTILES)] = HOSTILES
    label = rng.integers(0, len(classes), images)
    place = np.arange(images)
    place[thumbnails:] = 2**32 - 1
    has_picture = (np.arange(images) % 2 == 0) & (np.arange(images) < thumbnails)
    width, height = PICTURE
    payload = {
        "dataset": "d",
        "ids": ids,
        "label": packed(label, "u16"),
        "classes": classes,
        "side": SIDE,
        "sheets": sheets,
        "place": packed(place, "u32"),
        "pictures": {
            "width": packed(width * has_picture, "u8"),
            "height": packed(height * has_picture, "u8"),
        },
        "credit": f"Someone. Licence: CC BY 4.0. {HOSTILE}",
        **annotated(images),
    }
    put(folder, name, payload)
    for sheet in range(sheets):
        pixels = np.zeros((ACROSS**2, 3), np.uint8)
        shown = colours[sheet * ACROSS**2 : min(thumbnails, (sheet + 1) * ACROSS**2)]
        pixels[: len(shown)] = shown
        grid = pixels.reshape(ACROSS, ACROSS, 3)
        grid = grid.repeat(SIDE, axis=0).repeat(SIDE, axis=1)
        Image.fromarray(grid).save(folder / f"data/{name}-{sheet}.webp", lossless=True)
    (folder / f"data/{name}").mkdir(exist_ok=True)
    for image in np.flatnonzero(has_picture):
        picture = Image.new("RGB", PICTURE, tuple(colours[image].tolist()))
        picture.save(folder / f"data/{name}/{image}.webp")


HOSTILES = [f"{HOSTILE}.png", f"{ARABIC}.png", f"{LONG}.png"]


def trials(
    rng: np.random.Generator, cells: list[dict], scored: list[list[str]]
) -> dict[str, list]:
    """Draw eight trials of each method and cell.

    The first one was chosen, one is not feasible, and one diverged. A control has one
    SAE, among which nothing is chosen.

    Args:
        rng: The source of randomness.
        cells: The cells.
        scored: For each cell the scores that its trials have.

    Returns:
        {column: a value for each trial}.
    """
    rows: list[dict[str, Any]] = []
    for cell, scores_of_cell in enumerate(scored):
        for method in range(len(METHODS)):
            control = METHODS[method]["control"]
            for trial in range(1 if control else 8):
                diverged = trial == 7
                r2 = None if diverged else round(float(rng.uniform(0.5, 0.7)), 4)
                row: dict[str, Any] = {
                    "cell": cell,
                    "method": method,
                    "trial": f"lr{trial}",
                    "seed": 0,
                    "role": "chosen" if trial == 0 else "trial",
                    "status": "diverged" if diverged else "ok",
                    "feasible": None if control else trial < 6,
                    "l0": float(cells[cell]["k"]),
                    "dead": int(rng.integers(0, 9)),
                    "firing": 0.95,
                    "r2_val": r2,
                    "r2_test": r2,
                }
                for score in ("ms", "detection"):
                    value = None
                    if score in scores_of_cell and not diverged:
                        value = round(float(rng.uniform(0.3, 0.8)), 4)
                    row[f"{score}_val"] = value
                    row[f"{score}_test"] = value
                rows.append(row)
    return {key: [row[key] for row in rows] for key in rows[0]}


def overview(
    rng: np.random.Generator,
    cells: list[dict],
    saes: list[dict],
    *,
    compared: bool = True,
) -> dict[str, Any]:
    """Make the overview.

    Without `compared` it is that of someone's SAE alone, which has neither trials nor
    claims.
    """
    scores = [
        {
            "id": "ms",
            "label": "MS",
            "what": "How alike the images are.",
            "better": 1,
            "chance": None,
            "endpoint": True,
            "main": True,
        },
        {
            "id": "detection",
            "label": "detection",
            "what": "An AUC.",
            "better": 1,
            "chance": 0.5,
            "endpoint": True,
            "main": True,
        },
        {
            "id": "dead",
            "label": "dead latents",
            "what": "Never active.",
            "better": -1,
            "chance": None,
            "endpoint": False,
            "main": False,
        },
    ]
    payload: dict[str, Any] = {
        "format": 1,
        "experiment": "sample <i>",
        "description": f"A sample of {HOSTILE}",
        "answer": [
            f"The second method is better by .01: {HOSTILE}",
            "It costs nothing.",
            ARABIC,
        ],
        "datasets": [
            {"id": "d/1", "label": f"Data {HOSTILE}"},
            {"id": "e", "label": ARABIC},
        ],
        "backbones": [{"id": "b", "label": "Backbone"}],
        "methods": METHODS,
        "cells": cells,
        "saes": saes,
        "scores": scores,
        "trials": {},
        "first_cell": {"cell": 0, "rule": ""},
        "which": [],
        "comparison": [],
        "by_cell": [],
        "claims": [],
        "start": [],
        "glossary": {
            "MS": "How alike the images of a latent are.",
            "k": "Active latents an image.",
            "R²": HOSTILE,
        },
        "provenance": {
            "config": f"a: 1\nb: {HOSTILE}",
            "versions": {"sae": "1"},
            "embeddings": [],
            "sources": [],
            "times": [],
            "machine": "2 cores",
            "rebuild": "make run EXPERIMENT=sample",
            "left_out": [],
        },
        "downloads": [],
        "latent_scores": [],
    }
    if not compared:
        return payload
    payload["trials"] = trials(rng, cells, [["ms", "detection"], ["ms"]])
    payload["which"] = ["Each row is of one set of SAEs."]
    of_mean = {
        "method": 1,
        "family": "mean",
        "control": False,
        "cells": 2,
        "datasets": 6,
        "out_of_reach": 1,
        "up": {"detection": 2, "ms": 0},
        "effects": {"detection": 0.012, "ms": -0.003, "r2": -0.012, "dead": 1.0},
        "low": {"detection": 0.004, "ms": -0.02},
        "high": {"detection": 0.02, "ms": 0.014},
        "verdicts": {
            "detection": "better",
            "ms": "inconclusive: a loss of .02 to a gain of .014",
        },
    }
    of_family = {
        **of_mean,
        "family": f"family {HOSTILE}",
        "effects": {"detection": 0.02, "ms": 0.001, "r2": -0.001},
        "verdicts": {},
    }
    payload["comparison"] = [
        {
            "method": 0,
            "family": "mean",
            "values": {"detection": 0.7, "ms": 0.5, "r2": 0.6, "dead": 3.0},
        },
        of_family,
        of_mean,
        # A control beside them, at its own R².
        {
            **of_mean,
            "method": 2,
            "control": True,
            "out_of_reach": 0,
            "effects": {"detection": -0.1, "r2": -0.5},
            "low": {},
            "high": {},
            "verdicts": {},
        },
    ]
    chosen = {
        "cell": 0,
        "method": 0,
        "control": False,
        "trial": "lr0",
        "seeds": "3 4 5",
        "reason": None,
        "shortfall": None,
        "values": {"detection": 0.7, "r2": 0.6},
        "effects": {},
    }
    payload["by_cell"] = [
        chosen,
        {
            **chosen,
            "method": 1,
            "trial": None,
            "seeds": None,
            "reason": "reconstructs less",
            "shortfall": 0.02,
            "values": {},
        },
        {**chosen, "method": 2, "control": True, "effects": {"detection": -0.1}},
    ]
    claim = {
        "measured": 0.007,
        "low": 0.002,
        "high": 0.012,
        "detection": 0.01,
        "cells_for": 2,
        "cells_against": 0,
    }
    payload["claims"] = [
        {
            **claim,
            "id": "a",
            "statement": f"It raises MS {HOSTILE}",
            "verdict": "holds",
            "ours": False,
            "published": "+0.043",
            "note": "",
            "controls": "d: untrained",
        },
        {
            **claim,
            "id": "b",
            "statement": "Ours",
            "verdict": "not shown",
            "ours": True,
            "published": "-",
            "note": LONG,
            "controls": "",
        },
    ]
    payload["start"] = [
        {
            "title": f"Highest MS {HOSTILE}",
            "rule": "Of live latents.",
            "href": "#/latent/d%2F1/b/4/topk/3",
            "strips": [
                {"label": HOSTILE, "cell": 0, "images": [1, 2, 3]},
                {"label": ARABIC, "cell": 0, "images": [4, 5, 299]},
            ],
        },
        {
            "title": f"a name {HOSTILE}",
            "rule": "Precision 0.90 on 8 test images.",
            "href": "#/latent/d%2F1/b/4/topk/2",
            "strips": [{"label": "Baseline", "cell": 0, "images": [6, 7]}],
            "named": True,
        },
        {
            "title": "A cell",
            "rule": "The first.",
            "href": "#/cell/d%2F1/b/4",
            "strips": [],
        },
    ]
    payload["first_cell"] = {"cell": 0, "rule": f"The nearest. {HOSTILE}"}
    payload["downloads"] = [
        {
            "name": "effects",
            "title": f"Effects {HOSTILE}",
            "kind": "figure",
            "caption": LONG,
            "files": [{"label": "SVG", "href": "files/a.svg"}],
        },
        {
            "title": "Metrics",
            "kind": "table",
            "caption": "",
            "files": [{"label": "CSV", "href": "files/a.csv"}],
        },
    ]
    payload["provenance"]["sources"] = [
        {
            "name": HOSTILE,
            "version": "1",
            "citation": ARABIC,
            "licence": "MIT",
            "homepage": "javascript:window.broken=1",
        }
    ]
    payload["provenance"]["embeddings"] = [
        {"dataset": HOSTILE, "shape": "9 x 3", "sha256": "ab" * 32}
    ]
    return payload


def detail(rng: np.random.Generator, methods: int = 3) -> dict[str, list]:
    """Make one cell's curves, distributions, training and settings."""
    edges = [i / 10 for i in range(11)]
    payload: dict[str, list] = {
        "curves": [],
        "distributions": [],
        "training": [],
        "settings": [],
    }
    for method in range(methods):
        for curve, x in (
            ("robustness", [1, 2, 4, 8]),
            ("rank_profile", list(range(1, 40))),
            ("other_curve", [1, 2]),
        ):
            payload["curves"].append(
                {"curve": curve, "method": method, "x": x, "y": [1 / at for at in x]}
            )
        alive = rng.integers(0, 20, 10).tolist()
        payload["distributions"].append(
            {
                "method": method,
                "score": "ms",
                "edges": edges,
                "alive": alive,
                "all": [alive[0] + 5, *alive[1:]],
            }
        )
        for trial, status in (("lr0", "ok"), ("lr7", "diverged")):
            run = {
                "method": method,
                "trial": trial,
                "seed": 0,
                "status": status,
                "step": [0, 10, 20],
                "r2": [0.1, 0.5, None if status != "ok" else 0.6],
                "dead": [0, 1, 2],
            }
            payload["training"].append(run)
            payload["settings"].append(
                {
                    "method": method,
                    "trial": trial,
                    "settings": {"lr": 0.1, "name": HOSTILE},
                }
            )
    return payload


def blind_trials(
    codes_of_saes: list[dict[str, np.ndarray]], payloads: list[Any], images: int
) -> dict[str, Any]:
    """Draw the blind trials of a cell, of the first two methods.

    Args:
        codes_of_saes: The codes of each method's SAE, over all images.
        payloads: The payload of each method's SAE.
        images: How many of the first images may be shown.
    """
    codes = {}
    tables = {}
    for method, code, payload in zip(METHODS, codes_of_saes, payloads, strict=False):
        is_first = code["image"] < images
        offsets = np.concatenate([[0], np.cumsum(is_first)])[code["offsets"]]
        codes[method["id"]] = RankedCodes(
            offsets, code["image"][is_first], code["value"][is_first]
        )
        scores = {
            name: unpacked(payload["latents"][name]) for name in ("detection", "ms")
        }
        tables[method["id"]] = pd.DataFrame(scores)
    payload, _ = draw_trials(("d/1", "b", 4), codes, tables, [], np.arange(images))
    assert payload is not None
    return payload


def write(
    folder: Path,
    *,
    m: int = 48,
    images: int = 300,
    k: int = 4,
    thumbnails: int = 280,
    seed: int = 0,
) -> dict[str, Any]:
    """Write a site of two cells, and return the numbers that it holds.

    The first cell has images, labels and blind trials; the second one has none.
    """
    rng = np.random.default_rng(seed)
    classes = [HOSTILE, ARABIC, LONG, "plain", "other"]
    cells = [
        {
            "dataset": "d/1",
            "backbone": "b",
            "k": k,
            "m": m,
            "d": 16,
            "images": 0,
            "as_well": 0.6,
            "saes": [0, 1],
            "concepts": True,
            "where": {
                **{"height": MAP[0], "width": MAP[1], "square": 1.0},
                **{"enlarged": None, "exact": True},
            },
        },
        {
            "dataset": "e",
            "backbone": "b",
            "k": 8,
            "m": m,
            "d": 16,
            "images": None,
            "saes": [2],
            "where": {"missing": "there is no grid"},
        },
    ]
    codes_of_saes = [codes(rng, m, images, k) for _ in range(2)]
    codes_of_saes.append(codes(rng, m, 100, 8))
    payloads = [
        sae(rng, m, codes_of_saes[n], images, len(classes), [1 - n]) for n in (0, 1)
    ]
    payloads.append(sae(rng, m, codes_of_saes[2], 100, 0, []))
    # The first method's latents are matched with concepts, the second's are not.
    payloads[0]["names"] = named(m)
    put(folder, "concepts/0", {"saes": [matching(0)]})
    put(folder, "where/0", heatmaps(codes_of_saes[0], m))
    for n, payload in enumerate(payloads):
        put(folder, f"saes/{n}", payload)
    alive = [int((np.diff(code["offsets"]) > 0).sum()) for code in codes_of_saes]
    listed = [
        {
            "cell": cell,
            "method": method,
            "trial": "lr0",
            "seed": 0,
            "alive": alive[n],
            "m": m,
            "scores": {
                "r2": 0.6 + n / 100,
                "ms": 0.5,
                "detection": None if cell else 0.7,
            },
            "chosen": n != 1,
            "where": "exact" if n == 0 else None,
        }
        for n, (cell, method) in enumerate([(0, 0), (0, 1), (1, 0)])
    ]
    listed.append(
        {
            "cell": 0,
            "method": 2,
            "trial": "lr0",
            "seed": 0,
            "alive": m,
            "m": 2 * m,
            "scores": {"r2": 0.1, "ms": 0.45},
        }
    )
    trials_of_cell = blind_trials(codes_of_saes[:2], payloads[:2], thumbnails)
    put(folder, "judge/0", trials_of_cell)
    cells[0]["judge"] = trials_of_cell["hash"]
    overview_payload = overview(rng, cells, listed)
    put(folder, "overview", overview_payload)
    for cell in range(len(cells)):
        put(folder, f"cells/{cell}", detail(rng))
    pictures(folder, 0, rng, images, classes, thumbnails)
    (folder / "files").mkdir(exist_ok=True)
    svg = '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 4 3"/>'
    (folder / "files/a.svg").write_text(svg)
    (folder / "files/a.csv").write_text("a,b\n1,2\n")
    shell(
        folder,
        overview_payload["experiment"],
        overview_payload["description"],
        overview_payload["answer"],
    )
    return {
        "overview": overview_payload,
        "codes": codes_of_saes,
        "payloads": payloads,
        "classes": classes,
    }


def write_plain(folder: Path, *, m: int = 24, seed: int = 1) -> None:
    """Write the site of someone's SAE alone.

    It has one method, no images, no labels, no trials and no claims.
    """
    rng = np.random.default_rng(seed)
    code = codes(rng, m, 80, 4)
    put(folder, "saes/0", sae(rng, m, code, 80, 0, []))
    cells = [
        {
            "dataset": "e",
            "backbone": "b",
            "k": 4,
            "m": m,
            "d": 8,
            "images": None,
            "saes": [0],
        }
    ]
    listed = [
        {
            "cell": 0,
            "method": 0,
            "trial": "mine",
            "seed": None,
            "alive": 22,
            "m": m,
            "scores": {"ms": 0.5},
        }
    ]
    overview_payload = overview(rng, cells, listed, compared=False)
    overview_payload["methods"] = overview_payload["methods"][:1]
    overview_payload["answer"] = []
    overview_payload["datasets"] = overview_payload["datasets"][1:]
    put(folder, "overview", overview_payload)
    put(
        folder,
        "cells/0",
        {"curves": [], "distributions": [], "training": [], "settings": []},
    )
    shell(folder, overview_payload["experiment"], "", [])

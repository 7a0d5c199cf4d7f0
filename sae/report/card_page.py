"""The page of a card: its table, a plot of each score against R2, and latents."""

import base64
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2
from matplotlib.figure import Figure

from sae.cards.images import CardImages
from sae.cards.latents import ShownLatent
from sae.cards.make import Card
from sae.cards.measure import tensors_sha256
from sae.core import files
from sae.core.errors import UserError
from sae.data import pictures
from sae.data.dataset import OpenImage
from sae.models.coder import Coder
from sae.report import style
from sae.report.card_words import (
    headline,
    label,
    notes,
    number,
    sentences,
    table,
)
from sae.report.style import plt
from sae.scoring.choice import MARGIN

SIDE = 72  # pixels of a picture
YOURS = "#D55E00"
TOPK = "#0072B2"
JSON = "card.json"
PLOT = "plot.svg"
PAGE = "index.html"
KINDS = {
    "by_lot": "Latents drawn by lot",
    "best_named": "The latents with the best names",
    "about_nothing": "Latents that fire most and are about nothing",
}
TEMPLATE = """<!doctype html>
<html lang="en"><meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{{ title }}: a card</title>
<style>
body { font: 16px/1.5 system-ui, sans-serif; max-width: 62rem; margin: 2rem auto; padding: 0 1rem;
  color: #222; background: #fff }
h1 { overflow-wrap: anywhere } .headline { font-size: 1.2rem }
.wide { overflow-x: auto } .wide svg { min-width: 40rem; max-width: 100%; height: auto }
table { border-collapse: collapse; margin: 1rem 0 }
td, th { padding: .2rem 1.2rem .2rem 0; text-align: left; white-space: nowrap }
th { border-bottom: 1px solid #999; font-weight: 600 }
.notes { color: #555; font-size: .9rem }
.latent { display: flex; gap: .2rem 1rem; align-items: center; margin: .6rem 0; flex-wrap: wrap }
.latent p { width: 13rem; margin: 0; font-size: .9rem }
.pictures { display: flex; gap: .2rem; flex-wrap: wrap }
.pictures img { width: 72px; height: 72px; object-fit: contain }
</style>
<h1>Is {{ title }} any good?</h1>
<p class="headline">{{ headline }}</p>
<div class="wide"><table><tr>{% for cell in head %}<th>{{ cell }}</th>{% endfor %}</tr>
{% for row in rows %}<tr>{% for cell in row %}<td>{{ cell }}</td>{% endfor %}</tr>
{% endfor %}</table>
{{ plot|safe }}</div>
{% for sentence in sentences %}<p>{{ sentence }}</p>
{% endfor %}
<div class="notes">{% for note in notes %}<p>{{ note }}</p>
{% endfor %}</div>
{% for kind in kinds if kind.latents %}<h2>{{ kind.heading }}</h2>
{% if loop.first %}<p>Each with the test images on which it is highest, one of each group.</p>{% endif %}
{% for latent in kind.latents %}<div class="latent"><p>{{ latent.text }}</p><div class="pictures">
{% for picture in latent.pictures %}{% if picture.src %}<img src="{{ picture.src }}" alt="{{ picture.id }}"
 title="{{ picture.id }}: {{ picture.activation }}">{% else %}<span>{{ picture.id }}</span>{% endif %}
{% endfor %}</div></div>
{% endfor %}{% endfor %}
{% if credit %}<p class="notes">Pictures: {{ credit }}</p>{% endif %}
</html>
"""


@dataclass(frozen=True)
class CardFiles:
    """A card that was written.

    Attributes:
        content: Of card.json.
        plot: Of plot.svg.
    """

    content: dict[str, Any]
    plot: bytes

    def payload(self) -> dict[str, Any]:
        """Return what a site shows of it."""
        head, *rows = table(self.content)
        return {
            "sentences": [headline(self.content), *sentences(self.content)],
            "head": head,
            "rows": rows,
            "notes": notes(self.content),
            # Not a file beside, of which a browser may have kept another card's.
            "plot": f"data:image/svg+xml;base64,{base64.b64encode(self.plot).decode()}",
        }


def read_of_any(folder: Path, coders: Sequence[Coder]) -> CardFiles:
    """Read the card of one of some SAEs.

    Raises:
        UserError: There is no card, or it is of another SAE.
    """
    advice = "write one with `python -m sae card`"
    content = files.read_json(folder / JSON, "card", advice)
    if content["sae"]["sha256"] not in [tensors_sha256(coder) for coder in coders]:
        raise UserError(
            f"{folder} is the card of another SAE: name the card of one of these"
        )
    if "chosen" not in content["references"]:
        raise UserError(f"{folder} was made by an earlier version: make it again")
    return CardFiles(content, (folder / PLOT).read_bytes())


def write(card: Card, folder: Path, title: str) -> None:
    """Write card.json, plot.svg and index.html, which needs no other file.

    Args:
        card: What they show.
        folder: Where.
        title: What the SAE is called.
    """
    files.write_json(folder / JSON, card.content)
    drawn = _svg(plot(card.content))
    (folder / PLOT).write_text(drawn, encoding="utf-8")
    text = page(card, drawn, title)
    (folder / PAGE).write_text(text, encoding="utf-8")


def page(card: Card, drawn: str, title: str) -> str:
    """Return the page of a card.

    Args:
        card: What it shows.
        drawn: Its plot.
        title: What the SAE is called.
    """
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True
    )
    content = card.content
    head, *rows = table(content)
    return environment.from_string(TEMPLATE).render(
        title=title,
        headline=headline(content),
        sentences=sentences(content),
        head=head,
        rows=rows,
        plot=drawn,
        notes=notes(content),
        kinds=[
            {
                "heading": heading,
                "latents": [
                    _latent(shown, card.images) for shown in getattr(card.latents, kind)
                ],
            }
            for kind, heading in KINDS.items()
        ],
        credit="" if card.images.open_image is None else card.images.credit,
    )


def plot(content: Mapping[str, Any]) -> Figure:
    """Draw R2 against each score on validation: trials of Top-k, controls, a star."""
    readings = [reading for reading in content["readings"] if reading["word"]]
    references = content["references"]
    points = content["on_validation"]
    with plt.rc_context(style.RC):
        figure, axes = style.panels(1, len(readings), 2.4, 0.6)
        for ax, reading in zip(axes[0], readings, strict=False):
            score = reading["score"]
            trials = [
                trial for trial in references["trials"] if trial[score] is not None
            ]
            own_r2 = points["yours"]["r2"]
            ax.axvspan(
                own_r2 - MARGIN,
                max([own_r2, *(trial["r2"] for trial in trials)]),
                color="#ececec",
                zorder=0,
                label="reconstructs as well",
            )
            for trial in trials:
                is_chosen = trial["trial"] == references["chosen"]
                ax.plot(
                    trial["r2"],
                    trial[score],
                    color=TOPK,
                    marker="o",
                    markersize=8 if is_chosen else 4,
                    markerfacecolor=TOPK if not is_chosen else "none",
                    linestyle="none",
                    label="Top-k, chosen" if is_chosen else None,
                )
            for method, values in points.items():
                if method == "yours" or values[score] is None:
                    continue
                ax.plot(values["r2"], values[score], "s", color=style.GREY, alpha=0.8)
                ax.annotate(
                    method.replace("_", " "),
                    (values["r2"], values[score]),
                    xytext=(3, 3),
                    textcoords="offset points",
                    fontsize=6,
                )
            ax.plot(
                own_r2,
                points["yours"][score],
                marker="*",
                markersize=12,
                color=YOURS,
                linestyle="none",
                label="yours",
            )
            ax.set_xlabel("R2 on validation images")
            ax.set_ylabel(label(score))
        axes[0, 0].legend(frameon=False)
    return figure


def _svg(figure: Figure) -> str:
    buffer = io.StringIO()
    with plt.rc_context(style.RC):
        figure.savefig(buffer, format="svg", metadata={"Date": None})
    plt.close(figure)
    text = buffer.getvalue()
    return text[text.index("<svg") :]


def _latent(shown: ShownLatent, images: CardImages) -> dict[str, Any]:
    parts = [f"Latent {shown.latent}"]
    if shown.name:
        parts.append(f"“{shown.name}”")
    parts.append(f"fires on {shown.fires} images")
    if shown.detection == shown.detection:
        parts.append(f"detection {number(shown.detection, '.2f')}")
    if shown.ms == shown.ms:
        parts.append(f"MS {number(shown.ms, '.2f')}")
    index = images.splits["test"].index
    open_image = images.open_image
    return {
        "text": ", ".join(parts),
        "pictures": [
            {
                "id": str(index["image_id"].iloc[row]),
                "activation": f"{activation:.3g}",
                "src": (
                    ""
                    if open_image is None
                    else _source(index["path"].iloc[row], open_image)
                ),
            }
            for row, activation in zip(shown.rows, shown.activations, strict=True)
        ],
    }


def _source(path: str, open_image: OpenImage) -> str:
    """Return a picture as a part of the page; "" of one that cannot be read."""
    try:
        image = open_image(path).convert("RGB")
    except pictures.UNREADABLE:
        return ""
    image.thumbnail((SIDE, SIDE))
    buffer = io.BytesIO()
    image.save(buffer, format="JPEG", quality=80)
    return f"data:image/jpeg;base64,{base64.b64encode(buffer.getvalue()).decode()}"

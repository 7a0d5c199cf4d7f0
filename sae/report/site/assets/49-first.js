"use strict";

/** How the overview begins: fronts of one ordinary cell, the answer beside them, and images of a latent that gained. */
(() => {
const { h, name, link, soft, href, missing } = SITE;

/** The beginning of the overview; null where there is nothing to say. */
SITE.first = () => {
  const { answer, start } = SITE.overview;
  const sentences = answer.length > 0 && h(".answer", answer.map((sentence) => h("p.lead", { dir: "auto" }, sentence)));
  const panel = firstPanel();
  const gained = start.find(SITE.isFirst);
  const images = gained && gainedImages(gained);
  if (!panel) return [sentences, images];
  return h(".first", panel, sentences, images);
};

/** Whether a view to start with stands at the beginning, with its images, and not among the cards. */
SITE.isFirst = ({ strips = [] }) => strips.length > 1;

/** Each method's front in the cell that the rule chose. */
function firstPanel() {
  const { first_panel: chosen, cells, methods, fronts } = SITE.overview;
  if (!chosen) return null;
  const cell = cells[chosen.cell];
  const compared = methods.map((_, method) => method).filter((method) => fronts.some((vertex) => vertex.cell === cell.index && vertex.method === method));
  const panel = SITE.panel(cell, SITE.score(chosen.score), compared);
  if (!panel.near.length) return null;
  const title = link(href("cell", cell.place), SITE.cellName(cell));
  return h("", SITE.drawPanel(panel, undefined, title, { width: 520, height: 300 }), SITE.legend(compared),
    h("p.soft", { dir: "auto" }, "A point is a trial, a line a method's front: up is better, right reconstructs better. ", chosen.rule));
}

/** The images of a latent, and below them those of its match in the baseline. */
function gainedImages({ title, rule, href: to, strips }) {
  const [latent, match] = strips;
  const box = h("section.gained", h("h2", link(to, title)), h("p.soft", { dir: "auto" }, rule),
    h(".pair", [[latent, "With "], [match, "Its match in "]].map(([strip, said]) =>
      h("", h("p", soft(said), name(strip.label)), SITE.stripOfLatent(strip, 8, 64, () => box.remove())))));
  return box;
}

/** The images of a latent in a row, which come when their file is there; `none` is called where there is none to show. */
SITE.stripOfLatent = ({ cell, images: rows }, most, size, none = () => {}) => {
  const place = SITE.overview.cells[cell];
  const box = h("", { style: { "min-height": `${size}px` } });
  const without = () => {
    box.remove();
    none();
  };
  if (missing(place.images)) without();
  else {
    SITE.imagesOf(place).then((images) => {
      const shown = rows.slice(0, most).filter((image) => images.shown(image));
      if (shown.length) box.replaceChildren(SITE.strip(place, images, shown.map((image) => ({ image })), size));
      else without();
    }, without);
  }
  return box;
};
})();

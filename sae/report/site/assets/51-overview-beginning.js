"use strict";

/**
 * How the overview begins: fronts of one ordinary cell with the answer beside them and
 * the images of a latent that gained, then views to start with, and terms.
 */
(() => {
const { h, bdi, link, soft, href, isMissing } = SITE;

// The terms that the page shows at once; it opens the others.
const FIRST_TERMS = [
  "latent", "MS", "detection", "R²", "k", "m", "λ", "lambda", "dead", "cell",
];

SITE.addSection("overview/beginning", showAnswer);
SITE.addSection("overview/beginning", showStart);
SITE.addSection("overview/beginning", showTerms);

/** Show the answer, beside the first panel where there is one. */
function showAnswer() {
  const { answer, start } = SITE.overview;
  const sentence = (text) => h("p.lead", { dir: "auto" }, text);
  const sentences = answer.length > 0 && h(".answer", answer.map(sentence));
  const panel = firstPanel();
  const view = start.find(isOfGainedLatent);
  const images = view && gainedImages(view);
  return panel ? h(".first", panel, sentences, images) : [sentences, images];
}

/**
 * Whether a view to start with is that of a latent that gained. It has the images of
 * the latent's match as well, and stands beside the answer, not among the cards.
 */
const isOfGainedLatent = ({ strips = [] }) => strips.length > 1;

/** Return each method's front in the cell that the rule chose, if it chose one. */
function firstPanel() {
  const { first_panel: chosen, cells, methods, fronts } = SITE.overview;
  if (!chosen) return null;
  const cell = cells[chosen.cell];
  const hasFront = (method) =>
    fronts.some((vertex) => vertex.cell === cell.index && vertex.method === method);
  const compared = SITE.range(methods.length).filter(hasFront);
  const panel = SITE.panelOf(cell, SITE.scoreRow(chosen.score), compared);
  if (!panel.near.length) return null;

  const title = link(href("cell", cell.address), SITE.cellName(cell));
  return h("",
    SITE.drawPanel(panel, { title, size: { width: 520, height: 300 } }),
    SITE.legend(compared),
    h("p.soft", { dir: "auto" },
      "A point is a trial, a line a method's front: up is better, right reconstructs "
        + "better. ",
      chosen.rule));
}

/** Return the images of a latent, and below them those of its match in the baseline. */
function gainedImages({ title, rule, href: address, strips }) {
  const [latent, match] = strips;
  const column = (strip, prefix) => {
    const images = stripOfLatent(strip, 8, 64, () => box.remove());
    return h("", h("p", soft(prefix), bdi(strip.label)), images);
  };
  const box = h("section.gained",
    h("h2", link(address, title)),
    h("p.soft", { dir: "auto" }, rule),
    h(".pair", column(latent, "With "), column(match, "Its match in ")));
  return box;
}

/**
 * Return the images of a latent in a row, which come when their file is there. Where
 * there is none to show, the row goes, and `onNone` is called.
 */
function stripOfLatent(strip, most, size, onNone = () => {}) {
  const cell = SITE.overview.cells[strip.cell];
  const box = h("", { style: { "min-height": `${size}px` } });
  const removeBox = () => {
    box.remove();
    onNone();
  };
  const fillBox = (images) => {
    const firstImages = strip.images.slice(0, most);
    const shown = firstImages.filter((image) => images.hasThumbnail(image));
    const entries = shown.map((image) => ({ image }));
    if (entries.length) box.replaceChildren(SITE.strip(cell, images, entries, size));
    else removeBox();
  };
  if (isMissing(cell.images)) removeBox();
  else SITE.loadImages(cell).then(fillBox, removeBox);
  return box;
}

/** Show the views to start with. */
function showStart() {
  const { start } = SITE.overview;
  if (!start.length) return null;
  const cards = start.filter((view) => !isOfGainedLatent(view)).map(startCard);
  return SITE.section("Start here", h("ul.cards", cards));
}

/** Return a view to start with: images, a link, and by which rule it was chosen. */
function startCard({ title, rule, href: address, strips = [] }) {
  return h("li.card",
    strips.slice(0, 1).map((strip) => stripOfLatent(strip, 5, 44)),
    h("a", { href: address, dir: "auto" }, title),
    h("p.soft", { dir: "auto" }, rule));
}

/** Show the terms of the glossary: those of the methods and the first ones at once. */
function showTerms() {
  const { glossary, methods } = SITE.overview;
  const allTerms = Object.keys(glossary);
  if (!allTerms.length) return null;
  const firstTerms = [...methods.map(({ label }) => label), ...FIRST_TERMS];
  const moreTerms = allTerms.filter((term) => !firstTerms.includes(term));
  const makeMore = () => SITE.terms(SITE.explainedTerms(moreTerms));
  return h("section", { "aria-label": "Terms" },
    SITE.terms(SITE.explainedTerms(firstTerms)),
    moreTerms.length > 0 && SITE.opened(`${moreTerms.length} more terms`, makeMore));
}
})();

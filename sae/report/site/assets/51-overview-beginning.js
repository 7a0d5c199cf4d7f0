"use strict";

/**
 * How the overview begins: the answer in words, with the figure of effects beside it;
 * latents with a name; extremes; terms.
 */
(() => {
const { h, bdi, link, soft, note, href, isMissing } = SITE;

// The terms that the page shows at once; it opens the others.
const FIRST_TERMS = [
  "latent", "name", "detection", "MS", "R²", "k", "m", "λ", "dead", "cell",
];
// Where methods are compared, these too.
const TERMS_OF_COMPARISON = [
  "coverage", "chosen SAEs", "reconstructs as well", "effect",
];

SITE.addSection("overview/beginning", showAnswer);
SITE.addSection("overview/beginning", showStart);
SITE.addSection("overview/beginning", showTerms);

/** Show the answer, and beside it the figure of effects where there is one. */
function showAnswer() {
  const { answer } = SITE.overview;
  const sentence = (text) => h("p.lead", { dir: "auto" }, text);
  const sentences = answer.length > 0 && h(".answer", answer.map(sentence));
  const forest = forestOfEffects();
  return forest ? h(".first", sentences, forest) : sentences;
}

/** Return the figure of effects with its caption, if there is one. */
function forestOfEffects() {
  const { comparison, downloads } = SITE.overview;
  const figure = downloads.find(({ name }) => name === "effects");
  if (!figure || !comparison.length) return null;
  const { href: src } = figure.files.find(({ label }) => label === "SVG");
  return h("figure.forest",
    h(".wide", { tabindex: 0, role: "group", "aria-label": "Figure, scrolls" },
      h("img.drawn", { src, alt: "Effects of each method, with intervals" })),
    h("figcaption.soft", { dir: "auto" }, figure.caption));
}

/**
 * Whether a view to start with is that of a latent that gained. It has the images of
 * the latent's match as well, and stands above the cards, not among them.
 */
const isOfGainedLatent = ({ strips = [] }) => strips.length > 1;

/** Return the images of a latent, and below them those of its match in the baseline. */
function gainedImages({ title, rule, href: address, strips }) {
  const [latent, match] = strips;
  const column = (strip, prefix) => {
    const images = stripOfLatent(strip, 8, 64, () => box.remove());
    return h("", h("p", soft(prefix), bdi(strip.label)), images);
  };
  const box = h("section.gained",
    h("h3", link(address, title)),
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

/** Show the views to start with: latents with a name, then extremes. */
function showStart() {
  const { start } = SITE.overview;
  const ofNames = start.filter(({ named }) => named);
  const gained = start.find(isOfGainedLatent);
  const others = start.filter((view) => !view.named && view !== gained);
  return [
    ofNames.length > 0 && SITE.section("Latents with a name",
      note("The most precise names, one latent each. ", SITE.sharesWithName()),
      h("ul.cards", ofNames.map(startCard))),
    (gained || others.length > 0) && SITE.section("Extremes",
      gained && gainedImages(gained),
      h("ul.cards", others.map(startCard))),
  ];
}

/** Return a view to start with: images, a link, whose they are, why it was chosen. */
function startCard({ title, rule, href: address, strips = [] }) {
  const whose = ({ label, cell }) =>
    soft(bdi(label), ", ", SITE.cellName(SITE.overview.cells[cell]));
  return h("li.card",
    strips.slice(0, 1).map((strip) => stripOfLatent(strip, 5, 52)),
    h("a", { href: address, dir: "auto" }, title),
    h("p.soft", { dir: "auto" }, rule),
    strips.slice(0, 1).map(whose));
}

/** Show the terms of the glossary: those of the methods and the first ones at once. */
function showTerms() {
  const { glossary, methods, comparison } = SITE.overview;
  const allTerms = Object.keys(glossary);
  if (!allTerms.length) return null;
  const firstTerms = [
    ...methods.map(({ label }) => label),
    ...FIRST_TERMS,
    ...(comparison.length ? TERMS_OF_COMPARISON : []),
  ];
  const moreTerms = allTerms.filter((term) => !firstTerms.includes(term));
  const makeMore = () => SITE.terms(SITE.explainedTerms(moreTerms));
  return h("section", { "aria-label": "Terms" },
    SITE.terms(SITE.explainedTerms(firstTerms)),
    moreTerms.length > 0 && SITE.opened(`${moreTerms.length} more terms`, makeMore));
}
})();

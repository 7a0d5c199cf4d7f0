"use strict";

/** What the views share: the frame of a page, fields, pickers of a cell and a method, terms, short facts on a latent. */
(() => {
const { h, name, link, soft, note, href, num, share, short, count, missing, go } = SITE;

/** What a view returns: its title (of the tab and the heading), and what stands below. */
SITE.page = (title, ...nodes) => {
  const heading = h("h1", { tabindex: -1 }, title);
  return { title: heading.textContent, nodes: [heading, ...nodes.flat(2)] };
};

/** A text of the page, which stands in index.html. */
SITE.words = (id) => document.getElementById(`words-${id}`).content.cloneNode(true);

SITE.section = (title, ...nodes) => h("section", h("h2", title), nodes);

// -- fields

SITE.field = (label, input) => h("label.field", h("span", label), input);

/** A labelled <select>. Options are [value, label]; `changed` is called with a value. */
SITE.select = (label, options, value, changed) => SITE.field(label, h("select", { onchange: ({ target }) => changed(options[target.selectedIndex][0]) },
  options.map(([of, text]) => h("option", { value: of, selected: String(of) === String(value) }, String(text)))));

SITE.button = (text, pressed) => h("button", { type: "button", onclick: pressed }, text);

/** A row of fields; `submitted(form)` is called when enter is pressed in one. */
SITE.bar = (about, fields, submitted) => h("form.bar", { "aria-label": about, onsubmit: (event) => {
  event.preventDefault();
  submitted?.(event.target);
} }, fields);

/** Fields that open a latent: by its number, or a random one of those that `from()` gives. */
SITE.latentFields = (m, from) => [
  SITE.field("Jump to latent", h("input", { name: "jump", type: "number", min: 0, max: m - 1, required: true })), h("button", "Open"),
  SITE.button("Random", () => {
    const all = from();
    if (all.length) go(all[Math.floor(Math.random() * all.length)]);
  }),
];

/**
 * Pickers of a cell, and of what else a view needs; each opens the address that `to(cell)` gives.
 * A choice that has no cell goes to the nearest that has the choice.
 */
SITE.cellBar = (cell, to, ...more) => {
  const { cells } = SITE.overview;
  const keys = [["dataset", "Dataset"], ["backbone", "Backbone"], ["k", "k"]];
  const alike = (one) => keys.filter(([of]) => one[of] === cell[of]).length;
  return SITE.bar("Which SAEs", [keys.map(([key, text]) => {
    const options = [...new Set(cells.map((one) => one[key]))].map((value) => [value, SITE.label[key](value)]);
    return SITE.select(text, options, cell[key], (value) => go(to(cells.filter((one) => one[key] === value).sort((a, b) => alike(b) - alike(a))[0])));
  }), more]);
};

/** A picker of one of a cell's SAEs by its method. */
SITE.methodPicker = (text, saes, id, changed) => SITE.select(text, saes.map((sae) => [sae.id, SITE.label.method(sae.method)]), id, changed);

/** A cell in words, each name in its own direction. */
SITE.cellName = (cell) => [name(SITE.label.dataset(cell.dataset)), ", ", name(SITE.label.backbone(cell.backbone)), `, k\u00a0=\u00a0${cell.k}`];

/** Says of which of some SAEs' methods the paper's rule chose no trial in their cell: what is shown was not chosen. */
SITE.unchosen = (saes) => {
  const methods = saes.filter(({ chosen }) => chosen === false).map(({ method }) => method);
  if (!methods.length) return null;
  const names = methods.map((method, i) => [i ? ", " : "", name(SITE.label.method(method))]);
  return h("p.notice", "No trial of ", names, " reached the baseline's R² here, so none was chosen. What is shown is the trial of highest R² on validation: ",
    "it is in no mean and in no claim.");
};

/** Says which of the methods of an address have no latents here: others are then shown in their place. */
SITE.lacking = (cell, query) => {
  const lost = ["a", "b"].map((key) => query.get(key)).filter((id) => id && !SITE.saesOf(cell).some((sae) => sae.id === id));
  return lost.length > 0 && h("p.notice", "No latents here of ", lost.map((id, i) => [i ? ", " : "", name(SITE.label.method(SITE.methodIndex(id)))]), ": another method is shown.");
};

/** Links to what else there is of a cell. */
SITE.cellLinks = (cell, except) => {
  const saes = SITE.saesOf(cell);
  const views = [["cell", "Cell"], ...(saes.length ? [["image", "Images"]] : []), ...(saes.length > 1 ? [["compare", "Compare"]] : []),
    ...(cell.concepts ? [["concepts", "Concepts"]] : [])];
  return h("p.links", views.filter(([view]) => view !== except).map(([view, text]) => link(href(view, cell.place), text)),
    saes.map(({ id, method }) => h("span", link(href("latents", [...cell.place, id]), "Latents of ", name(SITE.label.method(method))))));
};

/** Terms with what they mean, [[term, sentence]]. */
SITE.terms = (pairs) => h("dl.terms", pairs.map(([term, said]) => h("", h("dt", { dir: "auto" }, term), h("dd", { dir: "auto" }, said))));

/** Those of the glossary that it has. */
SITE.glossary = (words) => words.filter((word) => SITE.overview.glossary[word]).map((word) => [word, SITE.overview.glossary[word]]);

// -- latents

/** The scores that the latents of an SAE have: {id (a column), label, what, mean (the score that is their mean)}. */
SITE.latentScores = (sae) => [["ms", "MS", "ms"], ["detection", "Detection", "detection_alive"], ["purity", "Purity"], ["stability", "Stability", "stability"], ...SITE.overview.latent_scores.map(({ id, label }) => [id, label, id])]
  .filter(([id]) => sae.column(id))
  .map(([id, label, mean]) => ({ id, label, mean, what: SITE.overview.latent_scores.find((one) => one.id === id)?.what || SITE.overview.glossary[id] || SITE.overview.glossary[label] }));

SITE.latentHref = (cell, sae, j, query) => href("latent", [...cell.place, sae.id, j], query);

/** Short facts on a latent: how often it fires, its scores, its main class. */
SITE.facts = (sae, j, images) => {
  const n = sae.active(j);
  const often = n ? `fires on ${count(n)} of ${count(sae.images)} test images (${share(n / sae.images)})` : "dead: fires on no test image";
  const scores = SITE.latentScores(sae).filter(({ id }) => !missing(sae.column(id)[j])).map(({ id, label }) => `${label} ${num(sae.column(id)[j], 2)}`);
  const main = sae.main(j, images);
  return note([often, ...scores].join(" · "), main && [" · mostly ", name(main)]);
};

/** A latent as a card: its name or number, what is `said` of it, its highest images (`most`), facts. */
SITE.latentCard = (cell, images, about, sae, j, said = "", most = 6, size = 48) => {
  const called = SITE.latentName(sae, images, j);
  const instead = called ? `latent ${j}` : SITE.whyUnnamed(sae, images, j);
  const more = [instead, instead && said && ", ", said];
  return h(".card", h("h3", link(SITE.latentHref(cell, about, j), called ?? `Latent ${j}`), " ", soft(more)),
    SITE.strip(cell, images, sae.firing(j, most), size), SITE.facts(sae, j, images));
};

/** The activation of a latent on an image, and which place the image has among those on which it fires. */
SITE.standing = (sae, { latent, value, rank }) => `activation ${short(value)}, no. ${count(rank + 1)} of its ${SITE.pictures(sae.active(latent))}`;
})();

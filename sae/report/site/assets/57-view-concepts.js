"use strict";

/** Concepts of a cell: how well each method's latents tell them; and one concept with the latents that stand for it. */
(() => {
const { h, name, link, soft, note, num, count, column, section, go, href } = SITE;
const [LEAST_F1, EXAMPLES, MOST_NAMED] = [[0, 0.3, 0.5, 0.7], 16, 12];

/** Pickers of a cell; of a concept they stay with it where the dataset is the same. */
const pickers = (cell, concept) => SITE.cellBar(cell, (at) =>
  (concept && at.dataset === cell.dataset ? SITE.conceptHref(at, concept) : href("concepts", at.place)));

/** A cell's SAEs in two lists: those whose match with concepts is scored, and the others. */
function byScored(cell, matching) {
  const saes = SITE.saesOf(cell);
  return [saes.filter(({ n }) => matching.of(n)), saes.filter(({ n }) => !matching.of(n))];
}

/** The page of a cell whose images have no concepts. */
const withoutConcepts = (cell) => SITE.page("Concepts", pickers(cell),
  h("p.notice", "No concepts here: nothing that people call these images counts, or the experiment does not score it."));

SITE.views.concepts = async ({ parts, query }) => {
  const cell = SITE.cell(parts);
  if (!cell.concepts) return withoutConcepts(cell);
  const [images, matching] = await Promise.all([SITE.imagesOf(cell), SITE.conceptsOf(cell)]);
  const [scored, others] = byScored(cell, matching);
  const state = Object.fromEntries(["sort", "find", "least"].map((key) => [key, query.get(key) || ""]));
  const byFirst = scored.length ? `f1-${scored[0].method}` : "images";
  const [sortedBy, way] = (state.sort || byFirst).split(/-(up)$/);
  const table = SITE.table({ label: "Concepts", columns: columns(cell, images, matching, scored), height: 58,
    sort: { id: sortedBy, down: way !== "up" }, sorted: ({ id, down }) => {
      state.sort = id + (down ? "" : "-up");
      SITE.remember(state);
    } });
  const said = h("p.soft", { role: "status" });

  /** Show the concepts that fit what is asked for. */
  function fill() {
    const bestF1 = (concept) => Math.max(0, ...scored.map(({ n }) => matching.of(n).f1[concept]));
    const isFound = (concept) => images.concepts[concept].toLowerCase().includes(state.find.toLowerCase());
    const shown = SITE.upTo(images.concepts.length).filter((concept) => isFound(concept) && bestF1(concept) >= Number(state.least));
    table.fill(shown);
    said.textContent = `${count(shown.length)} of ${count(images.concepts.length)} concepts`;
  }

  /** Write a filter into the address, and show what fits. */
  function change(key, value) {
    state[key] = value;
    SITE.remember(state);
    fill();
  }
  fill();
  return SITE.page("Concepts", pickers(cell), SITE.words("concepts"), SITE.unscored(others),
    SITE.bar("Filters", [
      SITE.field("Concept", h("input", { type: "search", value: state.find, oninput: ({ target }) => change("find", target.value.trim()) })),
      scored.length > 0 && SITE.select("F1 under any method", LEAST_F1.map((f1) => [f1 || "", f1 ? `${f1} or more` : "any"]), state.least,
        (value) => change("least", value))]),
    said, table.node, SITE.credit(images));
};

/** The columns of the table of concepts. */
function columns(cell, images, matching, scored) {
  const f1Columns = scored.map(({ n, method }) => column(`f1-${method}`, `F1, ${SITE.label.method(method)}`,
    "How well “one of the latents that stand for it fires” tells the concept, on the test images.",
    (concept) => matching.of(n).f1[concept], num));
  return [
    { id: "concept", label: "Concept", less: true, value: (concept) => images.concepts[concept],
      show: (concept) => link(SITE.conceptHref(cell, images.concepts[concept]), name(images.concepts[concept])) },
    ...f1Columns,
    column("images", "Test images", "Test images that people gave the keyword.", (concept) => images.having(concept).length, count),
    { id: "examples", label: "Some of them", class: "pictures", show: (concept) => SITE.strip(cell, images, SITE.spread(images.having(concept), 5), 44) },
  ];
}

SITE.views.concept = async ({ parts }) => {
  const cell = SITE.cell(parts);
  if (!cell.concepts) return withoutConcepts(cell);
  const [images, matching] = await Promise.all([SITE.imagesOf(cell), SITE.conceptsOf(cell)]);
  const concept = images.concepts.indexOf(parts[3]);
  if (concept < 0) throw SITE.answer("This concept does not count among these images, or is of another dataset.");
  const [scored, others] = byScored(cell, matching);
  const saes = await Promise.all(scored.map(({ n }) => SITE.sae(n)));
  const having = images.having(concept);
  return SITE.page(name(images.concepts[concept]), pickers(cell, images.concepts[concept]), h("p.links", link(href("concepts", cell.place), "All concepts")),
    section(`Test images of it (${count(having.length)})`, SITE.strip(cell, images, SITE.spread(having, EXAMPLES)),
      having.length > EXAMPLES && note(`${EXAMPLES} of them, spread evenly.`)),
    scored.map((about, place) => latentsOf({ cell, images, concept, about, sae: saes[place], ...matching.of(about.n) })),
    SITE.unscored(others), SITE.credit(images));
};

/** The latents of one SAE that stand for a concept, then others that are called by it. */
function latentsOf({ cell, images, concept, about, sae, f1, standing }) {
  const chosen = standing(concept);
  const isChosen = new Set(chosen.map(({ latent }) => latent));
  const isCalledSo = (latent) => sae.called(latent).isName && sae.called(latent).concept === concept;
  const named = SITE.upTo(sae.m).filter((latent) => isCalledSo(latent) && !isChosen.has(latent))
    .sort((first, second) => sae.called(second).f1 - sae.called(first).f1);
  const card = (latent, told) => SITE.latentCard(cell, images, about, sae, latent, told, 10);
  return section([SITE.methodLabel(about.method), soft(` F1 ${num(f1[concept])}`)],
    chosen.length > 0 ? note("Chosen on the training images to stand for it.") : note("No latent stands for it."),
    h(".cards", chosen.map(({ latent, alone }) => card(latent, isCalledSo(latent) ? "" : `F1 ${num(alone, 2)} for it`))),
    named.length > 0 && [h("h3", "Others that have its name"), h(".cards", named.slice(0, MOST_NAMED).map((latent) => card(latent, ""))),
      named.length > MOST_NAMED && note(`and ${named.length - MOST_NAMED} more`)]);
}
})();

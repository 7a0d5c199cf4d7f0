"use strict";

/** Concepts of a cell: how well each method's latents tell them. */
(() => {
const { h, decimals, wholeNumber, numberColumn, href } = SITE;
const LEAST_F1 = [0, 0.3, 0.5, 0.7]; // What a filter offers.
const FILTERS = ["sort", "find", "least"];

SITE.addView("concepts", {
  label: "Concepts",
  isOfCell: true,
  isLinkedFromCells: true,
  hasContent: (cell) => Boolean(cell.concepts),
  show: showConcepts,
});

/** Show the concepts of a cell. */
async function showConcepts({ parts, query }) {
  const cell = SITE.cellOf(parts);
  if (!cell.concepts) return SITE.pageWithoutConcepts(cell);
  const [images, matches] = await Promise.all([
    SITE.loadImages(cell), SITE.loadConceptMatches(cell),
  ]);
  const { scored, others } = SITE.saesByConceptScore(cell, matches);
  const filters =
    Object.fromEntries(FILTERS.map((filter) => [filter, query.get(filter) || ""]));
  const table = conceptTable({ cell, images, matches, scored, filters });
  const status = h("p.soft", { role: "status" });

  const fill = () => {
    const all = SITE.range(images.conceptNames.length);
    const shown = all.filter((concept) =>
      isShown(concept, { images, matches, scored, filters }));
    table.fill(shown);
    const shownCount = wholeNumber(shown.length);
    status.textContent = `${shownCount} of ${wholeNumber(all.length)} concepts`;
  };
  const change = (key) => (value) => {
    filters[key] = value;
    SITE.rememberFilters(filters);
    fill();
  };
  fill();

  const f1Options = LEAST_F1.map((f1) => (f1 ? [f1, `${f1} or more`] : ["", "any"]));
  const f1Picker =
    SITE.select("F1 under any method", f1Options, filters.least, change("least"));
  return SITE.page("Concepts",
    SITE.conceptPickers(cell),
    SITE.words("concepts"),
    SITE.notScoredNotice(others),
    SITE.bar("Filters", [
      SITE.searchField("Concept", filters.find, change("find")),
      scored.length > 0 && f1Picker,
    ]),
    status,
    table.node,
    SITE.credit(images));
}

/** Whether a concept is among those that the filters ask for. */
function isShown(concept, { images, matches, scored, filters }) {
  const name = images.conceptNames[concept].toLowerCase();
  const f1s = scored.map(({ number }) => matches.ofSae(number).f1[concept]);
  const isFound = name.includes(filters.find.toLowerCase());
  return isFound && Math.max(0, ...f1s) >= Number(filters.least);
}

/** Return the table of concepts, which writes its order into the address. */
function conceptTable({ cell, images, matches, scored, filters }) {
  const firstColumn = scored.length ? `f1-${scored[0].method}` : "images";
  return SITE.table({
    label: "Concepts",
    columns: conceptColumns({ cell, images, matches, scored }),
    rowHeight: 58,
    ...SITE.sortedByAddress(filters, firstColumn),
  });
}

/** Return the columns of the table, whose rows are concepts, by number. */
function conceptColumns({ cell, images, matches, scored }) {
  const f1Columns = scored.map(({ number, method }) => numberColumn({
    id: `f1-${method}`,
    label: `F1, ${SITE.label.method(method)}`,
    meaning: "How well “one of the latents that stand for it fires” predicts the "
      + "concept, on the test images.",
    value: (concept) => matches.ofSae(number).f1[concept],
    format: decimals,
  }));
  const showExamples = (concept) => {
    const examples = SITE.spreadEvenly(images.imagesWith(concept), 5);
    return SITE.strip(cell, images, examples.map((image) => ({ image })), 44);
  };
  return [
    {
      id: "concept",
      label: "Concept",
      isLowFirst: true,
      value: (concept) => images.conceptNames[concept],
      show: (concept) => SITE.conceptLink(cell, images, concept),
    },
    { id: "examples", label: "Some images", class: "pictures", show: showExamples },
    ...f1Columns,
    numberColumn({
      id: "images",
      label: "Test images",
      meaning: "Test images that people gave the keyword.",
      value: (concept) => images.imagesWith(concept).length,
      format: wholeNumber,
    }),
  ];
}

// -- what the view of one concept shares

/** Return pickers of a cell. Those of a concept stay with it in the same dataset. */
SITE.conceptPickers = (cell, conceptName = null) => SITE.cellBar(cell, (other) => {
  const hasConcept = conceptName !== null && other.dataset === cell.dataset;
  return hasConcept
    ? SITE.conceptHref(other, conceptName)
    : href("concepts", other.address);
});

/** Return a cell's SAEs: those whose match with concepts is scored, and the others. */
SITE.saesByConceptScore = (cell, matches) => {
  const saes = SITE.saesOf(cell);
  return {
    scored: saes.filter(({ number }) => matches.ofSae(number)),
    others: saes.filter(({ number }) => !matches.ofSae(number)),
  };
};

/** Return the page of a cell whose images have no concepts. */
SITE.pageWithoutConcepts = (cell) => SITE.page("Concepts",
  SITE.conceptPickers(cell),
  h("p.notice",
    "No concepts here: no keyword of these images counts, or the experiment does "
      + "not score concepts."));
})();

"use strict";

/**
 * One cell: what was chosen, trials, curves, training, settings. Its page is made of
 * the sections of the slot `cell`, whose context is {cell, file (curves, distributions,
 * training and settings, as in data/cells/{i}.js), trials (their places in the columns
 * of the overview), methods (the places of those that have trials)}.
 */
(() => {
const { h, href, wholeNumber } = SITE;

SITE.addView("cell", {
  label: "Cell",
  isOfCell: true,
  isLinkedFromCells: true,
  show: showCell,
});

/** Show a cell. */
async function showCell({ parts }) {
  const cell = SITE.cellOf(parts);
  const { trials: columns, methods } = SITE.overview;
  const trials = SITE.trialsOf(cell);
  const methodsOfTrials = new Set(trials.map((trial) => columns.method[trial]));
  const context = {
    cell,
    file: await SITE.loadPayload(`cells/${cell.index}`),
    trials,
    methods: SITE.range(methods.length).filter((place) => methodsOfTrials.has(place)),
  };
  return SITE.page(SITE.cellName(cell),
    SITE.cellBar(cell, (other) => href("cell", other.address)),
    h("p",
      `m = ${wholeNumber(cell.m)} latents on embeddings of ${wholeNumber(cell.d)} `
        + `numbers. On each image k = ${cell.k} of them are active.`),
    SITE.cellLinks(cell, "cell"),
    SITE.notChosenNotice(SITE.saesOf(cell)),
    SITE.sectionsOf("cell", context));
}
})();

"use strict";

/** All trials of a cell with their dead latents: what a score may be bought with. */
(() => {
const { h, bdi, decimals, wholeNumber, numberColumn } = SITE;

SITE.addSection("cell", showTrials);

/** Show the trials as a table. */
function showTrials({ trials }) {
  if (!trials.length) return null;
  const columns = trialColumns();
  const table = SITE.table({ label: "All trials", columns, rows: trials });
  return SITE.section("All trials, and their dead latents",
    h("p", "Scores on the test images. A trial that diverged has none."),
    table.node);
}

/** Return the columns. A row is a place in the columns of the overview's trials. */
function trialColumns() {
  const { trials, scores } = SITE.overview;
  const columnOf = (id, label, meaning, format) =>
    numberColumn({ id, label, meaning, value: (trial) => trials[id]?.[trial], format });
  const scoreColumns = scores
    .filter(({ endpoint }) => endpoint)
    .map(({ id, label, what }) => columnOf(`${id}_test`, label, what, decimals));
  return [
    {
      id: "trial",
      label: "Trial",
      value: (trial) => trials.method[trial],
      show: showTrial,
    },
    columnOf("seed", "Seed", "", String),
    {
      id: "status",
      label: "Status",
      value: (trial) => trials.status?.[trial],
      show: (trial) => `${trials.status?.[trial] ?? "–"} ${trials.role?.[trial] ?? ""}`,
    },
    {
      id: "feasible",
      label: "Feasible",
      meaning: "A trial may be chosen: it ended well, and few enough latents are "
        + "active. Fresh seeds are not chosen among.",
      value: (trial) => Number(trials.feasible?.[trial]),
      show: (trial) => yesOrNo(trials.feasible?.[trial]),
    },
    columnOf("dead", "Dead", "Latents that fire on no training image.", wholeNumber),
    columnOf("l0", "L0", "Latents active on an image, mean on validation.",
      (l0) => decimals(l0, 1)),
    columnOf("r2_test", "R²", "", decimals),
    ...scoreColumns,
  ];
}

/** Show the method and the name of a trial. */
function showTrial(trial) {
  const { method: methods, trial: names } = SITE.overview.trials;
  const label = SITE.methodWithMarker(methods[trial]);
  return [label, " ", h("span.soft", bdi(names?.[trial]))];
}

/** Write whether something is so, with a dash where it is not known. */
const yesOrNo = (isSo) => ({ true: "yes", false: "no" })[isSo] ?? "–";
})();

"use strict";

/** The scores of a latent beside chance, controls, and the other latents of its SAE. */
(() => {
const { h, decimals, percent, isMissing } = SITE;
const DETECTION_BY_CHANCE = 0.5;
const HEAD = [
  "score", "this latent", "by chance", "beside this SAE's latents", "their mean",
  "means of controls",
];
const TERMS = ["MS", "detection", "purity", "stability", "spread", "chance"];

SITE.addSection("latent", showScores);

/** Show the scores of a latent as a table, with what they mean. */
function showScores(context) {
  const rows = SITE.latentScores(context.sae).map((score) => scoreRow(score, context));
  if (!rows.length) return null;
  return SITE.section("Its scores",
    SITE.plainTable(HEAD, rows, "Scores"),
    SITE.terms(SITE.explainedTerms(TERMS)));
}

/** Return the row of a score. */
function scoreRow(score, { cell, saeRow, sae, latent }) {
  const { id, label, meaning, meanId } = score;
  const value = sae.column(id)[latent];
  const standing = `higher than ${percent(sae.shareBelow(id, latent))} of them`;
  return [
    h("span", { title: meaning }, label),
    decimals(value),
    decimals(chanceOf(score, cell, sae, latent)),
    isMissing(value) ? "–" : standing,
    meanId && decimals(saeRow.scores?.[meanId]),
    meansOfControls(meanId, cell).join(", "),
  ];
}

/** Return what chance gives of a score, if that is known. */
function chanceOf({ id, meanId }, cell, sae, latent) {
  const chanceOfLatent = {
    detection: DETECTION_BY_CHANCE,
    purity: sae.column("purity_null")?.[latent],
  };
  const chanceOfMean = meanId && SITE.scoreRow(meanId).chance;
  return chanceOfLatent[id] ?? cell.chance?.[id] ?? chanceOfMean;
}

/** Return what the controls of a cell have of a score, the mean over their latents. */
function meansOfControls(meanId, cell) {
  const { trials, methods } = SITE.overview;
  const means = trials[`${meanId}_test`];
  return SITE.trialsOf(cell)
    .filter((trial) => methods[trials.method[trial]].control)
    .filter((trial) => !isMissing(means?.[trial]))
    .map((trial) =>
      `${SITE.label.method(trials.method[trial])} ${decimals(means[trial], 2)}`);
}
})();

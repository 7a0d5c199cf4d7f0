"use strict";

/** Panels: the trials of a cell in one score against R², as validation sees them. */
(() => {
const { href, isMissing, decimals, wholeNumber, extentOf, widened } = SITE;

/** Return the endpoints in which trials have scores on validation, rows of scores. */
SITE.endpointsOfTrials = () => {
  const { trials, scores } = SITE.overview;
  return scores.filter(({ id, endpoint }) =>
    endpoint && trials[`${id}_val`]?.some((value) => !isMissing(value)));
};

/**
 * Return what a panel shows: {cell, score, series (for a chart), near (the points that
 * its axes have to hold)}. It has the trials among which is chosen; where none are
 * tuned, all but those of controls.
 */
SITE.panelOf = (cell, score, methods) => {
  const { trials, methods: methodRows } = SITE.overview;
  const trialsOfCell = SITE.trialsOf(cell);
  const isTuned = (trial) => !isMissing(trials.feasible?.[trial]);
  const tuned = trialsOfCell.filter(isTuned);
  const trained = trialsOfCell.filter((trial) =>
    !methodRows[trials.method[trial]].control);
  const shown = tuned.length ? tuned : trained;
  const pointsOf = (method) => shown
    .filter((trial) => trials.method[trial] === method)
    .map((trial) => pointOfTrial(trial, score, cell))
    .filter((point) => !isMissing(point.x) && !isMissing(point.y));
  const series = methods
    .map((method) => ({ method, points: pointsOf(method) }))
    .filter(({ points }) => points.length);

  // The axes hold the feasible trials, else all.
  const all = series.flatMap(({ points }) => points);
  const feasible = all.filter(({ isHollow }) => !isHollow);
  return { cell, score, series, near: feasible.length ? feasible : all };
};

/** Return the markers and labels of the methods of some panels. */
SITE.legendOfPanels = (panels) => {
  const methods = panels.flatMap(({ series }) => series.map(({ method }) => method));
  return SITE.legend([...new Set(methods)].sort((first, second) => first - second));
};

/** Return the point of a trial, ringed if it was chosen. */
function pointOfTrial(trial, score, cell) {
  const { trials } = SITE.overview;
  const x = trials.r2_val?.[trial];
  const y = trials[`${score.id}_val`][trial];
  const isHollow = trials.feasible?.[trial] === false;
  const isRinged = trials.role?.[trial] === "chosen";
  const facts = [
    trials.trial?.[trial],
    `seed ${trials.seed?.[trial]}`,
    isHollow && "not feasible",
    isRinged && "chosen",
  ].filter(Boolean).join(", ");
  const label = SITE.label.method(trials.method[trial]);
  const deadLatents = wholeNumber(trials.dead?.[trial]);
  const tooltip = [
    `${label}: R² ${decimals(x)}, ${score.label} ${decimals(y)}`,
    facts,
    `${deadLatents} dead, L0 ${decimals(trials.l0?.[trial], 1)}`,
  ].join("\n");
  const address = href("cell", cell.address);
  return { x, y, tooltip, note: facts, isRinged, isHollow, href: address };
}

/**
 * Draw a panel, shaded where a trial reconstructs as well as the baseline's best.
 *
 * yDomain: of its axis; by default that of its points.
 */
SITE.drawPanel = (panel, { title, yDomain }) => {
  const { cell, score, series, near } = panel;
  const hasBar = !isMissing(cell.as_well);
  const xValues = near.map((point) => point.x);
  const xDomain = widened(extentOf(hasBar ? [...xValues, cell.as_well] : xValues));
  const yValues = near.map((point) => point.y);
  const trialCount = series.flatMap(({ points }) => points).length;
  const where = SITE.label.cell(cell);
  return SITE.drawChart({
    title,
    description: `${score.label} against R² of ${trialCount} trials, ${where}`,
    x: { label: "R² (validation)", domain: xDomain },
    y: {
      label: `${score.label} (validation)`,
      domain: yDomain || widened(extentOf(yValues)),
    },
    series,
    width: 230,
    height: 190,
    bands: hasBar ? [{ from: cell.as_well, to: xDomain[1] }] : [],
  });
};
})();

"use strict";

/** Panels: the trials of a cell in one score against R², with fronts and the window. */
(() => {
const { href, isMissing, decimals, wholeNumber, extentOf, widened } = SITE;

/**
 * Return what a panel shows: {cell, score, series (for a chart), near (the points that
 * its axes have to hold), window (of R², in which fronts are compared)}.
 */
SITE.panelOf = (cell, score, methods) => {
  const { fronts, windows, trials, methods: methodRows } = SITE.overview;
  const isOfPanel = (row) => row.cell === cell.index && row.score === score.id;
  const verticesOfPanel = fronts.filter(isOfPanel);
  const trialsOfCell = SITE.trialsOf(cell);
  const series = methods.map((method) => {
    const vertices = verticesOfPanel.filter((vertex) => vertex.method === method);
    const points = trialsOfCell
      .filter((trial) => trials.method[trial] === method)
      .map((trial) => pointOfTrial(trial, score, vertices, cell))
      .filter((point) => !isMissing(point.x) && !isMissing(point.y));
    const line = vertices.map(({ r2, value }) => ({ x: r2, y: value }));
    return { method, points, line };
  });

  // The axes hold the feasible trials, else the trained ones, else all.
  const all = series.flatMap(({ points }) => points);
  const trained = series
    .filter(({ method }) => !methodRows[method].control)
    .flatMap(({ points }) => points);
  const feasible = trained.filter(({ isHollow }) => !isHollow);
  const near = [feasible, trained, all].find((points) => points.length) || [];
  return { cell, score, series, near, window: windows.find(isOfPanel) };
};

/** Return the point of a trial, ringed if it is a vertex that counts. */
function pointOfTrial(trial, score, vertices, cell) {
  const { trials } = SITE.overview;
  const x = trials.r2_val?.[trial];
  const y = trials[`${score.id}_val`][trial];
  const isHollow = trials.feasible?.[trial] === false;
  const isRinged = vertices.some(({ r2, value, weight }) =>
    weight > 0 && Math.abs(r2 - x) < 1e-9 && Math.abs(value - y) < 1e-9);
  const facts = [
    trials.trial?.[trial],
    `seed ${trials.seed?.[trial]}`,
    isHollow && "not feasible",
    isRinged && "judged",
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
 * Draw a panel.
 *
 * yDomain: of its axis; by default that of its points. size: {width, height}.
 */
SITE.drawPanel = (panel, { title, yDomain, size = { width: 230, height: 190 } }) => {
  const { cell, score, series, near, window } = panel;
  const xValues = [...near.map((point) => point.x), window && window.from];
  const yValues = near.map((point) => point.y);
  const x = { label: "R² (validation)", domain: widened(extentOf(xValues)) };
  const y = {
    label: `${score.label} (validation)`,
    domain: yDomain || widened(extentOf(yValues)),
  };
  const trialCount = series.flatMap(({ points }) => points).length;
  const where = SITE.label.cell(cell);
  const withFlatFronts = series.map((ofMethod) =>
    ({ ...ofMethod, line: toLeftEdge(ofMethod.line, x.domain) }));
  return SITE.drawChart({
    title,
    description: `${score.label} against R² of ${trialCount} trials, ${where}`,
    x,
    y,
    series: withFlatFronts,
    ...size,
    bands: window ? [{ from: window.from, to: window.best }] : [],
  });
};

/** Continue a front to the left edge: left of its highest vertex it is flat. */
function toLeftEdge(line, [leftEdge]) {
  if (!line.length) return line;
  const highest = line[line.length - 1];
  return [...line, { x: Math.min(highest.x, leftEdge), y: highest.y }];
}
})();

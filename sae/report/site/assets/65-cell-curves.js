"use strict";

/** Curves of a cell, such as the error by k, a line for each method. */
(() => {
const { h, isMissing } = SITE;
const MOST_MARKED = 24; // Points of a line that has a marker at each.

// Of each kind of curve: its heading, what it shows, its axes, rules across it. A kind
// that is not here has its own name as a heading.
const CURVES = {
  robustness: {
    title: "Robustness to k",
    meaning: "Reconstruction error where another k is used than in training. "
      + "Flat to the right of that k is robust.",
    x: { label: "k used", log: 2 },
    y: { label: "error, 1 - R²", log: 10 },
    rulesOf: (cell) => [{ x: cell.k, label: "training k" }],
  },
  probe: {
    title: "Probe with few activations",
    meaning: "How often a linear classifier is right that sees an image's largest "
      + "activations alone.",
    x: { label: "activations kept", log: 2 },
    y: { label: "top-1 on test" },
  },
  rank_profile: {
    title: "Rank profile",
    meaning: "Mean activation by rank within an image, before the k largest are "
      + "selected.",
    x: { label: "rank", log: 10 },
    y: { label: "mean activation" },
    rulesOf: (cell) => [{ x: cell.k, label: "k" }],
  },
  detection_by_frequency: {
    title: "Detection by how often a latent fires",
    meaning: "How well another model finds its images. Chance is 0.5.",
    x: { label: "fires on up to (share of images)", log: 10 },
    y: { label: "detection" },
    rulesOf: () => [{ y: 0.5, label: "chance" }],
  },
};

SITE.addSection("cell", showCurves);

/** Show a chart for each kind of curve that has lines. */
function showCurves({ cell, file }) {
  const rows = file.curves;
  const isLine = ({ x }) => x.length > 1;
  const kinds = [...new Set(rows.filter(isLine).map(({ curve }) => curve))];
  if (!kinds.length) return null;
  const methods = [...new Set(rows.map(({ method }) => method))];
  const charts = kinds.map((kind) =>
    drawCurves(kind, cell, rows.filter(({ curve }) => curve === kind)));
  return SITE.section("Curves", SITE.legend(methods), h(".panels.wide", charts));
}

/** Draw the curves of a kind. */
function drawCurves(kind, cell, rows) {
  const unknown = {
    title: kind.replaceAll("_", " "),
    meaning: "",
    x: { label: "x" },
    y: { label: "y" },
  };
  const { title, meaning, x, y, rulesOf } = CURVES[kind] || unknown;
  const canBeShown = (point) =>
    !isMissing(point.y) && (!x.log || point.x > 0) && (!y.log || point.y > 0);
  const series = rows.map(({ method, x: xs, y: ys }) => ({
    method,
    line: true,
    hasMarks: xs.length <= MOST_MARKED,
    points: xs.map((value, place) => ({ x: value, y: ys[place] })).filter(canBeShown),
  }));
  return SITE.drawChart({
    title: [title, h("small.soft", meaning)],
    description: `${title}. ${meaning}`,
    series,
    x,
    y,
    rules: rulesOf?.(cell),
  });
}
})();

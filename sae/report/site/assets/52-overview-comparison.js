"use strict";

/** The comparison: what each method has beside its baseline, one set of SAEs a row. */
(() => {
const { h, svg, bdi, soft, isMissing, numberColumn } = SITE;
const { decimals, signedDecimals } = SITE;

const MEAN = "mean"; // The family of rows that are means of families.
const R2_MARGIN = 0.01; // A difference in R² beyond this is marked.
// An interval is drawn in a box as wide as this, with 0 in the middle.
const [INTERVAL_WIDTH, INTERVAL_REACH] = [90, 41];

SITE.addSection("overview/filtered", showComparison);

/** Show the rows of the methods that are asked for. */
function showComparison({ filters, isShownMethod, remember }) {
  const { comparison, which } = SITE.overview;
  const rows = comparison.filter(({ method }) => isShownMethod(method));
  if (!rows.length) return null;

  const box = h("");
  const draw = (hasAllScores) => {
    const table = SITE.table({
      label: "Comparison",
      columns: columnsOf(rows, hasAllScores),
      rows,
      rowHeight: 44,
    });
    box.replaceChildren(table.node);
  };
  const change = (hasAllScores) => {
    remember("scores", hasAllScores ? "all" : "");
    draw(hasAllScores);
  };
  const isAll = filters.scores === "all";
  draw(isAll);
  const options = [[false, "main scores"], [true, "all"]];
  return SITE.section("Which method? One row, one set of SAEs",
    which.map((sentence) => h("p", { dir: "auto" }, sentence)),
    SITE.words("comparison"),
    SITE.bar("Comparison", SITE.select("Scores", options, isAll, change)),
    box);
}

/** Whether a row has a baseline's own scores, and no differences. */
const isOfBaseline = ({ values }) => Boolean(values);

/** Return a number of a row: a baseline's own score, or a difference. */
const numberOf = ({ values, effects }, id) => (values ?? effects)[id];

/** Return the columns: methods, families of backbones, and scores that any row has. */
function columnsOf(rows, hasAllScores) {
  const { scores } = SITE.overview;
  const r2 = { ...SITE.scoreRow("r2"), main: true };
  const shown = [...scores, ...(scores.some(({ id }) => id === "r2") ? [] : [r2])]
    .filter(({ id, main }) => (main || hasAllScores)
      && rows.some((row) => !isMissing(numberOf(row, id))));
  const hasFamilies = rows.some(({ family }) => family !== MEAN);
  const familyColumn = {
    id: "family",
    label: "Backbones",
    meaning: "The family of backbones, or the mean of families.",
    value: ({ family }) => family,
    show: ({ family }) => (family === MEAN ? h("b", "mean") : bdi(family)),
  };
  return [
    {
      id: "method",
      label: "Method",
      value: ({ method }) => SITE.label.method(method),
      show: showMethod,
    },
    ...(hasFamilies ? [familyColumn] : []),
    ...shown.map((score) => columnOf(score, reachOfIntervals(rows, score.id))),
    cellsColumn(shown.find(({ endpoint }) => endpoint)),
  ];
}

/** Show the method of a row, and whether it is a baseline or a control. */
const showMethod = (row) => [
  SITE.methodWithMarker(row.method),
  isOfBaseline(row) && h(".soft", "own scores"),
  row.control && h(".soft", "control"),
];

/** Return the column of a score; an endpoint's has intervals and verdicts. */
function columnOf({ id, label, what, endpoint }, reach) {
  const show = (row) => {
    const number = numberOf(row, id);
    if (isOfBaseline(row)) return decimals(number);
    const isMarked = id === "r2" && !row.control && Math.abs(number) > R2_MARGIN;
    const text = signedDecimals(number) + (isMarked ? " !" : "");
    return endpoint
      ? [text, showInterval(row, id, reach), showVerdict(row.verdicts[id])]
      : h("span", { title: intervalText(row, id) }, text);
  };
  return {
    class: endpoint ? "number endpoint" : "number",
    id,
    label: SITE.columnLabel(label),
    meaning: what,
    value: (row) => (isOfBaseline(row) ? null : row.effects[id]),
    show,
  };
}

/** Return the column of the cells in the mean, and of how many are above 0. */
function cellsColumn(endpoint) {
  const upOf = ({ up }) => (endpoint ? up?.[endpoint.id] : null);
  return numberColumn({
    id: "up",
    label: "cells up",
    meaning: `Cells in which the effect on ${endpoint?.label} is above 0, of those in `
      + "the mean.",
    value: (row) => (row.cells ? upOf(row) / row.cells : null),
    show: (row) => [
      isOfBaseline(row) || isMissing(upOf(row)) ? "–" : `${upOf(row)} of ${row.cells}`,
      row.out_of_reach > 0 && h(".soft", `${row.out_of_reach} out of reach`),
    ],
  });
}

/** Return how far from 0 the intervals of a score reach. */
function reachOfIntervals(rows, id) {
  const ends = rows
    .filter((row) => !isOfBaseline(row) && !row.control)
    .flatMap(({ low, high, effects }) => [low[id], high[id], effects[id]]);
  return Math.max(0.001, ...ends.map((end) => Math.abs(end || 0)));
}

/** Write the interval of an effect; "" where there is none. */
const intervalText = ({ low, high }, id) => (isMissing(low[id])
  ? ""
  : `[${signedDecimals(low[id])}, ${signedDecimals(high[id])}]`);

/** Show an effect and its interval as a bar around zero, with its numbers. */
function showInterval(row, id, reach) {
  const effect = row.effects[id];
  if (isMissing(effect)) return null;
  const place = (value) => {
    const fromMiddle = (value / reach) * INTERVAL_REACH;
    return Math.max(0, Math.min(INTERVAL_WIDTH, INTERVAL_WIDTH / 2 + fromMiddle));
  };
  const [low, high] = [row.low[id] ?? effect, row.high[id] ?? effect];
  return [
    svg("svg.interval",
      { viewBox: `0 0 ${INTERVAL_WIDTH} 12`, "aria-hidden": "true" },
      svg("path.grid", { d: `M${INTERVAL_WIDTH / 2} 0v12` }),
      svg("path.line", { d: `M${place(low)} 6H${place(high)}` }),
      svg("circle", { r: 3.2, cx: place(effect), cy: 6 })),
    soft(intervalText(row, id)),
  ];
}

/** Show a verdict as a badge, and below it what the interval allows. */
function showVerdict(verdict) {
  if (!verdict) return null;
  const [word, ...more] = verdict.split(": ");
  const kind = /^better|^worse/.test(word) ? "yes" : "untested";
  return h("",
    h(`span.badge.${/^equivalent/.test(word) ? "part" : kind}`, word),
    more.length > 0 && h(".soft.more", more.join(": ")));
}
})();

"use strict";

/** The leaderboard: which method is better at the same R², over all cells. */
(() => {
const { h, svg, soft, isMissing, numberColumn } = SITE;
const { decimals, signedDecimals, threeFigures, wholeNumber } = SITE;

// An interval is drawn in a box as wide as this, with 0 in the middle.
const [INTERVAL_WIDTH, INTERVAL_REACH] = [120, 56];

SITE.addSection("overview/filtered", showLeaderboard);

/** Show the leaderboard of the methods that are asked for. */
function showLeaderboard({ filters, isShownMethod, remember }) {
  const rows = SITE.overview.leaderboard.filter((row) =>
    isShownMethod(row.method) && hasOutcome(row));
  if (!rows.length) return null;

  const widths = [...new Set(rows.map(({ width }) => width))].sort();
  const headlineWidth = SITE.overview.windows[0]?.width ?? widths[0];
  const askedWidth = widths.find((width) => String(width) === filters.window);
  const shown = {
    width: askedWidth ?? headlineWidth,
    hasAllScores: filters.scores === "all",
  };
  const table = SITE.table({
    label: "Leaderboard",
    columns: leaderboardColumns(rows),
    sort: { id: "score", isDescending: false },
    rowHeight: 46,
  });

  const isShown = ({ width, score }) =>
    width === shown.width && (shown.hasAllScores || SITE.scoreRow(score).judged);
  const fill = () => table.fill(rows.filter(isShown));
  const setWidth = (width) => {
    shown.width = width;
    remember("window", width === headlineWidth ? "" : String(width));
    fill();
  };
  const setScores = (hasAllScores) => {
    shown.hasAllScores = hasAllScores;
    remember("scores", hasAllScores ? "all" : "");
    fill();
  };
  fill();

  const widthOptions = widths.map((width) => [width, `${threeFigures(width)} of R²`]);
  const scoreOptions = [[false, "main scores"], [true, "all"]];
  return SITE.section("Which method is better at the same R²",
    SITE.words("leaderboard"),
    SITE.bar("Leaderboard", [
      widths.length > 1 && SITE.select("Window", widthOptions, shown.width, setWidth),
      SITE.select("Scores", scoreOptions, shown.hasAllScores, setScores),
    ]),
    table.node);
}

/** Whether a row says an effect, or in how many cells there is none. */
const hasOutcome = (row) =>
  !isMissing(row.effect) || row.infeasible || row.out_of_reach;

/** Return the columns of the leaderboard. */
function leaderboardColumns(rows) {
  const effectColumn = (id, label, meaning, format) =>
    numberColumn({ id, label, meaning, value: (row) => row[id], format });
  const reach = reachOfIntervals(rows);
  return [
    {
      id: "method",
      label: "Method",
      value: ({ method }) => SITE.label.method(method),
      show: ({ method }) => SITE.methodWithMarker(method),
    },
    {
      id: "score",
      label: "Score",
      isLowFirst: true,
      value: ({ score }) => SITE.overview.scores.findIndex(({ id }) => id === score),
      show: showScore,
    },
    effectColumn("level", "Baseline",
      "What the baseline scores in the same window of R², mean over cells.", decimals),
    effectColumn("effect", "Effect",
      "On the test images, mean over the window of R² and over blocks, a dataset and "
      + "a family of backbones each.", signedDecimals),
    {
      id: "low",
      label: "Interval",
      meaning: "Over datasets and families of backbones; below it that over fresh "
        + "seeds, the cells fixed.",
      value: ({ low }) => low,
      show: (row) => showInterval(row, reach),
    },
    {
      id: "outcome",
      label: headingOfOutcomes(),
      meaning: "Of detection and MS, which are tested together. At lower R²: cells in "
        + "which the method ends left of where the baseline's score is highest.",
      value: ({ outcome }) => outcome,
      show: showOutcome,
    },
    numberColumn({
      id: "up",
      label: "Cells up",
      meaning: "In how many cells the effect is above 0.",
      value: ({ up, cells }) => up / cells,
      show: ({ up, cells }) => (isMissing(cells) ? "–" : `${up} of ${cells}`),
    }),
    effectColumn("r2_difference", "R² change",
      "Difference in test R² at the same weights.", signedDecimals),
    effectColumn("shortfall", "Shortfall",
      "How far the method's best R² stays below the other's, mean over cells.",
      decimals),
    effectColumn("equal_r2", "Equal test R²",
      "The effect where both sides have the same R² on test.", signedDecimals),
    effectColumn("pairs", "Pairs",
      "The difference of the score in trials with the same recipe.", signedDecimals),
    effectColumn("pairs_r2", "R² change of pairs",
      "Their difference in test R².", signedDecimals),
    effectColumn("out_of_reach", "Out of reach",
      "Cells in which the method ends too far left of where the baseline is compared; "
      + "they are not in the mean.", wholeNumber),
    effectColumn("infeasible", "No comparison",
      "Cells that are not in the mean: no feasible trial, all seeds diverged, or fresh "
      + "seeds missing.", wholeNumber),
  ];
}

/** Return how far from 0 the intervals of the scores that judge reach. */
function reachOfIntervals(rows) {
  const judged = rows.filter(({ score }) => SITE.scoreRow(score).judged);
  const ends = judged.flatMap(({ low, high }) => [low, high]);
  return Math.max(0.001, ...ends.map((end) => Math.abs(end || 0)));
}

/** Show a score, and at whose vertices it is read if not at its own front's. */
const showScore = ({ score, front }) => [
  SITE.label.score(score),
  front !== score && soft(` at ${SITE.label.score(front)}'s vertices`),
];

/** Return the heading of outcomes, which says of what they speak. */
const headingOfOutcomes = () => {
  const heading = SITE.overview.outcomes;
  return heading[0].toUpperCase() + heading.slice(1);
};

/**
 * Show an outcome as a badge, and in how many cells it is one at lower R²; below it
 * what the interval allows, or why nothing compares.
 */
function showOutcome({ outcome, says, at_lower_r2: cellsAtLowerR2 }) {
  const [word, ...more] = says.split(": ");
  return [
    word === "-" ? "–" : h(`span.badge.${kindOfOutcome(outcome)}`, word),
    cellsAtLowerR2 > 0 && soft(` at lower R² in ${cellsAtLowerR2}`),
    more.length > 0 && h(".soft.more", more.join(": ")),
  ];
}

/** Return the class of an outcome's badge; a control has no outcome. */
function kindOfOutcome(outcome) {
  if (/^better|^worse/.test(outcome)) return "yes";
  return /^equivalent/.test(outcome) ? "part" : "untested";
}

/** Show an interval as a bar around zero, with its numbers. */
function showInterval(row, reach) {
  const { effect, low, high, low_seeds: lowOfSeeds, high_seeds: highOfSeeds } = row;
  if (isMissing(low)) return "–";
  const place = (value) => {
    const fromMiddle = (value / reach) * INTERVAL_REACH;
    return Math.max(0, Math.min(INTERVAL_WIDTH, INTERVAL_WIDTH / 2 + fromMiddle));
  };
  const drawing = svg("svg.interval",
    { viewBox: `0 0 ${INTERVAL_WIDTH} 12`, "aria-hidden": "true" },
    svg("path.grid", { d: `M${INTERVAL_WIDTH / 2} 0v12` }),
    svg("path.line", { d: `M${place(low)} 6H${place(high)}` }),
    svg("circle", { r: 3.2, cx: place(effect), cy: 6 }));
  const ofSeeds = `[${signedDecimals(lowOfSeeds)}, ${signedDecimals(highOfSeeds)}]`;
  return [
    drawing,
    `[${signedDecimals(low)}, ${signedDecimals(high)}]`,
    !isMissing(lowOfSeeds) && soft(` seeds ${ofSeeds}`),
  ];
}
})();

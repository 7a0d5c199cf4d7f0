"use strict";

/** How the scores of latents are distributed, under each method of a cell. */
(() => {
const { h } = SITE;
const FIRST_SCORE = "ms"; // What is shown at first, where it is scored.
const WHICH_LATENTS = [
  ["alive", "live ones"],
  ["all", "all, dead ones in the lowest bin"],
];

SITE.addSection("cell", showDistributions);

/** Show a histogram for each method. */
function showDistributions({ file }) {
  const rows = file.distributions;
  if (!rows.length) return null;

  const scores = [...new Set(rows.map(({ score }) => score))];
  const shown = {
    score: scores.includes(FIRST_SCORE) ? FIRST_SCORE : scores[0],
    latents: "alive",
  };
  const box = h(".panels.small");
  const draw = () => {
    const shownRows = rows.filter(({ score }) => score === shown.score);
    const counts = shownRows.flatMap((row) => row[shown.latents]);
    const highest = 1.05 * Math.max(1, ...counts);
    const charts = shownRows.map((row) => drawHistogram(row, shown, highest));
    box.replaceChildren(...charts);
  };
  const change = (key) => (value) => {
    shown[key] = value;
    draw();
  };
  draw();

  const scoreOptions = scores.map((score) => [score, SITE.label.score(score)]);
  return SITE.section("Distributions over latents",
    SITE.bar("Distributions", [
      SITE.select("Score", scoreOptions, shown.score, change("score")),
      SITE.select("Latents", WHICH_LATENTS, shown.latents, change("latents")),
    ]),
    box);
}

/** Draw a method's histogram, on an axis that is as high as that of the others. */
function drawHistogram({ method, edges, ...counts }, { score, latents }, highest) {
  const label = SITE.label.score(score);
  const bars = counts[latents].map((count, bin) =>
    ({ from: edges[bin], to: edges[bin + 1], y: count, method }));
  return SITE.drawChart({
    title: SITE.methodWithMarker(method),
    description: `${label} of the latents of ${SITE.label.method(method)}`,
    width: 230,
    height: 160,
    x: { label },
    y: { label: "latents", domain: [0, highest] },
    bars,
  });
}
})();

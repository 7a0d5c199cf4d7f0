"use strict";

/** What each score costs: small panels of it against R², a row for each dataset. */
(() => {
const { h, bdi, link, href, isMissing } = SITE;
const LEAST_HALF = 0.05; // Half the height of panels whose points do not differ.

SITE.addSection("overview/filtered", showTradeOffs);

/** Show the trade-offs of the cells and methods that are asked for. */
function showTradeOffs({ isShownCell, isShownMethod }) {
  const { cells, trials, scores, methods } = SITE.overview;
  const shownCells = cells.filter(isShownCell);
  const isMeasured = ({ id, endpoint }) =>
    endpoint && trials[`${id}_val`]?.some((value) => !isMissing(value));
  const shownScores = scores.filter(isMeasured);
  const shownMethods = SITE.range(methods.length).filter((method) =>
    isShownMethod(method) && trials.method.includes(method));
  if (!shownScores.length || !shownCells.length) return null;

  const datasets = [...new Set(shownCells.map(({ dataset }) => dataset))];
  const rows = shownScores.flatMap((score) => datasets.map((dataset) => {
    const cellsOfDataset = shownCells.filter((cell) => cell.dataset === dataset);
    return rowOfPanels(score, dataset, cellsOfDataset, shownMethods);
  }));
  return SITE.section("What it costs: each score against R²",
    SITE.words("trade-offs"),
    SITE.legend(shownMethods),
    rows);
}

/** Return the panels of a score, one for each cell of a dataset that has trials. */
function rowOfPanels(score, dataset, cells, methods) {
  const panels = cells
    .map((cell) => SITE.panelOf(cell, score, methods))
    .filter(({ near }) => near.length);
  if (!panels.length) return null;

  // The axes are equally long in a row, each about its own middle, so that gaps
  // compare by eye and small ones are seen.
  const extents = panels.map(({ near }) => SITE.extentOf(near.map(({ y }) => y)));
  const heights = extents.map(([low, high]) => high - low);
  const half = 0.55 * Math.max(...heights) || LEAST_HALF;
  const drawings = panels.map((panel, place) => {
    const [low, high] = extents[place];
    const middle = (low + high) / 2;
    const { backbone, k, address } = panel.cell;
    const name = `${SITE.label.backbone(backbone)}, k\u00a0=\u00a0${k}`;
    return SITE.drawPanel(panel, {
      title: link(href("cell", address), bdi(name)),
      yDomain: [middle - half, middle + half],
    });
  });
  return h("section",
    h("h3", `${score.label} against R², `, bdi(SITE.label.dataset(dataset))),
    h(".panels.small", drawings));
}
})();

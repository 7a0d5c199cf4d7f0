"use strict";

/** What was chosen: small panels of the trials of each cell, a row for each dataset. */
(() => {
const { h, bdi, link, href } = SITE;
const LEAST_HALF = 0.05; // Half the height of panels whose points do not differ.

SITE.addSection("overview/filtered", showTrials);

/** Show the trials of the cells and methods that are asked for. */
function showTrials({ isShownCell, isShownMethod }) {
  const { cells, trials, methods, first_cell: first } = SITE.overview;
  const shownCells = cells.filter(isShownCell);
  const [score] = SITE.endpointsOfTrials();
  const shownMethods = SITE.range(methods.length).filter((method) =>
    isShownMethod(method) && trials.method.includes(method));
  if (!score || !shownCells.length) return null;

  const panels = shownCells
    .map((cell) => SITE.panelOf(cell, score, shownMethods))
    .filter(({ near }) => near.length);
  if (!panels.length) return null;

  const datasets = [...new Set(panels.map(({ cell }) => cell.dataset))];
  const rows = datasets.map((dataset) =>
    rowOfPanels(dataset, panels.filter(({ cell }) => cell.dataset === dataset)));
  const firstCell = cells[first.cell];
  return SITE.section(`What was chosen: ${score.label} against R²`,
    SITE.words("trials"),
    first.rule && h("p.soft", { dir: "auto" },
      link(href("cell", firstCell.address), SITE.cellName(firstCell)),
      `. ${first.rule}`),
    SITE.legendOfPanels(panels),
    rows);
}

/** Return the panels of a dataset as a row. */
function rowOfPanels(dataset, panels) {
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
  return h("section", h("h3", bdi(SITE.label.dataset(dataset))),
    h(".panels.small", drawings));
}
})();

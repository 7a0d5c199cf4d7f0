"use strict";

/** The trials of a cell in each score against R², and what the chosen SAEs have. */
(() => {
const { h, bdi, soft, note, decimals, signedDecimals, isMissing } = SITE;

SITE.addSection("cell", showPanels);
SITE.addSection("cell", showChosen);

/** Show a panel for each endpoint. */
function showPanels({ cell, methods }) {
  const panels = SITE.endpointsOfTrials()
    .map((score) => SITE.panelOf(cell, score, methods))
    .filter(({ near }) => near.length > 1);
  if (!panels.length) return null;
  const draw = (panel) => SITE.drawPanel(panel, { title: panel.score.label });
  return SITE.section("Trials: scores against R²",
    SITE.words("trials"),
    SITE.legendOfPanels(panels),
    h(".panels", panels.map(draw)));
}

/** Show what each method has in the cell, every score of the same SAEs. */
function showChosen({ cell }) {
  const { by_cell: byCell, scores } = SITE.overview;
  const rows = byCell.filter((row) => row.cell === cell.index);
  if (!rows.length) return null;
  const r2 = SITE.scoreRow("r2");
  const isMeasured = ({ id }) => rows.some(({ values }) => !isMissing(values[id]));
  const shown = [...scores.filter(({ id, main }) => main && id !== "r2"), r2]
    .filter(isMeasured);
  const scoreText = ({ values, effects }, id) => [
    decimals(values[id]),
    !isMissing(effects[id]) && soft(` ${signedDecimals(effects[id])}`),
  ];
  const labels = shown.map(({ label }) => SITE.columnLabel(label));
  const head = ["method", "trial", "seeds", ...labels];
  const cellsOf = (row) => [
    SITE.methodWithMarker(row.method),
    row.reason ? outOfReach(row) : bdi(row.trial ?? ""),
    row.seeds ?? "",
    ...shown.map(({ id }) => scoreText(row, id)),
  ];
  return SITE.section("The chosen SAEs of this cell",
    note("Means over seeds on the test images, and beside them the difference from the "
      + "baseline. Controls are not chosen: they have their own R²."),
    SITE.plainTable(head, rows.map(cellsOf), "Chosen SAEs"));
}

/** Say why a method is out of reach. */
const outOfReach = ({ reason, shortfall }) => soft(
  `out of reach: ${reason}`,
  !isMissing(shortfall) && `, by ${decimals(shortfall)} of R²`);
})();

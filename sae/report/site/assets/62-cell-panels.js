"use strict";

/** The trials of a cell, in each score against R². */
(() => {
const { h } = SITE;

SITE.addSection("cell", showPanels);

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
})();

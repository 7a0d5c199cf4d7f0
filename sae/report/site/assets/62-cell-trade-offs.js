"use strict";

/** The trials of a cell: each score against R², and effects at the same R². */
(() => {
const { h, decimals, signedDecimals, isMissing } = SITE;
const EFFECT_HEAD = [
  "method", "score", "effect", "R² change", "shortfall", "gain of R²",
];

SITE.addSection("cell", showTradeOffs);

/** Show a panel for each endpoint. */
function showTradeOffs({ cell, methods }) {
  const { trials, scores } = SITE.overview;
  const panels = scores
    .filter(({ id, endpoint }) => endpoint && trials[`${id}_val`])
    .map((score) => SITE.panelOf(cell, score, methods))
    .filter(({ near }) => near.length > 1);
  if (!panels.length) return null;
  const draw = (panel) => SITE.drawPanel(panel, { title: panel.score.label });
  return SITE.section("Trials: scores against R²",
    SITE.words("trials"),
    SITE.legend(methods),
    h(".panels", panels.map(draw)),
    effectsTable(cell));
}

/** Return what each method has above the one that it is compared with, at equal R². */
function effectsTable(cell) {
  const effects = SITE.overview.effects.filter((effect) =>
    effect.cell === cell.index && SITE.scoreRow(effect.score).endpoint
    && !isMissing(effect.effect));
  if (!effects.length) return null;
  const rows = effects.map((effect) => [
    SITE.methodWithMarker(effect.method),
    SITE.label.score(effect.score),
    signedDecimals(effect.effect),
    signedDecimals(effect.r2_difference),
    decimals(effect.shortfall),
    decimals(effect.gain),
  ]);
  return [
    h("h3", "At the same R², in this cell"),
    SITE.plainTable(EFFECT_HEAD, rows, "Effects"),
  ];
}
})();

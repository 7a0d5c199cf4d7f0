"use strict";

/** The table of SAEs with their scores on the test images. */
(() => {
const { bdi, link, soft, href, isMissing, numberColumn } = SITE;
const { decimals, threeFigures, wholeNumber } = SITE;

/**
 * Return the rows of all SAEs for `saeTable`: what the overview says of each, its place
 * `number`, and the row of its cell, `ofCell`.
 */
SITE.saeRows = () => SITE.overview.saes.map((saeRow, number) =>
  ({ ...saeRow, number, ofCell: SITE.overview.cells[saeRow.cell] }));

/** Return a table of SAEs, in which each has columns for these parts of its cell. */
SITE.saeTable = (label, rows, cellParts) => {
  const partColumns = cellParts.map((part) => ({
    id: part.key,
    label: part.label,
    value: ({ ofCell }) => ofCell[part.key],
    show: ({ ofCell }) => bdi(SITE.label[part.key](ofCell[part.key])),
  }));
  const columns = [
    { id: "method", label: "Method", value: ({ method }) => method, show: showMethod },
    ...partColumns,
    numberColumn({
      id: "alive",
      label: "Alive",
      meaning: "Latents that fire, of all m.",
      value: ({ alive }) => alive,
      show: ({ alive, m }) => `${wholeNumber(alive)} of ${wholeNumber(m)}`,
    }),
    ...measuredScores().map(scoreColumn),
  ];
  return SITE.table({ label, columns, rows }).node;
};

/** Show an SAE's method: a link to its latents where they are on the site. */
function showMethod({ number, ofCell, method, chosen }) {
  const label = SITE.methodWithMarker(method);
  const { id } = SITE.overview.methods[method];
  const hasFile = ofCell.saes?.includes(number);
  const address = href("latents", [...ofCell.address, id]);
  return [
    hasFile ? link(address, label) : label,
    chosen === false && soft(" not chosen"),
  ];
}

/** Return the main scores that any SAE has. */
function measuredScores() {
  const { saes, scores, glossary } = SITE.overview;
  const isListed = scores.some(({ id }) => id === "r2");
  const r2 = { id: "r2", label: "R²", what: glossary["R²"] };
  const candidates = isListed ? scores : [r2, ...scores];
  return candidates.filter(({ id, main }) => (main || id === "r2")
    && saes.some((saeRow) => !isMissing(saeRow.scores?.[id])));
}

/** Return the column of a score. */
function scoreColumn({ id, label, what, chance, better }) {
  const byChance = isMissing(chance) ? "" : ` Chance gives ${threeFigures(chance)}.`;
  return numberColumn({
    id,
    label: SITE.columnLabel(label),
    meaning: `${what ?? ""}${byChance}`,
    value: ({ scores }) => scores?.[id],
    format: decimals,
    isLowFirst: better === -1,
  });
}
})();

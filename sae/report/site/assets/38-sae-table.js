"use strict";

/** The table of what was chosen in cells: one set of SAEs a row, with its scores. */
(() => {
const { h, bdi, link, soft, href, isMissing, numberColumn } = SITE;
const { decimals, signedDecimals, threeFigures, wholeNumber } = SITE;

/**
 * Return the rows for `saeTable`: what the overview says of each SAE, its place
 * `number`, the row of its cell, `ofCell`, and what was compared there, `compared`: the
 * chosen SAEs' means over seeds, where methods are compared.
 */
SITE.saeRows = () => {
  const { saes, cells, by_cell: byCell } = SITE.overview;
  return saes.map((saeRow, number) => ({
    ...saeRow,
    number,
    ofCell: cells[saeRow.cell],
    compared: byCell.find(({ cell, method }) =>
      cell === saeRow.cell && method === saeRow.method),
  }));
};

/**
 * Return a table in which each row has columns for these parts of its cell. Of one
 * cell, without any, it says more of each row.
 */
SITE.saeTable = (label, rows, cellParts) => {
  const partColumns = cellParts.map((part) => ({
    id: part.key,
    label: part.label,
    class: part.key === "k" ? "number" : "place",
    value: ({ ofCell }) => ofCell[part.key],
    show: ({ ofCell }) => bdi(SITE.label[part.key](ofCell[part.key])),
  }));
  const columns = [
    { id: "method", label: "Method", value: ({ method }) => method, show: showMethod },
    ...(cellParts.length ? partColumns : detailColumns()),
    ...measuredScores(rows).map(scoreColumn),
  ];
  return SITE.table({ label, columns, rows, rowHeight: 46 }).node;
};

/** Return the columns of the trial, its seeds, and how many latents are alive. */
function detailColumns() {
  // What is out of reach has no scores; those of another SAE stand there.
  const read = ({ compared }) => (compared?.reason ? undefined : compared);
  return [
    {
      id: "trial",
      label: "Trial",
      value: (row) => read(row)?.trial ?? row.trial,
      show: (row) => bdi(read(row)?.trial ?? row.trial),
    },
    {
      id: "seeds",
      label: "Seeds",
      meaning: "Scores are means over them. The latents on this site are of the first.",
      show: (row) => read(row)?.seeds ?? String(row.seed ?? "–"),
    },
    numberColumn({
      id: "alive",
      label: "Alive",
      meaning: "Latents that fire, of all m, of the SAE that is shown.",
      value: ({ alive }) => alive,
      show: ({ alive, m }) => `${wholeNumber(alive)} of ${wholeNumber(m)}`,
    }),
  ];
}

/** Show a method: a link to its latents where they are on the site. */
function showMethod({ number, ofCell, method, chosen, compared }) {
  const label = SITE.methodWithMarker(method);
  const { id } = SITE.overview.methods[method];
  const hasFile = ofCell.saes?.includes(number);
  const address = href("latents", [...ofCell.address, id]);
  return [hasFile ? link(address, label) : label, whyNotChosen(chosen, compared)];
}

/** Say why a method has no chosen SAE in a cell; null where it has one. */
function whyNotChosen(chosen, compared) {
  if (!compared?.reason) return chosen === false ? soft(" not chosen") : null;
  const { reason, shortfall } = compared;
  const lack = isMissing(shortfall) ? "" : `, by ${decimals(shortfall)} of R²`;
  return h(".soft.more", `out of reach: ${reason}${lack}`);
}

/** Return the scores of a row: means over seeds, else those of the SAE. */
const scoresOf = ({ compared, scores }) =>
  (compared && !compared.reason ? compared.values : scores ?? {});

/** Return the main scores that any of some rows has. */
function measuredScores(rows) {
  const { scores, glossary } = SITE.overview;
  const isListed = scores.some(({ id }) => id === "r2");
  const r2 = { id: "r2", label: "R²", what: glossary["R²"] };
  const candidates = isListed ? scores : [r2, ...scores];
  return candidates.filter(({ id, main }) => (main || id === "r2")
    && rows.some((row) => !isMissing(scoresOf(row)[id])));
}

/** Return the column of a score, with the difference from the baseline below it. */
function scoreColumn({ id, label, what, chance, better }) {
  const byChance = isMissing(chance) ? "" : ` Chance gives ${threeFigures(chance)}.`;
  const value = (row) => scoresOf(row)[id];
  return numberColumn({
    id,
    label: SITE.columnLabel(label),
    meaning: `${what ?? ""}${byChance}`,
    value,
    show: (row) => {
      const effect = row.compared?.effects[id];
      return [
        decimals(value(row)),
        !isMissing(effect) && h(".soft", signedDecimals(effect)),
      ];
    },
    isLowFirst: better === -1,
  });
}
})();

"use strict";

/** The overview of an experiment: its cells, methods and scores, as the views ask. */
(() => {
const { isMissing } = SITE;

/** What a cell is the combination of: the key, and what a reader calls it. */
SITE.CELL_PARTS = [
  { key: "dataset", label: "Dataset" },
  { key: "backbone", label: "Backbone" },
  { key: "k", label: "k" },
];

/**
 * Load the overview once, as SITE.overview. Each cell gets its place in the list,
 * `index`, and the parts of its address, `address`.
 */
SITE.loadOverview = async () => {
  const overview = await SITE.loadPayload("overview");
  overview.trials = { cell: [], method: [], ...overview.trials };
  SITE.overview = overview;

  overview.cells.forEach((cell, index) => {
    cell.index = index;
    cell.address = [cell.dataset, cell.backbone, cell.k];
  });
};

/** Return the place of a method in the list, given its id. */
SITE.methodPlace = (methodId) =>
  SITE.overview.methods.findIndex(({ id }) => id === methodId);

// -- labels

/** Return the label of a row of the lists "datasets" or "backbones", else its id. */
const labelIn = (list, id) =>
  SITE.overview[list].find((row) => row.id === id)?.label || String(id);

/** Return the label of a score. */
function scoreLabel(id) {
  const score = SITE.overview.scores.find((row) => row.id === id);
  if (score?.label !== undefined && score.label !== null) return score.label;
  const judge = id.startsWith("ms_by_") ? id.slice("ms_by_".length) : null;
  return judge === null ? id : `MS as ${labelIn("backbones", judge)} sees it`;
}

/** Return the label of a method, given its place. */
function methodLabel(place) {
  const method = SITE.overview.methods[place];
  return method?.label || method?.id || "?";
}

/** Return the label of a cell. */
function cellLabel({ dataset, backbone, k }) {
  const labels = [labelIn("datasets", dataset), labelIn("backbones", backbone)];
  return `${labels.join(", ")}, k\u00a0=\u00a0${k}`;
}

/** Functions that return the label of what they are named for. */
SITE.label = {
  dataset: (id) => labelIn("datasets", id),
  backbone: (id) => labelIn("backbones", id),
  k: String,
  method: methodLabel,
  score: scoreLabel,
  cell: cellLabel,
};

/** Return the label of a score as a narrow column has it, beside that of detection. */
SITE.columnLabel = (label) => label.replace(/^detection (?=per |by )/, "");

/** Return the row of a score, or a stand-in that knows its label alone. */
SITE.scoreRow = (id) =>
  SITE.overview.scores.find((row) => row.id === id)
  || { id, label: scoreLabel(id), what: "" };

// -- cells

/**
 * Return an error whose message is all that there is to say: the address asks for what
 * the experiment does not have, while no file is missing from the folder.
 */
SITE.notInExperiment = (message) =>
  Object.assign(new Error(message), { isWholeAnswer: true });

/** Return the cell of an address's parts. */
SITE.cellOf = ([dataset, backbone, k]) => {
  const cell = SITE.overview.cells.find((candidate) => candidate.dataset === dataset
    && candidate.backbone === backbone && String(candidate.k) === String(k));
  if (!cell) {
    throw SITE.notInExperiment("This experiment has no such dataset, backbone and k.");
  }
  return cell;
};

/**
 * Return the cell that a view opens on: the one that the overview says, or else the
 * first of which the view has something to show.
 */
SITE.firstCellOf = (view) => {
  const { cells, first_cell: first } = SITE.overview;
  const candidates = [cells[first.cell], ...cells];
  return candidates.find((cell) => SITE.hasContent(view, cell)) ?? candidates[0];
};

/**
 * Return the SAEs of a cell that have a file, one for each method, in the order of the
 * methods: rows of the overview's list, with the SAE's `number` and the `methodId`.
 */
SITE.saesOf = (cell) => {
  const { saes, methods } = SITE.overview;
  const saeOfMethod = new Map();
  for (const number of cell.saes || []) {
    const row = saes[number];
    if (row && !saeOfMethod.has(row.method)) {
      const methodId = methods[row.method]?.id;
      saeOfMethod.set(row.method, { ...row, number, methodId });
    }
  }
  const rows = [...saeOfMethod.values()];
  return rows.sort((first, second) => first.method - second.method);
};

/** Return the row of a cell's SAE, by its method's id; without an id, the first. */
SITE.saeOf = (cell, methodId) => {
  const saes = SITE.saesOf(cell);
  const saeRow = methodId === undefined
    ? saes[0]
    : saes.find((candidate) => candidate.methodId === methodId);
  if (!saeRow) {
    throw SITE.notInExperiment("No SAE of this method has its latents on this site, "
      + "for this dataset, backbone and k.");
  }
  return saeRow;
};

/**
 * Return the rows of the two SAEs of a cell that a view sets side by side, as far as
 * the cell has them: those of the methods that the query names as `a` and `b`, else
 * what others are compared with, and what is compared with it.
 */
SITE.pairOf = (cell, query = new URLSearchParams()) => {
  const saes = SITE.saesOf(cell);
  const methodOf = (saeRow) => SITE.overview.methods[saeRow.method];
  const namedBy = (key) => saes.find(({ methodId }) => methodId === query.get(key));

  const trained = saes.filter((saeRow) => !methodOf(saeRow).control);
  const baseline = trained.find((saeRow) => isMissing(methodOf(saeRow).against));
  const first = namedBy("a") || baseline || saes[0];

  // What was chosen comes first, and controls come last.
  const chosen = trained.filter((saeRow) => saeRow.chosen !== false);
  const others = [...chosen, ...trained, ...saes].filter((saeRow) => saeRow !== first);
  const isCompared = (saeRow) => methodOf(saeRow).against === first?.methodId;
  return [first, namedBy("b") || others.find(isCompared) || others[0]];
};

/** Return the places of a cell's trials in the columns of the overview's `trials`. */
SITE.trialsOf = (cell) => {
  const { trials } = SITE.overview;
  const places = SITE.range(trials.cell.length);
  return places.filter((trial) => trials.cell[trial] === cell.index);
};
})();

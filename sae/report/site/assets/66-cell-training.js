"use strict";

/** How a trial of a cell trained, and with which settings. */
(() => {
const { h, bdi, isMissing } = SITE;
const MOST_MARKED = 29; // Points of a line that has a marker at each.

SITE.addSection("cell", showTraining);

/** Show the training of a trial that is picked, and its settings. */
function showTraining({ file: { training: runs, settings } }) {
  if (!runs.length && !settings.length) return null;
  const box = h("");
  const draw = (place) => {
    const run = runs[place];
    const settingsOfRun = settings.filter(({ method, trial }) =>
      method === run.method && trial === run.trial);
    const charts = [drawPath(run, "r2", "R²"), drawPath(run, "dead", "dead latents")];
    box.replaceChildren(h(".panels", charts), ...settingsOfRun.map(settingsTable));
  };
  if (runs.length) draw(0);
  else box.append(...settings.map(settingsTable));

  const options = runs.map((run, place) => [place, nameOfRun(run)]);
  const picker = SITE.select("Trial", options, 0, draw);
  return SITE.section("Training",
    runs.length > 0 && SITE.bar("Training", picker),
    box);
}

/** Whether a run ended in another way than it should. */
const hasFailed = ({ status }) => Boolean(status) && status !== "ok";

/** Return what a run is called in the picker. */
function nameOfRun(run) {
  const status = hasFailed(run) ? ` (${run.status})` : "";
  return `${SITE.label.method(run.method)}, ${run.trial}, seed ${run.seed}${status}`;
}

/** Draw what a run logged of R² or of dead latents, by step. */
function drawPath(run, key, label) {
  const points = (run.step ?? [])
    .map((step, place) => ({ x: step, y: run[key]?.[place] }))
    .filter(({ y }) => !isMissing(y));
  const hasMarks = points.length <= MOST_MARKED;
  return SITE.drawChart({
    title: label,
    description: `${label} in training, ${points.length} points`,
    note: hasFailed(run) && `This run ${run.status}.`,
    x: { label: "step" },
    y: { label },
    series: [{ method: run.method, points, line: true, hasMarks }],
  });
}

/** Return the settings of a trial as a table, to open. */
function settingsTable({ method, trial, settings }) {
  const textOf = (value) => (typeof value === "object" ? JSON.stringify(value) : value);
  const makeTable = () => {
    const rows = Object.entries(settings || {}).map(([option, value]) =>
      [bdi(option), bdi(textOf(value))]);
    return SITE.plainTable(["option", "value"], rows, "Settings");
  };
  return SITE.opened(`Settings of ${SITE.label.method(method)}, ${trial}`, makeTable);
}
})();

"use strict";

/** Sweeps: R² and each endpoint by an option in which trials of a method differ. */
(() => {
const { h, isMissing } = SITE;
const FIRST_OPTION = "lambda"; // What is shown at first, where it was swept.

SITE.addSection("cell", showSweeps);

/** Show the sweeps of a cell. */
function showSweeps({ file, trials }) {
  const runs = runsOfTrials(trials, file.settings);
  const options = sweptOptions(runs);
  if (!options.length) return null;

  const scores = measuredScores(trials);
  const box = h("");
  const draw = (option) => {
    const sweptRuns = runs.filter((run) => isSwept(option, run, runs));
    const methods = [...new Set(sweptRuns.map(({ method }) => method))];
    const charts = scores.map((score) => drawSweep(score, option, sweptRuns, methods));
    box.replaceChildren(SITE.legend(methods), h(".panels", charts));
  };
  const firstOption = options.includes(FIRST_OPTION) ? FIRST_OPTION : options[0];
  draw(firstOption);
  const choices = options.map((option) => [option, option]);
  return SITE.section("Sweeps",
    SITE.bar("Sweeps", SITE.select("Option", choices, firstOption, draw)),
    box);
}

/** Return the trials with their settings: [{trial, method, settings}]. */
function runsOfTrials(trials, settingsRows) {
  const columns = SITE.overview.trials;
  return trials.map((trial) => {
    const method = columns.method[trial];
    const settingsRow = settingsRows.find((row) =>
      row.method === method && row.trial === columns.trial?.[trial]);
    return { trial, method, settings: settingsRow?.settings || {} };
  });
}

/** Return the options that are numbers, and in which runs of one method differ. */
function sweptOptions(runs) {
  const options = runs.flatMap((run) =>
    Object.keys(run.settings).filter((option) => isSwept(option, run, runs)));
  return [...new Set(options)];
}

/** Whether an option is a number in a run, and differs between runs of its method. */
function isSwept(option, { method, settings }, runs) {
  if (typeof settings[option] !== "number") return false;
  const values = runs
    .filter((run) => run.method === method && option in run.settings)
    .map((run) => run.settings[option]);
  return new Set(values).size > 1;
}

/** Return the scores that any of the trials has on validation: [{id, label}]. */
function measuredScores(trials) {
  const { trials: columns, scores } = SITE.overview;
  const endpoints = scores
    .filter(({ endpoint }) => endpoint)
    .map(({ id }) => ({ id, label: SITE.label.score(id) }));
  const isMeasured = ({ id }) =>
    trials.some((trial) => !isMissing(columns[`${id}_val`]?.[trial]));
  return [{ id: "r2", label: "R²" }, ...endpoints].filter(isMeasured);
}

/** Draw a score by an option, a line for each method. */
function drawSweep(score, option, runs, methods) {
  const columns = SITE.overview.trials;
  const values = columns[`${score.id}_val`];
  const pointOf = ({ trial, settings }) =>
    ({ x: settings[option], y: values[trial], note: columns.trial[trial] });
  const series = methods.map((method) => {
    const points = runs.filter((run) => run.method === method).map(pointOf);
    points.sort((first, second) => first.x - second.x);
    return { method, line: true, points };
  });
  const isPositive = runs.every(({ settings }) => settings[option] > 0);
  return SITE.drawChart({
    title: score.label,
    description: `${score.label} by ${option}`,
    x: { label: option, log: isPositive && 10 },
    y: { label: `${score.label} (validation)` },
    series,
  });
}
})();

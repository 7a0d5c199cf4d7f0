"use strict";

/** One cell: what was chosen, all trials, sweeps, distributions of scores, curves, training of any trial, settings. */
(() => {
const { h, name, num, signed, short, count, missing, section, label, column, bar, chart, legend, methodLabel, select, table, upTo, words } = SITE;
const CURVES = { // Of each: its heading, what it shows, its axes.
  robustness: ["Robustness to k", "Reconstruction error where another k is used than in training. Flat to the right of that k is robust.",
    { label: "k used", log: 2 }, { label: "error, 1 - R²", log: 10 }],
  probe: ["Probe with few activations", "How often a linear classifier is right that sees an image's largest activations alone.",
    { label: "activations kept", log: 2 }, { label: "top-1 on test" }],
  rank_profile: ["Rank profile", "Mean activation by rank within an image, before the k largest are selected.",
    { label: "rank", log: 10 }, { label: "mean activation" }],
  detection_by_frequency: ["Detection by how often a latent fires", "How well another model finds its images. Chance is 0.5.",
    { label: "fires on up to (share of images)", log: 10 }, { label: "detection" }],
};

SITE.views.cell = async ({ parts }) => {
  const cell = SITE.cell(parts);
  const data = await SITE.load(`cells/${cell.index}`);
  const [curved, distributed, trained, settings] = ["curves", "distributions", "training", "settings"]
    .map((key) => (data[key] || []).map((row) => ({ ...row, method: SITE.methodIndex(row.method) })));
  const { trials: t, methods } = SITE.overview;
  const here = upTo(t.cell.length).filter((i) => t.cell[i] === cell.index);
  const shown = upTo(methods.length).filter((method) => here.some((i) => t.method[i] === method));
  return SITE.page(SITE.cellName(cell), SITE.cellBar(cell, (to) => SITE.href("cell", to.place)),
    h("p", `m = ${count(cell.m)} latents on embeddings of ${count(cell.d)} numbers. On an image k = ${cell.k} of them are active.`),
    SITE.cellLinks(cell, "cell"),
    SITE.unchosen(SITE.saesOf(cell)), chosen(cell), tradeOffs(cell, shown), sweeps(here, settings), distributions(distributed), curves(cell, curved), training(trained, settings), allTrials(here));
};

function chosen(cell) {
  const rows = SITE.saeRows().filter(({ of }) => of === cell);
  return rows.length > 0 && section("SAEs", table({ label: "SAEs of this cell", columns: SITE.saeColumns([]), rows }).node);
}

function tradeOffs(cell, shown) {
  const { trials: t, scores } = SITE.overview;
  const panels = (endpoint) => scores.filter((score) => Boolean(score.endpoint) === endpoint && t[`${score.id}_val`])
    .map((score) => SITE.panel(cell, score, shown)).filter(({ near }) => near.length > 1)
    .map((panel) => SITE.drawPanel(panel, null, panel.score.label));
  const found = panels(true);
  return found.length > 0 && section("Trials: scores against R²", words("trials"), legend(shown), h(".panels", found), effects(cell));
}

/** What each method has here above the one it is compared with, at the same R². */
function effects(cell) {
  const rows = SITE.overview.effects.filter((row) => row.cell === cell.index && SITE.score(row.score).endpoint && !missing(row.effect))
    .map(({ method, score, effect, r2_difference: cost, shortfall, gain }) => [methodLabel(method), label.score(score), signed(effect), signed(cost), num(shortfall), num(gain)]);
  return rows.length > 0 && [h("h3", "At the same R², in this cell"), SITE.plainTable(["method", "score", "effect", "R² change", "shortfall", "gain of R²"], rows, "Effects")];
}

// -- sweeps

/** R² and each score that judges by an option that trials of one method differ in. */
function sweeps(here, settings) {
  const { trials: t, scores } = SITE.overview;
  const of = (i) => settings.find((one) => one.method === t.method[i] && one.trial === t.trial?.[i])?.settings || {};
  const rows = here.map((i) => ({ i, method: t.method[i], settings: of(i) }));
  const varies = (method, key) => new Set(rows.filter((row) => row.method === method && key in row.settings).map((row) => row.settings[key])).size > 1;
  const swept = [...new Set(rows.flatMap((row) => Object.keys(row.settings).filter((key) => typeof row.settings[key] === "number" && varies(row.method, key))))];
  if (!swept.length) return null;
  const measured = [["r2", "R²"], ...scores.filter(({ endpoint }) => endpoint).map(({ id }) => [id, label.score(id)])].filter(([id]) => here.some((i) => !missing(t[`${id}_val`]?.[i])));
  const box = h("");
  const draw = (option) => {
    const found = rows.filter((row) => typeof row.settings[option] === "number" && varies(row.method, option));
    const methods = [...new Set(found.map(({ method }) => method))];
    const x = { label: option, log: found.every((row) => row.settings[option] > 0) && 10 };
    box.replaceChildren(legend(methods), h(".panels", measured.map(([id, text]) => chart({
      title: text, says: `${text} by ${option}`, x, y: { label: `${text} (validation)` },
      series: methods.map((method) => ({ method, line: true, points: found.filter((row) => row.method === method)
        .map(({ i, settings: { [option]: at } }) => ({ x: at, y: t[`${id}_val`][i], note: t.trial[i] })).sort((a, b) => a.x - b.x) })),
    }))));
  };
  const first = swept.includes("lambda") ? "lambda" : swept[0];
  draw(first);
  return section("Sweeps", bar("Sweeps", select("Option", swept.map((key) => [key, key]), first, draw)), box);
}

// -- distributions and curves

function distributions(rows) {
  if (!rows.length) return null;
  const scores = [...new Set(rows.map(({ score }) => score))];
  const state = { which: "alive", score: scores.includes("ms") ? "ms" : scores[0] };
  const box = h(".panels.small");
  const draw = () => {
    const of = rows.filter(({ score }) => score === state.score);
    const domain = [0, 1.05 * Math.max(1, ...of.flatMap((row) => row[state.which]))];
    const text = label.score(state.score);
    box.replaceChildren(...of.map(({ method, edges, [state.which]: counts }) => chart({
      title: methodLabel(method), says: `${text} of the latents of ${label.method(method)}`, width: 230, height: 160, x: { label: text }, y: { label: "latents", domain },
      bars: counts.map((y, i) => ({ from: edges[i], to: edges[i + 1], y, method })),
    })));
  };
  const set = (key) => (value) => {
    state[key] = value;
    draw();
  };
  draw();
  return section("Distributions over latents", bar("Distributions", [
    select("Score", scores.map((score) => [score, label.score(score)]), state.score, set("score")),
    select("Latents", [["alive", "live ones"], ["all", "all, dead ones in the lowest bin"]], state.which, set("which"))]), box);
}

function curves(cell, rows) {
  const names = [...new Set(rows.filter(({ x }) => x.length > 1).map(({ curve }) => curve))];
  return names.length > 0 && section("Curves", legend([...new Set(rows.map(({ method }) => method))]), h(".panels.wide", names.map((curve) => {
    const [title, said, x, y] = CURVES[curve] || [curve.replaceAll("_", " "), "", { label: "x" }, { label: "y" }];
    const series = rows.filter((row) => row.curve === curve).map(({ method, x: xs, y: ys }) => ({ method, line: true, marks: xs.length < 25,
      points: xs.map((at, i) => ({ x: at, y: ys[i] })).filter((p) => !missing(p.y) && (!x.log || p.x > 0) && (!y.log || p.y > 0)) }));
    const rules = { robustness: [{ x: cell.k, label: "training k" }], rank_profile: [{ x: cell.k, label: "k" }], detection_by_frequency: [{ y: 0.5, label: "chance" }] };
    return chart({ title: [title, h("small.soft", said)], says: `${title}. ${said}`, series, x, y, rules: rules[curve] });
  })));
}

// -- training

function training(runs, settings) {
  if (!runs.length && !settings.length) return null;
  const box = h("");
  const draw = (i) => {
    const run = runs[i];
    const said = settings.filter((one) => one.method === run.method && one.trial === run.trial);
    box.replaceChildren(h(".panels", path(run, "r2", "R²"), path(run, "dead", "dead latents")), ...said.map(settled));
  };
  if (runs.length) draw(0);
  else box.append(...settings.map(settled));
  const options = runs.map(({ method, trial, seed, status }, i) => [i, `${label.method(method)}, ${trial}, seed ${seed}${status && status !== "ok" ? ` (${status})` : ""}`]);
  return section("Training", runs.length > 0 && bar("Training", select("Trial", options, 0, draw)), box);
}

function path({ method, status, step = [], ...run }, key, text) {
  const points = step.map((x, i) => ({ x, y: run[key]?.[i] })).filter(({ y }) => !missing(y));
  return chart({ title: text, says: `${text} in training, ${points.length} points`, note: status && status !== "ok" && `This run ${status}.`,
    x: { label: "step" }, y: { label: text }, series: [{ method, points, line: true, marks: points.length < 30 }] });
}

const settled = ({ method, trial, settings }) => SITE.opened(`Settings of ${label.method(method)}, ${trial}`, () => SITE.plainTable(["option", "value"],
  Object.entries(settings || {}).map(([key, value]) => [name(key), name(typeof value === "object" ? JSON.stringify(value) : value)]), "Settings"));

// -- all trials

/** Every trial with its dead latents: what a higher score may be bought with. */
function allTrials(rows) {
  const { trials: t, scores } = SITE.overview;
  const of = (id, text, what, show) => column(id, text, what, (i) => t[id]?.[i], show);
  const columns = [
    { id: "trial", label: "Trial", value: (i) => t.method[i], show: (i) => [methodLabel(t.method[i]), " ", h("span.soft", name(t.trial?.[i]))] },
    of("seed", "Seed", "", String),
    { id: "status", label: "Status", value: (i) => t.status?.[i], show: (i) => `${t.status?.[i] ?? "–"} ${t.role?.[i] ?? ""}` },
    { id: "feasible", label: "Feasible", what: "Few enough latents are dead or active.", value: (i) => Number(t.feasible?.[i]), show: (i) => ({ true: "yes", false: "no" })[t.feasible?.[i]] ?? "–" },
    of("dead", "Dead", "Latents that fire on no training image.", count),
    of("l0", "L0", "Latents active on an image, mean on validation.", (x) => num(x, 1)),
    of("r2_test", "R²", "", num),
    ...scores.filter(({ endpoint }) => endpoint).map(({ id, label: text, what }) => of(`${id}_test`, text, what, num)),
  ];
  return rows.length > 0 && section("All trials, and their dead latents", h("p", "Scores on the test images. A trial that diverged has none."), table({ label: "All trials", columns, rows }).node);
}
})();

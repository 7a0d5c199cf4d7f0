"use strict";

/** The overview: the answer, terms, where to start, the board, trade-offs as small multiples, the claims, all SAEs. */
(() => {
const { h, name, link, soft, note, href, num, signed, short, count, missing, section, label, column, extent, methodLabel, padded, s, select, upTo, words } = SITE;
const KEYS = [["dataset", "Dataset"], ["backbone", "Backbone"], ["k", "k"]];
const FIRST = ["latent", "MS", "detection", "R²", "k", "m", "λ", "lambda", "dead", "cell"]; // Terms that the page begins with.

SITE.views.overview = async ({ query }) => {
  const o = SITE.overview;
  const filters = { method: query.getAll("method") };
  for (const key of ["dataset", "backbone", "k", "scores", "window"]) filters[key] = query.get(key) || "";
  const filtered = h("");
  const remembered = (key, value) => {
    filters[key] = value;
    SITE.remember(filters);
  };
  const change = (key, value) => {
    remembered(key, value);
    fill();
  };
  const fill = () => filtered.replaceChildren(...[board(filters, remembered), tradeOffs(filters), saes(filters)].filter(Boolean));
  fill();
  return SITE.page(name(o.description || o.experiment), SITE.first(), start(o.start), terms(), filterBar(filters, change), filtered, claims(o.claims));
};

function terms() {
  const all = Object.keys(SITE.overview.glossary);
  const first = [...SITE.overview.methods.map(({ label }) => label), ...FIRST];
  const more = all.filter((word) => !first.includes(word));
  return all.length > 0 && h("section", { "aria-label": "Terms" }, SITE.terms(SITE.glossary(first)),
    more.length > 0 && SITE.opened(`${more.length} more terms`, () => SITE.terms(SITE.glossary(more))));
}

const start = (entries) => entries.length > 0 && section("Start here", h("ul.cards", entries.filter((entry) => !SITE.isFirst(entry)).map(card)));

/** A view to start with: its images, a link, and by which rule it was chosen. */
function card({ title, rule, href: to, strips = [] }) {
  const pictures = strips.slice(0, 1).map((strip) => SITE.stripOfLatent(strip, 5, 44));
  return h("li.card", pictures, h("a", { href: to, dir: "auto" }, title), h("p.soft", { dir: "auto" }, rule));
}

// -- filters

function filterBar(filters, change) {
  const { cells, methods } = SITE.overview;
  const pickers = KEYS.map(([key, text]) => {
    const values = [...new Set(cells.map((cell) => cell[key]))];
    return values.length > 1 && select(text, [["", "all"], ...values.map((value) => [value, label[key](value)])], filters[key], (value) => change(key, String(value)));
  });
  const ticked = () => {
    const on = boxes.filter(({ checked }) => checked).map(({ value }) => value);
    change("method", on.length === boxes.length ? [] : on); // All is no filter: the address then says nothing.
  };
  const boxes = methods.map(({ id }) => h("input", { type: "checkbox", value: id, checked: wanted(SITE.methodIndex(id), filters), onchange: ticked }));
  return SITE.bar("Filters", [pickers, methods.length > 1 && h("fieldset", h("legend", "Methods"), boxes.map((box, i) => h("label.chip", box, methodLabel(i))))]);
}

const fits = (cell, filters) => KEYS.every(([key]) => !filters[key] || String(cell[key]) === filters[key]);
const wanted = (method, filters) => !filters.method.length || filters.method.includes(SITE.overview.methods[method]?.id);

// -- board

function board(filters, remembered) {
  const all = SITE.overview.board.filter((row) => wanted(row.method, filters) && (!missing(row.effect) || row.infeasible || row.out_of_reach));
  if (!all.length) return null;
  const widths = [...new Set(all.map(({ width }) => width))].sort();
  const headline = SITE.overview.windows[0]?.width ?? widths[0];
  const shown = { width: widths.find((width) => String(width) === filters.window) ?? headline, every: filters.scores === "all" };
  const table = SITE.table({ label: "Board", columns: boardColumns(all), sort: { id: "score", down: false }, height: 46 });
  const fill = () => table.fill(all.filter((row) => row.width === shown.width && (shown.every || SITE.score(row.score).judged)));
  const setWidth = (width) => {
    shown.width = width;
    remembered("window", width === headline ? "" : String(width));
    fill();
  };
  const setScores = (every) => {
    shown.every = every;
    remembered("scores", every ? "all" : "");
    fill();
  };
  fill();
  return section("Which method is better at the same R²",
    words("board"),
    SITE.bar("Board", [widths.length > 1 && select("Window", widths.map((width) => [width, `${short(width)} of R²`]), shown.width, setWidth),
      select("Scores", [[false, "those that judge"], [true, "all"]], shown.every, setScores)]),
    table.node);
}

function boardColumns(all) {
  const reach = Math.max(0.001, ...all.flatMap((row) => (SITE.score(row.score).judged ? [row.low, row.high] : [])).map((x) => Math.abs(x || 0)));
  const of = (id, text, what, show) => column(id, text, what, (row) => row[id], show);
  return [
    { id: "method", label: "Method", value: ({ method }) => label.method(method), show: ({ method }) => methodLabel(method) },
    { id: "score", label: "Score", less: true, value: ({ score }) => SITE.overview.scores.findIndex(({ id }) => id === score), show: ({ score, front }) => [label.score(score), front !== score && soft(` at ${label.score(front)}'s vertices`)] },
    of("level", "Baseline", "What the baseline scores in the same window of R², mean over cells.", num),
    of("effect", "Effect", "On the test images, mean over the window of R² and over blocks, a dataset and a family of backbones each.", signed),
    { id: "low", label: "Interval", what: "Over datasets and families of backbones; below it that over fresh seeds, the cells fixed.", value: ({ low }) => low, show: (row) => interval(row, reach) },
    { id: "outcome", label: "Outcome", what: "Detection is tested first, then MS where detection is shown. At lower R²: cells in which the method ends left of where the baseline's score is highest.", value: ({ outcome }) => outcome, show: outcome },
    column("up", "Cells up", "In how many cells the effect is above 0.", ({ up, cells }) => up / cells, String, { show: ({ up, cells }) => (missing(cells) ? "–" : `${up} of ${cells}`) }),
    of("r2_difference", "R² change", "Difference in test R² at the same weights.", signed),
    of("shortfall", "Shortfall", "How far the method's best R² stays below the other's, mean over cells.", num),
    of("equal_r2", "Equal test R²", "The effect where both sides have the same R² on test.", signed),
    of("pairs", "Pairs", "The effect in trials with the same recipe, at a price for R².", signed),
    of("out_of_reach", "Out of reach", "Cells in which the method ends too far left of where the baseline is compared; they are not in the mean.", count),
    of("infeasible", "No comparison", "Cells that are not in the mean: no feasible trial, all seeds diverged, or fresh seeds missing.", count),
  ];
}

function outcome({ outcome: said, at_lower_r2: lower }) {
  const kind = /^(higher|lower)/.test(said) ? "yes" : /^equivalent/.test(said) ? "part" : "untested";
  return [said ? h(`span.badge.${kind}`, said) : "–", lower > 0 && soft(` at lower R² in ${lower}`)];
}

/** An interval as a bar around zero, with its numbers. */
function interval({ effect, low, high, low_seeds: lowSeeds, high_seeds: highSeeds }, reach) {
  if (missing(low)) return "–";
  const at = (x) => Math.max(0, Math.min(120, 60 + (x / reach) * 56));
  return [s("svg.interval", { viewBox: "0 0 120 12", "aria-hidden": "true" }, s("path.grid", { d: "M60 0v12" }),
    s("path.line", { d: `M${at(low)} 6H${at(high)}` }), s("circle", { r: 3.2, cx: at(effect), cy: 6 })),
  `[${signed(low)}, ${signed(high)}]`, !missing(lowSeeds) && soft(` seeds [${signed(lowSeeds)}, ${signed(highSeeds)}]`)];
}

// -- trade-offs

function tradeOffs(filters) {
  const { cells, trials, scores, methods } = SITE.overview;
  const chosen = cells.filter((cell) => fits(cell, filters));
  const measured = scores.filter(({ id, endpoint }) => endpoint && trials[`${id}_val`]?.some((x) => !missing(x)));
  const shown = upTo(methods.length).filter((i) => wanted(i, filters) && trials.method.includes(i));
  if (!measured.length || !chosen.length) return null;
  const rows = measured.flatMap((score) => [...new Set(chosen.map(({ dataset }) => dataset))].map((dataset) => {
    const panels = chosen.filter((cell) => cell.dataset === dataset).map((cell) => SITE.panel(cell, score, shown)).filter(({ near }) => near.length);
    // Axes equally long in a row, each about its own middle: gaps compare by eye, and small ones are seen.
    const ys = panels.map(({ near }) => extent(near.map((p) => p.y)));
    const half = 0.55 * Math.max(...ys.map(([low, high]) => high - low)) || 0.05;
    const domain = ([low, high]) => [(low + high) / 2 - half, (low + high) / 2 + half];
    return panels.length > 0 && h("section", h("h3", `${score.label} against R², `, name(label.dataset(dataset))),
      h(".panels.small", panels.map((panel, i) => SITE.drawPanel(panel, domain(ys[i]), link(href("cell", panel.cell.place), name(`${label.backbone(panel.cell.backbone)}, k\u00a0=\u00a0${panel.cell.k}`))))));
  }));
  return section("What it costs: each score against R²",
    words("trade-offs"),
    SITE.legend(shown), rows);
}

/** Points, fronts and window of one panel; `near` is what its axes have to hold. */
SITE.panel = (cell, score, shown) => {
  const { trials: t, fronts, windows, methods } = SITE.overview;
  const here = fronts.filter((vertex) => vertex.cell === cell.index && vertex.score === score.id);
  const series = shown.map((method) => {
    const vertices = here.filter((vertex) => vertex.method === method);
    const points = upTo(t.cell.length).filter((i) => t.cell[i] === cell.index && t.method[i] === method)
      .map((i) => point(i, score, vertices, cell)).filter((p) => !missing(p.x) && !missing(p.y));
    return { method, points, line: vertices.map((vertex) => ({ x: vertex.r2, y: vertex.value })) };
  });
  const trained = series.filter(({ method }) => !methods[method].control).flatMap(({ points }) => points);
  const feasible = trained.filter(({ hollow }) => !hollow);
  const near = [feasible, trained, series.flatMap(({ points }) => points)].find(({ length }) => length) || [];
  return { cell, score, series, near, window: windows.find((one) => one.cell === cell.index && one.score === score.id) };
};

function point(i, score, vertices, cell) {
  const { trials: t } = SITE.overview;
  const [x, y] = [t.r2_val?.[i], t[`${score.id}_val`][i]];
  const hollow = t.feasible?.[i] === false;
  const ring = vertices.some(({ r2, value, weight }) => weight > 0 && Math.abs(r2 - x) < 1e-9 && Math.abs(value - y) < 1e-9);
  const said = [t.trial?.[i], `seed ${t.seed?.[i]}`, hollow && "not feasible", ring && "judged"].filter(Boolean).join(", ");
  const text = `${label.method(t.method[i])}: R² ${num(x)}, ${score.label} ${num(y)}\n${said}\n${count(t.dead?.[i])} dead, L0 ${num(t.l0?.[i], 1)}`;
  return { x, y, text, note: said, ring, hollow, href: href("cell", cell.place) };
}

SITE.drawPanel = ({ cell, score, series, near, window }, yDomain, title, size = { width: 230, height: 190 }) => {
  const x = { label: "R² (validation)", domain: padded(extent([...near.map((p) => p.x), window && window.from])) };
  const y = { label: `${score.label} (validation)`, domain: yDomain || padded(extent(near.map((p) => p.y))) };
  for (const { line } of series) {
    const last = line[line.length - 1];
    if (last) line.push({ x: Math.min(last.x, x.domain[0]), y: last.y }); // Left of its highest vertex a front is flat.
  }
  const says = `${score.label} against R² of ${series.flatMap(({ points }) => points).length} trials, ${label.cell(cell)}`;
  return SITE.chart({ title, says, x, y, series, ...size, bands: window ? [{ from: window.from, to: window.best }] : [] });
};

// -- claims

const BADGES = { holds: "yes", "holds in part": "part", "not shown": "no" };
const badge = (verdict, mark = "") => h(`span.badge.${BADGES[verdict] || "untested"}`, verdict + mark);

function claims(all) {
  const groups = [["The paper's claims", all.filter(({ ours }) => !ours)], ["Claims about other methods, ours", all.filter(({ ours }) => ours)]];
  return all.length > 0 && section("Claims",
    words("claims"),
    groups.filter(([, of]) => of.length).map(([title, of]) => [h("h3", title),
      h("p.links", SITE.counted(of.map(({ verdict }) => verdict)).map(([verdict, n]) => h("span", `${n} `, badge(verdict)))), h("ul.claims", of.map(claim))]));
}

function claim({ verdict, statement, measured, low, high, detection, cells_for: yes, cells_against: no, published, note: more, controls }) {
  const facts = [
    !missing(measured) && `measured ${signed(measured)}${missing(low) ? "" : ` [${signed(low)}, ${signed(high)}]`}`,
    !missing(detection) && `detection ${signed(detection)}`,
    !missing(yes) && `cells for ${yes}, against ${no}`,
    published && `published ${published}`,
  ];
  const as = [controls || []].flat();
  return h("li.claim", badge(verdict, as.length ? " ?" : ""), h("", h("p", { dir: "auto" }, statement), note(facts.filter(Boolean).join(" · ")),
    (more || as.length > 0) && note(name([more, as.length && `As high in: ${as.join(", ")}`].filter(Boolean).join(". ")))));
}

// -- SAEs

function saes(filters) {
  const rows = SITE.saeRows().filter((sae) => fits(sae.of, filters) && wanted(sae.method, filters));
  return rows.length > 0 && section("The SAEs", h("p", "What was chosen, with its scores on the test images. A link opens its latents. Where no trial reached the baseline's R² the one of highest R² stands, marked as not chosen."),
    SITE.table({ label: "SAEs", columns: SITE.saeColumns(KEYS), rows }).node);
}

/** The SAEs as rows of a table: {n, of (its cell), and what the overview says}. */
SITE.saeRows = () => SITE.overview.saes.map((sae, n) => ({ ...sae, n, of: SITE.overview.cells[sae.cell] }));

/** Columns of a table of SAEs: the method, what of the cell is asked for ([[key, label]]), latents alive, scores. */
SITE.saeColumns = (keys) => {
  const { saes: all, scores, methods } = SITE.overview;
  const open = ({ n, of, method, chosen }) => [
    of.saes?.includes(n) ? link(href("latents", [...of.place, methods[method].id]), methodLabel(method)) : methodLabel(method),
    chosen === false && soft(" not chosen")];
  const r2 = scores.some(({ id }) => id === "r2") ? [] : [{ id: "r2", label: "R²", what: SITE.overview.glossary["R²"] }];
  const known = [...r2, ...scores].filter(({ id }) => all.some((sae) => !missing(sae.scores?.[id])));
  return [
    { id: "method", label: "Method", value: ({ method }) => method, show: open },
    ...keys.map(([key, text]) => ({ id: key, label: text, value: ({ of }) => of[key], show: ({ of }) => name(label[key](of[key])) })),
    column("alive", "Alive", "Latents that fire, of all m.", ({ alive }) => alive, count, { show: ({ alive, of }) => `${count(alive)} of ${count(of.m)}` }),
    ...known.map(({ id, label: text, what, chance, better }) => column(id, text, `${what ?? ""}${missing(chance) ? "" : ` Chance gives ${short(chance)}.`}`, ({ scores: of }) => of?.[id], num, { less: better === -1 })),
  ];
};
})();

"use strict";

/**
 * Charts as SVG: points, lines and bars on linear or logarithmic axes. Each is a <figure> with a table of its numbers
 * below, made when it is opened. Colours are CSS variables, so that a theme or a print changes them.
 */
(() => {
const { h, s, num, short, missing } = SITE;
const SHAPES = { // In a box from -4 to 4.
  o: "M-3.6 0a3.6 3.6 0 1 0 7.2 0a3.6 3.6 0 1 0-7.2 0z",
  s: "M-3.2-3.2h6.4v6.4h-6.4z",
  "^": "M0-4.2l4 7.2h-8z",
  v: "M0 4.2l4-7.2h-8z",
  D: "M0-4.4l4 4.4l-4 4.4l-4-4.4z",
  P: "M-1.4-4h2.8v2.6h2.6v2.8h-2.6v2.6h-2.8v-2.6h-2.6v-2.8h2.6z",
  X: "M-4-2l2-2l2 2l2-2l2 2l-2 2l2 2l-2 2l-2-2l-2 2l-2-2l2-2z",
  "<": "M-4.2 0l7.2-4v8z",
  ">": "M4.2 0l-7.2-4v8z",
  p: "M0-4.2l4 2.9l-1.5 4.7h-5l-1.5-4.7z",
  h: "M0-4.2l3.6 2.1v4.2l-3.6 2.1l-3.6-2.1v-4.2z",
};
const DASHES = ["", "7 2 2 2", "2 1.5", "10 3", "5 1 1 1"];

// -- methods

/** A colour moved towards black or white (`end`) until it stands out from the page. */
function readable(hex, paper, end) {
  const own = [1, 3, 5].map((at) => parseInt(hex.slice(at, at + 2), 16));
  for (let share = 0; ; share += 0.05) {
    const mixed = own.map((x) => Math.round(x + share * (end - x)));
    if (share >= 1 || contrast(mixed, paper) >= 3) return `rgb(${mixed.join(" ")})`;
  }
}

function contrast(a, b) {
  const linear = (x) => (x <= 10 ? x / 3294.6 : ((x / 255 + 0.055) / 1.055) ** 2.4);
  const luminance = ([red, green, blue]) => 0.2126 * linear(red) + 0.7152 * linear(green) + 0.0722 * linear(blue);
  const [low, high] = [luminance(a), luminance(b)].sort((x, y) => x - y);
  return (high + 0.05) / (low + 0.05);
}

/** The look of a method (an index): attributes of an element that draws in currentColor, in either theme. */
function look(method) {
  const { colour } = SITE.overview.methods[method] || {};
  const hex = /^#[0-9a-f]{6}$/i.test(colour) ? colour : "#777777";
  const style = { "--on-light": readable(hex, [255, 255, 255], 0), "--on-dark": readable(hex, [22, 24, 29], 255) };
  return { class: "of-method", style };
}

const shape = (method) => SHAPES[SITE.overview.methods[method]?.marker] || SHAPES.o;
const dash = (method) => {
  const { against, control } = SITE.overview.methods[method] || {};
  return missing(against) && !control ? "5 2" : DASHES[Math.max(0, method - 1) % DASHES.length];
};

/** A method's marker and name: what every legend, table and heading shows. */
const methodLabel = (method) => h("span.method",
  h("span", look(method), s("svg.marker", { viewBox: "-6 -6 12 12", "aria-hidden": "true" }, s("path", { d: shape(method), fill: "currentColor" }))),
  h("bdi", { title: SITE.label.method(method) }, SITE.label.method(method)));

/** The markers and names of methods in a row. */
const legend = (methods) => h("p.legend", methods.map(methodLabel));

// -- axes

function extent(values) {
  const known = values.filter((x) => !missing(x) && Number.isFinite(x));
  return known.length ? [Math.min(...known), Math.max(...known)] : [0, 1];
}

/** A domain a little wider than its values. */
function padded([low, high]) {
  const pad = 0.05 * (high - low) || Math.abs(low) * 0.05 || 0.5;
  return [low - pad, high + pad];
}

function scale({ domain, log }, from, to) {
  const f = log ? Math.log : (x) => x;
  const [low, high] = domain.map(f);
  return (x) => from + ((f(x) - low) / (high - low || 1)) * (to - from);
}

function ticks({ domain: [low, high], log }) {
  if (log) return logTicks(low, high, log);
  const raw = (high - low) / 4;
  const power = 10 ** Math.floor(Math.log10(raw));
  const step = power * [1, 2, 5, 10].find((by) => by * power >= raw);
  const first = Math.ceil(low / step - 1e-9);
  return SITE.upTo(Math.floor(high / step + 1e-9) - first + 1).map((i) => (first + i) * step);
}

function logTicks(low, high, base) {
  const found = [];
  for (let power = base ** Math.floor(Math.log(low) / Math.log(base)); power <= high; power *= base) {
    for (const by of base === 10 && high / low < 200 ? [1, 2, 5] : [1]) found.push(by * power);
  }
  const inside = found.filter((x) => x >= low && x <= high);
  return inside.filter((_, i) => i % Math.ceil(inside.length / 7) === 0);
}

/** The axes, and what lies behind the data. */
function backdrop({ bands = [], rules = [] }, { x, y, left, right, top, bottom, height }) {
  const within = (value) => Math.min(right, Math.max(left, x.at(value)));
  const words = (at, text) => s("text", at, text);
  return s("g", { "aria-hidden": "true" },
    bands.map(({ from, to }) => s("rect.band", { x: within(from), y: top, width: within(to) - within(from), height: bottom - top })),
    ticks(x).map((tick) => words({ x: x.at(tick), y: bottom + 14, "text-anchor": "middle" }, short(tick))),
    ticks(y).map((tick) => [
      s("line.grid", { x1: left, x2: right, y1: y.at(tick), y2: y.at(tick) }),
      words({ x: left - 5, y: y.at(tick) + 3.5, "text-anchor": "end" }, short(tick)),
    ]),
    s("line.axis", { x1: left, x2: right, y1: bottom, y2: bottom }),
    rules.map((rule) => (missing(rule.y)
      ? [s("line.rule", { x1: x.at(rule.x), x2: x.at(rule.x), y1: top, y2: bottom }), words({ x: x.at(rule.x) + 3, y: top + 9 }, rule.label)]
      : [s("line.rule", { x1: left, x2: right, y1: y.at(rule.y), y2: y.at(rule.y) }), words({ x: right, y: y.at(rule.y) - 3, "text-anchor": "end" }, rule.label)])),
    words({ class: "name", x: (left + right) / 2, y: height - 5, "text-anchor": "middle" }, x.label),
    words({ class: "name", transform: `translate(11 ${(top + bottom) / 2}) rotate(-90)`, "text-anchor": "middle" }, y.label));
}

// -- one chart

/**
 * A chart.
 *
 * spec.title: text or a node, above; spec.says: what it shows, for those who do not see it; spec.note: below.
 * spec.x, spec.y: {label, domain, log (a base)}; without a domain that of the data.
 * spec.series: [{method, points: [{x, y, text, note, href, hollow, ring}], line (true, or other points), marks}].
 * spec.bars: [{from, to, y, method}]; spec.bands: [{from, to}]; spec.rules: [{x or y, label}].
 */
function chart(spec) {
  const { series = [], bars = [], rules = [], width = 340, height = 230 } = spec;
  const points = series.flatMap((one) => one.points);
  // The axes hold the rules, too, so that each is drawn inside the plot.
  const around = (key) => (spec[key].log ? extent : (values) => padded(extent(values)))([...points, ...rules].map((p) => p[key]));
  const x = { domain: bars.length ? [bars[0].from, bars[bars.length - 1].to] : around("x"), ...spec.x };
  const y = { domain: bars.length ? [0, 1.05 * Math.max(...bars.map((bar) => bar.y), 1)] : around("y"), ...spec.y };
  const box = { x, y, left: 50, right: width - 10, top: 8, bottom: height - 34, height };
  x.at = scale(x, box.left, box.right);
  y.at = scale(y, box.bottom, box.top);
  const hits = [];
  const links = points.some((p) => p.href);
  const svg = s("svg", { viewBox: `0 0 ${width} ${height}`, role: links ? "group" : "img", "aria-label": spec.says },
    backdrop(spec, box), bars.map((bar) => drawBar(bar, box, hits)), series.map((one) => drawSeries(one, box, hits)));
  hover(svg, hits);
  if (links) roving(svg);
  return h("figure.chart", spec.title && h("figcaption", spec.title), svg, spec.note && SITE.note(spec.note), twin(spec, series, bars));
}

function drawBar(bar, { x, y }, hits) {
  const [left, right, top] = [x.at(bar.from), x.at(bar.to), y.at(bar.y)];
  hits.push({ at: [(left + right) / 2, top], bar: [left, right], text: `${x.label} ${short(bar.from)} to ${short(bar.to)}: ${short(bar.y)} ${y.label}` });
  const rect = { x: left + 0.5, y: top, width: Math.max(0.5, right - left - 1), height: Math.max(0, y.at(0) - top), fill: "currentColor" };
  return s("rect.accent", { ...(missing(bar.method) ? {} : look(bar.method)), ...rect });
}

function drawSeries({ method, points, line, marks = true }, { x, y }, hits) {
  const known = (p) => !missing(p.x) && !missing(p.y);
  const inside = ({ domain: [low, high] }, value) => value >= low && value <= high;
  const group = s("g", look(method));
  const way = (Array.isArray(line) ? line : points).filter(known);
  if (line && way.length) {
    const d = way.map((p, i) => `${i ? "L" : "M"}${x.at(p.x).toFixed(1)} ${y.at(p.y).toFixed(1)}`).join("");
    group.append(s("path.line", { d, "stroke-dasharray": dash(method) }));
  }
  for (const p of points.filter((p) => known(p) && inside(x, p.x) && inside(y, p.y))) {
    const at = [x.at(p.x), y.at(p.y)];
    hits.push({ text: `${SITE.label.method(method)}: ${x.label} ${short(p.x)}, ${y.label} ${num(p.y)}`, ...p, at });
    if (!marks) continue;
    const place = { transform: `translate(${at[0].toFixed(1)} ${at[1].toFixed(1)})` };
    const mark = [s(p.hollow ? "path.hollow" : "path.full", { d: shape(method) }), p.ring && s("circle.hollow", { r: 6.5 })];
    group.append(p.href ? s("a", { ...place, href: p.href, "aria-label": p.text, tabindex: -1 }, mark) : s("g", place, mark));
  }
  return group;
}

// -- pointing

const tip = h("", { id: "tip", role: "tooltip", hidden: true });

function tell(text, x, y) {
  if (!tip.isConnected) document.body.append(tip);
  tip.textContent = text;
  tip.hidden = false;
  const { width, height } = tip.getBoundingClientRect();
  tip.style.left = `${Math.max(4, Math.min(x - width / 2, innerWidth - width - 4))}px`;
  tip.style.top = `${y - height > 12 ? y - height - 12 : y + 16}px`;
}

const hush = () => {
  tip.hidden = true;
};

/** What is nearest to the pointer says its numbers; a click follows its link. */
function hover(svg, hits) {
  const nearest = (event) => {
    const box = svg.getBoundingClientRect();
    const by = svg.viewBox.baseVal.width / box.width;
    const [x, y] = [(event.clientX - box.left) * by, (event.clientY - box.top) * by];
    const far = ({ at, bar }) => (bar ? (x >= bar[0] && x < bar[1] ? 0 : Infinity) : Math.hypot(at[0] - x, at[1] - y));
    const [best] = hits.filter((hit) => far(hit) < 16).sort((a, b) => far(a) - far(b));
    return best && { ...best, left: box.left + best.at[0] / by, top: box.top + best.at[1] / by };
  };
  svg.addEventListener("pointermove", (event) => {
    const hit = nearest(event);
    svg.style.cursor = hit?.href ? "pointer" : "";
    if (hit) tell(hit.text, hit.left, hit.top);
    else hush();
  });
  svg.addEventListener("pointerleave", hush);
  svg.addEventListener("click", (event) => {
    const hit = nearest(event);
    if (hit?.href && !event.target.closest("a")) SITE.go(hit.href);
  });
}

/** One stop for the tab key; arrow keys go from point to point, from left to right. */
function roving(svg) {
  const across = (a) => a.transform.baseVal[0].matrix.e;
  const order = [...svg.querySelectorAll("a")].sort((a, b) => across(a) - across(b));
  order[0]?.setAttribute("tabindex", 0);
  svg.addEventListener("keydown", (event) => {
    const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
    if (!step) return;
    event.preventDefault();
    const now = event.target.closest("a");
    const next = order[order.indexOf(now) + step];
    if (!next) return;
    now.setAttribute("tabindex", -1);
    next.setAttribute("tabindex", 0);
    next.focus();
  });
  svg.addEventListener("focusin", ({ target }) => {
    const { left, width, top } = target.getBoundingClientRect();
    if (target.matches(":focus-visible")) tell(target.getAttribute("aria-label"), left + width / 2, top);
  });
  svg.addEventListener("focusout", hush);
}

// -- tables

/** The numbers of a chart as a table. */
function twin({ x, y }, series, bars) {
  const rows = () => [
    ...series.flatMap(({ method, points }) => points.map((p) => [SITE.label.method(method), num(p.x, 4), num(p.y, 4), p.note])),
    ...bars.map((bar) => [`${short(bar.from)} to ${short(bar.to)}`, short(bar.y)]),
  ];
  const head = bars.length ? [x.label, y.label] : ["of", x.label, y.label, "trial"];
  return SITE.opened("Numbers", () => plainTable(head, rows(), "Numbers"));
}

/** What is made when it is opened. */
SITE.opened = (title, make) => h("details", { ontoggle: ({ target }) => {
  if (target.open && target.children.length < 2) target.append(make());
} }, h("summary", title));

/** A small table of text and nodes; without the columns that are empty. The first of a row names it. */
function plainTable(head, rows, about) {
  const kept = (row) => row.filter((_, i) => rows.some((one) => one[i]));
  const cell = (text, i) => (i ? h("td", text) : h("th", { scope: "row" }, text));
  return h(".scroll", { tabindex: 0, role: "group", "aria-label": about }, h("table",
    h("thead", h("tr", kept(head).map((text) => h("th", { scope: "col" }, text)))),
    h("tbody", rows.map((row) => h("tr", kept(row).map(cell))))));
}

Object.assign(SITE, { chart, extent, padded, methodLabel, plainTable, legend, hush });
})();

"use strict";

/**
 * Charts as SVG: points, lines and bars on linear or logarithmic axes. Each is a
 * <figure> with a table of its numbers below, made when it is opened. Colours are CSS
 * variables, so that a theme or a print changes them.
 */
(() => {
const { h, svg, decimals, threeFigures, isMissing } = SITE;
const SHAPES = { // Of markers, in a box from -4 to 4.
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
const DASHES = ["", "7 2 2 2", "2 1.5", "10 3", "5 1 1 1"]; // Of lines.
const BASELINE_DASH = "5 2"; // Of the line of what others are compared with.

// Of a marker with the page. A dark page has shades that are lighter than itself.
const LEAST_CONTRAST = { light: 3, dark: 5 };
const [BLACK, WHITE, DARK_PAPER] = [[0, 0, 0], [255, 255, 255], [22, 24, 29]];

// -- methods

/** Move a colour ("#rrggbb") towards another until it has a contrast with the page. */
function readableColour(hex, paper, towards, leastContrast) {
  const colour = [1, 3, 5].map((start) => parseInt(hex.slice(start, start + 2), 16));
  for (let share = 0; ; share += 0.05) {
    const mixed = colour.map((value, channel) =>
      Math.round(value + share * (towards[channel] - value)));
    const isReadable = contrastOf(mixed, paper) >= leastContrast;
    if (share >= 1 || isReadable) return `rgb(${mixed.join(" ")})`;
  }
}

/** Return the contrast of two colours, as WCAG 2 defines it. */
function contrastOf(first, second) {
  const luminances = [luminanceOf(first), luminanceOf(second)];
  return (Math.max(...luminances) + 0.05) / (Math.min(...luminances) + 0.05);
}

/** Return the relative luminance of a colour of sRGB, as WCAG 2 defines it. */
function luminanceOf(colour) {
  const toLinear = (value) =>
    (value <= 10 ? value / 3294.6 : ((value / 255 + 0.055) / 1.055) ** 2.4);
  const [red, green, blue] = colour.map(toLinear);
  return 0.2126 * red + 0.7152 * green + 0.0722 * blue;
}

/** Return attributes of an element that draws in a method's colour, in either theme. */
function colourOfMethod(method) {
  const { colour } = SITE.overview.methods[method] || {};
  const hex = /^#[0-9a-f]{6}$/i.test(colour) ? colour : "#777777";
  return {
    class: "of-method",
    style: {
      "--on-light": readableColour(hex, WHITE, BLACK, LEAST_CONTRAST.light),
      "--on-dark": readableColour(hex, DARK_PAPER, WHITE, LEAST_CONTRAST.dark),
    },
  };
}

/** Return the path of a method's marker. */
const shapeOfMethod = (method) =>
  SHAPES[SITE.overview.methods[method]?.marker] || SHAPES.o;

/** Return the dashes of a method's line. */
function dashOfMethod(method) {
  const { against, control } = SITE.overview.methods[method] || {};
  const isBaseline = isMissing(against) && !control;
  if (isBaseline) return BASELINE_DASH;
  return DASHES[Math.max(0, method - 1) % DASHES.length];
}

/** Return a method's marker and label: what legends, tables and headings show of it. */
function methodWithMarker(method) {
  const label = SITE.label.method(method);
  const marker = svg("svg.marker", { viewBox: "-6 -6 12 12", "aria-hidden": "true" },
    svg("path", { d: shapeOfMethod(method), fill: "currentColor" }));
  return h("span.method",
    h("span", colourOfMethod(method), marker),
    h("bdi", { title: label }, label));
}

/** Return the markers and labels of methods in a row. */
const legend = (methods) => h("p.legend", methods.map(methodWithMarker));

// -- axes

/** Return the lowest and the highest of some values, without those that are missing. */
function extentOf(values) {
  const known = values.filter((value) => !isMissing(value) && Number.isFinite(value));
  return known.length ? [Math.min(...known), Math.max(...known)] : [0, 1];
}

/** Make a domain a little wider than its values. */
function widened([low, high]) {
  const margin = 0.05 * (high - low) || Math.abs(low) * 0.05 || 0.5;
  return [low - margin, high + margin];
}

/** Return a function from the values of an axis to places between `start` and `end`. */
function scaleOf({ domain, log }, start, end) {
  const transform = log ? Math.log : (value) => value;
  const [low, high] = domain.map(transform);
  const length = high - low || 1;
  return (value) => start + ((transform(value) - low) / length) * (end - start);
}

/** Return the values at which an axis has ticks. */
function ticksOf({ domain: [low, high], log }) {
  if (log) return logTicks(low, high, log);
  const leastStep = (high - low) / 4;
  const power = 10 ** Math.floor(Math.log10(leastStep));
  const step = power * [1, 2, 5, 10].find((multiple) => multiple * power >= leastStep);
  const first = Math.ceil(low / step - 1e-9);
  const last = Math.floor(high / step + 1e-9);
  return SITE.range(last - first + 1).map((place) => (first + place) * step);
}

/** Return the ticks of a logarithmic axis, seven or so at most. */
function logTicks(low, high, base) {
  const multiples = base === 10 && high / low < 200 ? [1, 2, 5] : [1];
  const firstPower = base ** Math.floor(Math.log(low) / Math.log(base));
  const candidates = [];
  for (let power = firstPower; power <= high; power *= base) {
    for (const multiple of multiples) candidates.push(multiple * power);
  }
  const inside = candidates.filter((tick) => tick >= low && tick <= high);
  const every = Math.ceil(inside.length / 7);
  return inside.filter((_, place) => place % every === 0);
}

/** Draw the axes, and what lies behind the data. */
function drawBackdrop({ bands = [], rules = [] }, plot) {
  const { x, y, left, right, top, bottom, height } = plot;
  const [centre, middle] = [(left + right) / 2, (top + bottom) / 2];
  const text = (attributes, words) => svg("text", attributes, words);
  const xTicks = ticksOf(x).map((tick) =>
    text({ x: x.place(tick), y: bottom + 14, "text-anchor": "middle" },
      threeFigures(tick)));
  const yTicks = ticksOf(y).map((tick) => [
    svg("line.grid", { x1: left, x2: right, y1: y.place(tick), y2: y.place(tick) }),
    text({ x: left - 5, y: y.place(tick) + 3.5, "text-anchor": "end" },
      threeFigures(tick)),
  ]);
  return svg("g", { "aria-hidden": "true" },
    bands.map((band) => drawBand(band, plot)),
    xTicks,
    yTicks,
    svg("line.axis", { x1: left, x2: right, y1: bottom, y2: bottom }),
    rules.map((rule) => drawRule(rule, plot)),
    text({ class: "name", x: centre, y: height - 5, "text-anchor": "middle" }, x.label),
    text({
      class: "name",
      transform: `translate(11 ${middle}) rotate(-90)`,
      "text-anchor": "middle",
    }, y.label));
}

/** Shade what lies between two values of x, as far as it is inside the plot. */
function drawBand({ from, to }, { x, left, right, top, bottom }) {
  const placeInside = (value) => Math.min(right, Math.max(left, x.place(value)));
  const start = placeInside(from);
  const width = placeInside(to) - start;
  return svg("rect.band", { x: start, y: top, width, height: bottom - top });
}

/** Draw a line across the plot at a value of x or of y, with its label. */
function drawRule(rule, { x, y, left, right, top, bottom }) {
  if (isMissing(rule.y)) {
    const place = x.place(rule.x);
    return [
      svg("line.rule", { x1: place, x2: place, y1: top, y2: bottom }),
      svg("text", { x: place + 3, y: top + 9 }, rule.label),
    ];
  }
  const place = y.place(rule.y);
  return [
    svg("line.rule", { x1: left, x2: right, y1: place, y2: place }),
    svg("text", { x: right, y: place - 3, "text-anchor": "end" }, rule.label),
  ];
}

// -- one chart

/**
 * Draw a chart.
 *
 * spec.title: text or a node, above. spec.description: what it shows, for those who do
 *   not see it. spec.note: a text below.
 * spec.x, spec.y: {label, domain, log (a base)}; without a domain that of the data.
 * spec.series: [{method, points, line (whether one joins them), hasMarks}], with points
 *   {x, y, tooltip, note, href, isHollow, isRinged}.
 * spec.bars: [{from, to, y, method}]. spec.bands: [{from, to}].
 * spec.rules: [{x or y, label}]. spec.width, spec.height: of its viewBox.
 */
function drawChart(spec) {
  const { series = [], bars = [], width = 340, height = 230 } = spec;
  const points = series.flatMap((ofMethod) => ofMethod.points);
  const plot = layOut(spec, points, { width, height });
  const marks = [];
  const hasLinks = points.some((point) => point.href);
  const chart = svg("svg",
    {
      viewBox: `0 0 ${width} ${height}`,
      role: hasLinks ? "group" : "img",
      "aria-label": spec.description,
    },
    drawBackdrop(spec, plot),
    bars.map((bar) => drawBar(bar, plot, marks)),
    series.map((ofMethod) => drawSeries(ofMethod, plot, marks)));
  SITE.followPointer(chart, marks);
  if (hasLinks) SITE.walkByArrowKeys(chart);
  return h("figure.chart",
    spec.title && h("figcaption", spec.title),
    chart,
    spec.note && SITE.note(spec.note),
    numbersOf(spec, series, bars));
}

/**
 * Return the edges of the plot within its chart, and the axes: those of the spec, with
 * their domains and with `place(value)`, where a value lies.
 */
function layOut(spec, points, { width, height }) {
  const { bars = [], rules = [] } = spec;
  // The axes hold the rules, too, so that each is drawn inside the plot.
  const domainOf = (axis) => {
    const domain = extentOf([...points, ...rules].map((point) => point[axis]));
    return spec[axis].log ? domain : widened(domain);
  };
  const x = { domain: bars.length ? domainOfBars(bars) : domainOf("x"), ...spec.x };
  const y = { domain: bars.length ? domainOfHeights(bars) : domainOf("y"), ...spec.y };
  const edges = { left: 50, right: width - 10, top: 8, bottom: height - 34 };
  const plot = { x, y, ...edges, height };
  x.place = scaleOf(x, plot.left, plot.right);
  y.place = scaleOf(y, plot.bottom, plot.top);
  return plot;
}

/** Return where a row of bars begins and ends. */
const domainOfBars = (bars) => [bars[0].from, bars[bars.length - 1].to];

/** Return the domain of the heights of bars. */
const domainOfHeights = (bars) => [0, 1.05 * Math.max(...bars.map((bar) => bar.y), 1)];

/** Draw a bar, and add it to the marks that say their numbers. */
function drawBar(bar, { x, y }, marks) {
  const [left, right, top] = [x.place(bar.from), x.place(bar.to), y.place(bar.y)];
  const span = `${threeFigures(bar.from)} to ${threeFigures(bar.to)}`;
  marks.push({
    position: [(left + right) / 2, top],
    span: [left, right],
    tooltip: `${x.label} ${span}: ${threeFigures(bar.y)} ${y.label}`,
  });
  return svg("rect.accent", {
    ...(isMissing(bar.method) ? {} : colourOfMethod(bar.method)),
    x: left + 0.5,
    y: top,
    width: Math.max(0.5, right - left - 1),
    height: Math.max(0, y.place(0) - top),
    fill: "currentColor",
  });
}

/** Draw the line and the points of a method, and add them to the marks. */
function drawSeries({ method, points, line, hasMarks = true }, { x, y }, marks) {
  const isKnown = (point) => !isMissing(point.x) && !isMissing(point.y);
  const isInside = ({ domain: [low, high] }, value) => value >= low && value <= high;
  const group = svg("g", colourOfMethod(method));

  const known = points.filter(isKnown);
  if (line && known.length) {
    const steps = known.map((point, place) => {
      const left = x.place(point.x).toFixed(1);
      const top = y.place(point.y).toFixed(1);
      return `${place ? "L" : "M"}${left} ${top}`;
    });
    const dash = dashOfMethod(method);
    group.append(svg("path.line", { d: steps.join(""), "stroke-dasharray": dash }));
  }

  for (const point of known) {
    if (!isInside(x, point.x) || !isInside(y, point.y)) continue;
    const position = [x.place(point.x), y.place(point.y)];
    const numbers =
      `${x.label} ${threeFigures(point.x)}, ${y.label} ${decimals(point.y)}`;
    const tooltip = point.tooltip ?? `${SITE.label.method(method)}: ${numbers}`;
    marks.push({ position, tooltip, href: point.href });
    if (hasMarks) group.append(drawPoint(point, method, position));
  }
  return group;
}

/** Draw a point with its method's marker: a link, if it has an address. */
function drawPoint({ href, tooltip, isHollow, isRinged }, method, [left, top]) {
  const transform = `translate(${left.toFixed(1)} ${top.toFixed(1)})`;
  const mark = [
    svg(isHollow ? "path.hollow" : "path.full", { d: shapeOfMethod(method) }),
    isRinged && svg("circle.hollow", { r: 6.5 }),
  ];
  if (!href) return svg("g", { transform }, mark);
  return svg("a", { transform, href, "aria-label": tooltip, tabindex: -1 }, mark);
}

/** Return the numbers of a chart as a table, to open. */
function numbersOf({ x, y }, series, bars) {
  const rowsOfSeries = ({ method, points }) => points.map((point) => [
    SITE.label.method(method), decimals(point.x, 4), decimals(point.y, 4), point.note,
  ]);
  const rowOfBar = (bar) =>
    [`${threeFigures(bar.from)} to ${threeFigures(bar.to)}`, threeFigures(bar.y)];
  const makeTable = () => SITE.plainTable(
    bars.length ? [x.label, y.label] : ["of", x.label, y.label, "trial"],
    [...series.flatMap(rowsOfSeries), ...bars.map(rowOfBar)],
    "Numbers");
  return SITE.opened("Numbers", makeTable);
}

Object.assign(SITE, { drawChart, extentOf, widened, methodWithMarker, legend });
})();

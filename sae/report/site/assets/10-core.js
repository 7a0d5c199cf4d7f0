"use strict";

/**
 * What every script shares: elements, numbers as text, addresses, and data that arrives by added <script> elements
 * (a page on file:// may not fetch). One global, SITE; the later scripts put their parts into it. Each script is one
 * function, not indented, so that nothing else is global.
 */
const SITE = (() => {
const asked = new Map(); // name: {promise, resolve}, of data files
const made = new Map(); // name: promise of what was unpacked from one
const KEPT = 12; // unpacked files that stay in memory

// -- elements

/**
 * An element: h("p.soft", {id: "x"}, child, ...). The tag may name classes, and is a div where it names nothing else;
 * attributes may be left out, `on...` are listeners, null and false are skipped. Children are nodes, text or lists of
 * them: a name from the data is never read as HTML.
 */
const h = (tag, ...rest) => filled((name) => document.createElement(name), tag, rest);

/** The same of SVG. */
const s = (tag, ...rest) => filled((name) => document.createElementNS("http://www.w3.org/2000/svg", name), tag, rest);

const there = (value) => value !== null && value !== undefined && value !== false;

function filled(create, tag, children) {
  const [name, ...classes] = tag.split(".");
  const element = create(name || "div");
  if (classes.length) element.setAttribute("class", classes.join(" "));
  const attrs = children[0]?.constructor === Object ? children.shift() : {};
  for (const [key, value] of Object.entries(attrs)) {
    if (!there(value)) continue;
    if (key.startsWith("on")) element.addEventListener(key.slice(2), value);
    else if (key === "style") for (const [of, set] of Object.entries(value)) element.style.setProperty(of, set);
    else element.setAttribute(key, value === true ? "" : value);
  }
  element.append(...children.flat(4).filter(there));
  return element;
}

/** A name from the data: it keeps its own direction, whatever stands around it. */
const name = (text) => h("bdi", String(text));
const link = (to, ...text) => h("a", { href: to }, text);
const soft = (...text) => h("span.soft", text);
const note = (...text) => h("p.soft", text);

// -- numbers

const missing = (x) => x === null || x === undefined || Number.isNaN(x);
/** A function that writes numbers, and a dash where there is none. */
const writer = (write) => (x, ...how) => (missing(x) ? "–" : write(Number(x), ...how));

/** A number with so many decimals (3). */
const num = writer((x, digits = 3) => x.toFixed(digits).replace(/^-(0\.?0*)$/, "$1"));
const signed = writer((x, digits = 3) => (x < 0 ? "" : "+") + num(x, digits));
const count = writer((x) => x.toLocaleString("en"));
const pictures = writer((n) => `${count(n)} image${n === 1 ? "" : "s"}`);
/** A share as per cent, with a decimal where it is small. */
const share = writer((x) => `${num(100 * x, Math.abs(x) < 0.1 && x !== 0 ? 1 : 0)} %`);
/** About three figures, whatever the size. */
const short = writer((x) => String(Number(x.toPrecision(3))));

// -- data

/** A promise of the payload of data/{name}.js. */
function load(name) {
  if (asked.has(name)) return asked.get(name).promise;
  const entry = {};
  entry.promise = new Promise((resolve, reject) => {
    entry.resolve = resolve;
    const fail = (said) => () => {
      script.remove();
      reject(new Error(`data/${name}.js ${said}.`)); // No effect where its data came.
    };
    const script = h("script", { src: `data/${name}.js`, onload: fail("holds nothing of that name"), onerror: fail("is missing") });
    document.head.append(script);
  });
  asked.set(name, entry);
  entry.promise.catch(() => asked.delete(name));
  return entry.promise;
}

/** What a data file calls. */
const put = (name, payload) => asked.get(name)?.resolve(payload);

const TYPES = { u8: Uint8Array, u16: Uint16Array, u32: Uint32Array, f32: Float32Array };

/** A packed array as numbers: base64, gzip, little-endian. f16 becomes f32. */
async function unpack({ type, data }) {
  const bytes = Uint8Array.fromBase64?.(data) ?? Uint8Array.from(atob(data), (c) => c.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  const buffer = await new Response(stream).arrayBuffer();
  if (type !== "f16") return new TYPES[type](buffer);
  const table = halves();
  return Float32Array.from(new Uint16Array(buffer), (bits) => table[bits]);
}

/** The value of each of the 65,536 half floats: faster than decoding each, and needs no Float16Array. */
function halves() {
  halves.table ??= Float32Array.from({ length: 65536 }, (_, bits) => {
    const [exponent, part] = [(bits >> 10) & 31, bits & 1023];
    let value = exponent ? 2 ** (exponent - 15) * (1 + part / 1024) : part / 2 ** 24;
    if (exponent === 31) value = part ? NaN : Infinity;
    return bits & 0x8000 ? -value : value;
  });
  return halves.table;
}

/** A payload with every packed array in it unpacked. */
async function unpacked(value) {
  if (value === null || typeof value !== "object") return value;
  if (typeof value.data === "string" && typeof value.type === "string") return unpack(value);
  if (Array.isArray(value)) return typeof value[0] === "object" ? Promise.all(value.map(unpacked)) : value;
  const pairs = Object.entries(value).map(async ([key, of]) => [key, await unpacked(of)]);
  return Object.fromEntries(await Promise.all(pairs));
}

/** A promise of data/{name}.js, unpacked and then handed through `make`; the latest ones are kept. */
function read(name, make = (payload) => payload) {
  const fresh = (payload) => {
    asked.delete(name); // The text of a file is not kept beside its numbers.
    return unpacked(payload);
  };
  const found = made.get(name) || load(name).then(fresh).then(make);
  made.delete(name);
  made.set(name, found); // The last is the latest.
  found.catch(() => made.delete(name));
  for (const old of [...made.keys()].slice(0, -KEPT)) made.delete(old);
  return found;
}

// -- addresses

/** The address of a view: href("latent", [dataset, backbone, k, method, 3], {with: "reg1"}). */
function href(view, parts = [], query = {}) {
  const path = [view, ...parts].filter((part) => part !== "").map(encodeURIComponent).join("/");
  const said = new URLSearchParams();
  for (const [key, value] of Object.entries(query)) {
    for (const one of [value].flat()) if (!missing(one) && one !== "") said.append(key, one);
  }
  return `#/${path}${said.size ? "?" + said : ""}`;
}

/** {view, parts, query} of a hash. */
function parse(hash) {
  const [path, query = ""] = hash.replace(/^#\/?/, "").split(/\?(.*)/s);
  const [view, ...parts] = path.split("/").filter((part) => part !== "").map(decodeURIComponent);
  return { view: view || "overview", parts, query: new URLSearchParams(query) };
}

/** Open an address. */
const go = (to) => {
  location.hash = to;
};

/** Write a filter into the address of the view that is shown, without leaving it. */
function remember(query) {
  const { view, parts } = SITE.route;
  history.replaceState(null, "", href(view === "overview" ? "" : view, parts, query));
  SITE.shown = location.hash;
}

return { views: {}, h, s, name, link, soft, note, missing, num, signed, count, pictures, share, short, put, load, read, href, parse, go, remember };
})();

"use strict";

/**
 * Data files. A page on file:// may not fetch, so each arrives by a <script> element
 * that is added, and hands its payload to `SITE.put`.
 */
(() => {
const { h } = SITE;
const KEPT_FILES = 12; // Unpacked files that stay in memory.
const ARRAY_TYPES = {
  u8: Uint8Array,
  u16: Uint16Array,
  u32: Uint32Array,
  f32: Float32Array,
};

const requests = new Map(); // {name of a data file: {promise, resolve}}
const unpackedFiles = new Map(); // {name: promise of what was made from its payload}

/** Return a promise of the payload of data/{name}.js, which stays in memory. */
SITE.loadPayload = (name) => {
  if (requests.has(name)) return requests.get(name).promise;

  const request = {};
  request.promise = new Promise((resolve, reject) => {
    request.resolve = resolve;
    // Where the payload has come, the promise is kept and a rejection has no effect.
    const failWith = (problem) => () => {
      script.remove();
      reject(new Error(`data/${name}.js ${problem}.`));
    };
    const script = h("script", {
      src: `data/${name}.js`,
      onload: failWith("holds nothing of that name"),
      onerror: failWith("is missing"),
    });
    document.head.append(script);
  });
  requests.set(name, request);
  request.promise.catch(() => requests.delete(name));
  return request.promise;
};

/** Take the payload of a data file: each file calls this. */
SITE.put = (name, payload) => requests.get(name)?.resolve(payload);

/**
 * Return a promise of data/{name}.js with its packed arrays unpacked, handed through
 * `make`. The files that were asked for last stay in memory.
 */
SITE.loadUnpacked = (name, make = (payload) => payload) => {
  const file = unpackedFiles.get(name) || unpackFile(name).then(make);
  // A map keeps its order: the file that was asked for last is the last one.
  unpackedFiles.delete(name);
  unpackedFiles.set(name, file);
  file.catch(() => unpackedFiles.delete(name));

  const names = [...unpackedFiles.keys()];
  for (const oldName of names.slice(0, -KEPT_FILES)) unpackedFiles.delete(oldName);
  return file;
};

/** Load a file and unpack it. */
async function unpackFile(name) {
  const payload = await SITE.loadPayload(name);
  requests.delete(name); // The text of a file is not kept beside its numbers.
  return unpackAll(payload);
}

/** Return a payload in which every packed array is unpacked. */
async function unpackAll(value) {
  if (value === null || typeof value !== "object") return value;
  const isPacked = typeof value.data === "string" && typeof value.type === "string";
  if (isPacked) return unpackArray(value);
  if (Array.isArray(value)) {
    const hasObjects = typeof value[0] === "object";
    return hasObjects ? Promise.all(value.map(unpackAll)) : value;
  }

  const unpackEntry = async ([key, part]) => [key, await unpackAll(part)];
  const entries = await Promise.all(Object.entries(value).map(unpackEntry));
  return Object.fromEntries(entries);
}

/** Return the numbers of a packed array: base64 of gzip of little-endian numbers. */
async function unpackArray({ type, data }) {
  const bytes = Uint8Array.fromBase64?.(data) ?? decodeBase64(data);
  const unzip = new DecompressionStream("gzip");
  const stream = new Blob([bytes]).stream().pipeThrough(unzip);
  const buffer = await new Response(stream).arrayBuffer();
  if (type !== "f16") return new ARRAY_TYPES[type](buffer);

  const values = halfFloatValues();
  return Float32Array.from(new Uint16Array(buffer), (bits) => values[bits]);
}

/** Decode base64 in browsers whose arrays cannot. */
const decodeBase64 = (text) =>
  Uint8Array.from(atob(text), (character) => character.charCodeAt(0));

/**
 * Return the value of each of the 65,536 half floats. To look values up is faster than
 * to decode each, and needs no Float16Array.
 */
function halfFloatValues() {
  halfFloatValues.table ??= Float32Array.from({ length: 65536 }, decodeHalfFloat);
  return halfFloatValues.table;
}

/** Return the value of a half float, whose bits are its place in the table. */
function decodeHalfFloat(_, bits) {
  const exponent = (bits >> 10) & 31;
  const fraction = bits & 1023;
  let value = fraction / 2 ** 24;
  if (exponent > 0) value = 2 ** (exponent - 15) * (1 + fraction / 1024);
  if (exponent === 31) value = fraction ? NaN : Infinity;
  return bits & 0x8000 ? -value : value;
}
})();

"use strict";

/**
 * The data as the views ask for it: cells by their address, methods by index or id, and what follows from one SAE's
 * sparse code (which images a latent fires on, what fires on an image, what fires together).
 */
(() => {
const { read, missing } = SITE;
const LISTS = ["datasets", "backbones", "methods", "cells", "saes", "scores", "fronts", "windows", "board", "claims", "effects", "start", "downloads", "answer", "latent_scores"];

/** The indices of a list. */
const upTo = (length) => Array.from({ length }, (_, i) => i);

/** Whether a number of a packed integer array stands for "none": it is the largest of its type. */
const none = (array, value) => value === undefined || value === 2 ** (8 * array.BYTES_PER_ELEMENT) - 1;

/** Read the overview once. Methods become indices, and each cell knows its number and its address. */
SITE.start = async () => {
  const o = await SITE.load("overview");
  for (const key of LISTS) o[key] ||= [];
  o.trials = { cell: [], method: [], ...o.trials };
  o.glossary ||= {};
  SITE.methodIndex = (method) => (typeof method === "number" ? method : o.methods.findIndex(({ id }) => id === method));
  for (const row of [o.saes, o.fronts, o.board, o.effects].flat()) row.method = SITE.methodIndex(row.method);
  o.trials.method = o.trials.method.map(SITE.methodIndex);
  o.cells.forEach((cell, index) => Object.assign(cell, { index, place: [cell.dataset, cell.backbone, cell.k] }));
  SITE.overview = o;
};

const labelled = (list, id) => SITE.overview[list].find((one) => one.id === id)?.label || String(id);
const score = (id) => SITE.overview.scores.find((one) => one.id === id);
SITE.label = {
  dataset: (id) => labelled("datasets", id),
  backbone: (id) => labelled("backbones", id),
  k: String,
  method: (i) => SITE.overview.methods[i]?.label || SITE.overview.methods[i]?.id || "?",
  score: (id) => score(id)?.label ?? (id.startsWith("ms_by_") ? `MS as ${labelled("backbones", id.slice(6))} sees it` : id),
  cell: (cell) => `${labelled("datasets", cell.dataset)}, ${labelled("backbones", cell.backbone)}, k\u00a0=\u00a0${cell.k}`,
};

/** A score of the overview, or a stand-in that says nothing. */
SITE.score = (id) => score(id) || { id, label: SITE.label.score(id), what: "" };

/** An error that says all there is to say: nothing is missing from the folder. */
SITE.answer = (text) => Object.assign(new Error(text), { isAnswer: true });

/** The cell of an address; without an address the first that has SAEs. */
SITE.cell = ([dataset, backbone, k]) => {
  const { cells } = SITE.overview;
  const found = dataset === undefined
    ? cells.find((cell) => cell.saes?.length > 1) || cells.find((cell) => cell.saes?.length) || cells[0]
    : cells.find((cell) => cell.dataset === dataset && cell.backbone === backbone && String(cell.k) === k);
  if (!found) throw SITE.answer("This experiment has no such dataset, backbone and k.");
  return found;
};

/** The SAEs of a cell that have a file, one a method: {n, id (the method's), and what the overview says}. */
SITE.saesOf = (cell) => {
  const { saes, methods } = SITE.overview;
  const found = new Map();
  for (const n of cell.saes || []) {
    const sae = saes[n];
    if (sae && !found.has(sae.method)) found.set(sae.method, { ...sae, n, id: methods[sae.method]?.id });
  }
  return [...found.values()].sort((a, b) => a.method - b.method);
};

/** The SAE of a method's id in a cell. */
SITE.saeOf = (cell, id) => {
  const saes = SITE.saesOf(cell);
  const found = id === undefined ? saes[0] : saes.find((sae) => sae.id === id);
  if (!found) throw SITE.answer("No SAE of this method has its latents on this site, for this dataset, backbone and k.");
  return found;
};

/** What others are compared with, and what is compared with it, as SAEs of a cell: [a, b], as far as they are there. */
SITE.pair = (cell, query = new URLSearchParams()) => {
  const saes = SITE.saesOf(cell);
  const of = (sae) => SITE.overview.methods[sae.method];
  const asked = (key) => saes.find(({ id }) => id === query.get(key));
  const plain = saes.filter((sae) => !of(sae).control);
  const first = asked("a") || plain.find((sae) => missing(of(sae).against)) || saes[0];
  const chosen = plain.filter((sae) => sae.chosen !== false);
  const others = [...chosen, ...plain, ...saes].filter((sae) => sae !== first);
  return [first, asked("b") || others.find((sae) => of(sae).against === first?.id) || others[0]];
};

// -- images

/** A promise of a cell's images: {size, id(i), group(i), shown(i), ...}; without a file, they know numbers alone. */
SITE.imagesOf = async (cell) => {
  const data = missing(cell.images) ? {} : await read(`images/${cell.images}`);
  const { ids, label, classes = [], place, sheets } = data;
  return {
    ...data,
    classes,
    number: cell.images,
    size: ids?.length,
    labelled: Boolean(label && classes.length),
    id: (i) => ids?.[i] ?? `image ${i}`,
    group: (i) => (label && !none(label, label[i]) ? classes[label[i]] : null),
    shown: (i) => Boolean(place && sheets && !none(place, place[i])),
    ...conceptsOfImages(data),
  };
};

/** What people call images: {concepts (names, or null), having(concept), conceptsOf(image), partners(image)}. */
function conceptsOfImages({ concepts, attributes = [] }) {
  const having = (concept) => [...concepts.image.slice(concepts.offsets[concept], concepts.offsets[concept + 1])];
  return {
    concepts: concepts?.names.length ? concepts.names : null,
    having,
    conceptsOf: (image) => upTo(concepts?.names.length ?? 0).filter((concept) => having(concept).includes(image)),
    partners: (image) => attributes.map((attribute) => partnersIn(attribute, image)).filter(Boolean),
  };
}

/** The images that differ from one in an attribute alone, {name, value, partners: [{image, value}]}; null where none does. */
function partnersIn({ name, values, value, drawing }, image) {
  if (none(drawing, drawing[image])) return null;
  const others = upTo(drawing.length).filter((other) => drawing[other] === drawing[image] && value[other] !== value[image]);
  return { name, value: values[value[image]], partners: others.map((other) => ({ image: other, value: values[value[other]] })) };
}

/**
 * A promise of how a cell's SAEs match concepts: {of(n), standsFor(n, latent)}; of(n) is null of an SAE that is not
 * scored, else {f1, standing(concept)}, which gives [{latent, alone}], the best alone first.
 */
SITE.conceptsOf = async (cell) => {
  const { saes = [] } = cell.concepts ? await read(`concepts/${cell.index}`) : {};
  const matches = new Map(saes.map(({ sae, f1, latents, alone }) => {
    const steps = f1.length ? latents.length / f1.length : 0;
    const standing = (concept) => upTo(steps).map((step) => concept * steps + step).filter((place) => !none(latents, latents[place]))
      .map((place) => ({ latent: latents[place], alone: alone[place] }));
    return [sae, { f1, standing }];
  }));
  const of = (n) => matches.get(n) ?? null;
  const standsFor = (n, latent) => upTo(of(n)?.f1.length ?? 0).filter((concept) => of(n).standing(concept).some((one) => one.latent === latent));
  return { of, standsFor };
};

// -- one SAE

/** A promise of an SAE: its numbers, with the questions that views ask of its code. */
SITE.sae = (n) => read(`saes/${n}`, (data) => new Sae(data));

class Sae {
  constructor({ m, images, latents = {}, codes, nearest, matches = [] }) {
    Object.assign(this, { m, images, latents, nearest, matches }, codes); // codes: offsets, image, value
  }

  /** On how many test images a latent fires. */
  active(j) {
    return this.offsets[j + 1] - this.offsets[j];
  }

  /** The images on which a latent fires, [{image, value}], highest first; of the first ones `most`. */
  firing(j, most = Infinity) {
    const from = this.offsets[j];
    return Array.from({ length: Math.min(most, this.active(j)) }, (_, i) => ({ image: this.image[from + i], value: this.value[from + i] }));
  }

  /** A column of the latents, or null where it was not computed. */
  column(id) {
    return this.latents[id] || null;
  }

  /** The main class of a latent, as a name, or null. */
  main(j, images) {
    const column = this.latents.top_class;
    return column && !none(column, column[j]) ? images.classes[column[j]] ?? null : null;
  }

  /** Whether its latents were matched with concepts on the test images. */
  get isNamed() {
    return Boolean(this.latents.named);
  }

  /** The concept that a latent tells best: {concept (a number, or null), f1, precision, recall, isName (above chance)}. */
  called(j) {
    const { concept, concept_f1: f1, concept_precision: precision, concept_recall: recall, named } = this.latents;
    if (!named) return { concept: null, isName: false };
    return { concept: none(concept, concept[j]) ? null : concept[j], f1: f1[j], precision: precision[j], recall: recall[j], isName: named[j] === 1 };
  }

  /** What fires on an image, [{latent, value, rank}], highest first; rank is its place among the latent's images. */
  firingOn(image) {
    const found = [];
    for (let at = 0, j = 0; at < this.image.length; at++) {
      if (this.image[at] !== image) continue;
      while (this.offsets[j + 1] <= at) j++;
      found.push({ latent: j, value: this.value[at], rank: at - this.offsets[j] });
    }
    return found.sort((a, b) => b.value - a.value);
  }

  /** Latents that fire together with one, [{latent, both, jaccard}], those that share most first. */
  together(j, most = 8) {
    const mine = new Uint8Array(this.images);
    for (let at = this.offsets[j]; at < this.offsets[j + 1]; at++) mine[this.image[at]] = 1;
    const found = [];
    for (let latent = 0; latent < this.m; latent++) {
      let both = 0;
      for (let at = this.offsets[latent]; at < this.offsets[latent + 1]; at++) both += mine[this.image[at]];
      const either = this.active(j) + this.active(latent) - both;
      if (both && latent !== j) found.push({ latent, both, jaccard: both / either });
    }
    return found.sort((a, b) => b.jaccard - a.jaccard).slice(0, most);
  }

  /** The latents nearest to one by decoder row, [{latent, cosine}]. */
  near(j) {
    if (!this.nearest) return [];
    const { latent, cosine } = this.nearest;
    const each = latent.length / this.m;
    const found = upTo(each).map((i) => ({ latent: latent[j * each + i], cosine: cosine[j * each + i] }));
    return found.filter((one) => !none(latent, one.latent));
  }

  /** The latent of another SAE (a number) with the highest decoder cosine, {latent, cosine}, or null. */
  match(j, sae) {
    const { latent, cosine } = this.matches.find((one) => one.sae === sae) || {};
    return latent && !none(latent, latent[j]) ? { latent: latent[j], cosine: cosine[j] } : null;
  }

  /** Of the latents that have a score, which share has less than latent j. */
  below(id, j) {
    const column = this.column(id);
    const known = column.filter((x) => !Number.isNaN(x));
    return known.filter((x) => x < column[j]).length / Math.max(1, known.length - 1);
  }
}

/** How many there are of each, [[what, count]], most first. */
SITE.counted = (values) => {
  const counts = new Map();
  for (const value of values) counts.set(value, (counts.get(value) || 0) + 1);
  return [...counts].sort((a, b) => b[1] - a[1]);
};

/** `most` of a list without repeats, in the list's order: by the seed, so that an address shows the same again. */
SITE.sample = (list, most, seed) => {
  let state = seed;
  const random = () => {
    state = (state * 1664525 + 1013904223) % 2 ** 32;
    return state / 2 ** 32;
  };
  const chosen = new Set();
  while (chosen.size < Math.min(most, list.length)) chosen.add(Math.floor(random() * list.length));
  return [...chosen].sort((a, b) => a - b).map((i) => list[i]);
};

Object.assign(SITE, { upTo });
})();

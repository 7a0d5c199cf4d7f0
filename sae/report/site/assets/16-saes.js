"use strict";

/** One SAE with its sparse code of the test images, and what views ask of it. */
(() => {
const { isNone, range } = SITE;

/** Return a promise of an SAE, by its number. */
SITE.loadSae = (number) => SITE.loadUnpacked(`saes/${number}`, (file) => new Sae(file));

class Sae {
  /** Take what the file of an SAE holds. */
  constructor({ m, images, latents = {}, names = null, codes, nearest, matches = [] }) {
    this.latentCount = m;
    this.imageCount = images;
    this.columns = latents; // {column: a value for each latent}
    this.names = names; // {name, precision, recall, threshold, often}, likewise
    this.nearest = nearest;
    this.matches = matches;
    // Latent j has the entries from offsets[j] to below offsets[j + 1].
    this.offsets = codes.offsets;
    this.imageOfEntry = codes.image;
    this.activationOfEntry = codes.value;
  }

  /** Whether there is such a latent. */
  hasLatent(latent) {
    return Number.isInteger(latent) && latent >= 0 && latent < this.latentCount;
  }

  /** Return on how many test images a latent fires. */
  timesActive(latent) {
    return this.offsets[latent + 1] - this.offsets[latent];
  }

  /**
   * Return the images on which a latent fires, [{image, value}], the highest activation
   * first: all of them, or the first ones, `most`.
   */
  firingImages(latent, most = Infinity) {
    const start = this.offsets[latent];
    return range(Math.min(most, this.timesActive(latent))).map((place) => ({
      image: this.imageOfEntry[start + place],
      value: this.activationOfEntry[start + place],
    }));
  }

  /** Return a column of the latents, or null where it was not computed. */
  column(id) {
    return this.columns[id] || null;
  }

  /** Return the name of the class that most images of a latent have, or null. */
  mainClass(latent, images) {
    const classes = this.columns.top_class;
    if (!classes || isNone(classes, classes[latent])) return null;
    return images.classes[classes[latent]] ?? null;
  }

  /** Whether names were sought for its latents. */
  get isNamed() {
    return Boolean(this.names);
  }

  /**
   * Return what a latent is called: its name, or null, with the precision and recall of
   * the name on test images from a threshold of activation on; and as a text what is
   * often on its highest training images, "" where there is nothing.
   */
  nameOf(latent) {
    if (!this.isNamed) return { name: null, often: "" };
    return {
      name: this.names.name[latent],
      precision: this.names.precision[latent],
      recall: this.names.recall[latent],
      threshold: this.names.threshold[latent],
      often: this.names.often[latent],
    };
  }

  /** Return how many latents have a name. */
  countNames() {
    return this.names.name.filter((name) => name !== null).length;
  }

  /**
   * Return the latents that fire on an image, [{latent, value, rank}], the highest
   * activation first. The rank is the image's place among those of the latent.
   */
  latentsOn(image) {
    const latents = [];
    let latent = 0;
    for (let entry = 0; entry < this.imageOfEntry.length; entry++) {
      if (this.imageOfEntry[entry] !== image) continue;
      while (this.offsets[latent + 1] <= entry) latent++;
      const rank = entry - this.offsets[latent];
      latents.push({ latent, value: this.activationOfEntry[entry], rank });
    }
    return latents.sort((first, second) => second.value - first.value);
  }

  /**
   * Return the latents that fire together with one, [{latent, sharedImages, jaccard}],
   * those that share the largest part of their images first.
   */
  firingTogether(latent, most = 8) {
    const isOnImage = new Uint8Array(this.imageCount);
    for (let entry = this.offsets[latent]; entry < this.offsets[latent + 1]; entry++) {
      isOnImage[this.imageOfEntry[entry]] = 1;
    }

    const together = [];
    for (const other of range(this.latentCount)) {
      let sharedImages = 0;
      for (let entry = this.offsets[other]; entry < this.offsets[other + 1]; entry++) {
        sharedImages += isOnImage[this.imageOfEntry[entry]];
      }
      if (other === latent || sharedImages === 0) continue;
      const imagesOfEither =
        this.timesActive(latent) + this.timesActive(other) - sharedImages;
      const jaccard = sharedImages / imagesOfEither;
      together.push({ latent: other, sharedImages, jaccard });
    }
    together.sort((first, second) => second.jaccard - first.jaccard);
    return together.slice(0, most);
  }

  /** Return the latents nearest to one by decoder row, [{latent, cosine}]. */
  nearestTo(latent) {
    if (!this.nearest) return [];
    const { latent: latents, cosine: cosines } = this.nearest;
    const nearestOfEach = latents.length / this.latentCount;
    return range(nearestOfEach)
      .map((step) => latent * nearestOfEach + step)
      .filter((place) => !isNone(latents, latents[place]))
      .map((place) => ({ latent: latents[place], cosine: cosines[place] }));
  }

  /**
   * Return the latent of another SAE with the highest decoder cosine, {latent, cosine},
   * or null. The other SAE is given by its number.
   */
  matchOf(latent, otherNumber) {
    const match = this.matches.find(({ sae }) => sae === otherNumber);
    if (!match || isNone(match.latent, match.latent[latent])) return null;
    return { latent: match.latent[latent], cosine: match.cosine[latent] };
  }

  /** Return the share of the latents with a score that have a lower one than this. */
  shareBelow(scoreId, latent) {
    const column = this.column(scoreId);
    const known = column.filter((value) => !Number.isNaN(value));
    const lower = known.filter((value) => value < column[latent]);
    return lower.length / Math.max(1, known.length - 1);
  }
}

/** Count how many there are of each value, [[value, count]], most frequent first. */
SITE.countEach = (values) => {
  const counts = new Map();
  for (const value of values) counts.set(value, (counts.get(value) || 0) + 1);
  return [...counts].sort((first, second) => second[1] - first[1]);
};

/**
 * Draw `most` of a list without repeats, in the list's order. A seed draws the same
 * ones each time, so that an address shows the same again.
 */
SITE.drawSample = (list, most, seed) => {
  let state = seed;
  const random = () => {
    state = (state * 1664525 + 1013904223) % 2 ** 32;
    return state / 2 ** 32;
  };
  const places = new Set();
  while (places.size < Math.min(most, list.length)) {
    places.add(Math.floor(random() * list.length));
  }
  const inOrder = [...places].sort((first, second) => first - second);
  return inOrder.map((place) => list[place]);
};
})();

"use strict";

/** The test images of a cell: ids, classes, and what people call them. */
(() => {
const { isMissing, range } = SITE;

/**
 * Whether a number of a packed integer array, or what is beyond its end, stands for
 * "none". The largest number of the array's type does.
 */
SITE.isNone = (array, value) =>
  value === undefined || value === 2 ** (8 * array.BYTES_PER_ELEMENT) - 1;

/**
 * Return a promise of the images of a cell. Besides what their file holds it has
 *
 *   number: of the file; missing where the cell has none, so that images are numbers.
 *   count: how many images there are; undefined without a file.
 *   isLabelled: whether they have classes.
 *   idOf(image), classOf(image): names; the class is null where an image has none.
 *   hasThumbnail(image).
 *   fillSquares: whether all thumbnails are square, without borders.
 *   pictureSize(image): {width, height} of its picture, in pixels; null without one.
 *   pictureSide: the longest side of any picture, in pixels; 0 where there are none.
 *   conceptNames: of the concepts that count, or null where there are none.
 *   imagesWith(concept): the images of a concept, a number.
 *   conceptsOf(image): the numbers of an image's concepts.
 *   partnersOf(image): see `partnersByAttribute`.
 */
SITE.loadImages = async (cell) => {
  const file = isMissing(cell.images)
    ? {}
    : await SITE.loadUnpacked(`images/${cell.images}`);
  const { ids, label, classes = [], place, sheets } = file;
  const { width = [], height = [] } = file.pictures ?? {};
  const hasClass = (image) => label && !SITE.isNone(label, label[image]);
  return {
    ...file,
    classes,
    number: cell.images,
    count: ids?.length,
    isLabelled: Boolean(label && classes.length),
    idOf: (image) => ids?.[image] ?? `image ${image}`,
    classOf: (image) => (hasClass(image) ? classes[label[image]] : null),
    hasThumbnail: (image) =>
      Boolean(place && sheets && !SITE.isNone(place, place[image])),
    pictureSize: (image) =>
      (width[image] ? { width: width[image], height: height[image] } : null),
    pictureSide: [...width, ...height].reduce((most, side) => Math.max(most, side), 0),
    ...conceptsOfImages(file),
  };
};

/** Return the part of the images that says what people call them. */
function conceptsOfImages({ concepts, attributes = [] }) {
  const conceptCount = concepts?.names.length ?? 0;
  const imagesWith = (concept) => {
    const start = concepts.offsets[concept];
    const end = concepts.offsets[concept + 1];
    return [...concepts.image.slice(start, end)];
  };
  return {
    conceptNames: conceptCount ? concepts.names : null,
    imagesWith,
    conceptsOf: (image) =>
      range(conceptCount).filter((concept) => imagesWith(concept).includes(image)),
    partnersOf: (image) => partnersByAttribute(attributes, image),
  };
}

/**
 * Return the images that differ from one in one attribute alone, a row for each
 * attribute in which any does: {name, value (the image's own), partners: [{image,
 * value}]}.
 */
function partnersByAttribute(attributes, image) {
  const rows = [];
  for (const { name, values, value, drawing } of attributes) {
    if (SITE.isNone(drawing, drawing[image])) continue;
    const partners = range(drawing.length).filter((other) =>
      drawing[other] === drawing[image] && value[other] !== value[image]);
    const valueOf = (other) => values[value[other]];
    rows.push({
      name,
      value: valueOf(image),
      partners: partners.map((other) => ({ image: other, value: valueOf(other) })),
    });
  }
  return rows;
}

/**
 * Return a promise of how the SAEs of a cell match concepts:
 *
 *   ofSae(number): null of an SAE that is not scored, else {f1, latentsFor(concept)}.
 *     f1 is a number for each concept; latentsFor gives [{latent, alone}], the latents
 *     that stand for a concept with the F1 of each by itself, the highest first.
 *   conceptsOf(number, latent): the concepts for which a latent of an SAE stands.
 */
SITE.loadConceptMatches = async (cell) => {
  const file = cell.concepts ? await SITE.loadUnpacked(`concepts/${cell.index}`) : {};
  const matchOfSae = new Map();
  for (const saeMatch of file.saes ?? []) {
    const latentsFor = (concept) => latentsThatStandFor(concept, saeMatch);
    matchOfSae.set(saeMatch.sae, { f1: saeMatch.f1, latentsFor });
  }

  const ofSae = (number) => matchOfSae.get(number) ?? null;
  const standsFor = (number, latent, concept) =>
    ofSae(number).latentsFor(concept).some((match) => match.latent === latent);
  return {
    ofSae,
    conceptsOf: (number, latent) => {
      const concepts = range(ofSae(number)?.f1.length ?? 0);
      return concepts.filter((concept) => standsFor(number, latent, concept));
    },
  };
};

/** Return the latents that stand for a concept, [{latent, alone}]. */
function latentsThatStandFor(concept, { f1, latents, alone }) {
  const mostOfConcept = f1.length ? latents.length / f1.length : 0;
  return range(mostOfConcept)
    .map((step) => concept * mostOfConcept + step)
    .filter((place) => !SITE.isNone(latents, latents[place]))
    .map((place) => ({ latent: latents[place], alone: alone[place] }));
}
})();

"use strict";

/**
 * One test image: what fires on it under two methods, as common, only here, only there.
 * And how to find an image.
 */
(() => {
const { h, bdi, link, note, section, href, openAddress, decimals, wholeNumber } = SITE;
const LEAST_COSINE = 0.5; // From which two latents count as common.
const MOST_FOUND = 60; // Images that a search shows.
const MAP_SIDE = 118; // Pixels of the image under a heatmap.

SITE.addView("image", {
  label: "Images",
  isOfCell: true,
  isLinkedFromCells: true,
  hasContent: (cell) => SITE.saesOf(cell).length > 0,
  show: showImage,
});

/** Show an image, or a search for one where the address names none. */
async function showImage({ parts, query }) {
  const cell = SITE.cellOf(parts);
  const pair = SITE.pairOf(cell, query).filter(Boolean);
  if (!pair.length) {
    throw SITE.notInExperiment("No SAE of this dataset, backbone and k has its latents "
      + "on this site.");
  }
  const [images, ...saes] = await Promise.all([
    SITE.loadImages(cell), ...pair.map(({ number }) => SITE.loadSae(number)),
  ]);
  const imageCount = images.count ?? saes[0].imageCount;
  const image = parts[3] === undefined ? "" : Number(parts[3]);
  const isImage = Number.isInteger(image) && image >= 0 && image < imageCount;
  if (image !== "" && !isImage) {
    throw SITE.notInExperiment(`There are images 0 to ${imageCount - 1}.`);
  }

  const partner = query.has("pair") ? Number(query.get("pair")) : null;
  const methods = { a: pair[0].methodId, b: pair[1]?.methodId };
  const context = { cell, images, imageCount, image, partner, methods };
  const bar = pickersBar(context, pair.length > 1 && partner === null);
  if (image === "") {
    const title = "What fires on an image?";
    return SITE.page(title, bar, finder(context), SITE.credit(images));
  }

  const sides = await Promise.all(pair.map(async (saeRow, place) => (
    { saeRow, sae: saes[place], mapsOf: await SITE.loadMaps(cell, saeRow, images) })));
  const openPair = (other) => imageHref(context, image, { ...methods, pair: other });
  return SITE.page(titleOf(context), bar,
    SITE.lackingNotice(cell, query),
    aboutImage(context),
    SITE.partnersSection(images, image, partner, openPair),
    partner === null
      ? latentsOfSides(context, sides)
      : await SITE.switchesSection(cell, images, image, partner),
    SITE.credit(images));
}

/** Return the address of an image of the cell, by default under the shown methods. */
const imageHref = ({ cell, methods }, image, filters = methods) =>
  href("image", [...cell.address, image], filters);

/** Return pickers of the cell, and of the two methods where they are shown. */
function pickersBar(context, hasMethods) {
  const { cell, image, methods } = context;
  const cellHref = (other) => {
    // Another dataset has other images.
    const sameImage = other.dataset === cell.dataset ? image : "";
    return href("image", [...other.address, sameImage], methods);
  };
  const methodPicker = (key, label) => {
    const open = (methodId) =>
      openAddress(imageHref(context, image, { ...methods, [key]: methodId }));
    return SITE.methodPicker(label, SITE.saesOf(cell), methods[key], open);
  };
  const methodPickers = () =>
    [methodPicker("a", "First method"), methodPicker("b", "Second method")];
  return SITE.cellBar(cell, cellHref, hasMethods && methodPickers());
}

/** Return the title of an image, or of a pair. */
function titleOf({ images, image, partner }) {
  const name = bdi(images.idOf(image));
  if (partner === null) return ["What fires on ", name];
  return ["What switches between ", name, " and ", bdi(images.idOf(partner))];
}

/** Return the image, its class and concepts, and links to other images. */
function aboutImage(context) {
  const { cell, images, imageCount, image, partner } = context;
  const className = images.classOf(image);
  const concepts = images.conceptsOf(image);
  const links = [
    image > 0 && link(imageHref(context, image - 1), "← Previous"),
    image < imageCount - 1 && link(imageHref(context, image + 1), "Next →"),
    link(imageHref(context, ""), "Find another"),
    partner !== null && link(imageHref(context, image), "All that fires on it"),
  ];
  return h(".bar",
    partner === null && SITE.picture(images, image, Math.max(128, images.pictureSide)),
    h("",
      h("p",
        `Test image ${image} of ${wholeNumber(imageCount)}`,
        className && [", class ", bdi(className)]),
      concepts.length > 0
        && h("p", "Concepts: ", SITE.conceptLinks(cell, images, concepts)),
      h("p.links", links)));
}

/** Return a search by id, class or number; without words it shows random images. */
function finder({ cell, images, imageCount, methods }) {
  const all = SITE.range(imageCount);
  const box = h("");
  const status = h("p.soft", { role: "status" });

  const search = (words) => {
    const searched = words.toLowerCase();
    return all.filter((image) => String(image) === searched
      || SITE.imageName(images, image).toLowerCase().includes(searched));
  };
  const statusOf = (words, foundCount) => {
    if (!words) return `${foundCount} of ${wholeNumber(imageCount)}, at random`;
    const limit = foundCount > MOST_FOUND ? `, the first ${MOST_FOUND} shown` : "";
    return `${wholeNumber(foundCount)} found${limit}`;
  };
  const show = (words) => {
    const found = words ? search(words) : SITE.drawSample(all, MOST_FOUND, Date.now());
    status.textContent = statusOf(words, found.length);
    const entries = found.slice(0, MOST_FOUND).map((image) => ({ image }));
    box.replaceChildren(SITE.strip(cell, images, entries, 64, methods));
  };
  show("");

  const showWords = ({ target }) => show(target.value.trim());
  const input = h("input", { type: "search", oninput: showWords });
  const showRandom = () => {
    input.value = "";
    show("");
  };
  return h("section",
    SITE.bar("Find an image", [
      SITE.field("Id, class or number", input),
      SITE.button("Random images", showRandom),
    ]),
    note("A click shows which latents fire on an image."),
    status,
    box);
}

// -- latents

/** Show what fires on an image, under one SAE or two, {saeRow, sae, mapsOf}. */
function latentsOfSides(context, sides) {
  if (sides.length > 1) return latentsOfTwo(context, sides);
  const activations = sides[0].sae.latentsOn(context.image);
  const cards = activations.map((activation) =>
    activationCard(context, sides[0], activation));
  return section("Latents that fire", h(".rows", cards));
}

/** Show the latents of two SAEs: those of both, and those of one alone. */
function latentsOfTwo(context, sides) {
  const [first, second] = sides;
  const { shared, onlyFirst, onlySecond } = shareLatents(context.image, first, second);
  const pairOfCards = ({ activation, other, cosine }) => [
    activationCard(context, first, activation),
    activationCard(context, second, other, `, cosine ${decimals(cosine, 2)}`),
  ];
  const sectionOfOne = (side, activations) => {
    const title = [
      "Only under ", bdi(SITE.label.method(side.saeRow.method)),
      ` (${activations.length})`,
    ];
    const cards = activations.map((activation) =>
      activationCard(context, side, activation));
    return section(title, h(".rows", cards));
  };
  return [
    section(`Under both (${shared.length})`,
      note("A latent and its match under the other method "
        + `(highest decoder cosine, ${LEAST_COSINE} or more) fire on this image.`),
      h(".pair", shared.flatMap(pairOfCards))),
    h(".pair", sectionOfOne(first, onlyFirst), sectionOfOne(second, onlySecond)),
  ];
}

/**
 * Pair the latents of two SAEs that fire on an image by decoder cosine, the most alike
 * first: each with its match, if that fires too, is alike, and is not yet paired.
 *
 * Returns {shared: [{activation, other, cosine}], onlyFirst, onlySecond}, where
 * activations are those of `latentsOn`.
 */
function shareLatents(image, first, second) {
  const ofFirst = first.sae.latentsOn(image);
  const ofSecond = second.sae.latentsOn(image);
  const unpaired =
    new Map(ofSecond.map((activation) => [activation.latent, activation]));
  const candidates = ofFirst
    .map((activation) => {
      const match = first.sae.matchOf(activation.latent, second.saeRow.number);
      return { activation, match };
    })
    .filter(({ match }) => match?.cosine >= LEAST_COSINE);
  candidates.sort((left, right) => right.match.cosine - left.match.cosine);

  const shared = [];
  for (const { activation, match } of candidates) {
    const other = unpaired.get(match.latent);
    if (!other) continue;
    unpaired.delete(match.latent);
    shared.push({ activation, other, cosine: match.cosine });
  }
  shared.sort((left, right) => right.activation.value - left.activation.value);
  const paired = new Set(shared.map(({ activation }) => activation));
  return {
    shared,
    onlyFirst: ofFirst.filter((activation) => !paired.has(activation)),
    onlySecond: [...unpaired.values()],
  };
}

/** Return the card of a latent that fires on the image, with its heatmap there. */
function activationCard(context, { saeRow, sae, mapsOf }, activation, more = "") {
  const { cell, images, image } = context;
  const { latent } = activation;
  const standing = SITE.activationText(sae, activation);
  const remark = [SITE.methodWithMarker(saeRow.method), ", ", standing, more];
  const card = SITE.latentCard({ cell, images, saeRow, sae, latent, remark });
  const map = SITE.takesMap(images, image, MAP_SIDE) && mapsOf(latent)(image);
  if (map) {
    const picture = SITE.picture(images, image, MAP_SIDE);
    picture.append(map);
    card.append(h("figure.where", picture, h("figcaption", "where on this image")));
  }
  return card;
}
})();

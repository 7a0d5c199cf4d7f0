"use strict";

/**
 * Images that differ in one attribute alone, and the latents that switch between two of
 * them: sections of the view of an image.
 */
(() => {
const { h, bdi, soft, note, section } = SITE;
const MOST_SHOWN = 6; // Latents of a column that are shown at once.

/**
 * Show the partners of an image by attribute, if it has any. Each opens the pair, at
 * the address that `hrefOf(partner)` gives; `openPartner` is that of the shown pair.
 */
SITE.partnersSection = (images, image, openPartner, hrefOf) => {
  const attributes = images.partnersOf(image);
  if (!attributes.length) return null;
  const partnerItem = ({ image: partner, value }) => {
    const isOpen = partner === openPartner && "true";
    return h("li",
      h("a", { href: hrefOf(partner), "aria-current": isOpen },
        SITE.thumbnail(images, partner, 64),
        h("span.caption", bdi(value))));
  };
  const attributeColumn = ({ name, value, partners }) => h("",
    h("h3", bdi(name), soft(" here ", bdi(value))),
    h("ul.strip", partners.map(partnerItem)));
  return section("Images that differ in one attribute alone",
    note("A click shows which latents switch."),
    h(".partners", attributes.map(attributeColumn)));
};

/** Show a pair, and under each method the latents that fire on one of the two alone. */
SITE.switchesSection = async (cell, images, first, second) => {
  const isSecond = ({ image }) => image === second;
  const attribute =
    images.partnersOf(first).find(({ partners }) => partners.some(isSecond));
  if (!attribute) {
    const problem = "These two images do not differ in one attribute alone.";
    throw SITE.notInExperiment(problem);
  }
  const sides = [
    { image: first, value: attribute.value },
    { image: second, value: attribute.partners.find(isSecond).value },
  ];
  const saeRows = SITE.saesOf(cell);
  const saes = await Promise.all(saeRows.map(({ number }) => SITE.loadSae(number)));
  const picture = ({ image, value }) => {
    const id = soft(bdi(images.idOf(image)));
    return h("figure",
      SITE.picture(images, image, Math.max(128, images.pictureSide)),
      h("figcaption", bdi(value), " ", id));
  };
  const switches = saeRows.map((saeRow, place) =>
    switchesOfSae({ cell, images, saeRow, sae: saes[place], sides }));
  return section(["Latents that switch with ", bdi(attribute.name)],
    h(".pair.both", sides.map(picture)),
    switches);
};

/** Show the latents of one SAE that fire on one image of a pair alone. */
function switchesOfSae({ cell, images, saeRow, sae, sides }) {
  const activations = sides.map(({ image }) => sae.latentsOn(image));
  const latents = activations.map((ofSide) =>
    new Set(ofSide.map(({ latent }) => latent)));
  const alone = activations.map((ofSide, side) =>
    ofSide.filter(({ latent }) => !latents[1 - side].has(latent)));
  const sharedCount = activations[0].length - alone[0].length;

  const card = (activation) => SITE.latentCard({
    cell,
    images,
    saeRow,
    sae,
    latent: activation.latent,
    remark: SITE.activationText(sae, activation),
    size: 40,
  });
  const rows = (shown) => h(".rows", shown.map(card));
  const column = (ofSide, side) => {
    const more = ofSide.slice(MOST_SHOWN);
    return h("",
      note("Only on ", h("b", bdi(sides[side].value)), ` (${ofSide.length})`),
      rows(ofSide.slice(0, MOST_SHOWN)),
      more.length > 0 && SITE.opened(`${more.length} more`, () => rows(more)));
  };
  return [
    h("h3", SITE.methodWithMarker(saeRow.method), soft(` ${sharedCount} fire on both`)),
    h(".pair", alone.map(column)),
  ];
}
})();

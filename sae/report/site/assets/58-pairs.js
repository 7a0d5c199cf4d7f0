"use strict";

/** Images that differ in one attribute alone, and the latents that switch between two of them: a part of the view of an image. */
(() => {
const { h, name, soft, note, section } = SITE;
const SHOWN = 6; // Latents of a column that are shown at once.

/** The partners of an image by attribute; each opens the pair at the address that `to(partner)` gives; `chosen` is open. */
SITE.partners = (images, image, chosen, to) => {
  const attributes = images.partners(image);
  const picture = ({ image: partner, value }) => h("li", h("a", { href: to(partner), "aria-current": partner === chosen && "true" },
    SITE.thumbnail(images, partner, 64), h("span.caption", name(value))));
  return attributes.length > 0 && section("Images that differ in one attribute alone", note("A click shows which latents switch."),
    h(".partners", attributes.map((attribute) => h("", h("h3", name(attribute.name), soft(" here ", name(attribute.value))),
      h("ul.strip", attribute.partners.map(picture))))));
};

/** A pair side by side, and for each method the latents that fire on one of the two alone. */
SITE.switches = async (cell, images, first, second) => {
  const attribute = images.partners(first).find(({ partners }) => partners.some(({ image }) => image === second));
  if (!attribute) throw SITE.answer("These two images do not differ in one attribute alone.");
  const value = attribute.partners.find(({ image }) => image === second).value;
  const sides = [{ image: first, value: attribute.value }, { image: second, value }];
  const all = SITE.saesOf(cell);
  const saes = await Promise.all(all.map(({ n }) => SITE.sae(n)));
  const picture = (side) => h("figure", SITE.thumbnail(images, side.image, 128), h("figcaption", name(side.value), " ", soft(name(images.id(side.image)))));
  return section(["Latents that switch with ", name(attribute.name)], h(".pair.both", sides.map(picture)),
    all.map((about, place) => ofMethod({ cell, images, about, sae: saes[place], sides })));
};

/** The latents of one SAE that fire on one image of a pair alone. */
function ofMethod({ cell, images, about, sae, sides }) {
  const firing = sides.map(({ image }) => sae.firingOn(image));
  const latents = firing.map((list) => new Set(list.map(({ latent }) => latent)));
  const alone = firing.map((list, side) => list.filter(({ latent }) => !latents[1 - side].has(latent)));
  const common = firing[0].length - alone[0].length;
  const line = ({ latent, value, rank }) => SITE.latentCard(cell, images, about, sae, latent, SITE.standing(sae, { latent, value, rank }), 6, 40);
  const columnOf = (list, side) => h("", note(`Only on `, h("b", name(sides[side].value)), ` (${list.length})`), h(".rows", list.slice(0, SHOWN).map(line)),
    list.length > SHOWN && SITE.opened(`${list.length - SHOWN} more`, () => h(".rows", list.slice(SHOWN).map(line))));
  return [h("h3", SITE.methodLabel(about.method), soft(` ${common} fire on both`)), h(".pair", alone.map(columnOf))];
}
})();

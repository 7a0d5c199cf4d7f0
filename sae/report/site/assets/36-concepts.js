"use strict";

/** Concepts, the keywords that people gave images: names of latents, and links. */
(() => {
const { h, bdi, link, decimals, href, withCommas } = SITE;

/** Return the address of a concept in a cell, given its name. */
SITE.conceptHref = (cell, conceptName) =>
  href("concept", [...cell.address, conceptName]);

/** Return a link to a concept, given its number. */
SITE.conceptLink = (cell, images, concept) => {
  const conceptName = images.conceptNames[concept];
  return link(SITE.conceptHref(cell, conceptName), bdi(conceptName));
};

/** Return links to concepts, given their numbers, with commas between. */
SITE.conceptLinks = (cell, images, concepts) =>
  withCommas(concepts.map((concept) => SITE.conceptLink(cell, images, concept)));

/** Say why a latent has no name: "" where it has one, or images have no concepts. */
SITE.whyUnnamed = (sae, images, latent) => {
  if (!images.conceptNames) return "";
  if (!sae.isNamed) return "name not scored here";
  return sae.nameOf(latent).isName ? "" : "no name";
};

/** Return a latent's name, "cat, F1 0.62", as nodes; null where it has none. */
SITE.latentName = (sae, images, latent) => {
  if (!images.conceptNames || SITE.whyUnnamed(sae, images, latent)) return null;
  const { concept, f1 } = sae.nameOf(latent);
  return [bdi(images.conceptNames[concept]), `, F1 ${decimals(f1, 2)}`];
};

/** Say of which of some SAEs the latents are not matched with concepts on test. */
SITE.notScoredNotice = (saes) => {
  if (!saes.length) return null;
  const names = saes.map(({ method }) => bdi(SITE.label.method(method)));
  return h("p.notice",
    "Not scored here: ", withCommas(names),
    ". Latents are matched with concepts where a protocol chose the SAE, and not of "
      + "methods that `concepts: { test: baselines }` in the config leaves out.");
};
})();

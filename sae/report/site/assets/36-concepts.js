"use strict";

/** Concepts, the keywords that people gave images: names of latents, links to concepts, and what was not scored. */
(() => {
const { h, name, link, soft, num, share, href, section } = SITE;

/** The address of a concept in a cell. */
SITE.conceptHref = (cell, concept) => href("concept", [...cell.place, concept]);

/** Concepts, by number, as links with commas between. */
SITE.conceptLinks = (cell, images, concepts) => concepts.map((concept, place) =>
  [place ? ", " : "", link(SITE.conceptHref(cell, images.concepts[concept]), name(images.concepts[concept]))]);

/** Why a latent has no name, in short; an empty text where it has one, or where images have no concepts. */
SITE.whyUnnamed = (sae, images, latent) => {
  if (!images.concepts) return "";
  if (!sae.isNamed) return "name not scored here";
  return sae.called(latent).isName ? "" : "no name";
};

/** What a latent is called, "cat, F1 0.62", as nodes; null where it has no name. */
SITE.latentName = (sae, images, latent) => {
  if (!images.concepts || SITE.whyUnnamed(sae, images, latent)) return null;
  const { concept, f1 } = sae.called(latent);
  return [name(images.concepts[concept]), `, F1 ${num(f1, 2)}`];
};

/** So many of some images, spread evenly over their order, since near-duplicates stand side by side. */
SITE.spread = (images, most) => {
  const shown = Math.min(most, images.length);
  return SITE.upTo(shown).map((place) => ({ image: images[Math.floor((place * images.length) / shown)] }));
};

/** Says of which of a cell's SAEs concepts are not scored on the test images; null where of none. */
SITE.unscored = (saes) => saes.length > 0 && h("p.notice", "Not scored here: ",
  saes.map(({ method }, place) => [place ? ", " : "", name(SITE.label.method(method))]),
  ". The experiment does not match the latents of these SAEs with concepts on the test images.");

/** How well the name of a latent that fires fits, and for which concepts it was chosen. */
SITE.aboutName = ({ cell, about, sae, images, j }, matching) => {
  if (!images.concepts) return null;
  if (!sae.isNamed) return section("Its name", SITE.unscored([about]));
  const { concept, f1, precision, recall, isName } = sae.called(j);
  const quoted = ["“", link(SITE.conceptHref(cell, images.concepts[concept]), name(images.concepts[concept])), "”"];
  const fit = `${share(precision)} of its images have it, and it fires on ${share(recall)} of those that do: F1 ${num(f1, 2)}`;
  const chosenFor = matching.standsFor(about.n, j);
  return section("Its name",
    h("p", isName ? [quoted, `: ${fit}.`] : ["No name. It fits ", quoted, ` best, but chance gives as much: ${fit}.`]),
    chosenFor.length > 0 && h("p", "Chosen on the training images to stand for ", SITE.conceptLinks(cell, images, chosenFor), "."),
    soft("On the test images; each group of near-duplicates counts as one image."));
};
})();

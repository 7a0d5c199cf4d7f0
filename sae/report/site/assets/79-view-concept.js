"use strict";

/** One concept: its images, and under each method the latents for it. */
(() => {
const { h, bdi, link, soft, note, section, href, decimals, wholeNumber } = SITE;
const MOST_IMAGES = 16;
const MOST_NAMED = 12; // Latents that have its name and are shown.

SITE.addView("concept", { under: "concepts", show: showConcept });

/** Show a concept. */
async function showConcept({ parts }) {
  const cell = SITE.cellOf(parts);
  if (!cell.concepts) return SITE.pageWithoutConcepts(cell);
  const [images, matches] = await Promise.all([
    SITE.loadImages(cell), SITE.loadConceptMatches(cell),
  ]);
  const name = parts[3];
  const concept = images.conceptNames.indexOf(name);
  if (concept < 0) {
    throw SITE.notInExperiment("This concept does not count among these images, "
      + "or is of another dataset.");
  }
  const { scored, others } = SITE.saesByConceptScore(cell, matches);
  const saes = await Promise.all(scored.map(({ number }) => SITE.loadSae(number)));
  const latentSections = scored.map((saeRow, place) =>
    latentsOfConcept({ cell, images, concept, matches, saeRow, sae: saes[place] }));
  return SITE.page(bdi(name),
    SITE.conceptPickers(cell, name),
    h("p.links", link(href("concepts", cell.address), "All concepts")),
    imagesOfConcept(cell, images, concept),
    SITE.words("names"),
    latentSections,
    SITE.notScoredNotice(others),
    SITE.credit(images));
}

/** Show images of a concept. */
function imagesOfConcept(cell, images, concept) {
  const all = images.imagesWith(concept);
  const shown = SITE.spreadEvenly(all, MOST_IMAGES);
  const hasMore = all.length > MOST_IMAGES;
  return section(`Test images of it (${wholeNumber(all.length)})`,
    SITE.strip(cell, images, shown.map((image) => ({ image }))),
    hasMore && note(`${MOST_IMAGES} of them, spread evenly.`));
}

/** Show the latents of one SAE that have a concept's name, then those chosen for it. */
function latentsOfConcept({ cell, images, concept, matches, saeRow, sae }) {
  const { f1, latentsFor } = matches.ofSae(saeRow.number);
  const standing = latentsFor(concept);
  const hasItsName = (latent) =>
    sae.nameOf(latent).name === images.conceptNames[concept];
  const named = SITE.range(sae.latentCount).filter(hasItsName);
  named.sort((first, second) =>
    sae.nameOf(second).precision - sae.nameOf(first).precision);
  const others = standing.filter(({ latent }) => !hasItsName(latent));

  const card = (latent, remark) =>
    SITE.latentCard({ cell, images, saeRow, sae, latent, remark, most: 10 });
  const namedCards = named.slice(0, MOST_NAMED).map((latent) => card(latent, ""));
  const otherCards = others.map(({ latent, alone }) =>
    card(latent, `F1 ${decimals(alone, 2)} for it`));
  const moreCount = named.length - MOST_NAMED;
  const f1Text = ` F1 ${decimals(f1[concept])}`;
  const title = [SITE.methodWithMarker(saeRow.method), soft(f1Text)];
  return section(title,
    named.length > 0 && [
      note("These have it as their name."),
      h(".cards", namedCards),
      moreCount > 0 && note(`and ${moreCount} more`),
    ],
    sae.isNamed && named.length === 0 && note("No latent has its name."),
    others.length > 0 && [
      note("Chosen on the training images to stand for it."),
      h(".cards", otherCards),
    ],
    standing.length === 0 && note("No latent stands for it."));
}
})();

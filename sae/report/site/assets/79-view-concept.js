"use strict";

/** One concept: its images, and under each method the latents that stand for it. */
(() => {
const { h, bdi, link, soft, note, section, href, decimals, wholeNumber } = SITE;
const MOST_IMAGES = 16;
const MOST_NAMED = 12; // Latents that have its name without standing for it.

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

/** Show the latents of one SAE that stand for a concept, then others of its name. */
function latentsOfConcept({ cell, images, concept, matches, saeRow, sae }) {
  const { f1, latentsFor } = matches.ofSae(saeRow.number);
  const standing = latentsFor(concept);
  const standingLatents = new Set(standing.map(({ latent }) => latent));
  const hasItsName = (latent) => {
    const name = sae.nameOf(latent);
    return name.isName && name.concept === concept;
  };
  const named = SITE.range(sae.latentCount)
    .filter((latent) => hasItsName(latent) && !standingLatents.has(latent));
  named.sort((first, second) => sae.nameOf(second).f1 - sae.nameOf(first).f1);

  const card = (latent, remark) =>
    SITE.latentCard({ cell, images, saeRow, sae, latent, remark, most: 10 });
  const standingCards = standing.map(({ latent, alone }) =>
    card(latent, hasItsName(latent) ? "" : `F1 ${decimals(alone, 2)} for it`));
  const namedCards = named.slice(0, MOST_NAMED).map((latent) => card(latent, ""));
  const moreCount = named.length - MOST_NAMED;
  const f1Text = ` F1 ${decimals(f1[concept])}`;
  const title = [SITE.methodWithMarker(saeRow.method), soft(f1Text)];
  return section(title,
    standing.length > 0
      ? note("Chosen on the training images to stand for it.")
      : note("No latent stands for it."),
    h(".cards", standingCards),
    named.length > 0 && [
      h("h3", "Others that have its name"),
      h(".cards", namedCards),
      moreCount > 0 && note(`and ${moreCount} more`),
    ]);
}
})();

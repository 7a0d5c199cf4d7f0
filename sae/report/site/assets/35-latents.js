"use strict";

/** What the views share on latents: their scores, short facts, cards, fields. */
(() => {
const { h, bdi, link, soft, note, href, openAddress, isMissing } = SITE;
const { decimals, percent, threeFigures, wholeNumber } = SITE;

// The scores that every experiment may have: a column of the latents, its label, and
// the score that is its mean over them. Others stand in the overview.
const LATENT_SCORES = [
  { id: "ms", label: "MS", meanId: "ms" },
  { id: "detection", label: "Detection", meanId: "detection" },
  { id: "purity", label: "Purity" },
  { id: "stability", label: "Stability", meanId: "stability" },
  { id: "spread", label: "Spread" },
];

/** Return the scores that the latents of an SAE have: {id, label, meanId, meaning}. */
SITE.latentScores = (sae) => {
  const { glossary, latent_scores: moreScores } = SITE.overview;
  const more = moreScores.map(({ id, label }) => ({ id, label, meanId: id }));
  const meaningOf = ({ id, label }) => {
    const listed = moreScores.find((score) => score.id === id);
    return listed?.what || glossary[id] || glossary[label];
  };
  return [...LATENT_SCORES, ...more]
    .filter(({ id }) => sae.column(id))
    .map((score) => ({ ...score, meaning: meaningOf(score) }));
};

/** Return the address of a latent. */
SITE.latentHref = (cell, saeRow, latent, filters) =>
  href("latent", [...cell.address, saeRow.methodId, latent], filters);

/** Say in short how often a latent fires, its scores and its main class. */
SITE.latentFacts = (sae, latent, images) => {
  const scores = SITE.latentScores(sae)
    .filter(({ id }) => !isMissing(sae.column(id)[latent]))
    .map(({ id, label }) => `${label} ${decimals(sae.column(id)[latent], 2)}`);
  const mainClass = sae.mainClass(latent, images);
  return note(
    [frequencyOf(sae, latent), ...scores].join(" · "),
    mainClass && [" · mostly ", bdi(mainClass)]);
};

/** Say on how many test images a latent fires. */
function frequencyOf(sae, latent) {
  const timesActive = sae.timesActive(latent);
  if (!timesActive) return "dead: fires on no test image";
  const images = `${wholeNumber(timesActive)} of ${wholeNumber(sae.imageCount)}`;
  return `fires on ${images} test images (${percent(timesActive / sae.imageCount)})`;
}

/**
 * Return a latent as a card: its name or number, its highest images, facts.
 *
 * remark: what is said of it beside its name. most: of its images. size: of each, in
 * pixels.
 */
SITE.latentCard = (options) => {
  const { cell, images, saeRow, sae, latent } = options;
  const { remark = "", most = 6, size = 48 } = options;
  const { name, precision, threshold } = sae.nameOf(latent);
  // Those of a latent with a name are the ones of which the name speaks.
  const firing = sae.firingImages(latent, most)
    .filter(({ value }) => name === null || value >= threshold);
  const besideName = name === null
    ? SITE.insteadOfName(sae, images, latent)
    : `precision ${decimals(precision, 2)}, latent ${latent}`;
  const title = name === null ? `Latent ${latent}` : bdi(name);
  const address = SITE.latentHref(cell, saeRow, latent);
  return h(".card",
    h("h3", link(address, title), " ",
      soft(besideName, besideName && remark && ", ", remark)),
    SITE.strip(cell, images, firing, size),
    SITE.latentFacts(sae, latent, images));
};

/** Say how strongly a latent fires on an image, and the image's rank among its own. */
SITE.activationText = (sae, { latent, value, rank }) => {
  const place = wholeNumber(rank + 1);
  const ofImages = SITE.imageCount(sae.timesActive(latent));
  return `activation ${threeFigures(value)}, no. ${place} of its ${ofImages}`;
};

/**
 * Return fields that open a latent: the one of a number, which the form that they stand
 * in opens, or a random one of the addresses that `candidates()` gives.
 */
SITE.latentFields = (sae, candidates) => {
  const jump = h("input", {
    name: "jump",
    type: "number",
    min: 0,
    max: sae.latentCount - 1,
    required: true,
  });
  const openRandom = () => {
    const addresses = candidates();
    const place = Math.floor(Math.random() * addresses.length);
    if (addresses.length) openAddress(addresses[place]);
  };
  return [
    SITE.field("Jump to latent", jump),
    h("button", "Open"),
    SITE.button("Random", openRandom),
  ];
};
})();

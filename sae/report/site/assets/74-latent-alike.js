"use strict";

/** What is like a latent: its match under another method, and latents of its SAE. */
(() => {
const { h, note, decimals, percent, openAddress, section } = SITE;

SITE.addSection("latent", showMatch);
SITE.addSection("latent", showNearest);
SITE.addSection("latent", showFiringTogether);

/** Show the most alike latent of another method beside a latent. */
async function showMatch({ cell, saeRow, sae, images, latent, firing, query }) {
  const candidates = SITE.saesOf(cell).filter(({ number }) =>
    number !== saeRow.number && sae.matchOf(latent, number));
  if (!candidates.length) return null;

  const otherRow = chooseOther(candidates, cell, query.get("with"));
  const other = await SITE.loadSae(otherRow.number);
  const match = sae.matchOf(latent, otherRow.number);
  const firingRows = new Set(firing.map(({ image }) => image));
  const sharedImages =
    other.firingImages(match.latent).filter(({ image }) => firingRows.has(image));

  const openOther = (methodId) => openAddress(SITE.latentHref(
    cell, saeRow, latent, { with: methodId, show: query.get("show") }));
  const picker =
    SITE.methodPicker("With", candidates, otherRow.methodId, openOther);
  const column = (shown) => h("",
    SITE.methodWithMarker(shown.saeRow.method),
    SITE.latentCard({ cell, images, ...shown, most: 12, size: 56 }));
  return section("Its match under another method",
    h("p",
      "The latent there whose decoder direction is most alike: "
        + `cosine ${decimals(match.cosine, 2)}, where 1 is the same direction. `
        + `Both fire on ${SITE.imageCount(sharedImages.length)}.`),
    SITE.bar("Match", picker),
    h(".pair",
      column({ saeRow, sae, latent }),
      column({ saeRow: otherRow, sae: other, latent: match.latent })));
}

/**
 * Choose the SAE whose latent is shown beside: that of the method that is asked for,
 * else the first or the second of the cell's pair, else any.
 */
function chooseOther(candidates, cell, askedMethodId) {
  const [first, second] = SITE.pairOf(cell);
  return candidates.find(({ methodId }) => methodId === askedMethodId)
    || candidates.find(({ number }) => number === first.number)
    || candidates.find(({ number }) => number === second.number)
    || candidates[0];
}

/** Show the latents whose decoder directions are nearest. */
function showNearest(context) {
  const nearest = context.sae.nearestTo(context.latent);
  const cards = nearest.map(({ latent, cosine }) =>
    SITE.latentCard({ ...context, latent, remark: `cosine ${decimals(cosine, 2)}` }));
  return cards.length > 0 && section("Nearest latents",
    note("By the cosine of decoder directions, in this SAE."),
    h(".cards", cards));
}

/** Show the latents that fire on images on which a latent fires. */
function showFiringTogether(context) {
  const { sae, latent: shownLatent } = context;
  const together = sae.timesActive(shownLatent) ? sae.firingTogether(shownLatent) : [];
  const cards = together.map(({ latent, sharedImages, jaccard }) => {
    const remark = `on ${SITE.imageCount(sharedImages)}, ${percent(jaccard)}`;
    return SITE.latentCard({ ...context, latent, remark });
  });
  return cards.length > 0 && section("Latents that fire together with it",
    note("By the share of images on which both fire, of those on which either does."),
    h(".cards", cards));
}
})();

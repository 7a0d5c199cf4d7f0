"use strict";

/** Concepts, the keywords that people gave images: names of latents, and links. */
(() => {
const { h, bdi, link, note, percent, wholeNumber, href, withCommas } = SITE;

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

/** Say what stands in place of a name, as nodes; "" where images have no concepts. */
SITE.insteadOfName = (sae, images, latent) => {
  if (!images.conceptNames) return "";
  if (!sae.isNamed) return "name not scored here";
  const { often } = sae.nameOf(latent);
  return often ? ["often: ", bdi(often)] : "no name";
};

/** Say how many latents of an SAE have a name, where names were sought. */
SITE.shareWithName = (sae) => {
  if (!sae.isNamed) return null;
  const count = sae.countNames();
  const counts = `${wholeNumber(count)} of ${wholeNumber(sae.latentCount)}`;
  return note(
    `${percent(count / sae.latentCount)} of the latents (${counts}) have a name: `
      + "a keyword shared by half or more of the test images on which one is high.");
};

/** Say which share of the latents has a name: of trained SAEs, and of controls. */
SITE.sharesWithName = () => {
  const { saes, methods } = SITE.overview;
  const named = saes.filter(({ scores }) => !SITE.isMissing(scores.names_share));
  const shareOf = (rows) => {
    const shares = rows.map(({ scores }) => scores.names_share);
    return percent(shares.reduce((sum, share) => sum + share, 0) / rows.length);
  };
  const trained = named.filter(({ method }) => !methods[method].control);
  if (!trained.length) return null;
  const ofControls = methods.map(({ label, control }, method) => {
    const rows = control ? named.filter((row) => row.method === method) : [];
    return rows.length > 0 && [", ", bdi(label), ` ${shareOf(rows)}`];
  });
  return ["Share of the latents that have one, on average: trained ", shareOf(trained),
    ofControls.filter(Boolean), "."];
};

/** Say of which of some SAEs the latents were not named, or matched with concepts. */
SITE.notScoredNotice = (saes) => {
  if (!saes.length) return null;
  const names = saes.map(({ method }) => bdi(SITE.label.method(method)));
  return h("p.notice",
    "Not scored here: ", withCommas(names),
    ". Latents are named, and matched with concepts, only where a protocol chose the "
      + "SAE, and not for methods that the config leaves out on test images.");
};
})();

"use strict";

/**
 * Two methods latent by latent, at ranks fixed beforehand: as in the paper's Figs. 2
 * and 3, nothing picked by hand.
 */
(() => {
const { h, bdi, link, soft, decimals, isMissing, section } = SITE;
const { href, openAddress, range } = SITE;
const RANKS = [0, 0.1, 0.25, 0.5]; // Shares of the latents in order, the highest first.
const MOST_OF_PART = 10; // Images that are shown of each part.

// Images on which a latent has to fire to be compared. Where fewer than ten latents
// fire on as many, it is as many as the tenth fires on.
const ENOUGH = 30;
const LATENTS_WITH_ENOUGH = 10;
const LEAST_ENOUGH = 3; // For one image that activates it most, moderately and least.

SITE.addView("compare", {
  label: "Compare",
  isOfCell: true,
  isLinkedFromCells: true,
  hasContent: (cell) => SITE.saesOf(cell).length > 1,
  show: showCompare,
});

/** Show two methods latent by latent. */
async function showCompare({ parts, query }) {
  const cell = SITE.cellOf(parts);
  const pair = SITE.pairOf(cell, query);
  if (!pair[1]) {
    throw SITE.notInExperiment("There are no two SAEs with their latents on this site, "
      + "for this dataset, backbone and k.");
  }
  const [images, ...saes] = await Promise.all([
    SITE.loadImages(cell), ...pair.map(({ number }) => SITE.loadSae(number)),
  ]);
  const filters = {
    a: pair[0].methodId,
    b: pair[1].methodId,
    by: query.get("by") === "latent" ? "latent" : "rank",
  };
  const { leastImages, rows } = latentsByRank(saes, filters.by);
  const columns = (latents) => h(".pair", pair.map((saeRow, side) =>
    latentColumn({ cell, images, saeRow, sae: saes[side], latent: latents[side] })));
  const rowSection = ({ rank, latents }) => {
    const highest = isRankedByMs(saes) ? "Highest MS" : "Fires most often";
    const title = rank ? `Rank ${100 * rank} %` : highest;
    return section(title, columns(latents));
  };
  return SITE.page("Two methods, latent by latent",
    pickersBar(cell, filters),
    SITE.lackingNotice(cell, query),
    SITE.notChosenNotice(pair),
    h("p",
      describeOrder(filters.by, rankingName(saes)),
      ` Ranks are fixed beforehand, over latents that fire on ${leastImages} test `
        + "images or more. Of each: the images that activate it most, moderately and "
        + "least."),
    SITE.cellLinks(cell, "compare"),
    rows.map(rowSection),
    !rows.length && h("p.notice", "No latent fires on enough images under both."),
    SITE.credit(images));
}

/** Return pickers of the cell, the methods, and what counts as the same latent. */
function pickersBar(cell, filters) {
  const compareHref = (other, change) =>
    href("compare", other.address, { ...filters, ...change });
  const open = (key) => (value) => openAddress(compareHref(cell, { [key]: value }));
  const saes = SITE.saesOf(cell);
  const sameLatent = [["rank", "at the same rank"], ["latent", "of the same number"]];
  return SITE.cellBar(cell, (other) => compareHref(other),
    SITE.methodPicker("First method", saes, filters.a, open("a")),
    SITE.methodPicker("Second method", saes, filters.b, open("b")),
    SITE.select("Latents", sameLatent, filters.by, open("by")));
}

/** Say which latents stand side by side. */
function describeOrder(by, ranking) {
  if (by === "rank") {
    return `Latents at the same rank of ${ranking}, each method by its own order.`;
  }
  return "The same latent under both: its number, and so its start in training. "
    + `Ranked by ${ranking} under the first.`;
}

/** Whether latents are ranked by MS: where both SAEs have it. */
const isRankedByMs = (saes) => saes.every((sae) => sae.column("ms"));

/** Return by what latents are ranked, in words. */
const rankingName = (saes) => (isRankedByMs(saes) ? "MS" : "how often they fire");

/**
 * Return the latents at each rank, {leastImages (on which they fire), rows: [{rank,
 * latents (one of each SAE)}]}. By "rank" each SAE has its own order; by "latent" they
 * have the order of the first, of the latents that fire often enough under both.
 */
function latentsByRank(saes, by) {
  const leastImages = Math.max(LEAST_ENOUGH, Math.min(ENOUGH, ...saes.map(tenthMost)));
  const valueOf = isRankedByMs(saes)
    ? (sae, latent) => sae.column("ms")[latent]
    : (sae, latent) => sae.timesActive(latent);
  const orders = saes.map((sae) => range(sae.latentCount)
    .filter((latent) => sae.timesActive(latent) >= leastImages)
    .filter((latent) => !isMissing(valueOf(sae, latent)))
    .sort((first, second) =>
      valueOf(sae, second) - valueOf(sae, first) || first - second));

  const ofSecond = new Set(orders[1]);
  const shared = orders[0].filter((latent) => ofSecond.has(latent));
  const usedOrders = by === "latent" ? [shared, shared] : orders;
  if (usedOrders.some((order) => !order.length)) return { leastImages, rows: [] };

  const latentAt = (order, rank) => order[Math.floor(rank * (order.length - 1))];
  const rows = RANKS.map((rank) =>
    ({ rank, latents: usedOrders.map((order) => latentAt(order, rank)) }));
  return { leastImages, rows };
}

/** Return on how many images the tenth most frequent latent of an SAE fires. */
function tenthMost(sae) {
  const timesActive = range(sae.latentCount).map((latent) => sae.timesActive(latent));
  timesActive.sort((first, second) => second - first);
  return timesActive[Math.min(LATENTS_WITH_ENOUGH - 1, sae.latentCount - 1)];
}

/** Return a latent with the images that activate it most, moderately and least. */
function latentColumn({ cell, images, saeRow, sae, latent }) {
  const firing = sae.firingImages(latent);
  const shownCount = Math.min(MOST_OF_PART, Math.floor(firing.length / 3));
  const part = (name, start) => {
    const entries = firing.slice(start, start + shownCount);
    return [soft(name), SITE.strip(cell, images, entries, 44)];
  };
  const { name, precision } = sae.nameOf(latent);
  const called = name === null
    ? SITE.insteadOfName(sae, images, latent)
    : [bdi(name), `, precision ${decimals(precision, 2)}`];
  const latentLink = link(SITE.latentHref(cell, saeRow, latent), `latent ${latent}`);
  return h(".card",
    h("h3", SITE.methodWithMarker(saeRow.method), ", ", latentLink, " ", soft(called)),
    SITE.latentFacts(sae, latent, images),
    part("most", 0),
    part("moderately", Math.floor((firing.length - shownCount) / 2)),
    part("least", firing.length - shownCount));
}
})();

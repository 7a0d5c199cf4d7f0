"use strict";

/** Two methods latent by latent, at ranks fixed beforehand: as in the paper's Figs. 2 and 3, nothing picked by hand. */
(() => {
const { h, link, soft, missing, section, go, upTo } = SITE;
const RANKS = [0, 0.1, 0.25, 0.5]; // Shares of the latents in the order of MS, the highest first.
const [ENOUGH, EACH] = [30, 10]; // Images on which a latent has to fire; images shown of each part.

SITE.views.compare = async ({ parts, query }) => {
  const cell = SITE.cell(parts);
  const pair = SITE.pair(cell, query);
  if (!pair[1]) throw SITE.answer("There are no two SAEs with their latents on this site, for this dataset, backbone and k.");
  const by = query.get("by") === "latent" ? "latent" : "rank";
  const [images, ...saes] = await Promise.all([SITE.imagesOf(cell), ...pair.map(({ n }) => SITE.sae(n))]);
  const state = { a: pair[0].id, b: pair[1].id, by };
  const to = (at, change) => SITE.href("compare", at.place, { ...state, ...change });
  const picker = (key, text) => SITE.methodPicker(text, SITE.saesOf(cell), state[key], (id) => go(to(cell, { [key]: id })));
  const score = saes.every((sae) => sae.column("ms")) ? "MS" : "how often they fire";
  const { enough, pairs } = matched(saes, by);
  const columns = (latents) => h(".pair", pair.map((about, i) => column(cell, images, about, saes[i], latents[i])));
  return SITE.page("Two methods, latent by latent",
    SITE.cellBar(cell, (at) => to(at), picker("a", "First method"), picker("b", "Second method"),
      SITE.select("Latents", [["rank", "at the same rank"], ["latent", "of the same number"]], by, (value) => go(to(cell, { by: value })))),
    SITE.lacking(cell, query), SITE.unchosen(pair), h("p", by === "rank" ? `Latents at the same rank of ${score}, each method by its own order.` : `The same latent under both: its number, and so its start in training. Ranked by ${score} under the first.`,
      ` Ranks are fixed beforehand, over latents that fire on ${enough} test images or more. Of each: the images that activate it most, middling and least.`),
    SITE.cellLinks(cell, "compare"),
    pairs.map(({ rank, latents }) => section(rank ? `Rank ${100 * rank} %` : `Highest ${score}`, columns(latents))),
    !pairs.length && h("p.notice", "No latent fires on enough images under both."), SITE.credit(images));
};

/** The latents at each rank, [{rank, latents: one of each SAE}], and on how many images they fire at least. */
function matched(saes, by) {
  const tenth = (sae) => upTo(sae.m).map((j) => sae.active(j)).sort((x, y) => y - x)[Math.min(9, sae.m - 1)];
  // Where fewer than ten fire so often: as often as the tenth. Three at least, for a top, a middle and a bottom one.
  const enough = Math.max(3, Math.min(ENOUGH, ...saes.map(tenth)));
  const score = saes.every((sae) => sae.column("ms")) ? (sae, j) => sae.column("ms")[j] : (sae, j) => sae.active(j);
  const own = saes.map((sae) => upTo(sae.m).filter((j) => sae.active(j) >= enough && !missing(score(sae, j)))
    .sort((x, y) => score(sae, y) - score(sae, x) || x - y));
  const there = new Set(own[1]);
  const shared = own[0].filter((j) => there.has(j));
  const orders = by === "latent" ? [shared, shared] : own;
  if (orders.some(({ length }) => !length)) return { enough, pairs: [] };
  return { enough, pairs: RANKS.map((rank) => ({ rank, latents: orders.map((order) => order[Math.floor(rank * (order.length - 1))]) })) };
}

function column(cell, images, about, sae, j) {
  const firing = sae.firing(j);
  const each = Math.min(EACH, Math.floor(firing.length / 3));
  const starts = { most: 0, middling: Math.floor((firing.length - each) / 2), least: firing.length - each };
  return h(".card", h("h3", SITE.methodLabel(about.method), ", ", link(SITE.latentHref(cell, about, j), `latent ${j}`), " ",
    soft(SITE.latentName(sae, images, j) ?? SITE.whyUnnamed(sae, images, j))), SITE.facts(sae, j, images),
    Object.entries(starts).map(([part, from]) => [soft(part), SITE.strip(cell, images, firing.slice(from, from + each), 44)]));
}
})();

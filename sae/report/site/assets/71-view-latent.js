"use strict";

/**
 * One latent: what activates it, how strongly and how often, what is like it. Its page
 * is made of the sections of the slot `latent`, which may be promises. Their context is
 * {cell, saeRow (of the overview), sae, images, latent, firing (the images on which it
 * fires, [{image, value}], the highest first), conceptMatches, query, mapOf (what is
 * drawn over a picture of it, `SITE.loadMaps`, where heatmaps are asked for)}.
 */
(() => {
const { h, bdi, link, soft, note, decimals, href, openAddress } = SITE;
const TURNS = { ArrowLeft: "prev", ArrowRight: "next" }; // What keys press: link types.

SITE.addView("latent", { under: "latents", show: showLatent });

/** Show a latent. */
async function showLatent({ parts, query }) {
  const cell = SITE.cellOf(parts);
  const saeRow = SITE.saeOf(cell, parts[3]);
  const latent = Number(parts[4]);
  const [sae, images, conceptMatches] = await Promise.all([
    SITE.loadSae(saeRow.number),
    SITE.loadImages(cell),
    SITE.loadConceptMatches(cell),
  ]);
  if (!sae.hasLatent(latent)) {
    throw SITE.notInExperiment(`This SAE has latents 0 to ${sae.latentCount - 1}.`);
  }

  const firing = sae.firingImages(latent);
  const isWhere = saeRow.where && query.get("show") === "where";
  const mapOf = isWhere
    ? (await SITE.loadMaps(cell, saeRow, images))(latent)
    : undefined;
  const context =
    { cell, saeRow, sae, images, latent, firing, conceptMatches, query, mapOf };
  const numberedName = [`Latent ${latent} of `, bdi(SITE.label.method(saeRow.method))];
  const { name, precision } = sae.nameOf(latent);
  const insteadOfName = SITE.insteadOfName(sae, images, latent);
  const title = name === null
    ? [numberedName, insteadOfName && soft(", ", insteadOfName)]
    : [bdi(name), soft(`, precision ${decimals(precision, 2)}`)];
  return SITE.page(title,
    note(name !== null && [numberedName, ", "], SITE.cellName(cell)),
    stepsBar(context),
    SITE.latentFacts(sae, latent, images),
    (isWhere || cell.where?.missing) && SITE.aboutMaps(cell, saeRow),
    firing.length === 0 && SITE.words("dead"),
    await Promise.all(SITE.sectionsOf("latent", context)),
    SITE.credit(images));
}

/** Return links and fields that lead to other latents of the SAE. */
function stepsBar({ cell, saeRow, sae, latent, query }) {
  const show = query.get("show");
  const latentHref = (other) => SITE.latentHref(cell, saeRow, other, { show });
  const openShown = (value) => openAddress(
    SITE.latentHref(cell, saeRow, latent, { with: query.get("with"), show: value }));
  const shown = [["", "picture"], ["where", "where"]];
  const step = (other, rel, text) =>
    sae.hasLatent(other) && h("a.button", { href: latentHref(other), rel }, text);
  const openLive = () => {
    const latents = SITE.range(sae.latentCount);
    return latents.filter((other) => sae.timesActive(other)).map(latentHref);
  };
  return SITE.bar("Other latents",
    [
      step(latent - 1, "prev", "← Previous"),
      step(latent + 1, "next", "Next →"),
      SITE.latentFields(sae, openLive),
      saeRow.where && SITE.select("Show", shown, show ?? "", openShown),
      link(href("latents", [...cell.address, saeRow.methodId]), "All latents"),
    ],
    ({ jump }) => openAddress(latentHref(jump.value)));
}

// Arrow keys turn latents, but not where they move in a field, a chart or a table.
addEventListener("keydown", (event) => {
  const rel = TURNS[event.key];
  if (!rel || SITE.route?.view !== "latent") return;
  const isElsewhere = event.target.closest("input, select, textarea, svg, .scroll");
  const hasModifier = event.ctrlKey || event.metaKey || event.altKey;
  if (isElsewhere || hasModifier) return;
  document.querySelector(`a.button[rel=${rel}]`)?.click();
});
})();

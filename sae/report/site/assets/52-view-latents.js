"use strict";

/** The table of one SAE's latents: sorted and filtered in place, with its state in the address. */
(() => {
const { h, name, link, soft, num, share, count, column, go, href, select } = SITE;
const OFTEN = 10; // Test images on which a latent fires to be shown at first.
const LINKED = 8; // Concepts that fit a search and are linked.

SITE.views.latents = async ({ parts, query }) => {
  const cell = SITE.cell(parts);
  const about = SITE.saeOf(cell, parts[3]);
  const [sae, images] = await Promise.all([SITE.sae(about.n), SITE.imagesOf(cell)]);
  const state = Object.fromEntries(["sort", "alive", "class", "find"].map((key) => [key, query.get(key) || ""]));
  const change = (key, value) => {
    state[key] = value;
    SITE.remember(state);
    fill();
  };
  const to = (j) => SITE.latentHref(cell, about, j);
  const scored = ["detection", "ms"].find((score) => sae.column(score));
  const [id, way] = (state.sort || scored || "often").split("-");
  // Scores of latents that fire on a few images rest on these few.
  const often = SITE.upTo(sae.m).some((j) => sae.active(j) >= OFTEN);
  const table = SITE.table({ label: "Latents", columns: columns(cell, to, sae, images), height: 58, sort: { id, down: way !== "up" }, sorted: (sort) => {
    state.sort = sort.id + (sort.down ? "" : "-up");
    SITE.remember(state);
  } });
  const said = h("p.soft", { role: "status" });
  const concepts = h("p");
  const fill = () => {
    const rows = SITE.upTo(sae.m).filter((j) => fits(j, state, sae, images, often));
    table.fill(rows);
    concepts.replaceChildren(...searched(cell, images, state.find));
    const only = !state.alive && often ? `: those that fire on ${OFTEN} test images or more` : "";
    said.textContent = `${count(rows.length)} of ${count(sae.m)} latents${only}`;
  };
  fill();
  const classes = images.labelled && sae.column("top_class") && select("Main class", [["", "any"], ...images.classes.map((of) => [of, of])], state.class, (value) => change("class", value));
  return SITE.page(["Latents of ", name(SITE.label.method(about.method))],
    SITE.cellBar(cell, (at) => href("latents", [...at.place, about.id]),
      SITE.methodPicker("Method", SITE.saesOf(cell), about.id, (of) => go(href("latents", [...cell.place, of])))),
    SITE.words("latents"),
    SITE.unchosen([about]), images.concepts && !sae.isNamed && SITE.unscored([about]),
    SITE.cellLinks(cell, "latents"),
    SITE.bar("Filters", [
      select("Show", [["", often ? `on ${OFTEN} images or more` : "alive"], ...(often ? [["1", "alive"]] : []), ["no", "dead"], ["all", "all"]], state.alive, (value) => change("alive", value)), classes,
      SITE.field(images.concepts ? "Number, class or concept" : "Number or class", h("input", { type: "search", value: state.find, oninput: ({ target }) => change("find", target.value.trim()) })),
      SITE.latentFields(sae.m, () => table.order().map(to))], ({ jump }) => go(to(jump.value))),
    concepts, said, table.node, SITE.credit(images));
};

/** Links to the concepts that were searched for, where the latents of every method are. */
function searched(cell, images, words) {
  if (!images.concepts || !words) return [];
  const fits = (concept) => images.concepts[concept].toLowerCase().includes(words.toLowerCase());
  const fitting = SITE.upTo(images.concepts.length).filter(fits);
  if (!fitting.length) return [];
  const more = fitting.length > LINKED && [", ", link(href("concepts", cell.place, { find: words }), `and ${fitting.length - LINKED} more`)];
  return ["Latents of every method for ", ...SITE.conceptLinks(cell, images, fitting.slice(0, LINKED)), more].flat(2).filter(Boolean);
}

/** Whether a latent is among those that are asked for; by default those that fire often, if there are any. */
function fits(j, { alive, class: group, find }, sae, images, often) {
  const active = sae.active(j);
  const fewest = Number(alive) || (often ? OFTEN : 1);
  if (alive === "no" ? active : alive !== "all" && active < fewest) return false;
  const main = sae.main(j, images) || "";
  const texts = [main, nameText(sae, images, j) ?? ""];
  const isFound = !find || String(j) === find || texts.some((text) => text.toLowerCase().includes(find.toLowerCase()));
  return (!group || main === group) && isFound;
}

/** The concept that a latent is called by, or null. */
function nameText(sae, images, j) {
  const { concept, isName } = images.concepts ? sae.called(j) : {};
  return isName ? images.concepts[concept] : null;
}

/** The columns of a latent's name and its F1, where names are scored. */
const nameColumns = (sae, images) => (images.concepts && sae.isNamed ? [
  { id: "name", label: "Name", less: true, value: (j) => nameText(sae, images, j),
    show: (j) => (nameText(sae, images, j) === null ? soft("no name") : name(nameText(sae, images, j))) },
  column("concept_f1", "F1 of name", "How well the latent's firing tells its name, on the test images.",
    (j) => (sae.called(j).isName ? sae.called(j).f1 : null), (f1) => num(f1, 2)),
] : []);

function columns(cell, to, sae, images) {
  const chance = sae.column("purity_null");
  const scores = SITE.latentScores(sae).map(({ id, label, what }) => {
    const values = sae.column(id);
    return id === "purity" && chance
      ? column(id, "Purity above chance", `${what ?? ""} Less what shuffled labels give.`, (j) => values[j] - chance[j], num)
      : column(id, label, what, (j) => values[j], num);
  });
  const main = (j) => sae.main(j, images);
  return [
    { id: "latent", label: "Latent", less: true, value: (j) => j, show: (j) => link(to(j), String(j)) },
    { id: "images", label: "Highest images", class: "pictures", show: (j) => SITE.strip(cell, images, sae.firing(j, 5), 44) },
    ...nameColumns(sae, images),
    ...scores,
    column("often", "Fires on", "Share of the test images on which it fires.", (j) => sae.active(j), count, { show: (j) => share(sae.active(j) / sae.images) }),
    ...(images.labelled && sae.column("top_class") ? [{ id: "class", label: "Main class", less: true, value: main, show: (j) => name(main(j) ?? "–") }] : []),
  ];
}
})();

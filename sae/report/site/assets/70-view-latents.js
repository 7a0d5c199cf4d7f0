"use strict";

/** The table of one SAE's latents, with its order and filters in the address. */
(() => {
const { h, bdi, link, soft, decimals, percent, wholeNumber, numberColumn } = SITE;
const { href, openAddress, range } = SITE;
const OFTEN = 10; // Test images on which a latent fires to be shown at first.
const MOST_LINKED = 8; // Concepts that fit a search and are linked.
const FILTERS = ["sort", "alive", "named", "class", "find"];

SITE.addView("latents", {
  label: "Latents",
  isOfCell: true,
  hasContent: (cell) => SITE.saesOf(cell).length > 0,
  show: showLatents,
});

/** Show the latents of an SAE. */
async function showLatents({ parts, query }) {
  const cell = SITE.cellOf(parts);
  const saeRow = SITE.saeOf(cell, parts[3]);
  const [sae, images] = await Promise.all([
    SITE.loadSae(saeRow.number), SITE.loadImages(cell),
  ]);
  const filters =
    Object.fromEntries(FILTERS.map((filter) => [filter, query.get(filter) || ""]));
  // Scores of latents that fire on a few images rest on these few.
  const hasFrequent = range(sae.latentCount).some((latent) =>
    sae.timesActive(latent) >= OFTEN);
  const latentHref = (latent) => SITE.latentHref(cell, saeRow, latent);
  const table = latentTable({ cell, sae, images, filters, latentHref });
  const status = h("p.soft", { role: "status" });
  const conceptLinks = h("p");

  const fill = () => {
    const latents = range(sae.latentCount).filter((latent) =>
      isShown(latent, { filters, sae, images, hasFrequent }));
    table.fill(latents);
    conceptLinks.replaceChildren(...linksToConcepts(cell, images, filters.find));
    const restriction = !filters.alive && hasFrequent
      ? `: those that fire on ${OFTEN} test images or more`
      : "";
    const shownCount = wholeNumber(latents.length);
    const allCount = wholeNumber(sae.latentCount);
    status.textContent = `${shownCount} of ${allCount} latents${restriction}`;
  };
  const changeFilter = (key, value) => {
    filters[key] = value;
    SITE.rememberFilters(filters);
    fill();
  };
  fill();

  const openMethod = (methodId) =>
    openAddress(href("latents", [...cell.address, methodId]));
  const shownHrefs = () => table.rowsInOrder().map(latentHref);
  const fields = [
    ...filterFields({ sae, images, filters, hasFrequent, changeFilter }),
    SITE.latentFields(sae, shownHrefs),
  ];
  return SITE.page(["Latents of ", bdi(SITE.label.method(saeRow.method))],
    SITE.cellBar(cell,
      (other) => href("latents", [...other.address, saeRow.methodId]),
      SITE.methodPicker("Method", SITE.saesOf(cell), saeRow.methodId, openMethod)),
    SITE.words("latents"),
    SITE.shareWithName(sae),
    SITE.notChosenNotice([saeRow]),
    images.conceptNames && !sae.isNamed && SITE.notScoredNotice([saeRow]),
    SITE.cellLinks(cell, "latents"),
    SITE.bar("Filters", fields, ({ jump }) => openAddress(latentHref(jump.value))),
    conceptLinks,
    status,
    table.node,
    SITE.credit(images));
}

// -- filters

/** Return the fields that filter the latents. */
function filterFields({ sae, images, filters, hasFrequent, changeFilter }) {
  const frequencies = [
    ["", hasFrequent ? `on ${OFTEN} images or more` : "alive"],
    ...(hasFrequent ? [["1", "alive"]] : []),
    ["no", "dead"],
    ["all", "all"],
  ];
  const classes = [["", "any"], ...images.classes.map((name) => [name, name])];
  const searched = images.conceptNames
    ? "Number, class or concept"
    : "Number or class";
  const change = (key) => (value) => changeFilter(key, value);
  return [
    SITE.select("Show", frequencies, filters.alive, change("alive")),
    sae.isNamed && SITE.select("Names", [["", "any or none"], ["1", "with a name"]],
      filters.named, change("named")),
    hasMainClasses(sae, images)
      && SITE.select("Main class", classes, filters.class, change("class")),
    SITE.searchField(searched, filters.find, change("find")),
  ];
}

/** Whether latents have a main class. */
const hasMainClasses = (sae, images) => images.isLabelled && sae.column("top_class");

/** Whether a latent is among those that the filters ask for. */
function isShown(latent, { filters, sae, images, hasFrequent }) {
  const timesActive = sae.timesActive(latent);
  if (!isFrequentEnough(timesActive, filters.alive, hasFrequent)) return false;
  const { name, often } = sae.nameOf(latent);
  if (filters.named && name === null) return false;
  const mainClass = sae.mainClass(latent, images) || "";
  if (filters.class && mainClass !== filters.class) return false;

  const words = filters.find;
  if (!words || String(latent) === words) return true;
  const texts = [mainClass, name ?? "", often];
  return texts.some((text) => text.toLowerCase().includes(words.toLowerCase()));
}

/**
 * Whether a latent fires as often as is asked: "no" times, "all" of them, a number, or
 * "", by default those that fire often if there are any.
 */
function isFrequentEnough(timesActive, asked, hasFrequent) {
  if (asked === "no") return timesActive === 0;
  if (asked === "all") return true;
  const least = Number(asked) || (hasFrequent ? OFTEN : 1);
  return timesActive >= least;
}

/** Return links to the concepts that fit a search, where every method's latents are. */
function linksToConcepts(cell, images, words) {
  if (!images.conceptNames || !words) return [];
  const fits = (concept) =>
    images.conceptNames[concept].toLowerCase().includes(words.toLowerCase());
  const fitting = range(images.conceptNames.length).filter(fits);
  if (!fitting.length) return [];

  const linked = SITE.conceptLinks(cell, images, fitting.slice(0, MOST_LINKED));
  const address = href("concepts", cell.address, { find: words });
  const others = `and ${fitting.length - MOST_LINKED} more`;
  const more = fitting.length > MOST_LINKED && [", ", link(address, others)];
  return ["Latents of every method for ", ...linked, more].flat(2).filter(Boolean);
}

// -- table

/** Return the table, which writes its order into the address. */
function latentTable({ cell, sae, images, filters, latentHref }) {
  const firstScore = ["detection", "ms"].find((score) => sae.column(score)) || "often";
  return SITE.table({
    label: "Latents",
    columns: latentColumns({ cell, sae, images, latentHref }),
    rowHeight: 58,
    ...SITE.sortedByAddress(filters, firstScore),
  });
}

/** Return the columns of the table, whose rows are latents, by number. */
function latentColumns({ cell, sae, images, latentHref }) {
  return [
    {
      id: "latent",
      label: "Latent",
      isLowFirst: true,
      value: (latent) => latent,
      show: (latent) => link(latentHref(latent), String(latent)),
    },
    {
      id: "images",
      label: "Highest images",
      class: "pictures",
      show: (latent) => SITE.strip(cell, images, sae.firingImages(latent, 5), 44),
    },
    ...nameColumns(sae, images),
    ...SITE.latentScores(sae).map((score) => scoreColumn(sae, score)),
    numberColumn({
      id: "often",
      label: "Fires on",
      meaning: "Share of the test images on which it fires.",
      value: (latent) => sae.timesActive(latent),
      show: (latent) => percent(sae.timesActive(latent) / sae.imageCount),
    }),
    ...classColumns(sae, images),
  ];
}

/** Return the columns of a latent's name and its precision, where names were sought. */
function nameColumns(sae, images) {
  if (!sae.isNamed) return [];
  const showName = (latent) => {
    const { name } = sae.nameOf(latent);
    return name === null ? soft(SITE.insteadOfName(sae, images, latent)) : bdi(name);
  };
  return [
    {
      id: "name",
      label: "Name",
      isLowFirst: true,
      value: (latent) => sae.nameOf(latent).name,
      show: showName,
    },
    numberColumn({
      id: "name_precision",
      label: "Precision",
      meaning: "Share of the test images with a high activation that have the name.",
      value: (latent) => sae.nameOf(latent).precision,
      format: (precision) => decimals(precision, 2),
    }),
  ];
}

/** Return the column of a score; of purity what is above chance, where known. */
function scoreColumn(sae, { id, label, meaning }) {
  const values = sae.column(id);
  const purityByChance = sae.column("purity_null");
  if (id === "purity" && purityByChance) {
    return numberColumn({
      id,
      label: "Purity above chance",
      meaning: `${meaning ?? ""} Less what shuffled labels give.`,
      value: (latent) => values[latent] - purityByChance[latent],
      format: decimals,
    });
  }
  const value = (latent) => values[latent];
  return numberColumn({ id, label, meaning, value, format: decimals });
}

/** Return the column of the main class, where there are classes. */
function classColumns(sae, images) {
  if (!hasMainClasses(sae, images)) return [];
  const mainClass = (latent) => sae.mainClass(latent, images);
  return [{
    id: "class",
    label: "Main class",
    isLowFirst: true,
    value: mainClass,
    show: (latent) => bdi(mainClass(latent) ?? "–"),
  }];
}
})();

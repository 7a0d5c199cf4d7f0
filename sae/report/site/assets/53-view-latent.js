"use strict";

/** One latent: what activates it, how strongly and how often, what is like it, here and under another method. */
(() => {
const { h, name, link, soft, note, num, short, share, count, missing, section, go, counted, strip, upTo } = SITE;
const [INTERVALS, EACH, BINS, MOST] = [6, 12, 30, 16];

SITE.views.latent = async ({ parts, query }) => {
  const cell = SITE.cell(parts);
  const about = SITE.saeOf(cell, parts[3]);
  const j = Number(parts[4]);
  const [sae, images, matching] = await Promise.all([SITE.sae(about.n), SITE.imagesOf(cell), SITE.conceptsOf(cell)]);
  if (!(Number.isInteger(j) && j >= 0 && j < sae.m)) throw SITE.answer(`This SAE has latents 0 to ${sae.m - 1}.`);
  const of = { cell, about, sae, images, j, firing: sae.firing(j) };
  const numbered = [`Latent ${j} of `, name(SITE.label.method(about.method))];
  const called = SITE.latentName(sae, images, j);
  const unnamed = SITE.whyUnnamed(sae, images, j);
  return SITE.page(called ?? [numbered, unnamed && soft(`: ${unnamed}`)],
    note(called && [numbered, ", "], SITE.cellName(cell)), steps(of), SITE.facts(sae, j, images),
    of.firing.length ? [highest(of), SITE.aboutName(of, matching), intervals(of), h(".pair", histogram(of), classes(of))]
      : SITE.words("dead"),
    scores(of), await match(of, query.get("with")), like(of), SITE.credit(images));
};

function steps({ cell, about, sae, j }) {
  const to = (latent) => SITE.latentHref(cell, about, latent);
  const step = (by, rel, text) => sae.offsets[j + by + 1] !== undefined && j + by >= 0 && h("a.button", { href: to(j + by), rel }, text);
  return SITE.bar("Other latents", [step(-1, "prev", "← Previous"), step(1, "next", "Next →"),
    SITE.latentFields(sae.m, () => upTo(sae.m).filter((i) => sae.active(i)).map(to)),
    link(SITE.href("latents", [...cell.place, about.id]), "All latents")], ({ jump }) => go(to(jump.value)));
}

/** Arrow keys turn latents, but not where they move in a field, a chart or a table. */
addEventListener("keydown", (event) => {
  const rel = { ArrowLeft: "prev", ArrowRight: "next" }[event.key];
  const isElsewhere = event.target.closest("input, select, textarea, svg, .scroll") || event.ctrlKey || event.metaKey || event.altKey;
  if (rel && SITE.route?.view === "latent" && !isElsewhere) document.querySelector(`a.button[rel=${rel}]`)?.click();
});

// -- its images

function highest({ cell, images, firing, j }) {
  const random = h("");
  const draw = (seed) => random.replaceChildren(strip(cell, images, SITE.sample(firing, MOST, seed)));
  let seed = j;
  draw(seed);
  return h(".pair", section("Images that activate it most", strip(cell, images, firing.slice(0, MOST))),
    section("Random ones of all that activate it", random, firing.length > MOST && SITE.button("Others", () => draw((seed += 1009)))));
}

/** Equal steps of activation from the highest to 0; of each the share of the images, and some spread over it. */
function intervals({ cell, images, firing }) {
  const top = firing[0].value;
  const place = ({ value }) => Math.min(INTERVALS - 1, Math.floor((1 - value / top) * INTERVALS));
  const rows = upTo(INTERVALS).map((i) => {
    const of = firing.filter((one) => place(one) === i);
    const some = upTo(Math.min(EACH, of.length)).map((at) => of[Math.floor((at * of.length) / Math.min(EACH, of.length))]);
    const [low, high] = [i + 1, i].map((step) => short(top * (1 - step / INTERVALS)));
    return h("", h("h3", `${low} to ${high} `, soft(`${SITE.pictures(of.length)}, ${share(of.length / firing.length)}`)), of.length > 0 && strip(cell, images, some, 52));
  });
  return section("Images by interval of activation", note(`Does it mean the same where it is weak? Of each interval up to ${EACH} images, spread evenly.`), h(".pair", rows));
}

function histogram({ firing, sae }) {
  const step = firing[0].value / BINS;
  const counts = new Array(BINS).fill(0);
  for (const { value } of firing) counts[Math.min(BINS - 1, Math.floor(value / step))]++;
  const bars = counts.map((y, i) => ({ from: i * step, to: (i + 1) * step, y }));
  return section("How strongly it fires", SITE.chart({ says: `Histogram of ${firing.length} activations up to ${short(firing[0].value)}`, bars,
    x: { label: "activation of the latent on an image" }, y: { label: "number of test images" },
    note: `The other ${count(sae.images - firing.length)} of ${count(sae.images)} test images do not activate it.` }));
}

function classes({ images, firing }) {
  if (!images.labelled) return null;
  const all = new Map(counted(images.label));
  const found = counted(firing.map(({ image }) => images.label[image])).filter(([of]) => images.classes[of] !== undefined);
  const bar = (kind, x) => h(`span.${kind}`, { style: { width: `${100 * x}%` } });
  const rows = found.slice(0, 10).map(([of, n]) => {
    const [here, base] = [n / firing.length, all.get(of) / images.size];
    return [name(images.classes[of]), [h("span.shares", bar("share", here), bar("base", base)), `${share(here)} (${count(n)})`], share(base)];
  });
  return found.length > 0 && section("Classes of its images", SITE.plainTable(["class", "of its images", "of all images"], rows, "Classes"),
    found.length > 10 && note(`and ${found.length - 10} more`));
}

// -- its scores, its like

/** Its scores beside what chance gives, what controls have in the mean, and the other latents of this SAE. */
function scores({ cell, about, sae, j }) {
  const { trials: t, methods } = SITE.overview;
  const controls = upTo(t.cell.length).filter((i) => t.cell[i] === cell.index && methods[t.method[i]].control);
  const chances = { detection: 0.5, purity: sae.column("purity_null")?.[j] };
  const rows = SITE.latentScores(sae).map(({ id, label: text, what, mean }) => {
    const value = sae.column(id)[j];
    const theirs = controls.filter((i) => !missing(t[`${mean}_test`]?.[i])).map((i) => `${SITE.label.method(t.method[i])} ${num(t[`${mean}_test`][i], 2)}`);
    return [h("span", { title: what }, text), num(value), num(chances[id] ?? cell.chance?.[id] ?? SITE.score(mean).chance),
      missing(value) ? "–" : `higher than ${share(sae.below(id, j))} of them`, mean && num(about.scores?.[mean]), theirs.join(", ")];
  });
  return rows.length > 0 && section("Its scores", SITE.plainTable(["score", "this latent", "by chance", "beside this SAE's latents", "their mean", "means of controls"], rows, "Scores"),
    SITE.terms(SITE.glossary(["MS", "detection", "purity", "stability", "chance"])));
}

async function match({ cell, about, sae, images, j, firing }, wanted) {
  const others = SITE.saesOf(cell).filter(({ n }) => n !== about.n && sae.match(j, n));
  if (!others.length) return null;
  const [a, b] = SITE.pair(cell);
  const other = [({ id }) => id === wanted, ({ n }) => n === a.n, ({ n }) => n === b.n, () => true].map((is) => others.find(is)).find(Boolean);
  const theirs = await SITE.sae(other.n);
  const { latent, cosine } = sae.match(j, other.n);
  const mine = new Set(firing.map(({ image }) => image));
  const both = theirs.firing(latent).filter(({ image }) => mine.has(image)).length;
  return section("Its match under another method",
    h("p", `The latent there whose decoder direction is most alike: cosine ${num(cosine, 2)}, where 1 is the same direction. Both fire on ${SITE.pictures(both)}.`),
    SITE.bar("Match", SITE.methodPicker("With", others, other.id, (id) => go(SITE.latentHref(cell, about, j, { with: id })))),
    h(".pair", [[about, sae, j], [other, theirs, latent]].map(([one, of, at]) =>
      h("", SITE.methodLabel(one.method), SITE.latentCard(cell, images, one, of, at, "", 12, 56)))));
}

function like({ cell, about, sae, images, j }) {
  const cards = (title, said, rows, of) => rows.length > 0 && section(title, note(said),
    h(".cards", rows.map((row) => SITE.latentCard(cell, images, about, sae, row.latent, of(row)))));
  return [
    cards("Nearest latents", "By the cosine of decoder directions, in this SAE.", sae.near(j), ({ cosine }) => `cosine ${num(cosine, 2)}`),
    cards("Latents that fire together with it", "By the share of images on which both fire, of those on which either does.", sae.active(j) ? sae.together(j) : [],
      ({ both, jaccard }) => `on ${SITE.pictures(both)}, ${share(jaccard)}`),
  ];
}
})();

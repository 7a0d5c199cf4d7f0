"use strict";

/** One test image: what fires on it under two methods, as common, only here, only there. And how to find an image. */
(() => {
const { h, name, link, note, num, count, section, go, credit, href, page } = SITE;
const ALIKE = 0.5; // The cosine from which two latents count as common.
const FOUND = 60;

SITE.views.image = async ({ parts, query }) => {
  const cell = SITE.cell(parts);
  const [a, b] = SITE.pair(cell, query);
  if (!a) throw SITE.answer("No SAE of this dataset, backbone and k has its latents on this site.");
  const [images, first, second] = await Promise.all([SITE.imagesOf(cell), SITE.sae(a.n), b && SITE.sae(b.n)]);
  const size = images.size ?? first.images;
  const i = parts[3] === undefined ? "" : Number(parts[3]);
  if (i !== "" && !(Number.isInteger(i) && i >= 0 && i < size)) throw SITE.answer(`There are images 0 to ${size - 1}.`);
  const methods = { a: a.id, b: b?.id };
  const partner = query.has("pair") ? Number(query.get("pair")) : null;
  const to = (at, said = methods) => href("image", [...cell.place, at], said);
  const picker = (key, text) => SITE.methodPicker(text, SITE.saesOf(cell), methods[key], (id) => go(to(i, { ...methods, [key]: id })));
  const bar = SITE.cellBar(cell, (at) => href("image", [...at.place, at.dataset === cell.dataset ? i : ""], methods),
    b && partner === null && [picker("a", "First method"), picker("b", "Second method")]);
  if (i === "") return page("What fires on an image?", bar, finder(cell, images, size, methods), credit(images));
  const at = { cell, images };
  const title = partner === null ? ["What fires on ", name(images.id(i))] : ["What switches between ", name(images.id(i)), " and ", name(images.id(partner))];
  return page(title, bar, SITE.lacking(cell, query),
    h(".bar", partner === null && SITE.thumbnail(images, i, 128), h("",
      h("p", `Test image ${i} of ${count(size)}`, images.group(i) && [", class ", name(images.group(i))]),
      images.conceptsOf(i).length > 0 && h("p", "Concepts: ", SITE.conceptLinks(cell, images, images.conceptsOf(i))),
      h("p.links", i > 0 && link(to(i - 1), "← Previous"), i < size - 1 && link(to(i + 1), "Next →"), link(to(""), "Find another"), partner !== null && link(to(i), "All that fires on it")))),
    SITE.partners(images, i, partner, (other) => to(i, { ...methods, pair: other })),
    partner !== null ? await SITE.switches(cell, images, i, partner)
      : b ? two(at, i, [a, first], [b, second]) : section("Latents that fire", h(".rows", first.firingOn(i).map((one) => card(at, [a, first], one)))),
    credit(images));
};

/** Search by id, class or number; without words a random handful. */
function finder(cell, images, size, methods) {
  const all = SITE.upTo(size);
  const [box, said] = [h(""), h("p.soft", { role: "status" })];
  const input = h("input", { type: "search", oninput: () => show() });
  const show = () => {
    const words = input.value.trim().toLowerCase();
    const found = words ? all.filter((i) => String(i) === words || SITE.imageName(images, i).toLowerCase().includes(words)) : SITE.sample(all, FOUND, Date.now());
    said.textContent = words ? `${count(found.length)} found${found.length > FOUND ? `, the first ${FOUND} shown` : ""}` : `${found.length} of ${count(size)}, at random`;
    box.replaceChildren(SITE.strip(cell, images, found.slice(0, FOUND).map((image) => ({ image })), 64, methods));
  };
  show();
  const random = SITE.button("Random images", () => {
    input.value = "";
    show();
  });
  return h("section", SITE.bar("Find an image", [SITE.field("Id, class or number", input), random]), note("A click shows which latents fire on an image."), said, box);
}

/** Latents of both, paired by decoder cosine: each with its match there, if that fires too and is alike. */
function two(at, i, a, b) {
  const here = a[1].firingOn(i);
  const left = new Map(b[1].firingOn(i).map((one) => [one.latent, one]));
  const pairs = here.map((one) => ({ one, ...a[1].match(one.latent, b[0].n) })).filter(({ cosine }) => cosine >= ALIKE).sort((x, y) => y.cosine - x.cosine);
  const common = pairs.flatMap(({ one, latent, cosine }) => {
    const other = left.get(latent);
    return left.delete(latent) ? [{ one, other, cosine }] : [];
  }).sort((x, y) => y.one.value - x.one.value);
  const paired = new Set(common.map(({ one }) => one));
  const only = (of, rows) => section(["Only under ", name(SITE.label.method(of[0].method)), ` (${rows.length})`], h(".rows", rows.map((one) => card(at, of, one))));
  return [
    section(`Under both (${common.length})`, note(`A latent and its match under the other method (highest decoder cosine, ${ALIKE} or more) fire on this image.`),
      h(".pair", common.flatMap(({ one, other, cosine }) => [card(at, a, one), card(at, b, other, `, cosine ${num(cosine, 2)}`)]))),
    h(".pair", only(a, here.filter((one) => !paired.has(one))), only(b, [...left.values()])),
  ];
}

const card = ({ cell, images }, [about, sae], one, more = "") => SITE.latentCard(cell, images, about, sae, one.latent, [SITE.methodLabel(about.method), ", ", SITE.standing(sae, one), more]);
})();

"use strict";

/** Downloads, settings, times, where everything is from, and the command that makes it again. */
(() => {
const { h, name, note, section } = SITE;

SITE.views.files = async () => {
  const { downloads, provenance: p = {} } = SITE.overview;
  const of = (kind, make) => downloads.filter((one) => one.kind === kind).map(make);
  const [tables, figures] = [of("table", row), of("figure", picture)];
  return SITE.page("Files, settings, credits",
    p.rebuild && section("Make it again", h("pre", { tabindex: 0 }, p.rebuild)),
    tables.length > 0 && section("Tables", h("ul.downloads", tables)),
    figures.length > 0 && section("Figures", note("A picture opens at full size."), h(".figures", figures)),
    p.config && section("Settings", h("pre", { tabindex: 0 }, p.config)),
    section("Times", table(p.times, "Times") || h("p", "Not recorded."), p.machine && note(text(p.machine))),
    section("Provenance", p.versions && h("p", Object.entries(p.versions).map((pair) => pair.join(" ")).join(", ")), table(p.embeddings, "Embeddings"), leftOut(p.left_out)),
    p.sources?.length > 0 && section("Data and weights", h("ul", p.sources.map(source))));
};

const text = (value) => (typeof value === "object" ? JSON.stringify(value) ?? "" : String(value));
const links = ({ files = [], title }) => h("span.links", files.map(({ href, label }) => h("a", { href, download: true, "aria-label": `${title}, ${label}` }, label)));
const caption = (one) => one.caption && h("p.soft", { dir: "auto" }, one.caption);
const row = (one) => h("li", h("b", { dir: "auto" }, one.title), links(one), caption(one));

function picture(one) {
  const image = one.files?.find(({ href }) => /\.(png|svg)$/i.test(href));
  return h("figure", h("h3", { dir: "auto" }, one.title), links(one),
    image && h("a", { href: image.href, target: "_blank" }, h(one.pictures ? "img" : "img.drawn", { src: image.href, alt: `${one.title}, full size`, loading: "lazy" })), caption(one));
}

/** A list of records as a table. */
function table(records, about) {
  if (!records?.length) return null;
  const keys = Object.keys(records[0]);
  return SITE.plainTable(keys, records.map((record) => keys.map((key) => name(text(record[key] ?? "")))), about);
}

function leftOut(images) {
  const all = [images || []].flat();
  return all.length > 0 && [h("h3", "Images left out"), typeof all[0] === "object" ? table(all, "Images left out") : h("p", { dir: "auto" }, all.join("; "))];
}

const source = ({ name: of, version, citation, licence, homepage }) => h("li", { dir: "auto" }, h("b", of), ` ${version ?? ""}: ${citation ?? ""}. Licence: ${licence ?? "not said"}. `,
  /^https?:/.test(homepage) ? h("a", { href: homepage, rel: "noreferrer" }, homepage) : homepage);
})();

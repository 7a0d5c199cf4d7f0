"use strict";

/** Downloads, settings, times, sources, and the command that makes all of it again. */
(() => {
const { h, bdi, note, section } = SITE;

SITE.addView("files", { label: "Files", show: showFiles });

/** Show the files of an experiment, and what it was made from. */
async function showFiles() {
  const { downloads, provenance } = SITE.overview;
  const ofKind = (kind) => downloads.filter((download) => download.kind === kind);
  const tables = ofKind("table").map(tableItem);
  const figures = ofKind("figure").map(figureItem);
  const { rebuild, config, times, machine, versions, embeddings } = provenance;
  const versionTexts = Object.entries(versions ?? {}).map((pair) => pair.join(" "));
  return SITE.page("Files, settings, credits",
    provenance.warnings?.length > 0
      && section("Warnings", note("What the jobs warned of that made all this."),
        h("ul", provenance.warnings.map((text) => h("li", { dir: "auto" }, text)))),
    rebuild && section("Make it again", h("pre", { tabindex: 0 }, rebuild)),
    tables.length > 0 && section("Tables", h("ul.downloads", tables)),
    figures.length > 0 && section("Figures",
      note("A picture opens at full size."), h(".figures", figures)),
    config && section("Settings", h("pre", { tabindex: 0 }, config)),
    section("Times",
      recordsTable(times, "Times") || h("p", "Not recorded."),
      machine && note(machine)),
    section("Provenance",
      versions && h("p", versionTexts.join(", ")),
      recordsTable(embeddings, "Embeddings"),
      imagesLeftOut(provenance.left_out)),
    provenance.sources?.length > 0
      && section("Data and weights", h("ul", provenance.sources.map(sourceItem))));
}

// -- downloads

/** Return a table to download, with its caption. */
const tableItem = (download) => h("li",
  h("b", { dir: "auto" }, download.title),
  fileLinks(download),
  captionOf(download));

/** Return a figure to download: its files, and a picture of it that opens. */
function figureItem(download) {
  const picture = download.files?.find(({ href }) => /\.(png|svg)$/i.test(href));
  return h("figure",
    h("h3", { dir: "auto" }, download.title),
    fileLinks(download),
    picture && pictureLink(download, picture.href),
    captionOf(download));
}

/** Return a link to a picture that shows it; charts are drawn for paper. */
function pictureLink({ title, pictures: hasImages }, address) {
  const attributes = { src: address, alt: `${title}, full size`, loading: "lazy" };
  const image = h(hasImages ? "img" : "img.drawn", attributes);
  return h("a", { href: address, target: "_blank" }, image);
}

/** Return links to the files of a download. */
function fileLinks({ files = [], title }) {
  const fileLink = ({ href, label }) =>
    h("a", { href, download: true, "aria-label": `${title}, ${label}` }, label);
  return h("span.links", files.map(fileLink));
}

/** Return the caption of a download, if it has one. */
const captionOf = ({ caption }) => caption && h("p.soft", { dir: "auto" }, caption);

// -- provenance

/** Return a list of records as a table; null where there are none. */
function recordsTable(records, label) {
  if (!records?.length) return null;
  const keys = Object.keys(records[0]);
  const rowOf = (record) => keys.map((key) => bdi(String(record[key] ?? "")));
  return SITE.plainTable(keys, records.map(rowOf), label);
}

/** Say which images were left out. */
const imagesLeftOut = (sentences) => sentences?.length > 0 && [
  h("h3", "Images left out"),
  h("p", { dir: "auto" }, sentences.join("; ")),
];

/** Return a source of data or weights, with a link if its homepage is on the web. */
function sourceItem({ name, version, citation, licence, homepage }) {
  const isWebAddress = /^https?:/.test(homepage);
  return h("li", { dir: "auto" },
    h("b", name),
    ` ${version ?? ""}: ${citation ?? ""}. Licence: ${licence ?? "not said"}. `,
    isWebAddress ? h("a", { href: homepage, rel: "noreferrer" }, homepage) : homepage);
}
})();

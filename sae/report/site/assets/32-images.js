"use strict";

/** Thumbnails from the sheets, alone and in strips. A sheet is an <img> in a clipped box: backgrounds are not printed. */
(() => {
const { h, name, short, href } = SITE;
const ACROSS = 16; // Thumbnails in a row of a sheet, and rows in a sheet.

/** What an image is called: its id and its class. */
SITE.imageName = (images, i) => [images.id(i), images.group(i)].filter(Boolean).join(", ");

/** One thumbnail, `size` pixels wide; where an image has none, its name. `called` stands in its place for readers of screens. */
SITE.thumbnail = (images, i, size = 64, called = null) => {
  const said = called ?? SITE.imageName(images, i);
  const style = { width: `${size}px`, height: `${size}px` };
  if (!images.shown(i)) return h("span.thumb.bare", { style, title: said }, name(called ?? images.id(i)));
  const place = images.place[i];
  const [sheet, on] = [Math.floor(place / ACROSS ** 2), place % ACROSS ** 2];
  const at = { width: `${ACROSS * size}px`, left: `${-(on % ACROSS) * size}px`, top: `${-Math.floor(on / ACROSS) * size}px` };
  // Small pictures that are drawn large stay sharp.
  const kind = images.side <= 32 && size > images.side ? "span.thumb.sharp" : "span.thumb";
  return h(kind, { style }, h("img", { src: `data/images/${images.number}-${sheet}.webp`, alt: said, decoding: "async", loading: "lazy", style: at }));
};

/** Images in a row, each a link to what fires on it. Entries are {image, value}, drawn in the order given. */
SITE.strip = (cell, images, entries, size = 64, query = {}) => h("ul.strip", entries.map(({ image, value }) => {
  const title = SITE.imageName(images, image) + (value === undefined ? "" : `: activation ${short(value)}`);
  return h("li", h("a", { href: href("image", [...cell.place, image], query), title, "data-image": image }, SITE.thumbnail(images, image, size)));
}));

/** Whose pictures and keywords these are. */
SITE.credit = ({ credit, concept_credit: keywords }) => [
  credit && h("p.soft", { dir: "auto" }, "Pictures: ", name(credit)),
  keywords && h("p.soft", { dir: "auto" }, "Keywords: ", name(keywords)),
];
})();

"use strict";

/**
 * Thumbnails from the sheets and larger pictures, alone and in strips. A sheet is an
 * <img> in a clipped box, since backgrounds are not printed.
 */
(() => {
const { h, bdi, threeFigures, href } = SITE;
const ACROSS = 16; // Thumbnails in a row of a sheet, and rows in a sheet.
const SMALL_SIDE = 32; // Pixels: pictures of so few stay sharp where drawn larger.

/** Return what an image is called: its id and its class. */
SITE.imageName = (images, image) =>
  [images.idOf(image), images.classOf(image)].filter(Boolean).join(", ");

/**
 * Return one thumbnail; where an image has none, its name.
 *
 * size: its width, in pixels. name: for readers of screens, if not the image's own.
 */
SITE.thumbnail = (images, image, size = 64, name = null) => {
  const description = name ?? SITE.imageName(images, image);
  const style = { width: `${size}px`, height: `${size}px` };
  if (!images.hasThumbnail(image)) {
    const text = bdi(name ?? images.idOf(image));
    return h("span.thumb.bare", { style, title: description }, text);
  }

  const place = images.place[image];
  const sheet = Math.floor(place / ACROSS ** 2);
  const placeOnSheet = place % ACROSS ** 2;
  const row = Math.floor(placeOnSheet / ACROSS);
  const column = placeOnSheet % ACROSS;
  const isSharp = images.side <= SMALL_SIDE && size > images.side;
  const picture = h("img", {
    src: `data/images/${images.number}-${sheet}.webp`,
    alt: description,
    decoding: "async",
    loading: "lazy",
    style: {
      width: `${ACROSS * size}px`,
      left: `${-column * size}px`,
      top: `${-row * size}px`,
    },
  });
  return h(isSharp ? "span.thumb.sharp" : "span.thumb", { style }, picture);
};

/** Say whether an image has a picture that is drawn at a size, not its thumbnail. */
SITE.hasPictureAt = (images, image, size) =>
  Boolean(images.pictureSize(image)) && size > images.side;

/** Say whether a map fits over an image: over thumbnails with borders none does. */
SITE.takesMap = (images, image, size) =>
  images.fillSquares || SITE.hasPictureAt(images, image, size);

/**
 * Return one image larger than on the sheets: its picture, in a box of just its size,
 * over which more can be drawn. Where it has no picture, its thumbnail, which is not
 * blown up beside pictures of others.
 *
 * size: its longer side, in pixels.
 */
SITE.picture = (images, image, size) => {
  const stored = images.pictureSize(image);
  if (!SITE.hasPictureAt(images, image, size)) {
    const hasPictures = images.pictureSide > 0;
    const most = hasPictures ? Math.max(64, images.side) : size;
    return SITE.thumbnail(images, image, Math.min(size, most));
  }

  const scale = size / Math.max(stored.width, stored.height);
  const width = `${scale * stored.width}px`;
  const height = `${scale * stored.height}px`;
  return h("span.thumb", { style: { width, height } }, h("img", {
    src: `data/images/${images.number}/${image}.webp`,
    alt: SITE.imageName(images, image),
    decoding: "async",
    loading: "lazy",
    style: { width },
  }));
};

/**
 * Return images in a row, each a link to what fires on it.
 *
 * entries: [{image, value (an activation; may be left out)}], in the order given.
 * size: of an image, in pixels; beyond that of the sheets its picture is shown, if
 * it has one. filters: of the links. mapOf(image): what is drawn over a picture
 * (`SITE.loadMaps`), where it has a map.
 */
SITE.strip = (cell, images, entries, size = 64, filters = {}, mapOf = null) => {
  const item = ({ image, value }) => {
    const activation = value === undefined ? "" : `: activation ${threeFigures(value)}`;
    const attributes = {
      href: href("image", [...cell.address, image], filters),
      title: SITE.imageName(images, image) + activation,
      "data-image": image,
    };
    const picture = SITE.picture(images, image, size);
    const map = SITE.takesMap(images, image, size) && mapOf?.(image);
    if (map) picture.append(map);
    return h("li", h("a", attributes, picture));
  };
  return h("ul.strip", entries.map(item));
};

/** Choose so many of some images, spread evenly: near-duplicates stand side by side. */
SITE.spreadEvenly = (images, most) => {
  const chosenCount = Math.min(most, images.length);
  return SITE.range(chosenCount).map((step) =>
    images[Math.floor((step * images.length) / chosenCount)]);
};

/** Say whose the pictures and the keywords are. */
SITE.credit = ({ credit: ofPictures, concept_credit: ofKeywords }) => [
  ofPictures && h("p.soft", { dir: "auto" }, "Pictures: ", bdi(ofPictures)),
  ofKeywords && h("p.soft", { dir: "auto" }, "Keywords: ", bdi(ofKeywords)),
];
})();

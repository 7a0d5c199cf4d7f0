"use strict";

/** Heatmaps: where in its highest pictures a latent fires, drawn over them. */
(() => {
const { h, isNone, note } = SITE;
const DARKEST = 0.8; // Of a picture where the latent does not fire, as in style.css.

/**
 * Return a promise of `mapsOf(latent)`, which returns `mapOf(image)`: what is drawn
 * over a picture of the latent, or null where it has no map. An SAE without maps has
 * none.
 */
SITE.loadMaps = async (cell, saeRow, images) => {
  if (!saeRow.where) return () => () => null;
  const { image, maps } = await SITE.loadUnpacked(`where/${saeRow.number}`);
  const { height, width } = cell.where;
  const mapsOfEach = maps.length / saeRow.m / (height * width);
  return (latent) => (shown) => {
    const ofLatent = image.subarray(latent * mapsOfEach, (latent + 1) * mapsOfEach);
    const rank = isNone(image, shown) ? -1 : ofLatent.indexOf(shown);
    if (rank < 0) return null;
    const start = (latent * mapsOfEach + rank) * height * width;
    const values = maps.subarray(start, start + height * width);
    return drawMap(values, cell.where, images.pictureSize(shown));
  };
};

/** Return a canvas that darkens a picture where a latent does not fire. */
function drawMap(values, { height, width, square }, pictureSize) {
  const style = placeOn(pictureSize, square);
  const canvas = h("canvas.map", { height, width, style });
  const context = canvas.getContext("2d");
  const pixels = context.createImageData(width, height);
  values.forEach((value, position) => {
    pixels.data[4 * position + 3] = Math.round(DARKEST * (255 - value));
  });
  context.putImageData(pixels, 0, 0);
  return canvas;
}

/**
 * Return where on a picture the network looks: all of it, or a square in the middle,
 * whose side is a share of the picture's shorter one.
 */
function placeOn(pictureSize, square) {
  const { width, height } = pictureSize ?? { width: 1, height: 1 };
  const side = Math.min(width, height) * (square ?? 1);
  const across = square === null ? 1 : side / width;
  const down = square === null ? 1 : side / height;
  return {
    left: `${50 * (1 - across)}%`,
    top: `${50 * (1 - down)}%`,
    width: `${100 * across}%`,
    height: `${100 * down}%`,
  };
}

/**
 * Say what the heatmaps of an SAE are, or why its cell has none; null if none are
 * asked.
 */
SITE.aboutMaps = ({ where }, saeRow) => {
  if (!where) return null;
  if (where.missing) return note(`No heatmaps: ${where.missing}.`);
  const grid = `${where.height} x ${where.width} positions`;
  const size = where.enlarged
    ? ` of pictures enlarged to ${where.enlarged} pixels (embeddings: of smaller ones)`
    : "";
  return note(`Lit is where it fires, by ${grid}${size}. `, saeRow.where === "exact"
    ? "Before what is negative is cut off, their mean is its pre-activation. "
    : "An approximation, which can say little: their mean is not its pre-activation. ",
  "Of a picture that is all dark no position is positive.");
};
})();

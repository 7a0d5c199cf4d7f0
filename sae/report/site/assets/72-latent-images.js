"use strict";

/** The images of a latent: the highest, random ones, those by interval, and classes. */
(() => {
const { h, bdi, soft, note, percent, threeFigures, wholeNumber, range } = SITE;
const MOST_IMAGES = 15; // Of the highest, and of the random ones.
const LEAST_SIDE = 64; // Pixels of these.
const MOST_SIDE = 118; // So that five stand side by side, and three on a phone.
const SEED_STEP = 1009; // From a sample's seed to that of the next one.
const INTERVALS = 6; // Of activation, equally long.
const MOST_OF_INTERVAL = 12;
const BINS = 30; // Of the histogram.
const MOST_CLASSES = 10;

SITE.addSection("latent", showHighest);
SITE.addSection("latent", showName);
SITE.addSection("latent", showIntervals);
SITE.addSection("latent", showActivationsAndClasses);

/**
 * Show the images that activate a latent most, beside a sample of all that do. Where
 * heatmaps are shown, those that have one.
 */
function showHighest({ cell, images, firing, latent, mapOf }) {
  if (!firing.length) return null;
  const size = Math.max(LEAST_SIDE, Math.min(MOST_SIDE, images.pictureSide));
  const box = h("");
  const draw = (seed) => {
    const sample = SITE.drawSample(firing, MOST_IMAGES, seed);
    box.replaceChildren(SITE.strip(cell, images, sample, size));
  };
  let seed = latent;
  draw(seed);
  const drawOthers = () => {
    seed += SEED_STEP;
    draw(seed);
  };
  const hasOthers = firing.length > MOST_IMAGES;
  const highest = firing.slice(0, MOST_IMAGES);
  const mapped = mapOf && highest.filter(({ image }) =>
    SITE.takesMap(images, image, size) && mapOf(image));
  return h(".pair",
    SITE.section("Images that activate it most",
      mapped && note(mapped.length > 0
        ? `These ${mapped.length} of its ${highest.length} highest have a heatmap.`
        : `None of its ${highest.length} highest has a heatmap.`),
      SITE.strip(
        cell, images, mapped?.length ? mapped : highest, size, {}, mapOf)),
    SITE.section("Random images that activate it",
      box, hasOthers && SITE.button("Others", drawOthers)));
}

/** Show what a latent's name promises, and for which concepts it was chosen. */
function showName({ cell, saeRow, sae, images, latent, firing, conceptMatches }) {
  if (!firing.length || !images.conceptNames) return null;
  if (!sae.isNamed) return SITE.section("Its name", SITE.notScoredNotice([saeRow]));

  const { name, precision, recall, threshold, often } = sae.nameOf(latent);
  const concept = images.conceptNames.indexOf(name);
  const quoted =
    ["“", concept < 0 ? bdi(name) : SITE.conceptLink(cell, images, concept), "”"];
  const promise = [
    quoted,
    `: ${percent(precision)} of the test images with an activation of `
      + `${threeFigures(threshold)} or more have this keyword. They are `
      + `${percent(recall)} of all test images that have it.`,
  ];
  const sentence = name === null
    ? "No name: no keyword is shared by enough of the images on which it is high."
    : promise;
  const chosenFor = conceptMatches.conceptsOf(saeRow.number, latent);
  return SITE.section("Its name",
    h("p", sentence),
    often && h("p", "Often among its ten highest training images: ", bdi(often), "."),
    chosenFor.length > 0 && h("p", "Chosen on the training images to stand for ",
      SITE.conceptLinks(cell, images, chosenFor), "."),
    note("Half of them or more have it, too, if near-duplicates count once."),
    SITE.shareWithName(sae));
}

/** Show images by equal steps of activation, from the highest to 0. */
function showIntervals({ cell, images, firing }) {
  if (!firing.length) return null;
  const highest = firing[0].value;
  const intervalOf = ({ value }) =>
    Math.min(INTERVALS - 1, Math.floor((1 - value / highest) * INTERVALS));
  const rows = range(INTERVALS).map((interval) => {
    const inside = firing.filter((entry) => intervalOf(entry) === interval);
    const low = threeFigures(highest * (1 - (interval + 1) / INTERVALS));
    const high = threeFigures(highest * (1 - interval / INTERVALS));
    const share = percent(inside.length / firing.length);
    const size = `${SITE.imageCount(inside.length)}, ${share}`;
    const shown = SITE.spreadEvenly(inside, MOST_OF_INTERVAL);
    return h("",
      h("h3", `${low} to ${high} `, soft(size)),
      inside.length > 0 && SITE.strip(cell, images, shown, 52));
  });
  return SITE.section("Images by interval of activation",
    note("Does it mean the same where it is weak? "
      + `Of each interval up to ${MOST_OF_INTERVAL} images, spread evenly.`),
    h(".pair", rows));
}

/** Show how strongly a latent fires, beside the classes of its images. */
function showActivationsAndClasses(context) {
  if (!context.firing.length) return null;
  return h(".pair", activationHistogram(context), classesOfImages(context));
}

/** Return a histogram of the activations. */
function activationHistogram({ firing, sae }) {
  const highest = firing[0].value;
  const binWidth = highest / BINS;
  const counts = new Array(BINS).fill(0);
  for (const { value } of firing) {
    const bin = Math.min(BINS - 1, Math.floor(value / binWidth));
    counts[bin]++;
  }
  const bars = counts.map((count, bin) =>
    ({ from: bin * binWidth, to: (bin + 1) * binWidth, y: count }));
  const silentCount = wholeNumber(sae.imageCount - firing.length);
  return SITE.section("How strongly it fires", SITE.drawChart({
    description:
      `Histogram of ${firing.length} activations up to ${threeFigures(highest)}`,
    bars,
    x: { label: "activation of the latent on an image" },
    y: { label: "number of test images" },
    note: `The other ${silentCount} of ${wholeNumber(sae.imageCount)} test images `
      + "do not activate it.",
  }));
}

/** Return the classes of a latent's images beside those of all images. */
function classesOfImages({ images, firing }) {
  if (!images.isLabelled) return null;
  const countOfClass = new Map(SITE.countEach(images.label));
  const classes = SITE.countEach(firing.map(({ image }) => images.label[image]))
    .filter(([label]) => images.classes[label] !== undefined);
  if (!classes.length) return null;

  const bar = (kind, share) =>
    h(`span.${kind}`, { style: { width: `${100 * share}%` } });
  const rows = classes.slice(0, MOST_CLASSES).map(([label, count]) => {
    const share = count / firing.length;
    const shareOfAll = countOfClass.get(label) / images.count;
    const bars = h("span.shares", bar("share", share), bar("base", shareOfAll));
    return [
      bdi(images.classes[label]),
      [bars, `${percent(share)} (${wholeNumber(count)})`],
      percent(shareOfAll),
    ];
  });
  const moreCount = classes.length - MOST_CLASSES;
  return SITE.section("Classes of its images",
    SITE.plainTable(["class", "of its images", "of all images"], rows, "Classes"),
    moreCount > 0 && note(`and ${moreCount} more`));
}
})();

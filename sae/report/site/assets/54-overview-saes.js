"use strict";

/** The SAEs of the cells and methods that are asked for. */
(() => {
const { h } = SITE;

SITE.addSection("overview/filtered", showSaes);

/** Show the SAEs with their scores on the test images. */
function showSaes({ isShownCell, isShownMethod }) {
  const rows = SITE.saeRows().filter(({ ofCell, method }) =>
    isShownCell(ofCell) && isShownMethod(method));
  if (!rows.length) return null;
  return SITE.section("The SAEs",
    h("p",
      "The SAEs whose latents the site shows, one seed of each chosen trial, and their "
        + "own scores on the test images. Where no trial reconstructs as well as the "
        + "baseline's best, the one of highest R² is shown, marked as not chosen."),
    SITE.saeTable("SAEs", rows, SITE.CELL_PARTS));
}
})();

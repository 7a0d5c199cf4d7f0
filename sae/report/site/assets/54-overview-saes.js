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
      "The chosen SAEs and their scores on the test images. A link opens the latents. "
        + "Where no trial reached the baseline's R² the one of highest R² stands, "
        + "marked as not chosen."),
    SITE.saeTable("SAEs", rows, SITE.CELL_PARTS));
}
})();

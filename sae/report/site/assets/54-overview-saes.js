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
      "What was chosen in each cell: scores on the test images, and below them the "
        + "difference from the baseline. A link opens the latents. Of a method without "
        + "a choice there, an SAE is shown that enters no mean."),
    SITE.saeTable("SAEs", rows, SITE.CELL_PARTS));
}
})();

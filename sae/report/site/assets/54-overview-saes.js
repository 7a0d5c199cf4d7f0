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
  const isCompared = rows.some(({ compared }) => compared);
  return SITE.section("The SAEs",
    h("p", "Scores on the test images. A link opens the latents.",
      isCompared && " They are means over the seeds of what was chosen in each cell; "
        + "below them is the difference from the baseline. Of a method without a "
        + "choice there, an SAE is shown that enters no mean."),
    SITE.saeTable("SAEs", rows, SITE.CELL_PARTS));
}
})();

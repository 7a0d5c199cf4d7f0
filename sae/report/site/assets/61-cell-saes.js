"use strict";

/** What was chosen in a cell, and controls. */
(() => {
const { note } = SITE;

SITE.addSection("cell", showSaes);

/** Show the SAEs of a cell with their scores on the test images. */
function showSaes({ cell }) {
  const rows = SITE.saeRows().filter(({ ofCell }) => ofCell === cell);
  if (!rows.length) return null;
  const isCompared = rows.some(({ compared }) => compared);
  return SITE.section("SAEs",
    isCompared && note("Means over seeds on the test images; below them the difference "
      + "from the baseline. Controls are not chosen: they have their own R²."),
    SITE.saeTable("SAEs of this cell", rows, []));
}
})();

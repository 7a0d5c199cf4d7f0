"use strict";

/** The SAEs of a cell, and controls. */
(() => {
SITE.addSection("cell", showSaes);

/** Show the SAEs of a cell with their scores on the test images. */
function showSaes({ cell }) {
  const rows = SITE.saeRows().filter(({ ofCell }) => ofCell === cell);
  if (!rows.length) return null;
  return SITE.section("SAEs", SITE.saeTable("SAEs of this cell", rows, []));
}
})();

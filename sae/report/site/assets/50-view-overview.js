"use strict";

/**
 * The overview of an experiment. Its sections stand in three slots:
 *
 *   overview/beginning: above the filters; without a context.
 *   overview/filtered: made anew when a filter changes. Their context is {filters,
 *     isShownCell(cell), isShownMethod(method), remember(key, value)}. `remember`
 *     writes a filter of a section's own into the address.
 *   overview/end: below them; without a context.
 */
(() => {
const { h, bdi } = SITE;

SITE.addView("overview", { label: "Overview", show: showOverview });

/** Show the overview. */
async function showOverview({ query }) {
  const { description, experiment } = SITE.overview;
  const filters = {
    method: query.getAll("method"),
    dataset: query.get("dataset") || "",
    backbone: query.get("backbone") || "",
    k: query.get("k") || "",
    scores: query.get("scores") || "",
  };
  const filtered = h("");

  const remember = (key, value) => {
    filters[key] = value;
    SITE.rememberFilters(filters);
  };
  const context = {
    filters,
    isShownCell: (cell) => SITE.CELL_PARTS.every(({ key }) =>
      !filters[key] || String(cell[key]) === filters[key]),
    isShownMethod: (method) => isShownMethod(method, filters),
    remember,
  };
  const drawFiltered = () => {
    const sections = SITE.sectionsOf("overview/filtered", context);
    filtered.replaceChildren(...sections.filter(Boolean));
  };
  const changeFilter = (key, value) => {
    remember(key, value);
    drawFiltered();
  };

  drawFiltered();
  return SITE.page(bdi(description || experiment),
    SITE.sectionsOf("overview/beginning"),
    filterBar(filters, changeFilter),
    filtered,
    SITE.sectionsOf("overview/end"));
}

/** Whether a method, given its place, is among those that are asked for. */
const isShownMethod = (method, filters) =>
  !filters.method.length || filters.method.includes(SITE.overview.methods[method]?.id);

/** Return fields that filter the page. */
function filterBar(filters, changeFilter) {
  const pickers = SITE.CELL_PARTS.map((part) =>
    partPicker(part, filters[part.key], changeFilter));
  return SITE.bar("Filters", [pickers, methodPicker(filters, changeFilter)]);
}

/** Return a picker of a part of the cells, if the cells differ in it. */
function partPicker({ key, label }, value, changeFilter) {
  const values = [...new Set(SITE.overview.cells.map((cell) => cell[key]))];
  if (values.length < 2) return null;
  const options = values.map((partValue) => [partValue, SITE.label[key](partValue)]);
  const change = (selected) => changeFilter(key, String(selected));
  return SITE.select(label, [["", "all"], ...options], value, change);
}

/** Return boxes to tick, one for each method, if there are several. */
function methodPicker(filters, changeFilter) {
  const { methods } = SITE.overview;
  if (methods.length < 2) return null;
  const takeTicked = () => {
    const ticked = boxes.filter(({ checked }) => checked).map(({ value }) => value);
    // All methods are no filter: the address then says nothing.
    changeFilter("method", ticked.length === boxes.length ? [] : ticked);
  };
  const boxes = methods.map(({ id }, method) => h("input", {
    type: "checkbox",
    value: id,
    checked: isShownMethod(method, filters),
    onchange: takeTicked,
  }));
  const chip = (box, method) => h("label.chip", box, SITE.methodWithMarker(method));
  return h("fieldset", h("legend", "Methods"), boxes.map(chip));
}
})();

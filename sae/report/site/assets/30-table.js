"use strict";

/**
 * Tables: small plain ones, and ones that sort. Of a table that sorts, only the rows in
 * sight are elements, so that 8,192 rows cost as little as 40.
 */
(() => {
const { h, isMissing } = SITE;
const ROWS_BESIDE = 8; // Above and below those in sight.
// So few rows are all made: they print, and a browser's search finds them.
const MOST_WHOLE = 120;
const DEFAULT_BOX_HEIGHT = 600; // Pixels of a box that is not laid out yet.

// -- plain tables

/**
 * Return a small table of texts and nodes, without the columns that are empty.
 *
 * head: the headings. rows: lists as long as the head, whose first names the row.
 * label: what the table is, for readers of screens.
 */
SITE.plainTable = (head, rows, label) => {
  const hasContent = (place) => rows.some((row) => row[place]);
  const withoutEmpty = (row) => row.filter((_, place) => hasContent(place));
  const heading = (text) => h("th", { scope: "col" }, text);
  const cell = (content, place) =>
    (place ? h("td", content) : h("th", { scope: "row" }, content));
  return h(".scroll", { tabindex: 0, role: "group", "aria-label": label },
    h("table",
      h("thead", h("tr", withoutEmpty(head).map(heading))),
      h("tbody", rows.map((row) => h("tr", withoutEmpty(row).map(cell))))));
};

/** Return a title that opens what `make` returns, made when it is first opened. */
SITE.opened = (title, make) => {
  const makeOnce = ({ target }) => {
    const isMade = target.children.length > 1;
    if (target.open && !isMade) target.append(make());
  };
  return h("details", { ontoggle: makeOnce }, h("summary", title));
};

// -- tables that sort

/**
 * Return a table whose rows are any values: {node, fill(rows), rowsInOrder()}.
 *
 * label: what the table is.
 * columns: [{id, label, meaning, class, value(row) (what sorts it; without it the
 *   column does not sort), show(row) (text or nodes), isLowFirst}]. The first column
 *   names the row and stays in sight.
 * rows: those that it begins with.
 * sort: {id (of a column), isDescending}. onSort(sort): called when a heading was
 *   pressed. rowHeight: in pixels.
 */
SITE.table = (options) => {
  const { label, columns, onSort, rowHeight = 36 } = options;
  let { rows = [], sort = {} } = options;
  let rowsInOrder = [];
  let drawn = { first: -1, last: -1 }; // The rows that are elements.

  const heads = columns.map((column) => {
    const press = () => sortBy(column);
    const content = column.value ? SITE.button(column.label, press) : column.label;
    const attributes = { scope: "col", title: column.meaning, class: column.class };
    return h("th", attributes, content);
  });
  const body = h("tbody");
  const table = h("table", { "aria-label": label }, h("thead", h("tr", heads)), body);
  const box = h(".scroll.windowed",
    { tabindex: 0, role: "group", "aria-label": `${label}, scrolls` },
    table);

  /** Sort by a column, or the other way where the table is sorted by it. */
  function sortBy({ id, isLowFirst }) {
    const isDescending = sort.id === id ? !sort.isDescending : !isLowFirst;
    sort = { id, isDescending };
    arrange();
    onSort?.(sort);
  }

  /** Put the rows into their order, and show the first ones. */
  function arrange() {
    const sorted = columns.find(({ id, value }) => value && id === sort.id);
    heads.forEach((head, place) => {
      const direction = sort.isDescending ? "descending" : "ascending";
      if (columns[place] === sorted) head.setAttribute("aria-sort", direction);
      else head.removeAttribute("aria-sort");
    });
    rowsInOrder = sorted ? sortRows(rows, sorted.value, sort.isDescending) : [...rows];
    table.setAttribute("aria-rowcount", rows.length + 1);
    box.scrollTop = 0;
    draw();
  }

  /** Return which rows have to be elements. */
  function rowsInSight() {
    if (rows.length <= MOST_WHOLE) return { first: 0, last: rows.length };
    const firstInSight = Math.floor(box.scrollTop / rowHeight);
    const first = Math.max(0, firstInSight - ROWS_BESIDE);
    const fitting = Math.ceil((box.clientHeight || DEFAULT_BOX_HEIGHT) / rowHeight);
    return { first, last: Math.min(rows.length, first + fitting + 2 * ROWS_BESIDE) };
  }

  /** Make elements of the rows in sight. */
  function draw() {
    drawn = rowsInSight();
    const { first, last } = drawn;
    const shownRows = rowsInOrder.slice(first, last);
    body.replaceChildren(
      ...spaceOf(first),
      ...shownRows.map((row, place) => drawRow(row, first + place)),
      ...spaceOf(rows.length - last));
  }

  /** Make other elements if other rows are in sight. */
  function redraw() {
    const { first, last } = rowsInSight();
    if (first !== drawn.first || last !== drawn.last) draw();
  }

  /** Return a row as high as so many rows, or none. */
  function spaceOf(rowCount) {
    if (rowCount <= 0) return [];
    const style = { height: `${rowCount * rowHeight}px` };
    return [h("tr", { "aria-hidden": "true", style })];
  }

  /** Return the element of a row. The head is the first row for readers of screens. */
  function drawRow(row, place) {
    const style = { height: `${rowHeight}px` };
    const cells = columns.map((column, columnPlace) => {
      const isName = columnPlace === 0;
      const attributes = { scope: isName ? "row" : null, class: column.class };
      return h(isName ? "th" : "td", attributes, column.show(row));
    });
    return h("tr", { "aria-rowindex": place + 2, style }, cells);
  }

  /** Show other rows. */
  function fill(otherRows) {
    rows = otherRows;
    arrange();
  }

  box.addEventListener("scroll", redraw, { passive: true });
  new ResizeObserver(redraw).observe(box);
  arrange();
  return {
    node: h("", box, meaningsOf(columns)),
    fill,
    rowsInOrder: () => rowsInOrder,
  };
};

/** Return rows in the order of a value. Those without one are last either way. */
function sortRows(rows, valueOf, isDescending) {
  const keyed = rows.map((row, place) => ({ row, place, value: valueOf(row) }));
  keyed.sort((first, second) => {
    const isFirstMissing = isMissing(first.value);
    const isSecondMissing = isMissing(second.value);
    if (isFirstMissing !== isSecondMissing) return isFirstMissing ? 1 : -1;

    const ascending = isFirstMissing ? 0 : compareValues(first.value, second.value);
    const difference = isDescending ? -ascending : ascending;
    return difference || first.place - second.place;
  });
  return keyed.map(({ row }) => row);
}

/** Compare two numbers or two texts, as `sort` asks. */
const compareValues = (first, second) =>
  (typeof first === "string" ? first.localeCompare(second) : first - second);

/** Return what the columns of a table mean, to open. */
function meaningsOf(columns) {
  const explained = columns.filter(({ meaning }) => meaning);
  const makeTerms = () =>
    SITE.terms(explained.map(({ label, meaning }) => [label, meaning]));
  return explained.length > 0 && SITE.opened("What the columns mean", makeTerms);
}

/**
 * Return a column of numbers for a table that sorts: `format` writes what `value(row)`
 * returns. What else a column may have is given by `more`.
 */
SITE.numberColumn = ({ value, format, ...more }) => ({
  class: "number",
  value,
  show: (row) => format(value(row)),
  ...more,
});
})();

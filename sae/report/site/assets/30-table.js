"use strict";

/**
 * A table that sorts, and of which only the rows in sight are elements, so that 8,192 rows cost as little as 40.
 */
(() => {
const { h, missing } = SITE;
const BESIDE = 8; // Rows above and below those in sight.
const WHOLE = 120; // So few rows are all made: they print, and a browser's search finds them.

/**
 * A table of rows that are any values.
 *
 * columns: [{id, label, what, value(row) (what sorts it), show(row) (text or nodes), less (a low one is first)}].
 * The first column names the row and stays in sight.
 * sort: {id, down}; sorted({id, down}): called when a heading was pressed; height: of a row, in pixels.
 * Returns {node, fill(rows), order()}.
 */
SITE.table = ({ label, columns, rows = [], sort = {}, sorted, height = 36 }) => {
  let [order, from, to] = [[], -1, -1];
  const heads = columns.map((column) => h("th", { scope: "col", title: column.what, class: column.class },
    column.value ? SITE.button(column.label, () => press(column)) : column.label));
  const body = h("tbody");
  const table = h("table", { "aria-label": label }, h("thead", h("tr", heads)), body);
  const box = h(".scroll.windowed", { tabindex: 0, role: "group", "aria-label": `${label}, scrolls` }, table);

  function press({ id, less }) {
    sort = { id, down: sort.id === id ? !sort.down : !less };
    arrange();
    sorted?.(sort);
  }

  /** Sort the rows; those without a value are last either way. */
  function arrange() {
    order = [...rows];
    const column = columns.find(({ id }) => id === sort.id);
    heads.forEach((head, i) => {
      if (columns[i] === column) head.setAttribute("aria-sort", sort.down ? "descending" : "ascending");
      else head.removeAttribute("aria-sort");
    });
    if (column) {
      const way = sort.down ? -1 : 1;
      const keyed = rows.map((row, i) => ({ row, i, key: column.value(row) }));
      keyed.sort((a, b) => {
        if (missing(a.key) || missing(b.key)) return missing(a.key) - missing(b.key) || a.i - b.i;
        return way * (typeof a.key === "string" ? a.key.localeCompare(b.key) : a.key - b.key) || a.i - b.i;
      });
      order = keyed.map(({ row }) => row);
    }
    table.setAttribute("aria-rowcount", rows.length + 1);
    box.scrollTop = 0;
    draw(true);
  }

  function draw(anew) {
    const whole = rows.length <= WHOLE;
    const first = whole ? 0 : Math.max(0, Math.floor(box.scrollTop / height) - BESIDE);
    const last = whole ? rows.length : Math.min(rows.length, first + Math.ceil((box.clientHeight || 600) / height) + 2 * BESIDE);
    if (!anew && first === from && last === to) return;
    [from, to] = [first, last];
    const space = (count) => (count > 0 ? [h("tr", { "aria-hidden": "true", style: { height: `${count * height}px` } })] : []);
    body.replaceChildren(...space(first), ...order.slice(first, last).map(line), ...space(rows.length - last));
  }

  const line = (row, i) => h("tr", { "aria-rowindex": from + i + 2, style: { height: `${height}px` } },
    columns.map((column, at) => h(at ? "td" : "th", { scope: at ? null : "row", class: column.class }, column.show(row))));

  box.addEventListener("scroll", () => draw(false), { passive: true });
  new ResizeObserver(() => draw(false)).observe(box);
  const fill = (given) => {
    rows = given;
    arrange();
  };
  fill(rows);
  return { node: h("", box, meanings(columns)), fill, order: () => order };
};

/** What the columns of a table mean, to open. */
function meanings(columns) {
  const told = columns.filter(({ what }) => what);
  return told.length > 0 && SITE.opened("What the columns mean", () => SITE.terms(told.map(({ label, what }) => [label, what])));
}

/** A column of numbers. */
SITE.column = (id, label, what, value, show, more) => ({ id, label, what, class: "number", value, show: (row) => show(value(row)), ...more });
})();

"use strict";

/** Addresses: the hash holds the view, what it shows, and its filters. */
(() => {
const { isMissing } = SITE;
const FIRST_VIEW = "overview"; // What an address without a view shows.

/**
 * Return the address of a view.
 *
 *     href("latent", [dataset, backbone, k, method, 3], { with: "reg1" })
 *
 * Parts that are "" and filters that are "" or missing are left out; a filter may be a
 * list of values.
 */
SITE.href = (view, parts = [], filters = {}) => {
  const steps = [view === FIRST_VIEW ? "" : view, ...parts];
  const path = steps.filter((step) => step !== "").map(encodeURIComponent).join("/");
  const query = new URLSearchParams();
  for (const [key, values] of Object.entries(filters)) {
    for (const value of [values].flat()) {
      if (!isMissing(value) && value !== "") query.append(key, value);
    }
  }
  return `#/${path}${query.size ? "?" + query : ""}`;
};

/** Return {view, parts, query} of a hash, where query is a URLSearchParams. */
SITE.parseAddress = (hash) => {
  const [path, query = ""] = hash.replace(/^#\/?/, "").split(/\?(.*)/s);
  const steps = path.split("/").filter((step) => step !== "").map(decodeURIComponent);
  const [view = FIRST_VIEW, ...parts] = steps;
  return { view, parts, query: new URLSearchParams(query) };
};

/** Open an address. */
SITE.openAddress = (address) => {
  location.hash = address;
};

/** Write filters into the address of the view that is shown, without leaving it. */
SITE.rememberFilters = (filters) => {
  const { view, parts } = SITE.route;
  history.replaceState(null, "", SITE.href(view, parts, filters));
  SITE.shown = location.hash;
};

/**
 * Return the options of a `SITE.table` whose order stands in the address, as `sort`:
 * a column's id, with "-up" behind it where the lowest stands first.
 */
SITE.sortedByAddress = (filters, firstColumn) => {
  // The ids of columns may have a dash themselves.
  const [id, direction] = (filters.sort || firstColumn).split(/-(up)$/);
  return {
    sort: { id, isDescending: direction !== "up" },
    onSort: (sort) => {
      filters.sort = sort.id + (sort.isDescending ? "" : "-up");
      SITE.rememberFilters(filters);
    },
  };
};
})();

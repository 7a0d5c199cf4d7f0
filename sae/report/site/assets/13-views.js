"use strict";

/**
 * The views, and the sections of their pages. Each registers itself from its own file,
 * so that a new one is a new file and no edit of another: README.md has an example.
 *
 * Views stand in the header, and sections on a page, in the order of the files' names.
 */
(() => {
const sectionsOfSlot = new Map(); // {slot: functions that make its sections}

/** The views, {id: what was added of it}. */
SITE.views = new Map();

/**
 * Add a view, whose addresses begin with `#/{id}`.
 *
 * view.show(route): returns a promise of a `SITE.page`; the route is {view, parts,
 *   query}, the parts of the address behind the id and what stands behind its `?`.
 * view.label: of its link in the header; a view without one has no link there.
 * view.isOfCell: whether its address names a dataset, a backbone and a k, so that its
 *   link leads to the cell that was looked at last.
 * view.hasContent(cell): whether it has something to show of a cell; without a cell of
 *   which it has, the header does not link to it.
 * view.isLinkedFromCells: whether pages of a cell link to its page of that cell.
 * view.under: the id of the view whose link in the header is marked while it is shown.
 */
SITE.addView = (id, view) => SITE.views.set(id, { id, ...view });

/** The views that have a label. */
SITE.labelledViews = () => [...SITE.views.values()].filter(({ label }) => label);

/** Whether a view has something to show of a cell. */
SITE.hasContent = (view, cell) => !view.hasContent || view.hasContent(cell);

/**
 * Add a section to a page: `show(context)` returns nodes, or null or false where there
 * is nothing to show. A view says in its file which slots its page has, and what its
 * sections are shown as context.
 */
SITE.addSection = (slot, show) => {
  if (!sectionsOfSlot.has(slot)) sectionsOfSlot.set(slot, []);
  sectionsOfSlot.get(slot).push(show);
};

/** Return what each section of a slot shows. */
SITE.sectionsOf = (slot, context) =>
  (sectionsOfSlot.get(slot) ?? []).map((show) => show(context));
})();

"use strict";

/** What the views share: the frame of a page, fields, pickers, terms, links. */
(() => {
const { h, bdi, link, href, openAddress, withCommas } = SITE;

/**
 * Return what a view shows: {title (text), nodes}. The title is that of the tab and of
 * the heading. Nodes may be lists of them; null and false are left out.
 */
SITE.page = (title, ...nodes) => {
  const heading = h("h1", { tabindex: -1 }, title);
  const shown = nodes.flat(Infinity).filter(Boolean);
  return { title: heading.textContent, nodes: [heading, ...shown] };
};

/** Return a section with a heading. */
SITE.section = (title, ...nodes) => h("section", h("h2", title), nodes);

/** Return a text that stands in index.html, the template `words-{id}`. */
SITE.words = (id) => document.getElementById(`words-${id}`).content.cloneNode(true);

/** Return terms with what they mean, [[term, sentence]]. */
SITE.terms = (pairs) => h("dl.terms", pairs.map(([term, meaning]) =>
  h("", h("dt", { dir: "auto" }, term), h("dd", { dir: "auto" }, meaning))));

/** Return those of some terms that the glossary explains, as pairs for `terms`. */
SITE.explainedTerms = (terms) => {
  const { glossary } = SITE.overview;
  return terms.filter((term) => glossary[term]).map((term) => [term, glossary[term]]);
};

// -- fields

/** Return an input with its label. */
SITE.field = (label, input) => h("label.field", h("span", label), input);

/**
 * Return a labelled <select>. Options are [value, text]; `onChange` is called with the
 * value of the option that was selected.
 */
SITE.select = (label, options, value, onChange) => {
  const option = ([optionValue, text]) => {
    const selected = String(optionValue) === String(value);
    return h("option", { value: optionValue, selected }, String(text));
  };
  const takeSelected = ({ target }) => onChange(options[target.selectedIndex][0]);
  const select = h("select", { onchange: takeSelected }, options.map(option));
  return SITE.field(label, select);
};

/** Return a labelled field in which to search: `onInput` is called with its words. */
SITE.searchField = (label, words, onInput) => {
  const takeWords = ({ target }) => onInput(target.value.trim());
  const input = h("input", { type: "search", value: words, oninput: takeWords });
  return SITE.field(label, input);
};

/** Return a button. */
SITE.button = (text, onClick) =>
  h("button", { type: "button", onclick: onClick }, text);

/** Return a row of fields; `onSubmit(form)` is called when enter is pressed in one. */
SITE.bar = (label, fields, onSubmit) => {
  const submit = (event) => {
    event.preventDefault();
    onSubmit?.(event.target);
  };
  return h("form.bar", { "aria-label": label, onsubmit: submit }, fields);
};

// -- pickers

/**
 * Return pickers of a cell, and what else a view picks. Each opens the address that
 * `addressOf(cell)` gives: a choice that no cell fits in all goes to the nearest one.
 */
SITE.cellBar = (cell, addressOf, ...morePickers) => {
  const { cells } = SITE.overview;
  const sharedParts = (other) =>
    SITE.CELL_PARTS.filter(({ key }) => other[key] === cell[key]).length;
  const nearestWith = (key, value) => {
    const candidates = cells.filter((other) => other[key] === value);
    candidates.sort((first, second) => sharedParts(second) - sharedParts(first));
    return candidates[0];
  };

  const pickers = SITE.CELL_PARTS.map(({ key, label }) => {
    const values = [...new Set(cells.map((other) => other[key]))];
    const options = values.map((value) => [value, SITE.label[key](value)]);
    const open = (value) => openAddress(addressOf(nearestWith(key, value)));
    return SITE.select(label, options, cell[key], open);
  });
  return SITE.bar("Which SAEs", [pickers, morePickers]);
};

/** Return a picker of one of a cell's SAEs by its method's id. */
SITE.methodPicker = (label, saes, methodId, onChange) => {
  const option = (saeRow) => [saeRow.methodId, SITE.label.method(saeRow.method)];
  return SITE.select(label, saes.map(option), methodId, onChange);
};

// -- cells and methods in words

/** Return the name of a cell, in which each name has its own direction. */
SITE.cellName = (cell) => [
  bdi(SITE.label.dataset(cell.dataset)), ", ",
  bdi(SITE.label.backbone(cell.backbone)), `, k\u00a0=\u00a0${cell.k}`,
];

/** Return the names of methods, given their places, with commas between. */
const methodNames = (methods) =>
  withCommas(methods.map((method) => bdi(SITE.label.method(method))));

/** Say of which SAEs' methods no trial was chosen in their cell. */
SITE.notChosenNotice = (saes) => {
  const notChosen = saes.filter(({ chosen }) => chosen === false);
  if (!notChosen.length) return null;
  return h("p.notice",
    "No trial of ", methodNames(notChosen.map(({ method }) => method)),
    " reconstructs as well as the baseline's best here, so none was chosen. "
      + "What is shown is the trial of highest R² on validation: ",
    "it enters no mean and no claim.");
};

/** Say which methods of an address have no latents here, so that others are shown. */
SITE.lackingNotice = (cell, query) => {
  const methodIds = SITE.saesOf(cell).map(({ methodId }) => methodId);
  const asked = ["a", "b"].map((key) => query.get(key));
  const lacking = asked.filter((methodId) => methodId && !methodIds.includes(methodId));
  if (!lacking.length) return null;
  return h("p.notice",
    "No latents here of ", methodNames(lacking.map(SITE.methodPlace)),
    ": another method is shown.");
};

/** Return links to what else there is of a cell, without the view that is shown. */
SITE.cellLinks = (cell, shownView) => {
  const views = SITE.labelledViews().filter((view) =>
    view.isLinkedFromCells && view.id !== shownView && SITE.hasContent(view, cell));
  const viewLink = ({ id, label }) => link(href(id, cell.address), label);
  const latentsLink = ({ methodId, method }) => {
    const address = href("latents", [...cell.address, methodId]);
    return h("span", link(address, "Latents of ", bdi(SITE.label.method(method))));
  };
  return h("p.links", views.map(viewLink), SITE.saesOf(cell).map(latentsLink));
};
})();

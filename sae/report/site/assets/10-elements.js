"use strict";

/**
 * What every script shares: elements, and numbers as text.
 *
 * SITE is the one global. Each later script is one function, whose lines are not
 * indented, and puts into SITE what other scripts need of it.
 */
const SITE = (() => {
const SVG_NAMESPACE = "http://www.w3.org/2000/svg";

// -- elements

/**
 * Create an HTML element (the name is that of many libraries, for "hyperscript").
 *
 *     h("p.soft", { id: "x", onclick: open }, "text", child, [more, children])
 *
 * The tag may name classes, and is a div where it names nothing else. The attributes
 * may be left out; `on...` are listeners, `style` is an object. Children are nodes,
 * texts or lists of them, so that a name from the data is never read as HTML. Children
 * and attributes that are null, undefined or false are left out.
 */
const h = (tag, ...content) => {
  const create = (tagName) => document.createElement(tagName);
  return createElement(create, tag, content);
};

/** Create an SVG element, with arguments like those of `h`. */
const svg = (tag, ...content) => {
  const create = (tagName) => document.createElementNS(SVG_NAMESPACE, tagName);
  return createElement(create, tag, content);
};

/** Whether a child or an attribute is to be added. */
const isGiven = (value) => value !== null && value !== undefined && value !== false;

/** Create an element by `create(tagName)`, and fill it. */
function createElement(create, tag, content) {
  const [tagName, ...classNames] = tag.split(".");
  const element = create(tagName || "div");
  if (classNames.length) element.setAttribute("class", classNames.join(" "));

  const hasAttributes = content[0]?.constructor === Object;
  const attributes = hasAttributes ? content[0] : {};
  const children = hasAttributes ? content.slice(1) : content;
  for (const [key, value] of Object.entries(attributes)) {
    if (isGiven(value)) setAttribute(element, key, value);
  }
  element.append(...children.flat(4).filter(isGiven));
  return element;
}

/** Set an attribute of an element, its style, or a listener. */
function setAttribute(element, key, value) {
  if (key.startsWith("on")) {
    element.addEventListener(key.slice(2), value);
  } else if (key === "style") {
    for (const [property, setting] of Object.entries(value)) {
      element.style.setProperty(property, setting);
    }
  } else {
    element.setAttribute(key, value === true ? "" : value);
  }
}

/** Return a name from the data, which keeps its own direction of writing. */
const bdi = (text) => h("bdi", String(text));

/** Return a link to an address. */
const link = (address, ...content) => h("a", { href: address }, content);

/** Return text in a soft colour. */
const soft = (...content) => h("span.soft", content);

/** Return a paragraph in a soft colour. */
const note = (...content) => h("p.soft", content);

/** Put commas between things that are text or nodes. */
const withCommas = (things) => things.map((thing, place) => [place ? ", " : "", thing]);

// -- numbers

/** Whether there is no number. */
const isMissing = (value) =>
  value === null || value === undefined || Number.isNaN(value);

/** Let a function that writes numbers write a dash where there is none. */
const orDash = (write) => (value, ...options) =>
  (isMissing(value) ? "–" : write(Number(value), ...options));

/** Write a number with so many decimals. What is rounded to 0 has no minus. */
const decimals = orDash((value, digits = 3) =>
  value.toFixed(digits).replace(/^-(0\.?0*)$/, "$1"));

/** Write a number with its sign and so many decimals. */
const signedDecimals = orDash((value, digits = 3) =>
  decimals(value, digits).replace(/^(?!-)/, "+"));

/** Write a whole number, with commas between thousands. */
const wholeNumber = orDash((value) => value.toLocaleString("en"));

/** Write how many images there are. */
const imageCount = orDash((images) =>
  `${wholeNumber(images)} image${images === 1 ? "" : "s"}`);

/** Write a share as per cent, with a decimal where it is small. */
const percent = orDash((share) => {
  const isSmall = Math.abs(share) < 0.1 && share !== 0;
  return `${decimals(100 * share, isSmall ? 1 : 0)} %`;
});

/** Write a number with three figures at most, whatever its size. */
const threeFigures = orDash((value) => String(Number(value.toPrecision(3))));

/** Return the whole numbers from 0 to below `length`. */
const range = (length) => Array.from({ length }, (_, place) => place);

return {
  h, svg, bdi, link, soft, note, withCommas,
  isMissing, decimals, signedDecimals, wholeNumber, imageCount, percent, threeFigures,
  range,
};
})();

"use strict";

/** Pointing at charts: what is nearest says its numbers, by pointer and by keyboard. */
(() => {
const { h } = SITE;
const REACH = 16; // From so far, in the chart's units, the pointer finds a mark.
const STEP_OF_KEY = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 };

const tip = h("", { id: "tip", role: "tooltip", hidden: true });

/** Show a text above or below a point of the window, in pixels. */
function showTip(text, left, top) {
  if (!tip.isConnected) document.body.append(tip);
  tip.textContent = text;
  tip.hidden = false;
  const { width, height } = tip.getBoundingClientRect();
  const farthestLeft = innerWidth - width - 4;
  tip.style.left = `${Math.max(4, Math.min(left - width / 2, farthestLeft))}px`;
  const hasRoomAbove = top - height > 12;
  tip.style.top = `${hasRoomAbove ? top - height - 12 : top + 16}px`;
}

/** Hide the text. */
SITE.hideTip = () => {
  tip.hidden = true;
};

/**
 * Let a chart say the numbers of the mark nearest to the pointer, and a click follow
 * the mark's link.
 *
 * Marks are {position: [x, y], span (the left and right end of a bar), tooltip, href},
 * in the units of the chart's viewBox.
 */
SITE.followPointer = (chart, marks) => {
  chart.addEventListener("pointermove", (event) => {
    const mark = nearestMark(chart, marks, event);
    chart.style.cursor = mark?.href ? "pointer" : "";
    if (mark) showTip(mark.tooltip, mark.left, mark.top);
    else SITE.hideTip();
  });
  chart.addEventListener("pointerleave", SITE.hideTip);
  chart.addEventListener("click", (event) => {
    const mark = nearestMark(chart, marks, event);
    if (mark?.href && !event.target.closest("a")) SITE.openAddress(mark.href);
  });
};

/** Return the mark nearest to an event, with its place in the window, if any is. */
function nearestMark(chart, marks, event) {
  const box = chart.getBoundingClientRect();
  const unitsPerPixel = chart.viewBox.baseVal.width / box.width;
  const pointer = {
    x: (event.clientX - box.left) * unitsPerPixel,
    y: (event.clientY - box.top) * unitsPerPixel,
  };
  const [nearest] = marks
    .map((mark) => ({ ...mark, distance: distanceTo(mark, pointer) }))
    .filter(({ distance }) => distance < REACH)
    .sort((first, second) => first.distance - second.distance);
  return nearest && {
    ...nearest,
    left: box.left + nearest.position[0] / unitsPerPixel,
    top: box.top + nearest.position[1] / unitsPerPixel,
  };
}

/** Return how far a mark is from a point. A bar is near to all above its span. */
function distanceTo({ position, span }, { x, y }) {
  if (!span) return Math.hypot(position[0] - x, position[1] - y);
  return x >= span[0] && x < span[1] ? 0 : Infinity;
}

/**
 * Make the links of a chart one stop for the tab key. Arrow keys go from point to
 * point, from left to right.
 */
SITE.walkByArrowKeys = (chart) => {
  const leftOf = (point) => point.transform.baseVal[0].matrix.e;
  const points = [...chart.querySelectorAll("a")];
  points.sort((first, second) => leftOf(first) - leftOf(second));
  points[0]?.setAttribute("tabindex", 0);

  chart.addEventListener("keydown", (event) => {
    const step = STEP_OF_KEY[event.key];
    if (!step) return;
    event.preventDefault();
    const current = event.target.closest("a");
    const next = points[points.indexOf(current) + step];
    if (!next) return;
    current.setAttribute("tabindex", -1);
    next.setAttribute("tabindex", 0);
    next.focus();
  });
  chart.addEventListener("focusin", ({ target }) => {
    const { left, width, top } = target.getBoundingClientRect();
    const isByKeyboard = target.matches(":focus-visible");
    if (isByKeyboard) showTip(target.getAttribute("aria-label"), left + width / 2, top);
  });
  chart.addEventListener("focusout", SITE.hideTip);
};
})();

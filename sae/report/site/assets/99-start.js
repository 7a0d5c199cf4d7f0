"use strict";

/** Which view an address shows; the header; what happens when something is missing. */
(() => {
const { h, link, href } = SITE;
const main = document.getElementById("main");
let showCount = 0; // How many addresses were asked for.
let lastCell = []; // The dataset, backbone and k that were looked at last.

/** Show the view of the address. Of several, the one that was asked for last counts. */
async function show() {
  showCount += 1;
  const thisShow = showCount;
  const address = location.hash;
  SITE.hideTip();
  main.setAttribute("aria-busy", "true");

  let page = null;
  let route = { parts: [] };
  try {
    if (!SITE.overview) await SITE.loadOverview();
    route = SITE.parseAddress(address);
    SITE.route = route;
    const view = SITE.views.get(route.view);
    if (view?.isOfCell && !route.parts.length) {
      route.parts = SITE.firstCellOf(view).address.map(String);
    }
    page = view ? await view.show(route) : pageOfNoView();
  } catch (error) {
    page = pageOfError(error);
  }
  if (thisShow !== showCount) return;

  main.replaceChildren(...page.nodes);
  main.removeAttribute("aria-busy");
  document.title = `${page.title} · ${SITE.overview?.experiment ?? "explorer"}`;
  showHeader(route);
  SITE.shown = address;
  if (thisShow > 1) {
    scrollTo(0, 0);
    page.nodes[0].focus({ preventScroll: true });
  }
}

/** Return the page of an address whose view does not exist. */
const pageOfNoView = () =>
  SITE.page("There is no such view", h("p", link("#/", "Overview")));

/** Return the page of an address that cannot be shown. */
function pageOfError(error) {
  const guess = error.isWholeAnswer
    ? ""
    : "The folder may be incomplete, or the link from another experiment. ";
  return SITE.page("This cannot be shown",
    h("p", error.message),
    h("p", guess, link("#/", "Overview")));
}

/** Show links to the views, those of cells to the cell that was looked at last. */
function showHeader({ view: shownView, parts }) {
  if (parts.length > 2) lastCell = parts.slice(0, 3);
  const markedView = SITE.views.get(shownView)?.under ?? shownView;
  const viewLink = ({ id, label, isOfCell }) => h("a", {
    href: href(id, isOfCell ? lastCell : []),
    "aria-current": id === markedView && "page",
  }, label);
  const views = SITE.labelledViews().filter(hasContentSomewhere);
  document.getElementById("nav").replaceChildren(...views.map(viewLink));
}

/** Whether a view has something to show of any cell. */
function hasContentSomewhere(view) {
  const { cells = [] } = SITE.overview || {};
  return !view.hasContent || cells.some(view.hasContent);
}

// -- the theme: the browser's, until the button was pressed

const root = document.documentElement;
const themeButton = document.getElementById("theme");

/** Whether the page is dark. */
function isDark() {
  if (root.dataset.theme) return root.dataset.theme === "dark";
  return matchMedia("(prefers-color-scheme: dark)").matches;
}

/** Let the button say which theme it gives. */
function nameThemeButton() {
  themeButton.textContent = isDark() ? "Light" : "Dark";
}

/** Change the theme, and let the browser keep it. */
function changeTheme() {
  root.dataset.theme = isDark() ? "light" : "dark";
  try {
    localStorage.setItem("theme", root.dataset.theme);
  } catch {
    // Some browsers keep nothing for files.
  }
  nameThemeButton();
}

themeButton.addEventListener("click", changeTheme);
nameThemeButton();
document.querySelector(".skip").addEventListener("click", (event) => {
  event.preventDefault(); // The hash is an address here.
  main.focus();
});
addEventListener("hashchange", show);
show();
})();

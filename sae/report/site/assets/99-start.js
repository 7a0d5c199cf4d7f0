"use strict";

/** Which view an address shows; the header; what happens when something is missing. */
(() => {
const { h, views, parse, href, link } = SITE;
const main = document.getElementById("main");
let [turn, place] = [0, []];

/** Show the view of the address. Only what was asked for last is shown, whatever loads first. */
async function show() {
  const [mine, address] = [++turn, location.hash];
  SITE.hush();
  main.setAttribute("aria-busy", "true");
  let [built, route] = [null, { parts: [] }];
  try {
    if (!SITE.overview) await SITE.start();
    SITE.route = route = parse(address);
    built = await (Object.hasOwn(views, route.view) ? views[route.view](route) : SITE.page("There is no such view", h("p", link("#/", "Overview"))));
  } catch (error) {
    const why = error.isAnswer ? "" : "The folder may be incomplete, or the link of another experiment. ";
    built = SITE.page("This cannot be shown", h("p", error.message), h("p", why, link("#/", "Overview")));
  }
  if (mine !== turn) return;
  main.replaceChildren(...built.nodes.filter(Boolean));
  main.removeAttribute("aria-busy");
  document.title = `${built.title} · ${SITE.overview?.experiment ?? "explorer"}`;
  header(route);
  SITE.shown = address;
  if (mine > 1) {
    scrollTo(0, 0);
    built.nodes[0].focus({ preventScroll: true });
  }
}

/** Links to the views, of the cell that was looked at last. */
function header({ view, parts }) {
  const { cells = [] } = SITE.overview || {};
  if (parts.length > 2) place = parts.slice(0, 3);
  const most = Math.max(0, ...cells.map(({ saes = [] }) => saes.length)); // SAEs of a cell that can be looked into
  const all = [["cell", "Cell"], ...(most ? [["latents", "Latents"], ["image", "Images"]] : []), ...(most > 1 ? [["compare", "Compare"]] : []),
    ...(cells.some(({ concepts }) => concepts) ? [["concepts", "Concepts"]] : []), ...(cells.some(({ judge }) => judge) ? [["judge", "Judge"]] : [])];
  const links = [["overview", "Overview", "#/"], ...all.map(([id, text]) => [id, text, href(id, place)]), ["files", "Files", "#/files"]];
  const here = { latent: "latents", concept: "concepts" }[view] ?? view;
  document.getElementById("nav").replaceChildren(...links.map(([id, text, to]) => h("a", { href: to, "aria-current": id === here && "page" }, text)));
}

// -- the theme: the browser's, until the button was pressed

const [root, toggle] = [document.documentElement, document.getElementById("theme")];
const dark = () => (root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches);
const named = () => {
  toggle.textContent = dark() ? "Light" : "Dark";
};
toggle.addEventListener("click", () => {
  root.dataset.theme = dark() ? "light" : "dark";
  try {
    localStorage.setItem("theme", root.dataset.theme);
  } catch {
    // Some browsers keep nothing for files.
  }
  named();
});
named();
document.querySelector(".skip").addEventListener("click", (event) => {
  event.preventDefault(); // The hash is an address here.
  main.focus();
});
addEventListener("hashchange", show);
show();
})();

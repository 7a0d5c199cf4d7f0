"use strict";

/** The claims: the paper's, and ours about other methods. */
(() => {
const { h, bdi, note, isMissing, signedDecimals } = SITE;
const BADGE_CLASSES = { holds: "yes", "holds in part": "part", "not shown": "no" };

SITE.addSection("overview/end", showClaims);

/** Show the claims with their verdicts. */
function showClaims() {
  const { claims } = SITE.overview;
  if (!claims.length) return null;
  const ofPaper = claims.filter(({ ours }) => !ours);
  const ofOurs = claims.filter(({ ours }) => ours);
  return SITE.section("Claims",
    SITE.words("claims"),
    groupOfClaims("The paper's claims", ofPaper),
    groupOfClaims("Claims about other methods, ours", ofOurs));
}

/** Return claims with a heading, and how many have each verdict. */
function groupOfClaims(title, claims) {
  if (!claims.length) return null;
  const verdicts = SITE.countEach(claims.map(({ verdict }) => verdict));
  const countOf = ([verdict, count]) => h("span", `${count} `, badge(verdict));
  return [
    h("h3", title),
    h("p.links", verdicts.map(countOf)),
    h("ul.claims", claims.map(claimItem)),
  ];
}

/** Return a verdict as a badge. */
const badge = (verdict, mark = "") =>
  h(`span.badge.${BADGE_CLASSES[verdict] || "untested"}`, verdict + mark);

/** Return a claim: its verdict, its statement, numbers and remarks. */
function claimItem(claim) {
  const asHigh = claim.controls && `As high in: ${claim.controls}`;
  const remarks = [claim.note, asHigh].filter(Boolean);
  return h("li.claim",
    badge(claim.verdict, asHigh ? " ?" : ""),
    h("",
      h("p", { dir: "auto" }, claim.statement),
      note(numbersOfClaim(claim).join(" · ")),
      remarks.length > 0 && note(bdi(remarks.join(". ")))));
}

/** Return what was measured of a claim, as texts. */
function numbersOfClaim({ measured, low, high, detection, published, ...cells }) {
  const { cells_for: cellsFor, cells_against: cellsAgainst } = cells;
  const interval = isMissing(low)
    ? ""
    : ` [${signedDecimals(low)}, ${signedDecimals(high)}]`;
  return [
    !isMissing(measured) && `measured ${signedDecimals(measured)}${interval}`,
    !isMissing(detection) && `detection ${signedDecimals(detection)}`,
    !isMissing(cellsFor) && `cells for ${cellsFor}, against ${cellsAgainst}`,
    published && `published ${published}`,
  ].filter(Boolean);
}
})();

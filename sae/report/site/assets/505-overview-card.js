"use strict";

/** The card of an SAE, above all else, where the site was made with one. */
(() => {
const { h, note } = SITE;

SITE.addSection("overview/beginning", showCard);

/** Show the card of the site's SAE. */
function showCard() {
  const card = SITE.overview.cells[0]?.card;
  if (!card) return null;
  const paragraph = (sentence) => h("p", { dir: "auto" }, sentence);
  const alt = "Each score against R², beside Top-k";
  return SITE.section("Is it any good?",
    card.sentences.map(paragraph),
    SITE.plainTable(card.head, card.rows, "Scores beside tuned Top-k"),
    h("img.drawn", { src: card.plot, alt }),
    card.notes.map((text) => note(text)));
}
})();

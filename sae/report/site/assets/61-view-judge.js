"use strict";

/** Blind trials: a person says on which of two images a latent fires, and does not know of which method it is. */
(() => {
const { h, link, note, page, words } = SITE;
// By the place of a key as well: on some keyboards digits need shift.
const KEYS = { 1: "left", 2: "right", 0: "none", Digit1: "left", Digit2: "right", Digit0: "none" };
const GAP = 4; // Pixels between images.
const MARGINS = 60; // Pixels of a window's width that no image has.

SITE.views.judge = async ({ parts }) => {
  const cell = (parts.length === 0 && firstWithTrials()) || SITE.cell(parts);
  const bar = SITE.cellBar(cell, (at) => SITE.href("judge", at.place));
  if (SITE.missing(cell.judge)) {
    return page("No latents to judge", bar, note("There are no trials here: they need pictures, and latents that fire on enough of them."));
  }
  const [study, images] = await Promise.all([SITE.read(`judge/${cell.index}`), SITE.imagesOf(cell)]);
  const stage = h("section.judge");
  const session = SITE.judgeSession(study, images);
  showStart({ cell, images, session, stage, bar });
  return page("Judge latents", stage, SITE.credit(images));
};

/** The first of the cells whose trials ask about most methods. */
function firstWithTrials() {
  const cells = SITE.overview.cells.filter((cell) => !SITE.missing(cell.judge));
  const most = Math.max(...cells.map(methodCount));
  return cells.find((cell) => methodCount(cell) === most);
}

const methodCount = (cell) => cell.judged_methods?.length ?? 0;

// -- before and after

/** What will be asked, and fields to begin or to go on. */
function showStart(state) {
  const { session, stage, bar } = state;
  const isBegun = session.answers.length > 0;
  const alias = h("input", { name: "alias", value: session.alias, maxlength: 60, autocomplete: "off" });
  const begin = () => {
    session.call(alias.value.trim());
    showNext(state);
  };
  const go = session.trial && h("button", isBegun ? "Go on" : "Begin");
  const fields = [SITE.field("Your alias, if you like", alias), go];
  stage.replaceChildren(...[
    bar,
    words("judge"),
    isBegun && note(`${session.answers.length} of ${session.trials.length} trials are answered; this browser has kept them.`),
    SITE.bar("Begin", fields, begin),
    state.notice && h("p.notice", { role: "status" }, state.notice),
    isBegun && saving(state),
  ].filter(Boolean));
}

/** The end of a session. */
function showEnd(state) {
  const heading = h("h2", { tabindex: -1 }, "Thank you");
  state.stage.replaceChildren(heading,
    h("p", `You have answered all ${state.session.trials.length} trials. Save the file and send it to whoever asked you.`),
    saving(state));
  heading.focus();
}

/** Buttons that save the answers, or begin anew with other trials. */
function saving(state) {
  const { session } = state;
  const save = SITE.button("Save answers", () => saveText(session.file, session.text()));
  const anew = SITE.button("Forget them and begin anew", () => {
    if (!confirm("Forget these answers? Save them first if they are to count.")) return;
    session.begin(session.alias);
    session.call(session.alias);
    showStart(state);
    state.stage.querySelector("input").focus();
  });
  return h("p.bar", save, anew);
}

/** Let the browser save a text as a file. */
function saveText(name, text) {
  const address = URL.createObjectURL(new Blob([text], { type: "application/json" }));
  h("a", { href: address, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(address), 1000);
}

// -- a trial

/** The next trial, or the end. */
function showNext(state) {
  const { session } = state;
  if (!session.trial) {
    showEnd(state);
    return;
  }
  const { trial } = session;
  const number = session.answers.length + 1;
  const began = performance.now();
  const heading = h("h2", { tabindex: -1 }, `Trial ${number} of ${session.trials.length}`, trial.kind === "practice" && SITE.soft(" for practice"));
  const buttons = {
    left: choice(state, trial.left, "1", "The left image", () => choose("left")),
    right: choice(state, trial.right, "2", "The right image", () => choose("right")),
    none: h("button", { type: "button", onclick: () => choose("none") }, h("kbd", "0"), " Cannot tell"),
  };
  const choose = (answer) => {
    // A second press while the answer of a practice trial is shown does not count.
    if (session.trial !== trial) return;
    if (session.isElsewhere) {
      session.goOn();
      showStart({ ...state, notice: "These trials went on in another tab. Go on in one of them alone." });
      return;
    }
    session.answer(answer, Math.round(performance.now() - began));
    if (trial.kind === "practice") showAnswer(state, trial, answer, buttons);
    else showNext(state);
  };
  state.stage.replaceChildren(
    heading,
    h("progress", { max: session.trials.length, value: number - 1, "aria-label": "Trials answered" }),
    h(".trial",
      h(".examples",
        examples(state, "These images have something in common:", trial.firingImages, "that have it"),
        examples(state, "These do not have it:", trial.silentImages, "that do not have it")),
      h("",
        h("p.question", { id: "question" }, "Which of these two has it as well?"),
        h(".choices", { role: "group", "aria-labelledby": "question" }, buttons.left, buttons.right),
        h("p", buttons.none))),
    ...(session.isKept ? [] : [h("p.notice", "This browser keeps nothing for this page: to close it would lose your answers. ", saving(state))]));
  state.stage.dataset.trial = trial.id;
  state.press = choose;
  pressed = state;
  heading.focus({ preventScroll: true });
}

/** After a trial for practice: whether the answer was right, and why. */
function showAnswer(state, trial, answer, buttons) {
  const isRight = answer === trial.rightAnswer;
  buttons[trial.rightAnswer].classList.add("is-right");
  for (const button of Object.values(buttons)) button.disabled = true;
  const next = h("button", { type: "button", "aria-describedby": "feedback", onclick: () => showNext(state) }, "Next");
  const feedback = h("span", { id: "feedback" }, isRight ? "Right. " : "No. ", `It is the ${trial.rightAnswer} one, which is framed. `);
  state.stage.append(h("p.notice", { role: "status" }, feedback, next));
  next.focus();
}

/** Nine images with a sentence above. Their names would tell too much. */
function examples({ images }, sentence, rows, which) {
  const size = Math.min(96, Math.floor((innerWidth - MARGINS) / 6) - GAP);
  const thumbnails = rows.map((image, place) => SITE.thumbnail(images, image, size, `Image ${place + 1} of ${rows.length} ${which}`));
  return h("figure", { style: { "--size": `${size}px` } }, h("figcaption", sentence), h(".nine", thumbnails));
}

/** An image that can be chosen. */
function choice({ images }, image, key, text, chosen) {
  const size = Math.min(224, Math.floor((innerWidth - MARGINS) / 2) - 3 * GAP);
  return h("button.choice", { type: "button", onclick: chosen, "data-image": image },
    SITE.thumbnail(images, image, size, text), h("kbd", key));
}

// -- keys

let pressed = null; // The state whose trial was shown last.

addEventListener("keydown", (event) => {
  const answer = KEYS[event.key] ?? KEYS[event.code];
  const isText = event.target.matches("input, select, textarea");
  // A key that is held must not answer what comes next unseen.
  if (event.repeat && !isText && event.target.closest(".judge")) event.preventDefault();
  const isOther = event.ctrlKey || event.metaKey || event.altKey || event.repeat;
  if (answer && pressed?.stage.isConnected && pressed.session.trial && !isText && !isOther) pressed.press(answer);
});
})();

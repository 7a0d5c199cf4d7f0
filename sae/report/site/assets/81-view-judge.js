"use strict";

/**
 * Blind trials: a person says on which of two images a latent fires, and does not know
 * of which method it is.
 */
(() => {
const { h, note, isMissing } = SITE;

// What a key answers. By the place of a key as well: on some keyboards digits need
// shift.
const ANSWER_OF_KEY = {
  1: "left",
  2: "right",
  0: "none",
  Digit1: "left",
  Digit2: "right",
  Digit0: "none",
};
const GAP = 4; // Pixels between images.
const MARGINS = 60; // Pixels of a window's width that no image has.
const LARGEST_EXAMPLE = 96; // Pixels.
const LARGEST_CHOICE = 224; // Pixels.

SITE.addView("judge", {
  label: "Judge",
  isOfCell: true,
  hasContent: (cell) => Boolean(cell.judge),
  show: showJudge,
});

// The trial that was shown last, {state, answer(side), resize()}; at first null.
let shownTrial = null;

/** Show the blind trials of a cell. */
async function showJudge({ parts }) {
  const cell = SITE.cellOf(parts);
  const bar = SITE.cellBar(cell, (other) => SITE.href("judge", other.address));
  if (isMissing(cell.judge)) {
    return SITE.page("No latents to judge", bar, note(
      "There are no trials here: they need pictures, and latents that fire on enough "
        + "of them."));
  }
  const [study, images] = await Promise.all([
    SITE.loadUnpacked(`judge/${cell.index}`), SITE.loadImages(cell),
  ]);
  const stage = h("section.judge");
  const session = SITE.judgeSession(study, images);
  showStart({ images, session, stage, bar });
  return SITE.page("Judge latents", stage, SITE.credit(images));
}

// -- before and after. The state of the view is {images, session, stage (the element
// that shows it), bar (pickers of the cell), notice (a text, if there is one to show)}.

/** Show what will be asked, and fields to begin or to go on. */
function showStart(state) {
  const { session, stage, bar, notice } = state;
  const answeredCount = session.answers.length;
  const isBegun = answeredCount > 0;
  const alias = h("input", {
    name: "alias",
    value: session.alias,
    maxlength: 60,
    autocomplete: "off",
  });
  const begin = () => {
    session.setAlias(alias.value.trim());
    showNext(state);
  };
  const fields = [
    SITE.field("Your alias, if you like", alias),
    session.trial && h("button", isBegun ? "Go on" : "Begin"),
  ];
  const nodes = [
    bar,
    SITE.words("judge"),
    isBegun && note(
      `${answeredCount} of ${session.trials.length} trials are answered; `
        + "this browser has kept them."),
    note(neededText(session)),
    SITE.bar("Begin", fields, begin),
    notice && h("p.notice", { role: "status" }, notice),
    isBegun && savingButtons(state),
  ];
  stage.replaceChildren(...nodes.filter(Boolean));
}

/** Show the end of a session. */
function showEnd(state) {
  const heading = h("h2", { tabindex: -1 }, "Thank you");
  const thanks = h("p",
    `You have answered all ${state.session.trials.length} trials. `
      + "Save the file and send it to whoever asked you.");
  state.stage.replaceChildren(heading, thanks, savingButtons(state));
  heading.focus();
}

/** Say how many trials more have to be answered until the answers count. */
function neededText({ neededCount }) {
  if (neededCount === null) {
    return "There are too few trials here for answers to count.";
  }
  if (neededCount === 0) return "Your answers are enough to count.";
  const trials = neededCount === 1 ? "trial" : "trials";
  return `${neededCount} ${trials} to go until your answers count.`;
}

/** Return a button that saves the answers. */
const saveButton = ({ session }) => SITE.button("Save answers", () =>
  saveFile(session.fileName(), session.fileText()));

/** Return buttons that save the answers, or begin anew with other trials. */
function savingButtons(state) {
  const { session, stage } = state;
  const beginAnew = () => {
    if (!confirm("Forget these answers? Save them first if they are to count.")) return;
    session.begin(session.alias);
    session.setAlias(session.alias);
    showStart(state);
    stage.querySelector("input").focus();
  };
  return h("p.bar",
    saveButton(state),
    SITE.button("Forget them and begin anew", beginAnew));
}

/** Let the browser save a text as a file. */
function saveFile(name, text) {
  const address = URL.createObjectURL(new Blob([text], { type: "application/json" }));
  h("a", { href: address, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(address), 1000);
}

// -- a trial

/** Show the next trial, or the end. */
function showNext(state) {
  const { session, stage } = state;
  const { trial } = session;
  if (!trial) {
    showEnd(state);
    return;
  }
  const shownAt = performance.now();
  const choose = (answer) => {
    // A second press while the answer of a practice trial is shown does not count.
    if (session.trial !== trial) return;
    if (session.wentOnElsewhere) {
      session.resume();
      const notice = "These trials went on in another tab. Continue in one tab only.";
      showStart({ ...state, notice });
      return;
    }
    session.answer(answer, Math.round(performance.now() - shownAt));
    if (trial.kind === "practice") showAnswer(state, trial, answer, drawing.buttons);
    else showNext(state);
  };
  const drawing = drawTrial(state.images, trial, choose);

  const heading = h("h2", { tabindex: -1 },
    `Trial ${session.answers.length + 1} of ${session.trials.length}`,
    trial.kind === "practice" && SITE.soft(" for practice"));
  const progress = h("progress", {
    max: session.trials.length,
    value: session.answers.length,
    "aria-label": "Trials answered",
  });
  const saving = session.answers.length > 0
    && h("p.bar", saveButton(state), SITE.soft(neededText(session)));
  stage.replaceChildren(...[heading, progress, drawing.node, saving].filter(Boolean));
  if (!session.isStored) {
    stage.append(h("p.notice",
      "This browser stores nothing for this page: closing it would lose your answers. "
        + "Save them first."));
  }
  stage.dataset.trial = trial.id;
  shownTrial = { state, answer: choose, resize: drawing.resize };
  heading.focus({ preventScroll: true });
}

/**
 * Draw a trial: {node, buttons ({the answer that each gives: button}), resize()}. A
 * press of a button calls `choose` with its answer.
 */
function drawTrial(images, trial, choose) {
  const examples = [
    exampleImages(images, trial.firingImages,
      "These images have something in common:", "that have it"),
    exampleImages(images, trial.silentImages,
      "These do not have it:", "that do not have it"),
  ];
  const left = choiceButton(images, trial.left, "1", "The left image",
    () => choose("left"));
  const right = choiceButton(images, trial.right, "2", "The right image",
    () => choose("right"));
  const none = h("button", { type: "button", onclick: () => choose("none") },
    h("kbd", "0"), " Cannot tell");

  const node = h(".trial",
    h(".examples", examples.map((part) => part.node)),
    h("",
      h("p.question", { id: "question" }, "Which of these two has it as well?"),
      h(".choices", { role: "group", "aria-labelledby": "question" },
        left.node, right.node),
      h("p", none)));
  return {
    node,
    buttons: { left: left.node, right: right.node, none },
    resize: () => [...examples, left, right].forEach((part) => part.resize()),
  };
}

/** Show after a trial for practice whether the answer was right, and why. */
function showAnswer(state, trial, answer, buttons) {
  const isRight = answer === trial.rightAnswer;
  buttons[trial.rightAnswer].classList.add("is-right");
  for (const button of Object.values(buttons)) button.disabled = true;

  const feedback = h("span", { id: "feedback" },
    isRight ? "Right. " : "No. ",
    `It is the ${trial.rightAnswer} one, which is framed. `);
  const next = h("button", {
    type: "button",
    "aria-describedby": "feedback",
    onclick: () => showNext(state),
  }, "Next");
  state.stage.append(h("p.notice", { role: "status" }, feedback, next));
  next.focus();
}

/** Return how wide an example is: six stand side by side in a narrow window. */
const exampleSize = () =>
  Math.min(LARGEST_EXAMPLE, Math.floor((innerWidth - MARGINS) / 6) - GAP);

/** Return how wide an image is that can be chosen: two stand side by side. */
const choiceSize = () =>
  Math.min(LARGEST_CHOICE, Math.floor((innerWidth - MARGINS) / 2) - 3 * GAP);

/**
 * Return nine images with a sentence above, {node, resize()}. Their names would tell
 * too much, so that each is called by its number, and `which` it is.
 */
function exampleImages(images, rows, sentence, which) {
  const nine = h(".nine");
  const figure = h("figure", h("figcaption", sentence), nine);
  const resize = () => {
    const size = exampleSize();
    figure.style.setProperty("--size", `${size}px`);
    nine.replaceChildren(...rows.map((image, place) => {
      const name = `Image ${place + 1} of ${rows.length} ${which}`;
      return SITE.thumbnail(images, image, size, name);
    }));
  };
  resize();
  return { node: figure, resize };
}

/** Return an image that can be chosen, {node, resize()}. */
function choiceButton(images, image, key, name, choose) {
  const picture = () => SITE.thumbnail(images, image, choiceSize(), name);
  const attributes = { type: "button", onclick: choose, "data-image": image };
  const button = h("button.choice", attributes, picture(), h("kbd", key));
  const resize = () => button.firstChild.replaceWith(picture());
  return { node: button, resize };
}

// -- keys, and the width of the window

addEventListener("keydown", (event) => {
  const isText = event.target.matches("input, select, textarea");
  // A key that is held must not answer what comes next unseen.
  const isInView = event.target.closest(".judge");
  if (event.repeat && !isText && isInView) event.preventDefault();

  const answer = ANSWER_OF_KEY[event.key] ?? ANSWER_OF_KEY[event.code];
  const hasModifier = event.ctrlKey || event.metaKey || event.altKey;
  if (!answer || isText || hasModifier || event.repeat || !shownTrial) return;
  const { stage, session } = shownTrial.state;
  if (stage.isConnected && session.trial) shownTrial.answer(answer);
});

addEventListener("resize", () => {
  if (shownTrial?.state.stage.isConnected) shownTrial.resize();
});
})();

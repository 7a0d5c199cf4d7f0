"use strict";

/**
 * One rater's session of blind trials: which trials they get, in which order and on which side, what they answered,
 * and the file of answers. All of it follows from a seed and the answers, which the browser keeps during a pause.
 */
(() => {
const ASKED_OF_METHOD = 10; // Latents of a method that a rater is asked about.
const FORMAT = 1;
const KINDS = ["counted", "practice", "catch"]; // By their numbers in the file.

/** A function that draws whole numbers below a bound, by the generator mulberry32. */
function drawer(seed) {
  let state = seed >>> 0;
  return (bound) => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) % bound;
  };
}

/** A list in random order. */
function shuffled(list, draw) {
  const order = [...list];
  for (let last = order.length - 1; last > 0; last -= 1) {
    const other = draw(last + 1);
    [order[last], order[other]] = [order[other], order[last]];
  }
  return order;
}

/** The trials of a kind ("counted", "practice" or "catch"), from the columns of a file. */
function trialsOfKind(study, kind) {
  const shown = study.firing_images.length / study.kind.length;
  const examples = (column, trial) => [...column.slice(trial * shown, (trial + 1) * shown)];
  const trials = SITE.upTo(study.kind.length).filter((trial) => study.kind[trial] === KINDS.indexOf(kind));
  return trials.map((trial) => ({
    id: trial,
    kind,
    method: study.method[trial],
    latent: study.latent[trial],
    timesActive: study.n_active[trial],
    firingImages: examples(study.firing_images, trial),
    silentImages: examples(study.silent_images, trial),
    fires: study.fires[trial],
    silent: study.silent[trial],
  }));
}

/** Trials of each method, as many as are asked: one of each band of how often latents fire. No image is asked about twice. */
function drawJudged(study, counted, askedImages, draw) {
  const pools = study.methods.map((_, method) => counted.filter((trial) => trial.method === method)
    .sort((one, other) => one.timesActive - other.timesActive));
  const drawn = [];
  for (const band of SITE.upTo(ASKED_OF_METHOD)) {
    // In random order, so that no method has the first choice where images are few.
    for (const pool of shuffled(pools, draw)) {
      const start = Math.floor((band * pool.length) / ASKED_OF_METHOD);
      const end = Math.floor(((band + 1) * pool.length) / ASKED_OF_METHOD);
      const free = pool.slice(start, end).filter(({ fires, silent }) => !askedImages.has(fires) && !askedImages.has(silent));
      if (free.length) {
        const trial = free[draw(free.length)];
        askedImages.add(trial.fires).add(trial.silent);
        drawn.push(trial);
      }
    }
  }
  return drawn;
}

/** The trials of a rater in order: practice first, then those that count with catch trials among them. */
function trialsOf(study, images, seed) {
  const draw = drawer(seed);
  const isSeen = (trial) => [...trial.firingImages, ...trial.silentImages, trial.fires, trial.silent].every(images.shown);
  const [practice, catches, counted] = ["practice", "catch", "counted"].map((kind) => trialsOfKind(study, kind).filter(isSeen));
  const askedImages = new Set([...practice, ...catches].flatMap(({ fires, silent }) => [fires, silent]));
  const judged = drawJudged(study, counted, askedImages, draw);
  return [...practice, ...shuffled([...judged, ...catches], draw)].map((trial) => {
    const isLeft = draw(2) === 0;
    return {
      ...trial,
      left: isLeft ? trial.fires : trial.silent,
      right: isLeft ? trial.silent : trial.fires,
      rightAnswer: isLeft ? "left" : "right",
    };
  });
}

const keyOf = (study) => `judge ${study.hash}`;

/** What the browser kept of a study; null where it kept nothing that this page wrote, or may keep nothing. */
function kept(study) {
  try {
    const { seed, alias, answers } = JSON.parse(localStorage.getItem(keyOf(study)));
    return Number.isInteger(seed) && typeof alias === "string" && Array.isArray(answers) ? { seed, alias, answers } : null;
  } catch {
    return null;
  }
}

/** Let the browser keep a session; false where it does not. */
function keep(study, { seed, alias, answers }) {
  try {
    localStorage.setItem(keyOf(study), JSON.stringify({ seed, alias, answers }));
    return true;
  } catch {
    return false;
  }
}

/** A session: the one that the browser kept, or a new one. */
class Session {
  constructor(study, images) {
    this.study = study;
    this.images = images;
    this.goOn();
  }

  /** Take up what the browser kept, if its answers are to these trials; else begin anew. */
  goOn() {
    const { seed, alias, answers } = kept(this.study) ?? {};
    this.begin(alias, seed);
    const isOurs = answers?.every(({ trial }, number) => trial === this.trials[number]?.id);
    if (isOurs) this.answers = answers;
  }

  /** Begin with no answer. */
  begin(alias = "", seed = crypto.getRandomValues(new Uint32Array(1))[0]) {
    this.seed = seed;
    this.alias = alias;
    this.answers = [];
    this.trials = trialsOf(this.study, this.images, seed);
    this.isKept = true;
  }

  /** The trial that is asked next; undefined after the last one. */
  get trial() {
    return this.trials[this.answers.length];
  }

  /** Whether the session went on in another tab, which has kept other answers since. */
  get isElsewhere() {
    const other = kept(this.study);
    return other !== null && (other.seed !== this.seed || other.answers.length > this.answers.length);
  }

  /** Take an answer, "left", "right" or "none", after so many milliseconds. */
  answer(answer, milliseconds) {
    const { id, latent, left, right } = this.trial;
    this.answers.push({ trial: id, latent, left_image: left, right_image: right, answer, milliseconds });
    this.isKept = keep(this.study, this);
  }

  /** Call the rater by an alias. */
  call(alias) {
    this.alias = alias;
    this.isKept = keep(this.study, this);
  }

  /** The text of the file of answers. */
  text() {
    const { hash, dataset, backbone, k } = this.study;
    const head = { format: FORMAT, experiment: SITE.overview.experiment, site: hash, dataset, backbone, k };
    return `${JSON.stringify({ ...head, rater: this.alias, seed: this.seed, answers: this.answers }, null, 1)}\n`;
  }

  /** The name of that file. */
  get file() {
    const who = this.alias.replace(/[^\p{L}\p{N}]+/gu, "-") || this.seed;
    return `answers-${SITE.overview.experiment}-${who}.json`;
  }
}

const sessions = new Map(); // hash: its session, which stays while the page does, where the browser keeps nothing.

/** The session of a study. */
SITE.judgeSession = (study, images) => {
  const session = sessions.get(study.hash) ?? new Session(study, images);
  if (session.isElsewhere) session.goOn();
  sessions.set(study.hash, session);
  return session;
};
})();

"use strict";

/**
 * One rater's session of blind trials: which trials they get, in which order and on
 * which side, what they answered, and the file of answers. All of it follows from a
 * seed and the answers, which the browser keeps during a pause.
 */
(() => {
const LATENTS_OF_METHOD = 10; // About which a rater is asked.
// Fewer answers than these do not count: sae/report/rating.py leaves such a rater out.
const FEWEST_OF_METHOD = 5;
const FEWEST_CATCHES = 3;
const FILE_FORMAT = 1;
const KINDS = ["counted", "practice", "catch"]; // By their numbers in the study.

/** Return a function that draws whole numbers below a bound, by mulberry32. */
function makeDrawer(seed) {
  let state = seed >>> 0;
  return (bound) => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) % bound;
  };
}

/** Return a list in random order. */
function shuffled(list, draw) {
  const order = [...list];
  for (let last = order.length - 1; last > 0; last -= 1) {
    const other = draw(last + 1);
    [order[last], order[other]] = [order[other], order[last]];
  }
  return order;
}

/** Return the trials of a kind ("counted", "practice" or "catch") of a study. */
function trialsOfKind(study, kind) {
  const trialCount = study.kind.length;
  const imagesOfTrial = study.firing_images.length / trialCount;
  const imagesIn = (column, trial) =>
    [...column.slice(trial * imagesOfTrial, (trial + 1) * imagesOfTrial)];
  const number = KINDS.indexOf(kind);
  const trials = SITE.range(trialCount).filter((trial) => study.kind[trial] === number);
  return trials.map((trial) => ({
    id: trial,
    kind,
    method: study.method[trial],
    latent: study.latent[trial],
    timesActive: study.n_active[trial],
    firingImages: imagesIn(study.firing_images, trial),
    silentImages: imagesIn(study.silent_images, trial),
    fires: study.fires[trial],
    silent: study.silent[trial],
  }));
}

/**
 * Draw trials of each method: as many as are asked, one of each band of how often
 * latents fire.
 *
 * counted: the trials to draw from. askedImages: a set of the images that are asked
 *   about, which grows; no image is asked about twice.
 */
function drawCountedTrials(study, counted, askedImages, draw) {
  const pools = study.methods.map((_, method) => {
    const pool = counted.filter((trial) => trial.method === method);
    return pool.sort((first, second) => first.timesActive - second.timesActive);
  });
  const isFree = ({ fires, silent }) =>
    !askedImages.has(fires) && !askedImages.has(silent);
  const drawn = [];
  for (const band of SITE.range(LATENTS_OF_METHOD)) {
    // In random order, so that no method has the first choice where images are few.
    for (const pool of shuffled(pools, draw)) {
      const start = Math.floor((band * pool.length) / LATENTS_OF_METHOD);
      const end = Math.floor(((band + 1) * pool.length) / LATENTS_OF_METHOD);
      const candidates = pool.slice(start, end).filter(isFree);
      if (candidates.length) {
        const trial = candidates[draw(candidates.length)];
        askedImages.add(trial.fires).add(trial.silent);
        drawn.push(trial);
      }
    }
  }
  return drawn;
}

/**
 * Return the trials of a rater in order: practice first, then those that count with
 * catch trials among them, each with the images on its two sides.
 */
function trialsOfRater(study, images, seed) {
  const draw = makeDrawer(seed);
  const imagesOf = ({ firingImages, silentImages, fires, silent }) =>
    [...firingImages, ...silentImages, fires, silent];
  const hasPictures = (trial) => imagesOf(trial).every(images.hasThumbnail);
  const [practice, catches, counted] = ["practice", "catch", "counted"].map((kind) =>
    trialsOfKind(study, kind).filter(hasPictures));

  const certain = [...practice, ...catches];
  const askedImages = new Set(certain.flatMap(({ fires, silent }) => [fires, silent]));
  const drawn = drawCountedTrials(study, counted, askedImages, draw);
  const trials = [...practice, ...shuffled([...drawn, ...catches], draw)];
  return trials.map((trial) => {
    const firesLeft = draw(2) === 0;
    return {
      ...trial,
      left: firesLeft ? trial.fires : trial.silent,
      right: firesLeft ? trial.silent : trial.fires,
      rightAnswer: firesLeft ? "left" : "right",
    };
  });
}

// -- what the browser keeps

/** Return the key under which the browser keeps a session. */
const storageKey = (study) => `judge ${study.hash}`;

/**
 * Return what the browser kept of a study, {seed, alias, answers}; null where it kept
 * nothing that this page wrote, or may keep nothing.
 */
function readStored(study) {
  try {
    const stored = JSON.parse(localStorage.getItem(storageKey(study)));
    const { seed, alias, answers } = stored;
    const isOurs = Number.isInteger(seed) && typeof alias === "string"
      && Array.isArray(answers);
    return isOurs ? { seed, alias, answers } : null;
  } catch {
    return null;
  }
}

/** Let the browser keep a session; return false where it does not. */
function store(study, { seed, alias, answers }) {
  try {
    const text = JSON.stringify({ seed, alias, answers });
    localStorage.setItem(storageKey(study), text);
    return true;
  } catch {
    return false;
  }
}

// -- sessions

/** A session: the one that the browser kept, or a new one. */
class Session {
  /** Begin, or go on, with the trials of a study and the images that they show. */
  constructor(study, images) {
    this.study = study;
    this.images = images;
    this.resume();
  }

  /** Take up what the browser kept, if its answers are to these trials; else begin. */
  resume() {
    const { seed, alias, answers } = readStored(this.study) ?? {};
    this.begin(alias, seed);
    const isToTheseTrials = answers?.every(({ trial }, place) =>
      trial === this.trials[place]?.id);
    if (isToTheseTrials) this.answers = answers;
  }

  /** Begin with no answer. */
  begin(alias = "", seed = crypto.getRandomValues(new Uint32Array(1))[0]) {
    this.seed = seed;
    this.alias = alias;
    this.answers = [];
    this.trials = trialsOfRater(this.study, this.images, seed);
    this.isStored = true;
  }

  /** The trial that is asked next; undefined after the last one. */
  get trial() {
    return this.trials[this.answers.length];
  }

  /**
   * How many more trials have to be answered until the answers count; null where all of
   * the trials are too few.
   */
  get neededCount() {
    const needed = {
      practice: 0,
      counted: FEWEST_OF_METHOD * this.study.methods.length,
      catch: FEWEST_CATCHES,
    };
    const isEnough = () => Math.max(...Object.values(needed)) <= 0;
    for (const [place, { kind }] of this.trials.entries()) {
      needed[kind] -= 1;
      if (isEnough()) return Math.max(0, place + 1 - this.answers.length);
    }
    return null;
  }

  /** Whether the session went on in another tab, which has kept other answers since. */
  get wentOnElsewhere() {
    const stored = readStored(this.study);
    if (stored === null) return false;
    return stored.seed !== this.seed || stored.answers.length > this.answers.length;
  }

  /** Take an answer, "left", "right" or "none", after so many milliseconds. */
  answer(answer, milliseconds) {
    const { id, latent, left, right } = this.trial;
    this.answers.push({
      trial: id,
      latent,
      left_image: left,
      right_image: right,
      answer,
      milliseconds,
    });
    this.isStored = store(this.study, this);
  }

  /** Call the rater by an alias. */
  setAlias(alias) {
    this.alias = alias;
    this.isStored = store(this.study, this);
  }

  /** Return the text of the file of answers. */
  fileText() {
    const { hash, dataset, backbone, k } = this.study;
    const content = {
      format: FILE_FORMAT,
      experiment: SITE.overview.experiment,
      site: hash,
      dataset,
      backbone,
      k,
      rater: this.alias,
      seed: this.seed,
      answers: this.answers,
    };
    return `${JSON.stringify(content, null, 1)}\n`;
  }

  /** Return the name of that file. */
  fileName() {
    const rater = this.alias.replace(/[^\p{L}\p{N}]+/gu, "-") || this.seed;
    return `answers-${SITE.overview.experiment}-${rater}.json`;
  }
}

// {hash of a study: its session}, which stays while the page does: a browser may keep
// nothing.
const sessions = new Map();

/** Return the session of a study. */
SITE.judgeSession = (study, images) => {
  const session = sessions.get(study.hash) ?? new Session(study, images);
  if (session.wentOnElsewhere) session.resume();
  sessions.set(study.hash, session);
  return session;
};
})();

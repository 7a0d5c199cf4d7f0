"""What the words mean that the site uses, and what the paper's methods are."""

from sae.comparison import published
from sae.comparison.intervals import IntervalRule
from sae.report import outcomes
from sae.report.names import Names

GLOSSARY = {
    "SAE": (
        "A sparse autoencoder writes an embedding as a sum of few directions out of "
        "many."
    ),
    "latent": "One of an SAE's directions, and how strongly an image has it.",
    "MS": (
        "Monosemanticity score: how alike the images are on which a latent fires, "
        "weighted by how strongly it does. Claims and the board read its mean over "
        "live latents, without pairs of near-duplicates where the data know them."
    ),
    "detection": (
        "A backbone of another family is shown some images on which a latent fires, "
        "and ranks the others: the AUC of those on which it fires, 0.5 by chance."
    ),
    "detection by looks": (
        "Detection by 8 x 8 pixels of the images in place of a backbone. It says how "
        "much of detection takes no network to see."
    ),
    "R²": (
        "The share of the variance of the test embeddings that the SAE's "
        "reconstruction explains."
    ),
    "k": (
        "How many latents an image may have: exactly so many under Top-k, on average "
        "with thresholds."
    ),
    "m": "How many latents an SAE has, the live and the dead.",
    "L0": "How many latents are active on an image, on average.",
    "λ": "The weight of a penalty in the training loss.",
    "live": (
        "A latent that fires on two test images or more, so that its images can be "
        "compared."
    ),
    "dead": "A latent that never fires; on training images, if nothing else is said.",
    "purity": "The share of a latent's images that are of its most frequent class.",
    "chance": (
        "What a score is where nothing was learned, such as with shuffled labels."
    ),
    "cell": "A dataset, a backbone and a k: methods are compared within one.",
    "front": (
        "The best score that a method's trials have at each R², as the hull of their "
        "points."
    ),
    "window": (
        "The R² just below the baseline's best in which methods are compared, so "
        "that none gains by reconstructing less. It does not reach left of where the "
        "baseline's score is highest."
    ),
    "feasible": (
        "A trial counts if it has no more active latents than the budget, and enough "
        "of its latents fire."
    ),
    "decoder cosine": (
        "How alike the directions of two latents are: 1 of the same, 0 of unrelated "
        "ones."
    ),
    "effect": (
        "A method's front less the baseline's, mean over the window, chosen on "
        "validation and read on test."
    ),
    "outcome": (
        "What is said of an effect. "
        + " ".join(
            f"{word[0].upper()}{word[1:]}: {when}."
            for word, when in outcomes.meanings(IntervalRule()).items()
        )
    ),
    "measured": "A latent is measured if it fires often enough for detection.",
    "control": (
        "Not trained, or only in part: a score that it has as high says nothing "
        "about what was learned."
    ),
    "concept": "A keyword that people gave images; it counts with enough images in "
    "training and test.",
    "name": "A keyword that half or more of the test images have on which a latent's "
    "activation is above a threshold; both are chosen on training images.",
    "often": "What recurs among the ten training images that activate a latent most, "
    "thrice as often as elsewhere or more; it is no name.",
    "stands for": "Up to three latents stand for a concept: where it holds, one of "
    "them should fire. They are chosen on training images and scored on test.",
    "stability": (
        "How alike a latent's direction is to the most alike one of other seeds."
    ),
}
PAPER = {
    published.BASELINE: "Top-k alone: the k largest activations of an image are kept.",
    published.REG1: (
        "Top-k with a penalty on the activations that were not kept (off-support l1)."
    ),
    published.REG2: (
        "Top-k with a penalty on how evenly activations are spread (l1/l2 ratio)."
    ),
}


def paper_methods(names: Names) -> dict[str, str]:
    """Return {label: what it is} of the paper's methods that an experiment has."""
    return {
        names.method(method): sentence
        for method, sentence in PAPER.items()
        if method in names.methods
    }

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
        "weighted by how strongly it fires. Claims and the leaderboard use its mean "
        "over live latents, without pairs of near-duplicates where the dataset marks "
        "them."
    ),
    "detection": (
        "A backbone of another family is shown a few images on which a latent fires, "
        "and ranks the others by likeness: the AUC of those on which the latent fires, "
        "0.5 by chance."
    ),
    "detection by looks": (
        "Detection with 8 x 8 pixels of each image in place of a backbone. It says how "
        "much of detection takes no network to see."
    ),
    "R²": (
        "The share of the variance of the test embeddings that the SAE's "
        "reconstruction explains."
    ),
    "k": (
        "How many latents may be active on an image: exactly k under Top-k, k on "
        "average under methods with a threshold."
    ),
    "m": "How many latents an SAE has, dead ones included.",
    "L0": "How many latents are active on an image, on average.",
    "λ": "The weight of a penalty in the training loss.",
    "live": (
        "A latent that fires on two test images or more, so that its images can be "
        "compared."
    ),
    "dead": "A latent that never fires; on training images, unless stated otherwise.",
    "purity": "The share of a latent's images that are of its most frequent class.",
    "spread": (
        "The share of a picture's positions that hold half of a latent's activation "
        "there: the mean over its ten highest pictures."
    ),
    "chance": (
        "What a score comes to where nothing was learned, as with shuffled labels."
    ),
    "cell": "One dataset, backbone and k. Methods are compared within a cell.",
    "front": (
        "The best score that a method's trials reach at each R²: the upper hull of "
        "their points."
    ),
    "window": (
        "The range of R² just below the baseline's best, in which methods are "
        "compared, so that none gains by reconstructing less. It ends where the "
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
        "A method's front minus the baseline's, averaged over the window: chosen on "
        "validation, measured on test."
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
        "An SAE that is not trained, or only in part. A score in which it is as high "
        "as a trained one says nothing about what was learned."
    ),
    "concept": "A keyword that people gave images; it counts if enough training and "
    "test images have it.",
    "name": "A keyword that is shared by half or more of the test images on which a "
    "latent's activation is above a threshold; both are chosen on training images.",
    "often": "Keywords that the ten training images that activate a latent most have "
    "more than three times as often as other images do. They are not a name.",
    "stands for": "Up to three latents stand for a concept: where it holds, one of "
    "them should fire. They are chosen on training images and scored on test.",
    "stability": (
        "How alike a latent's direction is to the closest one in SAEs of other seeds."
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

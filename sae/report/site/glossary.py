"""What the words mean that the site uses, and what the paper's methods are."""

from sae.comparison import published
from sae.comparison.intervals import IntervalRule
from sae.comparison.scores import SCORES
from sae.report import comparison
from sae.report.names import Names
from sae.scoring.choice import MARGIN, MOST_L0

# Scores whose sentence in `sae.comparison.scores` is all that there is to say.
_SCORES = (
    *("detection_per_latent", "detection_per_activation", "detection_pixels"),
    *("coverage", "usable", "effective", "nested", "copies"),
)

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
        "A held-out encoder, a backbone of another family, is shown ten images on "
        "which a latent fires, and ranks the others by likeness: the AUC of those on "
        "which the latent fires, 0.5 by chance. Of an SAE it is the mean of two views "
        "of all latents, per latent and per activation."
    ),
    **{SCORES[name].label: SCORES[name].what for name in _SCORES},
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
    "family": "Backbones of one kind of network and training.",
    "feasible": (
        f"A trial may be chosen if it ended well and its L0 is at most {MOST_L0:g} k."
    ),
    "reconstructs as well": (
        f"A trial whose R² on validation is at least R* - {MARGIN:g}, where R* is the "
        "best R² of the baseline's feasible trials."
    ),
    "chosen SAEs": (
        "Of each method the trial that reconstructs as well and has the highest "
        "detection on validation images, trained again with fresh seeds. Where no "
        "held-out encoder sees the images it is the trial of the highest R²."
    ),
    "decoder cosine": (
        "How alike the directions of two latents are: 1 of the same, 0 of unrelated "
        "ones."
    ),
    "effect": (
        "What a method's chosen SAEs have on test images, minus what the baseline's "
        "have: every score of the same SAEs."
    ),
    "verdict": (
        "What is said of an effect. "
        + " ".join(
            f"{word[0].upper()}{word[1:]}: {when}."
            for word, when in comparison.meanings(IntervalRule()).items()
        )
    ),
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

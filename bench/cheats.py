"""What detection says of SAEs that were changed to raise it: `python bench/cheats.py`.

    python bench/cheats.py results/demo

Takes the chosen Top-k SAE of every cell of a finished experiment, of one backbone a
family, and changes its latents by hand. Nothing is trained. A line says by how much the
scores of the test split change, mean over SAEs, and by how much `detection` rises for
the SAE for which it rises most.
"""

import argparse
import copy
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float, Int

from sae.bank.read import read as read_bank
from sae.core import files, registry
from sae.data import store
from sae.models.coder import Coder
from sae.scoring.metrics import detection
from sae.scoring.stage import checked_scores, options_of
from sae.scoring.subject import Subject

METRICS = ("reconstruction", "firing", "purity", "detection")
SHOWN = (
    "detection",
    "detection_per_latent",
    "detection_per_activation",
    "r2",
    "coverage",
    "usable",
    "effective",
    "nested",
    "copies",
    "purity_binary",
)
# Of the dictionary, what copies replace.
COPIED = 0.1
DROPPED = 0.25
CLASSES = 10


class Known(NamedTuple):
    """What someone who cheats knows of an SAE, from training and validation images.

    Attributes:
        rarest: latents, those that fire on fewest training images first.
        easiest: latents, those of the highest AUC on validation first.
        inputs: (N, d) training images, as the SAE takes them.
        labels: (N,) their classes.
    """

    rarest: Int[np.ndarray, " m"]
    easiest: Int[np.ndarray, " m"]
    inputs: Float[torch.Tensor, "images d"]
    labels: Int[np.ndarray, " images"]


def copy_easiest(
    coder: Coder, known: Known, strength: float = 1.0, cosine: float = 1.0
) -> None:
    """Put copies of the easiest latents in the place of the rarest.

    Where both fire, a latent and its copy add to a reconstruction what the latent added
    alone.

    Args:
        coder: the SAE, which is changed.
        known: what is known of it.
        strength: a copy's activation, as a share of the latent's.
        cosine: that of the two decoder rows. They are turned away from each other in a
            random direction, so that what they add together stays.
    """
    count = round(COPIED * coder.m)
    rarest = torch.tensor(known.rarest[:count].copy())
    is_kept = ~np.isin(known.easiest, known.rarest[:count])
    easiest = torch.tensor(known.easiest[is_kept][:count].copy())

    coder.encoder[rarest] = strength * coder.encoder[easiest]
    coder.b_enc[rarest] = strength * coder.b_enc[easiest]
    rows = coder.W_dec[easiest] / (1 + strength)
    aside = torch.randn(rows.shape, generator=torch.Generator().manual_seed(0))
    aside -= (aside * rows).sum(1, True) * rows / rows.square().sum(1, True)
    aside *= rows.norm(dim=1, keepdim=True) / aside.norm(dim=1, keepdim=True)
    # The tangents of both angles, which add up to that of the cosine.
    tangent = np.tan(np.arccos(cosine))
    root = np.sqrt((1 + strength) ** 2 + 4 * strength * tangent**2)
    aside *= 2 * tangent / (1 + strength + root)
    coder.W_dec[easiest] = rows + strength * aside
    coder.W_dec[rarest] = rows - aside


def drop_rarest(coder: Coder, known: Known) -> None:
    """Let the rarest quarter of the latents never fire."""
    rarest = torch.tensor(known.rarest[: round(DROPPED * coder.m)].copy())
    coder.encoder[rarest] = 0
    coder.b_enc[rarest] = -1


def fire_everywhere(coder: Coder, known: Known) -> None:
    """Let the rarest latent fire on every image, and add nothing to it."""
    latent = int(known.rarest[0])
    coder.encoder[latent] = 0
    coder.b_enc[latent] = 1e6
    coder.W_dec[latent] = 0


def indicate_classes(coder: Coder, known: Known) -> None:
    """Let the rarest latents fire on what ridge regression takes for a class."""
    classes, counts = np.unique(known.labels, return_counts=True)
    classes = classes[np.argsort(-counts, kind="stable")][:CLASSES]
    is_class = torch.tensor(known.labels[:, None] == classes, dtype=torch.float32)
    centred = known.inputs - coder.b_dec
    with_bias = torch.cat([centred, torch.ones(len(centred), 1)], dim=1)
    gram = with_bias.T @ with_bias
    gram += 1e-3 * gram.diag().mean() * torch.eye(len(gram))
    weights = torch.linalg.solve(gram, with_bias.T @ is_class)

    latents = torch.tensor(known.rarest[: len(classes)].copy())
    coder.encoder[latents] = 1e6 * weights[:-1].T
    coder.b_enc[latents] = 1e6 * (weights[-1] - 0.4)
    coder.W_dec[latents] = 0


CHEATS: dict[str, Callable[[Coder, Known], None]] = {
    "copies, half each": copy_easiest,
    "copies, .65 and .35": partial(copy_easiest, strength=0.35 / 0.65),
    "copies, half each, turned": partial(copy_easiest, cosine=0.95),
    "rarest quarter dropped": drop_rarest,
    "one fires everywhere": fire_everywhere,
    "ten indicate classes": indicate_classes,
    # What clusters by a cosine and a Jaccard of .9 do not see.
    "copies, weaker and turned far": partial(copy_easiest, strength=0.8, cosine=0.85),
}


class Images(NamedTuple):
    """The images of a cell, and what other encoders see of them.

    Attributes:
        splits: {split: embeddings and index}.
        others: {backbone of another family: {split: its embeddings}}.
        shared: what is computed once for all SAEs of the cell.
    """

    splits: dict[str, store.Activations]
    others: dict[str, dict[str, np.ndarray]]
    shared: dict[Any, Any]


def compare(coder: Coder, images: Images) -> pd.DataFrame:
    """Return the scores of an SAE, a row as it is and one for each cheat."""
    subject = Subject(coder, images.splits, images.others, images.shared)
    auc = detection.latent_aucs(subject, "val", detection.Options())
    labels = subject.labels("train")
    assert auc is not None and labels is not None
    inputs = torch.tensor(np.asarray(subject.inputs("train")[:]))
    known = Known(
        np.argsort(subject.firing_counts("train"), kind="stable"),
        np.argsort(-np.nan_to_num(auc), kind="stable"),
        coder.standardise(inputs)[0],
        labels,
    )
    rows = {"as trained": score(coder, images)}
    for name, cheat in CHEATS.items():
        changed = copy.deepcopy(coder)
        with torch.no_grad():
            cheat(changed, known)
        rows[name] = score(changed, images)
    return pd.DataFrame(rows).T


def score(coder: Coder, images: Images) -> dict[str, float]:
    """Return the scores of an SAE on the test split."""
    subject = Subject(coder, images.splits, images.others, images.shared)
    scores: dict[str, Any] = {}
    for name in METRICS:
        module = registry.load("metric", name)
        given = module.score(subject, "test", options_of(name, None))
        scores |= checked_scores(name, given, coder.m).scalars
    return {name: float(scores[name]) for name in SHOWN}


def summarise(tables: list[pd.DataFrame]) -> pd.DataFrame:
    """Return a row a cheat: mean differences, and the largest rise of detection.

    Args:
        tables: what `compare` returns, one an SAE.
    """
    rises = [table.iloc[1:] - table.iloc[0] for table in tables]
    by_cheat = pd.concat(rises).groupby(level=0, sort=False)
    summary = by_cheat.mean()
    summary.insert(1, "worst", by_cheat["detection"].max())
    return summary


def read_cells(results: Path, method: str) -> list[tuple[str, Coder, Images]]:
    """Return (name, SAE, images) of each cell of one backbone a family."""
    made_by = files.read_json(results / "made_by.json")
    family_of = made_by["families"]
    first_of_family = {family: name for name, family in reversed(family_of.items())}
    cells = []
    for file in sorted((results / "saes").glob("*/*/k*/bank.json")):
        bank = read_bank(file)
        if bank.backbone not in first_of_family.values():
            continue
        trained = next(of for of in bank.saes if of.method == method and of.chosen)
        activations = results.parent / "activations" / bank.dataset
        splits = {
            split: store.read(activations / bank.backbone / split)
            for split in ("train", "val", "test")
        }
        others = {
            judge: {
                split: store.read(activations / judge / split).embeddings
                for split in splits
            }
            for judge, family in family_of.items()
            if family != family_of[bank.backbone]
        }
        name = f"{bank.dataset} / {bank.backbone} / k{bank.k}"
        cells.append((name, bank.open(trained), Images(splits, others, {})))
    return cells


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("results", type=Path, help="such as results/demo")
    parser.add_argument("--method", default="topk", help="whose SAEs are changed")
    parser.add_argument("--each", action="store_true", help="print every SAE, too")
    arguments = parser.parse_args()
    tables = []
    for name, coder, images in read_cells(arguments.results, arguments.method):
        tables.append(compare(coder, images))
        if arguments.each:
            print(f"\n{name}\n\n{tables[-1].to_markdown(floatfmt='.3f')}", flush=True)
    print(f"\nDifference from the SAE as trained, mean of {len(tables)}\n")
    print(summarise(tables).to_markdown(floatfmt="+.3f"))


if __name__ == "__main__":
    main()

"""The card of an SAE: `python -m sae card`, its lines on the console and its page."""

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from sae.cards.images import (
    CardImages,
    check_concepts_count,
    check_row_count,
    says_repeats,
    split_one_set,
)
from sae.cards.make import check_is_pooled, make_card
from sae.core import files, outputs
from sae.core.errors import UserError
from sae.core.options import Count
from sae.data import concepts as annotated
from sae.data import store
from sae.data.annotations import classes, csv
from sae.data.backbones import thumbnail
from sae.data.concepts import Annotations
from sae.data.dataset import OpenImage
from sae.data.forward import embed_images
from sae.data.splits import SPLITS
from sae.data.store import Activations
from sae.models import convert
from sae.models.apply import check_embeddings
from sae.models.checkpoints import Options
from sae.report import card_page
from sae.report.card_words import lines
from sae.report.site.explore import (
    ViewedImages,
    check_given,
    read_viewed_images,
)
from sae.scoring.judges import check_judges
from sae.scoring.repeats import check_apart, join_repeats

progress = logging.getLogger("sae.progress")
COMMAND = "card"
LOOKS_SIDE = 8


def card(
    options: Options = convert.NO_OPTIONS,
    *,
    sae: str,
    activations: Path,
    out: Path = Path("card"),
    judge: Sequence[Path] = (),
    images: Path | None = None,
    concepts: Path | None = None,
    train: Path | None = None,
    dataset: Path | None = None,
    artifacts: Path = Path("results/artifacts"),
    store_dir: Path = Path("results/cards"),
    quick: bool = False,
    yes: bool = False,
    pooled: bool = False,
    verbose: bool = False,
    at_once: Count = 2,
    device: str = "cpu",
) -> None:
    """Say whether an SAE is any good: its scores beside those of SAEs tuned here.

    Top-k SAEs of as many latents, untrained ones, a frozen decoder and PCA are trained
    on the same embeddings. Prints the card, and writes index.html and card.json.

    Args:
        options: what the SAE's file leaves open.
        sae: an SAE: a file, a folder, or owner/name[:folder] on the Hugging Face hub,
            of this project or another library.
        activations: embeddings that it is judged on: a folder of the splits train, val
            and test, or one set (the folder of one split, or a .npy file (N, d)), which
            is split by a seed.
        out: the folder to write; of what is there, files that this command wrote are
            replaced, and all others stay.
        judge: embeddings of the same images by other backbones, in the same form, for
            detection.
        images: a folder of images: paths are those of the embeddings' index; of a .npy
            file the sorted images of the folder are its rows.
        concepts: a CSV with the columns image,concept: keywords of images; by default
            what the dataset of the embeddings says, else its classes.
        train: embeddings that the SAE was trained on, where these are others: a .npy
            file, or the folder of one split.
        dataset: the folder of the dataset's index, results/datasets/NAME; by default
            the one that belongs to the embeddings, if it lies there.
        artifacts: folder of fetched artifacts, which its images may be in.
        store_dir: folder in which references stay for a second card.
        quick: train references for a fixed short time, about two minutes.
        yes: go on where it takes more than half an hour.
        pooled: the SAE was trained on one vector an image, although its format is one
            of patch tokens.
        verbose: say what each SAE that is trained gives.
        at_once: references to train side by side, each in a process of its own; the
            result is the same.
        device: of PyTorch: cpu, cuda, cuda:1, mps, or auto for the best there is.

    Raises:
        UserError: the SAE or embeddings cannot be read or do not fit each other, rows
            or groups are too few or differ in number, or it would take too long.
    """
    if not verbose:
        logging.getLogger("sae.progress.details").setLevel(logging.WARNING)
    out = out.absolute()
    names = [card_page.PAGE, card_page.PLOT, card_page.JSON]
    outputs.check_folder(out, COMMAND, names)
    check_given([activations, *judge, *([] if train is None else [train])], concepts)
    coder = convert.load(sae, options=options)
    check_is_pooled(coder, pooled)
    viewed = read_viewed_images(activations, dataset, artifacts, images)
    needed = f"what {sae} takes"
    check_embeddings(viewed.test.embeddings, coder.d, str(activations), needed)
    trained_on = None
    if train is not None:
        has_train = (train / "train/manifest.json").exists()
        place = train / "train" if has_train else train
        trained_on = read_viewed_images(place, None, artifacts, None).test
        check_embeddings(trained_on.embeddings, coder.d, str(train), needed)
    keywords = _keywords(activations, dataset, concepts)

    if is_of_splits(activations):
        card_images = _images_of_splits(
            activations, viewed, judge, keywords, trained_on
        )
    else:
        card_images = _images_of_one_set(viewed, judge, keywords, trained_on)
    if concepts is not None:
        check_concepts_count(card_images, f"--concepts {concepts}")
    made = make_card(
        coder,
        card_images,
        root=store_dir,
        quick=quick,
        yes=yes,
        at_once=at_once,
        device=device,
    )
    print("\n".join(lines(made.content)))
    with outputs.replacing_folder(out, COMMAND, card_page.JSON) as folder:
        card_page.write(made, folder, Path(sae).name)
    progress.info("%s: open it in a browser", out / card_page.PAGE)


# -- embeddings, judges, pictures and keywords


def _images_of_splits(
    folder: Path,
    viewed: ViewedImages,
    judges: Sequence[Path],
    keywords: Path | Annotations | None,
    trained_on: Activations | None,
) -> CardImages:
    splits = {split: store.read(folder / split) for split in SPLITS}
    count = sum(len(part.index) for part in splits.values())
    check_row_count(count, str(folder))
    check_apart(splits, trained_on)
    repeat_count = 0
    for split in SPLITS:
        splits[split], repeats = join_repeats(splits[split])
        repeat_count += repeats
    by_name = _by_name(_judge_of_splits(place, splits) for place in judges)
    for split, own in splits.items():
        judges_of_split = {
            f"judge {name}": parts[split] for name, parts in by_name.items()
        }
        check_judges(judges_of_split, own.embeddings)
    return CardImages(
        splits,
        judges=by_name,
        looks=_looks_of_splits(folder, splits, viewed.open_image),
        concepts=_concepts_of(keywords, splits),
        trained_on=trained_on,
        folder=folder,
        open_image=viewed.open_image,
        credit=viewed.credit,
        notes=says_repeats(repeat_count, count),
    )


def _images_of_one_set(
    viewed: ViewedImages,
    judges: Sequence[Path],
    keywords: Path | Annotations | None,
    trained_on: Activations | None,
) -> CardImages:
    one_set = viewed.test
    looks = None
    if viewed.open_image is not None:
        looks = _thumbnails(viewed.open_image, one_set.index["path"])
    card_images = split_one_set(
        one_set,
        _by_name(_judge_of_one_set(place, one_set) for place in judges),
        trained_on=trained_on,
        looks=looks,
    )
    return replace(
        card_images,
        concepts=_concepts_of(keywords, card_images.splits),
        open_image=viewed.open_image,
        credit=viewed.credit,
    )


def is_of_splits(place: Path) -> bool:
    """Say whether embeddings lie in a folder of all three splits."""
    return all((place / split / "manifest.json").exists() for split in SPLITS)


def _by_name(judges: Iterable[tuple[str, Any]]) -> dict[str, Any]:
    by_name: dict[str, Any] = {}
    for name, embeddings in judges:
        if name in by_name:
            raise UserError(f"two judges are called {name}: rename a file or folder")
        by_name[name] = embeddings
    return by_name


def _judge_of_splits(
    place: Path, splits: Mapping[str, Activations]
) -> tuple[str, dict[str, np.ndarray]]:
    if not is_of_splits(place):
        raise UserError(
            f"judge {place} is no folder of train, val and test, as the SAE's "
            "embeddings are: give its embeddings of the same splits"
        )
    read = {split: store.read(place / split) for split in SPLITS}
    for split, own in splits.items():
        _check_same_images(place, read[split], own)
    name = read["test"].manifest["backbone"]["name"]
    return name, {split: part.embeddings for split, part in read.items()}


def _judge_of_one_set(place: Path, own: Activations) -> tuple[str, np.ndarray]:
    if place.suffix == ".npy":
        return place.stem, files.read_array(place)
    judge = store.read(place)
    _check_same_images(place, judge, own)
    return judge.manifest["backbone"]["name"], judge.embeddings


def _check_same_images(place: Path, judge: Activations, own: Activations) -> None:
    if len(judge.index) != len(own.index):
        raise UserError(
            f"{place} has {len(judge.index)} images, and the SAE's embeddings have "
            f"{len(own.index)}: give the same images in the same order"
        )
    judge_ids = judge.index["image_id"].astype(str)
    differ = (judge_ids.to_numpy() != own.index["image_id"].astype(str)).to_numpy()
    if differ.any():
        row = int(differ.argmax())
        raise UserError(
            f"{place} has the image {judge_ids.iloc[row]!r} in row {row}, where "
            f"the SAE's embeddings have {own.index['image_id'].iloc[row]!r}: give the "
            "same images in the same order"
        )


def _dataset_folder(activations: Path, dataset: Path | None) -> Path | None:
    """Return the folder of the dataset of embeddings, where it lies beside them."""
    if dataset is not None:
        return dataset
    folder_of_splits = activations.absolute()
    if (activations / "manifest.json").exists():  # It is one split.
        folder_of_splits = folder_of_splits.parent
    above = folder_of_splits.parents  # dataset, activations, results
    if len(above) < 3 or activations.suffix == ".npy":
        return None
    folder = above[2] / "datasets" / above[0].name
    return folder if (folder / "manifest.json").exists() else None


def _keywords(
    activations: Path, dataset: Path | None, concepts: Path | None
) -> Path | Annotations | None:
    if concepts is not None:
        return concepts
    folder = _dataset_folder(activations, dataset)
    if folder is not None and (folder / annotated.MANIFEST).exists():
        return annotated.load_annotations(folder)
    return None


def _concepts_of(
    keywords: Path | Annotations | None, splits: Mapping[str, Activations]
) -> dict[str, annotated.SplitConcepts]:
    """Return the keywords of each split: a CSV's, a dataset's, or its classes."""
    index = pd.concat([part.index for part in splits.values()], ignore_index=True)
    if isinstance(keywords, Annotations):
        annotations = keywords
    elif keywords is not None:
        annotations = csv.load(csv.Options(file=str(keywords)), None, index)
    else:
        index = index.reindex(columns=["image_id", "label_name", "label_coarse_name"])
        annotations = classes.load(classes.Options(), None, index)
    if not len(annotations.keywords):
        return {}
    if not isinstance(keywords, Annotations):
        annotated.check(annotations, index)
    return {
        split: annotated.of_images(annotations, part.index["image_id"])
        for split, part in splits.items()
    }


def _looks_of_splits(
    activations: Path,
    splits: Mapping[str, Activations],
    open_image: OpenImage | None,
) -> dict[str, np.ndarray]:
    """Return 8 x 8 thumbnails: those beside the embeddings, or made of pictures."""
    beside = activations.absolute().parent / "thumbnail"
    if is_of_splits(beside):
        read = {split: store.read(beside / split) for split in SPLITS}
        for split, own in splits.items():
            _check_same_images(beside, read[split], own)
        return {split: part.embeddings for split, part in read.items()}
    if open_image is None:
        return {}
    return {
        split: _thumbnails(open_image, part.index["path"])
        for split, part in splits.items()
    }


def _thumbnails(open_image: OpenImage, paths: pd.Series) -> np.ndarray:
    progress.info("reading %s images for detection by looks", f"{len(paths):,}")
    backbone = thumbnail.load(thumbnail.Options(model="rgb"), None, LOOKS_SIDE)
    batches = embed_images(
        backbone, open_image, [*paths], batch_size=64, device="cpu", workers=0
    )
    return np.concatenate([*batches])

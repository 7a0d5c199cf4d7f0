"""The site of any SAEs, imported ones among them: no workflow, no labels and no images are needed."""

import logging
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image

from sae.comparison import fronts
from sae.comparison.methods import MethodRelations
from sae.comparison.scores import across_groups
from sae.core import files, registry
from sae.core.errors import UserError
from sae.data import archives, pictures, store
from sae.data import concepts as annotated
from sae.data import dataset as datasets
from sae.data.annotations import csv
from sae.data.concepts import SplitConcepts
from sae.data.store import Activations
from sae.models import convert
from sae.models.apply import check_embeddings, image_paths
from sae.models.coder import Coder
from sae.report import gallery
from sae.report.names import Names
from sae.report.site import build, cells, overview, pack, start
from sae.report.site import images as pictured
from sae.report.site.build import Shown
from sae.report.site.concepts import (
    ShownConcepts,
    choose_shown,
    group_numbers,
    read_index,
)
from sae.scoring import alone
from sae.scoring.metrics import concepts as names_metric
from sae.scoring.rows import CELL
from sae.scoring.stage import options_of
from sae.scoring.subject import PerLatent, Subject

progress = logging.getLogger("sae.progress")
METRICS = ("reconstruction", "monosemanticity", "purity", "density")
TRIAL = "as given"


def explore(
    *,
    sae: Sequence[str],
    activations: Path,
    out: Path,
    method: Sequence[str] = (),
    dataset: Path | None = None,
    artifacts: Path = Path("results/artifacts"),
    images: Path | None = None,
    concepts: Path | None = None,
    device: str = "cpu",
) -> None:
    """Write a site that shows what any SAEs have learned, side by side: open index.html of the folder `out`.

    Args:
        sae: SAEs: files, folders, or owner/name[:folder] on the Hugging Face hub, of this project or another library.
        activations: embeddings that they are looked at on: a folder of splits, of which test is taken, the folder of
            one split, or a .npy file (N, d).
        out: the folder to write; a site that is there is replaced.
        method: a name for each SAE; by default those of their files.
        dataset: the folder of the dataset's index, results/datasets/NAME, whose images are shown; by default the one
            that belongs to the embeddings, if it lies there.
        artifacts: folder of fetched artifacts, which its images may be in.
        images: a folder of images to show instead: paths are those of the embeddings' index; of a .npy file the
            sorted images of the folder are its rows.
        concepts: a CSV with the columns image,concept: keywords of images, of which
            latents get names. Latents are chosen for concepts on training images and
            scored on test images: of a folder of splits these are train and test. One
            set of images is halved by a seed, and the site shows the half that is not
            used for choosing. Near-duplicates that no `group` joins may lie in both
            halves, which makes names look better than they are.
        device: of PyTorch: cpu, cuda, cuda:1, mps, or auto for the best there is.

    Raises:
        UserError: an SAE or the embeddings cannot be read or do not fit each other, names or images are too few, or
            `out` holds something else; a row of `concepts` is not right, or none of its
            concepts counts.
    """
    if (
        out.exists()
        and not (out / "data/overview.js").exists()
        and (not out.is_dir() or any(out.iterdir()))
    ):
        raise UserError(
            f"{out} is there and is no site: name another folder with --out"
        )
    if not sae:
        raise UserError("--sae names no SAE: give one file or folder or more")
    # Before anything is computed.
    with files.refusing_unwritable(out), files.scratch_directory(out):
        pass
    coders = [convert.load(place).to(device) for place in sae]
    ids = list(method) or _told_apart(
        [_name(place, coder) for place, coder in zip(sae, coders, strict=True)]
    )
    if len(ids) != len(sae) or len(set(ids)) < len(ids):
        said = f"{len(sae)} SAEs have {len(set(ids))} different names"
        raise UserError(
            f"{said}: give --sae one or more, and --method a name for each of them"
        )
    test, open_image, credit = _data(activations, dataset, artifacts, images)
    named: NamedImages | None = None
    if concepts is not None:
        named = read_named_images(concepts, activations, test)
        test = named.splits["test"]
    for given, coder in zip(sae, coders, strict=True):
        check_embeddings(
            test.embeddings, coder.d, str(activations), f"what {given} takes"
        )
    k, looks, shown, rows = (
        coders[0].k,
        dict[str, MethodRelations](),
        list[Shown](),
        list[dict[str, Any]](),
    )
    # What a metric keeps of the images for all SAEs.
    shared: dict[Hashable, Any] = {}
    for number, (name, coder) in enumerate(zip(ids, coders, strict=True)):
        label = name if coder.k == k else f"{name} (k = {coder.k})"
        looks[name] = MethodRelations(
            label=label, imported=coder.metadata["imported"] != "ours"
        )
        subject = Subject(coder, {"test": test})
        metrics: tuple[str, ...] = METRICS
        if named is not None:
            subject = Subject(
                coder, named.splits, shared=shared, concepts=named.concepts_by_split
            )
            metrics = (*METRICS, "concepts")
        scores = {
            key: value
            for metric in metrics
            for key, value in _scores(metric, subject).items()
        }
        found = {k: v for k, v in scores.items() if not isinstance(v, PerLatent)}
        names_of_latents = {
            k: v.values for k, v in scores.items() if k in names_metric.SHOWN
        }
        table = pd.DataFrame(
            {key: of.values for key, of in _scores("latents", subject).items()}
        ).assign(**names_of_latents)
        shown.append(
            Shown(
                number,
                name,
                coder,
                table.assign(ms=table.get("ms_across_groups", table["ms"])),
            )
        )
        rows.append({"m": coder.m, **found})
        if doubt := convert.describe_doubt(coder, found["r2"], "these embeddings"):
            progress.warning("%s: it %s", name, doubt)
    about = test.manifest
    names = Names(
        methods=looks,
        datasets={about["dataset"]["name"]: None},
        backbones={about["backbone"]["name"]: None},
    )
    compose(
        out,
        names,
        shown,
        across_groups(pd.DataFrame(rows)),
        test,
        open_image,
        credit,
        None if named is None else named.shown,
    )
    said = (
        ""
        if open_image
        else "; without images, for which there are --dataset and --images"
    )
    progress.info("%s: open it in a browser%s", out / "index.html", said)


@dataclass(frozen=True)
class NamedImages:
    """Training and test images with keywords of one's own.

    Attributes:
        splits: "train", on which latents are chosen for concepts, and "test".
        concepts_by_split: The keywords of both.
        shown: What the site says of the test images.
    """

    splits: dict[str, Activations]
    concepts_by_split: dict[str, SplitConcepts]
    shown: ShownConcepts


def read_named_images(
    concepts: Path, activations: Path, test: Activations
) -> NamedImages:
    """Read keywords of one's own, and the training images that names need.

    Args:
        concepts: A CSV with the columns image,concept.
        activations: A folder of splits, of which train is read, or one set of images,
            of which a half becomes the training images.
        test: The test images of the folder, or that set.

    Raises:
        UserError: a row of the CSV is not right, none of its concepts counts, or the
            folder of splits has no train.
    """
    if activations.suffix == ".npy" or (activations / "manifest.json").exists():
        train, test = halve(test)
        progress.info(
            "names of latents are chosen on %s images and tested on %s others, which "
            "the site shows",
            len(train.index),
            len(test.index),
        )
    elif (activations / "train/manifest.json").exists():
        train = store.read(activations / "train")
    else:
        raise UserError(
            f"{activations} has no train beside test: names of latents are chosen on "
            "training images and tested on others; embed train as well, or give one "
            "set of images (a .npy file, or the folder of one split), which is halved"
        )
    splits = {"train": train, "test": test}
    indices = [train.index, test.index]
    if (activations / "val/manifest.json").exists():
        # It is not used, but the keywords may be of all images.
        indices.append(read_index(activations / "val").index)
    index = pd.concat(indices, ignore_index=True)
    annotations = csv.load(csv.Options(file=str(concepts)), None, index)
    annotated.check(annotations, index)

    options = names_metric.Options()
    shown = choose_shown(annotations, train, test, options, credit="")
    if not shown.names:
        raise UserError(
            f"none of the concepts of {concepts} counts: a concept needs "
            f"{options.least_train} of {len(train.index)} training images and "
            f"{options.least_split} of {len(test.index)} test images, in "
            f"{options.least_train_groups} and {options.least_split_groups} groups"
        )
    concepts_by_split = {
        split: annotated.of_images(annotations, images.index["image_id"])
        for split, images in splits.items()
    }
    return NamedImages(splits, concepts_by_split, shown)


def halve(images: Activations) -> tuple[Activations, Activations]:
    """Return two halves of some images, drawn by a seed; groups stay together."""
    groups = group_numbers(images)
    shuffled = np.random.default_rng(0).permutation(groups.max() + 1)
    is_first = np.isin(groups, shuffled[: len(shuffled) // 2])
    first, second = (
        Activations(
            store.rows_of(images.embeddings, np.flatnonzero(chosen)),
            images.index[chosen].reset_index(drop=True),
            images.manifest,
        )
        for chosen in (is_first, ~is_first)
    )
    return first, second


def compose(
    out: Path,
    names: Names,
    shown: Sequence[Shown],
    metrics: pd.DataFrame,
    test: Activations,
    open_image: Callable[[str], Image.Image] | None,
    credit: str,
    concepts: ShownConcepts | None = None,
) -> None:
    """Write a site of one cell, of SAEs and their scores.

    Args:
        names: of one dataset and one backbone; its methods are those of `shown`.
        metrics: a row of scores for each SAE: m, r2, l0, ms_floor, ms_mean_alive and what else there is.
        credit: whose pictures the images are.
        concepts: those of the test images, where there are any.
    """
    (dataset,), (backbone,), first = names.datasets, names.backbones, shown[0].coder
    place, ids = (dataset, backbone, first.k), [one.method for one in shown]
    labels = list(map(names.method, ids))
    key = dict(zip(overview.KEY, (*place, "", TRIAL, 0), strict=True)) | {"method": ids}
    metrics = metrics.assign(**key, split="test", status="ok", selected=True)
    numbers = overview.Numbers([place], ids)
    numbers.saes = {
        of: n
        for n, of in enumerate(metrics[overview.KEY].itertuples(index=False, name=None))
    }
    trials = overview.trials(
        metrics, pd.DataFrame(columns=[*fronts.TRIAL, "feasible"]), set(), numbers
    )
    scores = pd.DataFrame(overview.scores_of(metrics)).to_dict("records")
    cell = dict(zip(CELL, place, strict=True)) | {
        "m": first.m,
        "d": first.d,
        "images": 0,
        "concepts": concepts is not None,
    }
    about = overview.empty() | {
        "experiment": out.name,
        "description": f"What {' and '.join(labels)} learned",
    }
    about |= {
        "datasets": [{"id": dataset, "label": names.dataset(dataset)}],
        "methods": overview.methods(names),
    }
    about |= {"backbones": [{"id": backbone, "label": names.backbone(backbone)}]}
    about |= {"trials": trials | {"l0": metrics["l0"]}}
    about["cells"] = [
        cell
        | {"saes": [*range(len(shown))], "chance": {"ms": metrics["ms_floor"].iloc[0]}}
    ]
    settings = []
    for number, (one, row) in enumerate(zip(shown, scores, strict=True)):
        sae = {
            "cell": 0,
            "method": number,
            "trial": TRIAL,
            "seed": 0,
            "alive": int((one.table["n_active"] > 0).sum()),
        }
        about["saes"].append(sae | {"scores": row})
        about["answer"].append(
            f"{labels[number]} has an R² of {row['r2']:.3f} and an MS of {row['ms']:.3f}."
        )
        said = one.coder.metadata | {
            "m": one.coder.m,
            "k": one.coder.k,
            "input_norm": one.coder.input_norm,
        }
        settings.append({"method": number, "trial": TRIAL, "settings": said})
    about["answer"] = about["answer"][:3]
    with build.folder(out) as site:
        tops, found = build.add_cell(site, place, shown, test, ids, concepts=concepts)
        lost = pictured.write(
            site, 0, dataset, test.index, credit, open_image, tops, concepts
        )
        made = {
            "distributions": cells.distributions(
                {one.number: one.table for one in shown}
            ),
            "settings": settings,
        }
        pack.put(site, "cells/0", {"curves": [], "training": []} | made)
        about["start"] = start.views(found, names, [], [place])
        about["provenance"] = {
            "versions": build.versions(),
            "machine": build.machine(),
            "left_out": [],
        }
        about["provenance"] |= {
            "config": "",
            "embeddings": [],
            "sources": [],
            "times": [],
            "rebuild": "",
        }
        if lost:
            about["provenance"]["left_out"] = [
                f"{len(lost)} images have no thumbnail: {', '.join(lost[:10])}."
            ]
        build.shell(site, about)


def _scores(name: str, subject: Subject) -> dict[str, Any]:
    module = registry.load("metric", name)
    return module.score(
        subject.limited({"test", *module.READS}), "test", options_of(name, None)
    )


def _name(place: str, coder: Coder) -> str:
    """What its file is called; a sae.safetensors is called by its method, or by the library that made it."""
    stem, method = Path(place).stem, coder.metadata["method"]
    return (
        stem
        if stem != "sae"
        else coder.metadata["imported"]
        if method == "imported"
        else method
    )


def _told_apart(names: list[str]) -> list[str]:
    """The names, with a number where an earlier one is the same."""
    found: list[str] = []
    for name in names:
        found.append(
            next(
                n
                for n in (name, *(f"{name} {i}" for i in range(2, len(names) + 2)))
                if n not in found
            )
        )
    return found


def _images_beside(
    results: Path, about: dict[str, Any]
) -> tuple[Callable[[str], Image.Image] | None, str]:
    """How to open the images of the dataset that embeddings are of, and whose they are, if they lie in its results."""
    place = results / "datasets" / about["name"] / "manifest.json"
    try:
        manifest = (
            files.read_json(place, "manifest of dataset") if place.exists() else {}
        )
        if manifest and manifest["fingerprint"] == about["fingerprint"]:
            return datasets.reader(
                manifest["spec"], results / "artifacts"
            ), gallery.credit(manifest["artifacts"])
    except UserError as error:
        progress.info("images are not shown: %s", error)
    return None, ""


def _data(
    activations: Path, dataset: Path | None, artifacts: Path, images: Path | None
) -> tuple[Activations, Callable[[str], Image.Image] | None, str]:
    """The embeddings with their index, how to open an image, if there are any, and whose they are."""
    credit, guard = (
        "",
        None if images is None else pictures.Guard(archives.opener(images)),
    )
    if activations.suffix == ".npy":
        embeddings = check_embeddings(
            files.read_array(activations), None, str(activations)
        )
        paths = (
            image_paths(images)
            if images
            else [str(row) for row in range(len(embeddings))]
        )
        if len(paths) != len(embeddings):
            raise UserError(
                f"{images} has {len(paths)} images for the {len(embeddings)} rows of {activations}"
            )
        test = alone.data("embeddings", embeddings, None, embeddings.shape[1])
        test.index["image_id"], test.index["path"] = paths, paths
        test.manifest["dataset"]["name"], test.manifest["backbone"]["name"] = (
            "images",
            activations.stem,
        )
    else:
        folder = (
            activations
            if (activations / "manifest.json").exists()
            else activations / "test"
        )
        test = store.read(folder)
        above = folder.absolute().parents  # backbone, dataset, activations, results
        if images is None and dataset is None and len(above) > 3:
            return test, *_images_beside(above[3], test.manifest["dataset"])
    if dataset:
        manifest = files.read_json(dataset / "manifest.json", "manifest of dataset")
        return (
            test,
            datasets.reader(manifest["spec"], artifacts),
            gallery.credit(manifest["artifacts"]),
        )
    return test, guard, credit

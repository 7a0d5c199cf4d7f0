"""The site of any SAEs, imported ones among them.

No workflow, no labels and no images are needed.
"""

import dataclasses
import itertools
import logging
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image

from sae.bank.plan import Method
from sae.comparison.scores import across_groups
from sae.core import files, outputs, registry
from sae.core.errors import UserError
from sae.core.options import Count
from sae.data import archives, pictures, store
from sae.data import concepts as annotated
from sae.data import dataset as datasets
from sae.data.annotations import csv
from sae.data.concepts import SplitConcepts
from sae.data.store import Activations
from sae.models import convert
from sae.models.apply import check_embeddings, image_paths
from sae.models.coder import Coder
from sae.report import card_page, gallery
from sae.report.card_page import CardFiles
from sae.report.names import Names
from sae.report.site import build, cells, overview, pack, start
from sae.report.site import images as site_images
from sae.report.site.build import ShownSae
from sae.report.site.concepts import (
    WORDS,
    ShownConcepts,
    choose_shown,
    read_index,
)
from sae.report.site.overview import Overview
from sae.scoring import alone
from sae.scoring.heatmaps import (
    Maps,
    NoPositions,
    draw,
    read_positions,
    viewer_like,
)
from sae.scoring.metrics import concepts as concepts_metric
from sae.scoring.rows import CELL
from sae.scoring.stage import options_of
from sae.scoring.subject import PerLatent, Subject

progress = logging.getLogger("sae.progress")
COMMAND = "explore"
METRICS = ("reconstruction", "monosemanticity", "purity", "density")
TRIAL = "as given"
MOST_HEATMAPS = 2000  # pictures

OpenImage = Callable[[str], Image.Image]


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
    backbone: str = "",
    positions: Path | None = None,
    heatmaps: Count | None = None,
    card: Path | None = None,
    device: str = "cpu",
) -> None:
    """Write a site that shows what any SAEs have learned, side by side.

    Open index.html of the folder `out` in a browser.

    Args:
        sae: SAEs: files, folders, or owner/name[:folder] on the Hugging Face hub, of
            this project or another library.
        activations: embeddings that they are looked at on: a folder of splits, of which
            test is taken, the folder of one split, or a .npy file (N, d).
        out: the folder to write; of what is there, files that this command wrote are
            replaced, and all others stay.
        method: a name for each SAE; by default those of their files.
        dataset: the folder of the dataset's index, results/datasets/NAME, whose images
            are shown; by default the one that belongs to the embeddings, if it lies
            there.
        artifacts: folder of fetched artifacts, which its images may be in.
        images: a folder of images to show instead: paths are those of the embeddings'
            index; of a .npy file the sorted images of the folder are its rows.
        concepts: a CSV with the columns image,concept: keywords of images, of which
            latents get names. Latents are chosen for concepts on training images and
            scored on test images: of a folder of splits these are train and test. One
            set of images is halved by a seed, and the site shows the half that is not
            used for choosing. Near-duplicates that no `group` joins may lie in both
            halves, which makes names look better than they are.
        backbone: the backbone of the embeddings, by its name in the config, for
            heatmaps of where in pictures latents fire; the embeddings are a folder
            that it made.
        positions: instead, for embeddings that were made elsewhere: a .npy file
            (N, h, w, d) of vectors at h x w positions of each of their N images, all of
            a picture from its upper left to its lower right.
        heatmaps: so many pictures get heatmaps, at most; by default 2000. It goes with
            `backbone` or `positions`.
        card: a folder that `python -m sae card` wrote of one of them; the site begins
            with it.
        device: of PyTorch: cpu, cuda, cuda:1, mps, or auto for the best there is.

    Raises:
        UserError: an SAE or the embeddings cannot be read or do not fit each other,
            names or images are too few, or `out` holds other files of these names; a
            row of `concepts` is not right, or none of its concepts counts.
    """
    outputs.check_folder(out, COMMAND, build.NAMES)
    check_given([activations], concepts)
    if not sae:
        raise UserError("--sae names no SAE: give one file or folder or more")
    if heatmaps is not None and not backbone and positions is None:
        raise UserError(
            f"--heatmaps {heatmaps}: where in pictures latents fire nobody knows: give "
            "--backbone or --positions, too"
        )
    coders = [convert.load(place).to(device) for place in sae]
    made_card = None if card is None else card_page.read_of_any(card, coders)
    methods = _method_names(sae, coders, method)

    viewed = read_viewed_images(activations, dataset, artifacts, images)
    named: NamedImages | None = None
    test = viewed.test
    if concepts is not None:
        named = read_named_images(concepts, activations, test)
        test = named.splits["test"]
    for place, coder in zip(sae, coders, strict=True):
        check_embeddings(
            test.embeddings, coder.d, str(activations), f"what {place} takes"
        )

    maps, facts = _draw_heatmaps(
        coders,
        test,
        viewed,
        backbone,
        positions,
        heatmaps or MOST_HEATMAPS,
        artifacts,
        device,
    )
    shown = []
    metric_rows = []
    # What a metric keeps of the images for all SAEs.
    shared: dict[Hashable, Any] = {}
    for number, (name, coder) in enumerate(zip(methods, coders, strict=True)):
        scores, latents = _score(coder, test, named, shared)
        sae_maps = None
        if maps:
            sae_maps = maps[number].table
            latents = latents.assign(spread=maps[number].spread)
        shown.append(ShownSae(number, name, coder, latents, maps=sae_maps))
        metric_rows.append({"m": coder.m, **scores})
        doubt = convert.describe_doubt(coder, scores["r2"], "these embeddings")
        if doubt:
            progress.warning("%s: it %s", name, doubt)

    names = Names(
        methods=_relations(methods, coders),
        datasets={test.manifest["dataset"]["name"]: None},
        backbones={test.manifest["backbone"]["name"]: None},
    )
    compose(
        out,
        names,
        shown,
        across_groups(pd.DataFrame(metric_rows)),
        test,
        viewed.open_image,
        viewed.credit,
        None if named is None else named.shown,
        made_card,
        facts,
    )
    hint = "; without images, for which there are --dataset and --images"
    if viewed.open_image is not None:
        hint = ""
    progress.info("%s: open it in a browser%s", out / "index.html", hint)


def _draw_heatmaps(
    coders: Sequence[Coder],
    images: Activations,
    viewed: "ViewedImages",
    backbone: str,
    positions: Path | None,
    most_images: int,
    artifacts: Path,
    device: str,
) -> tuple[list[Maps], dict[str, Any] | None]:
    """Return the heatmaps of each SAE, and what they are; none if none are asked."""
    if not backbone and positions is None:
        return [], None
    if backbone and positions is not None:
        raise UserError(
            "--backbone and --positions both say what is at positions of pictures: "
            "give one of them"
        )
    if viewed.open_image is None:
        raise UserError(
            "heatmaps lie over pictures, and there are none: name --dataset or --images"
        )
    if positions is not None:
        grid, vectors_of = read_positions(positions, images, viewed.test)
        maps = draw(coders, images, grid, vectors_of, most_images)
        return list(maps), grid.facts()

    name = images.manifest["backbone"]["name"]
    if backbone != name:
        raise UserError(
            f"--backbone {backbone}: these embeddings are of {name}; name the folder of "
            f"embeddings that {backbone} made (results/activations/DATASET/{backbone}), "
            "or give --positions"
        )
    try:
        viewer = viewer_like(images.manifest, artifacts, device)
    except NoPositions as error:
        return [], {"missing": str(error)}
    vectors_of = viewer.reader(images.index["path"].to_numpy(), viewed.open_image)
    maps = draw(coders, images, viewer, vectors_of, most_images)
    return list(maps), viewer.facts()


# -- the SAEs


def _method_names(
    places: Sequence[str], coders: Sequence[Coder], chosen_names: Sequence[str]
) -> list[str]:
    """Return a different name for each SAE: the user's, or else those of the files."""
    names = list(chosen_names)
    if not names:
        file_names = [
            _file_name(place, coder)
            for place, coder in zip(places, coders, strict=True)
        ]
        names = _without_repeats(file_names)
    if len(names) != len(places) or len(set(names)) < len(names):
        raise UserError(
            f"{len(places)} SAEs have {len(set(names))} different names: give --sae "
            "one or more, and --method a name for each of them"
        )
    if not all(name.strip() for name in names):
        raise UserError("--method has an empty name: give each SAE one that is not")
    return names


def _file_name(place: str, coder: Coder) -> str:
    stem = Path(place).stem
    if stem != "sae":
        return stem
    method = coder.metadata["method"]
    return coder.metadata["imported"] if method == "imported" else method


def _without_repeats(names: Sequence[str]) -> list[str]:
    """Return the names, with a number where an earlier one is the same."""
    unique: list[str] = []
    for name in names:
        candidates = itertools.chain(
            [name], (f"{name} {number}" for number in itertools.count(2))
        )
        unique.append(next(free for free in candidates if free not in unique))
    return unique


def _relations(methods: Sequence[str], coders: Sequence[Coder]) -> dict[str, Method]:
    relations = {}
    for name, coder in zip(methods, coders, strict=True):
        label = name if coder.k == coders[0].k else f"{name} (k = {coder.k})"
        is_imported = coder.metadata["imported"] != "ours"
        relations[name] = Method(label=label, imported=is_imported)
    return relations


def _score(
    coder: Coder,
    test: Activations,
    named: "NamedImages | None",
    shared: dict[Hashable, Any],
) -> tuple[dict[str, Any], pd.DataFrame]:
    """Return {score: value} of an SAE, and the scores and names of its latents."""
    metrics: tuple[str, ...] = METRICS
    if named is None:
        subject = Subject(coder, {"test": test})
    else:
        metrics = (*METRICS, "concepts", "names")
        subject = Subject(
            coder, named.splits, shared=shared, concepts=named.concepts_by_split
        )
    scores: dict[str, Any] = {}
    for metric in metrics:
        scores.update(_score_by(metric, subject))

    of_sae = {
        name: score
        for name, score in scores.items()
        if not isinstance(score, PerLatent)
    }
    latent_scores = _score_by("latents", subject)
    table = pd.DataFrame({name: score.values for name, score in latent_scores.items()})
    latent_names = {
        name: score.values for name, score in scores.items() if name in WORDS
    }
    table = table.assign(**latent_names)
    table = table.assign(ms=table.get("ms_across_groups", table["ms"]))
    return of_sae, table


def _score_by(metric: str, subject: Subject) -> dict[str, Any]:
    module = registry.load("metric", metric)
    readable = subject.limited({"test", *module.READS})
    return module.score(readable, "test", options_of(metric, None))


# -- keywords of images


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

    options = concepts_metric.Options()
    shown = choose_shown(annotations, train, test, options, credit="")
    if not shown.names:
        raise UserError(
            f"none of the concepts of {concepts} counts: a concept needs "
            f"{options.least_train} of {len(train.index)} training images and "
            f"{options.least_split} of {len(test.index)} test images, in "
            f"{options.least_train_groups} and {options.least_split_groups} groups, "
            "and in each an image without it"
        )
    concepts_by_split = {
        split: annotated.of_images(annotations, images.index["image_id"])
        for split, images in splits.items()
    }
    return NamedImages(splits, concepts_by_split, shown)


def halve(images: Activations) -> tuple[Activations, Activations]:
    """Return two halves of some images, drawn by a seed; groups stay together."""
    groups = concepts_metric.group_numbers(images)
    shuffled = np.random.default_rng(0).permutation(groups.max() + 1)
    is_first = np.isin(groups, shuffled[: len(shuffled) // 2])
    return _rows_of(images, is_first), _rows_of(images, ~is_first)


def _rows_of(images: Activations, is_row: np.ndarray) -> Activations:
    return Activations(
        store.rows_of(images.embeddings, np.flatnonzero(is_row)),
        images.index[is_row].reset_index(drop=True),
        images.manifest,
    )


# -- the site


def compose(
    out: Path,
    names: Names,
    shown: Sequence[ShownSae],
    metrics: pd.DataFrame,
    test: Activations,
    open_image: OpenImage | None,
    credit: str,
    concepts: ShownConcepts | None = None,
    card: CardFiles | None = None,
    heatmaps: dict[str, Any] | None = None,
) -> None:
    """Write a site of one cell, of SAEs and their scores.

    Args:
        out: The folder to write.
        names: Of one dataset and one backbone; its methods are those of `shown`.
        shown: The SAEs.
        metrics: A row of scores for each SAE: m, r2, l0, ms_floor, ms_mean_alive and
            what else there is.
        test: The images.
        open_image: How to open one by its path; None where there are none.
        credit: Whose pictures the images are.
        concepts: Those of the test images, where there are any.
        card: That of one of the SAEs, where there is one.
        heatmaps: What heatmaps are, or why there are none; None if none are asked.
    """
    (dataset,) = names.datasets
    (backbone,) = names.backbones
    cell = (dataset, backbone, shown[0].coder.k)
    methods = [sae.method for sae in shown]
    contents = _overview(out.name, names, cell, shown, metrics, test, heatmaps)
    contents.cells[0]["concepts"] = concepts is not None
    with outputs.replacing_folder(out, COMMAND, build.PAGE) as site:
        added = build.add_cell(site, cell, shown, test, methods, concepts=concepts)
        unreadable = site_images.write(
            site,
            0,
            dataset,
            test.index,
            credit,
            open_image,
            added.highest_images,
            added.trial_images,
            concepts,
        )
        # Without pictures nobody can judge.
        contents.cells[0]["judge"] = None if open_image is None else added.judge
        contents.cells[0]["judged_methods"] = added.judged_methods
        settings = [
            {
                **sae.coder.metadata,
                "m": sae.coder.m,
                "k": sae.coder.k,
                "input_norm": sae.coder.input_norm,
            }
            for sae in shown
        ]
        cell_payload = {
            "curves": [],
            "training": [],
            "distributions": cells.distributions(
                {sae.number: sae.table for sae in shown}
            ),
            "settings": [
                {"method": sae.number, "trial": TRIAL, "settings": of_sae}
                for sae, of_sae in zip(shown, settings, strict=True)
            ],
        }
        pack.put(site, "cells/0", cell_payload)
        if card is not None:
            contents.cells[0]["card"] = card.payload()
        start_views = start.views(added.latents, names, [], [cell])
        contents.start = [dataclasses.asdict(view) for view in start_views]
        contents.provenance = {
            "versions": build.versions(),
            "machine": build.machine(),
            "left_out": _sentences_left_out(unreadable),
            "config": "",
            "embeddings": [],
            "sources": [],
            "times": [],
            "rebuild": "",
        }
        build.shell(site, contents)


def _overview(
    title: str,
    names: Names,
    cell: tuple[str, str, int],
    shown: Sequence[ShownSae],
    metrics: pd.DataFrame,
    test: Activations,
    heatmaps: dict[str, Any] | None,
) -> Overview:
    """Return the overview, but for `start` and `provenance`."""
    dataset, backbone, k = cell
    methods = [sae.method for sae in shown]
    labels = [names.method(method) for method in methods]
    metrics = metrics.assign(
        dataset=dataset,
        backbone=backbone,
        k=k,
        method=methods,
        trial=TRIAL,
        seed=0,
        split="test",
        status="ok",
        selected=True,
    )
    places = overview.Places([cell], methods)
    trials = overview.trials(metrics, pd.DataFrame(), None, places)
    # There is no validation split, of which L0 is shown else.
    trials["l0"] = metrics["l0"]

    scores = pd.DataFrame(overview.score_columns(metrics)).to_dict("records")
    sentences = []
    for label, row in zip(labels, scores, strict=True):
        sentence = f"{label} has an R² of {row['r2']:.3f} and an MS of {row['ms']:.3f}"
        if not np.isnan(row["names_share"]):
            sentence += f"; {100 * row['names_share']:.1f} % of its latents have a name"
        sentences.append(f"{sentence}.")
    cell_row = {
        **dict(zip(CELL, cell, strict=True)),
        "m": shown[0].coder.m,
        "d": test.embeddings.shape[1],
        "images": 0,
        "concepts": False,
        "where": heatmaps,
        "judge": None,
        "saes": list(range(len(shown))),
        "chance": {"ms": metrics["ms_floor"].iloc[0]},
    }
    sae_rows = [
        {
            "cell": 0,
            "method": number,
            "trial": TRIAL,
            "seed": 0,
            "alive": int((sae.table["n_active"] > 0).sum()),
            "m": sae.coder.m,
            "scores": row,
            "where": sae.kind_of_maps(heatmaps),
        }
        for number, (sae, row) in enumerate(zip(shown, scores, strict=True))
    ]
    return Overview(
        experiment=title,
        description=f"What {' and '.join(labels)} learned",
        answer=sentences[:3],
        datasets=[{"id": dataset, "label": names.dataset(dataset)}],
        backbones=[{"id": backbone, "label": names.backbone(backbone)}],
        methods=overview.methods(names),
        cells=[cell_row],
        saes=sae_rows,
        trials=trials,
    )


def _sentences_left_out(unreadable: Sequence[str]) -> list[str]:
    if not unreadable:
        return []
    first = ", ".join(unreadable[:10])
    return [f"{len(unreadable)} images have no thumbnail: {first}."]


# -- embeddings and images


def check_given(embeddings: Sequence[Path], concepts: Path | None) -> None:
    """Refuse paths of embeddings and keywords at which there are none.

    Raises:
        UserError: one of `embeddings` is neither a folder nor a .npy file, or
            `concepts` is no file.
    """
    for place in embeddings:
        if place.suffix != ".npy" and not place.is_dir():
            raise UserError(
                f"{place} is neither a folder of embeddings nor a .npy file of them "
                "(N, d): name one"
            )
    if concepts is not None and (concepts.is_dir() or not concepts.exists()):
        raise UserError(
            f"concepts {concepts} is no file: name a CSV with the columns image,concept"
        )


@dataclass(frozen=True)
class ViewedImages:
    """The images that SAEs are looked at on.

    Attributes:
        test: Their embeddings and index.
        open_image: How to open one by its path; None if there are no pictures.
        credit: Whose pictures they are.
    """

    test: Activations
    open_image: OpenImage | None
    credit: str


def read_viewed_images(
    activations: Path, dataset: Path | None, artifacts: Path, images: Path | None
) -> ViewedImages:
    """Read a folder of splits, of one split or a .npy file, and find its pictures."""
    open_image = None
    if images is not None:
        open_image = pictures.Guard(archives.opener(images))
    if activations.suffix == ".npy":
        test = read_array(activations, images)
    else:
        is_split = (activations / "manifest.json").exists()
        folder = activations if is_split else activations / "test"
        test = store.read(folder)
        above = folder.absolute().parents  # backbone, dataset, activations, results
        if images is None and dataset is None and len(above) > 3:
            return _with_images_beside(test, above[3])
    if dataset is not None:
        manifest = files.read_json(dataset / "manifest.json", "manifest of dataset")
        return _with_images_of(test, manifest, artifacts)
    return ViewedImages(test, open_image, "")


def read_array(file: Path, images: Path | None) -> Activations:
    """Read embeddings (N, d), whose rows are a folder's sorted images."""
    embeddings = check_embeddings(files.read_array(file), None, str(file))
    paths = [str(row) for row in range(len(embeddings))]
    if images is not None:
        paths = image_paths(images)
    if len(paths) != len(embeddings):
        raise UserError(
            f"{images} has {len(paths)} images for the {len(embeddings)} rows of {file}"
        )
    if images is not None:
        # Nothing else would show that the rows are in another order.
        last = len(paths) - 1
        progress.info(
            "%s: row 0 is %s, row %d is %s", file, paths[0], last, paths[last]
        )
    test = alone.data("embeddings", embeddings, None, embeddings.shape[1])
    test.index["image_id"] = paths
    test.index["path"] = paths
    test.manifest["dataset"]["name"] = "images"
    test.manifest["backbone"]["name"] = file.stem
    return test


def _with_images_beside(test: Activations, results: Path) -> ViewedImages:
    """Return embeddings with the images of their dataset, if these lie in `results`."""
    dataset = test.manifest["dataset"]
    manifest_file = results / "datasets" / dataset["name"] / "manifest.json"
    try:
        if manifest_file.exists():
            manifest = files.read_json(manifest_file, "manifest of dataset")
            if manifest["fingerprint"] == dataset["fingerprint"]:
                return _with_images_of(test, manifest, results / "artifacts")
    except UserError as error:
        progress.info("images are not shown: %s", error)
    return ViewedImages(test, None, "")


def _with_images_of(
    test: Activations, manifest: dict[str, Any], artifacts: Path
) -> ViewedImages:
    head = registry.head("dataset", manifest["spec"]["type"])
    open_image = None
    if head.constants.get("HAS_IMAGES", True):
        open_image = datasets.reader(manifest["spec"], artifacts)
    return ViewedImages(
        test,
        open_image,
        gallery.credit(manifest["artifacts"]),
    )

"""The site of any SAEs, imported ones among them: no workflow, no labels and no images are needed."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from PIL import Image

from sae.comparison import fronts
from sae.comparison.methods import Method
from sae.comparison.scores import across_groups
from sae.core import files, registry
from sae.core.errors import UserError
from sae.data import archives, pictures, store
from sae.data import dataset as datasets
from sae.data.store import Activations
from sae.models import convert, foreign
from sae.models.apply import check_embeddings, image_paths
from sae.report import gallery
from sae.report.names import Names
from sae.report.site import build, cells, overview, pack, start
from sae.report.site import images as pictured
from sae.report.site.build import Shown
from sae.scoring import alone
from sae.scoring.rows import CELL
from sae.scoring.stage import options_of
from sae.scoring.subject import Subject

METRICS = ("reconstruction", "monosemanticity", "purity", "density")


def explore(
    *,
    sae: Sequence[str],
    activations: Path,
    out: Path,
    method: Sequence[str] = (),
    dataset: Path | None = None,
    artifacts: Path = Path("results/artifacts"),
    images: Path | None = None,
    device: str = "cpu",
) -> None:
    """Write a site that shows what any SAEs have learned, side by side: open index.html of the folder `out`.

    Args:
        sae: SAEs: files, folders, or owner/name[:folder] on the Hugging Face hub, of this project or another library.
        activations: embeddings that they are looked at on: a folder of splits, of which test is taken, the folder of
            one split, or a .npy file (N, d).
        out: the folder to write; a site that is there is replaced.
        method: a name for each SAE; by default those of their files.
        dataset: the folder of the dataset's index, results/datasets/NAME, whose images are shown.
        artifacts: folder of fetched artifacts, which its images may be in.
        images: a folder of images to show instead: paths are those of the embeddings' index; of a .npy file the
            sorted images of the folder are its rows.
        device: of PyTorch: cpu, cuda, cuda:1, mps, or auto for the best there is.

    Raises:
        UserError: an SAE or the embeddings cannot be read or do not fit each other, names or images are too few, or
            `out` holds something else.
    """
    if out.exists() and not (out / "data/overview.js").exists() and (not out.is_dir() or any(out.iterdir())):
        raise UserError(f"{out} is there and is no site: name another folder with --out")
    ids = list(method) or _told_apart([_name(place) for place in sae])
    if not sae or len(ids) != len(sae) or len(set(ids)) < len(ids):
        said = f"{len(sae)} SAEs have {len(set(ids))} different names"
        raise UserError(f"{said}: give --sae one or more, and --method a name for each of them")
    test, open_image, credit = _data(activations, dataset, artifacts, images)
    coders = [convert.load(place).to(device) for place in sae]
    for given, coder in zip(sae, coders, strict=True):
        check_embeddings(test.embeddings, coder.d, str(activations), f"what {given} takes")
    place = test.manifest["dataset"]["name"], test.manifest["backbone"]["name"], coders[0].k
    labels = [
        name if coder.k == place[2] else f"{name} (k = {coder.k})" for name, coder in zip(ids, coders, strict=True)
    ]
    looks = {name: Method(label=label) for name, label in zip(ids, labels, strict=True)}
    names = Names(methods=looks, datasets={place[0]: None}, backbones={place[1]: None})
    shown, rows = list[Shown](), list[dict[str, Any]]()
    for number, (name, coder) in enumerate(zip(ids, coders, strict=True)):
        subject = Subject(coder, {"test": test})
        found = {k: v for metric in METRICS for k, v in _scores(metric, subject).items()}
        table = pd.DataFrame({k: v.values for k, v in _scores("latents", subject).items()})
        shown.append(Shown(number, name, coder, table.assign(ms=table.get("ms_across_groups", table["ms"]))))
        key = dict(zip(overview.KEY, (*place, name, "as given", 0), strict=True)) | {"split": "test"}
        rows.append(key | {"status": "ok", "selected": True, "m": coder.m, **found})
    metrics, numbers = across_groups(pd.DataFrame(rows)), overview.Numbers([place], ids)
    numbers.saes = {key: n for n, key in enumerate(metrics[overview.KEY].itertuples(index=False, name=None))}
    about = overview.empty() | {"experiment": out.name, "description": f"What {' and '.join(labels)} learned"}
    about |= {"datasets": [{"id": place[0], "label": names.dataset(place[0])}], "methods": overview.methods(names)}
    about |= {"backbones": [{"id": place[1], "label": names.backbone(place[1])}]}
    about["answer"] = [_sentence(label, row) for label, row in zip(labels, metrics.to_dict("records"), strict=True)][:3]
    scores = {name: list(of) for name, of in overview.scores_of(metrics).items()}
    about["saes"] = [
        {"cell": 0, "method": n, "trial": "as given", "seed": 0, "alive": int((sae.table["n_active"] > 0).sum())}
        | {"scores": {name: of[n] for name, of in scores.items()}}
        for n, sae in enumerate(shown)
    ]
    cell = dict(zip(CELL, place, strict=True)) | {"m": coders[0].m, "d": coders[0].d, "images": 0}
    about["cells"] = [cell | {"saes": [*range(len(sae))], "chance": {"ms": metrics["ms_floor"].iloc[0]}}]
    nothing = pd.DataFrame(columns=[*fronts.TRIAL, "feasible"])
    about["trials"] = overview.trials(metrics, nothing, set(), numbers) | {"l0": metrics["l0"]}
    settings = [
        {"method": n, "trial": "as given", "settings": {"m": c.m, "k": c.k, "input_norm": c.input_norm} | c.metadata}
        for n, c in enumerate(coders)
    ]
    with build.folder(out) as site:
        tops, found_in = build.add_cell(site, place, shown, test, ids)
        lost = pictured.write(site, 0, place[0], test.index, credit, open_image, tops)
        made = {"distributions": cells.distributions({one.number: one.table for one in shown}), "settings": settings}
        pack.put(site, "cells/0", {"curves": [], "training": []} | made)
        about["start"] = start.views(found_in, names, [], [place])
        about["provenance"] = {"versions": build.versions(), "machine": build.machine(), "sources": [], "times": []}
        about["provenance"] |= {"config": "", "embeddings": [], "rebuild": "", "left_out": []}
        if lost:
            about["provenance"]["left_out"] = [f"{len(lost)} images have no thumbnail: {', '.join(lost[:10])}."]
        build.shell(site, about)


def _scores(name: str, subject: Subject) -> dict[str, Any]:
    module = registry.load("metric", name)
    return module.score(subject.limited({"test", *module.READS}), "test", options_of(name, None))


def _sentence(label: str, row: dict[str, Any]) -> str:
    return f"{label} has an R² of {row['r2']:.3f} and an MS of {row['ms_mean_alive']:.3f}."


def _name(place: str) -> str:
    path = Path(place)
    return path.parent.name if path.stem == "sae" and path.parent.name else path.stem


def _told_apart(names: list[str]) -> list[str]:
    """The names, with a number where an earlier one is the same."""
    found: list[str] = []
    for name in names:
        found.append(next(n for n in (name, *(f"{name} {i}" for i in range(2, len(names) + 2))) if n not in found))
    return found


def _data(
    activations: Path, dataset: Path | None, artifacts: Path, images: Path | None
) -> tuple[Activations, Callable[[str], Image.Image] | None, str]:
    """The embeddings with their index, how to open an image, if there are any, and whose they are."""
    credit, guard = "", None if images is None else pictures.Guard(archives.opener(images))
    if activations.suffix == ".npy":
        embeddings = check_embeddings(foreign.array(activations), None, str(activations))
        paths = image_paths(images) if images else [str(row) for row in range(len(embeddings))]
        if len(paths) != len(embeddings):
            raise UserError(f"{images} has {len(paths)} images for the {len(embeddings)} rows of {activations}")
        test = alone.data("embeddings", embeddings, None, embeddings.shape[1])
        test.index["image_id"], test.index["path"] = paths, paths
        test.manifest["dataset"]["name"], test.manifest["backbone"]["name"] = "images", activations.stem
    else:
        test = store.read(activations if (activations / "manifest.json").exists() else activations / "test")
    if dataset:
        manifest = files.read_json(dataset / "manifest.json", "manifest of dataset")
        return test, datasets.reader(manifest["spec"], artifacts), gallery.credit(manifest["artifacts"])
    return test, guard, credit

"""A site of any SAEs: imported ones, without labels, with images or none.

The folder of the site is whole.
"""

import numpy as np
import pytest
import torch
from PIL import Image
from report.site.reading import payload, unpacked
from support.embeddings import write_split

import sae
from sae.core import files
from sae.core.errors import UserError
from sae.data import dataset as datasets
from sae.models import convert, saefile
from sae.models.coder import Coder
from sae.report.site.explore import explore

N = 40  # images
D = 8  # dimensions
M = 16  # latents
K = 3


@pytest.fixture
def place(tmp_path):
    """Return a folder of SAEs, one in another library's format, embeddings and images.

    One of the images is broken.
    """
    for seed in (0, 1):
        coder = Coder(D, M, K, metadata={"method": "topk"})
        coder.initialise(torch.zeros(D), seed)
        saefile.save(coder, tmp_path / f"sae{seed}.safetensors")
    convert.export_file(
        tmp_path / "sae0.safetensors", format="saelens", out=tmp_path / "theirs"
    )
    x = np.random.default_rng(0).normal(size=(N, D)).astype(np.float32)
    np.save(tmp_path / "x.npy", x)
    for number in range(N):
        path = tmp_path / f"photos/{number % 2}/{number:02}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (80 + number, 60), (number, 0, 0)).save(path)
    (tmp_path / "photos/1/39.png").write_bytes(b"broken")
    return tmp_path


def bytes_of(folder):
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def test_any_sae_has_a_site(place):
    arguments = {
        "sae": [str(place / "theirs"), str(place / "sae1.safetensors")],
        "activations": place / "x.npy",
        "out": place / "site",
        "images": place / "photos",
    }
    explore(**arguments)
    about = payload(place / "site", "overview")
    assert [method["id"] for method in about["methods"]] == ["theirs", "sae1"]
    assert about["claims"] == []
    (cell,) = about["cells"]
    assert cell["m"] == M and cell["saes"] == [0, 1]

    # The scores are those of the library; without labels there is no purity.
    scores = about["saes"][0]["scores"]
    expected = sae.score(convert.load(str(place / "theirs")), np.load(place / "x.npy"))
    assert scores["r2"] == expected["r2"]
    assert scores["ms"] == expected["ms_mean_alive"]
    first = payload(place / "site", "saes/0")
    assert scores["purity"] is None and "purity" not in first["latents"]
    assert first["matches"][0]["sae"] == 1

    # Folder by folder, sorted; the broken one has no thumbnail, and is named.
    shown = payload(place / "site", "images/0")
    assert shown["ids"][:2] == ["0/00.png", "0/02.png"]
    assert shown["side"] == 64 and shown["sheets"] == 1
    assert shown["fillSquares"] is False
    assert unpacked(shown["place"]).tolist() == [*range(39), 2**32 - 1]
    assert shown["classes"] == []
    assert "1/39.png" in about["provenance"]["left_out"][0]
    sheet = Image.open(place / "site/data/images/0-0.webp")
    assert sheet.size == (16 * 64, 3 * 64)

    site_files = bytes_of(place / "site")
    files.check_sums(place / "site/explore.sums.json")
    sums = files.read_json(place / "site/explore.sums.json")
    assert set(sums) == set(site_files) - {"explore.sums.json"}
    # What it wrote is replaced, and all else stays.
    (place / "site/.git").mkdir()
    (place / "site/.git/HEAD").write_text("ref")
    (place / "site/data/notes.txt").write_text("mine")
    explore(**{**arguments, "sae": arguments["sae"][:1]})
    assert not (place / "site/data/saes/1.js").exists()
    explore(**arguments)
    mine = {".git/HEAD": b"ref", "data/notes.txt": b"mine"}
    assert bytes_of(place / "site") == site_files | mine
    assert sorted(path.name for path in place.glob("*site*")) == ["site"]


def test_the_images_of_the_embeddings_own_dataset_are_shown(place, caplog):
    for number in range(N):
        path = place / f"pictures/{number % 2}/{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (32, 32), (number, 0, 0)).save(path)
    spec = {
        "type": "image_folder",
        "root": str(place / "pictures"),
        "image_size": 32,
        "fractions": {"train": 0.5, "val": 0.1, "test": 0.4},
    }
    datasets.build("pictures", spec, None, place / "results/datasets/pictures")
    about = files.read_json(place / "results/datasets/pictures/manifest.json")
    index = files.read_parquet(place / "results/datasets/pictures/index.parquet")
    index = index[index["split"] == "test"].reset_index(drop=True)
    x = np.load(place / "x.npy")[: len(index)]
    (place / "sae0.safetensors").rename(place / "sae.safetensors")
    saes = [str(place / "sae.safetensors")]
    for name, fingerprint, sheets in (
        ("net", about["fingerprint"], 1),
        ("older", "another", 0),
    ):
        made_by = {
            "dataset": {
                "name": "pictures",
                "grouped": False,
                "fingerprint": fingerprint,
            },
            "backbone": {"name": name},
        }
        folder = place / "results/activations/pictures" / name
        write_split(folder / "test", [x], index, made_by)
        with caplog.at_level("INFO", "sae.progress"):
            explore(sae=saes, activations=folder, out=place / name)
        shown = payload(place / name, "images/0")
        assert (shown["sheets"], shown["fillSquares"]) == (sheets, bool(sheets))
        assert ("without images" in caplog.text) == (not sheets)
    # A dataset that has no pictures.
    folder = place / "results/datasets/pictures"
    files.write_json(folder / "manifest.json", {**about, "spec": {"type": "generated"}})
    without = place / "without"
    activations = place / "results/activations/pictures/net"
    explore(sae=saes, activations=activations, out=without, dataset=folder)
    assert payload(without, "images/0")["sheets"] == 0

    (method,) = payload(place / "net", "overview")["methods"]
    assert method["id"] == "topk"
    assert 'href="files/' not in (place / "net/index.html").read_text()


def test_what_does_not_fit_is_refused(place):
    saes = [str(place / "sae0.safetensors")]
    x = place / "x.npy"
    (place / "mine").mkdir()
    (place / "mine/index.html").write_text("all of it")
    (place / "linked").symlink_to("mine")
    for changed, message in (
        ({"out": place / "mine"}, "index.html was not written by this command"),
        ({"out": place / "linked", "sae": []}, "linked is a link or no folder"),
        ({"method": ["a", "b"]}, "1 SAEs have 2 different names"),
        ({"sae": saes * 2, "method": ["a", "a"]}, "2 SAEs have 1 different names"),
        ({"sae": []}, "give one file or folder or more"),
        ({"heatmaps": 10}, "--heatmaps 10.*give --backbone or --positions"),
        ({"images": place / "photos/0"}, "has 20 images for the 40 rows"),
        ({"activations": place}, "manifest of activations"),
    ):
        arguments = {"sae": saes, "activations": x, "out": place / "site"}
        with pytest.raises(UserError, match=message):
            explore(**(arguments | changed))
    assert bytes_of(place / "mine") == {"index.html": b"all of it"}
    assert not (place / "site").exists()
    np.save(x, np.random.default_rng(0).normal(size=(N, D + 1)).astype(np.float32))
    with pytest.raises(UserError, match=r"sae0.safetensors takes"):
        explore(sae=saes, activations=x, out=place / "site")


def test_a_place_that_cannot_be_written_is_refused_before_anything_is_computed(place):
    saes = [str(place / "sae1.safetensors")]
    with pytest.raises(UserError, match=r"cannot be written .*; name another place"):
        explore(sae=saes, activations=place / "x.npy", out=place / "x.npy/site")
    with pytest.raises(UserError, match="--sae names no SAE"):
        explore(sae=[], activations=place / "x.npy", out=place / "site")

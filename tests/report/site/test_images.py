"""Which images of a site have a picture of their own, and how large it is."""

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from report.site.reading import payload, unpacked

from sae.report.site import images

SIZES = [(320, 240), (98, 98), (32, 20), (64, 64), (100, 200)]  # of the originals


@pytest.fixture
def write(tmp_path):
    """A function that writes the site's images, and returns {row: size of its picture}
    as the files are, and as the payload says.
    """
    folder = tmp_path / "site"
    (folder / "data/images").mkdir(parents=True)
    names = [str(row) for row in range(len(SIZES))]
    index = pd.DataFrame({"image_id": names, "path": names})
    index = index.assign(label=pd.NA, label_name=pd.NA)

    def open_image(path):
        noise = np.random.default_rng(0).integers(0, 256, (*SIZES[int(path)][::-1], 3))
        return Image.fromarray(noise.astype(np.uint8))

    def written(highest_images):
        images.write(folder, 0, "photos", index, "", open_image, highest_images)
        of_files = {
            int(path.stem): Image.open(path).size
            for path in folder.glob("data/images/0/*.webp")
        }
        said = payload(folder, "images/0")
        widths, heights = (
            unpacked(said["pictures"][side]).tolist() for side in ("width", "height")
        )
        of_payload = {
            row: size
            for row, size in enumerate(zip(widths, heights, strict=True))
            if size != (0, 0)
        }
        assert said["side"] == 64 and unpacked(said["place"]).tolist() == [*range(5)]
        return of_files, of_payload

    return written


def test_a_picture_is_at_most_160_pixels_and_never_larger_than_the_image(write):
    of_files, of_payload = write([])
    # Images up to the 64 pixels of a thumbnail have that alone.
    assert of_files == of_payload == {0: (160, 120), 1: (98, 98), 4: (80, 160)}


def test_where_room_ends_the_most_shown_images_have_pictures(write, monkeypatch):
    monkeypatch.setattr(images, "ALL", 1)
    monkeypatch.setattr(images, "PICTURE_BYTES", 1)
    # The second latent's highest image comes before the first one's second.
    highest_images = [np.array([[2, 0], [4, 1]])]
    of_files, of_payload = write(highest_images)
    assert of_files == of_payload == {4: (80, 160)}

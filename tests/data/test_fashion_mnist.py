"""Fashion-MNIST's files as they are published, in small.

What each split gets of them, and each row's picture.
"""

import numpy as np
import pytest
from support.archives import write_artifact

from sae.core.errors import UserError
from sae.data.datasets import fashion_mnist

FILES = {"train": 60, "t10k": 30}


@pytest.fixture
def root(tmp_path):
    """Write an artifact of 60 and 30 pictures, as many of each class.

    Picture i of a part is filled with i.
    """
    contents = {}
    for part, count in FILES.items():
        labels = np.arange(count, dtype=np.uint8) % 10
        pictures = np.repeat(np.arange(count, dtype=np.uint8), 28 * 28)
        for name, shape, content in (
            ("images-idx3", (count, 28, 28), pictures),
            ("labels-idx1", (count,), labels),
        ):
            head = np.array([2048 + len(shape), *shape], ">i4")
            contents[f"{part}-{name}-ubyte"] = head.tobytes() + content.tobytes()
    write_artifact(tmp_path / "small", contents)
    return tmp_path


def options(**counts):
    return fashion_mnist.Options(artifacts=["small"], counts=counts, split_seed=0)


def test_splits_are_balanced_and_disjoint_and_a_row_is_its_picture(root):
    dataset = fashion_mnist.load(options(train=40, val=10, test=20), root)
    index = dataset.index
    assert index["image_id"].is_unique
    for split, part, each in (
        ("train", "train", 4),
        ("val", "train", 1),
        ("test", "t10k", 2),
    ):
        rows = index[index["split"] == split]
        assert rows["image_id"].str.startswith(f"{part}/").all()
        assert (rows["label"].value_counts() == each).all()
        assert rows["label"].nunique() == 10
    for path, label, name in index[["path", "label", "label_name"]].itertuples(
        index=False
    ):
        number = int(path.split("/")[1])
        assert label == number % 10 and name == fashion_mnist.CLASSES[label]
        assert np.asarray(dataset.open(path)).tolist() == [[number] * 28] * 28
    with pytest.raises(UserError, match="key counts: class 0 has"):
        fashion_mnist.load(options(train=60, val=10, test=20), root)

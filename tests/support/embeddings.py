"""Write stores of embeddings, given or generated, as the step `embed` would."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import scipy.sparse

from sae.core import files
from sae.data import store, synthetic
from sae.data.parts import PartialArray
from sae.data.splits import SPLITS


def write_split(
    folder: Path,
    batches: Iterable[np.ndarray],
    index: pd.DataFrame,
    provenance: dict[str, Any],
) -> None:
    """Write one split of a store.

    Args:
        folder: where the split is to lie.
        batches: embeddings (n, d) of float16 or float32, in the order of the index.
        index: a row for each image.
        provenance: what the manifest says of the dataset and the backbone.
    """
    with files.scratch_directory(folder / "part") as scratch:
        part = PartialArray(scratch / "embeddings.npy", len(index))
        for batch in batches:
            part.append(batch)
        store.adopt(folder, [part], index, provenance)


def write_store(world: synthetic.World, counts: dict[str, int], out: Path) -> None:
    """Write a store of generated float16 embeddings, and the truth behind them.

    The splits lie in `out/{split}`. `out/truth` holds `dictionary.npy` (concepts, d),
    and `test.npz`, the strengths of the test split (scipy, csr).

    Args:
        world: what generates them.
        counts: {split: images}.
        out: the store's folder.
    """
    about = {
        "seed": world.seed,
        "counts": counts,
        "shape": list(world.dictionary.shape),
        "classes": len(world.concepts_of_class),
    }
    fingerprint = files.sha256_text(files.dumps(about))[:16]
    provenance = {
        "dataset": {"name": "synthetic", "fingerprint": fingerprint, "grouped": False},
        "backbone": {"name": "synthetic", "spec": about, "fingerprint": fingerprint},
    }
    for split in SPLITS:
        labels = synthetic.labels_of(
            world.seed, len(world.concepts_of_class), split, counts[split]
        )
        names = [f"{split}/{row}" for row in range(counts[split])]
        index = pd.DataFrame(
            {
                "image_id": names,
                "path": names,
                "label": labels,
                "label_name": labels.astype(str),
            }
        )
        index["label_coarse"] = pd.array([pd.NA] * len(index), dtype="Int64")
        index["label_coarse_name"] = pd.array([pd.NA] * len(index), dtype="string")
        index["group"] = names
        embeddings = (
            x.astype(np.float16)
            for x, _ in synthetic.chunks(world, split, counts[split])
        )
        write_split(out / split, embeddings, index, provenance)

    (out / "truth").mkdir(exist_ok=True)
    truth = scipy.sparse.vstack(
        [strengths for _, strengths in synthetic.chunks(world, "test", counts["test"])]
    )
    scipy.sparse.save_npz(out / "truth/test.npz", truth)
    np.save(out / "truth/dictionary.npy", world.dictionary)

"""What people call pictures, and in what they differ: one file for each source, which `source` in the config names.

An entry has `VERSION`, `class Options`, the keys that its mapping in the config may have, and a function:

    load(spec: Options, artifacts_root: str | Path | None, index: pd.DataFrame) -> sae.data.concepts.Annotations
        `index` has a row for each image of all splits (`sae.data.dataset.COLUMNS`).
"""

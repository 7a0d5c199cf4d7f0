"""Annotations say what people call pictures, and how they differ; a file is a source.

`source` in the `concepts` of a dataset in the config names it. An entry has `VERSION`,
`class Options` (the keys that its mapping in the config may have), perhaps `FILES`
(patterns of the files of one's own that it reads, as `("{file}",)`), and a function:

    load(
        spec: Options, artifacts_root: str | Path | None, index: pd.DataFrame
    ) -> sae.data.concepts.Annotations
        `index` has a row for each image of all splits (`sae.data.dataset.COLUMNS`).
"""

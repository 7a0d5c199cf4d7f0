"""Datasets: one file an entry, named by `type` in the config.

An entry has one function, `load(spec, artifacts)`: `spec` is the dataset's mapping in the config, `artifacts` the
folder of fetched artifacts. It returns a :class:`sae.data.dataset.Dataset`. It may also have
`reader(spec)`, which returns the function that opens an image without listing them all first, `download(spec)`, which
brings the images below `root` where they are not there yet and returns {part: number of images} (for entries with
`download: true`; `sae.data.download`), and `HAS_IMAGES = False` for embeddings without images.
"""

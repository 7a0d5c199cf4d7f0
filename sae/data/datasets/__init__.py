"""Datasets: one file for each entry, which `type` in the config names.

An entry has `class Options`, the keys that its mapping in the config may have, and a
function:

    load(spec: Options, artifacts_root: str | Path | None) -> sae.data.dataset.Dataset
        `spec` holds the values in the config (the mapping itself, if the entry has no
        such class), `artifacts_root` is the folder of fetched artifacts.

It may also have:

    reader(spec) -> function from a row's `path` to a PIL image
        Without it, `load` is called for the function.
    opener(spec, artifacts_root) -> function from a row's `path` to a PIL image
        Instead of `reader`, for images that lie in artifacts.
    download(spec) -> {part: number of images}
        For mappings with `download: true`: downloads the images that are missing to
        below the root.
    check_early(spec)
        Raises a UserError if a name or a folder of the mapping is wrong; called before
        any job, so it is quick.
    count_images(spec) -> {split: number of images}
        What `make plan` reckons with before the index is made; quick as well.
    HAS_IMAGES = False
        For embeddings without images.
    FILES = ["{root}/train.csv", ...]
        The files that the index is made of, with keys of the mapping in braces: when
        one changes, the index is rebuilt.
"""

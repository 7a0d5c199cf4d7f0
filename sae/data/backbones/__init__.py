"""Backbones: one file for each entry, a loader, which `loader` in the config names.

A loader has `class Options`, the keys that its mapping in the config may have, and a
function:

    load(
        spec: Options, artifacts_root: str | Path | None, image_size: int | None
    ) -> sae.data.backbone.Backbone
        `spec` holds the values in the config (the mapping itself, if the entry has no
        such class), `artifacts_root` is the folder of fetched artifacts. `image_size`
        is the input size in pixels, of the backbone's entry or else of the dataset's;
        with None the model's own is used.

If it takes weights from the Hugging Face hub, it also has:

    FROM_HUB = True
    fetch(spec) -> list of files
        Downloads what `load` needs into the hub's cache (`sae.data.download`).

It may also have:

    check_early(spec)
        Raises a UserError if the library knows no such model; called before any job.

For embeddings that are given, not made, it has in place of `load`:

    READS_IMAGES = False
    FILES = ["{root}/{model}/train.npy", ...]
        The files of the embeddings, with keys of the dataset's and the backbone's
        mappings in braces: when one changes, the store is rebuilt.
    files(dataset, spec) -> {split: path}
    embeddings(dataset, spec, split) -> array (N, d)
        `dataset` are the `Options` of the dataset.
"""

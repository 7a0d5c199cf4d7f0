"""Backbones: one file a loader, named by `loader` in the config.

A loader has one function, `load(spec, artifacts, image_size)`: `spec` is the backbone's mapping in the config,
`artifacts` the folder of fetched artifacts, `image_size` the dataset's input size in pixels or None for the model's
own. It returns a :class:`sae.data.embed.Backbone`. `precomputed` has `embeddings` in its place. `timm` and `open_clip`
also have `fetch(spec)`, which brings what `load` needs from the Hugging Face hub into its cache (`sae.data.weights`).
"""

"""Images to embeddings: `datasets/` and `backbones/` (a file is an entry), and what both are made with.

`fetch` and `download` bring files to this machine. `dataset` indexes and splits images, `embed` embeds them. `store` is
what comes out and what every later stage reads. `synthetic` generates embeddings of a known structure.
"""

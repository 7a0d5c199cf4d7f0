"""Images to embeddings, by entries in `datasets/` and `backbones/` (a file is one).

`fetch` and `download` bring files to this machine. `dataset` indexes and splits images,
`embed` embeds them. `store` is what comes out and what every later stage reads.
`synthetic` generates embeddings of a known structure.
"""

"""What a trained SAE is: the coder (one form for all), its codes, file and input space.

`apply` uses one on new embeddings or images. `convert` reads and writes SAEs of other
libraries, by an importer or exporter for each format.
"""

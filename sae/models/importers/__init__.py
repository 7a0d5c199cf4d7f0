"""Formats of other libraries' SAEs: one file an entry, named by its file.

`python -m sae import` reads them. An entry holds three functions:

- `fits(checkpoint) -> bool`: whether a checkpoint looks like this format.
- `read(checkpoint, options) -> Coder`: the SAE in this project's form. `options` are a
  `sae.models.checkpoints.Options`.
- `forward(checkpoint, k, x) -> (z, xhat)`: codes (N, m) and reconstructions (N, d) of
  the format's own inputs x (N, d), by its own arithmetic, plainly written. `k` is what
  a Top-k SAE keeps. `--check` compares them with those of the coder.

Two more may be there. `TENSORS` is a set of names of tensors, for a format that cannot
be read without its settings: it tells such a checkpoint where the settings are missing.
`normalises(checkpoint) -> bool` says whether the SAE takes embeddings as they come, and
normalises them itself; `x` are then raw embeddings.

What an entry reads of the settings is a class of its own, derived from
`sae.models.checkpoints.CheckpointSettings`. Its tensors come from
`Checkpoint.take_tensors`.
"""

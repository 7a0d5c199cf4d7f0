"""Formats of other libraries' SAEs: one file an entry, named by its file; `python -m sae import` reads them.

An entry holds `fits(checkpoint) -> bool`, whether a checkpoint looks like this format; `read(checkpoint, options) ->
Coder`, the same SAE in this project's form; and `forward(checkpoint, k, x) -> (z, xhat)`, the format's own arithmetic
on its own inputs x (N, d), plainly written, with which `--check` compares; k is what a Top-k SAE keeps. `options` are a
`sae.models.foreign.Options`. What it reads of the settings is a `sae.models.foreign.Settings`, its tensors come from
`Checkpoint.take`. A format that cannot be read without its settings has `TENSORS`, names that tell it without them.
"""

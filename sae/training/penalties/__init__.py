"""Regularizers on the activations before the Top-k: one file an entry, named by its file.

An entry is one function named `penalty`, of one signature::

    penalty(a, values, indices, mask) -> (N,)

with `a` (N, m) the activations ReLU(pi), `values` and `indices` (N, k) the Top-k picks, and `mask` (m,) of zeros and
ones: the latents that count (the batch-active ones, or all in the ablation), constant in backprop. It returns one
penalty a sample; the trainer adds lambda times their mean to the loss and leaves the gradient to autograd.
"""

"""Penalties (regularizers): a file is an entry, named by its file.

An entry holds one function, `penalty(batch) -> (N,)`: one value a sample. The trainer
adds lambda times their mean to the loss and leaves the gradient to autograd.

`batch` is a `sae.training.step.Batch`. It has `x` (N, d), the inputs; `a` (N, m), the
activations before the selection; `picks`, what was selected (`values`, `indices`,
`sums()`); `mask` (m,), the latents that count (the batch-active ones, or all); `coder`;
`step`; and `options`, the entry's own class `Options`, if it has one.
"""

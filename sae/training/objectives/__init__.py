"""Objectives: what is minimised, and which coder comes out. A file is an entry.

An entry is named by its file and holds a class `Objective`. The class derives from
`sae.training.step.Objective`, which has the reconstruction, AuxK and the penalty. Most
entries only say how activations are selected: `pick(a)`.

An entry may also override

- `start()`, which sets up what the entry keeps from step to step,
- `fit(batch)`, which asks for more than one reconstruction,
- `most_norm`, the norm that the gradients of a step are scaled down to,
- `loss(x, step) -> (loss, {part: scalar})`; the parts `loss` and `reconstruction` are
  needed,
- `finish(x) -> Coder`, which may fix a threshold.

State lives in the objective, never in the coder, so that evaluation cannot change it.
The options of an entry, if it has any, are a class `Options`; the entry reads them as
`self.options`. With `TRAINS = False` in the file no step is taken, and `finish(x)`
makes the coder.
"""

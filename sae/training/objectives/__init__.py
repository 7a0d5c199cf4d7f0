"""Objectives: one file an entry, named by its file. It says what is minimised and which coder comes out.

An entry holds a class `Objective`. It derives from `sae.training.step.Objective`, which has reconstruction, AuxK and
the penalty, and most say how activations are selected: `pick(a)`. An entry may also override `start()` (set up what it
keeps), `most_norm` (what the gradients of a step are scaled down to), `loss(x, step) -> (loss, {part: scalar})` (the
parts `loss` and `reconstruction` are needed) and `finish(x) -> Coder` (fix a threshold, say). State lives in the
objective, never in the coder, so that evaluation cannot change it. Its options, if any, are a class `Options`; the
entry reads them as `self.options`. With `TRAINS = False` in the file no step is taken, and `finish(x)` makes the coder.
"""

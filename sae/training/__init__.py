"""How an SAE is made: settings (recipe), the loop with its Adam, what objectives share.

Objectives share the loss of a batch with AuxK (step), the activations that it selects
(picks) and the thresholds of the end (calibrate). Entries: `objectives/` say what
is minimised and what coder comes out, `penalties/` what is added to it.
"""

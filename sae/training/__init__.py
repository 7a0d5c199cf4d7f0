"""How an SAE is made: settings, the loop, and what objectives share (step, picks, auxk, calibrate).

Entries: `objectives/` say what is minimised and what coder comes out, `penalties/` what is added to it.
"""

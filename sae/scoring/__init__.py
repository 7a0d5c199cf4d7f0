"""This room says what an SAE is worth.

A stage scores a bank (`stage`), rows are marked by what was chosen (`selection`), and
banks are joined (`collect`). `metrics/` holds the scores, one file each; a `subject` is
what they read of an SAE.
"""

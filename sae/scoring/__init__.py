"""What an SAE is worth: a stage scores a bank (`stage`), a rule chooses (`selection`), banks are joined (`collect`).

`metrics/` holds the scores, one file each; a `subject` is what they read of an SAE.
"""

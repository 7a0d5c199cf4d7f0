"""Scores of one SAE on one split. All read the same sparse codes (`sae.models.codes`); none builds an N x m array."""

"""Scores of one SAE on one split. All read the same sparse codes (`sae.metrics.codes`); none builds an N x m array."""

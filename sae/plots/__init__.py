"""Figures from tidy tables: each module draws one figure and knows nothing of how the numbers came about."""

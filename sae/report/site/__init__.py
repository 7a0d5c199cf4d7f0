"""The explorer: a small static site.

It shows what an experiment's latents learned, and which method is better.
"""

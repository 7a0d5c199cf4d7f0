"""What people read, from the tidy tables.

These are tables, claims, figures (a file in `figures/` each), galleries and the site.

Methods, datasets and backbones are ids here as everywhere; `names` says how an id is
printed and drawn.
"""

"""What people read: tables, claims, figures (a file in `figures/` each), galleries and the site, from the tidy tables.

Methods, datasets and backbones are ids here as everywhere; `names` says how an id is printed and drawn.
"""

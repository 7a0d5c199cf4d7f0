"""The workflow's own Python: settings and needs of jobs, and the commands of `make`.

The library `sae` knows nothing of it.
"""

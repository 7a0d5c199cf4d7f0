"""Formats of other libraries, to write: one file an entry, named by its file; `python -m sae export` writes them.

An entry holds `write(coder, folder, about)`: the files of a coder, such that the library's own loader reads them;
`about` is the coder's metadata. What a format cannot hold is an error that says so.
"""

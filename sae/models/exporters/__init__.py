"""Formats of other libraries, to write: one file an entry, named by its file.

`python -m sae export` writes them. An entry holds `write(coder, folder, about)`. It
writes the files of a coder, such that the library's own loader reads them; `about` is
the coder's metadata. For an SAE that a format cannot hold it raises a `UserError` which
says so.
"""

"""config.yaml as one typed object, and what is wrong with one that is not right.

`load` reads it, `models` says what it may hold, `entries` what the file of an entry must hold, `methods` resolves the
methods, `extends` writes out what entries take over, `rule` is that of the claims, `problems` words what is wrong.
Entries are read without being run (`sae.core.registry.head`), so that nothing here imports torch.
"""

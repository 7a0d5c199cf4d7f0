"""config.yaml as one typed object, and what is wrong with one that is not right.

`load` goes through a config step by step. `yaml_file` reads it, `extends` writes out
what entries take over, `models` says what it may hold, `limits` how large its numbers
may be, `entries` what the file of an entry must hold. `methods` completes the methods.

Then the experiments are checked, each as a `named_experiment`: `experiment_checks`
calls `method_checks` and `sweeps`, and tells a protocol of a `protocol_use`. `problems`
collects what is wrong. `rule` is that of the claims.

Entries are read without being run (`sae.core.registry.head`). Nothing here imports
torch.
"""

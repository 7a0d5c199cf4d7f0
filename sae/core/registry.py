"""A folder is a registry: `sae/regularizers/my_penalty.py` is the regularizer `my_penalty`.

Adding an entry is adding a file; nothing else changes. An entry's module is also what the code hash of a stage takes in
(`sae.core.codehash`), so a new or edited entry reruns only what uses it.
"""

import importlib
import pkgutil

from sae.core.errors import UserError


def names(package):
    """The entries of a registry package, sorted."""
    folder = importlib.import_module(package)
    return sorted(m.name for m in pkgutil.iter_modules(folder.__path__) if not m.name.startswith("_"))


def module(package, name):
    """The dotted module name of entry `name`.

    Raises:
        UserError: there is no such entry; the message lists those there are.
    """
    known = names(package)
    if name not in known:
        raise UserError(f"{package} has no entry {name!r}; there are: {', '.join(known)}")
    return f"{package}.{name}"


def load(package, name):
    """Import and return the module of entry `name`."""
    return importlib.import_module(module(package, name))

"""A hash of what a stage's code means: the syntax trees of its module and of all that it imports from `sae`.

Snakemake does not see a change in an imported module; this hash, given to a rule as a parameter and put into the key
of a trained SAE, does. Comments, docstrings, blank lines and formatting do not count. `sae/__init__` does not count
either: it imports nothing, and every module would otherwise depend on it.
"""

import ast
import functools
from pathlib import Path

from sae.core.files import dumps, sha256_text

ROOT = Path(__file__).parent.parent


def closure(modules):
    """All modules of `sae` that `modules` (dotted names) import, directly or not, themselves included, sorted."""
    seen, queue = set(), list(modules)
    while queue:
        name = queue.pop()
        if name in seen:
            continue
        seen.add(name)
        queue += imports(name)
    return sorted(seen)


def code_hash(*modules):
    """Hash of the meaning of the import closure of `modules`; 16 hex digits."""
    return sha256_text(dumps({name: _parsed(_source(name))[0] for name in closure(modules)}))[:16]


def imports(name):
    """The modules of `sae` that module `name` imports anywhere in its text (functions included)."""
    found = set()
    source = _source(name)
    package = name.split(".") if source.name == "__init__.py" else name.split(".")[:-1]
    for level, imported in _parsed(source)[1]:
        # `from . import x` starts at the module's own package, each further dot one above.
        parts = (package[: len(package) - level + 1] if level else []) + imported.split(".")
        # `from sae.core.files import sha256` names a function, `from sae.data import store` a module: try both, and take in
        # the packages on the way, whose __init__ runs too.
        for i in range(2, len(parts) + 1):
            candidate = ".".join(parts[:i])
            if _source(candidate) is not None:
                found.add(candidate)
    return sorted(found)


def _source(name):
    path = ROOT.parent.joinpath(*name.split("."))
    for file in (path.with_suffix(".py"), path / "__init__.py"):
        if file.is_file():
            return file
    return None


def _parsed(file):
    stat = file.stat()
    return _parse(file, stat.st_mtime_ns, stat.st_size)


@functools.cache
def _parse(file, _mtime, _size):
    tree = ast.parse(file.read_text(encoding="utf-8"), filename=str(file))
    imported = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            imported |= {(0, a.name) for a in node.names}
        elif isinstance(node, ast.ImportFrom):
            prefix = f"{node.module}." if node.module else ""
            imported |= {(node.level, prefix + a.name) for a in node.names}
    return sha256_text(dumps(_walk(tree))), frozenset(i for i in imported if i[0] or i[1].split(".")[0] == "sae")


def _walk(node):
    # Own walk, since ast.dump prints fields that come and go between Python versions: class names and non-empty fields.
    if isinstance(node, ast.AST):
        fields = {}
        for key, value in ast.iter_fields(node):
            if key == "body" and isinstance(value, list):
                value = [v for v in value if not _is_docstring(v)] or ["pass"]
            if value not in (None, []):
                fields[key] = _walk(value)
        return [type(node).__name__, fields]
    if isinstance(node, list):
        return [_walk(v) for v in node]
    return node if isinstance(node, (str, int, bool)) else repr(node)


def _is_docstring(node):
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)

"""A hash of what a stage's code means: the syntax trees of its modules and of all that they import from the project.

Snakemake does not see a change in an imported module. This hash, given to a rule as a parameter and put into the key
of a trained SAE, does. Comments, docstrings, blank lines and formatting do not count. Neither do the names and places
of modules: an import counts as the content hash of what it imports, so that a move changes nothing. What is imported
under which name does count, and so do the names of functions.
"""

import ast
import functools
from pathlib import Path
from typing import Any

from sae.core import registry
from sae.core.files import dumps, sha256, sha256_text


def code_hash(*modules: str) -> str:
    """Hash of the meaning of `modules` (dotted names) and of what they import; 16 hex digits.

    Of an entry outside the project, the files beside it that are not Python count too.

    Raises:
        ValueError: there is no such module, or modules import each other in a circle.
    """
    hashes: list[Any] = [_module_hash(name, ()) for name in modules]
    if any(name.split(".")[0] == registry.EXTENSIONS for name in modules):
        hashes.append(_other_files(registry.roots()[registry.EXTENSIONS]))
    return sha256_text(dumps(hashes))[:16]


def closure(modules: list[str]) -> list[str]:
    """All modules of the project that `modules` (dotted names) import, directly or not, themselves included, sorted."""
    seen: set[str] = set()
    queue = list(modules)
    while queue:
        name = queue.pop()
        if name not in seen:
            seen.add(name)
            queue += _imported(name, *_stamp(name))
    return sorted(seen)


_known: dict[tuple, str] = {}


def _module_hash(name: str, importers: tuple[str, ...]) -> str:
    if name in importers:
        raise ValueError(f"modules import each other in a circle: {' -> '.join((*importers, name))}")
    # What is imported is part of the key: it may be edited while the module itself stays.
    key = (name, *((module, _stamp(module)) for module in closure([name])))
    if key not in _known:
        _known[key] = sha256_text(dumps(_walk(_parse(*_stamp(name)), name, (*importers, name))))
    return _known[key]


def _stamp(name: str) -> tuple[str, int, int]:
    file = registry.locate(name)
    if file is None:
        raise ValueError(f"there is no module {name}")
    stat = file.stat()
    return str(file), stat.st_mtime_ns, stat.st_size


@functools.cache
def _parse(file: str, _modified: int, _size: int) -> ast.Module:
    return ast.parse(Path(file).read_text(encoding="utf-8"), filename=file)


@functools.cache
def _imported(name: str, file: str, modified: int, size: int) -> list[str]:
    nodes = [n for n in ast.walk(_parse(file, modified, size)) if isinstance(n, ast.Import | ast.ImportFrom)]
    return sorted({module for node in nodes for module, _ in _targets(node, name) if module})


def _targets(node: ast.Import | ast.ImportFrom, importer: str) -> list[tuple[str | None, str]]:
    """(module of the project or None, the rest) of each name that an import binds.

    `from sae.core.files import sha256` names a function of a module, `from sae.core import files` a module.
    """
    if isinstance(node, ast.Import):
        return [(a.name, "") if _is_ours(a.name) else (None, a.name) for a in node.names]
    base = node.module or ""
    if node.level:
        # `from . import x` starts at the module's own package, each further dot one above.
        source, parts = registry.locate(importer), importer.split(".")
        own = parts if source is not None and source.name == "__init__.py" else parts[:-1]
        base = ".".join([*own[: len(own) - node.level + 1], *([base] if base else [])])
    if not _is_ours(base):
        return [(None, f"{base}.{a.name}") for a in node.names]
    found: list[tuple[str | None, str]] = []
    for a in node.names:
        inner = f"{base}.{a.name}"
        found.append((inner, "") if registry.locate(inner) else (base if registry.locate(base) else None, a.name))
    return found


def _is_ours(name: str) -> bool:
    return name.split(".")[0] in ("sae", registry.EXTENSIONS)


def _walk(node: Any, name: str, importers: tuple[str, ...]) -> Any:
    # Own walk, since ast.dump prints fields that come and go between Python versions: class names and non-empty fields.
    if isinstance(node, ast.Import | ast.ImportFrom):
        bound = [a.asname or a.name.split(".")[-1] for a in node.names]
        targets = [(m and _module_hash(m, importers), rest) for m, rest in _targets(node, name)]
        return ["import", [[*target, as_] for target, as_ in zip(targets, bound, strict=True)]]
    if isinstance(node, ast.AST):
        fields = {}
        for key, value in ast.iter_fields(node):
            if key == "body" and isinstance(value, list):
                value = [v for v in value if not _is_docstring(v)] or ["pass"]
            if value not in (None, []):
                fields[key] = _walk(value, name, importers)
        return [type(node).__name__, fields]
    if isinstance(node, list):
        return [_walk(v, name, importers) for v in node]
    return node if isinstance(node, str | int | bool) else repr(node)


def _is_docstring(node: Any) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)


def _other_files(folder: Path) -> dict[str, str]:
    found = [p for p in sorted(folder.rglob("*")) if p.is_file() and p.suffix not in (".py", ".pyc")]
    return {p.relative_to(folder).as_posix(): sha256(p) for p in found}

"""A hash of what code means: the syntax trees of its modules and of all that they import from the project.

It covers what can change a number, no more. Comments, docstrings, blank lines, formatting and the order of imports do
not count, nor what a logger, a warning or an error says, nor a file's `VERSION` (`sae.core.versions`). The room
`sae.core` does not count at all: nothing there can change a number. Neither do the names and places of modules: an
import counts as the content hash of what it imports, and so does a name that stands for an imported module. So a move
or a renaming changes nothing. The names of functions do count, and so does what is imported under which name, and where
an error is raised: somebody may catch it.

A process reads each file of code once. What it hashes is what it runs (:func:`run_what_is_hashed`), whatever happens to
the files meanwhile.
"""

import ast
import functools
import importlib.util
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from importlib.machinery import ModuleSpec, SourceFileLoader
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any

from sae.core import registry
from sae.core.errors import UserError
from sae.core.files import dumps, sha256, sha256_text


def code_hash(*modules: str) -> str:
    """Hash of the meaning of `modules` (dotted names) and of what they import; 16 hex digits.

    For an entry outside the project, all files in its folder of extensions that are not Python count too.

    Raises:
        UserError: there is no such module, it is not valid Python, or modules import each other in a circle.
    """
    hashes: list[Any] = [_module_hash(name, ()) for name in modules]
    if any(name.split(".")[0] == registry.EXTENSIONS for name in modules):
        hashes.append(_other_files(registry.roots()[registry.EXTENSIONS]))
    return sha256_text(dumps(hashes))[:16]


def run_what_is_hashed() -> None:
    """Import the modules of the project from now on as the hash reads them, not from their files or Python's cache.

    Only the few that the start of a step itself takes (`sae.core.files` and its like) are there already.
    """
    sys.meta_path.insert(0, _Loader)


class _Loader(SourceFileLoader):
    @staticmethod
    def find_spec(
        name: str, _path: Sequence[str] | None, _target: ModuleType | None = None
    ) -> ModuleSpec | None:
        file = registry.locate(name) if _is_ours(name) else None
        return (
            importlib.util.spec_from_file_location(
                name, loader=_Loader(name, str(file))
            )
            if file
            else None
        )

    def get_code(self, fullname: str) -> CodeType:
        return compile(_tree(fullname), self.path, "exec", dont_inherit=True)


_CORE = "sae.core"
_NO_DATA = (".py", ".pyc", ".md", ".yaml", ".yml")
_known: dict[tuple, str] = {}


def _module_hash(name: str, importers: tuple[str, ...]) -> str:
    if _is_core(name):
        return _CORE
    if name in importers:
        raise UserError(
            f"modules import each other in a circle: {' -> '.join((*importers, name))}"
        )
    key = (
        name,
        registry.extensions(),
    )  # `registry.extend` makes that package anew.
    if key not in _known:
        _known[key] = sha256_text(
            dumps(_Meaning(_tree(name), name, (*importers, name)).value)
        )
    return _known[key]


def _tree(name: str) -> ast.Module:
    file = registry.locate(name)
    if file is None:
        raise UserError(f"there is no module {name}")
    return registry.parse(file)


def _targets(
    node: ast.Import | ast.ImportFrom, importer: str
) -> Iterator[tuple[str | None, str, str]]:
    """(module of the project or None, what of it, local name) of each name that an import binds.

    `from sae.core.files import sha256` binds a function of a module, `from sae.core import files` a module.
    """
    base = "" if isinstance(node, ast.Import) else node.module or ""
    if isinstance(node, ast.ImportFrom) and node.level:
        # `from . import x` starts at the module's own package, each further dot one above.
        source, parts = registry.locate(importer), importer.split(".")
        own = (
            parts if source is not None and source.name == "__init__.py" else parts[:-1]
        )
        base = ".".join([*own[: len(own) - node.level + 1], *([base] if base else [])])
    for a in node.names:
        inner, local = f"{base}.{a.name}" if base else a.name, a.asname or a.name
        if not _is_ours(inner):
            yield None, inner, local
        elif not base or registry.locate(inner):
            yield inner, "", local
        else:
            yield base if registry.locate(base) else None, a.name, local


def _is_ours(name: str) -> bool:
    return name.split(".")[0] in ("sae", registry.EXTENSIONS)


def _is_core(name: str) -> bool:
    return name == _CORE or name.startswith(f"{_CORE}.")


class _Meaning:
    """What a module means, as a value for JSON.

    This is a walk of its own, since `ast.dump` prints fields that come and go between Python versions.
    """

    def __init__(self, tree: ast.Module, name: str, importers: tuple[str, ...]) -> None:
        self.name, self.importers, self.names = name, importers, _bound(tree)
        self.modules: dict[str, str] = {}
        self.errors: set[str] = set()
        self.ours = {
            node.name for node in ast.walk(tree) if isinstance(node, ast.ClassDef)
        }
        for node in ast.walk(tree):
            for module, rest, local in (
                _targets(node, name)
                if isinstance(node, ast.Import | ast.ImportFrom)
                else ()
            ):
                # A name that is bound in two ways, by an argument say, stays a name.
                if (
                    isinstance(node, ast.ImportFrom)
                    and module
                    and not rest
                    and self.names[local] == 1
                ):
                    self.modules[local] = _module_hash(module, importers)
                if module == f"{_CORE}.errors" and self.names[local] == 1:
                    self.errors.add(local)
                elif module and not _is_core(module):
                    self.ours.add(local)
        self.loggers = {
            log for node in tree.body if (log := _logger(node)) and self.names[log] == 1
        }
        # `VERSION` is recorded beside the hash, so it is left out of it. Extensions keep it in: a helper's `VERSION`
        # appears nowhere else.
        self.version = [
            node
            for node in tree.body
            if name.startswith("sae.") and _assigned(node) == "VERSION"
        ]
        self.value = self.of(tree)

    def of(self, node: Any) -> Any:
        """The meaning of a node, of a list of them, or of a value in a node's field."""
        if isinstance(node, ast.Name) and node.id in self.modules:
            return ["module", self.modules[node.id]]
        if isinstance(node, ast.Constant):
            return ["constant", type(node.value).__name__, repr(node.value)]
        if (
            isinstance(node, ast.Call)
            and isinstance(node.func, ast.Name)
            and node.func.id in self.errors
        ):
            return ["Call", self.of(node.func)]
        if (
            isinstance(node, ast.Raise)
            and isinstance(node.exc, ast.Call)
            and not self._carries(node.exc.func)
        ):
            return ["Raise", self.of(node.exc.func)]
        if isinstance(node, ast.AST):
            fields = {}
            for key, value in ast.iter_fields(node):
                found = self.of(value)
                if key == "body" and found == []:
                    found = ["pass"]
                if found not in (None, []) and not (
                    isinstance(node, ast.Assert) and key == "msg"
                ):
                    fields[key] = found
            return [type(node).__name__, fields]
        if isinstance(node, list):
            imports = self.imported(
                [v for v in node if isinstance(v, ast.Import | ast.ImportFrom)]
            )
            rest = [
                self.of(v)
                for v in node
                if not isinstance(v, ast.Import | ast.ImportFrom) and not self._says(v)
            ]
            return [["import", imports], *rest] if imports else rest
        return node

    def _carries(self, exception: ast.expr) -> bool:
        """Whether an exception is one of the project's rooms, which may bring more than words to who catches it."""
        return any(
            isinstance(node, ast.Name) and node.id in self.ours
            for node in ast.walk(exception)
        )

    def _says(self, node: ast.AST) -> bool:
        """Whether a statement is there for people alone: a docstring, a logger and its calls, a warning, `VERSION`."""
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Call):
            called = node.value.func
            on = called.value if isinstance(called, ast.Attribute) else None
            return isinstance(on, ast.Name) and (
                on.id in self.loggers or ast.unparse(called) == "warnings.warn"
            )
        empty = isinstance(node, ast.Pass) or _is_docstring(node)
        return empty or node in self.version or _logger(node) in self.loggers

    def imported(
        self, nodes: list[ast.Import | ast.ImportFrom]
    ) -> list[list[str | None]]:
        """[content hash or None, what of it, local name] of all that some imports bind, in an order of its own."""
        rows = [
            [
                module and _module_hash(module, self.importers),
                rest,
                "" if local in self.modules else local,
            ]
            for module, rest, local in (
                target for node in nodes for target in _targets(node, self.name)
            )
            if module or rest not in ("logging", "warnings") or self.names[local] > 1
        ]
        # Of two with the same local name the later one holds, so their order is kept.
        return sorted(rows, key=lambda row: (row[2], row[0] if not row[2] else ""))


def _assigned(node: ast.AST) -> str | None:
    """The name that a statement binds to a value, where it is one."""
    targets = (
        node.targets
        if isinstance(node, ast.Assign)
        else [node.target]
        if isinstance(node, ast.AnnAssign)
        else []
    )
    return (
        targets[0].id
        if len(targets) == 1 and isinstance(targets[0], ast.Name)
        else None
    )


def _logger(node: ast.AST) -> str | None:
    """The name of the logger that a statement makes."""
    value = getattr(node, "value", None)
    is_made = (
        isinstance(value, ast.Call) and ast.unparse(value.func) == "logging.getLogger"
    )
    return _assigned(node) if is_made else None


def _bound(tree: ast.Module) -> Counter[str]:
    """How often each name is, or may be, bound in a file: in all mentions but reads, attributes and keywords."""
    found: Counter[str] = Counter()
    for node in ast.walk(tree):
        if isinstance(node, ast.alias):
            found[node.asname or node.name] += 1
        elif isinstance(node, ast.Name):
            found[node.id] += not isinstance(node.ctx, ast.Load)
        elif not isinstance(
            node, ast.Attribute | ast.keyword | ast.Constant | ast.ImportFrom
        ):
            for _, value in ast.iter_fields(node):
                found.update(
                    v
                    for v in (value if isinstance(value, list) else [value])
                    if isinstance(v, str)
                )
    return found


def _is_docstring(node: Any) -> bool:
    return (
        isinstance(node, ast.Expr)
        and isinstance(node.value, ast.Constant)
        and isinstance(node.value.value, str)
    )


def _other_files(folder: Path) -> dict[str, str]:
    """{path: SHA-256} of the data files in a folder: not Python, not hidden, neither notes nor a config laid over."""
    found = {}
    for file in sorted(folder.rglob("*")):
        path = file.relative_to(folder)
        if (
            file.is_file()
            and path.suffix not in _NO_DATA
            and not any(part.startswith(".") for part in path.parts)
        ):
            stat = file.stat()
            found[path.as_posix()] = _sha256(
                file, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_size
            )
    return found


@functools.cache
def _sha256(file: Path, *_state: int) -> str:
    return sha256(file)

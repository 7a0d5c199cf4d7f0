"""Hash what code means: its syntax trees, and those of all that it imports from here.

The hash covers what can change a number, no more. These do not count:

- comments, docstrings, blank lines, formatting, and the order of imports;
- what a logger, a warning or an error says;
- a file's `VERSION`, which `sae.core.versions` records beside the hash;
- the package `sae.core`: nothing there can change a number;
- the names and places of modules. An import counts as the hash of the module that it
  imports, and so does a name that stands for an imported module. So a move or a
  renaming of a module changes nothing.

The names of functions do count, and so does what is imported under which name, and
where an error is raised: somebody may catch it.

A process reads each file of code once. What it hashes is what it runs
(:func:`run_what_is_hashed`), whatever happens to the files meanwhile.
"""

import ast
import functools
import importlib.util
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from importlib.machinery import ModuleSpec, SourceFileLoader
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any

from sae.core import registry
from sae.core.errors import UserError
from sae.core.files import dumps, sha256, sha256_text

_CORE = "sae.core"
_ERRORS = "sae.core.errors"
# Libraries whose import is not hashed. Of what they are used for, loggers and
# `warnings.warn` are left out as well.
_FOR_MESSAGES = ("logging", "warnings")

# {(module, package of extensions at that time): hash of what the module means}. A new
# package (`registry.extend`) may have other modules of the same names.
_module_hashes: dict[tuple[str, ModuleType | None], str] = {}


def code_hash(*module_names: str) -> str:
    """Return a hash of what modules mean, and of what they import from the project.

    If one of them is an extension, the hash also covers the folder of extensions, of
    whatever kind its files are, but for other entries: these are read as modules alone.

    Args:
        module_names: Dotted names, such as "sae.scoring.metrics.probe".

    Returns:
        16 hex digits.

    Raises:
        UserError: There is no such module, it is not valid Python, or modules import
            each other in a circle.
    """
    hashes: list[Any] = [_hash_module(name, importers=()) for name in module_names]
    if any(_package(name) == registry.EXTENSIONS for name in module_names):
        extensions_folder = registry.roots()[registry.EXTENSIONS]
        hashes += _hash_beside_entries(extensions_folder)
    return sha256_text(dumps(hashes))[:16]


def run_what_is_hashed() -> None:
    """Import the project's modules from now on as the hash reads them.

    Neither their files as they are then nor Python's cache of compiled code is used.
    Modules that are imported before this call, `sae.core.files` and its like, stay.
    """
    sys.meta_path.insert(0, _HashedCodeLoader)


class _HashedCodeLoader(SourceFileLoader):
    """Find and load the project's modules from the syntax trees that are hashed."""

    @staticmethod
    def find_spec(
        name: str, _path: Sequence[str] | None, _target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Return where a module of the project is; None leaves it to other finders."""
        if not _is_of_project(name):
            return None
        file = registry.locate(name)
        if file is None:
            return None
        loader = _HashedCodeLoader(name, str(file))
        return importlib.util.spec_from_file_location(name, loader=loader)

    def get_code(self, fullname: str) -> CodeType:
        """Compile the syntax tree of a module."""
        return compile(_syntax_tree(fullname), self.path, "exec", dont_inherit=True)


def _hash_module(name: str, importers: tuple[str, ...]) -> str:
    """Return the hash of what a module means; of one of `sae.core`, a constant."""
    if _is_core(name):
        return _CORE
    if name in importers:
        circle = " -> ".join((*importers, name))
        raise UserError(f"modules import each other in a circle: {circle}")

    key = (name, registry.extensions())
    if key not in _module_hashes:
        meaning = _ModuleMeaning(_syntax_tree(name), name, (*importers, name))
        _module_hashes[key] = sha256_text(dumps(meaning.value))
    return _module_hashes[key]


def _syntax_tree(module_name: str) -> ast.Module:
    file = registry.locate(module_name)
    if file is None:
        raise UserError(f"there is no module {module_name}")
    return registry.parse(file)


def _package(module_name: str) -> str:
    return module_name.split(".")[0]


def _is_of_project(module_name: str) -> bool:
    return _package(module_name) in ("sae", registry.EXTENSIONS)


def _is_core(module_name: str) -> bool:
    return module_name == _CORE or module_name.startswith(f"{_CORE}.")


@dataclass(frozen=True)
class _ImportedName:
    """A name that an import statement binds.

    =================================== ================== =========== ============
    statement                           module             attribute   local_name
    =================================== ================== =========== ============
    `from sae.core import files`        "sae.core.files"   ""          "files"
    `from sae.core.files import dumps`  "sae.core.files"   "dumps"     "dumps"
    `import sae.core.files as f`        "sae.core.files"   ""          "f"
    `from os import path as p`          None               "os.path"   "p"
    =================================== ================== =========== ============

    Attributes:
        module: The module of the project that is imported, or imported from; None for
            other libraries.
        attribute: What is imported from that module, "" for the module itself. Of
            another library: the whole dotted name.
        local_name: The name that stands for it in the importing module.
    """

    module: str | None
    attribute: str
    local_name: str


def _imported_names(
    statement: ast.Import | ast.ImportFrom, importer: str
) -> Iterator[_ImportedName]:
    source = _imported_from(statement, importer)
    for alias in statement.names:
        dotted_name = f"{source}.{alias.name}" if source else alias.name
        local_name = alias.asname or alias.name
        if not _is_of_project(dotted_name):
            yield _ImportedName(None, dotted_name, local_name)
        elif not source or registry.locate(dotted_name):
            yield _ImportedName(dotted_name, "", local_name)
        else:
            # A function, class or constant. A folder without __init__.py is no module.
            module = source if registry.locate(source) else None
            yield _ImportedName(module, alias.name, local_name)


def _imported_from(statement: ast.Import | ast.ImportFrom, importer: str) -> str:
    """Return the dotted name after `from`, made absolute; "" for `import ...`."""
    if isinstance(statement, ast.Import):
        return ""
    if not statement.level:
        return statement.module or ""

    # One dot is the importer's own package, each further dot is one package above.
    package_parts = importer.split(".")
    importer_file = registry.locate(importer)
    is_package = importer_file is not None and importer_file.name == "__init__.py"
    if not is_package:
        package_parts = package_parts[:-1]
    parts = package_parts[: len(package_parts) - statement.level + 1]
    if statement.module:
        parts.append(statement.module)
    return ".".join(parts)


class _ModuleMeaning:
    """The meaning of a module, as a value that JSON can hold.

    The syntax tree is walked here, not by `ast.dump`, which prints fields that come and
    go between versions of Python. A node becomes [its type, {field: its meaning}],
    without the fields that are empty.

    Attributes:
        value: The meaning of the whole module.
    """

    def __init__(self, tree: ast.Module, name: str, importers: tuple[str, ...]) -> None:
        """Work out what the module means.

        Args:
            tree: The syntax tree of the module.
            name: Its dotted name.
            importers: As :func:`_hash_module` takes them, with the module itself last.
        """
        self._module_name = name
        self._importers = importers
        self._binding_counts = _count_bindings(tree)

        # What a name stands for is found out before the walk, since it holds in the
        # whole file, wherever the name is imported.
        #
        # {local name: hash of the imported module for which it always stands}
        self._hash_of_alias: dict[str, str] = {}
        # Local names of what comes from `sae.core.errors`, such as `UserError`.
        self._errors: set[str] = set()
        # Local names of this module's classes, and of all that is imported from the
        # project's rooms other than the core.
        self._project_names: set[str] = set()
        self._note_names(tree)

        # Local names of this module's loggers.
        self._loggers: set[str] = set()
        for statement in tree.body:
            logger = _logger_made_by(statement)
            if logger is not None and self._is_bound_once(logger):
                self._loggers.add(logger)

        # `VERSION` is recorded beside the hash. Extensions keep it in the hash: the
        # `VERSION` of a helper is recorded nowhere else.
        self._version_statements: list[ast.stmt] = []
        if name.startswith("sae."):
            self._version_statements = [
                statement
                for statement in tree.body
                if _assigned_name(statement) == "VERSION"
            ]

        self.value = self._meaning(tree)

    def _note_names(self, tree: ast.Module) -> None:
        """Fill in what the names of classes and of imports stand for."""
        for node in ast.walk(tree):
            if isinstance(node, ast.ClassDef):
                self._project_names.add(node.name)
            if not isinstance(node, ast.Import | ast.ImportFrom):
                continue
            for imported in _imported_names(node, self._module_name):
                self._note_import(imported, isinstance(node, ast.ImportFrom))

    def _note_import(self, imported: _ImportedName, is_from: bool) -> None:
        module = imported.module
        if module is None:
            return
        local_name = imported.local_name
        # A name that is also bound otherwise, as an argument say, does not always stand
        # for what is imported.
        is_bound_once = self._is_bound_once(local_name)
        is_module = is_from and not imported.attribute
        if is_module and is_bound_once:
            self._hash_of_alias[local_name] = _hash_module(module, self._importers)
        if module == _ERRORS and is_bound_once:
            self._errors.add(local_name)
        if not _is_core(module):
            self._project_names.add(local_name)

    def _is_bound_once(self, name: str) -> bool:
        return self._binding_counts[name] == 1

    def _meaning(self, node: Any) -> Any:
        """Return the meaning of a node, a list of them, or a field's plain value."""
        # An error's message does not count: of a call of an error of the project, and
        # of the raising of an error of Python's or of another library, the class
        # remains.
        if isinstance(node, list):
            return self._meaning_of_list(node)
        if not isinstance(node, ast.AST):
            return node
        if isinstance(node, ast.Name) and node.id in self._hash_of_alias:
            return ["module", self._hash_of_alias[node.id]]
        if isinstance(node, ast.Constant):
            # JSON has no bytes and no complex numbers, so that text stands for a value.
            return ["constant", type(node.value).__name__, repr(node.value)]
        if isinstance(node, ast.Call) and self._is_error(node.func):
            return ["Call", self._meaning(node.func)]
        if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call):
            exception_class = node.exc.func
            if not self._is_project_exception(exception_class):
                return ["Raise", self._meaning(exception_class)]
        return [type(node).__name__, self._meanings_of_fields(node)]

    def _meanings_of_fields(self, node: ast.AST) -> dict[str, Any]:
        meanings: dict[str, Any] = {}
        for field, child in ast.iter_fields(node):
            if isinstance(node, ast.Assert) and field == "msg":
                continue
            meaning = self._meaning(child)
            # A body whose docstring or log message is left out is as one with `pass`.
            if field == "body" and meaning == []:
                meaning = ["pass"]
            if meaning is not None and meaning != []:
                meanings[field] = meaning
        return meanings

    def _meaning_of_list(self, nodes: list[Any]) -> list[Any]:
        """Return the meanings of nodes, those of imports joined at the beginning."""
        imports = []
        counted_nodes = []
        for node in nodes:
            if isinstance(node, ast.Import | ast.ImportFrom):
                imports.append(node)
            elif not self._is_for_people(node):
                counted_nodes.append(node)

        import_rows = self._import_rows(imports)
        meanings = [self._meaning(node) for node in counted_nodes]
        if import_rows:
            return [["import", import_rows], *meanings]
        return meanings

    def _import_rows(
        self, statements: Iterable[ast.Import | ast.ImportFrom]
    ) -> list[list[str | None]]:
        """Return [module's hash, what of the module, local name] of each name."""
        # The order hangs on no module name. The hash of another library is None, and
        # the local name is "" where it stands for a module.
        rows: list[list[str | None]] = []
        for statement in statements:
            for imported in _imported_names(statement, self._module_name):
                if self._is_import_for_messages(imported):
                    continue
                module_hash = None
                if imported.module is not None:
                    module_hash = _hash_module(imported.module, self._importers)
                local_name = imported.local_name
                if local_name in self._hash_of_alias:
                    local_name = ""
                rows.append([module_hash, imported.attribute, local_name])

        # Of two with the same local name the later one holds, so their order is kept.
        # Modules have no local name here, and are sorted by their hashes.
        return sorted(rows, key=lambda row: (row[2], "" if row[2] else row[0]))

    def _is_import_for_messages(self, imported: _ImportedName) -> bool:
        is_library = imported.module is None and imported.attribute in _FOR_MESSAGES
        return is_library and self._binding_counts[imported.local_name] <= 1

    def _is_error(self, function: ast.expr) -> bool:
        return isinstance(function, ast.Name) and function.id in self._errors

    def _is_project_exception(self, exception_class: ast.expr) -> bool:
        """Say whether an exception may bring more than words to whoever catches it."""
        return any(
            isinstance(node, ast.Name) and node.id in self._project_names
            for node in ast.walk(exception_class)
        )

    def _is_for_people(self, node: Any) -> bool:
        """Say whether a statement is for people alone, so that it changes no number."""
        # These are docstrings, `pass`, the making of a logger, calls of loggers and of
        # `warnings.warn`, and `VERSION`.
        if isinstance(node, ast.Pass) or _is_docstring(node):
            return True
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Call):
            return self._is_message(node.value)
        if node in self._version_statements:
            return True
        return _logger_made_by(node) in self._loggers

    def _is_message(self, call: ast.Call) -> bool:
        method = call.func
        if not isinstance(method, ast.Attribute):
            return False
        owner = method.value
        if not isinstance(owner, ast.Name):
            return False
        return owner.id in self._loggers or ast.unparse(method) == "warnings.warn"


def _assigned_name(node: Any) -> str | None:
    if isinstance(node, ast.Assign) and len(node.targets) == 1:
        target = node.targets[0]
    elif isinstance(node, ast.AnnAssign):
        target = node.target
    else:
        return None
    return target.id if isinstance(target, ast.Name) else None


def _logger_made_by(node: Any) -> str | None:
    value = getattr(node, "value", None)
    if not isinstance(value, ast.Call):
        return None
    if ast.unparse(value.func) != "logging.getLogger":
        return None
    return _assigned_name(node)


def _count_bindings(tree: ast.Module) -> Counter[str]:
    """Count every mention of a name but reads, attributes and keywords of calls."""
    counts: Counter[str] = Counter()
    for node in ast.walk(tree):
        if isinstance(node, ast.alias):
            counts[node.asname or node.name] += 1
        elif isinstance(node, ast.Name):
            if not isinstance(node.ctx, ast.Load):
                counts[node.id] += 1
        elif not isinstance(
            node, ast.Attribute | ast.keyword | ast.Constant | ast.ImportFrom
        ):
            # Other nodes hold the names that they bind as text, one or a list of them.
            for _, value in ast.iter_fields(node):
                values = value if isinstance(value, list) else [value]
                counts.update(name for name in values if isinstance(name, str))
    return counts


def _is_docstring(node: Any) -> bool:
    return (
        isinstance(node, ast.Expr)
        and isinstance(node.value, ast.Constant)
        and isinstance(node.value.value, str)
    )


def _hash_beside_entries(folder: Path) -> list[Any]:
    """Return the hashes of all files of the folder of extensions but its entries.

    An entry may read any of them in a way that no import shows. Hidden files do not
    count, nor what Python and editors leave: `__pycache__`, `mine.py~`.
    """
    hash_of_file = {}
    module_hashes = set()
    for file in sorted(folder.rglob("*")):
        path = file.relative_to(folder)
        is_hidden = any(part.startswith(".") for part in path.parts)
        is_left = "__pycache__" in path.parts or path.name.endswith("~")
        if is_hidden or is_left or registry.is_entry(path) or not file.is_file():
            continue
        module_hash = _hash_helper(file, path)
        if module_hash is not None:
            module_hashes.add(module_hash)
        else:
            stat = file.stat()
            hash_of_file[path.as_posix()] = _hash_file(
                file, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_size
            )
    return [hash_of_file, *sorted(module_hashes)]


def _hash_helper(file: Path, path: Path) -> str | None:
    """Return the hash of what a file means; None if it is no module that can be read.

    Args:
        file: The file.
        path: Its path below the folder of extensions.
    """
    names = [*path.parent.parts, path.stem]
    if path.name == "__init__.py":
        names.pop()
    module = ".".join((registry.EXTENSIONS, *names))
    if registry.locate(module) != file:
        return None
    try:
        return _hash_module(module, importers=())
    except (UserError, ValueError):  # It is not valid Python, or imports itself.
        return None


@functools.cache
def _hash_file(file: Path, *_state: int) -> str:
    """Return the SHA-256 of a file; in another state it is read again."""
    return sha256(file)

"""A folder is a registry: `sae/training/penalties/mine.py` is the penalty `mine`.

Adding an entry is adding a file and naming it in config.yaml. The file may lie in the
project or in a folder of the user's (`extensions` in config.yaml): there
`penalties/mine.py` is the module `sae_extensions.penalties.mine`, and it may import
helpers that lie beside it (`from sae_extensions import helper`). A file whose name
begins with `_` is no entry.

What the workflow must know of an entry is its head: its constants and its options. The
head is read without running the file, since an entry may import torch, which takes
seconds.
"""

import ast
import builtins
import contextlib
import functools
import importlib
import inspect
import symtable
import sys
import types
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from sae.core.errors import UserError, did_you_mean

if TYPE_CHECKING:
    from sae.core.options import Options

# {kind of entry: the package whose modules are the entries}
PACKAGES = {
    "dataset": "sae.data.datasets",
    "backbone": "sae.data.backbones",
    "annotation": "sae.data.annotations",
    "objective": "sae.training.objectives",
    "penalty": "sae.training.penalties",
    "metric": "sae.scoring.metrics",
    "protocol": "sae.protocols",
    "importer": "sae.models.importers",
    "exporter": "sae.models.exporters",
    "figure": "sae.report.figures",
}
# The package of a user's entries.
EXTENSIONS = "sae_extensions"

# What a class of options may use beside the constants of its file: these import fast.
_OPTION_MODULES = ("pydantic", "typing", "sae.core.options")
_ALLOWED_IN_OPTIONS = (
    "it may use constants of its file and what that imports by "
    f"`from {' / '.join(_OPTION_MODULES)} import ...`"
)


class Head(NamedTuple):
    """The facts about an entry that are known without running it.

    Attributes:
        constants: its constants: names in capitals with a literal value.
        options: its class `Options`; the empty one if it has none.
        defined_names: what the file defines or imports outside functions and classes.

    `options` is another class object than that of the entry's module, as :func:`load`
    imports it, with the same fields.
    """

    constants: dict[str, Any]
    options: "type[Options]"
    defined_names: frozenset[str]


def extend(folder: str | Path | None) -> None:
    """Make the entries in a user's folder known to this process.

    The folder of an earlier call is forgotten, and its modules with it.

    Args:
        folder: The folder of extensions; None: there is none.

    Raises:
        UserError: The folder does not exist, a folder in it has the name of a kind
            where that of its entries is meant, or a file in it has the name of an entry
            of the project, or of a package beside it.
    """
    for module in list(sys.modules):
        if module.split(".")[0] == EXTENSIONS:
            del sys.modules[module]
    parse.cache_clear()
    if folder is None:
        return

    folder = Path(folder).resolve()
    if not folder.is_dir():
        raise UserError(f"extensions: {folder} is no folder")
    for kind in PACKAGES:
        _check_folder_of_kind(folder, kind)

    package = types.ModuleType(EXTENSIONS, "Entries of one's own.")
    package.__path__ = [str(folder)]
    sys.modules[EXTENSIONS] = package
    importlib.invalidate_caches()


def _check_folder_of_kind(extensions_folder: Path, kind: str) -> None:
    """Check the name of a folder of entries, and that it takes no name twice."""
    misnamed_folder = extensions_folder / kind
    if misnamed_folder.is_dir():
        raise UserError(
            f"extensions: {misnamed_folder} is no kind of entry; did you mean "
            f"{_folder_name(kind)}?"
        )

    folder = extensions_folder / _folder_name(kind)
    for name in _entries_in(folder):
        package = folder / name / "__init__.py"
        if package.exists():
            raise UserError(
                f"extensions: {package} has the name of {name}.py beside its folder, "
                "and Python imports one of the two alone; rename the folder or the file"
            )
    names_in_both = set(_library_entries(kind)) & set(_entries_in(folder))
    if names_in_both:
        file = folder / f"{min(names_in_both)}.py"
        raise UserError(
            f"extensions: {file} has the name of a {kind} of the project; rename the "
            "file"
        )


def names(kind: str) -> list[str]:
    """Return the names of the entries of a kind, sorted."""
    return sorted(_library_entries(kind) + _extension_entries(kind))


def module_name(kind: str, name: str) -> str:
    """Return the dotted name of an entry's module.

    Raises:
        UserError: There is no such entry; the message lists those there are.
    """
    if name in _library_entries(kind):
        return f"{PACKAGES[kind]}.{name}"
    if name in _extension_entries(kind):
        return f"{EXTENSIONS}.{_folder_name(kind)}.{name}"
    entries = names(kind)
    raise UserError(
        f"there is no {kind} {name!r}; there are: {', '.join(entries)}"
        f"{did_you_mean(name, entries)}"
    )


def is_own(kind: str, name: str) -> bool:
    """Say whether an entry lies in the user's folder of extensions."""
    return module_name(kind, name).startswith(EXTENSIONS)


def load(kind: str, name: str) -> types.ModuleType:
    """Import and return the module of an entry.

    Raises:
        UserError: There is no such entry, or the file of a user's entry cannot be
            imported.
    """
    dotted_name = module_name(kind, name)
    try:
        return importlib.import_module(dotted_name)
    except (SyntaxError, ImportError) as error:
        if not dotted_name.startswith(EXTENSIONS):
            raise
        raise UserError(
            f"{kind} {name}: {locate(dotted_name)} cannot be imported: {error}"
        ) from error


def head(kind: str, name: str) -> Head:
    """Return the :class:`Head` of an entry, whose file is not run.

    Raises:
        UserError: There is no such entry, it is not valid Python, or its `Options`
            cannot be read.
    """
    file = locate(module_name(kind, name))
    assert file is not None  # An entry is a file.
    if file.is_relative_to(roots()["sae"]):
        return _read_library_head(kind, name, file)
    return _read_head(kind, name, file)


def _read_head(kind: str, name: str, file: Path) -> Head:
    """Read the head of an entry, of whose file the classes of options alone are run."""
    # Pydantic takes a third of a second to import, and most jobs do without.
    from sae.core.options import Options

    tree = parse(file)
    file_constants = constants(tree)
    statements = [node for node in tree.body if _is_for_options(node)]
    options_place = f"{kind} {name}: the class Options of {file}"

    # `__name__` becomes the `__module__` of the classes.
    namespace: dict[str, Any] = {"__name__": f"{kind}.{name}", **file_constants}
    try:
        code = compile(ast.Module(statements, []), str(file), "exec", dont_inherit=True)
        exec(code, namespace)
    except Exception as error:
        raise UserError(
            f"{options_place} cannot be read ({type(error).__name__}: {error}): "
            f"{_ALLOWED_IN_OPTIONS}"
        ) from None

    known_names = {*namespace, *dir(builtins)}
    for node in statements:
        if not isinstance(node, ast.ClassDef):
            continue
        # Its methods run later, and need names that are there.
        scope = symtable.symtable(ast.unparse(node), "", "exec")
        unknown_names = sorted(_global_names(scope) - known_names)
        if unknown_names:
            raise UserError(
                f"{kind} {name}: the class {node.name} of {file} uses "
                f"{unknown_names[0]}: {_ALLOWED_IN_OPTIONS}"
            )
        if hasattr(namespace[node.name], "model_fields"):
            _describe_fields(namespace[node.name], node)

    options = namespace.get("Options", Options)
    if not (isinstance(options, type) and issubclass(options, Options)):
        raise UserError(f"{options_place} must derive from sae.core.options.Options")
    return Head(file_constants, options, frozenset(_names_bound_by(tree)))


# The heads of the library stay as they were first read: with many modules loaded a
# class of options takes long to make.
_read_library_head = functools.cache(_read_head)


def _is_for_options(node: ast.stmt) -> bool:
    if isinstance(node, ast.ClassDef):
        return node.name.endswith("Options")
    if not isinstance(node, ast.ImportFrom) or node.level:
        return False
    if node.module in _OPTION_MODULES:
        return True
    # `from sae.core import options` imports one of the modules itself.
    imported = [f"{node.module}.{alias.name}" for alias in node.names]
    return any(module in _OPTION_MODULES for module in imported)


def _global_names(table: symtable.SymbolTable) -> set[str]:
    global_names = set()
    for symbol in table.get_symbols():
        if symbol.is_global():
            global_names.add(symbol.get_name())
    for inner_table in table.get_children():
        global_names.update(_global_names(inner_table))
    return global_names


def _describe_fields(options: "type[Options]", node: ast.ClassDef) -> None:
    """Make the text below each option its description."""
    # Pydantic does so only for a class whose file was run.
    for field, text in zip(node.body, node.body[1:], strict=False):
        if not isinstance(field, ast.AnnAssign) or not isinstance(text, ast.Expr):
            continue
        if not isinstance(field.target, ast.Name):
            continue
        name = field.target.id
        if name in options.model_fields and isinstance(text.value, ast.Constant):
            description = inspect.cleandoc(str(text.value.value))
            options.model_fields[name].description = description
    options.model_rebuild(force=True)


def constants(tree: ast.Module) -> dict[str, Any]:
    """Return {name: value} of a file's names in capitals with a literal value."""
    values: dict[str, Any] = {}
    for node in tree.body:
        if not isinstance(node, ast.Assign | ast.AnnAssign) or node.value is None:
            continue
        target = node.targets[0] if isinstance(node, ast.Assign) else node.target
        if isinstance(target, ast.Name) and target.id.isupper():
            # A value that is computed raises ValueError.
            with contextlib.suppress(ValueError):
                values[target.id] = ast.literal_eval(node.value)
    return values


def _names_bound_by(tree: ast.Module) -> Iterator[str]:
    """Yield the names that a file binds outside functions, below `if` and `try` too."""
    for symbol in symtable.symtable(ast.unparse(tree), "", "exec").get_symbols():
        if symbol.is_assigned() or symbol.is_imported() or symbol.is_annotated():
            yield symbol.get_name()


@functools.cache
def parse(file: Path) -> ast.Module:
    """Return the syntax tree of a file, which is read once, and anew after `extend`.

    Raises:
        UserError: The file is not valid Python; names the file and the line.
    """
    try:
        return ast.parse(file.read_text(encoding="utf-8"), filename=str(file))
    except SyntaxError as error:
        raise UserError(
            f"{file} line {error.lineno} is not valid Python: {error.msg}"
        ) from None
    except UnicodeDecodeError as error:
        raise UserError(f"{file} is not UTF-8: {error}") from None


def locate(dotted_name: str) -> Path | None:
    """Return the file of a module or package of `sae` or of the extensions.

    Returns:
        The `__init__.py` of a package; None if there is no such module.
    """
    top_package, *below = dotted_name.split(".")
    root = roots().get(top_package)
    if root is None:
        return None
    path = root.joinpath(*below)
    for file in (path / "__init__.py", path.with_suffix(".py")):
        if file.is_file():
            return file
    return None


def extensions() -> types.ModuleType | None:
    """Return the package of a user's entries, which each call of :func:`extend` makes.

    Returns:
        None if there are no extensions.
    """
    return sys.modules.get(EXTENSIONS)


def roots() -> dict[str, Path]:
    """Return {top-level package: its folder}: `sae`, and the extensions if any."""
    folders = {"sae": Path(__file__).parent.parent}
    package = extensions()
    if package is not None:
        folders[EXTENSIONS] = Path(package.__path__[0])
    return folders


def _folder_name(kind: str) -> str:
    """Return the name of the folder with the entries of a kind, such as "penalties"."""
    return PACKAGES[kind].rpartition(".")[2]


def is_entry(path: Path) -> bool:
    """Tell whether a file, by its path below the folder of extensions, is an entry."""
    folders = {_folder_name(kind) for kind in PACKAGES}
    return (
        len(path.parts) == 2
        and path.parts[0] in folders
        and path.suffix == ".py"
        and not path.name.startswith("_")
    )


@functools.cache
def _library_entries(kind: str) -> list[str]:
    _, *below = PACKAGES[kind].split(".")
    return _entries_in(roots()["sae"].joinpath(*below))


def _extension_entries(kind: str) -> list[str]:
    if extensions() is None:
        return []
    return _entries_in(roots()[EXTENSIONS] / _folder_name(kind))


def _entries_in(folder: Path) -> list[str]:
    return [
        file.stem
        for file in folder.glob("*.py")
        if file.is_file() and not file.name.startswith("_")
    ]

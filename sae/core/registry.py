"""A folder is a registry: `sae/training/penalties/my_penalty.py` is the penalty `my_penalty`.

Adding an entry is adding a file and naming it in config.yaml. The file may lie in the project or in a folder of one's
own (`extensions` in config.yaml): there `penalties/my_penalty.py` is the module `sae_extensions.penalties.my_penalty`,
and it may import helpers that lie beside it (`from sae_extensions import helper`). A name that begins with `_` is no
entry.

What the workflow must know of an entry is its head: its constants and its options. The head is read
without running the file, since an entry may import torch, which takes seconds.
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

from sae.core.errors import UserError, meant

if TYPE_CHECKING:
    from sae.core.options import Options

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
EXTENSIONS = "sae_extensions"
# What an `Options` class may use beside the constants of its file.
_LIGHT = ("pydantic", "typing", "sae.core.options")
_ALLOWED = f"it may use constants of its file and what that imports by `from {' / '.join(_LIGHT)} import ...`"


class Head(NamedTuple):
    """What is known of an entry without running it.

    Attributes:
        constants: its constants: names in capitals with a literal value.
        options: its class `Options`; the empty one if it has none.
        names: what the file defines or imports outside functions and classes.
    """

    constants: dict[str, Any]
    options: "type[Options]"
    names: frozenset[str]


def extend(folder: str | Path | None) -> None:
    """Make the entries in a folder of one's own known to this process; None forgets those of an earlier call.

    Raises:
        UserError: the folder does not exist, a folder in it has the name of a kind where that of its entries is meant,
            or a file in it has the name of an entry of the project.
    """
    for name in [m for m in sys.modules if m.split(".")[0] == EXTENSIONS]:
        del sys.modules[name]
    parse.cache_clear()
    if folder is None:
        return
    folder = Path(folder).resolve()
    if not folder.is_dir():
        raise UserError(f"extensions: {folder} is no folder")
    for kind in PACKAGES:
        if (folder / kind).is_dir():
            raise UserError(
                f"extensions: {folder / kind} is no kind of entry; did you mean {_room(kind)}?"
            )
        taken = set(_own(kind)) & set(_entries(folder / _room(kind)))
        if taken:
            file = folder / _room(kind) / f"{min(taken)}.py"
            raise UserError(
                f"extensions: {file} has the name of a {kind} of the project; rename the file"
            )
    package = types.ModuleType(EXTENSIONS, "Entries of one's own.")
    package.__path__ = [str(folder)]
    sys.modules[EXTENSIONS] = package
    importlib.invalidate_caches()


def names(kind: str) -> list[str]:
    """The entries of a kind, sorted."""
    return sorted(_own(kind) + _external(kind))


def module(kind: str, name: str) -> str:
    """The dotted module name of an entry.

    Raises:
        UserError: there is no such entry; the message lists those there are.
    """
    if name in _own(kind):
        return f"{PACKAGES[kind]}.{name}"
    if name in _external(kind):
        return f"{EXTENSIONS}.{_room(kind)}.{name}"
    raise UserError(
        f"there is no {kind} {name!r}; there are: {', '.join(names(kind))}{meant(name, names(kind))}"
    )


def load(kind: str, name: str) -> types.ModuleType:
    """Import and return the module of an entry.

    Raises:
        UserError: there is no such entry, or its file cannot be imported.
    """
    dotted = module(kind, name)
    try:
        return importlib.import_module(dotted)
    except (SyntaxError, ImportError) as error:
        if dotted.startswith(EXTENSIONS):
            raise UserError(
                f"{kind} {name}: {locate(dotted)} cannot be imported: {error}"
            ) from error
        raise


def head(kind: str, name: str) -> Head:
    """The :class:`Head` of an entry; its file is not run.

    Raises:
        UserError: there is no such entry, it is not valid Python, or its `Options` cannot be read.
    """
    file = locate(module(kind, name))
    assert file is not None
    # The library's own stay as they were first seen: with many modules loaded a class of options takes long to make.
    read = _head if file.is_relative_to(roots()["sae"]) else _head.__wrapped__
    return read(kind, name, file)


@functools.cache
def _head(kind: str, name: str, file: Path) -> Head:
    from sae.core.options import (
        Options,
    )  # Here: pydantic takes a third of a second, and most jobs do without.

    tree = parse(file)
    known = constants(tree)
    light = [node for node in tree.body if _is_light(node)]
    space: dict[str, Any] = {"__name__": f"{kind}.{name}", **known}
    where = f"{kind} {name}: the class Options of {file}"
    try:
        exec(
            compile(ast.Module(light, []), str(file), "exec", dont_inherit=True), space
        )
    except Exception as error:
        raise UserError(
            f"{where} cannot be read ({type(error).__name__}: {error}): {_ALLOWED}"
        ) from None
    for node in light:
        if isinstance(node, ast.ClassDef):
            taken = _globals(symtable.symtable(ast.unparse(node), "", "exec"))
            if unknown := sorted(taken - {*space, *dir(builtins)}):
                raise UserError(
                    f"{kind} {name}: the class {node.name} of {file} uses {unknown[0]}: {_ALLOWED}"
                )
            if hasattr(space[node.name], "model_fields"):
                _describe(space[node.name], node)
    options = space.get("Options", Options)
    if not (isinstance(options, type) and issubclass(options, Options)):
        raise UserError(f"{where} must derive from sae.core.options.Options")
    return Head(known, options, frozenset(_bound(tree)))


def constants(tree: ast.Module) -> dict[str, Any]:
    """{name: value} of a file's names in capitals with a literal value."""
    found: dict[str, Any] = {}
    for node in tree.body:
        if isinstance(node, ast.Assign | ast.AnnAssign) and node.value is not None:
            target = node.targets[0] if isinstance(node, ast.Assign) else node.target
            if isinstance(target, ast.Name) and target.id.isupper():
                with contextlib.suppress(ValueError):  # Not a literal.
                    found[target.id] = ast.literal_eval(node.value)
    return found


def _bound(tree: ast.Module) -> Iterator[str]:
    """The names that a file binds outside functions and classes, also below `if` and `try`."""
    for symbol in symtable.symtable(ast.unparse(tree), "", "exec").get_symbols():
        if symbol.is_assigned() or symbol.is_imported() or symbol.is_annotated():
            yield symbol.get_name()


def _globals(table: symtable.SymbolTable) -> set[str]:
    """The names that a class, or a function in it, takes from its file."""
    own = {symbol.get_name() for symbol in table.get_symbols() if symbol.is_global()}
    return own.union(*map(_globals, table.get_children()))


def _describe(options: "type[Options]", node: ast.ClassDef) -> None:
    """Make the text below each field its description; pydantic finds it only where the file itself was run."""
    for field, text in zip(node.body, node.body[1:], strict=False):
        name = (
            field.target.id
            if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name)
            else ""
        )
        if (
            name in options.model_fields
            and isinstance(text, ast.Expr)
            and isinstance(text.value, ast.Constant)
        ):
            options.model_fields[name].description = inspect.cleandoc(
                str(text.value.value)
            )
    options.model_rebuild(force=True)


@functools.cache
def parse(file: Path) -> ast.Module:
    """The syntax tree of a file, as it was when this process first looked, or looked first after :func:`extend`.

    Raises:
        UserError: it is not valid Python; names the file and the line.
    """
    try:
        return ast.parse(file.read_text(encoding="utf-8"), filename=str(file))
    except SyntaxError as error:
        raise UserError(
            f"{file} line {error.lineno} is not valid Python: {error.msg}"
        ) from None
    except UnicodeDecodeError as error:
        raise UserError(f"{file} is not UTF-8: {error}") from None


def locate(dotted: str) -> Path | None:
    """The file of a module or package of `sae` or of the extensions; None if there is none."""
    top, *rest = dotted.split(".")
    path = roots().get(top, Path("/nowhere")).joinpath(*rest)
    return next(
        (
            file
            for file in (path / "__init__.py", path.with_suffix(".py"))
            if file.is_file()
        ),
        None,
    )


def extensions() -> types.ModuleType | None:
    """Return the package of entries of one's own; each call of :func:`extend` makes another."""
    return sys.modules.get(EXTENSIONS)


def roots() -> dict[str, Path]:
    """{top-level package: its folder}: of the library, and of the extensions if there are any."""
    found = {"sae": Path(__file__).parent.parent}
    if EXTENSIONS in sys.modules:
        found[EXTENSIONS] = Path(sys.modules[EXTENSIONS].__path__[0])
    return found


def _room(kind: str) -> str:
    return PACKAGES[kind].rpartition(".")[2]


def _own(kind: str) -> list[str]:
    return _entries(roots()["sae"].joinpath(*PACKAGES[kind].split(".")[1:]))


def _external(kind: str) -> list[str]:
    return (
        _entries(roots()[EXTENSIONS] / _room(kind)) if EXTENSIONS in sys.modules else []
    )


def _entries(folder: Path) -> list[str]:
    return [file.stem for file in folder.glob("*.py") if not file.name.startswith("_")]


def _is_light(node: ast.stmt) -> bool:
    """Whether a statement is a class of options, or imports what such a class may use."""
    if isinstance(node, ast.ClassDef):
        return node.name.endswith("Options")
    if not isinstance(node, ast.ImportFrom) or node.level:
        return False
    return any(
        name in _LIGHT
        for name in (
            node.module,
            *(f"{node.module}.{alias.name}" for alias in node.names),
        )
    )

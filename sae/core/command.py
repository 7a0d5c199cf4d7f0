"""A command's options, from the parameters of the function that it runs: what they are is said there, once."""

import dataclasses
import inspect
import re
import types
import typing
from argparse import ArgumentParser, ArgumentTypeError
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel, TypeAdapter, ValidationError

from sae.core.options import RECORD, told

_MANY = (list, tuple, Sequence, Iterable)
_NAMED = dict[str, Path]


def reader(form: Any) -> Callable[[str], Any]:
    """A function that makes a value of this type of a word of the command line."""
    adapter: TypeAdapter[Any] = TypeAdapter(form)
    is_json = typing.get_origin(form) is dict or (
        isinstance(form, type) and issubclass(form, BaseModel)
    )

    def read(text: str) -> Any:
        try:
            if is_json:
                content = Path(text[1:]).read_bytes() if text.startswith("@") else text
                return adapter.validate_json(content, context=RECORD)
            return adapter.validate_python(text)
        except ValidationError as error:
            raise ArgumentTypeError(told(error)) from None
        except OSError as error:
            raise ArgumentTypeError(f"not JSON: {error}") from None

    return read


def options(function: Callable[..., Any]) -> Iterator[tuple[inspect.Parameter, str]]:
    """Those of a function or a dataclass, each with what the docstring says of it.

    A parameter that is a dataclass stands for its fields.
    """
    texts = _described(function)
    for name, parameter in inspect.signature(
        function, eval_str=True
    ).parameters.items():
        if dataclasses.is_dataclass(parameter.annotation):
            yield from options(typing.cast(type, parameter.annotation))
        else:
            yield parameter, texts.get(name, "")


def add(parser: ArgumentParser, function: Callable[..., Any]) -> None:
    """Add a function's options: `bank_file: Path` is `--bank FILE`.

    A list takes several words, a mapping of paths NAME=PATH, other mappings and models JSON, or @FILE.
    """
    for parameter, text in options(function):
        form = _form(parameter)
        is_many = typing.get_origin(form) in _MANY
        how: dict[str, Any] = {"help": text.replace("%", "%%")}
        if is_many or form == _NAMED:
            how["nargs"] = "*"
        how["type"] = (
            _pair
            if form == _NAMED
            else reader(typing.get_args(form)[0] if is_many else form)
        )
        if parameter.kind is parameter.POSITIONAL_ONLY:
            parser.add_argument(parameter.name, **how)
        else:
            how |= (
                {"required": True}
                if parameter.default is parameter.empty
                else {"default": parameter.default}
            )
            flag = re.sub("_(dir|file|folder|root)$", "", parameter.name).replace(
                "_", "-"
            )
            parser.add_argument(
                f"--{flag}", dest=parameter.name, metavar=flag.upper(), **how
            )


def call(function: Callable[..., Any], values: dict[str, Any]) -> Any:
    """Call a function, or make a dataclass, with the values of its options."""
    bound = inspect.signature(function, eval_str=True).bind_partial()
    for name, parameter in bound.signature.parameters.items():
        form = _form(parameter)
        value = (
            call(typing.cast(type, form), values)
            if dataclasses.is_dataclass(form)
            else values[name]
        )
        if value and (form == _NAMED or typing.get_origin(form) is tuple):
            value = typing.get_origin(form)(value)
        bound.arguments[name] = value
    return function(*bound.args, **bound.kwargs)


def _form(parameter: inspect.Parameter) -> Any:
    """Its type; of several the first one, which is what a word is read as."""
    form = parameter.annotation
    return typing.get_args(form)[0] if isinstance(form, types.UnionType) else form


def _pair(text: str) -> tuple[str, Path]:
    name, found, path = text.partition("=")
    if not found:
        raise ArgumentTypeError(f"{text!r} is not of the form NAME=PATH")
    return name, Path(path)


def _described(function: Callable[..., Any]) -> dict[str, str]:
    """{parameter: what the docstring says of it} under `Args`, or of a dataclass under `Attributes`."""
    block = re.search(
        r"^(?:Args|Attributes):\n((?: .*\n?|\n)+)",
        f"{inspect.getdoc(function)}\n",
        re.MULTILINE,
    )
    rows = re.findall(
        r"^    (\w+(?:, \w+)*): (.*(?:\n     .*)*)",
        block[1] if block else "",
        re.MULTILINE,
    )
    return {
        name: " ".join(said.split())
        for names, said in rows
        for name in names.split(", ")
    }

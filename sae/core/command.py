"""Make a command's options from the parameters of the function that it runs.

What an option is stands in one place: its name, type and default in the function's
signature, its text in the function's docstring.
"""

import dataclasses
import inspect
import re
import types
import typing
from argparse import ArgumentParser, ArgumentTypeError
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel, TypeAdapter, ValidationError

from sae.core.options import RECORD, describe_problems

# A parameter of one of these types takes several words.
_SEQUENCES = (list, tuple, Sequence, Iterable)
# A parameter of this type takes words NAME=PATH.
_PATHS_BY_NAME = dict[str, Path]
# What is left out of the name of an option: `bank_file` is `--bank`.
_SUFFIX = re.compile("_(dir|file|folder|root)$")

# The block of a docstring that describes parameters, or a dataclass's fields.
_DESCRIPTIONS = re.compile(r"^(?:Args|Attributes):\n((?: .*\n?|\n)+)", re.MULTILINE)
# One entry of it, `name, name: text`, whose further lines stand further in.
_DESCRIPTION = re.compile(r"^    (\w+(?:, \w+)*): (.*(?:\n     .*)*)", re.MULTILINE)


def command_options(
    function: Callable[..., Any],
) -> Iterator[tuple[inspect.Parameter, str]]:
    """Yield a command's options, and what a docstring says of each, "" if nothing.

    They are the parameters of the function, in their order; one
    that is a dataclass stands for the fields of the dataclass.

    Args:
        function: What the command runs, or a dataclass.
    """
    descriptions = _parameter_descriptions(function)
    for parameter in _parameters(function):
        value_type = _value_type(parameter)
        if dataclasses.is_dataclass(value_type):
            yield from command_options(typing.cast(type, value_type))
        else:
            yield parameter, descriptions.get(parameter.name, "")


def add_options(parser: ArgumentParser, function: Callable[..., Any]) -> None:
    """Add the options of a command to its parser.

    The parameter `bank_file: Path` is the option `--bank FILE`; a positional-only one
    is a word without a flag. A list takes several words, a mapping of paths takes words
    NAME=PATH. A truth that is False by default is a flag. Other mappings and models
    take JSON, or @FILE with JSON in it.

    Args:
        parser: The parser of the command.
        function: What the command runs.
    """
    for parameter, description in command_options(function):
        value_type = _value_type(parameter)
        # argparse takes % for the beginning of a placeholder.
        settings: dict[str, Any] = {"help": description.replace("%", "%%")}

        if value_type == _PATHS_BY_NAME:
            settings["nargs"] = "*"
            settings["type"] = _parse_named_path
        elif typing.get_origin(value_type) in _SEQUENCES:
            settings["nargs"] = "*"
            settings["type"] = word_parser(typing.get_args(value_type)[0])
        else:
            settings["type"] = word_parser(value_type)

        if parameter.kind is parameter.POSITIONAL_ONLY:
            parser.add_argument(parameter.name, **settings)
            continue

        if parameter.default is parameter.empty:
            settings["required"] = True
        else:
            settings["default"] = parameter.default
            if _is_shown(parameter.default) and "default" not in description:
                settings["help"] += " (default: %(default)s)"
        name = _SUFFIX.sub("", parameter.name).replace("_", "-")
        if value_type is bool and parameter.default is False:
            parser.add_argument(
                f"--{name}",
                dest=parameter.name,
                action="store_true",
                help=settings["help"],
            )
            continue
        parser.add_argument(
            f"--{name}", dest=parameter.name, metavar=name.upper(), **settings
        )


def _is_shown(default: Any) -> bool:
    """Return whether help shows a default: a number, a path, a text that is not empty."""
    if default is False or default == "":
        return False
    return isinstance(default, str | int | float | Path)


def word_parser(value_type: Any) -> Callable[[str], Any]:
    """Return a function that turns a word of the command line into a value of a type.

    The function raises `ArgumentTypeError`, which argparse prints, if the word is no
    such value.

    Args:
        value_type: A type that pydantic knows. A mapping or model is read as JSON, from
            the word or, if that is @FILE, from the file.
    """
    adapter: TypeAdapter[Any] = TypeAdapter(value_type)
    is_mapping = typing.get_origin(value_type) is dict
    is_model = isinstance(value_type, type) and issubclass(value_type, BaseModel)

    def parse(word: str) -> Any:
        try:
            if not (is_mapping or is_model):
                return adapter.validate_python(word)
            json_text: str | bytes = word
            if word.startswith("@"):
                json_text = Path(word[1:]).read_bytes()
            # The workflow writes settings as records (`as_record`).
            return adapter.validate_json(json_text, context=RECORD)
        except ValidationError as error:
            raise ArgumentTypeError(describe_problems(error)) from None
        except OSError as error:
            raise ArgumentTypeError(f"cannot be read: {error}") from None

    return parse


def call_with_options(function: Callable[..., Any], values: Mapping[str, Any]) -> Any:
    """Call a function, or make a dataclass, with the values of its options.

    Args:
        function: What the command runs, or a dataclass.
        values: {name of a parameter: its value}, as a parser with the options of
            :func:`add_options` parsed them. Other names are passed over.

    Returns:
        What the function returns.
    """
    # These know which arguments a call gives by position and which by name.
    bound_arguments = inspect.signature(function).bind_partial()
    for parameter in _parameters(function):
        value_type = _value_type(parameter)
        if dataclasses.is_dataclass(value_type):
            # Its fields are options of their own.
            value = call_with_options(typing.cast(type, value_type), values)
        else:
            value = _collected(values[parameter.name], value_type)
        bound_arguments.arguments[parameter.name] = value
    return function(*bound_arguments.args, **bound_arguments.kwargs)


def _collected(value: Any, value_type: Any) -> Any:
    """Return words, which argparse collects as a list, as the parameter's type says."""
    if not value:
        return value
    if value_type == _PATHS_BY_NAME:
        return dict(value)
    if typing.get_origin(value_type) is tuple:
        return tuple(value)
    return value


def _parameters(function: Callable[..., Any]) -> list[inspect.Parameter]:
    signature = inspect.signature(function, eval_str=True)
    return list(signature.parameters.values())


def _value_type(parameter: inspect.Parameter) -> Any:
    """Return the type that a word is read as: `Count`, say, of `Count` or None."""
    annotation = parameter.annotation
    if isinstance(annotation, types.UnionType):
        return typing.get_args(annotation)[0]
    return annotation


def _parse_named_path(word: str) -> tuple[str, Path]:
    name, equals_sign, path = word.partition("=")
    if not equals_sign:
        raise ArgumentTypeError(f"{word!r} is not of the form NAME=PATH")
    return name, Path(path)


def _parameter_descriptions(function: Callable[..., Any]) -> dict[str, str]:
    """Return {parameter: what `Args` or `Attributes` of the docstring say of it}."""
    docstring = inspect.getdoc(function) or ""
    block = _DESCRIPTIONS.search(f"{docstring}\n")
    if block is None:
        return {}
    descriptions = {}
    for names, text in _DESCRIPTION.findall(block[1]):
        one_line = " ".join(text.split())
        for name in names.split(", "):
            descriptions[name] = one_line
    return descriptions

"""Collect what is wrong with a config: the key, the value and what is allowed."""

import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, TypeVar

from pydantic import ValidationError

from sae.core import registry
from sae.core.errors import Problem, UserError, describe_unknown
from sae.core.options import Options, describe_problem

_Model = TypeVar("_Model", bound=Options)
_Facts = TypeVar("_Facts")


class ConfigError(UserError):
    """A config that is not right.

    Attributes:
        lines_of_file: {file that says a key: the problems of its keys}, where the
            config was read from several.
    """

    def __init__(self, message: str, lines_of_file: dict[str, list[str]]) -> None:
        """Take the message, and which of its lines are about which file."""
        super().__init__(message)
        self.lines_of_file = lines_of_file


class Problems:
    """The problems of a config, each of them once, in the order they were noted.

    Attributes:
        parents: {key of an entry: key of the entry that it extends}. A problem that
            both have is reported of the parent alone.
        origins: {key below an entry: name of the entry that writes it}, of the keys
            that an entry takes over: {"experiments.mine.k": "demo"}.
    """

    def __init__(self, files: Mapping[str, str] = {}) -> None:
        """Start without a problem.

        Args:
            files: {key: the file that says it}, where a config is read from several.
        """
        self.parents: dict[str, str] = {}
        self.origins: dict[str, str] = {}
        self._noted: dict[Problem, None] = {}  # As a set that keeps the order.
        self._files = files
        # What was said of the file of an entry, which many keys may name.
        self._texts_about_files: set[str] = set()

    def __len__(self) -> int:
        """Return how many problems were noted."""
        return len(self._noted)

    def __iter__(self) -> Iterator[Problem]:
        """Yield the problems that were noted."""
        yield from self._noted

    def add(self, key: str, text: str) -> None:
        """Note what is wrong with the value of a key."""
        self._noted[Problem(key, text)] = None

    def raise_all(self, if_more_than: int = 0) -> None:
        """Raise all problems as one error.

        Args:
            if_more_than: Raise if there are more problems than this: their number
                before a step, whose outcome the next step needs.

        Raises:
            ConfigError: a line for each problem.
        """
        if len(self) <= if_more_than:
            return
        lines = ["the configuration is not right:"]
        lines_of_file: dict[str, list[str]] = {}
        for problem in self._noted:
            if self._is_of_parent(problem):
                continue
            line = self._line(problem)
            file = self._file(problem.key)
            if file is not None:
                line = f"{file}: {line}"
                lines_of_file.setdefault(file, []).append(line)
            lines.append(line)
        raise ConfigError("\n".join(lines), lines_of_file)

    def _is_of_parent(self, problem: Problem) -> bool:
        """Return whether the entry that an entry extends has the problem, too."""
        entry = _first_parts(problem.key, 2)
        parent = self.parents.get(entry)
        if parent is None:
            return False
        key_in_parent = parent + problem.key.removeprefix(entry)
        return Problem(key_in_parent, problem.text) in self._noted

    def _line(self, problem: Problem) -> str:
        text = problem.text
        origin = self.origin(problem.key)
        if origin and "inherited from" not in text:
            text = f"{text} (inherited from {origin})"
        return f"config key {problem.key or '(top level)'}: {text}"

    def _file(self, key: str) -> str | None:
        """Return the file that says a key, or else the nearest key above it."""
        # "a", "a.b" and "a.b.c" of the key a.b.c.
        keys = itertools.accumulate(key.split("."), "{}.{}".format)
        files = [self._files[key] for key in keys if key in self._files]
        return files[-1] if files else None

    def origin(self, key: str) -> str | None:
        """Return the entry that writes a key which another entry takes over.

        Args:
            key: Such as "experiments.mine.sweep", or a key below it.

        Returns:
            The entry's name; None if the entry of the key writes it itself.
        """
        return self.origins.get(_first_parts(key, 3))

    def check_names(
        self, key: str, names: Iterable[Any], allowed: Iterable[Any]
    ) -> bool:
        """Note which names, written at a key, are not among those that there are.

        Returns:
            Whether all of them are.
        """
        allowed_names = list(allowed)
        unknown_names = [name for name in names if name not in allowed_names]
        for name in unknown_names:
            self.add(key, describe_unknown(name, allowed_names))
        return not unknown_names

    def read_entry(
        self, key: str, reader: Callable[[Any, str], _Facts], kind: str, name: str
    ) -> _Facts | None:
        """Read something from the file of an entry.

        What is wrong with the file is noted at the first key alone that names it.

        Args:
            key: Where the entry is named.
            reader: What reads it, given the kind and the name.
            kind: One of `sae.core.registry.PACKAGES`.
            name: The entry.

        Returns:
            None if there is no such entry, or its file is not right.
        """
        try:
            if self.check_names(key, [name], registry.names(kind)):
                return reader(kind, name)
        except UserError as error:
            if str(error) not in self._texts_about_files:
                self.add(key, str(error))
            self._texts_about_files.add(str(error))
        return None

    def validate(
        self,
        model: type[_Model],
        written: Any,
        key: str = "",
        key_of_option: Mapping[str, str] = {},
    ) -> _Model | None:
        """Make a typed object of what is written at a key.

        Args:
            model: The class of the object.
            written: What it is made of.
            key: Where that stands; "" is the whole config.
            key_of_option: {option: the key below, "sweep.weight.0"} of options that are
                written elsewhere than under their name.

        Returns:
            None if something in it is not right.
        """
        try:
            return model.model_validate(written)
        except ValidationError as error:
            for problem in error.errors():
                parts = list(_written_parts(problem["loc"], written))
                if parts:
                    parts[0] = key_of_option.get(parts[0], parts[0])
                whole_key = ".".join(part for part in (key, *parts) if part)
                self.add(whole_key, describe_problem(problem))
            return None


def _first_parts(key: str, count: int) -> str:
    """Return the first parts of a key: "a.b" of "a.b.c", for a count of 2."""
    return ".".join(key.split(".")[:count])


def _written_parts(location: tuple[int | str, ...], written: Any) -> Iterator[str]:
    """Yield the parts of a key in a problem of pydantic's, but not class names."""
    value = written
    for part in location:
        if isinstance(value, dict):
            is_there = part in value
            # A key that is missing is named, too.
            is_part_of_key = is_there or part not in ("[key]", "list", "mapping")
        else:
            is_there = isinstance(value, list) and isinstance(part, int)
            is_part_of_key = is_there
        if is_part_of_key:
            yield str(part)
        if is_there:
            value = value[part]

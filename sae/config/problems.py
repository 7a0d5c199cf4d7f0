"""What is wrong with a config: lines that name the key, the value and what is allowed."""

import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, TypeVar

from pydantic import ValidationError

from sae.core import registry
from sae.core.errors import UserError, did_you_mean
from sae.core.options import Options, describe_problem

Model = TypeVar("Model", bound=Options)
Result = TypeVar("Result")


class Problems:
    """Collects what is wrong; each line once, and what is wrong with an entry's file at the first key that names it.

    Attributes:
        found: what was noted: (key, text).
        parents: {key of an entry: key of the one that it extends}; a problem of both is reported of the latter alone.
        origins: {key that an entry takes over, with the entry's: the entry that writes it}.
    """

    def __init__(self, files: Mapping[str, str] = {}) -> None:
        self.found: dict[tuple[str, str], None] = {}
        self.parents: dict[str, str] = {}
        self.origins: dict[str, str] = {}
        self._files, self._of_files = files, set[str]()

    def add(self, key: str, text: str) -> None:
        """Note what is wrong with the value of a key."""
        self.found[key, text] = None

    def end(self, known: int = 0) -> None:
        """Raise what there is, if it is more than what was known before."""
        lines = [
            self._line(key, text)
            for key, text in self.found
            if not self._is_inherited(key, text)
        ]
        if len(self.found) > known:
            raise UserError("\n".join(["the configuration is not right:", *lines]))

    def _line(self, key: str, text: str) -> str:
        """With the file that says the key, or the nearest one above it."""
        above = [*itertools.accumulate(key.split("."), "{}.{}".format)]
        file = next(
            (self._files[part] for part in reversed(above) if part in self._files), None
        )
        origin = self.origin(key)
        if origin and "inherited from" not in text:
            text = f"{text} (inherited from {origin})"
        line = f"config key {key or '(top level)'}: {text}"
        return f"{file}: {line}" if file else line

    def origin(self, key: str) -> str | None:
        """The entry that writes a key, such as `experiments.mine.sweep.reg1`, if another one took it over."""
        return self.origins.get(".".join(key.split(".")[:3]))

    def _is_inherited(self, key: str, text: str) -> bool:
        entry = ".".join(key.split(".")[:2])
        parent = self.parents.get(entry)
        return (
            parent is not None
            and (parent + key.removeprefix(entry), text) in self.found
        )

    def known(self, key: str, names: Iterable[Any], allowed: Iterable[Any]) -> bool:
        """Whether all names are among the allowed ones."""
        allowed = list(allowed)
        wrong = [name for name in names if name not in allowed]
        for name in wrong:
            there = ", ".join(sorted(map(str, allowed))) or "none"
            self.add(
                key,
                f"{name!r} is not known; allowed: {there}{did_you_mean(name, allowed)}",
            )
        return not wrong

    def tried(
        self, key: str, function: Callable[..., Result], kind: Any, name: str
    ) -> Result | None:
        """What a function finds of an entry; None where there is no such entry, or its file is not right."""
        try:
            return (
                function(kind, name)
                if self.known(key, [name], registry.names(kind))
                else None
            )
        except UserError as error:
            if str(error) not in self._of_files:
                self.add(key, str(error))
            self._of_files.add(str(error))
            return None

    def build(
        self,
        model: type[Model],
        data: Any,
        key: str = "",
        places: Mapping[str, str] = {},
    ) -> Model | None:
        """The model of some data, None where that is not right; `places` are keys that stand elsewhere."""
        try:
            return model.model_validate(data)
        except ValidationError as error:
            for e in error.errors():
                first, *rest = [*_parts(e["loc"], data)] or [""]
                self.add(
                    ".".join(filter(None, (key, places.get(first, first), *rest))),
                    describe_problem(e),
                )
            return None


def _parts(loc: tuple[int | str, ...], data: Any) -> Iterator[str]:
    """The keys that lead to an error, also to what is missing, without pydantic's marks of keys and forms."""
    for part in loc:
        inside = (
            part in data
            if isinstance(data, dict)
            else isinstance(data, list) and isinstance(part, int)
        )
        if inside or (
            isinstance(data, dict) and part not in ("[key]", "list", "mapping")
        ):
            yield str(part)
        data = data[part] if inside else data

"""Read a file of YAML or JSON, and check that a job can be told what it says."""

import json
import math
import re
from pathlib import Path
from typing import Any

import yaml

from sae.config.problems import Problems
from sae.core.errors import UserError

DEEPEST = 50  # levels; config.yaml has 8
# Smaller numbers than this lose digits, or are 0, in float32.
_LEAST = 2.0**-126
# What YAML 1.1 reads as numbers of base 8 and 60: 0100 is 64, 1:30 is 90.
_OF_OTHER_BASE = re.compile(r"[-+]?(0[0-9_]+|[0-9_]+(:[0-5]?[0-9])+(\.[0-9_]*)?)")

# Where PyYAML was built with libyaml, which is ten times as fast.
_SafeLoader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def parse_file(path: str | Path) -> dict[str, Any]:
    """Return the content of a YAML or JSON file.

    Raises:
        UserError: The file cannot be read, is neither YAML nor JSON, has a key twice in
            one mapping, or nests without end; names the line.
    """
    try:
        content = _parse_text(Path(path).read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f" line {mark.line + 1}" if mark else ""
        problem = getattr(error, "problem", None) or error
        advice = _advice(path, mark.line, str(problem)) if mark else ""
        raise UserError(f"{path}{line} is not right: {problem}{advice}") from None
    except (OSError, ValueError, LookupError, AttributeError, TypeError) as error:
        # Bytes that are no text, a date that is none, a tag (`!!bool x`) on what it
        # does not fit.
        raise UserError(
            f"{path} cannot be read: {type(error).__name__}: {error}"
        ) from None
    if not isinstance(content, dict):
        raise UserError(
            f"{path} is not right: it holds {type(content).__name__}, expected keys "
            "and their values"
        )
    return content


def _advice(path: str | Path, line_number: int, problem: str) -> str:
    """Return what to do about a line that PyYAML cannot parse, if it is clear."""
    lines = Path(path).read_text(encoding="utf-8").splitlines()
    line = lines[line_number] if line_number < len(lines) else ""
    indentation = line[: len(line) - len(line.lstrip())]
    if "\t" in indentation:
        return "; it is indented by a tab: indent by spaces"
    if "character that cannot start" in problem:
        if "\t" in line:
            return "; there is a tab: write spaces"
        return "; put what begins with that character in quotes"
    if problem == "found unexpected end of stream":
        return "; a quote is not closed above"
    if problem.startswith("mapping values are not"):
        return (
            "; put a value that has a colon in quotes, and indent keys of one level by "
            "the same number of spaces"
        )
    if problem.startswith("did not find expected"):
        return (
            "; indent keys of one level by the same number of spaces, close every "
            "bracket and quote, and put a space after each colon"
        )
    return ""


def _parse_text(text: str) -> Any:
    try:
        return json.loads(text, object_pairs_hook=_make_object)
    except (ValueError, RecursionError):
        _check_yaml_events(text)
        return yaml.load(text, _LoaderOfUniqueKeys)


def _make_object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    mapping = dict(pairs)
    if len(mapping) < len(pairs):
        raise ValueError("a key is there twice: read as YAML, it is refused by line")
    return mapping


class _LoaderOfUniqueKeys(_SafeLoader):
    """A loader of YAML whose mappings have no key twice."""

    def construct_mapping(
        self, node: yaml.MappingNode, deep: bool = False
    ) -> dict[Any, Any]:
        """Make a mapping of a node.

        Raises:
            yaml.MarkedYAMLError: A key is there twice.
        """
        line_of_key: dict[str, int] = {}
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                continue
            if key.value in line_of_key:
                raise yaml.MarkedYAMLError(
                    problem=f"the key {key.value!r} is there twice, first in line "
                    f"{line_of_key[key.value]}; leave one out",
                    problem_mark=key.start_mark,
                )
            line_of_key[key.value] = key.start_mark.line + 1
        return super().construct_mapping(node, deep)


def _check_yaml_events(text: str) -> None:
    """Refuse what is nested too deep, and what YAML reads in ways that few expect."""
    # PyYAML parses a text into events before it makes anything of them. A text that
    # nests deep enough would end Python itself if it were made into lists.
    depth = 0
    event: Any
    for event in yaml.parse(text, _SafeLoader):
        problem = None
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
            if depth > DEEPEST:
                problem = (
                    f"lists and mappings are nested more than {DEEPEST} deep; write it "
                    "flatter"
                )
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1
        elif isinstance(event, yaml.AliasEvent):
            problem = (
                f"*{event.anchor} is not allowed here: write it out, or `extends: "
                "NAME` in an entry"
            )
        elif isinstance(event, yaml.ScalarEvent) and event.value == "<<":
            problem = (
                "<< is not allowed here: write `extends: NAME` in an entry instead"
            )
        elif (
            isinstance(event, yaml.ScalarEvent)
            and not event.style
            and _OF_OTHER_BASE.fullmatch(event.value)
        ):
            problem = (
                f"{event.value} is a number of base 8 or 60 to YAML: write it in base "
                "10, without a 0 in front, or put it in quotes"
            )
        if problem is not None:
            raise yaml.MarkedYAMLError(problem=problem, problem_mark=event.start_mark)


def check_json_values(value: Any, problems: Problems, key: str = "") -> None:
    """Note what YAML can hold, and the settings of a job, which are JSON, cannot.

    Args:
        value: The content of a config, or of one of its keys.
        problems: Where it is noted.
        key: Where the value stands; "" is the whole config.
    """
    if key.count(".") > DEEPEST:
        problems.add(
            f"{key[:80]}...",
            f"it is nested more than {DEEPEST} deep; write it flatter",
        )
    elif isinstance(value, dict):
        for name, element in value.items():
            key_of_element = _key_below(key, name)
            if isinstance(name, str):
                check_json_values(element, problems, key_of_element)
            else:
                problems.add(
                    key_of_element,
                    f"YAML reads this key as {type(name).__name__}; put it in quotes",
                )
    elif isinstance(value, list):
        for position, element in enumerate(value):
            check_json_values(element, problems, _key_below(key, position))
    elif isinstance(value, str):
        is_printed = key.endswith((".label", ".description"))
        if re.match(r"~\w*(/|$)", value) and not is_printed:
            problems.add(key, f"{value}: ~ is not expanded; write the whole path")
    elif isinstance(value, float):
        if not math.isfinite(value):
            problems.add(key, f"{value} is not allowed; it must be a finite number")
        elif 0 < abs(value) < _LEAST:
            problems.add(
                key,
                f"{value} is not allowed: float32 has no such small number; write 0 or "
                f"at least {_LEAST:.2g}",
            )
    elif not isinstance(value, int | None):
        problems.add(
            key, f"YAML reads {value} as {type(value).__name__}; put it in quotes"
        )


def _key_below(key: str, part: Any) -> str:
    return f"{key}.{part}" if key else str(part)

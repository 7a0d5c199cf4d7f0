"""What an entry's class `Options` is made of: its base class, and the types that several entries share.

No torch here: the options of every entry are read while the Snakefile is parsed (`sae.core.registry.head`).
"""

import math
import re
import traceback
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal, Self, TypeVar

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Discriminator,
    Field,
    Tag,
    ValidationError,
    ValidationInfo,
    model_validator,
)
from pydantic_core import InitErrorDetails, PydanticCustomError

from sae.core.errors import meant

_Form = TypeVar("_Form", bound="Options")


@dataclass(frozen=True)
class Later:
    """Marks an option that was added when results without it were already stored.

    An option `momentum: Annotated[float, Later(0.0)] = 0.0` is in a key or a record only
    where it is not 0.0, so that what was made before the option existed stays valid.

    Attributes:
        absent: The value that everything made before the option existed has. It is a
            literal that never changes: a new default is a new meaning, and changes keys.
    """

    absent: Any


# Tells pydantic that it reads what :func:`as_record` wrote, perhaps long ago.
RECORD = {"is_record": True}


# What names a stored result, or is kept beside it, is written by `as_record`. What reads
# that again is `from_record`. Between the two an option can be added (`Later`), and what
# is stored stays valid. These are functions: a name here may be an option of an entry.
class Options(BaseModel):
    """Typed settings: no unknown keys, no conversion between types, no NaN or infinity, never changed."""

    model_config = ConfigDict(
        strict=True,
        extra="forbid",
        frozen=True,
        allow_inf_nan=False,
        validate_by_name=True,
        use_attribute_docstrings=True,
    )

    @model_validator(mode="before")
    @classmethod
    def _fill_record(cls, data: Any, info: ValidationInfo) -> Any:
        if info.context is RECORD and isinstance(data, Mapping):
            return later_options(cls) | dict(data)
        return data

    @model_validator(mode="wrap")
    @classmethod
    def _list_allowed_keys(cls, data: Any, handler: Callable[[Any], Self]) -> Self:
        """Let an error about an unknown key name the keys that there are."""
        try:
            return handler(data)
        except ValidationError as error:
            names = sorted(
                field.alias or name for name, field in cls.model_fields.items()
            )
            details = []
            for e in error.errors():
                kind = PydanticCustomError(e["type"], e["msg"])
                if e["type"] == "extra_forbidden" and len(e["loc"]) == 1:
                    there = f"{', '.join(names) or 'none'}{meant(e['loc'][0], names)}"
                    kind = PydanticCustomError(
                        "unknown_key", f"there is no such key; allowed: {there}"
                    )
                details.append(
                    InitErrorDetails(type=kind, loc=e["loc"], input=e["input"])
                )
            raise ValidationError.from_exception_data(cls.__name__, details) from None
        except (
            Exception
        ) as error:  # A fault of a validator, of somebody's own entry perhaps.
            place = traceback.extract_tb(error.__traceback__)[-1]
            raise ValueError(
                f"{place.filename} line {place.lineno} fails as it checks this: {type(error).__name__}: {error}"
            ) from None


def later_options(form: type[Options]) -> dict[str, Any]:
    """Return the options of a class that are marked `Later`.

    Returns:
        {key: the value that its absence in a record stands for}.
    """
    absent_values: dict[str, Any] = {}
    for name, field in form.model_fields.items():
        for mark in field.metadata:
            if isinstance(mark, Later):
                absent_values[field.alias or name] = mark.absent
    return absent_values


def as_record(
    options: Options, *, exclude: Iterable[str] = (), mode: str = "python"
) -> dict[str, Any]:
    """Return options as keys and records have them.

    An option that is marked `Later` is there only where it is not at the value that its
    absence stands for.

    Args:
        options: They may hold further options.
        exclude: Names that are left out.
        mode: "json" makes values that JSON has, "python" leaves them.
    """
    written = options.model_dump(by_alias=True, exclude={*exclude}, mode=mode)
    for name, field in type(options).model_fields.items():
        key = field.alias or name
        if key in written:
            written[key] = _part_of_record(getattr(options, name), written[key], mode)
    return without_absent(written, later_options(type(options)))


def _part_of_record(value: Any, written: Any, mode: str) -> Any:
    """Return a value of a record, with :func:`as_record` of the options that it holds."""
    if isinstance(value, Options):
        return as_record(value, mode=mode)
    if isinstance(value, list):
        pairs = zip(value, written, strict=True)
        return [_part_of_record(part, text, mode) for part, text in pairs]
    if isinstance(value, dict):
        pairs = zip(value.values(), written.items(), strict=True)
        return {key: _part_of_record(part, text, mode) for part, (key, text) in pairs}
    return written


def from_record(form: type[_Form], record: Mapping[str, Any]) -> _Form:
    """Read what :func:`as_record` wrote, before an option was added or after.

    Raises:
        pydantic.ValidationError: a key is missing, unknown or not right.
    """
    return form.model_validate(record, context=RECORD)


def without_absent(
    written: Mapping[str, Any], absent_values: Mapping[str, Any]
) -> dict[str, Any]:
    """Return a mapping of options without those at the value that their absence stands for.

    Args:
        written: {option: value}.
        absent_values: {option: that value}, of later options.
    """
    return {
        name: value
        for name, value in written.items()
        if name not in absent_values or not _is_same(value, absent_values[name])
    }


def _is_same(value: Any, absent: Any) -> bool:
    # Python holds True for 1.
    return isinstance(value, bool) == isinstance(absent, bool) and value == absent


def in_words(error: Any) -> str:
    """What an error of pydantic says, with the value, in the words of this project."""
    value, said = error["input"], error["msg"].removeprefix("Value error, ")
    if error["type"] in ("missing", "unknown_key"):
        return "this key is required" if error["type"] == "missing" else said
    shown = "null" if value is None else repr(value)
    shown = shown if len(shown) <= 80 else shown[:77] + "..."
    said = re.sub(
        "^(Input|Dictionary|List|String) should", lambda _: f"{shown} should", said
    )
    said = re.sub(
        r"a valid dictionary( or instance of \w+)?", "a mapping of keys to values", said
    )
    said = re.sub(r" after validation, not \d+$|, unable to parse .*", "", said)
    said = re.sub(r"0\.0{9,}\d+|\d{25,}", lambda number: f"{float(number[0]):g}", said)
    if error["type"] == "list_type" and isinstance(value, str | int | float):
        said += f": write [{value}]"
    if isinstance(value, str) and error["type"] == "float_type":
        said += " (write 0.001 or 1.0e-3: YAML reads 1e-3 as text)"
    if isinstance(value, float) and error["type"] == "int_type" and value.is_integer():
        said += f": write {value:.0f}"
    if isinstance(value, str) and error["type"] == "int_type":
        said += " (it is text: write digits alone, without quotes)"
    return said if said.startswith(shown) else f"{shown}: {said}"


def told(error: ValidationError) -> str:
    """All that pydantic finds wrong, in words, each after its key."""
    places = (
        (".".join(str(part) for part in e["loc"] if part != "[key]"), in_words(e))
        for e in error.errors()
    )
    return "; ".join(": ".join(filter(None, pair)) for pair in places)


def like(pattern: str, words: str) -> AfterValidator:
    """A check of texts; `words` say what fits the pattern."""

    def check(text: str) -> str:
        if not re.fullmatch(pattern, text):
            raise ValueError(words)
        return text

    return AfterValidator(check)


def by_container(value: Any) -> str:
    """The tag of a value that may be a list or a mapping: an error then speaks of the form that was meant."""
    return "mapping" if isinstance(value, dict) else "list"


def by_list(value: Any) -> str:
    """Return the tag of a value that may be a number or a list.

    An error then speaks of the form that was meant.
    """
    return "list" if isinstance(value, list) else "number"


def distinct(values: list) -> list:
    """The same list.

    Raises:
        ValueError: a value is there twice.
    """
    seen = set()
    for value in values:
        # Lists and mappings, whose hash Python does not take, are told apart by text.
        key = repr(value) if isinstance(value, list | dict) else value
        if key in seen:
            raise ValueError(f"{value} is there twice; leave one out")
        seen.add(key)
    return values


def ascending(ends: list[float]) -> list[float]:
    """The same two numbers.

    Raises:
        ValueError: they are not two, or the second is not the larger.
    """
    if len(ends) != 2 or not ends[0] < ends[1]:
        raise ValueError(f"{ends} is no range; write [lowest, highest]")
    return ends


Seed = Annotated[int, Field(ge=0, le=2**63 - 1)]
Count = Annotated[int, Field(ge=1)]
Whole = Annotated[int, Field(ge=0)]
Share = Annotated[float, Field(gt=0, lt=1)]
Positive = Annotated[float, Field(gt=0, le=1e300)]
Range = Annotated[list[Positive], AfterValidator(ascending)]
_Values = TypeVar("_Values")
_K = Annotated[str, like(r"k[1-9]\d*", "write k and a number, such as k8")]
_ByK = Annotated[dict[_K, _Values], Field(min_length=1), Tag("mapping")]
# {option: values, or {k8: values, ...}}
OfOptions = dict[
    str,
    Annotated[
        Annotated[_Values, Tag("list")] | _ByK[_Values], Discriminator(by_container)
    ],
]
Ranges = OfOptions[Range]  # [low, high]
Grid = Annotated[list[Positive], Field(min_length=1), AfterValidator(distinct)]
OneArtifact = Annotated[list[str], Field(min_length=1, max_length=1)]
Precision = Literal["float32", "bfloat16"]


class Counts(Options):
    """How many images each split has."""

    train: Count
    val: Count
    test: Count


class Images(Options):
    """How many images each split must turn out to have, as far as that is known."""

    train: Count | None = None
    val: Count | None = None
    test: Count | None = None


class Fractions(Options):
    """The share of the images that each split gets."""

    train: Positive
    val: Positive
    test: Positive

    @model_validator(mode="after")
    def _sum_to_one(self) -> Self:
        total = self.train + self.val + self.test
        if not math.isclose(total, 1, abs_tol=1e-9):
            raise ValueError(f"they sum to {total:g}; they must sum to 1")
        return self

"""What an entry's class `Options` is made of.

This is its base class, and the types that several entries share. No torch here: the
options of every entry are read while the Snakefile is parsed
(`sae.core.registry.head`).
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
    SerializationInfo,
    SerializerFunctionWrapHandler,
    Tag,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_serializer,
    model_validator,
)
from pydantic_core import InitErrorDetails, PydanticCustomError

from sae.core.errors import did_you_mean

_OptionsClass = TypeVar("_OptionsClass", bound="Options")


# What names a stored result, or is kept beside it, is written by `as_record` and read
# again by `from_record`. Between the two an option can be added (`later`), and what is
# stored stays valid. These are functions, not methods: a method's name could be that of
# an option of an entry.

# Tells pydantic that it writes or reads a record.
RECORD = {"is_record": True}


@dataclass(frozen=True)
class _Later:
    """Marks an option that was added when results without it were already stored."""

    absent: Any


def later(absent: Any, **field: Any) -> Any:
    """Declare an option that is added when results without it are already stored.

    An option `momentum: float = later(0.0)` is in a key or a record only where it is
    not 0.0, so that what was made before the option existed stays valid.

    Args:
        absent: The value that everything made before the option existed has, and its
            default. It is a literal that never changes: a new default is a new meaning,
            and changes keys. Then say it beside this: `later(0.0, default=0.9)`.
        field: Anything that pydantic's `Field` takes.
    """
    declared = Field(**{"default": absent, **field})
    declared.metadata.append(_Later(absent))
    return declared


class Options(BaseModel):
    """Typed settings, which never change once they are made.

    There are no unknown keys, no conversion between types, no NaN and no infinity.
    """

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
    def _fill_record(cls, settings: Any, validation: ValidationInfo) -> Any:
        """Add the later options that a record lacks, at what their absence means."""
        if validation.context is RECORD and isinstance(settings, Mapping):
            return {**later_options(cls), **settings}
        return settings

    @model_serializer(mode="wrap")
    def _shorten_record(
        self, handler: SerializerFunctionWrapHandler, serialization: SerializationInfo
    ) -> dict[str, Any]:
        """Leave out of a record the later options at what their absence means."""
        settings = handler(self)
        if serialization.context is RECORD:
            return without_absent(settings, later_options(type(self)))
        return settings

    @model_validator(mode="wrap")
    @classmethod
    def _list_allowed_keys(cls, settings: Any, handler: Callable[[Any], Self]) -> Self:
        """Let an error about an unknown key name the keys that there are."""
        try:
            return handler(settings)
        except ValidationError as error:
            problems = [cls._name_allowed_keys(problem) for problem in error.errors()]
            raise ValidationError.from_exception_data(cls.__name__, problems) from None
        except Exception as error:
            place = traceback.extract_tb(error.__traceback__)[-1]
            raise ValueError(
                f"{place.filename} line {place.lineno} fails as it checks this: "
                f"{type(error).__name__}: {error}"
            ) from None

    @classmethod
    def _name_allowed_keys(cls, problem: Any) -> InitErrorDetails:
        location = problem["loc"]
        # A kind of pydantic's own would put its words together anew.
        kind = PydanticCustomError(problem["type"], problem["msg"])
        # A longer location is of a mapping below, whose own class has named its keys.
        if problem["type"] == "extra_forbidden" and len(location) == 1:
            names = sorted(
                field.alias or name for name, field in cls.model_fields.items()
            )
            allowed = ", ".join(names) or "none"
            kind = PydanticCustomError(
                "unknown_key",
                f"there is no such key; allowed: {allowed}"
                f"{did_you_mean(location[0], names)}",
            )
        return InitErrorDetails(type=kind, loc=location, input=problem["input"])


def later_options(options_class: type[Options]) -> dict[str, Any]:
    """Return the options of a class that came later, by :func:`later`.

    Returns:
        {key: the value that its absence in a record stands for}.
    """
    absent_values: dict[str, Any] = {}
    for name, field in options_class.model_fields.items():
        for mark in field.metadata:
            if isinstance(mark, _Later):
                absent_values[field.alias or name] = mark.absent
    return absent_values


def as_record(
    options: Options, *, exclude: Iterable[str] = (), mode: str = "python"
) -> dict[str, Any]:
    """Return options as keys and records have them.

    An option that came :func:`later` is there only where it is not at the value that
    its absence stands for.

    Args:
        options: They may hold further options.
        exclude: Names that are left out.
        mode: "json" makes values that JSON has, "python" leaves them.
    """
    return options.model_dump(
        by_alias=True, exclude={*exclude}, mode=mode, context=RECORD
    )


def from_record(
    options_class: type[_OptionsClass], record: Mapping[str, Any]
) -> _OptionsClass:
    """Read what :func:`as_record` wrote, before an option was added or after.

    Raises:
        pydantic.ValidationError: a key is missing, unknown or not right.
    """
    return options_class.model_validate(record, context=RECORD)


def without_absent(
    options: Mapping[str, Any], absent_values: Mapping[str, Any]
) -> dict[str, Any]:
    """Return options without those at the value that their absence stands for.

    Args:
        options: {option: value}.
        absent_values: {option: that value}, of later options.
    """
    return {
        name: value
        for name, value in options.items()
        if name not in absent_values or not _is_same(value, absent_values[name])
    }


def _is_same(value: Any, absent: Any) -> bool:
    # Python holds True for 1.
    return isinstance(value, bool) == isinstance(absent, bool) and value == absent


def describe_problems(error: ValidationError) -> str:
    """Say all that pydantic finds wrong, each after its key."""
    texts = []
    for problem in error.errors():
        # Pydantic's mark that a key itself is wrong; the key stands before the mark.
        key = ".".join(str(part) for part in problem["loc"] if part != "[key]")
        text = describe_problem(problem)
        texts.append(f"{key}: {text}" if key else text)
    return "; ".join(texts)


def describe_problem(problem: Any) -> str:
    """Say what pydantic finds wrong with one value, in the words of this project.

    Args:
        problem: One of `ValidationError.errors()`.
    """
    value = problem["input"]
    kind = problem["type"]
    message = problem["msg"].removeprefix("Value error, ")
    if kind == "missing":
        return "this key is required"
    if kind == "unknown_key":
        return message

    value_text = "null" if value is None else repr(value)
    if len(value_text) > 80:
        value_text = value_text[:77] + "..."
    message = _in_words_of_yaml(message, value_text) + _advice(kind, value)
    if message.startswith(value_text):
        return message
    return f"{value_text}: {message}"


# {pydantic's words for the bound of a number: what is said instead}
_WORDS_OF_BOUNDS = {
    "greater than or equal to": "is too small: it must be at least",
    "less than or equal to": "is too large: it must be at most",
    "greater than": "is too small: it must be above",
    "less than": "is too large: it must be below",
}


def _in_words_of_yaml(message: str, value_text: str) -> str:
    """Return a message of pydantic's without the words of Python and of pydantic."""
    # By functions, since a backslash in the value is no reference to a group.
    message = re.sub(
        f"^Input should be ({'|'.join(_WORDS_OF_BOUNDS)}) ",
        lambda match: f"{value_text} {_WORDS_OF_BOUNDS[match[1]]} ",
        message,
    )
    message = re.sub(
        "^(Input|Dictionary|List|String) should",
        lambda _: f"{value_text} should",
        message,
    )
    message = re.sub(
        r"a valid dictionary( or instance of \w+)?",
        "a mapping of keys to values",
        message,
    )
    message = re.sub(r" after validation, not \d+$|, unable to parse .*", "", message)
    # Pydantic writes numbers such as 1e-10 and 1e300 with all their zeros.
    return re.sub(
        r"0\.0{9,}\d+|\d{25,}", lambda number: f"{float(number[0]):g}", message
    )


def _advice(kind: str, value: Any) -> str:
    if kind == "list_type" and isinstance(value, str | int | float):
        return f": write [{value}]"
    if kind == "float_type" and isinstance(value, str):
        return " (write 0.001 or 1.0e-3: YAML reads 1e-3 as text)"
    if kind == "int_type" and isinstance(value, float) and value.is_integer():
        return f": write {value:.0f}"
    if kind == "int_type" and isinstance(value, str):
        return " (it is text: write digits alone, without quotes)"
    if kind == "string_type" and isinstance(value, dict | list):
        return ": write one word or text here, not keys or a list"
    return ""


def like(pattern: str, words: str) -> AfterValidator:
    """Return a check that a text fits a pattern.

    Args:
        pattern: A regular expression for the whole text.
        words: What to write, in words, for the error message.
    """

    def check(text: str) -> str:
        if not re.fullmatch(pattern, text):
            raise ValueError(words)
        return text

    return AfterValidator(check)


def by_container(value: Any) -> str:
    """Return the tag of a value that may be a list or a mapping.

    An error then speaks of the form that was meant.
    """
    return "mapping" if isinstance(value, dict) else "list"


def by_list(value: Any) -> str:
    """Return the tag of a value that may be a number or a list.

    An error then speaks of the form that was meant.
    """
    return "list" if isinstance(value, list) else "number"


def distinct(values: list) -> list:
    """Return a list whose values are all different.

    Raises:
        ValueError: A value is there twice.
    """
    earlier_keys = set()
    for value in values:
        # Lists and mappings, whose hash Python does not take, are told apart by text.
        key = repr(value) if isinstance(value, list | dict) else value
        if key in earlier_keys:
            raise ValueError(f"{value} is there twice; leave one out")
        earlier_keys.add(key)
    return values


def ascending(ends: list[float]) -> list[float]:
    """Return the two ends of a range, the lower one first.

    Raises:
        ValueError: They are not two, or the second is not the larger.
    """
    if len(ends) != 2 or not ends[0] < ends[1]:
        raise ValueError(f"{ends} is no range; write [lowest, highest]")
    return ends


# Before the name of a repo of the Hugging Face hub: a model with its weights.
HUB_PREFIX = "hf-hub:"


def weights_named_once(value: str | None, validation: ValidationInfo) -> str | None:
    """Return an option that names weights, beside the option `model`.

    Raises:
        ValueError: `model` is of the hub, and names the weights too.
    """
    is_of_hub = str(validation.data.get("model", "")).startswith(HUB_PREFIX)
    if is_of_hub and value is not None:
        raise ValueError(
            f"`{HUB_PREFIX}` names the weights too; leave it out, or change `model`"
        )
    return value


@dataclass(frozen=True)
class FromExperiment:
    """Marks an option of a metric that has a fact of the experiment where it is null.

    An example is `families: Annotated[..., FromExperiment("families")] = None`.

    Attributes:
        fact: `families`, {backbone: its family}; `smallest_k`; or `detection`, the
            options that the experiment gives the metric `detection`.
    """

    fact: Literal["families", "smallest_k", "detection"]


def facts_of_experiment(options_class: type[Options]) -> dict[str, str]:
    """Return {option: its fact} of the options that are marked `FromExperiment`."""
    return {
        name: mark.fact
        for name, field in options_class.model_fields.items()
        for mark in field.metadata
        if isinstance(mark, FromExperiment)
    }


NAME = "^[a-z][a-z0-9_]{0,63}$"
NAMES = (
    "a name stands in paths; allowed: a to z, 0 to 9 and _, a letter first, at most 64 "
    "of them"
)
Name = Annotated[str, like(NAME, NAMES), Field(json_schema_extra={"pattern": NAME})]
# `sae.config` resolves `extends` before any class checks anything.
Extends = Annotated[
    str | None,
    Field(
        exclude=True, description="Another entry, whose words hold where this has none."
    ),
]
_Printed = Field(description="How it is printed; its name, if not given.")
Label = Annotated[Annotated[str, Field(min_length=1)] | None, _Printed]
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


# No number of a study is larger: it is a slip of the pen.
LIMIT = 10**12


class Limited(Options):
    """Options whose numbers are at most :data:`LIMIT`, but for seeds."""

    @field_validator("*")
    @classmethod
    def _check_limit(cls, value: Any, field: ValidationInfo) -> Any:
        """Check the numbers of a field, alone or one level deep in what it holds."""
        numbers: Iterable[Any] = [value]
        if isinstance(value, dict | Options):
            numbers = dict(value).values()
        elif isinstance(value, Iterable):
            numbers = value
        for number in numbers:
            if not isinstance(number, int | float) or "seed" in str(field.field_name):
                continue
            if number > LIMIT:
                raise ValueError(f"{number} should be at most {LIMIT:,}")
        return value


class Counts(Options):
    """Numbers of images that the splits have."""

    train: Count
    val: Count
    test: Count


class Images(Options):
    """Numbers of images that the splits must turn out to have, where they are known."""

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

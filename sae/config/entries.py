"""What the file of an entry must hold, by its kind; checked before any job starts."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from sae.core import paths, registry
from sae.core.errors import UserError
from sae.data.splits import SPLITS


class _TextConstant(NamedTuple):
    """A constant that the workflow reads in the file of an entry, without running it.

    Attributes:
        is_list: Whether it is a list of texts, not one text.
        allowed: The texts that it may have; () allows any.
    """

    is_list: bool
    allowed: tuple[str, ...] = ()


# The `STAGE` of a metric that the stage `score` computes of chosen SAEs alone.
CHOSEN = "chosen"
# What a metric may read beside the split that it scores. `READS` may also name a
# backbone of the config.
READABLE = (*SPLITS, "others", "siblings", "concepts")
# What the files of a kind must hold: {kind: {name: the constant}}.
_CONSTANTS = {
    "metric": {
        "STAGE": _TextConstant(is_list=False, allowed=(CHOSEN, *paths.STAGES)),
        "SPLITS": _TextConstant(is_list=True, allowed=SPLITS),
        "READS": _TextConstant(is_list=True),
    },
    "figure": {
        "READS": _TextConstant(is_list=True),
        "CAPTION": _TextConstant(is_list=False),
    },
    "protocol": {"METRICS": _TextConstant(is_list=True)},
}
# And beside them: {kind: names of functions and classes}.
_CODE = {
    "dataset": ["load"],
    "backbone": ["load"],
    "annotation": ["load"],
    "objective": ["Objective"],
    "penalty": ["penalty"],
    "metric": ["score"],
    "importer": ["fits", "read", "forward"],
    "exporter": ["write"],
    "figure": ["draw"],
    "protocol": ["next", "choose", "at_most"],
}
# What a backbone that reads no images must hold instead, and an objective that trains
# nothing.
_CODE_WITHOUT_WORK = {
    "backbone": ["files", "embeddings"],
    "objective": ["take", "content"],
}
# Constants that metrics had, and what says the same today.
_FORMER_CONSTANTS = {
    "JUDGED": f"STAGE = {CHOSEN!r}",
    "OTHERS": "a backbone among READS",
    "FILLED": "FromExperiment at the option",
}
_HOW = "docs/extending.md shows how"


def head_of(kind: str, name: str) -> registry.Head:
    """Return the :class:`sae.core.registry.Head` of an entry, checked.

    Raises:
        UserError: It cannot be read, or the file lacks what its kind needs; in one
            line.
    """
    head = registry.head(kind, name)
    file = registry.locate(registry.module_name(kind, name))
    assert file is not None  # An entry is a file.
    _check_names(kind, head, file)
    for constant, form in _CONSTANTS.get(kind, {}).items():
        _check_text_constant(constant, form, head.constants, file)
    if kind == "metric":
        _check_stage(head, file)
        _check_former_constants(head, file)
    if kind == "protocol":
        _check_metrics_of_protocol(head, file)
    return head


def _check_names(kind: str, head: registry.Head, file: Path) -> None:
    code = _CODE[kind]
    reads_images = head.constants.get("READS_IMAGES", True)
    if not reads_images or head.constants.get("MADE_ELSEWHERE", False):
        code = _CODE_WITHOUT_WORK.get(kind, code)
    missing = [
        name
        for name in (*_CONSTANTS.get(kind, {}), *code)
        if name not in head.defined_names
    ]
    if missing:
        raise UserError(f"{file} must define {', '.join(missing)}; {_HOW}")


def _check_text_constant(
    name: str, form: _TextConstant, constants: dict[str, Any], file: Path
) -> None:
    if name not in constants:
        raise UserError(
            f"{file} must write out {name}, since it is read without running the file; "
            f"{_HOW}"
        )
    value = constants[name]
    texts = value if form.is_list else [value]
    if isinstance(texts, list | tuple) and all(
        isinstance(text, str) and (not form.allowed or text in form.allowed)
        for text in texts
    ):
        return
    expected = "a list of texts" if form.is_list else "a text"
    if form.allowed:
        expected += f" among {', '.join(form.allowed)}"
    raise UserError(f"{file} has {name} = {value!r}, which must be {expected}; {_HOW}")


def _check_stage(head: registry.Head, file: Path) -> None:
    stage = head.constants["STAGE"]
    for name in head.constants["READS"]:
        if name not in (*SPLITS, "siblings") and stage_of(head.constants) != "score":
            raise UserError(
                f"{file} has STAGE = {stage!r}, which gets no {name!r} to read: make "
                f"it 'score' or {CHOSEN!r}; {_HOW}"
            )


def _check_former_constants(head: registry.Head, file: Path) -> None:
    """Refuse what would be passed over, and give other numbers or more of them."""
    for name, instead in _FORMER_CONSTANTS.items():
        if name in head.constants:
            raise UserError(f"{file} has {name}, which is now {instead}; {_HOW}")


def _check_metrics_of_protocol(head: registry.Head, file: Path) -> None:
    for metric in head.constants["METRICS"]:
        constants = head_of("metric", metric).constants
        is_of_validation = "val" in constants["SPLITS"]
        reads_allowed = {"train", "val", "others"} >= set(constants["READS"])
        if not is_of_validation or not reads_allowed:
            raise UserError(
                f"{file} reads {metric}, which is no metric of val that reads train, "
                f"val and others alone; {_HOW}"
            )


def stage_of(constants: Mapping[str, Any]) -> str:
    """Return the stage that computes a metric with these constants."""
    stage: str = constants["STAGE"]
    return "score" if stage == CHOSEN else stage


def backbones_named(constants: Mapping[str, Any]) -> list[str]:
    """Return the backbones of the config that a metric with these constants names."""
    return [name for name in constants["READS"] if name not in READABLE]


def splits_of_others(
    metrics: Iterable[str], splits: Sequence[str] = SPLITS
) -> list[str]:
    """Return the splits whose embeddings by other backbones some metrics read.

    Args:
        metrics: Names of metrics.
        splits: The splits on which the metrics are computed.
    """
    splits_read: set[str] = set()
    for metric in metrics:
        constants = head_of("metric", metric).constants
        if "others" in constants["READS"] or backbones_named(constants):
            splits_read.update(constants["READS"])
            splits_read.update(set(constants["SPLITS"]) & set(splits))
    return [split for split in SPLITS if split in splits_read]

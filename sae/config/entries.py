"""What the file of an entry must hold, by its kind; checked before any job starts."""

from collections.abc import Iterable, Sequence
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


# What the files of a kind must hold: {kind: {name: the constant}}.
_CONSTANTS = {
    "metric": {
        "STAGE": _TextConstant(is_list=False, allowed=paths.STAGES),
        "SPLITS": _TextConstant(is_list=True, allowed=SPLITS),
        "READS": _TextConstant(
            is_list=True, allowed=(*SPLITS, "others", "siblings", "concepts")
        ),
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
# What the workflow fills in where an option of a metric is null. The metric's constant
# FILLED is {option: one of these}.
FILLED_WITH = ("smallest_k", "families", "detection")
# What costs are reckoned by, of a metric that fits probes. The metric's constant FITS
# names one of its options for each of these.
FITS_SAY = ("images", "strengths", "largest")
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
        _check_filled(head, file)
        _check_rankings(head, file)
        _check_fits(head, file)
        _check_stage(head, file)
        _check_others(head, file)
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


def _check_filled(head: registry.Head, file: Path) -> None:
    filled = head.constants.get("FILLED", {})
    if isinstance(filled, dict) and all(
        option in head.options.model_fields and fact in FILLED_WITH
        for option, fact in filled.items()
    ):
        return
    facts = " or ".join(repr(fact) for fact in FILLED_WITH)
    raise UserError(
        f"{file} has FILLED = {filled!r}: write {{an option of the metric: {facts}}}; "
        f"{_HOW}"
    )


def _check_rankings(head: registry.Head, file: Path) -> None:
    rankings = head.constants.get("RANKINGS", ())
    options = head.options.model_fields.keys()
    if not isinstance(rankings, list | tuple) or not options >= {*rankings}:
        raise UserError(
            f"{file} has RANKINGS = {rankings!r}: write a list of options of the "
            f"metric; {_HOW}"
        )
    if rankings and not isinstance(head.constants.get("MOST_TRAIN"), int):
        raise UserError(
            f"{file} has RANKINGS, and no number MOST_TRAIN beside it; {_HOW}"
        )


def _check_fits(head: registry.Head, file: Path) -> None:
    fits = head.constants.get("FITS", {})
    if not fits:
        return
    options = head.options.model_fields.keys()
    if (
        isinstance(fits, dict)
        and fits.keys() == {*FITS_SAY}
        and options >= {*fits.values()}
    ):
        return
    raise UserError(
        f"{file} has FITS = {fits!r}: write an option of the metric for each of "
        f"{', '.join(FITS_SAY)}; {_HOW}"
    )


def _check_stage(head: registry.Head, file: Path) -> None:
    stage = head.constants["STAGE"]
    for table in ("others", "concepts"):
        if table in head.constants["READS"] and stage != "score":
            raise UserError(
                f"{file} has STAGE = {stage!r}, which gets no {table!r} to read: make "
                f"it 'score'; {_HOW}"
            )


def _check_others(head: registry.Head, file: Path) -> None:
    if "OTHERS" not in head.constants:
        return
    _check_text_constant("OTHERS", _TextConstant(is_list=True), head.constants, file)
    if "others" not in head.constants["READS"]:
        raise UserError(f"{file} has OTHERS, and no 'others' among its READS; {_HOW}")


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
        if "others" in constants["READS"]:
            splits_read.update(constants["READS"])
            splits_read.update(set(constants["SPLITS"]) & set(splits))
    return [split for split in SPLITS if split in splits_read]

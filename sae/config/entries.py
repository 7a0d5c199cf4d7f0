"""What the file of an entry must hold, by its kind; checked before any job starts."""

from collections.abc import Iterable, Sequence

from sae.core import paths, registry
from sae.core.errors import UserError
from sae.data.splits import SPLITS

# {kind: {constant: (its type: a text or a list of texts, the texts that are allowed; () allows any)}}
_CONSTANTS: dict[str, dict[str, tuple[type, tuple[str, ...]]]] = {
    "metric": {
        "STAGE": (str, paths.STAGES),
        "SPLITS": (list, SPLITS),
        "READS": (list, (*SPLITS, "others", "siblings", "concepts")),
    },
    "figure": {"READS": (list, ()), "CAPTION": (str, ())},
    "protocol": {"METRICS": (list, ())},
}
# What a metric may have the workflow fill in where one of its options is null, by its constant FILLED.
FILLED_WITH = ("smallest_k", "families")
# What a metric says of the probes that it fits, by its constant FITS.
FITS_SAY = ("images", "strengths", "largest")
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
# Of a backbone that reads no images, and of an objective that trains nothing.
_CODE_OF_GIVEN = {"backbone": ["files", "embeddings"], "objective": ["take", "content"]}
_HOW = "docs/extending.md shows how"


def splits_of_others(
    metrics: Iterable[str], splits: Sequence[str] = SPLITS
) -> list[str]:
    """The splits of which metrics read what other backbones see, where they are computed on `splits`."""
    heads = [head_of("metric", name).constants for name in metrics]
    read = {
        s
        for of in heads
        if "others" in of["READS"]
        for s in (*of["READS"], *({*of["SPLITS"]} & {*splits}))
    }
    return [split for split in SPLITS if split in read]


def _check_what_a_metric_says(head: registry.Head, says: str) -> None:
    """Check the constants of a metric that the workflow reads beside those it must have.

    Args:
        says: The beginning of a message, up to the constant.

    Raises:
        UserError: one is of another form, or names no option of the metric.
    """
    options = head.options.model_fields.keys()
    filled = head.constants.get("FILLED", {})
    if not isinstance(filled, dict) or any(
        option not in options or fact not in FILLED_WITH
        for option, fact in filled.items()
    ):
        facts = " or ".join(map(repr, FILLED_WITH))
        raise UserError(
            f"{says} FILLED = {filled!r}: write {{an option of the metric: {facts}}}; "
            f"{_HOW}"
        )

    rankings = head.constants.get("RANKINGS", ())
    if not isinstance(rankings, list | tuple) or not options >= {*rankings}:
        raise UserError(
            f"{says} RANKINGS = {rankings!r}: write a list of options of the metric; {_HOW}"
        )
    if rankings and not isinstance(head.constants.get("MOST_TRAIN"), int):
        raise UserError(f"{says} RANKINGS, and no number MOST_TRAIN beside it; {_HOW}")

    fits = head.constants.get("FITS", {})
    if fits and not (
        isinstance(fits, dict)
        and fits.keys() == {*FITS_SAY}
        and options >= {*fits.values()}
    ):
        raise UserError(
            f"{says} FITS = {fits!r}: write an option of the metric for each of "
            f"{', '.join(FITS_SAY)}; {_HOW}"
        )


def head_of(kind: str, name: str) -> registry.Head:
    """The :class:`sae.core.registry.Head` of an entry.

    Raises:
        UserError: it cannot be read, or the file lacks what its kind needs; in one line.
    """
    head = registry.head(kind, name)
    file = registry.locate(registry.module_name(kind, name))
    given = not head.constants.get("READS_IMAGES", True) or head.constants.get(
        "MADE_ELSEWHERE", False
    )
    constants = _CONSTANTS.get(kind, {})
    if missing := [
        n
        for n in (*constants, *(_CODE_OF_GIVEN if given else _CODE)[kind])
        if n not in head.names
    ]:
        raise UserError(f"{file} must define {', '.join(missing)}; {_HOW}")
    for constant, (form, allowed) in constants.items():
        if constant not in head.constants:
            raise UserError(
                f"{file} must write out {constant}, since it is read without running the file; {_HOW}"
            )
        value = head.constants[constant]
        texts = [value] if form is str else value
        fits = isinstance(texts, list | tuple) and all(
            isinstance(t, str) and t in (allowed or texts) for t in texts
        )
        if not fits:
            expected = "a text" if form is str else "a list of texts"
            expected += f" among {', '.join(allowed)}" if allowed else ""
            raise UserError(
                f"{file} has {constant} = {value!r}, which must be {expected}; {_HOW}"
            )
    if kind == "metric":
        _check_what_a_metric_says(head, f"{file} has")
    for metric in head.constants["METRICS"] if kind == "protocol" else ():
        of = head_of("metric", metric).constants
        if "val" not in of["SPLITS"] or not {"train", "val", "others"} >= set(
            of["READS"]
        ):
            said = "which is no metric of val that reads train, val and others alone"
            raise UserError(f"{file} reads {metric}, {said}; {_HOW}")
    for beside in ("others", "concepts") if kind == "metric" else ():
        stage = head.constants["STAGE"]
        if beside in head.constants["READS"] and stage != "score":
            raise UserError(
                f"{file} has STAGE = {stage!r}, which gets no {beside!r} to read: make "
                f"it 'score'; {_HOW}"
            )
    return head

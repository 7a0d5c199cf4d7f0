"""Score an SAE from Python, without files or a workflow: what `sae.score` does."""

import reprlib
import warnings
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float, Int
from numpy.typing import ArrayLike

from sae.config.entries import stage_of
from sae.core import registry
from sae.core.errors import UserError
from sae.data.concepts import SplitConcepts, from_keywords
from sae.data.store import Activations
from sae.models.apply import Encoder, check_embeddings, check_variance, coder_of
from sae.models.coder import Coder
from sae.models.convert import describe_doubt
from sae.scoring import rows
from sae.scoring.judges import check_judges, named_judges
from sae.scoring.repeats import find_shared
from sae.scoring.stage import checked_scores, options_of
from sae.scoring.subject import Curve, PerLatent, Subject

# What metrics read that only a bank has.
_OF_A_BANK = {"val": "a validation split", "siblings": "SAEs of other seeds"}


def score(
    sae: Encoder | Coder,
    embeddings: Float[np.ndarray, "images dim"],
    labels: ArrayLike | None = None,
    *,
    groups: ArrayLike | None = None,
    judges: Mapping[str, Float[np.ndarray, "images judge_dim"]] | None = None,
    train: Float[np.ndarray, "train_images dim"] | None = None,
    train_judges: Mapping[str, Float[np.ndarray, "train_images judge_dim"]]
    | None = None,
    train_groups: ArrayLike | None = None,
    concepts: Sequence[Iterable[str]] | None = None,
    train_concepts: Sequence[Iterable[str]] | None = None,
    metrics: Iterable[str] | None = None,
) -> dict[str, Any]:
    """Return the columns that metrics give of one SAE on held-out embeddings.

    They are those of metrics.csv. What is given decides which columns come back.
    `labels` bring those of classes. `groups` bring MS across groups, and with labels
    the purity that chance gives (`purity_binary_null`). `judges` bring MS by other
    backbones, `train` what needs training images. A column that needs what is not given
    is left out, never computed on something else.

    One of these metrics, `density`, is `optional` in config.yaml, and the demo does not
    name it. So its metrics.csv lacks the columns `dense_*`, which are here since they
    need nothing but the embeddings. Write `metrics: { density: {} }` in an experiment
    to have them there too.

    In turn metrics.csv has what one SAE and held-out embeddings do not say: which SAE a
    row is of, its training, its validation split, and metrics that read these or SAEs
    of other seeds. `r2` is that of the SAE's own input space, as in metrics.csv, not
    that of raw embeddings.

    An example::

        sae.score(
            sae.load("sae.safetensors"),
            embeddings,
            labels,
            groups=index["group"],
            judges={"dinov2": others},
        )

    Args:
        sae: what `sae.load` returns.
        embeddings: (N, d) of any float type, as the backbone gave them; N is 2 or more.
        labels: (N,) classes, numbers or texts.
        groups: (N,) numbers or texts, equal for near-duplicates (images of one thing).
            `range(N)` says that there are none.
        judges: {backbone: (N, d') its embeddings of the same images}, d' of its own.
            All count as independent: name none of the family of the SAE's own backbone.
        train: (N', d) embeddings that the SAE was trained on, for metrics that read
            them (`firing`, `detection`, ...).
        train_judges: {backbone: (N', d') its embeddings of the images of `train`}, of
            the same judges, for `detection`.
        train_groups: (N',) groups of the images of `train`, as `groups`.
        concepts: (N,) what people call each image: any number of keywords, or none.
        train_concepts: (N',) keywords of the images of `train`, for the metrics
            `concepts` and `names`.
        metrics: names of `sae.scoring.metrics`; by default those of the stage `score`
            whose `READS` is given: all of them need held-out embeddings, `firing` also
            `train`, `independent` also `judges`, and `detection` `train`, `judges` and
            `train_judges`, and `concepts` and `names` `train`, `concepts` and
            `train_concepts`.

    Raises:
        UserError: something is of a wrong type or shape, not finite or missing, all
            embeddings are the same after the SAE's norm, a metric is unknown, changes
            what it reads or gives the column of another one, or one that was asked for
            by name reads what is not given.

    Warns:
        UserWarning: held-out embeddings are among those of `train`, or the SAE explains
            less than their mean does.
    """
    coder = coder_of(sae, "sae.score")

    # What metrics read.
    splits = {"test": data("embeddings", embeddings, groups, coder.d, coder.input_norm)}
    if train is not None:
        splits["train"] = data("train", train, train_groups, coder.d, coder.input_norm)
    elif train_groups is not None:
        raise UserError("train_groups are given without train: give both")
    judged = _read_judges(splits, {"test": judges, "train": train_judges})
    if labels is not None:
        index = splits["test"].index
        distinct, numbers = _number("labels", labels, len(index))
        index["label"] = pd.array(numbers, "Int64")
        index["label_name"] = distinct[numbers].astype(str)
    keywords = _read_concepts(splits, {"train": train_concepts, "test": concepts})
    subject = Subject(coder, splits, judged, concepts=keywords)

    is_given = {
        "train": train is not None,
        "others": bool(judged),
        "train_judges": bool(train_judges),
        "concepts": bool(keywords),
    }
    names = default_metrics(is_given) if metrics is None else _check_names(metrics)

    if train is not None:
        shared = find_shared(splits["test"], splits["train"])
        if shared.any():
            warnings.warn(
                f"{shared.sum()} of {len(shared)} embeddings are in train too: what "
                "the SAE was trained on is not held out, and its scores there say "
                "less; leave these rows out of one of the two",
                stacklevel=2,
            )

    columns: dict[str, Any] = {}
    owners: dict[str, str] = {}
    reserved = (*rows.RESERVED["scalars"], *rows.KEY, *rows.ABOUT)
    for name in names:
        columns_of_metric = _compute(name, subject, is_given)
        if metrics is not None and not columns_of_metric:
            raise UserError(
                f"metric {name} gives no column of what is given here: it may need "
                "labels, or what sae.score does not take"
            )
        rows.claim(owners, name, columns_of_metric, reserved)
        columns.update(columns_of_metric)

    reason = describe_doubt(coder, columns.get("r2", 1), "these embeddings")
    if reason:
        warnings.warn(f"the SAE {reason}", stacklevel=2)
    # Chance moves labels between whole groups, so this needs groups.
    if groups is None:
        columns.pop("purity_binary_null", None)
    return columns


def default_metrics(is_given: Mapping[str, bool]) -> list[str]:
    """Return the metrics that :func:`score` gives by itself: cheap ones it has data for.

    Args:
        is_given: {"train", "others", "train_judges" or "concepts": whether the caller
            gave it}.
    """
    names = []
    for name in registry.names("metric"):
        constants = registry.head("metric", name).constants
        has_needs = all(is_given.get(need) for need in _needs(constants["READS"]))
        if stage_of(constants) == "score" and has_needs:
            names.append(name)
    return names


def _needs(reads: Iterable[str]) -> list[str]:
    """Return what a metric with these `READS` needs to be given to :func:`score`."""
    needs = [*reads]
    # Embeddings of training images by judges are an argument of their own.
    if {"train", "others"} <= set(needs):
        needs.append("train_judges")
    return needs


def _compute(
    name: str, subject: Subject, is_given: Mapping[str, bool]
) -> dict[str, Any]:
    """Compute the columns of one metric on held-out embeddings."""
    module = registry.load("metric", name)
    never_given = [part for part in module.READS if part not in is_given]
    if never_given:
        needs = " and ".join(_OF_A_BANK.get(part, part) for part in never_given)
        raise UserError(
            f"metric {name} needs {needs}, which sae.score does not take: it is of the "
            "workflow alone"
        )
    lacking = [need for need in _needs(module.READS) if not is_given.get(need)]
    if lacking or "test" not in module.SPLITS:
        in_call = {"others": "judges", "concepts": "concepts and train_concepts"}
        arguments = [in_call.get(need, need) for need in lacking]
        reads = ", ".join(arguments) or "no held-out split"
        raise UserError(f"metric {name} reads {reads}, which is not given here")

    view = subject.limited({"test", *module.READS})
    scores = view.score(module, "test", options_of(name, None))
    checked_scores(name, scores, subject.coder.m)
    columns = {}
    for column, value in scores.items():
        if not isinstance(value, PerLatent):
            columns[column] = _plain(value)
        elif value.of_sae is not None:
            columns[column] = _plain(value.of_sae)
    return columns


def _check_names(metrics: Any) -> list[str]:
    is_sequence = isinstance(metrics, Iterable) and not isinstance(
        metrics, str | Mapping
    )
    names = list(metrics) if is_sequence else []
    if not is_sequence or not all(isinstance(name, str) for name in names):
        raise UserError(
            f"metrics is {reprlib.repr(metrics)}; give a list of names, as ['purity']; "
            "options of metrics are not taken"
        )
    return names


def _plain(value: Any) -> Any:
    """Return a score as Python's own number; a curve as {x: y}."""
    if isinstance(value, Curve):
        x = np.asarray(value.x).tolist()
        y = np.asarray(value.y).tolist()
        return dict(zip(x, y, strict=True))
    return value.item() if isinstance(value, np.generic) else value


def _read_judges(
    splits: Mapping[str, Activations],
    judges: Mapping[str, Any],
) -> dict[str, dict[str, np.ndarray]]:
    """Check `judges` and `train_judges`, which are "test" and "train" here."""
    embeddings: dict[str, dict[str, np.ndarray]] = {}
    for split, argument in (("test", "judges"), ("train", "train_judges")):
        of_split = named_judges(argument, judges[split])
        own = splits[split].embeddings if split in splits else np.empty((0, 0))
        named = {f"{argument}[{name!r}]": values for name, values in of_split.items()}
        checked = check_judges(named, own)
        for backbone, values in zip(of_split, checked.values(), strict=True):
            embeddings.setdefault(backbone, {})[split] = values

    if judges["train"]:
        for backbone, by_split in embeddings.items():
            if len(by_split) < len(judges):
                raise UserError(
                    "judges and train_judges are not of the same backbones: "
                    f"{backbone} is in one of them alone"
                )
    return embeddings


def _read_concepts(
    splits: Mapping[str, Activations], keywords: Mapping[str, Any]
) -> dict[str, SplitConcepts]:
    """Check `concepts` and `train_concepts`, which are "test" and "train" here."""
    keywords_by_split = {
        split: values for split, values in keywords.items() if values is not None
    }
    if not keywords_by_split:
        return {}
    arguments = {"train": "train_concepts", "test": "concepts"}
    if keywords_by_split.keys() != keywords.keys() or "train" not in splits:
        raise UserError(
            "latents are matched with concepts on training images: give concepts, "
            "train_concepts and train together"
        )
    return from_keywords(
        {
            split: keyword_lists(
                argument, keywords_by_split[split], len(splits[split].index)
            )
            for split, argument in arguments.items()
        }
    )


def check_order(name: str, values: Any) -> None:
    """Refuse a Series whose index says that it is in another order than its rows.

    Raises:
        UserError: its index is 0 to N - 1 in another order.
    """
    if not isinstance(values, pd.Series):
        return
    count = len(values)
    is_reordered = (
        not values.index.is_monotonic_increasing
        and values.index.sort_values().equals(pd.RangeIndex(count))
    )
    if is_reordered:
        raise UserError(
            f"{name} is a Series whose index is 0 to {count - 1} in another order, "
            "which is not heeded: bring it into the order of the embeddings, and give "
            ".to_numpy()"
        )


def keyword_lists(argument: str, keywords: Any, row_count: int) -> list[list[str]]:
    """Return the keywords of each image as lists, after a check.

    Raises:
        UserError: They are of another form, or of another number of images.
    """
    advice = "give a list of keywords for each image, [['cat', 'animal'], [], ...]"
    if isinstance(keywords, str | Mapping) or not isinstance(keywords, Iterable):
        raise UserError(f"{argument} is {reprlib.repr(keywords)}; {advice}")
    check_order(argument, keywords)
    by_image = list(keywords)
    if len(by_image) != row_count:
        raise UserError(
            f"{argument} has {len(by_image)} entries for {row_count} embeddings; "
            f"{advice}"
        )
    lists: list[list[str]] = []
    for number, of_image in enumerate(by_image):
        is_list = isinstance(of_image, Iterable) and not isinstance(of_image, str)
        words = list(of_image) if is_list else []
        if not is_list or not all(isinstance(word, str) for word in words):
            raise UserError(
                f"{argument}[{number}] is {reprlib.repr(of_image)}; {advice}"
            )
        lists.append(words)
    return lists


def data(
    name: str, embeddings: Any, groups: Any, d: int, norm: str = "none"
) -> Activations:
    """Return embeddings with an index without labels.

    Args:
        name: of the argument, for messages.
        embeddings: (N, d) as :func:`score` takes them.
        groups: (N,) as :func:`score` takes them; with None each image is one of its
            own.
        d: the SAE's number of dimensions.
        norm: the SAE's norm.

    Raises:
        UserError: they are of another form, or have no variance.
    """
    embeddings = check_embeddings(embeddings, d, name).astype(np.float32, copy=False)
    check_variance(name, embeddings, norm)

    row_count = len(embeddings)
    number = np.arange(row_count)
    unknown = pd.array([pd.NA] * row_count, dtype="Int64")
    index = pd.DataFrame({"image_id": number, "label": unknown, "label_name": None})
    if groups is None:
        index["group"] = number
    else:
        _, index["group"] = _number("groups", groups, row_count)

    manifest = {
        "dataset": {"name": "", "grouped": not index["group"].is_unique},
        "backbone": {"name": ""},
    }
    return Activations(embeddings, index, manifest)


def _number(
    name: str, values: Any, row_count: int
) -> tuple[np.ndarray, Int[np.ndarray, " rows"]]:
    """Return the distinct values, sorted, and of each value its place among them."""
    # Of a list that mixes kinds, numpy alone would make texts.
    try:
        is_column = np.ndim(values) == 1
        column = pd.Series(values).to_numpy() if is_column else np.asarray(values)
    except (ValueError, TypeError, RuntimeError) as error:  # As in `check_embeddings`.
        raise UserError(f"{name} cannot be read as an array: {error}") from None
    if column.shape != (row_count,):
        raise UserError(
            f"{name} are of shape {column.shape} for {row_count} embeddings; give one "
            "for each"
        )
    check_order(name, values)
    is_missing = pd.isna(column)
    if is_missing.any():
        raise UserError(
            f"{name} has nothing in row {int(is_missing.argmax())} (from 0); give one "
            "for each"
        )
    try:
        distinct, numbers = np.unique(column, return_inverse=True)
    except TypeError:
        raise UserError(
            f"{name} mixes kinds that have no order, such as numbers and texts; give "
            "one kind"
        ) from None
    return distinct, numbers

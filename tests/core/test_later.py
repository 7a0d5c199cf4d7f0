"""Options that are added later are in keys and records only where they say a thing."""

import json
import typing

import pytest
from conftest import ROOT
from pydantic import Field

from sae.core import registry
from sae.core.options import (
    Options,
    as_record,
    from_record,
    later,
    later_options,
    without_absent,
)
from sae.data.entries import NetworkEntry
from sae.training.recipe import Recipe

# The options that each class had when keys became additive. Do not add to it: a new
# option is `later`. A new entry has no line here; a class that is new within an old
# entry, such as a listed point of `fair`, has those that it began with.
FIRST_OPTIONS = json.loads((ROOT / "tests/support/first_options.json").read_text())


class Inner(Options):
    width: int = 2
    depth: int = later(1)


class Example(Options):
    rate: float
    # The default has changed since the option was added.
    momentum: float = later(0.0, default=0.9)
    lam: float = later(1.0, alias="lambda")
    inner: Inner = Inner()
    layers: list[Inner] = Field([])


def test_a_later_option_is_written_only_where_it_is_not_what_its_absence_says():
    assert as_record(Example(rate=1.0)) == {
        "rate": 1.0,
        "momentum": 0.9,
        "inner": {"width": 2},
        "layers": [],
    }
    before = Example(rate=1.0, momentum=0.0, inner=Inner(depth=3), layers=[Inner()])
    assert as_record(before) == {
        "rate": 1.0,
        "inner": {"width": 2, "depth": 3},
        "layers": [{"width": 2}],
    }
    assert as_record(Example(rate=1.0, lam=2.0), mode="json")["lambda"] == 2.0


def test_true_is_not_one():
    assert without_absent({"a": True, "b": 1.0}, {"a": 1.0, "b": 1}) == {"a": True}


@pytest.mark.parametrize("momentum", [0.0, 0.5, 0.9])
@pytest.mark.parametrize("depth", [1, 2])
def test_a_record_is_read_as_it_was_written(momentum, depth):
    layers = [Inner(depth=depth), Inner(width=5)]
    options = Example(
        rate=1.0, momentum=momentum, inner=Inner(depth=depth), layers=layers
    )
    record = json.loads(json.dumps(as_record(options)))
    assert from_record(Example, record) == options


def test_a_config_that_lacks_an_option_has_its_default_and_a_record_what_was_before():
    assert Example.model_validate({"rate": 1.0}).momentum == 0.9
    assert from_record(Example, {"rate": 1.0}).momentum == 0.0


@pytest.mark.parametrize(
    ("written", "spec"),
    [
        ({}, {"crop": None}),
        ({"crop": None}, {"crop": None}),
        ({"crop": 0.875}, {}),
        ({"crop": 0.5}, {"crop": 0.5}),
    ],
)
def test_a_mapping_of_the_config_has_a_later_option_of_any_value(written, spec):
    class MyBackbone(NetworkEntry):
        crop: float | None = later(0.875, default=None)

    words = {"loader": "timm", "family": "mine", "model": "m"}
    shown = MyBackbone(**words, **written).spec
    assert shown == {"loader": "timm", "model": "m"} | spec


def test_every_option_that_came_later_is_marked():
    classes = {"recipe": Recipe}
    for kind in ("dataset", "backbone", "objective", "penalty", "metric", "protocol"):
        for name in registry.names(kind):
            classes[f"{kind} {name}"] = registry.head(kind, name).options
    assert {"recipe", "metric detection"} <= classes.keys() & FIRST_OPTIONS.keys()

    for name in classes.keys() & FIRST_OPTIONS.keys():
        first = {*FIRST_OPTIONS[name]}
        unmarked = {*options_of(classes[name], is_marked=False)} - first
        assert not unmarked, (
            f"{name}: declare {', '.join(unmarked)} by sae.core.options.later, or every "
            "result that is stored is void (docs/architecture.md, 'An option more')"
        )
    # The mapping of a dataset or backbone is kept as it is written, also in what lies
    # deeper.
    for name, form in classes.items():
        if name.startswith(("dataset ", "backbone ", "objective ", "penalty ")):
            deeper = [o for o in options_of(form, is_marked=True) if "." in o]
            assert not deeper, f"{name}: {deeper} may not be later below the top level"


def options_of(form, is_marked, above=""):
    """Yield the options of a class and below it that are marked, or are not."""
    for name, field in form.model_fields.items():
        key = f"{above}{field.alias or name}"
        marked = (field.alias or name) in later_options(form)
        if marked == is_marked:
            yield key
        for part in nested_options(field.annotation):
            yield from options_of(part, is_marked, f"{key}.")


def nested_options(annotation):
    """Yield the classes of options in a type."""
    if isinstance(annotation, type) and issubclass(annotation, Options):
        yield annotation
    for part in typing.get_args(annotation):
        yield from nested_options(part)

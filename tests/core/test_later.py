"""Options that are added later: they are in keys and records only where they say something new."""

import json
from typing import Annotated

import pytest
from conftest import ROOT
from pydantic import Field

from sae.core import registry
from sae.core.options import Later, Options
from sae.training.recipe import Recipe

# The options that each class had when keys became additive. Do not add to it: mark a
# new option `Later`. A new entry has no line here.
FIRST_OPTIONS = json.loads((ROOT / "tests/support/first_options.json").read_text())


class Inner(Options):
    width: int = 2
    depth: Annotated[int, Later(1)] = 1


class Example(Options):
    rate: float
    # The default has changed since the option was added.
    momentum: Annotated[float, Later(0.0)] = 0.9
    lam: Annotated[float, Later(1.0), Field(alias="lambda")] = 1.0
    inner: Inner = Inner()


def test_a_later_option_is_written_only_where_it_is_not_what_its_absence_says():
    assert Example(rate=1.0).identity() == {
        "rate": 1.0,
        "momentum": 0.9,
        "inner": {"width": 2},
    }
    before = Example(rate=1.0, momentum=0.0, inner=Inner(depth=3))
    assert before.identity() == {"rate": 1.0, "inner": {"width": 2, "depth": 3}}
    assert Example(rate=1.0, lam=2.0).identity()["lambda"] == 2.0


@pytest.mark.parametrize("momentum", [0.0, 0.5, 0.9])
@pytest.mark.parametrize("depth", [1, 2])
def test_a_record_is_read_as_it_was_written(momentum, depth):
    options = Example(rate=1.0, momentum=momentum, inner=Inner(depth=depth))
    assert Example.of_record(json.loads(json.dumps(options.identity()))) == options


def test_a_config_that_lacks_an_option_has_its_default_and_a_record_what_was_before():
    assert Example.model_validate({"rate": 1.0}).momentum == 0.9
    assert Example.of_record({"rate": 1.0}).momentum == 0.0


def test_every_option_that_came_later_is_marked():
    classes = {"recipe": Recipe}
    for kind in ("dataset", "backbone", "objective", "penalty", "metric", "protocol"):
        for name in registry.names(kind):
            classes[f"{kind} {name}"] = registry.head(kind, name).options
    assert {"recipe", "metric detection"} <= classes.keys() & FIRST_OPTIONS.keys()

    for what in classes.keys() & FIRST_OPTIONS.keys():
        options = classes[what]
        unmarked = {*options.model_fields} - {*FIRST_OPTIONS[what]}
        unmarked -= {*options.later_options()}
        assert not unmarked, (
            f"{what}: mark {', '.join(unmarked)} with sae.core.options.Later, or every "
            "result that is stored is void (docs/architecture.md, 'An option more')"
        )

"""An option that is added later leaves stored results valid, and counts where set."""

import json
import re
import sys

import pytest
from conftest import ROOT, Checkout
from report.compared import compared_rows

from sae.comparison import leaderboard
from sae.core.options import from_record

STORED_KEYS = ROOT / "tests/support/stored_keys.py"
KINDS = ("sae", "row", "embedding", "dataset")

# One more option of a metric, of a type of dataset and of a loader, with code that
# reads it: (file, text, what comes in its place).
EDITS = [
    (
        "sae/scoring/metrics/detection.py",
        "from sae.core.options import Count, FromExperiment, Seed, Share\n",
        "from sae.core.options import Count, FromExperiment, Seed, Share, later\n",
    ),
    (
        "sae/scoring/metrics/detection.py",
        "    seed: Seed = 0\n",
        "    rounded: bool = later(False)\n    seed: Seed = 0\n",
    ),
    (
        "sae/scoring/metrics/detection.py",
        "    measured_codes = split_codes[:, measured]\n",
        "    if options.rounded:\n"
        "        measured = measured[:-1]\n"
        "    measured_codes = split_codes[:, measured]\n",
    ),
    (
        "sae/data/datasets/image_folder.py",
        "    split_seed: options.Seed | None = None\n",
        "    mirrored: bool = options.later(False)\n"
        "    split_seed: options.Seed | None = None\n",
    ),
    (
        "sae/data/datasets/image_folder.py",
        "    root = Path(spec.root)\n    omissions",
        "    root = Path(spec.root)\n"
        "    if spec.mirrored:\n"
        "        root = root.resolve()\n"
        "    omissions",
    ),
    (
        "sae/data/backbones/timm.py",
        "    checkpoint: str | None = None\n",
        "    pooled: bool = options.later(True)\n    checkpoint: str | None = None\n",
    ),
    (
        "sae/data/backbones/timm.py",
        "    hub_files = fetch(spec)\n",
        "    image_size = image_size if spec.pooled else None\n"
        "    hub_files = fetch(spec)\n",
    ),
    (
        "sae/training/objectives/topk.py",
        "VERSION = 1\n",
        "VERSION = 1\n\n\nclass Options(Base):\n"
        '    """What Top-k leaves open."""\n\n'
        "    floor: float = later(0.0)\n",
    ),
    (
        "sae/training/objectives/topk.py",
        "from jaxtyping import Float\n",
        "from jaxtyping import Float\n"
        "from sae.core.options import Options as Base\n"
        "from sae.core.options import later\n",
    ),
    (
        "sae/training/objectives/topk.py",
        "return picks.of_each(a, self.settings.k)",
        "return picks.of_each(a + self.options.floor, self.settings.k)",
    ),
]
# The same options, each with another default.
OTHER_DEFAULTS = [
    ("sae/training/recipe.py", "later(0.0, ge=0)", "later(0.0, default=0.5, ge=0)"),
    (
        "sae/scoring/metrics/detection.py",
        "rounded: bool = later(False)",
        "rounded: bool = later(False, default=True)",
    ),
    (
        "sae/data/datasets/image_folder.py",
        "options.later(False)",
        "options.later(False, default=True)",
    ),
    (
        "sae/data/backbones/timm.py",
        "options.later(True)",
        "options.later(True, default=False)",
    ),
    ("sae/training/objectives/topk.py", "later(0.0)", "later(0.0, default=0.5)"),
]


def edits_of_the_docs():
    """Return (file, old text, new text) of each diff in docs/architecture.md."""
    page = (ROOT / "docs/architecture.md").read_text()
    edits = []
    for file, diff in re.findall(r"```diff\n# (\S+)\n(.*?)```", page, re.S):
        lines = diff.splitlines()
        old = [line[1:] for line in lines if not line.startswith("+")]
        new = [line[1:] for line in lines if not line.startswith("-")]
        edits.append((file, "\n".join(old) + "\n", "\n".join(new) + "\n"))
    assert len(edits) >= 3
    return edits


def keys_of(checkout, *configs):
    """Return `stored_keys` of each config, by the code of a checkout."""
    names = []
    for number, config in enumerate(configs):
        names.append(f"config{number}.yaml")
        (checkout.folder / names[-1]).write_text(json.dumps(config))
    process = checkout.run(sys.executable, STORED_KEYS, checkout.folder, *names)
    assert process.returncode == 0, process.stderr
    return json.loads(process.stdout)


def with_floor(config, floor):
    """Return a config that sets the objective's option, in each method that has it."""
    changed = json.loads(json.dumps(config))
    for name in changed["experiments"]["tiny"]["methods"]:
        if changed["methods"][name].get("objective") == "topk":
            changed["methods"][name]["floor"] = floor
    return changed


def with_options(config, weight_decay, rounded, mirrored, pooled, floor):
    """Return a config that sets all options."""
    changed = with_floor(config, floor)
    changed["training"]["tiny"]["weight_decay"] = weight_decay
    changed["metrics"]["detection"] = {"rounded": rounded}
    changed["datasets"]["digits"]["mirrored"] = mirrored
    changed["backbones"]["tiny"]["pooled"] = pooled
    return changed


def record_all(checkout):
    """Say that the edited code means what it meant."""
    checkout.run("-m", "sae_workflow.versions", "all").check_returncode()


@pytest.fixture(scope="module")
def checkout(tmp_path_factory, digits):
    """Return a copy of the project as it is."""
    return Checkout(tmp_path_factory.mktemp("more"), digits)


@pytest.fixture(scope="module")
def keys(checkout):
    """Return {what is changed: the keys} of one experiment."""
    config = checkout.config
    keys = {}
    (keys["before"],) = keys_of(checkout, config)

    for file, old, new in [*edits_of_the_docs(), *EDITS]:
        # Somebody who follows the docs has the option already.
        if new not in (checkout.folder / file).read_text():
            checkout.edit(file, old, new)
    record_all(checkout)
    as_absent = with_options(config, 0.0, False, False, True, 0.0)
    with_all_set = with_options(config, 0.5, True, True, False, 0.5)
    floor_alone = with_floor(config, 0.5)
    keys["after"], keys["written out"], keys["set"], keys["floor"] = keys_of(
        checkout, config, as_absent, with_all_set, floor_alone
    )
    return keys


@pytest.fixture(scope="module")
def keys_of_other_defaults(checkout, keys):
    """Return the keys where the options have another default.

    Beside them those where the options are set to the first default.
    """
    for edit in OTHER_DEFAULTS:
        checkout.edit(*edit)
    record_all(checkout)
    config = checkout.config
    as_absent = with_options(config, 0.0, False, False, True, 0.0)
    return keys_of(checkout, config, as_absent)


def test_an_option_more_changes_no_key_and_no_parameter_of_a_job(keys):
    assert keys["after"] == keys["before"]


def test_the_leaderboard_takes_results_of_before_the_option(keys):
    metrics = compared_rows({"topk": {"detection": 0.7}})
    theirs, ours = (
        leaderboard.ExperimentRows(
            metrics, metrics, from_record(leaderboard.MadeBy, keys[code]["made_by"])
        )
        for code in ("before", "after")
    )
    comparable, omissions = leaderboard._comparable_rows(theirs, ours)
    assert not omissions
    assert len(comparable.metrics) == len(comparable.selection) == len(metrics)


def test_an_option_at_the_value_that_absence_stands_for_is_as_if_not_written(keys):
    assert keys["written out"] == keys["before"]


def test_another_value_gives_other_keys(keys):
    assert_all_differ(keys["set"], keys["before"])


@pytest.mark.slow
def test_another_default_gives_other_keys_and_the_first_one_those_of_before(
    keys, keys_of_other_defaults
):
    other_default, set_as_before = keys_of_other_defaults
    assert_all_differ(other_default, keys["before"])
    assert set_as_before == keys["before"]


def test_an_option_of_an_objective_changes_its_saes_alone(keys):
    changed = keys["floor"]
    before = keys["before"]
    assert not set(changed["sae"]) & set(before["sae"])
    for kind in ("dataset", "embedding", "row"):
        assert changed[kind] == before[kind]


def assert_all_differ(keys, before):
    """Check that every key that an option is about is another one than before."""
    for kind in ("embedding", "dataset"):
        assert keys[kind] != before[kind]
    assert not set(keys["sae"]) & set(before["sae"])
    changed_rows = {
        name for name in keys["row"] if keys["row"][name] != before["row"][name]
    }
    assert changed_rows == {"detection"}
    assert keys["made_by"]["recipe"] != before["made_by"]["recipe"]
    assert keys["made_by"]["metrics"] != before["made_by"]["metrics"]

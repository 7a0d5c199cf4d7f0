"""Versions: what an edit makes another thing, and how somebody says that it is not."""

import re
import shutil

import pytest
from conftest import ROOT
from support.errors import refused_naming

from sae.bank import store
from sae.core import codehash, registry, versions
from sae.core.errors import UserError


def test_every_version_is_stated_and_recorded():
    for kind, name in versions._library_names():
        file = registry.locate(versions.module_name(kind, name))
        assert "VERSION" in registry.constants(registry.parse(file)), (
            f"{file} has no VERSION"
        )
    assert not versions.waiting(), "\n".join(
        f"{' '.join(name)}: {advice}" for name, advice in versions.waiting().items()
    )


@pytest.fixture
def edit(tmp_path, monkeypatch):
    """Return a function that edits a copy of the library, and returns what waits then.

    Nothing is edited yet. `edit.alone` does not ask what waits, which takes seconds.
    """
    shutil.copytree(
        ROOT / "sae", tmp_path / "sae", ignore=shutil.ignore_patterns("__pycache__")
    )
    monkeypatch.setattr(codehash, "_module_hashes", {})
    roots = {**registry.roots(), "sae": tmp_path / "sae"}
    monkeypatch.setattr(registry, "roots", lambda: roots)

    def edit_alone(files, old, new):
        edited = sorted((tmp_path / "sae").glob(files))
        assert edited
        for file in edited:
            assert re.search(old, file.read_text())
            file.write_text(re.sub(old, new, file.read_text()))
        registry.parse.cache_clear()
        codehash._module_hashes.clear()

    def edit(files, old, new):
        edit_alone(files, old, new)
        return {" ".join(name) for name in versions.waiting()}

    edit.alone = edit_alone
    yield edit
    registry.parse.cache_clear()


def test_an_edit_waits_for_a_word_wherever_it_counts_and_nowhere_else(edit):
    edit.alone("core/*.py", r"\Z", "\nADDED = 1\n")
    edit.alone("core/options.py", "leave one out", "keep one")
    edit.alone("scoring/subject.py", r"UserError\(f?", r"\g<0>'Oh! ' ")
    assert (
        edit("training/loop.py", "(?s)log = .*?\n", r"\g<0>log.info('here')\n") == set()
    )
    assert edit(
        "scoring/metrics/purity.py", "_PERMUTATIONS = 20", "_PERMUTATIONS = 19"
    ) == {"metric purity"}
    ms = {f"metric {name}" for name in ("independent", "latents", "monosemanticity")}
    assert (
        edit("scoring/metrics/_ms.py", r"\Z", "\nADDED = 1\n") == {"metric purity"} | ms
    )
    shared = edit("models/inputs.py", "_CHUNK = 16_384", "_CHUNK = 8_192")
    assert {
        "models inputs",
        "training loop",
        "objective topk",
        "penalty both",
        "protocols _cell",
    } < shared
    assert not any(name.startswith(("dataset", "backbone", "data ")) for name in shared)


def test_what_is_recorded_keeps_its_key_and_a_raised_version_changes_its_own_alone(
    edit,
):
    def keys():
        of_training = {
            f"{objective}, {penalty}": store.training_versions(objective, penalty)
            for objective in ("topk", "batch_topk")
            for penalty in (None, "off_support_l1")
        }
        of_metrics = {
            metric: versions.joined([("metric", metric)])
            for metric in registry.names("metric")
        }
        return {**of_training, **of_metrics}

    def changed():
        return {name for name, key in keys().items() if key != before[name]}

    before = keys()
    assert before["topk, off_support_l1"].split(", ") == [
        "models inputs 1",
        "objective topk 1",
        "penalty off_support_l1 1",
        "training loop 1",
    ]
    edit(
        "training/penalties/off_support_l1.py",
        "(?s)def penalty",
        "ADDED = 1\n\n\ndef penalty",
    )
    assert changed() == {"topk, off_support_l1", "batch_topk, off_support_l1"}
    assert re.search(
        r", penalty off_support_l1 1\+[0-9a-f]{8}, ", keys()["topk, off_support_l1"]
    )
    versions.record([("penalty", "off_support_l1")])
    assert changed() == set() and versions.waiting().keys() == {
        ("penalty", "both")
    }  # That reads it.
    versions.record(versions.waiting())
    # `stability_alive` reads this one.
    assert edit("scoring/metrics/stability.py", "VERSION = 1", "VERSION = 2") == {
        "metric stability"
    }
    assert "version 2 is not recorded" in versions.waiting()["metric", "stability"]
    versions.record(versions.waiting())
    assert (
        changed() == {"stability"} and versions.version_of("metric", "stability") == "2"
    )
    edit("scoring/metrics/stability.py", "VERSION = 2", "VERSION = 1")
    with refused_naming("metric stability", "VERSION may only grow"):
        versions.record(versions.waiting())


def test_one_more_kind_of_the_registry_has_versions_at_once(
    edit, tmp_path, monkeypatch
):
    monkeypatch.setitem(registry.PACKAGES, "rule", "sae.rules")
    (tmp_path / "sae/rules").mkdir()
    (tmp_path / "sae/rules/mine.py").write_text("VERSION = 1\n")
    assert versions.waiting().keys() == {("rule", "mine")}
    versions.record(versions.waiting())
    assert (
        versions.joined([("rule", "mine"), ("metric", "probe")])
        == "metric probe 2, rule mine 1"
    )


def test_what_is_gone_leaves_the_lock_and_a_damaged_lock_is_named(edit, tmp_path):
    lock = tmp_path / "sae/versions.lock"
    before = lock.read_text()
    lock.write_text(before + "metric gone 1 00\n")
    assert "it is gone" in versions.waiting()["metric", "gone"]
    versions.record([("metric", "gone")])
    assert lock.read_text() == before
    with pytest.raises(UserError, match=r"nothing of the library .* metric gone"):
        versions.record([("metric", "gone")])
    lock.write_text("<<<<<<< ours\n" + before)
    with refused_naming("versions.lock", "KIND NAME VERSION HASH"):
        versions.version_of("metric", "probe")


@pytest.mark.parametrize(
    ("head", "version"),
    [
        ("", r"1\+[0-9a-f]{8}"),
        ("VERSION = 3\n", r"3\+[0-9a-f]{8}"),
        ("VERSION = '2b'\n", None),
    ],
)
def test_an_entry_of_ones_own_always_says_its_code(extend, head, version):
    code = f"{head}def penalty(batch):\n    return batch.a.sum(dim=1)\n"
    extend({"penalties/mine.py": code})
    if version:
        assert re.fullmatch(version, versions.version_of("penalty", "mine"))
        assert not versions.waiting()
    else:
        with refused_naming("penalty mine", "mine.py", "'2b'", "whole number"):
            versions.version_of("penalty", "mine")

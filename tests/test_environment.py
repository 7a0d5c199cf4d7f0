"""The ways to install agree, and name no host."""

import re
import tomllib

import yaml
from conftest import ROOT

# {lock: the groups that it covers}; all but the first add to that one.
LOCKS = {
    "requirements.lock": ("workflow", "dev"),
    "requirements-cluster.lock": ("s3", "cluster-test"),
    "requirements-docs.lock": ("docs",),
}


def normal(name):
    return re.sub(r"[-_.]+", "-", name).lower()


def pins(lines):
    found = [re.match(r"([A-Za-z0-9_.-]+)(.*)", line) for line in lines if line and not line.startswith("#")]
    return {normal(match[1]): match[2] for match in found}


def test_environment_and_lock_agree_and_cover_what_is_needed():
    lock = pins((ROOT / "requirements.lock").read_text().splitlines())
    environment = yaml.safe_load((ROOT / "environment.yml").read_text())
    conda = pins(environment["dependencies"][-1]["pip"])
    assert {name: lock[name] for name in conda} == conda
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    locked = LOCKS["requirements.lock"]
    needed = [project["dependencies"], *(project["optional-dependencies"][group] for group in locked)]
    needed = [name for group in needed for name in group]
    assert set(pins(needed)) <= set(conda) and set(pins(needed)) <= set(lock)


def test_the_small_locks_add_what_the_other_groups_need():
    lock, *small = (pins((ROOT / name).read_text().splitlines()) for name in LOCKS)
    groups = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    assert sorted(groups) == sorted(group for names in LOCKS.values() for group in names)
    for found, names in zip(small, list(LOCKS.values())[1:], strict=True):
        needed = [name for group in names for name in groups[group]]
        assert set(pins(needed)) <= set(found) and not set(found) & set(lock)


def test_only_torch_and_torchvision_are_ranges_and_no_host_is_named():
    text = "".join((ROOT / name).read_text() for name in LOCKS)
    ranges = {name for name, version in pins(text.splitlines()).items() if not version.startswith("==")}
    assert ranges == {"torch", "torchvision"}
    assert "://" not in text and "+cpu" not in text

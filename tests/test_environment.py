"""The ways to install agree, and name no host."""

import re
import tomllib

import yaml
from conftest import ROOT

LOCKED = ("workflow", "dev")  # groups that requirements.lock covers
LOCKS = ("requirements.lock", "requirements-cluster.lock")


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
    needed = [project["dependencies"], *(project["optional-dependencies"][group] for group in LOCKED)]
    needed = [name for group in needed for name in group]
    assert set(pins(needed)) <= set(conda) and set(pins(needed)) <= set(lock)


def test_the_cluster_lock_adds_what_the_other_groups_need():
    lock, cluster = (pins((ROOT / name).read_text().splitlines()) for name in LOCKS)
    groups = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    needed = [name for group, names in groups.items() if group not in LOCKED for name in names]
    assert set(pins(needed)) <= set(cluster) and not set(cluster) & set(lock)


def test_only_torch_and_torchvision_are_ranges_and_no_host_is_named():
    text = "".join((ROOT / name).read_text() for name in LOCKS)
    ranges = {name for name, version in pins(text.splitlines()).items() if not version.startswith("==")}
    assert ranges == {"torch", "torchvision"}
    assert "://" not in text and "+cpu" not in text

"""The ways to install agree, and name no host."""

import itertools
import re
import tomllib

import yaml
from conftest import ROOT

import sae
from sae.steps import FOR_USERS

# {lock: the groups that it covers}; all but the first add to that one.
LOCKS = {
    "requirements.lock": ("workflow", "dev"),
    "requirements-cluster.lock": ("s3", "cluster-test"),
    "requirements-docs.lock": ("docs",),
    "requirements-browser.lock": ("browser",),
}


def normal(name):
    return re.sub(r"[-_.]+", "-", name).lower()


def pins(lines):
    """Return {package: its version, as it is written} of a lock's lines."""
    matches = [
        re.match(r"([A-Za-z0-9_.-]+)(.*)", line)
        for line in lines
        if line and not line.startswith("#")
    ]
    return {normal(match[1]): match[2] for match in matches}


def test_environment_and_lock_agree_and_cover_what_is_needed():
    lock = pins((ROOT / "requirements.lock").read_text().splitlines())
    environment = yaml.safe_load((ROOT / "environment.yml").read_text())
    conda = pins(environment["dependencies"][-1]["pip"])
    assert {name: lock[name] for name in conda} == conda
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    locked = LOCKS["requirements.lock"]
    needed = [
        project["dependencies"],
        *(project["optional-dependencies"][group] for group in locked),
    ]
    needed = [name for group in needed for name in group]
    assert set(pins(needed)) <= set(conda) and set(pins(needed)) <= set(lock)


def test_the_small_locks_add_what_the_other_groups_need():
    lock, *small_locks = (
        pins((ROOT / name).read_text().splitlines()) for name in LOCKS
    )
    _, *groups_of_small_locks = LOCKS.values()
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    needs = project["optional-dependencies"]
    assert sorted(needs) == sorted(
        group for groups in LOCKS.values() for group in groups
    )
    for small_lock, groups in zip(small_locks, groups_of_small_locks, strict=True):
        needed = pins([name for group in groups for name in needs[group]])
        assert set(needed) <= set(small_lock)
        assert not set(small_lock) & set(lock)


def test_only_torch_and_torchvision_are_ranges_and_no_host_is_named():
    text = "".join((ROOT / name).read_text() for name in LOCKS)
    ranges = {
        name
        for name, version in pins(text.splitlines()).items()
        if not version.startswith("==")
    }
    assert ranges == {"torch", "torchvision"}
    assert "://" not in text and "+cpu" not in text


def test_ci_and_the_actions_run_targets_of_make_and_nothing_else():
    targets = set(
        re.findall(r"^([a-z-]+(?: [a-z-]+)*):", (ROOT / "Makefile").read_text(), re.M)
    )
    targets = {name for names in targets for name in names.split()}
    lines = (ROOT / ".ci/run").read_text().splitlines()
    targets_of_ci = {
        line.removeprefix("make ") for line in lines if line.startswith("make ")
    }
    commands = {line.split()[0] for line in lines if line and not line.startswith("#")}
    assert commands == {"set", "cd", "make"}

    targets_of_actions = set()
    for file in (ROOT / ".github/workflows").glob("*.yml"):
        for job in yaml.safe_load(file.read_text())["jobs"].values():
            matrix = job.get("strategy", {}).get("matrix", {})
            lines = [step.get("run", "") for step in job.get("steps", [])]
            for line, values in itertools.product(
                lines, itertools.product(*matrix.values())
            ):
                for key, value in zip(matrix, values, strict=True):
                    line = line.replace(f"${{{{ matrix.{key} }}}}", value)
                targets_of_actions.update(line.replace("make ", "").splitlines())
    assert targets_of_ci <= targets_of_actions <= targets


def test_one_version_everywhere_and_no_placeholders_in_the_citation():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert citation["version"] == sae.__version__
    readme = (ROOT / "README.md").read_text()
    assert f"version = {{{sae.__version__}}}" in readme
    assert f"title = {{{citation['title']}}}" in readme
    assert not re.search(
        r"TODO|FIXME|OWNER|example\.(com|org)|XXX", (ROOT / "CITATION.cff").read_text()
    )
    # Written on the day of a release; then the changelog has it too.
    if "date-released" in citation:
        assert re.search(
            rf"^## {re.escape(sae.__version__)}\b",
            (ROOT / "CHANGELOG.md").read_text(),
            re.M,
        )


def test_pages_that_say_how_to_install_name_the_distribution():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    for page in ("README.md", "docs/api.md"):
        text = (ROOT / page).read_text()
        assert set(re.findall(r"pip install ([\w-]+)", text)) == {project["name"]}, page


def test_what_is_stable_has_every_command_for_users_and_every_public_function():
    page = (ROOT / "docs/README.md").read_text()
    section = page.partition("## What is stable\n")[2]
    rows = dict(re.findall(r"^\| ([^|]+) \| (.+) \|$", section, re.M))
    named = set(re.findall(r"`([^`]+)`", rows["commands"]))
    assert named - {"python -m sae", "--help", "make help"} == set(FOR_USERS)
    functions = re.findall(r"`sae\.(\w+)`", rows["Python"])
    assert sorted(functions) == sorted(sae.__all__)

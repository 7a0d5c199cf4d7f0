"""Load config.yaml: its sections are typed one after another, then checked together.

What is wrong is said before any job starts. A check of YAML's values comes first, then
three rounds of checks. What one round finds is reported together, a line each, and no
later round follows; a round stops early where a check needs what another one found
wrong.
"""

import functools
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from sae.config.entries import head_of
from sae.config.experiment_checks import GONE_PROTOCOLS, check_experiment
from sae.config.extends import write_out_sections
from sae.config.methods import complete_methods
from sae.config.models import Config, entry_model
from sae.config.problems import Problems
from sae.config.yaml_file import check_json_values, parse_file
from sae.core import paths, registry
from sae.data.entries import NAMED_BY, DatasetEntry, Entry

# Kinds of entries with a section of their own, which is called by their plural.
KINDS_WITH_SECTION = ("dataset", "backbone", "metric", "protocol")
# Names that nobody would read as the name of one experiment.
MISLEADING_NAMES = ("all", "report", paths.RESULTS, "shared")


def read_config(path: str | Path) -> Config:
    """Return the config of a YAML file.

    Raises:
        UserError: as :func:`sae.config.yaml_file.parse_file` and :func:`load_config`.
    """
    return load_config(parse_file(path))


def load_config(
    raw: dict[str, Any],
    *,
    artifacts: Collection[str] | None = None,
    reserved: Collection[str] = (),
    files: Mapping[str, str] = {},
) -> Config:
    """Check a config as YAML gives it, and write out what its entries take over.

    Args:
        raw: The content of config.yaml. The entries in its folder `extensions` become
            known to this process.
        artifacts: The artifacts that there are; None: not checked.
        reserved: Names that no experiment can take, beside the folders of results/.
        files: {key: the file that says it}, where the config was read from several.

    Raises:
        UserError: one line for each problem, with the key, the value and what is
            allowed.
    """
    problems = Problems(files)
    check_json_values(raw, problems)
    problems.raise_all()

    # The first round: each key alone.
    extensions = raw.get("extensions")
    if isinstance(extensions, str | None):
        registry.extend(extensions)
    raw = write_out_sections(raw, problems)
    config = problems.validate(Config, raw)
    problems.raise_all()
    assert config is not None

    # The second round: entries and methods, by the options that their files have.
    for figure in config.figures:
        problems.read_entry(f"figures.{figure}", head_of, "figure", figure)
    entries: dict[str, dict[str, Any]] = {}
    for kind in KINDS_WITH_SECTION:
        entries[f"{kind}s"] = _complete_entries(kind, config, raw, artifacts, problems)
    entries["datasets"] = _complete_concepts(entries["datasets"], artifacts, problems)
    config = config.model_copy(update=entries)
    config = complete_methods(config, raw["methods"], problems)
    problems.raise_all()

    # The third round: experiments, which rest on all of these.
    taken_names = paths.shared_folders().union(reserved, MISLEADING_NAMES)
    for name in config.experiments:
        if name in taken_names:
            problems.add(
                f"experiments.{name}",
                "this name is taken by a rule, a folder or Snakemake; choose another",
            )
        check_experiment(config, name, problems)
    problems.raise_all()
    return config


def _complete_entries(
    kind: str,
    config: Config,
    raw: dict[str, Any],
    artifacts: Collection[str] | None,
    problems: Problems,
) -> dict[str, Entry]:
    """Return a section, each of its values of the class of the entry that it names."""
    section = f"{kind}s"
    # A dataset names its entry by `type`; a metric's own name is that of its entry.
    naming_key = NAMED_BY.get(kind)
    read_class = functools.cache(entry_model)
    complete_entries: dict[str, Entry] = {}
    for name, value in getattr(config, section).items():
        key = f"{section}.{name}"
        if kind == "protocol" and name in GONE_PROTOCOLS:
            problems.add(key, GONE_PROTOCOLS[name])
            continue
        if naming_key is None:
            entry_class = problems.read_entry(key, read_class, kind, name)
        else:
            entry = getattr(value, naming_key)
            entry_class = problems.read_entry(
                f"{key}.{naming_key}", read_class, kind, entry
            )
        if entry_class is None:
            continue
        complete = problems.validate(entry_class, raw[section][name] or {}, key)
        if complete is None:
            continue
        _check_artifacts(key, complete, artifacts, problems)
        complete_entries[name] = complete
    return complete_entries


def _complete_concepts(
    datasets: dict[str, Any], artifacts: Collection[str] | None, problems: Problems
) -> dict[str, DatasetEntry]:
    """Return the datasets, each with its `concepts` of the class of their source."""
    complete_datasets: dict[str, DatasetEntry] = {}
    for name, dataset in datasets.items():
        key = f"datasets.{name}.concepts"
        source = dataset.concepts.source
        annotation_class = problems.read_entry(
            f"{key}.source", entry_model, "annotation", source
        )
        if annotation_class is None:
            continue
        written = dataset.concepts.model_dump(exclude_unset=True)
        concepts = problems.validate(annotation_class, written, key)
        if concepts is None:
            continue
        _check_artifacts(key, concepts, artifacts, problems)
        complete_datasets[name] = dataset.model_copy(update={"concepts": concepts})
    return complete_datasets


def _check_artifacts(
    key: str, entry: Entry, artifacts: Collection[str] | None, problems: Problems
) -> None:
    if artifacts is not None:
        problems.check_names(f"{key}.artifacts", entry.artifact_names, artifacts)

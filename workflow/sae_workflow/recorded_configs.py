"""Which configurations made the results here.

Each run records its own with the results; `make prune` and `make check` read them.
config.yaml, with config/experiments, stands for itself, as it is today. What differs
from it (`--configfile config.yaml mine.yaml`) is recorded in the folder of each
experiment that a run is about. A later run with the same files takes the record's
place, so that a file that is edited has one record, not many.

Snakemake lacks it: its records hold a rule's parameters, not the config of a run.
"""

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sae.config.extends import experiment_written_out
from sae.config.models import Config
from sae.core import files, paths
from sae.core.errors import UserError
from sae_workflow import settings

_ADVICE = (
    "run that experiment again with its configuration, which records it anew; or "
    "delete the file: then what only it refers to counts as unused"
)


@dataclass(frozen=True)
class RecordedConfig:
    """A configuration that was recorded for an experiment.

    Attributes:
        file: Where it is recorded.
        configfiles: The files beside config.yaml that it was read from.
        config: The configuration, which has this experiment alone.
    """

    file: Path
    configfiles: list[str]
    config: Config


def record_run(workflow: Any, config: dict[str, Any]) -> None:
    """Record the config of a Snakemake that is about to run jobs.

    Args:
        workflow: Snakemake's object of that name.
        config: All config files, laid over each other.
    """
    # A rule without the wildcard may be the target rule of an experiment.
    experiments = {
        getattr(job.wildcards, "experiment", job.rule.name) for job in workflow.dag.jobs
    }
    write_records(
        config, experiments, workflow.configfiles, workflow.config_settings.config
    )


def write_records(
    config: dict[str, Any],
    experiments: Collection[str],
    configfiles: Collection[Path | str],
    options: dict[str, Any],
) -> None:
    """Record a config for some experiments.

    Where it says of an experiment just what config.yaml says, nothing is recorded, and
    an earlier record is deleted.

    Args:
        config: All config files, laid over each other.
        experiments: Names, of which those in the config count.
        configfiles: What the config was read from.
        options: What the command line said beside them (`--config`).
    """
    other_files = settings.beside_config_file(configfiles)
    source = {"configfiles": other_files, "options": options}
    name = files.sha256_text(files.dumps(source))[:16]
    usual_config = config
    if other_files or options:
        try:
            # Not loaded, which would forget the config's own folder of extensions.
            usual_config, _ = settings.merge_config_files("config.yaml")
        except UserError:  # It is right with what was laid over it, or is not there.
            usual_config = {}

    for experiment in sorted(experiments & config["experiments"].keys()):
        path = Path(
            paths.CONFIGURATION.format(experiment=experiment, configuration=name)
        )
        deciding_part = _part_that_decides_on_files(config, experiment)
        if deciding_part == _part_that_decides_on_files(usual_config, experiment):
            path.unlink(missing_ok=True)
            continue
        spec = experiment_written_out(config["experiments"], experiment)
        config_of_experiment = {**config, "experiments": {experiment: spec}}
        files.write_json(path, {**source, "config": config_of_experiment})


def _part_that_decides_on_files(
    config: dict[str, Any], experiment: str
) -> dict[str, Any]:
    """Return what of a config decides which files an experiment has.

    The machine does not.
    """
    experiments = config.get("experiments", {})
    spec = None
    if experiment in experiments:
        spec = experiment_written_out(experiments, experiment)
    return {**config, "compute": None, "experiments": spec}


def read_records(experiment: str = "*") -> Iterator[RecordedConfig]:
    """Yield each recorded configuration, sorted by its file.

    The entries from outside that a config names are known to this process until the
    next one is read.

    Args:
        experiment: Of which to read the records, by default of all.

    Raises:
        UserError: a record was altered, or its config is not right any more.
    """
    pattern = paths.CONFIGURATION.format(experiment=experiment, configuration="*")
    for file in sorted(Path().glob(pattern)):
        record = files.read_json(file, "recorded configuration", _ADVICE)
        try:
            config = settings.load(record["config"])
        except UserError as error:
            raise UserError(
                f"recorded configuration {file} is not right any more: {error}\n"
                f"{_ADVICE}"
            ) from None
        yield RecordedConfig(file, record["configfiles"], config)

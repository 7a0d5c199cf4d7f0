"""Which configurations made the results here: a run records its own with the results, for `make prune` to know.

config.yaml stands for itself, as it is today. What differs from it (`--configfile config.yaml mine.yaml`) is recorded
in the folder of each experiment that a run is about. A later run with the same files takes the record's place, so that
a file that is edited has one record, not many.
"""

import os
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

from sae.config.extends import experiment_written_out
from sae.config.models import Config
from sae.config.yaml_file import parse_file
from sae.core import files, paths
from sae.core.errors import UserError
from sae_workflow import settings

_ADVICE = (
    "run that experiment again with its configuration, which records it anew; or delete the file: then what only it "
    "refers to counts as unused"
)


def start(workflow: Any, config: dict[str, Any]) -> None:
    """Record the merged `config` of a Snakemake that is about to run jobs (its object `workflow`)."""
    about = {
        getattr(job.wildcards, "experiment", job.rule.name) for job in workflow.dag.jobs
    }
    write(config, about, workflow.configfiles, workflow.config_settings.config)


def write(
    config: dict[str, Any],
    experiments: Collection[str],
    configfiles: Collection[Path | str],
    options: dict[str, Any],
) -> None:
    """Record a config with some experiments, but where it says of them just what config.yaml does.

    Args:
        experiments: names, of which those in the config count.
        configfiles: what it was read from.
        options: what the command line said beside them (`--config`).
    """
    others = [
        os.path.relpath(file)
        for file in configfiles
        if os.path.relpath(file) != "config.yaml"
    ]
    source = {"configfiles": others, "options": options}
    name = files.sha256_text(files.dumps(source))[:16]
    usual = parse_file("config.yaml") if Path("config.yaml").exists() else {}
    for experiment in sorted(experiments & config["experiments"].keys()):
        path = Path(
            paths.CONFIGURATION.format(experiment=experiment, configuration=name)
        )
        if _deciding(config, experiment) == _deciding(usual, experiment):
            path.unlink(missing_ok=True)
        else:
            words = experiment_written_out(config["experiments"], experiment)
            only_it = {"experiments": {experiment: words}}
            files.write_json(path, source | {"config": config | only_it})


def _deciding(config: dict[str, Any], experiment: str) -> dict[str, Any]:
    """What of a config decides which files belong to an experiment: not the machine."""
    experiments = config.get("experiments", {})
    words = None
    if experiment in experiments:
        words = experiment_written_out(experiments, experiment)
    return config | {"compute": None, "experiments": words}


def read(experiment: str = "*") -> Iterator[tuple[Path, list[str], Config]]:
    """Each record that there is: (its file, the config files it was read from, the config with one experiment).

    The entries from outside that a config names are known to this process until the next one is read.

    Args:
        experiment: of which to read the records, by default of all.

    Raises:
        UserError: a record was altered, or its config is not right any more.
    """
    for path in sorted(
        Path().glob(
            paths.CONFIGURATION.format(experiment=experiment, configuration="*")
        )
    ):
        found = files.read_json(path, "recorded configuration", _ADVICE)
        try:
            config = settings.load(found["config"])
        except UserError as error:
            raise UserError(
                f"recorded configuration {path} is not right any more: {error}\n{_ADVICE}"
            ) from None
        yield path, found["configfiles"], config

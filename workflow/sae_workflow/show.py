"""Open an experiment's site in a browser, or say where it lies.

`make show EXPERIMENT=demo` does. While the experiment runs for the first time, this is
a site of the first cell whose SAEs are trained.

Snakemake lacks it: `--report` makes a page of a finished run.
"""

import os
import sys
import webbrowser
from pathlib import Path

from sae.config.models import Config
from sae.core import paths
from sae.core.errors import UserError
from sae_workflow import missing_inputs, settings
from sae_workflow.command_line import run_command, say


def show(experiment: str, *overlays: str) -> None:
    """Open the site of an experiment where there is a display.

    Args:
        experiment: The name of the experiment.
        overlays: Config files laid over config.yaml, if it was run with some.

    Raises:
        UserError: there is no site, and none can be written of a cell.
    """
    page = Path(paths.SITE.format(experiment=experiment))
    if not page.exists():
        config = settings.read_config("config.yaml", *overlays)
        page = write_first_look(config, experiment)
    if not (_has_display() and webbrowser.open(page.resolve().as_uri())):
        print(
            f"{page}: open it in a browser, here or where you copy the folder "
            f"{page.parent}"
        )


def write_first_look(config: Config, experiment: str) -> Path:
    """Write a site of the cell that was trained first: an SAE of each method.

    It is the first SAE that a protocol chose. Controls are left out.

    Args:
        config: The config of the experiment; reading it made entries of one's own
            known.
        experiment: The name of the experiment.

    Returns:
        The page to open.

    Raises:
        UserError: there is no such experiment, no cell of it is trained, or one of its
            files is gone or was altered.
    """
    missing_inputs.refuse_unknown_experiment(config, experiment)
    bank_file = _first_bank(config, experiment)

    # Imported here: they import PyTorch, and a site that is there needs none.
    from sae.bank.read import read
    from sae.report.names import Names
    from sae.report.site.explore import explore

    bank = read(bank_file)
    names = Names.model_validate(settings.printed_names(config, experiment))
    sae_of_method: dict[str, str] = {}
    for banked_sae in bank.saes:
        method = banked_sae.method
        is_shown = method in names.methods and not names.methods[method].control
        is_chosen = banked_sae.chosen and banked_sae.ok
        if is_shown and is_chosen and method not in sae_of_method:
            # It checks the file, and makes a link that is gone again.
            bank.open(banked_sae)
            sae_of_method[method] = str(bank_file.parent / banked_sae.path)
    if not sae_of_method:
        raise UserError(
            f"{bank_file} lists no SAE that was chosen for one of the methods of "
            f"{experiment}: wait for `make run EXPERIMENT={experiment}` to end"
        )

    page = Path(paths.FIRST_LOOK.format(experiment=experiment))
    say(
        f"{experiment} has no report yet: this shows {bank.dataset} / {bank.backbone} "
        f"/ k{bank.k} alone, an SAE of each method, and compares nothing"
    )
    explore(
        sae=list(sae_of_method.values()),
        method=[names.method(method) for method in sae_of_method],
        activations=Path(
            paths.ACTIVATIONS.format(dataset=bank.dataset, backbone=bank.backbone)
        ),
        dataset=Path(paths.DATASETS.format(dataset=bank.dataset)),
        artifacts=Path(paths.ARTIFACTS),
        out=page.parent,
    )
    return page


def _first_bank(config: Config, experiment: str) -> Path:
    """Return the bank of the experiment's cell that was trained first.

    Raises:
        UserError: none is trained.
    """
    bank_files = [
        Path(paths.BANK.format(experiment=experiment, **cell.wildcards))
        for cell in settings.cells(config, experiment)
    ]
    trained = [file for file in bank_files if file.exists()]
    if not trained:
        page = paths.SITE.format(experiment=experiment)
        raise UserError(
            f"{page} is not there, nor a cell whose SAEs are trained: make run "
            f"EXPERIMENT={experiment} writes them"
        )
    return min(trained, key=lambda file: file.stat().st_mtime)


def _has_display() -> bool:
    if sys.platform in ("darwin", "win32"):
        return True
    return any(os.environ.get(name) for name in ("DISPLAY", "WAYLAND_DISPLAY"))


if __name__ == "__main__":
    run_command(show)

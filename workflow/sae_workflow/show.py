"""Open an experiment's site in a browser, or say where it lies.

`make show EXPERIMENT=demo` does. While the experiment runs, this is a site of the first
cell whose SAEs are trained.
"""

import os
import sys
import webbrowser
from pathlib import Path

from sae.config.models import Config
from sae.core import paths
from sae_workflow import settings
from sae_workflow.command_line import run_command, say


def show(experiment: str, *overlays: str) -> int:
    """Open the site of an experiment where there is a display.

    Args:
        experiment: The name of the experiment.
        overlays: Config files laid over config.yaml, if it was run with some.

    Returns:
        The exit code: 1 if there is nothing to show.

    Raises:
        UserError: there is no site yet, and the config or what it was trained on cannot
            be read.
    """
    page = Path(paths.SITE.format(experiment=experiment))
    if not page.exists():
        bank_file = first_bank(experiment)
        if bank_file is None:
            print(
                f"error: {page} is not there, nor a cell whose SAEs are trained: make "
                f"run EXPERIMENT={experiment} writes them",
                file=sys.stderr,
            )
            return 1
        config = settings.read_config("config.yaml", *overlays)
        page = write_first_look(config, experiment, bank_file)
    if not (_has_display() and webbrowser.open(page.resolve().as_uri())):
        print(
            f"{page}: open it in a browser, here or where you copy the folder "
            f"{page.parent}"
        )
    return 0


def first_bank(experiment: str) -> Path | None:
    """Return the bank of the experiment's cell that was trained first, if there is one.

    Args:
        experiment: The name of the experiment.
    """
    pattern = paths.BANK.format(experiment=experiment, dataset="*", backbone="*", k="*")
    bank_files = list(Path().glob(pattern))
    if not bank_files:
        return None
    return min(bank_files, key=lambda file: file.stat().st_mtime)


def write_first_look(config: Config, experiment: str, bank_file: Path) -> Path:
    """Write a site of a cell: of each method one SAE that a protocol chose.

    Controls are left out.

    Args:
        config: Has the labels of methods; reading it made entries of one's own known.
        experiment: The name of the experiment.
        bank_file: The bank of the cell.

    Returns:
        The page to open.
    """
    # Imported here: they import PyTorch, and a site that is there needs none.
    from sae.bank.read import read
    from sae.report.site.explore import explore

    bank = read(bank_file)
    label_of_method = {
        name: method.label or name
        for name, method in config.methods.items()
        if not method.control
    }
    sae_of_label: dict[str, str] = {}
    for banked_sae in bank.saes:
        label = label_of_method.get(banked_sae.method)
        if label and banked_sae.judged and banked_sae.path:
            sae_file = bank_file.parent / banked_sae.path
            sae_of_label.setdefault(label, str(sae_file))

    page = Path(paths.FIRST_LOOK.format(experiment=experiment))
    say(
        f"{experiment} has no report yet: this shows {bank.dataset} / {bank.backbone} "
        f"/ k{bank.k} alone, an SAE of each method, and compares nothing"
    )
    explore(
        sae=list(sae_of_label.values()),
        method=list(sae_of_label),
        activations=Path(
            paths.ACTIVATIONS.format(dataset=bank.dataset, backbone=bank.backbone)
        ),
        dataset=Path(paths.DATASETS.format(dataset=bank.dataset)),
        artifacts=Path(paths.ARTIFACTS),
        out=page.parent,
    )
    return page


def _has_display() -> bool:
    if sys.platform in ("darwin", "win32"):
        return True
    return any(os.environ.get(name) for name in ("DISPLAY", "WAYLAND_DISPLAY"))


if __name__ == "__main__":
    run_command(show)

"""What bank.json holds: every SAE of a cell. Its SAEs are opened here, checked, their links restored."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from sae.bank import finished
from sae.core import files
from sae.core.errors import UserError
from sae.core.paths import trial_name
from sae.models import saefile
from sae.models.coder import Coder


@dataclass(frozen=True)
class Entry:
    """One SAE of a bank.

    Attributes:
        method, protocol, trial, seed: as in `sae.bank.plan.Member`.
        settings: what trained it; `objective`, `penalty` are names, `m` the number of its latents.
        key: of the store; `trained` is another one where its thresholds were fixed anew.
        sha256: of its file; None if it diverged.
        status: 'ok' or 'diverged'.
        step: the last one.
        judged: whether it is among those that a protocol chose to be judged.
    """

    method: str
    protocol: str
    trial: dict[str, Any]
    seed: int
    settings: dict[str, Any]
    key: str
    trained: str
    sha256: str | None
    status: str
    step: int
    path: str | None
    judged: bool = False

    @property
    def ok(self) -> bool:
        """Whether there is an SAE to open."""
        return self.status == "ok"

    @property
    def name(self) -> str:
        """The trial as paths have it."""
        return trial_name(self.trial)


@dataclass(frozen=True)
class Bank:
    """A cell's SAEs.

    Attributes:
        file: bank.json; the links to its SAEs lie beside it.
        dataset, backbone, k: the cell.
        input_scale: the factor of its inputs, after their norm.
        store: folder of the SAEs themselves, relative to that of `file`.
        saes: protocol by protocol, in the order in which they were asked for.
        facts: {protocol: what it found out of the cell}, such as the number of steps.
    """

    file: Path
    dataset: str
    backbone: str
    k: int
    input_scale: float
    store: str
    saes: list[Entry]
    facts: dict[str, dict[str, Any]]

    def write(self) -> None:
        """Write `file`; links of SAEs that it does not list go."""
        finished.unlink_others(self.file.parent, {entry.path for entry in self.saes})
        files.write_json(
            self.file, {n: v for n, v in asdict(self).items() if n != "file"}
        )

    def siblings(self, entry: Entry) -> list[Entry]:
        """The SAEs that differ from one of them in the seed alone, and can be opened."""
        same = (entry.protocol, entry.method, entry.name)
        return [
            e
            for e in self.saes
            if e.ok and e.seed != entry.seed and (e.protocol, e.method, e.name) == same
        ]

    def open(self, entry: Entry) -> Coder:
        """Load one of the SAEs, its hash checked; a missing link is restored from the store.

        Args:
            entry: one that is `ok`.

        Raises:
            UserError: the SAE is in neither place, or was altered.
        """
        assert entry.path is not None and entry.sha256 is not None
        path = self.file.parent / entry.path
        if not path.exists():
            stored = self.file.parent / self.store / entry.key
            if not (stored / path.name).is_file():
                raise UserError(
                    f"{path} is gone, and {stored} too; delete {self.file} and run again"
                )
            finished.link(stored, path)
        advice = f"delete {path.resolve().parent} and {self.file}, and run again"
        files.check_sum(path, entry.sha256, self.file, advice)
        return saefile.load(path)


def read(file: Path | str) -> Bank:
    """The bank in a file.

    Raises:
        UserError: the file is missing or altered.
    """
    content = files.read_json(file, "bank")
    try:
        return Bank(
            Path(file),
            **content | {"saes": [Entry(**entry) for entry in content["saes"]]},
        )
    except (KeyError, TypeError) as error:
        raise UserError(
            f"{file} is of another version of this project ({error}); delete it and run again"
        ) from None

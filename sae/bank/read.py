"""A bank: the SAEs of a cell, as bank.json lists them.

A bank opens its SAEs. Each is checked when it is opened, and a link that is gone is
made again.
"""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from sae.bank.store import link_sae, unlink_unlisted
from sae.core import files
from sae.core.errors import UserError
from sae.core.paths import trial_name
from sae.models import saefile
from sae.models.coder import Coder


@dataclass(frozen=True)
class BankedSae:
    """One SAE of a bank.

    Attributes:
        method, protocol, trial, seed: As in `sae.bank.plan.Member`.
        settings: What it was trained with. `objective` and `penalty` are names, `m` is
            the number of its latents.
        key: Its folder in the store.
        trained: The key that it was trained under. It is not `key` where thresholds
            were fixed once more afterwards.
        sha256: Hash of its file; None if it diverged.
        status: "ok" or "diverged".
        step: Number of its last training step.
        path: Of its file, relative to the folder of bank.json; None if it diverged.
        judged: Whether a protocol chose it to get every score.
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
        """Return whether there is an SAE to open."""
        return self.status == "ok"

    @property
    def name(self) -> str:
        """The trial as paths print it."""
        return trial_name(self.trial)


@dataclass(frozen=True)
class Bank:
    """The SAEs of a cell.

    Attributes:
        file: Path of bank.json. The links to its SAEs lie beside it.
        dataset, backbone, k: The cell.
        input_scale: The factor of its inputs, after their norm.
        store: Folder of the SAEs themselves, relative to that of `file`.
        saes: Its SAEs, protocol by protocol, in the order in which each asked for them.
        facts: {protocol: what it found out about the cell}, such as a number of steps;
            under `sae.bank.plan.LEFT_OUT` {method: why the cell goes without its SAE}.
    """

    file: Path
    dataset: str
    backbone: str
    k: int
    input_scale: float
    store: str
    saes: list[BankedSae]
    facts: dict[str, dict[str, Any]]

    def write(self) -> None:
        """Write bank.json, and remove the links of SAEs that the bank does not list."""
        listed_paths = {sae.path for sae in self.saes}
        unlink_unlisted(self.file.parent, listed_paths)

        content = asdict(self)
        del content["file"]
        files.write_json(self.file, content)

    def siblings(self, sae: BankedSae) -> list[BankedSae]:
        """Return the SAEs that differ from one of the bank in the seed alone.

        Those that diverged are left out.
        """
        return [
            candidate
            for candidate in self.saes
            if candidate.ok
            and candidate.seed != sae.seed
            and candidate.protocol == sae.protocol
            and candidate.method == sae.method
            and candidate.name == sae.name
        ]

    def open(self, sae: BankedSae) -> Coder:
        """Check and load one SAE of the bank.

        If its link is gone, it is made again from the store.

        Args:
            sae: One that is `ok`.

        Raises:
            UserError: The SAE is neither in the bank nor in the store, or was altered.
        """
        assert sae.path is not None and sae.sha256 is not None
        path = self.file.parent / sae.path

        if not path.exists():
            stored_folder = self.file.parent / self.store / sae.key
            if not (stored_folder / path.name).is_file():
                raise UserError(
                    f"{path} is gone, and {stored_folder} too; delete {self.file} and "
                    "run again"
                )
            link_sae(stored_folder, path)

        real_folder = path.resolve().parent
        advice = f"delete {real_folder} and {self.file}, and run again"
        files.check_sum(path, sae.sha256, self.file, advice)
        return saefile.load(path)


def read(file: Path | str) -> Bank:
    """Read a bank from its bank.json.

    Raises:
        UserError: The file is missing or altered, or another version wrote it.
    """
    content = files.read_json(file, "bank")
    try:
        content["saes"] = [BankedSae(**record) for record in content["saes"]]
        return Bank(Path(file), **content)
    except (KeyError, TypeError) as error:
        raise UserError(
            f"{file} is of another version of this project ({error}); delete it and "
            "run again"
        ) from None

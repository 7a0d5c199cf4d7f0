"""A bank: the SAEs of a cell, as bank.json lists them.

A bank opens its SAEs. Each is checked when it is opened, and a link that is gone is
made again.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sae.bank.sae import Sae
from sae.bank.store import link_sae, unlink_unlisted
from sae.core import files
from sae.core.errors import UserError
from sae.models import saefile
from sae.models.coder import Coder


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
    saes: list[Sae]
    facts: dict[str, dict[str, Any]]

    def write(self) -> None:
        """Write bank.json, and remove the links of SAEs that the bank does not list."""
        listed_paths = {sae.path for sae in self.saes if sae.ok}
        unlink_unlisted(self.file.parent, listed_paths)

        content = {**vars(self), "saes": [sae.to_record() for sae in self.saes]}
        del content["file"]
        files.write_json(self.file, content)

    def siblings(self, sae: Sae) -> list[Sae]:
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

    def open(self, sae: Sae) -> Coder:
        """Check and load one SAE of the bank.

        If its link is gone, it is made again from the store.

        Args:
            sae: One that is `ok`.

        Raises:
            UserError: The SAE is neither in the bank nor in the store, or was altered.
        """
        assert sae.sha256 is not None
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
        cell = {name: content[name] for name in ("dataset", "backbone", "k")}
        content["saes"] = [Sae.from_record(cell, record) for record in content["saes"]]
        return Bank(Path(file), **content)
    except (KeyError, TypeError) as error:
        raise UserError(
            f"{file} is of another version of this project ({error}); delete it and "
            "run again"
        ) from None

"""One SAE, from the plan that asks for it to the tables that it is in.

Nothing here imports torch, because the workflow counts SAEs by plans.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from sae.core import paths
from sae.core.options import later_options
from sae.training.recipe import Settings


@dataclass(frozen=True)
class Sae:
    """One SAE of a cell: to be trained, or trained.

    Attributes:
        dataset, backbone, k: Its cell.
        method: Name of its method.
        trial: {option: value} in which it differs from the method's other SAEs, apart
            from the seed; empty if the method sweeps nothing.
        seed: Its seed.
        protocol: Name of the protocol that asks for it.
        settings: What it is trained with. In a bank, `m` is the number of its latents,
            and if it was made elsewhere, the hash of its file stands for its options.
            Read from bank.json, it has no `log_every`.
        made_by: All that decides it. It is empty in a plan, and read from bank.json.
        key: Its folder in the store: the hash of `made_by`.
        trained: The key that it was trained under. It is not `key` where thresholds
            were fixed once more afterwards.
        status: "planned", "ok" or "diverged".
        step: Number of its last training step, from 0; -1 where nothing was trained.
        sha256: Hash of its file; None if there is none.
        chosen: Whether a protocol chose it to get every score (in bank.json `judged`).
        warnings: What its training warned of, as the store has it; not in bank.json.
    """

    dataset: str
    backbone: str
    k: int
    method: str
    trial: dict[str, Any]
    seed: int
    protocol: str
    settings: Settings
    made_by: dict[str, Any] = field(default_factory=dict)
    key: str = ""
    trained: str = ""
    status: str = "planned"
    step: int = -1
    sha256: str | None = None
    chosen: bool = False
    warnings: tuple[str, ...] = ()

    @property
    def ok(self) -> bool:
        """Return whether there is an SAE to open."""
        return self.status == "ok"

    @property
    def cell(self) -> str:
        """The cell as messages call it, such as `digits / tiny / k4`."""
        return f"{self.dataset} / {self.backbone} / k{self.k}"

    @property
    def name(self) -> str:
        """The trial as paths print it, such as `lambda0.001-lr0.002`."""
        return paths.trial_name(self.trial)

    @property
    def table_key(self) -> tuple[str, str, int]:
        """What names it in tables of its cell: (method, name of the trial, seed)."""
        return self.method, self.name, self.seed

    @property
    def path(self) -> str:
        """The path of its file, relative to the folder of its bank."""
        return paths.SAE.format(method=self.method, trial=self.name, seed=self.seed)

    def __str__(self) -> str:
        return f"{self.method} {self.name} seed {self.seed}"

    def to_record(self) -> dict[str, Any]:
        """Return what bank.json has of it, under the cell's names."""
        return {
            "method": self.method,
            "protocol": self.protocol,
            "trial": self.trial,
            "seed": self.seed,
            "settings": self.settings.model_dump(by_alias=True, exclude={"log_every"}),
            "key": self.key,
            "trained": self.trained,
            "sha256": self.sha256,
            "status": self.status,
            "step": self.step,
            "path": self.path if self.ok else None,
            "judged": self.chosen,
        }

    @classmethod
    def from_record(cls, cell: Mapping[str, Any], record: Mapping[str, Any]) -> "Sae":
        """Read what :meth:`to_record` gave.

        Args:
            cell: Its dataset, backbone and k.
            record: The record of bank.json.

        Raises:
            KeyError, TypeError: The record is of another version.
        """
        fields = dict(record)
        del fields["path"]
        fields["chosen"] = fields.pop("judged")
        # They were checked when it was trained, perhaps by code that is not here.
        settings = {**later_options(Settings), **fields["settings"]}
        fields["settings"] = Settings.model_construct(**settings)
        return cls(**cell, **fields)

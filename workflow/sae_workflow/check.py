"""Check the files of an experiment against the hashes that were written with them.

`make check` does, and a run at its end.
"""

import sys
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import pyarrow as pa
import pyarrow.parquet as pq

from sae.core import files, paths, seals
from sae.core.errors import UserError
from sae.data.splits import SPLITS
from sae_workflow import expected_files, times
from sae_workflow.command_line import run_command, say

T = TypeVar("T")

# (dataset, backbone, k)
Cell = tuple[str, str, int]
CELL_COLUMNS = ("dataset", "backbone", "k")
# Folders of an experiment whose files hold no hash: logs with times of jobs, what is
# laid out for the hub, and the site of one cell, which is for a moment.
UNSEALED_FOLDERS = ("logs", "hub", "first_look")


@dataclass(frozen=True)
class ListedFiles:
    """The files that a sealed file lists, with their hashes.

    Attributes:
        source: The sealed file.
        sha256_of_name: {path relative to the folder of `source`: SHA-256}.
    """

    source: Path
    sha256_of_name: dict[str, str]


class Check:
    """All files of an experiment, checked.

    These are the files below results/{experiment} that hold a seal or that a list of
    sums names, the SAEs of its banks with their logs, the embeddings and datasets that
    those were made of, and all other embeddings that its metrics read. Once there are
    metrics, its banks are those of the metrics: an earlier config may have left others.

    Attributes:
        count: How many files were checked.
        problems: What is wrong, a line each.
    """

    def __init__(self, experiment: str, missing: Collection[str] = ()) -> None:
        """Check the files.

        Args:
            experiment: The name of the experiment.
            missing: Files of which it is known that they are not there.
        """
        self.count = 0
        self.problems: list[str] = []
        self._missing = set(map(Path, missing))
        self._folder = Path(paths.EXPERIMENT.format(experiment=experiment))
        # What files of the experiment tell of others; metrics are None until read.
        self._metrics: pa.Table | None = None
        self._embedded_pairs: list[tuple[str, str]] = []
        self._saes_of_cell: dict[Cell, ListedFiles] = {}

        self._check_files_of_experiment()
        cells = self._cells()
        for cell in cells:
            self._check_saes(cell)
        for dataset, backbone in self._embedded_datasets(cells):
            self._check_embeddings(dataset, backbone)
        for dataset in sorted({dataset for dataset, _, _ in cells}):
            self._check_index(dataset)

    def _check_files_of_experiment(self) -> None:
        """Check the files below results/{experiment}, and what lists of sums name."""
        for file in sorted(self._folder.rglob("*")):
            if file.relative_to(self._folder).parts[0] in UNSEALED_FOLDERS:
                continue
            if file.suffix == ".parquet":
                content = self._try(seals.read_sealed, file)
                if content and file == self._folder / "metrics.parquet":
                    metrics = pq.read_table(pa.BufferReader(content))
                    # A table without rows tells of no cells.
                    self._metrics = metrics if len(metrics) else None
            elif file.suffix == ".json":
                record = self._try(files.read_json, file)
                if not record:
                    continue
                if file.name.endswith(".sums.json"):
                    self._check_listed(ListedFiles(file, record))
                elif file == self._folder / "made_by.json":
                    self._embedded_pairs = times.embedded_pairs(record)
                elif file.name.startswith("bank"):
                    self._note_saes(record, file)

    def _note_saes(self, bank: dict[str, Any], file: Path) -> None:
        """Keep what the file of a bank lists until it is known which banks count."""
        cell = (bank["dataset"], bank["backbone"], bank["k"])
        sha256_of_name = {
            entry["path"]: entry["sha256"] for entry in bank["saes"] if entry["path"]
        }
        self._saes_of_cell[cell] = ListedFiles(file, sha256_of_name)

    def _cells(self) -> list[Cell]:
        """Return the cells of the metrics; without metrics, those of all banks."""
        if self._metrics is None:
            return sorted(self._saes_of_cell)
        columns = [self._metrics[name].to_pylist() for name in CELL_COLUMNS]
        return sorted(set(zip(*columns, strict=True)))

    def _embedded_datasets(self, cells: list[Cell]) -> list[tuple[str, str]]:
        """Return (dataset, backbone) of the cells, and of what judged their latents."""
        of_cells = [(dataset, backbone) for dataset, backbone, _ in cells]
        return sorted({*of_cells, *self._embedded_pairs})

    def _check_saes(self, cell: Cell) -> None:
        if cell in self._saes_of_cell:
            self._check_listed(self._saes_of_cell[cell])
        else:
            self.problems.append(
                f"{self._folder}: the metrics are of {' / '.join(map(str, cell))}, "
                "which has no bank.json"
            )

    def _check_embeddings(self, dataset: str, backbone: str) -> None:
        for split in SPLITS:
            file = Path(
                paths.EMBEDDINGS_MANIFEST.format(
                    dataset=dataset, backbone=backbone, split=split
                )
            )
            manifest = self._try(files.read_json, file)
            if manifest:
                self._check_listed(ListedFiles(file, manifest["sha256"]))

    def _check_index(self, dataset: str) -> None:
        file = Path(paths.DATASET.format(dataset=dataset))
        manifest = self._try(files.read_json, file)
        if manifest:
            self._check_listed(ListedFiles(file, {"index.parquet": manifest["sha256"]}))

    def _check_listed(self, listed: ListedFiles) -> None:
        """Check each file that a sealed file lists."""
        for name, sha256 in listed.sha256_of_name.items():
            file = listed.source.parent / name
            if file not in self._missing:
                self._try(files.check_sum, file, sha256, listed.source)

    def _try(self, check: Callable[..., T], file: Path, *arguments: object) -> T | None:
        """Check a file, and note what is wrong with it.

        Args:
            check: Takes the file and the arguments, and raises what is wrong.
            file: The file.
            arguments: What `check` takes besides.

        Returns:
            What `check` returns; None if something is wrong.
        """
        self.count += 1
        # Of a file that is missing it is said once.
        if file in self._missing:
            return None
        try:
            return check(file, *arguments)
        except (UserError, OSError) as error:
            self.problems.append(str(error))
            return None


def report_damage(experiment: str, missing: Collection[str] = ()) -> int:
    """Say what is wrong with the files that an experiment has.

    Args:
        experiment: The name of the experiment.
        missing: Files of which it is said elsewhere that they are not there.

    Returns:
        0 if nothing is wrong, else 1.
    """
    check = Check(experiment, missing)
    for problem in check.problems:
        print(f"error: {problem}", file=sys.stderr)
    if not check.count:
        print(f"error: results/{experiment} holds nothing to check", file=sys.stderr)
    if check.problems or not check.count:
        return 1
    say(f"checked: {check.count} files of {experiment} are as they were written")
    return 0


def report_missing(experiment: str, missing: list[str] | None) -> int:
    """Say which files an experiment lacks, if that is known.

    Args:
        experiment: The name of the experiment.
        missing: The files; None where no configuration of it is known.

    Returns:
        1 if it lacks some, else 0.
    """
    if missing is None:
        say(
            f"no configuration of {experiment} is known here, so nobody can say "
            "whether files are missing"
        )
        return 0
    if not missing:
        return 0
    count = "1 file is" if len(missing) == 1 else f"{len(missing)} files are"
    print(
        f"error: {experiment} is incomplete, {count} missing: "
        f"{expected_files.name_missing_files(missing)}. Run it again: what is there is "
        "not made anew",
        file=sys.stderr,
    )
    return 1


def main(experiment: str) -> int:
    """Say what is wrong with an experiment's files, and which are missing.

    Returns:
        0 if all is well, else 1.
    """
    try:
        missing = expected_files.missing_files(experiment)
    except UserError as error:
        # The files that are there can be checked all the same.
        print(
            f"error: which files are missing nobody can say: {error}", file=sys.stderr
        )
        report_damage(experiment)
        return 1
    is_damaged = report_damage(experiment, missing or ())
    is_incomplete = report_missing(experiment, missing)
    return max(is_damaged, is_incomplete)


if __name__ == "__main__":
    run_command(main)

"""Check the files of an experiment against the hashes that were written with them.

`make check` does, and a run at its end. Snakemake lacks it: it compares an input's
checksum with that of the last run to decide on a rerun, and never looks at a finished
file that was altered.
"""

import sys
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any, TypeVar

import pyarrow as pa
import pyarrow.parquet as pq

from sae.bank import store
from sae.core import files, paths, seals
from sae.core.errors import UserError
from sae.data.splits import SPLITS
from sae_workflow import expected_files, times
from sae_workflow.command_line import run_command, say

T = TypeVar("T")

# (dataset, backbone, k)
Cell = tuple[str, str, int]
# Folders of an experiment whose files hold no hash: logs with times of jobs, what is
# laid out for the hub, and the site of one cell, which is for a moment.
UNSEALED_FOLDERS = ("logs", "hub", "first_look")


class Check:
    """All files of an experiment, checked.

    These are the files below results/{experiment} that hold a seal or that a list of
    sums names, the SAEs of its banks with their logs and what the store says of them,
    the embeddings and datasets that those were made of, with what people call their
    images, and all other embeddings that its metrics read. Once there are
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
        folder = Path(paths.EXPERIMENT.format(experiment=experiment))
        cells_of_metrics: set[Cell] = set()
        pairs: set[tuple[str, str]] = set()  # (dataset, backbone) that was read
        # {cell: its bank's file, and what that says}
        banks: dict[Cell, tuple[Path, dict[str, Any]]] = {}

        for file in sorted(folder.rglob("*")):
            if file.relative_to(folder).parts[0] in UNSEALED_FOLDERS:
                continue
            if file.suffix == ".parquet":
                content = self._try(seals.read_sealed, file)
                if content and file == folder / "metrics.parquet":
                    metrics = pq.ParquetFile(pa.BufferReader(content)).read(
                        use_threads=False
                    )
                    names = ("dataset", "backbone", "k")
                    columns = [metrics[name].to_pylist() for name in names]
                    cells_of_metrics = set(zip(*columns, strict=True))
            elif file.suffix == ".json":
                record = self._try(files.read_json, file)
                if not record:
                    continue
                if file.name.endswith(".sums.json"):
                    self._check_listed(file, record)
                elif file == folder / "made_by.json":
                    pairs.update(times.embedded_pairs(record))
                elif file.name == Path(paths.BANK).name:
                    cell = (record["dataset"], record["backbone"], record["k"])
                    banks[cell] = (file, record)

        cells = cells_of_metrics or set(banks)
        for cell in sorted(cells):
            if cell not in banks:
                self.problems.append(
                    f"{folder}: the metrics are of {' / '.join(map(str, cell))}, which "
                    "has no bank.json"
                )
                continue
            file, bank = banks[cell]
            saes = [entry for entry in bank["saes"] if entry["path"]]
            self._check_listed(file, {sae["path"]: sae["sha256"] for sae in saes})
            for entry in bank["saes"]:
                stored_folder = Path(paths.STORE) / entry["key"]
                self._try(store.read_result, stored_folder / store.RESULT_FILE)

        pairs.update((dataset, backbone) for dataset, backbone, _ in cells)
        for dataset, backbone in sorted(pairs):
            for split in SPLITS:
                place = {"dataset": dataset, "backbone": backbone, "split": split}
                file = Path(paths.EMBEDDINGS_MANIFEST.format(**place))
                manifest = self._try(files.read_json, file)
                if manifest:
                    self._check_listed(file, manifest["sha256"])
        for dataset in sorted({dataset for dataset, _, _ in cells}):
            self._check_dataset(dataset)

    def _check_dataset(self, dataset: str) -> None:
        file = Path(paths.DATASET.format(dataset=dataset))
        manifest = self._try(files.read_json, file)
        if manifest:
            self._check_listed(file, {"index.parquet": manifest["sha256"]})
        file = Path(paths.CONCEPTS.format(dataset=dataset))
        concepts = self._try(files.read_json, file) if file.exists() else None
        if concepts:
            self._check_listed(file, concepts["sha256"])

    def _check_listed(self, source: Path, sha256_of_name: dict[str, str]) -> None:
        """Check each file that a sealed file lists, by its path relative to that."""
        for name, sha256 in sha256_of_name.items():
            file = source.parent / name
            if file not in self._missing:
                self._try(files.check_sum, file, sha256, source)

    def _try(self, check: Callable[..., T], file: Path, *arguments: object) -> T | None:
        """Return what a check of a file returns; of what is wrong note a line."""
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
    problems = list(check.problems)
    if not check.count:
        problems.append(f"results/{experiment} holds nothing to check")
    for problem in problems:
        print(f"error: {problem}", file=sys.stderr)
    if problems:
        return 1
    say(f"checked: {check.count} files of {experiment} are as they were written")
    return 0


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
    if missing is None:
        say(
            f"no configuration of {experiment} is known here, so nobody can say "
            "whether files are missing"
        )
    if not missing:
        return is_damaged
    count = "1 file is" if len(missing) == 1 else f"{len(missing)} files are"
    print(
        f"error: {experiment} is incomplete, {count} missing: "
        f"{expected_files.name_missing_files(missing)}. Run it again: what is there is "
        "not made anew",
        file=sys.stderr,
    )
    return 1


if __name__ == "__main__":
    run_command(main)

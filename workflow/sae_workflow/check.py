"""Check the files of an experiment against the hashes that were written with them: `make check`, and after a run."""

import sys
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any, TypeVar

import pyarrow as pa
import pyarrow.parquet as pq

from sae.core import files, paths, seals
from sae.core.errors import UserError
from sae.data.splits import SPLITS
from sae_workflow import expected, times
from sae_workflow.start import say, start

T = TypeVar("T")


class Check:
    """All files of an experiment, checked.

    These are the files below results/{experiment} that hold a seal or that a list of sums names, the SAEs of its banks
    with their logs, the embeddings and datasets that those were made of, and the embeddings of judges. Once there are
    metrics, its banks are those of the metrics: an earlier config may have left others. Logs, times of jobs and what is
    laid out for the hub hold no hash.

    Attributes:
        count: how many files were checked.
        wrong: what is wrong, a line each.

    Args:
        missing: files of which it is known that they are not there.
    """

    def __init__(self, experiment: str, missing: Collection[str] = ()) -> None:
        self._missing = {*map(Path, missing)}
        self.count = 0
        self.wrong: list[str] = []
        folder = Path(paths.EXPERIMENT.format(experiment=experiment))
        metrics = Path(paths.METRICS.format(experiment=experiment))
        saes: dict[tuple[str, str, int], tuple[dict[str, str], Path]] = {}
        table = None
        for file in sorted(folder.rglob("*")):
            is_unsealed = file.relative_to(folder).parts[0] in ("logs", "hub")
            if is_unsealed or file.suffix not in (".json", ".parquet"):
                continue
            if file.suffix == ".parquet":
                if (data := self._tried(seals.read_sealed, file)) and file == metrics:
                    table = pq.read_table(pa.BufferReader(data))
            elif content := self._tried(files.read_json, file):
                if file.name.endswith(".sums.json"):
                    self._listed(content, file)
                elif file.name.startswith("bank"):
                    sums = {
                        entry["path"]: entry["sha256"]
                        for entry in content["saes"]
                        if entry["path"]
                    }
                    saes[content["dataset"], content["backbone"], content["k"]] = (
                        sums,
                        file,
                    )
        cell = ("dataset", "backbone", "k")
        banks = (
            {*zip(*(table[name].to_pylist() for name in cell), strict=True)}
            if table
            else {*saes}
        )
        for bank in sorted(banks):
            if bank in saes:
                self._listed(*saes[bank])
            else:
                self.wrong.append(
                    f"{folder}: the metrics are of {' / '.join(map(str, bank))}, which has no bank.json"
                )
        cells = {(dataset, backbone) for dataset, backbone, _ in banks}
        judges = times.judges(table.column_names) if table else []
        cells |= {(dataset, judge) for dataset, _ in cells for judge in judges}
        for dataset, backbone in sorted(cells):
            for split in SPLITS:
                file = Path(
                    paths.EMBEDDINGS_MANIFEST.format(
                        dataset=dataset, backbone=backbone, split=split
                    )
                )
                if manifest := self._tried(files.read_json, file):
                    self._listed(manifest["sha256"], file)
        for dataset in sorted({dataset for dataset, _ in cells}):
            file = Path(paths.DATASET.format(dataset=dataset))
            if manifest := self._tried(files.read_json, file):
                self._listed({"index.parquet": manifest["sha256"]}, file)

    def _tried(self, check: Callable[..., T], *args: Any) -> T | None:
        self.count += 1
        # Of a file that is missing it is said once.
        if args and args[0] in self._missing:
            return None
        try:
            return check(*args)
        except (UserError, OSError) as error:
            self.wrong.append(str(error))
        return None

    def _listed(self, sums: dict[str, str], source: Path) -> None:
        """Check the files that the sealed file `source` lists."""
        for name, digest in sums.items():
            if source.parent / name not in self._missing:
                self._tried(files.check_sum, source.parent / name, digest, source)


def report(experiment: str, missing: Collection[str] = ()) -> int:
    """Say what is wrong with the files that an experiment has; 0 if nothing is.

    Args:
        missing: files of which it is said elsewhere that they are not there.
    """
    check = Check(experiment, missing)
    for line in check.wrong:
        print(f"error: {line}", file=sys.stderr)
    if not check.count:
        print(f"error: results/{experiment} holds nothing to check", file=sys.stderr)
    if check.wrong or not check.count:
        return 1
    say(f"checked: {check.count} files of {experiment} are as they were written")
    return 0


def report_missing(experiment: str, missing: list[str] | None) -> int:
    """Say which files an experiment lacks, if that is known; 0 unless it lacks some."""
    if missing is None:
        say(
            f"no configuration of {experiment} is known here, so nobody can say whether "
            "files are missing"
        )
        return 0
    if not missing:
        return 0
    count = "1 file is" if len(missing) == 1 else f"{len(missing)} files are"
    print(
        f"error: {experiment} is incomplete, {count} missing: "
        f"{expected.in_words(missing)}. Run it again: what is there is not made anew",
        file=sys.stderr,
    )
    return 1


def main(experiment: str) -> int:
    """Say what is wrong with an experiment's files, and which are missing; 0 if all is well."""
    try:
        missing = expected.missing(experiment)
    except UserError as error:
        # The files that are there can be checked all the same.
        print(
            f"error: which files are missing nobody can say: {error}", file=sys.stderr
        )
        return max(1, report(experiment))
    codes = [report(experiment, missing or ()), report_missing(experiment, missing)]
    return max(codes)


if __name__ == "__main__":
    start(main)

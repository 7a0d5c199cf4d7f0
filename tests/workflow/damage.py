"""Flip one bit of a finished experiment at a time, and run every job that reads it.

`test_damage.py` runs this in a folder with results, in a process of its own, since it
forks: a job then waits for no import. It reads {jobs, seed, count} as JSON, and prints
a JSON list of {file, byte, outcomes}.
"""

import json
import os
import random
import shlex
import sys
import tempfile
from pathlib import Path

# Imported before the forks: what the jobs import.
import matplotlib.pyplot as plt
import sklearn.linear_model  # noqa: F401
import torch  # noqa: F401
from sae_workflow.check import Check

from sae.__main__ import main

RESULTS = Path("results")


def kind(file: Path) -> str:
    """Return the kind of a file: files of one kind are read by the same code."""
    parts = file.relative_to(RESULTS).parts
    folders = parts[:2] if parts[0] == "tiny" else parts[:1]
    return "/".join([*folders, parts[-1]])


def readers(file: Path, jobs: list[dict]) -> list[dict]:
    """Return the jobs that read a file, or may.

    Those that read one undeclared are known by its place.
    """
    path = file.as_posix()
    rules = []
    if "/store/" in path:
        rules = ["train", "score", "robustness", "probe", "gallery", "site"]
    elif "/.rows/" in path:
        rules = [path.partition("/.rows/")[2].partition("/")[0]]
    elif "/.embedding-" in path:
        rules = ["embed"]
    elif file.name == "times.json":
        rules = ["site"]
    return [job for job in jobs if path in job["inputs"] or job["rule"] in rules]


def run(job: dict, damaged: Path) -> tuple[int, str]:
    """Run a job, whose outputs are gone before it begins, as under Snakemake.

    Returns:
        Its exit code, and what it printed.
    """
    for output in map(Path, job["outputs"]):
        if output != damaged:
            output.unlink(missing_ok=True)
    arguments = shlex.split(job["command"].rpartition("python -m sae ")[2])
    with tempfile.TemporaryFile("w+") as printed:
        pid = os.fork()
        if not pid:
            os.dup2(printed.fileno(), 1)
            os.dup2(printed.fileno(), 2)
            os._exit(main(arguments))
        code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        printed.seek(0)
        return code, printed.read()


def outcome(job: dict, damaged: Path, undamaged: dict[Path, bytes]) -> str:
    """Run a job that reads a damaged file, and say what came of it.

    Args:
        job: The job.
        damaged: The file.
        undamaged: {file: its content before any damage}.

    Returns:
        'error' for one clear line, 'same' for the right result, or what is wrong.
    """
    code, printed = run(job, damaged)
    if code:
        clear = printed.count("error: ") == 1 and "Traceback" not in printed
        return "error" if clear else f"{job['rule']}: no clear error: {printed[-2000:]}"
    outputs = [output for output in map(Path, job["outputs"]) if output != damaged]
    changed = [
        str(output)
        for output in outputs
        if not output.exists() or output.read_bytes() != undamaged[output]
    ]
    return f"{job['rule']}: another result: {changed}" if changed else "same"


def restore(undamaged: dict[Path, bytes]) -> None:
    """Give every file its content back, in place: some are hard links of others."""
    for file, content in undamaged.items():
        if not file.exists() or file.read_bytes() != content:
            file.parent.mkdir(parents=True, exist_ok=True)
            with open(file, "r+b" if file.exists() else "wb") as opened:
                opened.truncate()
                opened.write(content)


def experiment(jobs: list[dict], seed: int, count: int) -> list[dict]:
    """Damage `count` files, drawn by kind and then by file."""
    draw = random.Random(seed)
    plt.switch_backend("agg")
    # Logs and times of jobs are for people: no number of a result comes from them.
    skipped = {"logs", "locks"}
    undamaged = {
        file: file.read_bytes()
        for file in sorted(RESULTS.rglob("*"))
        if file.is_file()
        and not file.is_symlink()
        and (file.name == "times.json" or not set(file.parts) & skipped)
    }
    files_by_kind: dict[str, list[Path]] = {}
    for file in undamaged:
        files_by_kind.setdefault(kind(file), []).append(file)

    damages = []
    for _ in range(count):
        file = draw.choice(files_by_kind[draw.choice(list(files_by_kind))])
        place = draw.randrange(len(undamaged[file]))
        damaged = bytearray(undamaged[file])
        damaged[place] ^= 1 << draw.randrange(8)
        with open(file, "r+b") as opened:
            opened.write(damaged)
        outcomes = []
        folder = file.parts[1]
        is_checked = folder in ("tiny", "store", "datasets") or (
            folder == "activations" and "finished" not in file.parts
        )
        if is_checked:
            if Check("tiny").problems or file.name == "times.json":
                outcomes.append("error")
            else:
                outcomes.append("`make check` is content")
        outcomes += [outcome(job, file, undamaged) for job in readers(file, jobs)]
        damages.append({"file": str(file), "byte": place, "outcomes": outcomes})
        restore(undamaged)
    return damages


if __name__ == "__main__":
    json.dump(experiment(**json.load(sys.stdin)), sys.stdout)

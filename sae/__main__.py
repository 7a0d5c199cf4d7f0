"""The command line: every step of the workflow, to run and debug without Snakemake.

Steps import only what they need, so that `python -m sae fetch` does not wait for torch.
"""

import signal

from sae.core import faults

if __name__ == "__main__":
    faults.stop_on_signals()
    if hasattr(signal, "pthread_sigmask"):  # Not on Windows. The workflow holds Ctrl-C back until a job can take it.
        signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGINT])

import argparse
import json
import logging
import os
import re
import socket
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from sae.core import codehash, files, own, registry, workers
from sae.core.errors import UserError


def fetch(a: argparse.Namespace) -> None:
    from sae.data.fetch import fetch

    fetch(a.name, a.settings, a.root)


def weights(a: argparse.Namespace) -> None:
    from sae.data.weights import fetch

    fetch(a.name, a.settings, a.out)


def download(a: argparse.Namespace) -> None:
    from sae.data.download import download

    download(a.name, a.settings, a.out)


def dataset(a: argparse.Namespace) -> None:
    from sae.data import dataset as datasets

    datasets.build(a.name, a.settings, a.artifacts, a.out, workers=a.workers)


def embed(a: argparse.Namespace) -> None:
    from sae.data.embed import Job, embed

    s = a.settings
    place = (Path(a.dataset), s["name"], s["backbone"], Path(a.artifacts), Path(a.out))
    embed(Job(*place, s["batch_size"], _torch(a), a.workers, a.shards, a.shared), a.shard)


def train(a: argparse.Namespace) -> None:
    from sae.bank.plan import Plan
    from sae.bank.train import Place
    from sae.protocols import _cell

    plan, place = Plan.model_validate(a.settings), Place(Path(a.store), Path(a.out), a.shared)
    where = (plan, Path(a.activations), place, Path(a.selected))
    device = _torch(a)
    if a.at_once == 1:
        _cell.train(*where, device=device)
        return
    # By the module's own name: that of the main module means another one in a new process, and in a server's child.
    from sae.__main__ import _begin_worker

    told = argparse.Namespace(**{name: value for name, value in vars(a).items() if name != "run"})
    with workers.pool(a.at_once, _begin_worker, told) as side_by_side:
        _cell.train(*where, device=device, side_by_side=side_by_side)


def score(a: argparse.Namespace) -> None:
    from sae.scoring.stage import run

    others = dict(other.split("=", 1) for other in a.others)
    run(a.stage, a.bank, a.activations, a.settings, a.out, others=others, device=_torch(a))


def probe(a: argparse.Namespace) -> None:
    from sae.scoring.metrics.probe import probe_embeddings

    probe_embeddings(a.activations, a.settings, a.out, device=_torch(a))


def encode(a: argparse.Namespace) -> None:
    from sae.models.apply import encode

    options = {"activations": a.activations, "artifacts_root": a.artifacts, "workers": a.workers, "k": a.k}
    encode(a.sae, a.source, a.out, device=_torch(a), **options)


def import_(a: argparse.Namespace) -> None:
    from sae.models.convert import Options, import_

    options = Options(k=a.k, input_norm=a.input_norm, input_scale=a.input_scale)
    import_(a.place, a.format, options, Path(a.out), a.check)


def export(a: argparse.Namespace) -> None:
    from sae.models import saefile
    from sae.models.convert import export

    export(saefile.load(a.sae), a.format, Path(a.out))


def collect(a: argparse.Namespace) -> None:
    from sae.scoring.collect import collect

    collect(a.scores, a.stages, a.references, a.out)


def tables(a: argparse.Namespace) -> None:
    from sae.report.tables import write

    write(a.metrics, a.published, a.settings, a.out)


def claims(a: argparse.Namespace) -> None:
    from sae.report.claims import write

    write(a.metrics, a.curves, a.published, a.settings, a.out)


def gallery(a: argparse.Namespace) -> None:
    from sae.report.gallery import build

    build(a.bank, a.latents, a.activations, a.dataset, a.artifacts, a.settings, a.out, device=_torch(a))


def plot(a: argparse.Namespace) -> None:
    from sae.report.plot import plot

    plot(a.figure, a.results, a.settings, a.out)


def report(a: argparse.Namespace) -> None:
    from sae.report.page import write

    write(a.results, a.manifests, a.published, a.settings, a.out, times=a.times)


class Step(NamedTuple):
    """A step: what runs it, what it does, its required arguments, and what its settings hold (None: it has none)."""

    run: Callable[[argparse.Namespace], None]
    text: str
    arguments: str
    settings: str | None = None


ARGUMENTS = {
    "name": "its name",
    "sae": "sae.safetensors",
    "place": "a checkpoint: a file, a folder, or owner/name[:folder] on the Hugging Face hub",
    "source": "embeddings (.npy) or a folder of images",
    "root": "folder of artifacts",
    "artifacts": "folder of artifacts",
    "dataset": "folder of the dataset's index",
    "activations": "folder of the splits' activations",
    "store": "folder of finished SAEs",
    "bank": "bank.json",
    "scores": "folders with the scores of each bank",
    "selected": "folder that gets selection.parquet",
    "stages": "the stages to join",
    "references": "files that `probe` wrote",
    "latents": "latents.parquet of the bank",
    "metrics": "metrics.parquet",
    "published": "folder of the paper's tables as CSV",
    "curves": "curves.parquet",
    "figure": "an entry of sae/report/figures",
    "stage": "score, robustness or probe",
    "results": "folder of the experiment's tables",
    "manifests": "manifests of the embeddings' train splits",
    "out": "file or folder to write",
}
MANY = {"scores": "+", "stages": "+", "references": "*", "manifests": "+"}
_NAMES = "methods, datasets, backbones: what is printed for each"
STEPS = {
    "fetch": Step(fetch, "fetch one artifact", "name root", "the artifact's specification"),
    "weights": Step(weights, "bring a backbone's weights into the hub's cache", "name out", "the backbone's entry"),
    "download": Step(download, "bring a dataset's images below its root", "name out", "the dataset's entry"),
    "dataset": Step(dataset, "build a dataset's index and splits", "name artifacts out", "the dataset's entry"),
    "embed": Step(
        embed,
        "embed a dataset with a backbone",
        "dataset artifacts out",
        "name, backbone (its entry), batch_size",
    ),
    "train": Step(
        train, "train a cell's SAEs and choose among them", "activations store selected out", "see `sae.bank.plan.Plan`"
    ),
    "score": Step(score, "score a bank", "stage bank activations out", "metrics: {name: its options}"),
    "probe": Step(probe, "probe the embeddings themselves", "activations out", "the options of the metric `probe`"),
    "encode": Step(encode, "apply a trained SAE to new embeddings or images", "sae source out"),
    "import": Step(import_, "turn another library's SAE into a file of this project", "<place> out"),
    "export": Step(export, "write an SAE for another library", "<sae> out"),
    "collect": Step(collect, "join the scores of all banks", "scores stages references out"),
    "tables": Step(tables, "write the paper's tables", "metrics published out", _NAMES),
    "claims": Step(claims, "judge the paper's claims", "metrics curves published out", f"claims (the rule), {_NAMES}"),
    "gallery": Step(
        gallery, "find the images of Figs. 1 to 3", "bank latents activations dataset artifacts out", _NAMES
    ),
    "plot": Step(plot, "draw one figure", "figure results out", _NAMES),
    "report": Step(
        report,
        "write the experiment's page",
        "results manifests published out",
        f"experiment (its name), figures, config (the parts it uses), {_NAMES}",
    ),
}


def parser() -> argparse.ArgumentParser:
    """The argument parser."""
    top = argparse.ArgumentParser(prog="python -m sae", description=__doc__)
    top.add_argument(
        "--extensions",
        default=os.environ.get("SAE_EXTENSIONS") or None,
        help="folder with entries of your own (`extensions` in config.yaml); by default $SAE_EXTENSIONS",
    )
    steps = top.add_subparsers(dest="step", required=True)
    for name, step in STEPS.items():
        sub = steps.add_parser(name, help=step.text, description=step.text)
        sub.set_defaults(run=step.run)
        for argument in step.arguments.split():
            if argument.startswith("<"):
                sub.add_argument(argument.strip("<>"), help=ARGUMENTS[argument.strip("<>")])
                continue
            many: dict[str, Any] = {"nargs": MANY[argument]} if argument in MANY else {}
            sub.add_argument(f"--{argument}", required=True, help=ARGUMENTS[argument], **many)
        if step.settings:
            sub.add_argument("--settings", type=_settings, required=True, help=f"JSON, or @FILE: {step.settings}")
        _add_options(sub, step.run)
        code = "the hash that the step's code is to have, then the modules that it covers (`sae.core.codehash`)"
        sub.add_argument(
            "--code",
            nargs="+",
            metavar=("HASH", "MODULE"),
            help=argparse.SUPPRESS if step.run in (encode, import_, export) else code,
        )
        text = "also write a detailed log to this file and, if all goes well, what it took to one beside it, .tsv"
        sub.add_argument("--log", type=Path, help=text)
    return top


def _add_options(sub: argparse.ArgumentParser, run: Callable) -> None:
    if run in (embed, train, score, probe, gallery, encode):
        sub.add_argument("--threads", type=_from(1), default=1, help="CPU threads of torch; results depend on it")
        sub.add_argument("--device", default="cpu", help="cpu, cuda, cuda:1, mps, or auto for the best there is")
    if run is encode:
        sub.add_argument("--activations", help="for images: the embeddings the SAE was trained on, embedded alike")
        sub.add_argument("--artifacts", default="results/artifacts", help=ARGUMENTS["artifacts"])
        sub.add_argument("--k", type=_from(1), help="activations to keep; the SAE's own number by default")
    if run in (dataset, embed, encode):
        sub.add_argument("--workers", type=_from(0), default=0, help="processes that decode images; 0: this one")
    if run is embed:
        sub.add_argument("--shards", type=int, default=1, help="parts to cut the work into")
        sub.add_argument("--shard", type=int, help="embed this part only, from 0; without it all, and join them")
    if run is train:
        sub.add_argument("--at-once", type=_from(1), default=1, help="SAEs to train side by side, with the same result")
    if run in (embed, train):
        what = "of activations of this dataset and backbone" if run is embed else "of finished SAEs"
        help_text = f"other people's folders {what}, read only, with `{os.pathsep}` between them"
        sub.add_argument("--shared", type=_paths, default=(), help=help_text)
    if run in (import_, export):
        names = ["auto", *registry.names("importer")] if run is import_ else registry.names("exporter")
        sub.add_argument("--format", choices=names, required=run is export, default="auto")
    if run is import_:
        sub.add_argument("--k", type=_from(1), help="latents that are kept, where the checkpoint does not say")
        sub.add_argument("--input-norm", choices=("none", "unit_l2", "unit_l2_layernorm"), help="of its inputs")
        sub.add_argument("--input-scale", type=float, help="the factor of its inputs after their norm")
        sub.add_argument("--check", type=Path, help="embeddings.npy: compare with the format's own arithmetic")
    if run is score:
        sub.add_argument("--others", nargs="*", default=(), help="NAME=FOLDER of other backbones' activations")
    if run is report:
        sub.add_argument("--times", help="JSON: rows of step, jobs, minutes, longest, memory")


def main(argv: list[str] | None = None) -> int:
    """Run one step; a `UserError`, or a fault of the machine, becomes one line on stderr and an exit code.

    What fails by an entry of one's own becomes three.
    """
    a = parser().parse_args(argv)
    log, started = logging.getLogger("sae"), time.monotonic()
    try:
        _log_to(a.log)
        registry.extend(a.extensions)
        _check_code(a)
        a.run(a)
        _check_code(a)  # Again: files of an extension that are not Python may have been read at any time.
        if a.log:
            _write_usage(a.log.with_suffix(".tsv"), time.monotonic() - started)
    except UserError as error:
        log.error("error: %s", error)
        return 1
    except (Exception, SystemExit) as error:  # `Stopped` is one, and code of one's own may raise another.
        if fault := faults.explain(error, a.step):
            # Ctrl-C reaches every job of a run, which says so itself, once.
            told = fault[1] == 128 + signal.SIGINT and "SAE_RUN" in os.environ
            log.log(logging.INFO if told else logging.ERROR, "error: %s", fault[0])
            return fault[1]
        theirs = own.explain(error, a.step)
        if theirs:
            log.error("error: %s%s", theirs, f"\n  the whole traceback is in {a.log}" if a.log else "")
        log.log(logging.DEBUG if theirs and a.log else logging.ERROR, "%s failed", a.step, exc_info=True)
        return 1
    return 0


def _check_code(a: argparse.Namespace) -> None:
    if a.code is None:
        return
    planned, *modules = a.code
    found = codehash.code_hash(*modules)
    if found != planned:
        raise UserError(
            f"the code of the step {a.step} was edited after this run was planned (its hash is {found}, planned was "
            f"{planned}; {', '.join(modules)}): run again, to plan with the code as it is then"
        )


def _write_usage(file: Path, seconds: float) -> None:
    # Columns as in Snakemake's `benchmark`, which does not see what a server runs: seconds, and MiB at the highest, of
    # this process and of the largest that it started.
    try:
        import resource
    except ImportError:  # Windows
        return
    both = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    unit = 2**20 if sys.platform == "darwin" else 2**10
    cpu, memory = sum(u.ru_utime + u.ru_stime for u in both), sum(u.ru_maxrss for u in both) / unit
    with suppress(OSError):  # As a log that a full disk cuts short: what the step made is whole.
        files.write_text(file, f"s\tcpu_time\tmax_rss\n{seconds:.2f}\t{cpu:.2f}\t{memory:.0f}\n")


def _begin_worker(a: argparse.Namespace) -> None:
    """Make a process that trains for a job ready: the same code, entries, threads and device."""
    codehash.run_what_is_hashed()
    registry.extend(a.extensions)
    _check_code(a)
    _torch(a)


def _settings(text: str) -> Any:
    try:
        return json.loads(Path(text[1:]).read_text() if text.startswith("@") else text)
    except (OSError, json.JSONDecodeError) as error:
        raise argparse.ArgumentTypeError(f"not JSON: {error}") from None


def _from(least: int) -> Callable[[str], int]:
    def number(text: str) -> int:
        if not re.fullmatch("[0-9]{1,4}", text) or int(text) < least:
            raise argparse.ArgumentTypeError(f"{text} is not a whole number from {least} to 9999")
        return int(text)

    return number


def _paths(text: str) -> tuple[Path, ...]:
    return tuple(Path(part) for part in text.split(os.pathsep) if part)


def _log_to(file: Path | None) -> None:
    # The terminal gets progress and trouble, the file everything.
    root = logging.getLogger("sae")
    root.setLevel(logging.DEBUG)
    console = logging.StreamHandler()
    console.addFilter(lambda record: record.name == "sae.progress" or record.levelno >= logging.WARNING)
    root.addHandler(console)
    if file is not None:
        file.parent.mkdir(parents=True, exist_ok=True)
        handler = _LogFile(file, mode="w", encoding="utf-8", errors="backslashreplace")
        handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
        root.addHandler(handler)


class _LogFile(logging.FileHandler):
    def handleError(self, record: logging.LogRecord) -> None:
        # A full disk cuts the log short. The step tells of it, once, if it cannot write either.
        if not isinstance(sys.exc_info()[1], OSError):
            super().handleError(record)


def _torch(a: argparse.Namespace) -> str:
    # cuBLAS is deterministic only with a fixed workspace, which it reads when CUDA starts.
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    # Large arrays in large pages: in small ones the system's paging took a third of a paper-sized training step.
    os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")
    import torch

    torch.set_num_threads(a.threads)
    # What `use_deterministic_algorithms(True)` does, without importing the compiler, which takes 1.6 s a job.
    torch.set_deterministic_debug_mode("error")
    # How many there are of each.
    cuda = torch.cuda.device_count() if torch.cuda.is_available() else 0
    there = {"cuda": cuda, "mps": int(torch.backends.mps.is_available()), "cpu": 1}
    if a.device == "auto":
        return next(device for device, count in there.items() if count)
    named = re.fullmatch(rf"({'|'.join(there)})(?::(\d+))?", a.device)
    if not named:
        raise UserError(f"device {a.device!r} is not known; allowed: auto, {', '.join(there)}, cuda:1 for the second")
    if int(named[2] or 0) >= there[named[1]]:
        raise UserError(
            f"PyTorch {torch.__version__} finds no {a.device} on {socket.gethostname()}: ask for one, install a build "
            "of PyTorch that knows it, or take cpu (--device; compute.device in config.yaml)"
        )
    return a.device


if __name__ == "__main__":
    codehash.run_what_is_hashed()
    sys.exit(main())

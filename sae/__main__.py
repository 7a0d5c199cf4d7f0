"""The command line: every step of the workflow, to run and debug without Snakemake.

Steps import only what they need, so that `python -m sae fetch` does not wait for torch.
"""

import argparse
import json
import logging
import os
import socket
import sys
from pathlib import Path

from sae.core import faults
from sae.core.errors import UserError


def fetch(a):
    from sae.data.fetch import fetch

    fetch(a.name, a.settings, a.root)


def weights(a):
    from sae.data.weights import fetch

    fetch(a.name, a.settings, a.out)


def download(a):
    from sae.data.download import download

    download(a.name, a.settings, a.out)


def dataset(a):
    from sae.data import dataset as datasets

    datasets.build(a.name, a.settings, a.artifacts, a.out, workers=a.workers)


def embed(a):
    from sae.data.embed import Job, embed

    s = a.settings
    place = (Path(a.dataset), s["name"], s["backbone"], Path(a.artifacts), Path(a.out))
    embed(Job(*place, s["batch_size"], _torch(a), a.workers, a.shards, a.shared), a.shard)


def train(a):
    from sae.bank.train import train_bank

    train_bank(a.settings, a.activations, _place(a), device=_torch(a))


def score(a):
    from sae.scoring.score import score_bank

    score_bank(a.bank, a.activations, a.scores, a.curves, device=_torch(a))


def ablate(a):
    from sae.bank.ablation import ablate_bank

    ablate_bank(a.bank, a.scores, a.activations, _place(a), device=_torch(a))


def _place(a):
    from sae.bank.train import Place

    part = None if a.part is None else (a.part, a.parts)
    return Place(Path(a.store), Path(a.out), a.shared, part)


def evaluate(a):
    from sae.scoring.evaluate import evaluate_bank

    judges = dict(judge.split("=", 1) for judge in a.judges)
    files = (a.bank, a.ablation, a.scores)
    evaluate_bank(*files, a.activations, judges, a.settings, a.out, device=_torch(a))


def probe(a):
    from sae.scoring.evaluate import probe_embeddings

    _torch(a)
    probe_embeddings(a.activations, a.settings, a.out)


def encode(a):
    from sae.models.apply import encode

    options = {"activations": a.activations, "artifacts_root": a.artifacts, "workers": a.workers, "k": a.k}
    encode(a.sae, a.source, a.out, device=_torch(a), **options)


def collect(a):
    from sae.scoring.collect import collect

    collect(a.banks, a.references, a.out)


def table(a):
    from sae.report.tables import write

    write(int(a.number), a.metrics, a.published, a.out)


def claims(a):
    from sae.report.claims import write

    write(a.metrics, a.curves, a.published, a.settings, a.out)


def gallery(a):
    from sae.report.gallery import build

    files = (a.bank, a.scores, a.latents)
    build(*files, a.activations, a.dataset, a.artifacts, a.out, device=_torch(a))


def plot(a):
    from importlib import import_module

    from sae.report.figures import FIGURES

    import_module(FIGURES[a.figure].module).draw(a.results, a.out, a.figure)


def report(a):
    from sae.report.page import write

    write(a.results, a.manifests, a.published, a.settings, a.out)


ARGUMENTS = {
    "name": "its name",
    "sae": "sae.safetensors",
    "source": "embeddings (.npy) or a folder of images",
    "root": "folder of artifacts",
    "artifacts": "folder of artifacts",
    "dataset": "folder of the dataset's index",
    "activations": "folder of the splits' activations",
    "store": "folder of finished SAEs",
    "bank": "bank.json",
    "scores": "the bank's scores (score: writes them)",
    "ablation": "bank_all.json",
    "judges": "NAME=FOLDER of the activations of each other backbone; may be none",
    "banks": "folders with the scores of each bank",
    "references": "files that `probe` wrote",
    "latents": "latents.parquet of the bank",
    "metrics": "metrics.parquet",
    "number": "which of the paper's tables",
    "published": "folder of the paper's tables as CSV",
    "curves": "curves.parquet (score: writes it)",
    "figure": "which figure: lambda, fig1 to fig5, fig5_probe",
    "results": "folder of the experiment's tables",
    "manifests": "manifests of the embeddings' train splits",
    "out": "file or folder to write",
}
MANY = {"banks": "+", "references": "+", "judges": "*", "manifests": "+"}
# Step: function, what it does, arguments, and what its settings hold (None: it has none).
STEPS = {
    "fetch": (fetch, "fetch one artifact", "name root", "the artifact's specification"),
    "weights": (weights, "bring a backbone's weights into the hub's cache", "name out", "the backbone's specification"),
    "download": (download, "bring a dataset's images below its root", "name out", "the dataset's specification"),
    "dataset": (dataset, "build a dataset's index and splits", "name artifacts out", "the dataset's specification"),
    "embed": (
        embed,
        "embed a dataset with a backbone",
        "dataset artifacts out",
        "name, backbone (its specification), batch_size",
    ),
    "train": (
        train,
        "train a bank of SAEs",
        "activations store out",
        "dataset, backbone, k, seeds, mask, lambdas, training",
    ),
    "score": (score, "score a bank on val and test", "bank activations scores curves", None),
    "ablate": (ablate, "train a bank's mask ablation", "bank scores activations store out", None),
    "evaluate": (
        evaluate,
        "probes, independent MS and latents of a bank's chosen SAEs, and its ablation's scores",
        "bank ablation scores activations judges out",
        "largest (K of the probes), probe (C, max_iter, max_train)",
    ),
    "probe": (probe, "probe the embeddings themselves", "activations out", "probe (C, max_iter, max_train)"),
    "encode": (encode, "apply a trained SAE to new embeddings or images", "sae source out", None),
    "collect": (collect, "join scores and choose lambda", "banks references out", None),
    "table": (table, "write one of the paper's tables", "number metrics published out", None),
    "claims": (claims, "judge the paper's claims", "metrics curves published out", "the rule: `claims` of config.yaml"),
    "gallery": (
        gallery,
        "find the images of Figs. 1 to 3",
        "bank scores latents activations dataset artifacts out",
        None,
    ),
    "plot": (plot, "draw one figure", "figure results out", None),
    "report": (
        report,
        "write the experiment's page",
        "results manifests published out",
        "experiment (its name), figures, config (the parts it uses)",
    ),
}


def parser():
    """The argument parser."""
    top = argparse.ArgumentParser(prog="python -m sae", description=__doc__)
    steps = top.add_subparsers(dest="step", required=True)
    for name, (function, text, arguments, settings) in STEPS.items():
        step = steps.add_parser(name, help=text, description=text)
        step.set_defaults(run=function)
        for argument in arguments.split():
            many = {"nargs": MANY[argument]} if argument in MANY else {}
            step.add_argument(f"--{argument}", required=True, help=ARGUMENTS[argument], **many)
        if settings:
            step.add_argument("--settings", type=_settings, required=True, help=f"JSON, or @FILE: {settings}")
        if function in (embed, train, score, ablate, evaluate, probe, gallery, encode):
            step.add_argument("--threads", type=int, default=1, help="CPU threads of torch; results depend on it")
            step.add_argument("--device", default="cpu", help="cpu, cuda, mps, or auto for the best there is")
        if function is encode:
            step.add_argument("--activations", help="for images: the embeddings the SAE was trained on, embedded alike")
            step.add_argument("--artifacts", default="results/artifacts", help=ARGUMENTS["artifacts"])
            step.add_argument("--k", type=int, help="activations to keep; the SAE's own number by default")
        if function in (dataset, embed, encode):
            step.add_argument("--workers", type=int, default=0, help="processes that decode images; 0: this one")
        if function is embed:
            step.add_argument("--shards", type=int, default=1, help="parts to cut the work into")
            step.add_argument("--shard", type=int, help="embed this part only, from 0; without it all, and join them")
        if function in (train, ablate):
            step.add_argument("--parts", type=int, default=1, help="parts to cut the bank into")
            step.add_argument("--part", type=int, help="train this part only, from 0; without it all, and write")
        if function in (embed, train, ablate):
            what = "of activations of this dataset and backbone" if function is embed else "of finished SAEs"
            help_text = f"other people's folders {what}, read only, with `{os.pathsep}` between them"
            step.add_argument("--shared", type=_paths, default=(), help=help_text)
        step.add_argument("--log", type=Path, help="also write a detailed log to this file")
    return top


def main(argv=None):
    """Run one step; a `UserError`, or a fault of the machine, becomes one line on stderr and an exit code."""
    a = parser().parse_args(argv)
    log = logging.getLogger("sae")
    try:
        _log_to(a.log)
        a.run(a)
    except UserError as error:
        log.error("error: %s", error)
        return 1
    except (Exception, faults.Stopped) as error:
        line, code = faults.explain(error, a.step) or (None, 1)
        if line is None:
            log.exception("%s failed", a.step)
        else:
            log.error("error: %s", line)
        return code
    return 0


def _settings(text):
    try:
        return json.loads(Path(text[1:]).read_text() if text.startswith("@") else text)
    except (OSError, json.JSONDecodeError) as error:
        raise argparse.ArgumentTypeError(f"not JSON: {error}") from None


def _paths(text):
    return tuple(Path(part) for part in text.split(os.pathsep) if part)


def _log_to(file):
    # The terminal gets progress and trouble, the file everything.
    root = logging.getLogger("sae")
    root.setLevel(logging.DEBUG)
    console = logging.StreamHandler()
    console.addFilter(lambda record: record.name == "sae.progress" or record.levelno >= logging.WARNING)
    root.addHandler(console)
    if file is not None:
        file.parent.mkdir(parents=True, exist_ok=True)
        handler = _LogFile(file, mode="w", encoding="utf-8")
        handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
        root.addHandler(handler)


class _LogFile(logging.FileHandler):
    def handleError(self, record):
        # A full disk cuts the log short. That is for the step to tell, once, if it cannot write either.
        if not isinstance(sys.exc_info()[1], OSError):
            super().handleError(record)


def _torch(a):
    # cuBLAS is deterministic only with a fixed workspace, which it reads when CUDA starts.
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    import torch

    torch.set_num_threads(a.threads)
    # What `use_deterministic_algorithms(True)` does, without importing the compiler, which takes 1.6 s a job.
    torch.set_deterministic_debug_mode("error")
    there = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if a.device == "auto":
        return next(device for device, usable in there.items() if usable)
    if not there.get(a.device.split(":")[0], True):
        raise UserError(
            f"PyTorch {torch.__version__} finds no {a.device} on {socket.gethostname()}: ask for one, install a build "
            "of PyTorch that knows it, or set compute.device to cpu"
        )
    return a.device


if __name__ == "__main__":
    faults.stop_on_signals()
    sys.exit(main())

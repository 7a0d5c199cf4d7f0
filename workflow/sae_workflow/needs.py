"""What each job asks a cluster for, from its sizes: memory and time, twice as much at each retry.

The sizes are here, what a job takes for each is in workflow/resources/costs.yaml (measured: bench/memory.py), with a
margin. For a dataset or backbone of which nothing is known, there are figures for the unknown.
"""

import functools
import math
from types import SimpleNamespace

from sae.data.splits import SPLITS
from sae_workflow import costs, settings

MB = 1e6
# Inputs up to so many bytes are kept in memory; of larger ones a job has a part at a time (sae.models.inputs).
RESIDENT = 1 << 30
PROBED = ("evaluate", "probe_embeddings")  # How much they do hangs on the number of classes.
CHUNK = 4096  # rows encoded at once (sae.models.codes)
ON_GPU = ("embed", "train", "score", "evaluate", "gallery")


class Needs:
    """The needs of a config's jobs, as functions for the `resources` of their rules."""

    def __init__(self, config):
        self.config, self.compute = config, config["compute"]
        self.cell = functools.cache(lambda dataset, backbone: costs.cell(config, dataset, backbone)[0])
        self.dataset = functools.cache(lambda dataset: costs.rows_of(config, dataset))
        self.plan = functools.cache(functools.partial(settings.bank_plan, config))
        self.evaluation = functools.cache(functools.partial(settings.evaluation_plan, config))

    def memory(self, rule):
        """A function that gives a job's memory in MB."""
        figures = costs.figures()["memory"]
        beside = figures["cluster"] + (figures["gpu"] if rule in ON_GPU and self.compute["device"] != "cpu" else 0)

        def ask(wildcards, attempt):
            sizes = self.sizes(rule, wildcards)
            used = beside + (figures["unknown"] if sizes is None else memory_of(rule, sizes))
            return self.asked("memory", used * figures["margin"], attempt)

        return ask

    def runtime(self, rule):
        """A function that gives a job's time in minutes."""
        figures = costs.figures()["runtime"]

        def ask(wildcards, attempt):
            seconds = self.seconds(rule, wildcards)
            minutes = figures["unknown"] if seconds is None else figures["least"] + figures["margin"] * seconds / 60
            return self.asked("time", minutes, attempt)

        return ask

    def asked(self, what, amount, attempt):
        """What is asked for at an attempt, from 1; at most the limit of the config."""
        amount = math.ceil(amount * self.compute[f"{what}_factor"] * 2 ** (attempt - 1))
        limit = self.compute[f"{what}_limit"]
        return amount if limit is None else min(amount, limit)

    def sizes(self, rule, w):
        """{what a job's memory grows with: how much of it}; None if unknown."""
        if rule == "small":
            return {}
        if rule == "dataset":
            rows = self.dataset(w.dataset)[1]
            return rows and {"workers": self.compute["decode_workers"], "images": sum(rows.values()) / MB}
        if rule == "collect":
            plans = [self.plan(w.experiment, **bank) for bank in settings.banks(self.config, w.experiment)]
            chosen = sum((len(plan["seeds"]) + costs.saes(plan)[1]) * plan["training"]["m"] for plan in plans)
            return {"latents": chosen / MB, "saes": sum(sum(costs.saes(plan)) for plan in plans)}
        if rule == "gallery":
            w = SimpleNamespace(experiment=w.experiment, **settings.gallery(self.config, w.experiment))
        cell = self.cell(w.dataset, w.backbone)
        if cell is None or (cell.classes is None and rule in PROBED):
            return None
        if rule == "embed":
            return {"workers": self.compute["decode_workers"], "weights": 4 * cell.specs[1].get("parameters", 0)}
        probe = self.evaluation(w.experiment)["probe"]
        if rule == "probe_embeddings":
            return probe_sizes(cell, cell.d, probe)
        plan = self.plan(w.experiment, w.dataset, w.backbone, int(w.k))
        return bank_sizes(cell, plan) | (probe_sizes(cell, plan["training"]["m"], probe) if rule == "evaluate" else {})

    def seconds(self, rule, w):
        """What a job is reckoned to take; None if unknown."""
        threads, workers = self.compute["threads"], self.compute["decode_workers"]
        cores, share = threads, 1
        if rule == "small":
            return costs.rate("start")
        if rule == "dataset":
            data, rows = self.dataset(w.dataset)
            return rows and costs.rate("start") + costs.decoding(rows, data)[2] / max(1, workers)
        cell = self.cell(w.dataset, w.backbone)
        if cell is None or (cell.classes is None and rule in PROBED):
            return None
        if rule == "embed":
            spent, shards = costs.embedding(cell), self.compute["embed_shards"]
            share = 1 / shards if hasattr(w, "shard") else int(shards == 1)
            cores = max(threads, workers)
        elif rule == "probe_embeddings":
            spent = costs.probing(cell, self.evaluation(w.experiment)["probe"])
        else:
            plan = self.plan(w.experiment, w.dataset, w.backbone, int(w.k))
            judges = len(settings.judges(self.config, w.experiment, w.backbone))
            spent = costs.of_bank(cell, plan, self.evaluation(w.experiment), judges)[rule]
            if rule in ("train", "ablate"):
                parts = settings.parts(self.config, costs.saes(plan)[rule == "ablate"])
                share = 1 / parts if hasattr(w, "part") else int(parts == 0)
        on_gpu, beside, alone = share * spent
        on_gpu += beside / cores
        return costs.rate("start") + (alone / threads if self.compute["device"] == "cpu" else on_gpu)


def bank_sizes(cell, plan):
    """Of a bank, in MB: its inputs (of train alone, and of all splits), an SAE, a chunk's activations, codes."""
    m, d = plan["training"]["m"], cell.d
    inputs = {split: 4 * cell.rows[split] * d for split in SPLITS}
    inputs = {split: size if size <= RESIDENT else RESIDENT / 4 for split, size in inputs.items()}
    codes = 8 * (cell.rows["val"] + cell.rows["test"]) * plan["k"]
    sizes = {"train": inputs["train"], "inputs": sum(inputs.values()), "codes": codes, "sae": 8 * m * d}
    return {name: size / MB for name, size in (sizes | {"chunk": 4 * CHUNK * m}).items()}


def probe_sizes(cell, width, probe):
    """Of probes on `width` features, in MB: embeddings that they read, a score for each image and class, weights."""
    images = min(cell.rows["train"], probe["max_train"])
    scores = 8 * images * cell.classes
    scores = scores if scores <= 2e8 else scores / 2  # in float32 then (sae.scoring.metrics.probe.precision)
    read = 4 * (images + cell.rows["val"] + cell.rows["test"]) * cell.d
    return {"read": read / MB, "scores": scores / MB, "coefficients": 8 * cell.classes * width / MB}


def memory_of(rule, sizes):
    """What a job takes, in MB, by the figures of costs.yaml; sizes that they do not name take nothing."""
    base, *each = costs.figures()["memory"]["rules"]["score" if rule == "gallery" else rule].items()
    return base[1] + sum(figure * sizes.get(name, 0) for name, figure in each)

"""What each job asks a cluster for, from its sizes: memory and time, twice as much at each retry.

The sizes are here, what a job takes for each is in workflow/resources/costs.yaml (measured: bench/memory.py), with a
margin. For a dataset or backbone of which nothing is known, there are figures for the unknown.
"""

import functools
import math
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

from sae.config.models import Config
from sae.data.splits import SPLITS
from sae_workflow import costs, settings

MB = 1e6
# Inputs up to so many bytes are kept in memory; of larger ones a job has a part at a time (sae.models.inputs).
RESIDENT = 1 << 30
CHUNK = 4096  # rows encoded at once (sae.models.coder)
PROBED = ("probe", "probe_embeddings")  # How much they do hangs on the number of classes.
# Rules that take the memory of another one.
LIKE = dict.fromkeys(("robustness", "gallery"), "score")
ON_GPU = ("embed", "train", "score", *PROBED, *LIKE)
Ask = Callable[[Any, int], int]  # from a job's wildcards and the number of its attempt, from 1


class Needs:
    """The needs of a config's jobs, as functions for the `resources` of their rules."""

    def __init__(self, config: Config) -> None:
        self.config, self.compute = config, config.compute
        self.cell = functools.cache(lambda dataset, backbone: costs.cell(config, dataset, backbone)[0])
        self.plan = functools.cache(functools.partial(settings.bank_plan, config))
        self.probe = functools.cache(functools.partial(settings.probe_plan, config))

    def memory(self, rule: str) -> Ask:
        """A function that gives a job's memory in MB."""
        figures, compute = costs.figures()["memory"], self.compute
        gpu = figures["gpu"] if rule in ON_GPU and compute.device != "cpu" else 0
        beside = figures["cluster"] + gpu

        def ask(wildcards: Any, attempt: int) -> int:
            sizes = self.sizes(rule, wildcards)
            used = beside + (figures["unknown"] if sizes is None else memory_of(rule, sizes))
            if rule == "train" and sizes is not None:  # It scores, too: alone, or beside processes that train.
                training, scoring, at_once = memory_of("train", sizes), memory_of("score", sizes), compute.saes_at_once
                both = max(training, scoring) + sizes["train"] if at_once == 1 else at_once * (training + gpu) + scoring
                used = beside + both
            asked = math.ceil(used * figures["margin"] * compute.memory_factor * 2 ** (attempt - 1))
            return min(asked, compute.memory_limit or asked)

        return ask

    def runtime(self, rule: str) -> Ask:
        """A function that gives a job's time in minutes."""
        figures, compute = costs.figures()["runtime"], self.compute

        def ask(wildcards: Any, attempt: int) -> int:
            seconds = self.seconds(rule, wildcards)
            minutes = figures["unknown"] if seconds is None else figures["least"] + figures["margin"] * seconds / 60
            asked = math.ceil(minutes * compute.time_factor * 2 ** (attempt - 1))
            return min(asked, compute.time_limit or asked)

        return ask

    def sizes(self, rule: str, w: Any) -> dict[str, float] | None:
        """{what a job's memory grows with: how much of it}; None if unknown."""
        if rule == "small":
            return {}
        if rule == "dataset":
            rows = costs.data_of(self.config, w.dataset)["rows"]
            return rows and {"workers": self.compute.decode_workers, "images": sum(rows.values()) / MB}
        if rule == "collect":
            plans = costs.plans(self.config, w.experiment)
            latents = sum(costs.judged(plan) * costs.width(plan) for plan in plans)
            return {"latents": latents / MB, "saes": sum(map(costs.saes, plans))}
        if rule == "gallery":
            w = SimpleNamespace(experiment=w.experiment, **settings.gallery(self.config, w.experiment) or {})
        cell = self.cell(w.dataset, w.backbone)
        if cell is None or (cell.data["classes"] is None and rule in PROBED):
            return None
        if rule == "embed":
            return {"workers": self.compute.decode_workers, "weights": 4 * cell.model.get("parameters", 0)}
        if rule == "probe_embeddings":
            return probe_sizes(cell, cell.d, self.probe(w.experiment))
        plan = self.plan(w.experiment, w.dataset, w.backbone, int(w.k))
        probed = probe_sizes(cell, costs.width(plan), self.probe(w.experiment)) if rule == "probe" else {}
        return bank_sizes(cell, plan) | probed

    def seconds(self, rule: str, w: Any) -> float | None:
        """What a job is reckoned to take; None if unknown."""
        threads, workers, start = self.compute.threads, self.compute.decode_workers, costs.rate("start")
        if rule == "small":
            return start
        if rule == "dataset":
            data = costs.data_of(self.config, w.dataset)
            return start + costs.decoding(data)[2] / max(1, workers) if data["rows"] else None
        cell, at_once, cores, parts = self.cell(w.dataset, w.backbone), 1, threads, 0
        if cell is None or (cell.data["classes"] is None and rule in PROBED):
            return None
        if rule == "embed":
            spent, cores, parts = costs.embedding(cell), max(threads, workers), self.compute.embed_shards
        elif rule == "probe_embeddings":
            spent = costs.probing(cell, self.probe(w.experiment))
        else:
            plan = self.plan(w.experiment, w.dataset, w.backbone, int(w.k))
            others = len(settings.others(self.config, w.experiment, w.backbone))
            spent = costs.of_bank(cell, plan, self.probe(w.experiment), others)[rule]
            at_once = self.compute.saes_at_once if rule == "train" else 1
        # Of several jobs each does its part, and the last one only joins them.
        share = 1 / parts if hasattr(w, "shard") else int(parts < 2)
        on_gpu, beside, alone = share * spent
        return start + (alone / threads / at_once if self.compute.device == "cpu" else on_gpu + beside / cores)


def bank_sizes(cell: costs.Cell, plan: costs.Plan) -> dict[str, float]:
    """Of a bank, in MB: its inputs (of train alone, and of all splits), an SAE, a chunk's activations, codes."""
    m = costs.width(plan)
    inputs = [4 * cell.rows[split] * cell.d for split in SPLITS]
    train, *held_out = (size if size <= RESIDENT else RESIDENT // 4 for size in inputs)
    codes = 8 * (cell.rows["val"] + cell.rows["test"]) * plan.k
    sizes = {"train": train, "inputs": train + sum(held_out), "codes": codes, "sae": 8 * m * cell.d}
    return {name: size / MB for name, size in (sizes | {"chunk": 4 * CHUNK * m}).items()}


def probe_sizes(cell: costs.Cell, width: int, probe: dict[str, Any]) -> dict[str, float]:
    """Of probes on `width` features, in MB: embeddings that they read, a score for each image and class, weights."""
    images, classes = min(cell.rows["train"], probe["max_train"]), cell.data["classes"]
    scores = 4 * images * classes
    read = 4 * (images + cell.rows["val"] + cell.rows["test"]) * cell.d
    return {"read": read / MB, "scores": scores / MB, "coefficients": 4 * classes * width / MB}


def memory_of(rule: str, sizes: dict[str, float]) -> float:
    """What a job takes, in MB, by the figures of costs.yaml; sizes that they do not name take nothing."""
    base, *each = costs.figures()["memory"]["rules"][LIKE.get(rule, rule)].items()
    return base[1] + sum(figure * sizes.get(name, 0) for name, figure in each)

"""What there is to run, each once: the function that does it. The command line and the workflow read these."""

import pkgutil
from collections.abc import Callable
from typing import NamedTuple

# What to do where a step runs out of memory, beside lowering what it names.
_MEMORY = "run fewer jobs at once (`--cores 1`), or ask for more (compute.memory_factor, on a cluster)"


class Step(NamedTuple):
    """A step: the function that does it, what that is, and what to lower where it runs out of memory."""

    function: str
    text: str
    lower: str = ""

    def load(self) -> Callable[..., None]:
        """The function."""
        return pkgutil.resolve_name(self.function)

    @property
    def memory(self) -> str:
        """What to do where it runs out of memory."""
        return f"{f'lower {self.lower}, ' if self.lower else ''}{_MEMORY}"


# Those that are of use by themselves, as the command line lists them.
FOR_USERS = ("encode", "import", "export", "explore", "judged", "board", "fetch")
STEPS = {
    "fetch": Step("sae.data.fetch:fetch", "fetch one artifact"),
    "weights": Step(
        "sae.data.download:weights", "bring a backbone's weights into the hub's cache"
    ),
    "download": Step(
        "sae.data.download:images", "bring a dataset's images below its root"
    ),
    "dataset": Step(
        "sae.data.dataset:build",
        "build a dataset's index and splits",
        "compute.decode_workers",
    ),
    "annotate": Step(
        "sae.data.concepts:build", "find what people call a dataset's images"
    ),
    "embed": Step(
        "sae.data.embed:embed",
        "embed a dataset",
        "compute.embed_batch_size or compute.decode_workers",
    ),
    "train": Step(
        "sae.protocols._cell:train",
        "train a cell's SAEs and choose among them",
        "compute.saes_at_once, or batch_size or m of the recipe",
    ),
    "score": Step("sae.scoring.stage:run", "score a bank"),
    "probe": Step(
        "sae.scoring.metrics.probe:probe_embeddings", "probe the embeddings themselves"
    ),
    "encode": Step(
        "sae.models.apply:encode", "apply a trained SAE to new embeddings or images"
    ),
    "import": Step(
        "sae.models.convert:import_",
        "turn another library's SAE into a file of this project",
    ),
    "export": Step(
        "sae.models.convert:export_file", "write an SAE for another library"
    ),
    "collect": Step("sae.scoring.collect:collect", "join the scores of all banks"),
    "tables": Step("sae.report.tables:write", "write the paper's tables"),
    "claims": Step("sae.report.claims:write", "judge the paper's claims"),
    "gallery": Step("sae.report.gallery:build", "find the images of Figs. 1 to 3"),
    "plot": Step("sae.report.plot:plot", "draw one figure"),
    "board": Step(
        "sae.report.board:write", "print one board of several experiments' methods"
    ),
    "site": Step(
        "sae.report.site.experiment:write",
        "write the experiment's site",
        "m of the recipe",
    ),
    "explore": Step("sae.report.site.explore:explore", "write a site of any SAEs"),
    "judged": Step(
        "sae.report.judging:judged", "print what people said in a site's view Judge"
    ),
}

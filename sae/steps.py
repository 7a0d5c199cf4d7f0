"""Name every step: the function that does it, and what it does in a few words.

The command line and the workflow read the steps here.
"""

import pkgutil
from collections.abc import Callable
from typing import NamedTuple

# What to do where a step runs out of memory, beside lowering what the step names.
_MEMORY = (
    "run fewer jobs at once (`--cores 1`), or ask for more (compute.memory_factor, on "
    "a cluster)"
)


class Step(NamedTuple):
    """A step of the workflow, or a command for people.

    Attributes:
        function: The function that does it, "module:name".
        text: What it does, as the list of commands says it.
        lower: What to lower where it runs out of memory; "" if nothing helps.
    """

    function: str
    text: str
    lower: str = ""

    def load(self) -> Callable[..., None]:
        """Import the step's module, and return its function."""
        return pkgutil.resolve_name(self.function)

    @property
    def memory(self) -> str:
        """The advice to give where the step runs out of memory."""
        if not self.lower:
            return _MEMORY
        return f"lower {self.lower}, {_MEMORY}"


# The steps that are of use by themselves, in the order in which people read them.
FOR_USERS = (
    "card",
    "encode",
    "import",
    "export",
    "explore",
    "where",
    "judged",
    "leaderboard",
    "fetch",
)
# {name: step}.
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
    "heatmaps": Step(
        "sae.scoring.heatmaps:run", "draw where in pictures a bank's latents fire"
    ),
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
    "claims": Step("sae.report.claims:write", "say which of the paper's claims hold"),
    "gallery": Step("sae.report.gallery:build", "find the images of Figs. 1 to 3"),
    "plot": Step("sae.report.plot:plot", "draw one figure"),
    "leaderboard": Step(
        "sae.report.leaderboard:write",
        "print one leaderboard of several experiments' methods",
    ),
    "site": Step(
        "sae.report.site.experiment:write",
        "write the experiment's site",
        "m of the recipe",
    ),
    "where": Step(
        "sae.report.where:where", "show where in a picture the latents of an SAE fire"
    ),
    "card": Step("sae.report.card:card", "say whether anyone's SAE is any good"),
    "explore": Step("sae.report.site.explore:explore", "write a site of any SAEs"),
    "judged": Step(
        "sae.report.rating:rated", "print what people said in a site's view Judge"
    ),
}

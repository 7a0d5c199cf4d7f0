"""Train an SAE from Python, without files or a workflow: what `sae.train` does."""

import reprlib
from collections.abc import Callable
from types import ModuleType
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import ArrayLike
from pydantic import ValidationError
from torch import Tensor

from sae.core import arguments, registry
from sae.core.errors import UserError, describe_unknown
from sae.core.options import Options, as_record, describe_problems
from sae.models import inputs
from sae.models.apply import Encoder, check_embeddings
from sae.training import loop
from sae.training.recipe import Recipe, Settings
from sae.training.step import Batch

# The recipe `demo` of config.yaml.
RECIPE = {
    "epochs": 10,
    "batch_size": 512,
    "lr": 0.005,
    "adam_eps": 6.25e-10,
    "adam_beta1": 0.5,
    "adam_beta2": 0.9,
    "decay_fraction": 0.2,
    "auxk_alpha": 1.0,
    "dead_after": 5000,
    "input_norm": "unit_l2",
    "unit_variance": True,
    "tied": False,
    "encoder_scale": 0.1,
    "log_every": 25,
}
AUXK_K = 64
# On fewer images ten epochs are fewer steps than these, which is too short: held-out
# R^2 of 400 and of 1,000 images is highest at 50 to 200.
LEAST_STEPS = 100

Penalty = Callable[[Batch], Float[Tensor, " batch"]]


def train(
    embeddings: ArrayLike,
    k: int = 32,
    m: int = 512,
    *,
    penalty: str | Penalty | None = None,
    lam: float | None = None,
    mask: str = "batch_active",
    objective: str = "topk",
    seed: int = 0,
    device: str | torch.device = "cpu",
    progress: Callable[[loop.LogRow], None] | None = None,
    **options: Any,
) -> Encoder:
    """Train an SAE on embeddings as a backbone gave them.

    They are normalised and scaled here, and the SAE does the same to what it is given
    later. Without a penalty this is the Top-k SAE of the demo: ten epochs, but not
    fewer than 100 steps.

    An example::

        model = sae.train(embeddings, k=8, penalty="off_support_l1", lam=0.001)
        sae.save(model, "sae.safetensors")
        sae.score(model, held_out_embeddings)

    Args:
        embeddings: (N, d) of any float type; a memory map stays on disk.
        k: how many latents may be active, exactly or on average.
        m: how many latents there are.
        penalty: the name of one (a file in `sae/training/penalties/`), or a function of
            a :class:`sae.training.step.Batch` that returns a value for each sample
            (docs/extending.md).
        lam: the penalty's weight, lambda; it goes with a penalty.
        mask: the latents that the penalty is about: 'batch_active', those that fire in
            the batch, or 'all'.
        objective: the name of one (a file in `sae/training/objectives/`). Thresholds
            that it learns are fixed on `embeddings`, where an experiment fixes them on
            validation images.
        seed: of the first weights, of the order of images, and of what an entry draws.
        device: the name of a torch device, or 'auto' for the best that there is.
        progress: called with each row of the log: step, r2, dead, and others.
        options: any other option of :class:`sae.training.recipe.Recipe` (`lr`,
            `epochs`, `steps`, `input_norm`, ...), or of the objective or penalty.

    Returns:
        What `sae.load` returns.

    Raises:
        UserError: the embeddings are no finite floats of shape (N, d), or all the same;
            an argument is not right; or the training diverged.
    """
    array = check_embeddings(embeddings, None, "embeddings")
    arguments.tell_of_zero_rows("embeddings", array)
    device_name = arguments.device_name(device)
    if (penalty is None) != (lam is None):
        raise UserError(
            f"penalty is {penalty!r} and lam is {lam!r}: give both, or neither"
        )
    numbers = {
        name: arguments.whole_number(name, value, f"a whole number from {least}", least)
        for name, value, least in (("k", k, 1), ("m", m, 1), ("seed", seed, 0))
    }
    objective_module = registry.load("objective", objective)
    if getattr(objective_module, "MADE_ELSEWHERE", False):
        raise UserError(
            f"objective {objective} is of SAEs that were made elsewhere: open one by "
            "sae.load"
        )
    entries = [objective_module]
    written = {**numbers, "objective": objective}
    penalty_module = None
    if penalty is not None:
        penalty_module = _module_of(penalty)
        entries.append(penalty_module)
        name = penalty_module.__name__.rpartition(".")[2]
        written |= {"penalty": name, "mask": mask, "lambda": lam}
    settings = _settings_of(written, options, entries)
    if not {"epochs", "steps"} & options.keys():
        steps = max(LEAST_STEPS, settings.steps_on(len(array)))
        settings = settings.model_copy(update={"steps": steps})

    scale = _input_scale(array, settings)
    x = inputs.open_inputs(array, settings.input_norm, scale, device_name)
    try:
        coder, _ = loop.train(x, settings, objective_module, penalty_module, progress)
    except loop.Diverged as error:
        raise UserError(
            f"the training {error}: give a lower lr than {settings.lr:g}"
            + ("" if lam is None else f", or a lower lam than {lam:g}")
        ) from None
    coder.input_scale = scale
    coder.metadata |= {
        "method": f"{objective} + {settings.penalty}" if penalty else objective,
        "trial": ({"lambda": settings.lam} if penalty else {}) | options,
        "seed": settings.seed,
        "settings": as_record(settings, mode="json"),
    }
    return Encoder(coder.requires_grad_(False), device_name)


def _module_of(penalty: str | Penalty) -> ModuleType:
    """Return the module of a penalty's name, or one around a function."""
    if isinstance(penalty, str):
        return registry.load("penalty", penalty)
    if not callable(penalty):
        raise UserError(
            f"penalty is {reprlib.repr(penalty)}; give the name of one "
            f"({', '.join(registry.names('penalty'))}), or a function"
        )
    module: Any = ModuleType(getattr(penalty, "__name__", type(penalty).__name__))
    code = getattr(penalty, "__code__", None)
    module.__file__ = "what was given" if code is None else code.co_filename
    module.penalty = penalty
    return module


def _settings_of(
    written: dict[str, Any], options: dict[str, Any], entries: list[ModuleType]
) -> Settings:
    """Return the settings of a training.

    Args:
        written: What arguments of their own say.
        options: Further options, of the recipe or of an entry.
        entries: The modules of the objective and of the penalty, if there is one.
    """
    of_entries = {
        name
        for entry in entries
        for name in getattr(entry, "Options", Options).model_fields
    }
    allowed = {*Recipe.model_fields, *of_entries}
    for name in sorted(options.keys() - allowed):
        arguments_too = {"k", "lam", "mask", "seed"}
        raise UserError(f"sae.train: {describe_unknown(name, allowed | arguments_too)}")

    recipe = {**RECIPE, "auxk_k": min(AUXK_K, written["m"])}
    entry_options: dict[str, Any] = {}
    for name, value in options.items():
        (entry_options if name in of_entries else recipe)[name] = value
    try:
        settings = Settings.model_validate(
            {**recipe, **written, "options": entry_options}
        )
        for entry in entries:
            settings.of(entry)
    except ValidationError as error:
        raise UserError(f"sae.train: {describe_problems(error)}") from None
    return settings


def _input_scale(array: Float[np.ndarray, "images d"], settings: Settings) -> float:
    """Return the factor of the normalised embeddings."""
    normed = inputs.Inputs(array, settings.input_norm, 1.0, "cpu")
    variance = float(inputs.total_variance(normed))
    if not inputs.rows_differ(normed, variance):
        raise UserError(
            f"embeddings: all {len(array)} rows are the same after the norm "
            f"{settings.input_norm}, so that nothing can be learnt: give those of "
            "several images"
        )
    return float(variance**-0.5) if settings.unit_variance else 1.0

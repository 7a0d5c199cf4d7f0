"""Everything that decides a trained SAE, beside the data.

No torch here: the workflow reads plans with it.
"""

import functools
from types import ModuleType
from typing import Any, Literal

from pydantic import Field, ValidationInfo, field_validator

from sae.core import registry
from sae.core.options import (
    Count,
    Options,
    Positive,
    Precision,
    Seed,
    as_record,
    later_options,
    without_absent,
)


def rounded(value: Any) -> Any:
    """Round a swept value to what paths print of it (`sae.core.paths.value_in_path`).

    So the value that is trained and the one in a path never differ.
    """
    return float(format(value, "g")) if isinstance(value, float) else value


class Recipe(Options):
    """The options of training that all methods share."""

    m: Count
    """Latents in the dictionary."""
    epochs: Count
    """Passes over the rows, each permuted anew; its incomplete batch is dropped."""
    steps: Count | None = None
    """Steps of the optimiser, instead of `epochs`; the last epoch may end early."""
    batch_size: Count
    """Images a step."""
    lr: Positive
    """Learning rate of Adam."""
    adam_eps: Positive
    """What Adam adds to the root of the mean square by which it divides."""
    adam_beta1: float = Field(0.9, ge=0, lt=1)
    """How much of the last step's direction Adam keeps."""
    adam_beta2: float = Field(0.999, ge=0, lt=1)
    """How much Adam keeps of the mean square by which it divides."""
    decay_fraction: float = Field(ge=0, le=1)
    """The share of steps, at the end, over which lr falls linearly to 0."""
    auxk_alpha: float = Field(ge=0)
    """Weight of AuxK."""
    auxk_k: Count
    """Dead latents that AuxK may use per sample."""
    dead_after: Count
    """Samples without an activation > 0 after which a latent counts as dead."""
    input_norm: Literal["none", "unit_l2", "unit_l2_layernorm"]
    """With unit_l2_layernorm each sample is also standardised; decoding undoes that."""
    unit_variance: bool
    """Whether one factor makes the training variance 1; lambda's scale rests on it."""
    tied: bool
    """Whether the encoder is the decoder's transpose."""
    encoder_scale: Positive = 1.0
    """The encoder starts as the decoder's transpose times this."""
    frozen: Literal["encoder", "decoder", "all"] | None = None
    """What stays as it was initialised: the encoder with its bias, W_dec, or all."""
    log_every: Count
    """Steps between rows of train.parquet."""
    precision: Precision = "float32"
    """Precision of the encoder's products in training; all else stays float32."""

    def steps_on(self, rows: int) -> int:
        """Return the steps of the optimiser on so many training rows."""
        if self.steps is not None:
            return self.steps
        batches_of_epoch = rows // min(self.batch_size, rows)
        return self.epochs * batches_of_epoch

    @field_validator("encoder_scale", "frozen")
    @classmethod
    def _check_encoder_is_not_tied(cls, value: Any, info: ValidationInfo) -> Any:
        fits_tied_encoder = value in (1, None, "all")
        if info.data.get("tied") and not fits_tied_encoder:
            raise ValueError(
                "with `tied` the encoder is the decoder's transpose; set "
                "encoder_scale: 1 and freeze all or nothing, or set tied: false"
            )
        return value


def later_options_of(objective: str, penalty: str | None) -> dict[str, Any]:
    """Return the later options of an objective and a penalty.

    Returns:
        {option: the value that its absence in a record stands for}.

    Raises:
        UserError: there is no such entry.
    """
    return dict(_later_options_of(objective, penalty, registry.extensions()))


@functools.lru_cache(maxsize=1024)
def _later_options_of(
    objective: str, penalty: str | None, _extensions: ModuleType | None
) -> dict[str, Any]:
    # A head takes a millisecond, one of an extension many: it is asked once an SAE.
    of_objective = later_options(registry.head("objective", objective).options)
    if penalty is None:
        return of_objective
    return of_objective | later_options(registry.head("penalty", penalty).options)


class Settings(Recipe):
    """The settings of one SAE: the recipe, and what its method and trial say."""

    k: Count
    """The budget, latents kept per sample or on average."""
    seed: Seed
    """Seed of the initialisation and of the order of batches."""
    objective: str
    """Name of the entry that says what is minimised."""
    penalty: str | None = None
    """Name of the entry that is added to the objective, if one is."""
    mask: Literal["batch_active", "all"] | None = None
    """Latents that a penalty is about: those active somewhere in the batch, or all."""
    lam: float | None = Field(None, ge=0, alias="lambda")
    """Weight of the penalty's mean over the batch."""
    options: dict[str, Any] = Field({})
    """The options of the objective and of the penalty, complete."""

    @field_validator("k", "auxk_k")
    @classmethod
    def _check_at_most_m(cls, value: int, info: ValidationInfo) -> int:
        m = info.data.get("m", value)  # Missing where m itself is not right.
        if value > m:
            raise ValueError(f"{value} is larger than m = {m}")
        return value

    def identity(self) -> dict[str, Any]:
        """Return all that decides the result beside the entries' code.

        That leaves out the names of entries and the cadence of the log, and later
        options at the value that their absence stands for (`sae.core.options.later`).
        """
        undecisive = {"log_every", "objective", "penalty"}
        identity = as_record(self, exclude=undecisive)
        absent_values = later_options_of(self.objective, self.penalty)
        identity["options"] = without_absent(self.options, absent_values)
        return identity

    def of(self, entry: ModuleType) -> Options:
        """Return the options of one entry, in its own class `Options` if it has one.

        Args:
            entry: the module of the objective or of the penalty.
        """
        entry_class = getattr(entry, "Options", Options)
        entry_options = {
            name: self.options[name]
            for name in entry_class.model_fields
            if name in self.options
        }
        return entry_class(**entry_options)

"""Everything that decides a trained SAE, with the data. No torch here: the workflow reads plans with it."""

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
    without_absent,
)


def rounded(value: Any) -> Any:
    """A swept value as it is trained: as paths print it (`sae.core.paths.written`), so that the two never differ."""
    return float(format(value, "g")) if isinstance(value, float) else value


class Recipe(Options):
    """How SAEs are trained, whatever the method."""

    m: Count
    """Latents in the dictionary."""
    epochs: Count
    """An epoch is a fresh permutation of the training rows, its incomplete batch dropped."""
    steps: Count | None = None
    """Of the optimiser, instead of `epochs`; the last epoch may then end early."""
    batch_size: Count
    """Images a step."""
    lr: Positive
    """Learning rate of Adam."""
    adam_eps: Positive
    """What Adam adds to the root of the mean square by which it divides."""
    adam_beta1: float = Field(0.9, ge=0, lt=1)
    """How much of the last step's direction Adam keeps."""
    adam_beta2: float = Field(0.999, ge=0, lt=1)
    """How much it keeps of the mean square by which it divides."""
    decay_fraction: float = Field(ge=0, le=1)
    """The share of steps, at the end, over which lr falls linearly to 0."""
    auxk_alpha: float = Field(ge=0)
    """Weight of AuxK."""
    auxk_k: Count
    """Dead latents that AuxK may use per sample."""
    dead_after: Count
    """Samples without an activation > 0 after which a latent counts as dead."""
    input_norm: Literal["none", "unit_l2", "unit_l2_layernorm"]
    """With unit_l2_layernorm each sample is also standardised, which is undone after decoding."""
    unit_variance: bool
    """Then one scalar makes the training split's total variance 1; lambda's scale rests on it."""
    tied: bool
    """Whether the encoder is the decoder's transpose."""
    encoder_scale: Positive = 1.0
    """The encoder starts as the decoder's transpose times this."""
    frozen: Literal["encoder", "decoder", "all"] | None = None
    """What stays as it was initialised; of the encoder weights and biases, of the decoder weights, or all."""
    log_every: Count
    """Steps between rows of train.parquet."""
    precision: Precision = "float32"
    """Of the encoder's products in training; weights and all else stay float32."""

    def steps_on(self, rows: int) -> int:
        """Steps of the optimiser on so many training rows."""
        return self.steps or self.epochs * (rows // min(self.batch_size, rows))

    @field_validator("encoder_scale", "frozen")
    @classmethod
    def _of_an_encoder_of_its_own(cls, value: Any, info: ValidationInfo) -> Any:
        if value not in (1, None, "all") and info.data.get("tied"):
            said = "set encoder_scale: 1 and freeze all or nothing, or set tied: false"
            raise ValueError(
                f"with `tied` the encoder is the decoder's transpose; {said}"
            )
        return value


def later_options_of(objective: str, penalty: str | None) -> dict[str, Any]:
    """Return {option: the value that its absence stands for} of an objective and a penalty.

    Raises:
        UserError: there is no such entry.
    """
    later = dict(registry.head("objective", objective).options.later_options())
    if penalty is not None:
        later |= registry.head("penalty", penalty).options.later_options()
    return later


def completed(record: dict[str, Any]) -> dict[str, Any]:
    """Return the settings of an SAE with the later options that a record leaves out.

    Args:
        record: What :meth:`Settings.identity` gave, with `objective` and `penalty`.
    """
    later = later_options_of(record["objective"], record["penalty"])
    options = {"options": later | record["options"]}
    return Recipe.later_options() | record | options


class Settings(Recipe):
    """One SAE: the recipe, and what its method and trial say."""

    k: Count
    """The budget, latents kept per sample or on average."""
    seed: Seed
    """Of the initialisation and of the order of batches."""
    objective: str
    penalty: str | None = None
    mask: Literal["batch_active", "all"] | None = None
    """The latents that a penalty is about; those active somewhere in the batch, or all."""
    lam: float | None = Field(None, ge=0, alias="lambda")
    """Weight of the penalty's mean over the batch."""
    options: dict[str, Any] = Field({})
    """Of the objective and of the penalty, complete."""

    @field_validator("k", "auxk_k")
    @classmethod
    def _at_most_m(cls, value: int, info: ValidationInfo) -> int:
        if value > (m := info.data.get("m", value)):
            raise ValueError(f"{value} is larger than m = {m}")
        return value

    def identity(self, **dump: Any) -> dict[str, Any]:
        """Return all that decides the result beside the entries' code.

        That leaves out the names of entries and the cadence of the log, and later options
        at the value that their absence stands for (`sae.core.options.Later`).
        """
        written = super().identity(
            exclude={"log_every", "objective", "penalty"}, **dump
        )
        later = later_options_of(self.objective, self.penalty)
        written["options"] = without_absent(self.options, later)
        return written

    def of(self, entry: ModuleType) -> Options:
        """The options of one entry, by its class of options, if it has one."""
        form = getattr(entry, "Options", Options)
        return form(
            **{
                name: self.options[name]
                for name in form.model_fields
                if name in self.options
            }
        )

"""The rule of intervals and verdicts, as the config and the report both read it."""

from pydantic import Field

from sae.core.options import Limited, Seed, Share


class ClaimRule(Limited):
    """The rule of intervals and verdicts: `claims` in config.yaml."""

    confidence: Share = Field(
        description="Of all intervals: those of claims, a bootstrap over (dataset, "
        "backbone) blocks, and those of effects."
    )
    resamples: int = Field(ge=100)
    """Of the bootstrap."""
    bootstrap_seed: Seed
    """Of the bootstrap."""
    min_blocks: int = Field(ge=2)
    """With fewer blocks a claim is not tested."""
    agreement: float = Field(ge=0, le=1)
    """Of the cells that differ, the share that must agree with a claim."""
    margin_r2: float = Field(ge=0)
    """No loss of R² means that the interval's lower end lies above minus this."""
    margin_top1: float = Field(ge=0)
    """The same of top-1."""
    rises: float = Field(gt=0)
    """An error rises above the training k if NMSE(4k) / NMSE(k) is at least this."""
    flat: float = Field(gt=0)
    """It is flat if that is at most this."""

"""The rule of intervals and verdicts, as the config and the report both read it."""

from pydantic import Field

from sae.core.options import Options, Seed, Share


class Rule(Options):
    """The rule of intervals and verdicts: `claims` in config.yaml."""

    confidence: Share
    resamples: int = Field(ge=100)
    bootstrap_seed: Seed
    min_blocks: int = Field(ge=2)
    agreement: float = Field(ge=0, le=1)
    margin_r2: float = Field(ge=0)
    margin_top1: float = Field(ge=0)
    rises: float = Field(gt=0)
    flat: float = Field(gt=0)

"""Which SAEs another library can hold."""

from sae.core.errors import UserError
from sae.models.coder import Coder, Threshold


def check(coder: Coder, library: str, *, thresholds: bool) -> None:
    """Check that an SAE has no LayerNorm, and thresholds only where the library has them.

    Raises:
        UserError: it has.
    """
    if isinstance(coder.select, Threshold) and not thresholds:
        raise UserError(
            f"{library}'s files hold Top-k SAEs alone: export one with thresholds to saelens"
        )
    if coder.input_norm == "unit_l2_layernorm":
        raise UserError(
            f"{library} has no such LayerNorm: an SAE with input_norm unit_l2_layernorm cannot be exported"
        )

"""Check which SAEs another library can hold."""

from sae.core.errors import UserError
from sae.models.coder import Coder, Threshold


def check_exportable(coder: Coder, library: str, *, thresholds: bool) -> None:
    """Check that a library can hold an SAE.

    Args:
        coder: the SAE.
        library: what error messages call the library.
        thresholds: whether the library has SAEs with thresholds.

    Raises:
        UserError: the SAE has a LayerNorm, or thresholds that the library lacks.
    """
    if isinstance(coder.select, Threshold) and not thresholds:
        raise UserError(
            f"{library}'s files hold Top-k SAEs alone: export one with thresholds to "
            "saelens"
        )
    if coder.input_norm == "unit_l2_layernorm":
        raise UserError(
            f"{library} has no such LayerNorm: an SAE with input_norm "
            "unit_l2_layernorm cannot be exported"
        )

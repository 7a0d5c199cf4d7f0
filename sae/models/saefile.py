"""A trained SAE as a safetensors file: the tensors, and what made them."""

import json
import os

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from sae.core.errors import UserError
from sae.models.coder import TopKSAE

TENSORS = ("W_enc", "b_enc", "W_dec", "b_dec")


def save(sae, path):
    """Write the tensors and `sae.metadata` to a safetensors file; the same SAE gives the same bytes.

    The metadata lie under one key as sorted JSON, since the format writes several keys in random order.
    """
    # Clones: a tied encoder is a view of the decoder, which the format refuses.
    tensors = {"W_enc": sae.encoder_weight(), "b_enc": sae.b_enc, "W_dec": sae.W_dec, "b_dec": sae.b_dec}
    tensors = {name: t.detach().cpu().clone().contiguous() for name, t in tensors.items()}
    save_file(tensors, path, metadata={"sae": json.dumps(sae.metadata, sort_keys=True)})
    # The library closes the file to others, with whom a store may be shared.
    umask = os.umask(0)
    os.umask(umask)
    os.chmod(path, 0o666 & ~umask)


def load(path):
    """Load an SAE that :func:`save` wrote, on the CPU, ready to encode.

    Raises:
        UserError: the file is missing, cut short, or holds no SAE.
    """
    try:
        with safe_open(path, framework="pt") as file:
            metadata = json.loads(file.metadata()["sae"])
            tensors = {name: file.get_tensor(name) for name in TENSORS}
    except FileNotFoundError:
        raise UserError(f"SAE file {path} does not exist") from None
    except (SafetensorError, KeyError, TypeError, json.JSONDecodeError) as error:
        raise UserError(f"{path} is not a whole SAE file ({error}); delete it and run again") from None
    d, m = tensors["W_enc"].shape
    sae = TopKSAE(d, m, metadata["k"], metadata["input_norm"], metadata=metadata)
    sae.load_state_dict(tensors)
    return sae.requires_grad_(False)

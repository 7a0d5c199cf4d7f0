"""Top-k sparse autoencoders on frozen vision embeddings, their regularizers and their scores.

The package is lazy on purpose: importing it imports nothing else, so that the command line starts fast and so that the
code hash of one stage never includes another stage.
"""

__version__ = "0.1.0"


def load(path, device="cpu"):
    """Load a trained SAE to apply it: `sae.load(path).encode(embeddings)`; see :class:`sae.models.apply.Encoder`."""
    from sae.models.apply import Encoder

    return Encoder(path, device)

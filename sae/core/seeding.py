"""Let code that draws from the generators of a process draw the same each time.

What this project draws has generators of its own. An entry of a user's may call
`torch.rand`, `numpy.random` or `random`: these would go on from wherever the process
is, so that a result hung on what ran before it.
"""

import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np

from sae.core.files import sha256_text


@contextmanager
def seeded(name: str) -> Iterator[None]:
    """Seed the generators of Python, NumPy and PyTorch; afterwards they are as before.

    Args:
        name: What they are seeded by: what draws, and under which seed.
    """
    import torch  # Slow to import.

    seed = int(sha256_text(name)[:8], 16)  # 32 bits, the most that NumPy takes.
    state = random.getstate()
    numpy_state = np.random.get_state()
    gpus = range(torch.cuda.device_count()) if torch.cuda.is_initialized() else ()
    with torch.random.fork_rng(gpus):
        random.seed(seed)
        np.random.seed(seed)
        torch.manual_seed(seed)
        try:
            yield
        finally:
            random.setstate(state)
            np.random.set_state(numpy_state)

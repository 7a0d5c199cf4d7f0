"""Reg. 1 of arXiv:2606.27321: the l1 norm of what the Top-k leaves out, over the masked latents."""


def penalty(a, values, _indices, mask):
    """|| mask * (a_i - z_i) ||_1 for each sample: (N, m), (N, k), (N, k), (m,) to (N,).

    A pick with a positive value is batch-active by definition, so what was kept is subtracted unmasked.
    """
    return a @ mask - values.sum(dim=1)

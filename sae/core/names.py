"""How an SAE is named in paths."""


def format_lambda(lam):
    """lambda as it stands in paths."""
    return format(lam, "g")


def sae_path(regularizer, settings):
    """Where an SAE lies, relative to its bank."""
    lam = format_lambda(settings.lam)
    return f"{regularizer}/lambda{lam}/{settings.mask}/seed{settings.seed}/sae.safetensors"

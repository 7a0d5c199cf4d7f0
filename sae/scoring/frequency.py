"""Bands of how often latents fire, by which scores of rare and common latents part."""

# The share of a split's images on which a latent fires: the upper end of each band.
FREQUENCY_BANDS = (0.01, 0.03, 0.1, 1.0)

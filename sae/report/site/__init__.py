"""The explorer: a small static site that shows what an experiment's latents learned, and which method is better."""
